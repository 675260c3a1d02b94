//! Reads settings from text: the lines of a configuration file, with includes, and the packed
//! options of Nix 1.8. Knows the syntax and no setting.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{ConfLine, Warning};
use crate::conf::error::ConfError;
use windrow_components::settings::{Effect, Known, Settings, words};

/// How many files may be included in all, so that files which include each other twice, and those
/// again twice, end in a message.
const INCLUDES_MAX: u32 = 256;

/// How large a file may be, so that an endless one (a device, a pipe) isn't read for ever.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Device and inode, which tell a file by whatever path it is reached.
type FileId = (u64, u64);

/// Applies one source after the other to the same settings.
pub(super) struct Reader<'a> {
    pub(super) settings: &'a mut Settings,
    pub(super) warnings: Vec<Warning>,
    /// Settings that were set and have no effect.
    pub(super) without_effect: Vec<(String, ConfLine)>,
    /// The files being read: the first one, what it includes, what that includes.
    open: Vec<FileId>,
    includes: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a mut Settings) -> Reader<'a> {
        Reader {
            settings,
            warnings: Vec::new(),
            without_effect: Vec::new(),
            open: Vec::new(),
            includes: 0,
        }
    }

    /// The contents of a file; none if it is missing, or can't be read, which is warned of.
    pub(super) fn read(&mut self, file: &Path) -> Option<Vec<u8>> {
        match read(file) {
            Ok((_, bytes)) => Some(bytes),
            Err(error) => {
                self.pass_over(file, &error);
                None
            }
        }
    }

    /// Applies a file, unless it is missing.
    pub(super) fn file(&mut self, file: &Path) -> Result<(), ConfError> {
        match read(file) {
            Ok((id, bytes)) => self.contents(file, id, &bytes),
            Err(error) => {
                self.pass_over(file, &error);
                Ok(())
            }
        }
    }

    /// Applies configuration lines that a variable holds.
    pub(super) fn variable(&mut self, name: &str, bytes: &[u8]) -> Result<(), ConfError> {
        self.lines(Path::new(name), None, bytes)
    }

    /// Applies options as Nix 1.8 packs them: NAME=VALUE, one a line, nothing escaped.
    pub(super) fn packed(&mut self, name: &str, bytes: &[u8]) -> Result<(), ConfError> {
        for (place, line) in numbered(Path::new(name), bytes) {
            let line = utf8(line, &place)?;
            if line.is_empty() {
                continue;
            }
            match line.split_once('=') {
                // The daemon of 1.8 marks so what a client asked for without being trusted.
                Some((name, _)) if name.starts_with("untrusted-") => {}
                Some((name, value)) => self.set(name, value, place)?,
                None => {
                    return Err(ConfError::OptionSyntax {
                        place,
                        line: line.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn contents(&mut self, file: &Path, id: FileId, bytes: &[u8]) -> Result<(), ConfError> {
        self.open.push(id);
        let dir = file.parent().unwrap_or(Path::new("/"));
        let result = self.lines(file, Some(dir), bytes);
        self.open.pop();
        result
    }

    /// Applies lines; relative includes start at `dir`, if there is one.
    fn lines(&mut self, origin: &Path, dir: Option<&Path>, bytes: &[u8]) -> Result<(), ConfError> {
        for (place, line) in numbered(origin, bytes) {
            // Comments are cut before the text is decoded: they may be in any encoding.
            let code = line.split(|&byte| byte == b'#').next().unwrap_or_default();
            let line = utf8(code, &place)?;
            let mut words = words(line);
            let line = || line.trim().to_owned();
            match (words.next(), words.next()) {
                (None, _) => {}
                (Some(include @ ("include" | "!include")), file) => match (file, words.next()) {
                    (Some(file), None) => {
                        self.include(Path::new(file), dir, include == "!include", place)?;
                    }
                    _ => {
                        return Err(ConfError::IncludeSyntax {
                            place,
                            line: line(),
                        });
                    }
                },
                (Some(name), Some("=")) => {
                    let value = words.collect::<Vec<_>>().join(" ");
                    self.set(name, &value, place.clone())?;
                    self.note_effect(name, place);
                }
                _ => {
                    return Err(ConfError::Syntax {
                        place,
                        line: line(),
                    });
                }
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        file: &Path,
        dir: Option<&Path>,
        may_miss: bool,
        place: ConfLine,
    ) -> Result<(), ConfError> {
        let file = match dir {
            Some(dir) => dir.join(file),
            None if file.is_absolute() => file.to_owned(),
            None => {
                return Err(ConfError::IncludeRelative {
                    place,
                    file: file.to_owned(),
                });
            }
        };
        self.includes += 1;
        if self.includes > INCLUDES_MAX {
            return Err(ConfError::TooManyIncludes {
                place,
                limit: INCLUDES_MAX,
            });
        }
        match read(&file) {
            Ok((id, _)) if self.open.contains(&id) => Err(ConfError::IncludeLoop { place, file }),
            Ok((id, bytes)) => self.contents(&file, id, &bytes),
            Err(error) if is_missing(&error) && !may_miss => {
                Err(ConfError::IncludeMissing { place, file })
            }
            Err(error) => {
                self.pass_over(&file, &error);
                Ok(())
            }
        }
    }

    pub(super) fn set(
        &mut self,
        name: &str,
        value: &str,
        place: ConfLine,
    ) -> Result<(), ConfError> {
        match self.settings.set(name, value) {
            Ok(Known::Yes | Known::Ignored) => {}
            Ok(Known::No) => self.warnings.push(Warning::unknown(name, place)),
            Err(source) => return Err(ConfError::Value { place, source }),
        }
        Ok(())
    }

    /// Not for packed options: whoever packed them has read them from where they were set.
    pub(super) fn note_effect(&mut self, name: &str, place: ConfLine) {
        let effect = Settings::todays_name(name).and_then(Settings::effect);
        if effect == Some(Effect::None) {
            self.without_effect.push((name.to_owned(), place));
        }
    }

    fn pass_over(&mut self, file: &Path, error: &io::Error) {
        if !is_missing(error) {
            let reason = error.to_string();
            self.warnings.push(Warning::Unreadable {
                file: file.to_owned(),
                reason,
            });
        }
    }
}

fn read(file: &Path) -> io::Result<(FileId, Vec<u8>)> {
    let opened = File::open(file)?;
    let found = opened.metadata()?;
    let mut bytes = Vec::new();
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(((found.dev(), found.ino()), bytes))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn numbered<'a>(origin: &Path, bytes: &'a [u8]) -> impl Iterator<Item = (ConfLine, &'a [u8])> {
    let origin: PathBuf = origin.to_owned();
    let lines = bytes.split(|&byte| byte == b'\n').zip(1..);
    lines.map(move |(text, line)| {
        (
            ConfLine {
                origin: origin.clone(),
                line,
            },
            text,
        )
    })
}

fn utf8<'a>(bytes: &'a [u8], place: &ConfLine) -> Result<&'a str, ConfError> {
    std::str::from_utf8(bytes).map_err(|_| ConfError::NotUtf8 {
        place: place.clone(),
    })
}
