//! What helps the engine: substituters, which are programs or binary caches, and the build hook:
//! what they are asked, what they answer, and how one talks to them. The systems that do so are in
//! the modules of their sets.

mod asking;
pub mod caches;
pub mod choice;
mod config;
pub mod downloads;
pub mod hook;
pub mod querier;
pub mod query;
mod speeds;
mod substituters;

pub use asking::Asking;
pub(crate) use asking::understand;
pub(crate) use config::destination;
pub use config::{CacheConfig, FetchEnv, HelperConfig, Inbox};
pub use speeds::Speeds;
pub use substituters::{Find, Kind, Offer, Substituters};
