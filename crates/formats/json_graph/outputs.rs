//! The outputs of one derivation, looked up by name without a scan however many there are.
//! Keeps the order of the file, as indices into it are what references hold.

use super::GraphError;
use super::names::check_name;
use super::place::Places;
use super::value::{JsonStr, Value};

/// A derivation's output names. There is at least one.
#[derive(Clone)]
pub(super) struct Outputs {
    names: Vec<String>,
    /// Indices of `names` in the order of the names; empty as long as a scan is cheaper.
    sorted: Vec<u32>,
}

/// Up to here a scan beats a binary search.
const SCANNED: usize = 8;

impl Outputs {
    /// What a derivation has that lists none.
    pub(super) fn default() -> Self {
        Outputs {
            names: vec!["out".to_owned()],
            sorted: Vec::new(),
        }
    }

    /// Reads a list of outputs.
    pub(super) fn parse(value: Value<'_>, places: &Places<'_>) -> Result<Self, GraphError> {
        let elements = value.list(places, format_args!("\"outputs\""))?;
        if elements.is_empty() {
            return Err(GraphError::NoOutputs {
                place: value.place(places),
            });
        }
        let mut strings = Vec::with_capacity(elements.len());
        for element in elements {
            let string = element.string(places, format_args!("an output's name"))?;
            check_name(&string, "an output", places)?;
            windrow_components::store_path::check_name(&string.text).map_err(|error| {
                GraphError::OutputName {
                    place: places.at(string.at),
                    reason: error.to_string(),
                }
            })?;
            strings.push(string);
        }
        let mut sorted: Vec<u32> = (0..strings.len() as u32).collect();
        sorted.sort_by(|&a, &b| strings[a as usize].text.cmp(&strings[b as usize].text));
        let twins = sorted.windows(2).map(|pair| [pair[0], pair[1]]);
        let mut equal = twins.filter(|pair| {
            let [first, second] = pair.map(|index| &strings[index as usize].text);
            first == second
        });
        if let Some([first, second]) = equal.next() {
            let [first, second]: [&JsonStr<'_>; 2] =
                [first, second].map(|index| &strings[index as usize]);
            return Err(GraphError::DuplicateOutput {
                place: places.at(second.at),
                output: second.text.clone().into_owned(),
                first: places.at(first.at),
            });
        }
        if strings.len() <= SCANNED {
            sorted = Vec::new();
        }
        let names = strings
            .into_iter()
            .map(|string| string.text.into_owned())
            .collect();
        Ok(Outputs { names, sorted })
    }

    /// The index of the output called `name`.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        if self.sorted.is_empty() {
            return self
                .names
                .iter()
                .position(|known| known == name)
                .map(|index| index as u32);
        }
        self.sorted
            .binary_search_by(|&index| self.names[index as usize].as_str().cmp(name))
            .ok()
            .map(|position| self.sorted[position])
    }

    /// The output that the derivation's name alone stands for: `out`, else the first.
    pub(super) fn main(&self) -> u32 {
        self.find("out").unwrap_or(0)
    }

    /// The names in the order of the file.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Gives the names away.
    pub(super) fn into_names(self) -> Vec<String> {
        self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_output_is_found_few_or_many() {
        for count in [1, SCANNED, SCANNED + 1, 500] {
            let names: Vec<String> = (0..count)
                .map(|index| format!("o{}", index * 7919))
                .collect();
            let source = format!("{names:?}");
            let places = Places::new(&source).unwrap();
            let outputs = Outputs::parse(Value::document(&places).unwrap(), &places).unwrap();
            for (index, name) in names.iter().enumerate() {
                assert_eq!(outputs.find(name), Some(index as u32));
            }
            assert_eq!(outputs.find("out"), None);
            assert_eq!(outputs.main(), 0);
            assert_eq!(outputs.into_names(), names);
        }
    }
}
