//! A job whose work goes by an exchange: the ref `run` there decides what became of it; the engine's status is a hint.
//!
//! | engine | `run` | what is done |
//! | --- | --- | --- |
//! | whatever, also nothing | result | file it |
//! | whatever | result that git refuses | `failed/`; it stays there |
//! | whatever | tombstone | what the tombstone says |
//! | ended, or unknown | claim | tombstone, then `failed/` |
//! | ended | absent | tombstone, then again under a new key, three times at most |
//! | unknown | absent | ask for the same job again |
//! | anything else | claim, absent | wait |
//!
//! Every step may be cut off, and is then repeated: a tombstone holds the reason for it, the branch that takes the work
//! is noted before it is made, and a filed task's marker becomes `inbox/.KEY.leaving` until the refs are gone.

use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::engine::RayEngine;
use super::marker::{self, Delegated, DelegationPhase, ExchangeNote, Unfetched};
use super::run::{self, Refs, RunCommit, RunResult, Tombstone, Why, Workplace};
use super::{Delegation, EngineError, ErrorKind, Job, JobStatus, RemoteOutcome, TIME_BUDGET};
use crate::checkout::{EXCHANGE_LIMIT, Exchange, GitError};
use crate::queue::TaskRef;
use crate::text::{escape, excerpt};

/// Errors of an engine or an agent are cut to this many characters in a sentence.
pub(super) const LONGEST_ERROR: usize = 300;

/// One delegated task whose work goes by an exchange, with its delegation and its engine.
#[derive(Clone, Copy)]
pub(super) struct OpenRun<'a> {
    pub(super) by: &'a Delegation<'a>,
    pub(super) ray: &'a RayEngine<'a>,
    pub(super) task: &'a TaskRef,
    pub(super) marker: &'a Delegated,
    /// The marker's own note, except in [`Self::cancel`].
    pub(super) note: &'a ExchangeNote,
}

/// What `run` is at the moment. A variant's text is the commit's name, unless said otherwise.
pub(super) enum RunState {
    Absent,
    Claim(String),
    Result(String, Box<RunResult>),
    Tombstone(Tombstone),
    /// Something that no runner has written for this task. The second text is a sentence that says what.
    Foreign(String, String),
    /// What came back could not be fetched, and the next attempt is not due yet.
    Unfetched(String),
    /// Git refuses what came back for this task. The text is a sentence that says why.
    Refused(String),
    /// The exchange does not answer, or `run` is just moving. The commit's name, where that is known, and why.
    Unknown(Option<String>, String),
}

