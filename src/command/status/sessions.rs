//! What the sessions do: those of the pool, and others that have a marker.

use anyhow::Result;

use super::Problems;
use crate::command::Context;
use crate::marker::ClaimMarker;
use crate::next_step::{Found, Leave, Phase, Prospect, Snapshot, Step, next_step};
use crate::report::{SessionRow, SessionState};
use crate::session::{self, Availability, Pool, Reading, Session, Trigger};

/// One row for each session, those of the pool first.
pub(super) fn rows(
    context: Context<'_>,
    pool: &Pool<'_>,
    problems: &mut Problems<'_>,
) -> Result<Vec<SessionRow>> {
    let mut sessions: Vec<Session> = pool.sessions().collect();
    for marked in session::marked(&context.config.state_dir)? {
        if !sessions.contains(&marked) {
            sessions.push(marked);
        }
    }
    let rows = sessions.iter().map(|session| {
        row(context, pool, session).unwrap_or_else(|error| {
            let marker = session.dispatched().ok().flatten();
            SessionRow {
                reason: Some(problems.note(&error)),
                task: marker.as_ref().map(|marker| marker.task.clone()),
                project: marker.map(|marker| marker.project),
                ..blank(session, SessionState::NeedsAttention)
            }
        })
    });
    Ok(rows.collect())
}

fn row(context: Context<'_>, pool: &Pool<'_>, session: &Session) -> Result<SessionRow> {
    if let Some(reading) = pool.read_run(session, Trigger::Poll)? {
        return at_work(context, pool, session, reading);
    }
    if session.is_locked()? {
        let reason = Some("another pass has locked it".to_owned());
        return Ok(SessionRow { reason, ..blank(session, SessionState::Claiming) });
    }
    let (state, reason) = match pool.availability(session)? {
        Availability::Free => (SessionState::Free, None),
        Availability::Missing => (SessionState::Missing, Some(why_missing(context, pool, session))),
        Availability::CoolingDown(cooldown) => {
            let state = match cooldown.needs_attention {
                true => SessionState::NeedsAttention,
                false => SessionState::Cooldown,
            };
            return Ok(SessionRow {
                since: Some(cooldown.stamp.at),
                until: Some(cooldown.until),
                reason: Some(cooldown.reason),
                ..blank(session, state)
            });
        }
        Availability::InUse => {
            let why = "a person used it within the last minute: it is left alone until nobody has for a minute";
            (SessionState::Attended, Some(why.to_owned()))
        }
        Availability::Busy(why) => (SessionState::Busy, Some(why)),
    };
    Ok(SessionRow { reason, ..blank(session, state) })
}

fn why_missing(context: Context<'_>, pool: &Pool<'_>, session: &Session) -> String {
    if !context.config.pool.create {
        return format!(
            "pool.autonomous.create is false: make it with `{} new-session -d -s {}`",
            context.config.tmux_as_typed(),
            session.name()
        );
    }
    match pool.check_server() {
        Err(error) => error.to_string(),
        Ok(()) if pool.has_server() => "it is made once a task needs it".to_owned(),
        Ok(()) => "no tmux server is running: it is started once a task needs it".to_owned(),
    }
}

fn at_work(
    context: Context<'_>,
    pool: &Pool<'_>,
    session: &Session,
    reading: Reading,
) -> Result<SessionRow> {
    let activity = reading.activity();
    let Reading { run, claim, snapshot, .. } = reading;
    let behind = claim.as_ref().and_then(|claim| waits_to_land(claim.marker()));
    let since = claim.map_or(run.marker.stamp.at, |claim| match &claim.marker().work.check {
        Some(check) if claim.marker().phase == Phase::Checking => check.started_at,
        _ => claim.marker().started_at,
    });
    // While a pass has the lock, what looks left behind is still being made.
    let is_locked = session.is_locked()?;
    let (state, reason) = match &snapshot.found {
        Found::Claimed => (SessionState::Claiming, None),
        Found::NoClaim if is_locked => (SessionState::Claiming, None),
        Found::Unstarted { .. } | Found::Started { phase: Phase::Launching, .. } if is_locked => {
            (SessionState::Launching, None)
        }
        _ => match (next(&snapshot), behind) {
            ((SessionState::Working, _), Some(behind)) => (SessionState::Working, Some(behind)),
            (next, _) => next,
        },
    };
    let (state, reason) = match state {
        SessionState::Working if pool.lacks(session) => (SessionState::Missing, reason),
        SessionState::NeedsAttention => {
            let attach =
                format!("{} attach -t ={}", context.config.tmux_as_typed(), session.name());
            (state, reason.map(|reason| format!("{reason} (`{attach}`)")))
        }
        _ => (state, reason),
    };
    Ok(SessionRow {
        task: Some(run.marker.task),
        project: Some(run.marker.project),
        since: Some(since),
        reason,
        doing: activity.filter(|_| state == SessionState::Working),
        ..blank(session, state)
    })
}

/// What the claim's branch waits for before it lands.
fn waits_to_land(claim: &ClaimMarker) -> Option<String> {
    let behind = claim.lands_behind()?;
    Some(format!("its branch waits for its turn to land, behind {behind}"))
}

/// The state of a session whose agent was started, by what the next pass would do about it.
fn next(snapshot: &Snapshot) -> (SessionState, Option<String>) {
    let working =
        |what: &str| (SessionState::Working, Some(format!("{what}: the next pass files it")));
    let busy = |what: &str| (SessionState::Busy, Some(what.to_owned()));
    match next_step(snapshot) {
        Step::Leave(Leave::AtWork) | Step::MarkWorking => {
            let looked_at = snapshot.attended.then(|| "a person is looking at it".to_owned());
            (SessionState::Working, looked_at)
        }
        Step::Leave(Leave::Checking) => (SessionState::Checking, None),
        Step::Leave(Leave::WaitsToLand { .. }) => (SessionState::Working, None),
        Step::Check(_) | Step::Accept { .. } | Step::RequestFix { .. } | Step::GiveUp { .. } => {
            let why = "the check stands still: the next pass goes on with it";
            (SessionState::Checking, Some(why.to_owned()))
        }
        Step::EndTurn => {
            let why = "its turn is over: the next pass has its check judge it";
            (SessionState::Working, Some(why.to_owned()))
        }
        Step::Leave(Leave::NeedsAttention(what)) => (SessionState::NeedsAttention, Some(what)),
        Step::Leave(Leave::Attended) => {
            let why = "its agent is done: the task is filed once nobody has used the session for a minute";
            (SessionState::Attended, Some(why.to_owned()))
        }
        Step::Clear | Step::RemoveClaim { .. } => {
            busy("its task is not at work any more: the next pass frees it")
        }
        Step::UndoRound(_) | Step::RequestFixOfConflict(_) => {
            busy("its agent has not gone on with what it was given back: the next pass looks again")
        }
        Step::Release | Step::TakeTicket => {
            busy("its agent was not started: the next pass gives the task back")
        }
        Step::Place(_) => working("its task has ended"),
        Step::Land { prospect: Prospect::Landed, .. } => {
            let why = "its turn is over: the next pass lands its branch, and files it";
            (SessionState::Working, Some(why.to_owned()))
        }
        Step::Land { .. } | Step::Finish { .. } => working("its turn is over"),
        Step::EndAttempt(end) => working(&end.failure.reason),
    }
}

fn blank(session: &Session, state: SessionState) -> SessionRow {
    SessionRow { name: session.name().to_owned(), state, ..SessionRow::default() }
}
