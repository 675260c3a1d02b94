//! Fuzzes [`windrow_fuzz::report`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(report);
