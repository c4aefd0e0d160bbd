//! From the inbox to a job: begin, send, and what comes of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use uuid::Uuid;

use super::filing::Filing;
use super::marker::{self, Delegated, Phase, Verdict, between, judge};
use super::turns::each;
use super::{Accepted, Certainty, NotAccepted, secutools};
use super::{Candidate, Delegation, Outcome, Settled, StopReason, locked};
use crate::durable;
use crate::event::{Event, EventKind};
use crate::lock;
use crate::marker::{self as markers, Stamp};
use crate::queue::TaskRef;
use crate::text::escape;

/// A task whose marker is there and locked: nobody else submits it.
struct Submission {
    marker: Delegated,
    request: String,
    /// What earlier passes mean together; the marker itself says `ambiguous` while we are at it.
    earlier: Certainty,
    tries: u32,
    /// The marker's file, locked.
    _lock: File,
}

/// A task on its way to the server.
enum Step {
    Send(Submission),
    Over(Outcome),
}

impl Delegation<'_> {
    /// Submits these tasks, several at once, and returns what became of each, in order. Tasks are
    /// taken from `work` one by one, each only when its turn has come, so that they may be read
    /// from the disk then.
    pub fn submit_all(&self, work: impl Iterator<Item = Candidate> + Send) -> Vec<Settled> {
        self.send_all(work.map(|candidate| (candidate.task.clone(), self.begin(&candidate))))
    }

    /// Goes on with the submissions that earlier passes have left, by a kill or because the server
    /// was not ready. Jobs that were accepted are left alone.
    pub fn retry_all(&self, tasks: Vec<TaskRef>) -> Vec<Settled> {
        let steps = tasks.into_iter().map(|task| {
            let step = self.resume(&task);
            (task, step)
        });
        self.send_all(steps)
    }

    /// What [`Delegation::retry_all`] would submit again; changes nothing, and says nothing to the
    /// server.
    pub fn would_retry(&self, tasks: Vec<TaskRef>) -> Vec<Settled> {
        let outcome = |task: &TaskRef| -> Result<Outcome> {
            let path = task.project.delegated_path(&task.name);
            let marker = markers::read::<Delegated>(&path)?;
            let now = self.now();
            let again = marker.filter(|marker| marker.is_due(now) && !marker.is_key_expired(now));
            Ok(again.map_or(Outcome::Nothing, |marker| {
                Outcome::Event(Event {
                    reason: Some(format!("{}, begun by an earlier pass", marker.rule)),
                    ..task.event(EventKind::Delegated).by(marker.provider, None)
                })
            }))
        };
        let settle = |task| Settled { outcome: outcome(&task), task };
        tasks.into_iter().map(settle).collect()
    }

    fn send_all(
        &self,
        steps: impl Iterator<Item = (TaskRef, Result<Step>)> + Send,
    ) -> Vec<Settled> {
        each(
            steps,
            || self.is_answering(),
            |(task, step)| {
                let outcome = step.and_then(|step| match step {
                    Step::Send(submission) => self.send(&task, submission),
                    Step::Over(outcome) => Ok(outcome),
                });
                Settled { task, outcome }
            },
        )
    }

    /// Writes the marker and locks it, if the task is still the file that was read and nobody has
    /// one of its name.
    fn begin(&self, candidate: &Candidate) -> Result<Step> {
        match self.stopped() {
            Some(StopReason::Silent(reason) | StopReason::Unauthorized(reason)) => {
                return Ok(Step::Over(Outcome::RunLocally { reason }));
            }
            Some(StopReason::TimeUp) => return Ok(Step::Over(Outcome::Nothing)),
            None => {}
        }
        let TaskRef { project, name } = &candidate.task;
        let path = project.delegated_path(name);
        let (marker, request) = self.new_marker(candidate)?;
        let _local = locked(&self.local_lock);
        let _lock = project.lock()?;
        let waiting = project.waiting_path(name);
        // The marker holds the task's text: who may not read the one may not read the other.
        let mode = waiting.symlink_metadata().map_or(0, |found| found.mode());
        let is_waiting =
            candidate.seen.is_still(&waiting) && !durable::exists(&project.dispatched_path(name))?;
        let nothing = Step::Over(Outcome::Nothing);
        if !is_waiting || !create(&path, &marker, mode)? {
            return Ok(nothing);
        }
        let Some(lock) = lock_marker(&path)? else {
            return Ok(nothing);
        };
        Ok(Step::Send(Submission {
            marker,
            request,
            earlier: Certainty::NeverReached,
            tries: 0,
            _lock: lock,
        }))
    }

    fn new_marker(&self, candidate: &Candidate) -> Result<(Delegated, String)> {
        let TaskRef { project, name } = &candidate.task;
        let request = secutools::request_body(
            &candidate.parsed,
            name.as_str(),
            project.path(),
            candidate.provider,
            self.host,
        );
        let now = self.now();
        let marker = Delegated {
            stamp: Stamp::new(self.host, now),
            key: Uuid::new_v4(),
            text: candidate.text.clone(),
            sha256: marker::sha256(candidate.text.as_bytes()),
            provider: candidate.provider,
            rule: candidate.rule.to_string(),
            started_at: now,
            phase: Phase::Submitting {
                request: request.clone(),
                ambiguous: true,
                tries: 0,
                not_before: None,
                reason: None,
            },
        };
        Ok((marker, request))
    }

    /// Takes up a submission that an earlier pass has left, if its time has come and nobody else
    /// is at it.
    fn resume(&self, task: &TaskRef) -> Result<Step> {
        // Most markers are of running jobs: a look without any lock tells.
        let seen = markers::read::<Delegated>(&task.project.delegated_path(&task.name))?;
        let Some(marker) = seen.filter(|marker| marker.is_due(self.now())) else {
            return Ok(Step::Over(Outcome::Nothing));
        };
        let is_sent = self.stopped().is_none() && !marker.is_key_expired(self.now());
        match self.take(task, is_sent)? {
            None => Ok(Step::Over(Outcome::Nothing)),
            // By a pass that was killed before it had removed the marker.
            Some(Submission { marker, .. }) if task.project.is_filed(&task.name, marker.key)? => {
                let reason = "it was given up before".to_owned();
                let filing = Filing::given_up(self.now(), reason);
                self.file(task, &marker, &filing).map(Step::Over)
            }
            Some(submission) if is_sent => Ok(Step::Send(submission)),
            Some(submission) => self.leave_or_end(task, &submission).map(Step::Over),
        }
    }

    /// What becomes of a submission that cannot be sent now.
    fn leave_or_end(&self, task: &TaskRef, submission: &Submission) -> Result<Outcome> {
        let Submission { marker, earlier, .. } = submission;
        let reason = match self.stopped() {
            Some(StopReason::Silent(text) | StopReason::Unauthorized(text)) => text,
            Some(StopReason::TimeUp) | None => "it was not sent again".to_owned(),
        };
        match judge(*earlier, self.age(marker), submission.tries) {
            Verdict::Wait => Ok(Outcome::Nothing),
            verdict => self.conclude(task, marker, verdict, &reason),
        }
    }

    /// Locks a marker that waits for its next submission; before one `to_send` it says that a job
    /// may exist, should this pass be killed. `None`: another process has it.
    fn take(&self, task: &TaskRef, to_send: bool) -> Result<Option<Submission>> {
        let path = task.project.delegated_path(&task.name);
        let _local = locked(&self.local_lock);
        let _project = task.project.lock()?;
        let Some(mut lock) = lock_marker(&path)? else {
            return Ok(None);
        };
        let mut marker: Delegated = markers::read_file(&lock, &path)?;
        let Phase::Submitting { request, ambiguous, tries, .. } = &mut marker.phase else {
            return Ok(None);
        };
        let (request, tries, was_ambiguous) = (request.clone(), *tries, *ambiguous);
        if to_send && !was_ambiguous {
            *ambiguous = true;
            marker.stamp = Stamp::new(self.host, self.now());
            super::save(task, &marker)?;
            match lock_marker(&path)? {
                Some(new) => lock = new,
                None => return Ok(None),
            }
        }
        Ok(Some(Submission {
            marker,
            request,
            earlier: if was_ambiguous { Certainty::Ambiguous } else { Certainty::Later },
            tries,
            _lock: lock,
        }))
    }

    /// Sends it, with the retries of one pass.
    fn send(&self, task: &TaskRef, submission: Submission) -> Result<Outcome> {
        let key = submission.marker.key;
        match self.client.submit(submission.request.as_bytes(), key) {
            Ok(accepted) => {
                self.note_exchange(None);
                self.accept(task, submission.marker, &accepted)
            }
            Err(failed) => {
                self.note_exchange(Some(&failed.error));
                self.not_accepted(task, submission, &failed)
            }
        }
    }

    fn accept(
        &self,
        task: &TaskRef,
        mut marker: Delegated,
        accepted: &Accepted,
    ) -> Result<Outcome> {
        let now = self.now();
        marker.stamp = Stamp::new(self.host, now);
        marker.phase = Phase::Submitted {
            job_id: accepted.id.clone(),
            submitted_at: now,
            unknown_since: None,
        };
        super::save(task, &marker)?;
        self.log.event(format_args!(
            "DELEGATED task={} provider={} job={} rule={}",
            escape(task.name.as_str()),
            marker.provider.as_str(),
            accepted.id,
            escape(&marker.rule)
        ));
        Ok(Outcome::Event(Event {
            job_id: Some(accepted.id.to_string()),
            ..task.event(EventKind::Delegated).by(marker.provider, None)
        }))
    }

    fn not_accepted(
        &self,
        task: &TaskRef,
        submission: Submission,
        NotAccepted { certainty, error }: &NotAccepted,
    ) -> Result<Outcome> {
        let Submission { mut marker, request, earlier, tries, .. } = submission;
        let (tries, certainty) = (tries + 1, certainty.after(earlier));
        let verdict = judge(certainty, self.age(&marker), tries);
        if verdict != Verdict::Wait {
            return self.conclude(task, &marker, verdict, &error.text);
        }
        let now = self.now();
        let pause = marker::pause(tries, error.retry_after);
        let reason = format!(
            "{}; it is submitted again in {:#}",
            error.text,
            jiff::SignedDuration::try_from(pause)?
        );
        marker.stamp = Stamp::new(self.host, now);
        marker.phase = Phase::Submitting {
            request,
            ambiguous: certainty == Certainty::Ambiguous,
            tries,
            not_before: now.checked_add(pause).ok(),
            reason: Some(error.text.clone()),
        };
        super::save(task, &marker)?;
        self.log.warn(format_args!("{task}: {reason}"));
        Ok(Outcome::Event(Event {
            reason: Some(reason),
            ..task.event(EventKind::Held).by(marker.provider, None)
        }))
    }

    /// Ends a submission that has come to nothing; the caller holds the marker's lock.
    fn conclude(
        &self,
        task: &TaskRef,
        marker: &Delegated,
        verdict: Verdict,
        reason: &str,
    ) -> Result<Outcome> {
        if verdict == Verdict::OutcomeUnknown {
            let reason = format!(
                "outcome unknown: it was sent to secutools, and nothing tells whether it was taken; \
                 look there for the idempotency key {} before you give it back ({reason})",
                marker.key
            );
            return self.file(task, marker, &Filing::given_up(self.now(), reason));
        }
        let _local = locked(&self.local_lock);
        let _project = task.project.lock()?;
        durable::remove(&task.project.delegated_path(&task.name))?;
        Ok(Outcome::RunLocally { reason: reason.to_owned() })
    }

    fn age(&self, marker: &Delegated) -> Duration {
        between(marker.started_at, self.now())
    }
}

/// Writes a new marker, readable for whom `mode` says; false if there is one.
fn create(path: &Path, marker: &Delegated, mode: u32) -> Result<bool> {
    durable::create(path, &serde_json::to_vec(marker)?, mode & durable::SHARED)
}

/// Locks a marker. `None`: there is none, somebody holds it, or it was replaced at this moment.
pub(super) fn lock_marker(path: &Path) -> Result<Option<File>> {
    let file = match markers::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    let is_locked = lock::lock(&file).with_context(|| format!("cannot lock {}", path.display()))?;
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let is_current = match (file.metadata(), path.symlink_metadata()) {
        (Ok(locked), Ok(named)) => identity(locked) == identity(named),
        _ => false,
    };
    Ok((is_locked && is_current).then_some(file))
}
