//! The mount namespace that all sandboxed processes of root's engine start from.

use std::io;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{UnlinkatFlags, unlinkat};

use windrow_sys::told::told;

use super::Isolation;
use crate::ids::Owner;
use crate::network::Networks;
use crate::process::launch::action::{Action, run_all};

/// The mount namespace in which a thread makes sandboxed processes. It must stay with that thread.
#[derive(Debug)]
pub struct MountTemplate {
    pub(super) networks: Networks,
}

impl MountTemplate {
    /// Moves the calling thread into a template, for good. Takes root.
    ///
    /// # Errors
    /// Which step failed and why.
    pub fn enter(isolation: &Isolation) -> io::Result<Self> {
        let config = &isolation.shared.config;
        let about = |what: &str, error: io::Error| {
            let text = format!("cannot {what}: {error}");
            told(error, text)
        };
        let networks =
            Networks::new().map_err(|error| about("look at the network namespace", error))?;
        let ground = isolation.shared.dirs_pool.ground();
        let ground = ground.map_err(|error| about("make the directories of the run", error))?;
        let (name, run) = ("template", &ground.view.builds);
        let base = run.join(name);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = openat(AT_FDCWD, run, flags, Mode::empty())
            .map_err(|errno| about("open the directory of the run", errno.into()))?;
        // In a directory that nobody else enters, so that what is there is ours.
        std::fs::create_dir(&base).map_err(|error| about("make a mount point", error))?;
        let own = Owner { uid: 0, gid: 0 };
        let mut actions = vec![
            Action::Unshare(libc::CLONE_FS | libc::CLONE_NEWNS | libc::CLONE_NEWUTS),
            Action::NameHost,
        ];
        actions.extend(config.template(
            &base,
            &ground.view,
            isolation.ids(own),
            false,
            isolation.shared.support.waiting_proc(),
        ));
        // Whoever may make keys could use those of the session that windrow runs in; others, what
        // the kernel does for them.
        actions.push(Action::NewKeyring);
        actions.extend(isolation.limits.actions(false));
        let result = run_all(&actions)
            .map_err(|(index, errno)| about(&actions[index].describe(), errno.into()));
        // The mask of this thread's own file system state, which it shares with no other any more.
        umask(Mode::from_bits_truncate(0o022));
        // Nothing of it is left outside; nobody needs the empty directory it was mounted on.
        let _ = unlinkat(&parent, name, UnlinkatFlags::RemoveDir);
        result.map(|()| Self { networks })
    }
}
