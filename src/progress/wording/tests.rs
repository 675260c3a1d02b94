//! Events, and the lines that they become.

use super::*;
use crate::progress::{Hints, LogFormat};

fn style(build_logs: bool) -> Style {
    Style {
        format: LogFormat::Raw,
        verbosity: 0,
        build_logs,
        names: true,
        trace: false,
        copying: false,
        hints: Hints::default(),
    }
}

const BUILD: BuildRef<'static> = BuildRef {
    id: 7,
    drv_path: "/s/x.drv",
    name: "x",
};

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(Line::as_str).collect()
}

#[test]
fn output_is_shown_line_by_line() {
    let mut wording = Wording::new(style(true), Form::Plain);
    let mut said = |bytes: &[u8]| {
        wording.lines(&Event::Output {
            build: BUILD,
            bytes,
        })
    };
    assert!(said(b"a").is_empty());
    assert_eq!(texts(&said(b"b\nc\nd")), ["x> ab", "x> c"]);
    let end = wording.lines(&Event::Succeeded {
        build: BUILD,
        at: Duration::from_secs(1),
    });
    assert_eq!(texts(&end), ["x> d"]);
    assert_eq!(
        wording.tally.summary().unwrap(),
        "1 derivation built in 1.0 s"
    );
}

#[test]
fn a_line_without_end_is_shown_when_a_second_has_passed() {
    let mut wording = Wording::new(style(true), Form::Plain);
    let mut report = |event: &Event<'_>| {
        let lines = wording.lines(event);
        let texts = lines.iter().map(|line| line.as_str().to_owned());
        texts.collect::<Vec<_>>()
    };
    let said = |bytes| Event::Output {
        build: BUILD,
        bytes,
    };
    let nothing = Vec::<String>::new();
    assert_eq!(report(&said(b"10 %\r20 %\r")), nothing);
    assert_eq!(report(&Event::SecondPassed), nothing, "not a second yet");
    assert_eq!(report(&said(b"30 %\r")), nothing);
    assert_eq!(report(&Event::SecondPassed), ["x> 30 %"]);
    assert_eq!(report(&Event::SecondPassed), nothing);
    assert_eq!(report(&said(b"40 %\r")), nothing);
    assert_eq!(report(&Event::SecondPassed), ["x> 40 %"]);
    assert_eq!(report(&said(b"done\nmore? ")), ["x> done"]);
    assert_eq!(report(&Event::SecondPassed), nothing);
    assert_eq!(report(&Event::SecondPassed), ["x> more? "]);
    // What may become a message waits for its end.
    assert_eq!(report(&said(b"\n@nix {\"action\":")), nothing);
    assert_eq!(report(&Event::SecondPassed), nothing);
    assert_eq!(report(&Event::SecondPassed), nothing);
    assert_eq!(
        report(&said(b"\"msg\",\"level\":0,\"msg\":\"m\"}\n")),
        ["x> m"]
    );
}

#[test]
fn messages_are_shown_without_the_log_and_bear_the_builds_name() {
    let mut wording = Wording::new(style(false), Form::Plain);
    let mut said = |text: &str| {
        let bytes = text.as_bytes();
        let build = BUILD;
        let lines = wording.lines(&Event::Output { build, bytes });
        (lines, wording.take_phase())
    };
    let (lines, phase) = said(
        "text\n@nix {\"action\":\"msg\",\"level\":0,\"msg\":\"error:\\u001b[2J a\\nerror: b\"}\n\
         @nix {\"action\":\"msg\",\"level\":5,\"msg\":\"too much\"}\n@nix {nothing\n",
    );
    assert_eq!(texts(&lines), ["x> error: a", "x> error: b"]);
    assert_eq!(phase, None);
    let (lines, phase) = said("@nix {\"action\":\"setPhase\",\"phase\":\"p\"}\n");
    assert_eq!((lines, phase), (Vec::new(), Some((7, "p".to_owned()))));
    let (lines, _) = said(
        "@nix {\"action\":\"start\",\"id\":1,\"level\":3,\"type\":101,\"text\":\"downloading\"}\n\
         @nix {\"action\":\"start\",\"id\":2,\"level\":0,\"type\":105,\"text\":\"forged\"}\n",
    );
    assert_eq!(texts(&lines), ["x> downloading..."]);
}

#[test]
fn helpers_are_named_and_their_lines_filtered() {
    let mut wording = Wording::new(style(false), Form::Plain);
    let mut said = |line: &str| wording.lines(&Event::HelperOutput { name: "hook", line });
    assert_eq!(texts(&said("1 %\r\u{1b}]0;t\u{7}2 %")), ["hook: 2 %"]);
    let message = "@nix {\"action\":\"msg\",\"level\":1,\"msg\":\"hm\"}";
    assert_eq!(texts(&said(message)), ["hook: hm"]);
    assert!(said("@nix {\"action\":\"stop\",\"id\":1}").is_empty());
}

#[test]
fn a_copy_fetches_nothing_and_sums_up_by_itself() {
    for (copying, doing, summary) in [
        (true, "copying", None),
        (
            false,
            "fetching",
            Some("0 derivations built, 1 path fetched in 2.0 s"),
        ),
    ] {
        let style = Style {
            copying,
            ..style(false)
        };
        let mut wording = Wording::new(style, Form::Plain);
        let at = Duration::from_secs(2);
        let build = BUILD;
        let begun = wording.lines(&Event::FetchStarted {
            build,
            program: "x",
            transfer: None,
            at,
        });
        assert_eq!(texts(&begun), [format!("{doing} path '/s/x.drv'...")]);
        wording.lines(&Event::FetchSucceeded { build, at });
        assert_eq!(texts(&wording.end()), Vec::from_iter(summary));
    }
}

#[test]
fn lines_bear_no_names_where_none_are_wanted() {
    let unnamed = Style {
        names: false,
        ..style(true)
    };
    let mut wording = Wording::new(unnamed, Form::Plain);
    let mut said = |bytes: &[u8]| {
        wording.lines(&Event::Output {
            build: BUILD,
            bytes,
        })
    };
    assert_eq!(texts(&said(b"a\n\n b\n")), ["a", "", " b"]);
    let end = wording.lines(&Event::Cancelled {
        build: BUILD,
        at: Duration::ZERO,
    });
    assert!(end.is_empty());
    assert_eq!(wording.tally.summary(), None);
}
