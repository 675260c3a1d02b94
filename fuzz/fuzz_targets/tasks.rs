//! Fuzzes [`windrow_fuzz::tasks`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(tasks);
