//! The end of a log as HTML: its text and its colours, and nothing else of what is in it. Whoever
//! wrote it may have meant to break the page.

use ansi_to_html::{Converter, Esc};

/// The lines, ready to stand in an element that keeps spaces.
pub(super) fn html(lines: &[String]) -> String {
    let text = lines.join("\n");
    let converter = Converter::new().four_bit_var_prefix(Some("ansi-".to_owned()));
    let plain = |text: &str| Esc(text).to_string();
    let html = converter.convert(&text).unwrap_or_else(|_| plain(&text));
    html.chars().filter(|&c| is_text(c)).collect()
}

/// Whether a character is to be seen. Marks that turn the order of text round are not: what a
/// reader sees would not be what is there.
fn is_text(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    matches!(c, '\n' | '\t') || !c.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> String {
        html(&[line.to_owned()])
    }

    #[test]
    fn colours_stay_and_all_else_is_text() {
        let red = one("\x1b[31mred\x1b[0m plain");
        assert!(red.contains("<span style='color:var(--ansi-red,"), "{red}");
        assert!(red.ends_with("red</span> plain"), "{red}");
        assert_eq!(
            one("a & b < c > d \" ' e"),
            "a &amp; b &lt; c &gt; d &quot; &#39; e"
        );
        let script = one("\x1b[1m</pre></script><script>alert(1)</script>");
        assert!(
            !script.contains("<script") && !script.contains("</pre"),
            "{script}"
        );
        assert_eq!(one("bell\x07 nul\0 \u{202e}turned"), "bell nul turned");
    }

    /// What elements there are in it.
    fn elements(html: &str) -> Vec<&str> {
        let parts = html.split('<').skip(1);
        let name = |part| -> &str {
            let end = |c: char| !c.is_ascii_alphanumeric();
            let part: &str = part;
            part.trim_start_matches('/').split(end).next().unwrap_or("")
        };
        parts.map(name).collect()
    }

    proptest! {
        #[test]
        fn no_log_makes_an_element_that_is_not_of_colours(
            parts in proptest::collection::vec(
                prop_oneof![
                    any::<String>(),
                    Just("\x1b[".to_owned()),
                    Just("31;1;4;7m".to_owned()),
                    Just("38;2;1;2;3m".to_owned()),
                    Just("<script>".to_owned()),
                    Just("' onload='x".to_owned()),
                    Just("\x1b]8;;http://x\x07".to_owned()),
                ],
                0..12,
            ),
        ) {
            let html = html(&[parts.concat()]);
            for element in elements(&html) {
                prop_assert!(["b", "i", "u", "s", "span"].contains(&element), "{element} in {html}");
            }
            let outside: String = html.split('<').map(|part| part.split_once('>').map_or(part, |it| it.1)).collect();
            prop_assert!(!outside.contains(['\'', '"', '>']), "{html}");
        }
    }
}
