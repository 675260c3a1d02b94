//! The sources of a graph, and the files of those that are directories: found when something asks
//! for them, each a source of its own once something refers to it.

use std::path::Path;
use std::rc::Rc;

use globset::{GlobBuilder, GlobMatcher};
use hashbrown::HashMap;

use super::files::{Files, Found};
use super::place::{Places, Position};
use super::value::{Kind, Member, Value};
use super::wording::nearest;
use super::{Contents, GraphError, SelectionError, Source};
use crate::includes::Includes;

/// A glob of the file, and where it stands.
pub(super) struct Glob {
    pub(super) text: String,
    pub(super) place: Position,
    matcher: GlobMatcher,
}

impl Glob {
    /// Reads a glob: `*` and `?` stop at a `/`, `**` does not.
    pub(super) fn new(text: &str, place: Position) -> Result<Self, GraphError> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|error| {
            let (glob, reason) = (text.to_owned(), error.kind().to_string());
            SelectionError::BadGlob { glob, reason }.at(place)
        })?;
        Ok(Self {
            text: text.to_owned(),
            place,
            matcher: glob.compile_matcher(),
        })
    }

    /// Whether `path` is like it.
    pub(super) fn is_like(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }

    /// All of these paths that are like it, by their numbers; at least one.
    pub(super) fn choose(&self, paths: &[String], source: &str) -> Result<Vec<u32>, GraphError> {
        let numbered = (0..).zip(paths);
        let chosen = numbered.filter(|(_, path)| self.is_like(path));
        let chosen: Vec<u32> = chosen.map(|(number, _)| number).collect();
        if chosen.is_empty() {
            let (glob, name) = (self.text.clone(), source.to_owned());
            return Err(SelectionError::NothingChosen { glob, name }.at(self.place));
        }
        Ok(chosen)
    }
}

/// Reads a list of globs; one alone needs no list.
pub(super) fn globs<'a>(
    value: Value<'a>,
    what: &str,
    places: &Places<'a>,
) -> Result<Vec<Glob>, GraphError> {
    let texts = strings(value, what, places)?;
    let glob = |(text, place): &(String, Position)| Glob::new(text, *place);
    texts.iter().map(glob).collect()
}

/// Reads a list of texts that are not empty; one alone needs no list.
pub(super) fn strings<'a>(
    value: Value<'a>,
    what: &str,
    places: &Places<'a>,
) -> Result<Vec<(String, Position)>, GraphError> {
    let string = |value: Value<'a>| {
        let text = value.filled_string(places, format_args!("{what}"))?.text;
        Ok((text.into_owned(), value.place(places)))
    };
    match value.kind() {
        Kind::String => Ok(vec![string(value)?]),
        _ => {
            let elements = value.list(places, format_args!("{what}"))?;
            elements.into_iter().map(string).collect()
        }
    }
}

/// What of a directory a source is: all, if both lists are empty.
#[derive(Default)]
struct Filter {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
    obey_ignore_files: bool,
}

/// An entry of `sources`.
struct Entry {
    filter: Option<Filter>,
    /// The paths in it that its filter leaves, sorted; `None` inside if it is a file.
    found: Option<Option<Rc<Vec<String>>>>,
    /// Whether something refers to it as a whole.
    whole: bool,
}

/// The sources, and what has become known of their files.
pub(super) struct Sources<'f> {
    files: &'f mut dyn Files,
    entries: Vec<Entry>,
    /// The entries, then single files out of them.
    list: Vec<Source>,
    /// Files out of directories, by the entry and the number in it.
    by_origin: HashMap<(u32, u32), u32>,
}

impl<'f> Sources<'f> {
    pub(super) fn new(files: &'f mut dyn Files) -> Self {
        Self {
            files,
            entries: Vec::new(),
            list: Vec::new(),
            by_origin: HashMap::new(),
        }
    }

