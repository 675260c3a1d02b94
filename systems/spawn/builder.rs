//! One builder: checks that it can run here, and makes its directory, environment, log and pipe.
//! It lacks only its process then.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use windrow_components::building::HashRewrites;
use windrow_components::derivation::Derivation;
use windrow_components::derivation::attributes::{AttributeError, Attributes, Special};
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};
use windrow_sandbox::dirs::admit;
use windrow_sandbox::dirs::build_dir::SpareDirs;
use windrow_sandbox::filter::makes_sockets_by_socketcall;
use windrow_sandbox::ids::users::UserLock;
use windrow_sandbox::paths::{SandboxPath, Shown};
use windrow_sandbox::process::launch::Session;
use windrow_sandbox::process::launch::action::{Action, c_path};
use windrow_sandbox::{Isolation, SandboxRequest, become_user};
use windrow_sys::bounded::read_derivation;

use crate::failure::{Failure, FailureKind};
use crate::process::ahead::NextBuild;
use crate::process::spare::{SetupKind, Spare, SpareProcess, log_pipe};
use crate::spawn::launch::{Ends, Launch, Origin};
use crate::spawn::program::{Builtin, PreparedBuiltin, Program, wants_builtin};
use crate::world::{BuilderConfig, PoolHandle};

/// The execution domain flag that switches address space randomisation off, as builders expect.
const ADDR_NO_RANDOMIZE: u64 = 0x004_0000;
/// The execution domain that makes a 64-bit kernel look like a 32-bit one.
const PER_LINUX32: u64 = 0x0008;
/// The execution domain flag that makes the kernel call itself 2.6.
const UNAME26: u64 = 0x002_0000;

/// What a builder is started from.
pub(super) struct BuilderInputs<'a> {
    pub(super) graph: &'a BuildGraph,
    pub(super) config: &'a BuilderConfig,
    /// Where goes what lies at the places of its outputs; `None` as long as these are not locked.
    pub(super) pool: Option<&'a PoolHandle>,
    pub(super) drv: DrvId,
    pub(super) missing: &'a [PathId],
    pub(super) rewrites: Option<&'a HashRewrites>,
    /// Who builds it, if not whoever runs the engine.
    pub(super) user: Option<UserLock>,
    /// What a sandbox would show of the store.
    pub(super) closure: &'a [PathId],
    /// What a sandbox would show of the machine for this build only.
    pub(super) shown: &'a [(SandboxPath, Shown)],
    /// A process made in advance, if there is one.
    pub(super) spare: &'a mut Spare,
    /// What lies at the places of its outputs and could not be moved away.
    pub(super) leftovers: Vec<PathBuf>,
    /// What was prepared of it.
    pub(super) next: Option<NextBuild>,
    /// What is asked of it where a person is to be in the builder's place.
    pub(super) by_hand: Option<ByHand<'a>>,
}

/// What differs where a person is in a builder's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByHand<'a> {
    /// The directory to work in, if that is not a new one.
    pub(super) kept: Option<&'a Path>,
}

/// A builder that lacks only its process.
pub(super) struct Prepared {
    pub(super) launch: Launch,
    pub(super) origin: Origin,
    /// The read end of its log.
    pub(super) log: OwnedFd,
    /// Its build directory; `None` if it is made together with the sandbox.
    pub(super) dir: Option<PathBuf>,
    /// What to warn of.
    pub(super) warning: Option<String>,
}

/// The making of a builder's process, prepared.
pub(super) struct PreparedLaunch {
    pub(super) launch: Launch,
    pub(super) kind: SetupKind,
    /// What its standard input is to be, if it reads one.
    pub(super) input: Option<File>,
    /// Its build directory; `None` if it is made together with the sandbox.
    pub(super) dir: Option<PathBuf>,
    /// What to warn of.
    pub(super) warning: Option<String>,
}

/// Makes everything a builder needs but its process.
///
/// # Errors
/// As [`prepare_launch`].
///
/// Nix 1.8: `DerivationGoal::startBuilder`.
pub(super) fn prepare(
    inputs: &mut BuilderInputs<'_>,
    dirs: &SpareDirs,
) -> Result<Prepared, Failure> {
    let PreparedLaunch {
        launch,
        kind,
        input,
        dir,
        warning,
    } = prepare_launch(inputs, dirs)?;
    match origin(&launch, kind, inputs.spare, input) {
        Ok((origin, log)) => Ok(Prepared {
            launch,
            origin,
            log,
            dir,
            warning,
        }),
        Err(error) => {
            if let Some(dir) = &dir {
                // Nothing is in it yet.
                dirs.delete(dir);
            }
            let path = launch.drv_path();
            let text = format!("failed to set up the build environment for '{path}': {error}");
            Err(Failure::to_start(&error, text))
        }
    }
}

