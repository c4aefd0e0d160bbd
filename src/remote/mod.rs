//! Delegation: a task goes to an engine as a job, and comes back exactly once.
//!
//! ```text
//! inbox/T.md                       waiting
//!   | begin: write T.md.delegated, phase submitting, and lock it     (under the project's lock)
//!   | send:  POST with the marker's key and bytes
//!   |          accepted               -> phase submitted, with the job's id
//!   |          no job, for certain    -> remove the marker: a session gets the task
//!   |          later, or not known    -> keep the marker; resume it in a later pass
//! inbox/T.md + T.md.delegated      at the engine
//!   | cancel: POST …/cancel, if a person asks for it; then as poll
//!   | poll:  GET; once it has ended, file:                           (under the project's lock)
//!   |          write done/T.md or failed/T.md, remove T.md, then the marker
//! done/T.md, failed/T.md
//! ```
//!
//! The marker is written before the first byte is sent, and while it says `submitting` without an
//! outcome, a job may exist. So what a killed pass leaves is resumed with the same key and the
//! same bytes: the server makes one job of them.
//!
//! The job's life is [`submit`], [`poll`], [`filing`] and [`cancel`], with what they write down in
//! [`marker`]. It knows nothing of HTTP: [`engine`] is [`secutools`] or [`ray`], over [`http`] and [`answer`];
//! what all sides speak of is in [`crate::job`] and [`error`]. At Ray the work goes by an [`exchange`], where [`run`]
//! decides until its [`ending`], and a [`result`] comes back with its agent's [`output`].

mod answer;
mod cancel;
mod ending;
mod engine;
mod error;
mod exchange;
mod filing;
pub mod http;
mod marker;
mod output;
mod poll;
mod ray;
mod result;
mod run;
pub mod secutools;
mod status;
mod submit;

use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::concurrent::{self, locked};
use crate::config::{Config, Secutools};
use crate::durable;
use crate::error::Failure;
use crate::event::Event;
use crate::log::Log;
use crate::marker::{self as markers, Stamp};
use crate::queue::{Project, TaskRef, WaitingTask};
use crate::records::Records;
use crate::router::Decision;
use crate::task::Provider;
use secutools::Client;

pub use crate::job::{Accepted, EngineKind, Job, JobId, JobStatus};
pub(crate) use engine::{Departure, Engine, departure, ray_client};
pub use error::{Certainty, EngineError, ErrorKind, NotAccepted, ServerState};
pub use http::Limits;
pub use marker::{Delegated, DelegationPhase, ExchangeNote, Unfetched};
pub use status::job_row;
pub(crate) use status::{engine_of, leaving_keys};

/// No request begins later than this after the pass has begun with the engine. What is left then
/// waits for the next pass, and a slow server does not hold up what runs here.
const TIME_BUDGET: Duration = Duration::from_secs(60);

/// All that one pass has to do with the engine. Threads share it as `&Delegation`.
pub struct Delegation<'a> {
    host: &'a str,
    log: &'a Log,
    /// Where work is recorded; `None` in tests.
    records: Option<&'a Records<'a>>,
    engine: Engine<'a>,
    /// The pass's time, and the moment at which it was handed over: the clock is read once per pass.
    now: (Timestamp, Instant),
    /// A dry run decides and returns what would be done, but changes nothing on the disk and submits
    /// nothing. It still asks the server about jobs.
    dry_run: bool,
    /// Whether the server has answered in this pass.
    answered: AtomicBool,
    stopped: Mutex<Option<StopReason>>,
    /// Taken before a project's lock and held as long: the threads of one pass wait for each other
    /// here, and do not compete with other passes for the file's lock.
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
    /// Nothing new: it is being worked on, its next try is not due yet, or another process has it.
    Nothing,
    /// An error that concerns this task alone. Its marker is unchanged.
    Failed(anyhow::Error),
}

impl<'a> Delegation<'a> {
    /// One `Delegation` for each configured engine; none where delegation is off. No connection is
    /// made yet. The error: a proxy that cannot be used.
    pub(crate) fn open(
        config: &'a Config,
        log: &'a Log,
        records: &'a Records<'a>,
        now: Timestamp,
        dry_run: bool,
    ) -> Vec<Result<Self>> {
        let kinds = [EngineKind::Secutools, EngineKind::Ray];
        let engines = kinds.into_iter().filter_map(|kind| {
            Some(Engine::of(kind, config, Limits::default()).transpose()?.map(|engine| {
                Self::of(engine, &config.host, log, now, dry_run).with_records(records)
            }))
        });
        engines.collect()
    }

    /// The `Delegation` for the engine that has the task.
    pub(crate) fn for_task(
        task: &TaskRef,
        config: &'a Config,
        log: &'a Log,
        now: Timestamp,
    ) -> Result<Self> {
        let kind = engine_of(task)?;
        let engine = Engine::of(kind, config, Limits::default())?.ok_or_else(|| {
            Failure::Config(format!(
                "it is delegated, and {} cannot be asked: {}",
                kind.as_str(),
                why_off(kind, config)
            ))
        })?;
        Ok(Self::of(engine, &config.host, log, now, false))
    }

