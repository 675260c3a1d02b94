//! Finds the directives of a file without a preprocessor: by lines, in one pass.
//! A directive inside a comment or a string is taken as one too; it costs a rebuild at worst.

use std::borrow::Cow;

use hashbrown::HashSet;
use memchr::{memchr, memchr_iter, memmem};

use super::{Header, Includes, Macro};

/// How far the end of a comment is looked for that begins in a directive, in bytes.
const COMMENT_MAX: usize = 4096;

/// How many meanings of one macro are told apart.
const MEANINGS_MAX: usize = 16;

/// Finds what `text`, the contents of a file in C, C++ or assembly, includes.
pub fn scan(text: &[u8]) -> Includes {
    let mut found = Includes::default();
    directives(text, b"#", &mut found);
    // Another way to write it.
    directives(text, b"%:", &mut found);
    let mut seen = HashSet::new();
    found.headers.retain(|header| seen.insert(header.clone()));
    let mut seen = HashSet::new();
    found.computed.retain(|names| seen.insert(names.clone()));
    found
}

/// Reads all directives that begin with `mark`.
fn directives(text: &[u8], mark: &[u8], found: &mut Includes) {
    let mut end = 0;
    for at in memmem::find_iter(text, mark) {
        // What stands behind a directive on its line belongs to it.
        if at < end || !begins_line(&text[..at]) {
            continue;
        }
        let start = at + mark.len();
        end = start + line_length(&text[start..]);
        let whole = end + rest_of_comment(&text[start..end], &text[end..]);
        directive(&spliced(&text[start..whole]), found);
    }
}

/// The length of a line with those that it is continued by, without the newline at its end.
fn line_length(text: &[u8]) -> usize {
    for newline in memchr_iter(b'\n', text) {
        let line = text[..newline].trim_ascii_end();
        // A blank line is no continuation of the one before.
        if !line.ends_with(b"\\") || text[line.len()..newline].contains(&b'\n') {
            return newline;
        }
    }
    text.len()
}

/// The length of what belongs to a line because a comment begins in it and ends behind it.
fn rest_of_comment(line: &[u8], behind: &[u8]) -> usize {
    let open = memmem::rfind(line, b"/*").is_some_and(|at| {
        let comment = &line[at + 2..];
        memmem::find(comment, b"*/").is_none()
    });
    if !open {
        return 0;
    }
    let near = &behind[..behind.len().min(COMMENT_MAX)];
    memmem::find(near, b"*/").map_or(0, |at| at + 2 + line_length(&behind[at + 2..]))
}

/// The text with lines joined that end in a backslash.
fn spliced(text: &[u8]) -> Cow<'_, [u8]> {
    let joins = |at: usize| {
        let rest = &text[at + 1..];
        let blanks = rest.iter().take_while(|byte| b" \t\r".contains(byte));
        let blanks = blanks.count();
        (rest.get(blanks) == Some(&b'\n')).then_some(at + blanks + 2)
    };
    let mut whole = Vec::new();
    let mut from = 0;
    for at in memchr_iter(b'\\', text) {
        if let Some(next) = joins(at) {
            whole.extend_from_slice(&text[from..at]);
            from = next;
        }
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    whole.extend_from_slice(&text[from..]);
    Cow::Owned(whole)
}

/// Whether nothing stands before a directive on its line, or only what ends a comment.
fn begins_line(before: &[u8]) -> bool {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c);
    let kept = before.iter().rposition(|byte| !blank(byte));
    let before = &before[..kept.map_or(0, |last| last + 1)];
    // A byte order mark may stand before the first line.
    let before = before.strip_suffix(b"\xef\xbb\xbf").unwrap_or(before);
    before.is_empty() || before.ends_with(b"\n") || before.ends_with(b"*/")
}

/// Reads what follows the `#` of a directive.
fn directive(line: &[u8], found: &mut Includes) {
    let (word, rest) = identifier(skip(line));
    match word {
        b"include" | b"import" | b"embed" => include(rest, true, found),
        // It goes on behind the directory in which the including file was found.
        b"include_next" => include(rest, false, found),
        b"if" | b"elif" => conditions(rest, found),
        b"define" => define(rest, found),
        _ => {}
    }
}

