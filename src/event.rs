//! What happens in a pass: one event for each change of a task or a session. Pure.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::task::Provider;
use crate::text;

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
    #[serde(serialize_with = "text::optional_path")]
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
    /// An event of which only the kind is known.
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

    /// The event of a task; the rest is added by the methods below.
    #[must_use]
    pub fn of_task(event: EventKind, project: &Path, task: impl Into<String>) -> Self {
        Self { project: Some(project.to_owned()), task: Some(task.into()), ..Self::new(event) }
    }

    /// The event of a session.
    #[must_use]
    pub fn of_session(event: EventKind, session: &str) -> Self {
        Self::new(event).in_session(session)
    }

    /// The same, in a session.
    #[must_use]
    pub fn in_session(self, session: &str) -> Self {
        Self { session: Some(session.to_owned()), ..self }
    }

    /// The same, with who works on it and the model, where one is known.
    #[must_use]
    pub fn by(self, provider: Provider, model: Option<String>) -> Self {
        Self { provider: Some(provider), model, ..self }
    }

    /// The same, with the reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// The name of what it happened to: the task, else the session.
    #[must_use]
    pub fn subject(&self) -> &str {
        let name = self.task.as_ref().or(self.session.as_ref());
        name.map_or("", String::as_str)
    }
}
