//! Lines of logs as a terminal may show them: their text, and colours that end with the line.
//! Everything else that acts on a terminal is taken out: titles, clipboards, links, movements,
//! bells (Nix: `filterANSIEscapes`).

use std::fmt::Write as _;

use anstyle_parse::{Params, ParamsIter, Parser, Perform};

/// What ends all colours.
const RESET: &str = "\x1b[0m";

/// A line's text without what acts on a terminal; with its colours if they are wanted.
///
/// Sequences end with the line at the latest, so one that is never ended costs no more than its
/// line. Marks that order text in both directions pass: they order nothing beyond their line's end.
pub fn log_text(line: &str, colours: bool) -> String {
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return line.to_owned();
    }
    if !line.contains('\x1b') {
        return line.chars().filter(|&c| is_text(c)).collect();
    }
    let mut filter = Filter {
        text: String::with_capacity(line.len() + RESET.len()),
        colours,
        coloured: false,
    };
    let mut parser = <Parser>::new();
    for &byte in line.as_bytes() {
        parser.advance(&mut filter, byte);
    }
    if filter.coloured {
        filter.text.push_str(RESET);
    }
    filter.text
}

/// Whether a character outside of a sequence is shown. The two separators are lines' ends to some
/// programs.
fn is_text(c: char) -> bool {
    c == '\t' || !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')
}

struct Filter {
    text: String,
    colours: bool,
    /// Whether what comes next would be shown otherwise than usual.
    coloured: bool,
}

