//! What requests share: connections, certificates, proxies, logins, and the limits on all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use rustls::ClientConfig;
use windrow_sys::bounded;

use super::config::Config;
use super::gate::Gates;
use super::speed::Speed;
use crate::address::without_userinfo;
use crate::certificates;
use crate::error::{Fault, Kind};
use crate::store_url::HIDDEN;
use crate::{netrc, proxies};

/// How much a server may send ahead over one connection of HTTP/2, and for one answer.
const WINDOW: u32 = 32 << 20;
const STREAM_WINDOW: u32 = 4 << 20;
/// How long a connection that nobody uses is kept, as in Nix.
const IDLE: Duration = Duration::from_secs(90);
/// How long nothing may come over a connection that is in use before the server is asked whether it
/// is still there, and how long its answer may take.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What requests share.
pub(crate) struct Transport {
    pub(crate) config: Config,
    pub(crate) gates: Gates,
    pub(crate) speed: Speed,
    netrc: String,
    tls: OnceLock<Result<ClientConfig, String>>,
    /// A client for each time that connections may take, with TLS or without.
    clients: Mutex<HashMap<(Duration, bool), reqwest::Client>>,
}

impl Transport {
    pub(crate) fn new(config: Config) -> Self {
        let netrc = config
            .netrc
            .as_ref()
            .and_then(|file| bounded::read_file(file, bounded::NAMED_FILE_MAX).ok())
            .and_then(|text| String::from_utf8(text).ok());
        Self {
            gates: Gates::new(config.connections, config.http2),
            speed: Speed::new(config.speed),
            netrc: netrc.unwrap_or_default(),
            tls: OnceLock::new(),
            clients: Mutex::default(),
            config,
        }
    }

    /// The client for requests to `url`.
    ///
    /// # Errors
    /// When certificates or the proxy can't be used.
    pub(crate) fn client(&self, url: &Url, connect: Duration) -> Result<reqwest::Client, Fault> {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let proxy = proxies::choose(&self.config.proxies, url.scheme(), host);
        let proxy = proxy.map(|proxy| (proxy, proxy_url(proxy)));
        if let Some((_, None)) = proxy {
            // It may have a password in it.
            let text = format!(
                "the proxy for '{}:' has no address that can be used",
                url.scheme()
            );
            return Err(Fault::new(Kind::Proxy, text));
        }
        let proxied_by_tls = matches!(&proxy, Some((_, Some(proxy))) if proxy.scheme() == "https");
        let tls = url.scheme() == "https" || proxied_by_tls;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&(connect, tls)) {
            return Ok(client.clone());
        }
        let client = self.new_client(connect, tls)?;
        clients.insert((connect, tls), client.clone());
        Ok(client)
    }

    fn new_client(&self, connect: Duration, tls: bool) -> Result<reqwest::Client, Fault> {
        let proxies = self.config.proxies.clone();
        let proxy = reqwest::Proxy::custom(move |url| {
            let host = url
                .host_str()?
                .trim_start_matches('[')
                .trim_end_matches(']');
            proxy_url(proxies::choose(&proxies, url.scheme(), host)?)
        });
        let tls = if tls {
            self.tls()?
        } else {
            without_authorities()
        };
        let idle = match self.config.connections {
            0 => usize::MAX,
            connections => connections,
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.config.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .proxy(proxy)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle)
            .tcp_keepalive(KEEPALIVE)
            .http2_keep_alive_interval(KEEPALIVE)
            .http2_keep_alive_timeout(KEEPALIVE)
            .http2_initial_connection_window_size(WINDOW)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .tls_backend_preconfigured(tls);
        if !connect.is_zero() {
            builder = builder.connect_timeout(connect);
        }
        if !self.config.http2 {
            builder = builder.http1_only();
        }
        builder
            .build()
            .map_err(|error| Fault::new(Kind::Io, format_args!("cannot make a client: {error}")))
    }

    fn tls(&self) -> Result<ClientConfig, Fault> {
        let made = self.tls.get_or_init(|| {
            let file = certificates::file(self.config.ca_file.as_deref());
            let roots = certificates::roots(file.as_deref())?;
            Ok(with_roots(roots, self.config.http2))
        });
        made.clone()
            .map_err(|text| Fault::new(Kind::Credentials, text))
    }

    /// What to log in with at the server of `url`, and the address without it.
    pub(crate) fn login(&self, url: &mut Url) -> Option<HeaderValue> {
        use base64::Engine as _;
        let (_, in_address) = without_userinfo(url.as_str());
        // An address that was written down has no password.
        let in_address = in_address.filter(|(_, password)| *password != HIDDEN);
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let (user, password) = in_address.or_else(|| netrc::login(&self.netrc, host))?;
        let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::try_from(format!("Basic {both}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The header that the login is sent in.
    pub(crate) const LOGIN: reqwest::header::HeaderName = AUTHORIZATION;
}

/// The address of a proxy as it stands in a variable, which may leave out the scheme.
fn proxy_url(text: &str) -> Option<Url> {
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&text).ok()?;
    let known = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
    (known.contains(&url.scheme()) && url.host_str().is_some()).then_some(url)
}

fn with_roots(roots: rustls::RootCertStore, http2: bool) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for these versions");
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    config
}

/// For clients that make no connection with TLS: they need no file of authorities.
fn without_authorities() -> ClientConfig {
    with_roots(rustls::RootCertStore::empty(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_have_schemes_that_are_known() {
        let of = |text| proxy_url(text).map(String::from);
        assert_eq!(of("h:8080").as_deref(), Some("http://h:8080/"));
        assert_eq!(
            of("socks5h://u:p@h:1").as_deref(),
            Some("socks5h://u:p@h:1")
        );
        for bad in ["what://h", "http://", "", "ftp://h"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_login_leaves_the_address() {
        let transport = Transport::new(Config::default());
        let mut url = Url::parse("http://u:p%40@h/x").unwrap();
        let login = transport.login(&mut url).unwrap();
        assert_eq!(url.as_str(), "http://h/x");
        // "u:p@" in base 64.
        assert_eq!(login.to_str().unwrap(), "Basic dTpwQA==");
        assert!(transport.login(&mut url).is_none());
    }
}
