//! Fuzzes [`windrow_fuzz::listing`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(listing);
