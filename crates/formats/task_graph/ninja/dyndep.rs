//! Dyndep files: inputs and outputs of statements that stand beside the manifest, and are known
//! only once something has been built. Read behind all statements, with ninja's rules for them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hashbrown::{HashMap, HashSet};

use super::batch::Statement;
use super::manifest::{NO_PRODUCER, PHONY};
use super::scanner::{Raw, Scanner};
use super::scope::{DYNDEP, OwnVariables, ScopeId};
use super::{Loader, Result, TaskGraphError, spelt};

/// The line that a dyndep file begins with.
const VERSION: &[u8] = b"ninja_dyndep_version";

/// What is known of dyndep files before they are read.
#[derive(Default)]
pub(super) struct Dyndeps {
    /// For each statement that has one, its number as a producer and the file's path.
    statements: Vec<(u32, u32)>,
}

/// A statement of a dyndep file: what is added to the statement that makes its output.
#[derive(Default)]
struct Addition {
    outputs: Vec<u32>,
    inputs: Vec<u32>,
}

impl Loader<'_> {
    /// The value of a rule's variable for the statement read last, whose variables these are.
    pub(super) fn expand_for_rule(
        &mut self,
        value: &[u8],
        mut own: OwnVariables<'_>,
        phony: bool,
        scope: ScopeId,
    ) -> Result<Vec<u8>> {
        own.push((b"out", self.manifest.last_output(phony).to_vec()));
        let raw = Raw {
            range: 0..value.len(),
            dollars: true,
            dots_or_slashes: true,
        };
        self.expand(&Scanner::new("a rule", value), &raw, &own, scope)?;
        Ok(self.scratch.clone())
    }

    /// Notes that the statement read last has a dyndep file, which must be an input of it.
    pub(super) fn note_dyndep(
        &mut self,
        scanner: &Scanner<'_>,
        statement: &Statement,
        file: &[u8],
    ) -> Result<()> {
        if file.is_empty() {
            return Ok(());
        }
        let id = self.manifest.paths.intern(file);
        let path = self.manifest.known(id)?;
        let statements = self.manifest.statements(statement.phony);
        let last = statements.outputs.len() - 1;
        if !statements.row(last).contains(&path) {
            let reason = format!(
                "the dyndep file `{}` is no input of this statement",
                spelt(file)
            );
            return scanner.wrong(statement.start, reason);
        }
        let number = last as u32;
        let producer = if statement.phony {
            number | PHONY
        } else {
            number
        };
        self.dyndeps.statements.push((producer, path));
        Ok(())
    }

    /// Reads all dyndep files that statements of `file` name, and adds what they say.
    pub(super) fn read_dyndeps(&mut self, file: &str) -> Result<()> {
        let mut of_file: HashMap<u32, HashSet<u32>> = HashMap::new();
        let mut files = Vec::new();
        for (producer, path) in std::mem::take(&mut self.dyndeps.statements) {
            let statements = of_file.entry(path).or_insert_with(|| {
                files.push(path);
                HashSet::new()
            });
            statements.insert(producer);
        }
        let (mut of_tasks, mut of_phonies) = (Vec::new(), Vec::new());
        for path in files {
            let statements = &of_file[&path];
            for (producer, addition) in self.read_dyndep(file, path, statements)? {
                self.add_outputs(path, producer, &addition)?;
                let list = match producer & PHONY {
                    0 => &mut of_tasks,
                    _ => &mut of_phonies,
                };
                let number = producer & !PHONY;
                list.extend(addition.inputs.into_iter().map(|input| (number, input)));
            }
        }
        self.manifest.tasks.add_inputs(of_tasks);
        self.manifest.phonies.add_inputs(of_phonies);
        Ok(())
    }

    /// Reads one dyndep file, for the statements that name it.
    fn read_dyndep(
        &mut self,
        file: &str,
        path: u32,
        statements: &HashSet<u32>,
    ) -> Result<HashMap<u32, Addition>> {
        let name = self.manifest.path_text(path);
        let bytes = self.manifest.paths.get(path);
        let read = (self.read)(Path::new(OsStr::from_bytes(bytes)));
        let text = read.map_err(|error| TaskGraphError::Unsuitable {
            file: file.to_owned(),
            reason: match self.manifest.producers[path as usize] {
                NO_PRODUCER => format!("cannot read the dyndep file `{name}`: {error}"),
                _ => format!(
                    "cannot read the dyndep file `{name}`: {error}; a statement makes it, so have \
                     ninja build it first"
                ),
            },
        })?;
        super::super::load::refuse_byte_order_mark(&name, &text)?;
        let mut scanner = Scanner::new(&name, &text);
        let mut additions = HashMap::new();
        self.dyndep_version(&mut scanner)?;
        while let Some(indented) = scanner.next_line(false)? {
            let start = scanner.pos();
            if indented {
                return scanner.wrong(start, "this line should not be indented");
            }
            if scanner.identifier("a build statement")? != b"build" {
                return scanner.wrong(start, "only build statements stand in a dyndep file");
            }
            let (producer, addition) = self.dyndep_statement(&mut scanner, start)?;
            if !statements.contains(&producer) {
                let reason = format!("the statement that makes this output does not name `{name}`");
                return scanner.wrong(start, reason);
            }
            if additions.insert(producer, addition).is_some() {
                return scanner.wrong(start, "there is a statement for this output already");
            }
        }
        let mut silent: Vec<u32> = statements
            .iter()
            .copied()
            .filter(|producer| !additions.contains_key(producer))
            .collect();
        silent.sort_unstable();
        match silent.first() {
            None => Ok(additions),
            Some(&producer) => Err(TaskGraphError::Unsuitable {
                file: name,
                reason: format!(
                    "`{}` is not mentioned, though its statement names this dyndep file",
                    self.output_of(producer)
                ),
            }),
        }
    }

    fn output_of(&self, producer: u32) -> String {
        let statements = match producer & PHONY {
            0 => &self.manifest.tasks,
            _ => &self.manifest.phonies,
        };
        let output = statements.outputs[(producer & !PHONY) as usize];
        self.manifest.path_text(output)
    }

    fn dyndep_version(&mut self, scanner: &mut Scanner<'_>) -> Result<()> {
        let wanted = "`ninja_dyndep_version =`";
        if scanner.next_line(false)? != Some(false) || !scanner.sees(VERSION) {
            return scanner.expected(wanted);
        }
        let start = scanner.pos();
        let (name, value) = scanner.binding()?;
        let value = scanner.bytes(&value.range);
        let (major, minor) = (number_at(value, 0), number_at(value, 1));
        if name != VERSION || (major, minor) != (1, 0) {
            let version = spelt(value);
            let reason = format!("version `{version}` of dyndep files is not known; 1 is");
            return scanner.wrong(start, reason);
        }
        Ok(())
    }

    /// A build statement, behind the word `build`: the number of the one that it adds to, and what
    /// it adds.
    fn dyndep_statement(
        &mut self,
        scanner: &mut Scanner<'_>,
        start: usize,
    ) -> Result<(u32, Addition)> {
        let mut outputs = Vec::new();
        scanner.paths(&mut outputs)?;
        let [output] = &outputs[..] else {
            return scanner.wrong(start, "one output should stand here, and others after `|`");
        };
        self.dyndep_path(scanner, output)?;
        let known = self.manifest.paths.find(&self.scratch);
        let producer = known.map_or(NO_PRODUCER, |path| self.manifest.producers[path as usize]);
        if producer == NO_PRODUCER {
            let reason = format!("no build statement makes `{}`", spelt(&self.scratch));
            return scanner.wrong(start, reason);
        }
        let mut added = [Vec::new(), Vec::new()];
        for (side, separator) in added.iter_mut().zip([b":".as_slice(), b""]) {
            if scanner.eat(b"|") {
                scanner.skip_spaces();
                scanner.paths(side)?;
            }
            if !scanner.eat(separator) {
                return scanner.expected("`:`");
            }
            if separator == b":" {
                scanner.skip_spaces();
                let at = scanner.pos();
                if scanner.identifier("`dyndep`")? != DYNDEP {
                    return scanner.wrong(at, "the rule of a dyndep statement is `dyndep`");
                }
            }
        }
        scanner.end_of_line()?;
        while scanner.next_line(true)? == Some(true) {
            let at = scanner.pos();
            if scanner.binding()?.0 != b"restat" {
                return scanner.wrong(at, "a dyndep statement has no variable but `restat`");
            }
        }
        let [outputs, inputs] = added;
        let outputs = self.dyndep_paths(scanner, &outputs)?;
        let inputs = self.dyndep_paths(scanner, &inputs)?;
        Ok((producer, Addition { outputs, inputs }))
    }

    /// Puts a path into `scratch`. A dyndep file sees no variables.
    fn dyndep_path(&mut self, scanner: &Scanner<'_>, raw: &Raw) -> Result<()> {
        self.scratch.clear();
        scanner.expand(raw, |_| b"", &mut self.scratch)?;
        match self.scratch.is_empty() {
            true => scanner.wrong(raw.range.start, "this path is empty"),
            false => Ok(()),
        }
    }

    fn dyndep_paths(&mut self, scanner: &Scanner<'_>, raws: &[Raw]) -> Result<Vec<u32>> {
        let mut paths = Vec::with_capacity(raws.len());
        for raw in raws {
            self.dyndep_path(scanner, raw)?;
            let id = self.manifest.paths.intern(&self.scratch);
            paths.push(self.manifest.known(id)?);
        }
        Ok(paths)
    }

    fn add_outputs(&mut self, file: u32, producer: u32, addition: &Addition) -> Result<()> {
        for &output in &addition.outputs {
            let made_by = &mut self.manifest.producers[output as usize];
            if *made_by != NO_PRODUCER {
                return Err(TaskGraphError::Unsuitable {
                    file: self.manifest.path_text(file),
                    reason: format!(
                        "`{}` is already the output of a build statement",
                        self.manifest.path_text(output)
                    ),
                });
            }
            *made_by = producer;
        }
        Ok(())
    }
}

/// A number of a version with dots in it, as ninja reads it: up to what is no digit, or 0.
fn number_at(version: &[u8], place: usize) -> u32 {
    let part = version.split(|&byte| byte == b'.').nth(place);
    let digits = part
        .unwrap_or_default()
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u32, &digit| {
        number
            .saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests;
