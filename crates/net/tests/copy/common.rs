//! What the tests share: a store with paths, and a cache that a server serves.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use windrow_components::hash::sha256;
use windrow_components::store_path::StoreDir;
use windrow_net::client::{self, Limits};
use windrow_net::copy::{BinaryCache, Config, CopyError, Event, Outcome, copy};
use windrow_net::lookup::Ttl;
use windrow_net::narinfo::NarInfo;
use windrow_net::store_url::StoreUrl;
use windrow_net::testing::Server;
use windrow_store::local::LocalStore;
use windrow_store::{DatabaseOptions, Layout, PathInfo};

/// A store, a directory that is or becomes a cache, and a server for that.
pub(crate) struct Scene {
    pub(crate) dir: TempDir,
    pub(crate) store: LocalStore,
    pub(crate) server: Server,
    /// What was told, one line each.
    pub(crate) told: RefCell<Vec<String>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let layout = Layout {
            store_dir: "/nix/store".to_owned(),
            real_store_dir: at("store"),
            state_dir: at("state"),
            log_dir: at("log"),
        };
        layout.create_directories(None, true).unwrap();
        fs::create_dir(at("cache")).unwrap();
        fs::create_dir(at("scratch")).unwrap();
        let store = LocalStore::open(layout, &DatabaseOptions::default()).unwrap();
        let server = Server::start(&at("cache"));
        Self {
            dir,
            store,
            server,
            told: RefCell::default(),
        }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds a path of that name, a file with that number of bytes that can't be compressed.
    pub(crate) fn add(&mut self, name: &str, size: usize, references: &[&str]) -> String {
        self.add_tree(name, references, |path| {
            fs::write(path, noise(name, size)).unwrap()
        })
    }

    pub(crate) fn add_tree(
        &mut self,
        name: &str,
        references: &[&str],
        make: impl FnOnce(&Path),
    ) -> String {
        let store_dir = StoreDir::new("/nix/store");
        let path = store_dir
            .text_path(name, &sha256(name.as_bytes()), [])
            .unwrap();
        let path = store_dir.display(&path);
        make(&self.real(&path));
        let mut references: Vec<String> = references.iter().map(|it| (*it).to_owned()).collect();
        references.push(path.clone());
        references.sort();
        let mut info = PathInfo {
            path: path.clone(),
            nar_hash: [0; 32],
            nar_size: 0,
            registration_time: 0,
            deriver: None,
            references,
            ultimate: false,
            sigs: Vec::new(),
            ca: None,
        };
        self.store.take_in(&mut info, true).unwrap();
        self.store.register_paths(vec![info]).unwrap();
        path
    }

    /// Where a path lies.
    pub(crate) fn real(&self, path: &str) -> PathBuf {
        self.store.layout().real_path(path)
    }

    /// Three paths, each of which refers to the one before, and the middle one is the largest.
    pub(crate) fn chain(&mut self) -> [String; 3] {
        let low = self.add("low", 2000, &[]);
        let middle = self.add("middle", 300_000, &[&low]);
        let high = self.add("high", 50_000, &[&middle]);
        [low, middle, high]
    }

    pub(crate) fn config(&self) -> Config {
        let moment = Duration::from_millis(1);
        Config {
            client: client::Config {
                limits: Limits {
                    attempts: 3,
                    retry_delay: moment,
                    retry_delay_rate_limited: moment,
                    ..Limits::default()
                },
                ..client::Config::default()
            },
            store_dir: StoreDir::new("/nix/store"),
            lookup_dir: Some(self.at("lookup")),
            ttl: Ttl::default(),
            scratch_dir: self.at("scratch"),
        }
    }

    /// The address of the cache, without compression, and with more parameters.
    pub(crate) fn url(&self, more: &str) -> String {
        format!("{}?compression=none{more}", self.server.url())
    }

    /// Copies the closure of these paths.
    pub(crate) fn copy(&self, url: &str, roots: &[&str]) -> Result<Outcome, CopyError> {
        let paths = self.store.database.closure(roots.iter().copied()).unwrap();
        self.copy_only(url, paths)
    }

    pub(crate) fn copy_only(&self, url: &str, paths: Vec<PathInfo>) -> Result<Outcome, CopyError> {
        let url = StoreUrl::parse(url).unwrap();
        let mut cache = BinaryCache::open(&url, &self.config())?;
        self.told.borrow_mut().clear();
        let outcome = copy(&mut cache, paths, self.store.layout(), &mut |event| {
            let name = |info: &PathInfo| info.path.rsplit('-').next().unwrap().to_owned();
            let line = match event {
                Event::Compared { missing, there, .. } => {
                    format!("{missing} missing, {there} there")
                }
                Event::Begun(path) => format!("begun {}", name(path)),
                Event::Copied { path, .. } => format!("copied {}", name(path)),
                Event::Failed { path, error } => format!("failed {}: {error}", name(path)),
                Event::Warning(text) => format!("warning: {text}"),
            };
            self.told.borrow_mut().push(line);
        });
        let scratch = fs::read_dir(self.at("scratch")).unwrap().count();
        assert_eq!(scratch, 0, "temporary files are left");
        outcome
    }

    /// What was told that begins like this.
    pub(crate) fn told(&self, start: &str) -> Vec<String> {
        let told = self.told.borrow();
        told.iter()
            .filter_map(|line| Some(line.strip_prefix(start)?.trim().to_owned()))
            .collect()
    }

    /// What the cache says of a path, if it knows it.
    pub(crate) fn narinfo(&self, path: &str) -> Option<NarInfo> {
        let part = &path["/nix/store/".len()..][..32];
        let text = fs::read(self.at("cache").join(format!("{part}.narinfo"))).ok()?;
        Some(NarInfo::parse(&text, &StoreDir::new("/nix/store"), part).unwrap())
    }

    /// What was uploaded, in that order, as the server sees it.
    pub(crate) fn uploads(&self) -> Vec<String> {
        let puts = self.server.requests().into_iter();
        puts.filter(|seen| seen.method == "PUT")
            .map(|seen| seen.path)
            .collect()
    }

    /// Where in a cache a path's narinfo and archive are, as a server sees it.
    pub(crate) fn places(&self, path: &str) -> (String, String) {
        let info = self.narinfo(path).unwrap();
        let part = info.store_path.hash_part().to_owned();
        (format!("/{part}.narinfo"), format!("/{}", info.url))
    }
}

/// Bytes of which no part is like another one.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(1_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}
