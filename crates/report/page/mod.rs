//! The report itself: one HTML file with everything in it. The template escapes what it is given,
//! the script reads its data from an element that holds nothing but JSON.

mod data;
mod log;

use askama::Template;

use crate::run::{Figure, Run, Span};
use crate::time::{bytes, duration};

/// A picture of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// How to read it; may be empty.
    pub note: String,
    /// The picture, as one of [`plots`](crate::plots) made it.
    pub svg: String,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What it shows.
    pub text: String,
    /// What it is sorted by, if that is a number.
    pub number: Option<f64>,
}

impl Cell {
    /// A cell that is sorted as text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            number: None,
        }
    }

    /// A cell that is sorted as a number.
    pub fn number(number: f64, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            number: Some(number),
        }
    }
}

/// A table of the report, which the reader may sort.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What is in it.
    pub title: String,
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Its rows, each with a cell for every column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Whether a column holds numbers.
    fn is_numeric(&self, column: usize) -> bool {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let mut cells = cells.peekable();
        cells.peek().is_some() && cells.all(|cell| cell.number.is_some())
    }
}

/// All that a report tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What it is about.
    pub title: String,
    /// Its command, date and the like: a line below the title.
    pub subtitle: String,
    /// Names that spans refer to.
    pub names: Vec<String>,
    /// The runs, which are shown one at a time.
    pub runs: Vec<Run>,
    /// Pictures that compare runs.
    pub pictures: Vec<Picture>,
    /// Tables of numbers.
    pub tables: Vec<Table>,
    /// What the reader should know of how it was made, each a sentence.
    pub notes: Vec<String>,
}

/// How many rows the tables have that are there without a script.
const ROWS: usize = 50;

/// A row of what took longest, or of the critical path.
struct Row {
    name: String,
    lane: String,
    start: String,
    length: String,
    wait: String,
    cpu: String,
    memory: String,
    verdict: &'static str,
}

/// A failure, its log as HTML.
struct FailureView<'a> {
    name: &'a str,
    message: &'a str,
    log: String,
}

/// A picture as a part of the page, which needs no name space.
struct PictureView<'a> {
    title: &'a str,
    note: &'a str,
    svg: String,
}

fn picture(picture: &Picture) -> PictureView<'_> {
    PictureView {
        title: &picture.title,
        note: &picture.note,
        svg: picture
            .svg
            .replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1),
    }
}

/// A column of a table.
struct Column<'a> {
    name: &'a str,
    is_numeric: bool,
}

/// A table, as the template goes through it.
struct TableView<'a> {
    title: &'a str,
    columns: Vec<Column<'a>>,
    rows: &'a [Vec<Cell>],
}

fn table(table: &Table) -> TableView<'_> {
    let columns = table.columns.iter().enumerate();
    let columns = columns.map(|(place, name)| Column {
        name,
        is_numeric: table.is_numeric(place),
    });
    TableView {
        title: &table.title,
        columns: columns.collect(),
        rows: &table.rows,
    }
}

/// What the template shows of a run.
struct RunView<'a> {
    run: &'a Run,
    figures: Vec<Figure>,
    failures: Vec<FailureView<'a>>,
    chain: Vec<Row>,
    chain_left_out: usize,
    chain_ran: String,
    chain_waited: String,
    longest_chain: String,
    slowest: Vec<Row>,
    has_usage: bool,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    pictures: Vec<PictureView<'a>>,
    tables: Vec<TableView<'a>>,
    runs: Vec<RunView<'a>>,
    style: &'static str,
    script: &'static str,
    data: String,
}

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = concat!(
    include_str!("data.js"),
    include_str!("timeline.js"),
    include_str!("report.js"),
);

