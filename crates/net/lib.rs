//! Binary caches: what they hold, and the client that reads and writes them.
//!
//! - [`store_url`] and [`params`]: the names of stores that paths may come from.
//! - [`cache_info`], [`narinfo`], [`listing`]: the files of a cache; [`compression`] around NARs.
//! - [`trust`]: whether a cache is to be believed; [`unpack`]: what it sent, made a tree.
//! - [`lookup`]: answers of caches, kept for later runs in the file that Nix keeps them in.
//! - [`remote`]: one cache, wherever it is, reached through a [`client`]; [`error`] says why not.
//! - [`copy`]: paths of a store written into a cache, or into a store that a Nix serves.
//! - [`peer`]: a store that a Nix serves, on another machine or behind a daemon's socket.
//! - [`asker`]: many caches asked at once, by a thread that answers through a channel.
//! - [`serve`]: a store on this machine as a cache for others.
//! - [`address`], [`certificates`], [`netrc`], [`proxies`]: what any download has to know.

pub mod address;
pub mod asker;
pub mod cache_info;
pub mod certificates;
pub mod client;
pub mod compression;
mod content_type;
pub mod copy;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod inquiry;
pub mod listing;
pub mod lookup;
pub mod narinfo;
pub mod netrc;
pub mod params;
pub mod peer;
mod pieces;
pub mod proxies;
pub mod remote;
pub mod serve;
pub mod store_url;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trust;
pub mod unpack;

pub use error::NetError;
