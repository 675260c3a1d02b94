//! Downloads: they go on where they were cut, in the same run and in the next one, and never end
//! with bytes of two versions.

use std::sync::mpsc::channel;
use std::time::Duration;

use windrow_components::hash::HashAlgo;
use windrow_net::client::{Client, Config};
use windrow_net::error::Kind;
use windrow_net::remote::{Expected, Partial};
use windrow_net::testing::Behaviour;

use crate::common::{Served, bytes, config, contents, open, partial, reopen};

/// Names a part of a file.
const NAR: &str = "nar/x.nar";

fn served(length: usize) -> (Served, Vec<u8>) {
    let served = Served::new();
    let bytes = bytes(length);
    served.file(NAR, &bytes);
    (served, bytes)
}

fn once() -> Config {
    let mut config = config();
    config.limits.attempts = 1;
    config
}

/// What was asked for in each request: the range and the version.
fn ranges(served: &Served) -> Vec<(Option<String>, bool)> {
    let requests = served.server.requests().into_iter();
    requests
        .map(|seen| {
            let range = seen.header("range").map(str::to_owned);
            (range, seen.header("if-range").is_some())
        })
        .collect()
}

#[test]
fn all_of_it_comes_and_is_counted() {
    for length in [0, 1, 300_000] {
        let (served, bytes) = served(length);
        let (_dir, partial) = partial();
        let (send, told) = channel();
        let progress = move |so_far| send.send(so_far).unwrap();
        let done =
            served
                .remote(config())
                .download_now(NAR, partial, Some(length as u64), progress);
        let done = done.unwrap();
        assert_eq!(done.length(), length as u64);
        assert!(contents(done) == bytes);
        let told: Vec<u64> = told.iter().collect();
        assert!(told.is_sorted());
        assert_eq!(told.last().copied().unwrap_or(0), length as u64);
    }
}

#[test]
fn what_was_cut_goes_on_in_the_next_attempt() {
    let (served, bytes) = served(300_000);
    for expected in [Some(300_000), None] {
        let (_dir, partial) = partial();
        served.server.forget();
        served
            .server
            .behave_times(2, "/nar/*", Behaviour::Reset(100_000));
        let done = served
            .remote(config())
            .download_now(NAR, partial, expected, drop);
        assert!(contents(done.unwrap()) == bytes);
        let ranges = ranges(&served);
        assert_eq!(ranges[0], (None, false));
        assert_eq!(ranges[1], (Some("bytes=100000-".to_owned()), true));
        assert_eq!(ranges[2], (Some("bytes=200000-".to_owned()), true));
    }
}

#[test]
fn what_was_cut_goes_on_in_the_next_run_and_elsewhere() {
    let (served, bytes) = served(300_000);
    let other = Served::new();
    other.file(NAR, &bytes);
    for elsewhere in [false, true] {
        let (dir, partial) = partial();
        served
            .server
            .behave_times(1, "/nar/*", Behaviour::Reset(100_000));
        let remote = served.remote(once());
        let error = remote
            .download_now(NAR, partial, Some(300_000), drop)
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Reset, "{error}");
        let partial = reopen(&dir);
        assert_eq!(partial.length(), 100_000);
        let next = if elsewhere { &other } else { &served };
        next.server.forget();
        let done = next
            .remote(once())
            .download_now(NAR, partial, Some(300_000), drop);
        assert!(contents(done.unwrap()) == bytes);
        // Elsewhere nobody knows what this server called the version.
        let ranges = ranges(next);
        assert_eq!(ranges[0].0.as_deref(), Some("bytes=100000-"));
        if elsewhere {
            assert!(!ranges[0].1);
        }
    }
    // What is whole is not asked for.
    let (dir, partial) = partial();
    drop(
        served
            .remote(once())
            .download_now(NAR, partial, None, drop)
            .unwrap(),
    );
    served.server.forget();
    let done = served
        .remote(once())
        .download_now(NAR, reopen(&dir), Some(300_000), drop);
    assert!(contents(done.unwrap()) == bytes);
    assert!(served.server.requests().is_empty());
}

