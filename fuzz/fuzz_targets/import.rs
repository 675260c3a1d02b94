//! Fuzzes [`windrow_fuzz::import`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(import);
