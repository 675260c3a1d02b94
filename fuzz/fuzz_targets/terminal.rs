//! Fuzzes [`windrow_fuzz::terminal`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(terminal);
