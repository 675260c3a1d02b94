//! Downloads by HTTP: proxies, certificates, passwords, redirections, and new attempts after what
//! may pass.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use windrow_net::address::{redirected, without_userinfo};
use windrow_net::{certificates, netrc, proxies};

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
            .proxy(self.proxy(scheme, host).map_err(Problem::lasting)?)
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

    fn proxy(&self, scheme: &str, host: &str) -> Result<Option<ureq::Proxy>, String> {
        let chosen = proxies::choose(&self.network.proxies, scheme, host);
        // It may have a password in it.
        let failed = |error| format!("the proxy for '{scheme}:' can't be used: {error}");
        chosen.map(ureq::Proxy::new).transpose().map_err(failed)
    }

    fn roots(&mut self) -> Result<RootCerts, String> {
        if let Some(roots) = &self.roots {
            return Ok(roots.clone());
        }
        let certificates = certificates::read(self.network.certificates.as_deref())?;
        let certificates = certificates
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_is_none_is_refused() {
        let network = Network {
            proxies: [("http_proxy".to_owned(), "what://x".to_owned())].into(),
            ..Network::default()
        };
        let client = Client {
            network: &network,
            roots: None,
        };
        assert!(client.proxy("http", "h").is_err());
        assert_eq!(client.proxy("https", "h"), Ok(None));
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
