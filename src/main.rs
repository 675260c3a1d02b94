//! The program `windrow`.

use std::process::ExitCode;

#[cfg(feature = "huge-pages")]
use windrow::huge_pages::HugePages;

#[cfg(feature = "huge-pages")]
#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    windrow::command_line(std::env::args_os())
}
