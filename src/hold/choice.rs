//! Which agent has a task now. Pure.

use std::collections::HashSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{AgentConfig, AgentKind, Agents};
use crate::marker::AgentHold;
use crate::money::Cost;
use crate::next_step::HoldCause;
use crate::text::local_time;

/// From its third try on an outage is not waited for.
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

/// Who has a task, or why nobody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    Agent {
        agent: &'a AgentConfig,
        /// `None` where it is not Claude Code.
        model: Option<String>,
        /// It finds out whether the agent's hold has ended.
        is_probe: bool,
    },
    /// No agent yet; a clause says why: `the agent claude, held until 15:00: …`.
    Wait(String),
}

/// What a task asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'t> {
    /// The only agent that may have it; one that the configuration does not name is none.
    pub(crate) agent: Option<&'t str>,
    /// The model that Claude Code would be given.
    pub(crate) model: &'t str,
}

/// How all agents stand in one pass.
#[derive(Debug)]
pub(crate) struct Lineup<'a> {
    agents: &'a Agents,
    now: Timestamp,
    /// In the order of [`Agents::all`].
    standing: Vec<Readiness>,
    /// Those that have a probe in this pass.
    probed: HashSet<&'a str>,
}

impl<'a> Lineup<'a> {
    pub(super) fn new(
        agents: &'a Agents,
        now: Timestamp,
        standing: impl Iterator<Item = Readiness>,
    ) -> Self {
        Self { agents, now, standing: standing.collect(), probed: HashSet::new() }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'a AgentConfig, &Readiness)> {
        self.agents.all().iter().zip(&self.standing)
    }

    /// Whether every agent is ready for every task, as a rule.
    pub(crate) fn is_all_ready(&self) -> bool {
        self.standing.iter().all(|readiness| *readiness == Readiness::Ready)
    }

    /// Whether there is an agent to which some task could go.
    pub(crate) fn has_room(&self) -> bool {
        self.rows().any(|(agent, readiness)| match readiness {
            Readiness::Ready => true,
            _ if readiness.hold().is_some_and(|hold| hold.model.is_some()) => true,
            Readiness::Due(_) => !self.probed.contains(agent.name.as_str()),
            Readiness::Held(_)
            | Readiness::Probing(_)
            | Readiness::OverBudget { .. }
            | Readiness::Unusable(_) => false,
        })
    }

    fn readiness(&self, agent: &AgentConfig) -> &Readiness {
        let found = self.rows().find(|(one, _)| one.name == agent.name);
        found.map_or(&Readiness::Ready, |(_, readiness)| readiness)
    }

    /// Who has the task: the agent that it is pinned to, else the first of `failover` that is neither held nor waited for.
    pub(crate) fn choose(&self, wanted: Wanted<'_>) -> Choice<'a> {
        if let Some(agent) = wanted.agent.and_then(|name| self.agents.named(name)) {
            return self
                .try_agent(agent, wanted.model)
                .unwrap_or_else(|(_, why)| Choice::Wait(why));
        }
        let mut first = None;
        for agent in self.agents.failover() {
            match self.try_agent(agent, wanted.model) {
                Ok(choice) => return choice,
                Err((Patience::WaitForIt, why)) => return Choice::Wait(first.unwrap_or(why)),
                Err((Patience::GoOn, why)) => first = first.or(Some(why)),
            }
        }
        Choice::Wait(first.unwrap_or_default())
    }

    /// Whether no agent of this machine that takes any task is to be waited for: then secutools takes over, where
    /// `failover` names it.
    pub(crate) fn goes_to_secutools(&self, model: &str) -> bool {
        let Some(before) = self.agents.secutools_after else { return false };
        self.agents
            .failover()
            .take(before)
            .all(|agent| matches!(self.try_agent(agent, model), Err((Patience::GoOn, _))))
    }

    /// The agent has a probe by now: no second one goes in this pass.
    pub(crate) fn note_probe(&mut self, agent: &'a AgentConfig) {
        self.probed.insert(&agent.name);
    }

    fn try_agent(
        &self,
        agent: &'a AgentConfig,
        model: &str,
    ) -> Result<Choice<'a>, (Patience, String)> {
        let is_claude = agent.kind == AgentKind::Claude;
        let chosen = |model: &str, is_probe| {
            let model = is_claude.then(|| model.to_owned());
            Ok(Choice::Agent { agent, model, is_probe })
        };
        let readiness = self.readiness(agent);
        let Some(hold) = readiness.hold() else {
            return match readiness {
                Readiness::Unusable(why) => Err((Patience::GoOn, why.clone())),
                Readiness::OverBudget { until, limit } => {
                    let until = local_time(*until, self.now, &TimeZone::system());
                    let name = &agent.name;
                    let why = format!(
                        "the agent {name}, which has spent its {limit} of today, until {until}"
                    );
                    Err((Patience::GoOn, why))
                }
                _ => chosen(model, false),
            };
        };
        if let Some(of) = &hold.model {
            if of != model {
                return chosen(model, false);
            }
            if let Some(other) = agent.fallback_model.as_deref().filter(|other| other != of) {
                return chosen(other, false);
            }
        }
        match readiness {
            Readiness::Due(_) if !self.probed.contains(agent.name.as_str()) => chosen(model, true),
            _ => Err((self.patience(hold), self.why(agent, readiness, hold))),
        }
    }

    fn patience(&self, hold: &AgentHold) -> Patience {
        let is_waited_for = match hold.cause {
            HoldCause::Limit => {
                hold.has_reset
                    && hold.until.duration_since(self.now) <= self.agents.reset_further_than
            }
            HoldCause::Outage => hold.tries <= PATIENT_TRIES,
            HoldCause::Account => false,
        };
        if is_waited_for { Patience::WaitForIt } else { Patience::GoOn }
    }

    fn why(&self, agent: &AgentConfig, readiness: &Readiness, hold: &AgentHold) -> String {
        let name = &agent.name;
        match readiness {
            Readiness::Held(_) => {
                let until = local_time(hold.until, self.now, &TimeZone::system());
                format!("the agent {name}, held until {until}: {}", hold.reason)
            }
            _ => format!(
                "the agent {name}: another task finds out whether this has ended: {}",
                hold.reason
            ),
        }
    }
}

/// What becomes of a task whose agent is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    WaitForIt,
    GoOn,
}
