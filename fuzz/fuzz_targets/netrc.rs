//! Fuzzes [`windrow_fuzz::netrc`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(netrc);