impl Perform for Filter {
    fn print(&mut self, c: char) {
        if is_text(c) {
            self.text.push(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        if byte == b'\t' {
            self.text.push('\t');
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if !self.colours || action != b'm' || !intermediates.is_empty() || ignore {
            return;
        }
        let kept = rendition(params);
        if let Some(last) = kept.last() {
            self.coloured = last != "0";
            // Writing to a string does not fail.
            let _ = write!(self.text, "\x1b[{}m", kept.join(";"));
        }
    }
}

/// What of a sequence's parameters sets colours or weight. What hides text, makes it blink or
/// changes its font is not among it; neither is what comes after a colour that is none.
fn rendition(params: &Params) -> Vec<String> {
    let mut kept = Vec::new();
    let mut params = params.iter();
    while let Some(param) = params.next() {
        match *param {
            [colour @ (38 | 48 | 58)] => match indexed_or_direct(&mut params) {
                Some(rest) => kept.push(format!("{colour};{rest}")),
                None => break,
            },
            [38 | 48 | 58, 2 | 5, ..] if param[1..].iter().all(|&part| part <= 255) => {
                let parts: Vec<String> = param.iter().map(u16::to_string).collect();
                kept.push(parts.join(":"));
            }
            [4, style @ 0..=5] => kept.push(format!("4:{style}")),
            [number] if is_harmless(number) => kept.push(number.to_string()),
            _ => {}
        }
    }
    kept
}

/// The parameters of a colour by its number in the palette, or by its parts.
fn indexed_or_direct(params: &mut ParamsIter<'_>) -> Option<String> {
    let mut number = |most: u16| match params.next() {
        Some(&[number]) if number <= most => Some(number),
        _ => None,
    };
    match number(5)? {
        5 => Some(format!("5;{}", number(255)?)),
        2 => Some(format!(
            "2;{};{};{}",
            number(255)?,
            number(255)?,
            number(255)?
        )),
        _ => None,
    }
}

/// Reset, weight, slope, lines, reversal, colours, and the end of each.
fn is_harmless(number: u16) -> bool {
    matches!(
        number,
        0..=4 | 7 | 9 | 21..=25 | 27 | 29..=37 | 39..=47 | 49 | 53 | 55 | 59 | 90..=97 | 100..=107
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_colours_pass() {
        for (line, shown) in [
            ("plain text\twith a tab", "plain text\twith a tab"),
            ("Grüße, 日本語 🔍 e\u{301}", "Grüße, 日本語 🔍 e\u{301}"),
            (
                "bell\x07 back\x08space nul\0 del\x7f ff\x0c vt\x0b",
                "bell backspace nul del ff vt",
            ),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]0;title\x1b\\after", "after"),
            ("\x1b]52;c;aGVsbG8=\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1bPq payload\x1b\\after", "after"),
            (
                "\x1b_payload\x1b\\\x1b^payload\x1b\\\x1bXpayload\x1b\\after",
                "after",
            ),
            ("before\x1b]0;never ended", "before"),
            (
                "\x1b[2J\x1b[H\x1b[3;4Hx\x1b[1A\x1b[K\x1b[?1049h\x1b[6n",
                "x",
            ),
            ("\x1bc\x1b(0\x1b#8\x1b7\x1b8\x1b=x", "x"),
            ("c1: \u{9b}2J \u{9d}0;t\u{9c} \u{90}\u{85}x", "c1: 2J 0;t x"),
            ("line\u{2028}para\u{2029}x", "lineparax"),
            ("ends in \x1b", "ends in "),
            ("ends in \x1b[31", "ends in "),
            ("cut \x1b[3\x1b[31mred", "cut \x1b[31mred\x1b[0m"),
            ("\x1b[31mred\x1b[0m plain", "\x1b[31mred\x1b[0m plain"),
            ("\x1b[31mred\x1b[m plain", "\x1b[31mred\x1b[0m plain"),
            ("\x1b[1;31mred", "\x1b[1;31mred\x1b[0m"),
            ("\x1b[0;31mred", "\x1b[0;31mred\x1b[0m"),
            ("\x1b[8mhidden\x1b[5;8;10mx", "hiddenx"),
            ("\x1b[38;5;8mgrey", "\x1b[38;5;8mgrey\x1b[0m"),
            ("\x1b[38;2;1;2;3;4mx", "\x1b[38;2;1;2;3;4mx\x1b[0m"),
            ("\x1b[38:2::1:2:3mx", "\x1b[38:2:0:1:2:3mx\x1b[0m"),
            ("\x1b[4:3mwavy\x1b[4:9mx", "\x1b[4:3mwavyx\x1b[0m"),
            ("\x1b[38;8;31mx\x1b[48;2;999mx\x1b[38;5mx", "xxx"),
            ("\x1b[>4;2mx\x1b[?4mx\x1b[4!mx", "xxx"),
        ] {
            assert_eq!(log_text(line, true), shown, "{line:?}");
        }
    }

    #[test]
    fn colours_are_for_terminals() {
        assert_eq!(
            log_text("\x1b[31mred\x1b[0m, \x1b[1;38;5;9mx", false),
            "red, x"
        );
    }

    #[test]
    fn parameters_are_bounded() {
        let many = format!("\x1b[{}31mx", "1;".repeat(10_000));
        assert_eq!(log_text(&many, true), "x");
        let long = format!("\x1b[{}mx", "1".repeat(10_000));
        assert_eq!(log_text(&long, true), "x");
    }

    /// Whether ESC stands only in colours, and no other control anywhere.
    fn is_safe(text: &str, colours: bool) -> bool {
        let mut rest = text;
        while let Some(at) = rest.find('\x1b') {
            let Some(sequence) = rest[at + 1..].strip_prefix('[') else {
                return false;
            };
            let end = sequence.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':');
            match end {
                Some(end) if colours && sequence[end..].starts_with('m') => rest = &sequence[end..],
                _ => return false,
            }
        }
        let mut controls = text.chars().filter(|c| c.is_control());
        controls.all(|c| matches!(c, '\t' | '\x1b'))
    }

    /// Text made of what matters to a terminal.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "\\x1b[\\[\\]PX^_()#\\\\c78=>]?",
            4 => "[0-9;:?<!m]{1,4}",
            2 => "[\\x00-\\x1f\\x7f-\\u{9f}]",
            1 => any::<char>().prop_map(String::from),
            1 => "[a-zA-Z ]{1,3}",
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_but_colours_acts_on_a_terminal(line in hostile(), colours: bool) {
            let shown = log_text(&line, colours);
            prop_assert!(is_safe(&shown, colours), "{:?}", shown);
            prop_assert_eq!(log_text(&shown, colours), shown.clone(), "filtered twice");
            // What follows a line is shown as usual.
            let last = shown.rfind("\x1b[").map(|at| &shown[at..]);
            let sequence = last.and_then(|last| last.split_inclusive('m').next());
            let ends = |it: &str| it == RESET || it.ends_with(";0m");
            prop_assert!(sequence.is_none_or(ends), "{:?}", shown);
        }

        #[test]
        fn text_passes_whole(line in "[a-zä-ü€🔍\t .]{0,60}") {
            prop_assert_eq!(log_text(&line, true), line);
        }
    }
}
