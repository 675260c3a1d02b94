//! Repair: looks at the contents of what is valid, in the background, and says what becomes of the
//! goals that asked (Nix 1.8: `checkPathValidity` with `checkHash`, and its `repairClosure`). Only
//! runs that repair have this.

use bevy_ecs::prelude::{NonSendMut, Query, ResMut};
use windrow_components::goal::{DerivationGoal, Target};
use windrow_components::graph::BuildGraph;

use crate::error::Result;
use crate::report::Level;
use crate::world::{Answer, Finding, Scheduler, Services, Verdict, Verifier};

/// Takes answers, says what was found, and wakes those who asked.
pub(crate) fn answer(
    mut scheduler: ResMut<Scheduler>,
    mut graph: ResMut<BuildGraph>,
    mut services: NonSendMut<Services>,
    verifier: NonSendMut<Verifier>,
    goals: Query<&DerivationGoal>,
) {
    while let Some(answer) = verifier.pool.take() {
        let Answer {
            goal,
            wanted,
            finding,
            bad,
        } = answer;
        scheduler.verified();
        scheduler.repairs.bad.extend(bad);
        let verdict = match finding {
            Ok(Finding::Good) => Verdict::Good,
            Ok(Finding::Bad) => Verdict::Bad,
            Ok(Finding::Closure(broken)) => {
                for (path, _) in &broken {
                    services.reporter.say(Level::Error, || match goals.get(goal) {
                        Ok(known) => {
                            let drv_path = graph.full_path(graph.drv_path(known.drv));
                            format!(
                                "found corrupted or missing path '{path}' in the output closure of \
                                 '{drv_path}'"
                            )
                        }
                        Err(_) => format!("found corrupted or missing path '{path}'"),
                    });
                }
                match targets(&mut graph, broken) {
                    Ok(targets) => Verdict::Closure(targets),
                    Err(error) => Verdict::Unknown(error.to_string()),
                }
            }
            Err(error) if error.is_fatal() => {
                scheduler.abort(error);
                return;
            }
            Err(error) => Verdict::Unknown(error.to_string()),
        };
        scheduler.repairs.verdicts.insert(goal, verdict);
        scheduler.repairs.judged.insert(goal, wanted);
        scheduler.awaken(goal);
    }
}

/// The goals that repair these paths: of the derivation that made each, else of a substituter.
fn targets(graph: &mut BuildGraph, broken: Vec<(String, Option<String>)>) -> Result<Vec<Target>> {
    let mut targets = Vec::with_capacity(broken.len());
    for (path, deriver) in broken {
        let target = match deriver {
            Some(deriver) => {
                let path = graph.path(&deriver)?;
                Target::Derivation(graph.drv(path))
            }
            None => Target::Repair(graph.path(&path)?),
        };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}
