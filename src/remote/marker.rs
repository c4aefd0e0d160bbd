//! The marker beside a delegated task, and what to do about it as time passes. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Certainty, EngineKind, JobId};
use crate::event::{Event, EventKind};
use crate::marker::Stamp;
use crate::queue::TaskRef;
use crate::task::{Provider, TaskRules};

/// How long a task waits for a server that does not take it.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// A task is given up only after at least this many submissions.
const LEAST_TRIES: u32 = 5;
/// After this time a server may have forgotten a key: sent again, it could make a second job.
const KEY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause after the first submission; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);
/// The longest pause that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// `inbox/T.md.delegated`: an engine has the task, or is being given it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegated {
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The idempotency key: the same from the first submission to the filing, and the `run` in the
    /// ending line. With an exchange, a job that nobody began goes again under a new one.
    pub key: Uuid,
    /// The task's text as it was read. This text is filed, whatever happens to the file.
    pub text: String,
    pub provider: Provider,
    pub rule: String,
    pub started_at: Timestamp,
    /// Not written in the markers of secutools.
    #[serde(default, skip_serializing_if = "is_secutools")]
    pub engine: EngineKind,
    /// How the work goes to the engine and comes back; none at secutools, which gets no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeNote>,
    #[serde(flatten)]
    pub phase: DelegationPhase,
}

fn is_secutools(engine: &EngineKind) -> bool {
    *engine == EngineKind::Secutools
}

/// What a marker says of the exchange, where the run's ref decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeNote {
    pub url: String,
    /// The commit that the run starts from; its message is the prompt.
    pub base: String,
    /// Whether the engine may have been asked for the job. Until then no runner can begin.
    pub is_sent: bool,
    /// The project's commit that `base` stands on; then the branch that was checked out.
    pub head: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The body of the request, sent again where the engine has forgotten the job.
    pub request: String,
    /// The task's rules as they were when it was submitted, whatever becomes of the files that set them.
    pub rules: TaskRules,
    /// The claim of the runner that was seen at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The branch that takes the work, noted before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<String>,
    /// A result that came back and could not be fetched yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfetched: Option<Unfetched>,
    /// Whether `run` stays in the exchange after the filing: git refuses its objects, so there is no other copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_run: bool,
    /// How often a job ended before any runner began.
    #[serde(default)]
    pub restarts: u32,
}

/// A result whose fetch failed, or took longer than a pass has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfetched {
    pub commit: String,
    pub tries: u32,
    pub not_before: Option<Timestamp>,
    /// What is wrong, and what a person can do.
    pub reason: String,
}

impl Unfetched {
    /// Whether its next attempt is not due yet.
    pub(super) fn waits(&self, now: Timestamp) -> bool {
        !is_due(self.not_before, now)
    }
}

/// How far a delegated task has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub enum DelegationPhase {
    /// A submission is under way, was broken off by a kill, or will be repeated. The pass that submits
    /// holds a lock on the marker.
    Submitting {
        /// The request's body, sent as it is at every try.
        request: String,
        /// Whether a job may exist. True also while a submission is under way: if it is killed, its
        /// outcome is not known.
        ambiguous: bool,
        /// Submissions so far, each of up to three requests.
        tries: u32,
        not_before: Option<Timestamp>,
        reason: Option<String>,
    },
    Submitted {
        job_id: JobId,
        submitted_at: Timestamp,
        /// Since when nothing can be learned about the job: the server does not know it, or its answer
        /// is too long.
        unknown_since: Option<Timestamp>,
    },
}

impl Delegated {
    /// What a pass does about this marker; `may_send` is whether it may talk with the server.
    pub(super) fn next(&self, now: Timestamp, may_send: bool) -> Next {
        let DelegationPhase::Submitting { ambiguous, tries, not_before, .. } = self.phase else {
            return Next::Wait;
        };
        let age = between(self.started_at, now);
        let certainty = if ambiguous { Certainty::Ambiguous } else { Certainty::Later };
        match is_due(not_before, now) {
            false => Next::Wait,
            // With an exchange no key is too old: the ref `run` keeps a second job from doing the work again.
            true if may_send && (age < KEY_LIFE || self.exchange.is_some()) => Next::Send,
            true => self.judge(certainty, age, tries),
        }
    }

