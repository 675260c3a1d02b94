//! What happens to the trees that lie in a store, or are about to.

pub mod beside;
pub mod canonical;
pub mod copy;
pub mod durable;
mod in_place;
pub mod optimise;
pub mod replace;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod swapped;
