//! `flock(2)` on files that are never deleted.
//!
//! A lock dies with the process that holds it, so no lock is ever stale; a
//! lock file is never removed, so two processes never lock two files of one
//! name. Order: a session's lock before a project's.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

use crate::error::Failure;

/// How long a lock that is held only for a moment is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who only looks whether a lock is held ([`is_held`]) holds it for an instant.
const GLANCE: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_millis(2);

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock if nobody holds it. `None`: somebody does, for longer than a
/// glance.
pub fn try_exclusive(path: &Path) -> Result<Option<Lock>> {
    within(path, GLANCE)
}

/// Takes the lock, if whoever holds it gives it up in time. `None`: nobody did.
pub fn within(path: &Path, limit: Duration) -> Result<Option<Lock>> {
    let file = open(path)?;
    let deadline = Instant::now() + limit;
    while !lock(&file).with_context(|| format!("cannot lock {}", path.display()))? {
        if Instant::now() > deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
    Ok(Some(Lock { _file: file }))
}

/// Takes a lock that others hold only for a moment; fails as [`Failure::Temporary`]
/// if somebody keeps it for longer than ten seconds.
pub fn exclusive(path: &Path) -> Result<Lock> {
    within(path, PATIENCE)?.ok_or_else(|| {
        Failure::Temporary(format!(
            "{} has been locked by another process for {} s; see who holds it with `fuser {}`",
            path.display(),
            PATIENCE.as_secs(),
            path.display()
        ))
        .into()
    })
}

/// Whether somebody holds the lock; a file that does not exist is not locked,
/// and is not made.
pub fn is_held(path: &Path) -> Result<bool> {
    match File::open(path) {
        Ok(file) => lock(&file)
            .map(|locked| !locked)
            .with_context(|| format!("cannot lock {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
    }
}

/// Locks an open file that is not one of our lock files (a marker); false if
/// somebody holds it.
pub fn lock(file: &File) -> io::Result<bool> {
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Opens a lock file, for writing where that is allowed (NFS wants it so), else
/// for reading (a queue that another user made).
fn open(path: &Path) -> Result<File> {
    let open = |access| {
        rustix::fs::open(
            path,
            access | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            Mode::from_raw_mode(0o666),
        )
    };
    open(OFlags::RDWR)
        .or_else(|error| match error {
            rustix::io::Errno::ACCESS => open(OFlags::RDONLY),
            other => Err(other),
        })
        .map(File::from)
        .map_err(io::Error::from)
        .with_context(|| format!("cannot open the lock file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!is_held(&path).unwrap());
        assert!(!path.exists());
        let held = try_exclusive(&path).unwrap().unwrap();
        assert!(is_held(&path).unwrap());
        assert!(try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(!is_held(&path).unwrap());
        exclusive(&path).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(try_exclusive(&path).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }
}
