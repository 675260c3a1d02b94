//! Both protocols byte by byte, with what other sides of every age say, and what none should.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use windrow_components::hash::HashAlgo;
use windrow_store::wire::{push_number, push_text, push_texts};
use windrow_sys::mutex::lock;

use super::wire::Transport;
use super::*;

mod daemon;
mod serving;

/// The other side: what it says, and what it hears.
struct Script {
    says: io::Cursor<Vec<u8>>,
    heard: Arc<Mutex<Vec<u8>>>,
    /// Whether all that it says has come before it is waited for.
    is_here: bool,
    /// Where it waits for a word in between, in bytes.
    pause: u64,
}

impl Read for Script {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // In odd pieces.
        let mut most = into.len().min(37);
        if let left @ 1.. = self.pause.saturating_sub(self.says.position()) {
            most = most.min(left as usize);
        }
        self.says.read(&mut into[..most])
    }
}

impl Transport for Script {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.heard).extend_from_slice(bytes);
        Ok(())
    }

    fn has_input(&mut self) -> io::Result<bool> {
        Ok(self.is_here && self.says.position() < self.says.get_ref().len() as u64)
    }

    fn set_limit(&mut self, _limit: Duration) {}
}

/// What the other side has heard.
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// All since this was last asked.
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.0))
    }
}

fn wire(says: Vec<u8>, is_here: bool) -> (Wire, Heard) {
    wire_with_pause(says, is_here, 0)
}

fn wire_with_pause(says: Vec<u8>, is_here: bool, pause: usize) -> (Wire, Heard) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let script = Script {
        says: io::Cursor::new(says),
        heard: Arc::clone(&heard),
        is_here,
        pause: pause as u64,
    };
    (
        Wire::new(Box::new(script), StoreDir::new("/s")),
        Heard(heard),
    )
}

/// A part of what is said.
enum Part<'a> {
    N(u64),
    T(&'a str),
    L(&'a [&'a str]),
    Raw(&'a [u8]),
}
use Part::{L, N, Raw, T};

fn bytes(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            N(number) => push_number(&mut out, *number),
            T(text) => push_text(&mut out, text),
            L(texts) => push_texts(&mut out, texts),
            Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
    out
}

const A: &str = "/s/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-a";
const B: &str = "/s/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-b";
const DRV: &str = "/s/cccccccccccccccccccccccccccccccc-a.drv";

fn path(text: &str) -> StorePath {
    StoreDir::new("/s").parse(text).unwrap()
}

/// The archive of a file with that text.
fn archive(text: &str) -> Vec<u8> {
    let words = ["nix-archive-1", "(", "type", "regular", "contents"];
    let words = words.into_iter().chain([text, ")"]);
    let parts: Vec<Part<'_>> = words.map(T).collect();
    bytes(&parts)
}

fn nar_hash() -> windrow_components::hash::Hash {
    HashAlgo::Sha256.hash(&archive("hello"))
}

/// What is said of A.
fn info() -> NarInfo {
    NarInfo {
        store_path: path(A),
        url: A[3..].to_owned(),
        compression: crate::compression::Compression::None,
        file_hash: None,
        file_size: Some(120),
        nar_hash: nar_hash(),
        nar_size: 120,
        references: vec![path(A), path(B)],
        deriver: Some(path(DRV)),
        sigs: vec!["k:1".to_owned(), "k:2".to_owned()],
        ca: None,
    }
}

/// What comes of questions, in short.
fn told(result: &Result<Option<NarInfo>, Fault>) -> String {
    match result {
        Ok(None) => "nothing".to_owned(),
        Ok(Some(found)) if *found == info() => "A as it is".to_owned(),
        Ok(Some(found)) => format!("{found:?}"),
        Err(fault) => fault.reason.clone(),
    }
}

fn fault<T>(result: Result<T, Fault>) -> (Kind, String) {
    match result {
        Ok(_) => panic!("it has succeeded"),
        Err(fault) => (fault.kind, fault.reason),
    }
}

