//! What `status` shows of delegated tasks: from markers, without the network.

use anyhow::Result;
use uuid::Uuid;

use super::marker::{Delegated, DelegationPhase};
use crate::job::EngineKind;
use crate::marker;
use crate::queue::{Inbox, Project, TaskRef};
use crate::report::JobRow;

/// The row for a delegated task's job; `None` if its marker has just gone.
pub fn job_row(task: &TaskRef) -> Result<Option<JobRow>> {
    let path = task.project.delegated_path(&task.name);
    let Some(marker) = marker::read::<Delegated>(&path)? else {
        return Ok(None);
    };
    let (phase, since, reason) = match &marker.phase {
        DelegationPhase::Submitting { reason, .. } => ("submitting", marker.started_at, reason.clone()),
        DelegationPhase::Submitted {
            submitted_at,
            unknown_since,
            ..
        } => (
            if marker.exchange.as_ref().is_some_and(|note| note.claim.is_some()) {
                "running"
            } else {
                "submitted"
            },
            *submitted_at,
            match marker.exchange.as_ref().and_then(|note| note.unfetched.as_ref()) {
                Some(unfetched) => Some(unfetched.reason.clone()),
                None => unknown_since.map(|_| {
                    "secutools does not know the job, or its answer is too long: if that stays so, the task is given up".to_owned()
                }),
            },
        ),
    };
    Ok(Some(JobRow {
        project: task.project.path().to_owned(),
        task: task.name.to_string(),
        provider: Some(marker.provider),
        job_id: marker.job_id().map(ToString::to_string),
        phase: phase.to_owned(),
        since: Some(since),
        reason,
    }))
}

/// The engine that has the task.
pub(crate) fn engine_of(task: &TaskRef) -> Result<EngineKind> {
    let marker = marker::read::<Delegated>(&task.project.delegated_path(&task.name))?;
    Ok(marker.map_or(EngineKind::Secutools, |marker| marker.engine))
}

/// The keys of runs that are over and whose refs are still in an exchange.
pub(crate) fn leaving_keys(inbox: &Inbox) -> Vec<(Project, Uuid)> {
    inbox.leaving.iter().map(|key| (inbox.project.clone(), *key)).collect()
}
