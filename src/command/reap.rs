//! `ccl reap`: file what has ended, here and at the engines.

use anyhow::Result;

use super::{Context, Pass, delegate, dispatch};
use crate::durable;
use crate::queue::{Folder, Inbox, TaskRef};
use crate::remote;
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
    let delegations = delegate::open(context, dry_run, &mut pass);
    if !delegations.is_empty() {
        let inboxes = dispatch::list(context, &context.projects()?, &mut pass);
        let begun: Vec<TaskRef> = inboxes.iter().flat_map(Inbox::delegated_tasks).collect();
        let leaving: Vec<_> = inboxes.iter().flat_map(remote::leaving_keys).collect();
        for delegation in &delegations {
            delegate::reap(context, delegation, begun.clone(), &mut pass);
            delegation.sweep_exchanges(&leaving);
        }
    }
    if dry_run {
        return Ok(pass);
    }
    // Temporary files of killed passes are removed when they are a day old. None is ever written in done/ and failed/,
    // so these long directories need not be walked every minute.
    let now = std::time::SystemTime::try_from(context.now)?;
    pass.ok(context, session::sweep(&context.config.state_dir, context.now));
    pass.ok(context, context.records.outbox().sweep(context.now));
    for project in context.projects()? {
        pass.ok(context, durable::sweep(&project.folder(Folder::Inbox), now));
        pass.ok(context, project.sweep_recurring(now));
    }
    Ok(pass)
}
