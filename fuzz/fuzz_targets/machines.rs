//! Fuzzes [`windrow_fuzz::machines`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(machines);
