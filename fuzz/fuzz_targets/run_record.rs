//! Fuzzes [`windrow_fuzz::run_record`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(run_record);
