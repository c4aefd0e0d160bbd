//! The end of a run in the exchange: its task is filed, given up, submitted anew or goes to a session; its refs go.

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::cancel::unless_held;
use super::engine::RayEngine;
use super::exchange::{OpenRun, RunState, ask_again};
use super::filing::Filing;
use super::marker::{Delegated, DelegationPhase, ExchangeNote};
use super::run::{Refs, Tombstone, Why};
use super::{Delegation, JobId, RemoteOutcome, StopReason};
use crate::checkout::{EXCHANGE_LIMIT, Exchange, Moved};
use crate::concurrent::locked;
use crate::durable;
use crate::error::Failure;
use crate::marker as markers;
use crate::queue::Project;
use crate::text::{escape, excerpt};

/// How often a job that ended before any runner began is submitted anew.
const MOST_RESTARTS: u32 = 3;

impl OpenRun<'_> {
    /// Files a task whose result git refuses. The result has no other copy, so it stays in the exchange, for a person.
    pub(super) fn file_refused(&self, why: &str) -> Result<RemoteOutcome> {
        let OpenRun { marker, note, .. } = *self;
        // Noted before the filing: the pass that removes the refs may be another one.
        self.keep_run(true)?;
        let (url, run) = (escape(&note.url), Refs::of(marker.key).run);
        let reason =
            format!("what came back cannot be fetched, and stays in the exchange as {run}: {why}");
        let result = format!(
            "Git refuses an object of what came back. It is kept in the exchange. Where you trust it, take it:\n\n    \
             git fetch {url} {run} && git branch NAME FETCH_HEAD^2\n\nAnd remove it there once you need it no more:\n\n    \
             git push {url} :{run}"
        );
        let filing = Filing { result: Some(result), ..Filing::given_up(self.by.now(), reason) };
        self.end(&filing)
    }

    /// Puts the tombstone at the run's ref, so that no runner can hand in a result any more. Then takes the step that
    /// the tombstone stands for: files the task, submits it again or lets it run here.
    pub(super) fn take_back(
        &self,
        old: Option<&str>,
        tombstone: &Tombstone,
    ) -> Result<RemoteOutcome> {
        let OpenRun { task, .. } = *self;
        if !self.by.dry_run && !self.swap(old, tombstone)? {
            self.by
                .log
                .debug(format_args!("{task}: its run has just moved: the next pass looks again"));
            return Ok(RemoteOutcome::Nothing);
        }
        self.bury(tombstone)
    }

    /// Puts a tombstone in place of `old`; false if the ref has moved meanwhile.
    fn swap(&self, old: Option<&str>, tombstone: &Tombstone) -> Result<bool> {
        let OpenRun { task, marker, note, .. } = *self;
        // Nothing is at the ref, too, once another pass has filed the task: its marker goes before its refs.
        if old.is_none() && super::current(task, marker)?.is_none() {
            return Ok(false);
        }
        let exchange = self.exchange();
        // No ref here keeps the base commit: after two weeks a person's git may have thrown it away.
        if !exchange.has(&note.base)? {
            exchange
                .fetch(&Refs::of(marker.key).base, EXCHANGE_LIMIT)
                .context("cannot fetch what the run starts from")?;
        }
        let message = serde_json::to_string(tombstone)?;
        // Only a claim that was noted becomes a parent: what a stranger put at the ref is not handed on.
        let claim = old.filter(|old| note.claim.as_deref() == Some(*old));
        let parents: Vec<&str> = [note.base.as_str()].into_iter().chain(claim).collect();
        let commit = exchange.commit(&note.base, &parents, &message)?;
        let moved = exchange.swap(&Refs::of(marker.key).run, old, &commit).with_context(|| {
            format!("{task} cannot be taken back from the exchange {}", escape(&note.url))
        })?;
        Ok(moved == Moved::Yes)
    }

    /// Takes the step that a tombstone stands for.
    pub(super) fn bury(&self, tombstone: &Tombstone) -> Result<RemoteOutcome> {
        let OpenRun { task, note, .. } = *self;
        let reason = excerpt(&tombstone.reason, 2000);
        match tombstone.tombstone {
            Why::Unbegun if note.restarts < MOST_RESTARTS => {
                self.by.log.warn(format_args!("{task}: {reason}: it is asked for anew"));
                self.begin_anew()?;
                Ok(RemoteOutcome::Nothing)
            }
            Why::Unbegun => {
                let reason = format!("{reason}; so it was {} times", MOST_RESTARTS + 1);
                self.file_and_clean(&Filing::given_up(self.by.now(), reason))
            }
            Why::Lost | Why::Cancelled => {
                self.file_and_clean(&Filing::given_up(self.by.now(), reason))
            }
            Why::Withdrawn => self.leave(reason),
        }
    }

    /// Files the task, and removes its refs.
    pub(super) fn file_and_clean(&self, filing: &Filing) -> Result<RemoteOutcome> {
        // An earlier pass may have noted that it stays, when git still refused the result.
        self.keep_run(false)?;
        self.end(filing)
    }

    /// Notes whether `run` stays in the exchange once the task is filed.
    fn keep_run(&self, keeps_run: bool) -> Result<()> {
        if self.note.keeps_run != keeps_run {
            self.change(|marker| {
                if let Some(note) = &mut marker.exchange {
                    note.keeps_run = keeps_run;
                }
            })?;
        }
        Ok(())
    }

    fn end(&self, filing: &Filing) -> Result<RemoteOutcome> {
        let OpenRun { ray, task, marker, .. } = *self;
        let outcome = self.by.file(task, marker, filing)?;
        // A task that is held keeps its marker, and its refs with it.
        if !self.by.dry_run && durable::exists(&task.project.leaving_path(marker.key))? {
            self.by.clean(ray, &task.project, marker.key);
        }
        Ok(outcome)
    }

    /// Removes the marker and the refs of a task that a session gets.
    fn leave(&self, reason: String) -> Result<RemoteOutcome> {
        let OpenRun { ray, task, marker, .. } = *self;
        if !self.by.dry_run {
            let path = task.project.delegated_path(&task.name);
            {
                let _local = locked(&self.by.local_lock);
                let _lock = task.project.lock()?;
                let current: Option<Delegated> = markers::read(&path)?;
                if current.is_none_or(|it| it.key != marker.key) {
                    return Ok(RemoteOutcome::Nothing);
                }
                task.project.set_aside(&task.name, marker.key)?;
            }
            self.by.clean(ray, &task.project, marker.key);
        }
        Ok(RemoteOutcome::RunLocally { reason })
    }

    /// Ends a submission whose task goes to a session instead. First it makes sure that no runner can begin any more.
    pub(super) fn withdraw(&self, reason: &str) -> Result<RemoteOutcome> {
        let OpenRun { ray, task, note, .. } = *self;
        if !note.is_sent || self.by.dry_run {
            return self.leave(reason.to_owned());
        }
        // The exchange may count as silent because this submission's push had no answer: it is asked all the same.
        ray.look_again(&note.url);
        match self.look()? {
            RunState::Absent => {
                let tombstone = Tombstone::new(Why::Withdrawn, reason.to_owned());
                self.take_back(None, &tombstone)
            }
            RunState::Tombstone(tombstone) => self.bury(&tombstone),
            RunState::Unknown(_, why) => {
                self.by.log.warn(format_args!("{task} cannot be taken back to run here: {why}"));
                Ok(RemoteOutcome::Nothing)
            }
            // A runner has begun after all: the task counts as submitted, and `poll` goes on with it.
            RunState::Claim(_)
            | RunState::Result(..)
            | RunState::Foreign(..)
            | RunState::Refused(_)
            | RunState::Unfetched(_) => {
                let now = self.by.now();
                self.change(|marker| {
                    marker.phase = DelegationPhase::Submitted {
                        job_id: JobId::of_key(marker.key),
                        submitted_at: now,
                        unknown_since: None,
                    };
                })?;
                Ok(RemoteOutcome::Nothing)
            }
        }
    }

    /// Cancels the run for a person: a runner that has it loses it, unless its result is there already.
    pub(super) fn cancel(&self, reason: &str) -> Result<RemoteOutcome> {
        let OpenRun { ray, task, marker, note, .. } = *self;
        let tombstone = Tombstone::new(Why::Cancelled, reason.to_owned());
        if !note.is_sent {
            // No runner can have begun: there is nothing to take back.
            return unless_held(self.bury(&tombstone)?);
        }
        // Ray is asked to stop the job, but the ref decides: an error here changes nothing.
        if let Err(error) = ray.client.cancel(&JobId::of_key(marker.key)) {
            self.by.log.warn(format_args!("{task}: {error}"));
        }
        // A person may be waiting: the result is fetched now, even if its next attempt is due later.
        let unhurried = ExchangeNote { unfetched: None, ..note.clone() };
        let seen = OpenRun { note: &unhurried, ..*self }.look()?;
        let old = match seen {
            RunState::Result(commit, result) => return self.file_result(&commit, &result),
            RunState::Refused(why) => return self.file_refused(&why),
            // Not the one that is there: it may have the task submitted again, or run here.
            RunState::Tombstone(_) => return unless_held(self.bury(&tombstone)?),
            RunState::Absent => None,
            // Also a result that cannot be fetched: it may be too large to be fetched ever.
            RunState::Claim(old)
            | RunState::Foreign(old, _)
            | RunState::Unfetched(old)
            | RunState::Unknown(Some(old), _) => Some(old),
            RunState::Unknown(None, why) => bail!(Failure::Temporary(format!(
                "its run cannot be taken away from who may be at work on it: {why}"
            ))),
        };
        if !self.swap(old.as_deref(), &tombstone)? {
            bail!(Failure::Temporary(
                "its run has just moved in the exchange, by a runner or by another pass: cancel it again".to_owned()
            ));
        }
        self.bury(&tombstone)
    }

    /// Has the task submitted under a new key; the old key's run has its tombstone. The old key's refs are removed.
    fn begin_anew(&self) -> Result<()> {
        let OpenRun { task, marker, .. } = *self;
        let (old, new) = (marker.key, Uuid::new_v4());
        let now = self.by.now();
        let begun = self.by.change_with(task, marker, |project, marker| {
            // Noted before the marker changes: after a kill in between nothing else would lead to the old key's refs.
            durable::write(
                &project.leaving_path(old),
                &serde_json::to_vec(marker)?,
                durable::PRIVATE,
            )?;
            if let Some(note) = &mut marker.exchange {
                // The key is random, so nothing else in the request equals it.
                note.request = note.request.replace(&old.to_string(), &new.to_string());
                note.restarts += 1;
                note.claim = None;
                note.unfetched = None;
                note.work = None;
            }
            marker.key = new;
            ask_again(marker, now);
            Ok(())
        })?;
        if !begun {
            self.by.log.debug(format_args!("{task}: another pass has begun anew"));
        }
        Ok(())
    }
}

