//! What an asker makes of caches that answer, lie, fail and are silent.

use std::fs;
use std::path::Path;

use windrow_components::signing_key::SecretKey;
use windrow_components::store_path::StoreDir;

use super::*;
use crate::client::Limits;
use crate::testing::{Behaviour, Server};

mod served;

const LIMIT: Duration = Duration::from_secs(60);

/// A cache with one path, on a server, and who asks it.
struct Scene {
    dir: tempfile::TempDir,
    server: Server,
    key: SecretKey,
    /// How long the cache may say nothing.
    silence: Duration,
    /// How often, and for how long, it is asked one question.
    attempts: u32,
    deadline: Duration,
}

fn path(letter: char) -> StorePath {
    StorePath::from_base_name(&format!("{}-x", letter.to_string().repeat(32))).unwrap()
}

fn question(letter: char) -> Question {
    Question {
        token: letter as u32,
        path: path(letter),
    }
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join("nix-cache-info"), "StoreDir: /s\nPriority: 7\n").unwrap();
        fs::write(cache.join("a.nar"), "archive").unwrap();
        let key = SecretKey::from_seed("k", &[7; 32]);
        let server = Server::start(&cache);
        let scene = Self {
            dir,
            server,
            key,
            silence: LIMIT,
            attempts: 1,
            deadline: Duration::ZERO,
        };
        scene.write('a', Some(&scene.key));
        scene
    }

    fn cache(&self) -> std::path::PathBuf {
        self.dir.path().join("cache")
    }

    /// Writes the narinfo of a path, signed if there is a key.
    fn write(&self, letter: char, key: Option<&SecretKey>) {
        let text = format!(
            "StorePath: /s/{}\nURL: a.nar\nCompression: none\nFileSize: 7\nNarHash: sha256:{}\n\
             NarSize: 7\nReferences: \n",
            path(letter).base_name(),
            "0".repeat(52)
        );
        let dir = StoreDir::new("/s");
        let mut info = NarInfo::parse(text.as_bytes(), &dir, path(letter).hash_part()).unwrap();
        info.sign(key.map(std::slice::from_ref).unwrap_or_default(), &dir);
        let file = format!("{}.narinfo", path(letter).hash_part());
        fs::write(self.cache().join(file), info.to_text(&dir)).unwrap();
    }

    fn asker_of(&self, url: &str) -> Asker {
        let limits = Limits {
            attempts: self.attempts,
            deadline: self.deadline,
            retry_delay_rate_limited: Duration::from_millis(1),
            ..Limits::default()
        };
        let config = Config {
            client: client::Config {
                limits,
                ..client::Config::default()
            },
            trust: Trust {
                store_dir: StoreDir::new("/s"),
                keys: vec![self.key.public()],
                require_sigs: true,
            },
            lookup_dir: Some(self.dir.path().join("lookup")),
            ttl: Ttl::default(),
            downloads_dir: self.dir.path().join("downloads"),
            silence: self.silence,
        };
        Asker::new(config, vec![StoreUrl::parse(url).unwrap()], || {}).unwrap()
    }

    fn asker(&self) -> Asker {
        self.asker_of(&self.server.url())
    }
}

/// The next answers, in short.
fn answers(asker: &Asker, count: usize) -> Vec<String> {
    let next = |_| match asker.wait(LIMIT).expect("an answer") {
        Answer::Opened { priority, .. } => format!("opened {priority}"),
        Answer::Useless { reason, .. } => format!("useless: {reason}"),
        Answer::Has {
            token, remembered, ..
        } => format!(
            "has {}{}",
            letter(token),
            if remembered { " still" } else { "" }
        ),
        Answer::Lacks { token, .. } => format!("lacks {}", letter(token)),
        Answer::Distrusted { token, reason, .. } => format!("{}: {reason}", letter(token)),
        Answer::Failed {
            tokens,
            reason,
            failing,
            ..
        } => {
            let tokens: String = tokens.into_iter().map(letter).collect();
            format!("failed {tokens} {failing:?}: {reason}")
        }
        Answer::Downloaded { result, .. } => match result {
            Ok(archive) => format!("downloaded {}", matches!(archive, Archive::InPlace(_))),
            Err(error) => format!("not downloaded: {error}"),
        },
        Answer::Warning(text) => format!("warning: {text}"),
    };
    (0..count).map(next).collect()
}

fn letter(token: u32) -> char {
    char::from_u32(token).unwrap()
}

