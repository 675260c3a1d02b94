//! The hash of a derivation modulo the fetches below it (Nix's `hashDerivationModulo`), which names
//! ordinary outputs.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::{Derivation, DerivationError, Inputs};
use crate::hash::{base16, sha256};

/// A derivation's hash as an input of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modulo(pub [u8; 32]);

impl Derivation<'_> {
    /// This derivation's hash as an input of others: of its output's hash if that is fixed, else of
    /// the whole text with its inputs replaced by their own hashes.
    ///
    /// # Errors
    /// [`DerivationError::MissingInput`] if `input` does not know one.
    pub fn modulo(
        &self,
        input: impl FnMut(&str) -> Option<Modulo>,
    ) -> Result<Modulo, DerivationError> {
        if let [output] = &self.outputs[..]
            && output.name == "out"
            && !output.hash.is_empty()
        {
            let text = format!(
                "fixed:out:{}:{}:{}",
                output.hash_algo, output.hash, output.path
            );
            return Ok(Modulo(sha256(text.as_bytes())));
        }
        self.hash_text(input, false).map(Modulo)
    }

    /// The hash that the paths of its ordinary outputs are made of: as [`Derivation::modulo`], but
    /// without those paths.
    ///
    /// # Errors
    /// [`DerivationError::MissingInput`] if `input` does not know one.
    pub fn masked_modulo(
        &self,
        input: impl FnMut(&str) -> Option<Modulo>,
    ) -> Result<[u8; 32], DerivationError> {
        self.hash_text(input, true)
    }

    fn hash_text(
        &self,
        mut input: impl FnMut(&str) -> Option<Modulo>,
        masked: bool,
    ) -> Result<[u8; 32], DerivationError> {
        let mut merged: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for drv in &self.input_drvs {
            let hash = input(&drv.path).ok_or_else(|| DerivationError::MissingInput {
                path: drv.path.to_string(),
            })?;
            let outputs = merged.entry(base16(&hash.0)).or_default();
            outputs.extend(drv.outputs.iter().map(|name| &**name));
        }
        let inputs = merged
            .into_iter()
            .map(|(hash, mut outputs)| {
                outputs.sort_unstable();
                outputs.dedup();
                (hash, outputs)
            })
            .collect();
        let mut text = Vec::with_capacity(2048);
        self.print_with(&mut text, &Inputs::Hashed(inputs), masked);
        Ok(sha256(&text))
    }
}

/// Remembers the hashes of derivations by path, and works out what is missing without recursion.
#[derive(Debug, Default)]
pub struct ModuloMemo {
    known: HashMap<Box<str>, Modulo>,
}

impl ModuloMemo {
    /// The hash of the derivation at `path`, if it is known already.
    pub fn get(&self, path: &str) -> Option<Modulo> {
        self.known.get(path).copied()
    }

    /// Remembers a hash.
    pub fn insert(&mut self, path: &str, modulo: Modulo) {
        self.known.insert(path.into(), modulo);
    }

    /// Makes known the hashes of all of `wanted`, loading derivations with `load` as needed, inputs
    /// first.
    ///
    /// # Errors
    /// What `load` fails with, and [`DerivationError::Cycle`] when inputs form a circle.
    pub fn complete<'a, E: From<DerivationError>>(
        &mut self,
        wanted: impl IntoIterator<Item = &'a str>,
        mut load: impl FnMut(&str) -> Result<Derivation<'static>, E>,
    ) -> Result<(), E> {
        struct Frame {
            path: Box<str>,
            drv: Derivation<'static>,
            next: usize,
        }
        let mut open: hashbrown::HashSet<Box<str>> = hashbrown::HashSet::new();
        let mut stack: Vec<Frame> = Vec::new();
        for path in wanted {
            let mut enter = (!self.known.contains_key(path)).then(|| Box::<str>::from(path));
            loop {
                if let Some(path) = enter.take() {
                    if !open.insert(path.clone()) {
                        return Err(DerivationError::Cycle { path: path.into() }.into());
                    }
                    let drv = load(&path)?;
                    stack.push(Frame { path, drv, next: 0 });
                }
                let Some(frame) = stack.last_mut() else { break };
                let fixed = frame
                    .drv
                    .outputs
                    .iter()
                    .all(|output| !output.hash.is_empty());
                let rest = if fixed {
                    &[][..]
                } else {
                    &frame.drv.input_drvs[frame.next..]
                };
                let missing = rest
                    .iter()
                    .position(|input| !self.known.contains_key(&*input.path));
                if let Some(step) = missing {
                    enter = Some((&*rest[step].path).into());
                    frame.next += step;
                    continue;
                }
                let modulo = frame.drv.modulo(|path| self.known.get(path).copied())?;
                if let Some(frame) = stack.pop() {
                    open.remove(&frame.path);
                    self.known.insert(frame.path, modulo);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{InputDrv, Output};
    use super::*;

    fn drv(inputs: &[&str]) -> Derivation<'static> {
        Derivation {
            outputs: vec![Output {
                name: "out".into(),
                path: "/s/x".into(),
                hash_algo: "".into(),
                hash: "".into(),
            }],
            input_drvs: inputs
                .iter()
                .map(|path| InputDrv {
                    path: (*path).to_owned().into(),
                    outputs: vec!["out".into()],
                })
                .collect(),
            ..Derivation::default()
        }
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let mut memo = ModuloMemo::default();
        let load = |path: &str| {
            let n: u32 = path.parse().unwrap();
            let below = n.checked_sub(1).map(|n| n.to_string());
            Ok::<_, DerivationError>(drv(&below.iter().map(String::as_str).collect::<Vec<_>>()))
        };
        memo.complete(["100000"], load).unwrap();
        assert!(memo.get("0").is_some());
        assert_ne!(memo.get("1"), memo.get("100000"));
    }

    #[test]
    fn a_circle_is_an_error() {
        let mut memo = ModuloMemo::default();
        let load = |path: &str| Ok(drv(&[if path == "a" { "b" } else { "a" }]));
        let error: DerivationError = memo.complete(["a"], load).unwrap_err();
        assert!(matches!(error, DerivationError::Cycle { .. }));
    }

    #[test]
    fn inputs_that_fall_together_are_merged() {
        let mut two = drv(&["a", "b"]);
        two.input_drvs[1].outputs = vec!["dev".into()];
        let mut one = drv(&["a"]);
        one.input_drvs[0].outputs = vec!["dev".into(), "out".into()];
        let same = |_: &str| Some(Modulo([7; 32]));
        assert_eq!(two.modulo(same).unwrap(), one.modulo(same).unwrap());
    }
}
