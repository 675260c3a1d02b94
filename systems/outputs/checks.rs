//! Whether outputs are as their derivation's attributes ask: sizes, and what they and their
//! closures refer to (Nix's `checkOutputs`). Looks at outputs that are not registered yet, beside
//! what the database knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use windrow_components::derivation::attributes::{Attributes, OutputChecks, ReferenceList};
use windrow_components::derivation::{Derivation, FixedOutput};
use windrow_components::store_path::StoreDir;

use windrow_store::db::reader::Reader;

use windrow_store::Result;
use windrow_sys::bounded;

/// What a derivation says of its outputs.
#[derive(Debug, Default)]
pub struct Expectations {
    /// By the outputs' names, as derivations have them.
    outputs: Vec<(String, Option<FixedOutput>, OutputChecks)>,
    nothing: OutputChecks,
}

impl Expectations {
    /// Reads them from the derivation's file.
    ///
    /// # Errors
    /// A message for people.
    pub fn read(drv_file: &Path, store: &StoreDir) -> Result<Self, String> {
        let text = bounded::read_derivation(drv_file);
        let text = text.map_err(|error| error.to_string())?;
        let drv = Derivation::parse(&text).map_err(|error| error.to_string())?;
        let checks = Attributes::of(&drv)
            .and_then(|attributes| attributes.output_checks(store))
            .map_err(|error| error.to_string())?;
        let mut outputs = Vec::with_capacity(checks.len());
        for (output, checks) in drv.outputs.iter().zip(checks) {
            let fixed = output.fixed().map_err(|error| error.to_string())?;
            outputs.push((output.path.to_string(), fixed, checks));
        }
        Ok(Self {
            outputs,
            ..Self::default()
        })
    }

    fn of(&self, path: &str) -> Option<&(String, Option<FixedOutput>, OutputChecks)> {
        self.outputs.iter().find(|(known, ..)| known == path)
    }

    /// What the contents of an output must be, if that is known beforehand.
    pub fn fixed(&self, path: &str) -> Option<FixedOutput> {
        self.of(path).and_then(|(_, fixed, _)| *fixed)
    }

    /// What else an output must be like.
    pub fn checks(&self, path: &str) -> &OutputChecks {
        self.of(path).map_or(&self.nothing, |(.., checks)| checks)
    }

    /// The place of an output among all of the derivation.
    pub fn place(&self, path: &str) -> Option<usize> {
        self.outputs.iter().position(|(known, ..)| known == path)
    }

    /// Whether there are checks that look at all outputs of the build together.
    pub fn has_checks(&self) -> bool {
        self.outputs.iter().any(|(.., checks)| {
            checks.max_size.is_some()
                || checks.max_closure_size.is_some()
                || !checks.lists.is_empty()
        })
    }
}

/// An output as it is about to be registered.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its store path.
    pub path: String,
    /// The size of its NAR in bytes.
    pub nar_size: u64,
    /// The paths it refers to.
    pub references: Vec<String>,
}

/// Size and references of every path that may be met.
type Known = BTreeMap<String, (u64, Vec<String>)>;

/// Checks all outputs of one build; the answer is what is wrong with the first that is not as it
/// should be.
///
/// One question to the database serves all closures of all outputs.
///
/// # Errors
/// When the database can't be read.
///
/// Nix 1.8: `DerivationGoal::registerOutputs`.
pub fn check(
    outputs: &[Candidate],
    checks: &[&OutputChecks],
    drv_path: &str,
    reader: &Reader,
) -> Result<Option<String>> {
    let mut known: Known = outputs
        .iter()
        .map(|output| {
            (
                output.path.clone(),
                (output.nar_size, output.references.clone()),
            )
        })
        .collect();
    let recursive = |checks: &OutputChecks| {
        checks.max_closure_size.is_some() || checks.lists.iter().any(|list| list.recursive)
    };
    if checks.iter().any(|checks| recursive(checks)) {
        let roots: BTreeSet<&str> = outputs
            .iter()
            .flat_map(|output| &output.references)
            .map(String::as_str)
            .filter(|path| !known.contains_key(*path))
            .collect();
        for info in reader.ask(|database| database.closure(roots.iter().copied()))? {
            known.insert(info.path, (info.nar_size, info.references));
        }
    }
    let mut problems = outputs.iter().zip(checks);
    Ok(problems.find_map(|(output, checks)| problem(output, checks, &known, drv_path)))
}

