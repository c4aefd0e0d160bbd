//! A job whose work goes by an exchange: the ref `run` there decides what became of it, and the engine's word is a hint.
//!
//! | engine | `run` | what is done |
//! | --- | --- | --- |
//! | whatever, also nothing | result | file it |
//! | whatever | result that git refuses | `failed/`; it stays there |
//! | whatever | tombstone | what it says |
//! | ended, or unknown | claim | tombstone, then `failed/` |
//! | ended | absent | tombstone, then again under a new key, three times at most |
//! | unknown | absent | ask for the same job again |
//! | anything else | claim, absent | wait |
//!
//! Every step may be cut off, and is then made again: a tombstone says why it is there, the branch that takes the work
//! is noted before it is made, and a filed task's marker becomes `inbox/.KEY.leaving` until the refs are gone.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::engine::RayEngine;
use super::filing::Filing;
use super::marker::{self, Delegated, DelegationPhase, ExchangeNote, Unfetched};
use super::run::{self, Refs, RunCommit, RunResult, Tombstone, Why, Workplace};
use super::{
    Delegation, EngineError, ErrorKind, Job, JobId, JobStatus, RemoteOutcome, StopReason,
    TIME_BUDGET,
};
use crate::checkout::{EXCHANGE_LIMIT, Exchange, GitError, Moved};
use crate::concurrent::locked;
use crate::durable;
use crate::error::Failure;
use crate::marker as markers;
use crate::queue::{Project, TaskRef};
use crate::text::{escape, excerpt};

/// How often a job that came to nothing before anybody began is asked for anew.
const MOST_RESTARTS: u32 = 3;

/// What an engine's or an agent's own errors are cut to in a sentence.
pub(super) const LONGEST_ERROR: usize = 300;

/// What `run` is at the moment.
enum RunState {
    Absent,
    Claim(String),
    Result(String, Box<RunResult>),
    Tombstone(Tombstone),
    /// Something that no runner has written for this task. The sentence says what.
    Foreign(String, String),
    /// What came back takes longer than a pass has, and its next attempt is still to come.
    Unfetched(String),
    /// What came back for this task, and git does not take. The sentence says why.
    Refused(String),
    /// The exchange does not say, or it moves at this moment; why. What is known of it is at most its commit's name.
    Unknown(Option<String>, String),
}

