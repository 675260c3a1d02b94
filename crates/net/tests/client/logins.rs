//! Who the client says it is: to servers, and to proxies.

use windrow_net::client::{Client, Config};
use windrow_net::error::Kind;
use windrow_net::proxies::Proxies;
use windrow_net::testing::{Behaviour, Server};

use crate::common::{Served, config, open};
use crate::tunnel::{Tunnel, Way};

fn login() -> Behaviour {
    Behaviour::Login("user".to_owned(), "p@ss".to_owned())
}

#[test]
fn logins_are_those_of_the_address_or_of_the_file() {
    let served = Served::new();
    served.file("x", b"hello");
    served.server.behave("*", login());
    let error = served.remote(config()).get_now("x", 10).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert_eq!(served.server.requests().len(), 1);
    let netrc = served.dir.path().join("netrc");
    std::fs::write(&netrc, "machine 127.0.0.1 login user password p@ss\n").unwrap();
    let with_file = Config {
        netrc: Some(netrc.clone()),
        ..config()
    };
    assert!(
        served
            .remote(with_file.clone())
            .get_now("x", 10)
            .unwrap()
            .is_some()
    );
    let client = Client::new(config()).unwrap();
    let url = served.server.url().replace("://", "://user:p%40ss@");
    assert!(open(&url, &client).get_now("x", 10).unwrap().is_some());
    let wrong = served.server.url().replace("://", "://user:secret@");
    let error = open(&wrong, &client).get_now("x", 10).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!format!("{error}{error:?}").contains("secret"));
}

#[test]
fn logins_stay_with_their_server() {
    let (served, other) = (Served::new(), Served::new());
    other.file("x", b"other");
    served.file("x", b"hello");
    served.server.behave("*", login());
    let client = Client::new(config()).unwrap();
    let url = served.server.url().replace("://", "://user:p%40ss@");
    let remote = open(&url, &client);
    // On the same server it goes along, elsewhere it does not.
    served.server.behave(
        "/same",
        Behaviour::Redirect(302, format!("{}/x", served.server.url())),
    );
    assert_eq!(remote.get_now("same", 10).unwrap().unwrap(), b"hello");
    served.server.behave(
        "/x",
        Behaviour::Redirect(302, format!("{}/x", other.server.url())),
    );
    assert_eq!(remote.get_now("x", 10).unwrap().unwrap(), b"other");
    let seen = &other.server.requests()[0];
    assert_eq!(seen.header("authorization"), None);
}

fn by(proxy: &str, value: &str) -> Config {
    Config {
        proxies: Proxies::from([(proxy.to_owned(), value.to_owned())]),
        ..config()
    }
}

#[test]
fn proxies_are_asked_for_whole_addresses_with_their_login() {
    let proxy = Served::new();
    proxy.file("x", b"hello");
    let value = proxy.server.url().replace("://", "://me:secret@");
    let client = Client::new(by("http_proxy", &value)).unwrap();
    // The proxy alone would look up this name.
    let remote = open("http://cache.invalid", &client);
    assert_eq!(remote.get_now("x", 10).unwrap().unwrap(), b"hello");
    let seen = &proxy.server.requests()[0];
    assert_eq!(seen.uri, "http://cache.invalid/x");
    // "me:secret" in base 64.
    assert_eq!(
        seen.header("proxy-authorization"),
        Some("Basic bWU6c2VjcmV0")
    );
    proxy.server.behave("*", Behaviour::Status(407));
    let error = remote.get_now("x", 10).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn hosts_that_are_listed_are_reached_directly() {
    let (served, proxy) = (Served::new(), Served::new());
    served.file("x", b"direct");
    proxy.file("x", b"proxied");
    let mut config = by("http_proxy", &proxy.server.url());
    assert_eq!(
        served
            .remote(config.clone())
            .get_now("x", 10)
            .unwrap()
            .unwrap(),
        b"proxied"
    );
    config
        .proxies
        .insert("no_proxy".to_owned(), "127.0.0.1".to_owned());
    assert_eq!(
        served.remote(config).get_now("x", 10).unwrap().unwrap(),
        b"direct"
    );
    for bad in ["what://h", "http://["] {
        let error = served
            .remote(by("all_proxy", bad))
            .get_now("x", 10)
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Proxy, "{error}");
    }
}

#[test]
fn tls_goes_through_tunnels() {
    let served = Served::by(|dir| Server::start_tls(dir, true));
    served.file("x", b"hello");
    for (way, scheme) in [(Way::Connect, "http"), (Way::Socks, "socks5h")] {
        let tunnel = Tunnel::start(way, served.server.address());
        let client = Client::new(Config {
            ca_file: Some(served.server.ca_file()),
            ..by("https_proxy", &format!("{scheme}://{}", tunnel.address()))
        });
        // The certificate is for this name; the tunnel alone knows where it leads.
        let remote = open("https://localhost:1", &client.unwrap());
        assert_eq!(remote.get_now("x", 10).unwrap().unwrap(), b"hello");
        assert_eq!(tunnel.asked(), "localhost:1");
    }
    let tunnel = Tunnel::start(Way::Refuse, served.server.address());
    let config = Config {
        ca_file: Some(served.server.ca_file()),
        ..by("https_proxy", &format!("http://{}", tunnel.address()))
    };
    let client = Client::new(config).unwrap();
    let error = open("https://localhost:1", &client)
        .get_now("x", 10)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Proxy, "{error}");
}
