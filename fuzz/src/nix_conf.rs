//! Settings, from configuration files and as Nix 1.8 packs them.

use windrow::fuzzing::settings;
use windrow_components::settings::Settings;

use crate::shared::seeds as seeds_of;

/// Settings that were read can be given to another process as they are printed.
pub fn check(bytes: &[u8]) {
    // Variables can't hold it. Files of this machine are none of the fuzzer's.
    if bytes.contains(&0) || bytes.windows(7).any(|it| it == b"include") {
        return;
    }
    for name in ["NIX_CONFIG", "_NIX_OPTIONS"] {
        match settings(name, bytes) {
            Ok((found, _)) => check_printed(&found),
            Err(error) => assert!(!error.is_empty()),
        }
    }
}

fn check_printed(found: &Settings) {
    let (mut again, _) = settings("NIX_CONFIG", b"").expect("nothing is wrong with nothing");
    for name in Settings::names() {
        let printed = found.get(name).expect("it has a value");
        let set = again.set(name, &printed);
        assert!(set.is_ok(), "{name} = {printed}: {set:?}");
        assert_eq!(again.get(name).as_ref(), Some(&printed), "{name}");
    }
}

/// Settings of every type, and mistakes.
pub fn seeds() -> Vec<Vec<u8>> {
    let (defaults, _) = settings("NIX_CONFIG", b"").expect("nothing is wrong with nothing");
    let all: String = Settings::names()
        .map(|name| format!("{name} = {}\n", defaults.get(name).unwrap_or_default()))
        .collect();
    let mut seeds = seeds_of([
        "# c\nsandbox = relaxed # x\nextra-sandbox-paths = /a=/b? /c\nmax-jobs = auto\ncores = 0\n",
        "build-max-jobs=3\nuntrusted-x=1\nbuild-cores=2\nsystem-features=a b\n",
        "timeout = -1\n",
        "no-such-setting = 1\nmax-silent-time = 10\nbuilders = @/x ; y\n",
        "substituters =\nkeep-outputs = maybe\n",
        "x\ny =z\n",
    ]);
    seeds.push(all.into_bytes());
    seeds
}