/// Makes everything a builder needs but its process and its log.
///
/// # Errors
/// The failure to report for this goal; what was made so far is removed again.
pub(super) fn prepare_launch(
    inputs: &mut BuilderInputs<'_>,
    dirs: &SpareDirs,
) -> Result<PreparedLaunch, Failure> {
    let (graph, config) = (inputs.graph, inputs.config);
    let path = graph.full_path(graph.drv_path(inputs.drv));
    let other = |message: String| Failure::new(FailureKind::Other, message);

    let (text, mut made) = read(inputs, &path, dirs)?;
    let drv = Derivation::parse(&text)
        .map_err(|error| other(format!("cannot read derivation '{path}': {error}")))?;
    let wrong = |error: AttributeError| other(format!("cannot build derivation '{path}': {error}"));
    let attributes = Attributes::of(&drv).map_err(wrong)?;
    let special = attributes.special(&graph.store_dir).map_err(wrong)?;
    check_platform(&drv, &special, &path, config)?;
    let builtin = Builtin::of(&drv, config);
    let because = |reason: &str| format!("cannot build derivation '{path}': {reason}");
    if let Some(reason) = builtin.and_then(|builtin| builtin.refusal(&drv)) {
        return Err(Failure::new(FailureKind::Permanent, because(reason)));
    }
    let warning = special
        .ignored
        .map(|what| format!("derivation '{path}': {what}"));
    inputs.leftovers = clear_leftovers(inputs);

    let mut sandbox =
        sandbox_request(&attributes, inputs).map_err(|reason| other(because(&reason)))?;
    let builtin = builtin
        .map(|builtin| builtin.prepare(&attributes, sandbox.as_mut().map(|(_, request)| request)))
        .transpose()
        .map_err(|reason| other(because(&reason)))?;
    let kept = inputs.by_hand.and_then(|by_hand| by_hand.kept);
    let dir = match (&sandbox, kept) {
        (Some(_), _) => None,
        (None, Some(kept)) => Some(kept.to_owned()),
        (None, None) => {
            let name = graph.paths.name(graph.drv_path(inputs.drv));
            let dir = made.take().map_or_else(|| dirs.create(name), Ok);
            Some(dir.map_err(|error| Failure::of_error(&error.into()))?)
        }
    };
    match launch(
        &attributes,
        special,
        &path,
        (dir.as_deref(), dirs),
        (sandbox, builtin),
        inputs,
    ) {
        Ok((launch, kind, input)) => Ok(PreparedLaunch {
            launch,
            kind,
            input,
            dir,
            warning,
        }),
        Err(failure) => {
            if let Some(dir) = &dir {
                // Nothing is in it yet.
                dirs.delete(dir);
            }
            Err(failure)
        }
    }
}

/// What the derivation's file says, and its build directory if that was made ahead.
fn read<'d>(
    inputs: &mut BuilderInputs<'_>,
    path: &str,
    dirs: &'d SpareDirs,
) -> Result<(Vec<u8>, MadeAhead<'d>), Failure> {
    if let Some(NextBuild { text, dir, .. }) = inputs.next.take() {
        return Ok((text, MadeAhead { dirs, dir }));
    }
    let file = inputs.config.layout.real_path(path);
    let text = read_derivation(&file).map_err(|error| {
        Failure::to_start(&error, format!("cannot read derivation '{path}': {error}"))
    })?;
    Ok((text, MadeAhead { dirs, dir: None }))
}

/// The build directory that was made ahead, which goes if the builder has no use for it.
struct MadeAhead<'a> {
    dirs: &'a SpareDirs,
    dir: Option<PathBuf>,
}

impl MadeAhead<'_> {
    /// The directory. One that somebody did something to, such as another build, goes at once.
    fn take(&mut self) -> Option<PathBuf> {
        let dir = self.dir.take()?;
        if self.dirs.is_untouched(&dir) {
            return Some(dir);
        }
        self.dirs.delete(&dir);
        None
    }
}

impl Drop for MadeAhead<'_> {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir {
            self.dirs.delete(dir);
        }
    }
}

