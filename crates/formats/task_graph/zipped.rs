//! Takes one file out of a zip archive, in memory and no larger than allowed.

use std::io::{Cursor, Read as _};

use super::{Limits, TaskGraphError};

/// Whether that is a zip archive.
pub(super) fn is_zip(text: &[u8]) -> bool {
    text.starts_with(b"PK\x03\x04")
}

/// The file of that name, with or without what follows its first dot; the only one needs no name.
/// Tells as well whether the name has been used for that.
///
/// # Errors
/// If the archive is malformed, has no such file, or that would not fit into memory.
pub(super) fn unzip(
    file: &str,
    text: &[u8],
    name: Option<&str>,
    limits: Limits,
) -> Result<(Vec<u8>, bool), TaskGraphError> {
    let wrong = |reason: String| TaskGraphError::Unsuitable {
        file: file.to_owned(),
        reason,
    };
    let broken = |error: &dyn std::fmt::Display| wrong(format!("the archive is broken: {error}"));
    let archive = zip::ZipArchive::new(Cursor::new(text));
    let mut archive = archive.map_err(|error| broken(&error))?;
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .collect();
    let stem = |path: &str| {
        let base = path.rsplit('/').next().unwrap_or(path);
        base.split('.').next().unwrap_or(base).to_owned()
    };
    let is_it = |known: &&String| name.is_some_and(|name| **known == name || stem(known) == name);
    let named = names.iter().find(is_it);
    let used = named.is_some();
    let chosen = named.or(match &names[..] {
        [only] => Some(only),
        _ => None,
    });
    let chosen = chosen.ok_or_else(|| {
        let all: Vec<String> = names.iter().map(|name| stem(name)).collect();
        let first = all.first().map_or("NAME", String::as_str);
        wrong(format!(
            "say which of its files is meant, as in {file}:{first}; there are {}",
            all.join(", ")
        ))
    })?;
    let entry = archive.by_name(chosen).map_err(|error| broken(&error))?;
    limits.admit_file(file, entry.size())?;
    let mut content = Vec::new();
    // What an entry says of its size need not be so.
    let read = entry
        .take(limits.memory_bytes.saturating_add(1))
        .read_to_end(&mut content);
    read.map_err(|error| broken(&error))?;
    limits.admit_file(file, content.len() as u64)?;
    Ok((content, used))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            let options = zip::write::SimpleFileOptions::default();
            writer.start_file(*name, options).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_file_is_taken_by_its_name_or_because_it_is_the_only_one() {
        let take = |archive: &[u8], name: Option<&str>| {
            let taken = unzip("a.zip", archive, name, Limits::default())?;
            Ok::<_, TaskGraphError>((String::from_utf8(taken.0).unwrap(), taken.1))
        };
        let two = archive(&[("dir/one.json", "1"), ("two.json", "2")]);
        assert!(is_zip(&two));
        assert_eq!(take(&two, Some("one")).unwrap(), ("1".to_owned(), true));
        assert_eq!(
            take(&two, Some("two.json")).unwrap(),
            ("2".to_owned(), true)
        );
        let message = take(&two, None).unwrap_err().to_string();
        assert!(
            message.contains("as in a.zip:one; there are one, two"),
            "{message}"
        );
        let one = archive(&[("one.json", "1")]);
        assert_eq!(take(&one, Some("graph")).unwrap(), ("1".to_owned(), false));
        let cut = take(&one[..20], None).unwrap_err().to_string();
        assert!(cut.contains("the archive is broken"), "{cut}");
        let small = Limits { memory_bytes: 0 };
        assert!(unzip("a.zip", &one, None, small).is_err());
    }
}