fn problem(
    output: &Candidate,
    checks: &OutputChecks,
    known: &Known,
    drv_path: &str,
) -> Option<String> {
    let path = &output.path;
    if let Some(limit) = checks.max_size
        && output.nar_size > limit
    {
        return Some(format!(
            "output '{path}' of '{drv_path}' is too large: {} bytes, of which its attribute 'maxSize' allows {limit}",
            output.nar_size
        ));
    }
    if let Some(limit) = checks.max_closure_size {
        let closure = closure(path, known);
        let size: u64 = closure
            .iter()
            .map(|path| known.get(*path).map_or(0, |(size, _)| *size))
            .sum();
        if size > limit {
            return Some(format!(
                "the closure of output '{path}' of '{drv_path}' is too large: {size} bytes, of which its attribute \
                 'maxClosureSize' allows {limit}"
            ));
        }
    }
    checks.lists.iter().find_map(|list| {
        let bad = offending(output, list, known);
        if bad.is_empty() {
            return None;
        }
        let paths: String = bad.iter().map(|path| format!("\n  {path}")).collect();
        let means = if list.recursive {
            " (not even through others)"
        } else {
            ""
        };
        Some(format!(
            "output '{path}' of '{drv_path}' is not allowed to refer to the following paths{means}, says its \
             attribute '{}':{paths}",
            list.attribute
        ))
    })
}

/// The paths that the output refers to against the list's will, sorted.
fn offending<'k>(output: &'k Candidate, list: &ReferenceList, known: &'k Known) -> Vec<&'k str> {
    let mut used: BTreeSet<&str> = if list.recursive {
        closure(&output.path, known)
    } else {
        output.references.iter().map(String::as_str).collect()
    };
    if list.ignore_self {
        used.remove(&*output.path);
    }
    used.retain(|path| list.paths.contains(*path) != list.allowed);
    used.into_iter().collect()
}

/// The closure of a path, itself included.
fn closure<'k>(path: &'k str, known: &'k Known) -> BTreeSet<&'k str> {
    let mut members = BTreeSet::from([path]);
    let mut pending = vec![path];
    while let Some(path) = pending.pop() {
        if let Some((_, references)) = known.get(path) {
            let new = references.iter().map(String::as_str);
            pending.extend(new.filter(|path| members.insert(path)));
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(attribute: &str, ignore_self: bool, paths: &[&str]) -> ReferenceList {
        ReferenceList {
            attribute: attribute.to_owned(),
            allowed: attribute.starts_with("allowed"),
            recursive: attribute.ends_with("Requisites"),
            ignore_self,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    /// A world in which `out` refers to itself, `dev` and `a`; `dev` to `b`; and `a` to `c`.
    fn world() -> (Candidate, Known) {
        let rows: [(&str, u64, &[&str]); 5] = [
            ("out", 1, &["out", "dev", "a"]),
            ("dev", 10, &["b"]),
            ("a", 100, &["c"]),
            ("b", 1000, &[]),
            ("c", 10_000, &["c"]),
        ];
        let strings = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let out = Candidate {
            path: "out".to_owned(),
            nar_size: 1,
            references: strings(rows[0].2),
        };
        let row =
            |(name, size, refs): (&str, u64, &[&str])| (name.to_owned(), (size, strings(refs)));
        (out, rows.map(row).into())
    }

    #[test]
    fn lists_judge_references_or_the_whole_closure_and_themselves_or_not() {
        let (out, known) = world();
        for (list, bad) in [
            (
                list("allowedReferences", false, &["a"]),
                &["dev", "out"][..],
            ),
            (list("allowedReferences", false, &["a", "dev", "out"]), &[]),
            (list("allowedRequisites", true, &["a", "dev"]), &["b", "c"]),
            (
                list("allowedRequisites", false, &["a", "b", "c", "dev"]),
                &["out"],
            ),
            (
                list("disallowedReferences", false, &["b", "c", "out"]),
                &["out"],
            ),
            (
                list("disallowedRequisites", true, &["b", "c", "out"]),
                &["b", "c"],
            ),
            (list("disallowedRequisites", false, &["out"]), &["out"]),
            (
                list("allowedRequisites", true, &[]),
                &["a", "b", "c", "dev"],
            ),
        ] {
            assert_eq!(offending(&out, &list, &known), bad, "{list:?}");
        }
    }

    #[test]
    fn sizes_may_reach_their_limits_and_no_more() {
        let (out, known) = world();
        let with = |max_size, max_closure_size| OutputChecks {
            max_size,
            max_closure_size,
            ..OutputChecks::default()
        };
        let says = |checks| problem(&out, &checks, &known, "x.drv");
        assert_eq!(says(with(Some(1), Some(11_111))), None);
        assert!(
            says(with(Some(0), None))
                .unwrap()
                .contains("'maxSize' allows 0")
        );
        assert!(
            says(with(None, Some(11_110)))
                .unwrap()
                .contains("11111 bytes")
        );
    }
}
