//! `ccl assign`: a session is idle; file what it did and give it the next task.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use uuid::Uuid;

use super::dispatch::{self, Mode};
use super::{Context, Pass, pause};
use crate::error::Failure;
use crate::session::{self, Pool, Session, Trigger};

/// How long the session is looked at again: when a hook fires, the agent's own files may not be complete yet.
const TURN_END_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// One pass for one session; without a name, for the one it is called in. A hook names `hook_run`, the run that its
/// agent worked on; a person does not.
pub(super) fn run(
    context: Context<'_>,
    session_name: Option<&str>,
    hook_run: Option<Uuid>,
) -> Result<Pass> {
    let mut pass = Pass::default();
    let session = resolve_session(context, &context.pool()?, session_name)?;
    if hook_run.is_none() {
        // A person who calls it has mended what the cooldown was for.
        session.end_cooldown()?;
    }
    // A hook that finds nothing to do is no news; a person asked for something.
    let notice = |clause: &str| {
        if hook_run.is_none() {
            context.log.notice(format_args!("{} {clause}", session.name()));
        }
    };
    let Some(pool) = reconcile(context, &session, hook_run, &mut pass)? else {
        if let (0, Some(marker)) = (pass.exit, session.dispatched()?) {
            notice(&format!("works on {}, and is given no other task before it ends", marker.task));
        }
        return Ok(pass);
    };
    // A session that left the pool, by a change of the configuration, gets no more tasks.
    if !pool.is_ours(&session) {
        return Ok(pass);
    }
    let Some(slot) = pool.try_slot(session.clone())? else {
        notice(&format!("gets no task: it {}", pool.why_not_free(&session)));
        return Ok(pass);
    };
    let mut inboxes = dispatch::list(context, &context.projects()?, &mut pass);
    pause::take_out_paused(context, &mut inboxes, &mut pass);
    let tasks = dispatch::choose(context, &inboxes, 1, Mode::Assign, &mut pass);
    if tasks.is_empty() {
        notice("gets no task: none waits for a session");
    }
    dispatch::launch(context, &pool, vec![slot], tasks, &mut pass);
    // One session was looked at, not the pool.
    pass.free_sessions = None;
    Ok(pass)
}

/// Files what the session did, and returns the pool as it was seen then; `None` where the session still has a task, or
/// already the next one.
fn reconcile<'a>(
    context: Context<'a>,
    session: &Session,
    run: Option<Uuid>,
    pass: &mut Pass,
) -> Result<Option<Pool<'a>>> {
    let asked = run.is_none();
    let run = run.or(session.dispatched()?.map(|marker| marker.run));
    // Only the first look is the person's: `Asked` has a check run again that has used up its tries.
    let mut trigger = if asked { Trigger::Asked(run) } else { Trigger::Idle(run) };
    let _waiting = context.progress.wait_for(&format!("{} ends its turn", session.name()));
    let mut deadline = None;
    loop {
        // The pool is read anew each time: a person may have come.
        let pool = context.pool()?;
        pass.take(context, pool.reconcile(session, trigger));
        // What this session has just landed may have given the turn to another one's branch.
        let others = session::marked(&context.config.state_dir)?;
        context.reconcile_waiting_to_land(&pool, &others, pass);
        trigger = Trigger::Idle(run);
        // From the first look on: the pass that launched the agent may have held the session until now.
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + TURN_END_WAIT);
        let Some(marker) = session.dispatched()? else {
            return Ok(Some(pool));
        };
        let goes_on = pass.exit == 0 && pool.is_ours(session) && Some(marker.run) == run;
        if !goes_on || Instant::now() > deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// The session, if it is of the pool or has something of ours to file.
fn resolve_session(context: Context<'_>, pool: &Pool<'_>, name: Option<&str>) -> Result<Session> {
    let config = context.config;
    let name = match name {
        Some(name) => name.to_owned(),
        None => session_of_caller(context, pool)?,
    };
    let session = Session::new(&config.state_dir, &name);
    if config.dedicated.iter().any(|dedicated| dedicated.session == name) {
        bail!(Failure::Usage(format!(
            "{name} is a dedicated session: it is its operator's own and is never touched"
        )));
    }
    if !pool.is_ours(&session) && session.dispatched()?.is_none() {
        let names: Vec<String> = config.pool.session_names().collect();
        let pool = match names.as_slice() {
            [] => "empty".to_owned(),
            [first, .., last] => format!("{first} to {last}"),
            [only] => only.clone(),
        };
        bail!(Failure::Usage(format!("{name} is not a session of the pool, which is {pool}")));
    }
    Ok(session)
}

fn session_of_caller(context: Context<'_>, pool: &Pool<'_>) -> Result<String> {
    let outside = Failure::Usage("name a session: ccl was not called inside tmux".to_owned());
    let pane = context.config.tmux_pane.as_deref().context(outside)?;
    let name = pool.session_of(pane).with_context(|| {
        format!("the pane {pane} that ccl was called in is not on the server of tmux.command")
    })?;
    Ok(name.to_owned())
}