/// Whether this machine has what the derivation requires: its platform, its features, its builtin
/// builder.
///
/// Nix 1.8: `canBuildLocally`.
fn check_platform(
    drv: &Derivation<'_>,
    special: &Special,
    path: &str,
    config: &BuilderConfig,
) -> Result<(), Failure> {
    let other = |message: String| Err(Failure::new(FailureKind::Other, message));
    let builtin = wants_builtin(drv);
    if builtin && Builtin::of(drv, config).is_none() {
        let builder = String::from_utf8_lossy(&drv.builder);
        return other(format!(
            "cannot build derivation '{path}': windrow does not have the builder '{builder}'"
        ));
    }
    let known = (config.platforms.iter()).any(|platform| *platform == drv.system);
    // What comes with the engine runs wherever the engine does.
    if !known && !builtin {
        let text = format!(
            "a '{}' is required to build '{path}', but I am a '{}'; use such a machine, or add it to \
             the setting 'extra-platforms' if this one can run its programs",
            drv.system, config.platforms[0]
        );
        return Err(Failure::new(FailureKind::Platform, text));
    }
    let missing: Vec<&str> = special
        .required_features
        .iter()
        .map(String::as_str)
        .filter(|feature| !config.system_features.iter().any(|known| known == feature))
        .collect();
    if !missing.is_empty() {
        return other(format!(
            "building '{path}' requires the system features '{}', which this machine does not have \
             (setting 'system-features')",
            missing.join(" ")
        ));
    }
    Ok(())
}

/// Moves what lies at the outputs' places, though it is not valid, out of the way; the pool deletes
/// it. What can't be moved is returned: it is to be deleted before the builder starts.
pub(super) fn clear_leftovers(inputs: &BuilderInputs<'_>) -> Vec<PathBuf> {
    let Some(pool) = inputs.pool else {
        return Vec::new();
    };
    let rewritten = inputs
        .rewrites
        .map_or(&[][..], |rewrites| &rewrites.scratch);
    let scratch = rewritten.iter().map(|scratch| scratch.scratch_path.clone());
    // Valid outputs, even those that are to be made again, stay.
    let is_valid = |path: PathId| {
        let hash = inputs.graph.paths.hash_part(path);
        rewritten.iter().any(|scratch| scratch.hash == hash)
    };
    let outputs = inputs.missing.iter().filter(|&&path| !is_valid(path));
    let outputs = outputs.map(|&path| inputs.graph.full_path(path));
    let places = outputs.chain(scratch);
    let mut places: Vec<PathBuf> = places
        .map(|path| inputs.config.layout.real_path(&path))
        .collect();
    places.retain(|real| std::fs::symlink_metadata(real).is_ok() && !pool.put_aside(real));
    places
}

/// Whether a derivation is to be built in a sandbox. What keeps it from being built at all is for
/// [`prepare`] to find.
pub(super) fn has_sandbox(graph: &BuildGraph, config: &BuilderConfig, drv: DrvId) -> bool {
    let Some(isolation) = &config.sandbox else {
        return false;
    };
    let path = graph.full_path(graph.drv_path(drv));
    let Ok(text) = read_derivation(&config.layout.real_path(&path)) else {
        return false;
    };
    let Ok(drv) = Derivation::parse(&text) else {
        return false;
    };
    let Ok(attributes) = Attributes::of(&drv) else {
        return false;
    };
    let (Ok(special), Ok(no_chroot)) = (
        attributes.special(&graph.store_dir),
        attributes.flag("__noChroot"),
    ) else {
        return false;
    };
    check_platform(&drv, &special, &path, config).is_ok()
        && isolation.applies(drv.is_fixed(), no_chroot == Some(true)) == Ok(true)
}

/// The sandbox that a build is to have, if any.
fn sandbox_request(
    attributes: &Attributes<'_>,
    inputs: &BuilderInputs<'_>,
) -> Result<Option<(Isolation, SandboxRequest)>, String> {
    let Some(isolation) = &inputs.config.sandbox else {
        return Ok(None);
    };
    let drv = attributes.derivation();
    let no_chroot = attributes
        .flag("__noChroot")
        .map_err(|error| error.to_string())?;
    if !isolation.applies(drv.is_fixed(), no_chroot == Some(true))? {
        return Ok(None);
    }
    let paths = &inputs.graph.paths;
    let request = SandboxRequest {
        drv_base_name: paths
            .base_name(inputs.graph.drv_path(inputs.drv))
            .to_owned(),
        inputs: inputs
            .closure
            .iter()
            .map(|&path| c_path(paths.base_name(path)))
            .collect(),
        network: drv.is_fixed(),
        has_input: wants_builtin(drv) || inputs.by_hand.is_some(),
        kept: inputs.by_hand.and_then(|it| it.kept.map(Path::to_owned)),
        shown: inputs.shown.to_vec(),
        socketcall: makes_sockets_by_socketcall(&drv.system),
    };
    Ok(Some((isolation.clone(), request)))
}

