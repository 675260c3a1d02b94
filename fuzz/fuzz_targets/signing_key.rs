//! Fuzzes [`windrow_fuzz::signing_key`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(signing_key);
