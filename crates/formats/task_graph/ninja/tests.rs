//! Ninja files and what becomes of them. Checked against what ninja 1.11 does with the same text.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

pub(super) fn read_with(files: &[(&str, &str)]) -> Result<TaskGraph> {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let text = files["build.ninja"].as_bytes();
    load("build.ninja", text, Limits::default(), &mut |path| {
        let path = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let text = files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.as_bytes().to_vec())
    })
}

fn read(text: &str) -> Result<TaskGraph> {
    read_with(&[("build.ninja", &format!("rule r\n  command = x\n{text}"))])
}

/// A line a task: its name and what it depends on.
pub(super) fn shown(graph: &TaskGraph) -> String {
    let mut text = String::new();
    for task in graph.tasks() {
        text.push_str(&format!("{}:", graph.name(task)));
        for &predecessor in graph.predecessors(task) {
            text.push_str(&format!(" {}", graph.name(predecessor)));
        }
        text.push('\n');
    }
    text
}

fn refusal(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn values_and_paths_that_double_have_a_limit() {
    let doubling = |last: usize| {
        let lines = (1..=last).map(|n| format!("a{n} = $a{0}$a{0}\n", n - 1));
        format!("a0 = xxxxxxxx\n{}", lines.collect::<String>())
    };
    assert!(read(&doubling(18)).is_ok());
    let value = refusal(&doubling(40));
    assert!(value.contains("more than 4194304 bytes"), "{value}");
    assert!(value.contains("build.ninja:23"), "{value}");
    let path = refusal(&format!("{}build $a18$a18$a18: r\n", doubling(18)));
    assert!(path.contains("more than 4194304 bytes"), "{path}");
    // Many that are just short enough are too many together.
    let many: String = (0..400).map(|n| format!("b{n} = $a18\n")).collect();
    let all = refusal(&(doubling(18) + &many));
    assert!(all.contains("values and paths have more than"), "{all}");
    let paths: String = (0..400).map(|n| format!("build $a18{n}: r\n")).collect();
    let all = refusal(&(doubling(18) + &paths.replace("$a18", "${a18}")));
    assert!(all.contains("values and paths have more than"), "{all}");
    // A variable that is set again and again is kept once, as are those of statements.
    let again = "b = $a18\n".repeat(400);
    assert!(read(&(doubling(18) + &again)).is_ok());
    let own: String = (0..400)
        .map(|n| format!("build p{n}: r\n  v = $a18\n"))
        .collect();
    assert!(read(&(doubling(18) + &own)).is_ok());
}

#[test]
fn inputs_of_any_kind_are_edges() {
    let graph = read(
        "build all: phony d\nbuild a: r src\nbuild b | b2: r a\nbuild c: r | a\n\
         build d | d2 d3: r b2 c || e |@ v\nbuild e: r\nbuild v: r\n\
         build | i: r d2\n",
    );
    assert_eq!(
        shown(&graph.unwrap()),
        "a:\nb: a\nc: a\nd: b c e\ne:\nv:\ni: d\n"
    );
}

#[test]
fn phony_rules_are_seen_through() {
    let graph = read(
        "build x: r p3\nbuild p3: phony p2 p1 src\nbuild p2: phony p1\nbuild p1: phony a b\n\
         build a: r\nbuild b: r\nbuild y: r p1 a\nbuild self: phony self a\nbuild z: r self\n",
    );
    assert_eq!(shown(&graph.unwrap()), "x: a b\na:\nb:\ny: a b\nz: a\n");
}

#[test]
fn variables_are_taken_from_where_ninja_takes_them() {
    let graph = read(
        "dir = one\nbuild $dir/a: r\nbuild ${name}-x: r $dir/a\n  name = of$dir\n\
         dir = two\nbuild ${dir}/b: r one/a $name\n  dir = three\n  name = $dir/a\n",
    );
    // A statement's own variables are seen by its paths, but not by one another.
    assert_eq!(
        shown(&graph.unwrap()),
        "one/a:\nofone-x: one/a\nthree/b: one/a\n"
    );
    let graph = read("build two/a: r\nd = two\nbuild b: r $n\n  d = three\n  n = $d/a\n");
    assert_eq!(shown(&graph.unwrap()), "two/a:\nb: two/a\n");
}

#[test]
fn escapes_continuations_comments_and_shapes_of_paths() {
    let graph = read(
        "# first\nbuild a$ b$:c$$: r $\n    src\n\n  # inside\n\
         build ./d//e/../f: $\n   r a$ b$:c$$ $\n x\n\
         \x20 # not the end of the block\n  description = $\n    more\n\r\n\
         build g: r d/f/\r\npool p\n  depth = 1\n\
         default g ./d/f\nninja_required_version = 1.5\n# last",
    );
    assert_eq!(shown(&graph.unwrap()), "a b:c$:\nd/f: a b:c$\ng: d/f\n");
}

#[test]
fn include_shares_a_scope_and_subninja_does_not() {
    let graph = read_with(&[
        (
            "build.ninja",
            "d = top\ninclude $d.inc\nsubninja s.ninja\nbuild $d: r sub/out inc\n",
        ),
        (
            "top.inc",
            "rule r\n  command = x\nbuild inc: r\nd = included\n",
        ),
        (
            "s.ninja",
            "rule own\n  command = x\nd = sub\nbuild $d/out: own inc\n",
        ),
    ]);
    assert_eq!(
        shown(&graph.unwrap()),
        "inc:\nsub/out: inc\nincluded: inc sub/out\n"
    );
    let inner_rule = read_with(&[
        ("build.ninja", "subninja s.ninja\nbuild a: own\n"),
        ("s.ninja", "rule own\n  command = x\n"),
    ]);
    assert!(
        inner_rule
            .unwrap_err()
            .to_string()
            .contains("2:10: there is no rule `own`")
    );
}

#[test]
fn includes_that_fail_say_where() {
    let missing = read("subninja gone.ninja\n").unwrap_err().to_string();
    assert!(
        missing.starts_with("build.ninja:3:1: cannot read `gone.ninja`: "),
        "{missing}"
    );
    let circle = read_with(&[
        ("build.ninja", "\ninclude a\n"),
        ("a", "subninja build.ninja\n"),
    ]);
    let circle = circle.unwrap_err().to_string();
    assert_eq!(
        circle,
        "a:1:1: `build.ninja` is included while it is being read: build.ninja -> a -> build.ninja"
    );
    let below = read_with(&[("build.ninja", "include a\n"), ("a", "\n  x = 1\n")]).unwrap_err();
    assert_eq!(below.to_string(), "a:2:3: this line should not be indented");
}

#[test]
fn every_mistake_has_its_place() {
    for (text, wanted) in [
        (
            "build a: r",
            "3:11: the file ends where the rest of the path",
        ),
        ("build a r\n", "3:10: the line ends where `:`"),
        ("build : r\n", "3:7: `:` stands where the path of an output"),
        ("build a: x\n", "3:10: there is no rule `x` above"),
        ("build a: r b$*\n", "3:13: a single `$`"),
        ("build a: r ${b\n", "3:12: this `${`"),
        ("build a: r $b\n", "3:12: this path is empty"),
        (
            "build a: r\nbuild b a: r\n",
            "4:7: `a` is already the output",
        ),
        (
            "build a a: r\n",
            "3:7: `a` stands twice among the outputs of this statement",
        ),
        ("build a | ./a: r\n", "3:7: `a` stands twice"),
        ("build ${x}a a: phony\n", "3:7: `a` stands twice"),
        (
            "build a: r\n  dyndep = dd\n",
            "3:7: the dyndep file `dd` is no input",
        ),
        (
            "build a: r |@ dd\n  dyndep = dd\n",
            "the dyndep file `dd` is no input",
        ),
        ("build a: r\n\tx = 1\n", "4:1: tabs are not allowed"),
        (
            "build a: r\n\n  x = 1\n",
            "5:3: this line should not be indented",
        ),
        ("build a: r\n  x 1\n", "4:5: `1` stands where `=`"),
        (
            "build |: r\n",
            "3:8: `:` stands where the path of an output",
        ),
        ("pool q\n", "the pool's `depth =`"),
        (
            "rule r\n  command = x\n",
            "3:1: there is a rule `r` already",
        ),
        ("default gone\n", "3:9: `gone` is no known target"),
        ("default\n", "`default` names no target"),
        ("x = 1", "3:6: the file ends where the end of the line"),
        ("x\n", "3:2: the line ends where `=`"),
        ("= 1\n", "3:1: `=` stands where a statement"),
        ("build a\0: r\n", "3:8: `\\x00` stands"),
        ("build a: r a\n", "needs the next: a -> a"),
        (
            "build a: r p\nbuild p: phony b\nbuild b: r a\n",
            "needs the next: a -> b -> a",
        ),
        (
            "build a: phony b\nbuild b: phony c\nbuild c: phony a\n",
            "the next: a -> b -> c -> a",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(wanted), "{text:?}: {message}");
        assert!(
            message.contains("build.ninja:") || message.contains("cycle"),
            "{message}"
        );
    }
}

#[test]
fn pools_are_known_from_where_ninja_knows_them() {
    let graph = read_with(&[
        (
            "build.ninja",
            "n = 0\npool p\n  depth = -$n\nrule r\n  command = x\n  pool = $mine\n\
             rule own\n  command = x\n  pool = gone\nbuild a: own\n  pool = p\n\
             build b: own\n  pool =\nbuild c: r\nbuild d: r\n  mine = console\nsubninja s\n\
             build f: own\n  pool = q\n",
        ),
        // Pools are everybody's, rules are hidden by those of the same name.
        (
            "s",
            "pool q\n  depth = many\nbuild g: r\nrule r\n  command = x\n  pool = q\n\
             build e: r\n  pool_of_nobody = x\n",
        ),
    ]);
    assert_eq!(shown(&graph.unwrap()), "a:\nb:\nc:\nd:\ng:\ne:\nf:\n");
}

#[test]
fn rules_and_pools_hold_what_ninja_takes() {
    for (text, wanted) in [
        (
            "pool q\n  depth = 1\npool q\n  depth = 1\n",
            "5:1: there is a pool `q` already",
        ),
        (
            "pool console\n  depth = 1\n",
            "3:1: there is a pool `console` already",
        ),
        (
            "n = -1\npool q\n  depth = $n\n",
            "5:3: the depth of a pool must not be negative",
        ),
        (
            "pool q\n  depth = 1\n  width = 2\n",
            "5:3: `width` is no variable that a pool may set",
        ),
        (
            "build a: r\n  pool = q\npool q\n  depth = 1\n",
            "3:7: there is no pool `q` above",
        ),
        (
            "n = q\nbuild a: r\nbuild b: r\n  pool = $n\n",
            "5:7: there is no pool `q` above",
        ),
        (
            "rule q\n  command = x\n  pool = q\nbuild a: q\n",
            "6:7: there is no pool `q` above",
        ),
        (
            "rule q\n  command = x\n  pool = q$n$out\nbuild a: q\n  n = 1\n",
            "6:7: there is no pool `q1a` above",
        ),
        ("rule q\n  description = x\n", "the rule's `command =`"),
        ("rule q\n  command =\n", "the rule's `command =`"),
        (
            "rule q\n  command = x\n  cmd = y\n",
            "5:3: `cmd` is no variable that a rule may set",
        ),
        (
            "rule q\n  command = x\n  rspfile = y\n",
            "3:1: `rspfile` and `rspfile_content` must both be set",
        ),
        (
            "rule q\n  command = x\n  rspfile_content = y\n",
            "3:1: `rspfile` and `rspfile_content` must both be set",
        ),
        (
            "rule phony\n  command = x\n",
            "3:1: there is a rule `phony` already",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(wanted), "{text:?}: {message}");
    }
}

#[test]
fn paths_that_would_not_fit_are_refused() {
    let mut text = "rule r\n  command = x\n".to_owned();
    for statement in 0..10 {
        text.push_str(&format!("build out{statement}: r"));
        for source in 0..1_000 {
            text.push_str(&format!(" src{statement}-{source}"));
        }
        text.push('\n');
    }
    let limited = |memory_bytes: u64| {
        let mut nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let limits = Limits { memory_bytes };
        load("build.ninja", text.as_bytes(), limits, &mut nothing)
    };
    assert_eq!(limited(10_000_000).unwrap().len(), 10);
    let refused = limited(200_000).unwrap_err().to_string();
    assert!(
        refused.starts_with("the graph in build.ninja is too large: "),
        "{refused}"
    );
}

#[test]
fn the_first_mistake_is_told() {
    // Paths are looked up many statements later than they are read.
    for (text, wanted) in [
        ("build a: r\nbuild a: r\nbuild b r\n", "4:7: `a` is already"),
        ("build a: r\nbuild b r\nbuild a: r\n", "4:10: the line ends"),
        (
            "build a: r\nbuild a: r\ninclude gone\n",
            "4:7: `a` is already",
        ),
        (
            "build a: r\nbuild a: r\ndefault gone\n",
            "4:7: `a` is already",
        ),
        (
            "build a: r\nbuild a: r\nbuild b: r $\n",
            "4:7: `a` is already",
        ),
        (
            "build a: r\nbuild a: r\nbuild ${x}a: r\n",
            "4:7: `a` is already",
        ),
        (
            "build a: r\nbuild ${x}a: r\nbuild a: r\n",
            "4:7: `a` is already",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(wanted), "{text:?}: {message}");
    }
    let below = read_with(&[
        ("build.ninja", "subninja s\nbuild a: r\nbuild x y\n"),
        (
            "s",
            "rule r\n  command = x\nbuild a: r\nbuild a: r\nbuild x y\n",
        ),
    ]);
    let below = below.unwrap_err().to_string();
    assert!(below.starts_with("s:4:7: `a` is already"), "{below}");
}

/// Several ways to write a path that ninja takes for the same.
fn spelled(name: &str, way: usize) -> String {
    match way {
        0 => format!("./{name}"),
        1 => format!("x/../{name}"),
        2 => format!("${{none}}{name}"),
        3 => name.replace(':', "$:"),
        _ => name.to_owned(),
    }
}

proptest! {
    #[test]
    fn many_statements_come_out_as_they_were_meant(
        statements in proptest::collection::vec(
            (0..12usize, proptest::collection::vec((0..400usize, 0..12usize), 0..6), 0..40usize),
            0..400,
        ),
    ) {
        let name = |number: usize| format!("d{}/out{number}", number % 7);
        let mut text = String::new();
        let mut wanted = String::new();
        for (number, (way, inputs, kind)) in statements.iter().enumerate() {
            text.push_str(&format!("build {}: r", spelled(&name(number), *way)));
            let mut edges = std::collections::BTreeSet::new();
            for &(input, way) in inputs {
                // What lies ahead would make a circle; nobody makes it under this name.
                let path = if input < number { name(input) } else { format!("src{input}") };
                text.push_str(&format!(" {}", spelled(&path, way)));
                edges.extend((input < number).then_some(input));
            }
            text.push_str(match kind {
                0 => "\n  k = v $none\n",
                1 => "\n\n# comment\n",
                2 => " | extra || later\n",
                3 => "\nx = 1\n",
                _ => "\n",
            });
            wanted.push_str(&format!("{}:", name(number)));
            for edge in edges {
                wanted.push_str(&format!(" {}", name(edge)));
            }
            wanted.push('\n');
        }
        prop_assert_eq!(shown(&read(&text).unwrap()), wanted);
    }
}

const SAMPLE: &str = "d = o$\n ut\nrule r\n  command = x\nbuild $d/a$ b: r in | p || q\n  k = $d\n\
                      build p: phony ./q\nbuild q: r\r\npool z\n  depth = 1\ndefault q\n";

#[test]
fn a_file_cut_inside_a_line_is_refused() {
    for cut in 0..SAMPLE.len() {
        let whole_lines = cut == 0 || SAMPLE.as_bytes()[cut - 1] == b'\n';
        if !whole_lines && read_with(&[("build.ninja", &SAMPLE[..cut])]).is_ok() {
            // Only a line that has said nothing yet may end anywhere.
            assert!(SAMPLE[..cut].ends_with(' '), "cut at {cut}");
        }
    }
    read_with(&[("build.ninja", SAMPLE)]).unwrap();
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        edits in proptest::collection::vec((0..SAMPLE.len(), "[ $:|\n\r#={}a.@/\\x00]{0,3}"), 1..5),
    ) {
        let mut text = SAMPLE.to_owned();
        for (at, new) in edits {
            let at = at.min(text.len());
            let end = (at + new.len()).min(text.len());
            text.replace_range(at..end, &new);
            if new.is_empty() && at < text.len() {
                text.remove(at);
            }
        }
        let _ = read_with(&[("build.ninja", &text)]);
    }
}

