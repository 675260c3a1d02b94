//! Fuzzes [`windrow_fuzz::log_message`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(log_message);
