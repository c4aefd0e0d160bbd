//! The pool: its sessions, which of them are free, and what each one's agent is doing.
//!
//! An agent runs in a window of its own. [`launch`] gives a free session ([`Slot`]) a task; [`reconcile`] files what its
//! agent did, and sets right what a killed pass left in it. Both act under the session's lock. The claim beside the task
//! is what counts; the session's marker only points to it, and goes last.

mod attempt;
mod budget;
mod checking;
mod evidence;
mod files;
mod filing;
mod landing_turn;
mod launch;
mod reconcile;
mod rounds;
mod server;
mod snapshot;
mod step_events;
mod time_limit;
mod worktree;

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::checkout::Repository;
use crate::config::Config;
use crate::error::Failure;
use crate::hold::Holds;
use crate::lock::Lock;
use crate::log::Log;
use crate::marker::{Cooldown, PaneId, Stamp};
use crate::owner;
use crate::process::{self, Writers};
use crate::queue::WaitingTask;
use crate::records::Records;
use crate::task::TaskRules;
use crate::text::local_time;
use crate::tmux::{Pane, Tmux, TmuxError};
use server::{Panes, PanesNow};

pub use files::Session;
pub(crate) use files::marked;
pub(crate) use files::{attention_cooldowns, sweep};
pub(crate) use snapshot::{Reading, Trigger};
pub(crate) use worktree::NOT_WHAT_WAS_GREEN;

/// A person who pressed a key this recently is still looking at the session.
const ATTENDED: SignedDuration = SignedDuration::from_secs(60);

/// Login services: what was started in them outlives them. Without a login manager user sessions live in their cgroup.
const LOGIN_SERVICES: &[&str] = &["ssh.service", "sshd.service", "cron.service", "crond.service"];

/// What a session without a marker can be used for.
#[derive(Debug)]
pub(crate) enum Availability {
    Free,
    /// tmux has no session of this name.
    Missing,
    CoolingDown(Cooldown),
    /// A person used it within the last minute.
    InUse,
    /// Something runs in it; a sentence about what.
    Busy(String),
}

/// A free session whose lock is held.
#[derive(Debug)]
pub struct Slot {
    session: Session,
    /// tmux has it; else it is made when a task is launched.
    exists: bool,
    _lock: Lock,
}

/// A waiting task, with the rules that apply to it and the agent that gets it.
#[derive(Debug)]
pub struct Assignment {
    pub task: WaitingTask,
    pub rules: TaskRules,
    /// How many others of the project may be at work beside it; `None` for any number.
    pub max_others: Option<usize>,
    /// The repository in which its worktree is made; none where the task has no worktree.
    pub(crate) repository: Option<Repository>,
    pub(crate) who: ChosenAgent,
}

/// The agent that a task is given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenAgent {
    pub(crate) name: String,
    /// `None` where it is not Claude Code.
    pub(crate) model: Option<String>,
    /// The task is the probe that shows whether the agent's hold has ended.
    pub(crate) is_probe: bool,
}

impl Assignment {
    /// An assignment to the first agent, in the project's own checkout, beside any number of other tasks.
    pub fn shared(config: &Config, task: WaitingTask, rules: TaskRules) -> Self {
        let agent = config.agents.first();
        let who = ChosenAgent {
            name: agent.name.clone(),
            model: config.model(agent, task.task.header.priority, None),
            is_probe: false,
        };
        Self { task, rules, max_others: None, repository: None, who }
    }
}

impl Slot {
    pub fn name(&self) -> &str {
        &self.session.name
    }
}

/// The pool's sessions as one pass sees them.
pub struct Pool<'a> {
    config: &'a Config,
    log: &'a Log,
    now: Timestamp,
    records: Records<'a>,
    holds: Holds<'a>,
    tmux: Tmux,
    panes: Panes,
    panes_now: PanesNow,
    may_start_server: bool,
    writers: Writers,
}

impl<'a> Pool<'a> {
    /// Reads the whole pool with one call of tmux.
    pub fn read(config: &'a Config, log: &'a Log, now: Timestamp) -> Result<Self> {
        let tmux = Tmux::new(config.tmux.clone());
        let panes = match tmux.list_panes() {
            Ok(panes) => Panes::Of(panes),
            Err(TmuxError::NoServer) => Panes::NoServer,
            Err(error) => return Err(unavailable(&error)),
        };
        Ok(Self { panes, ..Self::without_tmux(config, log, now) })
    }

