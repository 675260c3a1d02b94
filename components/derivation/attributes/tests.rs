use std::borrow::Cow;
use std::collections::BTreeSet;

use super::*;
use crate::derivation::Output;
use proptest::prelude::*;

const HASH: &str = "00000000000000000000000000000000";

fn store() -> StoreDir {
    StoreDir::new("/nix/store")
}

fn path(name: &str) -> String {
    format!("/nix/store/{HASH}-{name}")
}

fn drv(env: &[(&str, &str)]) -> Derivation<'static> {
    let bytes = |text: &str| Cow::Owned(text.as_bytes().to_vec());
    let mut env: Vec<_> = env.iter().map(|(k, v)| (bytes(k), bytes(v))).collect();
    env.sort();
    let output = |name: &'static str| Output {
        name: name.into(),
        path: path(name).into(),
        hash_algo: "".into(),
        hash: "".into(),
    };
    Derivation {
        outputs: vec![output("dev"), output("out")],
        env,
        ..Derivation::default()
    }
}

/// What is wrong with a derivation with this variable.
fn wrong(name: &str, value: &str) -> String {
    let drv = drv(&[(name, value)]);
    let special = Attributes::of(&drv).and_then(|attributes| attributes.special(&store()));
    special.expect_err(value).to_string()
}

