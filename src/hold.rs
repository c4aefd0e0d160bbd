//! What stands in an agent's way: `STATE/agents/NAME.hold`, and the probe that finds out whether it has ended.
//!
//! ```text
//! no file        the agent is ready
//!   | a run meets a limit, an outage, a login that is not valid
//! NAME.hold      no task until its time has come: held
//!   | its time has come, the next task is noted as the probe      (under NAME.lock)
//! the same       no other task until that has an answer: probing
//!   | its first answer: the file goes         | the same again: a later time, no probe
//! ```
//!
//! A limit of one model has a file of its own, `NAME@MODEL.hold`: two of them may be reached at once. A probe counts as
//! long as its session has its marker. A pass that is killed in between leaves a hold whose time has come, and the next
//! task is the probe.

mod choice;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::config::{self, AgentConfig, Budget, Config};
use crate::durable;
use crate::lock::{self, Lock};
use crate::marker::{self, AgentHold, Dispatched, Probe, Stamp};
use crate::next_step::HoldCause;
use crate::spend::{self, Spend, Spent};

pub(crate) use choice::{AgentAvailability, Choice, Lineup, Readiness, Wanted};

/// How long after its reset a limit is still respected: this machine's clock and the account's need not be the same.
const BEHIND_RESET: SignedDuration = SignedDuration::from_mins(1);
/// How long what only a person can mend is left alone.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(1);
/// At most this many tasks are noted as probes that have met the same again.
const MOST_REFUSED: usize = 100;

