//! `STATE/passed`: a file that every scan touches which was no dry run, so that others see that passes are made.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::durable;

fn of_state(state_dir: &Path) -> PathBuf {
    state_dir.join("passed")
}

/// Notes that a scan has ended: the file's time is now.
pub(crate) fn note(state_dir: &Path) -> Result<()> {
    let path = of_state(state_dir);
    let touch = || {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(durable::PRIVATE);
        // What is written is the same every time; a write sets the time.
        options.open(&path)?.write_all(b"\n")
    };
    let touched = match touch() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(state_dir).and_then(|()| touch())
        }
        touched => touched,
    };
    touched.with_context(|| format!("cannot write {}", path.display()))
}

/// When the last scan ended; `None` where there was none, or the file cannot be looked at.
pub(crate) fn last(state_dir: &Path) -> Option<Timestamp> {
    let modified = fs::symlink_metadata(of_state(state_dir)).ok()?.modified().ok()?;
    Timestamp::try_from(modified).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_note_sets_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(last(&state), None);
        note(&state).unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let file = OpenOptions::new().write(true).open(of_state(&state)).unwrap();
        file.set_modified(old).unwrap();
        assert_eq!(last(&state), Timestamp::try_from(old).ok());
        note(&state).unwrap();
        assert!(last(&state) > Timestamp::try_from(old + Duration::from_secs(3000)).ok());
        assert_eq!(fs::read(of_state(&state)).unwrap(), b"\n");
    }
}
