//! Who builders are: users of the machine that are lent to them, and user namespaces in which all
//! are the same.

pub mod barred;
pub mod user_ns;
pub mod users;

/// Whom the builder's directories belong to; root's engine only can give them to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}
