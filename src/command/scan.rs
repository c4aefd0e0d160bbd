//! `ccl scan`: route every waiting task, to secutools or to a free session.

use anyhow::Result;

use super::dispatch::{self, Hand};
use super::{Context, Pass, delegate};
use crate::delegation::Delegation;
use crate::session;

/// One pass over all projects.
pub(super) fn run(context: Context<'_>, dry_run: bool) -> Result<Pass> {
    let mut pass = Pass::default();
    let marked = session::marked(&context.config.state_dir)?;
    if !dry_run && !marked.is_empty() {
        match context.pool() {
            Ok(pool) => context.settle(&pool, &marked, &mut pass),
            Err(error) => pass.take(context, Err(error)),
        }
    }
    let mut waiting = dispatch::list(context, &mut pass)?;
    dispatch::report_held(&waiting, &mut pass);
    if let Some(delegation) = Delegation::open(context.config, context.log, context.now)? {
        delegate::submit(context, &delegation, &mut waiting, dry_run, &mut pass);
    }
    if waiting.iter().all(|one| one.inbox.waiting.is_empty()) {
        context.log.debug("no task waits");
        return Ok(pass);
    }
    if let Err(error) = run_locally(context, &waiting, dry_run, &mut pass) {
        pass.take(context, Err(error));
    }
    Ok(pass)
}

fn run_locally(
    context: Context<'_>,
    waiting: &[dispatch::Waiting],
    dry_run: bool,
    pass: &mut Pass,
) -> Result<()> {
    let pool = context.pool()?;
    if dry_run {
        let names = pool.free_names()?;
        pass.free_sessions = Some(names.len());
        dispatch::rehearse(context, names, waiting, pass);
        return Ok(());
    }
    let (slots, errors) = pool.free()?;
    for error in errors {
        pass.take(context, Err(error));
    }
    pass.free_sessions = Some(slots.len());
    if slots.is_empty() {
        let why = pool.why_none_is_free()?;
        context.log.info(format_args!("no free session: {why}"));
        return Ok(());
    }
    dispatch::launch(context, &pool, slots, waiting, Hand::Scan, pass);
    Ok(())
}
