//! Fuzzes [`windrow_fuzz::nar`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(nar);
