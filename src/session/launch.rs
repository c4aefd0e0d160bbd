//! Giving a free session a task:
//!
//! 1. write the session's marker, with a fresh *run*;
//! 2. claim the task, under its project's lock;
//! 3. write the prompt, the script and the ticket;
//! 4. open a window in which the user's shell runs the script;
//! 5. wait for evidence that the agent has the task;
//! 6. without it: end the agent, close the window, give the task back, let the session cool down.
//!
//! Whatever goes wrong, `reconcile` puts right what was begun.

use anyhow::{Error, Result, bail};
use uuid::Uuid;

use super::attempt::{self, Attempt, Conversation, Evidence, TakenOver};
use super::filing::AGENT_NOTICE_ID;
use super::snapshot::{Run, Trigger};
use super::{Assignment, Pool, Session, Slot, unavailable};
use crate::agent;
use crate::checkout::OpenError;
use crate::config::{AgentConfig, Occasion};
use crate::durable;
use crate::event::{Event, EventKind};
use crate::journal::Entry;
use crate::lock::Lock;
use crate::marker::{self, ClaimedCheckout, Dispatched, Probe, Work};
use crate::next_step::{AttemptEnd, AttemptFailure, Phase, Step};
use crate::owner;
use crate::queue::{Claim, Skip, TaskRef, WaitingTask};
use crate::records;
use crate::spend;
use crate::task::Provider;

/// What a launch is going to do, decided by reading alone.
struct Plan<'a> {
    agent: &'a AgentConfig,
    run: Uuid,
    checkout: Option<ClaimedCheckout>,
    conversation: Option<Conversation>,
    taken_over: Option<TakenOver>,
}

