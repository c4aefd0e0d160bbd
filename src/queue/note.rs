//! Writing into a task file, or beside it, what became of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::waiting::{self, Seen, Skip};
use crate::durable;
use crate::task::{self, Ending};

/// A file that has grown past this while an agent had it takes no ending line.
const MAX_NOTED: u64 = 8 << 20;

/// How often the note is begun anew where somebody else writes to the task.
const MAX_TRIES: u32 = 5;

/// Writes `ending` into the task at `path`, as its last line; false if the file
/// is not text that could take it: its bytes are left untouched.
pub(super) fn note(
    path: &Path,
    ending: &Ending,
    result: Option<&str>,
    footer: Option<&str>,
) -> Result<bool> {
    for _ in 0..MAX_TRIES {
        let seen = Seen::of(&durable::look_at(path)?);
        let Some(text) = read_text(path)? else {
            return Ok(false);
        };
        let noted = task::with_ending(&text, ending, result, footer);
        // Not where somebody has added something meanwhile: then all of it is read again, and nothing is lost.
        if durable::rewrite(path, noted.as_bytes(), |path| seen.is_still(path))? {
            return Ok(true);
        }
    }
    bail!("{} keeps changing: its outcome is noted once it stays as it is", path.display())
}

/// The text of a regular file of ours; `None` if it is something else.
pub(super) fn read_text(path: &Path) -> Result<Option<String>> {
    let failed = || format!("cannot read {}", path.display());
    let (file, metadata) = match waiting::open_regular(path) {
        Ok(opened) => opened,
        Err(Skip::Held(_)) => return Ok(None),
        Err(skip) => return Err(anyhow::Error::from(skip)).with_context(failed),
    };
    if metadata.len() > MAX_NOTED {
        return Ok(None);
    }
    let bytes = durable::read_at_most(file, MAX_NOTED + 1).with_context(failed)?;
    Ok(String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')))
}

/// `T.md.reason`, beside a task that cannot take its ending line.
pub(super) fn reason_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".reason");
    PathBuf::from(name)
}
