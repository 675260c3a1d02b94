//! Tests of the page: what is in it, and that nothing shown in it can break it.

use super::*;
use crate::run::tests::span;
use crate::run::{Failure, Kind, LaneGroup, Verdict};
use crate::time::Unit;

/// What would end the element it stands in, were it not escaped.
const HOSTILE: &str =
    "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> \" ' & \u{2028}";

fn report(name: &str) -> Report {
    let mut spans = vec![span(0, 0, 0, 3_000_000), span(1, 1, 3_000_000, 5_000_000)];
    spans[1].verdict = Verdict::Failed;
    spans[0].cpu = Some(1_000_000);
    spans[0].memory = Some(1 << 20);
    spans[1].kind = Kind::Fetch;
    let mut run = Run::new(name, Unit::Seconds, spans, vec![(1, 0)]);
    run.groups.push(LaneGroup {
        name: name.to_owned(),
        lane: name.to_owned(),
        count: 2,
        counts: true,
    });
    run.figures.push(Figure::new(name, name, name));
    run.failures.push(Failure {
        name: name.to_owned(),
        message: name.to_owned(),
        log: vec![format!("\u{1b}[31m{name}"), name.to_owned()],
    });
    run.not_run.push(name.to_owned());
    Report {
        title: name.to_owned(),
        subtitle: name.to_owned(),
        names: vec![name.to_owned(), "b".to_owned()],
        runs: vec![run.clone(), run],
        pictures: Vec::new(),
        tables: vec![Table {
            title: name.to_owned(),
            columns: vec![name.to_owned(), "n".to_owned()],
            rows: vec![vec![Cell::text(name), Cell::number(1.5, name)]],
        }],
        notes: vec![name.to_owned()],
    }
}

/// The text of the element with the data.
fn data_of(html: &str) -> &str {
    let (_, after) = html
        .split_once(r#"<script type="application/json" id="data">"#)
        .expect("the data");
    after.split_once("</script>").expect("its end").0
}

#[test]
fn the_data_is_json_with_what_was_put_in() {
    let html = html(&report("a")).unwrap();
    let data: serde_json::Value = serde_json::from_str(data_of(&html)).unwrap();
    assert_eq!(data["names"], serde_json::json!(["a", "b"]));
    let run = &data["runs"][0];
    assert_eq!(run["start"], serde_json::json!([0, 3_000_000]));
    assert_eq!(run["length"], serde_json::json!([3_000_000, 2_000_000]));
    assert_eq!(
        (&run["kind"], &run["verdict"]),
        (&"01".into(), &"01".into())
    );
    assert_eq!(run["after"], serde_json::json!([0, 1]));
    assert_eq!(run["chain"], serde_json::json!([0, 1]));
    assert_eq!(run["memory"], serde_json::json!([1 << 20, null]));
}

#[test]
fn nothing_shown_breaks_the_page() {
    let (plain, hostile) = (html(&report("a")).unwrap(), html(&report(HOSTILE)).unwrap());
    // Every `<` of the page is the template's own: there are as many, whatever is shown.
    let elements = |html: &str| html.matches('<').count();
    assert_eq!(elements(&plain), elements(&hostile));
    assert!(!hostile.contains("<script>alert") && !hostile.contains("<img"));
    let data: serde_json::Value = serde_json::from_str(data_of(&hostile)).unwrap();
    assert_eq!(data["names"][0], HOSTILE);
}

#[test]
fn the_page_loads_nothing() {
    let html = html(&report("a")).unwrap();
    for reference in [
        "http://", "https://", " src=", " href=", "url(", "@import", "fetch(", "XMLHttp",
    ] {
        assert!(!html.contains(reference), "{reference}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn a_run_without_spans_has_no_timeline() {
    let empty = Run::new("x", Unit::Seconds, Vec::new(), Vec::new());
    let report = Report {
        runs: vec![empty],
        ..Report::default()
    };
    let html = html(&report).unwrap();
    assert!(!html.contains("<h2>Timeline</h2>"));
}

#[test]
fn lanes_are_called_by_their_groups() {
    let mut run = Run::new("x", Unit::Seconds, Vec::new(), Vec::new());
    let group = |name: &str, lane: &str, count| LaneGroup {
        name: name.to_owned(),
        lane: lane.to_owned(),
        count,
        counts: true,
    };
    run.groups = vec![group("slots", "slot", 2)];
    assert_eq!(lane(&run, 1), "slot 2");
    run.groups.push(group("big", "core", 4));
    assert_eq!(
        [lane(&run, 0), lane(&run, 3), lane(&run, 9)],
        ["slots, slot 1", "big, core 2", ""]
    );
}
