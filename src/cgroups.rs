//! From settings to the cgroups of builds: whether there are any, with which limits, and what is
//! said where there can be none.

use windrow_components::settings::Settings;
use windrow_sandbox::cgroups::{BuildLimits, Cgroups, Missing};

/// The settings that limit builds by their cgroups, by controller.
const LIMITS: [(&str, &str); 3] = [
    ("memory", "cgroup-memory-max"),
    ("pids", "cgroup-pids-max"),
    ("cpu", "cgroup-cpu-max"),
];

/// The cgroups of builds, if the settings ask for them and there can be any. What of the settings
/// has no effect is added to `notices`.
pub(crate) fn cgroups(settings: &Settings, notices: &mut Vec<String>) -> Option<Cgroups> {
    let limits = BuildLimits {
        memory: some(settings.cgroup_memory_max),
        processes: some(settings.cgroup_pids_max),
        cpu: Some(settings.cgroup_cpu_max).filter(|&percent| percent > 0),
    };
    if !settings.use_cgroups {
        let is_set = [
            limits.memory.is_some(),
            limits.processes.is_some(),
            limits.cpu.is_some(),
        ];
        let set = LIMITS.iter().zip(is_set).filter(|(_, is_set)| *is_set);
        notices.extend(set.map(|((_, name), _)| {
            format!("the setting '{name}' has no effect without 'use-cgroups'")
        }));
        return None;
    }
    match Cgroups::new(limits) {
        Ok((cgroups, missing)) => {
            notices.extend(missing.iter().map(no_limit));
            Some(cgroups)
        }
        Err(why) => {
            notices.push(format!(
                "there can be no cgroups here although 'use-cgroups' is on: {why}; building without them; {}",
                why.remedy()
            ));
            None
        }
    }
}

fn some(limit: u64) -> Option<u64> {
    Some(limit).filter(|&limit| limit > 0)
}

fn no_limit(Missing { controller, why }: &Missing) -> String {
    let name = LIMITS.iter().find(|(of, _)| of == controller);
    let name = name.map_or("use-cgroups", |(_, name)| name);
    format!(
        "the setting '{name}' has no effect, for builds can't have the controller '{controller}': {why}"
    )
}
