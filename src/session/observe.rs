//! What a session's agent is doing, by all the evidence there is. Changes
//! nothing.

use std::io;

use anyhow::{Context, Error, Result};
use rustix::process::Pid;
use uuid::Uuid;

use super::{Pool, Session, unavailable};
use crate::agent::command::Exit;
use crate::agent::judge::{Observations, judge};
use crate::agent::{Doing, Report, claude, screen};
use crate::marker::{self, Dispatched};
use crate::money::Cost;
use crate::process;
use crate::queue::{Claim, Found};

/// What the caller knows about the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing: an ordinary pass.
    Pass,
    /// Somebody who watches it says that it is idle: while it worked for this
    /// run, where that is known.
    Idle(Option<Uuid>),
}

impl Word {
    /// What the word is worth for `run`: nothing, if it was about another.
    fn is_idle(self, run: Uuid) -> bool {
        matches!(self, Self::Idle(of) if of.is_none_or(|of| of == run))
    }
}

/// How the task of a session stands, for `status`.
#[derive(Debug)]
pub struct Standing {
    /// What the session's marker says.
    pub marker: Dispatched,
    /// The claim it points to, if that is valid and the task is at work.
    pub claim: Option<Claim>,
    /// What the agent is doing.
    pub doing: Option<Doing>,
    /// Whether a person is looking at the session.
    pub attended: bool,
}

/// What keeps us from judging an agent that we cannot look at.
pub(super) const UNSEEN: &str = "cannot see what runs in its session";

/// Whether this run's agent is in the foreground of a pane.
pub(super) fn in_front(pane: Pid, run: Uuid) -> Result<bool> {
    process::runs_in_front(pane, run).context(UNSEEN)
}

/// Whether the system does not let us look at another user's process.
fn is_forbidden(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

impl Pool<'_> {
    /// How the task of a session stands; changes nothing.
    pub fn standing(&self, session: &Session) -> Result<Option<Standing>> {
        let Some(marker) = session.dispatched()? else {
            return Ok(None);
        };
        self.check_server_of(&marker)?;
        let (claim, doing) = match self.find(&marker)? {
            Found::AtWork(claim, None) => {
                let doing = self.doing(session, &claim, Word::Pass)?;
                (Some(claim), Some(doing))
            }
            Found::AtWork(claim, Some(_)) | Found::TaskGone(claim) => (Some(claim), None),
            Found::Nothing => (None, None),
        };
        Ok(Some(Standing { marker, claim, doing, attended: self.is_attended(session) }))
    }

    /// Whether this run's agent is in the foreground where it was started.
    pub(super) fn runs(&self, session: &Session, run: Uuid) -> Result<bool> {
        Ok(match session.dispatched()? {
            Some(marker) => in_front(marker.pane.pid, run)?,
            None => false,
        })
    }

    /// Whether the agent lives in its pane, but not in front: a person pressed
    /// Ctrl-Z. One whose pane is gone is nobody's any more.
    fn is_put_aside(&self, session: &Session, run: Uuid) -> Result<bool> {
        let Some(marker) = session.dispatched()? else {
            return Ok(false);
        };
        Ok(self.has_pane(&marker.pane) && process::leader_of(run).context(UNSEEN)?.is_some())
    }

    /// What the session's agent is doing, by all the evidence there is.
    pub(super) fn doing(&self, session: &Session, claim: &Claim, word: Word) -> Result<Doing> {
        let marker = claim.marker();
        let in_front = match self.runs(session, marker.run) {
            // It may be the agent, behind a `sudo` of its own, or what a person runs.
            Err(error) if is_forbidden(&error) => {
                return Ok(Doing::NeedsPerson(
                    "what is in front of its session belongs to another user (`sudo`?) and hides whether the agent is done: attach to it and end that"
                        .to_owned(),
                ));
            }
            seen => seen?,
        };
        if let Some(exit) = Exit::read(&session.files().exit, claim.marker().run)? {
            return Ok(match exit {
                Exit::Code(0) => Doing::Finished(Report::default()),
                exit => Doing::Failed(self.failed_exit(exit, claim)),
            });
        }
        if !in_front && self.is_put_aside(session, marker.run)? {
            return Ok(Doing::NeedsPerson(
                "the agent is stopped, or in the background of its session: attach to it and type `fg`"
                    .to_owned(),
            ));
        }
        match marker.agent.session {
            None if in_front => Ok(Doing::Working),
            None => Ok(Doing::Interrupted(format!(
                "{} ended without an exit code: it was killed, or its session was",
                self.program()
            ))),
            Some(id) => self.doing_of_claude(session, marker, id, in_front, word),
        }
    }

    fn doing_of_claude(
        &self,
        session: &Session,
        marker: &marker::Claim,
        id: Uuid,
        in_front: bool,
        word: Word,
    ) -> Result<Doing> {
        let claude_dir = &self.config.claude_dir;
        let seen = claude::summary(claude_dir, id, marker.agent.transcript_from)?;
        let registered =
            claude::registered(claude_dir, id, |pid| process::is_of_run(pid, marker.run));
        let capture = match session.dispatched()? {
            Some(dispatched) if in_front => {
                self.tmux.capture(&dispatched.pane.id).map_err(|error| unavailable(&error))?
            }
            _ => String::new(),
        };
        let screen = in_front.then(|| screen::recognise(&capture));
        Ok(judge(&Observations {
            alive: in_front,
            status: registered.as_ref().and_then(|entry| entry.status.as_deref()),
            quiet: claude::quiet(claude_dir, id, registered.as_ref(), self.now)?,
            summary: seen.as_ref(),
            screen,
            idle_hint: word.is_idle(marker.run),
            background: claude::has_background(&session.files().stop),
            now: self.now,
        }))
    }

    /// What this run has cost, as far as Claude Code wrote it down.
    pub(super) fn cost(&self, claim: &Claim) -> Result<Option<Cost>> {
        let agent = &claim.marker().agent;
        match agent.session {
            Some(id) => claude::cost(&self.config.claude_dir, id, agent.transcript_from),
            None => Ok(None),
        }
    }
}
