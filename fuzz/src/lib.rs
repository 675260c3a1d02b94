//! Fuzz targets: one for each parser of bytes that windrow has not made itself. A target checks
//! what holds for any input, and has seeds to begin with.
//!
//! An ordinary test runs every target on its seeds; CONTRIBUTING.md says how to run the fuzzer.

/// What a fuzz target is made of.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, as `cargo fuzz run` takes it.
    pub name: &'static str,
    /// Panics if something does not hold for an input.
    pub check: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(pub mod $name;)*

        /// All targets.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            check: $name::check,
            seeds: $name::seeds,
        }),*];
    };
}

targets! {
    address answer aterm attributes cache_info channel collector compression derivation_json durations
    export hash hook import includes json_graph lines listing log_message machines narinfo nar netrc ninja nix_conf peer
    registrations report request run_record signing_key stg store_path store_url substituter tasks temporary_roots terminal wfformat
}

mod bounded;
mod shared;

/// The program of a target: the fuzzer's with `--cfg fuzzing`, else one that checks the files that
/// it is given.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::$name::check(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::check_files($crate::$name::check)
        }
    };
}

/// Checks the files that the program was given as its arguments.
///
/// # Errors
/// When one can't be read.
pub fn check_files(check: fn(&[u8])) -> std::io::Result<()> {
    std::env::args_os()
        .skip(1)
        .try_for_each(|file| std::fs::read(file).map(|bytes| check(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each seed as it is, cut short, and with one byte changed.
    #[test]
    fn every_target_holds_for_its_seeds() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            for seed in seeds.iter().take(64) {
                (target.check)(seed);
                for step in 1..8 {
                    let at = seed.len() * step / 8;
                    (target.check)(&seed[..at]);
                    let mut changed = seed.clone();
                    if let Some(byte) = changed.get_mut(at) {
                        *byte ^= 1 << step;
                    }
                    (target.check)(&changed);
                }
            }
        }
    }

    #[test]
    fn every_target_has_its_program() {
        let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        names.sort_unstable();
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz_targets");
        let mut programs: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        programs.sort_unstable();
        assert_eq!(names, programs);
        let manifest = include_str!("../Cargo.toml");
        for name in names {
            assert!(
                manifest.contains(&format!("\nname = \"{name}\"\n")),
                "{name}"
            );
        }
    }
}
