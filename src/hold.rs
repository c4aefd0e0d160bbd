//! What stands in an agent's way: `STATE/agents/NAME.hold`, and who finds out whether it has ended.
//!
//! ```text
//! no file        the agent is ready
//!   | a run meets a limit, an outage, a login that is not valid
//! NAME.hold      no task until its time has come: held
//!   | its time has come, the next task is noted as the probe      (under NAME.lock)
//! the same       no other task until that has an answer: probing
//!   | its first answer: the file goes         | the same wall: a later time, no probe
//! ```
//!
//! A probe counts as long as its session has its marker. Whoever is killed in between leaves a hold whose time has come,
//! and the next task is the probe.

mod choice;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::config::{self, AgentConfig, Budget, Config};
use crate::durable;
use crate::lock::{self, Lock};
use crate::marker::{self, AgentHold, Dispatched, Probe, Stamp};
use crate::next_step::HoldCause;
use crate::spend::{self, Spend, Spent};

pub(crate) use choice::{Choice, Lineup, Readiness, Wanted};

/// A hold that is newer than this pass by no more was written by one that ran beside it.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Claude Code's clock and the account's need not be the same.
const BEHIND_RESET: SignedDuration = SignedDuration::from_mins(1);
/// How long what only a person can mend is left alone.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// What a run has met.
pub(crate) struct Wall<'a> {
    pub(crate) run: Uuid,
    pub(crate) started_at: Timestamp,
    pub(crate) cause: HoldCause,
    /// The one model whose limit it is.
    pub(crate) model: Option<&'a str>,
    /// When the limit is reset, where that is known.
    pub(crate) resets_at: Option<Timestamp>,
    pub(crate) reason: &'a str,
}

/// The holds of one pool.
pub(crate) struct Holds<'a> {
    config: &'a Config,
    now: Timestamp,
}

impl<'a> Holds<'a> {
    pub(crate) fn new(config: &'a Config, now: Timestamp) -> Self {
        Self { config, now }
    }

    fn directory(&self) -> PathBuf {
        self.config.state_dir.join("agents")
    }

    fn path(&self, agent: &str) -> PathBuf {
        self.directory().join(format!("{agent}.hold"))
    }

    /// Held only for a moment.
    fn lock(&self, agent: &str) -> Result<Lock> {
        let directory = self.directory();
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        lock::exclusive(&directory.join(format!("{agent}.lock")))
    }

    pub(crate) fn read(&self, agent: &str) -> Result<Option<AgentHold>, marker::Unreadable> {
        marker::read(&self.path(agent))
    }

