//! What a session did: filed by its evidence, and the session made free again.
//!
//! The same steps set right what a killed pass left, for every session with a
//! marker (DESIGN section 6, "Finish" and "Crashes"). The claim beside the task
//! counts; the session's marker only points to it, and goes last.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::observe::UNSEEN;
use super::told::{event_of, footer, released, rests};
use super::{Pool, Session, Word};
use crate::agent::{Doing, Failure, Report};
use crate::durable;
use crate::event::Event;
use crate::marker::{self, Cooldown, Dispatched, Phase, Stamp};
use crate::process::{self, Ended};
use crate::queue::{Claim, Found, Name, Project};
use crate::task::{Ending, Outcome, Provider};

/// How long a hook or a person waits for a pass that is at work on the session.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an agent may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// How long the shell may take to come back after that.
const SHELL_BACK: Duration = Duration::from_secs(5);
/// How long a shell may take to notice that what it had in front was killed.
const SHELL_NOTICES: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

impl Pool<'_> {
    /// Looks at what a session with a marker did, and files what has ended. An
    /// empty answer: nothing has, or another process is at work on it.
    ///
    /// Who says that the session is idle waits for that process: it may have
    /// looked before.
    pub fn settle(&self, session: &Session, word: Word) -> Result<Vec<Event>> {
        let lock = match word {
            Word::Pass => session.try_lock()?,
            Word::Idle(_) => session.lock_within(PATIENCE)?,
        };
        let Some(_lock) = lock else {
            return Ok(Vec::new());
        };
        let settle = || {
            if let Some(marker) = session.dispatched()? {
                self.check_server_of(&marker)?;
            }
            self.settle_locked(session, word)
        };
        settle().with_context(|| format!("session {}", session.name))
    }

    pub(super) fn settle_locked(&self, session: &Session, word: Word) -> Result<Vec<Event>> {
        let Some(marker) = session.dispatched()? else {
            return Ok(Vec::new());
        };
        let found = self.find(&marker)?;
        match found {
            Found::Nothing | Found::TaskGone(_) | Found::AtWork(_, Some(_))
                if self.is_watched(session, marker.run)? =>
            {
                Ok(Vec::new())
            }
            Found::Nothing => self.clear(session, marker.run).map(|()| Vec::new()),
            Found::TaskGone(claim) => self.task_gone(session, &claim),
            Found::AtWork(claim, Some(outcome)) => {
                self.end_agent(session, marker.run)?;
                let placed = claim.file(outcome)?;
                self.clear_after(session, &claim, outcome)?;
                Ok(placed.map_or_else(Vec::new, |_| vec![event_of(&claim, outcome, None)]))
            }
            Found::AtWork(claim, None) => match claim.marker().phase {
                Phase::Claimed => self.release(session, &claim),
                Phase::Launching if durable::remove(&session.files().ticket)? => {
                    self.release(session, &claim)
                }
                Phase::Launching | Phase::Working => self.finish(session, claim, word),
            },
        }
    }

    /// Ends the agent of `run`, whatever it is doing, and files its task as
    /// failed with `reason`.
    pub fn cancel(&self, session: &Session, run: Uuid, reason: &str) -> Result<Vec<Event>> {
        let Some(_lock) = session.lock_within(PATIENCE)? else {
            return Err(crate::error::Failure::Temporary(format!(
                "another pass is at work on {}: try again in a moment",
                session.name
            ))
            .into());
        };
        let marker = session.dispatched()?.filter(|marker| marker.run == run);
        let Some(marker) = marker else {
            bail!("it is not at work in {} any more", session.name);
        };
        let Found::AtWork(claim, None) = self.find(&marker)? else {
            return self.settle_locked(session, Word::Pass);
        };
        // What has not started yet must not start any more.
        durable::remove(&session.files().ticket)?;
        self.end_agent(session, run)?;
        let mut ending = self.ending(&claim, Outcome::Failed, Some(reason.to_owned()));
        ending.cost = self.cost(&claim)?;
        let placed = claim.finish(&ending, None, None)?;
        self.clear_after(session, &claim, Outcome::Failed)?;
        Ok(placed.map_or_else(Vec::new, |_| {
            vec![event_of(&claim, Outcome::Failed, Some(reason.to_owned()))]
        }))
    }

    pub(super) fn find(&self, marker: &Dispatched) -> Result<Found> {
        let Stamp { host, .. } = &marker.stamp;
        if *host != self.config.host {
            bail!(
                "its task {} is at work on the machine {host}, and this is {}: run ccl there, or, if this machine was renamed, set `host: {host}`",
                marker.task,
                self.config.host
            );
        }
        let project = Project::new(marker.project.clone());
        if !project.exists()? {
            bail!(
                "{} is not there, and with it the task {}: put it back (mount it?), or remove the session's marker",
                marker.project.display(),
                marker.task
            );
        }
        let name = Name::from_marker(&marker.task).with_context(|| {
            format!("{:?} in the session's marker is no task's name", marker.task)
        })?;
        match marker::known_owner(&self.config.state_dir)? {
            Some(owner) => project.find_claim(&name, marker.run, owner),
            None => bail!(
                "{} is gone, which says whose the task {name} is: write the `owner` that {} names into it",
                self.config.state_dir.join("owner").display(),
                project.claim_path(&name).display()
            ),
        }
    }

    /// Whether a person is looking at the agent: then it is not ended.
    pub(super) fn is_watched(&self, session: &Session, run: Uuid) -> Result<bool> {
        let is_watched = self.is_attended(session) && self.runs(session, run)?;
        if is_watched {
            self.log.debug(format_args!(
                "{}: a person is looking at it, so it is left as it is",
                session.name
            ));
        }
        Ok(is_watched)
    }

    /// Nothing was started: the task goes back as it is.
    fn release(&self, session: &Session, claim: &Claim) -> Result<Vec<Event>> {
        let placed = claim.release()?;
        self.clear_after(session, claim, Outcome::Released)?;
        Ok(placed.map_or_else(Vec::new, |_| vec![released(claim)]))
    }

    /// The task left the inbox under its agent's hands, or a person's. An agent
    /// that still works on it may say its last words, unless the task waits
    /// again: then somebody took it away from the agent.
    fn task_gone(&self, session: &Session, claim: &Claim) -> Result<Vec<Event>> {
        let waits_again = durable::exists(&claim.project().waiting_path(claim.name()))?;
        if !waits_again
            && claim.marker().phase != Phase::Claimed
            && self.runs(session, claim.marker().run)?
            && matches!(self.doing(session, claim, Word::Pass)?, Doing::Working)
        {
            return Ok(Vec::new());
        }
        self.log.info(format_args!(
            "{}: {} has left the inbox; the session is free again",
            session.name,
            claim.name()
        ));
        self.end_agent(session, claim.marker().run)?;
        claim.forget()?;
        self.clear(session, claim.marker().run)?;
        Ok(Vec::new())
    }

    fn finish(&self, session: &Session, mut claim: Claim, word: Word) -> Result<Vec<Event>> {
        let doing = self.doing(session, &claim, word)?;
        let is_over = !matches!(doing, Doing::Working | Doing::NeedsPerson(_));
        if !is_over {
            let is_launching = claim.marker().phase == Phase::Launching;
            // What cannot be seen now is noted by a later pass.
            if is_launching && self.runs(session, claim.marker().run).unwrap_or(false) {
                claim.advance(Phase::Working, self.now)?;
            }
            return Ok(Vec::new());
        }
        if self.is_watched(session, claim.marker().run)? {
            return Ok(Vec::new());
        }
        let (failure, events) = match doing {
            Doing::Finished(report) => return self.conclude_done(session, &claim, &report),
            Doing::Failed(failure) => {
                let events = self.conclude_failed(session, &claim, &failure)?;
                (failure, events)
            }
            Doing::Interrupted(reason) => {
                self.tidy_terminal(session)?;
                let failure = Failure::of_task(reason);
                let events = self.conclude(session, &claim, &failure)?;
                (failure, events)
            }
            Doing::Working | Doing::NeedsPerson(_) => return Ok(Vec::new()),
        };
        self.tell_attempt(&claim, &failure);
        Ok(events)
    }

    /// An agent that somebody killed has left the terminal as it had it. Its shell takes a moment to
    /// notice.
    fn tidy_terminal(&self, session: &Session) -> Result<()> {
        let Some(Dispatched { pane, .. }) = session.dispatched()? else {
            return Ok(());
        };
        let deadline = Instant::now() + SHELL_NOTICES;
        // With the pane's own process in front there is nobody else to disturb.
        while self.has_pane(&pane) && Instant::now() < deadline {
            if process::foreground(pane.pid)? == Some(pane.pid) {
                return process::reset_terminal(&pane.tty, pane.pid)
                    .with_context(|| format!("cannot reset {}", pane.tty.display()));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn conclude_done(
        &self,
        session: &Session,
        claim: &Claim,
        report: &Report,
    ) -> Result<Vec<Event>> {
        // What only a living agent shows is filed first: a pass that was killed after its end would
        // leave a turn that looks interrupted, and that another agent would be given again. Its cost,
        // which Claude Code writes when it ends, stays unknown then.
        if !report.only_while_it_lives {
            self.end_agent(session, claim.marker().run)?;
        }
        let mut ending = self.ending(claim, Outcome::Done, None);
        ending.model = report.model.clone().or(ending.model);
        ending.cost = self.cost(claim)?;
        let footer = footer(&ending, report);
        let placed = claim.finish(&ending, report.answer.as_deref(), Some(&footer))?;
        self.clear_after(session, claim, Outcome::Done)?;
        Ok(placed.map_or_else(Vec::new, |_| vec![event_of(claim, Outcome::Done, None)]))
    }

    /// A failed attempt: the task goes back or is given up, and the session rests.
    pub(super) fn conclude_failed(
        &self,
        session: &Session,
        claim: &Claim,
        failure: &Failure,
    ) -> Result<Vec<Event>> {
        self.rest(session, failure)?;
        let mut events = self.conclude(session, claim, failure)?;
        events.push(rests(session, failure));
        Ok(events)
    }

    /// Writes the session's cooldown.
    pub(super) fn rest(&self, session: &Session, failure: &Failure) -> Result<()> {
        let until = failure.until.unwrap_or_else(|| self.now + self.config.dispatcher.cooldown);
        marker::write(
            &session.cooldown_path(),
            &Cooldown {
                stamp: self.stamp(),
                until,
                reason: failure.reason.clone(),
                needs_person: failure.needs_person,
            },
        )
    }

    fn conclude(&self, session: &Session, claim: &Claim, failure: &Failure) -> Result<Vec<Event>> {
        self.end_agent(session, claim.marker().run)?;
        let outcome = self.outcome(claim, failure);
        let mut ending = self.ending(claim, outcome, Some(failure.reason.clone()));
        if !failure.counts {
            ending.attempt = ending.attempt.saturating_sub(1);
        }
        ending.cost = self.cost(claim)?;
        let placed = claim.finish(&ending, None, None)?;
        self.clear_after(session, claim, outcome)?;
        Ok(placed.map_or_else(Vec::new, |_| {
            vec![event_of(claim, outcome, Some(failure.reason.clone()))]
        }))
    }

    /// Says on standard error how an attempt ended.
    pub(super) fn tell_attempt(&self, claim: &Claim, failure: &Failure) {
        let marker::Claim { attempt, session, .. } = claim.marker();
        let which = match failure.counts {
            true => format!("attempt {attempt} of {}", self.config.dispatcher.max_attempts),
            false => "an attempt that does not count".to_owned(),
        };
        self.log.warn(format_args!("{} in {session}: {which}: {}", claim.name(), failure.reason));
    }

    pub(super) fn outcome(&self, claim: &Claim, failure: &Failure) -> Outcome {
        let was_last = claim.marker().attempt >= self.config.dispatcher.max_attempts;
        if was_last && failure.counts { Outcome::Failed } else { Outcome::Released }
    }

    fn ending(&self, claim: &Claim, outcome: Outcome, reason: Option<String>) -> Ending {
        let marker = claim.marker();
        Ending {
            run: marker.run,
            outcome,
            attempt: marker.attempt,
            provider: Some(Provider::ClaudeCode),
            model: marker.agent.model.clone(),
            session: Some(marker.session.clone()),
            agent_session: marker.agent.session.map(|id| id.to_string()),
            job_id: None,
            cost: None,
            started_at: Some(marker.started_at),
            ended_at: Some(self.now),
            reason,
        }
    }

    /// Ends the agent of this run, wherever it still is, and waits for the shell.
    /// One that has not started cannot start any more: without its ticket the
    /// script ends, and whoever took that carries the run.
    fn end_agent(&self, session: &Session, run: Uuid) -> Result<()> {
        let Some(Dispatched { pane, .. }) = session.dispatched()? else {
            return Ok(());
        };
        durable::remove(&session.files().ticket)?;
        let ended = process::terminate(run, pane.pid, GRACE)?;
        let outlived_its_pane = process::foreground(pane.pid).context(UNSEEN)?.is_none();
        if ended == Ended::NotThere || outlived_its_pane {
            return Ok(());
        }
        let shell = process::wait_until_ready(pane.pid, SHELL_BACK);
        if ended == Ended::Killed || shell.is_err() {
            self.tidy_terminal(session)?;
        }
        Ok(())
    }

    /// Clears the session of a task that has its place. No event tells of that where clearing fails,
    /// nor will a later pass: the error does.
    fn clear_after(&self, session: &Session, claim: &Claim, outcome: Outcome) -> Result<()> {
        let cleared = self.clear(session, claim.marker().run);
        cleared.with_context(|| {
            let what = match outcome {
                Outcome::Done => "is done, and filed in done/",
                Outcome::Failed => "is filed in failed/",
                Outcome::Released => "waits in the inbox again",
            };
            format!("{} {what}, but its session is not free yet", claim.name())
        })
    }

    /// The session has no task any more; its marker goes last.
    fn clear(&self, session: &Session, run: Uuid) -> Result<()> {
        self.end_agent(session, run)?;
        let files = session.files();
        for file in
            [&files.ticket, &files.run, &files.prompt, &files.exit, &files.hook, &files.stop]
        {
            durable::remove(file)?;
        }
        durable::remove(&session.marker_path()).map(drop)
    }
}
