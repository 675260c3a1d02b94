//! Rules and pools: the lines below them, of which the graph needs next to nothing, but what ninja
//! refuses there is refused here.

use hashbrown::HashSet;

use super::scanner::Scanner;
use super::scope::{DYNDEP, OwnVariables, POOL, Rule, ScopeId};
use super::{Loader, Result};

/// The variables that a rule may set.
pub(super) const OF_RULES: [&[u8]; 11] = [
    b"command",
    b"depfile",
    b"deps",
    b"description",
    DYNDEP,
    b"generator",
    b"msvc_deps_prefix",
    POOL,
    b"restat",
    b"rspfile",
    b"rspfile_content",
];

/// The names of all pools so far.
pub(super) struct Pools(HashSet<Box<[u8]>>);

impl Pools {
    /// Those that every graph has.
    pub(super) fn new() -> Self {
        Self(HashSet::from_iter([b"console".as_slice().into()]))
    }
}

impl Loader<'_> {
    /// Reads a rule behind its keyword, which stands at `start`.
    pub(super) fn add_rule(
        &mut self,
        scanner: &mut Scanner<'_>,
        scope: ScopeId,
        start: usize,
    ) -> Result<()> {
        let name = scanner.identifier("the name of a rule")?;
        scanner.end_of_line()?;
        if self.scopes.has_own_rule(scope, name) {
            let name = String::from_utf8_lossy(name);
            return scanner.wrong(start, format!("there is a rule `{name}` already"));
        }
        let mut rule = Rule::default();
        let (mut has_command, mut has_rspfile, mut has_content) = (false, false, false);
        while scanner.next_line(true)? == Some(true) {
            let at = scanner.pos();
            let (name, value) = scanner.binding()?;
            if !OF_RULES.contains(&name) {
                let name = String::from_utf8_lossy(name);
                let reason = format!("`{name}` is no variable that a rule may set");
                return scanner.wrong(at, reason);
            }
            let value = scanner.bytes(&value.range);
            match name {
                b"command" => has_command = !value.is_empty(),
                b"rspfile" => has_rspfile = !value.is_empty(),
                b"rspfile_content" => has_content = !value.is_empty(),
                POOL => rule.pool = Some(value.into()),
                DYNDEP => rule.dyndep = Some(value.into()),
                _ => {}
            }
        }
        if has_rspfile != has_content {
            let reason = "`rspfile` and `rspfile_content` must both be set, or neither";
            return scanner.wrong(start, reason);
        }
        if !has_command {
            return scanner.expected("the rule's `command =`");
        }
        self.scopes.add_rule(scope, name, rule);
        // It may hide the one that was looked up last.
        self.known_rule = None;
        Ok(())
    }

    /// Reads a pool behind its keyword, which stands at `start`.
    pub(super) fn add_pool(
        &mut self,
        scanner: &mut Scanner<'_>,
        scope: ScopeId,
        start: usize,
    ) -> Result<()> {
        let name = scanner.identifier("the name of a pool")?;
        scanner.end_of_line()?;
        if self.pools.0.contains(name) {
            let name = String::from_utf8_lossy(name);
            return scanner.wrong(start, format!("there is a pool `{name}` already"));
        }
        let mut has_depth = false;
        while scanner.next_line(true)? == Some(true) {
            let at = scanner.pos();
            let (name, value) = scanner.binding()?;
            if name != b"depth" {
                let name = String::from_utf8_lossy(name);
                let reason = format!("`{name}` is no variable that a pool may set");
                return scanner.wrong(at, reason);
            }
            self.expand(scanner, &value, &[], scope)?;
            if is_negative(&self.scratch) {
                return scanner.wrong(at, "the depth of a pool must not be negative");
            }
            has_depth = true;
        }
        if !has_depth {
            return scanner.expected("the pool's `depth =`");
        }
        self.pools.0.insert(name.into());
        Ok(())
    }

    /// Refuses a statement, which begins at `start`, whose pool stands nowhere above: its own, or
    /// that of its rule.
    pub(super) fn check_pool(
        &mut self,
        scanner: &Scanner<'_>,
        (start, phony): (usize, bool),
        (own, rule): (&OwnVariables<'_>, &Rule),
        scope: ScopeId,
    ) -> Result<()> {
        let mut own_pools = own.iter().rev().filter(|(name, _)| *name == POOL);
        let expanded;
        let pool = match (own_pools.next(), &rule.pool) {
            (Some((_, value)), _) => value.as_slice(),
            (None, Some(value)) if value.contains(&b'$') => {
                expanded = self.expand_for_rule(value, own.clone(), phony, scope)?;
                &expanded
            }
            (None, Some(value)) => value,
            (None, None) => return Ok(()),
        };
        if pool.is_empty() || self.pools.0.contains(pool) {
            return Ok(());
        }
        let pool = String::from_utf8_lossy(pool);
        scanner.wrong(start, format!("there is no pool `{pool}` above"))
    }
}

/// Whether C's `atol`, which ninja reads depths with, gives a negative number.
fn is_negative(depth: &[u8]) -> bool {
    let Some(digits) = depth.trim_ascii_start().strip_prefix(b"-") else {
        return false;
    };
    let mut digits = digits.iter().take_while(|digit| digit.is_ascii_digit());
    digits.any(|&digit| digit != b'0')
}
