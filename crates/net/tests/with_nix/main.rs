//! Caches that a real Nix writes and reads, and the file with answers that both keep.

mod peers;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use windrow_components::hash::HashAlgo;
use windrow_components::signing_key::SecretKey;
use windrow_components::store_path::StoreDir;
use windrow_net::cache_info::CacheInfo;
use windrow_net::compression::{Compression, decoder, encoder};
use windrow_net::listing::Listing;
use windrow_net::lookup::{Known, Lookup, Ttl};
use windrow_net::narinfo::NarInfo;
use windrow_net::trust::Trust;
use windrow_net::unpack::unpack;
use windrow_store::nar::dump;
use windrow_sys::interrupt::Stop;
use windrow_sys::tree::delete_path;

fn store() -> StoreDir {
    StoreDir::new("/nix/store")
}

/// A directory with a Nix that touches nothing else; none, with a word about it, if there is no
/// Nix.
struct Nix {
    directory: TempDir,
}

impl Nix {
    fn new() -> Option<Self> {
        let version = Command::new("nix").arg("--version").output();
        if !version.is_ok_and(|it| it.status.success()) {
            println!("skipped: there is no Nix here");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("conf")).unwrap();
        let settings = "experimental-features = nix-command\nbuild-users-group =\nsandbox = false\n\
            substituters =\nconnect-timeout = 5\ndownload-attempts = 1\n";
        fs::write(directory.path().join("conf/nix.conf"), settings).unwrap();
        Some(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new("nix");
        command.args(arguments).stdin(Stdio::null());
        for (name, place) in [
            ("HOME", "home"),
            ("XDG_CACHE_HOME", "cache"),
            ("NIX_CONF_DIR", "conf"),
            ("NIX_STATE_DIR", "state"),
            ("NIX_LOG_DIR", "log"),
        ] {
            command.env(name, self.path(place));
        }
        command.env_remove("NIX_REMOTE").output().unwrap()
    }

    /// What a command prints.
    fn output(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Adds a tree with something of everything to a store of its own; the store and the path.
    fn add(&self) -> (String, String) {
        let tree = self.path("tree");
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("bin/run"), "#!/bin/sh\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(tree.join("bin/run"), mode).unwrap();
        fs::write(tree.join("data"), "data ".repeat(60_000)).unwrap();
        std::os::unix::fs::symlink("bin/run", tree.join("link")).unwrap();
        let store = self.path("store").to_str().unwrap().to_owned();
        let tree = tree.to_str().unwrap();
        let path = self.output(&["store", "add-path", "--store", &store, tree]);
        (store, path.trim().to_owned())
    }

    /// Writes a path and what it refers to into a cache.
    fn copy_to(&self, cache: &Path, parameters: &str, store: &str, path: &str) {
        let url = format!("file://{}?{parameters}", cache.display());
        self.output(&[
            "copy",
            "--no-check-sigs",
            "--to",
            &url,
            "--store",
            store,
            path,
        ]);
    }
}

fn hash_part(path: &str) -> &str {
    &path["/nix/store/".len()..][..32]
}

fn narinfo(cache: &Path, path: &str) -> (Vec<u8>, NarInfo) {
    let part = hash_part(path);
    let text = fs::read(cache.join(format!("{part}.narinfo"))).unwrap();
    let info = NarInfo::parse(&text, &store(), part).unwrap();
    assert_eq!(store().display(&info.store_path), path);
    (text, info)
}

/// Unpacks what a cache has of a path, and returns its archive.
fn fetched(cache: &Path, info: &NarInfo) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x");
    let file = BufReader::new(fs::File::open(cache.join(&info.url)).unwrap());
    let source = decoder(info.compression, file).unwrap();
    unpack(source, info, &target, &Stop::default()).unwrap();
    let mut archive = Vec::new();
    dump(&target, &mut archive).unwrap();
    archive
}

#[test]
fn what_nix_writes_is_read() {
    let Some(nix) = Nix::new() else { return };
    let (from, path) = nix.add();
    let key = SecretKey::from_seed("key-1", &[7; 32]);
    fs::write(nix.path("key"), key.secret_text()).unwrap();
    let key_file = nix.path("key");
    for compression in Compression::ALL {
        let cache = nix.path(&format!("cache-{compression}"));
        let parameters = format!(
            "compression={compression}&write-nar-listing=true&secret-key={}",
            key_file.display()
        );
        nix.copy_to(&cache, &parameters, &from, &path);
        let (text, info) = narinfo(&cache, &path);
        assert_eq!(info.compression, compression);
        assert_eq!(info.to_text(&store()).into_bytes(), text);
        let file = fs::read(cache.join(&info.url)).unwrap();
        assert_eq!(info.file_size, Some(file.len() as u64));
        assert_eq!(info.file_hash, Some(HashAlgo::Sha256.hash(&file)));
        assert!(
            info.url
                .ends_with(&format!(".nar{}", compression.extension()))
        );
        let archive = fetched(&cache, &info);
        let listing = fs::read(cache.join(format!("{}.ls", hash_part(&path)))).unwrap();
        let listing = Listing::parse(&listing).unwrap();
        assert_eq!(Listing::of_nar(&mut &archive[..]).unwrap(), listing);
        let trust = Trust {
            store_dir: store(),
            keys: vec![key.public()],
            require_sigs: true,
        };
        let unaddressed = NarInfo {
            ca: None,
            ..info.clone()
        };
        trust.check(&unaddressed, false).unwrap();
        trust.check(&info, false).unwrap();
        let said = fs::read(cache.join(CacheInfo::NAME)).unwrap();
        let said = CacheInfo::parse(&said).unwrap();
        assert_eq!(said.store_dir.as_deref(), Some("/nix/store"));
    }
}

#[test]
fn what_is_written_here_nix_reads_and_believes() {
    let Some(nix) = Nix::new() else { return };
    let (from, path) = nix.add();
    let key = SecretKey::from_seed("key-1", &[7; 32]);
    let theirs = nix.path("theirs");
    nix.copy_to(&theirs, "compression=none", &from, &path);
    let (_, info) = narinfo(&theirs, &path);
    let archive = fetched(&theirs, &info);
    for compression in Compression::ALL {
        let cache = nix.path(&format!("ours-{compression}"));
        fs::create_dir_all(cache.join("nar")).unwrap();
        let said = CacheInfo {
            store_dir: Some("/nix/store".to_owned()),
            want_mass_query: true,
            priority: 30,
        };
        fs::write(cache.join(CacheInfo::NAME), said.to_string()).unwrap();
        let mut encoder = encoder(compression, None, 2, Vec::new()).unwrap();
        encoder.write_all(&archive).unwrap();
        let packed = encoder.finish().unwrap();
        let file_hash = HashAlgo::Sha256.hash(&packed);
        let url = format!("nar/{}.nar{}", file_hash.base32(), compression.extension());
        fs::write(cache.join(&url), &packed).unwrap();
        // Without its content address only the signature speaks for it.
        let mut ours = NarInfo {
            url,
            compression,
            file_hash: Some(file_hash),
            file_size: Some(packed.len() as u64),
            sigs: Vec::new(),
            ca: None,
            ..info.clone()
        };
        let write = |info: &NarInfo| {
            let name = format!("{}.narinfo", hash_part(&path));
            fs::write(cache.join(name), info.to_text(&store())).unwrap();
        };
        let to = nix.path(&format!("store-{compression}"));
        let to = to.to_str().unwrap();
        let url = format!("file://{}", cache.display());
        let keys = key.public_text();
        let copy = [
            "copy",
            "--option",
            "trusted-public-keys",
            &keys,
            "--from",
            &url,
            "--store",
        ];
        let copy = [&copy[..], &[to, &path]].concat();
        write(&ours);
        assert!(
            !nix.run(&copy).status.success(),
            "{compression}: it is not signed"
        );
        ours.sign(std::slice::from_ref(&key), &store());
        write(&ours);
        nix.output(&copy);
        let mut again = Vec::new();
        dump(&Path::new(to).join(&path[1..]), &mut again).unwrap();
        assert!(again == archive, "{compression}");
    }
}

#[test]
fn a_path_that_nix_made_content_addressed_is_checked_by_its_own_rules() {
    let Some(nix) = Nix::new() else { return };
    let store_dir = nix.path("store").to_str().unwrap().to_owned();
    // A path with itself in it, which no build is needed for.
    let before = format!("/nix/store/{}-itself", "b".repeat(32));
    let tree = nix.path("itself");
    fs::write(&tree, format!("exec {before}/bin/x or {before}\n")).unwrap();
    let mut archive = Vec::new();
    dump(&tree, &mut archive).unwrap();
    let itself = store().parse(&before).unwrap();
    let info = NarInfo {
        store_path: itself.clone(),
        url: "itself.nar".to_owned(),
        compression: Compression::None,
        file_hash: None,
        file_size: None,
        nar_hash: HashAlgo::Sha256.hash(&archive),
        nar_size: archive.len() as u64,
        references: vec![itself],
        deriver: None,
        sigs: Vec::new(),
        ca: None,
    };
    let ours = nix.path("ours");
    fs::create_dir(&ours).unwrap();
    fs::write(ours.join(CacheInfo::NAME), "StoreDir: /nix/store\n").unwrap();
    fs::write(ours.join(&info.url), &archive).unwrap();
    let name = format!("{}.narinfo", hash_part(&before));
    fs::write(ours.join(name), info.to_text(&store())).unwrap();
    let url = format!("file://{}", ours.display());
    nix.output(&[
        "copy",
        "--no-check-sigs",
        "--from",
        &url,
        "--store",
        &store_dir,
        &before,
    ]);
    let made = nix.output(&[
        "store",
        "make-content-addressed",
        "--store",
        &store_dir,
        "--json",
        &before,
    ]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let path = made["rewrites"][&before].as_str().unwrap().to_owned();
    let cache = nix.path("cache");
    nix.copy_to(&cache, "compression=zstd", &store_dir, &path);
    let (_, info) = narinfo(&cache, &path);
    assert!(info.other_references().1, "{info:?}");
    let nobody = Trust {
        store_dir: store(),
        keys: Vec::new(),
        require_sigs: true,
    };
    nobody.check(&info, false).unwrap();
    let text = fetched(&cache, &info);
    assert!(text.windows(32).any(|it| it == hash_part(&path).as_bytes()));
}

/// Serves the files of a directory on loopback; its URL.
fn serve(directory: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut request = String::new();
            if reader.read_line(&mut request).is_err() {
                continue;
            }
            let mut line = String::from("x");
            while line.trim() != "" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            let name = request
                .split(' ')
                .nth(1)
                .unwrap_or("/")
                .trim_start_matches('/');
            let body = fs::read(directory.join(name));
            let status = if body.is_ok() {
                "200 OK"
            } else {
                "404 Not Found"
            };
            let body = body.unwrap_or_default();
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let body = if request.starts_with("HEAD") {
                Vec::new()
            } else {
                body
            };
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = reader.read_to_end(&mut Vec::new());
        }
    });
    url
}

