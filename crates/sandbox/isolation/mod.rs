//! Isolation of builders: namespaces, a root of their own, users, filters. One [`Isolation`] for a
//! run, one [`BuildEnv`] for each build that has one. Knows derivations by name only, and nothing
//! of goals.
//!
//! As root, a thread that makes processes lives in a *template*: a mount namespace that holds
//! little more than what all sandboxes have in common ([`root`](crate::root)). A builder is born
//! with a copy of it and adds a few mounts of its own. Where that can't be (an ordinary user's
//! builders, and those with the machine's network), the new process makes its own template first.

mod build_env;
mod template;

use std::ffi::{CStr, CString, OsStr, c_int};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;
use windrow_components::settings::Sandbox;
use windrow_sys::mutex;
use windrow_sys::told::told;

use crate::dirs::sandbox_dirs::{DirsPool, SandboxDirs};
use crate::dirs::view::{InputKind, View};
use crate::filter::Filter;
use crate::ids::Owner;
use crate::ids::user_ns::{IdMap, SANDBOX_GID, SANDBOX_UID, own_user_namespace, sandbox_ids};
use crate::ids::users::UserLock;
use crate::paths::{SandboxPath, Shown};
use crate::process::launch::action::Action;
use crate::root::{Proc, SandboxConfig, SandboxIds, WaitingProc};
use crate::support::Support;

pub use build_env::{BuildEnv, Left};
pub use template::MountTemplate;

/// How the builders of a run are isolated. Clones are the same.
#[derive(Debug, Clone)]
pub struct Isolation {
    /// Which builds have a sandbox.
    pub mode: Sandbox,
    /// What builders may not do, sandboxed or not.
    pub limits: Limits,
    shared: Arc<Shared>,
}

/// What builders may not do, whether they have a sandbox or not.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Gain privileges from programs (`allow-new-privileges`).
    pub no_new_privileges: bool,
    /// Make calls that these programs refuse (`filter-syscalls`).
    pub filter: Option<Filter>,
}

#[derive(Debug)]
struct Shared {
    config: SandboxConfig,
    support: Support,
    dirs_pool: DirsPool,
    /// What sandboxes show of the store beside a build's inputs.
    always: Vec<CString>,
    /// What the inputs seen so far are.
    kinds: Mutex<HashMap<CString, InputKind>>,
    user_namespaces: Mutex<HashMap<IdMap, Arc<OwnedFd>>>,
}

/// One build's request for a sandbox.
#[derive(Debug)]
pub struct SandboxRequest {
    /// The base name of the derivation.
    pub drv_base_name: String,
    /// The base names of what it may read of the store.
    pub inputs: Vec<CString>,
    /// Whether it has the machine's network.
    pub network: bool,
    /// Whether there is something for it on its standard input.
    pub has_input: bool,
    /// A directory of the machine that it works in, instead of a new one.
    pub kept: Option<PathBuf>,
    /// What of the machine it sees beside what all sandboxes show.
    pub shown: Vec<(SandboxPath, Shown)>,
    /// Whether [its programs make sockets](crate::filter::makes_sockets_by_socketcall) by
    /// socketcall(2).
    pub socketcall: bool,
}

/// What a process needs to be started in a sandbox.
#[derive(Debug)]
pub struct Setup {
    /// Its namespaces.
    pub namespaces: c_int,
    /// What it does first.
    pub actions: Vec<Action>,
    /// The build directory, as the launching thread sees it.
    pub build_dir: PathBuf,
    /// The build's environment, to be left when all is over.
    pub env: BuildEnv,
}

impl Limits {
    /// What a process does about them, as the last thing before it gives up its user. With
    /// `socketcall` it makes sockets by that call.
    pub fn actions(&self, socketcall: bool) -> impl Iterator<Item = Action> {
        let privileges = self.no_new_privileges.then_some(Action::NoNewPrivileges);
        // An ordinary user who may still gain privileges may not install a filter.
        let allowed = self.no_new_privileges || nix::unistd::geteuid().is_root();
        let filter = self.filter.as_ref().filter(|_| allowed);
        let program = filter.map(|filter| Arc::clone(filter.program(socketcall)));
        privileges.into_iter().chain(program.map(Action::Filter))
    }
}

