//! Where settings and locations come from: nix.conf, the environment, this machine. Decides nothing
//! about builds.

pub mod error;
pub mod host;
pub mod locations;
pub mod nix_conf;