    /// See [`judge`]. With an exchange nothing stays ambiguous for ever: the ref shows it in the end.
    pub(super) fn judge(&self, certainty: Certainty, age: Duration, tries: u32) -> Next {
        match (&self.exchange, certainty) {
            (None, _) => judge(certainty, age, tries),
            (Some(_), Certainty::Ambiguous) => Next::Wait,
            (Some(_), _) if age >= LONGEST_WAIT => Next::RunLocally,
            (Some(_), _) => Next::Wait,
        }
    }

    pub fn job_id(&self) -> Option<&JobId> {
        match &self.phase {
            DelegationPhase::Submitting { .. } => None,
            DelegationPhase::Submitted { job_id, .. } => Some(job_id),
        }
    }

    /// Whether `other` is about the same submission and the same job.
    pub(super) fn is_same_submission(&self, other: &Delegated) -> bool {
        self.key == other.key && self.job_id() == other.job_id()
    }

    pub(super) fn event(&self, task: &TaskRef, kind: EventKind) -> Event {
        let event = task.event(kind).by(self.provider, None);
        Event { job_id: self.job_id().map(ToString::to_string), ..event }
    }
}

/// What to do about a task whose submission was not accepted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Send,
    /// Leave it to a later pass.
    Wait,
    /// There is no job: a session gets the task.
    RunLocally,
    /// There may be a job, and no answer will show whether there is: file the task as failed.
    GiveUp,
}

/// Judges a submission that was not accepted: by what all its tries together say, the time since the
/// first one, and their number.
fn judge(certainty: Certainty, age: Duration, tries: u32) -> Next {
    match certainty {
        Certainty::NeverReached | Certainty::Refused => Next::RunLocally,
        Certainty::Later if age >= LONGEST_WAIT => Next::RunLocally,
        Certainty::Ambiguous
            if age >= KEY_LIFE || (age >= LONGEST_WAIT && tries >= LEAST_TRIES) =>
        {
            Next::GiveUp
        }
        Certainty::Later | Certainty::Ambiguous => Next::Wait,
    }
}

/// How long to wait after the `tries`th submission: what the server asked for, else a minute,
/// doubling to ten.
pub(super) fn pause(tries: u32, asked_for: Option<Duration>) -> Duration {
    // Ten reach the longest pause; a larger power could overflow.
    let doublings = tries.saturating_sub(1).min(10);
    asked_for.unwrap_or((FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE))
}

/// Whether `not_before` has come. A time further off than a server may ask for was written under a wrong clock, and
/// does not count.
fn is_due(not_before: Option<Timestamp>, now: Timestamp) -> bool {
    not_before.is_none_or(|then| then <= now || between(now, then) > LONGEST_RETRY_AFTER)
}

