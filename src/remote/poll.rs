//! Asking how far the jobs are, and filing those that have ended.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use super::filing::Filing;
use super::marker::{Delegated, Phase, between};
use super::turns::each;
use super::{ApiError, ErrorKind, Job, JobId, ServerState, Status};
use super::{Delegation, Outcome, Settled, locked};
use crate::marker::{self, Stamp};
use crate::queue::TaskRef;
use crate::text::escape;

/// A job that the server does not know, or whose answer is too long to be filed, is given up when
/// that is so again after this time.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

impl Delegation<'_> {
    /// Asks once about each job, several at once, and files what has ended. With `dry_run` it asks
    /// all the same, but changes nothing and says what would be filed.
    pub fn reap_all(&self, tasks: Vec<TaskRef>, dry_run: bool) -> Vec<Settled> {
        each(
            tasks.into_iter(),
            || self.is_answering(),
            |task| {
                let outcome = self.reap(&task, dry_run);
                Settled { task, outcome }
            },
        )
    }

    fn reap(&self, task: &TaskRef, dry_run: bool) -> Result<Outcome> {
        let path = task.project.delegated_path(&task.name);
        let Some(marker) = marker::read::<Delegated>(&path)? else {
            return Ok(Outcome::Nothing);
        };
        let Phase::Submitted { job_id, unknown_since, .. } = &marker.phase else {
            return Ok(Outcome::Nothing);
        };
        if self.stopped().is_some() {
            return Ok(Outcome::Nothing);
        }
        let answer = self.client.get(job_id);
        self.note_exchange(answer.as_ref().err());
        let unknown = match &answer {
            Ok(_) => false,
            Err(error) => tells_nothing(error) || unknown_since.is_some(),
        };
        let filing = self.filing(task, job_id, *unknown_since, answer);
        if unknown != unknown_since.is_some() && !dry_run {
            self.note_unknown(task, &marker, unknown)?;
        }
        match filing {
            None => Ok(Outcome::Nothing),
            Some(filing) if dry_run => Ok(Outcome::Event(filing.event(task, &marker))),
            Some(filing) => self.file(task, &marker, &filing),
        }
    }

    /// What is to be filed on the strength of an answer, if anything is; the rest is told.
    fn filing(
        &self,
        task: &TaskRef,
        id: &JobId,
        unknown_since: Option<Timestamp>,
        answer: Result<Job, ApiError>,
    ) -> Option<Filing> {
        let now = self.now();
        match (answer, unknown_since) {
            (Ok(job), _) if job.status.is_final() => return Some(Filing::of_job(&job, now)),
            (Ok(job), _) => self.tell_unfinished(task, &job),
            (Err(error), Some(since)) if tells_nothing(&error) => {
                let is_given_up = between(since, now) >= UNKNOWN_FOR;
                return is_given_up.then(|| Filing::given_up(now, why_given_up(&error, id)));
            }
            (Err(error), None) if tells_nothing(&error) => {
                self.log
                    .warn(format_args!("{task}: {error}; if that stays so, the task is given up"));
            }
            (Err(error), _) if error.kind.server_state() == ServerState::Answering => {
                self.log.warn(format_args!("{task}, job {id}: {error}"));
            }
            (Err(_), _) => {}
        }
        None
    }

    fn tell_unfinished(&self, task: &TaskRef, job: &Job) {
        let (id, word) = (&job.id, escape(job.status.as_str()));
        match job.status {
            Status::Unknown(_) => self.log.warn(format_args!(
                "{task}: secutools says `{word}` about job {id}, which this ccl does not know; it counts as not finished"
            )),
            _ => self.log.debug(format_args!("{task}: job {id} is {word}")),
        }
    }

    /// Writes down that nothing is to be learned of the job from now on, or that it is after all.
    fn note_unknown(&self, task: &TaskRef, marker: &Delegated, is_unknown: bool) -> Result<()> {
        let path = task.project.delegated_path(&task.name);
        let _local = locked(&self.local_lock);
        let _lock = task.project.lock()?;
        let Some(mut current) = marker::read::<Delegated>(&path)? else {
            return Ok(());
        };
        let now = self.now();
        if !current.is_same_submission(marker) {
            return Ok(());
        }
        if let Phase::Submitted { unknown_since, .. } = &mut current.phase {
            *unknown_since = is_unknown.then_some(now);
            current.stamp = Stamp::new(self.host, now);
            super::save(task, &current)?;
        }
        Ok(())
    }
}

/// Whether this is all that will be learned of a job, should it stay so.
fn tells_nothing(error: &ApiError) -> bool {
    matches!(error.kind, ErrorKind::UnknownJob | ErrorKind::TooLong)
}

/// Why a job is given up of which nothing is to be learned. What has become too long for a pass is
/// not lost: a person can read it.
fn why_given_up(error: &ApiError, job: &JobId) -> String {
    match error.kind {
        ErrorKind::TooLong => format!(
            "{error}, which is too long to be filed: `ccl job result {job}` prints what the job has made"
        ),
        _ => format!("secutools does not know the job: {error}"),
    }
}
