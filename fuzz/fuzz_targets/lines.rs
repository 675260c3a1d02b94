//! Fuzzes [`windrow_fuzz::lines`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(lines);
