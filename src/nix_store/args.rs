//! The command line of nix-store as Nix reads it: one operation anywhere, `-qR` for `-q -R`,
//! settings as flags. Which flags an operation takes is its own matter; here they are put aside for
//! it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use lexopt::{Arg, Parser};
use windrow_components::settings::Settings;

use crate::error::{Error, Result};
use crate::standard_input;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Usage: nix-store OPERATION [OPTIONS] [ARGUMENTS]

Building
  --realise, -r PATH…          build derivations, make paths valid; prints output paths
      --dry-run, --check, --repair, --finish-running, --ignore-unknown, --add-root LINK, --indirect, --no-output
  --query-failed-paths         print the outputs that failed to build before
  --clear-failed-paths [PATH…] forget them (all with '*')

Looking
  --query, -q PATH…            one of --outputs, --requisites (-R), --references, --referrers,
                               --referrers-closure, --deriver (-d), --valid-derivers, --graph, --graphml, --tree,
                               --binding (-b) NAME, --hash, --size, --roots, --resolve;
      --use-output (-u), --include-outputs, --force-realise (-f)
  --read-log, -l PATH…         print build logs
  --print-env DRV              print a derivation's environment for a shell
  --check-validity PATH…       fail if one isn't valid; --print-invalid prints them instead
  --verify                     compare database and files; --check-contents, --repair
  --verify-path PATH…          compare contents with what was registered
  --repair-path PATH…          fetch or build again what was modified

Adding
  --add FILE…                  copy to the store
  --add-fixed ALGO FILE…       the same, as a fixed output; --recursive
  --print-fixed-path ALGO HASH NAME
  --dump PATH, --restore PATH  a Nix archive on standard output, or from standard input
  --export PATH…, --import     paths with what is registered of them

Housekeeping
  --gc                         delete what no root needs; --print-roots, --print-live, --print-dead,
                               --max-freed BYTES
  --delete PATH…               delete paths if nothing needs them; --ignore-liveness
  --optimise                   hard-link equal files
  --init, --dump-db, --load-db, --register-validity [--reregister] [--hash-given]
  --generate-binary-cache-key NAME SECRET-FILE PUBLIC-FILE

Options of all: -v, --quiet, --store DIR|URL, --option NAME VALUE, --NAME VALUE for any setting, -j N, -k, -K, -Q,
--fallback, --cores N, --timeout S, --max-silent-time S, --print-build-trace, --log-format FORMAT, --stdin.
docs/NIX_STORE.md tells the rest.
";

/// What nix-store is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Help,
    Version,
    Query,
    PrintEnv,
    ReadLog,
    Add,
    AddFixed,
    PrintFixedPath,
    Dump,
    Restore,
    Export,
    Import,
    Init,
    CheckValidity,
    RegisterValidity,
    DumpDb,
    LoadDb,
    Verify,
    VerifyPath,
    Realise,
    QueryFailedPaths,
    ClearFailedPaths,
    Optimise,
    RepairPath,
    Gc,
    Delete,
    GenerateBinaryCacheKey,
}

impl Operation {
    fn from_flag(flag: &str) -> Option<Self> {
        Some(match flag {
            "--help" => Self::Help,
            "--version" => Self::Version,
            "--query" | "-q" => Self::Query,
            "--print-env" => Self::PrintEnv,
            "--read-log" | "-l" => Self::ReadLog,
            "--add" | "-A" => Self::Add,
            "--add-fixed" => Self::AddFixed,
            "--print-fixed-path" => Self::PrintFixedPath,
            "--dump" => Self::Dump,
            "--restore" => Self::Restore,
            "--export" => Self::Export,
            "--import" => Self::Import,
            "--init" => Self::Init,
            "--check-validity" => Self::CheckValidity,
            "--register-validity" => Self::RegisterValidity,
            "--dump-db" => Self::DumpDb,
            "--load-db" => Self::LoadDb,
            "--verify" => Self::Verify,
            "--realise" | "--realize" | "-r" => Self::Realise,
            "--query-failed-paths" => Self::QueryFailedPaths,
            "--clear-failed-paths" => Self::ClearFailedPaths,
            "--optimise" | "--optimize" => Self::Optimise,
            "--repair-path" => Self::RepairPath,
            "--gc" => Self::Gc,
            "--delete" => Self::Delete,
            "--verify-path" => Self::VerifyPath,
            "--generate-binary-cache-key" => Self::GenerateBinaryCacheKey,
            _ => return None,
        })
    }
}

/// Verbosity; each level includes the ones above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Error,
    Warn,
    Notice,
    Info,
    Talkative,
    Chatty,
    Debug,
}

impl Level {
    const ALL: [Self; 7] = [
        Self::Error,
        Self::Warn,
        Self::Notice,
        Self::Info,
        Self::Talkative,
        Self::Chatty,
        Self::Debug,
    ];

