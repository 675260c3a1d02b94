//! Fuzzes [`windrow_fuzz::ninja`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(ninja);
