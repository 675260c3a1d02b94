//! Reads `build.ninja`: a task for every build statement that is not phony, an edge where one names
//! another's output. Follows include and subninja, sees through phony rules, skips what only
//! running would need.

mod batch;
mod paths;
mod resolve;
mod scanner;
mod scope;

use std::io;

use super::{Limits, TaskGraph, TaskGraphError};
use batch::{Batch, Statement};
use paths::{PathHash, Paths};
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
    fn memory(&self) -> usize {
        let places = [&self.outputs, &self.ends, &self.inputs].map(Vec::capacity);
        places.iter().sum::<usize>() * size_of::<u32>()
    }

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

    /// The bytes that all of this takes, or will take once the arrays that are full have grown.
    fn memory_ahead(&self) -> u64 {
        let producers = self.producers.capacity() * size_of::<u32>();
        let lists = producers + self.tasks.memory() + self.phonies.memory();
        (self.paths.memory_ahead() + lists) as u64
    }

    fn statements(&mut self, phony: bool) -> &mut Statements {
        if phony {
            &mut self.phonies
        } else {
            &mut self.tasks
        }
    }

    /// Makes sure that there is a place for the producer of a path, new or not.
    #[inline]
    fn known(&mut self, id: Option<u32>) -> Result<u32> {
        let Some(path) = id else {
            let limit = u64::from(u32::MAX);
            return Err(TaskGraphError::TooLarge {
                what: "paths, or bytes of paths",
                limit,
            });
        };
        if path as usize == self.producers.len() {
            self.producers.push(NO_PRODUCER);
        }
        Ok(path)
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

    fn build(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<()> {
        let start = scanner.pos();
        let first = self.batch.raws.len();
        scanner.paths(&mut self.batch.raws)?;
        if scanner.eat(b"|") {
            scanner.skip_spaces();
            scanner.paths(&mut self.batch.raws)?;
        }
        let outputs_end = self.batch.raws.len();
        if outputs_end == first {
            return scanner.expected("the path of an output");
        }
        if !scanner.eat(b":") {
            return scanner.expected("`:`");
        }
        scanner.skip_spaces();
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
        scanner.paths(&mut self.batch.raws)?;
        // Inputs of any kind are edges, except validations, which nothing waits for.
        let mut inputs_end = self.batch.raws.len();
        for separator in [b"|".as_slice(), b"||", b"|@"] {
            let single = separator == b"|" && (scanner.sees(b"||") || scanner.sees(b"|@"));
            if !single && scanner.eat(separator) {
                scanner.skip_spaces();
                scanner.paths(&mut self.batch.raws)?;
                if separator != b"|@" {
                    inputs_end = self.batch.raws.len();
                }
            }
        }
        scanner.end_of_line()?;
        let plain = self.batch.raws[first..].iter().all(|raw| !raw.dollars);
        let own = self.own_variables(scanner, scope, plain)?;
        let statement = Statement {
            start,
            phony,
            outputs_end,
            inputs_end,
        };
        if plain {
            self.batch.raws.truncate(inputs_end);
            self.batch.statements.push(statement);
            if self.batch.is_full() {
                self.settle(scanner)?;
            }
            return Ok(());
        }
        let raws = self.batch.raws.split_off(first);
        self.settle(scanner)?;
        let (outputs, inputs) = (outputs_end - first, inputs_end - first);
        self.state(
            scanner,
            &statement,
            &raws[..inputs],
            outputs,
            |loader, raw| loader.path_id(scanner, raw, &own, scope),
        )
    }

    /// Puts the statements of the batch into the manifest.
    fn settle(&mut self, scanner: &Scanner<'_>) -> Result<()> {
        if self.batch.statements.is_empty() {
            self.batch.raws.clear();
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        let needed = self.manifest.memory_ahead();
        self.limits.admit_file(scanner.file(), needed)?;
        batch.look_ahead(scanner, &self.manifest.paths);
        let (mut first, mut at) = (0, 0);
        for statement in &batch.statements {
            let raws = &batch.raws[first..statement.inputs_end];
            let outputs = statement.outputs_end - first;
            first = statement.inputs_end;
            self.state(scanner, statement, raws, outputs, |loader, raw| {
                let hash = batch.hashes[at];
                at += 1;
                loader.plain_path_id(scanner.bytes(&raw.range), hash)
            })?;
        }
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    /// Puts a statement into the manifest; its first paths, as many as given, are outputs, the
    /// others inputs.
    #[inline]
    fn state(
        &mut self,
        scanner: &Scanner<'_>,
        statement: &Statement,
        raws: &[Raw],
        outputs: usize,
        mut path_id: impl FnMut(&mut Self, &Raw) -> Result<u32>,
    ) -> Result<()> {
        let phony = statement.phony;
        let number = self.number_for_next(phony)?;
        let producer = if phony { number | PHONY } else { number };
        for (place, raw) in raws[..outputs].iter().enumerate() {
            let path = path_id(self, raw)?;
            let made_by = &mut self.manifest.producers[path as usize];
            if *made_by != NO_PRODUCER {
                return Err(TaskGraphError::DuplicateOutput {
                    place: scanner.place(statement.start),
                    output: self.manifest.path_text(path),
                });
            }
            *made_by = producer;
            if place == 0 {
                self.manifest.statements(phony).outputs.push(path);
            }
        }
        for raw in &raws[outputs..] {
            let path = path_id(self, raw)?;
            // Old CMake wrote phony statements that name themselves; ninja ignores that with a
            // warning.
            if !phony || self.manifest.producers[path as usize] != producer {
                self.manifest.statements(phony).inputs.push(path);
            }
        }
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
        plain: bool,
    ) -> Result<Vec<(&'t [u8], Vec<u8>)>> {
        let mut own = Vec::new();
        while scanner.next_line(true)? == Some(true) {
            let (name, value) = scanner.binding()?;
            if !plain {
                self.expand(scanner, &value, &[], scope)?;
                own.push((name, self.scratch.clone()));
            }
        }
        Ok(own)
    }

    /// The id of a path in a statement that has escapes or variables.
    fn path_id(
        &mut self,
        scanner: &Scanner<'_>,
        raw: &Raw,
        own: &[(&[u8], Vec<u8>)],
        scope: ScopeId,
    ) -> Result<u32> {
        let id = if raw.dollars {
            self.expand(scanner, raw, own, scope)?;
            if self.scratch.is_empty() {
                return scanner.wrong(raw.range.start, "this path is empty");
            }
            self.manifest.paths.intern(&self.scratch)
        } else {
            self.manifest.paths.intern(scanner.bytes(&raw.range))
        };
        self.manifest.known(id)
    }

    /// The id of a path that stands as it is, with what is known of its hash.
    #[inline]
    fn plain_path_id(&mut self, path: &[u8], hash: Option<PathHash>) -> Result<u32> {
        let id = match hash {
            Some(hash) => self.manifest.paths.intern_hashed(path, hash),
            None => self.manifest.paths.intern(path),
        };
        self.manifest.known(id)
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
