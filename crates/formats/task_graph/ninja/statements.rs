//! Reads build statements and puts them into the manifest: those whose paths stand as they are in
//! batches, the others one by one.

use std::rc::Rc;

use super::batch::Statement;
use super::manifest::{NO_PRODUCER, PHONY};
use super::paths::PathHash;
use super::scanner::{Raw, Scanner};
use super::scope::{DYNDEP, OwnVariables, POOL, Rule, ScopeId};
use super::{Loader, Result, TaskGraphError};

/// Between two checks of the limits.
const STATEMENTS_BETWEEN_CHECKS: u32 = 1 << 16;

impl Loader<'_> {
    pub(super) fn build(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<()> {
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
        let (phony, rule) = self.rule(scanner, scope)?;
        let inputs_end = self.inputs(scanner)?;
        let mut plain = self.batch.raws[first..].iter().all(|raw| !raw.dollars);
        let (own, dyndep) = self.own_variables(scanner, scope, (plain, &rule))?;
        let of_rule = rule.dyndep.as_deref();
        // To know its pool then takes its first output.
        let late_pool = rule.pool.as_ref().is_some_and(|it| it.contains(&b'$'));
        plain &= dyndep.is_none() && of_rule.is_none() && !late_pool;
        if !late_pool {
            self.check_pool(scanner, (start, phony), (&own, &rule), scope)?;
        }
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
        )?;
        if late_pool {
            self.check_pool(scanner, (start, phony), (&own, &rule), scope)?;
        }
        let file = match (dyndep, of_rule) {
            (None, Some(value)) => Some(self.expand_for_rule(value, own, phony, scope)?),
            (file, _) => file,
        };
        match file {
            Some(file) => self.note_dyndep(scanner, &statement, &file),
            None => Ok(()),
        }
    }

    /// The rule of a statement, which must stand above, and whether it is `phony`.
    #[inline]
    fn rule(&mut self, scanner: &mut Scanner<'_>, scope: ScopeId) -> Result<(bool, Rc<Rule>)> {
        let start = scanner.pos();
        let name = scanner.identifier("the name of a rule")?;
        let phony = name == b"phony";
        if let Some((of, known, rule)) = &self.known_rule
            && *of == scope
            && known == name
        {
            return Ok((phony, Rc::clone(rule)));
        }
        let Some(rule) = self.scopes.rule(scope, name) else {
            let name = String::from_utf8_lossy(name);
            return scanner.wrong(start, format!("there is no rule `{name}` above"));
        };
        let rule = Rc::clone(rule);
        self.known_rule = Some((scope, name.to_vec(), Rc::clone(&rule)));
        Ok((phony, rule))
    }

    /// Reads the inputs of a statement to the end of its line, and returns where they end. Inputs
    /// of any kind are edges, except validations, which nothing waits for.
    #[inline]
    fn inputs(&mut self, scanner: &mut Scanner<'_>) -> Result<usize> {
        scanner.paths(&mut self.batch.raws)?;
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
        Ok(inputs_end)
    }

    /// The indented lines below a build statement; the values of most only if one of its paths, or
    /// its rule, may need them. Also the value of `dyndep`, if it has one.
    fn own_variables<'t>(
        &mut self,
        scanner: &mut Scanner<'t>,
        scope: ScopeId,
        (plain, rule): (bool, &Rule),
    ) -> Result<(OwnVariables<'t>, Option<Vec<u8>>)> {
        let (mut own, mut dyndep) = (Vec::new(), None);
        let may_need_them = !plain || rule.dyndep.is_some() || rule.pool.is_some();
        let before = self.expanded;
        while scanner.next_line(true)? == Some(true) {
            let (name, value) = scanner.binding()?;
            let is_dyndep = name == DYNDEP;
            if may_need_them || is_dyndep || name == POOL {
                self.expand(scanner, &value, &[], scope)?;
                self.count(scanner, &value)?;
                own.push((name, self.scratch.clone()));
            }
            if is_dyndep {
                dyndep = Some(self.scratch.clone());
            }
        }
        // They are kept as long as their statement.
        self.expanded = before;
        Ok((own, dyndep))
    }

    /// Puts the statements of the batch into the manifest.
    pub(super) fn settle(&mut self, scanner: &Scanner<'_>) -> Result<()> {
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
            if *made_by == producer {
                let output = self.manifest.path_text(path);
                let reason = format!("`{output}` stands twice among the outputs of this statement");
                return scanner.wrong(statement.start, reason);
            }
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
            self.count(scanner, raw)?;
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
