//! What lies in an inbox, and reading one task of it safely.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

use super::{Folder, Name, Project};
use crate::parallel;
use crate::process::{self, Writers};
use crate::task::{self, Priority, Routing, Task, Unfit};

/// A file whose writers cannot be seen counts as finished after this time.
const SETTLED: Duration = Duration::from_secs(1);

/// So many bytes of a task are read for its priority; nearly every header fits.
const HEAD: usize = 4 << 10;

/// The names in one inbox, as one walk found them.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Regular files `*.md` that nobody has, in no order.
    pub waiting: Vec<OsString>,
    /// Tasks that a session of this or another pool has.
    pub dispatched: Vec<OsString>,
    /// Tasks that were given to secutools.
    pub delegated: Vec<OsString>,
    /// Files that wait but are not touched.
    pub held: Vec<(OsString, Held)>,
}

/// Why a file in the inbox is left where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The name is not UTF-8.
    NameNotText,
    /// The name has control characters.
    NameWithControls,
    /// The name has more than 200 bytes.
    NameTooLong,
    /// A link, a directory, a FIFO, a device.
    NotRegular,
    /// The file has a second name somewhere.
    SecondLink,
    /// Somebody has it open for writing, or changed it a moment ago.
    BeingWritten,
    /// A task of this name is at work.
    NameActive,
    /// It is not there any more, or is another file by now.
    Gone,
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NameNotText => "its name is not UTF-8: rename it",
            Self::NameWithControls => "its name has control characters: rename it",
            Self::NameTooLong => "its name has more than 200 bytes: shorten it",
            Self::NotRegular => {
                "it is not a regular file (links are not followed): put the file itself here"
            }
            Self::SecondLink => {
                "it has more than one hard link: copy it, so that nothing else can change it"
            }
            Self::BeingWritten => "it is still being written: it is taken once it is closed",
            Self::NameActive => {
                "a task of this name is at work: it waits for that to end, or rename it"
            }
            Self::Gone => "it has just left the inbox, or was replaced",
        })
    }
}

/// Which file was looked at, so that another one of its name is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Seen {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether it has more bytes than a task may have.
    pub(super) fn is_too_large(&self) -> bool {
        self.size > (task::MAX_BYTES + task::MAX_ENDING_BYTES) as u64
    }

    /// Whether `path` is that file, unchanged.
    pub fn is_still(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|metadata| Self::of(&metadata) == *self)
    }
}

/// A task that was read: its text, or why no agent can work on it.
#[derive(Debug)]
pub struct Opened {
    /// The file that was read.
    pub seen: Seen,
    /// All of its text.
    pub text: Result<String, Unfit>,
}

impl Project {
    /// Lists the inbox; `None` where the project has none. One walk, and no
    /// look at any file.
    pub fn list(&self) -> Result<Option<Inbox>> {
        let directory = self.folder(Folder::Inbox);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", directory.display()));
            }
        };
        let mut inbox = Inbox::default();
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
            inbox.add(entry.file_name(), || entry.file_type().is_ok_and(|kind| kind.is_file()));
        }
        inbox.separate_active();
        Ok(Some(inbox))
    }

    /// The priority of each task that waits, from the first bytes of its file;
    /// one that cannot be read counts as ordinary, and is told when its turn
    /// comes. The error is of an inbox that cannot be opened.
    pub fn priorities(&self, names: &[OsString]) -> Result<Vec<(Priority, OsString)>> {
        self.heads(names, task::priority_of, |whole| whole.header.priority)
    }

    /// What decides the route of each task that waits, read in the same way; one
    /// that cannot be read stays on this machine.
    pub fn routings(&self, names: &[OsString]) -> Result<Vec<(Routing, OsString)>> {
        self.heads(
            names,
            |bytes| task::head(bytes).map(|head| head.routing),
            |whole| whole.header.routing,
        )
    }

    /// Reads the first bytes of each file, and only where they do not suffice
    /// all of it. The reading is shared by all cores.
    fn heads<T: Default + Send>(
        &self,
        names: &[OsString],
        glance: fn(&[u8]) -> Option<T>,
        of_whole: fn(Task) -> T,
    ) -> Result<Vec<(T, OsString)>> {
        const WORTH_A_THREAD: usize = 256;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let directory = self.folder(Folder::Inbox);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inbox = rustix::fs::open(&directory, flags, Mode::empty())
            .map_err(io::Error::from)
            .with_context(|| format!("cannot open {}", directory.display()))?;
        let read = |names: &[OsString]| -> Vec<(T, OsString)> {
            let mut buffer = [0; HEAD];
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                let head = head(&inbox, name, &mut buffer, glance, of_whole);
                found.push((head.unwrap_or_default(), name.clone()));
            }
            found
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let share = names.len().div_ceil(cores).max(WORTH_A_THREAD);
        if share >= names.len() {
            return Ok(read(names));
        }
        let shares: Vec<&[OsString]> = names.chunks(share).collect();
        Ok(parallel::map(shares, read).into_iter().flatten().collect())
    }

    /// Reads a waiting task whole: no link followed, no FIFO opened, nothing
    /// taken that somebody is still writing.
    pub fn open(&self, name: &Name) -> Result<Result<Opened, Held>> {
        let mut opened = open_all(&[(self, name)])?;
        opened.pop().unwrap_or(Ok(Err(Held::Gone)))
    }
}

