//! URLs as people write them.

use proptest::prelude::*;

use super::*;
use crate::compression::Compression;
use crate::params::{AddressingStyle, Login};

fn parsed(url: &str) -> StoreUrl {
    StoreUrl::parse(url).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_kind_is_told() {
    let cwd = std::env::current_dir().unwrap();
    let root = |path: &str| local(Some(path.into()));
    let bucket = |bucket: &str, prefix: &str| Kind::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    };
    for (url, kind) in [
        (
            "https://cache.nixos.org",
            Kind::Http("https://cache.nixos.org".to_owned()),
        ),
        (
            "HTTP://h:81/a/b//?priority=1",
            Kind::Http("http://h:81/a/b".to_owned()),
        ),
        ("https://u:p@h/?", Kind::Http("https://u:p@h".to_owned())),
        ("file:///a/b/", Kind::File("/a/b".into())),
        ("file:///a%20b", Kind::File("/a b".into())),
        ("file://localhost/a", Kind::File("/a".into())),
        ("s3://nix-cache", bucket("nix-cache", "")),
        ("s3://b.c/p/q/?region=x", bucket("b.c", "p/q")),
        ("ssh://u@h:2", Kind::Ssh(Host::parse("u@h:2").unwrap())),
        ("ssh-ng://h/", Kind::SshNg(Host::parse("h").unwrap())),
        ("daemon", Kind::Daemon { socket: None }),
        (
            "unix:///run/s",
            Kind::Daemon {
                socket: Some("/run/s".into()),
            },
        ),
        ("local", local(None)),
        ("auto", local(None)),
        ("local?root=/x/../y", root("/y")),
        ("local:///x%20y", root("/x y")),
        ("/x//y/", root("/x/y")),
        ("/x%20y", root("/x%20y")),
        ("./x", local(Some(cwd.join("x")))),
    ] {
        assert_eq!(parsed(url).kind, kind, "{url}");
    }
    let store = parsed("local?root=/r&store=/s&real=/t&state=/u&log=/v&root=/w");
    let expected = Places {
        root: Some("/r".into()),
        store: Some("/s".into()),
        real: Some("/t".into()),
        state: Some("/u".into()),
        log: Some("/v".into()),
    };
    assert_eq!(store.kind, Kind::Local(expected));
    assert!(store.params.unknown.is_empty());
}

#[test]
fn what_names_no_store_is_named() {
    for (url, expected) in [
        ("", "'' is not the URL of a store: it is empty"),
        ("ftp://h", "'ftp' is none of http"),
        ("word", "'word' is none of http"),
        ("http://", "empty host"),
        ("https://h:x", "invalid port"),
        ("https://h/#f", "it has a fragment"),
        ("file://a/b", "three slashes"),
        ("file:///a%2", "not percent-encoded"),
        ("s3://", "s3://BUCKET"),
        ("s3://a@b", "s3://BUCKET"),
        ("ssh://-oProxyCommand=x", "it should name a host"),
        ("ssh://", "it should name a host"),
        ("ssh://h:x", "its port should be a number"),
        ("ssh-ng://h?max-connections=0", "should be a whole number"),
        (
            "ssh://h?base64-ssh-public-host-key=%21",
            "it should be a key",
        ),
        (
            "https://h?priority=x",
            "its parameter 'priority' can't be 'x'",
        ),
        ("https://h?trusted=maybe", "it should be true or false"),
        ("https://h?compression=lzma", "'lzma' is not supported"),
        (
            "https://h?secret-key=%zz",
            "'secret-key=%zz' is not percent-encoded",
        ),
        (
            "local?root=x",
            "its parameter 'root' can't be 'x': it should be an absolute path",
        ),
        ("s3://b?scheme=ftp", "it should be http or https"),
        (
            "https://u:secret@h?priority=x",
            "'https://u:***@h?priority=x'",
        ),
    ] {
        let error = StoreUrl::parse(url).unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
        assert!(!error.contains("secret@"), "{error}");
    }
}

