//! What `status` is made of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::job::EngineKind;
use crate::money::Cost;
use crate::pause::Pause;
use crate::task::{Priority, Provider};

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Status {
    /// The pool's sessions, then others that have a marker.
    pub(crate) sessions: Vec<SessionRow>,
    /// All of the configuration, in its order.
    pub(crate) agents: Vec<AgentRow>,
    /// `None`: tasks are handed out.
    pub(crate) paused: Option<Pause>,
    pub(crate) projects: Vec<ProjectRow>,
    /// The tasks that have not ended.
    pub(crate) tasks: Vec<TaskRow>,
    pub(crate) recurring: Vec<RecurringRow>,
    pub(crate) delegated: Delegations,
    pub(crate) last_24h: Vec<DayRow>,
    /// How many tasks have been worked on for longer than `stale_after`.
    pub(crate) stale: usize,
    /// When the last scan ended that was no dry run; `None` where there was none.
    pub(crate) passed: Option<Timestamp>,
}

impl Status {
    /// How many tasks lie in each project's inbox: waiting ones by priority, held ones without.
    pub(super) fn inbox_counts(&self) -> impl Fn(&ProjectRow, Option<Priority>) -> usize {
        let mut counts: HashMap<(&Path, Option<Priority>), usize> = HashMap::new();
        for task in &self.tasks {
            let priority = match task.state {
                TaskState::Waiting => Some(task.priority.unwrap_or_default()),
                TaskState::Held => None,
                TaskState::Dispatched
                | TaskState::Checking
                | TaskState::DelegatedToSecutools
                | TaskState::DelegatedToRemote => continue,
            };
            *counts.entry((task.project.as_path(), priority)).or_default() += 1;
        }
        move |row, priority| counts.get(&(row.path.as_path(), priority)).copied().unwrap_or(0)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct SessionRow {
    pub(crate) name: String,
    pub(crate) state: SessionState,
    pub(crate) task: Option<String>,
    #[serde(serialize_with = "crate::text::optional_path")]
    pub(crate) project: Option<PathBuf>,
    pub(crate) since: Option<Timestamp>,
    /// The end of a cooldown.
    pub(crate) until: Option<Timestamp>,
    pub(crate) reason: Option<String>,
    /// What its agent does: the last tool that it used, as `Bash: Run the tests`.
    pub(crate) doing: Option<String>,
}

impl SessionRow {
    /// Whether its agent works on the task.
    pub(super) fn has_task(&self, task: &TaskRow) -> bool {
        self.task.as_ref() == Some(&task.name) && self.project.as_ref() == Some(&task.project)
    }
}

/// One agent of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AgentRow {
    pub(crate) name: String,
    /// `claude` or `command`.
    pub(crate) kind: &'static str,
    pub(crate) state: AgentReadiness,
    /// The end of its hold.
    pub(crate) until: Option<Timestamp>,
    pub(crate) reason: Option<String>,
    /// What its runs that ended since midnight have cost, by currency.
    pub(crate) spent_today: Vec<Cost>,
    /// How many of them have no known cost.
    pub(crate) unknown_costs: usize,
}

/// Whether it is given tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AgentReadiness {
    Ready,
    Held,
    /// A task finds out whether its hold has ended, or the next one will.
    Probing,
    /// Until midnight.
    OverBudget,
    NeedsAttention,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SessionState {
    #[default]
    Free,
    /// A pass is giving it a task.
    Claiming,
    /// Its agent is starting.
    Launching,
    Working,
    /// Its agent's turn is over, and a check judges the work.
    Checking,
    /// Its agent waits for a person.
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
    pub(super) const ALL: [Self; 10] = [
        Self::Free,
        Self::Claiming,
        Self::Launching,
        Self::Working,
        Self::Checking,
        Self::NeedsAttention,
        Self::Attended,
        Self::Cooldown,
        Self::Busy,
        Self::Missing,
    ];
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ProjectRow {
    #[serde(serialize_with = "crate::text::path")]
    pub(crate) path: PathBuf,
    /// How many local agents may be at work in it, 0 for any number; `None` where its `project.yaml` cannot be read.
    pub(crate) parallel: Option<u32>,
    /// How many tasks wait; those that are held count, too.
    pub(crate) waiting: usize,
    pub(crate) dispatched: usize,
    pub(crate) delegated: usize,
    pub(crate) done: usize,
    pub(crate) failed: usize,
    /// `None`: its tasks are handed out.
    pub(crate) paused: Option<Pause>,
    /// The branches of finished tasks that a person has to decide on.
    pub(crate) to_land: Vec<ToLandRow>,
    pub(crate) worktrees: Vec<WorktreeRow>,
}

/// One file of `recurring/`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RecurringRow {
    #[serde(serialize_with = "crate::text::path")]
    pub(crate) project: PathBuf,
    pub(crate) name: String,
    pub(crate) state: RecurringState,
    /// As it is written: `Mon..Fri 02:00`, `every 1d`.
    pub(crate) schedule: Option<String>,
    pub(crate) next: Option<Timestamp>,
    /// Why it is held.
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecurringState {
    Ready,
    Held,
    /// Its last slot was served or has passed.
    Over,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ToLandRow {
    pub(crate) task: String,
    pub(crate) branch: String,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct WorktreeRow {
    #[serde(serialize_with = "crate::text::path")]
    pub(crate) path: PathBuf,
    /// `None` where HEAD is detached.
    pub(crate) branch: Option<String>,
    /// The task whose agent works in it; `None` where it was left behind.
    pub(crate) task: Option<String>,
}

/// One task that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct TaskRow {
    #[serde(serialize_with = "crate::text::path")]
    pub(crate) project: PathBuf,
    pub(crate) name: String,
    pub(crate) state: TaskState,
    /// `None` where the file was not read.
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
    /// What it waits for, where that is not a free session.
    pub(crate) waits: Option<String>,
    /// Why it is held, or what is wrong.
    pub(crate) reason: Option<String>,
    /// What it waits for, and what to do about it, where it would wait for ever.
    #[serde(skip)]
    pub(crate) stuck: Option<String>,
    /// Another pool works on it: the reason is only for information.
    #[serde(skip)]
    pub(crate) is_elsewhere: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskState {
    /// In the inbox, its turn will come.
    #[default]
    Waiting,
    /// In the inbox, but not taken; the reason says why.
    Held,
    Dispatched,
    /// Its agent's turn is over, and a check judges the work.
    Checking,
    DelegatedToSecutools,
    /// The engine of `remote:` has it.
    DelegatedToRemote,
}

impl TaskState {
    /// The state of a task that this provider has.
    pub(crate) fn delegated_to(provider: Option<Provider>) -> Self {
        match provider {
            Some(Provider::Remote) => Self::DelegatedToRemote,
            _ => Self::DelegatedToSecutools,
        }
    }
}

/// What the engines have.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Delegations {
    pub(crate) active: usize,
    pub(crate) jobs: Vec<JobRow>,
    pub(crate) done_24h: usize,
    pub(crate) failed_24h: usize,
    /// One for each currency; empty where nothing is known.
    pub(crate) cost_24h: Vec<Cost>,
    /// How many jobs that ended since midnight have no known cost, or one of no known currency.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) unknown_costs: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Delegations {
    /// Where the jobs are.
    pub(super) fn place(&self) -> &'static str {
        let has = |engine| {
            let mut providers = self.jobs.iter().filter_map(|job| job.provider);
            providers.any(|provider| EngineKind::of(provider) == engine)
        };
        match (has(EngineKind::Secutools), has(EngineKind::Ray)) {
            (_, false) => "secutools",
            (false, true) => "Ray",
            (true, true) => "secutools and Ray",
        }
    }
}

/// What one provider ended in the last 24 hours.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct DayRow {
    /// `None` where nobody worked on it, or the file does not say who.
    pub(crate) provider: Option<Provider>,
    pub(crate) done: usize,
    pub(crate) failed: usize,
    /// One for each currency; empty where nothing is known.
    pub(crate) cost: Vec<Cost>,
}

/// One job that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    #[serde(serialize_with = "crate::text::path")]
    pub project: PathBuf,
    pub task: String,
    pub provider: Option<Provider>,
    /// `None` while it is being submitted.
    pub job_id: Option<String>,
    /// `submitting`, `submitted`, or `running` where the engine's runner has claimed it.
    pub phase: String,
    pub since: Option<Timestamp>,
    /// What keeps it from being submitted.
    pub reason: Option<String>,
}
