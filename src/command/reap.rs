//! `ccl reap`: file what has ended, here and at secutools.

use anyhow::Result;

use super::{Context, Pass, delegate, dispatch};
use crate::durable;
use crate::queue::{Folder, Inbox};
use crate::remote::Delegation;
use crate::session;

/// One look at everything that was handed out.
pub(super) fn run(context: Context<'_>, dry_run: bool) -> Result<Pass> {
    let mut pass = Pass::default();
    let marked = session::marked(&context.config.state_dir)?;
    if !marked.is_empty() {
        match context.pool() {
            Ok(pool) => context.reconcile(&pool, &marked, dry_run, &mut pass),
            Err(error) => pass.take(context, Err(error)),
        }
    }
    match Delegation::open(context.config, context.log, context.now, dry_run) {
        Ok(Some(delegation)) => {
            let inboxes = dispatch::list(context, &mut pass)?;
            let begun = inboxes.iter().flat_map(Inbox::delegated_tasks).collect();
            delegate::reap(context, &delegation, begun, &mut pass);
        }
        Ok(None) => {}
        Err(error) => pass.take(context, Err(error)),
    }
    if !dry_run {
        sweep(context, &mut pass)?;
    }
    Ok(pass)
}

/// Removes what killed passes left half written, a day later. In `done/` and `failed/` nothing is
/// ever written: what was finished is not walked every minute.
fn sweep(context: Context<'_>, pass: &mut Pass) -> Result<()> {
    let now = std::time::SystemTime::try_from(context.now)?;
    pass.take(context, session::sweep(&context.config.state_dir, context.now).map(|()| Vec::new()));
    for project in context.projects()? {
        let swept = durable::sweep(&project.folder(Folder::Inbox), now);
        pass.take(context, swept.map(|()| Vec::new()));
    }
    Ok(())
}
