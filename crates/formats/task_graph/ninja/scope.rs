//! Variables and rules of ninja files: a scope a file, seen from those that `subninja` opens below
//! it.

use std::rc::Rc;

use hashbrown::HashMap;

/// The variable of a statement or rule that names its dyndep file.
pub(super) const DYNDEP: &[u8] = b"dyndep";

/// The variable of a statement or rule that names its pool.
pub(super) const POOL: &[u8] = b"pool";

/// The variables of a statement itself, by name.
pub(super) type OwnVariables<'t> = Vec<(&'t [u8], Vec<u8>)>;

/// One of the [`Scopes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScopeId(u32);

#[derive(Default)]
struct Scope {
    outer: Option<ScopeId>,
    variables: HashMap<Box<[u8]>, Box<[u8]>>,
    rules: HashMap<Box<[u8]>, Rc<Rule>>,
}

/// What of a rule matters to the graph, as it stands in the file.
#[derive(Debug, Default)]
pub(super) struct Rule {
    pub(super) dyndep: Option<Box<[u8]>>,
    pub(super) pool: Option<Box<[u8]>>,
}

/// All scopes opened so far.
pub(super) struct Scopes {
    scopes: Vec<Scope>,
    /// The rule that every file has.
    phony: Rc<Rule>,
}

impl Scopes {
    /// The outermost scope.
    pub(super) const TOP: ScopeId = ScopeId(0);

    pub(super) fn new() -> Self {
        Self {
            scopes: vec![Scope::default()],
            phony: Rc::default(),
        }
    }

    /// A new scope that sees all of `outer`, and is not seen from there.
    pub(super) fn open(&mut self, outer: ScopeId) -> ScopeId {
        let id = ScopeId(self.scopes.len() as u32);
        self.scopes.push(Scope {
            outer: Some(outer),
            ..Scope::default()
        });
        id
    }

    fn outwards(&self, from: ScopeId) -> impl Iterator<Item = &Scope> {
        let scope = |id: ScopeId| &self.scopes[id.0 as usize];
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
        let variables = &mut self.scopes[scope.0 as usize].variables;
        let old = variables.insert(name.into(), value.into());
        old.map_or(0, |old| old.len())
    }

    /// A rule as it is seen from a scope.
    pub(super) fn rule(&self, scope: ScopeId, name: &[u8]) -> Option<&Rc<Rule>> {
        if name == b"phony" {
            return Some(&self.phony);
        }
        self.outwards(scope).find_map(|scope| scope.rules.get(name))
    }

    /// Whether this very scope has a rule.
    pub(super) fn has_own_rule(&self, scope: ScopeId, name: &[u8]) -> bool {
        name == b"phony" || self.scopes[scope.0 as usize].rules.contains_key(name)
    }

    /// Adds a rule that this very scope does not have.
    pub(super) fn add_rule(&mut self, scope: ScopeId, name: &[u8], rule: Rule) {
        let rules = &mut self.scopes[scope.0 as usize].rules;
        rules.insert(name.into(), Rc::new(rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_scopes_see_outwards_only() {
        let mut scopes = Scopes::new();
        scopes.set_variable(Scopes::TOP, b"a", b"1");
        let ruled = |pool: &[u8]| Rule {
            pool: Some(pool.into()),
            ..Rule::default()
        };
        scopes.add_rule(Scopes::TOP, b"cc", ruled(b"outer"));
        let inner = scopes.open(Scopes::TOP);
        scopes.set_variable(inner, b"b", b"2");
        assert_eq!(scopes.variable(inner, b"a"), b"1");
        assert_eq!(scopes.variable(Scopes::TOP, b"b"), b"");
        let pool = |scopes: &Scopes, scope| {
            let rule = scopes.rule(scope, b"cc").unwrap();
            rule.pool.as_deref().unwrap_or_default().to_vec()
        };
        assert_eq!(pool(&scopes, inner), b"outer");
        assert!(!scopes.has_own_rule(inner, b"cc"));
        scopes.add_rule(inner, b"cc", ruled(b"inner"));
        assert!(scopes.has_own_rule(inner, b"cc"));
        assert_eq!(pool(&scopes, inner), b"inner");
        assert_eq!(pool(&scopes, Scopes::TOP), b"outer");
        assert!(scopes.rule(Scopes::TOP, b"ld").is_none());
        assert!(scopes.rule(inner, b"phony").is_some());
        assert!(scopes.has_own_rule(inner, b"phony"));
    }
}
