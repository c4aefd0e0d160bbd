//! What a command found out: rows, as text for people or as one JSON object.
//!
//! In JSON all keys are always there, `null` where something is not known. A path that is not UTF-8 is written with its
//! odd bytes as `\xNN`, in JSON and in text; this looks like a name that contains these four characters.

mod history;
mod json;
mod needs;
mod page;
mod prometheus;
mod rows;
mod status_view;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod watchdog;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::environment::Environment;
use crate::event::Event;
use crate::job::Job;
use crate::log;
use crate::task::{Isolation, Land, Priority, Provider};
use crate::text::path_text;

pub(crate) use history::History;
pub(crate) use needs::{Need, NeedKind};
pub(crate) use page::{POLICY, StatusPage};
pub(crate) use prometheus::metrics;
pub(crate) use rows::JobRow;
pub(crate) use rows::{
    AgentReadiness, AgentRow, DayRow, ProjectRow, RecurringRow, RecurringState, SessionRow,
    SessionState, Status, TaskRow, TaskState, ToLandRow, WorktreeRow,
};
pub(crate) use summary::{AttentionRow, DoneRow, FailedRow, ProjectSummary, Runs, WorkReport};

/// A timer makes a scan every minute, which takes seconds: where none has ended for this long, nothing is handed out.
pub(crate) const OVERDUE: SignedDuration = SignedDuration::from_mins(5);

/// The result of one command.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Report {
    /// Of `scan`, `assign` and `reap`; `free_sessions` after the pass, `None` where the pool was not read.
    Pass {
        events: Vec<Event>,
        free_sessions: Option<usize>,
    },
    /// Of `decide`: one for each file, in the order they were given.
    Decisions {
        decisions: Vec<DecisionRow>,
    },
    Status(Status),
    /// Of `completions`, `man` and `status --format prometheus` or `html`: printed as it is.
    #[serde(skip)]
    Text(String),
    /// Of `doctor`, in the order in which a pass would stumble over them.
    Checks {
        checks: Vec<DoctorRow>,
    },
    Summary(WorkReport),
    /// Of `job submit` and `job get`.
    Job {
        job: Job,
    },
    /// Of `job result`: the same in JSON; as text only what the job has made, as it is.
    Output {
        job: Job,
    },
}

#[derive(Clone, Serialize)]
pub(crate) struct DecisionRow {
    /// The file, as it was given.
    #[serde(serialize_with = "crate::text::path")]
    pub(crate) task: PathBuf,
    /// The one that the rule names.
    pub(crate) provider: Provider,
    /// Whether the task would leave this machine: a remote provider, and delegation is on.
    pub(crate) delegated: bool,
    pub(crate) delegation_enabled: bool,
    /// Such as `auto-without-hint`.
    pub(crate) rule: String,
    /// The agent that would have the task now; `None` where it leaves this machine, or waits for one.
    pub(crate) agent: Option<String>,
    /// Why that agent: another one that comes before it is passed over, or the task is the probe of its hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_reason: Option<String>,
    /// `None` where the provider chooses.
    pub(crate) model: Option<String>,
    pub(crate) priority: Priority,
    /// These two are `None` where it leaves this machine.
    pub(crate) isolation: Option<Isolation>,
    pub(crate) land: Option<Land>,
    /// The command that would judge it; `None` where nothing would, as at secutools.
    pub(crate) check: Option<String>,
    /// For what time or tasks it waits.
    pub(crate) waits: Option<String>,
    /// See [`warning`].
    pub(crate) warnings: Vec<String>,
}

/// One thing that a pass needs, and what `doctor` found of it.
#[derive(Serialize)]
pub(crate) struct DoctorRow {
    /// `tmux`, `agent`, `trust` …
    pub(crate) check: &'static str,
    /// `None` where it does not apply, or cannot be known.
    pub(crate) ok: Option<bool>,
    pub(crate) detail: String,
    pub(crate) remedy: Option<String>,
}

/// What a table is laid out for.
pub(crate) struct TerminalStyle {
    pub(crate) width: usize,
    pub(crate) colour: bool,
    pub(crate) zone: TimeZone,
}

impl TerminalStyle {
    /// The terminal that standard output is, or 80 columns without colours.
    pub(crate) fn of_stdout(environment: &Environment) -> Self {
        let stdout = io::stdout();
        let width = match rustix::termios::tcgetwinsize(&stdout) {
            Ok(size) if stdout.is_terminal() && size.ws_col > 0 => usize::from(size.ws_col),
            _ => 80,
        };
        Self {
            // Lines narrower than 40 columns cannot be read.
            width: width.max(40),
            colour: log::shows_colours(environment, &stdout),
            zone: TimeZone::system(),
        }
    }
}

impl Report {
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Envelope<'a> {
            version: u8,
            #[serde(flatten)]
            report: &'a Report,
        }
        match self {
            Self::Text(text) => Ok(text.clone()),
            report => json::line(&Envelope { version: 1, report }),
        }
    }

    /// For people. The terminal's `style` is only asked for where it is needed: the time zone is read from a dozen
    /// files.
    pub(crate) fn text(&self, now: Timestamp, style: impl FnOnce() -> TerminalStyle) -> String {
        match self {
            Self::Pass { events, .. } => text::events(events),
            Self::Decisions { decisions } => text::decisions(decisions),
            Self::Status(status) => status_view::text(status, &style(), now),
            Self::Summary(summary) => summary::markdown(summary, &style().zone),
            Self::Checks { checks } => text::checks(checks),
            Self::Job { job } => text::job(job),
            Self::Output { job } => text::output(job),
            Self::Text(text) => text.clone(),
        }
    }
}

/// Writes to standard output. A reader that has left (`ccl status | head -1`) is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// `FILE:LINE:COLUMN: sentence`, as editors and people find it; without a position `FILE: sentence`.
pub(crate) fn warning(file: &Path, position: Option<(usize, usize)>, sentence: &str) -> String {
    let file = path_text(file);
    match position {
        Some((line, column)) => format!("{file}:{line}:{column}: {sentence}"),
        None => format!("{file}: {sentence}"),
    }
}
