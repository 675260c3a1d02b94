//! Reads the environment of a derivation: values as Nix turns them into strings.

use super::place::Places;
use super::resolve::Resolver;
use super::text::{interpolate, push_literal};
use super::value::{JsonStr, Kind, Member, Value, duplicate_key};
use super::{EnvVar, GraphError, Text};

/// The variables of several objects, sorted bytewise by name; those of later objects stand above
/// those of earlier ones.
pub(super) fn environment<'a>(
    objects: impl Iterator<Item = Value<'a>>,
    owner: u32,
    key: &str,
    resolver: &mut Resolver<'a, '_>,
) -> Result<Vec<EnvVar>, GraphError> {
    let places = resolver.places();
    let mut all: Vec<Member<'a>> = Vec::new();
    for object in objects {
        let members = sorted(object, key, places)?;
        if all.is_empty() {
            all = members;
            continue;
        }
        for member in members {
            match all.binary_search_by(|known| known.key.text.cmp(&member.key.text)) {
                Ok(at) => all[at] = member,
                Err(at) => all.insert(at, member),
            }
        }
    }
    let read = |Member {
                    key: variable,
                    value,
                }: Member<'a>| {
        check_env_key(&variable, owner, resolver)?;
        let value = env_value(value, owner, &variable.text, resolver)?;
        Ok(EnvVar {
            name: variable.text.into_owned(),
            value,
        })
    };
    all.into_iter().map(read).collect()
}

/// The members of one object, sorted; no two of one name.
fn sorted<'a>(
    object: Value<'a>,
    key: &str,
    places: &Places<'a>,
) -> Result<Vec<Member<'a>>, GraphError> {
    let mut members = object.object(places, format_args!("the \"env\" of derivation {key:?}"))?;
    // Stable, so that of two equal keys the first in the file stays first.
    members.sort_by(|a, b| a.key.text.cmp(&b.key.text));
    if let Some([first, second]) = members
        .array_windows()
        .find(|[first, second]| first.key.text == second.key.text)
    {
        return Err(duplicate_key(places, &second.key, first.key.at));
    }
    Ok(members)
}

fn check_env_key(
    variable: &JsonStr<'_>,
    owner: u32,
    resolver: &Resolver<'_, '_>,
) -> Result<(), GraphError> {
    let text = &*variable.text;
    let place = || resolver.places().at(variable.at);
    let key = || text.to_owned();
    let problem = if text.is_empty() {
        Some("is empty")
    } else if text.contains('=') {
        Some("contains \"=\"")
    } else if text.contains('\0') {
        Some("contains a NUL")
    } else {
        None
    };
    if let Some(problem) = problem {
        return Err(GraphError::InvalidEnvKey {
            place: place(),
            key: key(),
            problem,
        });
    }
    const FIELDS: [&str; 8] = [
        "name",
        "system",
        "builder",
        "args",
        "outputs",
        "outputHash",
        "outputHashAlgo",
        "outputHashMode",
    ];
    if FIELDS.contains(&text) {
        return Err(GraphError::ReservedEnvKey {
            place: place(),
            key: key(),
        });
    }
    if resolver.outputs(owner).find(text).is_some() {
        return Err(GraphError::EnvKeyIsOutput {
            place: place(),
            key: key(),
        });
    }
    Ok(())
}

fn env_value<'a>(
    value: Value<'a>,
    owner: u32,
    variable: &str,
    resolver: &mut Resolver<'a, '_>,
) -> Result<Text, GraphError> {
    let places = resolver.places();
    let mut pieces = Vec::new();
    match value.kind() {
        Kind::Null => {}
        Kind::Object => {
            let what = format_args!("the variable {variable:?}");
            let expected = "a string, an integer, true, false, null or a list";
            return Err(value.wrong_type(expected, places, what));
        }
        Kind::List => {
            let elements = value.list(places, format_args!("the variable {variable:?}"))?;
            for (index, element) in elements.into_iter().enumerate() {
                if index > 0 {
                    push_literal(&mut pieces, " ");
                }
                if matches!(element.kind(), Kind::Null | Kind::Object | Kind::List) {
                    let what = format_args!("an element of the variable {variable:?}");
                    return Err(element.wrong_type(
                        "a string, an integer or a boolean",
                        places,
                        what,
                    ));
                }
                scalar(element, owner, variable, resolver, &mut pieces)?;
            }
        }
        _ => scalar(value, owner, variable, resolver, &mut pieces)?,
    }
    Ok(pieces)
}

/// Appends a string, integer or boolean as Nix turns it into a string.
fn scalar<'a>(
    value: Value<'a>,
    owner: u32,
    variable: &str,
    resolver: &mut Resolver<'a, '_>,
    pieces: &mut Text,
) -> Result<(), GraphError> {
    let places = resolver.places();
    match value.kind() {
        Kind::True => push_literal(pieces, "1"),
        Kind::False => {}
        Kind::Number => push_literal(pieces, integer(value, places)?),
        _ => {
            let string = value.string(places, format_args!("the variable {variable:?}"))?;
            interpolate(resolver, owner, &string.without_nul(places)?, pieces)?;
        }
    }
    Ok(())
}

/// The decimal digits of an integer of any size.
fn integer<'a>(value: Value<'a>, places: &Places<'a>) -> Result<&'a str, GraphError> {
    match value.raw() {
        // JSON lets zero have a sign, integers do not.
        "-0" => Ok("0"),
        number if number.contains(['.', 'e', 'E']) => {
            let place = value.place(places);
            Err(GraphError::NotAnInteger {
                place,
                number: number.to_owned(),
            })
        }
        digits => Ok(digits),
    }
}
