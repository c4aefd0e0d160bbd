//! `STATE/owner`: a UUID that says which pool this is. Several users, machines or state directories
//! may share a queue; a claim names the pool that made it.

use std::path::Path;

use anyhow::{Context as _, Result};
use uuid::Uuid;

use crate::durable;

/// `None` if this pool has never claimed anything.
pub(crate) fn known(state_dir: &Path) -> Result<Option<Uuid>> {
    let path = state_dir.join("owner");
    let Some(text) = durable::read_text(&path)? else { return Ok(None) };
    Uuid::try_parse(text.trim()).map(Some).with_context(|| {
        format!(
            "{} does not hold a UUID: write into it the `owner` that the claims of your tasks (inbox/.T.md.claim) name, or remove it if no task is at work",
            path.display()
        )
    })
}

/// The owner of this state directory. It is made now if there is none.
pub fn ensure(state_dir: &Path) -> Result<Uuid> {
    if let Some(owner) = known(state_dir)? {
        return Ok(owner);
    }
    durable::make_dirs(state_dir)?;
    let owner = Uuid::new_v4();
    let path = state_dir.join("owner");
    durable::create(&path, format!("{owner}\n").as_bytes(), durable::SHARED)?;
    // Another process may have been first.
    Ok(known(state_dir)?.unwrap_or(owner))
}
