//! Reads a derivation before and after names are known.
//! Knows the fields' types and defaults; what references mean is `resolve.rs`.

use super::environment::environment;
use super::outputs::Outputs;
use super::own::Own;
use super::place::{Places, Spot};
use super::resolve::{Resolver, Where};
use super::sources::store_name;
use super::template::Fielded;
use super::text::interpolate;
use super::value::{JsonStr, Value};
use super::wording::nearest;
use windrow_components::hash::HashAlgo;

use super::{FixedOutput, GraphError, HashMode, Node, Piece, SelectionError, Text};

/// A derivation's fields as slices of the file: its texts wait until all names are known.
#[derive(Clone)]
pub(super) struct Draft<'a> {
    pub(super) key: JsonStr<'a>,
    /// What it chooses of the sources. Most choose nothing, and there may be a million.
    pub(super) own: Option<Box<Own>>,
    explicit_outputs: bool,
    name: Option<Value<'a>>,
    system: Option<Value<'a>>,
    builder: Value<'a>,
    args: Option<Value<'a>>,
    env: Option<Value<'a>>,
    /// The environments of templates, those that others stand above first.
    env_below: Vec<Value<'a>>,
    inputs: Option<Value<'a>>,
    /// What only a tree gives a meaning to.
    of_tree: Option<(&'static str, Value<'a>)>,
    fixed: Option<FixedOutput>,
}

impl<'a> Draft<'a> {
    /// Reads what does not depend on other entries: the outputs and the fields' presence.
    pub(super) fn read(
        key: JsonStr<'a>,
        read: Fielded<'a>,
        places: &Places<'a>,
    ) -> Result<(Self, Outputs), GraphError> {
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
            _,
            _,
            tree,
            headers,
        ] = read.fields;
        let builder = builder.ok_or_else(|| GraphError::MissingKey {
            place: read.value.place(places),
            parent: format!("the derivation {:?}", key.text),
            key: "builder",
        })?;
        let fixed = fixed_output(hash, algo, mode, places)?;
        let explicit_outputs = outputs.is_some();
        let read_outputs = match outputs {
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
        let of_tree = tree.map(|value| ("tree", value));
        let draft = Draft {
            key,
            own: None,
            explicit_outputs,
            name,
            system,
            builder,
            args,
            env,
            env_below: read.env_below,
            inputs,
            of_tree: of_tree.or_else(|| headers.map(|value| ("headers", value))),
            fixed,
        };
        Ok((draft, read_outputs))
    }

    /// Resolves the texts. `index` is the derivation's in the order of the file; the outputs are
    /// filled in when all derivations have been resolved, for until then others look them up.
    pub(super) fn resolve(
        self,
        index: u32,
        default_system: &str,
        resolver: &mut Resolver<'a, '_>,
    ) -> Result<Node, GraphError> {
        let places = resolver.places();
        let key = &*self.key.text;
        let place = places.at(self.key.at);
        let name = self.store_name(places)?;
        let system = match self.system {
            Some(value) => value
                .filled_string(places, format_args!("the \"system\" of derivation {key:?}"))?
                .text
                .into_owned(),
            None => default_system.to_owned(),
        };
        let has_own = self.own.is_some();
        resolver.begin(
            self.own
                .as_ref()
                .map(|own| (Own::clone(own), self.raw_texts())),
        );
        let what = format_args!("the \"builder\" of derivation {key:?}");
        let builder = self.builder.filled_string(places, what)?;
        let builder = text(resolver, index, &builder)?;
        let args = match self.args {
            Some(list) => arguments(list, index, key, resolver)?,
            None => Vec::new(),
        };
        let env = self.env_below.iter().copied().chain(self.env);
        let env = environment(env, index, key, resolver)?;
        let inputs = match self.inputs {
            Some(list) => extra_inputs(list, index, key, resolver)?,
            None => Vec::new(),
        };
        if let Some((key, value)) = self.of_tree.filter(|_| has_own && !resolver.has_own_tree()) {
            let reason = "no text of the derivation refers to \"@{tree}\"";
            return Err(SelectionError::NoEffect { key, reason }.at(value.place(places)));
        }
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

    /// The name in its store paths. In that of a family's a `*` stands for the file.
    fn store_name(&self, places: &Places<'a>) -> Result<String, GraphError> {
        let key = &*self.key.text;
        let file = self.own.as_ref().and_then(|own| own.file.as_ref());
        let name = match self.name {
            Some(value) => value
                .filled_string(places, format_args!("the \"name\" of derivation {key:?}"))?
                .text
                .into_owned(),
            None => key.to_owned(),
        };
        Ok(match file {
            Some((_, _, stem)) => store_name(&name.replace('*', stem).replace('/', "-")),
            None => name,
        })
    }

    /// The texts with which its builder is called, as they stand in the file.
    fn raw_texts(&self) -> Vec<&'a str> {
        let env = self.env_below.iter().copied().chain(self.env);
        let others = [Some(self.builder), self.args].into_iter().flatten();
        others.chain(env).map(Value::raw).collect()
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
    let mut arguments = Vec::with_capacity(elements.len());
    for element in elements {
        let what = format_args!("an argument of derivation {key:?}");
        let string = element.string(places, what)?.without_nul(places)?;
        let alone = string
            .text
            .strip_prefix("@{")
            .and_then(|it| it.strip_suffix('}'));
        let family = alone.filter(|name| {
            resolver
                .family(name.split('^').next().unwrap_or_default())
                .is_some()
        });
        match family {
            // An argument for each of a family.
            Some(family) => {
                let spot = Spot {
                    string: string.at,
                    index: 1,
                };
                let mut pieces = Vec::new();
                resolver.references(family, spot, Where::Text(owner), &mut pieces)?;
                arguments.extend(pieces.into_iter().map(|piece| vec![piece]));
            }
            None => arguments.push(text(resolver, owner, &string)?),
        }
    }
    Ok(arguments)
}

fn extra_inputs<'a>(
    list: Value<'a>,
    owner: u32,
    key: &str,
    resolver: &mut Resolver<'a, '_>,
) -> Result<Vec<Piece>, GraphError> {
    let places = resolver.places();
    let elements = list.list(places, format_args!("the \"inputs\" of derivation {key:?}"))?;
    let mut inputs = Vec::with_capacity(elements.len());
    for element in elements {
        let string = element.string(places, format_args!("an input of derivation {key:?}"))?;
        let string = string.without_nul(places)?;
        resolver.references(
            &string.text,
            string.spot(),
            Where::Inputs(owner),
            &mut inputs,
        )?;
    }
    Ok(inputs)
}
