//! Files that survive a crash: written whole or not at all, moved without
//! overwriting, synced before anything relies on them.
//!
//! A write goes to a temporary file `.ccl-*.tmp` in the same directory, is synced, and takes its name by one rename;
//! the directory is synced after it. For a project's `done/` and `failed/` the temporary file lies in the inbox, so
//! that `sweep` need not walk all that was ever finished. A killed process leaves such a temporary file behind and
//! nothing else; `sweep` removes it after a day.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use tempfile::{Builder, NamedTempFile, TempPath};

const TEMPORARY_PREFIX: &str = ".ccl-";
const TEMPORARY_SUFFIX: &str = ".tmp";
const TEMPORARY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Permissions of a file that others may read: what the umask leaves of it.
pub const SHARED: u32 = 0o666;
/// Permissions of a file that only its owner may read.
pub(crate) const PRIVATE: u32 = 0o600;

/// Puts `bytes` at `path`, replacing what stood there; synced, with its
/// directory. `mode` is cut by the umask.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    stage(path, bytes, mode)?.put(path)?;
    sync_parent(path)
}

/// Puts `bytes` at `path` like [`write()`], but does not sync: for a file that is useless after a crash of the machine.
/// A reader sees all of it or nothing.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let filled = filled(directory_of(path), bytes, mode);
    let filled = filled.with_context(|| format!("cannot write {}", path.display()))?;
    Staged(filled.into_temp_path()).put(path)
}

/// Puts `bytes` at `path` unless the name is taken; true if it did.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<bool> {
    let is_created = stage(path, bytes, mode)?.put_new(path)?;
    if is_created {
        sync_parent(path)?;
    }
    Ok(is_created)
}

/// A file that is written, synced and closed, but has not got its name yet; it is removed unless it
/// gets one.
pub(crate) struct Staged(TempPath);

/// Writes and syncs what is to be put at `path`: what takes time.
pub(crate) fn stage(path: &Path, bytes: &[u8], mode: u32) -> Result<Staged> {
    stage_in(directory_of(path), bytes, mode)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes and syncs a temporary file in `directory`, to be put at a path in another directory of the same file system.
/// [`sweep`] finds the temporary file of a killed process here.
pub(crate) fn stage_in(directory: &Path, bytes: &[u8], mode: u32) -> io::Result<Staged> {
    let file = filled(directory, bytes, mode)?;
    file.as_file().sync_all()?;
    Ok(Staged(file.into_temp_path()))
}

impl Staged {
    /// Gives it its name, replacing what stood there. The caller syncs the directory.
    pub(crate) fn put(self, path: &Path) -> Result<()> {
        let put = self.0.persist(path).map_err(|error| error.error);
        put.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Gives it its name unless that is taken; true if it did. If not, the caller may try another name. The caller
    /// syncs the directory.
    pub(crate) fn put_new(&mut self, path: &Path) -> Result<bool> {
        match rename_noreplace(&self.0, path) {
            Ok(()) => {
                // The temporary name went with the rename, and another process may reuse it.
                self.0.disable_cleanup(true);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
        }
    }
}

/// Gives a file of ours the owner and the group of the old one, as far as we may: without root, the group at most.
fn copy_owner(file: &File, old: &fs::Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if new.gid() != old.gid() {
        let _refused = fchown(file, None, Some(old.gid()));
    }
    if new.uid() != old.uid() {
        let _refused = fchown(file, Some(old.uid()), None);
    }
    Ok(())
}

/// Writes and syncs a temporary file like [`stage_in`], with the permissions of the old file, and its owner where we
/// may.
pub(crate) fn stage_like(directory: &Path, bytes: &[u8], old: &fs::Metadata) -> io::Result<Staged> {
    // Private at first: the old permissions are meant for the old owner.
    let file = filled(directory, bytes, PRIVATE)?;
    file.as_file().sync_all()?;
    copy_owner(file.as_file(), old)?;
    // After the owner is set, whom these permissions are meant for.
    file.as_file().set_permissions(old.permissions())?;
    Ok(Staged(file.into_temp_path()))
}

/// Replaces the contents of the file at `path` and keeps its permissions, and
/// its owner where we may, unless it has changed: `is_still` is asked at the
/// last moment. True if it did.
pub(crate) fn rewrite(
    path: &Path,
    bytes: &[u8],
    is_still: impl FnOnce(&Path) -> bool,
) -> Result<bool> {
    let staged = stage_like(directory_of(path), bytes, &look_at(path)?);
    let staged = staged.with_context(|| format!("cannot write {}", path.display()))?;
    if !is_still(path) {
        return Ok(false);
    }
    staged.put(path)?;
    sync_parent(path).map(|()| true)
}

/// A new file in `directory` that is removed when it is dropped, or by [`sweep`] should this process be killed.
pub(crate) fn temporary(directory: &Path, mode: u32) -> io::Result<NamedTempFile> {
    // Opened here, and written to as a plain file: tempfile wraps errors, and the system's error code is lost.
    let open = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    Builder::new().prefix(TEMPORARY_PREFIX).suffix(TEMPORARY_SUFFIX).make_in(directory, open)
}

fn filled(directory: &Path, bytes: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let mut file = temporary(directory, mode)?;
    file.as_file_mut().write_all(bytes)?;
    Ok(file)
}

/// Renames `from` to `to` unless `to` exists (`AlreadyExists`). Where the file
/// system lacks `RENAME_NOREPLACE`, links and unlinks. Two names of one file
/// are what a kill between those two leaves: then `from` is removed.
pub(crate) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    let outcome = match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system lacks the flag, or the kernel lacks the call.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
        }
        other => other.map_err(io::Error::from),
    };
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && same_file(from, to)? => {
            fs::remove_file(from)
        }
        other => other,
    }
}

