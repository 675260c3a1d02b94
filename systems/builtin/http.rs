//! Downloads by HTTP: proxies, certificates, passwords, redirections, and new attempts after what
//! may pass.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use ureq::http::{Response, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use windrow_sys::bounded;

use super::address::{percent_decode, redirected};
use super::netrc;
use super::request::Network;

/// How often a transfer is tried again after one that failed for a reason that may pass.
const RETRIES: u32 = 4;
/// How many redirections are followed.
const REDIRECTIONS: u32 = 50;
/// Seconds that a connection may take to open unless a setting says otherwise.
const CONNECT_TIMEOUT_S: u64 = 300;
/// The most seconds to wait for the next attempt because a server asks for it.
const WAIT_MAX_S: u64 = 60;

/// Why a transfer failed.
struct Problem {
    text: String,
    /// Whether it may pass.
    may_pass: bool,
    /// How many seconds the server wants to be left alone.
    wait_s: u64,
}

impl Problem {
    fn lasting(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            may_pass: false,
            wait_s: 0,
        }
    }

    fn of(error: ureq::Error) -> Self {
        let may_pass = match &error {
            ureq::Error::Timeout(_) | ureq::Error::HostNotFound => true,
            ureq::Error::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::TimedOut
                    | io::ErrorKind::WouldBlock
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            ),
            _ => false,
        };
        Self {
            text: error.to_string(),
            may_pass,
            wait_s: 0,
        }
    }
}

/// Puts what `address` holds into the file `to`.
///
/// # Errors
/// Why not, as it was at the last attempt.
pub(super) fn download(address: &str, to: &Path, network: &Network) -> Result<(), String> {
    let mut client = Client {
        network,
        roots: None,
    };
    let mut attempt = 0;
    loop {
        let problem = match client.fetch(address, to) {
            Ok(()) => return Ok(()),
            Err(problem) if attempt == RETRIES || !problem.may_pass => return Err(problem.text),
            Err(problem) => problem,
        };
        let wait_s = problem.wait_s.min(WAIT_MAX_S).max(1 << attempt);
        let text = problem.text;
        eprintln!("cannot fetch '{address}': {text}; trying again in {wait_s} s");
        std::thread::sleep(Duration::from_secs(wait_s));
        attempt += 1;
    }
}

struct Client<'a> {
    network: &'a Network,
    /// The certificate authorities, once they have been needed.
    roots: Option<RootCerts>,
}

