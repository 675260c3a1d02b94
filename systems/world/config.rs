//! What builders in the real world need to know of this machine and of the settings.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::Arc;

use windrow_sandbox::cgroups::Cgroups;
use windrow_sandbox::ids::user_ns::IdMap;
use windrow_sandbox::ids::users::UserPool;
use windrow_sandbox::process::launch::action::Action;
use windrow_sandbox::{BuildEnv, Isolation, Limits};
use windrow_store::db::reader::Reader;
use windrow_store::files::durable::Durability;
use windrow_store::files::optimise::Optimiser;
use windrow_store::layout::Layout;
use windrow_sys::space::Places;

use crate::builtin::Builtins;
use crate::error::{Error, Result};
use crate::process::helper::HelperEnv;

/// What builders need to know of this machine and these settings.
#[derive(Debug, Clone)]
pub struct BuilderConfig {
    /// Where the store and its state lie.
    pub layout: Layout,
    /// Platforms whose programs run here, this machine's own first.
    pub platforms: Vec<String>,
    /// Builders that come with the engine; `None` where a derivation that wants one is refused.
    pub builtins: Option<Arc<Builtins>>,
    /// Features that derivations may require.
    pub system_features: Vec<String>,
    /// Whether 64-bit and 32-bit x86 builders are to see a Linux 2.6.
    pub impersonate_linux_26: bool,
    /// Values for `impureEnvVars`, before those of the engine's own environment.
    pub impure_env: Arc<BTreeMap<String, String>>,
    /// The database, for what is looked up beside the scheduler.
    pub reader: Arc<Reader>,
    /// `NIX_BUILD_CORES`.
    pub cores: u32,
    /// Where build directories are made.
    pub builds_dir: PathBuf,
    /// Where logs are kept; `None` if they are not.
    pub log_dir: Option<PathBuf>,
    /// Whether logs are compressed.
    pub compress_log: bool,
    /// Whether the build directories of failed builds are kept.
    pub keep_failed: bool,
    /// Links equal files of new outputs, if that is wanted.
    pub optimiser: Option<Arc<Optimiser>>,
    /// What is written to disk before outputs are registered.
    pub durability: Durability,
    /// How many lines of a failed build's log to show.
    pub log_lines: usize,
    /// Whether the reporter wants the builders' output.
    pub report_output: bool,
    /// For a store that lies elsewhere than builders see it.
    pub store_mount: Option<StoreMount>,
    /// What no builder may do.
    pub limits: Limits,
    /// The sandbox, for builds that have one.
    pub sandbox: Option<Isolation>,
    /// Who runs builders, if not whoever runs the engine.
    pub users: Option<UserPool>,
    /// The cgroups of builds, if they have any.
    pub cgroups: Option<Cgroups>,
    /// What to warn of as the run begins.
    pub notices: Vec<String>,
    /// Programs to call before and after builds.
    pub hooks: Hooks,
}

/// The programs that settings name to be called before or after a build.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Called before the sandbox of a build is set up.
    pub pre_build: Option<PathBuf>,
    /// Called when the outputs of a build are valid.
    pub post_build: Option<PathBuf>,
    /// Called when an output came out different.
    pub diff: Option<PathBuf>,
    /// Whether an output that came out different is kept (`run-diff-hook`, even without a hook).
    pub keep_differing: bool,
    /// What they find in their environment.
    pub env: HelperEnv,
}

/// How a builder without a sandbox comes to see a store at another place than it lies at.
#[derive(Debug, Clone)]
pub struct StoreMount {
    /// The namespaces it takes.
    pub namespaces: c_int,
    /// What the builder does first.
    pub actions: Vec<Action>,
}

impl BuilderConfig {
    /// Where a builder writes, and whoever takes what it made, and who these are.
    pub fn places_of(&self, env: Option<&BuildEnv>) -> Places {
        let ours = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        let builder = env.map(|env| (env.owner().uid, env.owner().gid));
        let dirs = [&self.layout.real_store_dir, &self.builds_dir];
        Places {
            paths: dirs.into_iter().chain(&self.log_dir).cloned().collect(),
            owners: builder.into_iter().chain([ours]).collect(),
        }
    }

    /// What to mount for builders if the store lies at `real` and they see it at `logical`.
    ///
    /// # Errors
    /// When `logical` is no directory on this machine, for nothing can then be mounted there.
    pub fn store_mount_for(layout: &Layout) -> Result<Option<StoreMount>> {
        let logical = std::path::Path::new(&layout.store_dir);
        if layout.real_store_dir == logical {
            return Ok(None);
        }
        if !logical.is_dir() {
            return Err(Error::NoMountPoint {
                store_dir: logical.to_owned(),
            });
        }
        let mut mount = StoreMount {
            namespaces: libc::CLONE_NEWNS,
            actions: Vec::new(),
        };
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if !uid.is_root() {
            mount.namespaces |= libc::CLONE_NEWUSER;
            mount
                .actions
                .extend(windrow_sandbox::ids::user_ns::own_user_namespace(&IdMap {
                    uid: uid.as_raw(),
                    gid: gid.as_raw(),
                    outer_uid: uid.as_raw(),
                    outer_gid: gid.as_raw(),
                    count: 1,
                }));
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let bind = libc::MS_BIND | libc::MS_REC;
        let source = Some(layout.real_store_dir.as_path());
        mount.actions.extend([
            Action::mount(None, "/", None, private, None),
            Action::mount(source, logical, None, bind, None),
        ]);
        Ok(Some(mount))
    }
}
