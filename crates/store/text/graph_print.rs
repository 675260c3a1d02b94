//! A closure as text: Graphviz's dot, GraphML and a tree, in the words of nix-store.
//! Writes what a [`PathGraph`] holds; looks nothing up.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::db::path_graph::PathGraph;
use crate::error::Result;

/// The colours of edges, in turn.
const COLOURS: [&str; 6] = ["black", "red", "green", "blue", "magenta", "burlywood"];

/// Visits the members that can be reached, the smallest first, as Nix does.
fn visit(
    graph: &PathGraph,
    roots: &[u32],
    mut each: impl FnMut(u32) -> io::Result<()>,
) -> io::Result<()> {
    let mut left: BTreeSet<u32> = roots.iter().copied().collect();
    let mut done = vec![false; graph.len()];
    while let Some(at) = left.pop_first() {
        if std::mem::replace(&mut done[at as usize], true) {
            continue;
        }
        each(at)?;
        left.extend(
            graph
                .references(at)
                .iter()
                .filter(|&&next| !done[next as usize]),
        );
    }
    Ok(())
}

/// `HASH-NAME` and `NAME` of a full path.
fn names(path: &str) -> (&str, &str) {
    let base = path.rsplit('/').next().unwrap_or(path);
    (base, base.split_once('-').map_or(base, |(_, name)| name))
}

/// Writes the paths below `roots` as a graph for `dot`, with arrows from what is needed to what
/// needs it.
///
/// # Errors
/// Those of `out`.
pub fn write_dot(graph: &PathGraph, roots: &[u32], out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"digraph G {\n")?;
    let mut colours = COLOURS.iter().cycle();
    visit(graph, roots, |at| {
        let (id, name) = names(graph.path(at));
        writeln!(
            out,
            "\"{id}\" [label = \"{name}\", shape = box, style = filled, fillcolor = \"#ff0000\"];"
        )?;
        for &reference in graph.references(at) {
            let colour = colours.next().unwrap_or(&COLOURS[0]);
            let (from, _) = names(graph.path(reference));
            writeln!(out, "\"{from}\" -> \"{id}\" [color = \"{colour}\"];")?;
        }
        Ok(())
    })?;
    out.write_all(b"}\n")
}

/// Writes the paths below `roots` as GraphML; `sizes` are those of the NARs, in bytes, by place.
///
/// # Errors
/// Those of `out`.
pub fn write_graphml(
    graph: &PathGraph,
    roots: &[u32],
    sizes: &[u64],
    out: &mut impl Write,
) -> io::Result<()> {
    let key = |name: &str, of: &str| {
        format!("<key id='{name}' for='node' attr.name='{name}' attr.type='{of}'/>")
    };
    let keys = [
        key("narSize", "int"),
        key("name", "string"),
        key("type", "string"),
    ]
    .concat();
    out.write_all(
        b"<?xml version='1.0' encoding='utf-8'?>\n\
          <graphml xmlns='http://graphml.graphdrawing.org/xmlns'\n\
          \x20   xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'\n\
          \x20   xsi:schemaLocation='http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd'>\n",
    )?;
    writeln!(out, "{keys}<graph id='G' edgedefault='directed'>")?;
    visit(graph, roots, |at| {
        let (id, name) = names(graph.path(at));
        // Nix cuts names after their first dash; of one without a dash nothing is left.
        let short = name.find('-').map_or("", |dash| &name[..=dash]);
        let kind = if name.ends_with(".drv") {
            "derivation"
        } else {
            "output-path"
        };
        let size = sizes[at as usize];
        writeln!(out, "  <node id=\"{id}\">")?;
        writeln!(out, "    <data key=\"narSize\">{size}</data>")?;
        writeln!(out, "    <data key=\"name\">{short}</data>")?;
        writeln!(out, "    <data key=\"type\">{kind}</data>")?;
        writeln!(out, "  </node>")?;
        for &reference in graph.references(at) {
            let (target, _) = names(graph.path(reference));
            writeln!(out, "  <edge source=\"{id}\" target=\"{target}\"/>")?;
        }
        Ok(())
    })?;
    out.write_all(b"</graph>\n</graphml>\n")
}

/// Writes the references below each root as a tree; a path that was there already is not gone into
/// again.
///
/// # Errors
/// Those of `out`, and [`crate::Error::ReferenceCycle`].
pub fn write_tree(
    graph: &PathGraph,
    roots: &[u32],
    out: &mut impl Write,
) -> Result<io::Result<()>> {
    let mut done = vec![false; graph.len()];
    // What is to be printed next: the path, the text before it, and before what is below it.
    let mut stack: Vec<(u32, String, String)> = Vec::new();
    for &root in roots {
        stack.push((root, String::new(), String::new()));
        while let Some((at, first, tail)) = stack.pop() {
            let again = std::mem::replace(&mut done[at as usize], true);
            let mark = if again { " [...]" } else { "" };
            if let Err(error) = writeln!(out, "{first}{}{mark}", graph.path(at)) {
                return Ok(Err(error));
            }
            if again {
                continue;
            }
            let mut below = graph.sorted_among(graph.references(at))?;
            // Nothing that it refers to refers to it, so it comes last.
            below.extend(graph.refers_to_itself(at).then_some(at));
            for (number, &next) in below.iter().rev().enumerate() {
                let (branch, under) = if number == 0 {
                    ("└───", "    ")
                } else {
                    ("├───", "│   ")
                };
                stack.push((next, format!("{tail}{branch}"), format!("{tail}{under}")));
            }
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diamond() -> PathGraph {
        let mut graph = PathGraph::default();
        graph.push("/s/a-top".into(), [1, 2].into_iter());
        graph.push("/s/b-x-y".into(), [3].into_iter());
        graph.push("/s/c-z.drv".into(), [3].into_iter());
        graph.push("/s/d-base".into(), [].into_iter());
        graph
    }

    #[test]
    fn a_tree_shows_what_is_shared_once() {
        let mut text = Vec::new();
        write_tree(&diamond(), &[0], &mut text).unwrap().unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "/s/a-top\n├───/s/b-x-y\n│   └───/s/d-base\n└───/s/c-z.drv\n    └───/s/d-base [...]\n"
        );
    }

    #[test]
    fn graphml_names_sizes_and_kinds() {
        let mut text = Vec::new();
        write_graphml(&diamond(), &[1], &[0, 7, 0, 9], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("<data key=\"name\">x-</data>"), "{text}");
        assert!(text.contains("  <edge source=\"b-x-y\" target=\"d-base\"/>\n"));
        assert!(!text.contains("top"));
    }
}