    /// How the agents stand, those of `failover` first. What cannot be read is in its row.
    pub(crate) fn lineup(&self) -> Lineup<'a> {
        let agents = &self.config.agents;
        // What was spent is looked up only where something is made to depend on it.
        let has_budget = agents.all().iter().any(|agent| agent.budget.per_day.is_some());
        let spent = has_budget.then(|| Spend::new(&self.config.state_dir).of_today(self.now));
        let spent = spent.transpose().map_err(|error| format!("{error:#}"));
        let standing = agents.all().iter().map(|agent| match &spent {
            Err(why) if agent.budget.per_day.is_some() => Readiness::Unusable(why.clone()),
            Ok(Some(spent)) => {
                let over = self.over_budget(&agent.budget, spent.get(&agent.name));
                over.unwrap_or_else(|| self.readiness(agent))
            }
            Ok(None) | Err(_) => self.readiness(agent),
        });
        Lineup::new(agents, self.now, standing)
    }

    fn over_budget(&self, budget: &Budget, spent: Option<&Spent>) -> Option<Readiness> {
        let (limit, spent) = (budget.per_day.as_ref()?, spent?);
        spent.totals.reaches(limit).then(|| Readiness::OverBudget {
            until: spend::midnight(self.now),
            limit: limit.clone(),
        })
    }

    /// Whether secutools' jobs of today have cost as much as they may.
    pub(crate) fn is_secutools_over_budget(&self) -> Result<bool> {
        let budget = &self.config.secutools_budget;
        if budget.per_day.is_none() {
            return Ok(false);
        }
        let spent = Spend::new(&self.config.state_dir).of_today(self.now)?;
        Ok(self.over_budget(budget, spent.get(spend::OF_SECUTOOLS)).is_some())
    }

    fn readiness(&self, agent: &AgentConfig) -> Readiness {
        // Without its key it would ask for a login, and each of its tasks would find that out.
        if let Some(Err(error)) = agent.api_key_file.as_deref().map(config::private_key) {
            return Readiness::Unusable(format!("the agent {}: {error:#}", agent.name));
        }
        let hold = match self.read(&agent.name) {
            Ok(None) => return Readiness::Ready,
            Ok(Some(hold)) => hold,
            Err(unreadable) => return Readiness::Unusable(unreadable.to_string()),
        };
        if hold.probe.as_ref().is_some_and(|probe| self.is_under_way(probe)) {
            return Readiness::Probing(hold);
        }
        // One that begins in the future was written while the clock was wrong, and nobody knows when it would end.
        match hold.until > self.now && hold.stamp.at <= self.now + CLOCK_SKEW {
            true => Readiness::Held(hold),
            false => Readiness::Due(hold),
        }
    }

    fn is_under_way(&self, probe: &Probe) -> bool {
        let path =
            self.config.state_dir.join("sessions").join(format!("{}.dispatched", probe.session));
        match marker::read::<Dispatched>(&path) {
            Ok(marker) => marker.is_some_and(|marker| marker.run == probe.run),
            // It is left alone by every pass, and so is what it may stand for.
            Err(_) => true,
        }
    }

    /// Holds the agent, and returns the hold; `None` where it is held already and the run was not sent to see whether
    /// that has ended: this is the same wall once more. People are told first: a pass that is killed in between leaves no
    /// hold, and the next one tells them again.
    pub(crate) fn begin(
        &self,
        agent: &str,
        wall: &Wall<'_>,
        tell: impl FnOnce(&AgentHold) -> Result<()>,
    ) -> Result<Option<AgentHold>> {
        let _lock = self.lock(agent)?;
        let before = self.read(agent)?;
        let before = before.filter(|hold| hold.cause == wall.cause && covers(hold, wall));
        let is_probe = |hold: &AgentHold| hold.probe.as_ref().is_some_and(|it| it.run == wall.run);
        // A pass may have sent the run before another one, which had begun earlier, wrote this.
        let is_known =
            |hold: &AgentHold| wall.started_at <= hold.stamp.at || wall.started_at < hold.until;
        if before.as_ref().is_some_and(|hold| !is_probe(hold) && is_known(hold)) {
            return Ok(None);
        }
        let tries = before.as_ref().map_or(0, |hold| hold.tries).saturating_add(1);
        let hold = AgentHold {
            stamp: Stamp::new(&self.config.host, self.now),
            until: self.until(wall, tries),
            model: wall.model.map(str::to_owned),
            cause: wall.cause,
            reason: wall.reason.to_owned(),
            since: before.map_or(self.now, |hold| hold.since),
            tries,
            has_reset: wall.resets_at.is_some(),
            probe: None,
        };
        tell(&hold)?;
        marker::write(&self.path(agent), &hold)?;
        Ok(Some(hold))
    }

    fn until(&self, wall: &Wall<'_>, tries: u32) -> Timestamp {
        let doubling = |first: SignedDuration, most: SignedDuration| {
            let factor = 1_i32.checked_shl(tries.saturating_sub(1).min(10)).unwrap_or(1);
            self.now + first.saturating_mul(factor).min(most)
        };
        match (wall.cause, wall.resets_at) {
            (HoldCause::Limit, Some(reset)) => reset + BEHIND_RESET,
            (HoldCause::Limit, None) => {
                doubling(SignedDuration::from_mins(5), SignedDuration::from_hours(1))
            }
            (HoldCause::Outage, _) => {
                doubling(SignedDuration::from_mins(1), SignedDuration::from_mins(15))
            }
            (HoldCause::Account, _) => self.now + LOOK_AGAIN,
        }
    }

    /// Notes the run as the one that finds out whether the hold has ended. False: another one does, or it is not the time.
    pub(crate) fn begin_probe(
        &self,
        agent: &AgentConfig,
        run: Uuid,
        session: &str,
    ) -> Result<bool> {
        let _lock = self.lock(&agent.name)?;
        match self.readiness(agent) {
            Readiness::Ready => Ok(true),
            Readiness::Due(hold) => {
                let probe = Some(Probe { run, session: session.to_owned() });
                marker::write(&self.path(&agent.name), &AgentHold { probe, ..hold })?;
                Ok(true)
            }
            Readiness::Held(_)
            | Readiness::Probing(_)
            | Readiness::Unusable(_)
            | Readiness::OverBudget { .. } => Ok(false),
        }
    }

    /// Whether this run is the agent's probe.
    pub(crate) fn is_probe(&self, agent: &str, run: Uuid) -> Result<bool> {
        let hold = self.read(agent)?;
        Ok(hold.and_then(|hold| hold.probe).is_some_and(|probe| probe.run == run))
    }

    /// The probe has an answer: the hold has ended. False where it is no probe any more.
    pub(crate) fn end(&self, agent: &str, probe: Uuid) -> Result<bool> {
        let _lock = self.lock(agent)?;
        Ok(self.is_probe(agent, probe)? && durable::remove(&self.path(agent))?)
    }

    /// A person says that what it was for is mended. False where there is none.
    pub(crate) fn lift(&self, agent: &str) -> Result<bool> {
        let _lock = self.lock(agent)?;
        durable::remove(&self.path(agent))
    }
}

/// Whether the hold is about what the run has met: a limit of one model is another one than that of all.
fn covers(hold: &AgentHold, wall: &Wall<'_>) -> bool {
    hold.model.is_none() || hold.model.as_deref() == wall.model
}

#[cfg(test)]
mod tests;