/// Opens several tasks, in their order, with one look at who is writing what.
/// The outer error is of that look.
pub fn open_all(tasks: &[(&Project, &Name)]) -> Result<Vec<Result<Result<Opened, Held>>>> {
    let read: Vec<_> =
        tasks.iter().map(|(project, name)| read_regular(&project.waiting_path(name))).collect();
    let files: Vec<&fs::Metadata> =
        read.iter().flatten().flatten().map(|(metadata, _)| metadata).collect();
    let open = process::are_open_for_writing(&files)
        .context("cannot tell who writes to the tasks that wait")?;
    let mut open = open.into_iter();
    Ok(read
        .into_iter()
        .map(|read| {
            read.map(|read| {
                read.and_then(|(metadata, bytes)| {
                    let open = open.next().flatten();
                    Opened::new(&metadata, &bytes, open)
                })
            })
        })
        .collect())
}

impl Opened {
    /// What was read of a file, unless it may still be written; `open` is
    /// whether somebody has it open for that, if that can be seen.
    fn new(metadata: &fs::Metadata, bytes: &[u8], open: Option<bool>) -> Result<Self, Held> {
        if open.unwrap_or_else(|| !has_rested(metadata)) {
            return Err(Held::BeingWritten);
        }
        let text = task::text_of(bytes).map(str::to_owned);
        // Many editors close a new file before there is anything in it.
        if text == Err(Unfit::Empty) && !has_rested(metadata) {
            return Err(Held::BeingWritten);
        }
        Ok(Self { seen: Seen::of(metadata), text })
    }
}

impl Inbox {
    fn add(&mut self, name: OsString, is_file: impl FnOnce() -> bool) {
        let bytes = name.as_bytes();
        if bytes.starts_with(b".") {
            return;
        }
        if bytes.ends_with(b".md") {
            if is_file() {
                self.waiting.push(name);
            } else {
                self.held.push((name, Held::NotRegular));
            }
        } else if let Some(task) = bytes.strip_suffix(b".dispatched") {
            if task.ends_with(b".md") {
                self.dispatched.push(OsStr::from_bytes(task).to_owned());
            }
        } else if let Some(task) = bytes.strip_suffix(b".delegated")
            && task.ends_with(b".md")
        {
            self.delegated.push(OsStr::from_bytes(task).to_owned());
        }
    }

    fn separate_active(&mut self) {
        let dispatched: HashSet<&OsString> = self.dispatched.iter().collect();
        let delegated: HashSet<&OsString> = self.delegated.iter().collect();
        let held = &mut self.held;
        self.waiting.retain(|name| {
            if dispatched.contains(name) {
                held.push((name.clone(), Held::NameActive));
                return false;
            }
            if delegated.contains(name) {
                return false;
            }
            match Name::new(name) {
                Ok(_) => true,
                Err(reason) => {
                    held.push((name.clone(), reason));
                    false
                }
            }
        });
    }
}

/// What one file's head says, with one read where its header fits into the buffer.
fn head<T>(
    inbox: &OwnedFd,
    name: &OsStr,
    buffer: &mut [u8; HEAD],
    glance: fn(&[u8]) -> Option<T>,
    of_whole: fn(Task) -> T,
) -> Option<T> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(inbox, name, flags, Mode::empty()).ok()?;
    let length = rustix::io::read(&file, &mut buffer[..]).ok()?;
    if let Some(found) = glance(&buffer[..length]) {
        return Some(found);
    }
    let mut bytes = buffer[..length].to_vec();
    let mut rest = File::from(file).take(task::MAX_BYTES as u64);
    rest.read_to_end(&mut bytes).ok()?;
    Some(of_whole(task::parse(&String::from_utf8_lossy(&bytes))))
}

/// The contents of a regular file with one name, up to one byte more than a
/// task may have.
pub(super) fn read_regular(path: &Path) -> Result<Result<(fs::Metadata, Vec<u8>), Held>> {
    let (file, metadata) = match open_regular(path)? {
        Ok(opened) => opened,
        Err(held) => return Ok(Err(held)),
    };
    if metadata.nlink() > 1 {
        return Ok(Err(Held::SecondLink));
    }
    let mut bytes = Vec::new();
    file.take((task::MAX_BYTES + task::MAX_ENDING_BYTES) as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Ok((metadata, bytes)))
}

/// Opens a regular file, without following a link or waiting for a FIFO.
pub(super) fn open_regular(path: &Path) -> Result<Result<(File, fs::Metadata), Held>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT) => return Ok(Err(Held::Gone)),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(Err(Held::NotRegular)),
        Err(error) => {
            return Err(io::Error::from(error))
                .with_context(|| format!("cannot open {}", path.display()));
        }
    };
    let metadata = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(match metadata.is_file() {
        true => Ok((file, metadata)),
        false => Err(Held::NotRegular),
    })
}

/// Whether somebody may still be writing the file. The processes that have it
/// open are looked at where they can be seen, which is the case for a file of
/// our own user and for root; else it has to have rested for a second.
pub(super) fn is_being_written(
    metadata: &fs::Metadata,
    path: &Path,
    writers: &Writers,
) -> Result<bool> {
    let open = writers
        .of(metadata)
        .with_context(|| format!("cannot tell who writes to {}", path.display()))?;
    Ok(match open {
        Some(open) => open,
        None => !has_rested(metadata),
    })
}

/// Whether the file has not changed for a second. One from the future has.
fn has_rested(metadata: &fs::Metadata) -> bool {
    !metadata.modified().is_ok_and(|modified| {
        SystemTime::now().duration_since(modified).is_ok_and(|age| age < SETTLED)
    })
}
