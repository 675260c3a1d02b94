//! From settings to the isolation of builders: what a sandbox shows, and what is done where there
//! can be none.

use std::path::{Path, PathBuf};

use windrow_components::settings::{Sandbox, Settings};
use windrow_sandbox::cgroups::Cgroups;
use windrow_sandbox::dirs::sandbox_dirs::DirsPool;
use windrow_sandbox::filter::Filter;
use windrow_sandbox::ids::users::UserPool;
use windrow_sandbox::paths::SandboxPath;
use windrow_sandbox::process::launch::action::c_path;
use windrow_sandbox::root::{self, SandboxConfig};
use windrow_sandbox::{Isolation, Limits, Support};
use windrow_store::Layout;
use windrow_store::local::LocalStore;
use windrow_systems::host_store::host_store;

use crate::cgroups::cgroups;
use crate::error::{Error, Result};

/// The group that has the build users unless a setting says otherwise.
const DEFAULT_GROUP: &str = "nixbld";

/// How builders are isolated, and what to say of it.
pub(crate) struct Isolated {
    /// What none of them may do.
    pub limits: Limits,
    /// The sandbox, if there is one.
    pub sandbox: Option<Isolation>,
    /// The cgroups of builds, if they have any.
    pub cgroups: Option<Cgroups>,
    /// Why something is not there although the settings ask for it.
    pub notices: Vec<String>,
    /// Who runs builders.
    pub users: Option<UserPool>,
}

/// Looks at what this machine can do and what the settings ask for.
///
/// # Errors
/// When there can be no sandbox and `sandbox-fallback` is off, or a path that it is to show can't
/// be shown.
pub(crate) fn isolation(
    settings: &Settings,
    layout: &Layout,
    store: &mut LocalStore,
) -> Result<Isolated> {
    let limits = Limits {
        no_new_privileges: !settings.allow_new_privileges,
        filter: settings.filter_syscalls.then(Filter::new).flatten(),
    };
    let users = build_users(settings, layout)?;
    let mut notices = Vec::new();
    let mut isolated = Isolated {
        limits: limits.clone(),
        sandbox: None,
        cgroups: cgroups(settings, &mut notices),
        notices,
        users,
    };
    if settings.sandbox == Sandbox::Off {
        return Ok(isolated);
    }
    let support = match Support::probe() {
        Ok(support) => support,
        Err(why) if settings.sandbox_fallback => {
            isolated.notices.push(format!(
                "there can be no sandbox here: cannot {why}; building without one, as the setting 'sandbox-fallback' \
                 allows"
            ));
            return Ok(isolated);
        }
        Err(why) => {
            return Err(Error::Unsupported(format!(
                "the setting 'sandbox' is on, but there can be no sandbox here: cannot {why}; give '--option sandbox \
                 false' to build without one, or '--option sandbox-fallback true' to do so wherever there can be none"
            )));
        }
    };
    check_groups(settings, &support)?;
    let (paths, always) = shown(settings, layout, store)?;
    let config = SandboxConfig {
        store_dir: PathBuf::from(&layout.store_dir),
        real_store_dir: layout.real_store_dir.clone(),
        build_dir: settings.sandbox_build_dir.clone(),
        dev_shm_size: settings.sandbox_dev_shm_size.clone(),
        paths,
        kvm: settings.system_features.contains("kvm"),
        guarded: root::GUARDED
            .into_iter()
            .filter(|name| Path::new("/proc").join(name).exists())
            .collect(),
        max_processes: (settings.sandbox_max_processes > 0)
            .then_some(settings.sandbox_max_processes),
        allow_namespaces: settings.sandbox_allow_namespaces,
        kept: None,
    };
    let always = always.iter().map(c_path).collect();
    let dirs_pool = DirsPool::new(host_store(layout), builds_dir(settings), config.tmp_dirs());
    isolated.sandbox = Some(Isolation::new(
        settings.sandbox,
        limits,
        config,
        support,
        always,
        dirs_pool,
    ));
    Ok(isolated)
}

/// Whether builders lose this process's supplementary groups, if they must.
fn check_groups(settings: &Settings, support: &Support) -> Result<()> {
    if !settings.require_drop_supplementary_groups || support.may_leave_groups {
        return Ok(());
    }
    Err(Error::Unsupported(
        "the setting 'require-drop-supplementary-groups' is on, but the supplementary groups of this process can't be \
         given up; set it to false to let sandboxed builders keep them, or run as root with CAP_SETGID"
            .to_owned(),
    ))
}

/// The build users, which only root's engine can have. The group that is the default need not
/// exist.
fn build_users(settings: &Settings, layout: &Layout) -> Result<Option<UserPool>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    if settings.auto_allocate_uids {
        let (start, count) = (settings.start_id, settings.id_count);
        let pool = UserPool::allocated(start, count, &layout.state_dir);
        return pool.map(Some).map_err(Error::Unsupported);
    }
    let group = settings.build_users_group.as_str();
    if group.is_empty() {
        return Ok(None);
    }
    let pool = UserPool::of_group(group, &layout.state_dir, &layout.real_store_dir)
        .map_err(Error::Unsupported)?;
    if pool.is_none() && group != DEFAULT_GROUP {
        return Err(Error::Unsupported(format!(
            "the group '{group}' of the setting 'build-users-group' does not exist; make it, or set it to nothing to \
             build as root"
        )));
    }
    Ok(pool)
}

/// Where build directories are made.
pub(crate) fn builds_dir(settings: &Settings) -> PathBuf {
    settings
        .build_dir
        .clone()
        .unwrap_or_else(std::env::temp_dir)
}

type Shown = Vec<(SandboxPath, windrow_sandbox::paths::Shown)>;

/// What of the machine builders see, and the base names of what of the store that takes.
fn shown(
    settings: &Settings,
    layout: &Layout,
    store: &mut LocalStore,
) -> Result<(Shown, Vec<String>)> {
    let store_dir = Path::new(&layout.store_dir);
    let (mut paths, mut in_store) = (Shown::new(), Vec::new());
    for word in &settings.sandbox_paths {
        let mut path = SandboxPath::parse(word).map_err(Error::Unsupported)?;
        if path.source.starts_with(store_dir) {
            in_store.extend(path.store_path(store_dir));
            path.source = layout.real_path(&path.source.to_string_lossy());
        }
        let Some(kind) = path.look(store_dir).map_err(Error::Unsupported)? else {
            continue;
        };
        in_store.extend(path.store_path(store_dir));
        paths.push((path, kind));
    }
    paths.sort_by(|a, b| a.0.target.cmp(&b.0.target));
    // What is in the store may need all that it refers to.
    let mut at = 0;
    while at < in_store.len() {
        for reference in store.database.references(&in_store[at])? {
            if !in_store.contains(&reference) {
                in_store.push(reference);
            }
        }
        at += 1;
    }
    in_store.sort();
    in_store.dedup();
    let kept: Vec<&str> = in_store.iter().map(String::as_str).collect();
    store.keep(&kept)?;
    let base = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    Ok((paths, in_store.iter().map(base).collect()))
}
