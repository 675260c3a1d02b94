//! Fuzzes [`windrow_fuzz::substituter`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(substituter);
