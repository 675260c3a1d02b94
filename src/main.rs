//! The program `windrow`.

use std::process::ExitCode;

use windrow::systems::memory::HugePages;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    windrow::cli::main(std::env::args_os())
}
