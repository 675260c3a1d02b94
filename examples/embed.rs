//! Builds a graph of derivations in JSON with the engine in this process, and prints what comes of
//! each:
//!
//!     cargo run --release --example embed [-- GRAPH.json]

use std::error::Error;
use std::process::ExitCode;

use windrow::{Engine, Event, Reporter, Request, Store, Verdict};

const GRAPH: &str = r#"{ "derivations": {
    "greeting": { "builder": "/bin/sh", "args": ["-c", "echo hello > $out"] },
    "shouted": { "builder": "/bin/sh", "args": ["-c", "PATH=/bin:/usr/bin; tr a-z A-Z < @{greeting} > $out"] }
} }"#;

/// Prints what builders write.
struct Logs;

impl Reporter for Logs {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::Output { build, bytes } = event {
            print!("{}> {}", build.name, String::from_utf8_lossy(bytes));
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Builders that come with the engine are this program, started once more.
    if let Some(status) = windrow::builtin_main() {
        return Ok(status);
    }
    let request = match std::env::args().nth(1) {
        Some(file) => Request::new().graph_file(file),
        None => Request::new().graph(GRAPH),
    };
    // This machine's compilers are not in a sandbox.
    let engine = Engine::builder(Store::Own)
        .option("sandbox", "false")
        .max_jobs(2)
        .with_builtins()
        .build()?;
    let outcome = engine
        .submit(request.keep_going(true).reporter(Logs))?
        .wait()?;
    for result in &outcome.results {
        match &result.verdict {
            Verdict::Failed(failure) => println!("{}: {}", result.path, failure.message),
            Verdict::NotBuilt { because_of } => println!("{}: needs {because_of}", result.path),
            other => println!("{}: {other:?}", result.path),
        }
    }
    outcome.outputs().for_each(|path| println!("{path}"));
    Ok(match outcome.is_success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
