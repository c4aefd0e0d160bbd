//! The pool: which sessions are free, and what each one has on disk.
//!
//! A session is ours to type into only while its lock is held, it has no
//! marker, and a shell waits for input in its foreground ([`Slot`]). `launch`
//! gives a slot a task; `settle` files what a session did, and sets right what
//! a killed pass left in it.

mod evidence;
mod files;
mod launch;
mod observe;
mod prepare;
mod rehearse;
mod server;
mod settle;
mod told;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::config::Config;
use crate::error::Failure;
use crate::lock::Lock;
use crate::log::Log;
use crate::marker::{self, Cooldown, Stamp};
use crate::process::{self, Writers};
use crate::tmux::{Pane, Tmux, TmuxError};
use server::{Panes, PanesNow};

pub use files::{Session, marked, sweep};

pub use observe::{Standing, Word};

/// A person who pressed a key this recently is still looking at the session.
const ATTENDED: SignedDuration = SignedDuration::from_secs(60);

/// Services whose end does not end what was started in them: without a login
/// manager they hold their users' sessions.
const OUTLIVING: &[&str] = &["ssh.service", "sshd.service", "cron.service", "crond.service"];

impl From<&Pane> for marker::Pane {
    fn from(pane: &Pane) -> Self {
        Self {
            id: pane.id.clone(),
            pid: pane.pid,
            tty: pane.tty.clone(),
            server: Some(marker::Server { pid: pane.server, socket: pane.socket.clone() }),
        }
    }
}

/// What a session of the pool looks like from outside, when it has no marker.
#[derive(Debug)]
pub enum Look {
    /// A shell waits for input, and nothing speaks against typing.
    Free(marker::Pane),
    /// tmux has no session of this name.
    Missing,
    /// It rests.
    Resting(Cooldown),
    /// A person used it within the last minute.
    Attended,
    /// Something else is in its foreground, or it has more than one pane.
    Busy(String),
}

/// A free session whose lock is held: it may be typed into.
#[derive(Debug)]
pub struct Slot {
    session: Session,
    pane: Option<marker::Pane>,
    _lock: Lock,
}

impl Slot {
    /// The session's name.
    pub fn name(&self) -> &str {
        &self.session.name
    }
}

