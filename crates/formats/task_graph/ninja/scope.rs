//! Variables and rules of ninja files: a scope a file, seen from those that `subninja` opens below
//! it.

use hashbrown::{HashMap, HashSet};

/// One of the [`Scopes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScopeId(u32);

#[derive(Default)]
struct Scope {
    outer: Option<ScopeId>,
    variables: HashMap<Box<[u8]>, Box<[u8]>>,
    rules: HashSet<Box<[u8]>>,
}

/// All scopes opened so far.
pub(super) struct Scopes(Vec<Scope>);

impl Scopes {
    /// The outermost scope.
    pub(super) const TOP: ScopeId = ScopeId(0);

    pub(super) fn new() -> Self {
        Self(vec![Scope::default()])
    }

    /// A new scope that sees all of `outer`, and is not seen from there.
    pub(super) fn open(&mut self, outer: ScopeId) -> ScopeId {
        let id = ScopeId(self.0.len() as u32);
        self.0.push(Scope {
            outer: Some(outer),
            ..Scope::default()
        });
        id
    }

    fn outwards(&self, from: ScopeId) -> impl Iterator<Item = &Scope> {
        let scope = |id: ScopeId| &self.0[id.0 as usize];
        std::iter::successors(Some(scope(from)), move |inner| inner.outer.map(scope))
    }

    /// The value of a variable; empty where nobody set it, as in ninja.
    pub(super) fn variable(&self, scope: ScopeId, name: &[u8]) -> &[u8] {
        self.outwards(scope)
            .find_map(|scope| scope.variables.get(name))
            .map_or(b"", |value| value)
    }

    /// Sets a variable; the length of the value that it had in this very scope.
    pub(super) fn set_variable(&mut self, scope: ScopeId, name: &[u8], value: &[u8]) -> usize {
        let variables = &mut self.0[scope.0 as usize].variables;
        let old = variables.insert(name.into(), value.into());
        old.map_or(0, |old| old.len())
    }

    pub(super) fn has_rule(&self, scope: ScopeId, name: &[u8]) -> bool {
        name == b"phony" || self.outwards(scope).any(|scope| scope.rules.contains(name))
    }

    /// Adds a rule; false if this very scope has it already.
    pub(super) fn add_rule(&mut self, scope: ScopeId, name: &[u8]) -> bool {
        name != b"phony" && self.0[scope.0 as usize].rules.insert(name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_scopes_see_outwards_only() {
        let mut scopes = Scopes::new();
        scopes.set_variable(Scopes::TOP, b"a", b"1");
        assert!(scopes.add_rule(Scopes::TOP, b"cc"));
        let inner = scopes.open(Scopes::TOP);
        scopes.set_variable(inner, b"b", b"2");
        assert_eq!(scopes.variable(inner, b"a"), b"1");
        assert_eq!(scopes.variable(Scopes::TOP, b"b"), b"");
        assert!(scopes.has_rule(inner, b"cc"));
        assert!(scopes.add_rule(inner, b"cc"));
        assert!(!scopes.add_rule(inner, b"cc"));
        assert!(!scopes.has_rule(Scopes::TOP, b"ld"));
        assert!(scopes.has_rule(inner, b"phony"));
    }
}
