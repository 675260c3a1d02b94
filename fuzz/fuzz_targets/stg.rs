//! Fuzzes [`windrow_fuzz::stg`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(stg);
