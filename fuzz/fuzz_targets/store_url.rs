//! Fuzzes [`windrow_fuzz::store_url`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(store_url);
