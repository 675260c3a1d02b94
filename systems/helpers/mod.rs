//! The programs that help the engine, substituters and the build hook: what they are asked, what
//! they answer, and how one talks to them. The systems that do so are in the modules of their sets.

mod asking;
mod config;
pub mod hook;
pub mod querier;
pub mod query;
mod substituters;

pub use asking::Asking;
pub(crate) use asking::understand;
pub(crate) use config::destination;
pub use config::{FetchEnv, HelperConfig, Inbox};
pub use substituters::{Find, Substituters};
