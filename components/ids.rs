//! Dense 32-bit names for paths, derivations and the like: one type each, so that none stands in
//! for another. Without the greatest number, so that an `Option` of one takes no more room.

use nonmax::NonMaxU32;

/// What a dense id holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NonMaxIndex(NonMaxU32);

impl NonMaxIndex {
    #[inline]
    pub(crate) fn new(index: usize) -> Self {
        let index = u32::try_from(index).ok().and_then(NonMaxU32::new);
        Self(index.expect("a dense id fits into 32 bits"))
    }

    #[inline]
    pub(crate) const fn get(self) -> usize {
        self.0.get() as usize
    }
}

/// Declares a dense id: an index into the table that made it.
macro_rules! dense_id {
    ($(#[$doc:meta])* $vis:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis struct $name($crate::ids::NonMaxIndex);

        impl $name {
            /// The id with that index.
            ///
            /// # Panics
            /// With 2^32 - 1 or more: a table of that size is refused long before.
            #[inline]
            $vis fn from_index(index: usize) -> Self {
                Self($crate::ids::NonMaxIndex::new(index))
            }

            /// Its place in the table.
            #[inline]
            $vis const fn index(self) -> usize {
                self.0.get()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.index())
            }
        }
    };
}

dense_id! {
    /// A store path, interned in a [`PathTable`](crate::paths::PathTable).
    pub PathId
}
dense_id! {
    /// A derivation, a row of a [`BuildGraph`](crate::graph::BuildGraph).
    pub DrvId
}
dense_id! {
    /// A short text that recurs: the name of an output or a platform.
    pub NameId
}

pub(crate) use dense_id;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_takes_no_room() {
        assert_eq!(size_of::<Option<PathId>>(), 4);
        assert!(PathId::from_index(1) < PathId::from_index(2));
        assert_eq!(DrvId::from_index(7).index(), 7);
    }
}
