//! Which program a person gets in a builder's place: one that was named, or a shell that is there.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use windrow_components::shell_word::quote;
use windrow_sandbox::Isolation;
use windrow_store::layout::Layout;

use crate::process::environment::Invocation;

/// What a person wants to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// A shell that reads what is typed, or what there is on standard input.
    Shell,
    /// A line for a shell.
    Line(OsString),
    /// A program with its arguments; there is one word or more.
    Program(Vec<OsString>),
}

/// Where the program is to run.
pub(super) struct Around<'a> {
    pub(super) layout: &'a Layout,
    /// The sandbox, if there is one.
    pub(super) sandbox: Option<&'a Isolation>,
    /// The shell that the person uses outside.
    pub(super) own_shell: Option<PathBuf>,
}

/// The variable that has the command line of the builder.
pub(super) const BUILD: &str = "WINDROW_BUILD";

/// How long that may be. The kernel takes 128 KiB in one string.
const BUILD_MAX: usize = 64 << 10;

/// Names of programs that take lines as a POSIX shell does.
const SHELLS: [&str; 6] = ["bash", "sh", "dash", "ash", "ksh", "zsh"];

fn is_shell(program: &Path) -> bool {
    let name = program.file_name();
    SHELLS.iter().any(|shell| name == Some(OsStr::new(shell)))
}

/// The words of the program to be executed, the first of which is its path; `invocation` is the
/// builder's.
///
/// # Errors
/// When there is no such program, with what to do about it.
pub(super) fn words(
    run: &Run,
    invocation: &Invocation,
    around: &Around<'_>,
) -> Result<(PathBuf, Vec<OsString>), String> {
    let builder = Path::new(OsStr::from_bytes(invocation.program.as_bytes()));
    match run {
        Run::Program(words) => {
            let program = find(&words[0], invocation, around)?;
            Ok((program, words.clone()))
        }
        Run::Line(line) => {
            let shell = shell(builder, around)?;
            let words = vec![name(&shell), "-c".into(), line.clone()];
            Ok((shell, words))
        }
        Run::Shell => {
            let shell = shell(builder, around)?;
            let name = name(&shell);
            // What the machine has for people to begin with is not the builder's.
            let plain: &[&str] = match name.to_str() {
                Some("bash") => &["--norc", "--noprofile"],
                _ => &[],
            };
            let words = std::iter::once(name).chain(plain.iter().map(OsString::from));
            Ok((shell, words.collect()))
        }
    }
}

fn name(program: &Path) -> OsString {
    program.file_name().unwrap_or_default().to_owned()
}

/// The builder if it is a shell, else the person's own or, in a sandbox, the one there.
fn shell(builder: &Path, around: &Around<'_>) -> Result<PathBuf, String> {
    if is_shell(builder) && around.has(builder) {
        return Ok(builder.to_owned());
    }
    let usual = PathBuf::from("/bin/sh");
    let own =
        (around.own_shell.clone()).filter(|own| around.sandbox.is_none() && own.is_absolute());
    let mut there = own.into_iter().chain([usual]);
    there.find(|shell| around.has(shell)).ok_or_else(|| {
        let builder = builder.display();
        match around.sandbox {
            Some(_) => format!(
                "its builder '{builder}' is no shell, and there is no '/bin/sh' in the sandbox; name a program that \
                 is there ('-- /PATH/TO/PROGRAM'), show a shell with the setting 'sandbox-paths', or give '--option \
                 sandbox false'"
            ),
            None => format!(
                "its builder '{builder}' is no shell, and there is no '/bin/sh'; name a program ('-- \
                 /PATH/TO/PROGRAM'), or set SHELL"
            ),
        }
    })
}

/// A program as a shell would find it, with the builder's `PATH`.
fn find(program: &OsStr, invocation: &Invocation, around: &Around<'_>) -> Result<PathBuf, String> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let mut variables = invocation.env.iter().map(|pair| pair.as_bytes());
    let path = variables.find_map(|pair| pair.strip_prefix(b"PATH="));
    let path = OsStr::from_bytes(path.unwrap_or_default());
    let mut places = std::env::split_paths(path).map(|dir| dir.join(program));
    places.find(|place| around.has(place)).ok_or_else(|| {
        format!(
            "there is no program '{}' in the builder's PATH, which is '{}'; give its full path, or '--command' with a \
             line for a shell",
            program.display(),
            path.display()
        )
    })
}

