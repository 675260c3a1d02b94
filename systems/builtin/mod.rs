//! Builders that come with the engine, `builtin:NAME`: what they do, and what a process needs to do
//! it. They run in a process of their own, as any builder, and where any builder would: [`run`] is
//! what a program that embeds the engine calls in it. Of a derivation they take data, and never a
//! variable of their environment.

mod buildenv;
mod decompress;
mod fetchurl;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod program;
mod request;
mod unpack_channel;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use windrow_components::derivation::attributes::Attributes;
use windrow_net::{certificates, proxies};
use windrow_sandbox::paths::{SandboxPath, Shown};
use windrow_sandbox::process::launch::action::c_path;
use windrow_sys::bounded;

use crate::process::environment::{Invocation, Rewrites};
use program::Program;
use request::{Mirror, Network, Request};

/// What they are called behind `builtin:`.
pub const NAMES: [&str; 3] = ["buildenv", FETCHURL, "unpack-channel"];

const FETCHURL: &str = "fetchurl";

/// What starts them, and what they need to know of the engine.
#[derive(Debug)]
pub struct Builtins {
    /// The arguments, from the first on, that make this program call [`run`].
    pub invocation: Vec<CString>,
    /// Where files may be found by their hash, before their own address is tried (setting
    /// `hashed-mirrors`).
    pub mirrors: Vec<String>,
    /// The file with the certificate authorities to trust; that of the system if none is named
    /// (setting `ssl-cert-file`).
    pub certificates: Option<PathBuf>,
    /// The file with user names and passwords, if there is one (setting `netrc-file`).
    pub netrc: PathBuf,
    /// Seconds a connection may take to open; 0 for the default (setting `connect-timeout`).
    pub connect_timeout_s: u64,
    /// Seconds a download may stand still; 0 for no limit (setting `stalled-download-timeout`).
    pub stalled_timeout_s: u64,
    /// This program, once it has been looked for.
    pub program: ThisProgram,
}

/// The running program and its files, which are looked for when they are needed first.
#[derive(Debug, Default)]
pub struct ThisProgram(OnceLock<Result<Program, String>>);

impl ThisProgram {
    fn get(&self) -> Result<&Program, String> {
        self.0
            .get_or_init(Program::of_this_process)
            .as_ref()
            .map_err(Clone::clone)
    }
}

/// One builder of the engine for one derivation.
#[derive(Debug)]
pub(crate) struct Start {
    /// What it runs; the environment is its own.
    pub(crate) invocation: Invocation,
    /// Its standard input.
    pub(crate) request: File,
}

/// What a builder of the engine needs of the machine.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Files that its sandbox is to show.
    pub(crate) shown: Vec<(SandboxPath, Shown)>,
    network: Network,
}

/// Why the builder `name` is not to build such a derivation.
pub(crate) fn refusal(name: &str, fixed: bool) -> Option<&'static str> {
    (name == FETCHURL && !fixed).then_some(
        "builtin:fetchurl builds fixed outputs only: the derivation has no output hash ('outputHash'), so that whatever \
         the address holds would be taken unchecked",
    )
}

impl Builtins {
    /// What the builder `name` needs of the machine, with places for it in a sandbox if it is to
    /// have one.
    ///
    /// # Errors
    /// When the program can't be shown there.
    pub(crate) fn needs(
        &self,
        name: &str,
        attributes: &Attributes<'_>,
        sandbox: bool,
    ) -> Result<Needs, String> {
        let mut needs = Needs::default();
        if sandbox {
            needs.shown = self.program.get()?.shown()?;
        }
        if name == FETCHURL {
            needs.network = self.network(attributes);
        }
        if sandbox {
            let network = &mut needs.network;
            let files = network.mirrors.iter_mut().enumerate();
            let files = files.map(|(n, Mirror { file, .. })| (format!("mirror-{n}"), file));
            let certificates = ("certificates".to_owned(), &mut network.certificates);
            for (name, file) in files.chain([certificates]) {
                // What is not there is told as not there.
                if let Some(source) = file.take_if(|file| file.is_file()) {
                    let target = program::shown_at(&name);
                    needs.shown.push(program::show(target.clone(), &source));
                    *file = Some(target);
                }
            }
        }
        Ok(needs)
    }

