//! Where and as whom one build runs, and how that ends.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use windrow_sys::harmless::open_to_all;
use windrow_sys::tree::delete_path;

use super::Isolation;
use crate::dirs::admit;
use crate::dirs::build_dir::SpareDirs;
use crate::dirs::sandbox_dirs::SandboxDirs;
use crate::ids::Owner;
use crate::ids::users::UserLock;
use crate::network::NetnsLease;
use crate::process::kill_user::kill_user;

/// Where and as whom one build runs, as long as anything of it is left. Dropped before it was left,
/// it gives up its user and network but keeps its directories.
#[derive(Debug)]
pub struct BuildEnv {
    /// Its directories, if it is in a sandbox.
    pub(super) sandbox: Option<(Isolation, SandboxDirs)>,
    /// What holds its build directory, if it is not.
    pub(super) dir: Option<(SpareDirs, PathBuf)>,
    pub(super) lease: Option<NetnsLease>,
    pub(super) owner: Owner,
    pub(super) user: Option<UserLock>,
}

impl BuildEnv {
    /// That of a build user without a sandbox, whose build directory is in `dir`, one of `dirs`.
    pub fn without_sandbox(dirs: SpareDirs, dir: PathBuf, user: UserLock) -> Self {
        Self {
            sandbox: None,
            dir: Some((dirs, dir)),
            lease: None,
            owner: user.owner(),
            user: Some(user),
        }
    }

    /// The build directory, as the machine sees it.
    pub fn build_dir(&self) -> PathBuf {
        match (&self.sandbox, &self.dir) {
            (Some((_, dirs)), _) => dirs.place(dirs.host_view()).build,
            (None, Some((_, dir))) => dir.join(admit::BUILD),
            (None, None) => PathBuf::new(),
        }
    }

    /// Whether it is in a sandbox.
    pub fn is_sandbox(&self) -> bool {
        self.sandbox.is_some()
    }

    /// The directory in which the builder makes its outputs, if that is not the store itself.
    pub fn store(&self) -> Option<PathBuf> {
        let (_, dirs) = self.sandbox.as_ref()?;
        Some(dirs.place(dirs.host_view()).store)
    }

    /// A directory that no builder can enter, on the file system of the store.
    pub fn private(&self) -> Option<PathBuf> {
        let (_, dirs) = self.sandbox.as_ref()?;
        Some(dirs.private(dirs.host_view()))
    }

    /// Whom everything that the builder makes must belong to.
    pub fn builder_uid(&self) -> u32 {
        self.owner.uid
    }

    /// The user and group that the builder writes as.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Makes sure that nothing of the builder runs any more. What is in a sandbox died with its
    /// first process.
    ///
    /// # Errors
    /// When processes don't die.
    pub fn kill_processes(&self) -> io::Result<()> {
        match &self.user {
            Some(_) if self.sandbox.is_none() => kill_user(self.owner.uid),
            _ => Ok(()),
        }
    }

    /// The build user that it belongs to, unless that is whoever runs the engine.
    pub fn build_user(&self) -> Option<Owner> {
        self.user.as_ref().map(UserLock::owner)
    }

    /// Makes sure that nothing of the build user runs any more that was started outside of a
    /// sandbox.
    ///
    /// # Errors
    /// When processes don't die.
    pub fn kill_build_user(&self) -> io::Result<()> {
        match &self.user {
            Some(user) => kill_user(user.owner().uid),
            None => Ok(()),
        }
    }

    /// Ends it, when all its processes are dead and what is wanted of it has been taken.
    pub fn leave(self) -> Left {
        self.leave_without(&[])
    }

    /// The same where outputs with these names may still lie in the sandbox, which nobody wants.
    pub fn leave_without(mut self, outputs: &[OsString]) -> Left {
        let mut left = Left::default();
        if let Some((isolation, dirs)) = self.sandbox.take() {
            let view = dirs.host_view().clone();
            left.garbage = dirs.put_outputs_aside(&view, outputs);
            let (garbage, _) = isolation.shared.dirs_pool.give_back(&view, dirs, false);
            left.garbage.extend(garbage);
        }
        left.build_dir = self.dir.take();
        left
    }

    /// As [`BuildEnv::leave`], but the build directory stays, and is opened to everybody once it is
    /// harmless. What it takes is in proportion to what the builder left there.
    pub fn leave_open(mut self) -> (Left, windrow_sys::Result<()>) {
        let (mut left, mut opened) = (Left::default(), Ok(()));
        if let Some((isolation, dirs)) = self.sandbox.take() {
            let view = dirs.host_view().clone();
            let (top, build) = (dirs.top(&view), dirs.place(&view).build);
            opened = open_to_all(&[&top, &build], self.owner.uid);
            (left.garbage, left.kept) = isolation.shared.dirs_pool.give_back(&view, dirs, true);
        }
        if let Some((dirs, dir)) = self.dir.take() {
            let build = dir.join(admit::BUILD);
            opened = open_to_all(&[&dir, &build], self.owner.uid);
            dirs.keep(&dir);
            left.kept = Some(build);
        }
        (left, opened)
    }
}

/// What is left of an environment.
#[derive(Debug, Default)]
pub struct Left {
    garbage: Vec<PathBuf>,
    build_dir: Option<(SpareDirs, PathBuf)>,
    /// The build directory, if it was to be kept.
    pub kept: Option<PathBuf>,
}

impl Left {
    /// Deletes what was not kept, which may take a while.
    pub fn delete(self) {
        for path in self.garbage {
            // What can't be deleted goes with the run.
            let _ = delete_path(&path);
        }
        if let Some((dirs, dir)) = self.build_dir {
            dirs.delete(&dir);
        }
    }
}