impl Around<'_> {
    /// Whether there is something at a path where the builder runs.
    fn has(&self, path: &Path) -> bool {
        let is_there = |place: &Path| place.symlink_metadata().is_ok();
        if path.starts_with(&self.layout.store_dir) {
            return is_there(&self.layout.real_path(&path.to_string_lossy()));
        }
        match self.sandbox {
            Some(sandbox) => sandbox.shown_at(path).is_some_and(|place| is_there(&place)),
            None => is_there(path),
        }
    }
}

/// The command line of a builder as the value of [`BUILD`], for `eval`; none if it is too long for
/// a variable.
pub(super) fn command_line(invocation: &Invocation) -> Option<CString> {
    let mut line = format!("{BUILD}=(unset {BUILD}; exec ").into_bytes();
    quote(invocation.program.as_bytes(), &mut line);
    for arg in invocation.args.iter().skip(1) {
        line.push(b' ');
        quote(arg.as_bytes(), &mut line);
    }
    line.push(b')');
    let line = (line.len() <= BUILD_MAX).then_some(line)?;
    CString::new(line).ok()
}

/// Words for the kernel.
///
/// # Errors
/// When one has a NUL in it.
pub(super) fn c_strings(words: Vec<OsString>) -> Result<Vec<CString>, String> {
    let each = words.into_iter().map(|word| {
        CString::new(word.into_vec()).map_err(|_| "a NUL can't be in an argument".to_owned())
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::environment::Rewrites;

    fn builder(program: &str, env: &[&str]) -> Invocation {
        let c = |text: &str| CString::new(text).unwrap();
        Invocation {
            program: c(program),
            args: vec![c("sh"), c("-c"), c("echo 'it' > $out")],
            env: env.iter().map(|pair| c(pair)).collect(),
            files: Vec::new(),
            rewrites: Rewrites::default(),
        }
    }

    fn layout() -> Layout {
        Layout {
            store_dir: "/nix/store".to_owned(),
            real_store_dir: "/there/is/none".into(),
            state_dir: "/s".into(),
            log_dir: "/l".into(),
        }
    }

    fn chosen(run: &Run, builder: &Invocation, own: Option<&str>) -> Result<String, String> {
        let layout = layout();
        let around = Around {
            layout: &layout,
            sandbox: None,
            own_shell: own.map(PathBuf::from),
        };
        let (program, words) = words(run, builder, &around)?;
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        Ok(format!("{} {}", program.display(), words.join(" ")))
    }

    #[test]
    fn the_builder_is_the_shell_if_it_is_one() {
        let sh = builder("/bin/sh", &[]);
        let shell = |builder, own| chosen(&Run::Shell, builder, own);
        assert_eq!(shell(&sh, Some("/bin/cat")), Ok("/bin/sh sh".to_owned()));
        let line = Run::Line("echo $out".into());
        assert_eq!(
            chosen(&line, &sh, None),
            Ok("/bin/sh sh -c echo $out".to_owned())
        );
        let other = builder("/bin/cat", &[]);
        assert_eq!(
            shell(&other, Some("/bin/cat")),
            Ok("/bin/cat cat".to_owned())
        );
        assert_eq!(shell(&other, Some("cat")), Ok("/bin/sh sh".to_owned()));
        let gone = builder("/nix/store/x/bin/bash", &[]);
        assert_eq!(shell(&gone, None), Ok("/bin/sh sh".to_owned()));
    }

    #[test]
    fn programs_are_found_in_the_builders_path() {
        let run = |program: &str| Run::Program(vec![program.into(), "-x".into()]);
        let with = builder("/bin/sh", &["A=b", "PATH=/no/such:/bin"]);
        assert_eq!(
            chosen(&run("ls"), &with, None),
            Ok("/bin/ls ls -x".to_owned())
        );
        assert_eq!(
            chosen(&run("./a"), &with, None),
            Ok("./a ./a -x".to_owned())
        );
        let without = builder("/bin/sh", &["PATH=/path-not-set"]);
        let problem = chosen(&run("ls"), &without, None).unwrap_err();
        assert!(
            problem.contains("'ls'") && problem.contains("'/path-not-set'"),
            "{problem}"
        );
    }

    #[test]
    fn the_command_line_of_a_builder_is_for_eval() {
        let line = command_line(&builder("/bin/sh", &[])).unwrap();
        assert_eq!(
            line.to_str(),
            Ok(
                r"WINDROW_BUILD=(unset WINDROW_BUILD; exec '/bin/sh' '-c' 'echo '\''it'\'' > $out')"
            )
        );
        let mut long = builder("/bin/sh", &[]);
        long.args.push(CString::new(vec![b'x'; BUILD_MAX]).unwrap());
        assert_eq!(command_line(&long), None);
    }
}
