//! `ccl status`: sessions, queues, jobs. Changes nothing.
//!
//! What cannot be read is reported on standard error, and is the reason in its row; everything else is shown all the same.

mod agents;
mod sessions;
mod tasks;

use anyhow::{Context as _, Error, Result, bail};
use jiff::SignedDuration;

use super::{Answer, Context, combine_exit};
use crate::cli::StatusFormat;
use crate::config::Projects;
use crate::error::{self, Failure};
use crate::pause;
use crate::queue::Project;
use crate::report::{self, Report, Status};
use crate::session::{self, Pool};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What could not be read; each problem is reported once.
struct Problems<'a> {
    context: Context<'a>,
    reported: Vec<String>,
    exit: u8,
}

impl Problems<'_> {
    /// Reports it, and returns its sentence.
    fn note(&mut self, error: &Error) -> String {
        let sentence = format!("{error:#}");
        if !self.reported.contains(&sentence) {
            self.context.log.error(&sentence);
            self.reported.push(sentence.clone());
        }
        self.exit = combine_exit(self.exit, error::exit_code(error));
        sentence
    }
}

pub(super) fn run(
    context: Context<'_>,
    format: Option<StatusFormat>,
    json: bool,
) -> Result<Answer> {
    if json && matches!(format, Some(StatusFormat::Text | StatusFormat::Prometheus)) {
        let sentence = "--json and --format name two different forms: leave one out";
        bail!(Failure::Usage(sentence.to_owned()));
    }
    let (status, exit) = collect(context)?;
    let report = match format {
        Some(StatusFormat::Prometheus) => Report::Text(report::metrics(&status, exit)),
        Some(StatusFormat::Text | StatusFormat::Json) | None => Report::Status(status),
    };
    Ok(Answer { report, exit })
}

/// All there is to know, and the exit status of what could not be read.
pub(super) fn collect(context: Context<'_>) -> Result<(Status, u8)> {
    let mut problems = Problems { context, reported: Vec::new(), exit: 0 };
    let pool = context.pool().unwrap_or_else(|error| {
        problems.note(&error);
        Pool::without_tmux(context.config, context.log, context.now)
    });
    let projects = projects(context)?;
    let mut status = Status {
        sessions: sessions::rows(context, &pool, &mut problems)
            .context("cannot look through the sessions' markers")?,
        agents: agents::rows(context, &mut problems),
        paused: pause::read(&pause::of_state(&context.config.state_dir)),
        ..Status::default()
    };
    tasks::add(context, &pool, &projects, &mut problems, &mut status);
    Ok((status, problems.exit))
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
        // A marker that cannot be read is reported where its session is.
        let marker = session.dispatched().ok().flatten();
        paths.extend(marker.map(|marker| marker.project));
    }
    paths.sort();
    paths.dedup();
    Ok(paths.into_iter().map(Project::new).collect())
}
