//! What `status` is made of.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::money::Cost;
use crate::task::{Priority, Provider};

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
    #[serde(serialize_with = "crate::text::optional_path")]
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
    #[serde(serialize_with = "crate::text::path")]
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
    #[serde(serialize_with = "crate::text::path")]
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
    #[serde(serialize_with = "crate::text::path")]
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