impl OpenRun<'_> {
    pub(super) fn exchange(&self) -> Exchange<'_> {
        Exchange { project: self.task.project.path(), url: &self.note.url }
    }

    /// Changes the marker; false where another pass has ended this run.
    pub(super) fn change(&self, change: impl FnOnce(&mut Delegated)) -> Result<bool> {
        self.by.change(self.task, self.marker, change)
    }

    /// Takes the step of the table above.
    pub(super) fn poll(&self, answer: Result<Job, EngineError>) -> Result<RemoteOutcome> {
        let OpenRun { task, marker, note, .. } = *self;
        let exchange = self.exchange();
        let seen = self.look()?;
        // A submission without an outcome is resumed by `scan`, so the engine's word does not end it here.
        let is_submitted = marker.job_id().is_some();
        let is_over = is_submitted
            && match &answer {
                Ok(job) => job.status.is_final(),
                Err(error) => error.kind == ErrorKind::UnknownJob,
            };
        match (seen, answer) {
            (RunState::Result(commit, result), _) => self.file_result(&commit, &result),
            (RunState::Refused(why), _) => self.file_refused(&why),
            (RunState::Tombstone(tombstone), _) => self.bury(&tombstone),
            (RunState::Foreign(commit, why), _) => {
                let tombstone = Tombstone::new(Why::Lost, why);
                self.take_back(Some(&commit), &tombstone)
            }
            // Also where the job's own runner came too late, and the claim is of one that the engine has forgotten: that
            // runner may still be at work, but nothing would ever say that it has ended.
            (RunState::Claim(claim), answer) if is_over => {
                let why = match &answer {
                    Ok(job) => why_ended(job),
                    Err(error) => {
                        format!("Ray has forgotten the job, at which a runner was at work: {error}")
                    }
                };
                let why = format!("{why}; {}", without_result(exchange, &claim, &note.base)?);
                let tombstone = Tombstone::new(why_lost(&answer), why);
                self.take_back(Some(&claim), &tombstone)
            }
            // Somebody removed the run after a runner had begun: it is given up, or the work might be done twice.
            (RunState::Absent, answer) if is_over && has_begun(note, &answer) => {
                let why = "its run has been removed from the exchange, where a runner had begun";
                let tombstone = Tombstone::new(why_lost(&answer), why.to_owned());
                self.take_back(None, &tombstone)
            }
            (RunState::Absent, Ok(job)) if is_over => {
                let why = match job.status {
                    JobStatus::Cancelled => Why::Cancelled,
                    _ => Why::Unbegun,
                };
                let sentence = format!("{}; no runner had begun", why_ended(&job));
                let tombstone = Tombstone::new(why, sentence);
                self.take_back(None, &tombstone)
            }
            (RunState::Absent, Err(error)) if is_over => {
                self.by.log.warn(format_args!("{task}: {error}: it is asked for once more"));
                let now = self.by.now();
                self.change(|marker| ask_again(marker, now))?;
                Ok(RemoteOutcome::Nothing)
            }
            (seen, answer) => {
                if let RunState::Unknown(_, why) = &seen {
                    self.by.log.warn(format_args!("{task}: {why}"));
                }
                match answer {
                    Ok(job) => self.by.log_unfinished(task, &job),
                    Err(error) if is_submitted && self.by.stopped().is_none() => {
                        self.by.log.warn(format_args!("{task}: {error}"));
                    }
                    // Why nothing more is asked was logged once, for all jobs.
                    Err(_) => {}
                }
                match seen {
                    // The noted claim needs no fetch at the next look, and shows for good that a runner has begun.
                    RunState::Claim(claim) if note.claim.as_ref() != Some(&claim) => {
                        self.change(|marker| {
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

    /// Looks up what `run` is. A commit that was not seen before is fetched.
    pub(super) fn look(&self) -> Result<RunState> {
        let OpenRun { ray, marker, note, .. } = *self;
        let exchange = self.exchange();
        let refs = match ray.refs(exchange) {
            Ok(refs) => refs,
            Err(why) => return Ok(RunState::Unknown(None, why)),
        };
        let name = Refs::of(marker.key).run;
        let Some(commit) = refs.get(&name).cloned() else { return Ok(RunState::Absent) };
        if note.claim.as_ref() == Some(&commit) {
            return Ok(RunState::Claim(commit));
        }
        // If the commit is here, a person has fetched it by hand, as the noted reason advises: no more waiting.
        let unfetched = note.unfetched.as_ref().filter(|it| it.commit == commit);
        if unfetched.is_some_and(|it| it.waits(self.by.now())) && !exchange.has(&commit)? {
            return Ok(RunState::Unfetched(commit));
        }
        // Fetched even where the commit is here: another git may have brought it without all that it needs.
        let left = TIME_BUDGET.saturating_sub(self.by.now.1.elapsed());
        if let Err(error) = exchange.fetch(&name, left.max(EXCHANGE_LIMIT)) {
            if error.is_bad_object() {
                return Ok(RunState::Refused(error.to_string()));
            }
            let tries = unfetched.map_or(0, |it| it.tries) + 1;
            return self.note_unfetched(commit, tries, &error);
        }
        let foreign =
            |what: &str| format!("its run in the exchange {} is {what}", escape(&note.url));
        // The listing may be old: then the fetch has brought what the ref names now, and not this commit.
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

    /// Notes in the marker that what came back was not fetched (it may take longer than a pass has). The fetch is tried
    /// again after ever longer pauses.
    fn note_unfetched(&self, commit: String, tries: u32, error: &GitError) -> Result<RunState> {
        let OpenRun { task, marker, note, .. } = *self;
        // A connection that broke off once may hold in the next pass; a fetch that took too long will again.
        let pause = match tries {
            1 if !error.is_timeout() => Duration::ZERO,
            _ => marker::pause(tries, None),
        };
        let reason = format!(
            "its run in the exchange cannot be fetched: {error}; `git fetch {} {}` in {} takes the time that it needs, \
             and once that has worked the next pass goes on",
            escape(&note.url),
            Refs::of(marker.key).run,
            task.project.path().display()
        );
        let unfetched = Unfetched {
            commit: commit.clone(),
            tries,
            not_before: self.by.now().checked_add(pause).ok(),
            reason: reason.clone(),
        };
        self.change(|marker| {
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
}

/// Has the next pass ask for the job again. It gets as much time to be accepted as a new one.
pub(super) fn ask_again(marker: &mut Delegated, now: Timestamp) {
    marker.started_at = now;
    marker.phase = DelegationPhase::Submitting {
        // The request stands in the exchange's note.
        request: String::new(),
        ambiguous: true,
        tries: 0,
        not_before: None,
        reason: None,
    };
}

/// The words that a run was claimed and has no result, and where its work may lie, as far as its claim says that.
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

/// Whether a runner has begun: one was seen at work, or the job has succeeded, which needs a result at `run`.
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
