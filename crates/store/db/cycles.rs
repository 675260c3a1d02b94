//! Looks for circles among paths that are registered together.
//! Knows the batch alone: a path that is valid already can't refer to one that isn't yet.

use hashbrown::HashMap;

use super::Registration;
use crate::error::{Error, Result};

/// Refuses a batch in which paths refer to each other in a circle; a reference of a path to
/// itself is fine. Takes time in proportion to the references.
pub(super) fn refuse_cycles(batch: &[Registration]) -> Result<()> {
    if batch.len() < 2 {
        return Ok(());
    }
    let numbers: HashMap<&str, usize> = batch
        .iter()
        .enumerate()
        .map(|(number, it)| (it.info.path.as_str(), number))
        .collect();
    let mut states = vec![State::Unseen; batch.len()];
    // Kept by hand, since chains of references may be deeper than the call stack.
    let mut trail: Vec<(usize, usize)> = vec![];
    for root in 0..batch.len() {
        if states[root] != State::Unseen {
            continue;
        }
        states[root] = State::OnTrail;
        trail.push((root, 0));
        while let Some((number, next)) = trail.last_mut() {
            let info = &batch[*number].info;
            let Some(reference) = info.references.get(*next) else {
                states[*number] = State::Done;
                trail.pop();
                continue;
            };
            *next += 1;
            let Some(&target) = numbers.get(reference.as_str()) else {
                continue;
            };
            match states[target] {
                State::Unseen => {
                    states[target] = State::OnTrail;
                    trail.push((target, 0));
                }
                State::OnTrail if *reference != info.path => {
                    let (path, parent) = (reference.clone(), info.path.clone());
                    return Err(Error::ReferenceCycle { path, parent });
                }
                State::OnTrail | State::Done => {}
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unseen,
    /// On the way from the root to the path being looked at.
    OnTrail,
    /// No circle can be reached from here.
    Done,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::registration;
    use super::*;

    /// Removes paths without references into the rest until nothing changes; slow but plain.
    fn has_cycle(edges: &[Vec<usize>]) -> bool {
        let mut left: Vec<usize> = (0..edges.len()).collect();
        loop {
            let blocked = |&it: &usize| edges[it].iter().any(|to| *to != it && left.contains(to));
            let rest: Vec<usize> = left.iter().copied().filter(blocked).collect();
            if rest.len() == left.len() {
                return !rest.is_empty();
            }
            left = rest;
        }
    }

    proptest! {
        #[test]
        fn agrees_with_plain_elimination(
            edges in prop::collection::vec(prop::collection::vec(0..8_usize, 0..3), 0..8)
        ) {
            let batch: Vec<_> = edges
                .iter()
                .enumerate()
                .map(|(number, references)| registration(number, references))
                .collect();
            let edges: Vec<Vec<usize>> = edges
                .iter()
                .map(|to| to.iter().copied().filter(|to| *to < edges.len()).collect())
                .collect();
            prop_assert_eq!(refuse_cycles(&batch).is_err(), has_cycle(&edges));
        }
    }

    #[test]
    fn a_long_chain_needs_no_call_stack() {
        let batch: Vec<_> = (0..200_000).map(|it| registration(it, &[it + 1])).collect();
        refuse_cycles(&batch).unwrap();
    }
}
