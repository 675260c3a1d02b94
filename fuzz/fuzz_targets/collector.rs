//! Fuzzes [`windrow_fuzz::collector`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(collector);
