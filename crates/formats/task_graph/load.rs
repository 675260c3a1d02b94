//! One way into all formats: recognises a file by its name or content and hands it to its loader.
//! Reads no files itself: what a file includes comes through a function the caller gives.

use std::io;
use std::path::Path;

use super::{
    Limits, Place, TaskGraph, TaskGraphError, estee, ninja, stg, tasks_json, wfformat, zipped,
};

/// The formats that can be read from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `build.ninja`.
    Ninja,
    /// WfCommons WfFormat, schemas 1.0 to 1.6.
    WfFormat,
    /// Tasks with work, cores and data, in JSON.
    Tasks,
    /// Estee's lists of tasks, or a table of them.
    Estee,
    /// Standard Task Graph Set.
    Stg,
}

impl Format {
    /// What a file is by the end of its name, or else by how it begins.
    pub fn detect(file: &str, text: &[u8]) -> Option<Self> {
        match file.rsplit('.').next() {
            Some("ninja") => return Some(Self::Ninja),
            Some("json") => return Some(Self::of_json(text)),
            Some("stg") => return Some(Self::Stg),
            _ => {}
        }
        let first = text.trim_ascii_start().first()?;
        if matches!(*first, b'{' | b'[') {
            return Some(Self::of_json(text));
        }
        if first.is_ascii_digit() {
            return Some(Self::Stg);
        }
        let ninja_line = |line: &[u8]| {
            let words: [&[u8]; 6] = [
                b"rule ",
                b"build ",
                b"include ",
                b"subninja ",
                b"pool ",
                b"ninja_required_version",
            ];
            words.iter().any(|word| line.starts_with(word))
        };
        text.split(|&byte| byte == b'\n')
            .take(1_000)
            .any(ninja_line)
            .then_some(Self::Ninja)
    }
}

impl Format {
    /// What a file in JSON is, by the words in it.
    fn of_json(text: &[u8]) -> Self {
        let has = |word: &[u8]| memchr::memmem::find(text, word).is_some();
        // Most files are that, and have the word at their beginning.
        if has(b"\"workflow\"") {
            return Self::WfFormat;
        }
        let is_list = text.trim_ascii_start().starts_with(b"[");
        if has(b"\"graph_name\"") || is_list && has(b"\"d\"") {
            return Self::Estee;
        }
        match has(b"\"tasks\"") {
            true => Self::Tasks,
            false => Self::WfFormat,
        }
    }
}

/// Refuses a file that begins with a byte order mark, as editors of other systems write it: none of
/// the formats has one, and what it is would not show in a message about its bytes.
pub(super) fn refuse_byte_order_mark(file: &str, text: &[u8]) -> Result<(), TaskGraphError> {
    let encoding = match text {
        [0xef, 0xbb, 0xbf, ..] => "UTF-8",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        _ => return Ok(()),
    };
    Err(TaskGraphError::Malformed {
        place: Place::of_offset(file, text, 0),
        reason: format!(
            "the file begins with a byte order mark of {encoding}; save it as UTF-8 without one"
        ),
    })
}

/// Reads a graph of any format. `file` is what messages call it; `read` gives the content of
/// other files that it includes, by the paths written there.
///
/// # Errors
/// If the format is not recognised or the file holds no valid graph; see [`TaskGraphError`].
pub fn load(
    format: Option<Format>,
    file: &str,
    text: &[u8],
    limits: Limits,
    read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Result<TaskGraph, TaskGraphError> {
    load_part(format, (file, None), text, limits, read)
}

/// The same of a file that may hold several graphs, a zip archive or a table, of which the one of
/// that name is meant.
///
/// # Errors
/// The same, and if there is no graph of that name, or a name is needed and not said.
pub fn load_part(
    format: Option<Format>,
    (file, part): (&str, Option<&str>),
    text: &[u8],
    limits: Limits,
    read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Result<TaskGraph, TaskGraphError> {
    if format.is_none() && zipped::is_zip(text) {
        let (content, used) = zipped::unzip(file, text, part, limits)?;
        let part = part.filter(|_| !used);
        return load_plain(None, (file, part), &content, limits, read);
    }
    load_plain(format, (file, part), text, limits, read)
}

fn load_plain(
    format: Option<Format>,
    (file, part): (&str, Option<&str>),
    text: &[u8],
    limits: Limits,
    read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Result<TaskGraph, TaskGraphError> {
    refuse_byte_order_mark(file, text)?;
    let unsuitable = |reason: String| TaskGraphError::Unsuitable {
        file: file.to_owned(),
        reason,
    };
    let format = format
        .or_else(|| Format::detect(file, text))
        .ok_or_else(|| {
            unsuitable(
                "this is neither a ninja file nor a graph in JSON nor an STG file".to_owned(),
            )
        })?;
    if let Some(part) = part
        && format != Format::Estee
    {
        return Err(unsuitable(format!(
            "it holds one graph, none called `{part}`"
        )));
    }
    match format {
        Format::Ninja => ninja::load(file, text, limits, read),
        Format::WfFormat => wfformat::load(file, text, limits),
        Format::Tasks => tasks_json::load(file, text, limits),
        Format::Estee => estee::load(file, text, part, limits),
        Format::Stg => stg::load(file, text, limits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_are_named_in_every_format() {
        for format in [Format::Ninja, Format::WfFormat, Format::Stg] {
            for (mark, encoding) in [
                (&b"\xef\xbb\xbf"[..], "UTF-8"),
                (b"\xff\xfe", "UTF-16"),
                (b"\xfe\xff", "UTF-16"),
            ] {
                let text = [mark, b"rule r\n"].concat();
                let mut nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
                let read = load(Some(format), "f", &text, Limits::default(), &mut nothing);
                let message = read.unwrap_err().to_string();
                let wanted =
                    format!("f:1:1: the file begins with a byte order mark of {encoding};");
                assert!(message.starts_with(&wanted), "{message}");
            }
        }
    }

    #[test]
    fn formats_are_told_by_name_or_content() {
        for (file, text, wanted) in [
            ("build.ninja", "", Some(Format::Ninja)),
            ("x.json", "", Some(Format::WfFormat)),
            ("x.stg", "", Some(Format::Stg)),
            ("x", "\n {", Some(Format::WfFormat)),
            ("x", "   50\n", Some(Format::Stg)),
            ("x", "# made\na = b\nrule cc\n", Some(Format::Ninja)),
            ("x", "hello", None),
            ("", "", None),
        ] {
            assert_eq!(
                Format::detect(file, text.as_bytes()),
                wanted,
                "{file} {text}"
            );
        }
    }
}
