//! Builders that come with the engine, `builtin:NAME`: what they do, given a builder's environment.
//! They run in a process of their own, as any builder: [`run`] is what a program that embeds the engine calls in it.

mod buildenv;
mod fetchurl;
mod unpack_channel;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What they are called behind `builtin:`.
pub const NAMES: [&str; 3] = ["buildenv", "fetchurl", "unpack-channel"];

/// What starts them, and what they need to know of the engine.
#[derive(Debug, Clone)]
pub struct Builtins {
    /// A program that calls [`run`] with its arguments from the third on, if these two come first.
    pub program: CString,
    /// The zeroth and first argument that make it do so.
    pub invocation: [CString; 2],
    /// Where to find other programs, as in `PATH`.
    pub path: OsString,
    /// Where files may be found by their hash, before their own address is tried (setting `hashed-mirrors`).
    pub mirrors: Vec<String>,
}

impl Builtins {
    /// All arguments of the process that runs `name`, which is one of [`NAMES`].
    ///
    /// # Errors
    /// When a path or mirror has a NUL byte.
    pub fn args(&self, name: &str) -> Result<Vec<CString>, std::ffi::NulError> {
        let mut args = self.invocation.to_vec();
        args.push(CString::new(name)?);
        args.push(CString::new(self.path.as_bytes())?);
        for mirror in &self.mirrors {
            args.push(CString::new(mirror.as_str())?);
        }
        Ok(args)
    }
}

/// Does what the builder that `args` names does, in this process: its name, the search path for programs, mirrors.
///
/// # Errors
/// A message for the build's log.
pub fn run(args: &[OsString]) -> Result<(), String> {
    let [name, path, mirrors @ ..] = args else {
        return Err("this is for windrow itself to use".to_owned());
    };
    let task = Task {
        env: &|name| std::env::var_os(name),
        path,
    };
    match name.to_str() {
        Some("buildenv") => buildenv::run(&task),
        Some("fetchurl") => fetchurl::run(&task, mirrors),
        Some("unpack-channel") => unpack_channel::run(&task),
        _ => Err(format!("there is no builder 'builtin:{}'", name.display())),
    }
}

/// What a builder is given.
struct Task<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    path: &'a OsStr,
}

impl Task<'_> {
    /// The value of a variable that must be there.
    fn attr(&self, name: &str) -> Result<String, String> {
        let value = self.optional(name);
        value.ok_or_else(|| format!("the attribute '{name}' is missing"))
    }

    fn optional(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn flag(&self, name: &str) -> bool {
        self.optional(name).is_some_and(|value| value == "1")
    }

    /// Where the result belongs.
    fn out(&self) -> Result<PathBuf, String> {
        self.attr("out").map(PathBuf::from)
    }

    /// A program of this machine.
    fn program(&self, name: &str) -> std::process::Command {
        let mut command = std::process::Command::new(name);
        command.env("PATH", self.path);
        command
    }
}

/// Runs a program whose success is all that matters; what it says goes to the log.
fn succeed(mut command: std::process::Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("'{name}' failed: {status}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(format!(
            "the program '{name}' is needed for this, and is not in PATH"
        )),
        Err(error) => Err(format!("cannot run '{name}': {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_builders_are_named() {
        let args = ["nope", "/bin"].map(OsString::from);
        assert!(run(&args).unwrap_err().contains("'builtin:nope'"));
        assert!(run(&[]).is_err());
    }

    #[test]
    fn arguments_hold_name_path_and_mirrors() {
        let builtins = Builtins {
            program: c"/proc/self/exe".into(),
            invocation: [c"windrow".into(), c"builtin".into()],
            path: "/bin".into(),
            mirrors: vec!["file:///m".to_owned()],
        };
        let args = builtins.args("fetchurl").unwrap();
        let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(
            args,
            ["windrow", "builtin", "fetchurl", "/bin", "file:///m"]
        );
    }
}
