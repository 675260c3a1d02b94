//! Words on a shell's command line: taken apart, as Nix does it with `NIX_SSHOPTS`.

/// The words of a line: blanks part them, quotes and backslashes keep them together, and nothing
/// else is special (Nix's `shellSplitString`).
///
/// # Errors
/// When a quote is not closed.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' => words.extend(word.take()),
            '\\' => {
                if let Some(letter) = letters.next() {
                    word.get_or_insert_default().push(letter);
                }
            }
            quote @ ('"' | '\'') => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        None => return Err(format!("a quote, {quote}, is not closed")),
                        Some(letter) if letter == quote => break,
                        Some('\\') if quote == '"' => match letters.next() {
                            Some(letter @ ('$' | '`' | '"' | '\\')) => word.push(letter),
                            other => {
                                word.push('\\');
                                word.extend(other);
                            }
                        },
                        Some(letter) => word.push(letter),
                    }
                }
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_as_nix_does_it() {
        let of = |line| split(line).unwrap();
        assert_eq!(of("  -p 22\t-i key "), ["-p", "22", "-i", "key"]);
        assert_eq!(
            of(r#"-o 'a "b' "c \"d\" \n $e" f\ g '' h'i'j"#),
            ["-o", r#"a "b"#, r#"c "d" \n $e"#, "f g", "", "hij"]
        );
        assert!(of("").is_empty());
        for line in ["'a", "\"a", "\"a\\\""] {
            assert!(split(line).unwrap_err().contains("not closed"), "{line}");
        }
    }
}
