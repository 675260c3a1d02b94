//! Looks at this machine, for the defaults of settings that depend on it.
//! Decides nothing: what follows from the answers is in the settings' table.

use std::collections::BTreeSet;
use std::env::consts::ARCH;
use std::path::Path;
use std::thread::available_parallelism;

use nix::unistd::{AccessFlags, Uid, access};

use windrow_components::settings::Host;

/// This machine, with the directory of nix.conf.
pub(crate) fn this_machine(conf_dir: &Path) -> Host {
    let cpus = available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
    Host {
        cpus,
        root: Uid::current().is_root(),
        keeps_groups: std::fs::read_to_string("/proc/self/setgroups")
            .is_ok_and(|text| text.trim() == "deny"),
        own_store: false,
        as_nix: false,
        kvm: access("/dev/kvm", AccessFlags::R_OK | AccessFlags::W_OK).is_ok(),
        system: format!("{}-linux", cpu_type()),
        extra_platforms: extra_platforms(),
        conf_dir: conf_dir.to_owned(),
    }
}

/// The processor as Nix's system types call it.
fn cpu_type() -> &'static str {
    match ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        "powerpc64" if cfg!(target_endian = "little") => "powerpc64le",
        other => other,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn extra_platforms() -> BTreeSet<String> {
    BTreeSet::new()
}

/// 32-bit programs, and each level of the x86-64 psABI up to what the CPU has.
#[cfg(target_arch = "x86_64")]
fn extra_platforms() -> BTreeSet<String> {
    use std::arch::is_x86_feature_detected as has;

    let v2 = has!("cmpxchg16b")
        && has!("popcnt")
        && has!("sse3")
        && has!("ssse3")
        && has!("sse4.1")
        && has!("sse4.2");
    let v3 = v2
        && has!("avx")
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 = v3
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    let levels = [
        ("x86_64-v2-linux", v2),
        ("x86_64-v3-linux", v3),
        ("x86_64-v4-linux", v4),
    ];
    let present = levels
        .into_iter()
        .filter(|&(_, present)| present)
        .map(|(name, _)| name);
    ["i686-linux", "x86_64-v1-linux"]
        .into_iter()
        .chain(present)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_one_that_nix_knows() {
        let host = this_machine(Path::new("/c"));
        assert!(host.cpus >= 1);
        assert!(host.system.ends_with("-linux") && !host.system.starts_with("x86-"));
        assert!(!host.extra_platforms.contains(&host.system));
        assert_eq!(
            host.extra_platforms.contains("i686-linux"),
            host.system == "x86_64-linux"
        );
        assert_eq!(host.conf_dir, Path::new("/c"));
    }
}
