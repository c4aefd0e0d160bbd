//! Whether a file is open for writing somewhere.
//!
//! A read lease (`fcntl(F_SETLEASE)`) would tell at once, but no safe binding
//! of it exists; `/proc/PID/fd` tells the same for every process that may be
//! looked into, with a few milliseconds' work.

use std::collections::HashSet;
use std::fs::{Metadata, read_dir, read_to_string};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::durable::FileId;

/// Write access for group or others: writers of another user are possible.
const SHARED_WRITE: u32 = 0o022;

/// Whether some process has the file open for writing; `None` where such a
/// process could be one that we may not look into: another user's, or one of our
/// own that hides itself, as `sftp-server` does, which receives what `scp` and
/// `sftp` send.
///
/// # Errors
/// Where the system does not let us look at all.
pub fn is_open_for_writing(file: &Metadata) -> io::Result<Option<bool>> {
    Ok(are_open_for_writing(&[file])?.pop().flatten())
}

/// The same for threads that ask at one moment: a walk answers all who asked before it began.
#[derive(Debug, Default)]
pub struct Writers {
    asked: Mutex<Vec<Question>>,
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Question {
    file: Metadata,
    answer: Sender<io::Result<Option<bool>>>,
}

impl Writers {
    /// As [`is_open_for_writing`], which it is for a single thread.
    ///
    /// # Errors
    /// Where the system does not let us look at all.
    pub fn of(&self, file: &Metadata) -> io::Result<Option<bool>> {
        let (answer, answered) = mpsc::channel();
        let file = file.clone();
        locked(&self.asked).push(Question { file, answer });
        // Who walked meanwhile has answered us already, or began before we asked.
        let turn = locked(&self.turn);
        self.answer();
        drop(turn);
        answered.recv().map_err(io::Error::other)?
    }

    /// Walks for all who have asked, if somebody still waits.
    fn answer(&self) {
        // Not locked during the walk, so that the next questions gather meanwhile.
        let asked = mem::take(&mut *locked(&self.asked));
        if asked.is_empty() {
            return;
        }
        let files: Vec<&Metadata> = asked.iter().map(|question| &question.file).collect();
        let open = are_open_for_writing(&files);
        for (nth, question) in asked.iter().enumerate() {
            let open = match &open {
                Ok(open) => Ok(open.get(nth).copied().flatten()),
                Err(error) => Err(error.raw_os_error().map_or_else(
                    || io::Error::other(error.to_string()),
                    io::Error::from_raw_os_error,
                )),
            };
            // Who asked waits for the answer.
            let _ = question.answer.send(open);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for several files, with one walk of `/proc`.
///
/// # Errors
/// Where the system does not let us look at all.
pub fn are_open_for_writing(files: &[&Metadata]) -> io::Result<Vec<Option<bool>>> {
    let open = open_for_writing(&files.iter().map(|file| FileId::of(file)).collect())?;
    let user = rustix::process::geteuid();
    let all_show_theirs = user.is_root() || !some_are_hidden(user.as_raw())?;
    Ok(files
        .iter()
        .map(|file| {
            let is_ours_alone = file.uid() == user.as_raw() && file.mode() & SHARED_WRITE == 0;
            let sees_all = user.is_root() || (is_ours_alone && all_show_theirs);
            let found = open.contains(&FileId::of(file));
            (found || sees_all).then_some(found)
        })
        .collect())
}

/// Whether a process of `user` does not let its own user see its files.
fn some_are_hidden(user: u32) -> io::Result<bool> {
    for process in super::processes_that(|_| true)? {
        let is_denied = read_dir(super::proc_path(process.pid, "fd"))
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let status = super::proc_path(process.pid, "status");
        if is_denied
            && let Some(status) = super::unless_gone(read_to_string(status))?
            && acts_as(&status, user)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `/proc/PID/status` names `user` as the one that files are opened as,
/// the last of its `Uid:` line. The directory of a hidden process belongs to root.
fn acts_as(status: &str, user: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().last())
        .is_none_or(|last| last.parse() == Ok(user))
}

/// Which of these files, some process that we may look
/// into has open for writing: one walk of `/proc` for all of them.
///
/// # Errors
/// Where the system does not let us look at all.
pub fn open_for_writing(files: &HashSet<FileId>) -> io::Result<HashSet<FileId>> {
    let mut found = HashSet::new();
    if files.is_empty() {
        return Ok(found);
    }
    for pid in super::all_processes()? {
        let Some(descriptors) = descriptors(pid)? else {
            continue;
        };
        let mut buffer = [MaybeUninit::uninit(); 8 << 10];
        let mut entries = RawDir::new(&descriptors, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT | Errno::SRCH) => break,
                Err(error) => return Err(error.into()),
            };
            // By name and directory: a long path costs twice as much, a thousand times.
            if let Ok(open) = fs::statat(&descriptors, entry.file_name(), AtFlags::empty()) {
                let file = FileId::new(open.st_dev, open.st_ino);
                let descriptor = entry.file_name().to_string_lossy();
                if files.contains(&file) && is_writable(pid, &descriptor) {
                    found.insert(file);
                }
            }
        }
    }
    Ok(found)
}

/// The directory of a process' open files; none where it has ended, or may not be looked into.
fn descriptors(pid: Pid) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match fs::open(super::proc_path(pid, "fd"), flags, Mode::empty()) {
        Ok(descriptors) => Ok(Some(descriptors)),
        Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads the `flags:` line, octal as `open(2)` has them.
fn is_writable(pid: Pid, descriptor: &str) -> bool {
    const ACCESS_MODE: u32 = 0o3;
    let fdinfo = super::proc_path(pid, &format!("fdinfo/{descriptor}"));
    read_to_string(fdinfo).is_ok_and(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
            .is_some_and(|flags| flags & ACCESS_MODE != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions, metadata};

    /// Nothing is hidden from root, so that the words are tested by themselves.
    #[test]
    fn whose_a_hidden_process_is_stands_in_its_status() {
        for (uids, ours) in [
            ("7\t7\t7\t7", true),
            ("0\t0\t0\t7", true),
            ("0\t0\t0\t0", false),
            ("7\t7\t7\t8", false),
            ("", true),
        ] {
            let status = format!("Name:\tsftp-server\nUid:\t{uids}\nGid:\t7\t7\t7\t7\n");
            assert_eq!(acts_as(&status, 7), ours, "{uids:?}");
        }
    }

    #[test]
    fn a_writer_is_seen_and_a_reader_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.into_temp_path();
        let open = || {
            let metadata = metadata(&path).unwrap();
            let file = FileId::of(&metadata);
            let found = open_for_writing(&HashSet::from([file])).unwrap();
            let found = found.contains(&file);
            let open = is_open_for_writing(&metadata).unwrap();
            assert_eq!(open, Some(found));
            let writers = Writers::default();
            std::thread::scope(|scope| {
                let ask = || assert_eq!(writers.of(&metadata).unwrap(), Some(found));
                for _ in 0..8 {
                    scope.spawn(ask);
                }
            });
            open
        };
        assert_eq!(open(), Some(false));
        let reader = File::open(&path).unwrap();
        assert_eq!(open(), Some(false));
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(open(), Some(true));
        drop((reader, writer));
        assert_eq!(open(), Some(false));
    }
}