    /// The pool as it lies on disk, where tmux cannot be asked.
    pub(crate) fn without_tmux(config: &'a Config, log: &'a Log, now: Timestamp) -> Self {
        Self {
            config,
            log,
            now,
            records: Records::new(config, log),
            holds: Holds::new(config, now),
            tmux: Tmux::new(config.tmux.clone()),
            panes: Panes::NotAsked,
            panes_now: PanesNow::new(),
            may_start_server: process::in_service()
                .is_none_or(|unit| LOGIN_SERVICES.contains(&unit.as_str())),
            writers: Writers::default(),
        }
    }

    /// Which pool this is; `None` if it has never claimed anything.
    pub(crate) fn owner(&self) -> Result<Option<Uuid>> {
        owner::known(&self.config.state_dir)
    }

    /// Whether tmux has said that there is no such session.
    pub(crate) fn lacks(&self, session: &Session) -> bool {
        !matches!(self.panes, Panes::NotAsked) && self.panes_of(session).next().is_none()
    }

    /// The pool's sessions, in the order of their index.
    pub fn sessions(&self) -> impl Iterator<Item = Session> {
        let state_dir = &self.config.state_dir;
        self.config.pool.session_names().map(move |name| Session::new(state_dir, &name))
    }

    /// Whether the session is one of the pool's.
    pub(crate) fn is_ours(&self, session: &Session) -> bool {
        self.sessions().any(|ours| ours == *session)
    }

    /// What a session without a marker can be used for.
    pub(crate) fn availability(&self, session: &Session) -> Result<Availability> {
        if let Some(cooldown) = session.cooldown(self.now)? {
            return Ok(Availability::CoolingDown(cooldown));
        }
        let panes: Vec<&Pane> = self.panes_of(session).collect();
        if panes.is_empty() {
            return Ok(Availability::Missing);
        }
        if self.is_attended(session) {
            return Ok(Availability::InUse);
        }
        for pane in panes {
            if let Some(why) = self.what_runs_in(pane)? {
                return Ok(Availability::Busy(why));
            }
        }
        Ok(Availability::Free)
    }

    /// Locks all free sessions. A missing one counts where it may be created. One that cannot be judged does not keep
    /// the others from being used.
    pub fn free(&self) -> Vec<Result<Slot>> {
        self.sessions().filter_map(|session| self.try_slot(session).transpose()).collect()
    }

    /// The names of the sessions that [`Pool::free`] would lock, without locking.
    pub fn free_names(&self) -> Vec<Result<String>> {
        let is_free = |session: &Session| -> Result<bool> {
            Ok(!session.is_locked()? && self.usable(session)?.is_some())
        };
        self.sessions()
            .filter_map(|session| match is_free(&session) {
                Ok(is_free) => is_free.then_some(Ok(session.name)),
                Err(error) => Some(Err(error)),
            })
            .collect()
    }

    /// What keeps a pane's session from being used; nothing where a shell waits in it, or its process has ended.
    fn what_runs_in(&self, pane: &Pane) -> Result<Option<String>> {
        let id = &pane.id;
        let process = process::stat(pane.pid);
        let process = process.with_context(|| format!("cannot see what runs in its pane {id}"))?;
        let Some(process) = process.filter(|process| process.is_alive() && !pane.dead) else {
            return Ok(None);
        };
        // The session has no marker, or it would not be looked at here: nothing is known of this run any more.
        if let Some(run) = pane.run {
            let tmux = self.config.tmux_as_typed();
            return Ok(Some(format!(
                "the agent of the unknown run {run} is in its window: close it with `{tmux} kill-pane -t {id}`"
            )));
        }
        // A shell that waits for a command is in front itself; so is a program that runs in place of a shell.
        let in_front = process.foreground.filter(|front| *front != pane.pid);
        Ok(in_front.map(|front| match process::name(front) {
            Some(name) => format!("`{name}` runs in its pane {id}"),
            None => format!("a program runs in its pane {id}"),
        }))
    }

