//! What each session of the pool does, and each other one that has a marker.

use anyhow::Result;

use super::Problems;
use crate::command::Context;
use crate::next_step::{Found, Leave, Phase, Snapshot, Step, next_step};
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
        row(context, pool, session).unwrap_or_else(|error| SessionRow {
            reason: Some(problems.note(&error)),
            ..with_marker(session, SessionState::NeedsAttention)
        })
    });
    Ok(rows.collect())
}

fn row(context: Context<'_>, pool: &Pool<'_>, session: &Session) -> Result<SessionRow> {
    if let Some(reading) = pool.read_run(session, Trigger::Poll)? {
        return at_work(context, pool, session, reading);
    }
    if session.is_locked()? {
        return Ok(SessionRow {
            reason: Some("another pass is at work on it".to_owned()),
            ..blank(session, SessionState::Claiming)
        });
    }
    Ok(match pool.availability(session)? {
        Availability::Free => blank(session, SessionState::Free),
        Availability::Missing => SessionRow {
            reason: Some(why_missing(context, pool, session)),
            ..blank(session, SessionState::Missing)
        },
        Availability::CoolingDown(cooldown) => SessionRow {
            since: Some(cooldown.stamp.at),
            until: Some(cooldown.until),
            reason: Some(cooldown.reason),
            ..blank(
                session,
                if cooldown.needs_person {
                    SessionState::NeedsAttention
                } else {
                    SessionState::Cooldown
                },
            )
        },
        Availability::InUse => SessionRow {
            reason: Some(
                "a person used it within the last minute: it is left alone until that is over"
                    .to_owned(),
            ),
            ..blank(session, SessionState::Attended)
        },
        Availability::Busy(why) => {
            SessionRow { reason: Some(why), ..blank(session, SessionState::Busy) }
        }
    })
}

fn why_missing(context: Context<'_>, pool: &Pool<'_>, session: &Session) -> String {
    if !context.config.pool.create {
        return format!(
            "pool.autonomous.create is false: make it with `{} new-session -d -s {}`",
            tmux(context),
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
    Reading { run, claim, snapshot }: Reading,
) -> Result<SessionRow> {
    let since = claim.map_or(run.marker.stamp.at, |claim| claim.marker().started_at);
    let is_locked = session.is_locked()?;
    let (state, reason) = match &snapshot.found {
        Found::Claimed => (SessionState::Claiming, None),
        Found::NoClaim if is_locked => (SessionState::Claiming, None),
        Found::Unstarted | Found::Started { phase: Phase::Launching, .. } if is_locked => {
            (SessionState::Launching, None)
        }
        _ => next(&snapshot),
    };
    let state = match state {
        SessionState::Working if pool.lacks(session) => SessionState::Missing,
        state => state,
    };
    let reason = match state {
        SessionState::NeedsAttention => reason
            .map(|reason| format!("{reason} (`{} attach -t ={}`)", tmux(context), session.name())),
        _ => reason,
    };
    Ok(SessionRow {
        task: Some(run.marker.task),
        project: Some(run.marker.project),
        since: Some(since),
        reason,
        ..blank(session, state)
    })
}

/// What an agent that was started is doing, by what the next pass would do about it.
fn next(snapshot: &Snapshot) -> (SessionState, Option<String>) {
    let over = |what: &str| {
        let reason = format!("{what}: the next pass files it");
        (SessionState::Working, Some(reason))
    };
    match next_step(snapshot) {
        Step::Leave(Leave::AtWork) | Step::MarkWorking => {
            let looked_at = snapshot.attended.then(|| "a person is looking at it".to_owned());
            (SessionState::Working, looked_at)
        }
        Step::Leave(Leave::NeedsAttention(what)) => (SessionState::NeedsAttention, Some(what)),
        Step::Leave(Leave::Attended) => (
            SessionState::Attended,
            Some(
                "its agent is done: it is filed once nobody has used the session for a minute"
                    .to_owned(),
            ),
        ),
        Step::Clear | Step::RemoveClaim { .. } => (
            SessionState::Busy,
            Some("its task is not at work any more: the next pass frees it".to_owned()),
        ),
        Step::Release | Step::TakeTicket => (
            SessionState::Busy,
            Some("its agent was not started: the next pass gives the task back".to_owned()),
        ),
        Step::Place(_) => over("its task has ended"),
        Step::Finish(_) => over("its turn is over"),
        Step::EndAttempt { failure, .. } => over(&failure.reason),
    }
}

/// The row of a session of which no more is known than what its marker says.
fn with_marker(session: &Session, state: SessionState) -> SessionRow {
    let marker = session.dispatched().ok().flatten();
    SessionRow {
        task: marker.as_ref().map(|marker| marker.task.clone()),
        project: marker.map(|marker| marker.project),
        ..blank(session, state)
    }
}

fn blank(session: &Session, state: SessionState) -> SessionRow {
    SessionRow {
        name: session.name().to_owned(),
        state,
        task: None,
        project: None,
        since: None,
        until: None,
        reason: None,
    }
}

/// The tmux command as a person types it.
fn tmux(context: Context<'_>) -> String {
    let words = context.config.tmux.iter().map(String::as_str);
    shlex::try_join(words).unwrap_or_else(|_| "tmux".to_owned())
}
