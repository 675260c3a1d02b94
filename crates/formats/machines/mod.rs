//! Reads which machines there are and what lies between them: a TOML file of windrow's own, or what
//! a workflow of WfFormat recorded.

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
        let name = &table.name;
        if !(table.speed.is_finite() && table.speed > 0.0) {
            return Err(format!("the speed of machine `{name}` should be above 0"));
        }
        if !(1..=CORES_MAX).contains(&table.cores) {
            return Err(format!(
                "machine `{name}` should have from 1 to {CORES_MAX} cores"
            ));
        }
        let memory = table
            .memory
            .as_deref()
            .map(|text| bytes(text, "B"))
            .transpose();
        let memory =
            memory.map_err(|reason| format!("the memory of machine `{name}`: {reason}"))?;
        for number in 1..=table.count {
            machines.push(Machine {
                name: match table.count {
                    1 => name.clone(),
                    _ => format!("{name}-{number}"),
                },
                speed: table.speed,
                cores: table.cores,
                memory,
                systems: table.systems.clone(),
                features: table.features.clone(),
                role: match table.role {
                    RoleWord::Compute => Role::Compute,
                    RoleWord::Storage => Role::Storage,
                },
            });
        }
    }
    refuse_doubles(&machines)?;
    Ok(Cluster { machines, network })
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
    fn mistakes_are_told() {
        let machine = "[[machine]]\nname = \"a\"\n";
        for (text, wanted) in [
            ("", "no machine computes"),
            (
                "[[machine]]\nname = \"a\"\nrole = \"storage\"",
                "no machine computes",
            ),
            ("[[machine]]", "missing field `name`"),
            (&format!("{machine}disk = 1"), "unknown field `disk`"),
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
