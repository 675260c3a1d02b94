//! Writing to a cache by HTTP.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use windrow_net::error::Kind;
use windrow_net::remote::Source;
use windrow_net::testing::Behaviour;

use crate::common::{Served, bytes, config};

#[test]
fn bytes_and_files_arrive_as_they_are() {
    let served = Served::new();
    let remote = served.remote(config());
    let source = served.dir.path().join("source");
    for length in [0, 1, 128 << 10, 1_000_001] {
        let bytes = bytes(length);
        std::fs::write(&source, &bytes).unwrap();
        for from in [
            Source::Bytes(bytes.clone().into()),
            Source::File(Arc::new(File::open(&source).unwrap())),
        ] {
            served.server.forget();
            // An attempt that failed begins again at the beginning.
            served
                .server
                .behave_times(1, "/nar/x", Behaviour::Status(503));
            remote
                .put_now("nar/x", from, "application/x-nix-nar")
                .unwrap();
            assert!(std::fs::read(served.dir.path().join("nar/x")).unwrap() == bytes);
            let requests = served.server.requests();
            assert_eq!(requests.len(), 2);
            for seen in requests {
                assert_eq!(seen.method, "PUT");
                assert_eq!(seen.header("content-length"), Some(&*length.to_string()));
                assert_eq!(seen.header("content-type"), Some("application/x-nix-nar"));
            }
        }
    }
}

#[test]
fn refusals_are_named() {
    let served = Served::new();
    let mut config = config();
    config.limits.stalled_timeout = Duration::from_millis(200);
    let remote = served.remote(config);
    for (behaviour, kind, count) in [
        (Behaviour::Status(403), Kind::Denied, 1),
        (Behaviour::Status(401), Kind::Denied, 1),
        (Behaviour::Status(405), Kind::Status(405), 1),
        (Behaviour::Status(413), Kind::Status(413), 1),
        (Behaviour::Status(404), Kind::Status(404), 1),
        (Behaviour::Status(507), Kind::Status(507), 3),
        (Behaviour::Hang, Kind::Timeout, 3),
        // What would become another request is not followed.
        (
            Behaviour::Redirect(302, "/y".to_owned()),
            Kind::Status(302),
            1,
        ),
    ] {
        served.server.forget();
        served.server.behave("/x", behaviour.clone());
        let error = remote
            .put_now("x", Source::Bytes("x".into()), "text/plain")
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{behaviour:?}: {error}");
        assert!(
            error
                .to_string()
                .starts_with("cannot upload 'http://127.0.0.1")
        );
        assert_eq!(served.server.count("/x"), count, "{behaviour:?}");
    }
    served
        .server
        .behave("/x", Behaviour::Redirect(308, "/y".to_owned()));
    remote
        .put_now("x", Source::Bytes("x".into()), "text/plain")
        .unwrap();
    assert_eq!(std::fs::read(served.dir.path().join("y")).unwrap(), b"x");
}

#[test]
fn a_file_that_can_t_be_read_is_not_uploaded() {
    let served = Served::new();
    let remote = served.remote(config());
    let path = served.dir.path().join("source");
    std::fs::write(&path, "x").unwrap();
    let only_written = OpenOptions::new().append(true).open(&path).unwrap();
    let source = Source::File(Arc::new(only_written));
    let error = remote.put_now("z", source, "text/plain").unwrap_err();
    assert!(error.to_string().contains("Bad file descriptor"), "{error}");
    assert!(!served.dir.path().join("z").exists());
}

#[test]
fn a_file_is_the_same_one_though_nobody_else_has_it_open_any_more() {
    let served = Served::new();
    let remote = served.remote(config());
    let file = |text: &str| {
        let mut file = windrow_sys::nameless::create(served.dir.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let later = Behaviour::Latency(Duration::from_millis(300));
    served
        .server
        .behave_times(1, "/nar/x", Behaviour::Status(503));
    served.server.behave_times(1, "/nar/x", later);
    let (send, answer) = std::sync::mpsc::channel();
    let source = Source::File(Arc::new(file("the first")));
    let done = move |result| send.send(result).unwrap();
    let _ticket = remote.put("nar/x", source, "text/plain", done);
    // One of these gets the number of a descriptor that is free.
    let _others: Vec<_> = (0..9).map(|_| file("another")).collect();
    answer.recv().unwrap().unwrap();
    let arrived = std::fs::read_to_string(served.dir.path().join("nar/x")).unwrap();
    assert_eq!(arrived, "the first");
}