    fn shifted(self, by: isize) -> Self {
        let at = (self as isize + by).clamp(0, Self::Debug as isize);
        Self::ALL[at.unsigned_abs()]
    }
}

/// A command line, taken apart.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) operation: Option<Operation>,
    /// Operation-specific flags, parsed by the operation.
    pub(super) flags: Vec<String>,
    pub(super) args: VecDeque<OsString>,
    /// Where among the arguments those stand that standard input gives (`--stdin`).
    stdin_at: Option<usize>,
    /// Settings by name, in order.
    pub(super) settings: Vec<(String, String)>,
    /// What is wrong with values of `--option`, which are warned of only (Nix 2: `MixCommonArgs`).
    pub(super) bad_options: Vec<String>,
    pub(super) store: Option<String>,
    pub(super) level: Level,
    pub(super) log_format: Option<String>,
    pub(super) add_root: Option<PathBuf>,
    pub(super) no_output: bool,
    pub(super) gc_warning: bool,
    pub(super) build_output: bool,
    pub(super) build_hook: bool,
}

/// What is said of the one operation of Nix that is missing.
const NO_SERVING: &str = "nix-store --serve is not supported: windrow serves a store to other machines only \
                          as a binary cache ('windrow serve-cache'); have them call Nix's own nix-store here";

/// Flags of operations that take a value.
const WITH_VALUE: [&str; 3] = ["--max-freed", "--max-links", "--max-atime"];

impl Command {
    /// Takes a command line apart.
    ///
    /// # Errors
    /// [`Error::Usage`] says what is wrong with it.
    pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut command = Self {
            operation: None,
            flags: Vec::new(),
            args: VecDeque::new(),
            stdin_at: None,
            settings: Vec::new(),
            bad_options: Vec::new(),
            store: None,
            level: Level::Info,
            log_format: None,
            add_root: None,
            no_output: false,
            gc_warning: true,
            build_output: true,
            build_hook: true,
        };
        let mut parser = Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(usage)? {
            let flag = match arg {
                Arg::Value(value) => {
                    command.args.push_back(value);
                    continue;
                }
                Arg::Short(letter) => format!("-{letter}"),
                Arg::Long(name) => format!("--{name}"),
            };
            command.flag(flag, &mut parser)?;
        }
        Ok(command)
    }

    fn flag(&mut self, flag: String, parser: &mut Parser) -> Result<()> {
        let mut text = || value_of(&flag, parser);
        let mut set = |name: &str, value: String| self.settings.push((name.to_owned(), value));
        match flag.as_str() {
            "--verbose" | "-v" => self.level = self.level.shifted(1),
            "--quiet" => self.level = self.level.shifted(-1),
            "--debug" => self.level = Level::Debug,
            // A terminal has nothing to give, and the flag is unknown there, as in Nix.
            "--stdin" if !std::io::stdin().is_terminal() => {
                self.stdin_at.get_or_insert(self.args.len());
            }
            "--serve" => return Err(Error::Unsupported(NO_SERVING.to_owned())),
            "--option" => {
                let (name, value) = (text()?, text()?);
                match Settings::default().set(&name, &value) {
                    Ok(_) => set(&name, value),
                    Err(error) => {
                        (self.bad_options).push(format!("{error}; the option is ignored"));
                    }
                }
            }
            "--log-format" | "--log-type" => self.log_format = Some(text()?),
            "--max-jobs" | "--jobs" | "-j" => set("max-jobs", text()?),
            "--cores" | "--max-silent-time" | "--timeout" => set(&flag[2..], text()?),
            "--keep-failed" | "-K" => set("keep-failed", "true".to_owned()),
            "--keep-going" | "-k" => set("keep-going", "true".to_owned()),
            "--fallback" => set("fallback", "true".to_owned()),
            "--print-build-trace" => set("print-build-trace", "true".to_owned()),
            "--no-build-hook" => self.build_hook = false,
            "--no-build-output" | "-Q" => self.build_output = false,
            "--no-gc-warning" => self.gc_warning = false,
            "--store" => self.store = Some(text()?),
            // Nothing is written without need.
            "--readonly-mode" | "--show-trace" | "--indirect" => {}
            "--add-root" => self.add_root = Some(text()?.into()),
            "--no-output" => self.no_output = true,
            other => {
                if let Some(operation) = Operation::from_flag(other) {
                    return self.operate(operation);
                }
                if let Some((name, value)) = as_setting(other) {
                    let value = value.map_or_else(text, |value| Ok(value.to_owned()))?;
                    set(name, value);
                } else if WITH_VALUE.contains(&other) {
                    let value = text()?;
                    self.flags.extend([flag, value]);
                } else {
                    self.flags.push(flag);
                }
            }
        }
        Ok(())
    }

    /// Reads the arguments that are on standard input, if they are to be read: words with blanks
    /// or lines' ends between them.
    ///
    /// # Errors
    /// When it can't be read or has no end.
    pub(super) fn read_stdin(&mut self) -> Result<()> {
        // These read something else from there.
        let taken = matches!(self.operation, Some(Operation::Import | Operation::Restore));
        let Some(at) = self.stdin_at.take().filter(|_| !taken) else {
            return Ok(());
        };
        let text = standard_input::read_list()?;
        let after = self.args.split_off(at);
        let words = text.split(u8::is_ascii_whitespace);
        let words = words.filter(|word| !word.is_empty());
        (self.args).extend(words.map(|word| OsString::from_vec(word.to_vec())));
        self.args.extend(after);
        Ok(())
    }

    fn operate(&mut self, operation: Operation) -> Result<()> {
        if self.operation.is_some_and(|earlier| earlier != operation) {
            return Err(Error::Usage(
                "only one operation may be specified".to_owned(),
            ));
        }
        self.operation = Some(operation);
        Ok(())
    }
}