impl Delegation<'_> {
    /// Does what the table says.
    pub(super) fn poll_run(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        note: &ExchangeNote,
        answer: Result<Job, EngineError>,
    ) -> Result<RemoteOutcome> {
        let exchange = Exchange { project: task.project.path(), url: &note.url };
        let seen = self.look(ray, exchange, task, marker, note)?;
        // A submission that is under way, or whose outcome is not known, goes on by itself.
        let is_submitted = marker.job_id().is_some();
        let is_over = is_submitted
            && match &answer {
                Ok(job) => job.status.is_final(),
                Err(error) => error.kind == ErrorKind::UnknownJob,
            };
        match (seen, answer) {
            (RunState::Result(commit, result), _) => {
                self.file_result(ray, task, marker, note, &commit, &result)
            }
            (RunState::Refused(why), _) => self.file_refused(ray, task, marker, note, &why),
            (RunState::Tombstone(tombstone), _) => self.bury(ray, task, marker, &tombstone),
            (RunState::Foreign(commit, why), _) => {
                let tombstone = Tombstone::new(Why::Lost, why);
                self.take_back(ray, task, marker, note, Some(&commit), &tombstone)
            }
            (RunState::Claim(claim), answer) if is_over => {
                let why = match &answer {
                    Ok(job) => why_ended(job),
                    Err(error) => {
                        format!("Ray has forgotten the job, at which a runner was at work: {error}")
                    }
                };
                let why = format!("{why}; {}", without_result(exchange, &claim, &note.base)?);
                let tombstone = Tombstone::new(why_lost(&answer), why);
                self.take_back(ray, task, marker, note, Some(&claim), &tombstone)
            }
            // Somebody else has removed what a runner had put there: it is not to be done twice.
            (RunState::Absent, answer) if is_over && has_begun(note, &answer) => {
                let why = "its run has been removed from the exchange, where a runner had begun";
                let tombstone = Tombstone::new(why_lost(&answer), why.to_owned());
                self.take_back(ray, task, marker, note, None, &tombstone)
            }
            (RunState::Absent, Ok(job)) if is_over => {
                let why = match job.status {
                    JobStatus::Cancelled => Why::Cancelled,
                    _ => Why::Unbegun,
                };
                let sentence = format!("{}; no runner had begun", why_ended(&job));
                let tombstone = Tombstone::new(why, sentence);
                self.take_back(ray, task, marker, note, None, &tombstone)
            }
            (RunState::Absent, Err(error)) if is_over => {
                self.log.warn(format_args!("{task}: {error}: it is asked for once more"));
                let now = self.now();
                self.change(task, marker, |marker| ask_again(marker, now))?;
                Ok(RemoteOutcome::Nothing)
            }
            (seen, answer) => {
                if let RunState::Unknown(_, why) = &seen {
                    self.log.warn(format_args!("{task}: {why}"));
                }
                match answer {
                    Ok(job) => self.log_unfinished(task, &job),
                    Err(error) if is_submitted && self.stopped().is_none() => {
                        self.log.warn(format_args!("{task}: {error}"));
                    }
                    // It was logged once, for all jobs.
                    Err(_) => {}
                }
                match seen {
                    RunState::Claim(claim) if note.claim.as_ref() != Some(&claim) => {
                        self.change(task, marker, |marker| {
                            if let Some(note) = &mut marker.exchange {
                                note.claim = Some(claim.clone());
                                note.unfetched = None;
                            }
                        })?;
                    }
                    _ => {}
                }
                Ok(RemoteOutcome::Nothing)
            }
        }
    }

    /// What `run` is. Whatever it names that was not seen before is fetched.
    fn look(
        &self,
        ray: &RayEngine<'_>,
        exchange: Exchange<'_>,
        task: &TaskRef,
        marker: &Delegated,
        note: &ExchangeNote,
    ) -> Result<RunState> {
        let refs = match ray.refs(exchange) {
            Ok(refs) => refs,
            Err(why) => return Ok(RunState::Unknown(None, why)),
        };
        let name = Refs::of(marker.key).run;
        let Some(commit) = refs.get(&name).cloned() else { return Ok(RunState::Absent) };
        if note.claim.as_ref() == Some(&commit) {
            return Ok(RunState::Claim(commit));
        }
        // A person may have brought it here by hand meanwhile.
        let unfetched = note.unfetched.as_ref().filter(|it| it.commit == commit);
        if unfetched.is_some_and(|it| it.waits(self.now())) && !exchange.has(&commit)? {
            return Ok(RunState::Unfetched(commit));
        }
        // Also where its commit is here already: another git may have left all but that away.
        let left = TIME_BUDGET.saturating_sub(self.now.1.elapsed());
        if let Err(error) = exchange.fetch(&name, left.max(EXCHANGE_LIMIT)) {
            if error.is_bad_object() {
                return Ok(RunState::Refused(error.to_string()));
            }
            let tries = unfetched.map_or(0, |it| it.tries) + 1;
            return self.note_unfetched(task, marker, commit, tries, &error);
        }
        let foreign =
            |what: &str| format!("its run in the exchange {} is {what}", escape(&note.url));
        let Some(bytes) = exchange.read_commit(&commit)? else {
            return Ok(match exchange.has(&commit)? {
                true => RunState::Foreign(commit, foreign("no commit")),
                false => RunState::Unknown(None, "its run moves at this moment".to_owned()),
            });
        };
        Ok(match run::parse(&bytes, &note.base) {
            RunCommit::Claim(_) => RunState::Claim(commit),
            RunCommit::Tombstone(tombstone) => RunState::Tombstone(tombstone),
            RunCommit::Foreign(what) => RunState::Foreign(commit, foreign(what)),
            RunCommit::Result(result) => {
                let claim = exchange.read_commit(&result.claim)?;
                match claim.is_some_and(|claim| run::is_claim_of(&claim, &note.base)) {
                    true => RunState::Result(commit, Box::new(result)),
                    false => RunState::Foreign(commit, foreign("the result of another task")),
                }
            }
        })
    }

    /// Writes down that what came back was not fetched, because that takes longer than a pass has, say: it is tried again
    /// after ever longer pauses.
    fn note_unfetched(
        &self,
        task: &TaskRef,
        marker: &Delegated,
        commit: String,
        tries: u32,
        error: &GitError,
    ) -> Result<RunState> {
        // A connection that has broken off once may hold in the next pass.
        let pause = match tries {
            1 if !error.is_timeout() => Duration::ZERO,
            _ => marker::pause(tries, None),
        };
        let url = marker.exchange.as_ref().map_or("", |note| &note.url);
        let reason = format!(
            "its run in the exchange cannot be fetched: {error}; `git fetch {} {}` in {} takes the time that it needs, \
             and once that has worked the next pass goes on",
            escape(url),
            Refs::of(marker.key).run,
            task.project.path().display()
        );
        let unfetched = Unfetched {
            commit: commit.clone(),
            tries,
            not_before: self.now().checked_add(pause).ok(),
            reason: reason.clone(),
        };
        self.change(task, marker, |marker| {
            if let Some(note) = &mut marker.exchange {
                note.unfetched = Some(unfetched);
            }
        })?;
        let when = match SignedDuration::try_from(pause)? {
            SignedDuration::ZERO => "the next pass".to_owned(),
            pause => format!("{pause:#}"),
        };
        Ok(RunState::Unknown(Some(commit), format!("{reason}; ccl tries it again in {when}")))
    }

    /// Files a task whose result git does not take. Nobody else has it, so it stays in the exchange, for a person.
    fn file_refused(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        note: &ExchangeNote,
        why: &str,
    ) -> Result<RemoteOutcome> {
        self.change(task, marker, |marker| {
            if let Some(note) = &mut marker.exchange {
                note.keeps_run = true;
            }
        })?;
        let (url, run) = (escape(&note.url), Refs::of(marker.key).run);
        let reason =
            format!("what came back cannot be fetched, and stays in the exchange as {run}: {why}");
        let result = format!(
            "Git refuses an object of what came back. It is kept in the exchange. Where you trust it, take it:\n\n    \
             git fetch {url} {run} && git branch NAME FETCH_HEAD^2\n\nAnd remove it there once you need it no more:\n\n    \
             git push {url} :{run}"
        );
        let filing = Filing { result: Some(result), ..Filing::given_up(self.now(), reason) };
        self.file_and_clean(ray, task, marker, &filing)
    }

    /// Puts the tombstone at the run's ref, so that no runner can hand in a result any more; then does what the tombstone
    /// is for: files the task, sends it again or lets it run here.
    fn take_back(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        note: &ExchangeNote,
        old: Option<&str>,
        tombstone: &Tombstone,
    ) -> Result<RemoteOutcome> {
        if !self.dry_run && !self.swap(task, marker, note, old, tombstone)? {
            self.log
                .debug(format_args!("{task}: its run has just moved: the next pass looks again"));
            return Ok(RemoteOutcome::Nothing);
        }
        self.bury(ray, task, marker, tombstone)
    }

    /// Puts a tombstone in place of `old`; false where that is not there any more.
    fn swap(
        &self,
        task: &TaskRef,
        marker: &Delegated,
        note: &ExchangeNote,
        old: Option<&str>,
        tombstone: &Tombstone,
    ) -> Result<bool> {
        let exchange = Exchange { project: task.project.path(), url: &note.url };
        // Nothing refers to it here: after two weeks a person's git may have thrown it away.
        if !exchange.has(&note.base)? {
            exchange
                .fetch(&Refs::of(marker.key).base, EXCHANGE_LIMIT)
                .context("cannot fetch what the run starts from")?;
        }
        let message = serde_json::to_string(tombstone)?;
        // What a stranger has put there is not to be handed on.
        let claim = old.filter(|old| note.claim.as_deref() == Some(*old));
        let parents: Vec<&str> = [note.base.as_str()].into_iter().chain(claim).collect();
        let commit = exchange.commit(&note.base, &parents, &message)?;
        let moved = exchange.swap(&Refs::of(marker.key).run, old, &commit).with_context(|| {
            format!("{task} cannot be taken back from the exchange {}", escape(&note.url))
        })?;
        Ok(moved == Moved::Yes)
    }

    /// Does what a tombstone is there for.
    fn bury(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        tombstone: &Tombstone,
    ) -> Result<RemoteOutcome> {
        let restarts = marker.exchange.as_ref().map_or(0, |note| note.restarts);
        let reason = excerpt(&tombstone.reason, 2000);
        match tombstone.tombstone {
            Why::Unbegun if restarts < MOST_RESTARTS => {
                self.log.warn(format_args!("{task}: {reason}: it is asked for anew"));
                self.begin_anew(task, marker)?;
                Ok(RemoteOutcome::Nothing)
            }
            Why::Unbegun => {
                let reason = format!("{reason}; so it was {} times", MOST_RESTARTS + 1);
                self.file_and_clean(ray, task, marker, &Filing::given_up(self.now(), reason))
            }
            Why::Lost | Why::Cancelled => {
                self.file_and_clean(ray, task, marker, &Filing::given_up(self.now(), reason))
            }
            Why::Withdrawn => self.leave(ray, task, marker, reason),
        }
    }

    /// Files the task, and takes its refs away.
    pub(super) fn file_and_clean(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        filing: &Filing,
    ) -> Result<RemoteOutcome> {
        let outcome = self.file(task, marker, filing)?;
        if !self.dry_run && durable::exists(&task.project.leaving_path(marker.key))? {
            self.clean(ray, &task.project, marker.key);
        }
        Ok(outcome)
    }

    /// Removes the marker of a task that a session gets.
    fn leave(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        reason: String,
    ) -> Result<RemoteOutcome> {
        if !self.dry_run {
            let path = task.project.delegated_path(&task.name);
            {
                let _local = locked(&self.local_lock);
                let _lock = task.project.lock()?;
                let current: Option<Delegated> = markers::read(&path)?;
                if current.is_none_or(|it| it.key != marker.key) {
                    return Ok(RemoteOutcome::Nothing);
                }
                task.project.set_aside(&task.name, marker.key)?;
            }
            self.clean(ray, &task.project, marker.key);
        }
        Ok(RemoteOutcome::RunLocally { reason })
    }

    /// The end of a submission that a session gets instead: nobody is to begin with it any more.
    pub(super) fn withdraw_run(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        note: &ExchangeNote,
        reason: &str,
    ) -> Result<RemoteOutcome> {
        if !note.is_sent || self.dry_run {
            return self.leave(ray, task, marker, reason.to_owned());
        }
        let exchange = Exchange { project: task.project.path(), url: &note.url };
        // A push of this pass may have had no answer, and it is to be withdrawn for just that.
        ray.look_again(&note.url);
        match self.look(ray, exchange, task, marker, note)? {
            RunState::Absent => {
                let tombstone = Tombstone::new(Why::Withdrawn, reason.to_owned());
                self.take_back(ray, task, marker, note, None, &tombstone)
            }
            RunState::Tombstone(tombstone) => self.bury(ray, task, marker, &tombstone),
            RunState::Unknown(_, why) => {
                self.log.warn(format_args!("{task} cannot be taken back to run here: {why}"));
                Ok(RemoteOutcome::Nothing)
            }
            // Somebody is at work after all.
            RunState::Claim(_)
            | RunState::Result(..)
            | RunState::Foreign(..)
            | RunState::Refused(_)
            | RunState::Unfetched(_) => {
                let now = self.now();
                self.change(task, marker, |marker| {
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

    /// A person wants it to end: whoever has the run loses it, unless the result is there already.
    pub(super) fn cancel_run(
        &self,
        ray: &RayEngine<'_>,
        task: &TaskRef,
        marker: &Delegated,
        note: &ExchangeNote,
        reason: &str,
    ) -> Result<RemoteOutcome> {
        let tombstone = Tombstone::new(Why::Cancelled, reason.to_owned());
        if !note.is_sent {
            return self.bury(ray, task, marker, &tombstone);
        }
        // A hint, as all that is said to it.
        if let Err(error) = ray.client.cancel(&JobId::of_key(marker.key)) {
            self.log.warn(format_args!("{task}: {error}"));
        }
        let exchange = Exchange { project: task.project.path(), url: &note.url };
        // A person may wait for it: it is tried, whenever it was to be.
        let unhurried = ExchangeNote { unfetched: None, ..note.clone() };
        match self.look(ray, exchange, task, marker, &unhurried)? {
            RunState::Result(commit, result) => {
                self.file_result(ray, task, marker, note, &commit, &result)
            }
            RunState::Refused(why) => self.file_refused(ray, task, marker, note, &why),
            RunState::Tombstone(_) => self.bury(ray, task, marker, &tombstone),
            RunState::Absent => self.take_back(ray, task, marker, note, None, &tombstone),
            // Also one that cannot be fetched: it may be too large ever to be.
            RunState::Claim(old)
            | RunState::Foreign(old, _)
            | RunState::Unfetched(old)
            | RunState::Unknown(Some(old), _) => {
                self.take_back(ray, task, marker, note, Some(&old), &tombstone)
            }
            RunState::Unknown(None, why) => Err(anyhow!(Failure::Temporary(format!(
                "its run cannot be taken away from who may be at work on it: {why}"
            )))),
        }
    }

    /// Asks for the task under another key, after the old one's tombstone. The old one's refs go.
    fn begin_anew(&self, task: &TaskRef, marker: &Delegated) -> Result<()> {
        let (old, new) = (marker.key, Uuid::new_v4());
        let now = self.now();
        let begun = self.change_with(task, marker, |project, marker| {
            // Before the marker: what is not noted would stay in the exchange.
            durable::write(
                &project.leaving_path(old),
                &serde_json::to_vec(marker)?,
                durable::PRIVATE,
            )?;
            if let Some(note) = &mut marker.exchange {
                // A key is random: nothing else in the request looks like it.
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
            self.log.debug(format_args!("{task}: another pass has begun anew"));
        }
        Ok(())
    }

    /// Takes the refs away of what was filed; what cannot be taken away is tried again by a later pass.
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
            // In this order: a runner that comes in between finds `run`, or no base.
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

    /// Takes the refs away that earlier passes have left.
    pub(crate) fn sweep_exchanges(&self, leaving: &[(Project, Uuid)]) {
        if let (super::engine::Engine::Ray(ray), false) = (&self.engine, self.dry_run) {
            leaving.iter().for_each(|(project, key)| self.clean(ray, project, *key));
        }
    }
}

/// The job is to be asked for in the next pass, and has as long as a new one to get there.
fn ask_again(marker: &mut Delegated, now: Timestamp) {
    marker.started_at = now;
    marker.phase = DelegationPhase::Submitting {
        request: String::new(),
        ambiguous: true,
        tries: 0,
        not_before: None,
        reason: None,
    };
}

/// That a run was claimed and has no result, and where its work may lie, as far as its claim says.
fn without_result(exchange: Exchange<'_>, claim: &str, base: &str) -> Result<String> {
    let claim = exchange.read_commit(claim)?;
    Ok(match claim.map(|bytes| run::parse(&bytes, base)) {
        Some(RunCommit::Claim(Workplace { host, directory })) if !host.is_empty() => {
            let lies = match directory.as_str() {
                "" => String::new(),
                directory => format!("; its work may lie in {} there", escape(directory)),
            };
            format!("a runner on {} has claimed it, and has handed nothing in{lies}", escape(&host))
        }
        _ => "its runner has handed nothing in".to_owned(),
    })
}

/// Whether a runner was seen at work, or has ended well, which it does with a result only.
fn has_begun(note: &ExchangeNote, answer: &Result<Job, EngineError>) -> bool {
    let was_seen = note.claim.is_some() || note.unfetched.is_some();
    was_seen || answer.as_ref().is_ok_and(|job| job.status == JobStatus::Succeeded)
}

fn why_lost(answer: &Result<Job, EngineError>) -> Why {
    match answer {
        Ok(job) if job.status == JobStatus::Cancelled => Why::Cancelled,
        _ => Why::Lost,
    }
}

/// What Ray says of a job that has ended.
fn why_ended(job: &Job) -> String {
    let status = job.status.as_str();
    match &job.error {
        Some(error) => format!("Ray: job {status}: {}", excerpt(error, LONGEST_ERROR)),
        None => format!("Ray: job {status}"),
    }
}
