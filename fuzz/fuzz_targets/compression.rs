//! Fuzzes [`windrow_fuzz::compression`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(compression);
