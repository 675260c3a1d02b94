//! The command line: what can be asked, and in which words. Each command has a file of its own.

mod add;
mod build;
mod completions;
mod copy;
mod exit_status;
mod failed_paths;
mod gc;
mod graph;
mod history;
mod import;
mod install;
mod log;
mod man;
mod plan;
mod push;
mod reference;
mod report;
mod serve_cache;
mod shell;
mod show;
mod simulate;
mod status;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nix::sys::stat::Mode;
use windrow_sys::{interrupt, waiting};

pub use reference::reference;

use crate::error::{Result, print_failed};
use crate::installable::{Word, usual_store};
use crate::progress::{Hints, LogFormat, Style};
use crate::session::{Session, Usual};
use crate::terminal::{
    Out, complain, stderr_is_terminal, take_over_signals, tell_error, tell_errors_as_json,
    usage_error,
};

/// The program's name.
const NAME: &str = "windrow";

/// Turns Nix derivations into valid store paths.
#[derive(Debug, Parser)]
#[command(name = NAME, version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build derivations, store paths or a graph; print the output paths
    Build(build::BuildArgs),
    /// Copy store paths to another store or from it: binary caches, stores on this machine
    Copy(copy::CopyArgs),
    /// Push what was built to the caches of the setting upload-caches, or list what waits for that
    Push(push::PushArgs),
    /// Print what would be built, in order, without building it
    Plan(plan::PlanArgs),
    /// Write the derivations of a JSON graph, or of Nix's JSON, to the store; print their paths
    Add(add::AddArgs),
    /// Write a JSON graph of what build.ninja or compile_commands.json says is to be built
    Import(import::ImportArgs),
    /// Describe a task graph, or convert it to another format
    Graph(graph::GraphArgs),
    /// Print derivations as Nix's JSON
    Show(show::ShowArgs),
    /// Run a task graph in simulated time, with one policy or several
    Simulate(simulate::SimulateArgs),
    /// Write a report of traces and results of simulations: one HTML file, or a picture
    Report(report::ReportArgs),
    /// List outputs that are known to fail (setting build-cache-failure), or forget them
    FailedPaths(failed_paths::FailedPathsArgs),
    /// Delete store paths that no root keeps: all, or those not used for longest
    Gc(gc::GcArgs),
    /// Print the build log of a derivation or of an output, or follow that of a running build
    Log(log::LogArgs),
    /// Open a shell where a derivation is built: the builder's environment, in a build directory
    Shell(shell::ShellArgs),
    /// List what is being built in this store now, by any process: phase, time, log, locks
    Status(status::StatusArgs),
    /// Print what builds took in this store: time, CPU time, memory
    History(history::HistoryArgs),
    /// Serve the store as a binary cache over HTTP, for other machines to fetch from
    ServeCache(serve_cache::ServeCacheArgs),
    /// Print or install what a shell needs to complete command lines
    Completions(completions::CompletionsArgs),
    /// Print or install the manual page of a command
    Man(man::ManArgs),
    /// Nix's store operations, with its options and output: see docs/NIX_STORE.md
    #[command(disable_help_flag = true, override_help = crate::nix_store::HELP)]
    NixStore {
        /// An operation, its options and arguments; --help lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Options of every command.
#[derive(Debug, Args)]
struct CommonArgs {
    /// Use the store in DIR (it holds nix/store), or "own": one below your data directory
    #[arg(long, value_name = "DIR")]
    store: Option<String>,

    /// Set a setting of nix.conf
    #[arg(long = "option", num_args = 2, value_names = ["NAME", "VALUE"], action = clap::ArgAction::Append)]
    options: Vec<String>,

    /// Increase verbosity; may be repeated
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Decrease verbosity; may be repeated
    #[arg(short, long, action = clap::ArgAction::Count)]
    quiet: u8,

    /// Format of progress reports [default: bar on a terminal, else raw]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// Options of commands that build.
#[derive(Debug, Args)]
struct BuildOptions {
    /// Run at most N builders at a time [default: one per CPU, or setting max-jobs]
    #[arg(short = 'j', long, visible_alias = "max-jobs", value_name = "N")]
    jobs: Option<String>,

    /// Let each builder use N cores, by NIX_BUILD_CORES (0: all)
    #[arg(long, value_name = "N")]
    cores: Option<String>,

    /// Continue with builds that do not depend on a failed one
    #[arg(short = 'k', long)]
    keep_going: bool,

    /// Build what a substituter offers but fails to deliver
    #[arg(long)]
    fallback: bool,

    /// Keep the build directories of failed builds
    #[arg(short = 'K', long)]
    keep_failed: bool,

    /// Kill builders silent for SECONDS (0: never)
    #[arg(long, value_name = "SECONDS")]
    max_silent_time: Option<String>,

    /// Kill builders running for SECONDS (0: never)
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<String>,
}

impl BuildOptions {
    /// The settings that they stand for.
    fn settings(&self) -> Vec<(&str, &str)> {
        let flag = |given: bool| given.then_some("true");
        let all = [
            ("max-jobs", self.jobs.as_deref()),
            ("cores", self.cores.as_deref()),
            ("keep-going", flag(self.keep_going)),
            ("fallback", flag(self.fallback)),
            ("keep-failed", flag(self.keep_failed)),
            ("max-silent-time", self.max_silent_time.as_deref()),
            ("timeout", self.timeout.as_deref()),
        ];
        let given = all.into_iter();
        given
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

impl CommonArgs {
    /// The settings of the command line.
    fn pairs(&self) -> Vec<(String, String)> {
        let pairs = self.options.chunks_exact(2);
        let pairs = pairs.map(|pair| (pair[0].clone(), pair[1].clone()));
        pairs.collect()
    }

    /// How it is reported what goes on.
    fn style(&self, build_logs: bool) -> Style {
        let format = self.log_format.unwrap_or(match stderr_is_terminal() {
            true => LogFormat::Bar,
            false => LogFormat::Raw,
        });
        Style {
            format,
            verbosity: i16::from(self.verbose) - i16::from(self.quiet),
            build_logs: build_logs || format == LogFormat::BarWithLogs,
            names: true,
            trace: false,
            copying: false,
            hints: Hints::new(self.store.as_deref(), &self.pairs()),
        }
    }

    /// Settings and store of a command that names nothing of a store.
    fn session(&self) -> Result<Session> {
        self.session_for(&[], &[])
    }

    /// The same of a command with these settings of its own and arguments.
    fn session_for(&self, own: &[(&str, &str)], what: &[Word]) -> Result<Session> {
        self.session_with(own, |machine| usual_store(what, machine))
    }

    fn session_with(
        &self,
        own: &[(&str, &str)],
        usual: impl FnOnce(&Path) -> Usual,
    ) -> Result<Session> {
        let mut options = self.pairs();
        let own = own.iter();
        options.extend(own.map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let session = Session::with_usual(&options, self.store.as_deref(), usual)?;
        if self.quiet == 0 {
            waiting::tell_by(complain);
            for note in &session.notes {
                complain(&format!("note: {note}"));
            }
            for warning in &session.warnings {
                complain(&format!("warning: {warning}"));
            }
        }
        Ok(session)
    }
}

/// Writes lines to standard output. A closed pipe is no error.
fn print_lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> Result<()> {
    let mut out = Out::new();
    let mut lines = lines.into_iter();
    let written = lines.try_for_each(|line| writeln!(out, "{}", line.as_ref()));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            // What is left in the buffer would be tried again when it is dropped.
            std::mem::forget(out);
            Ok(())
        }
        other => other.map_err(print_failed),
    }
}

/// Runs the program with these arguments; the exit status is documented in docs/COMMANDS.md.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    windrow_sys::limits::raise_descriptors();
    windrow_sys::limits::fail_beyond_file_size();
    windrow_sys::limits::share_heap();
    interrupt::expect_children();
    let status = run(args.into_iter().collect());
    crate::terminal::flush();
    // Without it nothing would be wrong, but somebody could still see it.
    windrow_sandbox::process::guard::dismiss();
    status
}

fn run(args: Vec<OsString>) -> ExitCode {
    // Its command line has rules of its own.
    let is_nix_store = |arg: Option<&OsString>| {
        arg.is_some_and(|arg| std::path::Path::new(arg).ends_with(crate::nix_store::NAME))
    };
    if is_nix_store(args.first()) {
        return crate::nix_store::main(args.into_iter().skip(1));
    }
    if args.get(1).is_some_and(|arg| arg == crate::nix_store::NAME) {
        return crate::nix_store::main(args.into_iter().skip(2));
    }
    // What its operations are its own help tells.
    if args.get(1).is_some_and(|arg| arg == "help")
        && args.get(2).is_some_and(|arg| arg == crate::nix_store::NAME)
    {
        return crate::nix_store::main([OsString::from("--help")]);
    }
    if let Some(status) = crate::builtin_main() {
        return status;
    }
    // What goes into a store must not depend on the user's umask.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                usage_error(&error);
                return ExitCode::FAILURE;
            }
            return match error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tell_error(&print_failed(error));
                    ExitCode::FAILURE
                }
            };
        }
    };
    let format = match &cli.command {
        Command::Build(args) => args.common.log_format,
        Command::Copy(args) => args.common.log_format,
        Command::Push(args) => args.common.log_format,
        Command::Shell(args) => args.common.log_format,
        _ => None,
    };
    if format == Some(LogFormat::InternalJson) {
        tell_errors_as_json();
    }
    let result = execute(cli.command);
    // A status that is known by now is not changed by a signal.
    interrupt::conclude();
    match result {
        Ok(status) => status,
        Err(error) => {
            let error = error.or_interrupted();
            tell_error(&error);
            ExitCode::from(error.exit_status())
        }
    }
}