    fn network(&self, attributes: &Attributes<'_>) -> Network {
        let certificates = certificates::file(self.certificates.as_deref());
        Network {
            mirrors: fetchurl::on_mirrors(attributes.derivation(), &self.mirrors),
            certificates: certificates.and_then(|file| std::path::absolute(file).ok()),
            proxies: proxies::of_environment(),
            netrc: self.netrc(),
            connect_timeout_s: self.connect_timeout_s,
            stalled_timeout_s: self.stalled_timeout_s,
        }
    }

    /// What stands in the file of passwords. One that can't be used has none.
    fn netrc(&self) -> String {
        let text = bounded::read_file(&self.netrc, bounded::NAMED_FILE_MAX);
        String::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }

    /// The process that runs the builder `name`, with what [`Builtins::needs`] found, in that
    /// directory, of a sandbox or not.
    ///
    /// # Errors
    /// When the system has no memory for the request, or the program is not found.
    pub(crate) fn start(
        &self,
        name: &str,
        attributes: &Attributes<'_>,
        needs: Needs,
        (build_dir, sandbox): (&Path, bool),
        rewrites: Rewrites,
    ) -> Result<Start, String> {
        let request = Request {
            builder: name.to_owned(),
            attributes: values(attributes, &rewrites),
            sandbox,
            network: needs.network,
        };
        let request = request
            .to_file()
            .map_err(|error| format!("cannot make the request for it: {error}"))?;
        let (program, args) = if sandbox {
            self.program.get()?.invocation(&self.invocation)
        } else {
            // Even if the file has been replaced since. The child executes it while it is still
            // the engine's process.
            let mut args = vec![c"windrow".into()];
            args.extend_from_slice(&self.invocation);
            (c"/proc/self/exe".into(), args)
        };
        let tmp = c_path(build_dir).into_bytes();
        let tmp = CString::new([b"TMPDIR=", &*tmp].concat()).unwrap_or_default();
        let env = vec![
            c"HOME=/homeless-shelter".into(),
            c"PATH=/path-not-set".into(),
            tmp,
        ];
        Ok(Start {
            invocation: Invocation {
                program,
                args,
                env,
                files: Vec::new(),
                rewrites,
            },
            request,
        })
    }
}

/// The attributes as texts, with the outputs' places among them whatever the derivation says.
fn values(attributes: &Attributes<'_>, rewrites: &Rewrites) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let rewritten = |bytes: &[u8]| text(&rewrites.apply(bytes));
    let drv = attributes.derivation();
    let mut values: BTreeMap<String, String> = match attributes.structured() {
        Some(members) => members
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), rewritten(plain(value)?.as_bytes()))))
            .collect(),
        None => drv
            .env
            .iter()
            .map(|(name, value)| (text(name), rewritten(value)))
            .collect(),
    };
    for output in &drv.outputs {
        let path = rewritten(output.path.as_bytes());
        values.insert(output.name.to_string(), path);
    }
    values
}

/// A structured attribute as the variable that it would be without structure.
fn plain(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => (if *flag { "1" } else { "" }).to_owned(),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(plain).collect();
            items?.join(" ")
        }
        Value::Null | Value::Object(_) => return None,
    })
}

/// Does what the request on standard input asks for, in this process.
///
/// # Errors
/// A message for the build's log.
///
/// Nix 1.8: `DerivationGoal::startBuilder`.
pub fn run() -> Result<(), String> {
    let request = Request::take()?;
    match &*request.builder {
        "buildenv" => buildenv::run(&request),
        FETCHURL => fetchurl::run(&request),
        "unpack-channel" => unpack_channel::run(&request),
        other => Err(format!("there is no builder 'builtin:{other}'")),
    }
}

