//! Derivations as JSON, in the forms of all releases.

use serde_json::Value;
use windrow_components::derivation::{Derivation, JsonVersion, from_json, to_json};

use crate::shared::{path, seeds as seeds_of, store};

/// What is read is a derivation that can be written as a `.drv` file and read again as the same,
/// and so through the forms of JSON.
pub fn check(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let store = store();
    let Ok(drvs) = from_json(&value, &store) else {
        return;
    };
    for (name, drv) in drvs {
        let printed = drv.print();
        match Derivation::parse(&printed) {
            Ok(read) => assert_eq!(read, drv),
            Err(error) => assert!(
                drv.outputs.iter().any(|output| output.path.is_empty()),
                "{error}"
            ),
        }
        if name.is_empty() || name.contains('/') {
            continue;
        }
        let full = store.join(&format!("{:0>32}-{name}.drv", ""));
        for version in [JsonVersion::V1, JsonVersion::V2] {
            let drvs = [(full.clone(), drv.clone())];
            // An empty path is none there, and becomes the store directory.
            if drv.outputs.iter().any(|output| output.path.is_empty()) {
                continue;
            }
            let json = to_json(&drvs, &store, version).expect("it came from JSON");
            let (name_read, read) = from_json(&json, &store).expect("it is read").remove(0);
            assert_eq!((name_read, read), (name.clone(), drv.clone()), "{version:?}");
        }
    }
}

/// The same derivation in each form.
pub fn seeds() -> Vec<Vec<u8>> {
    let text = format!(
        r#"Derive([("out","{0}","r:sha256","{1:0>64}")],[("{0}.drv",["dev","out"])],["{0}"],"s","/bin/sh",["a"],[("__json","{{\"a\":1}}"),("x","y")])"#,
        path("x"),
        1
    );
    let drv = Derivation::parse(text.as_bytes()).expect("a derivation");
    let versions = [JsonVersion::V1, JsonVersion::V2, JsonVersion::V4];
    let written = versions.map(|version| {
        let drvs = [(path("x.drv"), drv.clone())];
        let json = to_json(&drvs, &store(), version).expect("it can be written");
        json.to_string()
    });
    let mut seeds = seeds_of(written);
    seeds.extend(seeds_of([
        r#"{"builder":"b","name":"n","system":"s","outputs":{"out":{"path":"/x"}},"args":[],"env":{}}"#,
        r#"{"builder":"b","name":"n","system":"s","outputs":{"out":{}},"args":[],"env":{},"inputs":{"srcs":["a-b"],"drvs":{"x":["out"]}}}"#,
        r#"{"builder":"b","name":"n","system":"s","outputs":{"out":{"method":"flat","hash":"sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}},"args":[],"env":{}}"#,
    ]));
    seeds
}
