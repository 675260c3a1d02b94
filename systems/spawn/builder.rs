//! One builder: checks that it can run here, makes its folder, environment, log and pipe; then its process.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::fcntl::OFlag;
use windrow_components::building::{BuildDir, HashRewrites};
use windrow_components::derivation::Derivation;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::{DrvId, PathId};

use crate::failure::{Failure, FailureKind};
use crate::process::build_dir::SpareDirs;
use crate::process::environment::{self, Invocation, Surroundings};
use crate::process::launch::{self, Request, SpawnError, Spawned, Step, StoreMount};
use crate::process::log_writer::{LogFile, LogThread};
use crate::real::{BuilderConfig, PoolHandle};

/// The execution domain flag that switches address space randomisation off, as builders expect.
const ADDR_NO_RANDOMIZE: u64 = 0x004_0000;
/// The execution domain that makes a 64-bit kernel look like a 32-bit one.
const PER_LINUX32: u64 = 0x0008;

/// What a builder is started from.
pub(super) struct Site<'a> {
    pub(super) graph: &'a BuildGraph,
    pub(super) config: &'a BuilderConfig,
    pub(super) pool: &'a PoolHandle,
    pub(super) drv: DrvId,
    pub(super) missing: &'a [PathId],
    pub(super) rewrites: Option<&'a HashRewrites>,
}

/// A builder that lacks only its process.
pub(super) struct Prepared {
    pub(super) launch: Launch,
    pub(super) log_pipe: OwnedFd,
    pub(super) log_file: Option<LogFile>,
    pub(super) build_dir: BuildDir,
}

/// The making of one process, for the launching thread: it waits until the new process runs its program.
pub(super) struct Launch {
    invocation: Invocation,
    cwd: CString,
    stdin: File,
    output: OwnedFd,
    personality: u64,
    store_mount: Option<StoreMount>,
    drv_path: String,
    fixed: bool,
}

/// Makes everything a builder needs but its process.
///
/// # Errors
/// The failure to report for this goal; what was made so far is removed again.
pub(super) fn prepare(
    site: &Site<'_>,
    logs: &mut LogThread,
    dirs: &mut SpareDirs,
) -> Result<Prepared, Failure> {
    let (graph, config) = (site.graph, site.config);
    let base_name = graph.paths.base_name(graph.drv_path(site.drv));
    let path = graph.full_path(graph.drv_path(site.drv));
    let other = |message: String| Failure::new(FailureKind::Other, message);

    let file = config.layout.real_path(&path);
    let text = std::fs::read(&file)
        .map_err(|error| other(format!("cannot read derivation '{path}': {error}")))?;
    let drv = Derivation::parse(&text)
        .map_err(|error| other(format!("cannot read derivation '{path}': {error}")))?;
    check_platform(&drv, &path, config)?;
    clear_leftovers(site).map_err(&other)?;

    let folder = dirs
        .create(
            &config.build_folder,
            graph.paths.name(graph.drv_path(site.drv)),
        )
        .map_err(|error| other(error.to_string()))?;
    let remove_folder = || {
        // It has just been made and holds a few plain files at most.
        let _ = std::fs::remove_dir_all(&folder);
    };
    let log_file = match &config.log_dir {
        Some(log_dir) => match logs.open(log_dir, base_name, config.compress_log) {
            Ok(log) => Some(log),
            Err(error) => {
                remove_folder();
                return Err(other(error.to_string()));
            }
        },
        None => None,
    };
    match launch(&drv, &path, &folder, site) {
        Ok((launch, log_pipe)) => Ok(Prepared {
            launch,
            log_pipe,
            log_file,
            build_dir: BuildDir(folder),
        }),
        Err(failure) => {
            remove_folder();
            if let Some(mut log) = log_file {
                logs.close(&mut log);
            }
            Err(failure)
        }
    }
}

