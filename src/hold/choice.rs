//! Which agent gets a task now. Pure.

use std::cell::OnceCell;
use std::collections::HashSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{AgentConfig, AgentKind, Agents};
use crate::marker::{AgentHold, Probe};
use crate::money::Cost;
use crate::next_step::HoldCause;
use crate::text::local_time;

/// Up to this try an outage is waited for; from its third try on it is not.
const PATIENT_TRIES: u32 = 2;

/// Whether an agent may have a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    Held(AgentHold),
    /// The hold's time has come: one task may go, to see whether it has ended.
    Due(AgentHold),
    /// A task has gone to see that, and has no answer yet.
    Probing(AgentHold),
    /// Its runs of today have cost as much as they may.
    OverBudget {
        until: Timestamp,
        limit: Cost,
    },
    /// Its hold or its key cannot be read; the sentence says why.
    Unusable(String),
}

impl Readiness {
    pub(crate) fn hold(&self) -> Option<&AgentHold> {
        match self {
            Self::Ready | Self::Unusable(_) | Self::OverBudget { .. } => None,
            Self::Held(hold) | Self::Due(hold) | Self::Probing(hold) => Some(hold),
        }
    }
}

/// Whether an agent can have a task: as a whole, and with each model that has a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentAvailability {
    pub(super) all: Readiness,
    /// One for each model that has a hold.
    pub(super) models: Vec<Readiness>,
}

impl From<Readiness> for AgentAvailability {
    fn from(all: Readiness) -> Self {
        Self { all, models: Vec::new() }
    }
}

impl AgentAvailability {
    /// The hold of the model with this name, `opus` or `claude-opus-4-5`.
    fn of_model(&self, model: &str) -> Option<&Readiness> {
        let covers = |of: &str| model.to_lowercase().contains(of);
        let is_of_it = |readiness: &&Readiness| {
            readiness.hold().and_then(|hold| hold.model.as_deref()).is_some_and(covers)
        };
        self.models.iter().find(is_of_it)
    }

    /// What stands in the way of a task with this model, or of any.
    pub(super) fn in_the_way(&self, model: Option<&str>) -> Option<&Readiness> {
        match &self.all {
            Readiness::Ready => model.and_then(|model| self.of_model(model)),
            all => Some(all),
        }
    }

    /// The readiness to show for the agent: if nothing holds it as a whole, a model's hold.
    pub(crate) fn worst(&self) -> &Readiness {
        match &self.all {
            Readiness::Ready => self.models.first().unwrap_or(&self.all),
            all => all,
        }
    }
}

/// Which agent gets a task, or why none does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    Agent {
        agent: &'a AgentConfig,
        /// `None` where it is not Claude Code.
        model: Option<String>,
        /// It finds out whether the agent's hold has ended.
        is_probe: bool,
        /// Why an agent that comes before it, or the model that was asked for, does not get the task.
        passed_over: Option<String>,
    },
    /// No agent yet; a clause says why: `the agent claude, held until 15:00: …`.
    Wait(String),
    /// No agent yet, for the reason in this clause: the task was a probe before, and met the same again. After all
    /// other tasks it may be a probe once more.
    Last(String),
}

/// What a task asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'t> {
    /// Project and name.
    pub(crate) task: &'t str,
    /// The agent that the task is pinned to; a name that the configuration does not have pins it to none.
    pub(crate) agent: Option<&'t str>,
    /// The model that Claude Code would be given.
    pub(crate) model: &'t str,
}

/// How all agents stand in one pass.
#[derive(Debug)]
pub(crate) struct Lineup<'a> {
    agents: &'a Agents,
    now: Timestamp,
    /// The machine's time zone, found once a sentence names a time: to find it, hundreds of files are looked at.
    zone: OnceCell<TimeZone>,
    /// In the order of [`Agents::all`].
    availability: Vec<AgentAvailability>,
    /// The holds that have a probe in this pass: the agent, and the model that it is about.
    probed: HashSet<(&'a str, Option<String>)>,
    /// Whether a task may be a probe that was one before, and met the same again.
    takes_last: bool,
}

impl<'a> Lineup<'a> {
    pub(super) fn new(
        agents: &'a Agents,
        now: Timestamp,
        availability: impl Iterator<Item = AgentAvailability>,
    ) -> Self {
        Self {
            agents,
            now,
            zone: OnceCell::new(),
            availability: availability.collect(),
            probed: HashSet::new(),
            takes_last: false,
        }
    }

