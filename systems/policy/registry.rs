//! Policies of programs that embed the engine, by the names that they have on the command line.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Policy;

/// Makes a policy of the parameters behind its name, or says what is wrong with them.
type Parser = fn(&str) -> Result<Policy, String>;

static KNOWN: Mutex<BTreeMap<String, Parser>> = Mutex::new(BTreeMap::new());

fn known() -> MutexGuard<'static, BTreeMap<String, Parser>> {
    // What is in it was put there whole.
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on `NAME` and `NAME:PARAMETERS` are policies, wherever this process reads the name of
/// one: `--policy`, the setting `policy`, `str::parse`. The parser is given what stands behind the
/// colon. A name that comes with the engine keeps its meaning.
pub fn register(name: &str, parser: fn(&str) -> Result<Policy, String>) {
    known().insert(name.to_owned(), parser);
}

/// The policy of that name with those parameters, if there is one of that name.
pub(super) fn parse(name: &str, parameters: &str) -> Option<Result<Policy, String>> {
    let parser = known().get(name).copied()?;
    Some(parser(parameters))
}

/// All names.
pub(super) fn names() -> Vec<String> {
    known().keys().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_policies_are_parsed_with_their_parameters() {
        register("test-of-registry", |parameters| match parameters {
            "" => Ok(Policy::Fifo),
            "last" => Ok(Policy::Random),
            other => Err(format!("`{other}` is no end")),
        });
        assert_eq!("test-of-registry".parse(), Ok(Policy::Fifo));
        assert_eq!("test-of-registry:last".parse(), Ok(Policy::Random));
        let wrong = "test-of-registry:x".parse::<Policy>();
        assert_eq!(wrong, Err("`x` is no end".to_owned()));
        let unknown = "test-of-nothing".parse::<Policy>().unwrap_err();
        assert!(unknown.contains(", test-of-registry"), "{unknown}");
    }
}
