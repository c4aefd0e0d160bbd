//! `ccl cancel`: withdraws a task that waits, or ends the agent or the job that works on it.

use std::ffi::OsStr;

use anyhow::{Context as _, Result, bail};

use super::target::{self, Target, TaskPlace};
use super::{Context, Pass};
use crate::durable;
use crate::event::{Event, EventKind};
use crate::journal::Entry;
use crate::queue::{Skip, TaskRef};
use crate::remote::Delegation;
use crate::session::{Pool, Session};
use crate::task::Ending;

const REASON: &str = "cancelled";

/// Files one task as failed, with the reason `cancelled`.
pub(super) fn run(context: Context<'_>, task: &OsStr) -> Result<Pass> {
    let target = target::find(context, task, &[&[TaskPlace::Waiting, TaskPlace::Dispatched]])?;
    let events = match target.place {
        TaskPlace::Dispatched => end(context, &target),
        _ => withdraw(context, &target),
    };
    let events = events.with_context(|| format!("cannot cancel {target}"))?;
    let Target { project, name, .. } = &target;
    context.records.note(&Entry::of_task(EventKind::Cancelled, project.path(), name.as_str()));
    Ok(Pass { events, ..Pass::default() })
}

fn withdraw(context: Context<'_>, target: &Target) -> Result<Vec<Event>> {
    let Target { project, name, .. } = target;
    let task = TaskRef { project: project.clone(), name: name.clone() };
    if durable::exists(&project.delegated_path(name))? {
        let Context { config, log, now, .. } = context;
        let delegation =
            Delegation::for_task(&task, config, log, now)?.with_records(context.records);
        // None: the marker has just gone, and the task waits as any other does, or is filed.
        if let Some(event) = delegation.cancel(&task, REASON)? {
            return Ok(vec![event]);
        }
    }
    let (seen, text) = match project.read(name) {
        Ok(task) => (task.seen, Some(task.text)),
        Err(Skip::Unfit(seen, _)) => (seen, None),
        Err(other) => return Err(other.into()),
    };
    let ending = Ending::unworked(context.now, REASON.to_owned());
    let at = (project.path(), name.as_str());
    let placed = context
        .records
        .file_and_record(at, &ending, || Ok(text), || project.reject(name, &seen, &ending))?
        .context("another pass has just taken it, or it was changed: look with `ccl status`")?;
    let file = placed.file_name().unwrap_or_default().to_string_lossy();
    Ok(vec![Event::of_task(EventKind::Failed, project.path(), file).because(REASON)])
}

fn end(context: Context<'_>, target: &Target) -> Result<Vec<Event>> {
    let claim = target.project.claimant(&target.name)?.with_context(|| {
        format!(
            "nobody has claimed it: move it to failed/, or rename it to {} to have it worked on",
            target.name
        )
    })?;
    // Without tmux the agent is ended all the same; only its window stays.
    let pool = context
        .pool()
        .unwrap_or_else(|_| Pool::without_tmux(context.config, context.log, context.now));
    if Some(claim.owner) != pool.owner()? {
        bail!(
            "another pool has it: cancel it there, session {} on {}",
            claim.session,
            claim.stamp.host
        );
    }
    let session = Session::new(&context.config.state_dir, &claim.session);
    pool.cancel(&session, claim.run, REASON)
}
