//! End to end: every test runs the built `windrow` in a world of its own and looks at what it leaves.
//! What needs Nix, root or ../shared says so on standard error and is skipped where that is absent.

mod harness;

mod attributes;
mod bad_database;
mod bad_derivation;
mod bad_disk;
mod bad_usage;
mod build;
mod build_users;
mod builder_env;
mod builtin;
mod check;
mod collection;
mod concurrent;
mod escape;
mod failed_paths;
mod failure;
mod fidelity;
mod fixed_output;
mod graph;
mod graph_mistakes;
mod graph_sources;
mod history;
mod hook;
mod hostile_text;
mod interrupt;
mod logs;
mod nix_store;
mod no_sandbox;
mod optimise;
mod options;
mod output_checks;
mod outputs;
mod platforms;
mod processes;
mod propagation;
mod real_nix;
mod registration;
mod repair;
mod same_results;
mod sandbox;
mod seed_table;
mod substitute;
mod task_graph;
mod terminal;
