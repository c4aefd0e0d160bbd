//! Delegation: tasks go to secutools and come back, exactly once (DESIGN section 7).
//!
//! ```text
//! inbox/T.md                       waiting
//!   | begin: write T.md.delegated, phase submitting, and lock it     (under the project's lock)
//!   | send:  POST with the marker's key and bytes
//!   |          accepted               -> phase submitted, with the job's id
//!   |          no job, for certain    -> remove the marker: a session gets the task
//!   |          later, or nobody knows -> keep the marker; resume it in a later pass
//! inbox/T.md + T.md.delegated      at secutools
//!   | cancel: POST …/cancel, if a person wishes; then as poll
//!   | poll:  GET; once it has ended, file:                           (under the project's lock)
//!   |          write done/T.md or failed/T.md, remove T.md, then the marker
//! done/T.md, failed/T.md
//! ```
//!
//! The marker is there before the first byte is sent, and while it says `submitting` without an
//! outcome, a job may exist. So whatever a killed pass leaves is resumed with the same key and the
//! same bytes: the server makes one job of them.

mod cancel;
mod error;
mod filing;
pub mod http;
mod job;
mod marker;
mod poll;
pub mod secutools;
mod status;
mod submit;
mod turns;
mod url;

use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::config::{Config, Secutools};
use crate::durable;
use crate::error::Failure;
use crate::event::{Event, EventKind};
use crate::log::Log;
use crate::queue::{Seen, TaskRef};
use crate::router::Rule;
use crate::task::{Provider, Task};
use secutools::Client;

pub use error::{ApiError, Certainty, ErrorKind, NotAccepted, ServerState};
pub use http::Limits;
pub use job::{Accepted, Job, JobId, Status};
pub use marker::{Delegated, Phase};
pub use status::job_row;
pub use url::ServerUrl;

/// No new talk with the server begins later than this after the pass's first: what is left then
/// waits for the next pass, and a slow server does not hold up what runs here.
const TIME_BUDGET: Duration = Duration::from_secs(60);

/// Everything that one pass has to say to secutools. Share it as `&Delegation`.
pub struct Delegation<'a> {
    host: &'a str,
    log: &'a Log,
    client: Client,
    /// The pass's time, and when it was handed to us: the clock is read once.
    now: (Timestamp, Instant),
    answered: AtomicBool,
    stopped: Mutex<Option<StopReason>>,
    /// Held by the thread that locks a project: a file's lock is polled for, and threads of one
    /// pass had better wait for each other here.
    local_lock: Mutex<()>,
}

/// Why nothing more is said to the server in this pass.
#[derive(Debug, Clone)]
enum StopReason {
    /// It cannot be reached, or did not answer in time.
    Silent(String),
    /// It refuses our key.
    Unauthorized(String),
    /// The pass has talked for long enough.
    TimeUp,
}

/// A waiting task that the router sends to secutools: its text, and the decision made on it.
#[derive(Debug)]
pub struct Candidate {
    /// Which task.
    pub task: TaskRef,
    /// The file as it was read.
    pub seen: Seen,
    /// All of its text.
    pub text: String,
    /// The same, understood.
    pub parsed: Task,
    /// Who shall work on it; a remote one.
    pub provider: Provider,
    /// Why.
    pub rule: Rule,
}

/// What became of a task in this pass.
#[derive(Debug)]
pub enum Outcome {
    /// It was delegated, filed as done or failed, or is held for a later pass with its reason.
    Event(Event),
    /// There is no job of it and no marker: give it to a session in this pass.
    RunLocally {
        /// Why secutools does not have it.
        reason: String,
    },
    /// Nothing new: it is being worked on, its time has not come, or another process has it.
    Nothing,
}

/// A task and what became of it.
#[derive(Debug)]
pub struct Settled {
    /// Which task.
    pub task: TaskRef,
    /// What became of it. An error regards this task alone; its marker lies as it lay.
    pub outcome: Result<Outcome>,
}

