//! `flock(2)` on files that are never deleted.
//!
//! A lock dies with the process that holds it, so no lock is ever stale; a
//! lock file is never removed, so two processes never lock two files of one
//! name. Order: a session's lock before a project's.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::OFlags;

use crate::durable;
use crate::error::Failure;

/// How long a lock that is held only for a moment is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long [`try_exclusive`] tries: [`is_held`] in another process takes the lock for an instant.
const PROBE: Duration = Duration::from_millis(20);

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock if nobody holds it. `None`: another process holds it, and not only for a look by [`is_held`].
pub fn try_exclusive(path: &Path) -> Result<Option<Lock>> {
    poll(path, PROBE)
}

/// Takes the lock, if it becomes free within `limit`.
///
/// The kernel serves those who wait about in the order in which they came, but it has no time limit, so a thread of its
/// own waits. When the time is up, nobody receives from the thread any more: it drops the lock as soon as it gets it.
/// Where the system refuses the thread, the lock is polled for.
pub(crate) fn within(path: &Path, limit: Duration) -> Result<Option<Lock>> {
    let failed = || format!("cannot lock {}", path.display());
    let file = open(path)?;
    if lock(&file).with_context(failed)? {
        return Ok(Some(Lock { _file: file }));
    }
    if limit.is_zero() {
        return Ok(None);
    }
    // Not a thread of `concurrent`: those end before the call returns, and this one may wait for longer.
    let (sender, receiver) = mpsc::channel();
    let wait = move || {
        let locked = fs2::FileExt::lock_exclusive(&file).map(|()| file);
        let _unwanted = sender.send(locked);
    };
    if thread::Builder::new().spawn(wait).is_err() {
        return poll(path, limit);
    }
    match receiver.recv_timeout(limit) {
        Ok(locked) => Ok(Some(Lock { _file: locked.with_context(failed)? })),
        Err(_) => Ok(None),
    }
}

/// Tries the lock again and again. This needs no thread, but is not fair: others may get the lock each time in between.
fn poll(path: &Path, limit: Duration) -> Result<Option<Lock>> {
    const PAUSE: Duration = Duration::from_millis(2);
    let deadline = Instant::now() + limit;
    let file = open(path)?;
    while !lock(&file).with_context(|| format!("cannot lock {}", path.display()))? {
        if Instant::now() > deadline {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
    Ok(Some(Lock { _file: file }))
}

/// Takes a lock that others hold only for a moment; fails as [`Failure::Temporary`]
/// if somebody keeps it for longer than ten seconds.
pub(crate) fn exclusive(path: &Path) -> Result<Lock> {
    within(path, LOCK_WAIT)?.ok_or_else(|| {
        Failure::Temporary(format!(
            "{} has been locked by another process for {} s; see who holds it with `fuser {}`",
            path.display(),
            LOCK_WAIT.as_secs(),
            path.display()
        ))
        .into()
    })
}

/// Whether somebody holds the lock; a file that does not exist is not locked,
/// and is not made.
pub(crate) fn is_held(path: &Path) -> Result<bool> {
    // Open for writing, although nothing is written: NFS locks no other descriptor.
    let opened = durable::if_there(durable::open_to_lock(path, OFlags::empty()));
    match opened.with_context(|| format!("cannot open {}", path.display()))? {
        Some(file) => {
            let is_free = lock(&file).with_context(|| format!("cannot lock {}", path.display()))?;
            Ok(!is_free)
        }
        None => Ok(false),
    }
}

/// Locks an open file, a lock file or a marker, without waiting; false if
/// somebody holds it.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> Result<File> {
    durable::open_to_lock(path, OFlags::CREATE)
        .with_context(|| format!("cannot open the lock file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

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
    fn is_held_keeps_nobody_from_locking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        try_exclusive(&path).unwrap().unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..200).for_each(|_| assert!(is_held(&path).is_ok())));
            }
            for _ in 0..200 {
                assert!(try_exclusive(&path).unwrap().is_some());
            }
        });
    }

    #[test]
    fn a_lock_is_waited_for_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_exclusive(&path).unwrap().unwrap();
        assert!(within(&path, Duration::ZERO).unwrap().is_none());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| within(&path, LOCK_WAIT).unwrap().is_some());
            drop(held);
            assert!(waiting.join().unwrap());
        });
    }

    /// How many wait for the lock of this file, as the kernel has it: `1: -> FLOCK … fe:00:4711 0 EOF`.
    fn waiting(path: &Path) -> usize {
        let file = format!(":{} ", std::fs::metadata(path).unwrap().ino());
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().filter(|line| line.contains("-> FLOCK") && line.contains(&file)).count()
    }

    fn wait_for_waiters(path: &Path, number: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while waiting(path) < number {
            assert!(Instant::now() < deadline, "{} of {number} wait", waiting(path));
            thread::yield_now();
        }
    }

    #[test]
    fn dozens_who_wait_get_it_one_after_the_other_as_they_came() {
        const WAITERS: usize = 48;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = exclusive(&path).unwrap();
        let order = std::sync::Mutex::new(Vec::new());
        thread::scope(|scope| {
            for number in 0..WAITERS {
                let (path, order) = (&path, &order);
                scope.spawn(move || {
                    // Whoever gave up would be missing.
                    let _lock = within(path, Duration::from_secs(600)).unwrap().unwrap();
                    order.lock().unwrap().push(number);
                });
                wait_for_waiters(path, number + 1);
            }
            drop(held);
        });
        let order = order.into_inner().unwrap();
        assert_eq!(order.len(), WAITERS);
        // Two who are woken at one moment may change places.
        let displaced = |(place, number): (usize, &usize)| place.abs_diff(*number);
        let furthest = order.iter().enumerate().map(displaced).max();
        assert!(furthest < Some(WAITERS / 3), "{order:?}");
    }

    #[test]
    fn a_lock_that_comes_too_late_is_dropped_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = exclusive(&path).unwrap();
        for _ in 0..8 {
            assert!(within(&path, Duration::from_millis(1)).unwrap().is_none());
        }
        wait_for_waiters(&path, 8);
        drop(held);
        exclusive(&path).unwrap();
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
