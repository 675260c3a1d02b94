//! JSON values as slices of the source: a value's address tells its place without a second parser.
//! Syntax is checked once, for the whole document; here types, keys and escapes can go wrong.

use std::borrow::Cow;
use std::fmt::{self, Arguments};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::GraphError;
use super::place::{Places, Position, Spot};
use super::wording::nearest;

/// A decoded string and the offset of its opening quote.
#[derive(Debug, Clone)]
pub(super) struct JsonStr<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) at: u32,
}

impl JsonStr<'_> {
    /// The spot of the opening quote, which stands for the string as a whole.
    pub(super) fn spot(&self) -> Spot {
        Spot {
            string: self.at,
            index: 0,
        }
    }

    /// Refuses a NUL: neither arguments nor environment nor file names can hold one.
    pub(super) fn without_nul(self, places: &Places<'_>) -> Result<Self, GraphError> {
        // JSON writes a NUL only as an escape, and a string with escapes is never a borrowed one.
        if let Cow::Owned(text) = &self.text
            && let Some(index) = memchr::memchr(0, text.as_bytes())
        {
            let spot = Spot {
                string: self.at,
                index: index as u32 + 1,
            };
            return Err(GraphError::Nul {
                place: places.inside(spot),
            });
        }
        Ok(self)
    }
}

/// One `"key": value` of an object.
pub(super) struct Member<'a> {
    pub(super) key: JsonStr<'a>,
    pub(super) value: Value<'a>,
}

/// The source text of one syntactically valid value, without white space around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a>(&'a str);

/// What kind of value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
    String,
    Number,
    True,
    False,
    Null,
}

impl Kind {
    /// As messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Object => "an object",
            Kind::List => "a list",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::True => "true",
            Kind::False => "false",
            Kind::Null => "null",
        }
    }
}

impl<'a> Value<'a> {
    /// The document as one value; every syntax error in it is found here.
    pub(super) fn document(places: &Places<'a>) -> Result<Self, GraphError> {
        let raw: &RawValue = serde_json::from_str(places.source())
            .map_err(|error| syntax(Position { line: 1, column: 1 }, &error))?;
        Ok(Value(raw.get()))
    }

    /// Its source text.
    pub(super) fn raw(self) -> &'a str {
        self.0
    }

    /// Told by the first byte, as the syntax is known to be right.
    pub(super) fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            Some(b'"') => Kind::String,
            Some(b't') => Kind::True,
            Some(b'f') => Kind::False,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The place of its first byte.
    pub(super) fn place(self, places: &Places<'a>) -> Position {
        places.at(places.offset(self.0))
    }

    /// The members of an object in the order of the file, equal keys included.
    pub(super) fn object(
        self,
        places: &Places<'a>,
        what: Arguments<'_>,
    ) -> Result<Vec<Member<'a>>, GraphError> {
        self.expect(Kind::Object, places, what)?;
        let members: Members<'a> =
            serde_json::from_str(self.0).map_err(|error| syntax(self.place(places), &error))?;
        members
            .0
            .into_iter()
            .map(|(key, value)| {
                Ok(Member {
                    key: Value(key.get()).decode(places)?,
                    value: Value(value.get()),
                })
            })
            .collect()
    }

    /// The values of an object that knows only `keys`, in their order.
    pub(super) fn fields<const N: usize>(
        self,
        keys: &[&'static str; N],
        places: &Places<'a>,
        what: Arguments<'_>,
    ) -> Result<[Option<Value<'a>>; N], GraphError> {
        let members = self.object(places, what)?;
        let mut fields = [None; N];
        for member in &members {
            let key = &member.key;
            let Some(slot) = keys.iter().position(|known| *known == key.text) else {
                return Err(GraphError::UnknownKey {
                    place: places.at(key.at),
                    key: key.text.clone().into_owned(),
                    parent: what.to_string(),
                    nearest: nearest(&key.text, keys.iter().copied()),
                    known: keys.to_vec(),
                });
            };
            if fields[slot].replace(member.value).is_some() {
                let first = members.iter().find(|earlier| earlier.key.text == key.text);
                return Err(duplicate_key(
                    places,
                    key,
                    first.map_or(key.at, |first| first.key.at),
                ));
            }
        }
        Ok(fields)
    }

    /// The elements of a list.
    pub(super) fn list(
        self,
        places: &Places<'a>,
        what: Arguments<'_>,
    ) -> Result<Vec<Value<'a>>, GraphError> {
        self.expect(Kind::List, places, what)?;
        let elements: Vec<&'a RawValue> =
            serde_json::from_str(self.0).map_err(|error| syntax(self.place(places), &error))?;
        Ok(elements
            .into_iter()
            .map(|element| Value(element.get()))
            .collect())
    }

    /// The string with its escapes decoded; borrowed from the source if it has none.
    pub(super) fn string(
        self,
        places: &Places<'a>,
        what: Arguments<'_>,
    ) -> Result<JsonStr<'a>, GraphError> {
        self.expect(Kind::String, places, what)?;
        self.decode(places)
    }

    /// The string, which must not be empty nor hold a NUL.
    pub(super) fn filled_string(
        self,
        places: &Places<'a>,
        what: Arguments<'_>,
    ) -> Result<JsonStr<'a>, GraphError> {
        let string = self.string(places, what)?.without_nul(places)?;
        if string.text.is_empty() {
            return Err(GraphError::Empty {
                place: self.place(places),
                what: what.to_string(),
            });
        }
        Ok(string)
    }

    /// The error that says that `expected` should stand here.
    pub(super) fn wrong_type(
        self,
        expected: &'static str,
        places: &Places<'a>,
        what: Arguments<'_>,
    ) -> GraphError {
        GraphError::WrongType {
            place: self.place(places),
            what: what.to_string(),
            expected,
            found: self.kind().name(),
        }
    }

    fn expect(
        self,
        kind: Kind,
        places: &Places<'a>,
        what: Arguments<'_>,
    ) -> Result<(), GraphError> {
        if self.kind() == kind {
            Ok(())
        } else {
            Err(self.wrong_type(kind.name(), places, what))
        }
    }

    fn decode(self, places: &Places<'a>) -> Result<JsonStr<'a>, GraphError> {
        let at = places.offset(self.0);
        let inner = &self.0[1..self.0.len() - 1];
        let text = if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
            Cow::Borrowed(inner)
        } else {
            let decoded: String =
                serde_json::from_str(self.0).map_err(|error| syntax(self.place(places), &error))?;
            Cow::Owned(decoded)
        };
        Ok(JsonStr { text, at })
    }
}

