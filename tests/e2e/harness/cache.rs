//! Substituters in short: a directory with paths and what is known of them, and a shell script that
//! serves it in the protocol of Nix 1.8. What the script does wrong is the test's choice.

use std::fs;
use std::path::{Path, PathBuf};

use super::World;

/// What a cache knows of a path.
pub(crate) struct Known {
    pub(crate) deriver: String,
    pub(crate) references: Vec<String>,
    pub(crate) nar_size: u64,
    /// What is said of the hash; empty leaves it unchecked.
    pub(crate) hash: String,
}

/// A directory that a substituter serves.
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// An empty cache in a world, under a name of its own.
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let dir = world.file(name);
        for part in ["info", "nar", "hash"] {
            fs::create_dir_all(dir.join(part)).expect("a directory");
        }
        Self { dir }
    }

    /// A cache with everything that is valid in the world and matches a pattern of SQL's `like`.
    #[track_caller]
    pub(crate) fn of(world: &World, name: &str, like: &str) -> Self {
        let cache = Self::new(world, name);
        let rows = world.sql(&format!(
            "select id, path, hash, narSize, ifnull(deriver, '') from ValidPaths where path like '{like}'"
        ));
        for row in rows {
            let columns: Vec<&str> = row.split('|').collect();
            let references = world.sql(&format!(
                "select path from Refs join ValidPaths on reference = ValidPaths.id where referrer = {} order by path",
                columns[0]
            ));
            let known = Known {
                deriver: columns[4].to_owned(),
                references,
                nar_size: columns[3].parse().expect("a size"),
                hash: columns[2].to_owned(),
            };
            cache.add(columns[1], Path::new(columns[1]), &known);
        }
        cache
    }

    /// Adds a path whose contents lie elsewhere.
    pub(crate) fn add(&self, path: &str, contents: &Path, known: &Known) {
        let copied = std::process::Command::new("cp")
            .args(["-R", "-P", "-p"])
            .arg(contents)
            .arg(self.part("nar", path))
            .status()
            .expect("cp");
        assert!(copied.success());
        self.describe(path, known);
    }

    /// Says something else of a path.
    pub(crate) fn describe(&self, path: &str, known: &Known) {
        let mut info = format!("{}\n{}\n", known.deriver, known.references.len());
        for reference in &known.references {
            info.push_str(&format!("{reference}\n"));
        }
        info.push_str(&format!("{}\n{}\n", known.nar_size / 2, known.nar_size));
        fs::write(self.part("info", path), info).expect("a file");
        fs::write(self.part("hash", path), format!("{}\n", known.hash)).expect("a file");
    }

    /// The file with the hash of a path.
    pub(crate) fn hash_file(&self, path: &str) -> PathBuf {
        self.part("hash", path)
    }

    /// Forgets a path.
    pub(crate) fn forget(&self, path: &str) {
        fs::remove_file(self.part("info", path)).expect("a known path");
    }

    fn part(&self, part: &str, path: &str) -> PathBuf {
        let name = Path::new(path).file_name().expect("a name");
        self.dir.join(part).join(name)
    }

    /// A substituter that serves this cache well.
    pub(crate) fn program(&self, world: &World) -> PathBuf {
        self.program_with(world, "", "")
    }

    /// The same, with shell code before it begins to answer and before it fetches; `$b` is the base
    /// name that is fetched, `$3` the place to put it.
    pub(crate) fn program_with(&self, world: &World, query: &str, fetch: &str) -> PathBuf {
        let dir = self.dir.display();
        let text = format!(
            r#"cd {dir}
if [ "$1" = --query ]; then
    echo start >> starts
    {query}
    echo
    while read -r verb paths; do
        echo "$verb" >> asked
        for p in $paths; do
            b=${{p##*/}}
            if [ -e info/$b ]; then
                echo $p
                [ $verb != info ] || cat info/$b
            fi
        done
        echo
    done
else
    b=${{2##*/}}
    echo $b >> fetched
    {fetch}
    echo
    cp -R -P -p nar/$b $3
    cat hash/$b
fi"#
        );
        let name = self.dir.file_name().expect("a name").to_string_lossy();
        world.script(&format!("{name}.sh"), &text)
    }

    /// The base names fetched from it, in order.
    pub(crate) fn fetched(&self) -> Vec<String> {
        self.lines("fetched")
    }

    /// How often a query process was started.
    pub(crate) fn starts(&self) -> usize {
        self.lines("starts").len()
    }

    /// How many questions it was asked.
    pub(crate) fn questions(&self) -> usize {
        self.lines("asked").len()
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