    /// Reads one entry of `sources`.
    pub(super) fn add<'a>(
        &mut self,
        member: &Member<'a>,
        places: &Places<'a>,
    ) -> Result<(), GraphError> {
        let (source, filter) = read(member, places)?;
        self.list.push(source);
        self.entries.push(Entry {
            filter,
            found: None,
            whole: false,
        });
        Ok(())
    }

    /// What a file of an entry, or an entry that is a file, includes. `path` is the file's in
    /// trees.
    pub(super) fn includes(&mut self, entry: u32, path: &str) -> Result<Rc<Includes>, String> {
        let path = self.file_path(entry, path);
        self.files.includes(&path)
    }

    /// A source: an entry, or a file out of one.
    pub(super) fn get(&self, source: u32) -> &Source {
        &self.list[source as usize]
    }

    /// Notes that something refers to an entry as a whole.
    pub(super) fn mark_whole(&mut self, entry: u32) {
        if let Some(entry) = self.entries.get_mut(entry as usize) {
            entry.whole = true;
        }
    }

    /// The paths of an entry's files, sorted; `None` if it is a file itself. `place` is what asks.
    pub(super) fn paths(
        &mut self,
        entry: u32,
        place: Position,
    ) -> Result<Option<Rc<Vec<String>>>, GraphError> {
        let it = &mut self.entries[entry as usize];
        if let Some(found) = &it.found {
            return Ok(found.clone());
        }
        let source = &self.list[entry as usize];
        let obey = it.filter.as_ref().is_some_and(|it| it.obey_ignore_files);
        let found = self.files.find(&source.path, obey);
        let found = found.map_err(|reason| SelectionError::Files(reason).at(place))?;
        let paths = match (found, &it.filter) {
            (Found::File, None) => None,
            (Found::File, Some(_)) => {
                let name = source.name.clone();
                let remedy = "its path alone".to_owned();
                return Err(SelectionError::NotADirectory { name, remedy }.at(source.place));
            }
            (Found::Directory(mut paths), filter) => {
                paths.sort_unstable();
                Some(Rc::new(match filter {
                    Some(filter) => filter.apply(paths, &source.name)?,
                    None => paths,
                }))
            }
        };
        it.found = Some(paths.clone());
        Ok(paths)
    }

    /// The file of an entry with this number, as a source of its own; the entry, if it is a file.
    /// `path` is the file's in trees.
    pub(super) fn file(&mut self, entry: u32, number: Option<u32>, path: &str) -> u32 {
        let Some(number) = number else {
            self.mark_whole(entry);
            return entry;
        };
        let next = self.list.len() as u32;
        let source = *self.by_origin.entry((entry, number)).or_insert(next);
        if source == next {
            let place = self.list[entry as usize].place;
            let file = Source {
                name: path.to_owned(),
                path: self.file_path(entry, path),
                store_name: store_name(path.rsplit('/').next().unwrap_or_default()),
                contents: Contents::File,
                place,
                store_name_place: place,
            };
            self.list.push(file);
        }
        source
    }

    /// Where the file of an entry lies, by its path in trees.
    fn file_path(&self, entry: u32, path: &str) -> String {
        let of = &self.list[entry as usize];
        let directory = of.path.trim_end_matches('/');
        format!("{directory}{}", &path[of.name.len()..])
    }

    /// The file that `path` names in an entry, as a source of its own. `place` is what asks.
    pub(super) fn named_file(
        &mut self,
        entry: u32,
        path: &str,
        place: Position,
    ) -> Result<u32, GraphError> {
        let name = |it: &Self| it.list[entry as usize].name.clone();
        let Some(paths) = self.paths(entry, place)? else {
            let name = name(self);
            let remedy = format!("{name:?}");
            return Err(SelectionError::NotADirectory { name, remedy }.at(place));
        };
        match paths.binary_search_by(|known| known.as_str().cmp(path)) {
            Ok(number) => {
                let path = format!("{}/{path}", name(self));
                Ok(self.file(entry, Some(number as u32), &path))
            }
            Err(_) => Err(SelectionError::UnknownFile {
                name: name(self),
                file: path.to_owned(),
                nearest: nearest(path, paths.iter().map(String::as_str)),
            }
            .at(place)),
        }
    }

    /// The entry that a glob or reference `SOURCE/REST` is about, and the rest: the one with the
    /// longest name.
    pub(super) fn owner<'t>(&self, text: &'t str) -> Option<(u32, &'t str)> {
        let entries = (0..).zip(&self.list[..self.entries.len()]);
        let inside = entries.filter_map(|(entry, source)| {
            let rest = text.strip_prefix(&*source.name)?;
            let rest = match rest.strip_prefix('/') {
                None if !rest.is_empty() => return None,
                rest => rest.unwrap_or_default(),
            };
            Some((entry, rest))
        });
        inside.min_by_key(|(_, rest)| rest.len())
    }

    /// The error for a text that is about no source.
    pub(super) fn no_source(&self, glob: &str, place: Position) -> GraphError {
        let name = glob.split('/').next().unwrap_or_default();
        let known = self.list[..self.entries.len()].iter();
        let glob = glob.to_owned();
        let nearest = nearest(name, known.map(|source| source.name.as_str()));
        SelectionError::NoSuchSource { glob, nearest }.at(place)
    }

    /// All sources that are to be in the store.
    pub(super) fn finish(mut self) -> Result<Vec<Source>, GraphError> {
        for entry in 0..self.entries.len() {
            let it = &self.entries[entry];
            if it.found.is_some() && !it.whole {
                self.list[entry].contents = Contents::Unused;
            } else if it.filter.is_some() {
                let place = self.list[entry].place;
                let paths = self.paths(entry as u32, place)?.unwrap_or_default();
                self.list[entry].contents = Contents::Chosen(paths.to_vec());
            }
        }
        Ok(self.list)
    }
}

