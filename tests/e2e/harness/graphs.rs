//! Graphs in short: derivations that are shell scripts, put together as windrow's JSON.
//! Knows the form of a graph file, not what becomes of it.

use serde_json::{Map, Value, json};

use super::World;

/// A derivation that runs a script; its programs are found in the usual directories.
pub(crate) fn sh(script: &str) -> Value {
    sh_with(script, json!({}))
}

/// The same with more members, such as `outputs` or `env`.
pub(crate) fn sh_with(script: &str, more: Value) -> Value {
    let mut members = Map::new();
    members.insert("builder".into(), "/bin/sh".into());
    members.insert(
        "args".into(),
        json!(["-c", format!("PATH=/usr/bin:/bin\n{script}")]),
    );
    members.extend(more.as_object().expect("an object").clone());
    Value::Object(members)
}

/// A derivation that notes its name in the file `log` when it runs and then copies what it needs.
pub(crate) fn step(name: &str, log: &std::path::Path, needs: &[&str]) -> Value {
    let cat: String = needs
        .iter()
        .map(|need| format!("cat @{{{need}}} >> $out\n"))
        .collect();
    sh(&format!(
        "echo {name} >> {}\necho {name} > $out\n{cat}",
        log.display()
    ))
}

/// A derivation that makes the file `runs` of the world, and ends well once there is `go`.
pub(crate) fn runs_until_go(world: &World) -> Value {
    sh(&format!(
        ": > {}; until [ -e {} ]; do sleep 0.05; done; echo > $out",
        world.file("runs").display(),
        world.file("go").display()
    ))
}

/// A graph of derivations.
pub(crate) fn graph_of<'a>(derivations: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let derivations: Map<String, Value> = derivations
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    json!({ "derivations": derivations })
}
