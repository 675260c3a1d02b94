//! Texts: strings in which `@{NAME}` stands for a store path, cut into resolved pieces.
//! `@@{` is a literal `@{`; any other `@` is itself.

use super::place::Spot;
use super::resolve::{Resolver, Where};
use super::value::JsonStr;
use super::{GraphError, Piece};

/// Appends the pieces of `string`, a text of the derivation `owner` (an index in the order of the
/// file).
pub(super) fn interpolate(
    resolver: &mut Resolver<'_, '_>,
    owner: u32,
    string: &JsonStr<'_>,
    pieces: &mut Vec<Piece>,
) -> Result<(), GraphError> {
    let text = &*string.text;
    let bytes = text.as_bytes();
    // Most texts are one literal, and a growing vector would make room for four.
    let marks = memchr::memchr_iter(b'@', bytes).count();
    pieces.reserve_exact(2 * marks + usize::from(!bytes.is_empty()));
    // What lies before `unread` has been dealt with; of that, what lies behind `pending` is still
    // to be copied.
    let (mut pending, mut unread) = (0, 0);
    for at in memchr::memchr_iter(b'@', bytes) {
        if at < unread {
            continue;
        }
        if bytes[at + 1..].starts_with(b"@{") {
            push_literal(pieces, &text[pending..at]);
            (pending, unread) = (at + 1, at + 3);
        } else if bytes[at + 1..].starts_with(b"{") {
            push_literal(pieces, &text[pending..at]);
            let spot = Spot {
                string: string.at,
                index: at as u32 + 1,
            };
            let Some(length) = memchr::memchr(b'}', &bytes[at + 2..]) else {
                return Err(GraphError::UnclosedReference {
                    place: resolver.places().inside(spot),
                });
            };
            let end = at + 2 + length;
            let first = pieces.len();
            resolver.references(&text[at + 2..end], spot, Where::Text(owner), pieces)?;
            join(pieces, first);
            (pending, unread) = (end + 1, end + 1);
        }
    }
    push_literal(pieces, &text[pending..]);
    Ok(())
}

/// Puts blanks between the pieces from `first` on, and keeps literals from being adjacent.
fn join(pieces: &mut Vec<Piece>, first: usize) {
    if let [.., Piece::Literal(_)] = pieces[first..] {
        if let Some(Piece::Literal(text)) = pieces.pop() {
            push_literal(pieces, &text);
        }
    } else if pieces.len() > first + 1 {
        for piece in pieces.split_off(first + 1) {
            push_literal(pieces, " ");
            pieces.push(piece);
        }
    }
}

/// Appends literal text, joining it to a literal that stands last.
pub(super) fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    if text.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Literal(last)) => last.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_owned())),
    }
}
