//! Fuzzes [`windrow_fuzz::request`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(request);
