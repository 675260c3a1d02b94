//! Binary caches: windrow beside nix-store, of the machine and a newer one, on the same cache; and
//! beside what does nothing but download and unpack.
//!
//!     cargo bench --bench side_by_side -- caches [PART…] [N]
//!
//! PART is `file`, `http`, `latency`, `dead`, `dry-run` or `large`; N is the number of paths, or
//! for `large` of MiB. Where files lie decides much: TMPDIR says where.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use windrow::components::hash::{Hash, sha256};
use windrow::components::store_path::{StoreDir, StorePath};
use windrow_net::cache_info::CacheInfo;
use windrow_net::compression::{Compression, encoder};
use windrow_net::lookup::{Lookup, Ttl};
use windrow_net::narinfo::NarInfo;
use windrow_net::testing::{Behaviour, Server};
use windrow_store::nar;

use crate::common::{
    Cost, Scratch, have, measuring, median, named, numbers, ratio, row, run, shared,
};

const PARTS: [&str; 6] = ["file", "http", "latency", "dead", "dry-run", "large"];

/// The round-trip time of a distant cache.
const FAR: Duration = Duration::from_millis(50);

pub(crate) fn run_all() {
    if !have("nix-store") {
        println!("skipped: needs nix-store");
        return;
    }
    let all = !PARTS.into_iter().any(named);
    let wanted = |part: &str| all || named(part);
    let count = |full: usize| numbers(&[if measuring() { full } else { 20 }])[0];
    let newer = newer_nix_store();
    let nixes: Vec<&str> = ["nix-store"].into_iter().chain(newer.as_deref()).collect();
    if wanted("file") {
        let closure = Closure::new(count(1000), 2);
        let url = format!("file://{}", closure.cache().display());
        closure.compare("from a directory", &url, &nixes, "at least 8, newer 5");
    }
    if wanted("http") {
        let closure = Closure::new(count(1000), 2);
        let server = Server::start(&closure.cache());
        closure.compare("by HTTP", &server.url(), &nixes, "at least 8, newer 5");
    }
    if wanted("latency") {
        let closure = Closure::new(count(1000), 20);
        // By HTTP/1.1 each of the 25 connections could ask once in 50 ms: that alone takes 4 s.
        let server = far(&closure);
        closure.compare("20 deep, 50 ms away", &server.url(), &nixes, "under 3 s");
    }
    if wanted("dead") {
        dead(count(1000));
    }
    if wanted("dry-run") {
        dry_run(count(100_000));
    }
    if wanted("large") {
        large(count(1024));
    }
}

/// A server for a closure by HTTP/2 that answers as if it were far away.
fn far(closure: &Closure) -> Server {
    let server = Server::start_tls(&closure.cache(), true);
    server.behave("*", Behaviour::Latency(FAR));
    let certificate = closure.scratch.path().join("certificate");
    fs::copy(server.ca_file(), certificate).expect("a file");
    server
}

/// The newer Nix that the shared directory's tool brings, if it is there and works.
fn newer_nix_store() -> Option<String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("newer-nix");
    let mut bring = Command::new(shared("tools/newer-nix")?);
    let status = bring.arg("sid").arg(&directory).output().ok()?.status;
    let program = directory.join("bin/nix-store").to_str()?.to_owned();
    status.success().then_some(program)
}

/// Paths that a cache has, and a store of theirs that has none.
struct Closure {
    scratch: Scratch,
    top: String,
    count: usize,
}

