//! `ccl cancel` of a delegated task.

use anyhow::{Result, anyhow, bail};

use super::engine::Engine;
use super::exchange::OpenRun;
use super::filing::Filing;
use super::marker::{Delegated, DelegationPhase};
use super::submit::lock_marker;
use super::{Delegation, EngineError, ErrorKind, JobId, RemoteOutcome, ServerState};
use crate::error::Failure;
use crate::event::{Event, EventKind};
use crate::marker;
use crate::queue::TaskRef;

impl Delegation<'_> {
    /// Ends the task's job and files the task; `reason` is noted where there was no job yet. Where the
    /// server has not ended the job yet, a later pass files the task, and the event says so. `None`: the
    /// task is not delegated.
    pub(crate) fn cancel(&self, task: &TaskRef, reason: &str) -> Result<Option<Event>> {
        let path = task.project.delegated_path(&task.name);
        let Some(mut marker) = marker::read::<Delegated>(&path)? else {
            return Ok(None);
        };
        // The pass that submits it holds this lock: only under the lock it is certain how far the submission is.
        let _lock = match marker.phase {
            DelegationPhase::Submitted { .. } => None,
            DelegationPhase::Submitting { .. } => {
                let lock = lock_marker(&path)?.ok_or_else(busy)?;
                marker = marker::read_file(&lock, &path)?;
                Some(lock)
            }
        };
        match (&self.engine, &marker.exchange, &marker.phase) {
            (Engine::Ray(ray), Some(note), _) => {
                filed(OpenRun { by: self, ray, task, marker: &marker, note }.cancel(reason)?)
            }
            (_, _, DelegationPhase::Submitted { job_id, .. }) => {
                self.end_job(task, &marker, job_id)
            }
            (_, _, DelegationPhase::Submitting { ambiguous: true, .. }) => bail!(
                "it is not known yet whether secutools has taken it: `ccl scan` asks again under the same idempotency key, {}; cancel it once `ccl status` shows a job",
                marker.key
            ),
            (_, _, DelegationPhase::Submitting { .. }) => {
                let filing = Filing::given_up(self.now(), reason.to_owned());
                filed(unless_held(self.file(task, &marker, &filing)?)?)
            }
        }
        .map(Some)
    }

    /// Asks the server to cancel the job, then asks for the job's own status, whatever the first answer
    /// was: it may have ended before.
    fn end_job(&self, task: &TaskRef, marker: &Delegated, id: &JobId) -> Result<Event> {
        let asked = match self.engine.cancel(id) {
            Err(error) if error.kind.server_state() != ServerState::Answering => {
                return Err(not_cancelled(error, id));
            }
            asked => asked,
        };
        match (self.engine.get(id), asked) {
            (Ok(job), _) if job.status.is_final() => {
                filed(self.file(task, marker, &Filing::of_job(&job, self.now()))?)
            }
            (_, Ok(())) => Ok(marker.event(task, EventKind::Held).because(format!(
                "secutools was asked to cancel job {id}; `ccl reap` files the task once the job has ended"
            ))),
            (_, Err(error)) => Err(not_cancelled(error, id)),
        }
    }
}

fn busy() -> Failure {
    let busy = "another process submits it at this moment: look with `ccl status`, then try again";
    Failure::Temporary(busy.to_owned())
}

/// For a cancellation of which nothing is noted before the task is filed: the next scan would submit a task that is held.
pub(super) fn unless_held(outcome: RemoteOutcome) -> Result<RemoteOutcome> {
    match outcome {
        RemoteOutcome::Event(event) if event.event == EventKind::Held => {
            bail!(Failure::Temporary(
                "its file is open for writing: close it, then cancel it again".to_owned()
            ))
        }
        outcome => Ok(outcome),
    }
}

fn filed(outcome: RemoteOutcome) -> Result<Event> {
    match outcome {
        RemoteOutcome::Event(event) => Ok(event),
        RemoteOutcome::RunLocally { reason } => {
            bail!(Failure::Temporary(format!("a session gets it now: cancel it again ({reason})")))
        }
        RemoteOutcome::Nothing => bail!(Failure::Temporary(
            "another pass has just filed it, or has begun anew with it: look with `ccl status`"
                .to_owned()
        )),
        RemoteOutcome::Failed(error) => Err(error),
    }
}

fn not_cancelled(error: EngineError, id: &JobId) -> anyhow::Error {
    let unknown = format!(
        "it is not known whether job {id} was cancelled; `ccl reap` files what comes of it"
    );
    match error.kind {
        ErrorKind::NotSent
        | ErrorKind::Silent
        | ErrorKind::Busy
        | ErrorKind::NoExchange
        | ErrorKind::Failing => Failure::Temporary(format!("{unknown}: {error}")).into(),
        ErrorKind::UnknownJob | ErrorKind::Refused | ErrorKind::Garbled | ErrorKind::TooLong => {
            anyhow!("{unknown}: {error} (a server may have no way to cancel jobs)")
        }
        ErrorKind::Unauthorized => anyhow!("{unknown}: {error}; check the API key"),
    }
}