fn check_platform(drv: &Derivation<'_>, path: &str, config: &BuilderConfig) -> Result<(), Failure> {
    let other = |message: String| Err(Failure::new(FailureKind::Other, message));
    if drv.builder.starts_with(b"builtin:") {
        let builder = String::from_utf8_lossy(&drv.builder);
        return other(format!(
            "cannot build derivation '{path}': windrow does not have the builder '{builder}'"
        ));
    }
    if !config
        .platforms
        .iter()
        .any(|platform| *platform == drv.system)
    {
        return other(format!(
            "a '{}' is required to build '{path}', but I am a '{}'; use such a machine, or add it to \
             the setting 'extra-platforms' if this one can run its programs",
            drv.system, config.platforms[0]
        ));
    }
    let features = drv.env_value("requiredSystemFeatures").unwrap_or_default();
    let features = String::from_utf8_lossy(features);
    let missing: Vec<&str> = features
        .split_ascii_whitespace()
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

/// Moves what lies at the outputs' places, though it is not valid, out of the way; the pool deletes it.
fn clear_leftovers(site: &Site<'_>) -> Result<(), String> {
    let scratch = site
        .rewrites
        .into_iter()
        .flat_map(|rewrites| &rewrites.scratch);
    let scratch = scratch.map(|scratch| scratch.scratch_path.clone());
    let outputs = site.missing.iter().map(|&path| site.graph.full_path(path));
    for path in outputs.chain(scratch) {
        let real = site.config.layout.real_path(&path);
        if std::fs::symlink_metadata(&real).is_err() {
            continue;
        }
        // A name that starts with a dot is no store path, so collectors delete it if we do not.
        let trash = site.config.layout.real_store_dir.join(format!(
            ".windrow-trash-{}-{}",
            std::process::id(),
            path.rsplit('/').next().unwrap_or_default()
        ));
        std::fs::rename(&real, &trash).map_err(|error| {
            format!(
                "cannot move the invalid path '{}' away: {error}",
                real.display()
            )
        })?;
        site.pool.delete(trash);
    }
    Ok(())
}

fn launch(
    drv: &Derivation<'_>,
    path: &str,
    folder: &Path,
    site: &Site<'_>,
) -> Result<(Launch, OwnedFd), Failure> {
    let other = |message: String| Failure::new(FailureKind::Other, message);
    let config = site.config;
    let rewrites = site.rewrites.map_or(&[][..], |rewrites| &rewrites.scratch);
    let around = Surroundings {
        store_dir: &config.layout.store_dir,
        build_dir: folder,
        cores: config.cores,
        outer_env: |name| std::env::var_os(name),
        rewrites,
    };
    let invocation = environment::invocation(drv, &around)
        .map_err(|error| other(format!("cannot build derivation '{path}': {error}")))?;
    for file in &invocation.files {
        std::fs::write(folder.join(&file.name), &file.contents)
            .map_err(|error| other(format!("cannot write '{}': {error}", file.name)))?;
    }
    let set_up = |error: io::Error| {
        other(format!(
            "failed to set up the build environment for '{path}': {error}"
        ))
    };
    let (log_pipe, output) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|error| set_up(error.into()))?;
    // Only our end must not block; the builder's is an ordinary pipe.
    nix::fcntl::fcntl(&log_pipe, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|error| set_up(error.into()))?;
    let null = File::open("/dev/null").map_err(set_up)?;
    let cwd = CString::new(folder.as_os_str().as_bytes()).map_err(|error| set_up(error.into()))?;
    let linux32 = drv.system == "i686-linux" && config.platforms[0] == "x86_64-linux";
    let launch = Launch {
        invocation,
        cwd,
        stdin: null,
        output,
        personality: ADDR_NO_RANDOMIZE | if linux32 { PER_LINUX32 } else { 0 },
        store_mount: config.store_mount.clone(),
        drv_path: path.to_owned(),
        fixed: drv.is_fixed(),
    };
    Ok((launch, log_pipe))
}

impl Launch {
    /// Makes the process.
    ///
    /// # Errors
    /// The failure to report, when it can't be set up or its program can't be executed.
    pub(super) fn run(self) -> Result<Spawned, Failure> {
        let request = Request {
            program: &self.invocation.program,
            args: &self.invocation.args,
            env: &self.invocation.env,
            cwd: &self.cwd,
            stdin: self.stdin.as_fd(),
            output: self.output.as_fd(),
            error: None,
            builder_log: None,
            personality: self.personality,
            store_mount: self.store_mount.as_ref(),
        };
        launch::spawn(&request).map_err(|error| self.failure(error))
    }

    fn failure(&self, error: SpawnError) -> Failure {
        let path = &self.drv_path;
        if error.step != Step::Execute {
            return Failure::new(
                FailureKind::Other,
                format!("failed to set up the build environment for '{path}': {error}"),
            );
        }
        let program = OsStr::from_bytes(self.invocation.program.as_bytes());
        let kind = if self.fixed {
            FailureKind::Other
        } else {
            FailureKind::Permanent
        };
        Failure::new(
            kind,
            format!(
                "cannot build derivation '{path}': its builder '{}' can't be executed: {}",
                program.display(),
                execution_problem(&error.source, Path::new(program)),
            ),
        )
    }
}

/// Says more than "No such file" where it can: a script's interpreter or a program's loader may be what is missing.
fn execution_problem(error: &io::Error, program: &Path) -> String {
    if error.kind() == io::ErrorKind::NotFound && program.exists() {
        return format!("{error}; the file exists, so its interpreter or loader is missing");
    }
    error.to_string()
}