/// The pool's sessions as one pass sees them.
pub struct Pool<'a> {
    config: &'a Config,
    log: &'a Log,
    now: Timestamp,
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
        Ok(Self { panes, ..Self::without_tmux(config, log, now)? })
    }

    /// The pool as it lies on disk, where tmux cannot be asked.
    pub fn without_tmux(config: &'a Config, log: &'a Log, now: Timestamp) -> Result<Self> {
        Ok(Self {
            config,
            log,
            now,
            tmux: Tmux::new(config.tmux.clone()),
            panes: Panes::NotAsked,
            panes_now: PanesNow::new(),
            may_start_server: process::in_service()
                .is_none_or(|unit| OUTLIVING.contains(&unit.as_str())),
            writers: Writers::default(),
        })
    }

    /// Which pool this is; `None` if it has never claimed anything.
    pub fn owner(&self) -> Result<Option<Uuid>> {
        marker::known_owner(&self.config.state_dir)
    }

    /// Whether tmux has said that there is no such session.
    pub fn lacks(&self, session: &Session) -> bool {
        !matches!(self.panes, Panes::NotAsked) && self.panes_of(session).next().is_none()
    }

    /// The pool's sessions, in the order of their index.
    pub fn sessions(&self) -> impl Iterator<Item = Session> {
        let state_dir = &self.config.state_dir;
        self.config.pool.session_names().map(move |name| Session::new(state_dir, &name))
    }

    /// Looks at a session without a marker.
    pub fn look(&self, session: &Session) -> Result<Look> {
        if let Some(cooldown) = session.cooldown(self.now)? {
            return Ok(Look::Resting(cooldown));
        }
        let mut panes = self.panes_of(session);
        let Some(pane) = panes.next() else {
            return Ok(Look::Missing);
        };
        if panes.next().is_some() || !pane.is_alone() {
            return Ok(Look::Busy(
                "it has more than one pane or window: close the others".to_owned(),
            ));
        }
        if pane.dead {
            return Ok(Look::Busy(format!(
                "its shell has ended: run `tmux kill-session -t ={}`",
                session.name
            )));
        }
        if self.is_attended(session) {
            return Ok(Look::Attended);
        }
        Ok(match process::is_waiting_shell(pane.pid) {
            Ok(_) => Look::Free(pane.into()),
            Err(not_ready) => Look::Busy(not_ready.to_string()),
        })
    }

    /// Whether the session is one of the pool's.
    pub fn is_ours(&self, session: &Session) -> bool {
        self.sessions().any(|ours| ours == *session)
    }

    /// Locks all free sessions. A missing one counts where it may be created;
    /// it is made when its task is launched. One that cannot be judged does not
    /// keep the others from being used.
    pub fn free(&self) -> Vec<Result<Slot>> {
        self.sessions().filter_map(|session| self.try_slot(session).transpose()).collect()
    }

    /// The names of the sessions that [`Pool::free`] would lock, without locking.
    pub fn free_names(&self) -> Vec<Result<String>> {
        let is_free = |session: &Session| -> Result<bool> {
            Ok(!session.is_marked()?
                && !session.is_locked()?
                && self.can_be_used(&self.look(session)?))
        };
        self.sessions()
            .filter_map(|session| match is_free(&session) {
                Ok(is_free) => is_free.then_some(Ok(session.name)),
                Err(error) => Some(Err(error)),
            })
            .collect()
    }

    fn can_be_used(&self, look: &Look) -> bool {
        matches!(look, Look::Free(_)) || matches!(look, Look::Missing if self.config.pool.create)
    }

    /// Why no session is free, one clause for each.
    pub fn why_none_is_free(&self) -> String {
        let mut reasons = Vec::new();
        for session in self.sessions() {
            let why = match session.dispatched() {
                Err(unreadable) => unreadable.to_string(),
                Ok(Some(marker)) => format!("works on {}", marker.task),
                Ok(None) => match self.look(&session) {
                    Err(error) => format!("{error:#}"),
                    Ok(Look::Free(_)) => "another pass is at work on it".to_owned(),
                    Ok(Look::Missing) => {
                        "does not exist, and pool.autonomous.create is false".to_owned()
                    }
                    Ok(Look::Resting(cooldown)) => {
                        format!("rests until {}: {}", cooldown.until, cooldown.reason)
                    }
                    Ok(Look::Attended) => "is being used by a person".to_owned(),
                    Ok(Look::Busy(why)) => why,
                },
            };
            reasons.push(format!("{} {why}", session.name));
        }
        match reasons.is_empty() {
            true => "pool.autonomous.max is 0".to_owned(),
            false => reasons.join("; "),
        }
    }

    /// Locks one session, if it is free.
    pub fn try_slot(&self, session: Session) -> Result<Option<Slot>> {
        let Some(lock) = session.try_lock()? else {
            self.log.debug(format_args!("{}: another pass is at work", session.name));
            return Ok(None);
        };
        if session.is_marked()? {
            return Ok(None);
        }
        let pane = match self.look(&session)? {
            Look::Free(pane) => Some(pane),
            Look::Missing if self.config.pool.create => {
                self.check_server()?;
                None
            }
            look => {
                self.log.debug(format_args!("{} is not free: {look:?}", session.name));
                return Ok(None);
            }
        };
        Ok(Some(Slot { session, pane, _lock: lock }))
    }

    /// The names of sessions on the server, pool or not, that `pane` is in.
    pub fn session_of(&self, pane: &str) -> Option<&str> {
        self.all_panes()
            .find(|candidate| candidate.id.as_str() == pane)
            .map(|pane| pane.session.as_str())
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp::new(&self.config.host, self.now)
    }

    fn panes_of(&self, session: &Session) -> impl Iterator<Item = &Pane> {
        self.all_panes().filter(move |pane| pane.session == session.name)
    }

    /// Whether the pane is still the one that a marker names.
    fn has_pane(&self, pane: &marker::Pane) -> bool {
        self.all_panes().any(|one| (&one.id, one.pid) == (&pane.id, pane.pid))
    }

    /// Whether a person is looking: an attached client was active within the
    /// last minute.
    fn is_attended(&self, session: &Session) -> bool {
        self.panes_of(session).any(|pane| {
            pane.attached > 0 && self.now.duration_since(pane.activity).abs() < ATTENDED
        })
    }
}

/// What tmux cannot do now it may do in the next pass.
fn unavailable(error: &TmuxError) -> anyhow::Error {
    Failure::Temporary(error.to_string()).into()
}
