//! What each session of the pool does, and each other one that has a marker.

use anyhow::Result;

use super::Problems;
use crate::agent::Doing;
use crate::command::Context;
use crate::marker::Phase;
use crate::report::{SessionRow, SessionState};
use crate::session::{self, Look, Pool, Session, Standing};

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
    if let Some(standing) = pool.standing(session)? {
        return at_work(context, pool, session, standing);
    }
    if session.is_locked()? {
        return Ok(SessionRow {
            reason: Some("another pass is at work on it".to_owned()),
            ..blank(session, SessionState::Claiming)
        });
    }
    Ok(match pool.look(session)? {
        Look::Free(_) => blank(session, SessionState::Free),
        Look::Missing => SessionRow {
            reason: Some(why_missing(context, pool, session)),
            ..blank(session, SessionState::Missing)
        },
        Look::Resting(cooldown) => SessionRow {
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
        Look::Attended => SessionRow {
            reason: Some(
                "a person used it within the last minute: it is left alone until that is over"
                    .to_owned(),
            ),
            ..blank(session, SessionState::Attended)
        },
        Look::Busy(why) => SessionRow { reason: Some(why), ..blank(session, SessionState::Busy) },
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
    standing: Standing,
) -> Result<SessionRow> {
    let since = match &standing.claim {
        Some(claim) => claim.marker().started_at,
        None => standing.marker.stamp.at,
    };
    let (state, reason) = match standing.claim.as_ref().map(|claim| claim.marker().phase) {
        None if session.is_locked()? => (SessionState::Claiming, None),
        None => (
            SessionState::Busy,
            Some("its task is not at work any more: the next pass frees it".to_owned()),
        ),
        Some(Phase::Claimed) => (SessionState::Claiming, None),
        Some(Phase::Launching) if session.is_locked()? => (SessionState::Launching, None),
        Some(Phase::Launching | Phase::Working) => judged(standing.doing, standing.attended),
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
        task: Some(standing.marker.task),
        project: Some(standing.marker.project),
        since: Some(since),
        reason,
        ..blank(session, state)
    })
}

/// What an agent that was started is doing, and what comes next.
fn judged(doing: Option<Doing>, attended: bool) -> (SessionState, Option<String>) {
    let over = |what: &str| match attended {
        true => (
            SessionState::Attended,
            Some(format!("{what}: it is filed once nobody has used the session for a minute")),
        ),
        false => (SessionState::Working, Some(format!("{what}: the next pass files it"))),
    };
    match doing {
        Some(Doing::Working) => {
            (SessionState::Working, attended.then(|| "a person is looking at it".to_owned()))
        }
        Some(Doing::NeedsPerson(what)) => (SessionState::NeedsAttention, Some(what)),
        Some(Doing::Finished(_)) => over("its turn is over"),
        Some(Doing::Failed(failure)) => over(&failure.reason),
        Some(Doing::Interrupted(what)) => over(&what),
        None => over("its task has ended"),
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
