//! `ccl status`: sessions, queues, jobs. Changes nothing.
//!
//! What cannot be read is reported on standard error, and is the reason in its row; everything else is shown all the
//! same.

mod agents;
mod sessions;
mod tasks;
mod watch;

use anyhow::{Context as _, Error, Result, bail};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::{Answer, Context, combine_exit};
use crate::cli::StatusFormat;
use crate::config::Projects;
use crate::error::{self, Failure};
use crate::journal::Journal;
use crate::last_scan;
use crate::pause;
use crate::queue::Project;
use crate::report::{self, History, Report, Status, StatusPage};
use crate::session::{self, Pool};

pub(super) use watch::watch;

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

/// The whole status, with errors for what could not be read, and the exit status.
pub(super) struct Collected {
    pub(super) status: Status,
    pub(super) problems: Vec<String>,
    pub(super) exit: u8,
}

pub(super) fn run(
    context: Context<'_>,
    format: Option<StatusFormat>,
    json: bool,
) -> Result<Answer> {
    if json && !matches!(format, None | Some(StatusFormat::Json)) {
        let sentence = "--json and --format name two different forms: leave one out";
        bail!(Failure::Usage(sentence.to_owned()));
    }
    let collected = collect(context)?;
    let exit = collected.exit;
    let report = match format {
        Some(StatusFormat::Prometheus) => Report::Text(report::metrics(&collected.status, exit)),
        Some(StatusFormat::Html) => Report::Text(page(context, &collected)),
        Some(StatusFormat::Text | StatusFormat::Json) | None => Report::Status(collected.status),
    };
    Ok(Answer { report, exit })
}

pub(super) fn collect(context: Context<'_>) -> Result<Collected> {
    let mut problems = Problems { context, reported: Vec::new(), exit: 0 };
    let pool = context.pool().unwrap_or_else(|error| {
        problems.note(&error);
        Pool::without_tmux(context.config, context.log, context.now)
    });
    let projects = projects(context)?;
    let state_dir = &context.config.state_dir;
    let (agents, unknown_jobs) = agents::rows(context, &mut problems);
    let mut status = Status {
        sessions: sessions::rows(context, &pool, &mut problems)
            .context("cannot look through the sessions' markers")?,
        agents,
        paused: pause::read(&pause::of_state(state_dir)),
        passed: last_scan::read(state_dir),
        ..Status::default()
    };
    status.delegated.unknown_costs = unknown_jobs;
    tasks::add(context, &pool, &projects, &mut problems, &mut status);
    let Problems { reported, exit, .. } = problems;
    Ok(Collected { status, problems: reported, exit })
}

/// The page for a browser: the status, and what the journal shows of the time before.
pub(super) fn page(context: Context<'_>, collected: &Collected) -> String {
    let Collected { status, problems, .. } = collected;
    let zone = TimeZone::system();
    let mut history = History::new(context.now, &zone);
    let journal = Journal::new(&context.config.state_dir);
    let read = journal.read(history.since(), |entry| history.add(entry));
    // A problem that is the reason in a row is shown there, and not once more at the top.
    let is_shown = |problem: &String| {
        let tasks = status.tasks.iter().map(|row| &row.reason);
        let reasons = status.sessions.iter().map(|row| &row.reason).chain(tasks);
        let recurring = status.recurring.iter().map(|row| &row.reason);
        let mut reasons = reasons.chain(recurring).flatten();
        reasons.any(|reason| reason.contains(problem.as_str()))
    };
    let mut problems: Vec<String> =
        problems.iter().filter(|problem| !is_shown(problem)).cloned().collect();
    if let Err(error) = read {
        context.log.error(format_args!("{error:#}"));
        problems.push(format!("{error:#}"));
    }
    let page = StatusPage {
        status,
        history: &history,
        problems: &problems,
        host: &context.config.host,
        now: context.now,
        zone: &zone,
        stale_after: context.config.dispatcher.stale_after,
    };
    page.html()
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