#[test]
fn thousands_of_files_may_be_nested() {
    for depth in [3_000, 10_000] {
        let mut read = |path: &Path| {
            let number: usize = path.to_str().unwrap()[1..].parse().unwrap();
            let text = match number {
                0 => "rule r\n  command = x\nbuild last: r\n".to_owned(),
                _ => format!("include i{}\nbuild o{number}: r last\n", number - 1),
            };
            Ok(text.into_bytes())
        };
        let first = format!("include i{depth}\n");
        let graph = load(
            "build.ninja",
            first.as_bytes(),
            Limits::default(),
            &mut read,
        )
        .unwrap();
        assert_eq!((graph.len(), graph.edge_count()), (depth + 1, depth));
    }
    let mut endless = |path: &Path| Ok(format!("include {}x\n", path.display()).into_bytes());
    let refused = load("f", b"include x\n", Limits::default(), &mut endless).unwrap_err();
    assert!(
        refused.to_string().contains("files are nested here"),
        "{refused}"
    );
    let limits = Limits {
        memory_bytes: 200_000,
    };
    let refused = load("f", b"include x\n", limits, &mut endless).unwrap_err();
    assert!(refused.to_string().contains("is too large"), "{refused}");
}

#[test]
fn what_an_include_leaves_is_read_on() {
    let graph = read_with(&[
        (
            "build.ninja",
            "rule r\n  command = x\nbuild a: r\ninclude i\nbuild c: r b d\nsubninja s\nbuild e: r f\n",
        ),
        ("i", "build b: r a\nsubninja s2\n"),
        ("s2", "build d: r"),
        ("s", "\nbuild f: r c\n\n"),
    ]);
    // A last line without an end is refused, wherever it stands.
    assert!(
        graph
            .unwrap_err()
            .to_string()
            .starts_with("s2:1:11: the file ends")
    );
    let graph = read_with(&[
        (
            "build.ninja",
            "rule r\n  command = x\nbuild a: r\ninclude i\nbuild c: r b d\nsubninja s\nbuild e: r f\n",
        ),
        ("i", "build b: r a\nsubninja s2\n"),
        ("s2", "build d: r\n"),
        ("s", "\nbuild f: r c\n\n"),
    ]);
    assert_eq!(shown(&graph.unwrap()), "a:\nb: a\nd:\nc: b d\nf: c\ne: f\n");
}
