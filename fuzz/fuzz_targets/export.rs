//! Fuzzes [`windrow_fuzz::export`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(export);
