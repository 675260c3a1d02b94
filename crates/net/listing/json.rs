//! The text of a listing: JSON, version 1 of Nix's form.

use serde_json::{Map, Value};

use super::{Kind, Listing, Node};

/// Why there is no listing, or none to be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// JSON has no way to write a name or a target that isn't UTF-8.
    #[error("'{0}' is not UTF-8, so it can't be listed")]
    NotText(String),
    /// A text is no JSON.
    #[error("the listing is not JSON: {0}")]
    Syntax(String),
    /// A text has another form than a listing.
    #[error("the listing is bad at '{place}': {reason}")]
    Form {
        /// The path in the tree.
        place: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Listing {
    /// The text of the listing, with its fields in Nix's order.
    ///
    /// # Errors
    /// [`ListingError::NotText`].
    pub fn to_json(&self) -> Result<String, ListingError> {
        let mut json = String::from(r#"{"version":1,"root":"#);
        let mut open = 0;
        for (at, node) in self.nodes.iter().enumerate() {
            let first = at == 0 || self.nodes[at - 1].depth < node.depth;
            while open > node.depth {
                json.push_str("}}");
                open -= 1;
            }
            if at > 0 {
                json.push_str(if first { "" } else { "," });
                json.push_str(&quoted(&node.name)?);
                json.push(':');
            }
            match &node.kind {
                Kind::Directory => {
                    json.push_str(r#"{"type":"directory","entries":{"#);
                    open += 1;
                }
                Kind::Regular {
                    size,
                    executable,
                    offset,
                } => {
                    json.push_str(&format!(r#"{{"type":"regular","size":{size}"#));
                    if *executable {
                        json.push_str(r#","executable":true"#);
                    }
                    if let Some(offset) = offset {
                        json.push_str(&format!(r#","narOffset":{offset}"#));
                    }
                    json.push('}');
                }
                Kind::Symlink { target } => {
                    let target = quoted(target)?;
                    json.push_str(&format!(r#"{{"type":"symlink","target":{target}}}"#));
                }
            }
        }
        json.push_str(&"}}".repeat(open));
        json.push('}');
        Ok(json)
    }

    /// Reads the text of a listing. Names come out in their order, whatever that of the text is.
    ///
    /// # Errors
    /// When it is none, or describes what no NAR holds; and for trees more than 60 directories
    /// deep.
    pub fn parse(json: &[u8]) -> Result<Self, ListingError> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| ListingError::Syntax(error.to_string()))?;
        let form = |reason| ListingError::Form {
            place: "/".to_owned(),
            reason,
        };
        let Value::Object(mut fields) = value else {
            return Err(form("it should be an object"));
        };
        if fields.get("version").and_then(Value::as_u64) != Some(1) {
            return Err(form("its version should be 1"));
        }
        let root = fields.remove("root").ok_or(form("it has no root"))?;
        let mut nodes = Vec::new();
        // What is still to be read, the next one last: depth, place, name.
        let mut left = vec![(0, String::new(), String::new(), root)];
        while let Some((depth, around, name, value)) = left.pop() {
            let place = format!("{around}/{name}");
            let around = if depth == 0 { "" } else { &place };
            let bad = |reason| ListingError::Form {
                place: place.clone(),
                reason,
            };
            let Value::Object(mut fields) = value else {
                return Err(bad("it should be an object"));
            };
            let (kind, entries) = kind_of(&mut fields).map_err(bad)?;
            let name = name.into_bytes();
            nodes.push(Node { depth, name, kind });
            for (name, value) in entries.into_iter().rev() {
                if matches!(&*name, "" | "." | "..") || name.contains(['/', '\0']) {
                    return Err(bad("an entry has no valid file name"));
                }
                left.push((depth + 1, around.to_owned(), name, value));
            }
        }
        Ok(Self { nodes })
    }
}

fn quoted(text: &[u8]) -> Result<String, ListingError> {
    let text = str::from_utf8(text)
        .map_err(|_| ListingError::NotText(String::from_utf8_lossy(text).into_owned()))?;
    Ok(Value::from(text).to_string())
}

/// What an object describes, and what is in it.
fn kind_of(fields: &mut Map<String, Value>) -> Result<(Kind, Map<String, Value>), &'static str> {
    let number = |name: &str| fields.get(name).and_then(Value::as_u64);
    let none = Map::new();
    match fields.get("type").and_then(Value::as_str) {
        Some("regular") => {
            let kind = Kind::Regular {
                size: number("size").ok_or("its size should be a number")?,
                executable: fields.get("executable").and_then(Value::as_bool) == Some(true),
                offset: number("narOffset"),
            };
            Ok((kind, none))
        }
        Some("symlink") => {
            let target = fields.get("target").and_then(Value::as_str);
            let target = target.filter(|it| !it.is_empty() && !it.contains('\0'));
            let target = target.ok_or("its target should be a text")?;
            let target = target.as_bytes().to_vec();
            Ok((Kind::Symlink { target }, none))
        }
        Some("directory") => match fields.remove("entries") {
            Some(Value::Object(entries)) => Ok((Kind::Directory, entries)),
            _ => Err("its entries should be an object"),
        },
        _ => Err("its type should be regular, symlink or directory"),
    }
}
