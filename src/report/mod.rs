//! What a command found out: rows, as text for people or as one JSON object (section 8 of the design).
//!
//! In JSON all keys are always there, `null` where something is not known. A path that is not UTF-8 is written with its
//! odd bytes as `\xNN`, in JSON and in text; the two are not told apart from a name that contains these four characters.

mod board;
mod doctor;
mod prometheus;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use doctor::Check;
pub use prometheus::metrics;

use crate::config::Environment;
use crate::log;
use crate::money::Cost;
use crate::task::{Priority, Provider};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
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

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A new task is in the inbox.
    Added,
    /// An agent in a session has the task.
    Dispatched,
    /// secutools has the task.
    Delegated,
    /// The task is left where it is.
    Held,
    /// The task is back in the inbox.
    Released,
    /// The task is filed as done.
    Done,
    /// The task is filed as failed.
    Failed,
    /// A session rests.
    Cooldown,
}

/// One thing that happened in a pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// What happened.
    pub event: EventKind,
    /// The project's directory.
    #[serde(serialize_with = "optional_path")]
    pub project: Option<PathBuf>,
    /// The task's file name.
    pub task: Option<String>,
    /// The tmux session.
    pub session: Option<String>,
    /// Who works on it.
    pub provider: Option<Provider>,
    /// The model that works on it.
    pub model: Option<String>,
    /// The job at secutools.
    pub job_id: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Event {
    /// An event of which only the kind is known; the rest is filled in with `Event { …, ..Event::new(kind) }`.
    #[must_use]
    pub fn new(event: EventKind) -> Self {
        Self {
            event,
            project: None,
            task: None,
            session: None,
            provider: None,
            model: None,
            job_id: None,
            reason: None,
        }
    }

    /// The name of what it happened to: the task, else the session.
    #[must_use]
    pub fn subject(&self) -> &str {
        let name = self.task.as_ref().or(self.session.as_ref());
        name.map_or("", String::as_str)
    }
}

/// Where a task would go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// The file, as it was given.
    #[serde(serialize_with = "path")]
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

/// The whole picture.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// The pool's sessions, by name.
    pub sessions: Vec<SessionRow>,
    /// The projects and how much lies in them.
    pub projects: Vec<ProjectRow>,
    /// The tasks that have not ended.
    pub tasks: Vec<TaskRow>,
    /// What secutools has.
    pub delegated: Delegated,
    /// What ended in the last 24 hours.
    pub last_24h: Vec<DayRow>,
    /// How many tasks have been worked on for longer than `stale_after`.
    pub stale: usize,
}

/// One session of the pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionRow {
    /// The tmux session's name.
    pub name: String,
    /// What it is doing.
    pub state: SessionState,
    /// The file name of the task it has.
    pub task: Option<String>,
    /// That task's project.
    #[serde(serialize_with = "optional_path")]
    pub project: Option<PathBuf>,
    /// Since when it is in this state.
    pub since: Option<Timestamp>,
    /// Until when it stays in it.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Waits for a task.
    Free,
    /// Is being given one.
    Claiming,
    /// Its agent is starting.
    Launching,
    /// Its agent works.
    Working,
    /// Its agent asks something.
    NeedsAttention,
    /// A person is using it.
    Attended,
    /// Rests after a failed attempt.
    Cooldown,
    /// Something else runs in it.
    Busy,
    /// tmux does not have it.
    Missing,
}

/// One project and how much lies in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProjectRow {
    /// Its directory.
    #[serde(serialize_with = "path")]
    pub path: PathBuf,
    /// Tasks that wait or are held.
    pub waiting: usize,
    /// Tasks in sessions.
    pub dispatched: usize,
    /// Tasks at secutools.
    pub delegated: usize,
    /// Files in `done/`.
    pub done: usize,
    /// Files in `failed/`.
    pub failed: usize,
}

/// One task that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskRow {
    /// Its project's directory.
    #[serde(serialize_with = "path")]
    pub project: PathBuf,
    /// Its file name.
    pub name: String,
    /// Where it stands.
    pub state: TaskState,
    /// How urgent it is; `None` where the file was not read.
    pub priority: Option<Priority>,
    /// Its title.
    pub title: Option<String>,
    /// Who works on it.
    pub provider: Option<Provider>,
    /// The session that has it.
    pub session: Option<String>,
    /// The job that it is.
    pub job_id: Option<String>,
    /// Which attempt this is, from 1.
    pub attempt: Option<u32>,
    /// Since when it is in this state.
    pub since: Option<Timestamp>,
    /// Whether it has been worked on for longer than `stale_after`.
    pub stale: bool,
    /// Why it is held, or what is wrong.
    pub reason: Option<String>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// In the inbox, its turn will come.
    Waiting,
    /// In the inbox, but not taken; the reason says why.
    Held,
    /// In a session.
    Dispatched,
    /// At secutools.
    DelegatedToSecutools,
}

/// What secutools has.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Delegated {
    /// How many jobs have not ended.
    pub active: usize,
    /// These jobs.
    pub jobs: Vec<JobRow>,
    /// How many were filed as done in the last 24 hours.
    pub done_24h: usize,
    /// How many were filed as failed in the last 24 hours.
    pub failed_24h: usize,
    /// What those filed in the last 24 hours cost, one for each currency; empty where nothing is known.
    pub cost_24h: Vec<Cost>,
}

/// What one provider ended in the last 24 hours.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DayRow {
    /// Who worked on it; `None` for what nobody worked on, or nobody wrote down.
    pub provider: Option<Provider>,
    /// How many tasks were filed as done.
    pub done: usize,
    /// How many were given up.
    pub failed: usize,
    /// What they cost, one for each currency; empty where nothing is known.
    pub cost: Vec<Cost>,
}

impl DayRow {
    /// Whether this was done by way of secutools.
    #[must_use]
    pub fn is_delegated(&self) -> bool {
        self.provider.is_some_and(Provider::is_remote)
    }
}

/// One job that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    /// The project's directory.
    #[serde(serialize_with = "path")]
    pub project: PathBuf,
    /// The task's file name.
    pub task: String,
    /// Who works on it.
    pub provider: Option<Provider>,
    /// Its id; `None` while it is being submitted.
    pub job_id: Option<String>,
    /// `submitting` or `submitted`.
    pub phase: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What keeps it from being submitted.
    pub reason: Option<String>,
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
        Self {
            width: width.max(Self::NARROWEST),
            colour: log::shows_colours(environment, &stdout),
        }
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
            let mut line = serde_json::to_string(&Versioned {
                version: 1,
                report: self,
            })?;
            line.push('\n');
            return Ok(line);
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
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
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

/// The path as text, bytes that are not UTF-8 as `\xNN`.
#[must_use]
pub fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}

fn optional_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(path_text).serialize(serializer)
}
