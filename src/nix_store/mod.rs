//! `windrow nix-store …`, and the program under the name `nix-store`: Nix's operations, options and
//! output. This file finds out what is asked for; each family of operations has a file of its own.

mod add;
mod args;
mod elsewhere;
mod gc;
mod key;
mod optimise;
mod pager;
mod paths;
mod query;
mod queryable;
mod realise;
mod register;
mod show;
mod transfer;
mod verify;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use nix::sys::stat::Mode;
use windrow_net::store_url::StoreUrl;
use windrow_store::local::LocalStore;
use windrow_sys::{interrupt, waiting};

use crate::error::{Error, Result, print_failed};
use crate::session::Session;
use crate::terminal::{Out, complain, take_over_signals};
pub(crate) use args::HELP;
use args::{Command, Level, Operation};

/// The name under which the whole program is nix-store.
pub(crate) const NAME: &str = "nix-store";

/// One call: what was asked for, and what it works on.
struct Call {
    command: Command,
    session: Session,
    /// The store that is looked at in place of the session's, if one was named that is not opened
    /// by its directory.
    other: Option<StoreUrl>,
    out: Out,
    /// The exit status if nothing goes wrong as a whole.
    status: u8,
}

/// Runs nix-store with these arguments, the program's name not among them.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    interrupt::expect_children();
    // What goes into a store must not depend on the user's umask.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let command = match Command::parse(args) {
        Ok(command) => command,
        Err(error) => return fail(&error),
    };
    match command.operation {
        Some(Operation::Help) => {
            return say_and_end(HELP);
        }
        Some(Operation::Version) => {
            return say_and_end(&format!("{NAME} (windrow) {}\n", env!("CARGO_PKG_VERSION")));
        }
        Some(_) => {}
        None => return fail(&Error::Usage("no operation specified".to_owned())),
    }
    let result = run(command);
    // A status that is known by now is not changed by a signal.
    interrupt::conclude();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => fail(&error.or_interrupted()),
    }
}

