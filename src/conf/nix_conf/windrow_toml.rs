//! Reads settings from windrow.toml, the configuration file of windrow itself: a key for each
//! setting, by any of its names, with a value of TOML's types.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::text::Reader;
use crate::conf::error::{ConfError, ConfLine};

impl Reader<'_> {
    /// Applies a file of that kind, unless it is missing.
    pub(super) fn toml_file(&mut self, file: &Path) -> Result<(), ConfError> {
        let Some(bytes) = self.read(file) else {
            return Ok(());
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| ConfError::NotUtf8 {
            place: place(file, &bytes, error.valid_up_to()),
        })?;
        let at = |offset: usize| place(file, text.as_bytes(), offset);
        let table = DeTable::parse(text).map_err(|error| ConfError::Toml {
            place: at(error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        })?;
        // By where they stand, so that the later of two names of one setting wins.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_unstable_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let place = at(key.span().start);
            let name: &str = key.get_ref();
            let Some(value) = as_setting(value.get_ref()) else {
                return Err(ConfError::TomlValue {
                    place,
                    name: name.to_owned(),
                });
            };
            self.set(name, &value, place.clone())?;
            self.note_effect(name, place);
        }
        Ok(())
    }
}

/// Where a byte of a file stands.
fn place(file: &Path, text: &[u8], offset: usize) -> ConfLine {
    let before = &text[..offset.min(text.len())];
    let lines = before.iter().filter(|&&byte| byte == b'\n').count();
    ConfLine {
        origin: file.to_owned(),
        line: u32::try_from(lines + 1).unwrap_or(u32::MAX),
    }
}

/// A value as nix.conf spells it: the items of a list and the pairs of a map with blanks between
/// them. None if no setting has such a value.
fn as_setting(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Array(items) => {
            let items = items.iter().map(|item| word(item.get_ref()));
            Some(items.collect::<Option<Vec<_>>>()?.join(" "))
        }
        DeValue::Table(pairs) => {
            let mut pairs: Vec<_> = pairs.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| key.span().start);
            let pairs = pairs.into_iter().map(|(key, value)| {
                let value = word(value.get_ref())?;
                Some(format!("{}={value}", key.get_ref()))
            });
            Some(pairs.collect::<Option<Vec<_>>>()?.join(" "))
        }
        DeValue::String(text) => Some(text.clone().into_owned()),
        value => scalar(value),
    }
}

/// One item of a list, which in nix.conf has no blanks.
fn word(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) if text.is_empty() || text.contains([' ', '\t', '\n', '\r']) => None,
        DeValue::String(text) => Some(text.clone().into_owned()),
        value => scalar(value),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix());
            number.ok().map(|number| number.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(text: &str) -> Option<String> {
        let text = format!("x = {text}");
        let table = DeTable::parse(&text).unwrap();
        as_setting(table.get_ref().values().next().unwrap().get_ref())
    }

    #[test]
    fn values_are_spelt_as_in_nix_conf() {
        for (value, expected) in [
            ("4", "4"),
            ("1_000", "1000"),
            ("0x10", "16"),
            ("true", "true"),
            ("\"a b\"", "a b"),
            ("[\"a\", \"b\", 3]", "a b 3"),
            ("[]", ""),
            ("{ A = \"b\", C = 1 }", "A=b C=1"),
        ] {
            assert_eq!(spelt(value).as_deref(), Some(expected), "{value}");
        }
        for value in [
            "1.5",
            "2020-01-01",
            "[[1]]",
            "[\"a b\"]",
            "{ a = { b = 1 } }",
        ] {
            assert_eq!(spelt(value), None, "{value}");
        }
    }
}
