//! Where settings and locations come from: nix.conf, the environment, this machine. Decides nothing
//! about builds.

pub(crate) mod error;
pub(crate) mod host;
pub(crate) mod locations;
pub(crate) mod nix_conf;
pub(crate) mod store_name;
pub(crate) mod user_dirs;
