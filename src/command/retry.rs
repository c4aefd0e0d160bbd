//! `ccl retry`: a task that failed, or was done, goes back to wait and starts afresh.

use std::ffi::OsStr;

use anyhow::{Context as _, Result, bail};

use super::target::{self, Place};
use super::{Context, Pass};
use crate::event::{Event, EventKind};

/// Puts one task back.
pub(super) fn run(context: Context<'_>, task: &OsStr) -> Result<Pass> {
    let target = target::find(context, task, &[&[Place::Failed], &[Place::Done]])?;
    let placed = target
        .project
        .requeue(target.place.folder(), &target.name)
        .with_context(|| format!("cannot put {target} back"))?;
    let Some(file) = placed.as_deref().and_then(|path| path.file_name()) else {
        bail!("{target} has just been moved away");
    };
    Ok(Pass {
        events: vec![Event {
            project: Some(target.project.path().to_owned()),
            task: Some(file.to_string_lossy().into_owned()),
            ..Event::new(EventKind::Released)
        }],
        ..Pass::default()
    })
}
