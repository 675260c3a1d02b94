//! Fuzzes [`windrow_fuzz::includes`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(includes);
