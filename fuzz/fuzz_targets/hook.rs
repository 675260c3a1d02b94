//! Fuzzes [`windrow_fuzz::hook`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(hook);
