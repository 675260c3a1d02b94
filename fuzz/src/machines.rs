//! Files of machines, in TOML and of workflows.

use windrow_formats::machines::read_machines;

use crate::shared::seeds as seeds_of;

/// Machines that are read compute, at a speed.
pub fn check(bytes: &[u8]) {
    match read_machines("file", bytes) {
        Ok(cluster) => {
            assert!(cluster.cores() > 0);
            let works = |speed: f64| speed.is_finite() && speed > 0.0;
            assert!(cluster.machines.iter().all(|machine| works(machine.speed)));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "network = { model = \"max-min\", bandwidth = \"1MB/s\", latency = \"1ms\", reuse = true, downloads = 4 }\n[[machine]]\nname = \"a\"\ncount = 2\nspeed = 1.5\ncores = 4\nmemory = \"1GB\"\n[[machine]]\nname = \"s\"\nrole = \"storage\"\n",
        r#"{"workflow":{"execution":{"machines":[{"nodeName":"a","cpu":{"coreCount":48,"speedInMHz":1200},"memoryInBytes":1000}]}}}"#,
        r#"{"workflow":{"machines":[{"nodeName":"a","cpu":{"count":4,"speed":3000},"memory":100}]}}"#,
    ])
}
