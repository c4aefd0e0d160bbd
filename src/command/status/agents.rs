//! Which agents are given tasks, and what they have spent.

use crate::command::Context;
use crate::command::status::Problems;
use crate::hold::{Holds, Readiness};
use crate::next_step::HoldCause;
use crate::report::{AgentReadiness, AgentRow};
use crate::spend::{OF_SECUTOOLS, Spend};
use crate::task::Provider;

/// The rows of the agents, and how many of the engines' jobs of today have no known cost.
pub(super) fn rows(context: Context<'_>, problems: &mut Problems<'_>) -> (Vec<AgentRow>, usize) {
    let lineup = Holds::new(context.config, context.now).lineup();
    let spent = Spend::new(&context.config.state_dir).of_today(context.now);
    let mut spent = spent.unwrap_or_else(|error| {
        problems.note(&error);
        Default::default()
    });
    let rows = lineup.rows().map(|(agent, availability)| {
        let readiness = availability.worst();
        let hold = readiness.hold();
        let state = match readiness {
            Readiness::Ready => AgentReadiness::Ready,
            Readiness::Unusable(_) => AgentReadiness::NeedsAttention,
            Readiness::Held(hold) if hold.cause == HoldCause::Account => {
                AgentReadiness::NeedsAttention
            }
            Readiness::Held(_) => AgentReadiness::Held,
            Readiness::Due(_) | Readiness::Probing(_) => AgentReadiness::Probing,
            Readiness::OverBudget { .. } => AgentReadiness::OverBudget,
        };
        let reason = match readiness {
            Readiness::Unusable(why) => Some(why.clone()),
            Readiness::OverBudget { limit, .. } => Some(format!("budget: {limit} a day")),
            _ => hold.map(|hold| match &hold.model {
                Some(model) => format!("{model}: {}", hold.reason),
                None => hold.reason.clone(),
            }),
        };
        let until = match readiness {
            Readiness::OverBudget { until, .. } => Some(*until),
            _ => hold.map(|hold| hold.until),
        };
        let spent = spent.remove(&agent.name).unwrap_or_default();
        AgentRow {
            name: agent.name.clone(),
            kind: agent.kind.as_str(),
            state,
            until,
            reason,
            spent_today: spent.totals.costs(),
            unknown_costs: spent.unknown,
        }
    });
    let rows = rows.collect();
    let of_jobs = [OF_SECUTOOLS, Provider::Remote.as_str()].into_iter();
    (rows, of_jobs.filter_map(|name| spent.remove(name)).map(|spent| spent.unknown).sum())
}
