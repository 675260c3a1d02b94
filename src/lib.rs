//! windrow, a build engine that turns Nix derivations into valid store paths.

pub mod conf;
