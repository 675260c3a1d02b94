//! Reads which machines there are and what lies between them: a TOML file of windrow's own, or what
//! a workflow of WfFormat recorded.

mod outages;
mod wfformat;

use serde::Deserialize;
use windrow_components::machine::{Cluster, Machine, Network, NetworkModel, Role};

use crate::task_graph::{bytes, time};

/// What is wrong with a file of machines.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct MachinesError {
    /// The file, as it was named.
    file: String,
    /// What is wrong, where the line is known with that.
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    network: NetworkTable,
    #[serde(default)]
    machine: Vec<MachineTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkTable {
    #[serde(default)]
    model: Model,
    bandwidth: Option<String>,
    latency: Option<String>,
    #[serde(default)]
    reuse: bool,
    downloads: Option<u32>,
    #[serde(rename = "downloads-from-each")]
    downloads_from_each: Option<u32>,
}

impl Default for NetworkTable {
    fn default() -> Self {
        Self {
            model: Model::None,
            bandwidth: None,
            latency: None,
            reuse: false,
            downloads: None,
            downloads_from_each: None,
        }
    }
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Model {
    #[default]
    None,
    Constant,
    MaxMin,
    Shared,
}

#[derive(Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RoleWord {
    #[default]
    Compute,
    Storage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineTable {
    name: String,
    #[serde(default = "one")]
    count: u32,
    #[serde(default = "full_speed")]
    speed: f64,
    #[serde(default = "one")]
    cores: u32,
    memory: Option<String>,
    disk: Option<String>,
    mtbf: Option<String>,
    mttr: Option<String>,
    failures: Option<Vec<outages::OutageTable>>,
    #[serde(default)]
    systems: Vec<String>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    role: RoleWord,
}

const fn one() -> u32 {
    1
}

const fn full_speed() -> f64 {
    1.0
}

/// How many machines a file may name.
const MACHINES_MAX: u64 = 1_000_000;

/// How many cores a machine may have.
const CORES_MAX: u32 = 1 << 16;

/// Reads machines: of a workflow if the file begins as one, else TOML.
///
/// # Errors
/// If the file is malformed, a figure is none, or no machine computes.
pub fn read_machines(file: &str, text: &[u8]) -> Result<Cluster, MachinesError> {
    let wrong = |reason: String| MachinesError {
        file: file.to_owned(),
        reason,
    };
    let text = std::str::from_utf8(text)
        .map_err(|_| wrong("it is not UTF-8 text; save it as UTF-8".to_owned()))?;
    let cluster = match text.trim_start().starts_with('{') {
        true => wfformat::read(text),
        false => of_toml(text),
    };
    let cluster = cluster.map_err(wrong)?;
    if cluster.cores() == 0 {
        return Err(wrong(
            "no machine computes; add a [[machine]] whose role is \"compute\"".to_owned(),
        ));
    }
    Ok(cluster)
}

fn of_toml(text: &str) -> Result<Cluster, String> {
    let document: Document = toml::from_str(text).map_err(|error| error.to_string())?;
    let network = network(&document.network)?;
    let mut machines = Vec::new();
    let all: u64 = document
        .machine
        .iter()
        .map(|table| u64::from(table.count))
        .sum();
    if all > MACHINES_MAX {
        return Err(format!("{all} machines are more than {MACHINES_MAX}"));
    }
    for table in &document.machine {
        let machine = table.machine()?;
        machines.extend((1..=table.count).map(|number| Machine {
            name: match table.count {
                1 => machine.name.clone(),
                _ => format!("{}-{number}", machine.name),
            },
            ..machine.clone()
        }));
    }
    refuse_doubles(&machines)?;
    Ok(Cluster { machines, network })
}

impl MachineTable {
    /// The machine that it describes, whose name is for the first of several.
    fn machine(&self) -> Result<Machine, String> {
        let name = &self.name;
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(format!("the speed of machine `{name}` should be above 0"));
        }
        if !(1..=CORES_MAX).contains(&self.cores) {
            return Err(format!(
                "machine `{name}` should have from 1 to {CORES_MAX} cores"
            ));
        }
        let size = |what: &str, text: &Option<String>| {
            let bytes = text.as_deref().map(|text| bytes(text, "B")).transpose();
            bytes.map_err(|reason| format!("the {what} of machine `{name}`: {reason}"))
        };
        let outages = (&self.mtbf, &self.mttr, self.failures.as_deref());
        let reliability = outages::reliability(outages);
        Ok(Machine {
            name: name.clone(),
            speed: self.speed,
            cores: self.cores,
            memory: size("memory", &self.memory)?,
            disk: size("disk", &self.disk)?,
            reliability: reliability.map_err(|reason| format!("machine `{name}`: {reason}"))?,
            systems: self.systems.clone(),
            features: self.features.clone(),
            role: match self.role {
                RoleWord::Compute => Role::Compute,
                RoleWord::Storage => Role::Storage,
            },
        })
    }
}

