//! What happens in a pass: one event for each change of a task or a session. Pure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::task::Provider;
use crate::text;

/// What happened to a task or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A new task is in the inbox.
    Added,
    /// An agent in a session has the task.
    Dispatched,
    /// An engine has the task.
    Delegated,
    /// The task is left where it is.
    Held,
    /// The task is back in the inbox.
    Released,
    /// The task is filed as done.
    Done,
    /// The task is filed as failed.
    Failed,
    /// A check has judged what the agent of a task has made.
    Checked,
    /// A finished task's branch is in its base.
    Landed,
    /// A session takes no task for a while.
    Cooldown,
    /// An agent, a project or a recurring task is held, until its time has come or until `ccl resume`.
    Hold,
    /// An agent other than the one that began the task goes on with it.
    Switched,
    /// Nothing is handed out until `ccl resume`.
    Paused,
    /// Tasks are handed out again, or a hold has ended.
    Resumed,
    /// A person has put the task back into the inbox.
    Retried,
    /// A person has cancelled the task.
    Cancelled,
}

/// One thing that happened in a pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    pub event: EventKind,
    #[serde(serialize_with = "text::optional_path")]
    pub project: Option<PathBuf>,
    pub task: Option<String>,
    pub session: Option<String>,
    /// The agent of this machine that it is about, by its name in the configuration.
    pub agent: Option<String>,
    pub provider: Option<Provider>,
    pub model: Option<String>,
    pub job_id: Option<String>,
    pub reason: Option<String>,
}

impl Event {
    /// An event of which only the kind is known.
    pub(crate) fn new(event: EventKind) -> Self {
        Self {
            event,
            project: None,
            task: None,
            session: None,
            agent: None,
            provider: None,
            model: None,
            job_id: None,
            reason: None,
        }
    }

    /// The event of a task; the rest is added by the methods below.
    pub(crate) fn of_task(event: EventKind, project: &Path, task: impl Into<String>) -> Self {
        Self { project: Some(project.to_owned()), task: Some(task.into()), ..Self::new(event) }
    }

    /// The event of a branch that is in its base.
    pub(crate) fn landed(project: &Path, task: &str, branch: &str, base: &str) -> Self {
        Self::of_task(EventKind::Landed, project, task).because(format!("{branch} is in {base}"))
    }

    /// The event of all tasks of a project.
    pub(crate) fn of_project(event: EventKind, project: &Path) -> Self {
        Self { project: Some(project.to_owned()), ..Self::new(event) }
    }

    /// The event of a session.
    pub(crate) fn of_session(event: EventKind, session: &str) -> Self {
        Self::new(event).in_session(session)
    }

    pub(crate) fn in_session(self, session: &str) -> Self {
        Self { session: Some(session.to_owned()), ..self }
    }

    pub(crate) fn by(self, provider: Provider, model: Option<String>) -> Self {
        Self { provider: Some(provider), model, ..self }
    }

    pub(crate) fn of_agent(self, agent: Option<String>) -> Self {
        Self { agent, ..self }
    }

    pub(crate) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// The name of what it happened to: the task, else the session, else the agent.
    pub(crate) fn subject(&self) -> &str {
        let name = self.task.as_ref().or(self.session.as_ref()).or(self.agent.as_ref());
        name.map_or("", String::as_str)
    }
}
