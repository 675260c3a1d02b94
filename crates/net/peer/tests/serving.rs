//! `nix-store --serve`.

use super::*;

const GREETING: u64 = 0x5452_eecb;

/// A connection to one of that version, which says the rest.
fn serve(minor: u64, says: &[Part<'_>]) -> (Result<Serve, Fault>, Heard) {
    let says = bytes(&[N(GREETING), N(2 << 8 | minor), Raw(&bytes(says))]);
    let (wire, heard) = wire(says, true);
    (Serve::greet(wire), heard)
}

/// What is said of A by versions with hashes.
fn info_of_a() -> Vec<u8> {
    let hash = nar_hash().prefixed_base32();
    bytes(&[
        T(A),
        T(DRV),
        L(&[B, A]),
        N(120),
        N(120),
        T(&hash),
        T(""),
        L(&["k:2", "k:1"]),
    ])
}

#[test]
fn many_paths_are_asked_for_in_one_question() {
    let (serve, heard) = serve(7, &[L(&[A]), Raw(&info_of_a()), T("")]);
    let mut serve = serve.unwrap();
    let greeting = [N(0x390c_9deb), N(0x208)];
    assert_eq!(heard.take(), bytes(&greeting));
    let both = [path(B), path(A)];
    assert_eq!(serve.valid_paths(&both).unwrap(), [path(A)]);
    assert_eq!(heard.take(), bytes(&[N(1), N(1), N(0), L(&[A, B])]));
    let mut answers = Vec::new();
    let mut tell = |path: &StorePath, found: Result<_, Fault>| {
        answers.push(format!("{} {}", path.name(), told(&found)));
    };
    serve.infos(&both, &mut tell).unwrap();
    assert_eq!(answers, ["a A as it is", "b nothing"]);
    assert_eq!(heard.take(), bytes(&[N(2), L(&[A, B])]));
}

#[test]
fn an_archive_comes_without_a_word_around_it() {
    let (serve, heard) = serve(7, &[Raw(&archive("hello"))]);
    let mut serve = serve.unwrap();
    heard.take();
    let mut found = Vec::new();
    serve.nar(&path(A), 120, &mut found).unwrap();
    assert_eq!(found, archive("hello"));
    assert_eq!(heard.take(), bytes(&[N(3), T(A)]));
}

#[test]
fn what_is_too_old_or_none_is_named() {
    let (serve_2_0, _) = serve(0, &[]);
    let (kind, reason) = fault(serve_2_0.unwrap().can_tell());
    assert_eq!(kind, Kind::Unsupported);
    assert!(reason.contains("older than 2.0"), "{reason}");
    assert!(serve(4, &[]).0.unwrap().can_tell().is_ok());
    let (kind, _) = fault(Serve::greet(wire(bytes(&[N(GREETING), N(0x300)]), true).0));
    assert_eq!(kind, Kind::Unsupported);
    let greeting = b"Welcome to this machine\nenjoy".to_vec();
    let (kind, reason) = fault(Serve::greet(wire(greeting, true).0));
    assert_eq!(kind, Kind::Protocol);
    assert!(
        reason.contains("'Welcome to this machine enjoy'"),
        "{reason}"
    );
    let (kind, _) = fault(Serve::greet(wire(Vec::new(), true).0));
    assert_eq!(kind, Kind::Connect);
}

#[test]
fn what_can_not_be_is_not_believed() {
    let hash = nar_hash().prefixed_base32();
    let of = |says: &[Part<'_>]| {
        let mut found = Vec::new();
        let result = serve(7, says).0.unwrap().infos(&[path(A)], &mut |_, it| {
            found.push(told(&it));
        });
        match result {
            Ok(()) => found.join(", "),
            Err(fault) => fault.reason,
        }
    };
    let rest = |hash: &str, size, ca: &str| {
        of(&[
            T(A),
            T(""),
            L(&[]),
            N(0),
            N(size),
            T(hash),
            T(ca),
            L(&[]),
            T(""),
        ])
    };
    assert!(rest("", 1, "").contains("it has no SHA-256 hash"));
    assert!(rest(&format!("sha256:{}", "0".repeat(64)), 1, "").contains("no SHA-256"));
    assert!(rest(&HashAlgo::Sha1.hash(b"").prefixed_base32(), 1, "").contains("no SHA-256"));
    assert!(rest("sha256:x", 1, "").contains("wrong length"));
    assert!(rest(&hash, 0, "").contains("no NAR has 0 bytes"));
    assert!(rest(&hash, 1, "odd").contains("should begin with"));
    assert!(rest(&hash, 1, "").contains("NarInfo"), "this one is good");
    assert!(of(&[T(B)]).contains("not asked for"));
    assert!(of(&[T("/other/x")]).contains("does not lie directly"));
    assert!(of(&[T(A), T(""), N(1 << 20)]).contains("1048576 paths"));
    let endless = of(&[T(A), T(""), N(0), N(0), N(1), T(&hash), T(""), N(1 << 20)]);
    assert!(endless.contains("1048576 texts"), "{endless}");
    assert!(of(&[N(u64::MAX)]).contains("longer than 4096"));
    assert!(of(&[T(A), T("")]).contains("has ended"));
}

fn path_info() -> PathInfo {
    let mut info = info().to_path_info(&StoreDir::new("/s"));
    info.registration_time = 9;
    info
}

fn adding(minor: u64, says: &[Part<'_>]) -> (Result<usize, Fault>, Vec<u8>) {
    let (serve, heard) = serve(minor, says);
    let mut serve = serve.unwrap();
    heard.take();
    let mut done = 0;
    let mut open = |_: &PathInfo| -> io::Result<Box<dyn Read>> {
        Ok(Box::new(io::Cursor::new(archive("hello"))))
    };
    let infos = [path_info(), path_info()];
    let added = serve.add(&infos, &mut open, &mut |_| done += 1);
    (added.map(|()| done), heard.take())
}

#[test]
fn paths_are_added_as_the_version_wants_it() {
    let hash = nar_hash().base16();
    let archive = archive("hello");
    let one = bytes(&[
        N(9),
        T(A),
        T(DRV),
        T(&hash),
        L(&[A, B]),
        N(9),
        N(120),
        N(0),
        L(&["k:1", "k:2"]),
        T(""),
        Raw(&archive),
    ]);
    let (added, heard) = adding(5, &[N(1), N(1)]);
    assert!(added.unwrap() == 2 && heard == [one.clone(), one].concat());
    let one = bytes(&[
        N(1),
        Raw(&archive),
        N(0x4558_494e),
        T(A),
        L(&[A, B]),
        T(DRV),
        N(0),
    ]);
    let (added, heard) = adding(4, &[N(1)]);
    let expected = bytes(&[N(4), Raw(&one), Raw(&one), N(0)]);
    assert!(added.unwrap() == 2 && heard == expected);
    // What is not taken ends the program there.
    assert_eq!(fault(adding(5, &[N(1)]).0).0, Kind::Reset);
    assert_eq!(fault(adding(5, &[N(7)]).0).0, Kind::Protocol);
}

#[test]
fn an_archive_that_has_become_another_is_not_sent_to_its_end() {
    for text in ["hello, world", "", "hi"] {
        let (serve, _) = serve(7, &[]);
        let mut open = |_: &PathInfo| -> io::Result<Box<dyn Read>> {
            Ok(Box::new(io::Cursor::new(archive(text))))
        };
        let added = serve.unwrap().add(&[path_info()], &mut open, &mut |_| {});
        let (kind, reason) = fault(added);
        let is_same_size = archive(text).len() == 120;
        let expected = if is_same_size { Kind::Reset } else { Kind::Io };
        assert_eq!(kind, expected, "{text}: {reason}");
    }
}
