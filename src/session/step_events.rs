//! The events that a step reports: a pass reports the steps that it has taken, a dry run those that it would take.

use super::filing::NOTHING_STARTED;
use super::worktree::UNJUDGED;
use crate::event::{Event, EventKind};
use crate::marker::ClaimedCheckout;
use crate::next_step::{AttemptEnd, Prospect, Step};
use crate::queue::Claim;
use crate::task::{Outcome, Provider};

/// The events of a step, with the claim as it is before it.
pub(super) fn events_of(step: &Step, claim: &Claim) -> Vec<Event> {
    match step {
        Step::Leave(_)
        | Step::MarkWorking
        | Step::Clear
        | Step::RemoveClaim { .. }
        | Step::UndoRound(_)
        | Step::EndTurn
        | Step::Check(_)
        | Step::RequestFixOfConflict(_) => Vec::new(),
        Step::Release | Step::TakeTicket => {
            vec![of_task(Outcome::Released, claim).because(NOTHING_STARTED)]
        }
        Step::Place(outcome) => vec![of_task(*outcome, claim)],
        Step::Land { prospect: Prospect::Unjudged, .. } => {
            vec![of_task(Outcome::Failed, claim).because(UNJUDGED)]
        }
        Step::Land { prospect, .. } => done(claim, *prospect == Prospect::Landed),
        Step::Finish { landed, .. } => done(claim, *landed),
        Step::Accept { then } => {
            let mut events = vec![green(claim)];
            events.extend(events_of(then, claim));
            events
        }
        Step::RequestFix { .. } => {
            let work = &claim.marker().work;
            let (round, rounds) = (work.rounds.red + 1, work.rules.check_rounds);
            vec![checked(claim, format!("red: given back to its agent, {round} of {rounds}"))]
        }
        Step::GiveUp { over_budget, .. } => {
            let why = over_budget.as_deref().unwrap_or("its check is still red");
            let checked = checked(claim, "red: given up".to_owned());
            vec![checked, of_task(Outcome::Failed, claim).because(why)]
        }
        Step::EndAttempt(end) => of_attempt(end, claim),
    }
}

fn of_attempt(end: &AttemptEnd, claim: &Claim) -> Vec<Event> {
    let AttemptEnd { failure, outcome, cooldown, hold, .. } = end;
    let marker = claim.marker();
    let mut events = vec![of_task(*outcome, claim).because(end.noted().reason)];
    if *cooldown {
        let cooldown = Event::of_session(EventKind::Cooldown, &marker.session);
        events.push(cooldown.because(failure.reason.as_str()));
    }
    if *hold {
        let hold = Event::new(EventKind::Hold).of_agent(marker.agent.name.clone());
        events.push(hold.because(failure.reason.as_str()));
    }
    events
}

/// The events of a task that is filed as done; `landed`: its branch is in its base, too.
fn done(claim: &Claim, landed: bool) -> Vec<Event> {
    let mut events = vec![of_task(Outcome::Done, claim)];
    if let (true, Some(ClaimedCheckout::Own { worktree, .. })) =
        (landed, &claim.marker().work.checkout)
        && let Some(base) = &worktree.base_branch
    {
        let (project, name) = (claim.project().path(), claim.name().as_str());
        let landed = Event::landed(project, name, &worktree.branch, base);
        events.push(landed.in_session(&claim.marker().session));
    }
    events
}

fn of_task(outcome: Outcome, claim: &Claim) -> Event {
    let kind = match outcome {
        Outcome::Done => EventKind::Done,
        Outcome::Failed => EventKind::Failed,
        Outcome::Released => EventKind::Released,
    };
    let marker = claim.marker();
    Event::of_task(kind, claim.project().path(), claim.name().as_str())
        .in_session(&marker.session)
        .by(Provider::ClaudeCode, marker.agent.model.clone())
}

pub(super) fn green(claim: &Claim) -> Event {
    checked(claim, "green".to_owned())
}

fn checked(claim: &Claim, how: String) -> Event {
    Event::of_task(EventKind::Checked, claim.project().path(), claim.name().as_str())
        .in_session(&claim.marker().session)
        .because(how)
}

/// Where a step has left the task, in words that follow its name.
pub(super) fn place_of(step: &Step) -> &'static str {
    let outcome = match step {
        Step::Clear | Step::RemoveClaim { .. } => return "has left the inbox",
        Step::Finish { .. } => Outcome::Done,
        Step::GiveUp { .. } => Outcome::Failed,
        Step::Place(outcome) | Step::EndAttempt(AttemptEnd { outcome, .. }) => *outcome,
        _ => Outcome::Released,
    };
    match outcome {
        Outcome::Done => "is done, and filed in done/",
        Outcome::Failed => "is filed in failed/",
        Outcome::Released => "waits in the inbox again",
    }
}
