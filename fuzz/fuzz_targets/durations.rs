//! Fuzzes [`windrow_fuzz::durations`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(durations);
