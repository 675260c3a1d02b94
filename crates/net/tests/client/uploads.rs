//! Writing to a cache by HTTP.

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
            Source::File(source.clone()),
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
    let missing = Source::File(served.dir.path().join("missing"));
    let error = remote.put_now("z", missing, "text/plain").unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
}
