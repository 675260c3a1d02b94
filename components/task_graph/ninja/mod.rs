//! Reads `build.ninja`: a task for every build statement that is not phony, an edge where one names
//! another's output. Follows include and subninja, sees through phony rules, skips what only
//! running would need.

mod paths;
mod resolve;
mod scanner;
mod scope;

use std::io;

use super::{Limits, TaskGraph, TaskGraphError};
use paths::Paths;
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
    let mut loader = Loader {
        manifest: Manifest::with_capacity(statements),
        limits,
        read,
        scopes: Scopes::new(),
        reading: Vec::new(),
        known_rule: (Scopes::TOP, Vec::new()),
        raws: Vec::new(),
        scratch: Vec::new(),
    };
    loader.file(file, text, Scopes::TOP)?;
    loader.manifest.into_graph(file, limits)
}

/// Which statement makes a path: none.
const NO_PRODUCER: u32 = u32::MAX;
/// The rest of the number is that of a phony statement.
const PHONY: u32 = 1 << 31;

/// Statements as flat arrays: the first output of each, and its inputs as a row.
#[derive(Default)]
struct Statements {
    outputs: Vec<u32>,
    ends: Vec<u32>,
    inputs: Vec<u32>,
}

impl Statements {
    fn row(&self, statement: usize) -> &[u32] {
        let start = statement
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        &self.inputs[start as usize..self.ends[statement] as usize]
    }
}

/// All that was read, in path ids.
struct Manifest {
    paths: Paths,
    /// By path.
    producers: Vec<u32>,
    tasks: Statements,
    phonies: Statements,
}

impl Manifest {
    fn with_capacity(statements: usize) -> Self {
        let mut tasks = Statements::default();
        tasks.outputs.reserve(statements);
        tasks.ends.reserve(statements);
        Self {
            paths: Paths::with_capacity(statements),
            producers: Vec::with_capacity(statements),
            tasks,
            phonies: Statements::default(),
        }
    }

    fn statements(&mut self, phony: bool) -> &mut Statements {
        if phony {
            &mut self.phonies
        } else {
            &mut self.tasks
        }
    }

    fn path_text(&self, path: u32) -> String {
        String::from_utf8_lossy(self.paths.get(path)).into_owned()
    }
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
    raws: Vec<Raw>,
    scratch: Vec<u8>,
}

