//! What a C or C++ file may include: all that its lines name, whatever conditions they stand under.
//! Errs to the side of too much, so that no header is missed because a macro was not known.

mod scan;
#[cfg(test)]
mod tests;

use hashbrown::HashMap;

pub use scan::scan;

/// What one file says about other files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Includes {
    /// The headers that are named, each once, in the order of the file.
    pub headers: Vec<Header>,
    /// Of each include that leaves its header to macros: the identifiers it is made of.
    pub computed: Vec<Vec<String>>,
    /// The macros that could stand for a header's name, by name.
    pub macros: HashMap<String, Vec<Macro>>,
}

/// The name of a header as an include spells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Header {
    /// The name, without quotes or angle brackets.
    pub name: String,
    /// Whether it is looked for beside the including file first.
    pub beside: bool,
}

/// What a macro stands for, as far as includes are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Macro {
    /// The name of a header, with its quotes or angle brackets.
    Header(Header),
    /// Whatever these identifiers stand for.
    Names(Vec<String>),
    /// Something that only a preprocessor understands.
    Unknown,
}
