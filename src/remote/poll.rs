//! Asking for the status of jobs, and filing those that have ended.

use std::time::Duration;

use anyhow::Result;

use super::engine::{Engine, RayEngine};
use super::exchange::OpenRun;
use super::filing::Filing;
use super::marker::{Delegated, DelegationPhase, ExchangeNote, between};
use super::submit::lock_marker;
use super::{
    Delegation, EngineError, ErrorKind, Job, JobId, JobStatus, RemoteOutcome, ServerState,
    StopReason,
};
use crate::marker;
use crate::queue::TaskRef;
use crate::text::escape;

/// A job that the server does not know, or whose answer is too long to be filed, is given up if
/// that is still so after this time.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

impl Delegation<'_> {
    /// Asks once about each job, several at once, and files those that have ended. A dry run asks, too.
    pub fn poll(&self, tasks: Vec<TaskRef>) -> Vec<(TaskRef, RemoteOutcome)> {
        self.map_requests(tasks, |task| {
            let outcome = self.poll_one(&task);
            (task, outcome)
        })
    }

    fn poll_one(&self, task: &TaskRef) -> Result<RemoteOutcome> {
        let path = task.project.delegated_path(&task.name);
        let Some(marker) = marker::read::<Delegated>(&path)? else {
            return Ok(RemoteOutcome::Nothing);
        };
        if marker.engine != self.engine.kind() {
            return Ok(RemoteOutcome::Nothing);
        }
        if let (Engine::Ray(ray), Some(note)) = (&self.engine, &marker.exchange) {
            return self.poll_exchange(ray, task, &marker, note);
        }
        let DelegationPhase::Submitted { job_id: id, unknown_since, .. } = &marker.phase else {
            return Ok(RemoteOutcome::Nothing);
        };
        if self.stopped().is_some() {
            return Ok(RemoteOutcome::Nothing);
        }
        let answer = self.engine.get(id);
        self.note_exchange(answer.as_ref().err());
        let now = self.now();
        match (answer, unknown_since) {
            (Ok(job), _) if job.status.is_final() => {
                return self.file(task, &marker, &Filing::of_job(&job, now));
            }
            (Ok(job), was_unknown) => {
                self.log_unfinished(task, &job);
                if was_unknown.is_some() {
                    self.note_unknown(task, &marker, false)?;
                }
            }
            (Err(error), Some(since)) if is_no_news(&error) => {
                if between(*since, now) >= UNKNOWN_FOR {
                    let filing = Filing::given_up(now, why_given_up(&error, id));
                    return self.file(task, &marker, &filing);
                }
            }
            (Err(error), None) if is_no_news(&error) => {
                self.log
                    .warn(format_args!("{task}: {error}; if that stays so, the task is given up"));
                self.note_unknown(task, &marker, true)?;
            }
            (Err(error), _) if error.kind.server_state() == ServerState::Answering => {
                self.log.warn(format_args!("{task}, job {id}: {error}"));
            }
            // Why the server is asked nothing more was logged once, for all jobs.
            (Err(_), _) => {}
        }
        Ok(RemoteOutcome::Nothing)
    }

    /// Polls a job whose work goes by an exchange. The exchange is asked, whatever the engine says.
    fn poll_exchange(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        note: &ExchangeNote,
    ) -> Result<RemoteOutcome> {
        let path = task.project.delegated_path(&task.name);
        let _lock = match &marker.phase {
            DelegationPhase::Submitted { .. } => None,
            // A result may be there already, unless the pass that submits is still at work: that one holds this lock.
            DelegationPhase::Submitting { .. } if note.is_sent => match lock_marker(&path)? {
                Some(lock) => Some(lock),
                None => return Ok(RemoteOutcome::Nothing),
            },
            // Not sent: no runner can have begun.
            DelegationPhase::Submitting { .. } => return Ok(RemoteOutcome::Nothing),
        };
        let unasked =
            |text: String| EngineError { kind: ErrorKind::Silent, retry_after: None, text };
        let answer = match (self.stopped(), marker.job_id()) {
            (Some(StopReason::TimeUp), _) => return Ok(RemoteOutcome::Nothing),
            // The exchange may hold a result all the same.
            (Some(StopReason::Silent(text) | StopReason::Unauthorized(text)), _) => {
                Err(unasked(text))
            }
            (None, None) => Err(unasked("it is not known yet whether Ray has taken it".to_owned())),
            (None, Some(id)) => {
                let answer = self.engine.get(id);
                self.note_exchange(answer.as_ref().err());
                answer
            }
        };
        OpenRun { by: self, ray, task, marker, note }.poll(answer)
    }

    pub(super) fn log_unfinished(&self, task: &TaskRef, job: &Job) {
        let (id, word) = (&job.id, escape(job.status.as_str()));
        match job.status {
            JobStatus::Unknown(_) => self.log.warn(format_args!(
                "{task}: job {id} has the status `{word}`, which this ccl does not know; it counts as not finished"
            )),
            _ => self.log.debug(format_args!("{task}: job {id} is {word}")),
        }
    }

    /// Notes in the marker that from now on nothing can be learned about the job, or that the server
    /// knows it after all.
    fn note_unknown(&self, task: &TaskRef, marker: &Delegated, is_unknown: bool) -> Result<()> {
        let now = self.now();
        let changed = self.change(task, marker, |marker| {
            if let DelegationPhase::Submitted { unknown_since, .. } = &mut marker.phase {
                *unknown_since = is_unknown.then_some(now);
            }
        });
        changed.map(drop)
    }
}

/// Whether the error means that nothing can be learned about the job, should it stay so.
fn is_no_news(error: &EngineError) -> bool {
    matches!(error.kind, ErrorKind::UnknownJob | ErrorKind::TooLong)
}

/// Why a job about which nothing can be learned is given up. An answer that is too long for a pass
/// is not lost: a person can read it.
fn why_given_up(error: &EngineError, job: &JobId) -> String {
    match error.kind {
        ErrorKind::TooLong => format!(
            "{error}, which is too long to be filed: `ccl job result {job}` prints what the job has made"
        ),
        _ => format!("secutools does not know the job: {error}"),
    }
}