fn refuse_doubles(machines: &[Machine]) -> Result<(), String> {
    let mut names: Vec<&str> = machines.iter().map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("there are two machines called `{}`", pair[0])),
        None => Ok(()),
    }
}

fn network(table: &NetworkTable) -> Result<Network, String> {
    let model = match table.model {
        Model::None => NetworkModel::None,
        Model::Constant => NetworkModel::Constant,
        Model::MaxMin => NetworkModel::MaxMin,
        Model::Shared => NetworkModel::Shared,
    };
    let says_more = table.bandwidth.is_some()
        || table.latency.is_some()
        || table.reuse
        || table.downloads.is_some()
        || table.downloads_from_each.is_some();
    if model == NetworkModel::None {
        return match says_more {
            true => Err(
                "a network whose model is \"none\" has no other figures; say \
                         model = \"constant\", \"max-min\" or \"shared\""
                    .to_owned(),
            ),
            false => Ok(Network::default()),
        };
    }
    let bandwidth = table
        .bandwidth
        .as_deref()
        .ok_or("the network needs a bandwidth")?;
    let bandwidth = bandwidth.strip_suffix("/s").unwrap_or(bandwidth);
    let bandwidth = bytes(bandwidth, "B").map_err(|e| format!("the network's bandwidth: {e}"))?;
    let latency = time(table.latency.as_deref().unwrap_or("0s"), "s");
    let latency = latency.map_err(|e| format!("the network's latency: {e}"))?;
    if bandwidth == 0 || table.downloads == Some(0) || table.downloads_from_each == Some(0) {
        return Err("a bandwidth and a number of downloads should be above 0".to_owned());
    }
    Ok(Network {
        model,
        bandwidth: bandwidth as f64,
        latency: latency as f64 / 1e6,
        reuse: table.reuse,
        downloads: table.downloads,
        downloads_from_each: table.downloads_from_each,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_components::machine::{Outage, Reliability};

    fn read(text: &str) -> Result<Cluster, MachinesError> {
        read_machines("m.toml", text.as_bytes())
    }

    #[test]
    fn machines_and_network_are_read() {
        let cluster = read(
            r#"network = { model = "max-min", bandwidth = "128MiB/s", latency = "1ms", reuse = true, downloads = 4, downloads-from-each = 2 }
            [[machine]]
            name = "node"
            count = 2
            speed = 2.5
            cores = 8
            memory = "16GiB"
            systems = ["x86_64-linux"]
            features = ["kvm"]
            [[machine]]
            name = "store"
            role = "storage""#,
        )
        .unwrap();
        let names: Vec<&str> = cluster.machines.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["node-1", "node-2", "store"]);
        assert_eq!(
            (cluster.cores(), cluster.machines[2].role),
            (16, Role::Storage)
        );
        assert_eq!(cluster.machines[0].memory, Some(16 << 30));
        let network = cluster.network;
        assert_eq!((network.bandwidth, network.latency), (134_217_728.0, 0.001));
        assert_eq!(
            (network.downloads, network.downloads_from_each),
            (Some(4), Some(2))
        );
        assert!(network.reuse && network.model == NetworkModel::MaxMin);
        assert!((network.time(134_217_728) - 1.001).abs() < 1e-12);
    }

    #[test]
    fn disks_and_outages_are_read() {
        let cluster = read(
            r#"[[machine]]
            name = "a"
            count = 2
            disk = "100GB"
            mtbf = "2h"
            mttr = "5m"
            [[machine]]
            name = "b"
            failures = [{ at = "10s", for = "5s" }, { at = "15s", for = "1ms" }]"#,
        )
        .unwrap();
        let [a, other, b] = &cluster.machines[..] else {
            panic!("{cluster:?}")
        };
        assert_eq!((a.disk, b.disk), (Some(100_000_000_000), None));
        let by_chance = Reliability::ByChance {
            up: 7200.0,
            down: 300.0,
        };
        assert_eq!(
            (&a.reliability, &other.reliability),
            (&by_chance, &by_chance)
        );
        let listed = [(10.0, 5.0), (15.0, 0.001)].map(|(at, length)| Outage { at, length });
        assert_eq!(b.reliability, Reliability::Listed(listed.to_vec()));
    }

    #[test]
    fn mistakes_are_told() {
        let machine = "[[machine]]\nname = \"a\"\n";
        for (text, wanted) in [
            ("", "no machine computes"),
            (
                "[[machine]]\nname = \"a\"\nrole = \"storage\"",
                "no machine computes",
            ),
            ("[[machine]]", "missing field `name`"),
            (&format!("{machine}gpus = 1"), "unknown field `gpus`"),
            (
                &format!("{machine}disk = \"1s\""),
                "the disk of machine `a`",
            ),
            (&format!("{machine}mtbf = \"1h\""), "both mtbf and mttr"),
            (&format!("{machine}mttr = \"1h\""), "both mtbf and mttr"),
            (
                &format!("{machine}mtbf = \"0s\"\nmttr = \"1s\""),
                "mtbf should be above 0",
            ),
            (
                &format!("{machine}mtbf = \"1 year\"\nmttr = \"1s\""),
                "machine `a`: mtbf: ",
            ),
            (
                &format!("{machine}failures = [{{ at = \"5s\" }}]"),
                "missing field `for`",
            ),
            (
                &format!(
                    "{machine}failures = [{{ at = \"5s\", for = \"2s\" }}, {{ at = \"6s\", for = \"1s\" }}]"
                ),
                "in their order, and not overlap",
            ),
            (
                &format!(
                    "{machine}mtbf = \"1s\"\nmttr = \"1s\"\nfailures = [{{ at = \"5s\", for = \"2s\" }}]"
                ),
                "either",
            ),
            (&format!("{machine}speed = 0"), "speed of machine `a`"),
            (&format!("{machine}speed = nan"), "speed of machine `a`"),
            (&format!("{machine}cores = 0"), "from 1 to 65536 cores"),
            (&format!("{machine}count = 2000000"), "more than 1000000"),
            (&format!("{machine}memory = \"1s\""), "no unit of bytes"),
            (&format!("{machine}{machine}"), "two machines called `a`"),
            (
                &format!("network = {{ bandwidth = \"1MB/s\" }}\n{machine}"),
                "model = \"constant\"",
            ),
            (
                &format!("network = {{ model = \"shared\" }}\n{machine}"),
                "needs a bandwidth",
            ),
            (
                &format!("network = {{ model = \"star\" }}\n{machine}"),
                "unknown variant `star`",
            ),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(
                message.contains(wanted) && message.starts_with("m.toml: "),
                "{message}"
            );
        }
    }
}
