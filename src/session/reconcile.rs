//! Carries out what `next_step` says about a session that has a marker.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use uuid::Uuid;

use super::filing::footer;
use super::landing_turn::has_turn;
use super::server::{Panes, UNSEEN};
use super::snapshot::{Reading, Run, Trigger};
use super::step_events::{events_of, green, place_of};
use super::{Pool, Session, unavailable};
use crate::config::Occasion;
use crate::durable;
use crate::error::Failure;
use crate::event::Event;
use crate::marker::{self, CheckTarget, Phase, Round};
use crate::next_step::{
    AgentReport, AttemptEnd, AttemptFailure, BranchOutcome, Found, Leave, Snapshot, Step,
    after_branch, next_step,
};
use crate::notify::Notice;
use crate::process;
use crate::queue::Claim;
use crate::task::Outcome;

/// How long a hook or a person waits for a pass that is at work on the session.
const SESSION_LOCK_WAIT: Duration = Duration::from_secs(10);

/// What follows a step, and the events to report.
enum StepOutcome {
    /// The run goes on in its session.
    GoesOn(Vec<Event>),
    /// Another step follows at once.
    Then(Box<Claim>, Step, Vec<Event>),
    /// The run is over: its session is freed next.
    Over {
        claim: Box<Claim>,
        /// As it was carried out, which may differ from what was planned; it is what is reported.
        step: Step,
        /// The step has moved the task. If it was gone already, no event is reported for it.
        was_there: bool,
    },
}

impl StepOutcome {
    fn quietly((): ()) -> Self {
        Self::GoesOn(Vec::new())
    }

    /// `placed`: where the task lies now; none where it has left the inbox meanwhile.
    fn over(claim: Claim, step: Step, placed: Option<PathBuf>) -> Self {
        Self::Over { claim: Box::new(claim), step, was_there: placed.is_some() }
    }
}

