//! Reads `build.ninja` for what its statements run: commands with their variables replaced.
//! Slower than the reader of graphs, which needs no commands, and takes the same language.

use std::io;
use std::path::Path;
use std::rc::Rc;

use hashbrown::HashMap;

use super::Result;
use super::pools::OF_RULES;
use super::scanner::{Raw, Scanner};
use crate::import::{Manifest, Step, normal, shell_word};
use crate::task_graph::{TaskGraphError, spelt};

/// How long a value may become when its variables are replaced, in bytes.
const VALUE_MAX: usize = 4 << 20;

/// How many files may include each other in a row, and values use each other.
const MAX_NESTING: usize = 100;

/// Reads the statements of a file and of all that it includes. `read` gives the contents of other
/// files.
///
/// # Errors
/// If a file is malformed or can't be read.
pub(crate) fn read_steps(
    file: &str,
    text: &[u8],
    read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
) -> Result<Manifest> {
    let mut reader = Reader {
        scopes: vec![Scope::default()],
        manifest: Manifest::default(),
        read,
    };
    reader.file(&mut Scanner::new(file, text), 0, 0)?;
    Ok(reader.manifest)
}

/// The bindings of a rule, as they stand.
type Rule = Rc<HashMap<Vec<u8>, Vec<u8>>>;

#[derive(Default)]
struct Scope {
    outer: Option<usize>,
    variables: HashMap<Vec<u8>, Vec<u8>>,
    rules: HashMap<Vec<u8>, Rule>,
}

struct Reader<'r> {
    scopes: Vec<Scope>,
    manifest: Manifest,
    read: &'r mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
}

/// The variables of one statement.
struct Edge {
    own: HashMap<Vec<u8>, Vec<u8>>,
    rule: Rule,
    scope: usize,
}