fn launch(
    attributes: &Attributes<'_>,
    special: Special,
    path: &str,
    (dir, dirs): (Option<&Path>, &SpareDirs),
    (sandbox, builtin): (
        Option<(Isolation, SandboxRequest)>,
        Option<PreparedBuiltin<'_>>,
    ),
    inputs: &mut BuilderInputs<'_>,
) -> Result<(Launch, SetupKind, Option<File>), Failure> {
    let other = |message: String| Failure::new(FailureKind::Other, message);
    let config = inputs.config;
    // In a sandbox nothing is in the way of outputs that are valid already.
    let rewrites = inputs.rewrites.filter(|_| sandbox.is_none());
    let rewrites = rewrites.map_or(&[][..], |rewrites| &rewrites.scratch);
    let by_hand = inputs.by_hand;
    let keeps = by_hand.is_some_and(|by_hand| by_hand.kept.is_some());
    let seen_at = match (&sandbox, dir) {
        (Some((isolation, _)), _) => isolation.build_dir(),
        (None, Some(dir)) if inputs.user.is_some() && !keeps => &dir.join(admit::BUILD),
        (None, dir) => dir.unwrap_or(Path::new("/")),
    };
    let drv = attributes.derivation();
    let program = match builtin {
        Some(builtin) => Program::of_engine(builtin, attributes, seen_at, rewrites),
        None => Program::of_derivation(attributes, special, seen_at, rewrites, inputs),
    };
    let Program {
        invocation,
        files,
        input,
    } = program.map_err(|error| other(format!("cannot build derivation '{path}': {error}")))?;
    let cwd = c_path(seen_at);
    let mount = config.store_mount.as_ref().filter(|_| sandbox.is_none());
    let mut actions: Vec<Action> = mount.map_or_else(Vec::new, |mount| mount.actions.clone());
    let socketcall = makes_sockets_by_socketcall(&drv.system);
    if sandbox.is_none() {
        actions.extend(config.limits.actions(socketcall));
        if let Some(user) = &inputs.user {
            actions.extend(become_user(user.owner()));
        }
    }
    let launch = Launch {
        invocation,
        files,
        dir: seen_at.to_owned(),
        dirs: dirs.clone(),
        reader: Arc::clone(&config.reader),
        cgroups: config.cgroups.clone(),
        cwd,
        personality: personality(&drv.system, config),
        namespaces: mount.map_or(0, |mount| mount.namespaces),
        actions,
        sandbox,
        user: inputs.user.take(),
        drv_path: path.to_owned(),
        fixed: drv.is_fixed(),
        leftovers: std::mem::take(&mut inputs.leftovers),
        unfit: None,
        by_hand: by_hand.map(|_| Session::Own),
        keeps,
    };
    let kind = SetupKind {
        personality: launch.personality,
        socketcall,
    };
    Ok((launch, kind, input))
}

/// What a builder's process comes from, and the read end of its log. A builder that reads no
/// `input` has an empty one.
fn origin(
    launch: &Launch,
    kind: SetupKind,
    spare: &mut Spare,
    input: Option<File>,
) -> io::Result<(Origin, OwnedFd)> {
    let may_wait = launch.may_spawn_async() && input.is_none();
    let spare = may_wait.then(|| spare.take(kind)).flatten();
    if let Some(SpareProcess {
        standby,
        cgroup,
        log,
    }) = spare
    {
        return Ok((Origin::Spare(standby, cgroup), log));
    }
    // Its own, for flags and locks are those of whoever has it open.
    let input = input.map_or_else(|| File::open("/dev/null"), Ok)?;
    let (log, output) = log_pipe()?;
    Ok((Origin::New(Ends { input, output }), log))
}

/// The execution domain that builders of a platform expect.
fn personality(platform: &str, config: &BuilderConfig) -> u64 {
    let machine = config.platforms[0].as_str();
    let linux32 = match platform {
        "i686-linux" => machine == "x86_64-linux",
        "armv5tel-linux" | "armv6l-linux" | "armv7l-linux" => machine == "aarch64-linux",
        _ => false,
    };
    let linux26 = config.impersonate_linux_26 && ["i686-linux", "x86_64-linux"].contains(&platform);
    let flags = [(linux32, PER_LINUX32), (linux26, UNAME26)];
    let flags = flags.iter().filter(|(set, _)| *set);
    flags.fold(ADDR_NO_RANDOMIZE, |all, (_, flag)| all | flag)
}
