//! Fuzzes [`windrow_fuzz::hash`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(hash);
