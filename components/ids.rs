//! Dense 32-bit names for paths, derivations and the like: one type each, so that none stands in for another.

/// Declares a dense id: an index into the table that made it.
macro_rules! dense_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// The id with that index.
            ///
            /// # Panics
            /// If `index` does not fit into 32 bits: a table of that size is refused long before.
            #[inline]
            pub fn from_index(index: usize) -> Self {
                Self(u32::try_from(index).expect("a dense id fits into 32 bits"))
            }

            /// Its place in the table.
            #[inline]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

dense_id! {
    /// A store path, interned in a [`PathTable`](crate::paths::PathTable).
    PathId
}
dense_id! {
    /// A derivation, a row of a [`BuildGraph`](crate::graph::BuildGraph).
    DrvId
}
dense_id! {
    /// A short text that recurs: the name of an output or a platform.
    NameId
}
