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

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::engine::RayEngine;
use super::marker::{self, Delegated, DelegationPhase, ExchangeNote, Unfetched};
use super::run::{self, Refs, RunCommit, RunResult, Tombstone, Why, Workplace};
use super::{Delegation, EngineError, ErrorKind, Job, JobStatus, RemoteOutcome, TIME_BUDGET};
use crate::checkout::{EXCHANGE_LIMIT, Exchange, GitError};
use crate::queue::TaskRef;
use crate::text::{escape, excerpt};

/// What an engine's or an agent's own errors are cut to in a sentence.
pub(super) const LONGEST_ERROR: usize = 300;

/// One delegated task whose work goes by an exchange, and those with whom a pass speaks of it.
#[derive(Clone, Copy)]
pub(super) struct OpenRun<'a> {
    pub(super) by: &'a Delegation<'a>,
    pub(super) ray: &'a RayEngine<'a>,
    pub(super) task: &'a TaskRef,
    pub(super) marker: &'a Delegated,
    /// That of the marker.
    pub(super) note: &'a ExchangeNote,
}

/// What `run` is at the moment.
pub(super) enum RunState {
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

impl OpenRun<'_> {
    pub(super) fn exchange(&self) -> Exchange<'_> {
        Exchange { project: self.task.project.path(), url: &self.note.url }
    }

    /// Changes the marker; false where another pass has ended this run.
    pub(super) fn change(&self, change: impl FnOnce(&mut Delegated)) -> Result<bool> {
        self.by.change(self.task, self.marker, change)
    }

    /// Does what the table says.
    pub(super) fn poll(&self, answer: Result<Job, EngineError>) -> Result<RemoteOutcome> {
        let OpenRun { task, marker, note, .. } = *self;
        let exchange = self.exchange();
        let seen = self.look()?;
        // A submission that is under way, or whose outcome is not known, goes on by itself.
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
            // Somebody else has removed what a runner had put there: it is not to be done twice.
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
                    // It was logged once, for all jobs.
                    Err(_) => {}
                }
                match seen {
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

    /// What `run` is. Whatever it names that was not seen before is fetched.
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
        // A person may have brought it here by hand meanwhile.
        let unfetched = note.unfetched.as_ref().filter(|it| it.commit == commit);
        if unfetched.is_some_and(|it| it.waits(self.by.now())) && !exchange.has(&commit)? {
            return Ok(RunState::Unfetched(commit));
        }
        // Also where its commit is here already: another git may have left all but that away.
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
    fn note_unfetched(&self, commit: String, tries: u32, error: &GitError) -> Result<RunState> {
        let OpenRun { task, marker, note, .. } = *self;
        // A connection that has broken off once may hold in the next pass.
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

/// The job is to be asked for in the next pass, and has as long as a new one to get there.
pub(super) fn ask_again(marker: &mut Delegated, now: Timestamp) {
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