#[test]
fn answers_are_believed_if_they_are_signed_and_remembered_over_runs() {
    let scene = Scene::new();
    scene.write('b', None);
    let asker = scene.asker();
    asker.ask(0, ['a', 'b', 'c'].map(question).to_vec());
    let mut told = answers(&asker, 4);
    assert_eq!(told.remove(0), "opened 7");
    told.sort();
    assert_eq!(told, ["b: it is not signed", "has a", "lacks c"]);
    drop(asker);
    let asked = scene.server.count("*.narinfo");
    let asker = scene.asker();
    asker.ask(0, vec![question('a')]);
    assert_eq!(answers(&asker, 2), ["opened 7", "has a still"]);
    assert_eq!(scene.server.count("*.narinfo"), asked);
    // What has proved wrong is asked for again; what was lacking or not signed always is.
    asker.forget(0, path('a'));
    scene.write('b', Some(&scene.key));
    for letter in ['a', 'b', 'c'] {
        asker.ask(0, vec![question(letter)]);
        let expected = if letter == 'c' { "lacks" } else { "has" };
        assert_eq!(answers(&asker, 1), [format!("{expected} {letter}")]);
    }
}

#[test]
fn what_comes_one_by_one_is_written_down_together() {
    let changes = |letters: &str| {
        let scene = Scene::new();
        for letter in letters.chars() {
            scene.write(letter, Some(&scene.key));
        }
        let asker = scene.asker();
        asker.ask(0, letters.chars().map(question).collect());
        answers(&asker, 1 + letters.len());
        drop(asker);
        let asker = scene.asker();
        asker.ask(0, letters.chars().map(question).collect());
        let told = answers(&asker, 1 + letters.len());
        assert!(told[1..].iter().all(|answer| answer.ends_with("still")));
        // SQLite counts in its file how often that was changed.
        let file = fs::read(scene.dir.path().join("lookup/binary-cache-v6.sqlite")).unwrap();
        u32::from_be_bytes(file[24..28].try_into().unwrap())
    };
    assert_eq!(changes("abcdfghijklmnpqrsvwxyz"), changes("a"));
}

#[test]
fn one_that_owes_an_answer_and_says_nothing_is_dead() {
    let scene = Scene {
        silence: Duration::from_secs(2),
        ..Scene::new()
    };
    let asker = scene.asker();
    scene.server.behave("*", Behaviour::Hang);
    asker.ask(0, vec![question('a'), question('b')]);
    let told = answers(&asker, 1);
    assert!(
        told[0].starts_with("failed ab Dead: it has not answered for"),
        "{told:?}"
    );
    scene.server.behave_well();
    asker.ask(0, vec![question('a')]);
    assert_eq!(answers(&asker, 2), ["opened 7", "has a"]);
    scene.server.behave("*.narinfo", Behaviour::Hang);
    asker.ask(0, vec![question('b')]);
    let told = answers(&asker, 1);
    assert!(told[0].starts_with("failed b Dead"), "{told:?}");
}

#[test]
fn a_question_is_over_at_its_deadline_whatever_else_is_answered() {
    let scene = Scene {
        attempts: 100,
        deadline: Duration::from_secs(1),
        ..Scene::new()
    };
    let asker = scene.asker();
    let narinfo = format!("/{}.narinfo", path('a').hash_part());
    for behaviour in [Behaviour::Hang, Behaviour::Status(503)] {
        scene.server.behave(&narinfo, behaviour.clone());
        asker.ask(0, vec![question('a'), question('b')]);
        let mut told = answers(&asker, 2);
        if told[0] == "opened 7" {
            told = [told.remove(1), answers(&asker, 1).remove(0)].into();
        }
        assert_eq!(told[0], "lacks b", "{behaviour:?}");
        assert!(told[1].starts_with("failed a Once: "), "{told:?}");
    }
}

