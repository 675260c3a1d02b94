//! Dyndep files and what becomes of them. Checked against what ninja 1.11 does with the same text.

use crate::task_graph::TaskGraph;
use crate::task_graph::ninja::Result;
use crate::task_graph::ninja::tests::{read_with, shown};

/// Statements with a dyndep file, and others that it brings together with them.
const WITH_DYNDEP: &str = "rule r\n  command = x\nbuild a a2: r || dd\n  dyndep = dd\n\
                           build b: r\nbuild c: r x\nbuild p: phony dd\n  dyndep = dd\nbuild q: r p\n";

fn with_dyndep(dyndep: &str) -> Result<TaskGraph> {
    read_with(&[("build.ninja", WITH_DYNDEP), ("dd", dyndep)])
}

#[test]
fn dyndep_files_add_inputs_and_outputs() {
    for text in [
        "ninja_dyndep_version = 1\nbuild a | x: dyndep | b\nbuild p: dyndep | ./c\n",
        "# made\n\nninja_dyndep_version = 1.0-more\nbuild ./a2 | $\n  x: dyndep | b\n  restat = 1\n\
         build p: dyndep | c\n",
    ] {
        let graph = with_dyndep(text).unwrap();
        assert_eq!(shown(&graph), "a: b\nb:\nc: a\nq: c\n", "{text}");
    }
    let of_rule = read_with(&[
        (
            "build.ninja",
            "rule r\n  command = x\n  dyndep = $name\nbuild a: r dd\n  name = dd\nbuild b: r\n\
             build b2: r o.dd\n  name = o.dd\nbuild out: r out.dd\nsubninja s\n",
        ),
        (
            "s",
            "build o: r s.dd\n  name = s.dd\nrule r\n  command = y\nbuild n: r\n",
        ),
        ("dd", "ninja_dyndep_version = 1\nbuild a: dyndep | b\n"),
        ("o.dd", "ninja_dyndep_version = 1\nbuild b2: dyndep | a n\n"),
        ("s.dd", "ninja_dyndep_version = 1\nbuild o | y: dyndep\n"),
    ]);
    let shown = shown(&of_rule.unwrap());
    assert_eq!(shown, "a: b\nb:\nb2: a n\nout:\no:\nn:\n");
    let by_output = read_with(&[
        (
            "build.ninja",
            "rule r\n  command = x\n  dyndep = $out.dd\nbuild a: r a.dd\n",
        ),
        ("a.dd", "ninja_dyndep_version = 1\nbuild a | z: dyndep\n"),
    ]);
    assert_eq!(by_output.unwrap().len(), 1);
}

#[test]
fn mistakes_in_dyndep_files_are_those_ninja_finds() {
    let v = "ninja_dyndep_version = 1\n";
    for (text, wanted) in [
        (
            String::new(),
            "dd:1:1: the file ends where `ninja_dyndep_version =`",
        ),
        ("build a: dyndep\n".to_owned(), "dd:1:1: `b` stands where"),
        (
            "ninja_dyndep_version = 2\n".to_owned(),
            "dd:1:1: version `2` of dyndep",
        ),
        (
            "ninja_dyndep_version = 1.1\n".to_owned(),
            "version `1.1` of dyndep",
        ),
        (v.to_owned(), "dd: `a` is not mentioned, though"),
        (format!("{v}x = 1\n"), "dd:2:1: only build statements"),
        (
            format!("{v}build a: dyndep b\n"),
            "dd:2:17: `b` stands where the end of the line",
        ),
        (
            format!("{v}build a: dyndep || b\n"),
            "dd:2:18: `|` stands where the end",
        ),
        (
            format!("{v}build a: r\n"),
            "dd:2:10: the rule of a dyndep statement",
        ),
        (
            format!("{v}build a q: dyndep\n"),
            "dd:2:1: one output should stand here",
        ),
        (
            format!("{v}build b: dyndep\n"),
            "the statement that makes this output does not name `dd`",
        ),
        (
            format!("{v}build zz: dyndep\n"),
            "no build statement makes `zz`",
        ),
        (
            format!("{v}build a: dyndep\nbuild a2: dyndep\n"),
            "dd:3:1: there is a statement for",
        ),
        (
            format!("{v}build a: dyndep\n  foo = 1\n"),
            "dd:3:3: a dyndep statement has no variable but",
        ),
        (
            format!("{v}build a | c: dyndep\nbuild p: dyndep\n"),
            "dd: `c` is already the output of a build statement",
        ),
        (
            format!("{v}build a: dyndep | q\nbuild p: dyndep | a\n"),
            "the graph has a cycle",
        ),
        (
            format!("\u{feff}{v}"),
            "dd:1:1: the file begins with a byte order mark",
        ),
    ] {
        let message = with_dyndep(&text).unwrap_err().to_string();
        assert!(message.contains(wanted), "{text:?}: {message}");
    }
}

#[test]
fn a_dyndep_file_that_is_not_there_is_named() {
    let missing = read_with(&[("build.ninja", WITH_DYNDEP)])
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("build.ninja: cannot read the dyndep file `dd`: "),
        "{missing}"
    );
    let made = format!("{WITH_DYNDEP}build dd: r\n");
    let made = read_with(&[("build.ninja", &made)])
        .unwrap_err()
        .to_string();
    assert!(made.ends_with("have ninja build it first"), "{made}");
}
