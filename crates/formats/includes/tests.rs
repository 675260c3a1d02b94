//! What is found in files, and what no file can do.

use proptest::prelude::*;

use super::*;

fn headers(text: &str) -> Vec<String> {
    let quoted = |header: Header| match header.beside {
        true => format!("{:?}", header.name),
        false => format!("<{}>", header.name),
    };
    scan(text.as_bytes())
        .headers
        .into_iter()
        .map(quoted)
        .collect()
}

#[test]
fn includes_are_found_however_they_are_written() {
    let text = "\u{feff}#include \"first.h\"\n  #  include <sys/types.h> // why\n#include\"tight.h\"\r\n\
        # /* c */ include /* d */ <commented.h>\n/* a\n b */ #include \"behind.h\"\n\
        #inc\\\nlude \"joi\\  \nned.h\"\n%:include \"digraph.h\"\n#include_next <next.h>\n\
        #import \"objc.h\"\n#embed \"logo.png\" limit(3)\n#include \"first.h\"\n";
    let expected = [
        "\"first.h\"",
        "<sys/types.h>",
        "\"tight.h\"",
        "<commented.h>",
        "\"behind.h\"",
        "\"joined.h\"",
        "<next.h>",
        "\"objc.h\"",
        "\"logo.png\"",
        "\"digraph.h\"",
    ];
    assert_eq!(headers(text), expected);
}

#[test]
fn conditions_and_strings_hide_nothing() {
    let text = "const char *s = \"/*\"; char c = '\"';\n#ifdef NEVER\n#include \"a.h\"\n#else\n\
        #include \"b.h\"\n#endif\n#if defined X && __has_include(<c.h>) || __has_include_next (\"d.h\")\n\
        #endif\n#elif __has_embed(\"e.bin\")\n// it's fine: #include \"no.h\"\n";
    let expected = ["\"a.h\"", "\"b.h\"", "<c.h>", "\"d.h\"", "\"e.bin\""];
    assert_eq!(headers(text), expected);
}

#[test]
fn a_comment_may_end_behind_the_line_of_a_directive() {
    let text = "#include /* a\n b */ \"a.h\"\n#define X 1 /* more\n#include \"b.h\"\n*/\n#include \"c.h\"\n\
        #define Y \\\n  z\n#include \"d.h\"\n#if 1 /* never ends\n#include \"e.h\"\n";
    let expected = ["\"a.h\"", "\"b.h\"", "\"c.h\"", "\"d.h\"", "\"e.h\""];
    assert_eq!(headers(text), expected);
}

#[test]
fn macros_that_could_be_headers_are_kept() {
    let text = "#define A \"a.h\" /* x */\n#define B <b.h>\n#define C A\n#define D 12\n#define E\n\
        #define F(x) G(x)\n#define G(x) #x\n#define H a/b.h\n#define I(x) <x>\n\
        #include A\n#if __has_include(B)\n#include F(C)\n#include A\n";
    let found = scan(text.as_bytes());
    assert_eq!(found.headers, []);
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found.computed,
        [names(&["A"]), names(&["B"]), names(&["F", "C"])]
    );
    let header = |name: &str, beside| {
        let name = name.to_owned();
        vec![Macro::Header(Header { name, beside })]
    };
    assert_eq!(found.macros["A"], header("a.h", true));
    assert_eq!(found.macros["B"], header("b.h", false));
    assert_eq!(found.macros["C"], [Macro::Names(names(&["A"]))]);
    assert_eq!(found.macros["F"], [Macro::Names(names(&["G"]))]);
    assert_eq!(found.macros["H"], [Macro::Unknown]);
    assert_eq!(found.macros["I"], [Macro::Unknown]);
    assert!(!found.macros.contains_key("D") && !found.macros.contains_key("E"));
}

proptest! {
    /// Any bytes are read; what is found stands in them.
    #[test]
    fn any_bytes_are_scanned(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "#", "include", " ", "\"a.h\"", "<b.h>", "\n", "\\\n", "/*", "*/", "//", "define", "X",
                "(", ")", "%:", "if", "__has_include", "\"", "<", "\u{feff}", "9", "é",
            ]),
            0..30,
        ),
    ) {
        let text = parts.concat();
        let found = scan(text.as_bytes());
        for header in found.headers {
            prop_assert!(text.replace("\\\n", "").contains(&header.name));
        }
    }
}