#[test]
fn answers_that_nix_kept_are_known() {
    let Some(nix) = Nix::new() else { return };
    let (from, path) = nix.add();
    let cache = nix.path("bc");
    nix.copy_to(&cache, "compression=xz", &from, &path);
    let (_, info) = narinfo(&cache, &path);
    fs::write(
        cache.join(CacheInfo::NAME),
        "StoreDir: /nix/store\nPriority: 7\n",
    )
    .unwrap();
    let url = serve(cache);
    let missing = format!("/nix/store/{}-no", "a".repeat(32));
    nix.output(&["path-info", "--store", &url, &path]);
    nix.run(&["path-info", "--store", &url, &missing]);
    let mut lookup = Lookup::open(&nix.path("cache/nix"), &store(), Ttl::default());
    let Some(row) = lookup.cache(&url) else {
        println!("skipped: this Nix keeps its answers in another file");
        return;
    };
    assert_eq!((row.info.priority, row.info.want_mass_query), (7, false));
    let parts = [hash_part(&path), hash_part(&missing), &"b".repeat(32)];
    let expected = [
        Known::Present(Box::new(info)),
        Known::Absent,
        Known::Unknown,
    ];
    assert_eq!(lookup.narinfos(&row, &parts), expected);
    assert_eq!(lookup.take_warnings(), [""; 0]);
}

