//! Fuzzes [`windrow_fuzz::channel`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(channel);
