//! Sizes and ages as they are typed: `20G`, `30d`. What does not parse is answered with forms that
//! do.

/// A number of bytes, perhaps with a unit.
///
/// # Errors
/// When it is none, or more than 2^64.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let forms = || {
        "give a number of bytes, perhaps with a unit of powers of 1024 (K, M, G, T, KiB, MiB, GiB, TiB) or \
         1000 (kB, MB, GB, TB), such as 500M or 20G"
            .to_owned()
    };
    let (number, unit) = split(text);
    let (base, power) = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => (1, 0),
        "k" | "kib" => (1024, 1),
        "m" | "mib" => (1024, 2),
        "g" | "gib" => (1024, 3),
        "t" | "tib" => (1024, 4),
        "kb" => (1000, 1),
        "mb" => (1000, 2),
        "gb" => (1000, 3),
        "tb" => (1000, 4),
        _ => return Err(forms()),
    };
    let number: u64 = number.parse().map_err(|_| forms())?;
    let bytes = number.checked_mul(u64::pow(base, power));
    bytes.ok_or_else(|| format!("there are no stores that large; {}", forms()))
}

/// An age in seconds, with its unit.
///
/// # Errors
/// When it is none, or has no unit.
pub(crate) fn age(text: &str) -> Result<u64, String> {
    const DAY: u64 = 24 * 60 * 60;
    let forms = || {
        "give a number with s, m, h, d, w or y for seconds, minutes, hours, days, weeks or years, such as \
         12h, 30d or 2w"
            .to_owned()
    };
    let (number, unit) = split(text);
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 60 * 60,
        "d" => DAY,
        "w" => 7 * DAY,
        "y" => 365 * DAY,
        _ => return Err(forms()),
    };
    let number: u64 = number.parse().map_err(|_| forms())?;
    // What is older than the clock can say is older than everything.
    Ok(number.saturating_mul(seconds))
}

/// Digits, and what follows them.
fn split(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("12", 12),
            ("12B", 12),
            ("3K", 3072),
            ("1m", 1 << 20),
            ("20G", 20 << 30),
            ("20 GiB", 20 << 30),
            ("2gib", 2 << 30),
            ("1T", 1 << 40),
            ("5kB", 5000),
            ("5MB", 5_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "x",
            "1X",
            "1KK",
            "-5",
            "1.5G",
            "G",
            "99999999999999999999",
        ] {
            assert!(size(text).unwrap_err().contains("20G"), "{text}");
        }
        assert!(size("99999999999T").unwrap_err().contains("that large"));
    }

    #[test]
    fn ages_have_units() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("90m", 5400),
            ("90min", 5400),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("2 w", 1_209_600),
            ("1y", 31_536_000),
            ("18446744073709551615w", u64::MAX),
        ] {
            assert_eq!(age(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "30",
            "d",
            "30D",
            "1mo",
            "-1d",
            "1.5d",
            "30d12h",
            "99999999999999999999d",
        ] {
            assert!(age(text).unwrap_err().contains("30d"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_panics(text in "\\PC{0,8}", number in any::<u64>(), unit in "[a-zA-Z]{0,3}") {
            let _ = (size(&text), age(&text));
            let typed = format!("{number}{unit}");
            let (size, age) = (size(&typed), age(&typed));
            prop_assert!(size.is_err() || size.unwrap() >= number);
            prop_assert!(age.is_err() || age.unwrap() >= number);
        }
    }
}