impl Request {
    /// The value of an attribute that must be there.
    fn attr(&self, name: &str) -> Result<&str, String> {
        let value = self.attributes.get(name).map(String::as_str);
        value.ok_or_else(|| format!("the attribute '{name}' is missing"))
    }

    fn flag(&self, name: &str) -> bool {
        self.attributes.get(name).is_some_and(|value| value == "1")
    }

    /// Where the result belongs.
    fn out(&self) -> Result<PathBuf, String> {
        self.attr("out").map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use windrow_components::derivation::{Derivation, Output};

    fn drv(env: &[(&str, &str)]) -> Derivation<'static> {
        let bytes = |text: &str| Cow::Owned(text.as_bytes().to_vec());
        let mut env: Vec<_> = env.iter().map(|(k, v)| (bytes(k), bytes(v))).collect();
        env.sort();
        Derivation {
            outputs: vec![Output {
                name: "out".into(),
                path: "/nix/store/o".into(),
                hash_algo: "".into(),
                hash: "".into(),
            }],
            env,
            ..Derivation::default()
        }
    }

    fn builtins() -> Builtins {
        Builtins {
            invocation: vec![c"do".into()],
            mirrors: Vec::new(),
            certificates: Some("/dev/null".into()),
            netrc: "/dev/null".into(),
            connect_timeout_s: 1,
            stalled_timeout_s: 2,
            program: ThisProgram::default(),
        }
    }

    #[test]
    fn attributes_are_data_and_the_environment_is_ones_own() {
        let drv = drv(&[("LD_PRELOAD", "/x"), ("out", "/etc/x"), ("HOME", "/x")]);
        let attributes = Attributes::of(&drv).unwrap();
        let builtins = builtins();
        for (sandbox, program) in [(false, "/proc/self/exe"), (true, "/.windrow/")] {
            let needs = builtins.needs("buildenv", &attributes, sandbox).unwrap();
            assert_eq!(needs.shown.is_empty(), !sandbox);
            assert_eq!(needs.network, Network::default());
            let place = (Path::new("/build"), sandbox);
            let rewrites = Rewrites::default();
            let start = builtins
                .start("buildenv", &attributes, needs, place, rewrites)
                .unwrap();
            let Invocation { env, args, .. } = &start.invocation;
            assert_eq!(
                env,
                &[
                    c"HOME=/homeless-shelter".to_owned(),
                    c"PATH=/path-not-set".to_owned(),
                    c"TMPDIR=/build".to_owned()
                ]
            );
            assert_eq!(args.last().unwrap(), c"do");
            let executed = start.invocation.program.to_str().unwrap();
            assert!(executed.starts_with(program), "{executed}");
            let request: Request = serde_json::from_reader(start.request).unwrap();
            assert_eq!(request.attr("LD_PRELOAD"), Ok("/x"));
            assert_eq!(request.attr("out"), Ok("/nix/store/o"));
            assert_eq!(request.sandbox, sandbox);
        }
    }

    #[test]
    fn structured_attributes_are_what_they_would_be_without_structure() {
        let json = r#"{"url": "u", "unpack": true, "n": 3, "no": false, "l": ["a", 1], "o": {}}"#;
        let drv = drv(&[("__json", json), ("out", "/nix/store/o")]);
        let values = values(&Attributes::of(&drv).unwrap(), &Rewrites::default());
        let expected = [
            ("l", "a 1"),
            ("n", "3"),
            ("no", ""),
            ("out", "/nix/store/o"),
            ("unpack", "1"),
            ("url", "u"),
        ];
        let found = values.iter().map(|(name, value)| (&**name, &**value));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_has_no_hash_is_not_fetched() {
        assert!(refusal("fetchurl", false).unwrap().contains("outputHash"));
        for (name, fixed) in [("fetchurl", true), ("buildenv", false)] {
            assert_eq!(refusal(name, fixed), None);
        }
    }
}
