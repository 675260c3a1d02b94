//! A pager between standard output and a terminal, as Nix starts one for queries and logs.

use std::process::{Child, Command, Stdio};

use nix::unistd::dup2_stdout;
use windrow_sys::limits::restore_in;

/// A pager that shows what is written to standard output. Dropped, it is waited for.
pub(super) struct Pager(Child);

impl Pager {
    /// Starts `$NIX_PAGER`, `$PAGER`, or the first of the usual programs that there is. None if
    /// standard output is no terminal, or the variable is empty or `cat`.
    pub(super) fn start() -> Option<Self> {
        if !crate::terminal::stdout_is_terminal() {
            return None;
        }
        let chosen = std::env::var_os("NIX_PAGER").or_else(|| std::env::var_os("PAGER"));
        let commands: Vec<Command> = match chosen {
            Some(line) if line.is_empty() || line == "cat" => return None,
            Some(line) => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(line);
                vec![command]
            }
            None => ["pager", "less", "more"]
                .into_iter()
                .map(Command::new)
                .collect(),
        };
        for mut command in commands {
            if std::env::var_os("LESS").is_none() {
                command.env("LESS", "FRSXMK");
            }
            restore_in(command.stdin(Stdio::piped()));
            let Ok(mut child) = command.spawn() else {
                continue;
            };
            let pipe = child.stdin.take()?;
            dup2_stdout(&pipe).ok()?;
            return Some(Self(child));
        }
        None
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        // Nothing else holds the pipe, so the pager sees its end.
        if let Ok(nothing) = std::fs::File::options().write(true).open("/dev/null") {
            let _ = dup2_stdout(&nothing);
            let _ = self.0.wait();
        }
    }
}
