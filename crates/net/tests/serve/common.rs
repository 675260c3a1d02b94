//! A store that is served by this process, and a client that sends what it is told to.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;
use windrow_components::signing_key::SecretKey;
use windrow_components::store_path::StorePath;
use windrow_net::narinfo::NarInfo;
use windrow_net::serve::{Answered, Event, Limits, Offer, Packing, Server, Stopper};
use windrow_store::local::LocalStore;
use windrow_store::{DatabaseOptions, Layout, nar};

/// How long anything may take before a test calls it stuck.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A store in a directory of its own.
pub(crate) struct Scene {
    dir: TempDir,
    pub(crate) layout: Layout,
    pub(crate) store: LocalStore,
    pub(crate) key: SecretKey,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        let layout = Layout {
            store_dir: "/nix/store".to_owned(),
            real_store_dir: at("store"),
            state_dir: at("state"),
            log_dir: at("log"),
        };
        layout.create_directories(None, false).unwrap();
        let store = LocalStore::open(layout.clone(), &DatabaseOptions::default()).unwrap();
        Self {
            dir,
            layout,
            store,
            key: SecretKey::from_seed("test-1", &[7; 32]),
        }
    }

    /// Adds a path of that name, in which `plant` puts what it likes.
    pub(crate) fn add(&mut self, name: &str, plant: impl FnOnce(&Path)) -> StorePath {
        let source = self.dir.path().join(name);
        plant(&source);
        let path = self.store.add_source(&source, name).unwrap();
        let _ = fs::remove_file(&source).or_else(|_| fs::remove_dir_all(&source));
        path
    }

    /// Adds a directory with this number of files, which differ.
    pub(crate) fn add_dir(&mut self, name: &str, files: usize) -> StorePath {
        self.add(name, |dir| {
            fs::create_dir(dir).unwrap();
            for file in 0..files {
                let text = format!("{name} {file}\n").repeat(file % 7 * 100);
                fs::write(dir.join(format!("f{file}")), text).unwrap();
            }
        })
    }

    /// Adds a file of this number of bytes, all of them zero.
    pub(crate) fn add_file(&mut self, name: &str, size: u64) -> StorePath {
        self.add(name, |file| {
            fs::File::create(file).unwrap().set_len(size).unwrap();
        })
    }

    /// Where a path lies.
    pub(crate) fn place(&self, path: &StorePath) -> PathBuf {
        self.layout.real_store_dir.join(path.base_name())
    }

    /// The archive of a path.
    pub(crate) fn archive(&self, path: &StorePath) -> Vec<u8> {
        let mut archive = Vec::new();
        nar::dump(&self.place(path), &mut archive).unwrap();
        archive
    }

    pub(crate) fn serve(&self, packing: Packing) -> Served {
        self.serve_with(packing, Limits::default())
    }

    pub(crate) fn serve_with(&self, packing: Packing, limits: Limits) -> Served {
        let offer = Offer {
            layout: self.layout.clone(),
            read_only: false,
            keys: vec![self.key.clone()],
            priority: 30,
            packing,
        };
        let heard = Arc::new(Heard::default());
        let told = Arc::clone(&heard);
        let notice = Arc::new(move |event: &Event<'_>| match event {
            Event::Answered(answered) => told.answered.lock().unwrap().push((*answered).clone()),
            Event::Trouble(text) => told.troubles.lock().unwrap().push((*text).to_owned()),
        });
        let server = Server::bind("127.0.0.1:0", offer, limits, notice).unwrap();
        Served {
            address: server.address(),
            heard,
            stopper: server.stopper(),
            thread: Some(std::thread::spawn(move || server.run())),
        }
    }
}

#[derive(Default)]
struct Heard {
    answered: Mutex<Vec<Answered>>,
    troubles: Mutex<Vec<String>>,
}

/// A server; it ends when this is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    heard: Arc<Heard>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Connects to it. Nothing that is read or written takes for ever.
    pub(crate) fn connect(&self) -> TcpStream {
        self.connect_from("127.0.0.1")
    }

    /// Connects to it as the client at another address of this machine.
    pub(crate) fn connect_from(&self, client: &str) -> TcpStream {
        let connect = async {
            let socket = TcpSocket::new_v4().unwrap();
            socket
                .bind(SocketAddr::new(client.parse().unwrap(), 0))
                .unwrap();
            socket.connect(self.address).await.unwrap().into_std()
        };
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        let stream = runtime.block_on(connect).unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Asks for that with these headers, each with its line's end.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> Got {
        let mut stream = self.connect();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Got::read(&mut BufReader::new(stream), method == "HEAD")
    }

    pub(crate) fn get(&self, path: &str) -> Got {
        self.ask("GET", path, "")
    }

    /// What it says of a path.
    pub(crate) fn narinfo(&self, path: &StorePath) -> NarInfo {
        let dir = windrow_components::store_path::StoreDir::new("/nix/store");
        let got = self.get(&format!("/{}.narinfo", path.hash_part()));
        assert_eq!(got.status, 200, "{}", got.text());
        NarInfo::parse(&got.body, &dir, path.hash_part()).unwrap()
    }

    /// What was answered, once that is what `wanted` looks for.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Answered) -> bool) -> Answered {
        let begun = Instant::now();
        loop {
            let found = self.heard.answered.lock().unwrap();
            if let Some(found) = found.iter().find(|answered| wanted(answered)) {
                return found.clone();
            }
            assert!(begun.elapsed() < LIMIT, "no such answer: {found:?}");
            drop(found);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it complains of that: clients may be cut before.
    pub(crate) fn wait_for_trouble(&self, text: &str) {
        let begun = Instant::now();
        while !self.troubles().iter().any(|trouble| trouble.contains(text)) {
            assert!(
                begun.elapsed() < LIMIT,
                "nothing of {text}: {:?}",
                self.troubles()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has complained of.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.heard.troubles.lock().unwrap().clone()
    }

    /// Tells it to end.
    pub(crate) fn tell_to_end(&self) {
        self.stopper.stop();
    }

    /// Waits until it has ended.
    pub(crate) fn end(&mut self) {
        self.tell_to_end();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tell_to_end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether all came that was announced.
    pub(crate) is_whole: bool,
}

impl Got {
    /// Reads an answer, and what follows it no further than must be.
    pub(crate) fn read(from: &mut BufReader<TcpStream>, is_head: bool) -> Self {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let first = lines.first().expect("an answer");
        let status = first.split(' ').nth(1).expect("a status");
        let split = |line: &String| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let mut got = Self {
            status: status.parse().unwrap(),
            headers: lines[1..].iter().map(split).collect(),
            body: Vec::new(),
            is_whole: true,
        };
        if is_head {
            return got;
        }
        if got.header("transfer-encoding") == Some("chunked") {
            got.is_whole = read_chunks(from, &mut got.body);
        } else {
            let length: u64 = got.header("content-length").unwrap().parse().unwrap();
            let read = from.take(length).read_to_end(&mut got.body);
            got.is_whole = read.is_ok() && got.body.len() as u64 == length;
        }
        got
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads a body in chunks; whether its end came.
fn read_chunks(from: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> bool {
    loop {
        let mut line = String::new();
        let Ok(1..) = from.read_line(&mut line) else {
            return false;
        };
        let size = u64::from_str_radix(line.trim_end(), 16).expect("a size");
        let before = body.len() as u64;
        let read = from.by_ref().take(size).read_to_end(body);
        if read.is_err() || body.len() as u64 - before != size {
            return false;
        }
        let mut end = [0; 2];
        if from.read_exact(&mut end).is_err() {
            return false;
        }
        if size == 0 {
            return true;
        }
    }
}