    pub fn new(
        secutools: &Secutools,
        host: &'a str,
        log: &'a Log,
        now: Timestamp,
        limits: Limits,
        dry_run: bool,
    ) -> Result<Self> {
        let engine = Engine::Secutools(Box::new(client(secutools, limits)?));
        Ok(Self::of(engine, host, log, now, dry_run))
    }

    fn of(engine: Engine<'a>, host: &'a str, log: &'a Log, now: Timestamp, dry_run: bool) -> Self {
        Self {
            host,
            log,
            records: None,
            engine,
            now: (now, Instant::now()),
            dry_run,
            answered: AtomicBool::new(false),
            stopped: Mutex::new(None),
            local_lock: Mutex::new(()),
        }
    }

    /// Whether tasks of the provider go to this engine.
    pub(crate) fn takes(&self, provider: Provider) -> bool {
        provider.is_remote() && EngineKind::of(provider) == self.engine.kind()
    }

    /// Has this delegation record its work there.
    pub(crate) fn with_records(self, records: &'a Records<'a>) -> Self {
        Self { records: Some(records), ..self }
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
                "this pass has talked with {} for {} s: what is left waits for the next pass",
                self.engine.name(),
                TIME_BUDGET.as_secs()
            ));
            *stopped = Some(StopReason::TimeUp);
        }
        stopped.clone()
    }

    /// Notes what a request's outcome says about the server; `None`: it answered.
    fn note_exchange(&self, error: Option<&EngineError>) {
        let Some(error) = error else {
            return self.answered.store(true, Ordering::Relaxed);
        };
        let text = &error.text;
        let mut stopped = locked(&self.stopped);
        match (error.kind.server_state(), &*stopped) {
            (ServerState::Answering, _) => self.answered.store(true, Ordering::Relaxed),
            // A refused key is the graver reason, and an error of the pass: silence does not replace it.
            (_, Some(StopReason::Unauthorized(_))) | (ServerState::Silent, Some(_)) => {}
            (ServerState::Silent, None) => {
                self.log
                    .warn(format_args!("{text}; nothing more is asked of the server in this pass"));
                *stopped = Some(StopReason::Silent(text.clone()));
            }
            (ServerState::Unauthorized, _) => {
                let key = match self.engine.kind() {
                    EngineKind::Secutools => "the secutools API key",
                    EngineKind::Ray => "the token in remote.token_file",
                };
                self.log.error(format_args!(
                    "{text}; check {key}. Nothing more is asked of the server in this pass"
                ));
                *stopped = Some(StopReason::Unauthorized(text.clone()));
            }
        }
    }

    /// Changes a marker, unless it belongs to another submission by now; true if it did.
    fn change(
        &self,
        task: &TaskRef,
        marker: &Delegated,
        change: impl FnOnce(&mut Delegated),
    ) -> Result<bool> {
        self.change_with(task, marker, |_, marker| {
            change(marker);
            Ok(())
        })
    }

    fn change_with(
        &self,
        task: &TaskRef,
        marker: &Delegated,
        change: impl FnOnce(&Project, &mut Delegated) -> Result<()>,
    ) -> Result<bool> {
        if self.dry_run {
            return Ok(true);
        }
        let _local = locked(&self.local_lock);
        let _lock = task.project.lock()?;
        let Some(mut current) = current(task, marker)? else { return Ok(false) };
        change(&task.project, &mut current)?;
        current.stamp = Stamp::new(self.host, self.now());
        save(task, &current)?;
        Ok(true)
    }
}

/// Why an engine is not asked for anything.
pub(crate) fn why_off(kind: EngineKind, config: &Config) -> String {
    match (kind, &config.secutools) {
        (EngineKind::Ray, _) => "there is no `remote:` in the configuration".to_owned(),
        (EngineKind::Secutools, Err(off)) => off.to_string(),
        (EngineKind::Secutools, Ok(_)) => String::new(),
    }
}

/// The task's marker as it is on disk now; `None` where another pass has filed the task or begun anew since `marker` was
/// read.
fn current(task: &TaskRef, marker: &Delegated) -> Result<Option<Delegated>> {
    let current = markers::read::<Delegated>(&task.project.delegated_path(&task.name))?;
    Ok(current.filter(|current| current.is_same_submission(marker)))
}

/// Replaces the task's marker and keeps the file's permissions.
fn save(task: &TaskRef, marker: &Delegated) -> Result<()> {
    let path = task.project.delegated_path(&task.name);
    let mode =
        path.symlink_metadata().map_or(durable::PRIVATE, |found| found.mode() & durable::SHARED);
    let json =
        serde_json::to_vec(marker).with_context(|| format!("cannot write {}", path.display()))?;
    durable::write(&path, &json, mode)
}

pub(crate) fn client(secutools: &Secutools, limits: Limits) -> Result<Client> {
    let (key, proxy) = (secutools.api_key.expose(), secutools.proxy.as_deref());
    Client::new(secutools.url.clone(), key, proxy, limits)
        .with_context(|| Failure::Config("cannot talk with secutools".to_owned()))
}
