//! What `status` is made of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::money::Cost;
use crate::task::{Priority, Provider};

/// The whole picture.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Status {
    /// The pool's sessions, by name.
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) projects: Vec<ProjectRow>,
    /// The tasks that have not ended.
    pub(crate) tasks: Vec<TaskRow>,
    pub(crate) delegated: Delegations,
    /// What ended in the last 24 hours.
    pub(crate) last_24h: Vec<DayRow>,
    /// How many tasks have been worked on for longer than `stale_after`.
    pub(crate) stale: usize,
}

impl Status {
    /// How many tasks lie in each project's inbox: waiting ones by priority, held ones without.
    pub(super) fn inbox_counts(&self) -> HashMap<(&Path, Option<Priority>), usize> {
        let mut counts = HashMap::new();
        for task in &self.tasks {
            let priority = match task.state {
                TaskState::Waiting => Some(task.priority.unwrap_or_default()),
                TaskState::Held => None,
                TaskState::Dispatched | TaskState::DelegatedToSecutools => continue,
            };
            *counts.entry((task.project.as_path(), priority)).or_default() += 1;
        }
        counts
    }
}

/// One session of the pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SessionRow {
    pub(crate) name: String,
    pub(crate) state: SessionState,
    pub(crate) task: Option<String>,
    #[serde(serialize_with = "crate::text::optional_path")]
    pub(crate) project: Option<PathBuf>,
    pub(crate) since: Option<Timestamp>,
    /// Until when it stays in it.
    pub(crate) until: Option<Timestamp>,
    pub(crate) reason: Option<String>,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SessionState {
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
    /// After a failed attempt.
    Cooldown,
    /// Something else runs in it.
    Busy,
    /// tmux does not have it.
    Missing,
}

impl SessionState {
    pub(super) const ALL: [Self; 9] = [
        Self::Free,
        Self::Claiming,
        Self::Launching,
        Self::Working,
        Self::NeedsAttention,
        Self::Attended,
        Self::Cooldown,
        Self::Busy,
        Self::Missing,
    ];
}

/// One project and how much lies in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ProjectRow {
    #[serde(serialize_with = "crate::text::path")]
    pub(crate) path: PathBuf,
    /// Tasks that wait or are held.
    pub(crate) waiting: usize,
    /// Tasks in sessions.
    pub(crate) dispatched: usize,
    /// Tasks at secutools.
    pub(crate) delegated: usize,
    pub(crate) done: usize,
    pub(crate) failed: usize,
}

/// One task that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TaskRow {
    #[serde(serialize_with = "crate::text::path")]
    pub(crate) project: PathBuf,
    pub(crate) name: String,
    pub(crate) state: TaskState,
    /// How urgent it is; `None` where the file was not read.
    pub(crate) priority: Option<Priority>,
    pub(crate) title: Option<String>,
    pub(crate) provider: Option<Provider>,
    pub(crate) session: Option<String>,
    pub(crate) job_id: Option<String>,
    /// Which attempt this is, from 1.
    pub(crate) attempt: Option<u32>,
    pub(crate) since: Option<Timestamp>,
    /// Whether it has been worked on for longer than `stale_after`.
    pub(crate) stale: bool,
    /// Why it is held, or what is wrong.
    pub(crate) reason: Option<String>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskState {
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
pub(crate) struct Delegations {
    pub(crate) active: usize,
    pub(crate) jobs: Vec<JobRow>,
    /// How many were filed as done in the last 24 hours.
    pub(crate) done_24h: usize,
    /// How many were filed as failed in the last 24 hours.
    pub(crate) failed_24h: usize,
    /// What those filed in the last 24 hours cost, one for each currency; empty where nothing is known.
    pub(crate) cost_24h: Vec<Cost>,
}

/// What one provider ended in the last 24 hours.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DayRow {
    /// Who worked on it; `None` for what nobody worked on, or nobody wrote down.
    pub(crate) provider: Option<Provider>,
    /// How many tasks were filed as done.
    pub(crate) done: usize,
    /// How many were given up.
    pub(crate) failed: usize,
    /// What they cost, one for each currency; empty where nothing is known.
    pub(crate) cost: Vec<Cost>,
}

impl DayRow {
    /// Whether this was done by way of secutools.
    pub(crate) fn is_delegated(&self) -> bool {
        self.provider.is_some_and(Provider::is_remote)
    }
}

/// One job that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    #[serde(serialize_with = "crate::text::path")]
    pub project: PathBuf,
    pub task: String,
    pub provider: Option<Provider>,
    /// Its id; `None` while it is being submitted.
    pub job_id: Option<String>,
    /// `submitting` or `submitted`.
    pub phase: String,
    pub since: Option<Timestamp>,
    /// What keeps it from being submitted.
    pub reason: Option<String>,
}
