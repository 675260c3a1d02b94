//! Families: an entry of `derivations` that stands for one derivation a file.

use std::borrow::Cow;
use std::rc::Rc;

use hashbrown::HashMap;

use super::derivation::Draft;
use super::forest::{Chosen, Forest};
use super::outputs::Outputs;
use super::own::Own;
use super::place::Places;
use super::resolve::{Named, Names};
use super::template::{Fielded, Templates};
use super::value::{JsonStr, Member};
use super::{GraphError, SelectionError};

/// The derivations of a graph, those of families one by one, with their outputs.
pub(super) struct Drafts<'a> {
    #[expect(
        clippy::vec_box,
        reason = "what one takes is free once it has been resolved"
    )]
    pub(super) drafts: Vec<Box<Draft<'a>>>,
    pub(super) outputs: Vec<Outputs>,
}

impl<'a> Drafts<'a> {
    /// Room for `count` derivations.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self {
            drafts: Vec::with_capacity(count),
            outputs: Vec::with_capacity(count),
        }
    }

    /// Reads one entry of `derivations`.
    pub(super) fn add(
        &mut self,
        member: Member<'a>,
        templates: &Templates<'a>,
        names: &mut Names<'a>,
        forest: &mut Forest<'_>,
        places: &Places<'a>,
    ) -> Result<(), GraphError> {
        let first = self.drafts.len() as u32;
        let fields = Fielded::read(&member, templates, places)?;
        let key = member.key;
        // A name that is taken is told of before what is wrong inside.
        let (is_family, choice) = (fields.is_family(), fields.choice());
        if !is_family {
            names.insert(&key, Named::Derivation(first), places)?;
        }
        let (mut draft, outputs) = Draft::read(key.clone(), fields, places)?;
        let mut chosen = forest.choose(choice, &key.text, places)?;
        let Some(chosen) = chosen.take_if(|_| is_family) else {
            draft.own = chosen.map(|chosen| Box::new(Own::new(&chosen, None)));
            self.drafts.push(Box::new(draft));
            self.outputs.push(outputs);
            return Ok(());
        };
        let count = chosen.each.len() as u32;
        names.insert(&key, Named::Family(first, count), places)?;
        for (index, (member, own)) in (first..).zip(members(&key, &chosen, forest, places)?) {
            names.insert(&member, Named::Derivation(index), places)?;
            let mut one = draft.clone();
            (one.key, one.own) = (member, Some(Box::new(own)));
            self.drafts.push(Box::new(one));
            self.outputs.push(outputs.clone());
        }
        Ok(())
    }
}

/// The keys of a family's derivations, each with what it chooses.
fn members<'a>(
    key: &JsonStr<'a>,
    chosen: &Chosen,
    forest: &Forest<'_>,
    places: &Places<'a>,
) -> Result<Vec<(JsonStr<'a>, Own)>, GraphError> {
    let place = places.at(key.at);
    let Some((before, after)) = key.text.split_once('*').filter(|(_, it)| !it.contains('*')) else {
        let key = key.text.clone().into_owned();
        return Err(SelectionError::NoStar { key }.at(place));
    };
    let mut members = Vec::with_capacity(chosen.each.len());
    let mut files: HashMap<String, u32> = HashMap::new();
    for &file in &chosen.each {
        let stem = stem(forest.path_in_source(chosen.pool, file));
        let name = format!("{before}{stem}{after}");
        if let Some(&other) = files.get(&name) {
            let path = |file| forest.file(chosen.pool, file).path.to_string();
            let (first, second) = (path(other), path(file));
            let clash = SelectionError::FamilyClash {
                key: name,
                first,
                second,
            };
            return Err(clash.at(place));
        }
        let path = Rc::clone(&forest.file(chosen.pool, file).path);
        let own = Own::new(chosen, Some((file, path, stem.to_owned())));
        files.insert(name.clone(), file);
        let text = Cow::Owned(name);
        members.push((JsonStr { text, at: key.at }, own));
    }
    Ok(members)
}

/// A path without the extension of its last part.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rfind('.') {
        Some(dot) if dot > 0 => &path[..path.len() - (name.len() - dot)],
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn stems_have_no_extension() {
        let cases = [
            ("a.c", "a"),
            ("a/b.tar.gz", "a/b.tar"),
            ("a.d/b", "a.d/b"),
            ("a/.hidden", "a/.hidden"),
        ];
        for (path, expected) in cases {
            assert_eq!(stem(path), expected);
        }
    }
}