#[test]
fn a_download_that_is_cut_often_is_not_given_up_while_it_goes_on() {
    let (served, bytes) = served(9 << 20);
    served
        .server
        .behave_times(6, "/nar/*", Behaviour::Reset(3 << 19));
    let (_dir, partial) = partial();
    let mut config = config();
    config.limits.attempts = 2;
    let done = served
        .remote(config)
        .download_now(NAR, partial, Some(9 << 20), drop);
    assert!(contents(done.unwrap()) == bytes);
}

#[test]
fn servers_that_know_no_parts_are_asked_for_all() {
    let (served, bytes) = served(300_000);
    for behaviour in [
        Behaviour::NoRange,
        Behaviour::WrongRange,
        Behaviour::Status(416),
    ] {
        let (_dir, partial) = partial();
        served.server.behave_times(1, "/nar/*", behaviour.clone());
        served
            .server
            .behave_times(1, "/nar/*", Behaviour::Reset(100_000));
        let done = served
            .remote(config())
            .download_now(NAR, partial, Some(300_000), drop);
        assert!(contents(done.unwrap()) == bytes, "{behaviour:?}");
    }
}

#[test]
fn another_version_is_not_put_behind_the_first_one() {
    for length in [300_000, 250_000] {
        let (served, _) = served(300_000);
        let (dir, partial) = partial();
        served
            .server
            .behave_times(1, "/nar/*", Behaviour::Reset(100_000));
        served
            .remote(once())
            .download_now(NAR, partial, None, drop)
            .unwrap_err();
        let partial = reopen(&dir);
        assert_eq!(partial.length(), 100_000);
        let mut second = bytes(length);
        second.reverse();
        served.file(NAR, &second);
        let done = served
            .remote(once())
            .download_now(NAR, partial, None, drop)
            .unwrap();
        assert!(contents(done) == second);
    }
}

#[test]
fn parts_of_a_server_that_lies_spoil_nothing_for_another() {
    let (served, bytes) = served(300_000);
    let expected = Expected {
        size: Some(300_000),
        hash: Some(HashAlgo::Sha256.hash(&bytes)),
    };
    let liar = Served::new();
    for (there, ranges_of) in [(100_000, 2), (300_000, 1)] {
        liar.file(NAR, &vec![b'x'; 300_000]);
        let (dir, partial) = partial();
        if there < 300_000 {
            let cut = Behaviour::Reset(there);
            liar.server.behave_times(1, "/nar/*", cut);
        }
        // Whatever came in one piece is not looked at.
        let _ = liar
            .remote(once())
            .download_now(NAR, partial, expected, drop);
        assert_eq!(reopen(&dir).length(), there);
        served.server.forget();
        let done = served
            .remote(once())
            .download_now(NAR, reopen(&dir), expected, drop);
        assert!(contents(done.unwrap()) == bytes);
        let ranges = ranges(&served);
        assert_eq!(ranges.len(), ranges_of, "{ranges:?}");
        assert_eq!(ranges.last(), Some(&(None, false)), "afresh");
    }
    // Once: who sends what is wrong in two pieces is told of by whoever unpacks it.
    let (dir, partial) = partial();
    for _ in 0..2 {
        let cut = Behaviour::Reset(100_000);
        liar.server.behave_times(1, "/nar/*", cut);
    }
    liar.server.forget();
    let mut twice = once();
    twice.limits.attempts = 3;
    let done = liar
        .remote(twice)
        .download_now(NAR, partial, expected, drop);
    assert_eq!(contents(done.unwrap()), vec![b'x'; 300_000]);
    assert_eq!(ranges(&liar).len(), 4);
    drop(dir);
}

