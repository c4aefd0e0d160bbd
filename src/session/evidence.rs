//! Whether a launched agent has its task.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use uuid::Uuid;

use super::launch::Attempt;
use super::observe::in_front;
use super::{Pool, unavailable};
use crate::agent::Failure;
use crate::agent::claude;
use crate::agent::command::Exit;
use crate::agent::screen::{self, Dialog, Screen};
use crate::agent::transcript::Turn;
use crate::durable;
use crate::marker;
use crate::process;

/// How often the ticket is looked at: one name, and the shell takes it at once.
const TICKET_POLL: Duration = Duration::from_millis(10);
/// How often evidence is looked for.
const POLL: Duration = Duration::from_millis(50);
/// How often the screen is looked at, which costs a call of tmux.
const SCREEN_POLL: Duration = Duration::from_millis(500);
/// A ticket that still lies there after this time was not seen by the shell.
const RETYPE_AFTER: Duration = Duration::from_secs(2);
/// What shows whether the agent has its task.
pub(super) enum Evidence {
    Has,
    /// It ended.
    Ended(Failure),
    /// It waits for a person.
    Dialog(Dialog),
    /// None within the time limit.
    Nothing,
}

impl Pool<'_> {
    /// Waits for evidence, up to `prompt_timeout`.
    pub(super) fn await_evidence(&self, attempt: &Attempt<'_>) -> Result<Evidence> {
        let started = Instant::now();
        let deadline = started + self.config.dispatcher.prompt_timeout;
        let ticket = attempt.session.files().ticket;
        let mut retype_at = Some(started + RETYPE_AFTER);
        let mut look_at = started + SCREEN_POLL;
        while Instant::now() < deadline {
            let now = Instant::now();
            let waits = durable::exists(&ticket)?;
            if let Some(evidence) = self.evidence(attempt, waits)? {
                return Ok(evidence);
            }
            if waits && retype_at.is_some_and(|at| now > at) {
                retype_at = None;
                if process::is_waiting_shell(attempt.pane.pid).is_ok() {
                    self.type_run(attempt)?;
                }
            }
            if !waits && attempt.conversation.is_some() && now > look_at {
                look_at = now + SCREEN_POLL;
                let screen = self.screen(attempt)?;
                if let Screen::Dialog(dialog) = screen {
                    return Ok(Evidence::Dialog(dialog));
                }
            }
            thread::sleep(if waits { TICKET_POLL } else { POLL });
        }
        Ok(Evidence::Nothing)
    }

    fn evidence(&self, attempt: &Attempt<'_>, ticket_waits: bool) -> Result<Option<Evidence>> {
        if ticket_waits {
            return Ok(None);
        }
        let claim = attempt.claim.marker();
        if let Some(exit) = Exit::read(&attempt.session.files().exit, claim.run)? {
            return Ok(Some(match (claim.agent.session, exit) {
                (None, Exit::Code(_)) => Evidence::Has,
                (_, exit) => Evidence::Ended(self.failed_exit(exit, &attempt.claim)),
            }));
        }
        let in_front = in_front(attempt.pane.pid, claim.run)?;
        match claim.agent.session {
            None if in_front => return Ok(Some(Evidence::Has)),
            Some(id) if self.has_prompt(id, claim)? => return Ok(Some(Evidence::Has)),
            _ => {}
        }
        if !in_front && process::is_waiting_shell(attempt.pane.pid).is_ok() {
            // The script may have ended between the two looks.
            return match Exit::read(&attempt.session.files().exit, claim.run)? {
                Some(_) => Ok(None),
                None => Ok(Some(Evidence::Ended(Failure::of_task(format!(
                    "{} ended before it had the task; its screen's last line: {}",
                    self.program(),
                    self.last_line(attempt)?
                ))))),
            };
        }
        Ok(None)
    }

    fn has_prompt(&self, id: Uuid, claim: &marker::Claim) -> Result<bool> {
        let summary = claude::summary(&self.config.claude_dir, id, claim.agent.transcript_from)?;
        Ok(summary.is_some_and(|summary| summary.turn != Turn::None))
    }

    fn screen(&self, attempt: &Attempt<'_>) -> Result<Screen> {
        Ok(screen::recognise(&self.capture(attempt)?))
    }

    fn capture(&self, attempt: &Attempt<'_>) -> Result<String> {
        self.tmux.capture(&attempt.pane.id).map_err(|error| unavailable(&error))
    }

    fn last_line(&self, attempt: &Attempt<'_>) -> Result<String> {
        let screen = self.capture(attempt)?;
        let mut lines = screen.lines().rev().filter(|line| !line.trim().is_empty());
        // The last one is the shell's prompt.
        Ok(lines.nth(1).unwrap_or_default().trim().to_owned())
    }

    /// Whether Claude Code said that it does not know the conversation.
    pub(super) fn resume_was_refused(&self, attempt: &Attempt<'_>) -> Result<bool> {
        let id = attempt.claim.marker().agent.session.unwrap_or_default();
        let refusal = format!("No conversation found with session ID: {id}");
        let screen = self.capture(attempt)?;
        // Narrow panes wrap the sentence.
        Ok(screen.replace('\n', "").contains(&refusal))
    }
}