/// Replaces the task's marker, which stays readable for whom it was.
fn save(task: &TaskRef, marker: &Delegated) -> Result<()> {
    let path = task.project.delegated_path(&task.name);
    let mode =
        path.symlink_metadata().map_or(durable::PRIVATE, |found| found.mode() & durable::SHARED);
    durable::write(&path, &serde_json::to_vec(marker)?, mode)
}

impl Candidate {
    /// What would happen to it: for a dry run.
    pub fn would_be_delegated(&self) -> Event {
        let event = self.task.event(EventKind::Delegated).by(self.provider, None);
        Event { reason: Some(self.rule.to_string()), ..event }
    }
}

impl<'a> Delegation<'a> {
    /// What talks to the configured server; `None` where delegation is off. No connection is made
    /// yet.
    ///
    /// # Errors
    /// A proxy that cannot be used.
    pub fn open(config: &'a Config, log: &'a Log, now: Timestamp) -> Result<Option<Self>> {
        match &config.secutools {
            Ok(secutools) => {
                Self::new(secutools, &config.host, log, now, Limits::default()).map(Some)
            }
            Err(_) => Ok(None),
        }
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// A proxy that cannot be used.
    pub fn new(
        secutools: &Secutools,
        host: &'a str,
        log: &'a Log,
        now: Timestamp,
        limits: Limits,
    ) -> Result<Self> {
        Ok(Self {
            host,
            log,
            client: client(secutools, limits)?,
            now: (now, Instant::now()),
            answered: AtomicBool::new(false),
            stopped: Mutex::new(None),
            local_lock: Mutex::new(()),
        })
    }

    /// Whether the server has refused our key: then the pass has failed. It was said already.
    pub fn is_unauthorized(&self) -> bool {
        matches!(*locked(&self.stopped), Some(StopReason::Unauthorized(_)))
    }

    /// The pass's time, moved on by how long the pass has taken.
    fn now(&self) -> Timestamp {
        let (now, since) = self.now;
        now.checked_add(since.elapsed()).unwrap_or(now)
    }

    /// Whether there is to be no more talk in this pass, and why.
    fn stopped(&self) -> Option<StopReason> {
        let mut stopped = locked(&self.stopped);
        if stopped.is_none() && self.now.1.elapsed() > TIME_BUDGET {
            self.log.warn(format_args!(
                "this pass has talked with secutools for {} s; the rest waits for the next one",
                TIME_BUDGET.as_secs()
            ));
            *stopped = Some(StopReason::TimeUp);
        }
        stopped.clone()
    }

    /// Whether several requests may be under way at once.
    fn is_answering(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Takes note of what an exchange says about the server.
    fn note_exchange(&self, error: Option<&ApiError>) {
        let (text, state) = match error {
            None => return self.answered.store(true, Ordering::Relaxed),
            Some(error) => (&error.text, error.kind.server_state()),
        };
        let mut stopped = locked(&self.stopped);
        match (state, &*stopped) {
            (ServerState::Answering, _) => self.answered.store(true, Ordering::Relaxed),
            // That the key is refused is the graver reason, and an error of the pass.
            (_, Some(StopReason::Unauthorized(_))) | (ServerState::Silent, Some(_)) => {}
            (ServerState::Silent, None) => {
                self.log
                    .warn(format_args!("{text}; nothing more is asked of the server in this pass"));
                *stopped = Some(StopReason::Silent(text.clone()));
            }
            (ServerState::Unauthorized, _) => {
                self.log.error(format_args!(
                    "{text}; check the secutools API key. Nothing more is asked of the server in this pass"
                ));
                *stopped = Some(StopReason::Unauthorized(text.clone()));
            }
        }
    }
}

/// A client for the configured server.
///
/// # Errors
/// A proxy that cannot be used.
pub fn client(secutools: &Secutools, limits: Limits) -> Result<Client> {
    Client::new(
        secutools.url.clone(),
        secutools.api_key.expose(),
        secutools.proxy.as_deref(),
        limits,
    )
    .with_context(|| Failure::Config("cannot talk with secutools".to_owned()))
}

/// A mutex's value, also after a thread that held it has panicked: none of ours is ever half
/// changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
