//! The builder's environment and arguments, in the order of precedence that Nix has (Nix 1.8:
//! `startBuilder`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use memchr::memmem;
use windrow_components::building::ScratchOutput;
use windrow_components::derivation::Derivation;
use windrow_components::derivation::attributes::{AttributeError, Attributes};
use windrow_components::hash::sha256;
use windrow_components::nix32;
use windrow_components::store_path::placeholder;

/// A file that the builder finds in its directory.
#[derive(Debug, PartialEq, Eq)]
pub struct ExtraFile {
    /// Its name in the directory.
    pub name: String,
    /// What it holds.
    pub contents: Vec<u8>,
}

/// What a builder is started with.
///
/// Nix 1.8: `strings2CharPtrs`.
#[derive(Debug)]
pub struct Invocation {
    /// The program.
    pub program: CString,
    /// Its arguments, the zeroth included.
    pub args: Vec<CString>,
    /// `NAME=VALUE` each, sorted.
    pub env: Vec<CString>,
    /// Files to put into its directory first.
    pub files: Vec<ExtraFile>,
    /// What was replaced in its arguments and environment, and is to be in other texts for it.
    pub rewrites: Rewrites,
}

/// What is replaced in texts for a builder: placeholders by output paths, hash parts by those of
/// scratch paths.
#[derive(Debug, Default)]
pub struct Rewrites(Vec<(Vec<u8>, Vec<u8>)>);

impl Rewrites {
    pub(crate) fn new(drv: &Derivation<'_>, scratch: &[ScratchOutput]) -> Self {
        // Placeholders first: the paths they stand for may have to be rewritten in turn.
        let placeholders = drv.outputs.iter().map(|output| {
            (
                placeholder(&output.name).into_bytes(),
                output.path.as_bytes().to_vec(),
            )
        });
        let scratch = scratch
            .iter()
            .map(|scratch| (scratch.hash.to_vec(), scratch.scratch_hash.to_vec()));
        Self(placeholders.chain(scratch).collect())
    }

    /// The text with everything replaced.
    pub fn apply<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        replace_all(text, &self.0)
    }
}

/// What of the outside a builder's environment depends on.
pub struct BuildEnvParams<'a> {
    /// The logical store directory.
    pub store_dir: &'a str,
    /// The directory it works in, as it sees it.
    pub build_dir: &'a Path,
    /// How many cores it should use.
    pub cores: u32,
    /// Outputs that are built under scratch names.
    pub rewrites: &'a [ScratchOutput],
    /// Values for `impureEnvVars`: of the setting `impure-env`, else of the engine's own
    /// environment.
    pub outer_env: &'a dyn Fn(&str) -> Option<std::ffi::OsString>,
}

/// Why a builder can't be started as its derivation says.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvironmentError {
    /// Something has a NUL byte, which the system can't pass on.
    #[error("its {what} contains a NUL byte, which no program can be given")]
    Nul {
        /// What has it.
        what: String,
    },
    /// A special attribute is malformed.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
}

