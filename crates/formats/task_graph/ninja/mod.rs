//! Reads `build.ninja`: a task for every build statement that is not phony, an edge where one names
//! another's output. Follows include and subninja, sees through phony rules, skips what only
//! running would need.

mod batch;
mod manifest;
mod paths;
mod resolve;
mod scanner;
mod scope;
mod statements;

use std::io;

use super::{Limits, TaskGraph, TaskGraphError};
use batch::Batch;
use manifest::Manifest;
use scanner::{Raw, Scanner};
use scope::{ScopeId, Scopes};

pub(super) use paths::is_canonical;

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
    read: &mut dyn FnMut(&str) -> io::Result<Vec<u8>>,
) -> Result<TaskGraph> {
    let statements = memchr::memmem::find_iter(text, b"\nbuild ").count();
    limits.admit(statements as u64, 0)?;
    let mut loader = Loader {
        manifest: Manifest::with_capacity(statements),
        limits,
        read,
        scopes: Scopes::new(),
        reading: Vec::new(),
        known_rule: (Scopes::TOP, Vec::new()),
        batch: Batch::default(),
        scratch: Vec::new(),
    };
    loader.file(file, text, Scopes::TOP)?;
    loader.manifest.into_graph(file, limits)
}

struct Loader<'r> {
    manifest: Manifest,
    limits: Limits,
    read: &'r mut dyn FnMut(&str) -> io::Result<Vec<u8>>,
    scopes: Scopes,
    /// The files under way, outermost first.
    reading: Vec<String>,
    /// The rule that was looked up last, since most statements use the one before's.
    known_rule: (ScopeId, Vec<u8>),
    batch: Batch,
    scratch: Vec<u8>,
}

impl Loader<'_> {
    fn file(&mut self, file: &str, text: &[u8], scope: ScopeId) -> Result<()> {
        self.reading.push(file.to_owned());
        let mut scanner = Scanner::new(file, text);
        let read = self.lines(&mut scanner, scope);
        // Mistakes of statements that stand before the one that could not be read come first.
        self.settle(&scanner)?;
        read?;
        self.reading.pop();
        Ok(())
    }

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
            }
        }
        Ok(())
    }

    fn other_line(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<()> {
        let start = scanner.pos();
        match scanner.identifier("a statement")? {
            b"build" => self.build(scanner, scope),
            b"rule" => {
                let name = scanner.identifier("the name of a rule")?;
                scanner.end_of_line()?;
                if !self.scopes.add_rule(scope, name) {
                    let name = String::from_utf8_lossy(name);
                    return scanner.wrong(start, format!("there is a rule `{name}` already"));
                }
                block_with(scanner, b"command", "the rule's `command =`")
            }
            b"pool" => {
                scanner.identifier("the name of a pool")?;
                scanner.end_of_line()?;
                block_with(scanner, b"depth", "the pool's `depth =`")
            }
            b"default" => self.default_targets(scanner, scope),
            b"include" => self.include(scanner, scope, start),
            b"subninja" => {
                let inner = self.scopes.open(scope);
                self.include(scanner, inner, start)
            }
            name => {
                let value = scanner.assigned()?;
                self.expand(scanner, &value, &[], scope)?;
                self.scopes.set_variable(scope, name, &self.scratch);
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

    fn include(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId, start: usize) -> Result<()> {
        let Some(raw) = scanner.path()? else {
            return scanner.expected("a path");
        };
        scanner.end_of_line()?;
        self.settle(scanner)?;
        self.expand(scanner, &raw, &[], scope)?;
        let path = String::from_utf8_lossy(&self.scratch).into_owned();
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
        let text = (self.read)(&path).map_err(|error| TaskGraphError::Include {
            place: scanner.place(start),
            path: path.clone(),
            reason: error.to_string(),
        })?;
        self.file(&path, &text, scope)
    }

    fn default_targets(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<()> {
        self.settle(scanner)?;
        let start = scanner.pos();
        let mut targets = 0;
        while let Some(raw) = scanner.path()? {
            targets += 1;
            self.expand(scanner, &raw, &[], scope)?;
            if self.manifest.paths.find(&self.scratch).is_none() {
                let target = String::from_utf8_lossy(&self.scratch);
                return scanner.wrong(raw.range.start, format!("`{target}` is no known target"));
            }
        }
        if targets == 0 {
            return scanner.wrong(start, "`default` names no target");
        }
        scanner.end_of_line()
    }
}

/// Reads the indented lines below a rule or pool, of which one must set `required`.
fn block_with(scanner: &mut Scanner<'_>, required: &[u8], what: &str) -> Result<()> {
    let mut found = false;
    while scanner.next_line(true)? == Some(true) {
        found |= scanner.binding()?.0 == required;
    }
    if found {
        Ok(())
    } else {
        scanner.expected(what)
    }
}

/// Files that may include each other in a row.
const MAX_NESTING: usize = 64;

#[cfg(test)]
mod tests;
