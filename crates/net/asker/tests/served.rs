//! Stores that a Nix serves: a script in its place, which says what was written down for it.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;

use windrow_components::hash::HashAlgo;
use windrow_store::wire::{push_number, push_text, push_texts};

use super::*;

/// A scene, and the asker of a script.
struct Served {
    scene: Scene,
    nar: Vec<u8>,
}

/// The archive of a file.
fn archive(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let words = ["nix-archive-1", "(", "type", "regular", "contents"];
    let words = words.into_iter().chain([text, ")"]);
    words.for_each(|word| push_text(&mut out, word));
    out
}

impl Served {
    fn new() -> Self {
        let scene = Scene {
            silence: Duration::from_secs(60),
            ..Scene::new()
        };
        let nar = archive(&"contents ".repeat(50_000));
        Self { scene, nar }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.scene.dir.path().join(name)
    }

    /// What `nix-store --serve` of that version greets with.
    fn greeting(version: u64) -> Vec<u8> {
        let mut out = Vec::new();
        push_number(&mut out, 0x5452_eecb);
        push_number(&mut out, version);
        out
    }

    /// What it says of the path "a", and that it lacks others.
    fn info(&self) -> Vec<u8> {
        let dir = StoreDir::new("/s");
        let mut info = NarInfo {
            store_path: path('a'),
            url: String::new(),
            compression: crate::compression::Compression::None,
            file_hash: None,
            file_size: None,
            nar_hash: HashAlgo::Sha256.hash(&self.nar),
            nar_size: self.nar.len() as u64,
            references: Vec::new(),
            deriver: None,
            sigs: Vec::new(),
            ca: None,
        };
        info.sign(std::slice::from_ref(&self.scene.key), &dir);
        let mut out = Vec::new();
        push_text(&mut out, &dir.display(&info.store_path));
        push_text(&mut out, "");
        push_number(&mut out, 0);
        push_number(&mut out, 0);
        push_number(&mut out, info.nar_size);
        push_text(&mut out, &info.nar_hash.prefixed_base32());
        push_text(&mut out, "");
        push_texts(&mut out, &info.sigs);
        push_text(&mut out, "");
        out
    }

