//! `STATE/passed`: a file that every scan except a dry run touches at its end, so that others see that passes are made.

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

/// A scan has ended: the file's time is now.
pub(crate) fn touch(state_dir: &Path) -> Result<()> {
    let path = of_state(state_dir);
    let write = || {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(durable::PRIVATE);
        // The same byte every time: it is the write that sets the file's time.
        options.open(&path)?.write_all(b"\n")
    };
    let touched = match write() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(state_dir).and_then(|()| write())
        }
        touched => touched,
    };
    touched.with_context(|| format!("cannot write {}", path.display()))
}

/// When the last scan ended; `None` where there was none, or the file cannot be looked at.
pub(crate) fn read(state_dir: &Path) -> Option<Timestamp> {
    let modified = fs::symlink_metadata(of_state(state_dir)).ok()?.modified().ok()?;
    Timestamp::try_from(modified).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_touch_sets_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(read(&state), None);
        touch(&state).unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let file = OpenOptions::new().write(true).open(of_state(&state)).unwrap();
        file.set_modified(old).unwrap();
        assert_eq!(read(&state), Timestamp::try_from(old).ok());
        touch(&state).unwrap();
        assert!(read(&state) > Timestamp::try_from(old + Duration::from_secs(3000)).ok());
        assert_eq!(fs::read(of_state(&state)).unwrap(), b"\n");
    }
}
