//! The program `windrow`.

use std::process::ExitCode;

fn main() -> ExitCode {
    windrow::cli::main(std::env::args_os())
}