#[test]
fn sizes_that_are_wrong_are_errors_and_leave_nothing() {
    let (served, _) = served(300_000);
    for (behaviour, kind) in [
        (Behaviour::Short(1000), Kind::Short),
        (Behaviour::Long(1), Kind::TooLarge),
        (Behaviour::Endless, Kind::TooLarge),
        (Behaviour::Html, Kind::Short),
        (
            Behaviour::Header("content-encoding", "gzip".to_owned()),
            Kind::BadEncoding,
        ),
    ] {
        let (dir, partial) = partial();
        served.server.forget();
        served.server.behave("/nar/*", behaviour.clone());
        let result = served
            .remote(config())
            .download_now(NAR, partial, Some(300_000), drop);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind, "{behaviour:?}: {error}");
        assert_eq!(reopen(&dir).length(), 0);
    }
    // The other bytes are for the caller to find out, who has them fetched once more.
    served.server.behave_well();
    served.server.behave_times(1, "/nar/*", Behaviour::Wrong);
    let (_dir, partial) = partial();
    let remote = served.remote(config());
    let mut wrong = remote
        .download_now(NAR, partial, Some(300_000), drop)
        .unwrap();
    wrong.clear().unwrap();
    let done = remote
        .download_now(NAR, wrong, Some(300_000), drop)
        .unwrap();
    assert!(contents(done) == bytes(300_000));
}

#[test]
fn a_download_that_stands_still_goes_on_elsewhere_in_time() {
    let (served, bytes) = served(300_000);
    let mut config = config();
    config.limits.stalled_timeout = Duration::from_millis(200);
    for behaviour in [Behaviour::Stall(100_000), Behaviour::Hang] {
        let (_dir, partial) = partial();
        served.server.behave_times(2, "/nar/*", behaviour);
        let done = served
            .remote(config.clone())
            .download_now(NAR, partial, Some(300_000), drop);
        assert!(contents(done.unwrap()) == bytes);
    }
    let (_dir, partial) = partial();
    served.server.behave("/nar/*", Behaviour::Stall(0));
    let error = served
        .remote(config)
        .download_now(NAR, partial, Some(300_000), drop)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
}

#[test]
fn what_is_gone_or_in_use_is_told() {
    let served = Served::new();
    let (dir, partial) = partial();
    assert!(Partial::open(partial.path()).unwrap().is_none());
    let error = served
        .remote(config())
        .download_now("nar/y", partial, None, drop)
        .unwrap_err();
    assert!(error.is_absent() && error.kind() == Kind::Status(404));
    drop(reopen(&dir));
}

#[test]
fn a_download_that_is_called_off_leaves_its_file_free() {
    let (served, bytes) = served(300_000);
    served
        .server
        .behave("/nar/*", Behaviour::Drip(50_000, Duration::from_millis(5)));
    let client = Client::new(config()).unwrap();
    let remote = open(&served.server.url(), &client);
    let (dir, partial) = partial();
    let (tell, begun) = channel();
    let (send, answer) = channel();
    let progress = move |so_far| {
        // Nobody listens after the first.
        let _ = tell.send(so_far);
    };
    let done = move |result: Result<Partial, _>| send.send(result.map(drop)).unwrap();
    let ticket = remote.download(NAR, partial, Some(300_000), progress, done);
    begun.recv().unwrap();
    drop(ticket);
    assert_eq!(answer.recv().unwrap().unwrap_err().kind(), Kind::Cancelled);
    let partial = reopen(&dir);
    assert!(partial.length() > 0);
    served.server.behave_well();
    let done = remote
        .download_now(NAR, partial, Some(300_000), drop)
        .unwrap();
    assert!(contents(done) == bytes);
}

#[test]
fn a_hundred_downloads_at_a_time_keep_apart() {
    let served = Served::new();
    for n in 0..100 {
        served.file(&n.to_string(), &bytes(20_000 + n));
    }
    let client = Client::new(config()).unwrap();
    let remote = open(&served.server.url(), &client);
    let (send, answers) = channel();
    let begin = |n: usize| {
        let send = send.clone();
        let (dir, partial) = partial();
        let done = move |result: Result<Partial, _>| send.send((n, dir, result)).unwrap();
        let expected = Some(20_000 + n as u64);
        remote.download(&n.to_string(), partial, expected, drop, done)
    };
    let tickets: Vec<_> = (0..100).map(begin).collect();
    for _ in 0..100 {
        let (n, _dir, result) = answers.recv().unwrap();
        assert!(contents(result.unwrap()) == bytes(20_000 + n));
    }
    drop(tickets);
}