impl Reader<'_> {
    fn file(&mut self, scanner: &mut Scanner<'_>, scope: usize, depth: usize) -> Result<()> {
        while let Some(indented) = scanner.next_line(false)? {
            let start = scanner.pos();
            if indented {
                return scanner.wrong(start, "this line should not be indented");
            }
            match scanner.identifier("a statement")? {
                b"build" => self.build(scanner, scope)?,
                b"rule" => self.rule(scanner, scope)?,
                b"pool" => {
                    scanner.identifier("the name of a pool")?;
                    scanner.end_of_line()?;
                    while scanner.next_line(true)? == Some(true) {
                        scanner.binding()?;
                    }
                }
                b"default" => {
                    let paths = self.paths(scanner, scope, None)?;
                    scanner.end_of_line()?;
                    self.manifest.defaults.extend(paths);
                }
                word @ (b"include" | b"subninja") => {
                    let inner = word == b"subninja";
                    self.include(scanner, (scope, inner), start, depth)?;
                }
                name => {
                    let raw = scanner.assigned()?;
                    let value = self.in_file(scanner, &raw, scope)?;
                    self.scopes[scope].variables.insert(name.to_vec(), value);
                }
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        scanner: &mut Scanner<'_>,
        (scope, inner): (usize, bool),
        start: usize,
        depth: usize,
    ) -> Result<()> {
        let paths = self.paths(scanner, scope, None)?;
        let [path] = &paths[..] else {
            return scanner.expected("one path");
        };
        scanner.end_of_line()?;
        if depth == MAX_NESTING {
            let text = format!("more than {MAX_NESTING} files are nested here");
            return scanner.wrong(start, text);
        }
        let text = (self.read)(Path::new(path)).map_err(|error| TaskGraphError::Include {
            place: scanner.place(start),
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let scope = if inner {
            self.scopes.push(Scope {
                outer: Some(scope),
                ..Scope::default()
            });
            self.scopes.len() - 1
        } else {
            scope
        };
        self.file(&mut Scanner::new(path, &text), scope, depth + 1)
    }

    fn rule(&mut self, scanner: &mut Scanner<'_>, scope: usize) -> Result<()> {
        let name = scanner.identifier("the name of a rule")?;
        scanner.end_of_line()?;
        let mut bindings = HashMap::new();
        while scanner.next_line(true)? == Some(true) {
            let at = scanner.pos();
            let (name, raw) = scanner.binding()?;
            // Values of a few names that use each other are short work; of many they need not be.
            if !OF_RULES.contains(&name) {
                let name = String::from_utf8_lossy(name);
                let reason = format!("`{name}` is no variable that a rule may set");
                return scanner.wrong(at, reason);
            }
            bindings.insert(name.to_vec(), scanner.bytes(&raw.range).to_vec());
        }
        self.scopes[scope]
            .rules
            .insert(name.to_vec(), bindings.into());
        Ok(())
    }

    fn build(&mut self, scanner: &mut Scanner<'_>, scope: usize) -> Result<()> {
        let start = scanner.pos();
        let mut raws = Raws::default();
        scanner.paths(&mut raws.outputs)?;
        raws.explicit_outputs = raws.outputs.len();
        if scanner.eat(b"|") {
            scanner.skip_spaces();
            scanner.paths(&mut raws.outputs)?;
        }
        if raws.outputs.is_empty() {
            return scanner.expected("the path of an output");
        }
        if !scanner.eat(b":") {
            return scanner.expected("`:`");
        }
        scanner.skip_spaces();
        let at = scanner.pos();
        let rule = scanner.identifier("the name of a rule")?;
        let phony = rule == b"phony";
        let Some(rule) = self.find_rule(scope, rule) else {
            let name = String::from_utf8_lossy(rule);
            return scanner.wrong(at, format!("there is no rule `{name}` above"));
        };
        raws.read_inputs(scanner)?;
        let mut edge = Edge {
            own: HashMap::new(),
            rule,
            scope,
        };
        while scanner.next_line(true)? == Some(true) {
            let (name, raw) = scanner.binding()?;
            let value = self.in_file(scanner, &raw, scope)?;
            edge.own.insert(name.to_vec(), value);
        }
        let expand = |raws: &[Raw]| self.expand_paths(scanner, raws, Some(&edge), scope);
        let mut step = Step {
            outputs: expand(&raws.outputs)?,
            inputs: expand(&raws.inputs)?,
            order_only: expand(&raws.order_only)?,
            ..Step::default()
        };
        if !phony {
            self.run(scanner, start, (&raws, &mut edge), &mut step)?;
        }
        self.manifest.steps.push(step);
        Ok(())
    }

    /// Finds out what a step runs, from its statement and its rule.
    fn run(
        &self,
        scanner: &Scanner<'_>,
        start: usize,
        (raws, edge): (&Raws, &mut Edge),
        step: &mut Step,
    ) -> Result<()> {
        for (name, paths) in [
            (&b"in"[..], &step.inputs[..raws.explicit_inputs]),
            (b"in_newline", &step.inputs[..raws.explicit_inputs]),
            (b"out", &step.outputs[..raws.explicit_outputs]),
        ] {
            let words: Vec<String> = paths.iter().map(|path| shell_word(path)).collect();
            let separator = if name == b"in_newline" { "\n" } else { " " };
            let value = words.join(separator).into_bytes();
            edge.own.insert(name.to_vec(), value);
        }
        let edge = &*edge;
        let value = |name: &[u8]| -> Result<String> {
            let value = self.of_edge(edge, name, 0);
            match value.map(String::from_utf8) {
                Some(Ok(value)) => Ok(value),
                Some(Err(_)) => scanner.wrong(start, "a value of this statement is not UTF-8"),
                None => scanner.wrong(start, "the values of this statement have no end"),
            }
        };
        step.command = Some(value(b"command")?);
        let response = value(b"rspfile")?;
        if !response.is_empty() {
            step.response = Some((response, value(b"rspfile_content")?));
        }
        step.generator = !value(b"generator")?.is_empty();
        step.dyndep = !value(b"dyndep")?.is_empty();
        Ok(())
    }

    fn find_rule(&self, scope: usize, name: &[u8]) -> Option<Rule> {
        if name == b"phony" {
            return Some(Rule::default());
        }
        let outwards = |scope: &usize| self.scopes[*scope].outer;
        let mut scopes = std::iter::successors(Some(scope), outwards);
        scopes.find_map(|scope| self.scopes[scope].rules.get(name).cloned())
    }

    fn paths(
        &self,
        scanner: &mut Scanner<'_>,
        scope: usize,
        edge: Option<&Edge>,
    ) -> Result<Vec<String>> {
        let mut raws = Vec::new();
        scanner.paths(&mut raws)?;
        self.expand_paths(scanner, &raws, edge, scope)
    }

    /// Paths with their variables replaced, in the shape that ninja gives them.
    fn expand_paths(
        &self,
        scanner: &Scanner<'_>,
        raws: &[Raw],
        edge: Option<&Edge>,
        scope: usize,
    ) -> Result<Vec<String>> {
        let path = |raw: &Raw| {
            let text = scanner.bytes(&raw.range);
            let own = |name: &[u8]| edge.and_then(|edge| edge.own.get(name));
            let variable = |name: &[u8]| match own(name) {
                Some(value) => Some(value.clone()),
                None => Some(self.variable(scope, name)),
            };
            let Some(value) = replaced(text, variable) else {
                return scanner.wrong(raw.range.start, "this path is too long");
            };
            match str::from_utf8(&value) {
                Ok("") => scanner.wrong(raw.range.start, "this path is empty"),
                Ok(path) => Ok(normal(path)),
                Err(_) => {
                    let text = format!("the path `{}` is not UTF-8", spelt(&value));
                    scanner.wrong(raw.range.start, text)
                }
            }
        };
        raws.iter().map(path).collect()
    }

    /// A value that stands outside of rules.
    fn in_file(&self, scanner: &Scanner<'_>, raw: &Raw, scope: usize) -> Result<Vec<u8>> {
        let text = scanner.bytes(&raw.range);
        let value = replaced(text, |name| Some(self.variable(scope, name)));
        value.map_or_else(
            || scanner.wrong(raw.range.start, "this value is too long"),
            Ok,
        )
    }

    fn variable(&self, scope: usize, name: &[u8]) -> Vec<u8> {
        let outwards = |scope: &usize| self.scopes[*scope].outer;
        let mut scopes = std::iter::successors(Some(scope), outwards);
        let found = scopes.find_map(|scope| self.scopes[scope].variables.get(name));
        found.cloned().unwrap_or_default()
    }

    /// The value of a variable for a statement: its own, its rule's, its file's. `None` if it is
    /// without end.
    fn of_edge(&self, edge: &Edge, name: &[u8], depth: usize) -> Option<Vec<u8>> {
        if let Some(value) = edge.own.get(name) {
            return Some(value.clone());
        }
        let Some(text) = edge.rule.get(name) else {
            return Some(self.variable(edge.scope, name));
        };
        if depth == MAX_NESTING {
            return None;
        }
        replaced(text, |name| self.of_edge(edge, name, depth + 1))
    }
}

/// The paths of a statement, as they stand.
#[derive(Default)]
struct Raws {
    outputs: Vec<Raw>,
    explicit_outputs: usize,
    inputs: Vec<Raw>,
    explicit_inputs: usize,
    order_only: Vec<Raw>,
}

impl Raws {
    fn read_inputs(&mut self, scanner: &mut Scanner<'_>) -> Result<()> {
        scanner.paths(&mut self.inputs)?;
        self.explicit_inputs = self.inputs.len();
        for separator in [b"|".as_slice(), b"||", b"|@"] {
            let single = separator == b"|" && (scanner.sees(b"||") || scanner.sees(b"|@"));
            if single || !scanner.eat(separator) {
                continue;
            }
            scanner.skip_spaces();
            match separator {
                b"|" => scanner.paths(&mut self.inputs)?,
                b"||" => scanner.paths(&mut self.order_only)?,
                // Nothing waits for validations.
                _ => scanner.paths(&mut Vec::new())?,
            }
        }
        scanner.end_of_line()
    }
}

/// A text with escapes resolved and variables replaced; `None` if that is too long, or `variable`
/// gives none.
fn replaced(text: &[u8], variable: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = memchr::memchr(b'$', rest) {
        out.extend_from_slice(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        match rest.first() {
            Some(b'{') => {
                let end = memchr::memchr(b'}', rest).unwrap_or(rest.len() - 1);
                out.extend(variable(&rest[1..end.max(1)])?);
                rest = &rest[end + 1..];
            }
            Some(b'\n' | b'\r') => rest = rest.trim_ascii_start(),
            Some(byte @ (b'$' | b' ' | b':')) => {
                out.push(*byte);
                rest = &rest[1..];
            }
            _ => {
                let part = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"_-".contains(byte));
                let end = rest.iter().position(part).unwrap_or(rest.len());
                out.extend(variable(&rest[..end])?);
                rest = &rest[end..];
            }
        }
        if out.len() > VALUE_MAX {
            return None;
        }
    }
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Manifest {
        let mut read = |path: &Path| match path.to_str() {
            Some("more.ninja") => Ok(b"build c: cc c.c\n flags = -inner\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        read_steps("build.ninja", text.as_bytes(), &mut read).unwrap()
    }

    #[test]
    fn commands_have_their_variables_replaced() {
        let text = "flags = -O2\ndir = out\nrule cc\n command = cc $flags $extra -c $in -o $out $\n  && ${description}\n \
            description = echo $$x\n rspfile = $out.rsp\n rspfile_content = $in_newline\n\
            build $dir/a.o ./b/../a.d | a.x: cc a$ b.c x.c | a.h || dir |@ check\n extra = -g $dir\n\
            rule gen\n command = g\n generator = 1\nbuild g: gen\nbuild all: phony out/a.o\ndefault all\n\
            subninja more.ninja\nflags = -O0\n";
        let Manifest { steps, defaults } = steps(text);
        let [a, g, all, c] = &steps[..] else {
            panic!("{steps:?}")
        };
        assert_eq!(a.outputs, ["out/a.o", "a.d", "a.x"]);
        assert_eq!(a.inputs, ["a b.c", "x.c", "a.h"]);
        assert_eq!(a.order_only, ["dir"]);
        let command = "cc -O2 -g out -c 'a b.c' x.c -o out/a.o a.d && echo $x";
        assert_eq!(a.command.as_deref(), Some(command));
        let response = ("out/a.o a.d.rsp".to_owned(), "'a b.c'\nx.c".to_owned());
        assert_eq!(a.response, Some(response));
        assert!(g.generator && !a.generator);
        assert_eq!(
            (all.command.as_deref(), &all.inputs[..]),
            (None, &["out/a.o".to_owned()][..])
        );
        assert_eq!(
            c.command.as_deref(),
            Some("cc -inner  -c c.c -o c && echo $x")
        );
        assert_eq!(defaults, ["all"]);
    }

    #[test]
    fn values_without_end_are_refused() {
        let text = b"rule r\n command = $depfile\n depfile = $command\nbuild a: r\n";
        let error = read_steps("f", text, &mut |_| Err(io::ErrorKind::NotFound.into()));
        assert!(error.unwrap_err().to_string().contains("have no end"));
        let mut text = "v0 = xx\n".to_owned();
        for index in 1..40 {
            text += &format!("v{index} = $v{0}$v{0}\n", index - 1);
        }
        let error = read_steps("f", text.as_bytes(), &mut |_| {
            Err(io::ErrorKind::NotFound.into())
        });
        assert!(error.unwrap_err().to_string().contains("too long"));
    }
}
