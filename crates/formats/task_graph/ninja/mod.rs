//! Reads `build.ninja`: a task for every build statement that is not phony, an edge where one names
//! another's output. Follows include and subninja, sees through phony rules, skips what only
//! running would need.

mod batch;
mod dyndep;
mod manifest;
mod paths;
mod pools;
mod resolve;
mod scanner;
mod scope;
mod statements;
mod steps;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use super::{Limits, TaskGraph, TaskGraphError, spelt};
use batch::Batch;
use dyndep::Dyndeps;
use manifest::Manifest;
use pools::Pools;
use scanner::{Raw, Scanner};
use scope::{Rule, ScopeId, Scopes};

pub(super) use paths::is_canonical;
pub(crate) use steps::read_steps;

type Result<T> = std::result::Result<T, TaskGraphError>;

/// Reads a graph. Every task of the file is taken, whatever `default` says.
///
/// # Errors
/// If a file is malformed, cut, or cannot be read, if two statements make one output, or the tasks
/// wait for each other.
pub(super) fn load(
    file: &str,
    text: &[u8],
    limits: Limits,
    read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Result<TaskGraph> {
    let statements = memchr::memmem::find_iter(text, b"\nbuild ").count();
    limits.admit(statements as u64, 0)?;
    let mut loader = Loader {
        manifest: Manifest::with_capacity(statements),
        limits,
        read,
        scopes: Scopes::new(),
        reading: Vec::new(),
        included: None,
        dyndeps: Dyndeps::default(),
        known_rule: None,
        pools: Pools::new(),
        batch: Batch::default(),
        scratch: Vec::new(),
        expanded: 0,
    };
    loader.files(file, text)?;
    loader.read_dyndeps(file)?;
    loader.manifest.into_graph(file, limits)
}

struct Loader<'r> {
    manifest: Manifest,
    limits: Limits,
    read: &'r mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    scopes: Scopes,
    /// The files under way, outermost first.
    reading: Vec<String>,
    /// The file that the line just read includes.
    included: Option<Included>,
    /// Statements some of whose inputs and outputs stand in files of their own.
    dyndeps: Dyndeps,
    /// The rule that was looked up last, since most statements use the one before's.
    known_rule: Option<(ScopeId, Vec<u8>, Rc<Rule>)>,
    pools: Pools,
    batch: Batch,
    scratch: Vec<u8>,
    /// How many bytes the values have that are kept, with their variables replaced.
    expanded: usize,
}

/// A file that is read next, before the rest of the one that includes it.
struct Included {
    file: String,
    text: Vec<u8>,
    scope: ScopeId,
}

/// A file under way.
struct Open<'t> {
    file: String,
    text: Cow<'t, [u8]>,
    scope: ScopeId,
    /// How far it has been read.
    pos: usize,
}

