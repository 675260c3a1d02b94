//! Fuzzes [`windrow_fuzz::cache_info`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(cache_info);
