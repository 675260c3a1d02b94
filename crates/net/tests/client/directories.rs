//! Caches in directories of this machine.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use windrow_net::client::Client;
use windrow_net::error::Kind;
use windrow_net::remote::Source;

use crate::common::{config, contents, open, partial};

#[test]
fn files_are_read_written_and_copied() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let client = Client::new(config()).unwrap();
    let remote = open(&format!("file://{}", cache.display()), &client);
    assert_eq!(remote.get_now("nix-cache-info", 100).unwrap(), None);
    assert!(!remote.exists_now("nar/x").unwrap());
    let source = dir.path().join("source");
    std::fs::write(&source, "hello").unwrap();
    for source in [
        Source::Bytes("world".into()),
        Source::File(Arc::new(File::open(&source).unwrap())),
    ] {
        remote
            .put_now("nar/x", source, "application/x-nix-nar")
            .unwrap();
    }
    assert_eq!(
        remote.get_now("nar/x", 5).unwrap().as_deref(),
        Some(&b"hello"[..])
    );
    assert!(remote.exists_now("nar/x").unwrap());
    // Nothing else is left.
    assert_eq!(std::fs::read_dir(cache.join("nar")).unwrap().count(), 1);
    let (_dir, partial) = partial();
    let copied = remote
        .download_now("nar/x", partial, Some(5), drop)
        .unwrap();
    assert_eq!(contents(copied), b"hello");
    assert_eq!(
        remote.local_file("nar/x").unwrap(),
        Some(cache.join("nar/x"))
    );
}

#[test]
fn names_that_lead_elsewhere_and_things_that_are_no_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    std::fs::create_dir_all(cache.join("nar")).unwrap();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    let client = Client::new(config()).unwrap();
    let remote = open(&format!("file://{}", cache.display()), &client);
    for name in [
        "../secret",
        "nar/../../secret",
        "/etc/passwd",
        "",
        "http://h/x",
    ] {
        for kind in [
            remote.get_now(name, 10).unwrap_err().kind(),
            remote.exists_now(name).unwrap_err().kind(),
            remote
                .put_now(name, Source::Bytes("x".into()), "")
                .unwrap_err()
                .kind(),
            remote.local_file(name).unwrap_err().kind(),
            remote
                .download_now(name, partial().1, None, drop)
                .unwrap_err()
                .kind(),
        ] {
            assert_eq!(kind, Kind::BadAddress, "{name}");
        }
    }
    assert_eq!(
        std::fs::read_to_string(dir.path().join("secret")).unwrap(),
        "x"
    );
    assert_eq!(remote.get_now("nar", 10).unwrap_err().kind(), Kind::Io);
    // A pipe without a writer must hold up nobody.
    let pipe = std::process::Command::new("mkfifo")
        .arg(cache.join("pipe"))
        .status();
    if pipe.is_ok_and(|status| status.success()) {
        assert_eq!(remote.get_now("pipe", 10).unwrap_err().kind(), Kind::Io);
    } else {
        println!("skipped: no mkfifo");
    }
    symlink("nar/x", cache.join("link")).unwrap();
    std::fs::write(cache.join("nar/x"), "hello").unwrap();
    assert_eq!(
        remote.get_now("link", 10).unwrap().as_deref(),
        Some(&b"hello"[..])
    );
}

#[test]
fn sizes_count() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), "hello").unwrap();
    let client = Client::new(config()).unwrap();
    let remote = open(&format!("file://{}", dir.path().display()), &client);
    assert_eq!(remote.get_now("x", 4).unwrap_err().kind(), Kind::TooLarge);
    for (expected, kind) in [(4, Kind::TooLarge), (6, Kind::Short)] {
        let error = remote
            .download_now("x", partial().1, Some(expected), drop)
            .unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    let error = remote
        .download_now("y", partial().1, None, drop)
        .unwrap_err();
    assert!(error.is_absent());
    // Where a file is, there can be no directory.
    let error = remote
        .put_now("x/y", Source::Bytes("x".into()), "")
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
}