impl Closure {
    /// A path that refers to `count` others, each of them a small file, in `depth` levels.
    fn new(count: usize, depth: usize) -> Self {
        let scratch = Scratch::new();
        let cache = scratch.path().join("cache");
        fs::create_dir_all(cache.join("nar")).expect("a directory");
        let store = store_dir(&scratch);
        let info = format!("StoreDir: {store}\nWantMassQuery: 1\nPriority: 40\n");
        fs::write(cache.join(CacheInfo::NAME), info).expect("a file");
        let file = scratch.path().join("file");
        let mut top = None;
        for (path, references) in layers(&store, count, depth) {
            let mut text = format!("{path:?}\n");
            for reference in &references {
                let _ = writeln!(text, "{}", store.display(reference));
            }
            fs::write(&file, text).expect("a file");
            publish(&cache, &store, (path.clone(), references), &file);
            top = Some(path);
        }
        let top = store.display(&top.expect("a path"));
        Self {
            scratch,
            top,
            count: count + 1,
        }
    }

    fn cache(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }

    /// A program that fetches all from caches into an empty store, and remembers nothing.
    fn fetch(&self, program: &str, urls: &str) -> Cost {
        start_over(&self.scratch);
        let cost = run(&mut asking(&self.scratch, program, urls, &self.top));
        assert!(Path::new(&self.top).exists(), "{program} has fetched");
        cost
    }

    /// windrow beside others, taking turns.
    fn compare(&self, what: &str, url: &str, others: &[&str], bound: &str) {
        let programs: Vec<&str> = [WINDROW].iter().chain(others).copied().collect();
        let mut costs = vec![Vec::new(); programs.len()];
        for _ in 0..rounds() {
            for (program, costs) in programs.iter().zip(&mut costs) {
                costs.push(self.fetch(program, url));
            }
        }
        let costs: Vec<Cost> = costs.into_iter().map(median).collect();
        for (program, &cost) in programs.iter().zip(&costs) {
            row(&format!("{}: {what}", version(program)), self.count, cost);
        }
        for (program, &cost) in programs.iter().zip(&costs).skip(1) {
            ratio(
                &format!("{} / windrow", version(program)),
                cost,
                costs[0],
                bound,
            );
        }
    }
}

const WINDROW: &str = env!("CARGO_BIN_EXE_windrow");

fn rounds() -> usize {
    if measuring() { 5 } else { 1 }
}

fn store_dir(scratch: &Scratch) -> StoreDir {
    StoreDir::new(scratch.path().join("store").to_str().expect("text"))
}

/// What a program calls itself.
fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = String::from_utf8(output.expect("a program").stdout).expect("text");
    text.trim().replace("nix-store (Nix)", "Nix")
}

/// Empties the store, and forgets what caches have said.
fn start_over(scratch: &Scratch) {
    for name in ["store", "state", "home"] {
        let directory = scratch.path().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).expect("a directory");
    }
}

/// Has a program realise a path from caches.
fn asking(scratch: &Scratch, program: &str, urls: &str, path: &str) -> Command {
    let mut command = scratch.command(program);
    if program == WINDROW {
        command.arg("nix-store");
    }
    command.args(["--realise", path]);
    for (name, value) in [
        ("substituters", urls),
        ("substitute", "true"),
        ("require-sigs", "false"),
    ] {
        command.args(["--option", name, value]);
    }
    command.env("HOME", scratch.path().join("home"));
    let certificate = scratch.path().join("certificate");
    if certificate.exists() {
        command.env("NIX_SSL_CERT_FILE", certificate);
    }
    command
}

/// Paths in `depth` levels, each referring to four of the level below; the last one refers to all.
fn layers(store: &StoreDir, count: usize, depth: usize) -> Vec<(StorePath, Vec<StorePath>)> {
    let path = |number: usize| {
        let hash = sha256(&number.to_le_bytes());
        let path = store.text_path(&format!("path{number}"), &hash, []);
        path.expect("a path")
    };
    let paths: Vec<StorePath> = (0..=count).map(path).collect();
    let width = count.div_ceil(depth - 1).max(1);
    let mut all = Vec::with_capacity(count + 1);
    for (number, path) in paths[..count].iter().enumerate() {
        let level = number / width;
        let mut references: Vec<StorePath> = Vec::new();
        if level > 0 {
            let below = (0..4).map(|nth| (level - 1) * width + (number + nth * 7) % width);
            references.extend(below.map(|number| paths[number].clone()));
        }
        references.sort();
        references.dedup();
        all.push((path.clone(), references));
    }
    let mut rest = paths[..count].to_vec();
    rest.sort();
    all.push((paths[count].clone(), rest));
    all
}

