//! All that a cache may do wrong, a row each: what is said of it in one line, that the build ends
//! well with and without another cache, and that the store is in order afterwards.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use windrow_net::testing::{Behaviour, Server};

use super::Scene;
use super::http::{impatient, served};
use crate::harness::{BinaryCache, need};

/// What a cache does wrong.
enum Wrong {
    /// Its server does that with these requests.
    Serves(&'static str, Behaviour),
    /// It has other files for a path.
    Holds(fn(&BinaryCache, &str)),
}

use Wrong::{Holds, Serves};

/// What is wrong, what is said of it in one line, and what is built then. `{url}` stands for the
/// server, `{b}` for the path that only its files are wrong of.
type Row = (Wrong, String, Built);

/// The names of what is built.
type Built = &'static [&'static str];

const BOTH: Built = &["a", "b"];

/// Puts the files of a cache back.
fn restore(cache: &BinaryCache, kept: &[(PathBuf, Vec<u8>)]) {
    for dir in [cache.dir.clone(), cache.dir.join("nar")] {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_file() {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    for (path, bytes) in kept {
        fs::write(path, bytes).unwrap();
    }
}

fn files(cache: &BinaryCache) -> Vec<(PathBuf, Vec<u8>)> {
    let dirs = [cache.dir.clone(), cache.dir.join("nar")];
    let entries = dirs.into_iter().flat_map(|dir| fs::read_dir(dir).unwrap());
    let files = entries.flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.is_file());
    files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// Expects of each row what it says.
#[track_caller]
fn expect(compression: &str, rows: Vec<Row>) {
    let (scene, cache, server) = served(compression);
    let kept = files(&cache);
    let copy = scene.world.file("copy");
    fs::create_dir_all(copy.join("nar")).unwrap();
    for (path, bytes) in &kept {
        fs::write(copy.join(path.strip_prefix(&cache.dir).unwrap()), bytes).unwrap();
    }
    let good = Server::start(&copy);
    for (nth, (wrong, says, builds)) in rows.into_iter().enumerate() {
        server.behave_well();
        let what = match wrong {
            Serves(pattern, behaviour) => {
                server.behave(pattern, behaviour.clone());
                format!("{behaviour:?} for {pattern}")
            }
            Holds(change) => {
                change(&cache, &scene.b);
                format!("row {nth}")
            }
        };
        let alone = impatient(scene.build(&[&server.url()])).ok().no_panic();
        let says = says
            .replace("{url}", &server.url())
            .replace("{b}", &scene.b);
        let mut lines = alone.stderr.lines();
        let is_said = match says.is_empty() {
            true => lines.all(|line| !line.starts_with("warning")),
            false => lines.any(|line| says.split('…').all(|part| line.contains(part))),
        };
        assert!(is_said, "{what}: {says}\n{alone}");
        assert_eq!(scene.runs(), builds, "{what}\n{alone}");
        in_order(&scene);
        scene.start_over(&format!("alone-{nth}"));
        let both = impatient(scene.build(&[&server.url(), &good.url()]));
        both.ok().no_panic().says("2 paths fetched");
        assert!(scene.runs().is_empty(), "{what}");
        in_order(&scene);
        scene.start_over(&format!("both-{nth}"));
        restore(&cache, &kept);
    }
}

/// Parts of downloads may stay, for they may be gone on with.
#[track_caller]
fn in_order(scene: &Scene) {
    scene.world.is_clean();
    scene.world.stays_valid();
}

#[test]
fn questions() {
    need!("nix", "nix-store", "sqlite3");
    let ms = Duration::from_millis;
    let fine = |behaviour, builds: Built| (Serves("*.narinfo", behaviour), String::new(), builds);
    let with = |pattern, behaviour, says: &str| {
        let says = format!("warning: binary cache '{{url}}'{says}");
        (Serves(pattern, behaviour), says, BOTH)
    };
    let bad = |behaviour, says: &str| with("*.narinfo", behaviour, says);
    let after = Behaviour::RetryAfter(429, "30".to_owned());
    let circle = Behaviour::Redirect(302, "/round".to_owned());
    let wrong_signature: fn(&BinaryCache, &str) =
        |cache, path| cache.change(path, "NarSize: ", "NarSize: 1");
    let rows = vec![
        fine(Behaviour::Latency(ms(100)), &[]),
        fine(Behaviour::Status(403), BOTH),
        fine(Behaviour::Status(404), BOTH),
        with(
            "*",
            Behaviour::Status(404),
            " is not used: no binary cache is there",
        ),
        bad(
            after,
            " is left out for 30 seconds: …429 Too Many Requests, and is to be asked again in 30 s",
        ),
        bad(Behaviour::Status(500), ": …500 Internal Server Error"),
        bad(Behaviour::Status(503), ": …503 Service Unavailable"),
        bad(Behaviour::Reset(10), ": …the connection ended too early"),
        bad(Behaviour::Endless, ": …the answer has more than …bytes"),
        bad(
            Behaviour::Drip(5, ms(100)),
            ": …nothing has come for 1 s",
        ),
        bad(Behaviour::Html, ": what it says of '…' can't be: …"),
        with(
            "*",
            circle,
            " is left out for 60 seconds: …there are more than 10 redirections",
        ),
        (
            Holds(wrong_signature),
            "warning: binary cache '{url}' has '{b}', which is not taken from there: its signature \
             by the trusted key 'test.example-1' is wrong"
                .to_owned(),
            &["b"],
        ),
    ];
    expect("xz", rows);
}

/// Changes a letter of what the file says that is the path.
fn change_contents(cache: &BinaryCache, path: &str) {
    let archive = cache.archive(path);
    let mut bytes = fs::read(&archive).unwrap();
    let line = bytes.windows(3).position(|part| part == b"-a\n");
    bytes[line.expect("the name of a") + 1] = b'z';
    fs::write(archive, bytes).unwrap();
}

/// Says that a path was not fetched, and why.
fn not_fetched(why: &str) -> String {
    format!("warning: fetching path '{{b}}' failed: {why}")
}

#[test]
fn archives() {
    need!("nix", "nix-store", "sqlite3");
    let ms = Duration::from_millis;
    let fine = |behaviour| (Serves("/nar/*", behaviour), String::new(), [].as_slice());
    let bad = |behaviour, why: &str| (Serves("/nar/*", behaviour), not_fetched(why), BOTH);
    let holds = |change: fn(&BinaryCache, &str), why: &str| {
        (Holds(change), not_fetched(why), ["b"].as_slice())
    };
    let after = Behaviour::RetryAfter(429, "3600".to_owned());
    let circle = Behaviour::Redirect(302, "/nar/round".to_owned());
    let up: fn(&BinaryCache, &str) =
        |cache, path| cache.change(path, "URL: nar/", "URL: ../../etc/");
    let file: fn(&BinaryCache, &str) =
        |cache, path| cache.change(path, "URL: nar/", "URL: file:///etc/");
    let rows = vec![
        fine(Behaviour::Latency(ms(100))),
        fine(Behaviour::Drip(40, ms(20))),
        bad(Behaviour::Status(403), "…the server answers 403 Forbidden"),
        bad(Behaviour::Status(404), "…the server answers 404 Not Found"),
        bad(after, "…429 Too Many Requests"),
        bad(Behaviour::Status(500), "…500 Internal Server Error"),
        bad(Behaviour::Status(503), "…503 Service Unavailable"),
        bad(Behaviour::Reset(50), "…the connection ended too early"),
        bad(Behaviour::Short(50), "…it has 50 bytes instead of "),
        bad(Behaviour::Long(1), "…bytes instead of "),
        bad(Behaviour::Endless, "…there are more than the "),
        bad(Behaviour::Html, "…bytes instead of "),
        bad(circle, "…there are more than 10 redirections"),
        bad(Behaviour::Wrong, "the NAR is damaged at byte "),
        holds(
            change_contents,
            "the NAR has the hash '…', and its narinfo announces '",
        ),
        holds(up, "…'{url}/etc/…404 Not Found"),
        holds(
            file,
            "what '{url}' says of it can't be: its field URL, 'file:///etc/…', leads to 'file'",
        ),
    ];
    expect("none", rows);
}

#[test]
fn an_archive_that_ends_too_early_for_its_compression() {
    need!("nix", "nix-store", "sqlite3");
    let cut: fn(&BinaryCache, &str) = |cache, path| {
        let archive = cache.archive(path);
        let bytes = fs::read(&archive).unwrap();
        fs::write(archive, &bytes[..bytes.len() / 2]).unwrap();
        // Nobody is to notice it by the size.
        let size = cache.field(path, "FileSize");
        let half = format!("FileSize: {}", bytes.len() / 2);
        cache.change(path, &format!("FileSize: {size}"), &half);
    };
    for compression in ["xz", "zstd", "bzip2"] {
        let says = not_fetched("cannot read the NAR at byte ");
        expect(compression, vec![(Holds(cut), says, &["b"])]);
    }
}