/// The argument of a flag.
fn value_of(flag: &str, parser: &mut Parser) -> Result<String> {
    let value = parser
        .value()
        .map_err(|_| Error::Usage(format!("'{flag}' requires an argument")))?;
    value
        .into_string()
        .map_err(|_| Error::Usage(format!("the argument of '{flag}' is not UTF-8 text")))
}

fn usage(error: lexopt::Error) -> Error {
    Error::Usage(error.to_string())
}

/// The setting that a long flag stands for, with its value if the flag says that as well.
fn as_setting(flag: &str) -> Option<(&str, Option<&'static str>)> {
    let name = flag.strip_prefix("--")?;
    let settings = Settings::default();
    let is_switch = |name: &str| {
        settings
            .get(name)
            .is_some_and(|value| value == "true" || value == "false")
            || Settings::is_ignored_switch(name) == Some(true)
    };
    if is_switch(name) {
        return Some((name, Some("true")));
    }
    if let Some(name) = name.strip_prefix("no-")
        && is_switch(name)
    {
        return Some((name, Some("false")));
    }
    if name == "relaxed-sandbox" {
        return Some(("sandbox", Some("relaxed")));
    }
    let plain = name.strip_prefix("extra-").unwrap_or(name);
    let takes_value = settings.get(plain).is_some() || Settings::is_ignored_switch(name).is_some();
    takes_value.then_some((name, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command> {
        Command::parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn letters_may_stand_together() {
        let command = parse("-qR x -j3 -kK --use-output").unwrap();
        assert_eq!(command.operation, Some(Operation::Query));
        assert_eq!(command.flags, ["-R", "--use-output"]);
        assert_eq!(command.args, ["x"]);
        let set: Vec<String> = command
            .settings
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        assert_eq!(set, ["max-jobs=3", "keep-going=true", "keep-failed=true"]);
    }

    #[test]
    fn a_bad_value_of_an_option_changes_nothing() {
        let command = parse("-q --option cores 3 --option cores x --option bogus y").unwrap();
        let set: Vec<&str> = command.settings.iter().map(|(_, v)| v.as_str()).collect();
        assert_eq!(set, ["3", "y"]);
        let [warning] = &*command.bad_options else {
            panic!("{:?}", command.bad_options);
        };
        assert!(warning.starts_with("invalid value 'x' for setting 'cores'"));
    }

    #[test]
    fn settings_are_flags() {
        let command =
            parse("--keep-outputs --no-gc-keep-derivations --log-lines 5 --sandbox --init")
                .unwrap();
        let set: Vec<String> = command
            .settings
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        assert_eq!(
            set,
            [
                "keep-outputs=true",
                "gc-keep-derivations=false",
                "log-lines=5",
                "sandbox=true"
            ]
        );
        let command = parse("--no-pure-eval --extra-experimental-features x --init").unwrap();
        let set: Vec<&str> = command.settings.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(set, ["pure-eval", "extra-experimental-features"]);
    }

    #[test]
    fn an_argument_may_begin_with_a_dash() {
        let command = parse("--add-root -x --gc --max-freed=5 -").unwrap();
        assert_eq!(command.add_root, Some("-x".into()));
        assert_eq!(command.flags, ["--max-freed", "5"]);
        assert_eq!(command.args, ["-"]);
    }

    #[test]
    fn mistakes_are_said() {
        for (line, message) in [
            ("-q --add", "only one operation may be specified"),
            ("--gc --max-freed", "'--max-freed' requires an argument"),
            ("--option x", "'--option' requires an argument"),
            ("--gc=x", "unexpected argument for option '--gc': \"x\""),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), message);
        }
        assert_eq!(parse("-q -- -R").unwrap().args, ["-R"]);
        assert_eq!(parse("-vv --quiet -q").unwrap().level, Level::Talkative);
    }
}