fn execute(command: Command) -> Result<ExitCode> {
    // What has rules of its own for signals, or becomes another program.
    match command {
        Command::NixStore { args } => return Ok(crate::nix_store::main(args)),
        Command::Completions(args) => return completions::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Man(args) => return man::run(&args).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    // From here on an interruption is an orderly end.
    take_over_signals()?;
    match command {
        Command::Build(args) => build::run(&args),
        Command::Copy(args) => copy::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Shell(args) => return shell::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Add(args) => add::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Report(args) => report::run(&args),
        Command::FailedPaths(args) => failed_paths::run(&args),
        Command::Gc(args) => gc::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Status(args) => status::run(&args),
        Command::History(args) => history::run(&args),
        Command::ServeCache(args) => serve_cache::run(&args),
        Command::Completions(_) | Command::Man(_) | Command::NixStore { .. } => Ok(()),
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nix_spellings_are_understood() {
        let args = "windrow build -j2 -k -K --option cores 3 --option max-jobs auto a.json";
        let cli = Cli::try_parse_from(args.split(' ')).unwrap();
        let Command::Build(build) = cli.command else {
            panic!("a build")
        };
        assert_eq!(build.common.options, ["cores", "3", "max-jobs", "auto"]);
        assert!(build.options.keep_going && build.options.keep_failed);
    }
}
