//! Turns steps into a JSON graph: which are needed, what each reads and makes, and its command as
//! it is called where the builder runs it.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use serde_json::{Map, Value, json};

use super::compile_commands::words;
use super::names::{escaped, is_header, is_of_system, name, text};
use super::paths::{below, common, joined, moved, relative, shell_word};
use super::{Manifest, Step};

/// Where what is imported lies, and what is there.
pub struct Roots<'f> {
    /// The directory of the file: absolute and normal.
    pub directory: String,
    /// The directory of the sources: absolute and normal. Without it, the one that all files lie in
    /// which commands read or search for headers.
    pub source: Option<String>,
    /// The value of `PATH` for builders.
    pub path: String,
    /// Whether a path, which is absolute, is a file.
    pub is_file: &'f dyn Fn(&str) -> bool,
    /// Whether it is a directory.
    pub is_directory: &'f dyn Fn(&str) -> bool,
    /// The files in `directory` and below, relative to it.
    pub files: Vec<String>,
}

/// A graph, and what whoever asked for it should know.
#[derive(Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Value,
    /// What of the file it does not say.
    pub warnings: Vec<String>,
}

/// Why a file can't be imported.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A target that no step makes.
    #[error("nothing makes '{0}'")]
    UnknownTarget(String),

    /// Two steps that make the same.
    #[error("two commands make '{0}'")]
    DuplicateOutput(String),

    /// Something is made elsewhere.
    #[error("'{output}' lies outside of '{directory}', where its command runs")]
    OutputOutside {
        /// What is made.
        output: String,
        /// Where the command runs.
        directory: String,
    },

    /// There is nothing to do.
    #[error("it says no command that would be run")]
    NoSteps,
}

/// Makes a graph of what `targets` need, paths as the file has them; without any, of what it makes
/// by itself.
///
/// # Errors
/// See [`ImportError`].
pub fn import(
    manifest: &Manifest,
    targets: &[String],
    roots: &Roots<'_>,
) -> Result<Imported, ImportError> {
    let mut importer = Importer::new(manifest, roots)?;
    let wanted = importer.wanted(targets)?;
    let used = importer.used(&wanted);
    if used.is_empty() {
        return Err(ImportError::NoSteps);
    }
    importer.find_sources(&used);
    let mut derivations = Map::new();
    for &step in &used {
        let derivation = importer.derivation(step)?;
        derivations.insert(importer.key(step), derivation);
    }
    let mut warnings = Vec::new();
    if let Some(&step) = used.iter().find(|&&step| manifest.steps[step].dyndep) {
        warnings.push(format!(
            "what dyndep files say is left out, as of '{}'",
            manifest.steps[step].outputs[0]
        ));
    }
    let graph = json!({
        "sources": importer.sources(),
        "templates": importer.templates(),
        "derivations": derivations,
        "targets": wanted
            .iter()
            .filter(|&&step| !manifest.steps[step].generator)
            .map(|&step| importer.key(step))
            .collect::<Vec<_>>(),
    });
    Ok(Imported { graph, warnings })
}

/// The steps of a file while they become a graph.
pub(super) struct Importer<'m> {
    pub(super) manifest: &'m Manifest,
    pub(super) roots: &'m Roots<'m>,
    /// The steps that make paths, which are absolute.
    pub(super) made: HashMap<String, usize>,
    /// The directory of the sources, and the one that holds it and where commands run.
    pub(super) source: String,
    pub(super) top: String,
    /// Files below the two directories that are used, relative to them.
    pub(super) of_source: BTreeSet<String>,
    pub(super) of_directory: BTreeSet<String>,
}

impl<'m> Importer<'m> {
    fn new(manifest: &'m Manifest, roots: &'m Roots<'m>) -> Result<Self, ImportError> {
        let mut importer = Self {
            manifest,
            roots,
            made: HashMap::new(),
            source: String::new(),
            top: String::new(),
            of_source: BTreeSet::new(),
            of_directory: BTreeSet::new(),
        };
        for (index, step) in manifest.steps.iter().enumerate() {
            for output in &step.outputs {
                let path = importer.path(step, output);
                if importer
                    .made
                    .insert(path, index)
                    .is_some_and(|other| other != index)
                {
                    return Err(ImportError::DuplicateOutput(output.clone()));
                }
            }
        }
        Ok(importer)
    }

    fn directory(&self, step: &Step) -> String {
        joined(&self.roots.directory, &step.directory)
    }

    fn path(&self, step: &Step, path: &str) -> String {
        joined(&self.directory(step), path)
    }

