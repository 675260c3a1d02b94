//! Clients of the collector's socket that don't behave, beside one that does.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use super::super::{HashPart, Server, Shared, Told};
use super::{Desk, LINE_MAX, PER_USER};
use crate::Layout;
use crate::layout::tests::{scratch, store_path};

struct Scene {
    _dir: tempfile::TempDir,
    layout: Layout,
    shared: Arc<Shared>,
    server: Option<Server>,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let shared = Arc::new(Shared::default());
        let server = Server::start(&layout, Arc::clone(&shared)).unwrap();
        Self {
            _dir: directory,
            layout,
            shared,
            server: Some(server),
        }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.layout.gc_socket()).unwrap()
    }

    fn part(&self, number: usize) -> HashPart {
        *self.layout.hash_part(&store_path(number)).unwrap()
    }

    /// Tells a root as Nix does, and expects it to be kept from then on.
    #[track_caller]
    fn serves(&self, number: usize) {
        let mut client = self.connect();
        client
            .write_all((store_path(number) + "\n").as_bytes())
            .unwrap();
        let mut answer = [0];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"1");
        assert_eq!(self.shared.begin(&[Some(self.part(number))]), [false]);
    }
}

/// Whether the other side has closed a connection, waiting for it.
fn is_closed(mut stream: &UnixStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Sends roots until no more are taken.
fn flood(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    let lines = (store_path(7) + "\n").repeat(100);
    let mut full = 0;
    // The other side may have been about to read.
    while full < 3 {
        match stream.write(lines.as_bytes()) {
            Ok(_) => full = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                full += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn who_never_reads_holds_up_nobody() {
    let mut scene = Scene::new();
    let deaf: Vec<UnixStream> = (0..3).map(|_| scene.connect()).collect();
    deaf.iter().for_each(flood);
    scene.serves(1);
    drop(scene.server.take());
    // What is there to be read are answers only.
    for mut stream in deaf {
        stream.set_nonblocking(false).unwrap();
        let mut answers = Vec::new();
        let read = stream.read_to_end(&mut answers);
        assert!(read.is_ok() || read.is_err_and(|it| it.kind() == ErrorKind::ConnectionReset));
        assert!(!answers.is_empty() && answers.iter().all(|&answer| answer == b'1'));
    }
}

#[test]
fn who_connects_again_and_again_loses_his_oldest_connections() {
    let scene = Scene::new();
    let silent: Vec<UnixStream> = (0..PER_USER + 20).map(|_| scene.connect()).collect();
    scene.serves(1);
    for stream in &silent[..20] {
        assert!(is_closed(stream));
    }
    let mut last = silent.last().unwrap();
    last.write_all((store_path(2) + "\n").as_bytes()).unwrap();
    last.read_exact(&mut [0]).unwrap();
    assert_eq!(scene.shared.begin(&[Some(scene.part(2))]), [false]);
}

#[test]
fn of_connections_accepted_in_one_turn_the_oldest_make_room() {
    let scene = Scene::new();
    let path = scene.layout.gc_socket().with_file_name("another");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut desk = Desk {
        layout: &scene.layout,
        shared: &scene.shared,
        clients: Vec::new(),
        turn: 0,
    };
    let silent: Vec<UnixStream> = (0..PER_USER + 20)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    desk.accept(&listener, usize::MAX);
    for (number, stream) in silent.iter().enumerate() {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(is_closed(stream), number < 20, "{number}");
    }
}

#[test]
fn a_line_without_an_end_ends_its_connection() {
    let scene = Scene::new();
    let mut endless = scene.connect();
    let mut slow = scene.connect();
    slow.write_all(b"/nix/sto").unwrap();
    let sent = endless.write_all(&[b'x'; LINE_MAX + 1]);
    assert!(sent.is_ok() || sent.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe));
    assert!(is_closed(&endless));
    scene.serves(1);
    slow.write_all(&store_path(2).as_bytes()[8..]).unwrap();
    slow.write_all(b"\n").unwrap();
    slow.read_exact(&mut [0]).unwrap();
}

#[test]
fn answers_keep_their_order_and_wait_for_deletions() {
    let scene = Scene::new();
    assert_eq!(scene.shared.begin(&[Some(scene.part(1))]), [true]);
    let lines = format!("{}\n{}\n", store_path(1), store_path(2));
    let mut client = scene.connect();
    client.write_all(lines.as_bytes()).unwrap();
    // Another one gives up.
    let mut gone = scene.connect();
    gone.write_all(lines.as_bytes()).unwrap();
    drop(gone);
    scene.serves(3);
    client.set_nonblocking(true).unwrap();
    let nothing: io::Result<usize> = client.read(&mut [0]);
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::WouldBlock);
    client.set_nonblocking(false).unwrap();
    scene.shared.end(Some(scene.part(1)));
    client.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(scene.shared.begin(&[Some(scene.part(2))]), [false]);
}

#[test]
fn what_was_sent_before_the_end_is_answered() {
    for _ in 0..20 {
        let mut scene = Scene::new();
        let mut clients: Vec<UnixStream> = (0..10).map(|_| scene.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client
                .write_all((store_path(number) + "\n").as_bytes())
                .unwrap();
        }
        // Most are not accepted yet.
        drop(scene.server.take());
        for (number, client) in clients.iter_mut().enumerate() {
            client.read_exact(&mut [0]).unwrap();
            assert_eq!(scene.shared.begin(&[Some(scene.part(number))]), [false]);
            assert!(is_closed(client));
        }
        assert!(UnixStream::connect(scene.layout.gc_socket()).is_err());
    }
}

#[test]
fn strangers_can_not_fill_the_memory() {
    let shared = Shared::default();
    let part = |number: usize| {
        let mut part = [b'0'; 32];
        part[..8].copy_from_slice(&number.to_le_bytes());
        part
    };
    for number in 0..super::super::STRANGERS_ROOTS {
        assert_eq!(shared.add_root(part(number), true), Told::Kept);
    }
    let more = part(super::super::STRANGERS_ROOTS);
    assert_eq!(shared.add_root(more, true), Told::Refused);
    assert_eq!(shared.add_root(part(0), true), Told::Kept);
    assert_eq!(shared.add_root(more, false), Told::Kept);
}
