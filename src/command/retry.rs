//! `ccl retry`: a task that failed, or was done, goes back to wait and starts afresh.

use std::ffi::OsStr;

use anyhow::{Context as _, Result, bail};

use super::target::{self, TaskPlace};
use super::{Context, Pass};
use crate::event::{Event, EventKind};
use crate::journal::Entry;

pub(super) fn run(context: Context<'_>, task: &OsStr) -> Result<Pass> {
    let target = target::find(context, task, &[&[TaskPlace::Failed], &[TaskPlace::Done]])?;
    let placed = target
        .project
        .requeue(target.place.folder(), &target.name)
        .with_context(|| format!("cannot put {target} back"))?;
    let Some(file) = placed.as_deref().and_then(|path| path.file_name()) else {
        bail!("another process has just moved {target} away");
    };
    let name = file.to_string_lossy();
    context.records.note(&Entry::of_task(EventKind::Retried, target.project.path(), &name));
    let event = Event::of_task(EventKind::Released, target.project.path(), name);
    Ok(Pass { events: vec![event], ..Pass::default() })
}
