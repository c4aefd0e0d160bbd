//! Delegation: a task goes to an engine as a job, and comes back exactly once.
//!
//! ```text
//! inbox/T.md                       waiting
//!   | begin: write T.md.delegated, phase submitting, and lock it     (under the project's lock)
//!   | send:  POST with the marker's key and bytes
//!   |          accepted               -> phase submitted, with the job's id
//!   |          no job, for certain    -> remove the marker: a session gets the task
//!   |          later, or nobody knows -> keep the marker; resume it in a later pass
//! inbox/T.md + T.md.delegated      at secutools
//!   | cancel: POST …/cancel, if a person asks for it; then as poll
//!   | poll:  GET; once it has ended, file:                           (under the project's lock)
//!   |          write done/T.md or failed/T.md, remove T.md, then the marker
//! done/T.md, failed/T.md
//! ```
//!
//! The marker is there before the first byte is sent, and while it says `submitting` without an
//! outcome, a job may exist. So whatever a killed pass leaves is resumed with the same key and the
//! same bytes: the server makes one job of them.
//!
//! The job's life is [`submit`], [`poll`], [`filing`] and [`cancel`], with what they write down in
//! [`marker`]. It knows nothing of HTTP: [`secutools`] is the engine, over [`http`];
//! what both sides speak of is in [`crate::job`] and [`error`].

mod cancel;
mod error;
mod filing;
pub mod http;
mod marker;
mod poll;
pub mod secutools;
mod status;
mod submit;

use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::account::Account;
use crate::concurrent::{self, locked};
use crate::config::{Config, Secutools};
use crate::durable;
use crate::error::Failure;
use crate::event::Event;
use crate::log::Log;
use crate::queue::{TaskRef, WaitingTask};
use crate::router::Decision;
use secutools::Client;

pub use crate::job::{Accepted, Job, JobId, JobStatus};
pub use error::{Certainty, EngineError, ErrorKind, NotAccepted, ServerState};
pub use http::Limits;
pub use marker::{Delegated, DelegationPhase};
pub use status::job_row;

/// No request begins later than this after the pass's first: what is left then waits for the next
/// pass, and a slow server does not hold up what runs here.
const TIME_BUDGET: Duration = Duration::from_secs(60);

/// All that one pass has to do with the engine. Threads share it as `&Delegation`.
pub struct Delegation<'a> {
    host: &'a str,
    log: &'a Log,
    /// Where it is told; nowhere, where nobody wants to know.
    account: Option<&'a Account<'a>>,
    client: Client,
    /// The pass's time, and when it was handed to us: the clock is read once.
    now: (Timestamp, Instant),
    /// What would be done is decided and returned as ever, but nothing is changed on the disk and
    /// nothing submitted. The server is asked about jobs all the same.
    dry_run: bool,
    /// Whether the server has answered in this pass.
    answered: AtomicBool,
    stopped: Mutex<Option<StopReason>>,
    /// Held while a project's lock is: threads of one pass wait for each other here, and do not
    /// compete with other passes for the file's lock.
    local_lock: Mutex<()>,
}

/// Why nothing more is asked of the server in this pass.
#[derive(Debug, Clone)]
enum StopReason {
    /// It cannot be reached, or did not answer in time.
    Silent(String),
    /// It refuses our key.
    Unauthorized(String),
    /// The time budget is used up.
    TimeUp,
}

/// A waiting task, and the decision to give it to the engine.
#[derive(Debug)]
pub struct Submission {
    pub waiting: WaitingTask,
    pub decision: Decision,
}

/// What became of a task in this pass.
#[derive(Debug)]
pub enum RemoteOutcome {
    /// It was delegated, filed as done or failed, or is held for a later pass with its reason.
    Event(Event),
    /// There is no job of it and no marker: give it to a session in this pass. The reason is why
    /// the engine does not have it.
    RunLocally { reason: String },
    /// Nothing new: it is being worked on, its time has not come, or another process has it.
    Nothing,
    /// An error that regards this task alone. Its marker lies as it lay.
    Failed(anyhow::Error),
}

