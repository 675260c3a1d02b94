//! `windrow completions`: scripts by which shells complete command lines, made from the definitions
//! of the command line.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, ValueEnum};

use super::install::{self, Install, NewFile};
use super::{Cli, print_lines};
use crate::conf::user_dirs;
use crate::error::{Error, Result};
use crate::terminal::complain;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell [default: that of the variable SHELL; all of them with --prefix]
    shell: Option<Shell>,

    #[command(flatten)]
    install: Install,
}

/// A shell that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The shell of this user.
    fn of_user() -> Result<Self> {
        let shell = std::env::var_os("SHELL").unwrap_or_default();
        let name = Path::new(&shell).file_name().unwrap_or_default();
        let known = Self::from_str(&name.to_string_lossy(), false);
        known.map_err(|_| Error::BadArgument {
            what: format!("SHELL={}", shell.to_string_lossy()),
            reason: "name the shell: bash, zsh or fish".to_owned(),
        })
    }

    /// Its script.
    fn script(self) -> String {
        let shell = match self {
            Self::Bash => clap_complete::Shell::Bash,
            Self::Zsh => clap_complete::Shell::Zsh,
            Self::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        let mut command = Cli::command();
        clap_complete::generate(shell, &mut command, super::NAME, &mut script);
        String::from_utf8(script).expect("the command line's definitions are text")
    }

    /// Where it looks for the script.
    fn path(self, install: &Install) -> Result<PathBuf> {
        let own = install.prefix.is_none();
        Ok(match self {
            Self::Bash => {
                let dir = match bash_dir() {
                    Some(dir) if own => dir,
                    _ => install.share()?.join("bash-completion"),
                };
                dir.join("completions/windrow")
            }
            Self::Zsh => install.share()?.join("zsh/site-functions/_windrow"),
            Self::Fish if own => {
                let config = user_dirs::config().ok_or(Error::NoUserDirs)?;
                config.join("fish/completions/windrow.fish")
            }
            Self::Fish => install
                .share()?
                .join("fish/vendor_completions.d/windrow.fish"),
        })
    }

    fn file(self, install: &Install) -> Result<NewFile> {
        Ok(NewFile {
            path: self.path(install)?,
            contents: self.script().into_bytes(),
        })
    }
}

/// The user's directory of bash-completion if a variable says so; it may name several.
fn bash_dir() -> Option<PathBuf> {
    let dirs = std::env::var_os("BASH_COMPLETION_USER_DIR")?;
    let first = std::env::split_paths(&dirs).next();
    first.filter(|dir| dir.is_absolute())
}

pub(super) fn run(args: &CompletionsArgs) -> Result<()> {
    if args.shell.is_none() && args.install.prefix.is_some() {
        let shells = Shell::value_variants().iter();
        let files: Result<Vec<NewFile>> = shells.map(|shell| shell.file(&args.install)).collect();
        return install::write(&files?);
    }
    let shell = args.shell.map_or_else(Shell::of_user, Ok)?;
    if !args.install.is_asked_for() {
        return print_lines(shell.script().lines());
    }
    let file = shell.file(&args.install)?;
    let dir = file.path.parent().map(Path::to_path_buf);
    install::write(&[file])?;
    // It has no directory of the user's that it looks into by itself.
    if let (Shell::Zsh, true, Some(dir)) = (shell, args.install.install, dir) {
        complain(&format!(
            "zsh finds it once ~/.zshrc has this line before compinit: fpath=('{}' $fpath)",
            dir.display()
        ));
    }
    Ok(())
}