impl Client<'_> {
    fn fetch(&mut self, address: &str, to: &Path) -> Result<(), Problem> {
        let mut address = address.to_owned();
        for _ in 0..=REDIRECTIONS {
            let response = self.ask(&address)?;
            let status = response.status();
            if status.is_success() {
                return save(response, to);
            }
            let header = |name| response.headers().get(name)?.to_str().ok();
            match header(LOCATION).filter(|_| status.is_redirection()) {
                Some(location) => {
                    address = redirected(&address, location).map_err(Problem::lasting)?;
                }
                None => {
                    let passing = [408, 429, 500, 502, 503, 504];
                    return Err(Problem {
                        text: format!("the server answers {status}"),
                        may_pass: passing.contains(&status.as_u16()),
                        wait_s: header(RETRY_AFTER)
                            .and_then(|text| text.parse().ok())
                            .unwrap_or(0),
                    });
                }
            }
        }
        let text = format!("there are more than {REDIRECTIONS} redirections");
        Err(Problem::lasting(text))
    }

    fn ask(&mut self, address: &str) -> Result<Response<ureq::Body>, Problem> {
        let (address, in_address) = without_userinfo(address);
        let uri: Uri = address
            .parse()
            .map_err(|error| Problem::lasting(format!("the address is malformed: {error}")))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let seconds = |number| (number > 0).then(|| Duration::from_secs(number));
        let connect = seconds(self.network.connect_timeout_s);
        let mut config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("windrow/", env!("CARGO_PKG_VERSION")))
            .accept_encoding(AutoHeaderValue::None)
            .proxy(proxy(&self.network.proxies, scheme, host).map_err(Problem::lasting)?)
            .timeout_connect(connect.or(Some(Duration::from_secs(CONNECT_TIMEOUT_S))))
            .timeout_per_read(seconds(self.network.stalled_timeout_s));
        if scheme == "https" {
            let roots = self.roots().map_err(Problem::lasting)?;
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let mut request = config.build().new_agent().get(&address);
        let login = in_address.or_else(|| netrc::login(&self.network.netrc, host));
        if let Some((user, password)) = login {
            let both =
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            request = request.header(AUTHORIZATION, format!("Basic {both}"));
        }
        request.call().map_err(Problem::of)
    }

    fn roots(&mut self) -> Result<RootCerts, String> {
        if let Some(roots) = &self.roots {
            return Ok(roots.clone());
        }
        let Some(file) = &self.network.certificates else {
            return Err(
                "there is no file with certificate authorities on this machine; name one in the setting \
                 'ssl-cert-file'"
                    .to_owned(),
            );
        };
        let text = bounded::read_file(file, bounded::NAMED_FILE_MAX)
            .map_err(|error| format!("cannot read the certificate authorities: {error}"))?;
        // One that is malformed is one that is not trusted.
        let certificates: Vec<_> = ureq::tls::parse_pem(&text)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(
                "the file of the setting 'ssl-cert-file' has no certificates in it".to_owned(),
            );
        }
        let roots = RootCerts::Specific(Arc::new(certificates));
        Ok(self.roots.insert(roots).clone())
    }
}

fn save(mut response: Response<ureq::Body>, to: &Path) -> Result<(), Problem> {
    let failed =
        |error: io::Error| Problem::lasting(format!("cannot write '{}': {error}", to.display()));
    let mut file = File::create(to).map_err(failed)?;
    let mut body = response.body_mut().as_reader();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => file.write_all(&buffer[..count]).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Problem::of(error.into())),
        }
    }
}

/// The address without the user name and password in it, and these.
pub(super) fn without_userinfo(address: &str) -> (String, Option<(String, String)>) {
    let plain = || (address.to_owned(), None);
    let Some((scheme, rest)) = address.split_once("://") else {
        return plain();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else {
        return plain();
    };
    let decoded = |text: &str| {
        let bytes = percent_decode(text).unwrap_or_else(|| text.into());
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
    (
        format!("{scheme}://{}", &rest[at + 1..]),
        Some((decoded(user), decoded(password))),
    )
}

/// The proxy for a host, as curl chooses among the variables that name them. `HTTP_PROXY` is none
/// of them: it may be a header of a request to a server that runs windrow.
fn proxy(
    proxies: &BTreeMap<String, String>,
    scheme: &str,
    host: &str,
) -> Result<Option<ureq::Proxy>, String> {
    let of = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| proxies.get(*name));
        values.find(|value| !value.is_empty()).map(String::as_str)
    };
    let chosen = match scheme {
        "https" => of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        _ => of(&["http_proxy", "all_proxy", "ALL_PROXY"]),
    };
    let direct = of(&["no_proxy", "NO_PROXY"]);
    let Some(chosen) = chosen.filter(|_| !direct.is_some_and(|list| is_listed(list, host))) else {
        return Ok(None);
    };
    match ureq::Proxy::new(chosen) {
        Ok(proxy) => Ok(Some(proxy)),
        // It may have a password in it.
        Err(error) => Err(format!("the proxy for '{scheme}:' can't be used: {error}")),
    }
}