/// Puts a file into a cache as the contents of a path.
fn publish(
    cache: &Path,
    store: &StoreDir,
    (path, references): (StorePath, Vec<StorePath>),
    file: &Path,
) {
    let (hash, size) = nar::digest::hash_nar(file).expect("a NAR");
    let name = format!("nar/{}.nar.xz", path.hash_part());
    let target = fs::File::create(cache.join(&name)).expect("a file");
    let mut encoder = encoder(Compression::Xz, None, 1, target).expect("an encoder");
    nar::dump(file, &mut encoder).expect("a NAR");
    encoder.finish().expect("a file");
    let info = NarInfo {
        store_path: path,
        url: name,
        compression: Compression::Xz,
        file_hash: None,
        file_size: None,
        nar_hash: Hash::sha256(&hash),
        nar_size: size,
        references,
        deriver: None,
        sigs: Vec::new(),
        ca: None,
    };
    write_narinfo(cache, store, &info);
}

fn write_narinfo(cache: &Path, store: &StoreDir, info: &NarInfo) {
    let file = cache.join(format!("{}.narinfo", info.store_path.hash_part()));
    fs::write(file, info.to_text(store)).expect("a file");
}

/// A cache that is down, or that takes questions and never answers, named before a good one that is
/// far away.
fn dead(count: usize) {
    let closure = Closure::new(count, 20);
    let server = far(&closure);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    let alone = || closure.fetch(WINDROW, &server.url());
    for (what, dead) in [("down", "http://127.0.0.1:9"), ("silent", &silent)] {
        let urls = format!("{dead} {}", server.url());
        let (mut one, mut both) = (Vec::new(), Vec::new());
        for _ in 0..rounds() {
            one.push(alone());
            both.push(closure.fetch(WINDROW, &urls));
        }
        let (one, both) = (median(one), median(both));
        row("windrow: one good cache", closure.count, one);
        row(
            &format!("windrow: and one that is {what}"),
            closure.count,
            both,
        );
        ratio("both / good", both, one, "at most 1.1");
    }
}

/// What is to be fetched of a large closure, when it is remembered what the cache has.
fn dry_run(count: usize) {
    let closure = Closure::new(1, 2);
    let server = Server::start(&closure.cache());
    let store = store_dir(&closure.scratch);
    start_over(&closure.scratch);
    let remembered = closure.scratch.path().join("home/.cache/nix");
    fs::create_dir_all(&remembered).expect("a directory");
    let paths = layers(&store, count, 20);
    let top = store.display(&paths[count].0);
    let infos = paths.into_iter().map(|(path, references)| NarInfo {
        url: format!("nar/{}.nar.xz", path.hash_part()),
        store_path: path,
        compression: Compression::Xz,
        file_hash: Some(Hash::sha256(&[7; 32])),
        file_size: Some(1000),
        nar_hash: Hash::sha256(&[9; 32]),
        nar_size: 5000,
        references,
        deriver: None,
        sigs: Vec::new(),
        ca: None,
    });
    let infos: Vec<NarInfo> = infos.collect();
    {
        let mut lookup = Lookup::open(&remembered, &store, Ttl::default());
        let cache = lookup.put_cache(&server.url(), &CacheInfo::default());
        let known = infos.iter();
        let known = known.map(|info| (info.store_path.hash_part(), Some(info)));
        lookup.put(&cache, &known.collect::<Vec<_>>());
    }
    let (mut ours, mut nix) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        for (program, costs) in [(WINDROW, &mut ours), ("nix-store", &mut nix)] {
            let mut command = asking(&closure.scratch, program, &server.url(), &top);
            costs.push(run(command.arg("--dry-run")));
        }
    }
    assert_eq!(server.count("*.narinfo"), 0, "all is remembered");
    let (ours, nix) = (median(ours), median(nix));
    row("windrow: --dry-run, warm", count, ours);
    row("Nix: --dry-run, warm", count, nix);
    ratio("Nix / windrow", nix, ours, "under 1 s");
}

