//! Fuzzes [`windrow_fuzz::wfformat`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(wfformat);
