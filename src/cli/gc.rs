//! `windrow gc`: deletes what no root keeps, all of it or by last use, and says what keeps the
//! rest.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use windrow_store::gc::{self, Action, Amount, ByUse, Collected, GcOptions, Survey};
use windrow_systems::report::Level;

use super::{CommonArgs, print_lines};
use crate::collecting;
use crate::error::Result;
use crate::path_bar;
use crate::progress::{say, size};
use crate::session::Session;
use crate::terminal::complain;
use crate::units;

#[derive(Debug, Args)]
pub(super) struct GcArgs {
    /// Print what would be deleted, in that order, and how much it is; delete nothing
    #[arg(long)]
    dry_run: bool,

    /// Delete only what was last used longer ago than AGE (30d, 12h, 2w). A path is used when it is
    /// built or fetched, when a build asks for it or needs it, and as long as a root or something
    /// used leads to it
    #[arg(long, value_name = "AGE", value_parser = units::age, allow_hyphen_values = true)]
    older_than: Option<u64>,

    /// Delete what was not used for longest, until the valid paths of the store have at most SIZE
    /// (20G, 500M) together, as NARs; then stop
    #[arg(long, value_name = "SIZE", value_parser = units::size, allow_hyphen_values = true)]
    max_size: Option<u64>,

    /// Keep the outputs of derivations that are kept (setting keep-outputs): the compilers and
    /// libraries that what is kept was built with. Without it they go, and are fetched or built
    /// again when it is rebuilt
    #[arg(long, overrides_with = "no_keep_outputs")]
    keep_outputs: bool,

    /// Let them go, whatever the setting says
    #[arg(long, overrides_with = "keep_outputs")]
    no_keep_outputs: bool,

    /// Keep the derivation that built a path that is kept (setting keep-derivations, which is true
    /// unless it was changed)
    #[arg(long, overrides_with = "no_keep_derivations")]
    keep_derivations: bool,

    /// Let it go, whatever the setting says
    #[arg(long, overrides_with = "keep_derivations")]
    no_keep_derivations: bool,

    #[command(flatten)]
    common: CommonArgs,
}

impl GcArgs {
    /// The settings that options stand for.
    fn settings(&self) -> Vec<(&'static str, &'static str)> {
        let value = |yes: bool, no: bool| match (yes, no) {
            (true, _) => Some("true"),
            (_, true) => Some("false"),
            _ => None,
        };
        let all = [
            (
                "keep-outputs",
                value(self.keep_outputs, self.no_keep_outputs),
            ),
            (
                "keep-derivations",
                value(self.keep_derivations, self.no_keep_derivations),
            ),
        ];
        let given = all.into_iter();
        given
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    fn by_use(&self) -> ByUse {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        let before = |age| now.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
        ByUse {
            used_before: self.older_than.map(before),
            max_size: self.max_size,
        }
    }
}

pub(super) fn run(args: &GcArgs) -> Result<()> {
    let session = args.common.session_for(&args.settings(), &[])?;
    let style = args.common.style(false);
    let (collected, result) = collect(args, &session)?;
    if args.dry_run {
        print_lines(&collected.paths)?;
    }
    // However it ended.
    if let Some(survey) = &collected.survey {
        let mut lines = summary(args, &collected, survey);
        if result.is_err() {
            lines.truncate(1);
        }
        lines.iter().for_each(|line| say(&style, Level::Info, line));
    }
    result
}

/// What came of it, and how it ended, if it could be begun.
fn collect(args: &GcArgs, session: &Session) -> Result<(Collected, Result<()>)> {
    let style = args.common.style(false);
    let (action, mut database) = match args.dry_run {
        true => (Action::ListDead, session.open()?.database),
        false => (Action::DeleteDead, session.open_to_collect()?),
    };
    let options = GcOptions {
        keep_outputs: session.settings.keep_outputs,
        keep_derivations: session.settings.keep_derivations,
        by_use: Some(args.by_use()),
        ..GcOptions::new(action, session.database_options())
    };
    let mut collected = Collected::default();
    let bar = path_bar::bar(style.shows(Level::Info));
    let shows = |level| style.shows(level);
    let result = gc::collect(
        &session.layout,
        &mut database,
        &options,
        &mut collected,
        &mut |event| collecting::tell(&bar, &event, &shows, &complain),
    );
    bar.finish_and_clear();
    Ok((collected, result.map_err(Into::into)))
}

/// What went and what is left, and why not more or less of it.
fn summary(args: &GcArgs, collected: &Collected, survey: &Survey) -> Vec<String> {
    let left = Amount {
        paths: survey.valid.paths - survey.gone.paths,
        bytes: survey.valid.bytes - survey.gone.bytes,
    };
    // With what is no valid path.
    let count = match args.dry_run {
        true => collected.paths.len() as u64,
        false => collected.deleted,
    };
    let gone = match args.dry_run {
        true => format!(
            "{} would be deleted, {} as NARs",
            paths(count),
            size(survey.gone.bytes)
        ),
        false => format!("{} deleted, {} freed", paths(count), size(collected.bytes)),
    };
    let left_text = format!("{} left, {} as NARs", paths(left.paths), size(left.bytes));
    let mut lines = vec![format!("{gone}; {left_text}")];
    let is_too_large = args.max_size.is_some_and(|most| left.bytes > most);
    if is_too_large || (count == 0 && left.paths > 0) {
        lines.extend(why_not_more(args, survey, is_too_large));
    }
    lines.extend(outputs(args, survey));
    lines
}

/// What keeps a store large, or keeps all of it.
fn why_not_more(args: &GcArgs, survey: &Survey, is_too_large: bool) -> Option<String> {
    if args.max_size.is_some_and(|most| survey.valid.bytes <= most) {
        return Some("note: the store is not larger than that".to_owned());
    }
    let mut kept = Vec::new();
    if survey.alive.paths > 0 {
        kept.push(format!(
            "roots keep {} ('windrow nix-store --gc --print-roots' lists them)",
            amount(survey.alive)
        ));
    }
    if survey.recent.paths > 0 {
        kept.push(format!(
            "{} were used more recently than '--older-than' says",
            amount(survey.recent)
        ));
    }
    let begin = match is_too_large {
        true => "note: the store stays larger than that",
        false => "note: nothing can go",
    };
    (!kept.is_empty()).then(|| format!("{begin}: {}", kept.join("; ")))
}

/// What `keep-outputs` does, or would do.
fn outputs(args: &GcArgs, survey: &Survey) -> Option<String> {
    if survey.by_outputs.paths > 0 {
        return Some(format!(
            "note: outputs of derivations that are kept are kept too, for keep-outputs is set: {}; \
             '--no-keep-outputs' lets them go",
            amount(survey.by_outputs)
        ));
    }
    let went = match args.dry_run {
        true => "would go",
        false => "went",
    };
    (survey.outputs_gone.paths > 0).then(|| {
        format!(
            "note: what {went} has outputs of derivations that are kept, such as compilers: {}; they have \
             to be fetched or built again if what is kept is rebuilt; '--keep-outputs' keeps them",
            amount(survey.outputs_gone)
        )
    })
}

fn paths(count: u64) -> String {
    match count {
        1 => "1 store path".to_owned(),
        count => format!("{count} store paths"),
    }
}

fn amount(amount: Amount) -> String {
    format!("{} ({})", paths(amount.paths), size(amount.bytes))
}
