//! Runs a program with a time limit and asserts on what came of it.
//! A program that hangs is killed and fails its test; it never hangs the suite.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::LIMIT;

/// What Nix 2.8 ends with when, looking for what is in use, it meets a process that has a file or
/// directory open which lies too deep to be named. Tests beside this one have such processes, and
/// nothing was collected then.
pub(crate) const TOO_DEEP: &str = "error: reading symlink: File name too long";
/// How often a Nix that ended so is run again.
const TRIES: u32 = 200;

/// A program about to run in a world.
pub(crate) struct Cmd {
    command: Command,
    shown: String,
    stdin: Option<Vec<u8>>,
}

impl Cmd {
    /// The program `program` with nothing of this process's environment.
    pub(crate) fn new(program: impl AsRef<OsStr>, cwd: &Path) -> Self {
        let mut command = Command::new(&program);
        command.env_clear().current_dir(cwd);
        let name = Path::new(program.as_ref())
            .file_name()
            .unwrap_or(program.as_ref());
        Self {
            command,
            shown: name.to_string_lossy().into_owned(),
            stdin: None,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown
            .push_str(&format!(" {}", arg.as_ref().to_string_lossy()));
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Cmd::arg)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// The same, started by `program args…` that takes a command as its other arguments.
    pub(crate) fn through(self, program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(args)
            .arg(self.command.get_program())
            .args(self.command.get_args());
        self.surround(&mut command);
        Self {
            command,
            shown: format!("{program} … {}", self.shown),
            stdin: self.stdin,
        }
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        self.command.stdin(if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {}: {error}", self.shown),
        };
        if let (Some(text), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            std::thread::spawn(move || pipe.write_all(&text));
        }
        let stdout = collect(child.stdout.take().expect("a pipe"));
        let stderr = collect(child.stderr.take().expect("a pipe"));
        Running {
            child,
            shown: self.shown,
            stdout,
            stderr,
            begun: Instant::now(),
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(mut self) -> Ran {
        for _ in 1..TRIES {
            let again = self.is_nix().then(|| self.again());
            let ran = self.start().wait();
            match again {
                Some(again) if ran.stderr.contains(TOO_DEEP) => self = again,
                _ => return ran,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.start().wait()
    }

    /// Whether a program of Nix is run, by itself or as somebody else.
    fn is_nix(&self) -> bool {
        let program = self.shown.rsplit("… ").next();
        program.is_some_and(|program| program.starts_with("nix"))
    }

    /// The same once more.
    fn again(&self) -> Self {
        let mut command = Command::new(self.command.get_program());
        command.args(self.command.get_args());
        self.surround(&mut command);
        Self {
            command,
            shown: self.shown.clone(),
            stdin: self.stdin.clone(),
        }
    }

    /// Gives another command the environment and directory of this one.
    fn surround(&self, command: &mut Command) {
        let envs = self.command.get_envs();
        command
            .env_clear()
            .envs(envs.filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
    }

    /// Runs it and expects success.
    #[track_caller]
    pub(crate) fn ok(self) -> Ran {
        self.run().exits(0)
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    shown: String,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    begun: Instant,
}

impl Running {
    /// Sends it a signal, by the name that `kill` knows.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("/bin/sh")
                .args(["-c", &line])
                .status()
                .expect("sh")
                .success(),
            "{line}"
        );
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, and kills it when it takes too long.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ran {
        let mut stuck = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child to wait for") {
                break status;
            }
            if self.begun.elapsed() > LIMIT {
                stuck = true;
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        // Somebody else may hold the pipes still; that is for the search for leftovers to find.
        let text = |pipe: &Receiver<Vec<u8>>| pipe.recv_timeout(Duration::from_secs(5)).ok();
        let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
        let pipes_left_open = stdout.is_none() || stderr.is_none();
        let ran = Ran {
            shown: self.shown,
            status,
            stdout: stdout.unwrap_or_default(),
            stderr: String::from_utf8_lossy(&stderr.unwrap_or_default()).into_owned(),
        };
        assert!(
            !stuck,
            "it took longer than {LIMIT:?} and was killed\n{ran}"
        );
        assert!(
            !pipes_left_open,
            "a process it left behind holds its standard output or error\n{ran}"
        );
        ran
    }
}

/// A program that has ended, and what it said.
pub(crate) struct Ran {
    shown: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = |text: &str| match text.char_indices().nth(6000) {
            Some((end, _)) => format!("{} [cut]", &text[..end]),
            None => text.to_owned(),
        };
        writeln!(f, "$ {}\n{}", self.shown, self.status)?;
        writeln!(
            f,
            "--- stdout\n{}",
            cut(&String::from_utf8_lossy(&self.stdout))
        )?;
        writeln!(f, "--- stderr\n{}", cut(&self.stderr))
    }
}

impl Ran {
    /// Expects an exit status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "the exit status should be {code}\n{self}"
        );
        self
    }

    /// Expects a text on standard error.
    #[track_caller]
    pub(crate) fn says(self, text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        assert!(
            self.stderr.contains(text),
            "standard error should hold '{text}'\n{self}"
        );
        self
    }

    /// Expects one of several texts on standard error.
    #[track_caller]
    pub(crate) fn says_one_of(self, texts: &[&str]) -> Self {
        let found = texts.iter().any(|text| self.stderr.contains(text));
        assert!(found, "standard error should hold one of {texts:?}\n{self}");
        self
    }

    /// Expects a text not to be on standard error.
    #[track_caller]
    pub(crate) fn never_says(self, text: &str) -> Self {
        assert!(
            !self.stderr.contains(text),
            "standard error should not hold '{text}'\n{self}"
        );
        self
    }

    /// Expects one message, a line that starts with `error:`, no panic, and nothing more than the
    /// closing line that says which targets failed.
    #[track_caller]
    pub(crate) fn one_error(self) -> Self {
        let errors = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error:") && !line.starts_with("error: build of '"))
            .count();
        assert_eq!(errors, 1, "there should be one error\n{self}");
        self.no_panic()
    }

    /// Expects no trace of a panic.
    #[track_caller]
    pub(crate) fn no_panic(self) -> Self {
        self.never_says("panicked")
            .never_says("RUST_BACKTRACE")
            .never_says("this is a bug")
    }

    /// Expects nothing on standard output.
    #[track_caller]
    pub(crate) fn prints_nothing(self) -> Self {
        assert!(
            self.stdout.is_empty(),
            "standard output should be empty\n{self}"
        );
        self
    }

    /// Standard output as text.
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The lines of standard output.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.out().lines().map(str::to_owned).collect()
    }

    /// The one line of standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        let lines = self.lines();
        assert_eq!(lines.len(), 1, "standard output should be one line\n{self}");
        lines.into_iter().next().expect("a line")
    }

    /// The one line of standard output as a path.
    #[track_caller]
    pub(crate) fn path(&self) -> PathBuf {
        self.line().into()
    }
}
