//! Fuzzes [`windrow_fuzz::aterm`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(aterm);