#[test]
fn who_says_when_to_come_again_is_not_dead() {
    let scene = Scene {
        silence: Duration::from_secs(1),
        attempts: 3,
        deadline: LIMIT,
        ..Scene::new()
    };
    let asker = scene.asker();
    let again = |seconds: &str| Behaviour::RetryAfter(429, seconds.to_owned());
    scene.server.behave_times(1, "*.narinfo", again("3"));
    asker.ask(0, vec![question('a')]);
    assert_eq!(answers(&asker, 2), ["opened 7", "has a"]);
    // Nobody waits for longer than the deadline.
    scene.server.behave("*.narinfo", again("61"));
    asker.ask(0, vec![question('b')]);
    let told = answers(&asker, 1);
    assert!(told[0].starts_with("failed b Busy(61s): "), "{told:?}");
    assert!(told[0].ends_with("asked again in 61 s"), "{told:?}");
    assert_eq!(scene.server.count("*.narinfo"), 3);
    scene.server.behave("*", again("61"));
    let unopened = scene.asker_of(&format!("{}/", scene.server.url()));
    fs::remove_dir_all(scene.dir.path().join("lookup")).unwrap();
    unopened.ask(0, vec![question('b')]);
    let told = answers(&unopened, 1);
    assert!(told[0].starts_with("failed b Busy(61s): "), "{told:?}");
}

#[test]
fn what_is_no_cache_of_this_store_is_useless() {
    let scene = Scene::new();
    let info = scene.cache().join("nix-cache-info");
    fs::write(&info, "StoreDir: /other\n").unwrap();
    let useless = |asker: Asker, expected: &str| {
        asker.ask(0, vec![question('a')]);
        let told = answers(&asker, 2);
        assert!(
            told[0].starts_with("useless: ") && told[0].contains(expected),
            "{told:?}"
        );
        assert_eq!(told[1], "lacks a");
        asker.ask(0, vec![question('b')]);
        assert_eq!(answers(&asker, 1), ["lacks b"]);
    };
    useless(scene.asker(), "'/other'");
    fs::remove_file(&info).unwrap();
    useless(scene.asker(), "no nix-cache-info");
    useless(scene.asker_of("file:///no/such"), "no directory '/no/such'");
    useless(scene.asker_of("local?root=/no/such&store=/s"), "/no/such");
    useless(scene.asker_of("local?root=/no/such"), "'/nix/store'");
}

#[test]
fn a_narinfo_of_another_path_or_none_is_a_failure() {
    let scene = Scene::new();
    let asker = scene.asker();
    let file = |letter: char| {
        scene
            .cache()
            .join(format!("{}.narinfo", path(letter).hash_part()))
    };
    fs::write(file('b'), "nonsense\n").unwrap();
    let other = fs::read_to_string(file('a')).unwrap();
    let other = other.replace("-x\n", "-y\n");
    fs::write(file('c'), other.replace(&"a".repeat(32), &"c".repeat(32))).unwrap();
    asker.ask(0, vec![question('b'), question('c')]);
    let mut told = answers(&asker, 3);
    told.sort();
    assert!(
        told[0].starts_with("failed b Once: what it says of '/s/bbbb"),
        "{told:?}"
    );
    assert!(
        told[1].contains("it is about '/s/cccc") && told[1].ends_with("-y'"),
        "{told:?}"
    );
}

#[test]
fn downloads_are_files_that_go_on_and_are_thrown_away() {
    let scene = Scene::new();
    let info = |asker: &Asker| {
        asker.ask(0, vec![question('a')]);
        loop {
            if let Answer::Has { info, .. } = asker.wait(LIMIT).unwrap() {
                return info;
            }
        }
    };
    let wish = |info: &Arc<NarInfo>| Wish {
        token: 1,
        cache: 0,
        info: Arc::clone(info),
        received: Arc::default(),
    };
    let files = || {
        let files = fs::read_dir(scene.dir.path().join("downloads"));
        let sizes = files
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len());
        sizes.collect::<Vec<_>>()
    };
    let asker = scene.asker();
    let info_a = info(&asker);
    scene.server.behave_times(1, "/a.nar", Behaviour::Reset(3));
    asker.download(wish(&info_a));
    assert!(answers(&asker, 1)[0].starts_with("not downloaded: "));
    assert_eq!(files(), [3]);
    asker.download(wish(&info_a));
    let Answer::Downloaded { result, .. } = asker.wait(LIMIT).unwrap() else {
        panic!("something else has come");
    };
    let archive = result.unwrap();
    let mut text = String::new();
    let archive = archive.open().unwrap().expect("nobody has taken it");
    let mut reader = archive.reader(info_a.compression).unwrap();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert_eq!((text.as_str(), files()), ("archive", vec![7]));
    archive.discard();
    assert!(files().is_empty());
    // One that was cancelled has no answer.
    scene.server.behave("/a.nar", Behaviour::Stall(2));
    asker.download(wish(&info_a));
    let begun = std::time::Instant::now();
    while files() != [2] {
        assert!(begun.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(5));
    }
    asker.cancel(1, Left::Discarded);
    asker.ask(0, vec![question('c')]);
    assert_eq!(answers(&asker, 1), ["lacks c"]);
    assert!(files().is_empty() && asker.is_empty());
    // Of a directory they are there already.
    let here = scene.asker_of(&format!("file://{}", scene.cache().display()));
    let info_a = info(&here);
    here.download(wish(&info_a));
    assert_eq!(answers(&here, 1), ["downloaded true"]);
    assert!(files().is_empty());
}

