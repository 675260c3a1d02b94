//! `builtin:buildenv`: a directory of links to everything in several packages, as profiles are made
//! of. Where packages have the same file, the one with the lower priority number has it (Nix's
//! `buildProfile`).

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::request::Request;

/// Priority of the first package that another one brings along.
const PROPAGATED: i64 = 1000;

/// Files that every package may have, and that mean nothing to a profile.
const LEFT_OUT: [&str; 7] = [
    "/propagated-build-inputs",
    "/nix-support",
    "/perllocal.pod",
    "/info/dir",
    "/log",
    "/manifest.nix",
    "/manifest.json",
];

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    priority: i64,
    path: String,
}

pub(super) fn run(request: &Request) -> Result<(), String> {
    let out = request.out()?;
    let manifest = request.attr("manifest")?;
    let packages = parse(request.attr("derivations")?)?;
    fs::create_dir_all(&out).map_err(at("make", &out))?;
    let mut profile = Profile::default();
    profile.add_all(packages, &out)?;
    let link = out.join("manifest.nix");
    symlink(manifest, &link).map_err(at("make", &link))
}

/// The packages that are to be seen, best first. They come as words: whether it is seen (anything
/// but `false`), its priority, the number of its outputs, and their paths.
fn parse(text: &str) -> Result<Vec<Package>, String> {
    let mut words = text.split_ascii_whitespace();
    let mut packages = Vec::new();
    while let Some(active) = words.next() {
        let mut number = || -> Option<i64> { words.next()?.parse().ok() };
        let (Some(priority), Some(outputs)) = (number(), number()) else {
            return Err(
                "the attribute 'derivations' has no numbers where a package's belong".to_owned(),
            );
        };
        for _ in 0..outputs {
            let Some(path) = words.next() else {
                return Err("the attribute 'derivations' ends within a package".to_owned());
            };
            if active != "false" {
                packages.push(Package {
                    priority,
                    path: path.to_owned(),
                });
            }
        }
    }
    packages.sort();
    Ok(packages)
}

fn at<'a>(action: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> String + 'a {
    move |error| format!("cannot {action} '{}': {error}", path.display())
}

/// A profile under way.
#[derive(Default)]
struct Profile {
    done: BTreeSet<String>,
    /// What packages that were added bring along.
    propagated: BTreeSet<String>,
    /// Of every link that was made.
    priorities: HashMap<PathBuf, i64>,
}

impl Profile {
    fn add_all(&mut self, packages: Vec<Package>, out: &Path) -> Result<(), String> {
        for Package { priority, path } in packages {
            self.add(path, priority, out)?;
        }
        let mut priority = PROPAGATED;
        while !self.propagated.is_empty() {
            for path in std::mem::take(&mut self.propagated) {
                self.add(path, priority, out)?;
                priority += 1;
            }
        }
        Ok(())
    }

    fn add(&mut self, package: String, priority: i64, out: &Path) -> Result<(), String> {
        if !self.done.insert(package.clone()) {
            return Ok(());
        }
        self.link(Path::new(&package), out, priority)?;
        let list = Path::new(&package).join("nix-support/propagated-user-env-packages");
        match fs::read_to_string(&list) {
            Ok(text) => {
                let new = text.split_ascii_whitespace().map(str::to_owned);
                self.propagated
                    .extend(new.filter(|path| !self.done.contains(path)));
                Ok(())
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(())
            }
            Err(error) => Err(at("read", &list)(error)),
        }
    }

