//! Fuzzes [`windrow_fuzz::narinfo`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(narinfo);
