//! Fuzzes [`windrow_fuzz::registrations`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(registrations);
