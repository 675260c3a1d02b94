//! Fuzzes [`windrow_fuzz::store_path`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(store_path);
