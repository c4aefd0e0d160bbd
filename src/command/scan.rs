//! `ccl scan`: route every waiting task, to secutools or to a free session.

use anyhow::Result;

use super::dispatch::{self, Hand};
use super::{Context, Pass, delegate};
use crate::event::EventKind;
use crate::queue::Folder;
use crate::remote::Delegation;
use crate::session;
use crate::text;

/// One pass over all projects.
pub(super) fn run(context: Context<'_>, dry_run: bool) -> Result<Pass> {
    let mut pass = Pass::default();
    let marked = session::marked(&context.config.state_dir)?;
    let mut has_tmux = true;
    if !dry_run && !marked.is_empty() {
        match context.pool() {
            Ok(pool) => context.settle(&pool, &marked, &mut pass),
            Err(error) => {
                has_tmux = false;
                pass.take(context, Err(error));
            }
        }
    }
    let mut waiting = dispatch::list(context, &mut pass)?;
    dispatch::report_held(&waiting, &mut pass);
    match Delegation::open(context.config, context.log, context.now) {
        Ok(Some(delegation)) => {
            delegate::submit(context, &delegation, &mut waiting, dry_run, &mut pass);
        }
        Ok(None) => delegate::tell_off(context, &waiting),
        // The server cannot be reached, so that all tasks are for sessions.
        Err(error) => pass.take(context, Err(error)),
    }
    if waiting.iter().all(|one| one.inbox.waiting.is_empty()) {
        tell_nothing_waits(context, &waiting, &pass);
        return Ok(pass);
    }
    // What keeps tmux from answering was told above, and holds for the sessions' tasks too.
    if has_tmux && let Err(error) = run_locally(context, &waiting, dry_run, &mut pass) {
        pass.take(context, Err(error));
    }
    Ok(pass)
}

/// Says in one line why the pass did nothing.
fn tell_nothing_waits(context: Context<'_>, waiting: &[dispatch::Waiting], pass: &Pass) {
    let held = pass.events.iter().filter(|it| it.event == EventKind::Held);
    let (held, all) = (held.count(), pass.events.len());
    match (held, all) {
        (0, 0) => context.log.aside(format_args!(
            "nothing to do: no task waits in {}",
            match waiting {
                [one] => text::path_text(&one.project.folder(Folder::Inbox)),
                several => format!("{} projects", several.len()),
            }
        )),
        (1, 1) => context.log.aside("nothing to do: the only task is held, as it says above"),
        (held, all) if held == all => context.log.aside(format_args!(
            "nothing to do: all {held} tasks are held, each for the reason above"
        )),
        _ => context.log.debug("no further task waits"),
    }
}

fn run_locally(
    context: Context<'_>,
    waiting: &[dispatch::Waiting],
    dry_run: bool,
    pass: &mut Pass,
) -> Result<()> {
    let pool = context.pool()?;
    if dry_run {
        let mut names = Vec::new();
        for name in pool.free_names() {
            match name {
                Ok(name) => names.push(name),
                Err(error) => pass.take(context, Err(error)),
            }
        }
        pass.free_sessions = Some(names.len());
        // Heads are read for an order; without a session there is none to find.
        if !names.is_empty() {
            dispatch::rehearse(context, names, waiting, pass);
        }
        return Ok(());
    }
    // Once, and not for each session that would have to be created.
    pool.check_server()?;
    let mut slots = Vec::new();
    for slot in pool.free() {
        match slot {
            Ok(slot) => slots.push(slot),
            Err(error) => pass.take(context, Err(error)),
        }
    }
    pass.free_sessions = Some(slots.len());
    if slots.is_empty() {
        let why = pool.why_none_is_free();
        context.log.aside(format_args!("no free session: {why}"));
        return Ok(());
    }
    dispatch::launch(context, &pool, slots, waiting, Hand::Scan, pass);
    Ok(())
}
