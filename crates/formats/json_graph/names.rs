//! The names that references can spell.

use super::GraphError;
use super::place::Places;
use super::value::JsonStr;

/// Checks that references could spell the name of a source, a derivation or an output.
pub(super) fn check_name(
    name: &JsonStr<'_>,
    what: &'static str,
    places: &Places<'_>,
) -> Result<(), GraphError> {
    let text = &*name.text;
    let problem = if text.is_empty() {
        "is empty"
    } else if text.starts_with('/') {
        "starts with \"/\", as only store paths do in references"
    } else if text.contains('^') {
        "contains \"^\", which in references starts an output's name"
    } else if text.contains('}') {
        "contains \"}\", which ends a reference"
    } else if text.contains(char::is_control) {
        "contains a control character"
    } else {
        return Ok(());
    };
    let place = places.at(name.at);
    Err(GraphError::InvalidName {
        place,
        name: text.to_owned(),
        what,
        problem,
    })
}
