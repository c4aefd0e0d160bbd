//! What a command found out: rows, as text for people or as one JSON object (section 8 of the design).
//!
//! In JSON all keys are always there, `null` where something is not known. A path that is not UTF-8 is written with its
//! odd bytes as `\xNN`, in JSON and in text; the two are not told apart from a name that contains these four characters.

mod board;
mod doctor;
mod json;
mod prometheus;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use doctor::Check;
pub use prometheus::metrics;
pub use rows::{
    DayRow, Delegated, JobRow, ProjectRow, SessionRow, SessionState, Status, TaskRow, TaskState,
};

use crate::environment::Environment;
use crate::event::Event;
use crate::log;
use crate::money::Cost;
use crate::task::{Priority, Provider};
use crate::text::path_text;
use jiff::Timestamp;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// The result of one command.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of `scan`, `assign` and `reap`.
    Pass(Pass),
    /// Of `decide`.
    Decisions {
        /// One for each file, in the order they were given.
        decisions: Vec<Decision>,
    },
    /// Of `status`.
    Status(Status),
    /// Of `completions` and `man`: printed as it is.
    #[serde(skip)]
    Text(String),
    /// Of `doctor`.
    Checks {
        /// In the order in which a pass would stumble over them.
        checks: Vec<Check>,
    },
    /// Of `job submit` and `job get`.
    Job {
        /// The job as secutools knows it.
        job: Job,
    },
    /// Of `job result`: the same in JSON; as text only what the job has made, as it is.
    Output {
        /// The job as secutools knows it.
        job: Job,
    },
}

/// What one pass has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pass {
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How many sessions are free after the pass; `None` where nobody looked.
    pub free_sessions: Option<usize>,
}

/// Where a task would go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// The file, as it was given.
    #[serde(serialize_with = "crate::text::path")]
    pub task: PathBuf,
    /// Whom the rule chose.
    pub provider: Provider,
    /// Whether it would leave this machine: a remote provider, and delegation is on.
    pub delegated: bool,
    /// Whether delegation is on here.
    pub delegation_enabled: bool,
    /// The rule that matched, such as `auto-without-hint`.
    pub rule: String,
    /// The model it would be worked on with; `None` where the provider chooses.
    pub model: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// What is odd about the file, each as `FILE:LINE:COLUMN: sentence` (see [`warning`]).
    pub warnings: Vec<String>,
}

/// A job as secutools knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled`, `expired`, or the server's own word.
    pub status: String,
    /// Who works on it.
    pub provider: Option<String>,
    /// What it has made.
    pub output: Option<String>,
    /// What it cost, one for each currency.
    pub cost: Option<Cost>,
    /// What went wrong.
    pub error: Option<String>,
}

/// What text is laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Columns.
    pub width: usize,
    /// Whether it shows colours.
    pub colour: bool,
}

impl Page {
    /// Nobody reads lines that are narrower than this.
    const NARROWEST: usize = 40;
    const ORDINARY: usize = 80;

    /// The terminal that standard output is, or 80 columns without colours.
    #[must_use]
    pub fn of_stdout(environment: &Environment) -> Self {
        let stdout = io::stdout();
        let width = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|width| stdout.is_terminal() && *width > 0)
            .unwrap_or(Self::ORDINARY);
        Self { width: width.max(Self::NARROWEST), colour: log::shows_colours(environment, &stdout) }
    }
}

impl Report {
    /// The report as it goes to standard output: text for the `page`, or with `json` one object on one line. `now` is the
    /// clock of the pass; text tells times as distances from it.
    ///
    /// # Errors
    /// None that can happen: all keys are strings, all values have a JSON form.
    pub fn render(&self, json: bool, page: Page, now: Timestamp) -> anyhow::Result<String> {
        #[derive(Serialize)]
        struct Versioned<'a> {
            version: u8,
            #[serde(flatten)]
            report: &'a Report,
        }
        if json && !matches!(self, Self::Text(_)) {
            return json::line(&Versioned { version: 1, report: self });
        }
        Ok(match self {
            Self::Pass(pass) => text::pass(pass),
            Self::Decisions { decisions } => text::decisions(decisions),
            Self::Status(status) => board::status(status, page, now),
            Self::Checks { checks } => doctor::text(checks),
            Self::Job { job } => text::job(job),
            Self::Output { job } => text::output(job),
            Self::Text(text) => text.clone(),
        })
    }
}

/// Writes to standard output as it is. A reader that has left (`ccl status | head -1`) is no error.
///
/// # Errors
/// Those of writing: standard output is a full disk, say.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// `FILE:LINE:COLUMN: sentence`, as editors and people find it; without a position `FILE: sentence`.
#[must_use]
pub fn warning(file: &Path, position: Option<(usize, usize)>, sentence: &str) -> String {
    let file = path_text(file);
    match position {
        Some((line, column)) => format!("{file}:{line}:{column}: {sentence}"),
        None => format!("{file}: {sentence}"),
    }
}
