//! What kinds of files a cache holds, as HTTP names them. Whoever writes a cache and whoever serves
//! one call them the same (Nix: `upsertFile`).

pub(crate) const CACHE_INFO: &str = "text/x-nix-cache-info";
pub(crate) const NARINFO: &str = "text/x-nix-narinfo";
pub(crate) const NAR: &str = "application/x-nix-nar";
pub(crate) const JSON: &str = "application/json";