/// Whether a list of hosts has that host, or a domain that it is in.
pub(super) fn is_listed(list: &str, host: &str) -> bool {
    let mut words = list.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    words.any(|word| {
        if word == "*" {
            return true;
        }
        let domain = word.trim_start_matches("*.").trim_matches(['.', '[', ']']);
        let Some(start) = host.len().checked_sub(domain.len()) else {
            return false;
        };
        host.get(start..)
            .is_some_and(|end| end.eq_ignore_ascii_case(domain))
            && (start == 0 || host[..start].ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_chosen_as_by_curl() {
        let variables = [
            ("http_proxy", "http://h:1"),
            ("HTTP_PROXY", "http://evil:1"),
            ("HTTPS_PROXY", "http://u:p@s:2"),
            ("all_proxy", "socks5h://a:3"),
            ("no_proxy", "x.org, .y.org,127.0.0.1"),
        ];
        let of = |leave_out: &str, scheme: &str, host: &str| {
            let given = variables.iter().filter(|(name, _)| *name != leave_out);
            let given = given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let proxy = proxy(&given.collect(), scheme, host).unwrap()?;
            Some(format!("{}:{}", proxy.host(), proxy.port()))
        };
        assert_eq!(of("", "http", "z.org").as_deref(), Some("h:1"));
        assert_eq!(of("", "https", "z.org").as_deref(), Some("s:2"));
        assert_eq!(of("http_proxy", "http", "z.org").as_deref(), Some("a:3"));
        for host in ["x.org", "X.org", "a.x.org", "y.org", "a.y.org", "127.0.0.1"] {
            assert_eq!(of("", "http", host), None, "{host}");
        }
        for host in ["ax.org", "org", "x.org.com", "::1"] {
            assert!(of("", "http", host).is_some(), "{host}");
        }
        assert!(is_listed("*", "anything"));
        let bad = [("http_proxy".to_owned(), "what://x".to_owned())];
        assert!(proxy(&bad.into(), "http", "h").is_err());
    }

    #[test]
    fn user_names_and_passwords_leave_the_address() {
        let of = |address| without_userinfo(address);
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(of("http://h/a@b"), ("http://h/a@b".to_owned(), None));
        assert_eq!(
            of("http://u:p%40@h:1/x"),
            ("http://h:1/x".to_owned(), login("u", "p@"))
        );
        assert_eq!(of("https://u@h"), ("https://h".to_owned(), login("u", "")));
    }

    /// Gives these answers, one for each connection, and then what was asked.
    fn server(answers: &[&str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        use std::io::{BufRead as _, BufReader};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers: Vec<String> = answers.iter().map(|text| (*text).to_owned()).collect();
        let serve = move || {
            let serve = |answer: String| {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(&stream).lines().map(Result::unwrap);
                let asked: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                write!(stream, "HTTP/1.1 {answer}").unwrap();
                asked.join("\n").to_lowercase()
            };
            answers.into_iter().map(serve).collect()
        };
        (address, std::thread::spawn(serve))
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_may_not_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("to");
        let network = Network {
            netrc: "machine 127.0.0.1 login u password p".to_owned(),
            ..Network::default()
        };
        // One attempt is cut off, and the next one led elsewhere.
        let (address, asked) = server(&[
            "200 OK\r\nContent-Length: 9\r\n\r\nhel",
            "302 Found\r\nLocation: /other\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        ]);
        download(&format!("{address}/first"), &to, &network).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "hello");
        let asked = asked.join().unwrap();
        for (asked, path) in asked.iter().zip(["/first", "/first", "/other"]) {
            assert!(asked.starts_with(&format!("get {path} ")), "{asked}");
            // "u:p" in base 64, in lower case.
            assert!(asked.contains("authorization: basic dtpw"), "{asked}");
            assert!(!asked.contains("accept-encoding"), "{asked}");
        }
        for (answer, problem) in [
            ("404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"),
            ("304 Not Modified\r\n\r\n", "304"),
            (
                "301 Moved\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
                "no HTTP address",
            ),
        ] {
            let (address, asked) = server(&[answer]);
            let error = download(&address, &to, &network).unwrap_err();
            assert!(error.contains(problem), "{error}");
            assert_eq!(asked.join().unwrap().len(), 1);
        }
    }
}
