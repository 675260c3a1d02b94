//! Derivations as JSON, in the forms that releases of Nix print and read (`nix derivation show` and
//! `add`).

mod read;
mod write;

use serde_json::{Map, Value};

use super::DerivationError;

pub use read::from_json;
pub use write::to_json;

type Result<T> = std::result::Result<T, DerivationError>;
type Members = Map<String, Value>;

/// Which release's JSON to write. All are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JsonVersion {
    /// Nix 2.3 to 2.8: `hashAlgo` holds the mode, inputs are lists of outputs.
    V1,
    /// Nix 2.19 to 2.31: adds `name` and `method`, inputs have `dynamicOutputs`.
    #[default]
    V2,
    /// Nix 2.33 and later: `{"version": 4, "derivations": …}`, base names, SRI hashes.
    V4,
}

fn bad(reason: String) -> DerivationError {
    DerivationError::Json { reason }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::derivation::{Derivation, InputDrv};
    use crate::store_path::StoreDir;

    const DRV: &[u8] = br#"Derive([("dev","/nix/store/00000000000000000000000000000000-x-dev","",""),("out","/nix/store/00000000000000000000000000000000-x","","")],[("/nix/store/11111111111111111111111111111111-y.drv",["out"])],["/nix/store/22222222222222222222222222222222-s"],"x86_64-linux","/bin/sh",["-c","true"],[("a","b")])"#;
    const FIXED: &[u8] = br#"Derive([("out","/nix/store/00000000000000000000000000000000-x","r:sha256","e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")],[],[],"x86_64-linux","/bin/sh",[],[])"#;
    const PATH: &str = "/nix/store/33333333333333333333333333333333-x.drv";

    #[test]
    fn every_version_is_read_back() {
        let store = StoreDir::new("/nix/store");
        for version in [JsonVersion::V1, JsonVersion::V2, JsonVersion::V4] {
            for text in [DRV, FIXED] {
                let drv = Derivation::parse(text).unwrap();
                let json = to_json(&[(PATH.to_owned(), drv.clone())], &store, version).unwrap();
                let (name, mut read) = from_json(&json, &store).unwrap().remove(0);
                assert_eq!(name, "x");
                if version == JsonVersion::V4 && drv.is_fixed() {
                    assert_eq!(read.outputs[0].path, "", "left out in this form");
                    read.outputs[0].path = drv.outputs[0].path.clone();
                }
                assert_eq!(read, drv, "{version:?}");
            }
        }
    }

    #[test]
    fn structured_attributes_stand_apart_in_the_latest_form_only() {
        let store = StoreDir::new("/nix/store");
        for (attributes, apart) in [
            (r#"{"a":[1,2.5,1e+22],"b":"x"}"#, true),
            (r#"{ "a": 1 }"#, false),
            ("[1]", false),
        ] {
            let mut drv = Derivation::parse(DRV).unwrap().into_owned();
            let value = Cow::Owned(attributes.as_bytes().to_vec());
            drv.env.insert(0, (Cow::Borrowed(b"__json"), value));
            drv.env.sort();
            for version in [JsonVersion::V1, JsonVersion::V2, JsonVersion::V4] {
                let json = to_json(&[(PATH.to_owned(), drv.clone())], &store, version).unwrap();
                let text = json.to_string();
                assert_eq!(
                    text.contains("structuredAttrs"),
                    apart && version == JsonVersion::V4,
                    "{text}"
                );
                assert_eq!(
                    text.contains("__json"),
                    !text.contains("structuredAttrs"),
                    "{text}"
                );
                let (_, read) = from_json(&json, &store).unwrap().remove(0);
                assert_eq!(read.env, drv.env);
            }
        }
    }

    #[test]
    fn an_input_that_is_named_twice_is_one() {
        let store = StoreDir::new("/nix/store");
        let text = r#"{"builder":"b","name":"n","system":"s","outputs":{"out":{}},"args":[],
            "env":{},"inputs":{"drvs":{"x.drv":["out"],"/nix/store/x.drv":["dev","out"]}}}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let (_, drv) = from_json(&value, &store).unwrap().remove(0);
        let outputs = vec!["dev".into(), "out".into()];
        let path = "/nix/store/x.drv".into();
        assert_eq!(drv.input_drvs, [InputDrv { path, outputs }]);
    }

    #[test]
    fn mistakes_are_named() {
        let store = StoreDir::new("/nix/store");
        let message = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            from_json(&value, &store).unwrap_err().to_string()
        };
        let one = |rest: &str| format!(r#"{{"builder":"b","name":"n","system":"s",{rest}}}"#);
        let among = |rest: &str| {
            let name = "00000000000000000000000000000000-x.drv";
            format!(r#"{{"/nix/store/{name}":{{"builder":"b",{rest}}}}}"#)
        };
        for (text, said) in [
            ("[]".to_owned(), "the top should be an object"),
            (one(r#""args":[]"#), "missing field `outputs`"),
            (
                one(r#""outputs":{"out":3}"#),
                "'outputs.out': invalid type: integer `3`",
            ),
            (
                one(r#""outputs":{"out":{"path":[]}}"#),
                "'outputs.out.path': invalid type: sequence, expected a string",
            ),
            (
                one(r#""outputs":{},"args":["x",1]"#),
                "'args[1]': invalid type: integer `1`, expected a string",
            ),
            (
                among(r#""inputDrvs":{"/d":"out"}"#),
                "-x.drv': 'inputDrvs./d': expected a list of outputs or an object with 'outputs'",
            ),
            (
                r#"{"builder":"b","system":"s","outputs":{},"args":[],"env":{}}"#.to_owned(),
                "'name' is missing",
            ),
            (one(r#""outputs":{},"args":[],"env":{}"#), "no outputs"),
            (
                one(r#""outputs":{"out":{}},"args":[],"env":{"__json":"{}"},"structuredAttrs":{}"#),
                "structured attributes twice",
            ),
            (
                one(r#""outputs":{"out":{"hash":"x"}},"args":[],"env":{}"#),
                "the output 'out': ",
            ),
        ] {
            assert!(message(&text).contains(said), "{text}: {}", message(&text));
        }
        let floating =
            one(r#""outputs":{"out":{"method":"nar","hashAlgo":"sha256"}},"args":[],"env":{}"#);
        assert!(message(&floating).contains("content-addressed"));
    }
}
