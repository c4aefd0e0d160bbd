//! `ccl assign`: a session is idle; file what it did and give it the next task.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::dispatch::{self, Mode};
use super::{Context, Pass};
use crate::error::Failure;
use crate::session::{Look, Pool, Session, Slot, Word};

/// When a hook fires, the agent's own files may lag behind for a moment.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// One pass for one session; without a name, for the one it is called in.
/// Who knows for which `run` it worked says so.
pub(super) fn run(context: Context<'_>, name: Option<&str>, run: Option<Uuid>) -> Result<Pass> {
    let mut pass = Pass::default();
    let pool = context.pool()?;
    let session = chosen(context, &pool, name)?;
    let had = run.or(session.dispatched()?.map(|marker| marker.run));
    let mut deadline = None;
    let ending = context.progress.wait_for(&format!("the end of what {} does", session.name()));
    loop {
        // Read anew each time: a person may have come.
        let pool = context.pool()?;
        let settled = pool.settle(&session, Word::Idle(had));
        pass.take(context, settled);
        let Some(marker) = session.dispatched()? else {
            break;
        };
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
        if pass.exit != 0
            || !pool.is_ours(&session)
            || Some(marker.run) != had
            || Instant::now() > deadline
        {
            return Ok(pass);
        }
        thread::sleep(POLL);
    }
    drop(ending);
    let pool = context.pool()?;
    if !pool.is_ours(&session) {
        return Ok(pass);
    }
    let Some(slot) = slot(&pool, &session, had.is_some())? else {
        return Ok(pass);
    };
    let inboxes = dispatch::list(context, &mut pass)?;
    let tasks = dispatch::choose(context, &inboxes, 1, Mode::Assign, &mut pass);
    dispatch::launch(context, &pool, vec![slot], tasks, &mut pass);
    // One session was looked at, not the pool.
    pass.free_sessions = None;
    Ok(pass)
}

/// The session, locked. Where its agent has just ended, the shell is given the
/// time to come back.
fn slot(pool: &Pool<'_>, session: &Session, has_just_ended: bool) -> Result<Option<Slot>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let slot = pool.try_slot(session.clone())?;
        let is_starting = || -> Result<bool> {
            let look = pool.look(session)?;
            Ok(matches!(look, Look::Busy(_)) && session.dispatched()?.is_none())
        };
        if slot.is_some() || !has_just_ended || Instant::now() > deadline || !is_starting()? {
            return Ok(slot);
        }
        thread::sleep(POLL);
    }
}

/// The session, if it may be typed into or has something of ours to file.
fn chosen(context: Context<'_>, pool: &Pool<'_>, name: Option<&str>) -> Result<Session> {
    let config = context.config;
    let name = match name {
        Some(name) => name.to_owned(),
        None => own_session(context, pool)?,
    };
    let session = Session::new(&config.state_dir, &name);
    if config.dedicated.iter().any(|dedicated| dedicated.session == name) {
        return Err(Failure::Usage(format!(
            "{name} is a dedicated session: it is its operator's own and is never typed into"
        ))
        .into());
    }
    if !pool.is_ours(&session) && session.dispatched()?.is_none() {
        let mut names = config.pool.session_names();
        let (first, last) = (names.next(), names.last());
        return Err(Failure::Usage(format!(
            "{name} is not a session of the pool, which is {} to {}",
            first.as_deref().unwrap_or("empty"),
            last.or(first.clone()).as_deref().unwrap_or("empty"),
        ))
        .into());
    }
    Ok(session)
}

fn own_session(context: Context<'_>, pool: &Pool<'_>) -> Result<String> {
    let pane = context
        .config
        .tmux_pane
        .as_deref()
        .context(Failure::Usage("name a session: ccl was not called inside tmux".to_owned()))?;
    let name = pool.session_of(pane).with_context(|| {
        format!("the pane {pane} that ccl was called in is not on the server of tmux.command")
    })?;
    Ok(name.to_owned())
}
