//! Hands what is to be repaired to a thread that looks at its contents (Nix 1.8:
//! `checkPathValidity` with `checkHash`, and the walk of `repairClosure`).

use std::sync::Arc;

use bevy_ecs::prelude::{NonSend, NonSendMut, ResMut};
use hashbrown::{HashMap, HashSet};
use windrow_components::ids::PathId;
use windrow_store::PathInfo;
use windrow_store::db::reader::Reader;
use windrow_store::ops::contents::Contents;

use crate::error::Result;
use crate::world::{Answer, Finding, Host, Question, Scheduler, Verifier};

/// Hands questions to the background.
pub(crate) fn ask(
    mut scheduler: ResMut<Scheduler>,
    host: NonSend<Host>,
    verifier: NonSendMut<Verifier>,
) {
    for question in std::mem::take(&mut scheduler.repairs.questions) {
        scheduler.verify();
        let (reader, contents) = (
            Arc::clone(&host.config.reader),
            Arc::clone(&verifier.contents),
        );
        verifier.pool.submit(move || {
            let mut bad = Vec::new();
            let finding = look(&question, &reader, &contents, &mut bad);
            Some(Answer {
                goal: question.goal,
                wanted: question.wanted,
                finding,
                bad,
            })
        });
    }
}

/// Looks at the contents of outputs and, if those wanted are good, of all that they refer to.
///
/// Nix 1.8: `DerivationGoal::repairClosure`, `DerivationGoal::checkPathValidity`, `checkHash`.
fn look(
    question: &Question,
    reader: &Reader,
    contents: &Contents,
    bad: &mut Vec<PathId>,
) -> Result<Finding> {
    let layout = reader.layout();
    let mut wanted_good = true;
    let mut wanted_paths = Vec::new();
    let mut own: HashMap<&str, bool> = HashMap::new();
    for (id, path, wanted) in &question.outputs {
        let info = reader.ask(|database| database.path_info(path))?;
        let good = info.is_some_and(|info| contents.are_good(layout, &[&info])[0]);
        if !good {
            bad.push(*id);
        }
        if *wanted {
            wanted_good &= good;
            wanted_paths.push(path.as_str());
        }
        own.insert(path, good);
    }
    if !wanted_good {
        return Ok(Finding::Bad);
    }
    let Some(drv_path) = &question.drv_path else {
        return Ok(Finding::Good);
    };
    let closure = reader.ask(|database| database.closure(wanted_paths))?;
    if closure
        .iter()
        .any(|info| own.get(info.path.as_str()) == Some(&false))
    {
        return Ok(Finding::Bad);
    }
    let others: Vec<&PathInfo> = closure
        .iter()
        .filter(|info| !own.contains_key(info.path.as_str()))
        .collect();
    let good = contents.are_good(layout, &others);
    let broken: Vec<&str> = others
        .iter()
        .zip(good)
        .filter(|(_, good)| !good)
        .map(|(info, _)| info.path.as_str())
        .collect();
    if broken.is_empty() {
        return Ok(Finding::Good);
    }
    // Whoever made one of them is among the derivations this one was made from.
    let inputs = reader.ask(|database| database.closure([drv_path.as_str()]))?;
    let inputs: HashSet<&str> = inputs.iter().map(|info| info.path.as_str()).collect();
    let mut found = Vec::with_capacity(broken.len());
    for path in broken {
        let derivers = reader.ask(|database| database.valid_derivers(path))?;
        let deriver = derivers.into_iter().find(|it| inputs.contains(it.as_str()));
        found.push((path.to_owned(), deriver));
    }
    Ok(Finding::Closure(found))
}