fn same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    Ok(FileId::of(&one) == FileId::of(&other))
}

/// Which file a name or a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn new(device: u64, inode: u64) -> Self {
        Self { device, inode }
    }

    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self::new(metadata.dev(), metadata.ino())
    }
}

/// What lies in a directory; one that does not exist is empty.
pub(crate) fn list_dir(directory: &Path) -> Result<impl Iterator<Item = Result<DirEntry>>> {
    let failed = move || format!("cannot read {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => Some(entries),
        Err(error) if is_no_directory(&error) => None,
        Err(error) => return Err(error).with_context(failed),
    };
    Ok(entries.into_iter().flatten().map(move |entry| entry.with_context(failed)))
}

pub(crate) fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens a directory, to list it or to name what lies in it without building paths.
pub(crate) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a file for reading, without following a link (`ELOOP`) or waiting for a FIFO.
pub(crate) fn open_nofollow(path: &Path) -> io::Result<File> {
    Ok(File::from(rustix::fs::open(path, NOFOLLOW, Mode::empty())?))
}

/// Opens a file like [`open_nofollow`]; `None` where there is no such file.
pub(crate) fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    if_there(open_nofollow(path))
}

/// What was done with a file; `None` where there is none.
pub(crate) fn if_there<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Opens a file to lock it: for writing where that is allowed, since NFS locks no other descriptor, else for reading (a
/// file that another user made). `more` are further flags: `CREATE` where a missing file is to be made.
pub(crate) fn open_to_lock(path: &Path, more: OFlags) -> io::Result<File> {
    let open = |access| {
        let flags = NOFOLLOW.difference(OFlags::RDONLY) | access | more;
        rustix::fs::open(path, flags, Mode::from_raw_mode(SHARED))
    };
    match open(OFlags::RDWR) {
        Err(Errno::ACCESS | Errno::ROFS) => Ok(File::from(open(OFlags::RDONLY)?)),
        opened => Ok(File::from(opened?)),
    }
}

/// Opens a private file to add lines to it; both it and its directory are made where they are missing.
pub(crate) fn open_to_append(path: &Path) -> io::Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        // Readable, too: `spend` looks at the last byte before it adds a line.
        options.append(true).read(true).create(true).mode(PRIVATE).open(path)
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory_of(path))?;
            open()
        }
        opened => opened,
    }
}

/// The flags for opening a file that somebody else may have put there: no link is followed, no FIFO is waited for.
pub(crate) const NOFOLLOW: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Reads until the end, or until there are `limit` bytes.
pub(crate) fn read_at_most(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All of a file; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    if_there(fs::read(path)).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads a file as text, with replacement characters for what is not UTF-8; `None` where there is no such file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    Ok(read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Whether there is a file of this name, a link included. What cannot be looked
/// at is an error: it must not be taken for something that is gone.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    let found = if_there(fs::symlink_metadata(path));
    Ok(found.with_context(|| format!("cannot look at {}", path.display()))?.is_some())
}

/// The metadata of a file that has to be there; of a link itself, not of what it points to.
pub(crate) fn look_at(path: &Path) -> Result<fs::Metadata> {
    fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))
}

