//! Words that messages about graphs share: what was probably meant, lists that stay readable.

pub(super) const DEFINE: &str = "add it to \"sources\" or \"derivations\"";

/// More names than this make a message unreadable; the rest is counted.
const SHOWN: usize = 24;

/// The candidate most like `name`, if one is so near that it was probably meant.
pub(super) fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<String> {
    // The distance costs the product of the lengths: names of a sensible length only.
    const LONGEST: usize = 200;
    let tolerance = (name.chars().count() / 3).max(1);
    if name.len() > LONGEST {
        return None;
    }
    candidates
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        // Equally near ones come from a hash table in any order; the message must not.
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

pub(super) fn suggest(nearest: &Option<String>, otherwise: impl FnOnce() -> String) -> String {
    match nearest {
        Some(name) => format!("did you mean {name:?}?"),
        None => otherwise(),
    }
}

/// The same behind a message that says what to do already.
pub(super) fn meant(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!(" (did you mean {name:?}?)"),
        None => String::new(),
    }
}

fn quoted<T: std::fmt::Debug>(names: &[T]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("{name:?}"))
        .collect();
    let mut list = shown.join(", ");
    if names.len() > SHOWN {
        list += &format!(" and {} more", names.len() - SHOWN);
    }
    list
}

pub(super) fn one_of(known: &[&str]) -> String {
    format!("it must be one of {}", quoted(known))
}

pub(super) fn has_outputs(outputs: &[String]) -> String {
    match outputs {
        [only] => format!("its only output is {only:?}"),
        _ => format!("its outputs are {}", quoted(outputs)),
    }
}

/// `a → b → a`; of a very long chain the two ends, which is where a reader starts looking.
pub(super) fn arrows(chain: &[String]) -> String {
    if chain.len() <= 2 * SHOWN {
        return chain.join(" → ");
    }
    let (head, tail) = (&chain[..SHOWN], &chain[chain.len() - SHOWN..]);
    let between = chain.len() - 2 * SHOWN;
    format!(
        "{} → … {between} more … → {}",
        head.join(" → "),
        tail.join(" → ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_likely_names_are_suggested() {
        let known = ["builder", "args", "env", "outputs"];
        let nearest = |name| nearest(name, known.into_iter());
        assert_eq!(nearest("bulider"), Some("builder".into()));
        assert_eq!(nearest("output"), Some("outputs".into()));
        assert_eq!(nearest("sandwich"), None);
        assert_eq!(nearest(&"x".repeat(1_000_000)), None);
    }

    #[test]
    fn long_chains_keep_their_ends() {
        let chain: Vec<String> = (0..1000).map(|index| index.to_string()).collect();
        let shown = arrows(&chain);
        assert!(
            shown.starts_with("0 → 1 → ") && shown.ends_with(" → 998 → 999"),
            "{shown}"
        );
        assert!(shown.contains("… 952 more …"), "{shown}");
        assert_eq!(arrows(&chain[..3]), "0 → 1 → 2");
    }
}
