//! Structured attributes, which a derivation holds as JSON in the variable `__json`.

use std::borrow::Cow;

use windrow_components::derivation::attributes::{Attributes, STRUCTURED};
use windrow_components::derivation::attributes::{to_json_text, to_shell_text};
use windrow_components::derivation::{Derivation, Output};

use crate::shared::{path, seeds as seeds_of, store};

/// What is read is written as the same attributes, and as a script if there is one.
pub fn check(bytes: &[u8]) {
    let drv = Derivation {
        outputs: vec![Output {
            name: Cow::Borrowed("out"),
            path: Cow::Owned(path("x")),
            hash_algo: Cow::Borrowed(""),
            hash: Cow::Borrowed(""),
        }],
        env: vec![(Cow::Borrowed(STRUCTURED.as_bytes()), Cow::Borrowed(bytes))],
        ..Derivation::default()
    };
    let Ok(attributes) = Attributes::of(&drv) else {
        return;
    };
    let members = attributes.structured().expect("they are structured");
    let text = to_json_text(members);
    let read: serde_json::Map<_, _> = serde_json::from_slice(&text).expect("it is JSON");
    assert_eq!(to_json_text(&read), text);
    let _ = attributes.special(&store());
    let _ = attributes.output_checks(&store());
    let _ = attributes.required_features();
    let for_builder = attributes.members_for_builder().expect("the same");
    let script = to_shell_text(&for_builder);
    let has_nul = text.windows(6).any(|it| it == b"\\u0000");
    assert!(!script.contains(&0) || has_nul);
}

/// Attributes that mean something, each in a form that is right and one that is not.
pub fn seeds() -> Vec<Vec<u8>> {
    let path = path("x");
    let exports = format!(r#"{{"exportReferencesGraph":{{"g":"{path}","h":["{path}"]}}}}"#);
    seeds_of([
        "{}",
        r#"{"a":[1,2.5,1e+22,-0],"b":"x'\u0000\n","c":{"d":null},"e":true,"1x":3}"#,
        r#"{"outputChecks":{"out":{"maxSize":1,"maxClosureSize":2,"allowedReferences":["out"],"disallowedRequisites":[],"ignoreSelfRefs":true}}}"#,
        r#"{"requiredSystemFeatures":["kvm","x"],"preferLocalBuild":true,"allowSubstitutes":1}"#,
        r#"{"unsafeDiscardReferences":{"out":true},"impureEnvVars":["X"]}"#,
        "[1]",
        "null",
        &exports,
    ])
}