#[test]
fn colours_are_taken_away() {
    assert_eq!(plain("\x1b[31;1merror:\x1b[0m x\x1b"), "error: x");
    assert_eq!(plain("a\x1b[31"), "a");
}

fn archives(says: Vec<u8>) -> Result<(Vec<u8>, u64), Fault> {
    let (mut wire, _) = wire(says, false);
    let mut archive = Vec::new();
    let received = nar::receive(&mut wire, 120, &mut archive);
    received.map_err(|failure| failure.fault)?;
    Ok((archive, wire.number()?))
}

#[test]
fn an_archive_ends_where_it_says() {
    let whole = archive("hello");
    assert_eq!(whole.len(), 120);
    let says = bytes(&[Raw(&whole), N(7)]);
    assert_eq!(archives(says).unwrap(), (whole.clone(), 7));
    let (kind, reason) = fault(archives(whole[..100].to_vec()));
    assert_eq!(kind, Kind::Reset, "{reason}");
    let (kind, reason) = fault(archives(archive("hello, world")));
    assert_eq!(kind, Kind::TooLarge, "{reason}");
    let (kind, reason) = fault(archives(archive("")));
    assert_eq!(kind, Kind::Short, "{reason}");
    let (kind, reason) = fault(archives(b"error: no such path, sorry about that".to_vec()));
    assert_eq!(kind, Kind::Protocol, "{reason}");
}

#[test]
fn a_full_disk_is_no_fault_of_the_connection() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (mut wire, _) = wire(archive("hello"), false);
    let received = nar::receive(&mut wire, 120, &mut Full);
    let (kind, reason) = fault(received.map_err(|failure| failure.fault));
    assert_eq!(kind, Kind::Io);
    assert!(reason.contains("cannot write it"), "{reason}");
}

#[test]
fn no_question_is_about_more_paths_than_an_answer_may_have() {
    let name = |at: usize| format!("/s/{at:032}-x");
    let names: Vec<String> = (0..100_001).map(name).collect();
    let paths: Vec<StorePath> = names.iter().map(|name| path(name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let answers = names.chunks(5000).map(|names| bytes(&[L(names)]));
    let says = answers.collect::<Vec<_>>().concat();
    let greeting = bytes(&[N(0x5452_eecb), N(2 << 8 | 7)]);
    let (wire, heard) = wire([greeting, says].concat(), false);
    let serve = Serve::greet(wire).unwrap_or_else(|fault| panic!("{}", fault.reason));
    let mut peer = Peer {
        protocol: Protocol::Serve(serve),
        reach: Reach::default(),
        shown: "ssh://h".to_owned(),
        limits: Limits::default(),
        broken: false,
    };
    heard.take();
    let mixed: Vec<StorePath> = paths.iter().rev().cloned().collect();
    assert_eq!(peer.valid_paths(&mixed[..5000]).unwrap().len(), 5000);
    assert_eq!(
        heard.take(),
        bytes(&[N(1), N(1), N(0), L(&names[95_001..])])
    );
    assert_eq!(peer.valid_paths(&paths[5000..]).unwrap(), paths[5000..]);
}

proptest! {
    #[test]
    fn nothing_that_is_said_panics(
        daemon in any::<bool>(),
        minor in 0_u64..40,
        numbers in prop::collection::vec(prop_oneof![0_u64..4, any::<u64>()], 0..40),
        junk in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let greeting = match daemon {
            true => [0x6478_696f, 1 << 8 | minor],
            false => [0x5452_eecb, 2 << 8 | minor],
        };
        let parts: Vec<Part<'_>> = greeting.into_iter().chain(numbers).map(N).collect();
        let says = bytes(&[Raw(&bytes(&parts)), Raw(&junk)]);
        let dir = StoreDir::new("/s");
        let heard = fuzzing::hear(&says, daemon, &dir, &[path(A), path(B)]);
        prop_assert!(heard.failed.is_some() || heard.told.len() == 2);
    }
}
