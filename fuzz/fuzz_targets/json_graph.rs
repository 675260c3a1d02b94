//! Fuzzes [`windrow_fuzz::json_graph`].
#![cfg_attr(fuzzing, no_main)]

windrow_fuzz::target!(json_graph);