    /// The steps behind what is asked for, in its order.
    fn wanted(&self, targets: &[String]) -> Result<Vec<usize>, ImportError> {
        let mut names = targets.to_vec();
        if names.is_empty() {
            names.clone_from(&self.manifest.defaults);
        }
        let mut wanted = Vec::new();
        for name in &names {
            let path = joined(&self.roots.directory, name);
            match self.made.get(&path) {
                Some(&step) => wanted.push(step),
                None => return Err(ImportError::UnknownTarget(name.clone())),
            }
        }
        if names.is_empty() {
            let needed: HashSet<usize> = (0..self.manifest.steps.len())
                .flat_map(|step| self.inputs(step))
                .filter_map(|path| self.made.get(&path).copied())
                .collect();
            wanted.extend((0..self.manifest.steps.len()).filter(|step| !needed.contains(step)));
        }
        let mut seen = HashSet::new();
        let mut steps = Vec::new();
        for step in wanted {
            let real = self.behind(step);
            steps.extend(real.into_iter().filter(|step| seen.insert(*step)));
        }
        Ok(steps)
    }

    /// All that a step reads or waits for, as absolute paths.
    fn inputs(&self, step: usize) -> impl Iterator<Item = String> {
        let step = &self.manifest.steps[step];
        let all = step.inputs.iter().chain(&step.order_only);
        all.map(move |path| self.path(step, path))
    }

    /// The commands behind a step, which may be only a name for them.
    fn behind(&self, step: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut open = vec![step];
        while let Some(step) = open.pop() {
            if !seen.insert(step) {
                continue;
            }
            if self.manifest.steps[step].command.is_some() {
                found.push(step);
                continue;
            }
            let inputs = self
                .inputs(step)
                .filter_map(|path| self.made.get(&path).copied());
            let first = open.len();
            open.extend(inputs);
            open[first..].reverse();
        }
        found
    }

    /// The steps that must run, in the order of the file.
    fn used(&self, wanted: &[usize]) -> Vec<usize> {
        let mut used = BTreeSet::new();
        let mut open = wanted.to_vec();
        while let Some(step) = open.pop() {
            if !self.manifest.steps[step].generator && used.insert(step) {
                open.extend(self.needs(step));
            }
        }
        used.into_iter().collect()
    }

    /// The commands that a command needs.
    fn needs(&self, step: usize) -> Vec<usize> {
        let mut seen = HashSet::new();
        let makers = self
            .inputs(step)
            .filter_map(|path| self.made.get(&path).copied());
        let behind = makers.flat_map(|maker| self.behind(maker));
        let needs = behind.filter(|&need| {
            need != step && !self.manifest.steps[need].generator && seen.insert(need)
        });
        needs.collect()
    }