fn include(rest: &[u8], may_be_beside: bool, found: &mut Includes) {
    let rest = skip(rest);
    if let Some((mut header, _)) = header(rest) {
        header.beside &= may_be_beside;
        found.headers.push(header);
    } else {
        let names = identifiers(rest);
        if !names.is_empty() {
            found.computed.push(names);
        }
    }
}

/// `__has_include(…)`: whether a header is there may matter without it being included.
fn conditions(rest: &[u8], found: &mut Includes) {
    for operator in [&b"__has_include"[..], b"__has_embed"] {
        for at in memmem::find_iter(rest, operator) {
            let behind = &rest[at + operator.len()..];
            let behind = behind.strip_prefix(b"_next").unwrap_or(behind);
            let Some(operand) = skip(behind).strip_prefix(b"(") else {
                continue;
            };
            let end = memchr(b')', operand).unwrap_or(operand.len());
            match header(skip(operand)) {
                Some((header, _)) => found.headers.push(header),
                None => include(&operand[..end], true, found),
            }
        }
    }
}

fn define(rest: &[u8], found: &mut Includes) {
    let (name, body) = identifier(skip(rest));
    if name.is_empty() {
        return;
    }
    let meaning = if body.first() == Some(&b'(') {
        let end = memchr(b')', body).map_or(body.len(), |end| end + 1);
        let parameters = identifiers(&body[..end]);
        let mut names = identifiers(&body[end..]);
        names.retain(|name| !parameters.contains(name));
        match memchr::memchr2(b'"', b'<', &body[end..]) {
            Some(_) => Macro::Unknown,
            None if names.is_empty() => return,
            None => Macro::Names(names),
        }
    } else {
        let body = skip(body);
        match (header(body), identifier(body)) {
            (Some((header, rest)), _) if skip(rest).is_empty() => Macro::Header(header),
            (Some(_), _) => Macro::Unknown,
            (None, ([], _)) => return,
            (None, (alias, rest)) if skip(rest).is_empty() => {
                Macro::Names(vec![String::from_utf8_lossy(alias).into_owned()])
            }
            _ => Macro::Unknown,
        }
    };
    let name = String::from_utf8_lossy(name).into_owned();
    let meanings = found.macros.entry(name).or_default();
    if meanings.contains(&meaning) {
        return;
    }
    match meanings.len() {
        MEANINGS_MAX => meanings[0] = Macro::Unknown,
        _ => meanings.push(meaning),
    }
}

/// The header's name that `text` begins with, and what follows it.
fn header(text: &[u8]) -> Option<(Header, &[u8])> {
    let (close, beside) = match text.first()? {
        b'"' => (b'"', true),
        b'<' => (b'>', false),
        _ => return None,
    };
    let end = 1 + memchr(close, &text[1..])?;
    // A name that is not UTF-8 is no file of a graph, whose names all are.
    let name = str::from_utf8(&text[1..end]).ok()?.to_owned();
    (!name.is_empty()).then(|| (Header { name, beside }, &text[end + 1..]))
}

/// The identifier that `text` begins with, maybe none, and what follows it.
fn identifier(text: &[u8]) -> (&[u8], &[u8]) {
    if text.first().is_some_and(u8::is_ascii_digit) {
        return (b"", text);
    }
    let part = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"_$".contains(byte) || *byte >= 0x80);
    text.split_at(text.iter().position(part).unwrap_or(text.len()))
}

/// All identifiers of a text, each once.
fn identifiers(mut text: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    loop {
        text = skip(text);
        let Some(&first) = text.first() else {
            return names;
        };
        if first.is_ascii_digit() {
            let part = |byte: &u8| !byte.is_ascii_alphanumeric();
            text = &text[text.iter().position(part).unwrap_or(text.len())..];
            continue;
        }
        let (name, rest) = identifier(text);
        if name.is_empty() {
            text = &text[1..];
            continue;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        if !names.contains(&name) {
            names.push(name);
        }
        text = rest;
    }
}

/// Leaves out blanks and comments.
fn skip(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        if text.starts_with(b"/*") {
            text = match memmem::find(text, b"*/") {
                Some(end) if end >= 2 => &text[end + 2..],
                _ => b"",
            };
        } else if text.starts_with(b"//") {
            return b"";
        } else {
            return text;
        }
    }
}
