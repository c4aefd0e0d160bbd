//! What `status` tells about delegated tasks: from markers and filed tasks, without the network.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::TaskRef;
use super::filing::{Last, read_ending};
use super::marker::{Delegated, Phase};
use crate::marker;
use crate::money::Totals;
use crate::queue::{Folder, Project};
use crate::report::{self, JobRow};
use crate::task::Outcome;

/// How far back the counters go.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The jobs that have not ended, and what came of those that were filed in these projects within
/// the last 24 hours. What cannot be read is left out, and told in the second value.
pub fn overview(
    tasks: &[TaskRef],
    projects: &[Project],
    now: Timestamp,
) -> (report::Delegated, Vec<anyhow::Error>) {
    let mut problems = Vec::new();
    let mut overview = report::Delegated::default();
    for task in tasks {
        match row(task) {
            Ok(row) => overview.jobs.extend(row),
            Err(problem) => problems.push(problem),
        }
    }
    overview.active = overview.jobs.len();
    let mut costs = Totals::default();
    for project in projects {
        for (folder, count) in [
            (Folder::Done, &mut overview.done_24h),
            (Folder::Failed, &mut overview.failed_24h),
        ] {
            if let Err(problem) = add_filed(project, folder, now, count, &mut costs) {
                problems.push(problem);
            }
        }
    }
    overview.cost_24h = costs.costs();
    (overview, problems)
}

/// The task's row; `None` if its marker has just gone.
fn row(task: &TaskRef) -> Result<Option<JobRow>> {
    let path = task.project.delegated_path(&task.name);
    let Some(marker) = marker::read::<Delegated>(&path)? else {
        return Ok(None);
    };
    let (phase, since, reason) = match &marker.phase {
        Phase::Submitting { reason, .. } => ("submitting", marker.started_at, reason.clone()),
        Phase::Submitted {
            submitted_at,
            unknown_since,
            ..
        } => (
            "submitted",
            *submitted_at,
            unknown_since.map(|_| "secutools says that it does not know the job".to_owned()),
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

/// Counts the delegated tasks that were filed in the last 24 hours, and adds up their cost. Only
/// files that changed since then are opened.
fn add_filed(
    project: &Project,
    folder: Folder,
    now: Timestamp,
    count: &mut usize,
    costs: &mut Totals,
) -> Result<()> {
    let directory = project.folder(folder);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", directory.display()));
        }
    };
    let since = SystemTime::try_from(now)? - DAY;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
        let is_recent = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified >= since);
        if !is_recent {
            continue;
        }
        let Last::Ending(ending) = read_ending(&entry.path())? else {
            continue;
        };
        let is_delegated = ending.provider.is_some_and(|provider| provider.is_remote());
        if is_delegated && ending.outcome != Outcome::Released {
            *count += 1;
            if let Some(cost) = &ending.cost {
                costs.add(cost);
            }
        }
    }
    Ok(())
}