/// Why a run begins a hold on its agent.
pub(crate) struct HoldTrigger<'a> {
    pub(crate) run: Uuid,
    pub(crate) started_at: Timestamp,
    pub(crate) cause: HoldCause,
    /// The one model whose limit it is, by a word of its name.
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

    fn path(&self, agent: &str, model: Option<&str>) -> PathBuf {
        let model = model.map_or_else(String::new, |model| format!("@{model}"));
        self.directory().join(format!("{agent}{model}.hold"))
    }

    /// Held only for a moment.
    fn lock(&self, agent: &str) -> Result<Lock> {
        let directory = self.directory();
        durable::make_dirs(&directory)?;
        lock::exclusive(&directory.join(format!("{agent}.lock")))
    }

    /// All holds of the agent: that of all its models first.
    fn all_of(&self, agent: &str) -> Result<Vec<(PathBuf, AgentHold)>> {
        let mut holds = Vec::new();
        for path in self.paths(agent)? {
            if let Some(hold) = read(&path, agent)? {
                holds.push((path, hold));
            }
        }
        Ok(holds)
    }

    /// Where holds of the agent lie: that of all its models first.
    fn paths(&self, agent: &str) -> Result<Vec<PathBuf>> {
        let (whole, of_model) = (format!("{agent}.hold"), format!("{agent}@"));
        let mut paths = Vec::new();
        for entry in durable::list_dir(&self.directory())? {
            let name = entry?.file_name();
            let is_one = |name: &str| {
                name == whole || (name.starts_with(&of_model) && name.ends_with(".hold"))
            };
            if name.to_str().is_some_and(is_one) {
                paths.push(self.directory().join(name));
            }
        }
        // The dot of `NAME.hold` sorts before the `@` of a model's.
        paths.sort();
        Ok(paths)
    }

    /// The hold whose probe the run is.
    fn probed_by(&self, agent: &str, run: Uuid) -> Result<Option<PathBuf>> {
        let is_probe = |hold: &AgentHold| hold.probe.as_ref().is_some_and(|it| it.run == run);
        let all = self.all_of(agent)?;
        Ok(all.into_iter().find(|(_, hold)| is_probe(hold)).map(|(path, _)| path))
    }

    /// How the agents stand, those of `failover` first. What cannot be read is in its row.
    pub(crate) fn lineup(&self) -> Lineup<'a> {
        let agents = &self.config.agents;
        // What was spent is looked up only where a budget depends on it.
        let has_budget = agents.all().iter().any(|agent| agent.budget.per_day.is_some());
        let spent = has_budget.then(|| Spend::new(&self.config.state_dir).of_today(self.now));
        let spent = spent.transpose().map_err(|error| format!("{error:#}"));
        let availability = agents.all().iter().map(|agent| match &spent {
            Err(why) if agent.budget.per_day.is_some() => Readiness::Unusable(why.clone()).into(),
            Ok(Some(spent)) => {
                let over = self.over_budget(&agent.budget, spent.get(&agent.name));
                over.map_or_else(|| self.availability(agent), AgentAvailability::from)
            }
            Ok(None) | Err(_) => self.availability(agent),
        });
        Lineup::new(agents, self.now, availability)
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

    fn availability(&self, agent: &AgentConfig) -> AgentAvailability {
        // Without its key it would ask for a login, and each of its tasks would find that out.
        if let Some(Err(error)) = agent.api_key_file.as_deref().map(config::private_key) {
            return Readiness::Unusable(format!("the agent {}: {error:#}", agent.name)).into();
        }
        let mut availability = AgentAvailability::from(Readiness::Ready);
        match self.all_of(&agent.name) {
            Ok(holds) => {
                for (_, hold) in holds {
                    match hold.model {
                        Some(_) => availability.models.push(self.readiness(hold)),
                        None => availability.all = self.readiness(hold),
                    }
                }
            }
            Err(error) => availability.all = Readiness::Unusable(format!("{error:#}")),
        }
        availability
    }

    fn readiness(&self, hold: AgentHold) -> Readiness {
        if hold.probe.as_ref().is_some_and(|probe| self.is_under_way(probe)) {
            return Readiness::Probing(hold);
        }
        // A hold that begins in the future was written while the clock was wrong: its end is wrong as well, so it is
        // due.
        match hold.until > self.now && hold.stamp.at <= self.now + marker::CLOCK_SKEW {
            true => Readiness::Held(hold),
            false => Readiness::Due(hold),
        }
    }

    fn is_under_way(&self, probe: &Probe) -> bool {
        let path =
            self.config.state_dir.join("sessions").join(format!("{}.dispatched", probe.session));
        match marker::read::<Dispatched>(&path) {
            Ok(marker) => marker.is_some_and(|marker| marker.run == probe.run),
            // Every pass leaves such a marker alone, so the probe may still be under way.
            Err(_) => true,
        }
    }

    /// Holds the agent, and returns the hold; `None` where it is held already and the run was not sent to see whether
    /// that has ended. People are notified first: a pass that is killed in between leaves no hold, and the next one notifies
    /// them again.
    pub(crate) fn begin(
        &self,
        agent: &str,
        trigger: &HoldTrigger<'_>,
        notify: impl FnOnce(&AgentHold) -> Result<()>,
    ) -> Result<Option<AgentHold>> {
        let _lock = self.lock(agent)?;
        let path = self.path(agent, trigger.model);
        let before = read(&path, agent)?;
        if before.as_ref().is_some_and(|hold| self.is_older_news(trigger, hold)) {
            return Ok(None);
        }
        // With another cause it is another hold, whose beginning and tries count anew.
        let same = before.filter(|hold| hold.cause == trigger.cause);
        let tries = same.as_ref().map_or(0, |hold| hold.tries).saturating_add(1);
        let hold = AgentHold {
            stamp: Stamp::new(&self.config.host, self.now),
            until: self.until(trigger, tries),
            model: trigger.model.map(str::to_owned),
            cause: trigger.cause,
            reason: trigger.reason.to_owned(),
            since: same.as_ref().map_or(self.now, |hold| hold.since),
            tries,
            has_reset: trigger.resets_at.is_some(),
            probe: None,
            refused: same.map(refused_with_its_probe).unwrap_or_default(),
        };
        notify(&hold)?;
        marker::write(&path, &hold)?;
        Ok(Some(hold))
    }

    /// Whether [`Holds::begin`] would find it held already.
    pub(crate) fn is_held_for(&self, agent: &str, trigger: &HoldTrigger<'_>) -> Result<bool> {
        let hold = read(&self.path(agent, trigger.model), agent)?;
        Ok(hold.is_some_and(|hold| self.is_older_news(trigger, &hold)))
    }

    /// Whether the run that has met this was at work before the hold began, so that it says nothing of the time since. A
    /// graver cause counts all the same: a limit that is reset tomorrow, behind an outage.
    fn is_older_news(&self, trigger: &HoldTrigger<'_>, hold: &AgentHold) -> bool {
        // The probe was sent to find this out.
        if hold.probe.as_ref().is_some_and(|probe| probe.run == trigger.run) {
            return false;
        }
        // The stamp is the time at which the writing pass began: another pass may have sent the run after that, and
        // before this was written.
        let is_known = trigger.started_at <= hold.stamp.at || trigger.started_at < hold.until;
        let is_graver = match (trigger.cause, hold.cause) {
            (_, HoldCause::Account) => false,
            (HoldCause::Account, _) => true,
            (cause, other) => cause != other && self.until(trigger, 1) > hold.until,
        };
        is_known && !is_graver
    }

    fn until(&self, trigger: &HoldTrigger<'_>, tries: u32) -> Timestamp {
        let doubling = |first: SignedDuration, most: SignedDuration| {
            // After ten doublings every delay is at its maximum anyway.
            let factor = 1_i32.checked_shl(tries.saturating_sub(1).min(10)).unwrap_or(1);
            self.now + first.saturating_mul(factor).min(most)
        };
        match (trigger.cause, trigger.resets_at) {
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

    /// Notes the run as the probe of the hold that stands in its way. False: another run is the probe, or the hold's
    /// time has not come.
    pub(crate) fn begin_probe(
        &self,
        agent: &AgentConfig,
        model: Option<&str>,
        probe: Probe,
    ) -> Result<bool> {
        let _lock = self.lock(&agent.name)?;
        let availability = self.availability(agent);
        match availability.in_the_way(model) {
            // The hold has ended meanwhile, so there is nothing to find out.
            None => Ok(true),
            Some(Readiness::Due(hold)) => {
                let path = self.path(&agent.name, hold.model.as_deref());
                marker::write(&path, &AgentHold { probe: Some(probe), ..hold.clone() })?;
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    /// Whether this run is a probe of the agent's.
    pub(crate) fn is_probe(&self, agent: &str, run: Uuid) -> Result<bool> {
        Ok(self.probed_by(agent, run)?.is_some())
    }

    /// Ends the hold whose probe has an answer. False where the run is no probe any more.
    pub(crate) fn end(&self, agent: &str, probe: Uuid) -> Result<bool> {
        let _lock = self.lock(agent)?;
        match self.probed_by(agent, probe)? {
            Some(path) => durable::remove(&path),
            None => Ok(false),
        }
    }

    /// Removes all holds of the agent: a person says that their cause is mended. False where there were none.
    pub(crate) fn lift(&self, agent: &str) -> Result<bool> {
        let _lock = self.lock(agent)?;
        let mut was_held = false;
        // None is read: one that cannot be understood goes as well.
        for path in self.paths(agent)? {
            was_held |= durable::remove(&path)?;
        }
        Ok(was_held)
    }
}

/// Reads a hold. One that cannot be understood is left alone, and the agent gets no task meanwhile.
fn read(path: &Path, agent: &str) -> Result<Option<AgentHold>> {
    match marker::read(path) {
        Err(marker::Unreadable::Nonsense { path, why }) => Err(anyhow!(
            "the agent {agent} gets no task: {} cannot be understood: {why}; `ccl resume` removes it",
            path.display()
        )),
        read => Ok(read?),
    }
}

/// The tasks that were probes of this hold and have met the same again, its last probe at the end.
fn refused_with_its_probe(hold: AgentHold) -> Vec<String> {
    let AgentHold { mut refused, probe, .. } = hold;
    if let Some(Probe { task, .. }) = probe {
        refused.retain(|known| *known != task);
        refused.push(task);
    }
    refused.split_off(refused.len().saturating_sub(MOST_REFUSED))
}

#[cfg(test)]
mod tests;
