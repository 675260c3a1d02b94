//! Reads the entries of a graph: a source whole, a derivation before and after names are known.
//! Knows the fields' types and defaults; what references mean is `resolve.rs`.

use std::path::Path;

use super::error::nearest;
use super::outputs::Outputs;
use super::place::Places;
use super::resolve::{Resolver, Where};
use super::text::{interpolate, push_literal};
use super::value::{JsonStr, Kind, Member, Value, duplicate_key};
use windrow_components::hash::HashAlgo;

use super::{EnvVar, FixedOutput, GraphError, HashMode, Node, Piece, Source, Text};

/// Reads one entry of `sources`.
pub(super) fn source<'a>(member: &Member<'a>, places: &Places<'a>) -> Result<Source, GraphError> {
    let name = &member.key.text;
    let (path, store_name) = if member.value.kind() == Kind::String {
        (member.value, None)
    } else if member.value.kind() == Kind::Object {
        let parent = format_args!("the source {name:?}");
        let [path, store_name] = member.value.fields(&["path", "name"], places, parent)?;
        let path = path.ok_or_else(|| GraphError::MissingKey {
            place: member.value.place(places),
            parent: parent.to_string(),
            key: "path",
        })?;
        (path, store_name)
    } else {
        let what = format_args!("the source {name:?}");
        return Err(member
            .value
            .wrong_type("a path (a string) or an object", places, what));
    };
    let path_place = path.place(places);
    let path = path.filled_string(places, format_args!("the path of source {name:?}"))?;
    let (store_name, store_name_place) = match store_name {
        Some(value) => {
            let what = format_args!("the \"name\" of source {name:?}");
            (
                value.filled_string(places, what)?.text.into_owned(),
                value.place(places),
            )
        }
        None => {
            let last = Path::new(&*path.text)
                .file_name()
                .and_then(|last| last.to_str());
            let last = last.ok_or_else(|| GraphError::NoStoreName {
                place: path_place,
                path: path.text.clone().into_owned(),
            })?;
            (last.to_owned(), path_place)
        }
    };
    Ok(Source {
        name: name.clone().into_owned(),
        path: path.text.into_owned(),
        store_name,
        place: places.at(member.key.at),
        store_name_place,
    })
}

/// A derivation's fields as slices of the file: its texts wait until all names are known.
pub(super) struct Draft<'a> {
    pub(super) key: JsonStr<'a>,
    explicit_outputs: bool,
    name: Option<Value<'a>>,
    system: Option<Value<'a>>,
    builder: Value<'a>,
    args: Option<Value<'a>>,
    env: Option<Value<'a>>,
    inputs: Option<Value<'a>>,
    fixed: Option<FixedOutput>,
}

impl<'a> Draft<'a> {
    /// Reads what does not depend on other entries: the outputs and the fields' presence.
    pub(super) fn read(
        member: Member<'a>,
        places: &Places<'a>,
    ) -> Result<(Self, Outputs), GraphError> {
        let Member { key, value } = member;
        let keys = &[
            "name",
            "system",
            "builder",
            "args",
            "env",
            "outputs",
            "outputHash",
            "outputHashAlgo",
            "outputHashMode",
            "inputs",
        ];
        let parent = format_args!("the derivation {:?}", key.text);
        let [
            name,
            system,
            builder,
            args,
            env,
            outputs,
            hash,
            algo,
            mode,
            inputs,
        ] = value.fields(keys, places, parent)?;
        let builder = builder.ok_or_else(|| GraphError::MissingKey {
            place: value.place(places),
            parent: parent.to_string(),
            key: "builder",
        })?;
        let fixed = fixed_output(hash, algo, mode, places)?;
        let explicit_outputs = outputs.is_some();
        let read = match outputs {
            Some(list) => {
                let read = Outputs::parse(list, places)?;
                if fixed.is_some() && (read.names().len() != 1 || read.names()[0] != "out") {
                    return Err(GraphError::FixedOutputs {
                        place: list.place(places),
                    });
                }
                read
            }
            None => Outputs::default(),
        };
        let draft = Draft {
            key,
            explicit_outputs,
            name,
            system,
            builder,
            args,
            env,
            inputs,
            fixed,
        };
        Ok((draft, read))
    }

