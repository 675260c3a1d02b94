//! A part of a graph: the derivations that somebody names, with what they need.

use hashbrown::{HashMap, HashSet};

use super::wording::nearest;
use super::{GraphFile, Node, Piece, Target};

/// Names a derivation of a graph and outputs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// The derivation's key.
    pub name: String,
    /// Which of its outputs.
    pub outputs: PickedOutputs,
}

/// Which outputs of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PickedOutputs {
    /// `out`, or the first one if there is none of that name.
    Main,
    /// All of them.
    All,
    /// Those of these names.
    Named(Vec<String>),
}

/// Why something that was named is not in the graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// There is no derivation of that name.
    #[error(
        "the graph has no derivation '{name}'{}",
        nearest.as_ref().map(|near| format!("; did you mean '{near}'?")).unwrap_or_default()
    )]
    UnknownName {
        /// The name.
        name: String,
        /// A name that the graph has and that is much like it.
        nearest: Option<String>,
    },
    /// A source has that name.
    #[error("'{name}' is a source, which is not built; name a derivation")]
    Source {
        /// The name.
        name: String,
    },
    /// The derivation has no such output.
    #[error("'{name}' has no output '{output}'; it has {}", outputs.join(", "))]
    UnknownOutput {
        /// The derivation's name.
        name: String,
        /// The output's name.
        output: String,
        /// The names of those that it has.
        outputs: Vec<String>,
    },
}

/// Finds derivations by their names.
pub struct Picker<'g> {
    graph: &'g GraphFile,
    by_name: HashMap<&'g str, u32>,
}

impl<'g> Picker<'g> {
    /// A picker for a graph.
    pub fn new(graph: &'g GraphFile) -> Self {
        let names = graph.derivations.iter().map(|node| node.key.as_str());
        Self {
            graph,
            by_name: names.zip(0..).collect(),
        }
    }

    /// The target that is named.
    ///
    /// # Errors
    /// When the graph has no such derivation, or that no such output.
    pub fn pick(&self, pick: &Pick) -> Result<Target, PickError> {
        let Some(&node) = self.by_name.get(pick.name.as_str()) else {
            return Err(self.unknown(&pick.name));
        };
        let names = &self.graph.derivations[node as usize].outputs;
        let outputs = match &pick.outputs {
            PickedOutputs::Main => vec![main_output(names)],
            PickedOutputs::All => (0..names.len() as u32).collect(),
            PickedOutputs::Named(wanted) => {
                let mut found = Vec::with_capacity(wanted.len());
                for output in wanted {
                    let Some(index) = names.iter().position(|name| name == output) else {
                        return Err(PickError::UnknownOutput {
                            name: pick.name.clone(),
                            output: output.clone(),
                            outputs: names.clone(),
                        });
                    };
                    if !found.contains(&(index as u32)) {
                        found.push(index as u32);
                    }
                }
                found
            }
        };
        Ok(Target { node, outputs })
    }

    fn unknown(&self, name: &str) -> PickError {
        let name = name.to_owned();
        if self.graph.sources.iter().any(|source| source.name == name) {
            return PickError::Source { name };
        }
        let nearest = nearest(&name, self.by_name.keys().copied());
        PickError::UnknownName { name, nearest }
    }
}

fn main_output(names: &[String]) -> u32 {
    let out = names.iter().position(|name| name == "out");
    out.unwrap_or(0) as u32
}

impl GraphFile {
    /// Makes these the graph's targets, and forgets all that they do not need. They are in terms of
    /// the graph as it was.
    pub fn keep_only(&mut self, targets: Vec<Target>) {
        self.targets = targets;
        let needed = self.needed();
        let node_at = positions(&needed.nodes);
        let tree_at = positions(&needed.trees);
        let source_at = positions(&needed.sources);
        keep(&mut self.derivations, &needed.nodes);
        keep(&mut self.trees, &needed.trees);
        keep(&mut self.sources, &needed.sources);
        for piece in self.derivations.iter_mut().flat_map(Node::pieces_mut) {
            match piece {
                Piece::Output { node, .. } => *node = node_at[*node as usize],
                Piece::Tree(tree) => *tree = tree_at[*tree as usize],
                Piece::Source(source) => *source = source_at[*source as usize],
                _ => {}
            }
        }
        for (_, source) in self.trees.iter_mut().flat_map(|tree| &mut tree.files) {
            *source = source_at[*source as usize];
        }
        for target in &mut self.targets {
            target.node = node_at[target.node as usize];
        }
        let pieces = self.derivations.iter().flat_map(Node::pieces);
        let named: HashSet<&str> = pieces
            .filter_map(|piece| match piece {
                Piece::StorePath(path) => Some(&**path),
                Piece::DerivationOutput(of) => Some(&*of.drv),
                _ => None,
            })
            .collect();
        self.store_paths.retain(|it| named.contains(&*it.path));
    }

