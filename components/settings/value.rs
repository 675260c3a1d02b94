//! How the values of settings are written: read, printed and appended to, one form for each type.
//! Knows no setting by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::lexical::canonicalise;

/// How builders are kept from what they didn't declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// Builders run in the host's file system.
    #[default]
    Off,
    /// All but fixed-output derivations and those with `__noChroot` run in a sandbox.
    Relaxed,
    /// All builders run in a sandbox.
    On,
}

/// Whether a path is built although a binary cache has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PreferBuild {
    /// What can be fetched is fetched.
    #[default]
    Never,
    /// What is built much sooner than it is fetched, as far as is known, is built.
    Auto,
}

/// Joins the second value to the end of the first.
pub(super) type Append<V> = fn(&mut V, V);

/// A way to write values of one type.
pub(super) trait Form {
    /// The type of the values.
    type Value;
    /// What can be written, to be read after "expected".
    const ACCEPTED: &'static str;
    /// How `extra-NAME` adds to a value, where that makes sense.
    const APPEND: Option<Append<Self::Value>> = None;
    /// Reads a value; `cpus` is what `auto` stands for.
    fn read(text: &str, cpus: u32) -> Option<Self::Value>;
    /// Writes a value so that reading gives it back.
    fn print(value: &Self::Value) -> String;
}

/// The words of `text`, split where Nix splits: at spaces, tabs and line ends, not at other blanks.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', '\n', '\r'])
        .filter(|word| !word.is_empty())
}

impl Form for bool {
    type Value = bool;
    const ACCEPTED: &'static str = "true, yes or 1, or false, no or 0";

    fn read(text: &str, _: u32) -> Option<bool> {
        match text {
            "true" | "yes" | "1" => Some(true),
            "false" | "no" | "0" => Some(false),
            _ => None,
        }
    }

    fn print(value: &bool) -> String {
        value.to_string()
    }
}

impl Form for u64 {
    type Value = u64;
    const ACCEPTED: &'static str =
        "a whole number below 2^64, with K, M, G or T for powers of 1024";

    fn read(text: &str, _: u32) -> Option<u64> {
        let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
            b'K' => (&text[..text.len() - 1], 10),
            b'M' => (&text[..text.len() - 1], 20),
            b'G' => (&text[..text.len() - 1], 30),
            b'T' => (&text[..text.len() - 1], 40),
            _ => (text, 0),
        };
        digits.parse::<u64>().ok()?.checked_mul(1 << shift)
    }

    fn print(value: &u64) -> String {
        value.to_string()
    }
}

impl Form for u32 {
    type Value = u32;
    const ACCEPTED: &'static str =
        "a whole number below 2^32, with K, M, G or T for powers of 1024";

    fn read(text: &str, cpus: u32) -> Option<u32> {
        <u64 as Form>::read(text, cpus)?.try_into().ok()
    }

    fn print(value: &u32) -> String {
        value.to_string()
    }
}

/// A number of jobs, where `auto` means the number of CPUs.
pub(super) struct Jobs;

impl Form for Jobs {
    type Value = u32;
    const ACCEPTED: &'static str = "a whole number below 2^32, or auto for the number of CPUs";

    fn read(text: &str, cpus: u32) -> Option<u32> {
        if text == "auto" {
            Some(cpus)
        } else {
            <u32 as Form>::read(text, cpus)
        }
    }

    fn print(value: &u32) -> String {
        value.to_string()
    }
}

impl Form for Sandbox {
    type Value = Sandbox;
    const ACCEPTED: &'static str = "true, relaxed or false";

    fn read(text: &str, _: u32) -> Option<Sandbox> {
        match text {
            "true" => Some(Sandbox::On),
            "relaxed" => Some(Sandbox::Relaxed),
            "false" => Some(Sandbox::Off),
            _ => None,
        }
    }

    fn print(value: &Sandbox) -> String {
        match value {
            Sandbox::On => "true",
            Sandbox::Relaxed => "relaxed",
            Sandbox::Off => "false",
        }
        .to_owned()
    }
}

impl Form for PreferBuild {
    type Value = PreferBuild;
    const ACCEPTED: &'static str = "never or auto";

    fn read(text: &str, _: u32) -> Option<PreferBuild> {
        match text {
            "never" => Some(PreferBuild::Never),
            "auto" => Some(PreferBuild::Auto),
            _ => None,
        }
    }

    fn print(value: &PreferBuild) -> String {
        match value {
            PreferBuild::Never => "never",
            PreferBuild::Auto => "auto",
        }
        .to_owned()
    }
}

