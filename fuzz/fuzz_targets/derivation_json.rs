//! Fuzzes [`windrow_fuzz::derivation_json`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(derivation_json);