    /// What the targets need. Each derivation stands after those it needs, so that one walk back is
    /// enough.
    fn needed(&self) -> Needed {
        let mut needed = Needed {
            nodes: vec![false; self.derivations.len()],
            trees: vec![false; self.trees.len()],
            sources: vec![false; self.sources.len()],
        };
        for target in &self.targets {
            needed.nodes[target.node as usize] = true;
        }
        for (index, node) in self.derivations.iter().enumerate().rev() {
            if !needed.nodes[index] {
                continue;
            }
            for piece in node.pieces() {
                match piece {
                    Piece::Output { node, .. } => needed.nodes[*node as usize] = true,
                    Piece::Tree(tree) => needed.trees[*tree as usize] = true,
                    Piece::Source(source) => needed.sources[*source as usize] = true,
                    _ => {}
                }
            }
        }
        let trees = self.trees.iter().zip(&needed.trees);
        for (tree, _) in trees.filter(|(_, needed)| **needed) {
            for (_, source) in &tree.files {
                needed.sources[*source as usize] = true;
            }
        }
        needed
    }
}

/// What of a graph is needed, by index.
struct Needed {
    nodes: Vec<bool>,
    trees: Vec<bool>,
    sources: Vec<bool>,
}

/// Keeps the items of a list that are needed.
fn keep<T>(items: &mut Vec<T>, needed: &[bool]) {
    let mut needed = needed.iter();
    items.retain(|_| needed.next() == Some(&true));
}

/// Where each item is among those that are kept.
fn positions(kept: &[bool]) -> Vec<u32> {
    let mut next = 0;
    let position = |kept: &bool| {
        let position = next;
        next += u32::from(*kept);
        position
    };
    kept.iter().map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_graph::{NoFiles, parse};

    const GRAPH: &str = r#"{
        "sources": {"unused": "u", "s": "s"},
        "derivations": {
            "other": {"builder": "@{unused}", "args": ["@{/nix/store/other}"]},
            "lib": {"builder": "/b", "args": ["@{s}"], "outputs": ["dev", "out"]},
            "main": {"builder": "/b", "args": ["@{lib^dev}", "@{/nix/store/there}"]}
        }
    }"#;

    fn pick(name: &str, outputs: PickedOutputs) -> Result<Target, PickError> {
        let graph = parse(GRAPH, "s", &mut NoFiles).unwrap();
        let name = name.to_owned();
        Picker::new(&graph).pick(&Pick { name, outputs })
    }

    #[test]
    fn outputs_are_the_main_one_all_or_those_named() {
        let outputs = |outputs| pick("lib", outputs).unwrap().outputs;
        assert_eq!(outputs(PickedOutputs::Main), [1]);
        assert_eq!(outputs(PickedOutputs::All), [0, 1]);
        let named = ["out", "dev", "out"].map(str::to_owned);
        assert_eq!(outputs(PickedOutputs::Named(named.into())), [1, 0]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let message = |name: &str, outputs| pick(name, outputs).unwrap_err().to_string();
        assert_eq!(
            message("mian", PickedOutputs::Main),
            "the graph has no derivation 'mian'; did you mean 'main'?"
        );
        assert_eq!(
            message("s", PickedOutputs::Main),
            "'s' is a source, which is not built; name a derivation"
        );
        assert_eq!(
            message("lib", PickedOutputs::Named(vec!["doc".to_owned()])),
            "'lib' has no output 'doc'; it has dev, out"
        );
    }

    #[test]
    fn only_what_targets_need_is_kept() {
        let mut graph = parse(GRAPH, "s", &mut NoFiles).unwrap();
        let main = pick("main", PickedOutputs::Main).unwrap();
        graph.keep_only(vec![main.clone(), main]);
        let keys = |graph: &GraphFile| {
            let keys = graph.derivations.iter().map(|node| node.key.clone());
            keys.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(&graph), "lib main");
        assert_eq!(graph.sources.len(), 1);
        assert_eq!(graph.sources[0].name, "s");
        assert_eq!(graph.store_paths.len(), 1);
        assert_eq!(graph.store_paths[0].path, "/nix/store/there");
        assert_eq!(graph.targets[1].node, 1);
        let lib = Piece::Output { node: 0, output: 0 };
        assert!(graph.derivations[1].pieces().any(|piece| *piece == lib));
        let source = Piece::Source(0);
        assert!(graph.derivations[0].pieces().any(|piece| *piece == source));
    }
}
