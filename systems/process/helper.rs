//! Programs that work for the engine rather than for a derivation: substituters and the build hook.
//! How they are started and what they find in their environment; what is said to them is the
//! caller's matter.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag};

use windrow_sandbox::process::launch::{self, Request, SpawnError, Spawned, Step, Streams};
use windrow_store::layout::Layout;

use crate::process::too_long;

/// What every helper finds in its environment, `NAME=VALUE` each.
pub type HelperEnv = Arc<[CString]>;

/// The engine's own environment, the places of its store, and its settings as Nix 1.8 packs them
/// for its helpers (`_NIX_OPTIONS`, Nix 1.8's `setSubstituterEnv`).
pub fn helper_env<'a>(
    outer: impl Iterator<Item = (OsString, OsString)>,
    layout: &Layout,
    settings: impl Iterator<Item = (&'a str, String)>,
) -> HelperEnv {
    let mut env: BTreeMap<OsString, OsString> = outer.collect();
    let mut set = |name: &str, value: OsString| env.insert(name.into(), value);
    set("NIX_STORE_DIR", layout.store_dir.clone().into());
    set("NIX_STATE_DIR", layout.state_dir.clone().into());
    set("NIX_LOG_DIR", layout.log_dir.clone().into());
    let mut packed = String::new();
    for (name, value) in settings {
        let value = value.replace('\\', "\\\\").replace('\n', "\\n");
        packed.push_str(&format!("{name}={value}\n"));
    }
    set("_NIX_OPTIONS", packed.into());
    env.into_iter()
        .filter_map(|(name, value)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend_from_slice(value.as_bytes());
            CString::new(pair).ok()
        })
        .collect()
}

/// Which descriptors of a helper the engine holds the other end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipes {
    /// Standard input, output and error: a substituter that is asked.
    Query,
    /// Standard output and error: a substituter that fetches.
    Fetch,
    /// Standard input, standard output together with error, and descriptor 4 for the builder's log:
    /// the build hook.
    Hook,
}

/// A helper about to be started: everything but its process.
#[derive(Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<CString>,
    env: HelperEnv,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    builder_log: Option<OwnedFd>,
}

