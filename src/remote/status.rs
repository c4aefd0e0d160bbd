//! What `status` shows of delegated tasks: from markers, without the network.

use anyhow::Result;

use super::marker::{Delegated, DelegationPhase};
use crate::marker;
use crate::queue::TaskRef;
use crate::report::JobRow;

/// The job that a delegated task is; `None` if its marker has just gone.
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
            "submitted",
            *submitted_at,
            unknown_since.map(|_| {
                "secutools does not know the job, or its answer is too long: if that stays so, the task is given up".to_owned()
            }),
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
