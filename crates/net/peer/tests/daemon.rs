//! `nix-daemon --stdio`, and what listens at its socket.

use super::*;

const GREETING: u64 = 0x6478_696f;
const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;

/// What a daemon of that version begins with.
fn greeting(minor: u64) -> Vec<u8> {
    let mut says = bytes(&[N(GREETING), N(1 << 8 | minor)]);
    if minor >= 38 {
        says.extend(bytes(&[L(&["some-feature"])]));
    }
    if minor >= 33 {
        says.extend(bytes(&[T("2.99")]));
    }
    if minor >= 35 {
        says.extend(bytes(&[N(1)]));
    }
    says.extend(bytes(&[N(LAST)]));
    says
}

fn worker(minor: u64, says: &[Part<'_>], is_here: bool) -> (Worker, Heard) {
    let greeting = greeting(minor);
    let says = bytes(&[Raw(&greeting), Raw(&bytes(says))]);
    let (wire, heard) = wire_with_pause(says, is_here, greeting.len());
    let worker = Worker::greet(wire).unwrap_or_else(|fault| panic!("{}", fault.reason));
    heard.take();
    (worker, heard)
}

#[test]
fn each_version_is_greeted_as_it_wants_it() {
    for minor in [18, 21, 32, 33, 34, 35, 37, 38, 39] {
        let (wire, heard) = wire(greeting(minor), true);
        assert!(Worker::greet(wire).is_ok(), "{minor}");
        let mut expected = bytes(&[N(0x6e69_7863), N(1 << 8 | 38)]);
        if minor >= 38 {
            expected.extend(bytes(&[N(0)]));
        }
        expected.extend(bytes(&[N(0), N(0)]));
        assert!(heard.take() == expected, "{minor}");
    }
    for version in [1 << 8 | 17, 2 << 8 | 20, u64::MAX] {
        let (wire, _) = wire(bytes(&[N(GREETING), N(version)]), true);
        assert_eq!(fault(Worker::greet(wire)).0, Kind::Unsupported);
    }
    let refusal = [
        N(GREETING),
        N(1 << 8 | 34),
        T("2.8"),
        N(ERROR),
        T("Error"),
        N(0),
        T("Error"),
        T("user 'x' is not allowed to connect"),
        N(0),
        N(0),
    ];
    let (kind, reason) = fault(Worker::greet(wire(bytes(&refusal), true).0));
    assert_eq!(kind, Kind::Refused);
    assert_eq!(reason, "it says: user 'x' is not allowed to connect");
}

/// What is said of A.
fn info_of_a() -> Vec<u8> {
    let hash = nar_hash().base16();
    bytes(&[
        N(LAST),
        N(1),
        T(DRV),
        T(&hash),
        L(&[B, A]),
        N(9),
        N(120),
        N(1),
        L(&["k:2", "k:1"]),
        T(""),
    ])
}

fn infos(minor: u64, says: &[Part<'_>]) -> (Vec<String>, Result<(), Fault>, Vec<u8>) {
    let (mut worker, heard) = worker(minor, says, false);
    let mut answers = Vec::new();
    let asked = [path(B), path(A), path(DRV)];
    let result = worker.infos(&asked, &mut |path, found| {
        answers.push(format!("{} {}", path.name(), told(&found)));
    });
    (answers, result, heard.take())
}

#[test]
fn paths_are_asked_for_without_a_wait_in_between() {
    // With all that a daemon may say meanwhile.
    let says = [
        N(NEXT),
        T("a line\n"),
        N(0x5354_5254),
        N(5),
        N(3),
        N(108),
        T("substituting"),
        N(2),
        N(0),
        N(7),
        N(1),
        T("field"),
        N(0),
        N(0x5253_4c54),
        N(5),
        N(101),
        N(1),
        N(1),
        T("line"),
        N(0x5354_4f50),
        N(5),
        N(LAST),
        N(0),
        Raw(&info_of_a()),
        N(ERROR),
        T("Error"),
        N(0),
        T("Error"),
        T("\x1b[31;1merror:\x1b[0m the database is broken"),
        N(0),
        N(1),
        N(0),
        T("while asking"),
    ];
    let (answers, result, heard) = infos(38, &says);
    assert!(result.is_ok());
    let expected = [
        "b nothing",
        "a A as it is",
        "a.drv it says: the database is broken",
    ];
    assert_eq!(answers, expected);
    let asked = [N(26), T(B), N(26), T(A), N(26), T(DRV)];
    assert_eq!(heard, bytes(&asked));
    // Errors had another form.
    let old = [
        N(ERROR),
        T("error: path is odd"),
        N(1),
        N(LAST),
        N(0),
        N(LAST),
        N(0),
    ];
    let (answers, result, _) = infos(25, &old);
    assert!(result.is_ok());
    assert_eq!(
        answers,
        ["b it says: path is odd", "a nothing", "a.drv nothing"]
    );
}

#[test]
fn more_paths_than_have_room_are_asked_for_bit_by_bit() {
    let says: Vec<Part<'_>> = (0..250).flat_map(|_| [N(LAST), N(0)]).collect();
    let (mut worker, heard) = worker(34, &says, false);
    let asked = vec![path(A); 250];
    let mut answers = 0;
    let counted = worker.infos(&asked, &mut |_, found| {
        assert_eq!(told(&found), "nothing");
        answers += 1;
    });
    assert!(counted.is_ok());
    let question = bytes(&[N(26), T(A)]);
    assert_eq!((answers, heard.take()), (250, question.repeat(250)));
}

#[test]
fn nonsense_ends_the_connection() {
    for (says, expected) in [
        (&[N(1)][..], "0x1 is no message"),
        (&[N(READ), N(1)], "it wants something that it has"),
        (&[N(NEXT), N(1 << 40)], "longer than 1048576"),
        (&[N(0x5354_4f50)], "has ended"),
        (&[N(LAST), N(1), T(""), T("x")], "wrong length or digits"),
        (
            &[N(0x5253_4c54), N(1), N(1), N(1), N(2)],
            "the unknown kind 2",
        ),
        (
            &[N(0x5253_4c54), N(1), N(1), N(1 << 20)],
            "announces 1048576 fields",
        ),
        (
            &[N(ERROR), T("Error"), N(0), T(""), T("x"), N(1)],
            "has a position",
        ),
    ] {
        let (_, result, _) = infos(38, says);
        let (kind, reason) = fault(result);
        assert!(matches!(kind, Kind::Protocol | Kind::Reset), "{kind:?}");
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn valid_paths_are_kept_and_archives_follow_their_announcement() {
    let says = [
        N(LAST),
        N(1),
        N(LAST),
        N(1),
        N(LAST),
        L(&[A]),
        N(LAST),
        Raw(&archive("hello")),
        N(ERROR),
        T("no such path"),
        N(1),
    ];
    let (mut worker, heard) = worker(25, &says, false);
    let both = [path(A), path(B)];
    assert_eq!(worker.valid_paths(&both).unwrap(), [path(A)]);
    let asked = [N(11), T(A), N(11), T(B), N(31), L(&[A, B])];
    assert!(heard.take() == bytes(&asked));
    let mut found = Vec::new();
    worker.nar(&path(A), 120, &mut found).unwrap();
    assert_eq!(found, archive("hello"));
    assert_eq!(heard.take(), bytes(&[N(38), T(A)]));
    let (kind, _) = fault(worker.nar(&path(B), 120, &mut found));
    assert_eq!(kind, Kind::Refused);
    // What Nix 2.8 says of a path that is gone.
    let says = [
        N(LAST),
        T("nix-archive-1"),
        N(ERROR),
        T("Error"),
        N(0),
        T("Error"),
        T("path '/s/x' is not valid"),
        N(0),
        N(0),
    ];
    let (kind, reason) = fault(
        self::worker(34, &says, false)
            .0
            .nar(&path(A), 120, &mut found),
    );
    assert_eq!(kind, Kind::Protocol);
    assert_eq!(reason, "it says: path '/s/x' is not valid");
}

/// Adds A so often.
fn adding(
    minor: u64,
    says: &[Part<'_>],
    (count, is_here): (usize, bool),
) -> (Result<usize, Fault>, Vec<u8>) {
    let (mut worker, heard) = worker(minor, says, is_here);
    let mut info = info().to_path_info(&StoreDir::new("/s"));
    info.registration_time = 9;
    let mut done = 0;
    let mut open = |_: &PathInfo| -> io::Result<Box<dyn Read>> {
        Ok(Box::new(io::Cursor::new(archive("hello"))))
    };
    let infos = vec![info; count];
    let added = worker.add(&infos, Signatures::Ignored, &mut open, &mut |_| done += 1);
    (added.map(|()| done), heard.take())
}

#[test]
fn paths_are_added_as_the_version_wants_it() {
    let (hash, archive) = (nar_hash().base16(), archive("hello"));
    let info = bytes(&[
        T(A),
        T(DRV),
        T(&hash),
        L(&[A, B]),
        N(9),
        N(120),
        N(0),
        L(&["k:1", "k:2"]),
        T(""),
    ]);
    let frame = |bytes: &[u8]| [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    let head = bytes(&[N(39), Raw(&info), N(0), N(1)]);
    let (first, rest) = archive.split_at(100);
    let pad = [0; 4];
    let pieces = [N(100), Raw(first), Raw(&pad), N(20), Raw(rest), Raw(&pad)];
    let asked = [N(READ), N(100), N(READ), N(1 << 40), N(LAST)];
    for (minor, archive, says) in [
        (18, archive.clone(), &[N(LAST)][..]),
        (21, bytes(&pieces), &asked),
        (23, bytes(&[Raw(&frame(&archive)), N(0)]), &[N(LAST)]),
    ] {
        let (added, heard) = adding(minor, says, (1, false));
        assert_eq!(added.unwrap(), 1, "{minor}");
        assert!(heard == [head.clone(), archive].concat(), "{minor}");
    }
    let (added, heard) = adding(32, &[N(LAST)], (2, false));
    assert_eq!(added.unwrap(), 2);
    let expected = bytes(&[
        N(44),
        N(0),
        N(1),
        Raw(&frame(&[&2_u64.to_le_bytes()[..], &info].concat())),
        Raw(&frame(&archive)),
        Raw(&frame(&info)),
        Raw(&frame(&archive)),
        N(0),
    ]);
    assert!(heard == expected);
}

#[test]
fn a_daemon_that_fails_in_the_middle_is_heard_and_told_the_end() {
    let says = [
        N(NEXT),
        T("x"),
        N(ERROR),
        T("Error"),
        N(0),
        T(""),
        T("lacks a signature"),
        N(0),
        N(0),
        N(LAST),
        N(0),
    ];
    let (mut worker, heard) = worker(34, &says, true);
    let info = info().to_path_info(&StoreDir::new("/s"));
    let mut open = |_: &PathInfo| -> io::Result<Box<dyn Read>> {
        Ok(Box::new(io::Cursor::new(archive("hello"))))
    };
    let added = worker.add(&[info], Signatures::Checked, &mut open, &mut |_| {
        panic!("it was not added");
    });
    let (kind, reason) = fault(added);
    assert_eq!(
        (kind, &*reason),
        (Kind::Refused, "it says: lacks a signature")
    );
    // The connection is good for another question.
    let mut answers = Vec::new();
    let asked = worker.infos(&[path(B)], &mut |_, found| answers.push(told(&found)));
    assert!(asked.is_ok());
    assert_eq!(answers, ["nothing"]);
    let heard = heard.take();
    let tail = bytes(&[N(0), N(26), T(B)]);
    assert!(heard.ends_with(&tail));
    // One that ends well before it was told all is out of step.
    assert_eq!(fault(adding(34, &[N(LAST)], (2, true)).0).0, Kind::Protocol);
}
