//! Trees of files: what a derivation names of the sources, with all headers that these include.
//! Each file lies under its source's name, so that files of several sources find each other.

use std::rc::Rc;

use hashbrown::{HashMap, HashSet};

use super::place::Position;
use super::sources::Sources;
use super::{GraphError, SelectionError, Tree};
use crate::includes::{Header, Includes, Macro};

/// A file that a tree may have.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Its path in trees.
    pub(super) path: Rc<str>,
    /// The entry of `sources` that it belongs to.
    pub(super) entry: u32,
    /// Its number there; `None` if the entry is a file.
    number: Option<u32>,
}

/// The files of some sources, in which headers are looked for.
pub(super) struct Pool {
    files: Vec<Candidate>,
    by_path: HashMap<Rc<str>, u32>,
    /// The numbers of files, by the last part of their paths.
    by_name: HashMap<Box<str>, Vec<u32>>,
    includes: Vec<Option<Rc<Includes>>>,
    /// What a file's own lines lead to, once it is known.
    next: Vec<Option<Rc<[u32]>>>,
    place: Position,
}

impl Pool {
    /// All files of these entries of `sources`. `place` is what asks for them.
    pub(super) fn new(
        entries: &[u32],
        sources: &mut Sources<'_>,
        place: Position,
    ) -> Result<Self, GraphError> {
        let mut pool = Self {
            files: Vec::new(),
            by_path: HashMap::new(),
            by_name: HashMap::new(),
            includes: Vec::new(),
            next: Vec::new(),
            place,
        };
        for &entry in entries {
            let name = sources.get(entry).name.clone();
            if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(SelectionError::NoTreeName { name }.at(place));
            }
            match sources.paths(entry, place)? {
                None => pool.add(name.into(), entry, None)?,
                Some(paths) => {
                    for (number, path) in (0..).zip(paths.iter()) {
                        pool.add(format!("{name}/{path}").into(), entry, Some(number))?;
                    }
                }
            }
        }
        pool.includes.resize(pool.files.len(), None);
        pool.next.resize(pool.files.len(), None);
        Ok(pool)
    }

    fn add(&mut self, path: Rc<str>, entry: u32, number: Option<u32>) -> Result<(), GraphError> {
        let file = self.files.len() as u32;
        if self.by_path.insert(Rc::clone(&path), file).is_some() {
            let (first, second) = (path.to_string(), path.to_string());
            return Err(SelectionError::TreeClash { first, second }.at(self.place));
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        match self.by_name.get_mut(name) {
            Some(numbers) => numbers.push(file),
            None => drop(self.by_name.insert(name.into(), vec![file])),
        }
        self.files.push(Candidate {
            path,
            entry,
            number,
        });
        Ok(())
    }

    /// The file at a path.
    pub(super) fn find(&self, path: &str) -> Option<u32> {
        self.by_path.get(path).copied()
    }

    /// The file of this number.
    pub(super) fn file(&self, number: u32) -> &Candidate {
        &self.files[number as usize]
    }

    /// The files of an entry that `chosen` says.
    pub(super) fn of_entry(&self, entry: u32, chosen: impl Fn(&Candidate) -> bool) -> Vec<u32> {
        let numbered = (0..).zip(&self.files);
        let of_entry = numbered.filter(|(_, file)| file.entry == entry && chosen(file));
        of_entry.map(|(number, _)| number).collect()
    }

    /// The tree of `roots` and all that they include. `mentions` says whether the derivation's own
    /// texts, with which its compiler is called, have a word.
    pub(super) fn tree(
        &mut self,
        roots: &[u32],
        sources: &mut Sources<'_>,
        mentions: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Tree, GraphError> {
        let mut reached: Vec<u32> = Vec::new();
        let mut known = HashSet::new();
        let take = |numbers: &[u32], reached: &mut Vec<u32>, known: &mut HashSet<u32>| {
            reached.extend(numbers.iter().filter(|&&number| known.insert(number)));
        };
        take(roots, &mut reached, &mut known);
        let mut at = 0;
        loop {
            while let Some(&number) = reached.get(at) {
                at += 1;
                let next = self.next(number, sources)?;
                take(&next, &mut reached, &mut known);
            }
            // Macros of files that were reached last may name headers for those reached before.
            let more = self.computed(&reached, mentions);
            take(&more, &mut reached, &mut known);
            if at == reached.len() {
                break;
            }
        }
        let files = reached.iter().map(|&number| {
            let Candidate {
                path,
                entry,
                number,
            } = self.file(number);
            (path.to_string(), sources.file(*entry, *number, path))
        });
        let mut files: Vec<(String, u32)> = files.collect();
        files.sort_unstable();
        // A file is no directory for another one. That one need not be next to it in the order:
        // names that go on with a character before `/` lie between them.
        let paths: HashSet<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        for (path, _) in &files {
            let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
            if let Some(first) = above.find(|above| paths.contains(above)) {
                let (first, second) = (first.to_owned(), path.clone());
                return Err(SelectionError::TreeClash { first, second }.at(self.place));
            }
        }
        drop(paths);
        Ok(Tree { files })
    }

    /// The files that a file includes by name.
    fn next(&mut self, number: u32, sources: &mut Sources<'_>) -> Result<Rc<[u32]>, GraphError> {
        if let Some(next) = &self.next[number as usize] {
            return Ok(Rc::clone(next));
        }
        let Candidate { path, entry, .. } = self.files[number as usize].clone();
        let includes = sources
            .includes(entry, &path)
            .map_err(|reason| SelectionError::Files(reason).at(self.place))?;
        let mut next = Vec::new();
        for header in &includes.headers {
            self.resolve(&path, header, &mut next);
        }
        next.sort_unstable();
        next.dedup();
        let next: Rc<[u32]> = next.into();
        self.includes[number as usize] = Some(includes);
        self.next[number as usize] = Some(Rc::clone(&next));
        Ok(next)
    }

    /// All files that `header`, included by the file `from`, may be: the one beside it, else each
    /// whose path ends in that name, for which of them it is depends on the compiler's options.
    fn resolve(&self, from: &str, header: &Header, found: &mut Vec<u32>) {
        if header.name.starts_with('/') {
            return;
        }
        if header.beside {
            let directory = from.rsplit_once('/').map_or("", |(directory, _)| directory);
            let beside = normal(&format!("{directory}/{}", header.name));
            if let Some(number) = self.find(&beside) {
                found.push(number);
                return;
            }
        }
        let name = normal(&header.name);
        let name = name.trim_start_matches("../");
        let last = name.rsplit('/').next().unwrap_or_default();
        let numbers = self.by_name.get(last).into_iter().flatten();
        found.extend(numbers.filter(|&&number| {
            let before = self.file(number).path.strip_suffix(name);
            before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
        }));
    }

    /// The files that includes of these files may name through macros; all, if that can't be known.
    fn computed(&self, reached: &[u32], mentions: &mut dyn FnMut(&str) -> bool) -> Vec<u32> {
        let read = |&number: &u32| Some((number, self.includes[number as usize].as_deref()?));
        let reached: Vec<(u32, &Includes)> = reached.iter().filter_map(read).collect();
        let mut found = Vec::new();
        for (number, includes) in &reached {
            for names in &includes.computed {
                let mut seen: HashSet<&str> = HashSet::new();
                let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
                while let Some(name) = names.pop() {
                    if !seen.insert(name) {
                        continue;
                    }
                    if mentions(name) {
                        return (0..self.files.len() as u32).collect();
                    }
                    let macros = reached.iter().filter_map(|(_, it)| it.macros.get(name));
                    for meaning in macros.flatten() {
                        match meaning {
                            Macro::Header(header) => {
                                self.resolve(&self.file(*number).path, header, &mut found);
                            }
                            Macro::Names(more) => names.extend(more.iter().map(String::as_str)),
                            Macro::Unknown => return (0..self.files.len() as u32).collect(),
                        }
                    }
                }
            }
        }
        found
    }
}

/// A path without `.` and without `..` where that can be undone: `a/../b.h` is `b.h`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_normal() {
        let cases = [
            ("a/b.h", "a/b.h"),
            ("./a//b.h", "a/b.h"),
            ("a/../b.h", "b.h"),
            ("a/b/../../../c.h", "../c.h"),
            ("../../c.h", "../../c.h"),
        ];
        for (path, expected) in cases {
            assert_eq!(normal(path), expected);
        }
    }
}
