//! Templates: fields that derivations share. A derivation's own fields stand above those of its
//! template, and of `env` each variable by itself.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::place::Places;
use super::value::{JsonStr, Member, Value, duplicate_key};
use super::wording::nearest;
use super::{GraphError, SelectionError};

/// The keys of derivations and templates.
pub(super) const KEYS: [&str; 14] = [
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
    "use",
    "each",
    "tree",
    "headers",
];

const ENV: usize = 4;
const USE: usize = 10;
const EACH: usize = 11;

/// The values of [`KEYS`].
pub(super) type Fields<'a> = [Option<Value<'a>>; KEYS.len()];

/// A template with what it has of others.
pub(super) struct Template<'a> {
    fields: Fields<'a>,
    /// The environments, those of others first.
    env: Vec<Value<'a>>,
}

/// All templates of a graph.
pub(super) struct Templates<'a>(HashMap<Cow<'a, str>, Template<'a>>);

impl<'a> Templates<'a> {
    /// Reads them all, with what they use of each other.
    pub(super) fn read(members: Vec<Member<'a>>, places: &Places<'a>) -> Result<Self, GraphError> {
        let mut written: HashMap<Cow<'a, str>, (JsonStr<'a>, Fields<'a>)> = HashMap::new();
        for Member { key, value } in &members {
            let fields =
                value.fields(&KEYS, places, format_args!("the template {:?}", key.text))?;
            let entry = (key.clone(), fields);
            if let Some((first, _)) = written.insert(key.text.clone(), entry) {
                return Err(duplicate_key(places, key, first.at));
            }
        }
        let mut read = Self(HashMap::with_capacity(written.len()));
        for member in &members {
            read.complete(&member.key, &written, places)?;
        }
        Ok(read)
    }

    /// Reads one, after those that it uses.
    fn complete(
        &mut self,
        key: &JsonStr<'a>,
        written: &HashMap<Cow<'a, str>, (JsonStr<'a>, Fields<'a>)>,
        places: &Places<'a>,
    ) -> Result<(), GraphError> {
        if self.0.contains_key(&key.text) {
            return Ok(());
        }
        let mut chain = vec![key.text.clone()];
        while let Some(name) = chain.last() {
            let (_, fields) = &written[name];
            let Some(used) = fields[USE] else { break };
            let string = used.string(places, format_args!("the \"use\" of template {name:?}"))?;
            if !written.contains_key(&string.text) {
                return Err(unknown(
                    &string,
                    written.keys().map(|known| &**known),
                    places,
                ));
            }
            if let Some(from) = chain.iter().position(|name| *name == string.text) {
                chain.push(string.text);
                let chain = chain[from..].iter().map(|name| name.to_string()).collect();
                return Err(SelectionError::TemplateCycle { chain }.at(places.at(string.at)));
            }
            if self.0.contains_key(&string.text) {
                break;
            }
            chain.push(string.text);
        }
        for name in chain.into_iter().rev() {
            let (_, fields) = &written[&name];
            let below = self.used_by(fields, places)?;
            let (fields, mut env) = merged(fields, below);
            env.extend(fields[ENV]);
            self.0.insert(name, Template { fields, env });
        }
        Ok(())
    }

    /// The template that fields name.
    fn used_by(
        &self,
        fields: &Fields<'a>,
        places: &Places<'a>,
    ) -> Result<Option<&Template<'a>>, GraphError> {
        let Some(used) = fields[USE] else {
            return Ok(None);
        };
        let string = used.string(places, format_args!("\"use\""))?;
        match self.0.get(&string.text) {
            Some(template) => Ok(Some(template)),
            None => Err(unknown(
                &string,
                self.0.keys().map(|known| &**known),
                places,
            )),
        }
    }
}

/// The fields of a derivation above those of its template.
pub(super) struct Fielded<'a> {
    /// The values; of `env` the derivation's own.
    pub(super) fields: Fields<'a>,
    /// The environments of templates, those that others stand above first.
    pub(super) env_below: Vec<Value<'a>>,
    /// The whole entry.
    pub(super) value: Value<'a>,
}

impl<'a> Fielded<'a> {
    /// Reads which fields a derivation has.
    pub(super) fn read(
        member: &Member<'a>,
        templates: &Templates<'a>,
        places: &Places<'a>,
    ) -> Result<Self, GraphError> {
        let parent = format_args!("the derivation {:?}", member.key.text);
        let fields = member.value.fields(&KEYS, places, parent)?;
        let (fields, env_below) = merged(&fields, templates.used_by(&fields, places)?);
        let value = member.value;
        Ok(Self {
            fields,
            env_below,
            value,
        })
    }

    /// Whether it stands for one derivation a file.
    pub(super) fn is_family(&self) -> bool {
        self.fields[EACH].is_some()
    }

    /// `each`, `tree` and `headers`.
    pub(super) fn choice(&self) -> [Option<Value<'a>>; 3] {
        [EACH, EACH + 1, EACH + 2].map(|index| self.fields[index])
    }
}

/// The fields above those of a template, `env` as it is, and the template's environments.
fn merged<'a>(
    fields: &Fields<'a>,
    template: Option<&Template<'a>>,
) -> (Fields<'a>, Vec<Value<'a>>) {
    let Some(template) = template else {
        return (*fields, Vec::new());
    };
    let mut all = *fields;
    for (index, (field, below)) in all.iter_mut().zip(template.fields).enumerate() {
        if index != ENV {
            *field = field.or(below);
        }
    }
    (all, template.env.clone())
}

fn unknown<'n>(
    name: &JsonStr<'_>,
    known: impl Iterator<Item = &'n str>,
    places: &Places<'_>,
) -> GraphError {
    let nearest = nearest(&name.text, known);
    let place = places.at(name.at);
    let name = name.text.clone().into_owned();
    SelectionError::UnknownTemplate { name, nearest }.at(place)
}