/// Works out arguments and environment of the builder of a derivation with these attributes.
///
/// # Errors
/// [`EnvironmentError`] names what can't be passed on.
///
/// Nix 1.8: `DerivationGoal::startBuilder`.
pub fn invocation(
    attributes: &Attributes<'_>,
    params: &BuildEnvParams<'_>,
) -> Result<Invocation, EnvironmentError> {
    let drv = attributes.derivation();
    let rewrites = Rewrites::new(drv, params.rewrites);
    let build_dir = params.build_dir.as_os_str().as_bytes();

    let cores = params.cores.to_string();
    let mut env = Variables::new();
    let mut set = |name: &'static str, value: Cow<'_, [u8]>| {
        env.insert(
            Cow::Borrowed(name.as_bytes()),
            Cow::Owned(value.into_owned()),
        );
    };
    set("PATH", Cow::Borrowed(b"/path-not-set"));
    set("HOME", Cow::Borrowed(b"/homeless-shelter"));
    set("NIX_STORE", Cow::Borrowed(params.store_dir.as_bytes()));
    set("NIX_BUILD_CORES", Cow::Borrowed(cores.as_bytes()));

    let files = pass_attributes(attributes, &rewrites, params.build_dir, &mut env);

    for name in ["NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"] {
        env.insert(Cow::Borrowed(name.as_bytes()), Cow::Borrowed(build_dir));
    }
    if drv.is_fixed() {
        env.insert(Cow::Borrowed(b"NIX_OUTPUT_CHECKED"), Cow::Borrowed(b"1"));
        for name in attributes.list("impureEnvVars")?.unwrap_or_default() {
            let value = (params.outer_env)(&name).unwrap_or_default();
            env.insert(
                Cow::Owned(name.into_bytes()),
                Cow::Owned(value.as_bytes().to_vec()),
            );
        }
    }
    if attributes.structured().is_some() {
        for (name, file) in [
            ("NIX_ATTRS_JSON_FILE", "/.attrs.json"),
            ("NIX_ATTRS_SH_FILE", "/.attrs.sh"),
        ] {
            let path = [build_dir, file.as_bytes()].concat();
            env.insert(Cow::Borrowed(name.as_bytes()), Cow::Owned(path));
        }
    }
    env.insert(Cow::Borrowed(b"NIX_LOG_FD"), Cow::Borrowed(b"2"));
    env.insert(Cow::Borrowed(b"TERM"), Cow::Borrowed(b"xterm-256color"));

    let env = env
        .iter()
        .map(|(name, value)| {
            let what = || format!("variable '{}'", String::from_utf8_lossy(name));
            c_string([name, &b"="[..], value].concat(), &what)
        })
        .collect::<Result<_, _>>()?;
    let args = arguments(drv, &rewrites)?;
    let builder = || "builder".to_owned();
    let program = c_string(rewrites.apply(&drv.builder).into_owned(), &builder)?;
    Ok(Invocation {
        program,
        args,
        env,
        files,
        rewrites,
    })
}

/// Environment variables by name.
type Variables<'a> = BTreeMap<Cow<'a, [u8]>, Cow<'a, [u8]>>;

/// Passes a derivation's attributes on: as variables, or, those that `passAsFile` names, in files
/// which variables tell of.
fn pass_attributes<'a>(
    attributes: &Attributes<'a>,
    rewrites: &Rewrites,
    build_dir: &Path,
    env: &mut Variables<'a>,
) -> Vec<ExtraFile> {
    let drv = attributes.derivation();
    // Structured ones are in files; none is a variable.
    if attributes.structured().is_some() {
        return Vec::new();
    }
    let mut files = Vec::new();
    let as_file = words(drv.env_value("passAsFile").unwrap_or_default());
    for (name, value) in &drv.env {
        if as_file.contains(&&**name) {
            let file = format!(".attr-{}", nix32::encode(&sha256(name)));
            let path = build_dir.join(&file).into_os_string();
            let contents = rewrites.apply(value).into_owned();
            files.push(ExtraFile {
                name: file,
                contents,
            });
            let name = [&**name, b"Path"].concat();
            env.insert(Cow::Owned(name), Cow::Owned(path.as_bytes().to_vec()));
        } else {
            env.insert(Cow::Borrowed(name), rewrites.apply(value));
        }
    }
    files
}

/// A builder's arguments, from the zeroth on.
fn arguments(drv: &Derivation, rewrites: &Rewrites) -> Result<Vec<CString>, EnvironmentError> {
    let base_name = drv
        .builder
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or_default();
    let first = c_string(base_name.to_vec(), &|| "builder".to_owned())?;
    let mut args = vec![first];
    for (index, arg) in drv.args.iter().enumerate() {
        args.push(c_string(rewrites.apply(arg).into_owned(), &|| {
            format!("argument {}", index + 1)
        })?);
    }
    Ok(args)
}

fn c_string(bytes: Vec<u8>, what: &dyn Fn() -> String) -> Result<CString, EnvironmentError> {
    CString::new(bytes).map_err(|_| EnvironmentError::Nul { what: what() })
}

/// Splits at white space, as Nix's `tokenizeString` does.
fn words(text: &[u8]) -> Vec<&[u8]> {
    text.split(|byte| b" \t\n\r".contains(byte))
        .filter(|word| !word.is_empty())
        .collect()
}