    /// A script that says this, and then does that.
    fn program(&self, says: &[&[u8]], then: &str) -> std::path::PathBuf {
        fs::write(self.file("says"), says.concat()).unwrap();
        let script = format!(
            "#!/bin/sh\necho $$ >> {0}/started\ncat {0}/says\n{then}\n",
            self.scene.dir.path().display()
        );
        let program = self.file("program");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    /// Asks such a script.
    fn asker(&self, says: &[&[u8]], then: &str) -> Asker {
        self.asker_of(&self.program(says, then), "")
    }

    fn asker_of(&self, program: &Path, parameters: &str) -> Asker {
        let program = program.display();
        let url = format!("ssh://localhost?remote-program={program}{parameters}");
        self.scene.asker_of(&url)
    }

    /// The processes that were started.
    fn started(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("started")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn downloads(&self) -> usize {
        fs::read_dir(self.file("downloads")).map_or(0, Iterator::count)
    }
}

/// Waits until there are as many.
#[track_caller]
fn await_count(wanted: usize, count: impl Fn() -> usize) {
    let begun = std::time::Instant::now();
    while count() != wanted {
        assert!(begun.elapsed() < LIMIT, "{} instead of {wanted}", count());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What is known of "a", by the answer.
fn info_in(asker: &Asker) -> Arc<NarInfo> {
    loop {
        match asker.wait(LIMIT).expect("an answer") {
            Answer::Has { info, .. } => return info,
            Answer::Opened { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn wish(info: &Arc<NarInfo>) -> Wish {
    Wish {
        token: 1,
        cache: 0,
        info: Arc::clone(info),
        received: Arc::default(),
    }
}

#[test]
fn many_are_asked_for_and_downloaded_on_one_connection() {
    let served = Served::new();
    let says = [&Served::greeting(0x207)[..], &served.info(), &served.nar];
    let asker = served.asker(&says, "cat > /dev/null");
    asker.ask(0, vec![question('b'), question('a'), question('c')]);
    let mut told = answers(&asker, 4);
    assert_eq!(told.remove(0), "opened 0");
    told.sort();
    assert_eq!(told, ["has a", "lacks b", "lacks c"]);
    drop(asker);
    let asker = served.asker(&says, "cat > /dev/null");
    asker.ask(0, vec![question('a')]);
    let info = info_in(&asker);
    assert_eq!(info.file_size, Some(served.nar.len() as u64));
    asker.download(wish(&info));
    let Some(Answer::Downloaded { result, .. }) = asker.wait(LIMIT) else {
        panic!("something else has come");
    };
    let archive = result.unwrap();
    let archive = archive.open().unwrap().unwrap();
    let mut reader = archive.reader(info.compression).unwrap();
    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut found).unwrap();
    assert!(found == served.nar);
    archive.discard();
    assert_eq!((served.downloads(), served.started().len()), (0, 2));
}

#[test]
fn an_archive_that_is_cut_is_tried_once_more_and_leaves_nothing() {
    let served = Served::new();
    let cut = &served.nar[..300_000];
    let says = [&Served::greeting(0x207)[..], &served.info(), cut];
    let asker = served.asker(&says, "echo no more to say >&2; exit 3");
    asker.ask(0, vec![question('a')]);
    asker.download(wish(&info_in(&asker)));
    // On the new connection something else comes in its place.
    let told = answers(&asker, 1);
    assert!(told[0].starts_with("not downloaded: "), "{told:?}");
    assert!(told[0].contains("the archive is damaged"), "{told:?}");
    // The file goes once the answer is on its way.
    await_count(0, || served.downloads());
    assert_eq!(served.started().len(), 2);
}

#[test]
fn one_that_does_not_serve_is_dead_or_of_no_use() {
    let served = Served::new();
    let of = |asker: Asker| {
        asker.ask(0, vec![question('a')]);
        answers(&asker, 1).remove(0)
    };
    let told = of(served.asker(&[b"Welcome to this machine\n"], "cat > /dev/null"));
    let expected = "failed a Dead: cannot use 'ssh://localhost?";
    assert!(told.starts_with(expected), "{told}");
    assert!(told.contains("'Welcome to this machine'"), "{told}");
    let told = of(served.asker(&[], "echo no such host >&2; exit 255"));
    assert!(told.starts_with(expected), "{told}");
    let reason = "no connection could be made (exit status: 255): no such host";
    assert!(told.ends_with(reason), "{told}");
    let told = of(served.asker(&[&Served::greeting(0x200)], "cat > /dev/null"));
    assert!(told.starts_with("useless: "), "{told}");
    assert!(told.contains("older than 2.0"), "{told}");
    let told = of(served.asker_of(Path::new("/no/such/program"), ""));
    assert!(told.starts_with("useless: "), "{told}");
    assert!(told.contains("cannot start '/no/such/program'"), "{told}");
}

#[test]
fn one_that_is_silent_is_given_up_and_ends() {
    let mut served = Served::new();
    served.scene.silence = Duration::from_secs(2);
    for says in [&[][..], &[&Served::greeting(0x207)[..]]] {
        let asker = served.asker(says, "exec sleep 300");
        asker.ask(0, vec![question('a'), question('b')]);
        let mut told = answers(&asker, 1 + says.len());
        let told = told.pop().unwrap();
        let expected = "failed ab Dead: it has not answered for 2 seconds";
        assert_eq!(told, expected);
        // Whoever is still connected is so no more.
        drop(asker);
    }
    let started = served.started();
    assert_eq!(started.len(), 2);
    for pid in started {
        assert!(!Path::new("/proc").join(&pid).exists(), "{pid} lives on");
    }
}

#[test]
fn there_are_as_many_connections_as_there_may_be() {
    let served = Served::new();
    let whole = [&Served::greeting(0x207)[..], &served.info()];
    let asker = served.asker(&whole, "cat > /dev/null");
    asker.ask(0, vec![question('a')]);
    let info = info_in(&asker);
    drop(asker);
    // From now on there is no answer to anything.
    for most in [1, 2] {
        fs::remove_file(served.file("started")).unwrap();
        let program = served.program(&whole[..1], "exec sleep 300");
        let asker = served.asker_of(&program, &format!("&max-connections={most}"));
        asker.ask(0, vec![question('a')]);
        assert_eq!(answers(&asker, 1), ["opened 0"]);
        for token in [1, 2, 3] {
            asker.download(Wish {
                token,
                ..wish(&info)
            });
        }
        await_count(most, || served.started().len());
        drop(asker);
        assert_eq!(served.started().len(), most);
        assert_eq!(served.downloads(), 0);
    }
}

#[test]
fn a_download_that_nobody_wants_any_more_ends() {
    let served = Served::new();
    let cut = &served.nar[..300_000];
    let says = [&Served::greeting(0x207)[..], &served.info(), cut];
    let asker = served.asker(&says, "exec sleep 300");
    asker.ask(0, vec![question('a')]);
    let info = info_in(&asker);
    let wish = wish(&info);
    let received = Arc::clone(&wish.received);
    asker.download(wish);
    // From the moment when something has come it is more than queued.
    await_count(1, || received.load(Ordering::Relaxed).min(1) as usize);
    asker.cancel(1, Left::Kept);
    await_count(0, || served.downloads());
    assert!(asker.is_empty());
    // The connection went with it, and there is a new one for what comes next.
    asker.ask(0, vec![question('a')]);
    info_in(&asker);
    assert_eq!(served.started().len(), 2);
}

#[test]
fn a_download_that_is_called_off_before_it_begins_leaves_the_queue() {
    let served = Served::new();
    let cut = &served.nar[..300_000];
    let says = [&Served::greeting(0x207)[..], &served.info(), cut];
    let asker = served.asker(&says, "exec sleep 300");
    asker.ask(0, vec![question('a')]);
    let info = info_in(&asker);
    // The first one has the only connection, and does not end.
    for token in [1, 2, 3] {
        asker.download(Wish {
            token,
            ..wish(&info)
        });
    }
    await_count(3, || served.downloads());
    asker.cancel(2, Left::Kept);
    await_count(2, || served.downloads());
    asker.cancel(3, Left::Discarded);
    await_count(1, || served.downloads());
    assert!(asker.is_empty());
}