    /// Links everything in the directory `from` into the directory `to`.
    fn link(&mut self, from: &Path, to: &Path, priority: i64) -> Result<(), String> {
        let entries = match fs::read_dir(from) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                eprintln!(
                    "warning: '{}' is no directory and is left out",
                    from.display()
                );
                return Ok(());
            }
            Err(error) => return Err(at("read", from)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(at("read", from))?.file_name());
        }
        // Whatever order the directory has, the same messages come.
        names.sort();
        for name in names {
            let (source, place) = (from.join(&name), to.join(&name));
            if name.as_encoded_bytes().starts_with(b".") || is_left_out(&source) {
                continue;
            }
            match fs::metadata(&source) {
                Ok(metadata) if metadata.is_dir() => {
                    self.place_directory(source, place, priority)?
                }
                Ok(_) => self.place_file(source, place, priority)?,
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                {
                    eprintln!(
                        "warning: '{}' leads nowhere and is left out",
                        source.display()
                    );
                }
                Err(error) => return Err(at("look at", &source)(error)),
            }
        }
        Ok(())
    }

    /// A directory is one link until a second package has it too; then it is a directory with links
    /// from both.
    fn place_directory(
        &mut self,
        source: PathBuf,
        place: PathBuf,
        priority: i64,
    ) -> Result<(), String> {
        match fs::symlink_metadata(&place) {
            Ok(there) if there.is_dir() => self.link(&source, &place, priority),
            Ok(there) if there.is_symlink() => {
                let target = fs::canonicalize(&place).map_err(at("follow", &place))?;
                if !target.is_dir() {
                    return Err(collision(&source, &target));
                }
                let before = self.priorities.remove(&place).unwrap_or(priority);
                fs::remove_file(&place).map_err(at("remove", &place))?;
                fs::create_dir(&place).map_err(at("make", &place))?;
                self.link(&target, &place, before)?;
                self.link(&source, &place, priority)
            }
            Ok(_) => Err(collision(&source, &place)),
            Err(error) if error.kind() == ErrorKind::NotFound => self.make(source, place, priority),
            Err(error) => Err(at("look at", &place)(error)),
        }
    }

    fn place_file(&mut self, source: PathBuf, place: PathBuf, priority: i64) -> Result<(), String> {
        match fs::symlink_metadata(&place) {
            Ok(there) if there.is_symlink() => {
                let before = self.priorities.get(&place).copied().unwrap_or(priority);
                if before == priority {
                    let other = fs::read_link(&place).map_err(at("read", &place))?;
                    return Err(format!(
                        "the packages with '{}' and '{}' have the same priority {priority}; give one of them another \
                         ('nix-env --set-flag priority NUMBER NAME', 0 being the highest)",
                        source.display(),
                        other.display()
                    ));
                }
                if before < priority {
                    return Ok(());
                }
                fs::remove_file(&place).map_err(at("remove", &place))?;
                self.make(source, place, priority)
            }
            Ok(_) => Err(collision(&source, &place)),
            Err(error) if error.kind() == ErrorKind::NotFound => self.make(source, place, priority),
            Err(error) => Err(at("look at", &place)(error)),
        }
    }

    fn make(&mut self, source: PathBuf, place: PathBuf, priority: i64) -> Result<(), String> {
        symlink(&source, &place).map_err(at("make", &place))?;
        self.priorities.insert(place, priority);
        Ok(())
    }
}

fn collision(one: &Path, other: &Path) -> String {
    let (one, other) = (one.display(), other.display());
    format!("'{one}' and '{other}' belong at the same place, and only one of them is a directory")
}

fn is_left_out(path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    LEFT_OUT.iter().any(|end| path.ends_with(end.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(priority: i64, path: &str) -> Package {
        Package {
            priority,
            path: path.to_owned(),
        }
    }

    #[test]
    fn packages_come_best_first_and_hidden_ones_not_at_all() {
        let packages = parse("true 5 2 /b /a\nfalse 1 1 /c\tyes 1 1 /d").unwrap();
        assert_eq!(
            packages,
            [package(1, "/d"), package(5, "/a"), package(5, "/b")]
        );
        assert!(parse("").unwrap().is_empty());
        for bad in ["true", "true 5", "true x 1 /a", "true 5 2 /a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn directories_are_opened_up_only_where_packages_meet() {
        let world = tempfile::tempdir().unwrap();
        let at = |path: &str| world.path().join(path);
        for (file, text) in [
            ("a/bin/x", "a"),
            ("a/share/doc/a", ""),
            ("b/bin/x", "b"),
            ("b/bin/y", "b"),
            (
                "b/nix-support/propagated-user-env-packages",
                &at("c").display().to_string(),
            ),
            ("c/bin/x", "c"),
            ("c/lib/z", ""),
            ("c/.hidden", ""),
        ] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), text).unwrap();
        }
        symlink("/nowhere", at("a/dangling")).unwrap();
        fs::create_dir(at("out")).unwrap();
        let packages = ["a", "b"].map(|name| at(name).display().to_string());
        let packages = vec![package(7, &packages[0]), package(5, &packages[1])];
        Profile::default().add_all(packages, &at("out")).unwrap();
        let link = |path: &str| fs::read_link(at("out").join(path)).unwrap();
        assert_eq!(link("share"), at("a/share"));
        assert_eq!(link("lib"), at("c/lib"));
        assert_eq!(link("bin/x"), at("b/bin/x"));
        assert_eq!(link("bin/y"), at("b/bin/y"));
        let left: Vec<_> = fs::read_dir(at("out")).unwrap().collect();
        assert_eq!(left.len(), 3, "{left:?}");

        let same = vec![
            package(5, &at("a").display().to_string()),
            package(5, &at("b").display().to_string()),
        ];
        fs::create_dir(at("other")).unwrap();
        let problem = Profile::default().add_all(same, &at("other")).unwrap_err();
        assert!(problem.contains("same priority 5"), "{problem}");
    }
}
