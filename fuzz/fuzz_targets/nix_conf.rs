//! Fuzzes [`windrow_fuzz::nix_conf`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(nix_conf);
