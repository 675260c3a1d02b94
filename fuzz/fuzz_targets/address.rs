//! Fuzzes [`windrow_fuzz::address`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(address);