fn replace_all<'a>(value: &'a [u8], rewrites: &[(Vec<u8>, Vec<u8>)]) -> Cow<'a, [u8]> {
    let mut result = Cow::Borrowed(value);
    for (from, to) in rewrites {
        if memmem::find(&result, from).is_none() {
            continue;
        }
        let mut replaced = Vec::with_capacity(result.len());
        let mut copied = 0;
        for at in memmem::find_iter(&result, from) {
            replaced.extend_from_slice(&result[copied..at]);
            replaced.extend_from_slice(to);
            copied = at + from.len();
        }
        replaced.extend_from_slice(&result[copied..]);
        result = Cow::Owned(replaced);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_components::derivation::Output;

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
            builder: Cow::Borrowed(b"/bin/sh"),
            args: vec![bytes("-c"), bytes(&format!("echo {}", placeholder("out")))],
            env,
            ..Derivation::default()
        }
    }

    fn made(drv: &Derivation<'_>) -> Result<Invocation, EnvironmentError> {
        let params = BuildEnvParams {
            store_dir: "/nix/store",
            build_dir: Path::new("/tmp/b"),
            cores: 3,
            rewrites: &[],
            outer_env: &|name| (name == "http_proxy").then(|| "proxy".into()),
        };
        invocation(&Attributes::of(drv)?, &params)
    }

    fn value(made: &Invocation, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        let lines = made.env.iter().map(|line| line.to_str().unwrap());
        lines
            .filter_map(|line| line.strip_prefix(&prefix))
            .map(str::to_owned)
            .next()
    }

    #[test]
    fn the_derivation_wins_over_defaults_but_not_over_the_build_directory() {
        let made = made(&drv(&[
            ("HOME", "/h"),
            ("TMPDIR", "/x"),
            ("TERM", "y"),
            ("out", "/o"),
        ]))
        .unwrap();
        let expected = [
            ("HOME", "/h"),
            ("PATH", "/path-not-set"),
            ("NIX_STORE", "/nix/store"),
            ("NIX_BUILD_CORES", "3"),
            ("NIX_BUILD_TOP", "/tmp/b"),
            ("TMPDIR", "/tmp/b"),
            ("TERM", "xterm-256color"),
            ("NIX_LOG_FD", "2"),
            ("out", "/o"),
        ];
        for (name, text) in expected {
            assert_eq!(value(&made, name).as_deref(), Some(text), "{name}");
        }
        assert_eq!(value(&made, "NIX_OUTPUT_CHECKED"), None);
        assert_eq!(made.args[0].to_str(), Ok("sh"));
        assert_eq!(made.args[2].to_str(), Ok("echo /nix/store/o"));
    }

    #[test]
    fn fixed_outputs_get_impure_variables_and_unset_ones_are_empty() {
        let mut fixed = drv(&[("impureEnvVars", "http_proxy  no_such")]);
        fixed.outputs[0].hash = "00".into();
        let made = made(&fixed).unwrap();
        assert_eq!(value(&made, "http_proxy").as_deref(), Some("proxy"));
        assert_eq!(value(&made, "no_such").as_deref(), Some(""));
        assert_eq!(value(&made, "NIX_OUTPUT_CHECKED").as_deref(), Some("1"));
    }

    #[test]
    fn pass_as_file_leaves_a_path() {
        let made = made(&drv(&[("passAsFile", "text"), ("text", "long")])).unwrap();
        assert_eq!(made.files.len(), 1);
        assert_eq!(made.files[0].contents, b"long");
        assert_eq!(value(&made, "text"), None);
        assert_eq!(
            value(&made, "textPath"),
            Some(format!("/tmp/b/{}", made.files[0].name))
        );
    }

    #[test]
    fn what_cannot_be_passed_on_is_named() {
        let nul = made(&drv(&[("a", "x\0y")])).unwrap_err();
        assert!(nul.to_string().contains("variable 'a'"), "{nul}");
        let structured = made(&drv(&[("__json", "[]")])).unwrap_err();
        assert!(structured.to_string().contains("__json"), "{structured}");
    }

    #[test]
    fn structured_attributes_are_in_files_and_none_is_a_variable() {
        let made = made(&drv(&[
            ("__json", r#"{"a": "b", "HOME": "/h"}"#),
            ("out", "/o"),
            ("passAsFile", "out"),
        ]))
        .unwrap();
        let expected = [
            ("NIX_ATTRS_JSON_FILE", Some("/tmp/b/.attrs.json")),
            ("NIX_ATTRS_SH_FILE", Some("/tmp/b/.attrs.sh")),
            ("HOME", Some("/homeless-shelter")),
            ("out", None),
            ("__json", None),
            ("a", None),
        ];
        for (name, text) in expected {
            assert_eq!(value(&made, name).as_deref(), text, "{name}");
        }
        assert!(made.files.is_empty());
    }
}