impl Isolation {
    /// Isolation as the settings ask for it, on a machine that can do it. `always` are base names
    /// of store paths that all sandboxes show; `dirs_pool` makes the directories.
    pub fn new(
        mode: Sandbox,
        limits: Limits,
        mut config: SandboxConfig,
        support: Support,
        always: Vec<CString>,
        dirs_pool: DirsPool,
    ) -> Self {
        if !support.pid_limits {
            config.max_processes = None;
        }
        let shared = Shared {
            config,
            support,
            dirs_pool,
            always,
            kinds: Mutex::default(),
            user_namespaces: Mutex::default(),
        };
        Self {
            mode,
            limits,
            shared: Arc::new(shared),
        }
    }

    /// Whether a build has a sandbox, by the rules of the setting: with `relaxed`, fixed outputs
    /// and those that ask for it have none.
    ///
    /// # Errors
    /// When it asks for none though it must have one.
    pub fn applies(&self, fixed: bool, no_chroot: bool) -> Result<bool, &'static str> {
        match self.mode {
            Sandbox::Off => Ok(false),
            Sandbox::Relaxed => Ok(!fixed && !no_chroot),
            Sandbox::On if no_chroot => Err(
                "it has '__noChroot' set, which is allowed only where the setting 'sandbox' is 'relaxed' or 'false'",
            ),
            Sandbox::On => Ok(true),
        }
    }

    /// Where builders in a sandbox see their build directory.
    pub fn build_dir(&self) -> &Path {
        &self.shared.config.build_dir
    }

    /// Whether a build is to be launched by the thread with the template.
    pub fn wants_template(&self, request: &SandboxRequest) -> bool {
        // What has gone through the filter of the template can't be given back, and what is shown
        // to one build only can't be in what all have in common.
        let filtered_alike = !request.socketcall || self.limits.filter.is_none();
        let shown_alike = request.shown.is_empty() && request.kept.is_none();
        self.shared.support.root && !request.network && filtered_alike && shown_alike
    }

    /// Where on the machine that lies which every sandbox shows at a path, the store left aside;
    /// `None` if it shows nothing there.
    pub fn shown_at(&self, path: &Path) -> Option<PathBuf> {
        self.shared.config.source_of(path)
    }

    /// Deletes the directories of the run, when all environments have been left.
    pub fn close(&self) {
        self.shared.dirs_pool.close();
    }

    fn ids(&self, owner: Owner) -> SandboxIds {
        if self.shared.support.user_namespaces {
            SandboxIds {
                uid: SANDBOX_UID,
                gid: SANDBOX_GID,
            }
        } else {
            SandboxIds {
                uid: owner.uid,
                gid: owner.gid,
            }
        }
    }

    /// What the inputs are, looked up where that is not known yet.
    fn kinds(
        &self,
        store: &Path,
        request: &SandboxRequest,
    ) -> io::Result<Vec<(CString, InputKind)>> {
        let mut known = mutex::lock(&self.shared.kinds);
        let all = request.inputs.iter().chain(
            self.shared
                .always
                .iter()
                .filter(|name| !request.inputs.contains(name)),
        );
        all.map(|name| {
            if let Some(kind) = known.get(name) {
                return Ok((name.clone(), kind.clone()));
            }
            let path = store.join(OsStr::from_bytes(name.as_bytes()));
            let about = |error: io::Error| {
                let text = format!("cannot look at the input '{}': {error}", path.display());
                told(error, text)
            };
            let metadata = path.symlink_metadata().map_err(about)?;
            let kind = if metadata.is_dir() {
                InputKind::Directory
            } else if metadata.is_symlink() {
                InputKind::Link(path.read_link().map_err(about)?.into_os_string())
            } else {
                InputKind::File
            };
            known.insert(name.clone(), kind.clone());
            Ok((name.clone(), kind))
        })
        .collect()
    }

    /// Of which namespaces builders can make none because their user namespace has a limit.
    fn forbidden_namespaces(&self) -> &'static [&'static CStr] {
        match (
            self.shared.support.namespace_limits,
            self.shared.config.allow_namespaces,
        ) {
            (false, _) => &[],
            (true, true) => crate::ids::user_ns::CGROUP_LIMIT,
            (true, false) => crate::ids::user_ns::LIMITS,
        }
    }

    /// What a process does so that it can make none, where there can be no such limit.
    fn refused_namespaces(&self) -> Option<Action> {
        let shared = &*self.shared;
        if shared.support.namespace_limits {
            return None;
        }
        crate::filter::namespaces(shared.config.allow_namespaces).map(Action::Filter)
    }

    fn user_namespace(&self, owner: Owner) -> io::Result<Arc<OwnedFd>> {
        let map = sandbox_ids(owner);
        let mut known = mutex::lock(&self.shared.user_namespaces);
        if let Some(namespace) = known.get(&map) {
            return Ok(Arc::clone(namespace));
        }
        let proc = &self.shared.support.proc;
        let namespace = crate::ids::user_ns::create(&map, proc, self.forbidden_namespaces())?;
        let namespace = Arc::new(namespace);
        known.insert(map, Arc::clone(&namespace));
        Ok(namespace)
    }

    /// Makes the directories of a build, and works out what its process must do. For the launching
    /// thread.
    ///
    /// # Errors
    /// When a directory or namespace can't be made. Nothing is left behind.
    ///
    /// Nix 1.8: `DerivationGoal::startBuilder`.
    pub fn set_up(
        &self,
        request: &SandboxRequest,
        template: Option<&MountTemplate>,
        user: Option<UserLock>,
    ) -> io::Result<Setup> {
        let shared = &*self.shared;
        let inside = View {
            store: "/store".into(),
            builds: "/builds".into(),
        };
        let (view, store) = match template {
            Some(_) => (inside.clone(), Path::new("/inputs")),
            None => (
                shared.dirs_pool.ground()?.view.clone(),
                &*shared.config.real_store_dir,
            ),
        };
        let owner = user.as_ref().map_or_else(ourselves, UserLock::owner);
        let inputs = self.kinds(store, request)?;
        // 32 characters of hash and a dash come before the name.
        let drv_name = request
            .drv_base_name
            .get(33..)
            .unwrap_or(&request.drv_base_name);
        // Who has the machine's network may send an open directory to somebody else.
        let confined = !request.network;
        let dirs = shared
            .dirs_pool
            .create(&view, drv_name, owner, &inputs, confined)?;
        let mut env = BuildEnv {
            sandbox: None,
            dir: None,
            lease: None,
            owner,
            user,
        };
        match self.actions(
            request,
            template,
            &mut env,
            &dirs,
            &inputs,
            (&view, &inside),
        ) {
            Ok((namespaces, actions)) => {
                let kept = request.kept.clone();
                let build_dir = kept.unwrap_or_else(|| dirs.place(&view).build);
                env.sandbox = Some((self.clone(), dirs));
                Ok(Setup {
                    namespaces,
                    actions,
                    build_dir,
                    env,
                })
            }
            Err(error) => {
                for path in shared.dirs_pool.give_back(&view, dirs, false).0 {
                    // What can't be deleted goes with the run.
                    let _ = windrow_sys::tree::delete_path(&path);
                }
                Err(error)
            }
        }
    }

    fn actions(
        &self,
        request: &SandboxRequest,
        template: Option<&MountTemplate>,
        env: &mut BuildEnv,
        dirs: &SandboxDirs,
        inputs: &[(CString, InputKind)],
        (view, inside): (&View, &View),
    ) -> io::Result<(c_int, Vec<Action>)> {
        let (shared, owner) = (&*self.shared, env.owner);
        let support = &shared.support;
        let config = (shared.config).showing(&request.shown, request.kept.as_deref());
        let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
        let mut actions = Vec::new();
        let proc = if support.root {
            Proc::Fresh {
                guarded: owner.uid == 0,
            }
        } else {
            Proc::Waiting
        };
        match template {
            Some(template) => env.lease = Some(template.networks.enter()?),
            None => {
                let base = dirs.base(view);
                let place = (&*base, view);
                namespaces |= self.own_template(&config, request, owner, place, &mut actions);
            }
        }
        let shown = inputs
            .iter()
            .filter(|(_, kind)| !matches!(kind, InputKind::Link(_)));
        let names: Vec<CString> = shown.map(|(name, _)| name.clone()).collect();
        actions.extend(config.build(&dirs.place(inside), &names, proc));
        // Of a mount that is read-only, unlike the machine's: root's builder could change the mode
        // of the latter.
        if !request.has_input {
            actions.push(Action::ReadFrom(c"/dev/null"));
        }
        // In a template with a filter there is none to be had any more, nor a way to use one.
        if template.is_none() || self.limits.filter.is_none() {
            actions.push(Action::NewKeyring);
        }
        if template.is_none() {
            if let Some(ruleset) = support.socket_scope.as_ref().filter(|_| request.network) {
                actions.push(Action::Landlock(Arc::clone(ruleset)));
            }
            actions.extend(self.limits.actions(request.socketcall));
        }
        actions.extend(self.descent(owner)?);
        Ok((namespaces, actions))
    }

    /// What a process does to make a template of its own, and the namespaces that takes.
    fn own_template(
        &self,
        config: &SandboxConfig,
        request: &SandboxRequest,
        owner: Owner,
        (base, view): (&Path, &View),
        actions: &mut Vec<Action>,
    ) -> c_int {
        let support = &self.shared.support;
        let mut namespaces = libc::CLONE_NEWUTS;
        if !support.root {
            namespaces |= libc::CLONE_NEWUSER;
            actions.extend(own_user_namespace(&sandbox_ids(owner)));
        }
        if !request.network {
            namespaces |= libc::CLONE_NEWNET;
            actions.push(Action::LoopbackUp);
        }
        actions.push(Action::NameHost);
        let proc = match support.root {
            true => support.waiting_proc(),
            false => WaitingProc::Own,
        };
        let ids = self.ids(owner);
        actions.extend(config.template(base, view, ids, request.network, proc));
        if !support.root {
            let forbidden = self.forbidden_namespaces();
            actions.extend(crate::ids::user_ns::forbid(Path::new("/proc"), forbidden));
        }
        namespaces
    }

    /// The last steps of a process: it becomes its builder, who has no privileges.
    fn descent(&self, owner: Owner) -> io::Result<Vec<Action>> {
        let (shared, support) = (&*self.shared, &self.shared.support);
        let mut actions = Vec::new();
        if support.root {
            if let Some(count) = shared.config.max_processes.filter(|_| owner.uid != 0) {
                actions.push(Action::LimitProcesses(count));
            }
            if support.may_leave_groups {
                actions.push(Action::LeaveGroups);
            }
            if support.user_namespaces {
                actions.push(Action::Enter(self.user_namespace(owner)?));
            }
        }
        actions.extend(self.refused_namespaces());
        if support.root {
            actions.push(match (support.user_namespaces, owner) {
                (true, _) => Action::Become {
                    uid: SANDBOX_UID,
                    gid: SANDBOX_GID,
                },
                (false, Owner { uid: 0, .. }) => Action::DropCapabilities,
                (false, Owner { uid, gid }) => Action::Become { uid, gid },
            });
        }
        Ok(actions)
    }
}

/// Whoever runs the engine.
fn ourselves() -> Owner {
    Owner {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    }
}

/// What a builder without a sandbox does to become a build user.
pub fn become_user(owner: Owner) -> [Action; 2] {
    [
        Action::LeaveGroups,
        Action::Become {
            uid: owner.uid,
            gid: owner.gid,
        },
    ]
}