#[test]
fn parameters_are_those_of_nix() {
    let url = "https://h?priority=-3&trusted=1&want-mass-query=false&compression=zstd\
        &compression-level=19&parallel-compression=yes&secret-keys=/a,/b%2Cc,/d&secret-key=/e,f\
        &write-nar-listing=true&index-debug-info=true&retry-attempts=3&retry-delay=10\
        &retry-delay-rate-limited=20&retry-max-delay=30&connect-timeout=4&stalled-timeout=5\
        &priority=9&path-info-cache-size=2&odd&&x%20y=1";
    let expected = Params {
        priority: Some(-3),
        trusted: true,
        want_mass_query: Some(false),
        compression: Some(Compression::Zstd),
        compression_level: Some(19),
        parallel_compression: Some(true),
        secret_keys: ["/a", "/b", "c", "/d", "/e,f"].map(PathBuf::from).to_vec(),
        write_nar_listing: true,
        index_debug_info: true,
        retry_attempts: Some(3),
        retry_delay: Some(10),
        retry_delay_rate_limited: Some(20),
        retry_max_delay: Some(30),
        connect_timeout: Some(4),
        stalled_timeout: Some(5),
        unknown: ["path-info-cache-size", "odd", "x y"]
            .map(str::to_owned)
            .to_vec(),
        ..Params::default()
    };
    assert_eq!(parsed(url).params, expected);
    let bucket = "s3://b?region=eu-west-1&profile=p&endpoint=https://e:9&addressing-style=path\
        &scheme=http&compression-level=-1&root=/x";
    let expected = Params {
        region: Some("eu-west-1".to_owned()),
        profile: Some("p".to_owned()),
        endpoint: Some("https://e:9".to_owned()),
        scheme: Some("http".to_owned()),
        addressing_style: AddressingStyle::Path,
        unknown: vec!["root".to_owned()],
        ..Params::default()
    };
    assert_eq!(parsed(bucket).params, expected);
    assert_eq!(parsed("s3://b?region=").params, Params::default());
}

#[test]
fn stores_of_other_machines_have_parameters_of_their_own() {
    let url = "ssh://h?ssh-key=/k&compress=true&remote-program=sudo%20nix-store&max-connections=3\
        &remote-store=/x%20y&base64-ssh-public-host-key=c3NoLWVkMjU1MTkgQUFBCg%3D%3D&trusted=1\
        &compression=xz&region=x&retry-attempts=1";
    let expected = Params {
        trusted: true,
        login: Login {
            key: Some("/k".into()),
            host_key: Some("ssh-ed25519 AAA".to_owned()),
            compress: true,
            program: ["sudo", "nix-store"].map(str::to_owned).to_vec(),
            store: Some("/x y".to_owned()),
            max_connections: std::num::NonZero::new(3),
        },
        unknown: ["compression", "region", "retry-attempts"]
            .map(str::to_owned)
            .to_vec(),
        ..Params::default()
    };
    assert_eq!(parsed(url).params, expected);
    assert_eq!(parsed("daemon?compress=1").params.unknown, ["compress"]);
    assert_eq!(parsed("https://h?compress=1").params.unknown, ["compress"]);
}

#[test]
fn keys_are_those_of_nix_and_no_password_is_shown() {
    for (url, key, shown) in [
        (
            "https://cache.nixos.org/?priority=1",
            "https://cache.nixos.org",
            None,
        ),
        (
            "https://u:p@h/x/",
            "https://u:***@h/x",
            Some("https://u:***@h/x/"),
        ),
        ("https://u@h/x@y:z", "https://u@h/x@y:z", None),
        ("file:///a/", "file:///a", None),
        ("s3://b/?region=x", "s3://b", None),
        ("s3://b/p?endpoint=e:1", "s3://b/p?endpoint=e:1", None),
        ("ssh://h", "ssh://h", None),
    ] {
        let store = parsed(url);
        assert_eq!(store.key(), key);
        assert_eq!(store.to_string(), shown.unwrap_or(url));
    }
}

proptest! {
    #[test]
    fn no_text_panics(
        kind in "(https?|file|s3|ssh|unix|local)?(://)?",
        rest in "[a-z/.:@%0-9]{0,12}(\\?[a-z-]{0,9}=[a-z0-9%&=]{0,9})?",
        other in "\\PC{0,30}",
    ) {
        for url in [format!("{kind}{rest}"), other] {
            match StoreUrl::parse(&url) {
                Ok(store) => prop_assert!(!store.key().ends_with('/') || store.key().ends_with("://")
                    || matches!(store.kind, Kind::File(_))),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn a_password_never_shows(
        user in "[a-z]{1,8}", password in "[a-zA-Z0-9!$&*:;@]{3,12}", tail in "[a-z/]{0,8}",
    ) {
        let secret = format!("S3CR3T{password}");
        let url = format!("https://{user}:{secret}@h/{tail}");
        let store = StoreUrl::parse(&url).unwrap();
        prop_assert!(!store.to_string().contains("S3CR3T"));
        prop_assert!(!store.key().contains("S3CR3T"));
        prop_assert!(matches!(&store.kind, Kind::Http(base) if base.contains("S3CR3T")));
    }
}

#[test]
fn the_places_of_a_store_make_a_url() {
    use std::os::unix::ffi::OsStringExt as _;
    let odd = std::ffi::OsString::from_vec(b"/a b&c=%?#\xff/x".to_vec());
    let layout = windrow_store::Layout {
        store_dir: "/nix/store".to_owned(),
        real_store_dir: odd.into(),
        state_dir: "/s".into(),
        log_dir: "/l".into(),
    };
    let places = Places::of_layout(&layout);
    let url = StoreUrl::parse(&places.to_url()).unwrap();
    assert_eq!(url.kind, Kind::Local(places));
    assert!(url.params.unknown.is_empty());
}