impl Pool<'_> {
    /// Looks at what a session with a marker did, and files what has ended. No event: nothing has ended, or another
    /// process is at work on it.
    pub(crate) fn reconcile(&self, session: &Session, trigger: Trigger) -> Result<Vec<Event>> {
        let lock = match trigger {
            Trigger::Poll => session.try_lock()?,
            // It is waited for: the other pass may have looked before the agent became idle.
            Trigger::Idle(_) | Trigger::Asked(_) => session.lock_within(SESSION_LOCK_WAIT)?,
        };
        let Some(_lock) = lock else {
            return Ok(Vec::new());
        };
        self.reconcile_locked(session, trigger).with_context(|| format!("session {}", session.name))
    }

    /// What [`Pool::reconcile`] would report, as far as that can be known beforehand: see [`crate::next_step`]. Each
    /// session is looked at by itself: of two that meet the same limit, each reports that it holds their agent.
    pub(crate) fn reconcile_dry_run(&self, session: &Session) -> Result<Vec<Event>> {
        if session.is_locked()? {
            return Ok(Vec::new());
        }
        let Some(reading) = self.read_run(session, Trigger::Poll)? else { return Ok(Vec::new()) };
        let Some(claim) = &reading.claim else { return Ok(Vec::new()) };
        let resumed = reading.snapshot.ends_hold.then(|| self.resumed(claim));
        let events = events_of(&next_step(&reading.snapshot), claim);
        Ok(resumed.into_iter().chain(events).collect())
    }

    pub(super) fn reconcile_locked(
        &self,
        session: &Session,
        trigger: Trigger,
    ) -> Result<Vec<Event>> {
        loop {
            let Some(reading) = self.read_run(session, trigger)? else {
                return Ok(Vec::new());
            };
            let Reading { run, mut claim, snapshot, signs, cost_so_far, .. } = reading;
            let mut events = Vec::new();
            // Before the step, which may file the task: then no claim names the agent of the probe any more.
            if let (true, Some(claim)) = (snapshot.ends_hold, &claim) {
                events.extend(self.end_hold(&run, claim)?);
            }
            if let Some(signs) = signs {
                // Not synced: after a reboot it means nothing.
                marker::write_unsynced(&session.signs_path(), &signs)?;
            }
            if let (Some(claim), Some(so_far)) = (&claim, cost_so_far) {
                self.note_cost_so_far(claim, so_far);
            }
            let step = next_step(&snapshot);
            // Without its ticket the agent cannot start any more. If the agent took it first, it has started: look
            // again.
            if matches!(step, Step::TakeTicket | Step::UndoRound(_)) && !session.take_ticket()? {
                continue;
            }
            if let Some(claim) = &mut claim {
                self.keep_time(claim, &step, snapshot.asks_nobody)?;
            }
            events.extend(self.carry_out(&run, claim, step)?);
            return Ok(events);
        }
    }

    /// Ends the agent of `run`, whatever it is doing, and files its task as failed with `reason`.
    pub(crate) fn cancel(&self, session: &Session, run: Uuid, reason: &str) -> Result<Vec<Event>> {
        let Some(_lock) = session.lock_within(SESSION_LOCK_WAIT)? else {
            bail!(Failure::Temporary(format!(
                "another pass is at work on {}: try again in a moment",
                session.name
            )));
        };
        let reading = self.read_run(session, Trigger::Poll)?;
        let Some(Reading { run, claim, snapshot, .. }) = reading.filter(|it| it.run.id() == run)
        else {
            bail!("it is not at work in {} any more", session.name);
        };
        let step = match snapshot.found {
            // A person who cancels it does not want to go on looking at it.
            Found::NoClaim | Found::NoTask { .. } | Found::Noted(_) => {
                next_step(&Snapshot { attended: false, ..snapshot })
            }
            Found::Claimed
            | Found::Unstarted { .. }
            | Found::Started { .. }
            | Found::Checking { .. }
            | Found::Landing => {
                let failure = AttemptFailure::of_task(reason);
                Step::EndAttempt(AttemptEnd::of_task(failure, Outcome::Failed))
            }
        };
        self.carry_out(&run, claim, step)
    }

    /// Carries out the step and what follows from it at once, and returns the events to report. The session's lock is
    /// held.
    pub(super) fn carry_out(
        &self,
        run: &Run,
        claim: Option<Claim>,
        mut step: Step,
    ) -> Result<Vec<Event>> {
        let Some(mut claim) = claim else {
            // Without a claim the step is this one, or `Leave` while a person is looking.
            if step == Step::Clear {
                self.end_agent(run)?;
                self.clear(run)?;
            }
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        loop {
            match self.take_step(run, claim, step)? {
                StepOutcome::GoesOn(reported) => {
                    events.extend(reported);
                    return Ok(events);
                }
                StepOutcome::Then(the_same, next, reported) => {
                    events.extend(reported);
                    (claim, step) = (*the_same, next);
                }
                StepOutcome::Over { claim, step, was_there } => {
                    self.free_session(run, &claim, &step)?;
                    let reported = events_of(&step, &claim).into_iter();
                    events.extend(reported.filter(|event| was_there || event.task.is_none()));
                    return Ok(events);
                }
            }
        }
    }

    fn take_step(&self, run: &Run, mut claim: Claim, step: Step) -> Result<StepOutcome> {
        match step {
            Step::Leave(why) => self.leave(run, claim, &why).map(StepOutcome::quietly),
            Step::MarkWorking => claim.advance(Phase::Working, self.now).map(StepOutcome::quietly),
            Step::UndoRound(round) => {
                self.close_window(run)?;
                // No more than that: an earlier turn of the run may have begun a server that is to stay.
                self.end_agent(run)?;
                self.undo_round(&mut claim, round).map(StepOutcome::quietly)
            }
            Step::EndTurn => {
                self.end_turn(run, &mut claim, Phase::Checking)?;
                self.start_check(run, claim, CheckTarget::Work).map(StepOutcome::quietly)
            }
            Step::Check(of) => {
                self.note_red(run, &mut claim)?;
                self.start_check(run, claim, of).map(StepOutcome::quietly)
            }
            Step::RequestFix { red_before } => self.note_and_request_fix(run, claim, red_before),
            Step::RequestFixOfConflict(message) => {
                self.request_fix(run, claim, message, Round::Conflict).map(StepOutcome::quietly)
            }
            Step::Accept { then } => self.accept_work(run, claim, *then),
            Step::Land { report, .. } => self.land_branch(run, claim, report),
            Step::Finish { report, landed } => self.finish(run, claim, report, landed),
            Step::GiveUp { red_before, over_budget } => {
                self.give_up_work(run, claim, red_before, over_budget)
            }
            Step::EndAttempt(end) => self.fail(run, claim, end),
            Step::Place(outcome) => self.place(run, claim, outcome),
            Step::Release => self.release_as_it_was(claim, Step::Release),
            Step::TakeTicket => {
                self.close_window(run)?;
                // What its start-up files have begun may outlive the shell: a zsh hands no SIGHUP on to what it is just
                // starting.
                self.end_agent_and_its_tools(run)?;
                self.release_as_it_was(claim, Step::TakeTicket)
            }
            // Named only where there is no claim.
            Step::Clear => self.remove_claim(run, claim, false),
            Step::RemoveClaim { taken_back } => self.remove_claim(run, claim, taken_back),
        }
    }

    /// Frees the session of a run that is over. No later pass reports what was filed, so the error has to say it.
    fn free_session(&self, run: &Run, claim: &Claim, step: &Step) -> Result<()> {
        self.clear(run).with_context(|| {
            format!("{} {}, but its session is not free yet", claim.name(), place_of(step))
        })
    }

    fn leave(&self, run: &Run, mut claim: Claim, why: &Leave) -> Result<()> {
        self.log.debug(format_args!("{} is left: {why:?}", run.session.name));
        // The branch gives up its turn to land: the others are not to wait for a person who may come tomorrow.
        if matches!(why, Leave::NeedsAttention(_) | Leave::Attended) && has_turn(claim.marker()) {
            claim.update(self.now, |claim| claim.work.landing = None)?;
        }
        self.notify_attention(&claim, why)
    }

    /// Notifies people once that an agent waits for them, and again if it waits once more after it has gone on.
    fn notify_attention(&self, claim: &Claim, why: &Leave) -> Result<()> {
        let run = claim.marker().run;
        match why {
            Leave::NeedsAttention(reason) => {
                let notice = Notice::of_run(Occasion::NeedsAttention, run, self.now)
                    .about(claim.project().path(), claim.name().as_str())
                    .because(reason.as_str());
                self.records.outbox().queue_once(notice, || claim.text())
            }
            Leave::AtWork => {
                self.records.outbox().forget(Occasion::NeedsAttention, &run.to_string())
            }
            Leave::Checking | Leave::WaitsToLand { .. } | Leave::Attended => Ok(()),
        }
    }

    fn release_as_it_was(&self, claim: Claim, step: Step) -> Result<StepOutcome> {
        self.unmake_worktree(&claim)?;
        let placed = self.release(&claim)?;
        Ok(StepOutcome::over(claim, step, placed))
    }

    fn remove_claim(&self, run: &Run, claim: Claim, taken_back: bool) -> Result<StepOutcome> {
        self.log.info(format_args!(
            "{}: {} has left the inbox; the session is free again",
            run.session.name,
            claim.name()
        ));
        match taken_back {
            true => self.end_agent_and_its_tools(run)?,
            false => self.end_agent(run)?,
        }
        self.clear_check(&claim)?;
        self.leave_worktree(&claim)?;
        claim.remove()?;
        Ok(StepOutcome::over(claim, Step::RemoveClaim { taken_back }, None))
    }

    fn place(&self, run: &Run, claim: Claim, outcome: Outcome) -> Result<StepOutcome> {
        self.end_agent(run)?;
        let ending = match claim.ending()? {
            Some(ending) => ending,
            None => self.ending(&claim, outcome, None),
        };
        let placed = self.file(&claim, &ending, || claim.place(outcome))?;
        Ok(StepOutcome::over(claim, Step::Place(outcome), placed))
    }

    /// Notes that the turn is over, whatever can be seen of it later, and ends the agent.
    fn end_turn(&self, run: &Run, claim: &mut Claim, phase: Phase) -> Result<()> {
        let clock = self.work_clock(&claim.marker().work.rules)?;
        // Noted while the agent lives: once it has ended, its turn may look interrupted.
        claim.update(self.now, |claim| {
            claim.phase = phase;
            claim.work.check = None;
            claim.work.end(clock);
        })?;
        self.end_agent(run)
    }

    fn note_and_request_fix(
        &self,
        run: &Run,
        mut claim: Claim,
        red_before: Option<bool>,
    ) -> Result<StepOutcome> {
        let events = events_of(&Step::RequestFix { red_before }, &claim);
        self.note_red(run, &mut claim)?;
        self.note_checked(&claim, &events);
        self.request_fix_of_red(run, claim, red_before)?;
        Ok(StepOutcome::GoesOn(events))
    }

    fn give_up_work(
        &self,
        run: &Run,
        mut claim: Claim,
        red_before: Option<bool>,
        over_budget: Option<String>,
    ) -> Result<StepOutcome> {
        let step = Step::GiveUp { red_before, over_budget: over_budget.clone() };
        self.note_red(run, &mut claim)?;
        self.end_agent_and_its_tools(run)?;
        self.clear_check(&claim)?;
        self.note_checked(&claim, &events_of(&step, &claim));
        let placed = self.give_up(&claim, red_before, over_budget)?;
        Ok(StepOutcome::over(claim, step, placed))
    }

    fn accept_work(&self, run: &Run, mut claim: Claim, then: Step) -> Result<StepOutcome> {
        self.accept(run, &mut claim)?;
        let events = vec![green(&claim)];
        self.note_checked(&claim, &events);
        Ok(StepOutcome::Then(Box::new(claim), then, events))
    }

    fn land_branch(&self, run: &Run, mut claim: Claim, report: AgentReport) -> Result<StepOutcome> {
        if claim.marker().phase != Phase::Landing {
            self.end_turn(run, &mut claim, Phase::Landing)?;
        }
        let outcome = self.finish_branch(&mut claim)?;
        let no_round = match outcome {
            BranchOutcome::Conflict(_) => self.no_further_round(&claim)?,
            _ => None,
        };
        let next = after_branch(outcome, no_round, report);
        Ok(StepOutcome::Then(Box::new(claim), next, Vec::new()))
    }

    fn finish(
        &self,
        run: &Run,
        claim: Claim,
        report: AgentReport,
        landed: bool,
    ) -> Result<StepOutcome> {
        // What only a living agent shows is filed first: a pass that was killed after its end would leave a turn that
        // looks interrupted, and another agent would be given it again. Its cost, which Claude Code writes when it
        // ends, stays unknown then.
        if !report.only_while_it_lives {
            self.end_agent(run)?;
        }
        let mut ending = self.ending(&claim, Outcome::Done, None).with_cost(self.cost(&claim)?);
        ending.model = report.model.clone().or(ending.model);
        ending.refused = report.refused;
        let footer = footer(&ending, &report);
        let placed = self.file(&claim, &ending, || {
            claim.finish(&ending, report.answer.as_deref(), Some(&footer))
        })?;
        if report.only_while_it_lives {
            self.end_agent(run)?;
        }
        Ok(StepOutcome::over(claim, Step::Finish { report, landed }, placed))
    }

    fn fail(&self, run: &Run, claim: Claim, mut end: AttemptEnd) -> Result<StepOutcome> {
        // Cooldown and hold come before the task is filed: a pass after that knows nothing of the failure.
        if end.cooldown {
            self.start_cooldown(&run.session, &claim, &end.failure)?;
        }
        // Another pass may have held the agent since this one looked.
        end.hold = self.hold_agent(&claim, &end.failure)?;
        // What it has cost is known once it has ended.
        self.end_agent_and_its_tools(run)?;
        let over_budget = self.given_up_for_its_cost(&claim, end.outcome)?;
        let end = end.with_cost(over_budget);
        let placed = self.end_attempt(&claim, &end.noted(), end.outcome)?;
        Ok(StepOutcome::over(claim, Step::EndAttempt(end), placed))
    }

    /// Ends the agent of this run, wherever it is. One that has not started cannot start any more.
    pub(super) fn end_agent(&self, run: &Run) -> Result<()> {
        run.session.take_ticket()?;
        process::terminate(run.id(), leader(run)?, process::GRACE)?;
        Ok(())
    }

    /// Ends the agent of this run and all that carries the run, so that nothing goes on beside the next attempt. After a
    /// turn that ended well [`Self::end_agent`] is used: the task may have asked for a server that stays.
    pub(super) fn end_agent_and_its_tools(&self, run: &Run) -> Result<()> {
        run.session.take_ticket()?;
        Ok(process::terminate_all(run.id(), leader(run)?, process::GRACE)?)
    }

    /// Closes the window of this run. That also ends a shell that still reads its start-up files: it ignores SIGTERM, but
    /// not the end of its terminal.
    pub(super) fn close_window(&self, run: &Run) -> Result<()> {
        match &run.pane {
            // Also where the pass has found no server: it may have been started for this run.
            Some(pane) if !matches!(self.panes, Panes::NotAsked) => {
                self.tmux.close_pane(&pane.id, run.id()).map_err(|error| unavailable(&error))
            }
            _ => Ok(()),
        }
    }

    /// Closes the window and removes the session's files, its marker last.
    fn clear(&self, run: &Run) -> Result<()> {
        self.close_window(run)?;
        run.session.files().remove()?;
        durable::remove(&run.session.signs_path())?;
        durable::remove(&run.session.taken_path())?;
        durable::remove(&run.session.marker_path()).map(drop)
    }
}

/// The process of the run's window, unless its number belongs to another user's process by now.
fn leader(run: &Run) -> Result<Option<Pid>> {
    let Some(pane) = &run.pane else { return Ok(None) };
    let server = pane.server.as_ref().map(|server| server.pid);
    let is_gone = process::is_another_users(pane.pid, server).context(UNSEEN)?;
    Ok((!is_gone).then_some(pane.pid))
}
