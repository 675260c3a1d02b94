//! Names become numbers: the one name space of sources and derivations, and references into it.
//! Counts in the order of the file; `order.rs` changes that once all references are known.

use std::borrow::Cow;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::forest::Forest;
use super::names::check_name;
use super::outputs::Outputs;
use super::own::Own;
use super::place::{Places, Position, Spot};
use super::value::JsonStr;
use super::wording::nearest;
use super::{GraphError, Piece, SelectionError, StoreOutput, StorePathReference};

/// What a name stands for, by its index in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Source(u32),
    Derivation(u32),
    /// The first of a family and how many there are.
    Family(u32, u32),
}

/// All names of the graph and where each was given.
pub(super) struct Names<'a>(HashMap<Cow<'a, str>, (Named, u32)>);

impl<'a> Names<'a> {
    /// Room for `count` names.
    pub(super) fn with_capacity(count: usize) -> Self {
        Names(HashMap::with_capacity(count))
    }

    /// Enters a name, which must be a spellable one and new.
    pub(super) fn insert(
        &mut self,
        name: &JsonStr<'a>,
        named: Named,
        places: &Places<'a>,
    ) -> Result<(), GraphError> {
        let what = match named {
            Named::Source(_) => "a source",
            Named::Derivation(_) | Named::Family(..) => "a derivation",
        };
        check_name(name, what, places)?;
        match self.0.entry(name.text.clone()) {
            Entry::Vacant(entry) => {
                entry.insert((named, name.at));
                Ok(())
            }
            Entry::Occupied(entry) => {
                let (earlier, at) = *entry.get();
                Err(twice(name, named, earlier, at, places))
            }
        }
    }

    fn get(&self, name: &str) -> Option<Named> {
        self.0.get(name).map(|(named, _)| *named)
    }

    /// Whether anything has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn nearest(&self, name: &str) -> Option<String> {
        nearest(name, self.0.keys().map(|known| &**known))
    }
}

fn twice(
    name: &JsonStr<'_>,
    named: Named,
    earlier: Named,
    earlier_at: u32,
    places: &Places<'_>,
) -> GraphError {
    // Derivations may stand before sources in the file: the second is the one that comes later.
    let (first, second) = (name.at.min(earlier_at), name.at.max(earlier_at));
    let (place, first) = (places.at(second), places.at(first));
    let name = name.text.clone().into_owned();
    match (named, earlier) {
        (Named::Source(_), Named::Derivation(_) | Named::Family(..))
        | (Named::Derivation(_) | Named::Family(..), Named::Source(_)) => {
            GraphError::DuplicateName { place, name, first }
        }
        _ => GraphError::DuplicateKey {
            place,
            key: name,
            first,
        },
    }
}

/// Where a reference stands, for that decides what it may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// In a text of this derivation.
    Text(u32),
    /// In the `inputs` of this derivation.
    Inputs(u32),
    /// In the graph's `targets`.
    Targets,
}

impl Where {
    /// The derivation that it is part of.
    fn owner(self) -> Option<u32> {
        match self {
            Where::Text(owner) | Where::Inputs(owner) => Some(owner),
            Where::Targets => None,
        }
    }
}

/// One derivation needs another, and where it says so.
pub(super) struct Edge {
    /// The derivation that is needed.
    pub(super) to: u32,
    /// The reference.
    pub(super) spot: Spot,
}

/// Resolves references and remembers which derivation needs which.
pub(super) struct Resolver<'a, 'g> {
    places: &'g Places<'a>,
    names: Names<'a>,
    /// Of each derivation, in the order of the file.
    outputs: Vec<Outputs>,
    edges: Vec<Edge>,
    /// References to what is said to be in the store already.
    store_paths: Vec<StorePathReference>,
    forest: Forest<'g>,
    /// What the derivation that is read chooses for itself, and the texts with which its builder is
    /// called.
    own: Option<(Own, Vec<&'a str>)>,
}

/// What is known when all references are.
pub(super) struct Resolved<'g> {
    /// Of each derivation, in the order of the file.
    pub(super) outputs: Vec<Outputs>,
    /// Which derivation needs which.
    pub(super) edges: Vec<Edge>,
    /// References to what is said to be in the store already.
    pub(super) store_paths: Vec<StorePathReference>,
    /// The sources that something refers to.
    pub(super) forest: Forest<'g>,
}

impl<'a, 'g> Resolver<'a, 'g> {
    /// A resolver for the derivations whose outputs are given in the order of the file.
    pub(super) fn new(
        places: &'g Places<'a>,
        names: Names<'a>,
        outputs: Vec<Outputs>,
        forest: Forest<'g>,
    ) -> Self {
        Resolver {
            places,
            names,
            outputs,
            edges: Vec::new(),
            store_paths: Vec::new(),
            forest,
            own: None,
        }
    }