    fn zone(&self) -> &TimeZone {
        self.zone.get_or_init(TimeZone::system)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'a AgentConfig, &AgentAvailability)> {
        self.agents.all().iter().zip(&self.availability)
    }

    /// Whether no agent is held, for any model, or over its budget, or unusable.
    pub(crate) fn is_all_ready(&self) -> bool {
        self.availability.iter().all(|availability| *availability.worst() == Readiness::Ready)
    }

    /// Whether there is an agent to which some task could go.
    pub(crate) fn has_capacity(&self) -> bool {
        self.rows().any(|(agent, availability)| match &availability.all {
            Readiness::Ready => true,
            Readiness::Due(hold) => !self.has_probe(agent, hold),
            Readiness::Held(_)
            | Readiness::Probing(_)
            | Readiness::OverBudget { .. }
            | Readiness::Unusable(_) => false,
        })
    }

    /// From now on, tasks that were probes before may be probes again: no other task has become one.
    pub(crate) fn take_last(&mut self) {
        self.takes_last = true;
    }

    /// Chooses the agent: the one that the task is pinned to, else the first of `failover` that takes it. A held agent
    /// that is worth waiting for ends the search.
    pub(crate) fn choose(&self, wanted: Wanted<'_>) -> Choice<'a> {
        if let Some(agent) = wanted.agent.and_then(|name| self.agents.named(name)) {
            return self.try_agent(agent, wanted).unwrap_or_else(|why_not| why_not.choice());
        }
        let mut not_taken: Vec<NotTaken> = Vec::new();
        for agent in self.agents.failover() {
            match self.try_agent(agent, wanted) {
                Ok(Choice::Agent { agent, model, is_probe, passed_over }) => {
                    let first = not_taken.into_iter().next().map(|why_not| why_not.why);
                    let passed_over = first.or(passed_over);
                    return Choice::Agent { agent, model, is_probe, passed_over };
                }
                Ok(choice) => return choice,
                Err(why_not) if why_not.patience == Patience::WaitForIt => {
                    return why_not.choice();
                }
                Err(why_not) => not_taken.push(why_not),
            }
        }
        // An agent that may take it after all other tasks goes before those that do not take it at all.
        not_taken.sort_by_key(|why_not| why_not.patience != Patience::ComeLast);
        let first = not_taken.into_iter().next();
        first.map_or_else(|| Choice::Wait(String::new()), NotTaken::choice)
    }

    /// Whether secutools takes the task over: `failover` names it, and no agent before it there takes the task or is
    /// waited for. A pinned task waits for its agent.
    pub(crate) fn goes_to_secutools(&self, wanted: Wanted<'_>) -> bool {
        let Some(before) = self.agents.secutools_after else { return false };
        if wanted.agent.is_some_and(|name| self.agents.named(name).is_some()) {
            return false;
        }
        self.agents.failover().take(before).all(|agent| {
            let why_not = self.try_agent(agent, wanted).err();
            why_not.is_some_and(|why_not| why_not.patience == Patience::GoOn)
        })
    }

    /// The agent has a probe by now: no second one goes in this pass.
    pub(crate) fn note_probe(&mut self, agent: &'a AgentConfig, model: Option<&str>) {
        let hold = self.availability_of(agent).and_then(|it| it.in_the_way(model)?.hold());
        if let Some(of) = hold.map(|hold| hold.model.clone()) {
            self.probed.insert((&agent.name, of));
        }
    }

    fn availability_of(&self, agent: &AgentConfig) -> Option<&AgentAvailability> {
        self.rows().find(|(one, _)| one.name == agent.name).map(|(_, availability)| availability)
    }

    fn has_probe(&self, agent: &'a AgentConfig, hold: &AgentHold) -> bool {
        self.probed.contains(&(agent.name.as_str(), hold.model.clone()))
    }

    fn try_agent(
        &self,
        agent: &'a AgentConfig,
        wanted: Wanted<'_>,
    ) -> Result<Choice<'a>, NotTaken> {
        let is_claude = agent.kind == AgentKind::Claude;
        let chosen = |model: &str, is_probe, passed_over| {
            let model = is_claude.then(|| model.to_owned());
            Ok(Choice::Agent { agent, model, is_probe, passed_over })
        };
        let (name, model) = (&agent.name, wanted.model);
        let Some(availability) = self.availability_of(agent) else {
            return chosen(model, false, None);
        };
        match &availability.all {
            Readiness::Ready => {}
            Readiness::Unusable(why) => {
                return Err(NotTaken { patience: Patience::GoOn, why: why.clone() });
            }
            Readiness::OverBudget { until, limit } => {
                let until = local_time(*until, self.now, self.zone());
                let why = format!(
                    "the agent {name}, which has spent its {limit} of today, until {until}"
                );
                return Err(NotTaken { patience: Patience::GoOn, why });
            }
            held => {
                return match self.try_probe(agent, held, wanted) {
                    Ok(why) => chosen(model, true, Some(why)),
                    Err(why_not) => Err(why_not),
                };
            }
        }
        let Some(held) = availability.of_model(model) else { return chosen(model, false, None) };
        let why_not = match self.try_probe(agent, held, wanted) {
            Ok(why) => return chosen(model, true, Some(why)),
            Err(why_not) => why_not,
        };
        // Another model meanwhile, unless that is held, too.
        let Some(other) = agent.fallback_model.as_deref() else { return Err(why_not) };
        match availability.of_model(other) {
            None => chosen(other, false, Some(why_not.why)),
            Some(held) if self.try_probe(agent, held, wanted).is_ok() => {
                chosen(other, true, Some(why_not.why))
            }
            Some(_) => Err(why_not),
        }
    }