/// The engine's ends of a helper's pipes. None of them blocks.
#[derive(Debug)]
pub struct Ends {
    /// Where it reads, if anything.
    pub stdin: Option<OwnedFd>,
    /// What it writes to its standard output; a hook, to its standard error too.
    pub stdout: OwnedFd,
    /// What it writes to its standard error, or a hook to the builder's log.
    pub log: OwnedFd,
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// Makes reads and writes of our end of a pipe return at once; the other end is an ordinary pipe.
fn non_blocking(fd: &OwnedFd) -> io::Result<()> {
    nix::fcntl::fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Makes the pipes of a helper.
///
/// # Errors
/// When there are no descriptors left, or an argument has a NUL byte.
///
/// Nix 1.8: `HookInstance::HookInstance`, `HookInstance::~HookInstance`.
pub fn prepare(
    program: &Path,
    args: &[&str],
    env: &HelperEnv,
    pipes: Pipes,
) -> io::Result<(Launch, Ends)> {
    let name = program.file_name().unwrap_or(program.as_os_str());
    // A hook is called by its whole path, a substituter by its name, as Nix 1.8 does.
    let zeroth = match pipes {
        Pipes::Hook => program.as_os_str(),
        Pipes::Query | Pipes::Fetch => name,
    };
    let mut argv = vec![CString::new(zeroth.as_bytes())?];
    for arg in args {
        argv.push(CString::new(*arg)?);
    }
    let (their_stdin, our_stdin) = match pipes {
        Pipes::Query | Pipes::Hook => {
            let (theirs, ours) = pipe()?;
            non_blocking(&ours)?;
            (theirs, Some(ours))
        }
        Pipes::Fetch => (File::open("/dev/null")?.into(), None),
    };
    let (our_stdout, their_stdout) = pipe()?;
    let (our_log, their_log) = pipe()?;
    non_blocking(&our_stdout)?;
    non_blocking(&our_log)?;
    let (stderr, builder_log) = match pipes {
        Pipes::Hook => (None, Some(their_log)),
        Pipes::Query | Pipes::Fetch => (Some(their_log), None),
    };
    let launch = Launch {
        program: program.to_owned(),
        args: argv,
        env: Arc::clone(env),
        stdin: their_stdin,
        stdout: their_stdout,
        stderr,
        builder_log,
    };
    let ends = Ends {
        stdin: our_stdin,
        stdout: our_stdout,
        log: our_log,
    };
    Ok((launch, ends))
}

impl Launch {
    /// Makes the process; waits until it runs its program.
    ///
    /// # Errors
    /// When it can't be made or the program can't be executed.
    pub fn run(self) -> Result<Spawned, SpawnError> {
        let program = CString::new(self.program.as_os_str().as_bytes()).map_err(|error| {
            let source = error.into();
            SpawnError {
                step: Step::Execute,
                what: Step::Execute.describe().to_owned(),
                action: None,
                source,
            }
        })?;
        let request = Request {
            program: Some(&program),
            args: &self.args,
            env: &self.env,
            cwd: c"/",
            personality: 0,
            namespaces: 0,
            actions: &[],
        };
        let streams = Streams {
            stdin: self.stdin.as_fd(),
            output: self.stdout.as_fd(),
            error: self.stderr.as_ref().map(|fd| fd.as_fd()),
            builder_log: self.builder_log.as_ref().map(|fd| fd.as_fd()),
            cgroup: None,
        };
        launch::spawn(&request, &streams).map_err(|mut error| {
            if let Some(largest) = too_long::largest(&error.source, &self.args, &self.env) {
                error.what = format!("execute the program, of whose strings {largest}");
            }
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn layout() -> Layout {
        Layout {
            store_dir: "/s".into(),
            real_store_dir: "/s".into(),
            state_dir: "/v".into(),
            log_dir: "/l".into(),
        }
    }

    #[test]
    fn settings_are_packed_as_the_old_helpers_unpack_them() {
        let outer = [
            ("NIX_STORE_DIR".into(), "/elsewhere".into()),
            ("A".into(), "b".into()),
        ];
        let settings = [("cores", "2".to_owned()), ("x", "a\\b\nc".to_owned())];
        let env = helper_env(outer.into_iter(), &layout(), settings.into_iter());
        let env: Vec<&str> = env.iter().map(|pair| pair.to_str().unwrap()).collect();
        assert_eq!(
            env,
            [
                "A=b",
                "NIX_LOG_DIR=/l",
                "NIX_STATE_DIR=/v",
                "NIX_STORE_DIR=/s",
                "_NIX_OPTIONS=cores=2\nx=a\\\\b\\nc\n"
            ]
        );
    }

    #[test]
    fn a_hook_has_its_descriptors_and_no_other() {
        let env = helper_env(
            [("PATH".into(), "/usr/bin:/bin".into())].into_iter(),
            &layout(),
            std::iter::empty(),
        );
        let script = "echo out; echo err >&2; echo log >&4; ls /proc/self/fd; pwd; read x; echo $x";
        let (launch, ends) =
            prepare(Path::new("/bin/sh"), &["-c", script], &env, Pipes::Hook).unwrap();
        let spawned = launch.run().unwrap();
        nix::unistd::write(ends.stdin.as_ref().unwrap(), b"told\n").unwrap();
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(spawned.pid), None).unwrap();
        let mut said = String::new();
        File::from(ends.stdout).read_to_string(&mut said).unwrap();
        let mut log = String::new();
        File::from(ends.log).read_to_string(&mut log).unwrap();
        // 3 is the directory that `ls` lists.
        assert_eq!(said, "out\nerr\n0\n1\n2\n3\n4\n/\ntold\n");
        assert_eq!(log, "log\n");
    }
}
