//! `windrow man`: a manual page for each command, made from the definitions of the command line.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command as Process;

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use nix::sys::memfd::{MFdFlags, memfd_create};
use windrow_sys::limits::restore_in;

use super::exit_status::EXIT_STATUSES;
use super::install::{self, Install, NewFile};
use super::{Cli, print_lines};
use crate::error::{Error, Result};
use crate::{nix_store, terminal};

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The command [default: windrow itself; all of them with --install and --prefix]
    #[arg(conflicts_with_all = ["install", "prefix"])]
    command: Option<String>,

    #[command(flatten)]
    install: Install,
}

/// A manual page.
struct Page {
    /// Its name without the section.
    name: String,
    text: String,
}

pub(super) fn run(args: &ManArgs) -> Result<()> {
    let program = program();
    if args.install.is_asked_for() {
        let dir = args.install.share()?.join("man/man1");
        let files: Vec<NewFile> = pages(&program)
            .map(|page| NewFile {
                path: dir.join(format!("{}.1", page.name)),
                contents: page.text.into_bytes(),
            })
            .collect();
        return install::write(&files);
    }
    let command = match &args.command {
        None => &program,
        Some(name) => program
            .find_subcommand(name)
            .ok_or_else(|| unknown(&program, name))?,
    };
    let page = page(command);
    if terminal::stdout_is_terminal() {
        // Without that program the page is printed as it is.
        let _ = show(&page.text);
    }
    print_lines(page.text.lines())
}

fn unknown(program: &Command, name: &str) -> Error {
    let names: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
    Error::BadArgument {
        what: name.to_owned(),
        reason: format!("there is no such command; there are {}", names.join(", ")),
    }
}

/// The definitions of the whole command line.
pub(super) fn program() -> Command {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    program
}

fn pages(program: &Command) -> impl Iterator<Item = Page> {
    std::iter::once(program)
        .chain(program.get_subcommands())
        .map(page)
}

/// The page of one command.
fn page(command: &Command) -> Page {
    let name = command.get_display_name().unwrap_or(super::NAME).to_owned();
    let is_nix_store = command.get_name() == nix_store::NAME;
    // The synopsis is what the help says, not a list of all options.
    let usage = match is_nix_store {
        true => "windrow nix-store OPERATION [OPTIONS] [ARGUMENTS]".to_owned(),
        false => usage(command),
    };
    let man = Man::new(command.clone().override_usage(usage));
    let mut text = Vec::new();
    let mut sections = || {
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        if is_nix_store {
            own_help().to_writer(&mut text)?;
        } else {
            man.render_description_section(&mut text)?;
            if command.has_subcommands() {
                man.render_subcommands_section(&mut text)?;
            }
            man.render_options_section(&mut text)?;
        }
        end(&name).to_writer(&mut text)
    };
    sections().expect("memory can be written to");
    let text = tidied(&String::from_utf8_lossy(&text));
    Page {
        // A page has no date: it changes with the release that it names.
        text: format!(
            "{PREAMBLE}.TH {name} 1 \"\" \"windrow {}\" \"windrow\"\n{text}",
            env!("CARGO_PKG_VERSION")
        ),
        name,
    }
}

/// How a command is used, without the word before it.
pub(super) fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").to_owned()
}

/// What `nix-store --help` prints: its options are read by rules of their own.
fn own_help() -> Roff {
    let mut roff = Roff::new();
    let lines = nix_store::HELP.lines().skip_while(|line| !line.is_empty());
    roff.control("SH", ["DESCRIPTION"]);
    roff.control("nf", []);
    for line in lines.skip(1) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}

/// What stands at the end of every page.
fn end(name: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in EXIT_STATUSES {
        roff.control("TP", []);
        roff.text([bold(*status)]);
        roff.text([roman(*meaning)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    let others = match name {
        super::NAME => vec![("nix.conf", "5"), ("nix-store", "1")],
        _ => vec![(super::NAME, "1"), ("nix.conf", "5")],
    };
    let mut line = Vec::new();
    for (page, section) in others {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(page), roman(format!("({section})"))]);
    }
    roff.text(line);
    roff
}

/// What each section begins with: how a quotation mark is written.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The sections with one such beginning for all, with an empty line where they have line breaks
/// around one, and with signs that are to be typed: plain ones stand for accents to a typesetter.
fn tidied(sections: &str) -> String {
    sections
        .replace(PREAMBLE, "")
        .replace(".br\n\n.br\n", ".sp\n")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti")
}

/// Becomes the program `man`, which shows the page. Returns if there is no such program.
fn show(page: &str) -> std::io::Result<()> {
    let memory = memfd_create("page", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(page.as_bytes())?;
    file.rewind()?;
    let mut man = Process::new("man");
    Err(restore_in(man.args(["-l", "-"]).stdin(file)).exec())
}