impl Filter {
    fn apply(&self, mut paths: Vec<String>, source: &str) -> Result<Vec<String>, GraphError> {
        for glob in &self.include {
            glob.choose(&paths, source)?;
        }
        let any = |globs: &[Glob], path: &str| globs.iter().any(|glob| glob.is_like(path));
        paths.retain(|path| {
            (self.include.is_empty() || any(&self.include, path)) && !any(&self.exclude, path)
        });
        Ok(paths)
    }
}

/// A name that a store path can have, for a file that may be called anything.
pub(crate) fn store_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
    let name: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    // A name must not begin with a dot, and has a longest length that leaves room for `.drv`.
    let name = match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => name,
    };
    name.chars().take(LONGEST_STORE_NAME).collect()
}

const LONGEST_STORE_NAME: usize = 200;

/// Reads one entry of `sources`.
fn read<'a>(
    member: &Member<'a>,
    places: &Places<'a>,
) -> Result<(Source, Option<Filter>), GraphError> {
    let name = &member.key.text;
    let mut filter = None;
    let (path, store_name) = if member.value.kind() == Kind::String {
        (member.value, None)
    } else if member.value.kind() == Kind::Object {
        let parent = format_args!("the source {name:?}");
        let keys = &["path", "name", "include", "exclude", "ignore-files"];
        let [path, store_name, include, exclude, ignore_files] =
            member.value.fields(keys, places, parent)?;
        let path = path.ok_or_else(|| GraphError::MissingKey {
            place: member.value.place(places),
            parent: parent.to_string(),
            key: "path",
        })?;
        filter = read_filter(
            [include, exclude, ignore_files],
            &parent.to_string(),
            places,
        )?;
        (path, store_name)
    } else {
        let what = format_args!("the source {name:?}");
        return Err(member
            .value
            .wrong_type("a path (a string) or an object", places, what));
    };
    let path_place = path.place(places);
    let path = path.filled_string(places, format_args!("the path of source {name:?}"))?;
    let (store_name, store_name_place) = match store_name {
        Some(value) => {
            let what = format_args!("the \"name\" of source {name:?}");
            (
                value.filled_string(places, what)?.text.into_owned(),
                value.place(places),
            )
        }
        None => {
            let last = Path::new(&*path.text)
                .file_name()
                .and_then(|last| last.to_str());
            let last = last.ok_or_else(|| GraphError::NoStoreName {
                place: path_place,
                path: path.text.clone().into_owned(),
            })?;
            (last.to_owned(), path_place)
        }
    };
    let source = Source {
        name: name.clone().into_owned(),
        path: path.text.into_owned(),
        store_name,
        contents: Contents::Whole,
        place: places.at(member.key.at),
        store_name_place,
    };
    Ok((source, filter))
}

fn read_filter<'a>(
    [include, exclude, ignore_files]: [Option<Value<'a>>; 3],
    of: &str,
    places: &Places<'a>,
) -> Result<Option<Filter>, GraphError> {
    if include.is_none() && exclude.is_none() && ignore_files.is_none() {
        return Ok(None);
    }
    let list = |value: Option<Value<'a>>, key: &str| match value {
        Some(value) => globs(value, &format!("the {key:?} of {of}"), places),
        None => Ok(Vec::new()),
    };
    let obey_ignore_files = match ignore_files.map(|value| (value, value.kind())) {
        None | Some((_, Kind::False)) => false,
        Some((_, Kind::True)) => true,
        Some((value, _)) => {
            let what = format_args!("the \"ignore-files\" of {of}");
            return Err(value.wrong_type("true or false", places, what));
        }
    };
    Ok(Some(Filter {
        include: list(include, "include")?,
        exclude: list(exclude, "exclude")?,
        obey_ignore_files,
    }))
}
