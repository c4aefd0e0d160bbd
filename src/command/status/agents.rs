//! Which agents are given tasks.

use crate::command::Context;
use crate::hold::{Holds, Readiness};
use crate::next_step::HoldCause;
use crate::report::{AgentRow, AgentStanding};

pub(super) fn rows(context: Context<'_>) -> Vec<AgentRow> {
    let lineup = Holds::new(context.config, context.now).lineup();
    let rows = lineup.rows().map(|(agent, readiness)| {
        let hold = readiness.hold();
        let state = match readiness {
            Readiness::Ready => AgentStanding::Ready,
            Readiness::Unusable(_) => AgentStanding::NeedsAttention,
            Readiness::Held(hold) if hold.cause == HoldCause::Account => {
                AgentStanding::NeedsAttention
            }
            Readiness::Held(_) => AgentStanding::Held,
            Readiness::Due(_) | Readiness::Probing(_) => AgentStanding::Probing,
        };
        let reason = match readiness {
            Readiness::Unusable(why) => Some(why.clone()),
            _ => hold.map(|hold| match &hold.model {
                Some(model) => format!("{model}: {}", hold.reason),
                None => hold.reason.clone(),
            }),
        };
        AgentRow {
            name: agent.name.clone(),
            kind: agent.kind.as_str(),
            state,
            until: hold.map(|hold| hold.until),
            reason,
        }
    });
    rows.collect()
}