impl<'a> Delegation<'a> {
    /// What talks to the configured server; `None` where delegation is off. No connection is made
    /// yet. The error: a proxy that cannot be used.
    pub(crate) fn open(
        config: &'a Config,
        log: &'a Log,
        account: &'a Account<'a>,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Option<Self>> {
        let Ok(secutools) = &config.secutools else {
            return Ok(None);
        };
        let new = Self::new(secutools, &config.host, log, now, Limits::default(), dry_run)?;
        Ok(Some(new.telling(account)))
    }

    pub fn new(
        secutools: &Secutools,
        host: &'a str,
        log: &'a Log,
        now: Timestamp,
        limits: Limits,
        dry_run: bool,
    ) -> Result<Self> {
        Ok(Self {
            host,
            log,
            account: None,
            client: client(secutools, limits)?,
            now: (now, Instant::now()),
            dry_run,
            answered: AtomicBool::new(false),
            stopped: Mutex::new(None),
            local_lock: Mutex::new(()),
        })
    }

    /// The same, which tells of its work.
    pub(crate) fn telling(self, account: &'a Account<'a>) -> Self {
        Self { account: Some(account), ..self }
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether the server has refused our key: then the pass has failed. It was logged already.
    pub fn is_unauthorized(&self) -> bool {
        matches!(*locked(&self.stopped), Some(StopReason::Unauthorized(_)))
    }

    /// Takes one step for each item: one at a time until the server has answered, then several at
    /// once.
    fn map_requests<T: Send>(
        &self,
        items: Vec<T>,
        step: impl Fn(T) -> (TaskRef, Result<RemoteOutcome>) + Sync,
    ) -> Vec<(TaskRef, RemoteOutcome)> {
        let has_answered = || self.answered.load(Ordering::Relaxed);
        concurrent::map_requests(items, has_answered, |item| {
            let (task, outcome) = step(item);
            (task, outcome.unwrap_or_else(RemoteOutcome::Failed))
        })
    }

    /// The pass's time, moved on by how long the pass has taken.
    fn now(&self) -> Timestamp {
        let (now, since) = self.now;
        now.checked_add(since.elapsed()).unwrap_or(now)
    }

    /// Why nothing more is to be asked in this pass.
    fn stopped(&self) -> Option<StopReason> {
        let mut stopped = locked(&self.stopped);
        if stopped.is_none() && self.now.1.elapsed() > TIME_BUDGET {
            self.log.warn(format_args!(
                "this pass has talked with secutools for {} s: what is left waits for the next pass",
                TIME_BUDGET.as_secs()
            ));
            *stopped = Some(StopReason::TimeUp);
        }
        stopped.clone()
    }

    /// Takes note of what an exchange says about the server.
    fn note_exchange(&self, error: Option<&EngineError>) {
        let Some(error) = error else {
            return self.answered.store(true, Ordering::Relaxed);
        };
        let text = &error.text;
        let mut stopped = locked(&self.stopped);
        match (error.kind.server_state(), &*stopped) {
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

/// Replaces the task's marker, which keeps its permissions.
fn save(task: &TaskRef, marker: &Delegated) -> Result<()> {
    let path = task.project.delegated_path(&task.name);
    let mode =
        path.symlink_metadata().map_or(durable::PRIVATE, |found| found.mode() & durable::SHARED);
    durable::write(&path, &serde_json::to_vec(marker)?, mode)
}

pub(crate) fn client(secutools: &Secutools, limits: Limits) -> Result<Client> {
    let (key, proxy) = (secutools.api_key.expose(), secutools.proxy.as_deref());
    Client::new(secutools.url.clone(), key, proxy, limits)
        .with_context(|| Failure::Config("cannot talk with secutools".to_owned()))
}
