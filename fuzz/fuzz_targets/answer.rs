//! Fuzzes [`windrow_fuzz::answer`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(answer);
