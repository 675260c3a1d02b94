//! Tests of the pictures: what is in them, and that no name breaks them.

use super::*;
use crate::run::tests::span;
use crate::run::{LaneGroup, Run};
use crate::time::Unit;

const HOSTILE: &str = "</text><script>\u{1} \" & ' </svg>";

/// Whether all elements of an SVG are ended in their order, and what text is in it.
fn texts(svg: &str) -> Vec<String> {
    let mut open = Vec::new();
    let mut texts = Vec::new();
    assert!(
        !svg.contains(|c: char| c.is_control() && c != '\n'),
        "{svg}"
    );
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("an end of each tag");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
        if open.last() == Some(&"text") {
            texts.push(text.trim().to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    texts
}

#[test]
fn a_timeline_has_its_lanes_names_and_legend() {
    let spans = vec![span(0, 0, 0, 3_000_000), span(1, 1, 3_000_000, 8_000_000)];
    let mut run = Run::new("fifo", Unit::Seconds, spans, vec![(1, 0)]);
    run.groups.push(LaneGroup {
        name: "slots".to_owned(),
        lane: "slot".to_owned(),
        count: 2,
        counts: true,
    });
    let svg = gantt(&run, &["compile".to_owned(), HOSTILE.to_owned()]).unwrap();
    let texts = texts(&svg);
    for text in [
        "fifo",
        "slot 1",
        "slot 2",
        "compile",
        "critical path",
        "8 s",
    ] {
        assert!(texts.iter().any(|it| it == text), "{text} in {texts:?}");
    }
    assert!(!svg.contains("<script"));
}

#[test]
fn a_timeline_of_many_spans_is_not_as_large_as_they_are_many() {
    let spans: Vec<_> = (0..100_000_u64)
        .map(|at| span(0, (at % 4) as u32, at, at + 4))
        .collect();
    let mut run = Run::new("x", Unit::Units, spans, Vec::new());
    run.groups.push(LaneGroup {
        name: "slots".to_owned(),
        lane: "slot".to_owned(),
        count: 4,
        counts: true,
    });
    let svg = gantt(&run, &["n".to_owned()]).unwrap();
    assert!(svg.len() < 200_000, "{}", svg.len());
}

#[test]
fn bars_curves_and_boxes_say_what_they_are_of() {
    let bar = |label: &str, value| Bar {
        label: label.to_owned(),
        value,
        interval: Some((value - 1.0, value + 1.0)),
    };
    let texts_of = texts(&bars(&[bar("heft", 12.0), bar(HOSTILE, 15.5)], Values::Numbers).unwrap());
    assert!(texts_of.contains(&"heft".to_owned()) && texts_of.contains(&"15.5".to_owned()));
    let point = |x, y| Point {
        x,
        y,
        interval: None,
    };
    let curve = |label: &str| Curve {
        label: label.to_owned(),
        points: vec![point(1.0, 100.0), point(2.0, 55.0), point(16.0, 9.0)],
    };
    let svg = curves(
        &[curve("fifo"), curve(HOSTILE)],
        ("jobs", "makespan"),
        Values::Numbers,
    )
    .unwrap();
    let texts_of = texts(&svg);
    for text in ["fifo", "jobs", "makespan", "1", "2", "16"] {
        assert!(
            texts_of.iter().any(|it| it == text),
            "{text} in {texts_of:?}"
        );
    }
    let row = |label: &str| BoxRow {
        label: label.to_owned(),
        values: vec![1.0, 1.1, 1.2, 1.3, 9.0],
    };
    let texts_of = texts(&boxes(&[row("fifo"), row(HOSTILE)], Values::Numbers).unwrap());
    assert!(texts_of.contains(&"fifo".to_owned()));
    for svg in [
        bars(&[], Values::Numbers),
        curves(&[], ("", ""), Values::Numbers),
        boxes(&[], Values::Numbers),
    ] {
        texts(&svg.unwrap());
    }
}