/// The report as HTML, complete in itself.
///
/// # Errors
/// Never, as far as is known: the template writes into memory.
pub fn html(report: &Report) -> Result<String, PageError> {
    let page = Page {
        report,
        pictures: report.pictures.iter().map(picture).collect(),
        tables: report.tables.iter().map(table).collect(),
        runs: report.runs.iter().map(|run| view(report, run)).collect(),
        style: STYLE,
        script: SCRIPT,
        data: data::json(report)?,
    };
    let mut html = page.render()?;
    html.push('\n');
    Ok(html)
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The template can't be filled.
    #[error("cannot write the report: {0}")]
    Template(#[from] askama::Error),
    /// The data can't be written as JSON.
    #[error("cannot write the report's data: {0}")]
    Data(#[from] serde_json::Error),
}

fn view<'a>(report: &'a Report, run: &'a Run) -> RunView<'a> {
    let path = run.critical_path();
    // Of a long one the end counts most.
    let left_out = path.len().saturating_sub(ROWS);
    let row = |&at: &u32| row(report, run, at);
    let ran: u64 = path
        .iter()
        .map(|&at| run.spans()[at as usize].length())
        .sum();
    let waited: u64 = path.iter().map(|&at| run.wait(at)).sum();
    let mut slowest: Vec<u32> = (0..run.spans().len() as u32).collect();
    slowest.sort_by_key(|&at| std::cmp::Reverse(run.spans()[at as usize].length()));
    slowest.truncate(ROWS);
    let failures = run.failures.iter().map(|failure| FailureView {
        name: &failure.name,
        message: &failure.message,
        log: log::html(&failure.log),
    });
    RunView {
        run,
        figures: figures(run, ran),
        failures: failures.collect(),
        chain: path[left_out..].iter().map(row).collect(),
        chain_left_out: left_out,
        chain_ran: run.unit.show(ran),
        chain_waited: run.unit.show(waited),
        longest_chain: run.unit.show(run.longest_chain()),
        slowest: slowest.iter().map(row).collect(),
        has_usage: run
            .spans()
            .iter()
            .any(|span| span.cpu.is_some() || span.memory.is_some()),
    }
}

/// The caller's figures, and those that follow from the spans.
fn figures(run: &Run, on_path: u64) -> Vec<Figure> {
    let mut figures = run.figures.clone();
    if run.spans().is_empty() {
        return figures;
    }
    let end = run.end();
    let percent = |part: u64| 100.0 * part as f64 / end.max(1) as f64;
    if run.capacity > 0 {
        let of = match run.capacity {
            1 => "of one slot or core".to_owned(),
            many => format!("of {many} slots or cores"),
        };
        let used = format!("{:.1} %", run.utilisation() * 100.0);
        figures.push(Figure::new("Utilisation", used, of));
    }
    let cpu: u64 = run.spans().iter().filter_map(|span| span.cpu).sum();
    if run.spans().iter().any(|span| span.cpu.is_some()) {
        figures.push(Figure::new(
            "Processor time",
            duration(cpu),
            "of all builders",
        ));
    }
    if run.critical_path().len() > 1 {
        let note = format!(
            "running {}, {:.0} % of all",
            run.unit.show(on_path),
            percent(on_path)
        );
        let links = format!("{} steps", run.critical_path().len());
        figures.push(Figure::new("Critical path", links, note));
    }
    figures
}

fn row(report: &Report, run: &Run, at: u32) -> Row {
    let span = &run.spans()[at as usize];
    let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    Row {
        name: name(report, span).to_owned(),
        lane: lane(run, span.lane),
        start: run.unit.show(span.start),
        length: run.unit.show(span.length()),
        wait: run.unit.show(run.wait(at)),
        cpu: known(span.cpu.map(duration)),
        memory: known(span.memory.map(bytes)),
        verdict: data::verdict(span.verdict),
    }
}

fn name<'a>(report: &'a Report, span: &Span) -> &'a str {
    report
        .names
        .get(span.name as usize)
        .map_or("", String::as_str)
}

/// What a lane is called.
pub(crate) fn lane(run: &Run, lane: u32) -> String {
    let mut left = lane;
    for group in &run.groups {
        if left < group.count {
            return match run.groups.len() {
                _ if group.count == 1 && group.lane == group.name => group.name.clone(),
                1 => format!("{} {}", group.lane, left + 1),
                _ => format!("{}, {} {}", group.name, group.lane, left + 1),
            };
        }
        left -= group.count;
    }
    String::new()
}

#[cfg(test)]
mod tests;
