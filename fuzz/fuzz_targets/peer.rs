//! Fuzzes [`windrow_fuzz::peer`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(peer);