impl Loader<'_> {
    /// Reads a file and all that it includes, each where it is included. They are on a stack of
    /// their own, since ninja takes thousands in a row.
    fn files(&mut self, file: &str, text: &[u8]) -> Result<()> {
        let mut open = vec![Open {
            file: file.to_owned(),
            text: Cow::Borrowed(text),
            scope: Scopes::TOP,
            pos: 0,
        }];
        self.reading.push(file.to_owned());
        while let Some(top) = open.last_mut() {
            let mut scanner = Scanner::resumed(&top.file, &top.text, top.pos);
            if top.pos == 0 {
                super::load::refuse_byte_order_mark(&top.file, &top.text)?;
            }
            let read = self.lines(&mut scanner, top.scope);
            // Mistakes of statements that stand before the one that could not be read come first.
            self.settle(&scanner)?;
            read?;
            top.pos = scanner.pos();
            match self.included.take() {
                Some(Included { file, text, scope }) => {
                    self.reading.push(file.clone());
                    open.push(Open {
                        file,
                        text: Cow::Owned(text),
                        scope,
                        pos: 0,
                    });
                    let held: usize = open.iter().map(|open| open.text.len()).sum();
                    self.limits.admit_file(file_of(&open), held as u64)?;
                }
                None => {
                    open.pop();
                    self.reading.pop();
                }
            }
        }
        Ok(())
    }

    /// Reads on, to the end or to a line that includes a file.
    fn lines(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<()> {
        while let Some(indented) = scanner.next_line(false)? {
            if indented {
                return scanner.wrong(scanner.pos(), "this line should not be indented");
            }
            if scanner.eat(b"build ") {
                scanner.skip_spaces();
                self.build(scanner, scope)?;
            } else {
                self.other_line(scanner, scope)?;
                if self.included.is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn other_line(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<()> {
        let start = scanner.pos();
        match scanner.identifier("a statement")? {
            b"build" => self.build(scanner, scope),
            b"rule" => self.add_rule(scanner, scope, start),
            b"pool" => self.add_pool(scanner, scope, start),
            b"default" => self.default_targets(scanner, scope),
            b"include" => self.include(scanner, scope, start),
            b"subninja" => {
                let inner = self.scopes.open(scope);
                self.include(scanner, inner, start)
            }
            name => {
                let value = scanner.assigned()?;
                self.expand(scanner, &value, &[], scope)?;
                self.count(scanner, &value)?;
                let old = self.scopes.set_variable(scope, name, &self.scratch);
                self.expanded = self.expanded.saturating_sub(old);
                Ok(())
            }
        }
    }

    /// Puts a path or value into `scratch` with its variables replaced, those of the statement
    /// itself first.
    fn expand(
        &mut self,
        scanner: &Scanner<'_>,
        raw: &Raw,
        own: &[(&[u8], Vec<u8>)],
        scope: ScopeId,
    ) -> Result<()> {
        self.scratch.clear();
        let scopes = &self.scopes;
        let variable = |name: &[u8]| {
            let own = own.iter().rev().find(|(key, _)| *key == name);
            own.map_or_else(
                || scopes.variable(scope, name),
                |(_, value)| value.as_slice(),
            )
        };
        scanner.expand(raw, variable, &mut self.scratch)
    }

    /// Counts what is in `scratch`, which is to be kept, unless it stands in the file as it is.
    fn count(&mut self, scanner: &Scanner<'_>, raw: &Raw) -> Result<()> {
        self.expanded += self.scratch.len().saturating_sub(raw.range.len());
        if self.expanded <= ALL_EXPANDED_MAX {
            return Ok(());
        }
        let text = format!(
            "with their variables replaced, values and paths have more than {ALL_EXPANDED_MAX} bytes"
        );
        scanner.wrong(raw.range.start, text)
    }

    fn include(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId, start: usize) -> Result<()> {
        let Some(raw) = scanner.path()? else {
            return scanner.expected("a path");
        };
        scanner.end_of_line()?;
        self.settle(scanner)?;
        self.expand(scanner, &raw, &[], scope)?;
        let path = spelt(&self.scratch).into_owned();
        if let Some(from) = self.reading.iter().position(|file| *file == path) {
            return Err(TaskGraphError::IncludeCycle {
                place: scanner.place(start),
                path,
                chain: self.reading.split_off(from),
            });
        }
        if self.reading.len() == MAX_NESTING {
            return scanner.wrong(
                start,
                format!("more than {MAX_NESTING} files are nested here"),
            );
        }
        let read = (self.read)(Path::new(OsStr::from_bytes(&self.scratch)));
        let text = read.map_err(|error| TaskGraphError::Include {
            place: scanner.place(start),
            path: path.clone(),
            reason: error.to_string(),
        })?;
        self.included = Some(Included {
            file: path,
            text,
            scope,
        });
        Ok(())
    }

    fn default_targets(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<()> {
        self.settle(scanner)?;
        let start = scanner.pos();
        let mut targets = 0;
        while let Some(raw) = scanner.path()? {
            targets += 1;
            self.expand(scanner, &raw, &[], scope)?;
            if self.manifest.paths.find(&self.scratch).is_none() {
                let target = spelt(&self.scratch);
                return scanner.wrong(raw.range.start, format!("`{target}` is no known target"));
            }
        }
        if targets == 0 {
            return scanner.wrong(start, "`default` names no target");
        }
        scanner.end_of_line()
    }
}

fn file_of<'o>(open: &'o [Open<'_>]) -> &'o str {
    open.first().map_or("", |open| &open.file)
}

/// How much longer all values and paths together may become when their variables are replaced, in
/// bytes.
const ALL_EXPANDED_MAX: usize = 512 << 20;

/// Files that may include each other in a row: more than ninja's own stack has room for.
const MAX_NESTING: usize = 20_000;

#[cfg(test)]
mod tests;