    /// The files that a command reads and nothing makes, directly or behind a name for them.
    fn files(&self, step: usize) -> Vec<String> {
        let mut files = Vec::new();
        let mut seen = HashSet::new();
        let mut open: Vec<String> = self.inputs(step).collect();
        open.reverse();
        while let Some(path) = open.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            match self.made.get(&path) {
                Some(&maker) if self.manifest.steps[maker].command.is_none() => {
                    open.extend(self.inputs(maker));
                }
                Some(_) => {}
                None if is_of_system(&path) || !(self.roots.is_file)(&path) => {}
                None => files.push(path),
            }
        }
        files
    }

    /// Finds out which files are used, and which directory they lie in.
    fn find_sources(&mut self, used: &[usize]) {
        let directory = self.roots.directory.clone();
        let mut source = self.roots.source.clone();
        let mut top = directory.clone();
        let mut all = BTreeSet::new();
        for &step in used {
            let it = &self.manifest.steps[step];
            top = common(&top, &self.directory(it));
            let files = self.files(step);
            let dirs = files.iter().map(|file| joined(file, ".."));
            let searched = self.searched(it);
            for dir in dirs.chain(searched) {
                if self.roots.source.is_none() && below(&dir, &directory).is_none() {
                    source = Some(source.map_or_else(|| dir.clone(), |it| common(&it, &dir)));
                }
            }
            all.extend(files);
        }
        self.source = source.unwrap_or_else(|| directory.clone());
        self.top = common(&top, &self.source);
        for file in all {
            match (below(&file, &self.source), below(&file, &directory)) {
                // The deeper of the two.
                (Some(in_source), Some(inside)) if inside.len() < in_source.len() => {
                    self.of_directory.insert(inside.to_owned());
                }
                (Some(in_source), _) => drop(self.of_source.insert(in_source.to_owned())),
                (None, Some(inside)) => drop(self.of_directory.insert(inside.to_owned())),
                (None, None) => {}
            }
        }
        if self.source != directory {
            let files = self.roots.files.iter();
            let headers = files.filter(|file| {
                let path = joined(&directory, file);
                is_header(file) && !self.made.contains_key(&path) && self.place(&path).0 == "build"
            });
            let headers: Vec<String> = headers.cloned().collect();
            self.of_directory.extend(headers);
        }
    }

    /// Which source a file belongs to, and its path there.
    fn place<'p>(&self, path: &'p str) -> (&'static str, Option<&'p str>) {
        let in_source = below(path, &self.source);
        match below(path, &self.roots.directory) {
            Some(inside) if self.source != self.roots.directory => match in_source {
                Some(in_source) if in_source.len() <= inside.len() => ("src", Some(in_source)),
                _ => ("build", Some(inside)),
            },
            _ => ("src", in_source),
        }
    }

    /// The directories in which a command has headers looked for.
    fn searched(&self, step: &Step) -> Vec<String> {
        let words = words(step.command.as_deref().unwrap_or_default());
        let mut found = Vec::new();
        for (at, word) in words.iter().enumerate() {
            for option in ["-I", "-isystem", "-iquote", "-idirafter"] {
                let path = match word.strip_prefix(option) {
                    Some("") => words.get(at + 1).map(String::as_str),
                    path => path,
                };
                let path = path.map(|path| self.path(step, path));
                found.extend(path.filter(|it| !is_of_system(it) && (self.roots.is_directory)(it)));
            }
        }
        found
    }

    fn key(&self, step: usize) -> String {
        let it = &self.manifest.steps[step];
        let path = self.path(it, &it.outputs[0]);
        let key = relative(&path, &self.roots.directory);
        key.replace(['^', '}'], "_")
    }

    fn derivation(&self, step: usize) -> Result<Value, ImportError> {
        let it = &self.manifest.steps[step];
        let directory = self.directory(it);
        let mut makes = Vec::new();
        for output in &it.outputs {
            let path = self.path(it, output);
            let Some(inside) = below(&path, &directory).filter(|inside| !inside.is_empty()) else {
                let output = output.clone();
                return Err(ImportError::OutputOutside { output, directory });
            };
            // One file may be named in several ways.
            if !makes.contains(&shell_word(inside)) {
                makes.push(shell_word(inside));
            }
        }
        let needs = self.needs(step);
        let local = |command: &str| self.local(command, &directory, &needs);
        let command = it.command.as_deref().unwrap_or_default();
        let mut env = BTreeMap::from([
            ("command", local(command)),
            ("makes", text(&makes.join(" "))),
        ]);
        let references = needs.iter().map(|&need| format!("@{{{}}}", self.key(need)));
        let references: Vec<String> = references.collect();
        if !references.is_empty() {
            env.insert("needs", references.join(" "));
        }
        if directory != self.roots.directory {
            env.insert("build", text(&relative(&directory, &self.top)));
        }
        if let Some((file, content)) = &it.response {
            env.insert("response", local(file));
            env.insert("content", local(content));
        }
        let files = self.files(step);
        let tree: Vec<String> = files
            .iter()
            .filter_map(|file| match self.place(file) {
                (source, Some(path)) => Some(format!("{source}/{}", escaped(path))),
                _ => None,
            })
            .collect();
        let key = self.key(step);
        let mut derivation = json!({"use": "step", "name": name(&key), "env": env});
        if !tree.is_empty() {
            derivation["use"] = "read".into();
            derivation["tree"] = tree.into();
        }
        Ok(derivation)
    }

    /// A command as it is called where the builder runs it, as a text of the graph.
    fn local(&self, command: &str, directory: &str, needs: &[usize]) -> String {
        const OPTION: &str = "-rpath,";
        let mut result = String::new();
        let mut rest = command;
        while let Some(at) = rest.find(OPTION) {
            let (before, behind) = rest.split_at(at + OPTION.len());
            let ends = |c: char| c.is_whitespace() || ",'\"\\;&|".contains(c);
            let (paths, behind) = behind.split_at(behind.find(ends).unwrap_or(behind.len()));
            result += &text(&self.moved(before, directory));
            let paths = paths
                .split(':')
                .map(|path| self.rpath(path, directory, needs));
            result += &paths.collect::<Vec<_>>().join(":");
            rest = behind;
        }
        result + &text(&self.moved(rest, directory))
    }

    /// Where a program finds the libraries that it would find at `path`: with those that made them.
    fn rpath(&self, path: &str, directory: &str, needs: &[usize]) -> String {
        let Some(inside) = below(path, &self.roots.directory) else {
            return text(&self.moved(path, directory));
        };
        let of_library = |&&need: &&usize| {
            let step = &self.manifest.steps[need];
            let in_it = |output: &String| {
                output.contains(".so") && joined(&self.path(step, output), "..") == path
            };
            step.outputs.iter().any(in_it)
        };
        let libraries = needs.iter().filter(of_library);
        let end = if inside.is_empty() { "" } else { "/" };
        let places = libraries.map(|&need| format!("@{{{}}}{end}{}", self.key(need), text(inside)));
        places.collect::<Vec<_>>().join(":")
    }

    /// A command with the directories that it names called as they are where the builder runs it.
    fn moved(&self, command: &str, directory: &str) -> String {
        let mut roots = [&self.source, &self.roots.directory, &self.top];
        // What lies deeper first, since the other one's path begins it.
        roots.sort_by_key(|root| std::cmp::Reverse(root.len()));
        let mut command = command.to_owned();
        for root in roots {
            command = moved(&command, root, &relative(root, directory));
        }
        command
    }
}