#[test]
fn small_downloads_need_no_file_as_long_as_there_is_room() {
    let scene = Scene::new();
    let downloads = scene.dir.path().join("downloads");
    let files = || fs::read_dir(&downloads).map_or(0, Iterator::count);
    let asker = scene.asker();
    asker.ask(0, vec![question('a')]);
    let mut info = loop {
        if let Answer::Has { info, .. } = asker.wait(LIMIT).unwrap() {
            break NarInfo::clone(&info);
        }
    };
    let mut download = |size: Option<u64>| {
        info.file_size = size;
        let info = Arc::new(info.clone());
        let wish = Wish {
            token: 1,
            cache: 0,
            info,
            received: Arc::default(),
        };
        asker.download(wish);
        match asker.wait(LIMIT).unwrap() {
            Answer::Downloaded { result, .. } => result.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let text = |archive: Archive| {
        let archive = archive.open().unwrap().expect("nobody else has it");
        let reader = archive.reader(crate::compression::Compression::None);
        let text = std::io::read_to_string(reader.unwrap()).unwrap();
        archive.discard();
        text
    };
    for size in [Some(7), None] {
        let archive = download(size);
        assert!(matches!(archive, Archive::InMemory(_)), "{archive:?}");
        assert_eq!((files(), text(archive).as_str()), (0, "archive"));
    }
    // What is longer than was to be expected, what is large, and what comes when others have taken
    // all the room.
    let long_archives = [
        ("archive".repeat(1000), None),
        ("archive".repeat(10_000), Some(70_000)),
    ];
    for (long, size) in long_archives {
        fs::write(scene.cache().join("a.nar"), &long).unwrap();
        let archive = download(size);
        let is_in_file = matches!(archive, Archive::Downloaded(_, len) if len == long.len() as u64);
        assert!(is_in_file, "{archive:?}");
        assert_eq!((files(), text(archive)), (1, long));
    }
    let size = 60_000;
    fs::write(scene.cache().join("a.nar"), vec![b'x'; size]).unwrap();
    let mut kept: Vec<Archive> = Vec::new();
    let on_disk = loop {
        match download(Some(size as u64)) {
            archive @ Archive::InMemory(_) => kept.push(archive),
            archive => break archive,
        }
        assert!(kept.len() * size <= 32 << 20);
    };
    assert!(kept.len() > 100 && files() == 1);
    on_disk.discard();
    kept.pop();
    assert!(matches!(download(Some(size as u64)), Archive::InMemory(_)));
    assert_eq!(files(), 0);
}

#[test]
fn what_others_have_taken_is_not_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("x");
    let write = |text: &str| {
        fs::write(&place, text).unwrap();
        Archive::Downloaded(place.clone(), 7)
    };
    let held = write("archive").open().unwrap().expect("it is there");
    assert!(write("archive").open().unwrap().is_none());
    write("archive").discard();
    assert!(place.exists(), "somebody has it open");
    held.discard();
    assert!(!place.exists());
    let gone = Archive::Downloaded(place.clone(), 7);
    assert!(gone.open().unwrap().is_none() && !place.exists());
    assert!(write("part").open().unwrap().is_none() && place.exists());
    write("archive").discard();
    assert!(!place.exists());
}

#[test]
fn what_nobody_goes_on_with_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, days: u64| {
        let path = dir.path().join(name);
        let file = fs::File::create(&path).unwrap();
        let age = Duration::from_secs(days * 24 * 3600);
        file.set_modified(std::time::SystemTime::now() - age)
            .unwrap();
        path
    };
    let (old, new, used) = (file("old", 8), file("new", 6), file("used", 8));
    let held = crate::remote::Partial::open(&used).unwrap().unwrap();
    PartialDir(dir.path().to_owned()).clean();
    assert!(!old.exists() && new.exists() && used.exists());
    drop(held);
    PartialDir(Path::new("/no/such").to_owned()).clean();
}
