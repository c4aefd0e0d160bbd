//! Giving a free session a task: steps 1 to 6 of DESIGN section 6.
//!
//! One short line is typed, and only into a shell that waits for input; with
//! delivery `paste` the message besides, and only into a composer that was
//! recognised. Whatever goes wrong, `settle` puts right what was begun.

use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use uuid::Uuid;

use super::evidence::Evidence;
use super::prepare::Conversation;
use super::told::rests;
use super::{Pool, Session, Slot, unavailable};
use crate::agent::command::Exit;
use crate::agent::{self, Failure};
use crate::durable;
use crate::event::{Event, EventKind};
use crate::marker::{self, Dispatched, Phase};
use crate::process::{self, NotReady};
use crate::queue::{Claim, Skip, WaitingTask};
use crate::task::Provider;

/// How long a shell may take to be ready for the next line.
const SHELL_PATIENCE: Duration = Duration::from_secs(10);

/// One attempt that is under way.
pub(super) struct Attempt<'p> {
    pub(super) session: &'p Session,
    pub(super) pane: marker::Pane,
    pub(super) claim: Claim,
    pub(super) conversation: Option<Conversation>,
    pub(super) message: String,
}

impl Pool<'_> {
    /// Gives the slot's session the task, and waits until the agent has it. What
    /// happened is told also where it failed: then the task may be back.
    ///
    /// The slot is given up as soon as that is known, and not when all launches
    /// of the pass are over: a hook of the agent may wait for it.
    pub fn dispatch(&self, slot: Slot, work: &WaitingTask) -> (Vec<Event>, Result<()>) {
        let mut events = Vec::new();
        let outcome = self.dispatch_into(&mut events, &slot, work);
        let outcome = outcome
            .with_context(|| format!("cannot dispatch {} to {}", work.at.name, slot.session.name));
        (events, outcome)
    }

    fn dispatch_into(
        &self,
        events: &mut Vec<Event>,
        slot: &Slot,
        work: &WaitingTask,
    ) -> Result<()> {
        let session = &slot.session;
        let owner = marker::owner(&self.config.state_dir)?;
        let Some(pane) = self.ready_pane(slot)? else {
            let why = format!(
                "{} was made by somebody else at this moment: a later pass uses it",
                session.name
            );
            events.push(work.at.event(EventKind::Held).because(why));
            return Ok(());
        };
        let run = Uuid::new_v4();
        let dispatched = Dispatched {
            stamp: self.stamp(),
            project: work.at.project.path().to_owned(),
            task: work.at.name.to_string(),
            run,
            pane: pane.clone(),
        };
        marker::write(&session.marker_path(), &dispatched)?;
        let conversation = self.conversation(session, &work.task, run)?;
        let marker = self.claim_marker(session, work, (owner, run), conversation.as_ref())?;
        let claimed = work.at.project.claim(&work.at.name, &work.seen, marker, &self.writers);
        let outcome = match claimed {
            Ok(claim) => {
                let message = agent::message(
                    &self.config.dispatcher,
                    work.at.name.as_str(),
                    &work.task.body,
                    &work.at.project.dispatched_path(&work.at.name),
                );
                let attempt = Attempt { session, pane, claim, conversation, message };
                self.attempt(events, attempt)
            }
            Err(Skip::Failed(error)) => Err(error),
            Err(skip) => {
                events.push(work.at.event(EventKind::Held).because(skip.to_string()));
                return durable::remove(&session.marker_path()).map(drop);
            }
        };
        outcome.map_err(|error| self.clean_up(events, session, error))
    }

    /// Undoes what a failed launch had begun, as far as that is possible now.
    fn clean_up(&self, events: &mut Vec<Event>, session: &Session, error: Error) -> Error {
        let mut undo = || -> Result<()> {
            // A session that cannot be typed into would take the next pass' first task too.
            let not_ready = error.downcast_ref::<NotReady>();
            let rest = not_ready.map(|not_ready| Failure::of_task(not_ready.to_string()));
            let rested = rest.as_ref().map_or(Ok(()), |why| self.rest(session, why));
            events.extend(self.settle_locked(session, super::Word::Pass)?);
            rested?;
            events.extend(rest.map(|why| rests(session, &why)));
            Ok(())
        };
        match undo() {
            Ok(()) => error,
            Err(second) => {
                error.context(format!("what was begun waits for the next pass ({second:#})"))
            }
        }
    }

    /// The slot's pane with a shell that waits for input; a missing session is
    /// created first. `None`: it is there by now, and nobody knows who is about
    /// to use it. tmux may have made it for a pass that was killed meanwhile.
    fn ready_pane(&self, slot: &Slot) -> Result<Option<marker::Pane>> {
        if let Some(pane) = &slot.pane {
            return Ok(Some(pane.clone()));
        }
        let name = &slot.session.name;
        let made = self.tmux.new_session(name, 200, 50, &self.config.home, self.may_start_server);
        let id = match made {
            Err(error) if error.is_name_taken() => return Ok(None),
            made => made.map_err(|error| unavailable(&error))?,
        };
        let panes = self.tmux.list_panes().map_err(|error| unavailable(&error))?;
        let pane = panes
            .iter()
            .find(|pane| pane.id == id)
            .map(marker::Pane::from)
            .with_context(|| format!("the session {name} ended as soon as it was created"))?;
        process::wait_until_ready(pane.pid, SHELL_PATIENCE)
            .with_context(|| format!("the new session {name} does not get ready"))?;
        Ok(Some(pane))
    }

    /// Steps 3 to 6, once more without `--resume` where Claude Code refuses it.
    fn attempt(&self, events: &mut Vec<Event>, mut attempt: Attempt<'_>) -> Result<()> {
        loop {
            self.write_files(&attempt)?;
            attempt.claim.advance(Phase::Launching, self.now)?;
            self.type_run(&attempt)?;
            let failed = match self.await_evidence(&attempt)? {
                Evidence::Has => return self.begin_work(events, &mut attempt),
                Evidence::Ended(failure) => failure,
                Evidence::Dialog(dialog) => Failure::of_dialog(dialog),
                Evidence::Nothing => Failure::of_task(format!(
                    "the agent showed no sign of having the task within {} s",
                    self.config.dispatcher.prompt_timeout.as_secs()
                )),
            };
            if attempt.conversation.as_ref().is_some_and(|c| c.resume)
                && self.resume_was_refused(&attempt)?
            {
                self.start_afresh(&mut attempt)?;
                continue;
            }
            let Attempt { session, claim, .. } = &attempt;
            events.extend(self.conclude_failed(session, claim, &failed)?);
            if failed.is_of_machine() {
                bail!(failed.reason);
            }
            self.tell_attempt(claim, &failed);
            return Ok(());
        }
    }

    fn begin_work(&self, events: &mut Vec<Event>, attempt: &mut Attempt<'_>) -> Result<()> {
        attempt.claim.advance(Phase::Working, self.now)?;
        let claim = &attempt.claim;
        let model = claim.marker().agent.model.clone();
        self.log.event(format_args!(
            "DISPATCHED session={} task={} model={}",
            attempt.session.name,
            claim.name(),
            model.as_deref().unwrap_or("-")
        ));
        events.push(Event {
            project: Some(claim.project().path().to_owned()),
            task: Some(claim.name().to_string()),
            session: Some(attempt.session.name.clone()),
            provider: Some(Provider::ClaudeCode),
            model,
            ..Event::new(EventKind::Dispatched)
        });
        let conversation = attempt.conversation.as_ref();
        match conversation.and_then(|it| it.request.as_ref()) {
            Some(request) => durable::remove(request).map(drop),
            None => Ok(()),
        }
    }

    /// Clears the command line and types the one line that starts the script.
    pub(super) fn type_run(&self, attempt: &Attempt<'_>) -> Result<()> {
        let pane = &attempt.pane;
        let mut shell = process::is_waiting_shell(pane.pid)?;
        // fish was seen to lose one C-c on a busy machine; what stood there would
        // then be joined with our line, and run.
        for _ in 0..2 {
            self.tmux.interrupt(&pane.id).map_err(|error| unavailable(&error))?;
            shell = shell.wait_until_reading(SHELL_PATIENCE)?;
        }
        let run = attempt.session.files().run;
        let line = format!("sh {}", agent::quote_path(&run)?);
        self.tmux.type_line(&pane.id, &line).map_err(|error| unavailable(&error))
    }

    pub(super) fn program(&self) -> &str {
        self.config.agent.command.first().map_or("agent", String::as_str)
    }

    pub(super) fn failed_exit(&self, exit: Exit, claim: &Claim) -> Failure {
        exit.failure(self.program(), claim.project().path())
    }
}