#[test]
fn answers_that_are_kept_here_nix_knows_without_asking() {
    let Some(nix) = Nix::new() else { return };
    let (from, path) = nix.add();
    let cache = nix.path("bc");
    nix.copy_to(&cache, "compression=xz", &from, &path);
    let (_, info) = narinfo(&cache, &path);
    // Nobody listens there any more.
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let missing = format!("/nix/store/{}-no", "a".repeat(32));
    let ask = |path: &str| nix.run(&["path-info", "--store", &url, "--json", path]);
    assert!(!ask(&path).status.success());
    let mut lookup = Lookup::open(&nix.path("cache/nix"), &store(), Ttl::default());
    let said = CacheInfo {
        store_dir: Some("/nix/store".to_owned()),
        ..CacheInfo::default()
    };
    let row = lookup.put_cache(&url, &said);
    let answers = [(hash_part(&path), Some(&info)), (hash_part(&missing), None)];
    lookup.put(&row, &answers);
    drop(lookup);
    let known = ask(&path);
    if !known.status.success()
        && !nix
            .path("cache/nix/binary-cache-v6.sqlite-journal")
            .exists()
    {
        println!("skipped: this Nix keeps its answers in another file");
        return;
    }
    let text = String::from_utf8(known.stdout).unwrap();
    assert!(text.contains(&info.url), "{text}");
    assert!(text.contains(&info.nar_hash.sri()), "{text}");
    let absent = ask(&missing);
    let errors = String::from_utf8_lossy(&absent.stderr);
    assert!(!errors.contains("unable to download"), "{errors}");
    for path in ["store", "state", "cache"] {
        let _ = delete_path(&nix.path(path));
    }
}
