//! From the inbox to a job: begin a submission, send it, and act on its outcome.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::SignedDuration;
use uuid::Uuid;

use super::engine::{Engine, Ground};
use super::exchange::OpenRun;
use super::filing::Filing;
use super::marker::{self, Delegated, DelegationPhase, Next, between};
use super::{
    Accepted, Certainty, Delegation, EngineKind, ErrorKind, NotAccepted, RemoteOutcome, StopReason,
    Submission,
};
use crate::concurrent::locked;
use crate::durable::{self, FileId};
use crate::event::EventKind;
use crate::journal::Entry;
use crate::lock;
use crate::marker::{self as markers, Stamp};
use crate::queue::{TaskRef, WaitingTask};
use crate::records;
use crate::router::Decision;
use crate::text::escape;

/// A submission that this pass alone may send: its marker exists and is locked.
struct Pending {
    marker: Delegated,
    request: String,
    /// What is known after the tries of earlier passes. The marker itself says `ambiguous` while
    /// this pass sends.
    earlier: Certainty,
    tries: u32,
    /// Whether earlier passes may have asked the engine. The marker itself says `is_sent` while this
    /// pass sends.
    was_sent: bool,
    /// The marker's file, locked.
    _lock: File,
}

impl Delegation<'_> {
    /// Submits these tasks, several at once; what became of each, in order.
    pub fn submit(&self, submissions: Vec<Submission>) -> Vec<(TaskRef, RemoteOutcome)> {
        self.map_requests(submissions, |submission| {
            (submission.waiting.at.clone(), self.submit_one(submission))
        })
    }

    /// Goes on with the submissions that earlier passes left unfinished: they were killed, or the
    /// server was not ready. Jobs that were accepted are left alone.
    pub fn resume(&self, tasks: Vec<TaskRef>) -> Vec<(TaskRef, RemoteOutcome)> {
        self.map_requests(tasks, |task| {
            let outcome = self.resume_one(&task);
            (task, outcome)
        })
    }

    fn submit_one(&self, Submission { waiting, decision }: Submission) -> Result<RemoteOutcome> {
        match self.stopped() {
            Some(StopReason::Silent(reason) | StopReason::Unauthorized(reason)) => {
                return Ok(match self.engine.kind() {
                    EngineKind::Secutools => RemoteOutcome::RunLocally { reason },
                    // Tasks meant for a cluster must not pile up on one machine.
                    EngineKind::Ray => self.held(&waiting, decision, reason),
                });
            }
            Some(StopReason::TimeUp) => return Ok(RemoteOutcome::Nothing),
            None => {}
        }
        let failed = || format!("{} is not submitted", waiting.at);
        let ground = match self.engine.ground(&waiting).with_context(failed)? {
            Ground::Held(reason) => return Ok(self.held(&waiting, decision, reason)),
            ground => ground,
        };
        if self.dry_run {
            let event = waiting.at.event(EventKind::Delegated).by(decision.provider, None);
            return Ok(RemoteOutcome::Event(event.because(decision.rule.to_string())));
        }
        let key = Uuid::new_v4();
        // Before the marker, which holds what this makes; for Ray that is a commit to which nothing refers yet.
        let composed = self.engine.compose(&waiting, decision.provider, ground, key, self.host);
        let (request, exchange) = composed.with_context(failed)?;
        let now = self.now();
        let marker = Delegated {
            stamp: Stamp::new(self.host, now),
            key,
            text: waiting.text.clone(),
            provider: decision.provider,
            rule: decision.rule.to_string(),
            started_at: now,
            engine: self.engine.kind(),
            exchange,
            phase: DelegationPhase::Submitting {
                request: request.clone(),
                ambiguous: true,
                tries: 0,
                not_before: None,
                reason: None,
            },
        };
        let Some(lock) = self.begin(&waiting, &marker)? else {
            return Ok(RemoteOutcome::Nothing);
        };
        let earlier = Certainty::NeverReached;
        let pending = Pending { marker, request, earlier, tries: 0, was_sent: false, _lock: lock };
        self.send(&waiting.at, pending)
    }

    fn held(&self, waiting: &WaitingTask, decision: Decision, reason: String) -> RemoteOutcome {
        let event = waiting.at.event(EventKind::Held).by(decision.provider, None);
        RemoteOutcome::Event(event.because(reason))
    }

    /// Writes the marker and locks it. `None`: the task's file is no longer the one that was read, a
    /// task of its name is active, or another process has just locked the new marker.
    fn begin(&self, waiting: &WaitingTask, marker: &Delegated) -> Result<Option<File>> {
        let TaskRef { project, name } = &waiting.at;
        let (path, task) = (project.delegated_path(name), project.waiting_path(name));
        let _local = locked(&self.local_lock);
        let _lock = project.lock()?;
        // The marker holds the task's text, so it is readable for the same users. A file that is gone
        // fails the check below.
        let mode = task.symlink_metadata().map_or(0, |found| found.mode());
        if !waiting.seen.is_still(&task) || durable::exists(&project.dispatched_path(name))? {
            return Ok(None);
        }
        let json = serde_json::to_vec(marker)
            .with_context(|| format!("cannot write {}", path.display()))?;
        match durable::create(&path, &json, mode & durable::SHARED)? {
            true => lock_marker(&path),
            false => Ok(None),
        }
    }

    /// Goes on with a submission that an earlier pass left unfinished, if its next try is due and no
    /// other process has it.
    fn resume_one(&self, task: &TaskRef) -> Result<RemoteOutcome> {
        let path = task.project.delegated_path(&task.name);
        // Most markers belong to running jobs: those are passed over without taking any lock.
        let Some(marker) = markers::read::<Delegated>(&path)? else {
            return Ok(RemoteOutcome::Nothing);
        };
        let next = self.next(&marker);
        if next == Next::Wait || marker.engine != self.engine.kind() {
            return Ok(RemoteOutcome::Nothing);
        }
        if self.dry_run && next == Next::Send {
            let event = task.event(EventKind::Delegated).by(marker.provider, None);
            let reason = format!("{}, begun by an earlier pass", marker.rule);
            return Ok(RemoteOutcome::Event(event.because(reason)));
        }
        if self.dry_run {
            return self.end_submission(task, &marker, next, &self.why_not_sent());
        }
        let Some((pending, next)) = self.take(task)? else {
            return Ok(RemoteOutcome::Nothing);
        };
        // A pass was killed after it had filed the task and before it had removed the marker. The copy
        // in done/ or failed/ stays as it is; the task and the marker are removed, and recorded is what the copy says.
        if let Some(ending) = task.project.filed_ending(&task.name, pending.marker.key)? {
            let filing = Filing::of_copy(ending, self.now());
            return self.file(task, &pending.marker, &filing);
        }
        match next {
            Next::Send => self.send(task, pending),
            next => self.end_submission(task, &pending.marker, next, &self.why_not_sent()),
        }
    }

    fn next(&self, marker: &Delegated) -> Next {
        marker.next(self.now(), self.stopped().is_none())
    }

    fn why_not_sent(&self) -> String {
        match self.stopped() {
            Some(StopReason::Silent(text) | StopReason::Unauthorized(text)) => text,
            Some(StopReason::TimeUp) | None => "it was not sent again".to_owned(),
        }
    }

    /// Locks a marker that waits for its next submission, and judges again what to do about it.
    /// Before the request is sent, the marker is made to say that a job may exist: this pass may be
    /// killed. `None`: another process has it, or `reap` goes on with its result.
    fn take(&self, task: &TaskRef) -> Result<Option<(Pending, Next)>> {
        let path = task.project.delegated_path(&task.name);
        let _local = locked(&self.local_lock);
        let _project = task.project.lock()?;
        let Some(mut lock) = lock_marker(&path)? else {
            return Ok(None);
        };
        let mut marker: Delegated = markers::read_file(&lock, &path)?;
        // The result is there, and `reap` files it. What it has noted is a new file, so it may have lost its lock.
        if marker.exchange.as_ref().is_some_and(|note| note.work.is_some()) {
            return Ok(None);
        }
        let next = self.next(&marker);
        let was_sent = marker.exchange.as_ref().is_some_and(|note| note.is_sent);
        let DelegationPhase::Submitting { request, ambiguous, tries, .. } = &mut marker.phase
        else {
            return Ok(None);
        };
        let (request, tries, was_ambiguous) = (request.clone(), *tries, *ambiguous);
        if next == Next::Send && !was_ambiguous {
            *ambiguous = true;
            if let Some(note) = &mut marker.exchange {
                note.is_sent = true;
            }
            marker.stamp = Stamp::new(self.host, self.now());
            super::save(task, &marker)?;
            // The marker is a new file now, and the lock above is one of the old file.
            match lock_marker(&path)? {
                Some(new) => lock = new,
                None => return Ok(None),
            }
        }
        let earlier = if was_ambiguous { Certainty::Ambiguous } else { Certainty::Later };
        Ok(Some((Pending { marker, request, earlier, tries, was_sent, _lock: lock }, next)))
    }

    fn send(&self, task: &TaskRef, pending: Pending) -> Result<RemoteOutcome> {
        match self.engine.submit(task.project.path(), &pending.marker, &pending.request) {
            Ok(accepted) => {
                self.note_exchange(None);
                self.accept(task, pending.marker, &accepted)
            }
            Err(failed) => {
                self.note_exchange(Some(&failed.error));
                self.not_accepted(task, pending, &failed)
            }
        }
    }

    fn accept(
        &self,
        task: &TaskRef,
        mut marker: Delegated,
        accepted: &Accepted,
    ) -> Result<RemoteOutcome> {
        let phase = DelegationPhase::Submitted {
            job_id: accepted.id.clone(),
            submitted_at: self.now(),
            unknown_since: None,
        };
        if !self.change(task, &marker, |marker| marker.phase = phase.clone())? {
            return Ok(RemoteOutcome::Nothing);
        }
        marker.phase = phase;
        self.log.event(format_args!(
            "DELEGATED task={} provider={} job={} rule={}",
            escape(task.name.as_str()),
            marker.provider.as_str(),
            accepted.id,
            escape(&marker.rule)
        ));
        let event = marker.event(task, EventKind::Delegated);
        if let Some(records) = self.records {
            records.note(&Entry {
                run: Some(marker.key),
                waited: records::waited(&task.project.waiting_path(&task.name), marker.started_at),
                reason: Some(marker.rule.clone()),
                ..Entry::of(&event)
            });
        }
        Ok(RemoteOutcome::Event(event))
    }

    fn not_accepted(
        &self,
        task: &TaskRef,
        pending: Pending,
        NotAccepted { certainty, error }: &NotAccepted,
    ) -> Result<RemoteOutcome> {
        let Pending { mut marker, request, earlier, tries, was_sent, _lock } = pending;
        let (now, tries) = (self.now(), tries + 1);
        let certainty = match &mut marker.exchange {
            None => certainty.after(earlier),
            // Earlier tries do not count: `RayClient::submit` asks about the job by its name, and before
            // the task runs here its ref is taken back.
            Some(note) => {
                let is_unsent = matches!(error.kind, ErrorKind::NotSent | ErrorKind::NoExchange);
                note.is_sent = was_sent || !is_unsent;
                *certainty
            }
        };
        let next = marker.judge(certainty, between(marker.started_at, now), tries);
        if next != Next::Wait {
            return self.end_submission(task, &marker, next, &error.text);
        }
        let pause = marker::pause(tries, error.retry_after);
        let is_sent = marker.exchange.as_ref().map(|note| note.is_sent);
        let phase = DelegationPhase::Submitting {
            request,
            ambiguous: certainty == Certainty::Ambiguous,
            tries,
            not_before: now.checked_add(pause).ok(),
            reason: Some(error.text.clone()),
        };
        let is_changed = self.change(task, &marker, |marker| {
            marker.phase = phase;
            if let (Some(note), Some(is_sent)) = (&mut marker.exchange, is_sent) {
                note.is_sent = is_sent;
            }
        })?;
        if !is_changed {
            return Ok(RemoteOutcome::Nothing);
        }
        let pause = SignedDuration::try_from(pause)?;
        let reason = format!("{error}; it is submitted again in {pause:#}");
        self.log.warn(format_args!("{task}: {reason}"));
        Ok(RemoteOutcome::Event(marker.event(task, EventKind::Held).because(reason)))
    }

    /// Ends a submission that made no job; the caller holds the marker's lock.
    fn end_submission(
        &self,
        task: &TaskRef,
        marker: &Delegated,
        next: Next,
        reason: &str,
    ) -> Result<RemoteOutcome> {
        match next {
            Next::Send | Next::Wait => Ok(RemoteOutcome::Nothing),
            Next::GiveUp => {
                let reason = format!(
                    "outcome unknown: it was sent to secutools, and no answer says whether it was taken; \
                     look there for the idempotency key {} before you give it back ({reason})",
                    marker.key
                );
                self.file(task, marker, &Filing::given_up(self.now(), reason))
            }
            Next::RunLocally => {
                if let (Engine::Ray(ray), Some(note)) = (&self.engine, &marker.exchange) {
                    // Once the engine was asked, a runner may have begun: its ref is taken back first.
                    return OpenRun { by: self, ray, task, marker, note }.withdraw(reason);
                }
                if !self.dry_run {
                    let _local = locked(&self.local_lock);
                    let _project = task.project.lock()?;
                    durable::remove(&task.project.delegated_path(&task.name))?;
                }
                Ok(RemoteOutcome::RunLocally { reason: reason.to_owned() })
            }
        }
    }
}

/// Locks a marker. `None`: there is none, another process holds it, or it was replaced just now.
pub(super) fn lock_marker(path: &Path) -> Result<Option<File>> {
    let opened = durable::if_there(durable::open_to_lock(path, rustix::fs::OFlags::empty()));
    let opened = opened.with_context(|| format!("cannot open {}", path.display()))?;
    let Some(file) = opened else { return Ok(None) };
    let is_locked = lock::lock(&file).with_context(|| format!("cannot lock {}", path.display()))?;
    // Markers are replaced by a rename: the lock may be one of a file that no longer has the name.
    let is_current = match (file.metadata(), path.symlink_metadata()) {
        (Ok(locked), Ok(named)) => FileId::of(&locked) == FileId::of(&named),
        _ => false,
    };
    Ok((is_locked && is_current).then_some(file))
}