impl Pool<'_> {
    /// Gives the slot's session the task, and waits until the agent has it. A failed launch has events, too: the task
    /// may have been given back.
    ///
    /// The slot is given up as soon as the outcome is known, and not when all launches of the pass are over: a hook of
    /// the agent may wait for it.
    pub fn launch(&self, slot: Slot, assignment: &Assignment) -> (Vec<Event>, Result<()>) {
        let mut events = Vec::new();
        let skip = match self.try_launch(&mut events, &slot, assignment) {
            Ok(()) => return (events, Ok(())),
            Err(Skip::Failed(error)) => Skip::Failed(self.undo(&mut events, &slot.session, error)),
            Err(skip) => skip,
        };
        let (event, outcome) = refusal(&slot.session, &assignment.task.at, skip);
        events.extend(event);
        (events, outcome)
    }

    /// What [`Pool::launch`] to the free session of this name would come to, as far as reading shows: nothing is
    /// locked or written.
    ///
    /// A dry run cannot know what git says when it makes the worktree, whether tmux opens the window and the agent
    /// takes the task, or what another pass or a person does meanwhile: make the session, claim the task, fill its
    /// project, send the agent's probe, or still write to the file.
    pub(crate) fn launch_dry_run(
        &self,
        session: &str,
        assignment: &Assignment,
    ) -> (Vec<Event>, Result<()>) {
        let session = Session::new(&self.config.state_dir, session);
        let at = &assignment.task.at;
        match self.plan(&session, assignment) {
            Ok(Plan { agent, taken_over, .. }) => {
                let event_of = |kind| of_launch(at.event(kind), &session, &agent.name);
                let model = assignment.who.model.clone();
                let dispatched = event_of(EventKind::Dispatched).by(Provider::ClaudeCode, model);
                let switched = taken_over.map(|it| it.switched(event_of, &agent.name));
                ([Some(dispatched), switched].into_iter().flatten().collect(), Ok(()))
            }
            Err(skip) => {
                let (event, outcome) = refusal(&session, at, skip);
                (event.into_iter().collect(), outcome)
            }
        }
    }

    fn try_launch(
        &self,
        events: &mut Vec<Event>,
        slot: &Slot,
        assignment: &Assignment,
    ) -> Result<(), Skip> {
        let session = &slot.session;
        if !slot.exists && !self.make_session(session)? {
            let name = &session.name;
            return Err(Skip::HeldBecause(format!(
                "somebody else has just made the session {name}: a later pass uses it"
            )));
        }
        // Held until the worktree is made, so that no other pass plans one of the same name.
        let checkout_lock = match assignment.repository {
            Some(_) => Some(assignment.task.at.project.lock_checkout()?),
            None => None,
        };
        let plan = self.plan(session, assignment)?;
        let attempt = self.claim(session, assignment, plan, checkout_lock)?;
        Ok(self.start(events, attempt)?)
    }

    /// Decides what the launch does, or refuses it. Only reads: a dry run calls it, too.
    fn plan(&self, session: &Session, assignment: &Assignment) -> Result<Plan<'_>, Skip> {
        let Assignment { task, rules, repository, who, .. } = assignment;
        let agents = &self.config.agents;
        let agent = agents.named(&who.name).unwrap_or_else(|| agents.first());
        let checkout = match repository {
            None => self.shared_checkout(&task.at.project, rules),
            Some(repository) => match self.plan_worktree(repository, task, rules) {
                Ok(planned) => Some(planned),
                Err(OpenError::Obstacle(obstacle)) => {
                    return Err(Skip::HeldBecause(obstacle.to_string()));
                }
                Err(OpenError::Failed(error)) => return Err(error.into()),
            },
        };
        let run = Uuid::new_v4();
        let conversation = self.conversation(session, &task.task, agent, run)?;
        let taken_over = TakenOver::of(&task.task, &agent.name);
        Ok(Plan { agent, run, checkout, conversation, taken_over })
    }

    /// Steps 1 and 2, and the worktree.
    fn claim(
        &self,
        session: &Session,
        assignment: &Assignment,
        plan: Plan<'_>,
        checkout_lock: Option<Lock>,
    ) -> Result<Attempt, Skip> {
        let Assignment { task, rules, max_others, repository, who } = assignment;
        let Plan { agent, run, checkout, conversation, taken_over } = plan;
        let owner = owner::ensure(&self.config.state_dir)?;
        let marker = Dispatched {
            stamp: self.stamp(),
            project: task.at.project.path().to_owned(),
            task: task.at.name.to_string(),
            run,
            pane: None,
        };
        // Before all else: a later pass finds whatever this one begins by the session's marker.
        marker::write(&session.marker_path(), &marker)?;
        let run = Run { session: session.clone(), marker, pane: None };
        // Written after the session's marker: a probe counts only as long as that marker is there.
        let probe = who.is_probe.then(|| Probe {
            run: run.id(),
            session: session.name().to_owned(),
            task: spend::task_key(task.at.project.path(), task.at.name.as_str()),
            since: self.now,
        });
        if let Some(probe) = probe
            && !self.holds.begin_probe(agent, who.model.as_deref(), probe)?
        {
            // Another pass has sent a probe, or the hold was renewed: this task waits for what comes of it.
            durable::remove(&session.marker_path())?;
            return Err(Skip::NotYet);
        }
        let work = Work { rules: rules.clone(), checkout, ..Work::default() };
        let who = (agent, who.model.clone());
        let marker = self.claim_marker(&run, owner, task, who, conversation.as_ref(), work)?;
        let (project, name) = (&task.at.project, &task.at.name);
        let claim = match project.claim(name, &task.seen, *max_others, marker, &self.writers) {
            Ok(claim) => claim,
            // The task may have been claimed by then: `undo` gives it back, and needs the session's marker for that.
            Err(Skip::Failed(error)) => return Err(error.into()),
            Err(skip) => {
                durable::remove(&session.marker_path())?;
                return Err(skip);
            }
        };
        if let Some(repository) = repository
            && let Some(obstacle) = self.make_worktree(repository, &claim)?
        {
            // `unmake_worktree` takes this lock itself.
            drop(checkout_lock);
            self.unmake_worktree(&claim)?;
            claim.release()?;
            durable::remove(&session.marker_path())?;
            return Err(Skip::HeldBecause(obstacle));
        }
        drop(checkout_lock);
        let goes_on = conversation.as_ref().is_some_and(|conversation| conversation.resume);
        let message = self.message(task, &claim, taken_over.is_some() && !goes_on);
        Ok(Attempt { run, claim, conversation, message, taken_over })
    }

    /// What the agent is given.
    fn message(&self, task: &WaitingTask, claim: &Claim, after_a_colleague: bool) -> String {
        let message = agent::message(
            &self.config.dispatcher,
            task.at.name.as_str(),
            &task.task.body,
            &task.at.project.dispatched_path(&task.at.name),
        );
        match after_a_colleague {
            true => format!("{}\n\n{message}", agent::AFTER_A_COLLEAGUE),
            false => agent::message_after(claim.marker().work.timeout, message),
        }
    }

    /// Makes the missing session. False: it has appeared meanwhile, and somebody else may be about to use it, unless
    /// tmux made it for a pass that was killed.
    pub(super) fn make_session(&self, session: &Session) -> Result<bool> {
        match self.tmux.new_session(
            &session.name,
            200,
            50,
            &self.config.home,
            self.may_start_server,
        ) {
            Ok(()) => Ok(true),
            Err(error) if error.is_name_taken() => Ok(false),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Steps 3 to 6, once more without `--resume` where Claude Code refuses it.
    fn start(&self, events: &mut Vec<Event>, mut attempt: Attempt) -> Result<()> {
        loop {
            // The ticket is written before the phase: in `launching`, a missing ticket shows that the agent has
            // started.
            self.write_files(&attempt)?;
            // Looked at before the window is open: the script there notes that the set-up is done.
            let sets_up = attempt::sets_up(&attempt.claim.marker().work)?;
            attempt.claim.advance(Phase::Launching, self.now)?;
            let files = attempt.run.session.files();
            let shell = self.agent_of(attempt.claim.marker()).shell();
            self.open_window(&mut attempt.run, shell, &files.run)?;
            let failure = match self.await_evidence(&attempt, sets_up)? {
                Evidence::HasTask => return self.note_dispatched(events, attempt),
                Evidence::ResumeRefused => {
                    self.end_agent(&attempt.run)?;
                    self.close_window(&attempt.run)?;
                    self.retry_without_resume(&mut attempt)?;
                    continue;
                }
                Evidence::NotStarted(failure) => {
                    self.close_window(&attempt.run)?;
                    failure
                }
                Evidence::Failed(failure) => failure,
            };
            return self.fail_attempt(events, attempt, failure);
        }
    }

    fn fail_attempt(
        &self,
        events: &mut Vec<Event>,
        attempt: Attempt,
        failure: AttemptFailure,
    ) -> Result<()> {
        let Attempt { run, claim, .. } = attempt;
        self.log_attempt(&claim, &failure);
        let end = AttemptEnd::after(failure.clone(), self.is_last_attempt(&claim), true);
        events.extend(self.carry_out(&run, Some(claim), Step::EndAttempt(end))?);
        if failure.is_of_machine() {
            bail!(failure.reason);
        }
        Ok(())
    }

    fn note_dispatched(&self, events: &mut Vec<Event>, mut attempt: Attempt) -> Result<()> {
        attempt.claim.advance(Phase::Working, self.now)?;
        let (claim, session) = (&attempt.claim, &attempt.run.session.name);
        let marker = claim.marker();
        let model = marker.agent.model.clone();
        self.log.event(format_args!(
            "DISPATCHED session={session} task={} model={}",
            claim.name(),
            model.as_deref().unwrap_or("-")
        ));
        let (project, name) = (claim.project(), claim.name());
        let agent = marker.agent.name();
        let event_of = |kind| {
            of_launch(
                Event::of_task(kind, project.path(), name.as_str()),
                &attempt.run.session,
                agent,
            )
        };
        let event = event_of(EventKind::Dispatched).by(Provider::ClaudeCode, model);
        self.records.note(&Entry {
            run: Some(marker.run),
            attempt: Some(marker.attempt),
            waited: records::waited(&project.dispatched_path(name), self.now),
            ..Entry::of(&event)
        });
        events.push(event);
        // An agent has started, so the notice that no session can start one is over, and is sent again the next time.
        self.records.outbox().forget(Occasion::NeedsAttention, AGENT_NOTICE_ID)?;
        if let Some(taken_over) = &attempt.taken_over {
            let event = taken_over.switched(event_of, agent);
            self.records.note(&Entry { run: Some(marker.run), ..Entry::of(&event) });
            events.push(event);
        }
        // Only now: an agent that did not get the task leaves the request to the next one.
        match attempt.conversation.and_then(|conversation| conversation.request) {
            Some(request) => durable::remove(&request).map(drop),
            None => Ok(()),
        }
    }

    /// Puts right what a launch that broke off had begun, as far as that is possible now.
    fn undo(&self, events: &mut Vec<Event>, session: &Session, error: Error) -> Error {
        match self.reconcile_locked(session, Trigger::Poll) {
            Ok(undone) => {
                events.extend(undone);
                error
            }
            Err(second) => {
                error.context(format!("what was begun waits for the next pass ({second:#})"))
            }
        }
    }
}

/// An event of a launch, or of the launch that a dry run plans.
fn of_launch(event: Event, session: &Session, agent: &str) -> Event {
    event.in_session(&session.name).of_agent(Some(agent.to_owned()))
}

/// The event or the error of a task that is not launched.
fn refusal(session: &Session, at: &TaskRef, skip: Skip) -> (Option<Event>, Result<()>) {
    match skip {
        Skip::Failed(error) => {
            let what = format!("cannot dispatch {} to {}", at.name, session.name);
            (None, Err(error.context(what)))
        }
        skip => (skip.event(at), Ok(())),
    }
}
