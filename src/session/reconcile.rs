//! Carries out what `next_step` says about a session that has a marker.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use uuid::Uuid;

use super::filing::{NOTHING_STARTED, footer};
use super::server::{Panes, UNSEEN};
use super::snapshot::{Reading, Run, Trigger};
use super::worktree::Branch;
use super::{Pool, Session, unavailable};
use crate::config::Occasion;
use crate::durable;
use crate::error::Failure;
use crate::event::{Event, EventKind};
use crate::marker::{self, ClaimedCheckout, Judged, Round};
use crate::next_step::{
    AgentReport, AttemptFailure, Found, Leave, Phase, Snapshot, Step, next_step,
};
use crate::notify::Notice;
use crate::process;
use crate::queue::Claim;
use crate::task::{GitEnding, Outcome, Provider};

/// How long a hook or a person waits for a pass that is at work on the session.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an agent may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// What came of a turn that ended well.
enum Finished {
    /// The task is filed, or has left the inbox, and what happened besides.
    Filed(Box<Claim>, Option<PathBuf>, Vec<Event>),
    /// Its agent has it again, or its check.
    GoesOn,
    /// The attempt has to end with this step instead.
    Ends(Box<Claim>, Step),
}

impl Pool<'_> {
    /// Looks at what a session with a marker did, and files what has ended. No event: nothing has ended, or another
    /// process is at work on it.
    pub fn reconcile(&self, session: &Session, trigger: Trigger) -> Result<Vec<Event>> {
        let lock = match trigger {
            Trigger::Poll => session.try_lock()?,
            // The other process may have looked before the agent became idle.
            Trigger::Idle(_) | Trigger::Asked(_) => session.lock_within(PATIENCE)?,
        };
        let Some(_lock) = lock else {
            return Ok(Vec::new());
        };
        self.reconcile_locked(session, trigger).with_context(|| format!("session {}", session.name))
    }

    /// What [`Pool::reconcile`] would file.
    pub fn reconcile_dry_run(&self, session: &Session) -> Result<Vec<Event>> {
        if session.is_locked()? {
            return Ok(Vec::new());
        }
        let reading = self.read_run(session, Trigger::Poll)?;
        Ok(reading.map_or_else(Vec::new, |Reading { claim, snapshot, .. }| {
            events_of(&next_step(&snapshot), claim.as_ref())
        }))
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
            let Reading { run, claim, snapshot, signs, cost_so_far } = reading;
            let mut events = match &claim {
                Some(claim) => self.settle_probe(&run, claim, &snapshot.found)?,
                None => Vec::new(),
            };
            if let Some(signs) = signs {
                // It tells nothing once the machine was started again.
                marker::write_unsynced(&session.signs_path(), &signs)?;
            }
            if let (Some(claim), Some(so_far)) = (&claim, cost_so_far) {
                self.note_cost_so_far(claim, so_far);
            }
            let step = next_step(&snapshot);
            // Without its ticket the agent cannot start any more. Where it has just taken it, it has started.
            if step == Step::TakeTicket && !durable::remove(&session.files().ticket)? {
                continue;
            }
            events.extend(self.carry_out(&run, claim, &step)?);
            return Ok(events);
        }
    }

    /// Ends the agent of `run`, whatever it is doing, and files its task as failed with `reason`.
    pub fn cancel(&self, session: &Session, run: Uuid, reason: &str) -> Result<Vec<Event>> {
        let Some(_lock) = session.lock_within(PATIENCE)? else {
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
            | Found::Unstarted
            | Found::Started { .. }
            | Found::Checking { .. }
            | Found::Landing(_) => Step::EndAttempt {
                failure: AttemptFailure::of_task(reason),
                outcome: Outcome::Failed,
                cooldown: false,
            },
        };
        self.carry_out(&run, claim, &step)
    }

    /// Does what the step says. The session's lock is held.
    pub(super) fn carry_out(
        &self,
        run: &Run,
        claim: Option<Claim>,
        step: &Step,
    ) -> Result<Vec<Event>> {
        let mut events = events_of(step, claim.as_ref());
        let Some(mut claim) = claim else {
            if *step == Step::Clear {
                self.end_agent(run)?;
                self.clear(run)?;
            }
            return Ok(events);
        };
        let placed = match step {
            Step::Leave(why) => {
                self.log.debug(format_args!("{} is left: {why:?}", run.session.name));
                self.tell_of_attention(&claim, why)?;
                self.keep_time(&mut claim, why)?;
                return Ok(events);
            }
            Step::MarkWorking => {
                claim.advance(Phase::Working, self.now)?;
                return Ok(events);
            }
            Step::Clear | Step::RemoveClaim { .. } => {
                self.log.info(format_args!(
                    "{}: {} has left the inbox; the session is free again",
                    run.session.name,
                    claim.name()
                ));
                match step {
                    Step::RemoveClaim { taken_back: true } => self.end_agent_and_its_tools(run)?,
                    _ => self.end_agent(run)?,
                }
                self.clear_check(&claim)?;
                self.leave_worktree(&claim)?;
                claim.remove()?;
                None
            }
            Step::Release => {
                self.unmake_worktree(&claim)?;
                self.release(&claim)?
            }
            Step::TakeTicket => {
                // A shell that still reads its start-up files ignores SIGTERM, but not the end of its terminal.
                self.close_window(run)?;
                self.end_agent(run)?;
                if self.take_back_round(&mut claim)? {
                    return Ok(Vec::new());
                }
                self.unmake_worktree(&claim)?;
                self.release(&claim)?
            }
            Step::Place(outcome) => {
                self.end_agent(run)?;
                let ending = match claim.ending()? {
                    Some(ending) => ending,
                    None => self.ending(&claim, *outcome, None),
                };
                self.file(&claim, &ending, || claim.place(*outcome))?
            }
            Step::Finish(report) => match self.finish(run, claim, report)? {
                Finished::Filed(filed, placed, more) => {
                    claim = *filed;
                    events.extend(more);
                    placed
                }
                Finished::GoesOn => return Ok(Vec::new()),
                Finished::Ends(claim, step) => return self.carry_out(run, Some(*claim), &step),
            },
            Step::Check(of) => {
                self.note_red(run, &mut claim)?;
                self.start_check(run, claim, *of)?;
                return Ok(events);
            }
            Step::GiveBack { red_before } => {
                self.note_red(run, &mut claim)?;
                self.note_checked(&claim, &events);
                self.give_back_red(run, claim, *red_before)?;
                return Ok(events);
            }
            Step::Accept => {
                self.accept(run, &mut claim)?;
                self.note_checked(&claim, &events);
                let finish = Step::Finish(self.report(claim.marker())?);
                events.extend(self.carry_out(run, Some(claim), &finish)?);
                return Ok(events);
            }
            Step::GiveUp { red_before, over_budget } => {
                self.note_red(run, &mut claim)?;
                self.end_agent_and_its_tools(run)?;
                self.clear_check(&claim)?;
                self.note_checked(&claim, &events);
                self.give_up(&claim, *red_before, over_budget.clone())?
            }
            Step::EndAttempt { failure, outcome, cooldown } => {
                if *cooldown {
                    self.start_cooldown(&run.session, failure)?;
                }
                // Where it was held already, that was said.
                if !self.hold_agent(&claim, failure)? {
                    events.retain(|event| event.event != EventKind::Hold);
                }
                // What it has cost is known once it has ended.
                self.end_agent_and_its_tools(run)?;
                match self.given_up_for_its_cost(&claim, *outcome)? {
                    Some(failure) => {
                        let outcome = Outcome::Failed;
                        let placed = self.end_attempt(&claim, &failure, outcome)?;
                        let given_up = Step::EndAttempt { failure, outcome, cooldown: false };
                        events.retain(|event| event.task.is_none());
                        events.splice(0..0, events_of(&given_up, Some(&claim)));
                        placed
                    }
                    None => self.end_attempt(&claim, failure, *outcome)?,
                }
            }
        };
        // Clearing may fail; no later pass reports what was filed, so the error does.
        let what =
            || format!("{} {}, but its session is not free yet", claim.name(), place_of(step));
        self.clear(run).with_context(what)?;
        if placed.is_none() {
            // The task left the inbox meanwhile: there is nothing to report of it.
            events.retain(|event| event.task.is_none());
        }
        Ok(events)
    }

    /// Tells people once that an agent waits for them; again after it has gone on.
    fn tell_of_attention(&self, claim: &Claim, why: &Leave) -> Result<()> {
        let run = claim.marker().run;
        match why {
            Leave::NeedsAttention(reason) => {
                let notice = Notice::of_run(Occasion::NeedsAttention, run, self.now)
                    .about(claim.project().path(), claim.name().as_str())
                    .because(reason.as_str());
                self.account.outbox().queue_once(notice, || claim.text())
            }
            Leave::AtWork => {
                self.account.outbox().forget(Occasion::NeedsAttention, &run.to_string())
            }
            Leave::Checking | Leave::Attended => Ok(()),
        }
    }

    fn finish(&self, run: &Run, mut claim: Claim, report: &AgentReport) -> Result<Finished> {
        let work = &claim.marker().work;
        let is_checked = work.rules.check.command().is_some();
        let is_in_worktree = matches!(work.checkout, Some(ClaimedCheckout::Own { .. }));
        if claim.marker().phase != Phase::Landing && (is_checked || is_in_worktree) {
            // The turn is over, whatever can be seen of it later.
            let clock = self.work_clock(&work.rules)?;
            claim.update(self.now, |claim| {
                claim.phase = if is_checked { Phase::Checking } else { Phase::Landing };
                claim.work.check = None;
                claim.work.end(clock);
            })?;
            self.end_agent(run)?;
            if is_checked {
                self.start_check(run, claim, Judged::Work)?;
                return Ok(Finished::GoesOn);
            }
        }
        let events = match self.finish_branch(&mut claim)? {
            Branch::Finished(events) => events,
            Branch::Conflict(message) => {
                if let Some(why) = self.no_further_round(&claim)? {
                    return Ok(Finished::Ends(Box::new(claim), why.step()));
                }
                self.give_back(run, claim, message, Round::Conflict)?;
                return Ok(Finished::GoesOn);
            }
            Branch::Unchecked => {
                self.start_check(run, claim, Judged::Work)?;
                return Ok(Finished::GoesOn);
            }
        };
        if is_checked && claim.marker().work.checked.is_none() {
            let ending = self.git_ending(&claim);
            let why = match &ending {
                Some(GitEnding::Branch(branch)) => branch.reason.as_deref(),
                _ => None,
            };
            let why =
                format!("its check cannot judge it: {}", why.unwrap_or("its worktree is broken"));
            let step = Step::EndAttempt {
                failure: AttemptFailure::of_task(why),
                outcome: Outcome::Failed,
                cooldown: false,
            };
            return Ok(Finished::Ends(Box::new(claim), step));
        }
        // What only a living agent shows is filed first: a pass that was killed after its end would leave a turn that
        // looks interrupted, and another agent would be given it again. Its cost, which Claude Code writes when it
        // ends, stays unknown then.
        if !report.only_while_it_lives {
            self.end_agent(run)?;
        }
        let mut ending = self.ending(&claim, Outcome::Done, None).with_cost(self.cost(&claim)?);
        ending.model = report.model.clone().or(ending.model);
        ending.refused = report.refused;
        let footer = footer(&ending, report);
        let placed = self.file(&claim, &ending, || {
            claim.finish(&ending, report.answer.as_deref(), Some(&footer))
        })?;
        if report.only_while_it_lives {
            self.end_agent(run)?;
        }
        Ok(Finished::Filed(Box::new(claim), placed, events))
    }

    /// Ends the agent of this run, wherever it is. One that has not started cannot start any more.
    pub(super) fn end_agent(&self, run: &Run) -> Result<()> {
        durable::remove(&run.session.files().ticket)?;
        process::terminate(run.id(), leader(run)?, GRACE)?;
        Ok(())
    }

    /// The same, with all that the agent has started: none of it may go on beside the next attempt. After a turn that
    /// ended well it may: a server, say, that the task asked for.
    pub(super) fn end_agent_and_its_tools(&self, run: &Run) -> Result<()> {
        durable::remove(&run.session.files().ticket)?;
        Ok(process::terminate_all(run.id(), leader(run)?, GRACE)?)
    }

    pub(super) fn close_window(&self, run: &Run) -> Result<()> {
        match &run.pane {
            // A server that was not there when the pass began may have been started for this run.
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
        durable::remove(&run.session.marker_path()).map(drop)
    }
}

