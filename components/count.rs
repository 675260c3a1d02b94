//! Numbers of things in messages: "1 path", "2 paths", "3 dependencies".

use std::fmt;

/// So many of what a noun names, in the singular; shown with the noun's form for the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<'n> {
    number: u64,
    noun: &'n str,
}

/// A number of things. `noun` is their name in the singular.
pub fn count<'n>(number: impl TryInto<u64>, noun: &'n str) -> Count<'n> {
    let number = number.try_into().unwrap_or(u64::MAX);
    Count { number, noun }
}

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, noun } = self;
        match (number, noun.strip_suffix('y')) {
            (1, _) => write!(f, "1 {noun}"),
            (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => {
                write!(f, "{number} {stem}ies")
            }
            _ => write!(f, "{number} {noun}s"),
        }
    }
}

/// A number of bytes as it is written in messages.
pub fn size(bytes: u64) -> String {
    let whole = bytes as f64;
    match bytes {
        1 => "1 byte".to_owned(),
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", whole / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.2} MiB", whole / 1_048_576.0),
        _ => format!("{:.2} GiB", whole / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noun_follows_the_number() {
        let text = |number: usize, noun| count(number, noun).to_string();
        assert_eq!(text(0, "path"), "0 paths");
        assert_eq!(text(1, "path"), "1 path");
        assert_eq!(text(2, "path"), "2 paths");
        assert_eq!(text(1, "dependency"), "1 dependency");
        assert_eq!(text(3, "dependency"), "3 dependencies");
        assert_eq!(text(2, "day"), "2 days");
    }

    #[test]
    fn sizes_have_units_that_fit() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.50 MiB"),
            (5 << 30, "5.00 GiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