    /// Whether the session can have a task: `Free`, or `Missing` where it may be created; else `None`.
    fn usable(&self, session: &Session) -> Result<Option<Availability>> {
        if session.is_marked()? {
            return Ok(None);
        }
        let availability = self.availability(session)?;
        let is_usable = match &availability {
            Availability::Free => true,
            Availability::Missing => self.config.pool.create,
            Availability::CoolingDown(_) | Availability::InUse | Availability::Busy(_) => false,
        };
        if !is_usable {
            self.log.debug(format_args!("{} is not free: {availability:?}", session.name));
        }
        Ok(is_usable.then_some(availability))
    }

    /// Locks one session, if it is free.
    pub fn try_slot(&self, session: Session) -> Result<Option<Slot>> {
        let Some(lock) = session.try_lock()? else {
            self.log.debug(format_args!("{}: another pass is at work on it", session.name));
            return Ok(None);
        };
        let Some(availability) = self.usable(&session)? else { return Ok(None) };
        self.close_leftovers(&session)?;
        let exists = matches!(availability, Availability::Free);
        if !exists {
            // Before a task is claimed for it, which would have to be given back.
            self.check_server()?;
        }
        Ok(Some(Slot { session, exists, _lock: lock }))
    }

    /// Closes the windows of runs that are over. A pass that was killed leaves its tmux call behind, and that may open
    /// a window after another pass has cleared the run; nothing starts in it, for the ticket is gone.
    fn close_leftovers(&self, session: &Session) -> Result<()> {
        for pane in self.all_panes().filter(|pane| pane.session == session.name && pane.dead) {
            if let Some(run) = pane.run {
                self.tmux.close_pane(&pane.id, run).map_err(|error| unavailable(&error))?;
            }
        }
        Ok(())
    }

    /// Why no session is free, one clause for each.
    pub fn why_none_is_free(&self) -> String {
        let reasons: Vec<String> = self
            .sessions()
            .map(|session| format!("{} {}", session.name, self.why_not_free(&session)))
            .collect();
        match reasons.is_empty() {
            true => "pool.autonomous.max is 0".to_owned(),
            false => reasons.join("; "),
        }
    }

    /// Why the session is not free, as a clause without its name.
    pub(crate) fn why_not_free(&self, session: &Session) -> String {
        match session.dispatched() {
            Err(unreadable) => return unreadable.to_string(),
            Ok(Some(marker)) => return format!("works on {}", marker.task),
            Ok(None) => {}
        }
        match self.availability(session) {
            Err(error) => format!("{error:#}"),
            // It is asked of a session that could not be had: if nothing else is in the way, another pass has the lock.
            Ok(Availability::Free) => "is locked by another pass".to_owned(),
            Ok(Availability::Missing) => {
                "does not exist, and pool.autonomous.create is false".to_owned()
            }
            Ok(Availability::CoolingDown(cooldown)) => {
                let until = local_time(cooldown.until, self.now, &TimeZone::system());
                format!("cools down until {until}: {}", cooldown.reason)
            }
            Ok(Availability::InUse) => "is in use by a person".to_owned(),
            Ok(Availability::Busy(why)) => format!("is busy: {why}"),
        }
    }

    /// The session of this server, of the pool or not, that `pane` is in.
    pub(crate) fn session_of(&self, pane: &str) -> Option<&str> {
        self.all_panes()
            .find(|candidate| candidate.id.as_str() == pane)
            .map(|pane| pane.session.as_str())
    }

    fn stamp(&self) -> Stamp {
        Stamp::new(&self.config.host, self.now)
    }

    fn panes_of(&self, session: &Session) -> impl Iterator<Item = &Pane> {
        self.all_panes().filter(move |pane| pane.session == session.name)
    }

    /// Whether a person is looking: an attached client was active within the last minute.
    fn is_attended(&self, session: &Session) -> bool {
        self.panes_of(session).any(|pane| self.is_watched(&pane.id))
    }

    /// Whether a person is looking at any session that shows the pane: the pane's own, or one of theirs that is grouped
    /// with it or has the window linked.
    fn is_watched(&self, id: &PaneId) -> bool {
        self.all_panes().any(|pane| {
            pane.id == *id
                && pane.attached > 0
                // A time in the future is no recent one: the clock was set back since.
                && self.now.duration_since(pane.activity).abs() < ATTENDED
        })
    }
}

/// A failure of tmux is temporary: the next pass may have more success.
fn unavailable(error: &TmuxError) -> anyhow::Error {
    Failure::Temporary(error.to_string()).into()
}
