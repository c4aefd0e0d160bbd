//! Whether a file is open for writing somewhere.
//!
//! A read lease (`fcntl(F_SETLEASE)`) would answer at once, but no safe binding
//! of it exists; `/proc/PID/fd` says the same for every process that may be
//! looked into, with a few milliseconds' work.

use std::collections::HashSet;
use std::fs::{Metadata, read_to_string};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, Mode, RawDir, statat};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::concurrent::locked;
use crate::durable::{self, FileId};

/// Write access for group or others: writers of another user are possible.
const SHARED_WRITE: u32 = 0o022;

/// The files that were open for writing at one look through all of `/proc`.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    began: Instant,
    written: HashSet<FileId>,
    /// Whether every process of our own user shows what it has open. `sftp-server`, which receives
    /// what `scp` and `sftp` send, does not.
    shows_all_of_ours: bool,
}

impl OpenFiles {
    pub(crate) fn look() -> io::Result<Self> {
        let began = Instant::now();
        let user = rustix::process::geteuid();
        let mut open = Self { began, written: HashSet::new(), shows_all_of_ours: true };
        for pid in super::all_processes()? {
            match open.add(pid) {
                // A process that has ended meanwhile writes no more.
                Ok(()) | Err(Errno::NOENT | Errno::SRCH) => {}
                Err(Errno::ACCESS | Errno::PERM) => {
                    let is_ours = !user.is_root() && is_hidden(pid, user.as_raw())?;
                    open.shows_all_of_ours &= !is_ours;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(open)
    }

    fn add(&mut self, pid: Pid) -> Result<(), Errno> {
        let descriptors = durable::open_dir(&super::proc_path(pid, "fd"));
        let descriptors =
            descriptors.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mut buffer = [MaybeUninit::uninit(); 8 << 10];
        let mut entries = RawDir::new(&descriptors, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            // The directory itself and its parent are listed, too.
            if entry.file_type() == FileType::Directory {
                continue;
            }
            // By name below the open directory: a whole path costs twice as much, for each of a thousand entries.
            let look = |flags| statat(&descriptors, entry.file_name(), flags);
            // The link's own mode says how the file was opened, as in `l-wx------`.
            let is_writable = look(AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|link| Mode::from_raw_mode(link.st_mode).contains(Mode::WUSR));
            if is_writable && let Ok(file) = look(AtFlags::empty()) {
                self.written.insert(FileId::new(file.st_dev, file.st_ino));
            }
        }
        Ok(())
    }

    /// Whether a process that we may look into has the file open for writing.
    pub(crate) fn has_writer(&self, file: FileId) -> bool {
        self.written.contains(&file)
    }

    /// Whether any process has the file open for writing; `None` where such a
    /// process could be one that we may not look into: another user's, or one of
    /// our own that hides itself.
    pub(crate) fn is_written(&self, file: &Metadata) -> Option<bool> {
        let user = rustix::process::geteuid();
        let is_ours_alone = file.uid() == user.as_raw() && file.mode() & SHARED_WRITE == 0;
        let sees_all = user.is_root() || (is_ours_alone && self.shows_all_of_ours);
        let found = self.has_writer(FileId::of(file));
        (found || sees_all).then_some(found)
    }
}

/// [`OpenFiles::is_written`] for threads that ask at one moment: they share a look.
#[derive(Debug, Default)]
pub(crate) struct Writers(Mutex<Option<OpenFiles>>);

impl Writers {
    pub(crate) fn of(&self, file: &Metadata) -> io::Result<Option<bool>> {
        let asked = Instant::now();
        let mut latest = locked(&self.0);
        // The thread that had the lock while we waited for it has looked for us too, unless its look
        // had begun before we asked.
        let open = match latest.take() {
            Some(open) if open.began > asked => open,
            _ => OpenFiles::look()?,
        };
        Ok(latest.insert(open).is_written(file))
    }
}

/// Whether a process that does not show what it has open is one of `user`, and lives.
fn is_hidden(pid: Pid, user: u32) -> io::Result<bool> {
    if !super::stat(pid)?.is_some_and(|process| process.is_alive()) {
        return Ok(false);
    }
    let status = super::unless_gone(read_to_string(super::proc_path(pid, "status")))?;
    Ok(status.is_some_and(|status| acts_as(&status, user)))
}

/// Whether `/proc/PID/status` names `user` as the one that files are opened as,
/// the last of its `Uid:` line. The owner of its directory in `/proc` does not
/// show it: for a hidden process that is root.
fn acts_as(status: &str, user: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().last())
        .is_none_or(|last| last.parse() == Ok(user))
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
    fn a_look_that_began_before_one_asked_is_not_enough() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let file = metadata(&path).unwrap();
        let writers = Writers::default();
        assert_eq!(writers.of(&file).unwrap(), Some(false));
        let _writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(writers.of(&file).unwrap(), Some(true));
    }

    #[test]
    fn a_writer_is_seen_and_a_reader_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.into_temp_path();
        let open = || {
            let metadata = metadata(&path).unwrap();
            let open = OpenFiles::look().unwrap();
            let found = open.has_writer(FileId::of(&metadata));
            assert_eq!(open.is_written(&metadata), Some(found));
            let writers = Writers::default();
            std::thread::scope(|scope| {
                let ask = || assert_eq!(writers.of(&metadata).unwrap(), Some(found));
                for _ in 0..8 {
                    scope.spawn(ask);
                }
            });
            found
        };
        assert!(!open());
        let reader = File::open(&path).unwrap();
        assert!(!open());
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(open());
        drop((reader, writer));
        assert!(!open());
    }
}