fn members(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn variables_and_structured_attributes_say_the_same() {
    let plain = drv(&[
        ("requiredSystemFeatures", " kvm\n big-parallel "),
        ("preferLocalBuild", "1"),
        ("allowSubstitutes", ""),
    ]);
    let structured = drv(&[(
        "__json",
        r#"{"requiredSystemFeatures": ["kvm", "big-parallel"], "preferLocalBuild": true, "allowSubstitutes": false}"#,
    )]);
    for drv in [plain, structured] {
        let attributes = Attributes::of(&drv).unwrap();
        assert_eq!(
            attributes.required_features().unwrap(),
            ["kvm", "big-parallel"]
        );
        assert_eq!(attributes.flag("preferLocalBuild").unwrap(), Some(true));
        assert_eq!(attributes.flag("allowSubstitutes").unwrap(), Some(false));
        assert_eq!(attributes.flag("absent").unwrap(), None);
        assert_eq!(attributes.list("absent").unwrap(), None);
    }
    // Variables beside structured attributes mean nothing.
    let both = drv(&[("__json", "{}"), ("preferLocalBuild", "1")]);
    assert_eq!(
        Attributes::of(&both)
            .unwrap()
            .flag("preferLocalBuild")
            .unwrap(),
        None
    );
}

#[test]
fn mistakes_in_structured_attributes_are_named() {
    for (value, says) in [
        ("", "'__json') can't be read"),
        ("[1]", "a list, not an object"),
        (r#"{"a": }"#, "line 1"),
        (
            r#"{"preferLocalBuild": "yes"}"#,
            "'preferLocalBuild' must be true or false, but is a string",
        ),
        (r#"{"allowSubstitutes": 1}"#, "'allowSubstitutes' must be"),
        (r#"{"requiredSystemFeatures": "kvm"}"#, "a list of strings"),
        (
            r#"{"impureEnvVars": ["a", 1]}"#,
            "'impureEnvVars[1]' must be a string",
        ),
        (
            r#"{"outputChecks": []}"#,
            "'outputChecks' must be an object, but is a list",
        ),
        (
            r#"{"outputChecks": {"out": 1}}"#,
            "'outputChecks.out' must be an object",
        ),
        (
            r#"{"outputChecks": {"out": {"maxSize": -1}}}"#,
            "'outputChecks.out.maxSize' must be a number of bytes",
        ),
        (
            r#"{"outputChecks": {"out": {"maxClosureSize": 1.5}}}"#,
            "maxClosureSize",
        ),
        (
            r#"{"outputChecks": {"out": {"allowedReferences": ["nope"]}}}"#,
            "'outputChecks.out.allowedReferences' names 'nope'",
        ),
        (
            r#"{"outputChecks": {"dev": {"disallowedRequisites": "x"}}}"#,
            "disallowedRequisites' must be a list",
        ),
        (
            r#"{"unsafeDiscardReferences": {"out": 1}}"#,
            "'unsafeDiscardReferences.out' must be true or false",
        ),
        (
            r#"{"exportReferencesGraph": {"a": {}}}"#,
            "'exportReferencesGraph.a' must be a store path or",
        ),
        (
            r#"{"exportReferencesGraph": {"a": ["/etc"]}}"#,
            "'/etc', which is no store path",
        ),
    ] {
        let message = wrong("__json", value);
        assert!(message.contains(says), "{value}: {message}");
    }
}

#[test]
fn a_structured_graph_that_is_no_object_asks_for_nothing() {
    for value in [r#"["graph", "/nix/store/x"]"#, r#""graph""#, "1", "null"] {
        let json = format!(r#"{{"exportReferencesGraph": {value}}}"#);
        let drv = drv(&[(STRUCTURED, &json)]);
        let special = Attributes::of(&drv).unwrap().special(&store()).unwrap();
        assert_eq!(special.exports, [], "{value}");
        let ignored = special.ignored.unwrap();
        assert!(
            ignored.contains("is not a JSON object, ignoring"),
            "{ignored}"
        );
    }
    let drv = drv(&[(STRUCTURED, r#"{"exportReferencesGraph": {}}"#)]);
    let special = Attributes::of(&drv).unwrap().special(&store()).unwrap();
    assert_eq!(special, Special::default());
}

#[test]
fn mistakes_in_variables_are_named() {
    for (name, value, says) in [
        ("exportReferencesGraph", "file", "'file' stands alone"),
        ("exportReferencesGraph", "../file /nix/store/x", "'../file'"),
        ("exportReferencesGraph", "1file /nix/store/x", "'1file'"),
        (
            "exportReferencesGraph",
            "file /etc/passwd",
            "'/etc/passwd', which is no store path",
        ),
        (
            "exportReferencesGraph",
            "file /nix/store/x",
            "'/nix/store/x'",
        ),
        (
            "allowedReferences",
            "out nope",
            "'allowedReferences' names 'nope'",
        ),
        ("disallowedRequisites", "/nix/store", "'/nix/store'"),
    ] {
        let message = wrong(name, value);
        assert!(message.contains(says), "{value}: {message}");
    }
}

#[test]
fn variables_hold_for_all_outputs_and_ignore_self_in_requisites_only() {
    let other = path("other");
    let value = format!("dev {other}");
    let drv = drv(&[
        ("allowedRequisites", &value),
        ("disallowedReferences", "out"),
    ]);
    assert!(drv.checks_outputs());
    let checks = Attributes::of(&drv)
        .unwrap()
        .output_checks(&store())
        .unwrap();
    assert_eq!(checks.len(), 2);
    assert_eq!(checks[0], checks[1]);
    let [requisites, references] = &checks[0].lists[..] else {
        panic!("two lists")
    };
    assert!(requisites.allowed && requisites.recursive && requisites.ignore_self);
    assert_eq!(requisites.paths, BTreeSet::from([path("dev"), other]));
    assert!(!references.allowed && !references.recursive && !references.ignore_self);
    assert_eq!(references.paths, BTreeSet::from([path("out")]));
}

#[test]
fn structured_checks_hold_for_the_output_they_name_and_never_ignore_self() {
    let drv = drv(&[(
        "__json",
        r#"{"outputChecks": {"out": {"maxSize": 10, "maxClosureSize": 20, "allowedRequisites": ["out"], "other": 1},
            "gone": {"maxSize": 1}}, "unsafeDiscardReferences": {"dev": true}, "allowedReferences": ["ignored"]}"#,
    )]);
    let checks = Attributes::of(&drv)
        .unwrap()
        .output_checks(&store())
        .unwrap();
    let discarding = OutputChecks {
        discard_references: true,
        ..OutputChecks::default()
    };
    assert_eq!(checks[0], discarding);
    assert_eq!(
        (checks[1].max_size, checks[1].max_closure_size),
        (Some(10), Some(20))
    );
    let [list] = &checks[1].lists[..] else {
        panic!("one list")
    };
    assert!(list.recursive && !list.ignore_self);
    assert_eq!(list.attribute, "outputChecks.out.allowedRequisites");
}

#[test]
fn graphs_to_export_in_both_forms() {
    let value = format!("one {}/bin/x\n_2.a-b {}", path("x"), path("y"));
    let plain = drv(&[("exportReferencesGraph", &value)]);
    let exports = Attributes::of(&plain)
        .unwrap()
        .graph_exports(&store())
        .unwrap();
    let export = |name: &str, paths: &[String]| GraphExport {
        name: name.to_owned(),
        paths: paths.to_vec(),
    };
    assert_eq!(
        exports,
        [export("one", &[path("x")]), export("_2.a-b", &[path("y")])]
    );
    let json = format!(
        r#"{{"exportReferencesGraph": {{"any key": ["{0}", ["{1}"]], "b": "{0}"}}}}"#,
        path("x"),
        path("y")
    );
    let structured = drv(&[("__json", &json)]);
    let exports = Attributes::of(&structured)
        .unwrap()
        .graph_exports(&store())
        .unwrap();
    let both = [path("x"), path("y")];
    assert_eq!(exports, [export("any key", &both), export("b", &both[..1])]);
}

#[test]
fn builders_get_outputs_as_a_map() {
    let drv = drv(&[("__json", r#"{"outputs": ["out", "dev"], "a": 1}"#)]);
    let members = Attributes::of(&drv).unwrap().members_for_builder().unwrap();
    let text = String::from_utf8(to_json_text(&members)).unwrap();
    let (dev, out) = (path("dev"), path("out"));
    assert_eq!(
        text,
        format!(r#"{{"a":1,"outputs":{{"dev":"{dev}","out":"{out}"}}}}"#)
    );
}

/// The right column is what Nix 2.8 printed.
#[test]
fn floats_have_the_form_nlohmann_gives_them() {
    for (value, text) in [
        (1.0, "1.0"),
        (-2.5, "-2.5"),
        (0.0, "0.0"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.5e-7, "1.5e-07"),
        (123_456.0, "123456.0"),
        (1e14, "100000000000000.0"),
        (1e15, "1e+15"),
        (1.25e16, "1.25e+16"),
        (3.25e300, "3.25e+300"),
    ] {
        let members = Map::from_iter([("x".to_owned(), Value::from(value))]);
        let written = String::from_utf8(to_json_text(&members)).unwrap();
        assert_eq!(written, format!(r#"{{"x":{text}}}"#));
    }
}

#[test]
fn what_bash_can_hold_is_declared() {
    let text = to_shell_text(&members(
        r#"{"text": "it's", "yes": true, "no": false, "none": null, "number": 12, "whole": 3.0, "half": 1.5,
            "big": 5000000000, "huge": 1e10, "list": ["a b", 1, true, false, null], "empty": [], "nested": [[1]],
            "halves": [1.5], "map": {"k'": "v", "a": 2}, "deep": {"a": {}}, "0digit": "x", "a-b": "x", "_": "ok"}"#,
    ));
    let expected = [
        "declare _='ok'",
        "declare big=705032704",
        "declare -a empty=()",
        "declare huge=-2147483648",
        "declare -a list=('a b' 1 1  '' )",
        r"declare -A map=(['a']=2 ['k'\''']='v' )",
        "declare no=",
        "declare none=''",
        "declare number=12",
        r"declare text='it'\''s'",
        "declare whole=3",
        "declare yes=1",
        "",
    ];
    assert_eq!(String::from_utf8(text).unwrap(), expected.join("\n"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e18..1e18).prop_map(|float: f64| Value::from(float)),
        any::<f64>().prop_map(Value::from),
        "\\PC*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(members in prop::collection::btree_map("[a-zA-Z_]{1,3}", any_json(), 0..6)) {
        let members: Map<String, Value> = members.into_iter().collect();
        let again: Map<String, Value> = serde_json::from_slice(&to_json_text(&members)).unwrap();
        prop_assert_eq!(&again, &members);
        to_shell_text(&members);
    }

    #[test]
    fn no_text_panics(name in 0..6_usize, value in "\\PC*") {
        let name = [STRUCTURED, "exportReferencesGraph", "allowedReferences", "disallowedRequisites",
            "requiredSystemFeatures", "impureEnvVars"][name];
        let drv = drv(&[(name, &value)]);
        let _ = Attributes::of(&drv).and_then(|attributes| attributes.special(&store()));
    }
}
