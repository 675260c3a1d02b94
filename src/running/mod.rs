//! What runs in a store at this moment: gathered from what each run tells while it lasts, and from
//! what other programs hold there; and followed to its end.

mod follow;
mod overview;
mod tail;
mod watch;

pub(crate) use follow::{Followed, builder_of, follow};
pub(crate) use overview::{Overview, Process, RunView, WorkView};
