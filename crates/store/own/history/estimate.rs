//! Estimates from the history: how long a derivation will take, by its own builds, its family's, or
//! the typical one's. Read into memory once, for a policy asks for every derivation of a graph.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::Records;
use crate::Layout;
use crate::error::Result;

/// What is known of how long builds take, in memory.
#[derive(Debug, Clone, Default)]
pub struct History {
    systems: HashMap<String, OfSystem>,
}

#[derive(Debug, Clone, Default)]
struct OfSystem {
    /// By derivation name, in microseconds.
    names: HashMap<String, u64>,
    /// By family, the mean of its names' estimates.
    families: HashMap<String, u64>,
    /// The median of all.
    typical: u64,
}

impl History {
    /// Reads the estimates of a store. An empty history if no build was ever recorded there.
    ///
    /// # Errors
    /// When the database can't be read, or was made by a newer program.
    pub fn load(layout: &Layout) -> Result<Self> {
        let Some(records) = Records::open_read_only(layout)? else {
            return Ok(Self::default());
        };
        let rows = records.database.read("read the history", |connection| {
            let mut statement = connection.prepare(
                "select name, system, estimate from Derivations where estimate is not null",
            )?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, String, u64)>>>()
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.systems.is_empty()
    }

    /// How long a derivation of that name is thought to take on that platform, in microseconds:
    /// what its own builds took, else what those of its [`family`] took, else what builds take as a
    /// rule (the median). `None` if the history has no good build for the platform.
    pub fn estimate(&self, name: &str, system: &str) -> Option<u64> {
        let typical = self.systems.get(system)?.typical;
        Some(self.of_family(name, system).unwrap_or(typical))
    }

    /// The same from builds of that name or its [`family`] only; `None` if there was no good one.
    pub fn of_family(&self, name: &str, system: &str) -> Option<u64> {
        let known = self.systems.get(system)?;
        let own = known.names.get(name);
        let relatives = || known.families.get(&*family(name));
        own.or_else(relatives).copied()
    }
}

impl FromIterator<(String, String, u64)> for History {
    /// From names, platforms and estimates in microseconds.
    fn from_iter<T: IntoIterator<Item = (String, String, u64)>>(rows: T) -> Self {
        let mut systems: HashMap<String, OfSystem> = HashMap::new();
        for (name, system, estimate) in rows {
            systems
                .entry(system)
                .or_default()
                .names
                .insert(name, estimate);
        }
        for known in systems.values_mut() {
            let mut sums: HashMap<String, (u64, u64)> = HashMap::new();
            for (name, estimate) in &known.names {
                let (sum, count) = sums.entry(family(name).into_owned()).or_default();
                (*sum, *count) = (sum.saturating_add(*estimate), *count + 1);
            }
            let means = sums
                .into_iter()
                .map(|(family, (sum, count))| (family, sum / count));
            known.families = means.collect();
            let mut all: Vec<u64> = known.names.values().copied().collect();
            let middle = all.len() / 2;
            known.typical = *all.select_nth_unstable(middle).1;
        }
        Self { systems }
    }
}

/// A name without its version: every number, dots and a final letter included, counts as the same.
/// `openssl-1.1.1w` and `openssl-3.0` are of one family, `openssl-3.0.tar.gz` is not.
pub fn family(name: &str) -> Cow<'_, str> {
    let bytes = name.as_bytes();
    let Some(first) = bytes.iter().position(u8::is_ascii_digit) else {
        return Cow::Borrowed(name);
    };
    let mut text = String::with_capacity(name.len());
    let (mut copied, mut at) = (0, first);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        text.push_str(&name[copied..at]);
        text.push('#');
        while at < bytes.len()
            && (bytes[at].is_ascii_digit()
                || (bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)))
        {
            at += 1;
        }
        let ends = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b'-' | b'.' | b'_'));
        if bytes.get(at).is_some_and(u8::is_ascii_lowercase) && ends(bytes.get(at + 1)) {
            at += 1;
        }
        copied = at;
    }
    text.push_str(&name[copied..]);
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_differ_in_numbers_only() {
        for (name, expected) in [
            ("hello", "hello"),
            ("hello-2.10", "hello-#"),
            ("openssl-1.1.1w", "openssl-#"),
            ("openssl-3", "openssl-#"),
            ("openssl-3.0.tar.gz", "openssl-#.tar.gz"),
            ("python3.8-requests-2.23.0", "python#-requests-#"),
            ("x86_64-thing", "x#_#-thing"),
            ("1.", "#."),
            ("é1b", "é#"),
            ("a1bc", "a#bc"),
            ("", ""),
        ] {
            assert_eq!(family(name), expected, "{name}");
        }
    }

    #[test]
    fn own_builds_count_first_then_the_familys_then_the_typical_one() {
        let rows = [
            ("a-1", 100),
            ("a-2", 300),
            ("b-1", 7),
            ("c-1", 5000),
            ("d-1", 9000),
        ];
        let system = "x86_64-linux";
        let rows = rows.map(|(name, time)| (name.to_owned(), system.to_owned(), time));
        let history: History = rows.into_iter().collect();
        assert_eq!(history.estimate("a-1", system), Some(100));
        assert_eq!(history.estimate("a-3", system), Some(200));
        assert_eq!(history.estimate("e-1", system), Some(300), "the median");
        assert_eq!(history.of_family("a-1", system), Some(100));
        assert_eq!(history.of_family("a-3", system), Some(200));
        assert_eq!(history.of_family("e-1", system), None);
        assert_eq!(history.estimate("a-1", "i686-linux"), None);
        assert_eq!(History::default().estimate("a-1", system), None);
    }
}
