//! What a watchdog needs of the status, as JSON. Pure.

use anyhow::Result;
use serde::Serialize;

use super::rows::Delegations;
use super::{SessionRow, Status, TaskRow, json};

impl Status {
    /// Sessions, stale tasks and what the engines have. A delegated task is never stale.
    pub(crate) fn watchdog_json(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Watchdog<'a> {
            version: u8,
            sessions: &'a [SessionRow],
            stale: usize,
            stale_tasks: Vec<&'a TaskRow>,
            delegated: &'a Delegations,
        }
        let Self { sessions, stale, delegated, tasks, .. } = self;
        let stale_tasks = tasks.iter().filter(|task| task.stale).collect();
        json::line(&Watchdog { version: 1, sessions, stale: *stale, stale_tasks, delegated })
    }

    /// What the engines have: the `delegated` object of the status.
    pub(crate) fn delegated_json(&self) -> Result<String> {
        json::line(&self.delegated)
    }
}