fn say_and_end(text: &str) -> ExitCode {
    let mut out = Out::new();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => fail(&print_failed(error)),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(error: &Error) -> ExitCode {
    complain(&format!("error: {error}"));
    if matches!(error, Error::Usage(_)) {
        complain(&format!("Try '{NAME} --help' for more information."));
    }
    ExitCode::from(error.exit_status())
}

fn run(mut command: Command) -> Result<u8> {
    if !only_reads(command.operation) {
        // From here on an interruption is an orderly end.
        take_over_signals()?;
    }
    if command.level >= Level::Info {
        waiting::tell_by(complain);
    }
    command.read_stdin()?;
    let named = command.store.as_deref();
    let (mut session, other) = Session::of_nix_store(&command.settings, named)?;
    session.build_hook = command.build_hook;
    // Who reads is known only before there is a pager. That is dropped last, when all is written.
    let out = Out::new();
    let pages = matches!(
        command.operation,
        Some(Operation::Query | Operation::ReadLog)
    );
    let _pager = if pages { pager::Pager::start() } else { None };
    let mut call = Call {
        command,
        session,
        other,
        out,
        status: 0,
    };
    let bad = std::mem::take(&mut call.command.bad_options);
    for warning in bad
        .into_iter()
        .chain(std::mem::take(&mut call.session.warnings))
    {
        call.say(Level::Warn, &format!("warning: {warning}"));
    }
    let result = dispatch(&mut call);
    // What was found out before something failed is printed, as Nix does.
    let flushed = call.out.flush().map_err(print_failed);
    match result.and(flushed) {
        // A closed pipe is no error.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            // What is left in the buffer would be tried again when it is dropped.
            std::mem::forget(call);
            Ok(0)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(call.status),
    }
}

/// Whether an operation holds nothing and is soon done, so that a signal may end it as it ends any
/// program. Those with a pager must leave signals to it.
fn only_reads(operation: Option<Operation>) -> bool {
    matches!(
        operation,
        None | Some(
            Operation::Query
                | Operation::ReadLog
                | Operation::PrintEnv
                | Operation::PrintFixedPath
                | Operation::CheckValidity
                | Operation::GenerateBinaryCacheKey
        )
    )
}

fn dispatch(call: &mut Call) -> Result<()> {
    let operation = call.command.operation.unwrap_or(Operation::Help);
    if let Some(url) = &call.other {
        elsewhere::may_do(operation, url)?;
    }
    match operation {
        Operation::Help | Operation::Version => Ok(()),
        Operation::Query => query::query(call),
        Operation::PrintEnv => show::print_env(call),
        Operation::ReadLog => show::read_log(call),
        Operation::Add => add::add(call),
        Operation::AddFixed => add::add_fixed(call),
        Operation::PrintFixedPath => add::print_fixed_path(call),
        Operation::Dump => transfer::dump(call),
        Operation::Restore => transfer::restore(call),
        Operation::Export => transfer::export(call),
        Operation::Import => transfer::import(call),
        Operation::Init => register::init(call),
        Operation::CheckValidity => register::check_validity(call),
        Operation::RegisterValidity => register::register_validity(call),
        Operation::DumpDb => register::dump_db(call),
        Operation::LoadDb => register::load_db(call),
        Operation::Verify => verify::verify(call),
        Operation::Realise => realise::realise(call),
        Operation::QueryFailedPaths => realise::query_failed_paths(call),
        Operation::ClearFailedPaths => realise::clear_failed_paths(call),
        Operation::Optimise => optimise::optimise(call),
        Operation::RepairPath => realise::repair_path(call),
        Operation::Gc => gc::gc(call),
        Operation::Delete => gc::delete(call),
        Operation::VerifyPath => verify::verify_path(call),
        Operation::GenerateBinaryCacheKey => key::generate(call),
    }
}

impl Call {
    /// Says something on standard error, if it is wanted at this verbosity.
    fn say(&self, level: Level, text: &str) {
        if level <= self.command.level {
            complain(text);
        }
    }

    /// Prints a line on standard output.
    fn print(&mut self, line: impl std::fmt::Display) -> Result<()> {
        writeln!(self.out, "{line}").map_err(print_failed)
    }

    /// The store opened read-only; it is created if it does not exist, as Nix does.
    fn look(&self) -> Result<LocalStore> {
        match self.session.open_read_only() {
            Err(Error::Store(windrow_store::Error::DatabaseMissing { .. }))
                if !self.session.read_only =>
            {
                self.session.open()
            }
            other => other,
        }
    }

    /// The store opened for writing, or read-only if it can't be written and nothing is to be
    /// repaired.
    fn open_to_verify(&self, repair: bool) -> Result<LocalStore> {
        match self.session.open() {
            Err(error) if error.is_read_only() && !repair => self.session.open_read_only(),
            other => other,
        }
    }

    /// Refuses flags that the operation does not have.
    fn no_flags(&self) -> Result<()> {
        match self.command.flags.first() {
            Some(flag) => Err(unknown_flag(flag)),
            None => Ok(()),
        }
    }

    fn no_args(&self) -> Result<()> {
        match self.command.args.front() {
            Some(_) => Err(Error::Usage("no arguments expected".to_owned())),
            None => Ok(()),
        }
    }

    /// Which of the known flags were given.
    fn switches<const N: usize>(&self, known: [&str; N]) -> Result<[bool; N]> {
        let mut given = [false; N];
        for flag in &self.command.flags {
            match known.iter().position(|known| known == flag) {
                Some(at) => given[at] = true,
                None => return Err(unknown_flag(flag)),
            }
        }
        Ok(given)
    }
}

fn unknown_flag(flag: &str) -> Error {
    Error::Usage(format!("unknown flag '{flag}'"))
}