/// The time from `start` to `now`; zero if the clock was set back.
pub(super) fn between(start: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(start).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Certainty::{Ambiguous, Later, NeverReached, Refused};
    use super::Next::{GiveUp, RunLocally, Send, Wait};
    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;

    #[test]
    fn time_and_tries_decide_what_is_not_certain() {
        for (certainty, age, tries, next) in [
            (NeverReached, 0, 1, RunLocally),
            (Refused, 0, 1, RunLocally),
            (Later, HOUR - 1, 99, Wait),
            (Later, HOUR, 1, RunLocally),
            (Ambiguous, HOUR - 1, 99, Wait),
            (Ambiguous, HOUR, 4, Wait),
            (Ambiguous, HOUR, 5, GiveUp),
            (Ambiguous, 24 * HOUR - 1, 4, Wait),
            (Ambiguous, 24 * HOUR, 1, GiveUp),
        ] {
            let judged = judge(certainty, Duration::from_secs(age), tries);
            assert_eq!(judged, next, "{certainty:?} after {age} s and {tries} tries");
        }
    }

    #[test]
    fn what_an_earlier_pass_has_left_is_sent_again_when_its_time_has_come() {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let later = |seconds: u64| start.checked_add(Duration::from_secs(seconds)).unwrap();
        // The age; whether it is ambiguous, after how many tries; seconds until `not_before`.
        for (age, ambiguous, tries, rest, may_send, next) in [
            (MINUTE, true, 0, None, true, Send),
            (MINUTE, false, 1, Some(0), true, Send),
            (MINUTE, false, 1, Some(1), true, Wait),
            (MINUTE, false, 1, Some(HOUR + 1), true, Send),
            (MINUTE, true, 1, None, false, Wait),
            (HOUR, false, 1, None, true, Send),
            (HOUR, false, 1, None, false, RunLocally),
            (HOUR, false, 1, Some(1), false, Wait),
            (HOUR, true, 4, None, false, Wait),
            (HOUR, true, 5, None, false, GiveUp),
            (24 * HOUR - 1, true, 9, None, true, Send),
            (24 * HOUR, true, 1, None, true, GiveUp),
            (24 * HOUR, false, 1, None, true, RunLocally),
        ] {
            let marker = Delegated {
                stamp: Stamp::new("box", start),
                key: Uuid::nil(),
                text: "Do it.".to_owned(),
                provider: Provider::Gpu,
                rule: "auto".to_owned(),
                started_at: start,
                engine: EngineKind::Secutools,
                exchange: None,
                phase: DelegationPhase::Submitting {
                    request: "{}".to_owned(),
                    ambiguous,
                    tries,
                    not_before: rest.map(|seconds| later(age + seconds)),
                    reason: None,
                },
            };
            assert_eq!(marker.next(later(age), may_send), next, "{marker:?} after {age} s");
        }
    }

    /// The ref decides in the end: nothing is given up for its age, and the key lives as long as the task.
    #[test]
    fn with_an_exchange_what_is_not_certain_waits_and_what_was_never_taken_runs_here_after_an_hour()
    {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let text = format!(
            r#"{{"version":1,"host":"box","at":"2026-01-02T03:04:05Z","key":"{}","text":"Do it.","provider":"remote","rule":"auto","started_at":"2026-01-02T03:04:05Z","engine":"ray","exchange":{{"url":"/x.git","base":"b","is_sent":true,"head":"h","branch":"main","request":"{{}}","rules":{},"restarts":1}},"phase":"submitting","request":"","ambiguous":true,"tries":9,"not_before":null,"reason":null}}"#,
            Uuid::nil(),
            serde_json::to_string(&TaskRules::default()).unwrap()
        );
        let marker: Delegated = crate::marker::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&marker).unwrap(), text);
        for (age, certainty, next) in
            [(HOUR - 1, Later, Wait), (HOUR, Later, RunLocally), (48 * HOUR, Ambiguous, Wait)]
        {
            let judged = marker.judge(certainty, Duration::from_secs(age), 9);
            assert_eq!(judged, next, "{certainty:?} after {age} s");
        }
        let later = start.checked_add(Duration::from_secs(48 * HOUR)).unwrap();
        assert_eq!((marker.next(later, true), marker.next(later, false)), (Send, Wait));
    }

    #[test]
    fn the_pause_doubles_to_ten_minutes_unless_the_server_names_one() {
        let minutes: Vec<u64> =
            (1..=7).map(|tries| pause(tries, None).as_secs() / MINUTE).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(pause(u32::MAX, None).as_secs(), 10 * MINUTE);
        assert_eq!(pause(3, Some(Duration::from_secs(7))).as_secs(), 7);
    }

    #[test]
    fn the_marker_is_plain_json_in_both_phases() {
        let text = |rest: &str| {
            format!(
                r#"{{"version":1,"host":"box","at":"2026-01-02T03:04:05Z","key":"{}","text":"Do it.","provider":"gpu","rule":"auto","started_at":"2026-01-02T03:04:05Z",{rest}}}"#,
                Uuid::nil()
            )
        };
        for rest in [
            r#""phase":"submitting","request":"{}","ambiguous":true,"tries":2,"not_before":"2026-01-02T03:05:05Z","reason":"busy""#,
            r#""phase":"submitted","job_id":"j1","submitted_at":"2026-01-02T03:04:06Z","unknown_since":null"#,
        ] {
            let marker: Delegated = crate::marker::parse(text(rest).as_bytes()).unwrap();
            assert_eq!(serde_json::to_string(&marker).unwrap(), text(rest));
            // An older ccl wrote a hash of the text, too.
            let older = text(rest).replace(r#""provider""#, r#""sha256":"00","provider""#);
            assert_eq!(crate::marker::parse::<Delegated>(older.as_bytes()).unwrap(), marker);
        }
        let bad = r#""phase":"submitted","job_id":"../x","submitted_at":"2026-01-02T03:04:06Z""#;
        assert!(crate::marker::parse::<Delegated>(text(bad).as_bytes()).is_err());
    }
}
