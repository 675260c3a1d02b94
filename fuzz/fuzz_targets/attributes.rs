//! Fuzzes [`windrow_fuzz::attributes`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(attributes);