/// One large path, beside programs that do nothing but download and unpack it.
fn large(mib: usize) {
    if !["curl", "xz", "zstd"].into_iter().all(have) {
        return println!("skipped: needs curl, xz and zstd");
    }
    let closure = Closure::new(1, 2);
    let cache = closure.cache();
    let scratch = &closure.scratch;
    let file = scratch.path().join("file");
    fs::write(&file, half_random(mib << 20)).expect("a file");
    let packed = scratch.path().join("large.nar");
    let target = fs::File::create(&packed).expect("a file");
    let mut target = std::io::BufWriter::new(target);
    nar::dump(&file, &mut target).expect("a NAR");
    drop(target);
    let server = Server::start(&cache);
    let out = scratch.path().join("out");
    let by_name = [
        (Compression::Xz, "xz -T0 -1", "xz", "at most 1"),
        (Compression::Zstd, "zstd -T0 -3", "zst", "at most 1.2"),
    ];
    for (compression, pack, extension, bound) in by_name {
        let archive = format!("nar/large.nar.{extension}");
        let place = cache.join(&archive);
        shell(&format!(
            "{pack} -q -c {} > {}",
            packed.display(),
            place.display()
        ));
        let path = publish_packed(&closure, &file, (compression, archive.clone()));
        let url = server.url();
        let by_hand = match compression {
            Compression::Xz => format!("curl -s {url}/{archive} | xz -dcT0 > {}", out.display()),
            _ => format!("zstd -q -d -f {} -o {}", place.display(), out.display()),
        };
        let from = match compression {
            Compression::Xz => url,
            _ => format!("file://{}", cache.display()),
        };
        let (mut ours, mut nix, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds() {
            for (program, costs) in [(WINDROW, &mut ours), ("nix-store", &mut nix)] {
                start_over(scratch);
                costs.push(run(&mut asking(scratch, program, &from, &path)));
            }
            start_over(scratch);
            let _ = fs::remove_file(&out);
            plain.push(run(Command::new("sh").args(["-c", &by_hand])));
        }
        let (ours, nix, plain) = (median(ours), median(nix), median(plain));
        let name = compression.to_string();
        row(&format!("windrow: {mib} MiB of {name}"), 1, ours);
        row(&format!("Nix: {mib} MiB of {name}"), 1, nix);
        row(&by_hand[..4], 1, plain);
        ratio("windrow / by hand", ours, plain, bound);
        ratio("Nix / windrow", nix, ours, "none");
    }
}

fn shell(command: &str) {
    run(Command::new("sh").args(["-c", command]));
}

/// Names a file that was packed in a cache; gives its path.
fn publish_packed(
    closure: &Closure,
    file: &Path,
    (compression, url): (Compression, String),
) -> String {
    let store = store_dir(&closure.scratch);
    let (hash, size) = nar::digest::hash_nar(file).expect("a NAR");
    let path = store.text_path(&format!("large-{compression}"), &hash, []);
    let path = path.expect("a path");
    let info = NarInfo {
        store_path: path.clone(),
        url,
        compression,
        file_hash: None,
        file_size: None,
        nar_hash: Hash::sha256(&hash),
        nar_size: size,
        references: Vec::new(),
        deriver: None,
        sigs: Vec::new(),
        ca: None,
    };
    write_narinfo(&closure.cache(), &store, &info);
    store.display(&path)
}

/// Bytes of which about half can be packed away, as in programs.
fn half_random(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 64);
    let mut state = 1_u64;
    while bytes.len() < size {
        // xorshift64: any will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(b"\x48\x89\xe5\x48\x83\xec\x10\x00");
    }
    bytes.truncate(size);
    bytes
}
