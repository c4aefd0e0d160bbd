//! `ccl reap`: file what has ended, here and at secutools.

use anyhow::Result;

use super::{Context, Pass, delegate, dispatch};
use crate::durable;
use crate::queue::{Folder, Inbox};
use crate::remote::Delegation;
use crate::session;

pub(super) fn run(context: Context<'_>, dry_run: bool) -> Result<Pass> {
    let mut pass = Pass::default();
    let marked = session::marked(&context.config.state_dir)?;
    if !marked.is_empty() {
        match context.pool() {
            Ok(pool) => context.reconcile(&pool, &marked, dry_run, &mut pass),
            Err(error) => pass.fail(context, &error),
        }
    }
    match Delegation::open(context.config, context.log, context.account, context.now, dry_run) {
        Ok(Some(delegation)) => {
            let inboxes = dispatch::list(context, &context.projects()?, &mut pass);
            let begun = inboxes.iter().flat_map(Inbox::delegated_tasks).collect();
            delegate::reap(context, &delegation, begun, &mut pass);
        }
        Ok(None) => {}
        Err(error) => pass.fail(context, &error),
    }
    if dry_run {
        return Ok(pass);
    }
    // What killed passes left half written goes a day later. Nothing is written in done/ and failed/, so these long
    // directories are not walked every minute.
    let now = std::time::SystemTime::try_from(context.now)?;
    pass.ok(context, session::sweep(&context.config.state_dir, context.now));
    pass.ok(context, context.account.outbox().sweep(context.now));
    for project in context.projects()? {
        pass.ok(context, durable::sweep(&project.folder(Folder::Inbox), now));
        pass.ok(context, project.sweep_recurring(now));
    }
    Ok(pass)
}