    /// Begins to read a derivation that chooses files, or another one. `texts` are those with which
    /// its builder is called.
    pub(super) fn begin(&mut self, own: Option<(Own, Vec<&'a str>)>) {
        self.own = own;
    }

    /// Whether the derivation that is read has referred to a tree of its own.
    pub(super) fn has_own_tree(&self) -> bool {
        self.own.as_ref().is_some_and(|(own, _)| own.tree.is_some())
    }

    /// The source.
    pub(super) fn places(&self) -> &'g Places<'a> {
        self.places
    }

    /// The outputs of a derivation.
    pub(super) fn outputs(&self, derivation: u32) -> &Outputs {
        &self.outputs[derivation as usize]
    }

    /// How many edges there are by now: edges are in the order of the derivations that they start
    /// from.
    pub(super) fn edge_count(&self) -> u32 {
        self.edges.len() as u32
    }

    /// Gives all of it away.
    pub(super) fn finish(self) -> Resolved<'g> {
        Resolved {
            outputs: self.outputs,
            edges: self.edges,
            store_paths: self.store_paths,
            forest: self.forest,
        }
    }

    /// Appends what `spelling`, a reference without its braces, stands for: of a family all
    /// derivations.
    pub(super) fn references(
        &mut self,
        spelling: &str,
        spot: Spot,
        stands: Where,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), GraphError> {
        let name = spelling.split('^').next().unwrap_or_default();
        let Some(Named::Family(first, count)) = self.family(name) else {
            pieces.push(self.reference(spelling, spot, stands)?);
            return Ok(());
        };
        let output = spelling.split_once('^').map(|(_, output)| output);
        if output == Some("") {
            let (place, reference) = (self.places.inside(spot), spelling.to_owned());
            return Err(GraphError::IncompleteReference { place, reference });
        }
        for node in first..first + count {
            pieces.push(self.derivation(node, output, (spot, stands), false)?);
        }
        Ok(())
    }

    /// What is called `name`, if that is a family.
    pub(super) fn family(&self, name: &str) -> Option<Named> {
        // Most names have no star, and need not be looked up twice.
        let named = memchr::memchr(b'*', name.as_bytes()).and_then(|_| self.names.get(name));
        named.filter(|named| matches!(named, Named::Family(..)))
    }

    /// What `spelling`, a reference without its braces, stands for.
    fn reference(
        &mut self,
        spelling: &str,
        spot: Spot,
        stands: Where,
    ) -> Result<Piece, GraphError> {
        let places = self.places;
        let place = || places.inside(spot);
        let (name, output) = match spelling.split_once('^') {
            Some((name, output)) => (name, Some(output)),
            None => (spelling, None),
        };
        if output == Some("") || spelling.is_empty() {
            let reference = spelling.to_owned();
            return Err(GraphError::IncompleteReference {
                place: place(),
                reference,
            });
        }
        let not_a_target = || GraphError::NotATarget {
            place: place(),
            target: spelling.to_owned(),
        };
        if stands == Where::Targets && (name.is_empty() || name.starts_with('/')) {
            return Err(not_a_target());
        }
        if name.starts_with('/') {
            return self.in_store(name, output, place());
        }
        if output.is_none()
            && let Some(piece) = self.own_word(name, spot, stands)?
        {
            return Ok(piece);
        }
        match (self.named(name, spot, stands)?, output) {
            (Named::Source(_), _) if stands == Where::Targets => Err(not_a_target()),
            (Named::Source(source), None) => {
                self.forest.sources().mark_whole(source);
                Ok(Piece::Source(source))
            }
            (Named::Source(_), Some(output)) => Err(GraphError::SourceOutput {
                place: place(),
                name: name.to_owned(),
                output: output.to_owned(),
            }),
            (Named::Derivation(node), output) => {
                self.derivation(node, output, (spot, stands), name.is_empty())
            }
            // Only `references` gets here with the name of one.
            (Named::Family(first, _), output) => {
                self.derivation(first, output, (spot, stands), false)
            }
        }
    }

    /// An output of a derivation of the graph.
    fn derivation(
        &mut self,
        node: u32,
        output: Option<&str>,
        (spot, stands): (Spot, Where),
        nameless: bool,
    ) -> Result<Piece, GraphError> {
        let index = self.output(node, output, spot)?;
        if stands.owner() == Some(node) {
            return self.own_output(node, index, nameless, stands, spot);
        }
        if stands != Where::Targets {
            self.edges.push(Edge { to: node, spot });
        }
        Ok(Piece::Output {
            node,
            output: index,
        })
    }

    /// What is called `name`; without a name the derivation whose text it stands in.
    fn named(&mut self, name: &str, spot: Spot, stands: Where) -> Result<Named, GraphError> {
        if let ("", Some(owner)) = (name, stands.owner()) {
            return Ok(Named::Derivation(owner));
        }
        if let Some(named) = self.names.get(name) {
            return Ok(named);
        }
        // A file in a source that is a directory.
        for (at, _) in name.rmatch_indices('/') {
            if let Some(Named::Source(entry)) = self.names.get(&name[..at]) {
                let place = self.places.inside(spot);
                let file = &name[at + 1..];
                let source = self.forest.sources().named_file(entry, file, place)?;
                return Ok(Named::Source(source));
            }
        }
        Err(GraphError::UnknownName {
            place: self.places.inside(spot),
            name: name.to_owned(),
            nearest: self.names.nearest(name),
        })
    }