    /// Resolves the texts. `index` is the derivation's in the order of the file; the outputs are
    /// filled in
    /// when all derivations have been resolved, for until then others look them up.
    pub(super) fn resolve(
        self,
        index: u32,
        default_system: &str,
        resolver: &mut Resolver<'a, '_>,
    ) -> Result<Node, GraphError> {
        let places = resolver.places();
        let key = &*self.key.text;
        let place = places.at(self.key.at);
        let name = match self.name {
            Some(value) => value
                .filled_string(places, format_args!("the \"name\" of derivation {key:?}"))?
                .text
                .into_owned(),
            None => key.to_owned(),
        };
        let system = match self.system {
            Some(value) => value
                .filled_string(places, format_args!("the \"system\" of derivation {key:?}"))?
                .text
                .into_owned(),
            None => default_system.to_owned(),
        };
        let what = format_args!("the \"builder\" of derivation {key:?}");
        let builder = self.builder.filled_string(places, what)?;
        let builder = text(resolver, index, &builder)?;
        let args = match self.args {
            Some(list) => arguments(list, index, key, resolver)?,
            None => Vec::new(),
        };
        let env = match self.env {
            Some(object) => environment(object, index, key, resolver)?,
            None => Vec::new(),
        };
        let inputs = match self.inputs {
            Some(list) => extra_inputs(list, index, key, resolver)?,
            None => Vec::new(),
        };
        Ok(Node {
            name_place: self.name.map_or(place, |name| name.place(places)),
            place,
            name,
            system,
            builder,
            args,
            env,
            outputs: Vec::new(),
            explicit_outputs: self.explicit_outputs,
            fixed: self.fixed,
            inputs,
            key: self.key.text.into_owned(),
        })
    }
}

fn fixed_output<'a>(
    hash: Option<Value<'a>>,
    algo: Option<Value<'a>>,
    mode: Option<Value<'a>>,
    places: &Places<'a>,
) -> Result<Option<FixedOutput>, GraphError> {
    let string = |value: Value<'a>, key| {
        value
            .string(places, format_args!("{key:?}"))?
            .without_nul(places)
    };
    let Some(hash) = hash else {
        let lonely = algo.map(|value| (value, "outputHashAlgo"));
        return match lonely.or_else(|| mode.map(|value| (value, "outputHashMode"))) {
            Some((value, key)) => Err(GraphError::NoOutputHash {
                place: value.place(places),
                key,
            }),
            None => Ok(None),
        };
    };
    let mode = match mode {
        Some(value) => {
            let mode = string(value, "outputHashMode")?.text;
            let known = HashMode::ALL
                .into_iter()
                .find(|known| known.as_str() == mode);
            Some(known.ok_or_else(|| GraphError::UnknownHashMode {
                place: value.place(places),
                nearest: nearest(&mode, HashMode::ALL.into_iter().map(HashMode::as_str)),
                mode: mode.into_owned(),
            })?)
        }
        None => None,
    };
    let algo = match algo {
        Some(value) => {
            let algo = string(value, "outputHashAlgo")?.text.into_owned();
            if !algo.is_empty() && HashAlgo::from_name(&algo).is_none() {
                return Err(GraphError::UnknownHashAlgo {
                    place: value.place(places),
                    algo,
                });
            }
            Some(algo)
        }
        None => None,
    };
    let place = hash.place(places);
    Ok(Some(FixedOutput {
        hash: string(hash, "outputHash")?.text.into_owned(),
        algo,
        mode,
        place,
    }))
}

fn text(
    resolver: &mut Resolver<'_, '_>,
    owner: u32,
    string: &JsonStr<'_>,
) -> Result<Text, GraphError> {
    let mut pieces = Vec::new();
    interpolate(resolver, owner, string, &mut pieces)?;
    Ok(pieces)
}

fn arguments<'a>(
    list: Value<'a>,
    owner: u32,
    key: &str,
    resolver: &mut Resolver<'a, '_>,
) -> Result<Vec<Text>, GraphError> {
    let places = resolver.places();
    let elements = list.list(places, format_args!("the \"args\" of derivation {key:?}"))?;
    let read = |element: Value<'a>| {
        let what = format_args!("an argument of derivation {key:?}");
        let string = element.string(places, what)?.without_nul(places)?;
        text(resolver, owner, &string)
    };
    elements.into_iter().map(read).collect()
}

fn extra_inputs<'a>(
    list: Value<'a>,
    owner: u32,
    key: &str,
    resolver: &mut Resolver<'a, '_>,
) -> Result<Vec<Piece>, GraphError> {
    let places = resolver.places();
    let elements = list.list(places, format_args!("the \"inputs\" of derivation {key:?}"))?;
    let read = |element: Value<'a>| {
        let string = element.string(places, format_args!("an input of derivation {key:?}"))?;
        let string = string.without_nul(places)?;
        resolver.reference(&string.text, string.spot(), Where::Inputs(owner))
    };
    elements.into_iter().map(read).collect()
}

/// The variables, sorted bytewise by name.
fn environment<'a>(
    object: Value<'a>,
    owner: u32,
    key: &str,
    resolver: &mut Resolver<'a, '_>,
) -> Result<Vec<EnvVar>, GraphError> {
    let places = resolver.places();
    let mut members = object.object(places, format_args!("the \"env\" of derivation {key:?}"))?;
    // Stable, so that of two equal keys the first in the file stays first.
    members.sort_by(|a, b| a.key.text.cmp(&b.key.text));
    if let Some([first, second]) = members
        .array_windows()
        .find(|[first, second]| first.key.text == second.key.text)
    {
        return Err(duplicate_key(places, &second.key, first.key.at));
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
    members.into_iter().map(read).collect()
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
