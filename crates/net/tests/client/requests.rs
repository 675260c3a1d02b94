//! Small answers: what is absent, what is tried again, what is an error, and which.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use windrow_net::client::{Client, Config};
use windrow_net::compression::{Compression, encoder};
use windrow_net::error::Kind;
use windrow_net::testing::Behaviour;

use crate::common::{Served, config, open};

#[test]
fn what_is_there_is_got_and_what_is_not_is_absent() {
    let served = Served::new();
    served.file("x.narinfo", b"StorePath: x\n");
    let remote = served.remote(config());
    let found = remote.get_now("x.narinfo", 100).unwrap();
    assert_eq!(found.as_deref(), Some(&b"StorePath: x\n"[..]));
    assert!(remote.exists_now("x.narinfo").unwrap());
    for status in [403, 404, 410] {
        served
            .server
            .behave("/y.narinfo", Behaviour::Status(status));
        assert_eq!(remote.get_now("y.narinfo", 100).unwrap(), None);
        assert!(!remote.exists_now("y.narinfo").unwrap());
    }
    // Each is asked for once, by the method that says so.
    let methods: Vec<_> = served
        .server
        .requests()
        .into_iter()
        .map(|seen| seen.method)
        .collect();
    assert_eq!(
        methods,
        ["GET", "HEAD", "GET", "HEAD", "GET", "HEAD", "GET", "HEAD"]
    );
}

#[test]
fn what_may_pass_is_tried_again() {
    let served = Served::new();
    served.file("x", b"hello");
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let remote = served.remote(Config {
        notice: Some(Arc::new(move |error, _| {
            telling.lock().unwrap().push(error.to_string())
        })),
        ..config()
    });
    let date = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(60));
    for behaviour in [
        Behaviour::Status(408),
        Behaviour::Status(500),
        Behaviour::Status(503),
        Behaviour::RetryAfter(429, "0".to_owned()),
        Behaviour::RetryAfter(503, date),
        Behaviour::Reset(2),
    ] {
        served.server.forget();
        told.lock().unwrap().clear();
        served.server.behave_times(2, "/x", behaviour.clone());
        let got = remote.get_now("x", 10).unwrap();
        assert_eq!(got.as_deref(), Some(&b"hello"[..]), "{behaviour:?}");
        assert_eq!(served.server.count("/x"), 3);
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("cannot fetch 'http://127.0.0.1:"),
            "{told:?}"
        );
    }
    served.server.behave("/x", Behaviour::Status(502));
    served.server.forget();
    let error = remote.get_now("x", 10).unwrap_err();
    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Status(502), true)
    );
    assert_eq!(served.server.count("/x"), 3);
}

#[test]
fn what_will_not_pass_is_an_error_at_once() {
    let served = Served::new();
    served.file("x", b"hello");
    let remote = served.remote(config());
    for (behaviour, kind) in [
        (Behaviour::Status(400), Kind::Status(400)),
        (Behaviour::Status(401), Kind::Denied),
        (Behaviour::Status(407), Kind::Denied),
        (Behaviour::Status(501), Kind::Status(501)),
        (Behaviour::Status(304), Kind::Status(304)),
        (
            Behaviour::RetryAfter(503, "100".to_owned()),
            Kind::Status(503),
        ),
        (Behaviour::Long(100), Kind::TooLarge),
        (Behaviour::Endless, Kind::TooLarge),
        (
            Behaviour::Redirect(302, "file:///etc/passwd".to_owned()),
            Kind::BadRedirect,
        ),
        (
            Behaviour::Redirect(302, "http://[".to_owned()),
            Kind::BadRedirect,
        ),
    ] {
        served.server.forget();
        served.server.behave("/x", behaviour.clone());
        let error = remote.get_now("x", 10).unwrap_err();
        assert_eq!(error.kind(), kind, "{behaviour:?}: {error}");
        assert_eq!(error.to_string().lines().count(), 1);
        assert_eq!(served.server.count("/x"), 1, "{behaviour:?}");
    }
    // Who is to be left alone for long is not waited for, but the caller knows.
    served
        .server
        .behave("/x", Behaviour::RetryAfter(429, "100".to_owned()));
    let error = remote.get_now("x", 10).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(100)));
    // A page for people is for the caller to see through.
    served.server.behave("/x", Behaviour::Html);
    let page = remote.get_now("x", 1000).unwrap().unwrap();
    assert!(page.starts_with(b"<html>"));
    for bad in ["file:///etc/passwd", "ftp://h/x"] {
        assert_eq!(
            remote.get_now(bad, 10).unwrap_err().kind(),
            Kind::BadAddress
        );
    }
}

#[test]
fn redirections_are_followed_but_not_in_circles() {
    let (served, other) = (Served::new(), Served::new());
    served.file("a/x", b"hello");
    other.file("y", b"other");
    let remote = served.remote(config());
    let server = &served.server;
    server.behave("/a/1", Behaviour::Redirect(301, "x".to_owned()));
    server.behave("/2", Behaviour::Redirect(307, "/a/1".to_owned()));
    server.behave(
        "/3",
        Behaviour::Redirect(303, format!("{}/y", other.server.url())),
    );
    server.behave("/circle", Behaviour::Redirect(302, "circle".to_owned()));
    for (name, expected) in [("a/1", "hello"), ("2", "hello"), ("3", "other")] {
        let got = remote.get_now(name, 10).unwrap().unwrap();
        assert_eq!(got, expected.as_bytes());
        assert!(remote.exists_now(name).unwrap());
    }
    let error = remote.get_now("circle", 10).unwrap_err();
    assert_eq!(error.kind(), Kind::TooManyRedirects);
    assert_eq!(server.count("/circle"), 11);
    // An absolute name is an address.
    let got = remote
        .get_now(&format!("{}/y", other.server.url()), 10)
        .unwrap();
    assert_eq!(got.as_deref(), Some(&b"other"[..]));
}

#[test]
fn nobody_listens() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let client = Client::new(config()).unwrap();
    let error = open(&format!("http://{address}"), &client)
        .get_now("x", 10)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.is_transient()),
        (Kind::Connect, true),
        "{error}"
    );
    assert!(error.url().contains(&address.to_string()));
}

#[test]
fn what_is_compressed_is_unpacked() {
    let served = Served::new();
    let remote = served.remote(config());
    let text = vec![b'x'; 10_000];
    for (coding, compression) in [
        ("gzip", Compression::Gzip),
        ("x-gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
        ("br", Compression::Brotli),
        ("XZ", Compression::Xz),
        ("identity", Compression::None),
    ] {
        let mut packed = Vec::new();
        let mut encoder = encoder(compression, None, 1, &mut packed).unwrap();
        std::io::Write::write_all(&mut encoder, &text).unwrap();
        encoder.finish().unwrap();
        served.file("x", &packed);
        served.server.behave(
            "/x",
            Behaviour::Header("content-encoding", coding.to_owned()),
        );
        assert!(
            remote.get_now("x", 10_000).unwrap().unwrap() == text,
            "{coding}"
        );
        // However small it is when packed.
        let error = remote.get_now("x", 9999).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge, "{coding}");
    }
    served.file("x", b"hello");
    for coding in ["gzip", "aes", "gzip, br"] {
        served.server.behave(
            "/x",
            Behaviour::Header("content-encoding", coding.to_owned()),
        );
        let error = remote.get_now("x", 10_000).unwrap_err();
        assert_eq!(error.kind(), Kind::BadEncoding, "{coding}: {error}");
    }
}
