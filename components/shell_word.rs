//! Words as a POSIX shell reads them, so that it takes each for what it is.

/// Appends the word in single quotes, which it always has then.
pub fn quote(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in word {
        match byte {
            b'\'' => out.extend(b"'\\''"),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
}

/// The word, in single quotes if it needs them.
pub fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/:._-+=@,%".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(word: &[u8]) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt as _;
        let script = [b"printf %s ", word].concat();
        let output = std::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(std::ffi::OsStr::from_bytes(&script))
            .output();
        output.unwrap().stdout
    }

    #[test]
    fn a_shell_takes_a_quoted_word_as_it_is() {
        for word in [
            "/a/b?x=1&y=$HOME",
            "it's; `id`",
            "",
            "a b\\",
            "plain",
            "a\nb",
        ] {
            assert_eq!(printed(quoted(word).as_bytes()), word.as_bytes());
            let mut always = Vec::new();
            quote(word.as_bytes(), &mut always);
            assert_eq!(printed(&always), word.as_bytes());
        }
        assert_eq!(quoted("/nix/store"), "/nix/store");
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let mut word = Vec::new();
        quote(b"\xff'\x01", &mut word);
        assert_eq!(word, b"'\xff'\\''\x01'");
    }
}
