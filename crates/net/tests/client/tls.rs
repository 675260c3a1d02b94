//! TLS: whose certificates are trusted, and HTTP/2 over it.

use std::sync::mpsc::channel;
use std::time::Duration;

use windrow_net::client::{Client, Config};
use windrow_net::error::Kind;
use windrow_net::testing::{Behaviour, Server};

use crate::common::{Served, bytes, config, contents, open, partial};

fn served(http2: bool) -> Served {
    let served = Served::by(|dir| Server::start_tls(dir, http2));
    served.file("x", b"hello");
    served
}

fn trusting(served: &Served) -> Config {
    Config {
        ca_file: Some(served.server.ca_file()),
        ..config()
    }
}

#[test]
fn only_the_authorities_of_the_file_are_trusted() {
    let (served, other) = (served(false), served(false));
    let got = served.remote(trusting(&served)).get_now("x", 10).unwrap();
    assert_eq!(got.as_deref(), Some(&b"hello"[..]));
    let error = served
        .remote(trusting(&other))
        .get_now("x", 10)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Tls, false),
        "{error}"
    );
    for file in ["/no/such/file", "/dev/null"] {
        let config = Config {
            ca_file: Some(file.into()),
            ..config()
        };
        let error = served.remote(config).get_now("x", 10).unwrap_err();
        assert_eq!(error.kind(), Kind::Credentials, "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

#[test]
fn what_speaks_no_tls_is_told() {
    let plain = Served::new();
    let tls = served(false);
    let client = Client::new(trusting(&tls)).unwrap();
    let url = plain.server.url().replace("http:", "https:");
    let error = open(&url, &client).get_now("x", 10).unwrap_err();
    assert_eq!(error.kind(), Kind::Tls, "{error}");
}

#[test]
fn http2_carries_all_over_one_connection_and_can_be_left_out() {
    let served = served(true);
    for n in 0..200 {
        served.file(&n.to_string(), n.to_string().as_bytes());
    }
    served
        .server
        .behave("*", Behaviour::Latency(Duration::from_millis(3)));
    let remote = served.remote(trusting(&served));
    let (send, answers) = channel();
    let get = |n: i32| {
        let send = send.clone();
        remote.get(&n.to_string(), 10, move |result| {
            send.send((n, result)).unwrap()
        })
    };
    let tickets: Vec<_> = (0..200).map(get).collect();
    for _ in 0..200 {
        let (n, result) = answers.recv().unwrap();
        assert_eq!(result.unwrap().unwrap(), n.to_string().as_bytes());
    }
    drop(tickets);
    assert_eq!(served.server.connections(), 1);
    assert!(served.server.busiest() > 1);
    let versions = |served: &Served| {
        let seen = served.server.requests().into_iter();
        seen.map(|seen| format!("{:?}", seen.version))
            .collect::<Vec<_>>()
    };
    assert!(
        versions(&served)
            .iter()
            .all(|version| version == "HTTP/2.0")
    );
    served.server.forget();
    let without = Config {
        http2: false,
        ..trusting(&served)
    };
    served.remote(without).get_now("x", 10).unwrap();
    assert_eq!(versions(&served), ["HTTP/1.1"]);
}

#[test]
fn streams_that_break_are_continued() {
    let served = served(true);
    let bytes = bytes(3 << 20);
    served.file("nar/x", &bytes);
    served
        .server
        .behave_times(2, "/nar/x", Behaviour::Reset(1 << 20));
    let (_dir, partial) = partial();
    let length = Some(bytes.len() as u64);
    let done = served
        .remote(trusting(&served))
        .download_now("nar/x", partial, length, drop);
    assert!(contents(done.unwrap()) == bytes);
    assert_eq!(served.server.count("/nar/x"), 3);
}
