//! `ccl cancel`: withdraws a task that waits, or ends the agent or the job that works on it.

use std::ffi::OsStr;

use anyhow::{Context as _, Result, bail};

use super::target::{self, Place, Target};
use super::{Context, Pass};
use crate::durable;
use crate::error::Failure;
use crate::event::{Event, EventKind};
use crate::queue::{Skip, TaskRef};
use crate::remote::{Delegation, Limits};
use crate::session::{Pool, Session};
use crate::task::Ending;

/// The reason in the filed task.
const REASON: &str = "cancelled";

/// Files one task as failed, with the reason `cancelled`.
pub(super) fn run(context: Context<'_>, task: &OsStr) -> Result<Pass> {
    let target = target::find(context, task, &[&[Place::Waiting, Place::Dispatched]])?;
    let events = match target.place {
        Place::Dispatched => end(context, &target),
        _ => withdraw(context, &target),
    };
    Ok(Pass {
        events: events.with_context(|| format!("cannot cancel {target}"))?,
        ..Pass::default()
    })
}

fn withdraw(context: Context<'_>, target: &Target) -> Result<Vec<Event>> {
    let Target { project, name, .. } = target;
    let task = TaskRef { project: project.clone(), name: name.clone() };
    if durable::exists(&project.delegated_path(name))?
        && let Some(event) = delegation(context)?.cancel(&task, REASON)?
    {
        return Ok(vec![event]);
    }
    let seen = match project.read(name) {
        Ok(task) => task.seen,
        Err(Skip::Unfit(seen, _)) => seen,
        Err(other) => return Err(other.into()),
    };
    let ending = Ending::unworked(context.now, REASON.to_owned());
    let placed = project
        .reject(name, &seen, &ending)?
        .context("another pass has just taken it, or it was changed: look with `ccl status`")?;
    let file = placed.file_name().unwrap_or_default();
    Ok(vec![Event {
        project: Some(project.path().to_owned()),
        task: Some(file.to_string_lossy().into_owned()),
        reason: Some(REASON.to_owned()),
        ..Event::new(EventKind::Failed)
    }])
}

/// What talks to secutools, which must be configured.
fn delegation<'a>(context: Context<'a>) -> Result<Delegation<'a>> {
    let Context { config, log, now, .. } = context;
    let secutools = config.secutools.as_ref().map_err(|off| {
        Failure::Config(format!("it is delegated, and secutools cannot be asked: {off}"))
    })?;
    Delegation::new(secutools, &config.host, log, now, Limits::default(), false)
}

fn end(context: Context<'_>, target: &Target) -> Result<Vec<Event>> {
    let claim = target.project.claimant(&target.name)?.with_context(|| {
        format!(
            "nobody has claimed it: move it to failed/, or rename it to {} to have it worked on",
            target.name
        )
    })?;
    // An agent is ended without tmux, too; only its window cannot be closed then.
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