impl Delegation<'_> {
    /// Removes the refs of a run that is over. Refs that cannot be removed are tried again by a later pass.
    fn clean(&self, ray: &RayEngine<'_>, project: &Project, key: Uuid) {
        if let Err(error) = self.try_clean(ray, project, key) {
            self.log.debug(format_args!(
                "refs/ccl/{key} stays in the exchange until the next pass: {error:#}"
            ));
        }
    }

    fn try_clean(&self, ray: &RayEngine<'_>, project: &Project, key: Uuid) -> Result<()> {
        let path = project.leaving_path(key);
        let Some(marker) = markers::read::<Delegated>(&path)? else { return Ok(()) };
        if let Some(note) = &marker.exchange {
            if ray.why_silent(&note.url).is_some()
                || matches!(self.stopped(), Some(StopReason::TimeUp))
            {
                return Ok(());
            }
            let exchange = Exchange { project: project.path(), url: &note.url };
            let refs = Refs::of(key);
            // Base first: a runner that starts in between finds no base, or `run` taken. It looks for base again after
            // its claim.
            let gone: &[&String] =
                if note.keeps_run { &[&refs.base] } else { &[&refs.base, &refs.run] };
            for name in gone {
                if let Err(error) = exchange.delete(name) {
                    if error.is_timeout() {
                        ray.note_silent(&note.url, &error.to_string());
                    }
                    return Err(error.into());
                }
            }
        }
        durable::remove(&path).map(drop)
    }

    /// Removes the refs that earlier passes have left.
    pub(crate) fn sweep_exchanges(&self, leaving: &[(Project, Uuid)]) {
        if let (super::engine::Engine::Ray(ray), false) = (&self.engine, self.dry_run) {
            leaving.iter().for_each(|(project, key)| self.clean(ray, project, *key));
        }
    }
}
