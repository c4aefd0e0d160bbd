//! Whether a file is open for writing somewhere.
//!
//! A read lease (`fcntl(F_SETLEASE)`) would tell at once, but no safe binding
//! of it exists; `/proc/PID/fd` tells the same for every process that may be
//! looked into, with a few milliseconds' work.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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

/// The same for several files, with one walk of `/proc`.
///
/// # Errors
/// Where the system does not let us look at all.
pub fn are_open_for_writing(files: &[&Metadata]) -> io::Result<Vec<Option<bool>>> {
    let identity = |file: &Metadata| (file.dev(), file.ino());
    let open = open_for_writing(&files.iter().map(|file| identity(file)).collect())?;
    let user = rustix::process::geteuid();
    let all_show_theirs = user.is_root() || !some_are_hidden(user.as_raw())?;
    Ok(files
        .iter()
        .map(|file| {
            let is_ours_alone = file.uid() == user.as_raw() && file.mode() & SHARED_WRITE == 0;
            let sees_all = user.is_root() || (is_ours_alone && all_show_theirs);
            let found = open.contains(&identity(file));
            (found || sees_all).then_some(found)
        })
        .collect())
}

/// Whether a process of `user` does not let its own user see its files.
fn some_are_hidden(user: u32) -> io::Result<bool> {
    for process in super::processes_that(|_| true)? {
        let is_denied = fs::read_dir(super::proc_path(process.pid, "fd"))
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let status = super::proc_path(process.pid, "status");
        if is_denied
            && let Some(status) = super::unless_gone(fs::read_to_string(status))?
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

/// Which of these files, by device and inode, some process that we may look
/// into has open for writing: one walk of `/proc` for all of them.
///
/// # Errors
/// Where the system does not let us look at all.
pub fn open_for_writing(files: &HashSet<(u64, u64)>) -> io::Result<HashSet<(u64, u64)>> {
    let mut found = HashSet::new();
    if files.is_empty() {
        return Ok(found);
    }
    for pid in super::all_processes()? {
        let process = super::proc_path(pid, "");
        let descriptors = match super::unless_gone(fs::read_dir(process.join("fd"))) {
            Ok(descriptors) => descriptors,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) => return Err(error),
        };
        for entry in descriptors.into_iter().flatten().flatten() {
            if let Ok(open) = fs::metadata(entry.path())
                && files.contains(&(open.dev(), open.ino()))
                && is_writable(&process.join("fdinfo").join(entry.file_name()))
            {
                found.insert((open.dev(), open.ino()));
            }
        }
    }
    Ok(found)
}

/// Reads the `flags:` line, octal as `open(2)` has them.
fn is_writable(fdinfo: &Path) -> bool {
    const ACCESS_MODE: u32 = 0o3;
    fs::read_to_string(fdinfo).is_ok_and(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
            .is_some_and(|flags| flags & ACCESS_MODE != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

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
            let metadata = fs::metadata(&path).unwrap();
            let file = (metadata.dev(), metadata.ino());
            let found = open_for_writing(&HashSet::from([file])).unwrap();
            let found = found.contains(&file);
            let open = is_open_for_writing(&metadata).unwrap();
            assert_eq!(open, Some(found));
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
