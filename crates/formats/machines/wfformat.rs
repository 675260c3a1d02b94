//! The machines that a workflow of WfFormat ran on.

use serde::Deserialize;
use windrow_components::machine::{Cluster, Machine, Network, Reliability, Role};

#[derive(Deserialize)]
struct Document {
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    /// Up to schema 1.4.
    machines: Option<Vec<Recorded>>,
    /// From schema 1.5 on.
    execution: Option<Execution>,
}

#[derive(Deserialize)]
struct Execution {
    machines: Option<Vec<Recorded>>,
}

#[derive(Deserialize)]
struct Recorded {
    #[serde(rename = "nodeName")]
    name: Option<String>,
    cpu: Option<Cpu>,
    /// Up to schema 1.3, in kB.
    memory: Option<f64>,
    #[serde(rename = "memoryInBytes")]
    memory_in_bytes: Option<f64>,
}

#[derive(Deserialize)]
struct Cpu {
    count: Option<f64>,
    #[serde(rename = "coreCount")]
    core_count: Option<f64>,
    /// MHz.
    speed: Option<f64>,
    #[serde(rename = "speedInMHz")]
    speed_in_mhz: Option<f64>,
}

/// Reads the machines. Their speeds are relative to that of the first; one whose speed is not said
/// has the speed 1. Nothing is said of the network, so there is none.
pub(super) fn read(text: &str) -> Result<Cluster, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let workflow = document.workflow;
    let recorded = workflow.execution.and_then(|execution| execution.machines);
    let recorded = recorded.or(workflow.machines).unwrap_or_default();
    let mhz = |machine: &Recorded| {
        let cpu = machine.cpu.as_ref()?;
        cpu.speed_in_mhz.or(cpu.speed).filter(|&speed| speed > 0.0)
    };
    let first = recorded.iter().find_map(mhz).unwrap_or(1.0);
    let machine = |(index, machine): (usize, &Recorded)| {
        let cpu = machine.cpu.as_ref();
        let cores = cpu
            .and_then(|cpu| cpu.core_count.or(cpu.count))
            .unwrap_or(1.0);
        let memory = machine
            .memory_in_bytes
            .or(machine.memory.map(|kilobytes| kilobytes * 1e3));
        let name = machine.name.clone();
        Machine {
            name: name.unwrap_or_else(|| format!("machine-{}", index + 1)),
            speed: mhz(machine).map_or(1.0, |mhz| mhz / first),
            cores: cores.clamp(1.0, f64::from(super::CORES_MAX)) as u32,
            memory: memory
                .filter(|&bytes| bytes > 0.0)
                .map(|bytes| bytes as u64),
            disk: None,
            reliability: Reliability::Perfect,
            systems: Vec::new(),
            features: Vec::new(),
            role: Role::Compute,
        }
    };
    let machines: Vec<Machine> = recorded.iter().enumerate().map(machine).collect();
    super::refuse_doubles(&machines)?;
    Ok(Cluster {
        machines,
        network: Network::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::read_machines;

    #[test]
    fn machines_of_a_workflow_are_read() {
        let text = r#"{"workflow":{"execution":{"machines":[
            {"nodeName":"a","cpu":{"coreCount":48,"speedInMHz":1200},"memoryInBytes":1000},
            {"nodeName":"b","cpu":{"coreCount":16,"speedInMHz":3000}},{"nodeName":"c"}]}}}"#;
        let cluster = read_machines("w.json", text.as_bytes()).unwrap();
        let seen: Vec<_> = cluster
            .machines
            .iter()
            .map(|m| (m.cores, m.speed, m.memory))
            .collect();
        assert_eq!(
            seen,
            [(48, 1.0, Some(1000)), (16, 2.5, None), (1, 1.0, None)]
        );
        let none = read_machines("w.json", br#"{"workflow":{}}"#)
            .unwrap_err()
            .to_string();
        assert!(none.contains("no machine computes"), "{none}");
    }
}
