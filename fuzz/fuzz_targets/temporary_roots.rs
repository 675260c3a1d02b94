//! Fuzzes [`windrow_fuzz::temporary_roots`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(temporary_roots);
