//! When machines are down, as a file of machines says.

use serde::Deserialize;
use windrow_components::machine::{Outage, Reliability};

use crate::task_graph::time;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutageTable {
    at: String,
    #[serde(rename = "for")]
    length: String,
}

fn seconds(what: &str, text: &str) -> Result<f64, String> {
    let micros = time(text, "s").map_err(|reason| format!("{what}: {reason}"))?;
    Ok(micros as f64 / 1e6)
}

/// What a machine's mean times and its list of failures say.
pub(super) fn reliability(
    (up, down, list): (&Option<String>, &Option<String>, Option<&[OutageTable]>),
) -> Result<Reliability, String> {
    match (up, down, list) {
        (None, None, None) => Ok(Reliability::Perfect),
        (None, None, Some(list)) => listed(list),
        (Some(up), Some(down), None) => {
            let (up, down) = (seconds("mtbf", up)?, seconds("mttr", down)?);
            match up > 0.0 {
                true => Ok(Reliability::ByChance { up, down }),
                false => Err("its mtbf should be above 0".to_owned()),
            }
        }
        (_, _, None) => Err("both mtbf and mttr should be said, or none of them".to_owned()),
        _ => Err("either mtbf and mttr should be said, or a list of failures".to_owned()),
    }
}

fn listed(list: &[OutageTable]) -> Result<Reliability, String> {
    let outage = |table: &OutageTable| {
        Ok::<Outage, String>(Outage {
            at: seconds("at", &table.at)?,
            length: seconds("for", &table.length)?,
        })
    };
    let outages: Vec<Outage> = list.iter().map(outage).collect::<Result<_, _>>()?;
    let overlap = |pair: &[Outage]| pair[0].at + pair[0].length > pair[1].at;
    match outages.windows(2).any(overlap) {
        true => Err("its failures should stand in their order, and not overlap".to_owned()),
        false => Ok(Reliability::Listed(outages)),
    }
}
