//! What a builder's process executes, finds and reads: a program that the derivation names, or one
//! of the engine's own.

use std::fs::File;
use std::path::Path;

use windrow_components::building::ScratchOutput;
use windrow_components::derivation::Derivation;
use windrow_components::derivation::attributes::{Attributes, Special};
use windrow_sandbox::SandboxRequest;

use crate::builtin::{self, Builtins, Needs, Start};
use crate::process::environment::{self, BuildEnvParams, Invocation, Rewrites};
use crate::spawn::attributes::Files;
use crate::spawn::builder::BuilderInputs;
use crate::world::BuilderConfig;

/// How builders that come with the engine are called.
const BUILTIN: &[u8] = b"builtin:";

/// Whether the derivation wants a builder that comes with the engine, one that there is or not.
pub(super) fn wants_builtin(drv: &Derivation<'_>) -> bool {
    drv.builder.starts_with(BUILTIN)
}

/// A builder of the engine.
#[derive(Clone, Copy)]
pub(super) struct Builtin<'c> {
    name: &'static str,
    builtins: &'c Builtins,
}

impl<'c> Builtin<'c> {
    /// The one that the derivation names, if there is one of that name.
    pub(super) fn of(drv: &Derivation<'_>, config: &'c BuilderConfig) -> Option<Self> {
        let name = drv.builder.strip_prefix(BUILTIN)?;
        let mut names = builtin::NAMES.into_iter();
        Some(Self {
            name: names.find(|known| known.as_bytes() == name)?,
            builtins: config.builtins.as_deref()?,
        })
    }

    /// Why it is not to build that derivation, if so.
    pub(super) fn refusal(self, drv: &Derivation<'_>) -> Option<&'static str> {
        builtin::refusal(self.name, drv.is_fixed())
    }

    /// Looks up what it needs of the machine, and adds that to the sandbox that it is to have, if
    /// any.
    ///
    /// # Errors
    /// When that is not to be found.
    pub(super) fn prepare(
        self,
        attributes: &Attributes<'_>,
        request: Option<&mut SandboxRequest>,
    ) -> Result<PreparedBuiltin<'c>, String> {
        let sandbox = request.is_some();
        let mut needs = self.builtins.needs(self.name, attributes, sandbox)?;
        if let Some(request) = request {
            request.shown.append(&mut needs.shown);
        }
        Ok(PreparedBuiltin {
            builtin: self,
            needs,
            sandbox,
        })
    }
}

/// A builder of the engine with what it needs.
pub(super) struct PreparedBuiltin<'c> {
    builtin: Builtin<'c>,
    needs: Needs,
    sandbox: bool,
}

/// What a process executes, finds and reads.
pub(super) struct Program {
    pub(super) invocation: Invocation,
    pub(super) files: Files,
    pub(super) input: Option<File>,
}

impl Program {
    /// The derivation's own program, in `build_dir` as it sees it.
    ///
    /// # Errors
    /// Why it can't be started as the derivation says.
    pub(super) fn of_derivation(
        attributes: &Attributes<'_>,
        special: Special,
        build_dir: &Path,
        rewrites: &[ScratchOutput],
        inputs: &BuilderInputs<'_>,
    ) -> Result<Self, String> {
        let config = inputs.config;
        let around = BuildEnvParams {
            store_dir: &config.layout.store_dir,
            build_dir,
            cores: config.cores,
            outer_env: &|name| match config.impure_env.get(name) {
                Some(value) => Some(value.into()),
                None => std::env::var_os(name),
            },
            rewrites,
        };
        let mut invocation =
            environment::invocation(attributes, &around).map_err(|error| error.to_string())?;
        let inputs = if special.exports.is_empty() {
            Vec::new()
        } else {
            let direct = inputs.graph.direct_inputs(inputs.drv);
            direct.map(|path| inputs.graph.full_path(path)).collect()
        };
        let files = Files {
            ready: std::mem::take(&mut invocation.files),
            structured: attributes.members_for_builder(),
            exports: special.exports,
            inputs,
            rewrites: std::mem::take(&mut invocation.rewrites),
            problem: None,
        };
        Ok(Self {
            invocation,
            files,
            input: None,
        })
    }

    /// A program of the engine, in `build_dir` as it sees it. The derivation gives it neither
    /// variables nor files.
    ///
    /// # Errors
    /// Why it can't be started.
    pub(super) fn of_engine(
        builtin: PreparedBuiltin<'_>,
        attributes: &Attributes<'_>,
        build_dir: &Path,
        rewrites: &[ScratchOutput],
    ) -> Result<Self, String> {
        let PreparedBuiltin {
            builtin: Builtin { name, builtins },
            needs,
            sandbox,
        } = builtin;
        let rewrites = Rewrites::new(attributes.derivation(), rewrites);
        let place = (build_dir, sandbox);
        let Start {
            invocation,
            request,
        } = builtins.start(name, attributes, needs, place, rewrites)?;
        Ok(Self {
            invocation,
            files: Files::default(),
            input: Some(request),
        })
    }
}