/// The error for a key that stands in its object a second time.
pub(super) fn duplicate_key(places: &Places<'_>, key: &JsonStr<'_>, first: u32) -> GraphError {
    GraphError::DuplicateKey {
        place: places.at(key.at),
        key: key.text.clone().into_owned(),
        first: places.at(first),
    }
}

/// serde_json's error about a text that starts at `start`.
fn syntax(start: Position, error: &serde_json::Error) -> GraphError {
    let (line, column) = (error.line().max(1) as u32, error.column().max(1) as u32);
    let place = if line == 1 {
        Position {
            line: start.line,
            column: start.column + column - 1,
        }
    } else {
        Position {
            line: start.line + line - 1,
            column,
        }
    };
    let mut message = error.to_string();
    // The place is a field of ours, and serde_json's would be wrong for a part of the document.
    if let Some(suffix) = message.rfind(" at line ") {
        message.truncate(suffix);
    }
    GraphError::Syntax { place, message }
}

/// An object as pairs of slices. A map would hide equal keys and could not tell where a key stands.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Members(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(source: &str) -> Result<Vec<(String, Position, Position)>, GraphError> {
        let places = Places::new(source)?;
        let members = Value::document(&places)?.object(&places, format_args!("the test"))?;
        let placed = |member: Member<'_>| {
            let place = member.value.place(&places);
            (
                member.key.text.into_owned(),
                places.at(member.key.at),
                place,
            )
        };
        Ok(members.into_iter().map(placed).collect())
    }

    #[test]
    fn members_know_where_they_stand() {
        let at = |line, column| Position { line, column };
        let expected = vec![
            ("a".into(), at(1, 3), at(1, 9)),
            ("b\n".into(), at(2, 2), at(3, 3)),
        ];
        assert_eq!(members("{ \"a\" : 1,\n \"b\\n\":\n  [2]}"), Ok(expected));
    }

    #[test]
    fn a_lone_surrogate_is_found_where_it_stands() {
        let error = members("{\n  \"a\\ud800b\": 1}").unwrap_err();
        assert!(matches!(error, GraphError::Syntax { .. }), "{error:?}");
        assert_eq!(error.place().line, 2);
    }

    #[test]
    fn deep_nesting_does_not_recurse() {
        let source = format!("{{\"a\": {}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(members(&source).map(|members| members.len()), Ok(1));
    }
}
