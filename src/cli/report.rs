//! `windrow report`: one HTML file, or a picture, of traces and of results of simulations that were
//! written before.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Deserializer, Value};
use windrow_report::page::{Report, html};
use windrow_report::results::{Comparison, Outcome};
use windrow_report::trace;

use crate::error::{Error, Result};
use crate::reports::WholeFile;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Traces ('--trace' of build and simulate) and results ('windrow simulate --json'), in any
    /// order; results are grouped by graph, policy and jobs, and several of a group are taken as
    /// runs with different seeds
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// Write the report to FILE
    #[arg(short, long, value_name = "FILE", required_unless_present = "plot")]
    output: Option<PathBuf>,

    /// Write makespans over jobs as an SVG picture, from results of one graph
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let mut report = Report::default();
    let mut outcomes = Vec::new();
    for file in &args.files {
        read(file, &mut report, &mut outcomes)?;
    }
    let comparison = Comparison::new(&outcomes);
    if let Some(file) = &args.plot {
        let mut scaling = comparison.scaling()?;
        let picture = match scaling.len() {
            1 => scaling.remove(0),
            0 => {
                return Err(no_plot(
                    "no results of one graph with several numbers of jobs",
                ));
            }
            _ => return Err(no_plot("results of several graphs; give those of one")),
        };
        WholeFile::expect(file, "write the picture")?.write(&picture.svg)?;
    }
    let Some(file) = &args.output else {
        return Ok(());
    };
    report.title = title(&args.files);
    report.subtitle = format!("windrow {}", env!("CARGO_PKG_VERSION"));
    if !outcomes.is_empty() {
        report.pictures = comparison.pictures()?;
        report.tables.push(comparison.table());
    }
    WholeFile::expect(file, "write the report")?.write(&html(&report)?)
}

fn no_plot(what: &str) -> Error {
    Error::Unsupported(format!("there is nothing to plot: {what}"))
}

fn title(files: &[PathBuf]) -> String {
    match files {
        [one] => format!("Report of {}", one.display()),
        files => format!("Report of {} files", files.len()),
    }
}

/// Adds what is in a file.
fn read(file: &Path, report: &mut Report, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let refused = |reason: String| Error::NotReportable {
        path: file.to_owned(),
        reason,
    };
    let bytes = std::fs::read(file).map_err(Error::io("read", file))?;
    let text = String::from_utf8(bytes).map_err(|error| refused(error.to_string()))?;
    let stem = file.file_stem().unwrap_or(file.as_os_str());
    let called = stem.to_string_lossy();
    match text.trim_start().chars().next() {
        Some('[') => {
            let run = trace::read(&text, &called, &mut report.names);
            report
                .runs
                .push(run.map_err(|error| refused(error.to_string()))?);
        }
        Some('{') => {
            for row in Deserializer::from_str(&text).into_iter::<Value>() {
                let read = row.and_then(|row| Outcome::from_json(row, &called));
                outcomes.push(read.map_err(|error| refused(error.to_string()))?);
            }
        }
        Some(_) => return Err(refused("it is not JSON".to_owned())),
        None => return Err(refused("it is empty".to_owned())),
    }
    Ok(())
}
