//! What is told of a task's end: events, and the one line for people in its file.

use super::Session;
use crate::agent::{Failure, Report};
use crate::event::{Event, EventKind};
use crate::queue::Claim;
use crate::task::{Ending, Outcome, Provider};

pub(super) fn released(claim: &Claim) -> Event {
    let reason = "the pass that had claimed it ended before it started anything";
    event_of(claim, Outcome::Released, Some(reason.to_owned()))
}

pub(super) fn rests(session: &Session, failure: &Failure) -> Event {
    Event {
        session: Some(session.name.clone()),
        reason: Some(failure.reason.clone()),
        ..Event::new(EventKind::Cooldown)
    }
}

pub(super) fn event_of(claim: &Claim, outcome: Outcome, reason: Option<String>) -> Event {
    let marker = claim.marker();
    let kind = match outcome {
        Outcome::Done => EventKind::Done,
        Outcome::Failed => EventKind::Failed,
        Outcome::Released => EventKind::Released,
    };
    Event {
        project: Some(claim.project().path().to_owned()),
        task: Some(claim.name().to_string()),
        session: Some(marker.session.clone()),
        provider: Some(Provider::ClaudeCode),
        model: marker.agent.model.clone(),
        reason,
        ..Event::new(kind)
    }
}

/// The one line for people: who, where, how long, at what cost, and how to go on.
pub(super) fn footer(ending: &Ending, report: &Report) -> String {
    let mut parts = vec![match &ending.model {
        Some(model) => {
            format!("claude-code ({model}) in {}", ending.session.as_deref().unwrap_or("?"))
        }
        None => format!("local agent in {}", ending.session.as_deref().unwrap_or("?")),
    }];
    if let (Some(start), Some(end)) = (ending.started_at, ending.ended_at) {
        let seconds = end.duration_since(start).as_secs().max(0);
        parts.push(format!("{:#}", jiff::SignedDuration::from_secs(seconds)));
    }
    if let Some(cost) = &ending.cost {
        parts.push(cost.to_string());
    }
    if let Some((read, written)) = report.tokens {
        parts.push(format!("{read} tokens in, {written} out"));
    }
    if let Some(id) = &ending.agent_session {
        parts.push(format!("go on by hand with `claude --resume {id}`"));
    }
    format!("*{}*", parts.join(" · "))
}