    /// What `@{tree}` and `@{each}` stand for in a derivation that chooses files.
    fn own_word(
        &mut self,
        name: &str,
        spot: Spot,
        stands: Where,
    ) -> Result<Option<Piece>, GraphError> {
        let (word, needs) = match (name, stands) {
            ("tree", Where::Text(_) | Where::Inputs(_)) => ("tree", "\"each\" or \"tree\""),
            ("each", Where::Text(_)) => ("each", "\"each\""),
            _ => return Ok(None),
        };
        let place = self.places.inside(spot);
        let known = self.names.has(word);
        let own = self
            .own
            .as_mut()
            .filter(|(own, _)| word == "tree" || own.file.is_some());
        let Some((own, texts)) = own else {
            if known {
                return Ok(None);
            }
            return Err(SelectionError::NoOwnWord { word, needs }.at(place));
        };
        if known {
            return Err(SelectionError::OwnWord { word }.at(place));
        }
        if let (Some((_, path, _)), "each") = (&own.file, word) {
            return Ok(Some(Piece::Literal(path.to_string())));
        }
        if own.tree.is_none() {
            let roots = own.roots();
            let mut mentions = |word: &str| texts.iter().any(|text| mentions(text, word));
            own.tree = Some(self.forest.tree(own.pool, &roots, &mut mentions)?);
        }
        Ok(own.tree.map(Piece::Tree))
    }

    /// A path of the store, which is noted down to be looked up later.
    fn in_store(
        &mut self,
        path: &str,
        output: Option<&str>,
        place: Position,
    ) -> Result<Piece, GraphError> {
        let Some(piece) = store_path(path, output) else {
            return Err(GraphError::PathOutput {
                place,
                path: path.to_owned(),
                output: output.unwrap_or_default().to_owned(),
            });
        };
        self.store_paths.push(StorePathReference {
            place,
            path: path.to_owned(),
            output: output.map(str::to_owned),
        });
        Ok(piece)
    }

    /// The index of a derivation's output; of its main one if none is named.
    fn output(&self, node: u32, name: Option<&str>, spot: Spot) -> Result<u32, GraphError> {
        let outputs = self.outputs(node);
        let Some(name) = name else {
            return Ok(outputs.main());
        };
        outputs.find(name).ok_or_else(|| GraphError::UnknownOutput {
            place: self.places.inside(spot),
            name: self.name_of(node),
            output: name.to_owned(),
            outputs: outputs.names().to_owned(),
        })
    }

    /// A derivation's own output: fine as `@{^OUTPUT}` in a text, and an error in any other form.
    fn own_output(
        &self,
        node: u32,
        output: u32,
        nameless: bool,
        stands: Where,
        spot: Spot,
    ) -> Result<Piece, GraphError> {
        let place = || self.places.inside(spot);
        match stands {
            Where::Text(_) if nameless => Ok(Piece::Placeholder(output)),
            Where::Text(_) => {
                let output = self.outputs(node).names()[output as usize].clone();
                Err(GraphError::SelfReference {
                    place: place(),
                    name: self.name_of(node),
                    output,
                })
            }
            _ => Err(GraphError::SelfInput {
                place: place(),
                name: self.name_of(node),
            }),
        }
    }

    /// The name of a derivation, found the slow way: only errors ask.
    fn name_of(&self, node: u32) -> String {
        let wanted = Named::Derivation(node);
        let found = self.names.0.iter().find(|(_, (named, _))| *named == wanted);
        found
            .map(|(name, _)| name.clone().into_owned())
            .unwrap_or_default()
    }
}

fn store_path(path: &str, output: Option<&str>) -> Option<Piece> {
    match output {
        None => Some(Piece::StorePath(path.into())),
        Some(output) if path.ends_with(".drv") => {
            let (drv, output) = (path.to_owned(), output.to_owned());
            let of = StoreOutput { drv, output };
            Some(Piece::DerivationOutput(Box::new(of)))
        }
        Some(_) => None,
    }
}

/// Whether a text has a word, or defines it as compilers are told to: `-DWORD`.
fn mentions(text: &str, word: &str) -> bool {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut found = memchr::memmem::find_iter(text.as_bytes(), word.as_bytes());
    found.any(|at| {
        let (before, behind) = (&text.as_bytes()[..at], &text.as_bytes()[at + word.len()..]);
        let begins = !before.last().is_some_and(part) || before.ends_with(b"-D");
        begins && !behind.first().is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn words_are_found_where_compilers_find_them() {
        assert!(mentions("cc -DUSER_H='\"a.h\"'", "USER_H"));
        assert!(mentions("cc -D USER_H=x", "USER_H"));
        assert!(mentions("USER_H", "USER_H"));
        assert!(!mentions("cc -DMY_USER_H -DUSER_HEADER", "USER_H"));
    }
}
