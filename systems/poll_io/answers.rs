//! Between what goals want to know of substituters and the threads that ask them: questions go out
//! once a tick, all together; answers wake the goals that wait for them.

use crate::helpers::Asking;
use crate::helpers::querier::Answer;

/// How many answers a tick takes in, so that a substituter that talks without end does not take it
/// over.
const ANSWERS_PER_TICK: usize = 256;

/// Takes in the answers that have come. While nobody reads what is reported they wait, for among
/// them is what substituters say to people.
///
/// Nix 1.8: `SubstitutionGoal::gotInfo`.
pub fn take_answers(mut params: Asking<'_>) {
    if params.services.reporter.is_behind() {
        return;
    }
    let mut taken = 0;
    while taken < ANSWERS_PER_TICK
        && let Some(answer) = params.queriers.take()
    {
        taken += 1;
        match answer {
            Answer::Known { sub, asked, infos } => params.known(sub, &asked, infos),
            Answer::Disabled { sub, reason } => {
                let reason = reason.map(|reason| reason.to_string());
                params.disable(sub, reason.as_deref());
            }
            Answer::Said { sub, line } => {
                let program = std::path::PathBuf::from(params.substituters.name(sub));
                crate::helpers::hook::talk::say(&mut params.services.reporter, &program, &line);
            }
            Answer::Restarted { sub, reason } => {
                let program = params.substituters.name(sub);
                let text = format!("error: substituter '{program}': {reason}; it is started again");
                params.complain(&text);
            }
        }
    }
    if taken == ANSWERS_PER_TICK {
        params.queriers.look_again();
    }
}