/// When a file was last changed; `None` where that is beyond what a [`Timestamp`] can be.
pub(crate) fn modified(file: &fs::Metadata) -> Option<Timestamp> {
    Timestamp::try_from(file.modified().ok()?).ok()
}

/// How long before `now` a file was last changed; `None` where its time is in the future.
pub(crate) fn age(file: &fs::Metadata, now: SystemTime) -> Option<Duration> {
    now.duration_since(file.modified().ok()?).ok()
}

/// Removes a file; false if there was none. The directory is not synced: a
/// removal that a crash undoes is found and repeated.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    let removed = if_there(fs::remove_file(path));
    Ok(removed.with_context(|| format!("cannot remove {}", path.display()))?.is_some())
}

/// Makes a directory and those above it. They are not synced: where nothing lies in them yet, nothing is lost.
pub(crate) fn make_dirs(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
}

/// Makes a directory whose parent is there.
pub(crate) fn make_dir(directory: &Path) -> Result<()> {
    match fs::create_dir(directory) {
        // What is put into it next is synced: the directory itself must survive a crash, too.
        Ok(()) => sync_dir(directory.parent().unwrap_or(directory)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", directory.display())),
    }
}

/// Makes the names in `directory` durable.
pub(crate) fn sync_dir(directory: &Path) -> Result<()> {
    sync(directory).with_context(|| format!("cannot sync {}", directory.display()))
}

/// Syncs a directory like [`sync_dir`], for a caller that words the error itself.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes temporary files that a killed process left more than a day before
/// `now`. A file that another process removes meanwhile is no error.
pub(crate) fn sweep(directory: &Path, now: SystemTime) -> Result<()> {
    for entry in list_dir(directory)? {
        let entry = entry?;
        if !is_temporary(&entry.file_name()) {
            continue;
        }
        let age = entry.metadata().ok().and_then(|found| age(&found, now));
        if age.is_some_and(|age| age > TEMPORARY_AGE) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file of this name is one of our unfinished writes.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX))
}

fn sync_parent(path: &Path) -> Result<()> {
    sync_dir(directory_of(path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_rename_never_overwrites() {
        let dir = directory();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        let error = rename_noreplace(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&to).unwrap(), "old");
        assert_eq!(fs::read_to_string(&from).unwrap(), "new");
    }

    #[test]
    fn two_names_of_one_file_become_the_newer_one() {
        let dir = directory();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "task").unwrap();
        fs::hard_link(&from, &to).unwrap();
        rename_noreplace(&from, &to).unwrap();
        assert!(!from.exists());
        assert_eq!(fs::read_to_string(&to).unwrap(), "task");
    }

    #[test]
    fn create_leaves_what_is_there_and_no_temporary_file() {
        let dir = directory();
        let path = dir.path().join("marker");
        assert!(create(&path, b"first", SHARED).unwrap());
        assert!(!create(&path, b"second", SHARED).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn rewrite_keeps_the_permissions_and_the_owner() {
        let dir = directory();
        let path = dir.path().join("task.md");
        fs::write(&path, "old").unwrap();
        // Only root can make it somebody else's; otherwise it stays ours.
        let _refused = std::os::unix::fs::chown(&path, Some(12345), Some(23456));
        let owner = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid()));
        let before = owner(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(!rewrite(&path, b"lost", |_| false).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert!(rewrite(&path, b"new", |_| true).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(owner(&path).unwrap(), before);
    }

    #[test]
    fn sweep_takes_only_our_old_temporary_files() {
        let dir = directory();
        for name in [".ccl-abc.tmp", ".ccl-abc.txt", "task.md"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        sweep(dir.path(), SystemTime::now()).unwrap();
        assert!(dir.path().join(".ccl-abc.tmp").exists());
        sweep(dir.path(), SystemTime::now() + TEMPORARY_AGE * 2).unwrap();
        assert!(!dir.path().join(".ccl-abc.tmp").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