    /// Whether the task may be the hold's probe, and what for; else why not, and whether the agent is waited for.
    fn try_probe(
        &self,
        agent: &'a AgentConfig,
        readiness: &Readiness,
        wanted: Wanted<'_>,
    ) -> Result<String, NotTaken> {
        let name = &agent.name;
        let (hold, is_due) = match readiness {
            Readiness::Due(hold) => (hold, true),
            Readiness::Held(hold) => {
                let until = local_time(hold.until, self.now, self.zone());
                let why = format!("the agent {name}, held until {until}: {}", hold.reason);
                return Err(NotTaken { patience: self.patience(readiness, hold), why });
            }
            Readiness::Probing(hold) => (hold, false),
            // Not asked about these: `try_agent` has dealt with them.
            Readiness::Ready | Readiness::OverBudget { .. } | Readiness::Unusable(_) => {
                return Ok(String::new());
            }
        };
        if !is_due || self.has_probe(agent, hold) {
            let why = format!(
                "the agent {name}: another task finds out whether this has ended: {}",
                hold.reason
            );
            return Err(NotTaken { patience: self.patience(readiness, hold), why });
        }
        if !self.takes_last && hold.refused.iter().any(|task| task == wanted.task) {
            let why = format!(
                "the agent {name}: it has met this before, and another task goes first: {}",
                hold.reason
            );
            return Err(NotTaken { patience: Patience::ComeLast, why });
        }
        Ok(format!("it finds out whether this has ended: {}", hold.reason))
    }

    fn patience(&self, readiness: &Readiness, hold: &AgentHold) -> Patience {
        let most = self.agents.reset_further_than;
        let hangs = |probe: &Probe| self.now.duration_since(probe.since) > most;
        let is_waited_for = match hold.cause {
            // A probe that hangs is not waited for longer than a reset.
            _ if matches!(readiness, Readiness::Probing(_))
                && hold.probe.as_ref().is_some_and(hangs) =>
            {
                false
            }
            HoldCause::Limit => hold.has_reset && hold.until.duration_since(self.now) <= most,
            HoldCause::Outage => hold.tries <= PATIENT_TRIES,
            HoldCause::Account => false,
        };
        if is_waited_for { Patience::WaitForIt } else { Patience::GoOn }
    }
}

/// Why an agent does not have a task, and what becomes of the task.
#[derive(Debug)]
struct NotTaken {
    patience: Patience,
    why: String,
}

impl NotTaken {
    fn choice<'a>(self) -> Choice<'a> {
        match self.patience {
            Patience::ComeLast => Choice::Last(self.why),
            Patience::WaitForIt | Patience::GoOn => Choice::Wait(self.why),
        }
    }
}

/// What becomes of a task whose agent is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    WaitForIt,
    /// It may be the agent's probe, behind all others.
    ComeLast,
    GoOn,
}
