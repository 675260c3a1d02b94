//! The store: its database, archives, locks, roots and collector. Knows paths and derivations, but
//! no goals and no builds.
//!
//! - [`local`]: a store on this machine, open; [`layout`]: where its parts lie.
//! - [`db`]: Nix's database of valid paths; [`own`]: windrow's own beside it.
//! - [`nar`]: archives, and what is learnt by reading a tree as one: hashes, sizes, references.
//! - [`files`]: what happens to trees in the store: made canonical, copied, replaced, linked to
//!   their equals.
//! - [`locks`] on paths, [`roots`] that keep paths, and the collector [`gc`] that deletes the
//!   others.
//! - [`text`]: paths written down for others: registrations, exports, graphs.
//! - [`logs`] of builds: where they lie.
//! - [`runs`]: what works in the store at this moment.
//! - [`wire`]: numbers and texts in the streams that Nix reads and writes.
//! - [`signer`]: signatures of what was built here.
//! - [`ops`]: what is done to a whole store: adding, registering, verifying.

pub mod db;
mod drafts;
mod error;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod gc;
pub mod layout;
pub mod local;
pub mod locks;
pub mod logs;
pub mod nar;
pub mod ops;
pub mod own;
pub mod roots;
pub mod runs;
pub mod signer;
pub mod text;
pub mod wire;

pub use db::{Database, DatabaseOptions, Edges, PathInfo, Registration, WalkRoot};
pub use drafts::Drafts;
pub use error::{Error, Result};
pub use layout::Layout;
