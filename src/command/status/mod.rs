//! `ccl status`: sessions, queues, jobs. Changes nothing.
//!
//! What cannot be read is told on standard error and stands as a reason beside
//! what it belongs to; everything else is shown all the same.

mod sessions;
mod tasks;

use anyhow::{Context as _, Error, Result};
use jiff::SignedDuration;

use super::{Context, Outcome, worse};
use crate::cli::StatusFormat;
use crate::config::Projects;
use crate::error::{self, Failure};
use crate::queue::Project;
use crate::report::{self, Report, Status};
use crate::session::{self, Pool};

/// What the counters of the last day look back on.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What could not be read: told once, however often it is met.
struct Problems<'a> {
    context: Context<'a>,
    told: Vec<String>,
    exit: u8,
}

impl Problems<'_> {
    /// Tells it, and returns its sentence.
    fn note(&mut self, error: &Error) -> String {
        let sentence = format!("{error:#}");
        if !self.told.contains(&sentence) {
            self.context.log.error(&sentence);
            self.told.push(sentence.clone());
        }
        self.exit = worse(self.exit, error::exit_code(error));
        sentence
    }
}

/// The whole picture, as text or JSON, or as metrics.
pub(super) fn run(
    context: Context<'_>,
    format: Option<StatusFormat>,
    json: bool,
) -> Result<Outcome> {
    if json && matches!(format, Some(StatusFormat::Text | StatusFormat::Prometheus)) {
        let sentence = "--json and --format name two different forms: leave one out";
        return Err(Failure::Usage(sentence.to_owned()).into());
    }
    let mut problems = Problems { context, told: Vec::new(), exit: 0 };
    let status = collect(context, &mut problems)?;
    let report = match format {
        Some(StatusFormat::Prometheus) => Report::Text(report::metrics(&status, problems.exit)),
        Some(StatusFormat::Text | StatusFormat::Json) | None => Report::Status(status),
    };
    Ok(Outcome { report, exit: problems.exit })
}

fn collect<'a>(context: Context<'a>, problems: &mut Problems<'a>) -> Result<Status> {
    let pool = match context.pool() {
        Ok(pool) => pool,
        Err(error) => {
            problems.note(&error);
            Pool::without_tmux(context.config, context.log, context.now)
        }
    };
    let projects = projects(context)?;
    let mut status = Status {
        sessions: sessions::rows(context, &pool, problems)
            .context("cannot look through the sessions' markers")?,
        ..Status::default()
    };
    tasks::add(context, &pool, &projects, problems, &mut status);
    status.stale = status.tasks.iter().filter(|task| task.stale).count();
    Ok(status)
}

/// The projects of the configuration, or of the current directory; where there are none, those that sessions work for.
fn projects(context: Context<'_>) -> Result<Vec<Project>> {
    let missing = match context.projects() {
        Err(error) if matches!(context.config.projects, Projects::NearestTo(_)) => error,
        found => return found,
    };
    context.log.info(format_args!("{missing:#}"));
    let mut paths = Vec::new();
    for session in session::marked(&context.config.state_dir)? {
        // A marker that cannot be read is told where its session is.
        let marker = session.dispatched().ok().flatten();
        paths.extend(marker.map(|marker| marker.project));
    }
    paths.sort();
    paths.dedup();
    Ok(paths.into_iter().map(Project::new).collect())
}