impl Form for String {
    type Value = String;
    const ACCEPTED: &'static str = "any text";

    fn read(text: &str, _: u32) -> Option<String> {
        Some(text.to_owned())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

impl Form for PathBuf {
    type Value = PathBuf;
    const ACCEPTED: &'static str = "an absolute path";

    fn read(text: &str, _: u32) -> Option<PathBuf> {
        canonicalise(Path::new(text))
    }

    fn print(value: &PathBuf) -> String {
        value.display().to_string()
    }
}

impl Form for Option<PathBuf> {
    type Value = Option<PathBuf>;
    const ACCEPTED: &'static str = "an absolute path, or nothing";

    fn read(text: &str, _: u32) -> Option<Option<PathBuf>> {
        if text.is_empty() {
            Some(None)
        } else {
            canonicalise(Path::new(text)).map(Some)
        }
    }

    fn print(value: &Option<PathBuf>) -> String {
        value
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    }
}

/// A program to run: a path, or a name that is looked up in `PATH`; empty means none.
pub(super) struct Program;

impl Form for Program {
    type Value = Option<PathBuf>;
    const ACCEPTED: &'static str = "a program, or nothing";

    fn read(text: &str, _: u32) -> Option<Option<PathBuf>> {
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn print(value: &Option<PathBuf>) -> String {
        <Option<PathBuf> as Form>::print(value)
    }
}

impl Form for Vec<String> {
    type Value = Vec<String>;
    const ACCEPTED: &'static str = "a list, with blanks between its items";
    const APPEND: Option<Append<Self>> = Some(|all, more| all.extend(more));

    fn read(text: &str, _: u32) -> Option<Vec<String>> {
        Some(words(text).map(str::to_owned).collect())
    }

    fn print(value: &Vec<String>) -> String {
        value.join(" ")
    }
}

impl Form for BTreeSet<String> {
    type Value = BTreeSet<String>;
    const ACCEPTED: &'static str = "a set, with blanks between its items";
    const APPEND: Option<Append<Self>> = Some(|all, more| all.extend(more));

    fn read(text: &str, _: u32) -> Option<BTreeSet<String>> {
        Some(words(text).map(str::to_owned).collect())
    }

    fn print(value: &BTreeSet<String>) -> String {
        value
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Form for BTreeMap<String, String> {
    type Value = BTreeMap<String, String>;
    const ACCEPTED: &'static str = "pairs NAME=VALUE, with blanks between them";
    const APPEND: Option<Append<Self>> = Some(|all, more| all.extend(more));

    fn read(text: &str, _: u32) -> Option<BTreeMap<String, String>> {
        let pair = |word: &str| {
            word.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        words(text).map(pair).collect()
    }

    fn print(value: &BTreeMap<String, String>) -> String {
        value
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_suffixes_and_refuse_overflow() {
        let read = |text| <u64 as Form>::read(text, 1);
        for (text, value) in [
            ("0", 0),
            ("007", 7),
            ("+1", 1),
            ("1K", 1024),
            ("2m", 2 << 20),
            ("3G", 3 << 30),
            ("1T", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(read(text), Some(value), "{text}");
        }
        for text in [
            "",
            "K",
            "-1",
            "1 K",
            "1KK",
            "1E",
            "0x1",
            "1é",
            "16777216T",
            "99999999999999T",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(<u32 as Form>::read("4G", 1), None);
        assert_eq!(<u32 as Form>::read("4194303K", 1), Some(4_194_303 << 10));
    }

    #[test]
    fn words_split_only_where_nix_splits() {
        let found: Vec<_> = words(" a\tb\r\n c\u{a0}d\u{b}e ").collect();
        assert_eq!(found, ["a", "b", "c\u{a0}d\u{b}e"]);
    }

    #[test]
    fn a_map_refuses_a_word_without_a_value() {
        let read = |text| <BTreeMap<String, String> as Form>::read(text, 1);
        assert!(read("a=b c").is_none());
        assert_eq!(read("a=b=c").unwrap()["a"], "b=c");
    }

    #[test]
    fn paths_are_canonical_and_absolute() {
        assert_eq!(
            <PathBuf as Form>::read("/x/./y//", 1),
            Some(PathBuf::from("/x/y"))
        );
        assert_eq!(<PathBuf as Form>::read("", 1), None);
        assert_eq!(<Option<PathBuf> as Form>::read("", 1), Some(None));
        assert_eq!(<Option<PathBuf> as Form>::read("hook", 1), None);
        assert_eq!(Program::read("hook", 1), Some(Some(PathBuf::from("hook"))));
    }
}