impl Loader<'_> {
    fn file(&mut self, file: &str, text: &[u8], scope: ScopeId) -> Result<()> {
        self.reading.push(file.to_owned());
        let mut scanner = Scanner::new(file, text);
        while let Some(indented) = scanner.next_line(false)? {
            if indented {
                return scanner.wrong(scanner.pos(), "this line should not be indented");
            }
            if scanner.eat(b"build ") {
                scanner.skip_spaces();
                self.build(&mut scanner, scope)?;
            } else {
                self.other_line(&mut scanner, scope)?;
            }
        }
        self.reading.pop();
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

    fn paths(&mut self, scanner: &mut Scanner<'_>) -> Result<()> {
        while let Some(raw) = scanner.path()? {
            self.raws.push(raw);
        }
        Ok(())
    }

    fn build(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<()> {
        let start = scanner.pos();
        self.raws.clear();
        self.paths(scanner)?;
        if scanner.eat(b"|") {
            scanner.skip_spaces();
            self.paths(scanner)?;
        }
        if self.raws.is_empty() {
            return scanner.expected("the path of an output");
        }
        if !scanner.eat(b":") {
            return scanner.expected("`:`");
        }
        scanner.skip_spaces();
        let outputs = self.raws.len();
        let rule_at = scanner.pos();
        let rule = scanner.identifier("the name of a rule")?;
        if self.known_rule.0 != scope || self.known_rule.1 != rule {
            if !self.scopes.has_rule(scope, rule) {
                let rule = String::from_utf8_lossy(rule);
                return scanner.wrong(rule_at, format!("there is no rule `{rule}` above"));
            }
            self.known_rule = (scope, rule.to_vec());
        }
        let phony = rule == b"phony";
        self.paths(scanner)?;
        // Inputs of any kind are edges, except validations, which nothing waits for.
        let mut inputs_end = self.raws.len();
        for separator in [b"|".as_slice(), b"||", b"|@"] {
            let single = separator == b"|" && (scanner.sees(b"||") || scanner.sees(b"|@"));
            if !single && scanner.eat(separator) {
                scanner.skip_spaces();
                self.paths(scanner)?;
                if separator != b"|@" {
                    inputs_end = self.raws.len();
                }
            }
        }
        scanner.end_of_line()?;
        let own = self.own_variables(scanner, scope)?;

        let raws = std::mem::take(&mut self.raws);
        let number = self.number_for_next(phony)?;
        let producer = if phony { number | PHONY } else { number };
        for (place, raw) in raws[..outputs].iter().enumerate() {
            let path = self.path_id(scanner, raw, &own, scope)?;
            let made_by = &mut self.manifest.producers[path as usize];
            if *made_by != NO_PRODUCER {
                return Err(TaskGraphError::DuplicateOutput {
                    place: scanner.place(start),
                    output: self.manifest.path_text(path),
                });
            }
            *made_by = producer;
            if place == 0 {
                self.manifest.statements(phony).outputs.push(path);
            }
        }
        for raw in &raws[outputs..inputs_end] {
            let path = self.path_id(scanner, raw, &own, scope)?;
            // Old CMake wrote phony statements that name themselves; ninja ignores that with a
            // warning.
            if !phony || self.manifest.producers[path as usize] != producer {
                self.manifest.statements(phony).inputs.push(path);
            }
        }
        self.raws = raws;
        let statements = self.manifest.statements(phony);
        let Ok(end) = u32::try_from(statements.inputs.len()) else {
            let limit = u64::from(u32::MAX);
            return Err(TaskGraphError::TooLarge {
                what: "inputs of build statements",
                limit,
            });
        };
        statements.ends.push(end);
        Ok(())
    }

    fn number_for_next(&mut self, phony: bool) -> Result<u32> {
        let number = self.manifest.statements(phony).outputs.len() as u32;
        if number.is_multiple_of(STATEMENTS_BETWEEN_CHECKS) {
            let edges = self.manifest.tasks.inputs.len() + self.manifest.phonies.inputs.len();
            self.limits.admit(u64::from(number), edges as u64)?;
        }
        if number == PHONY - 1 {
            let limit = u64::from(number);
            return Err(TaskGraphError::TooLarge {
                what: "build statements",
                limit,
            });
        }
        Ok(number)
    }

    /// The indented lines below a build statement; their values only if one of its paths may need
    /// them.
    fn own_variables<'t>(
        &mut self,
        scanner: &mut Scanner<'t>,
        scope: ScopeId,
    ) -> Result<Vec<(&'t [u8], Vec<u8>)>> {
        let needed = self.raws.iter().any(|raw| raw.dollars);
        let mut own = Vec::new();
        while scanner.next_line(true)? == Some(true) {
            let (name, value) = scanner.binding()?;
            if needed {
                self.expand(scanner, &value, &[], scope)?;
                own.push((name, self.scratch.clone()));
            }
        }
        Ok(own)
    }

    #[inline]
    fn path_id(
        &mut self,
        scanner: &Scanner<'_>,
        raw: &Raw,
        own: &[(&[u8], Vec<u8>)],
        scope: ScopeId,
    ) -> Result<u32> {
        let path = if raw.dollars {
            self.expand(scanner, raw, own, scope)?;
            if self.scratch.is_empty() {
                return scanner.wrong(raw.range.start, "this path is empty");
            }
            self.manifest.paths.intern(&self.scratch)
        } else {
            self.manifest.paths.intern(scanner.bytes(&raw.range))
        };
        let Some(path) = path else {
            let limit = u64::from(u32::MAX);
            return Err(TaskGraphError::TooLarge {
                what: "paths, or bytes of paths",
                limit,
            });
        };
        if path as usize == self.manifest.producers.len() {
            self.manifest.producers.push(NO_PRODUCER);
        }
        Ok(path)
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
/// Between two checks of the limits.
const STATEMENTS_BETWEEN_CHECKS: u32 = 1 << 16;

#[cfg(test)]
mod tests;