/// The process of the run's window, unless its number is another user's by now.
fn leader(run: &Run) -> Result<Option<Pid>> {
    let Some(pane) = &run.pane else { return Ok(None) };
    let server = pane.server.as_ref().map(|server| server.pid);
    let is_gone = process::is_another_users(pane.pid, server).context(UNSEEN)?;
    Ok((!is_gone).then_some(pane.pid))
}

/// Where the step leaves the task.
fn outcome_of(step: &Step) -> Outcome {
    match step {
        Step::Finish(_) => Outcome::Done,
        Step::Place(outcome) | Step::EndAttempt { outcome, .. } => *outcome,
        Step::GiveUp { .. } => Outcome::Failed,
        _ => Outcome::Released,
    }
}

/// The same in words that follow the task's name.
fn place_of(step: &Step) -> &'static str {
    match outcome_of(step) {
        _ if matches!(step, Step::Clear | Step::RemoveClaim { .. }) => "has left the inbox",
        Outcome::Done => "is done, and filed in done/",
        Outcome::Failed => "is filed in failed/",
        Outcome::Released => "waits in the inbox again",
    }
}

/// The events of a step, as a pass and a dry run report them.
fn events_of(step: &Step, claim: Option<&Claim>) -> Vec<Event> {
    let Some(claim) = claim else { return Vec::new() };
    let marker = claim.marker();
    let of_task = || {
        let kind = match outcome_of(step) {
            Outcome::Done => EventKind::Done,
            Outcome::Failed => EventKind::Failed,
            Outcome::Released => EventKind::Released,
        };
        Event::of_task(kind, claim.project().path(), claim.name().as_str())
            .in_session(&marker.session)
            .by(Provider::ClaudeCode, marker.agent.model.clone())
    };
    let of_check = |how: String| {
        Event::of_task(EventKind::Checked, claim.project().path(), claim.name().as_str())
            .in_session(&marker.session)
            .because(how)
    };
    match step {
        Step::Leave(_)
        | Step::MarkWorking
        | Step::Clear
        | Step::RemoveClaim { .. }
        | Step::Check(_) => Vec::new(),
        Step::Accept => vec![of_check("green".to_owned())],
        Step::GiveBack { .. } => {
            let round = marker.work.rounds.red + 1;
            let rounds = marker.work.rules.check_rounds;
            vec![of_check(format!("red: given back to its agent, {round} of {rounds}"))]
        }
        Step::GiveUp { over_budget, .. } => {
            let why = over_budget.as_deref().unwrap_or("its check is still red");
            vec![of_check("red: given up".to_owned()), of_task().because(why)]
        }
        Step::Release | Step::TakeTicket => {
            vec![of_task().because(NOTHING_STARTED)]
        }
        Step::Place(_) | Step::Finish(_) => vec![of_task()],
        Step::EndAttempt { failure, cooldown, .. } => {
            let cooldown = cooldown.then(|| {
                Event::of_session(EventKind::Cooldown, &marker.session)
                    .because(failure.reason.as_str())
            });
            let hold = failure.hold.map(|_| {
                let hold = Event::new(EventKind::Hold).of_agent(marker.agent.name.clone());
                hold.because(failure.reason.as_str())
            });
            let ended = of_task().because(failure.reason.as_str());
            [ended].into_iter().chain(cooldown).chain(hold).collect()
        }
    }
}
