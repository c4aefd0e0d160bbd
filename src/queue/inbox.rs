//! What lies in an inbox, and the heads of what waits there.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::thread;

use anyhow::{Context, Result};
use rustix::fs::Mode;
use uuid::Uuid;

use super::{Folder, Held, Name, Project, TaskRef};
use crate::concurrent;
use crate::durable;
use crate::task::{self, Header, Task, TaskTurn};

/// The first bytes that are read of a task for its priority; nearly every header fits.
const HEAD: usize = 4 << 10;

/// The names in one inbox, as one walk found them.
#[derive(Debug)]
pub struct Inbox {
    pub project: Project,
    /// Regular files `*.md` that nobody has, in no order.
    pub waiting: Vec<OsString>,
    /// Tasks that a session of this or another pool has.
    pub dispatched: Vec<OsString>,
    pub delegated: Vec<OsString>,
    /// Files that wait but are not touched.
    pub held: Vec<(OsString, Held)>,
    /// The keys of filed tasks whose refs are still in an exchange.
    pub(crate) leaving: Vec<Uuid>,
}

impl Inbox {
    /// When the waiting file was last changed, in nanoseconds since 1970; a file that is gone is last.
    pub(crate) fn modified(&self, name: &OsStr) -> i64 {
        let metadata = fs::symlink_metadata(self.project.folder(Folder::Inbox).join(name));
        metadata.map_or(i64::MAX, |it| {
            it.mtime().saturating_mul(1_000_000_000).saturating_add(it.mtime_nsec())
        })
    }
}

impl Project {
    /// Lists the inbox; a project without one has nothing in it. One walk, and
    /// no look at any file.
    pub fn list(&self) -> Result<Inbox> {
        let mut inbox = Inbox {
            project: self.clone(),
            waiting: Vec::new(),
            dispatched: Vec::new(),
            delegated: Vec::new(),
            held: Vec::new(),
            leaving: Vec::new(),
        };
        for entry in durable::list_dir(&self.folder(Folder::Inbox))? {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = name.as_bytes();
            let task_before = |suffix| {
                let task = bytes.strip_suffix(suffix).filter(|task| task.ends_with(b".md"));
                task.map(|task| OsStr::from_bytes(task).to_owned())
            };
            if let Some(hidden) = bytes.strip_prefix(b".") {
                let key = hidden.strip_suffix(b".leaving").map(Uuid::try_parse_ascii);
                inbox.leaving.extend(key.and_then(Result::ok));
            } else if let Some(task) = task_before(b".dispatched".as_slice()) {
                inbox.dispatched.push(task);
            } else if let Some(task) = task_before(b".delegated") {
                inbox.delegated.push(task);
            } else if !bytes.ends_with(b".md") {
                continue;
            } else if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                inbox.waiting.push(name);
            } else {
                inbox.held.push((name, Held::NotRegular));
            }
        }
        inbox.separate_active();
        Ok(inbox)
    }

    /// When each task that waits may go, from the first bytes of its file. One
    /// that cannot be read counts as ordinary: the failure is reported when its
    /// turn comes. The error is that of an inbox that cannot be opened.
    pub(crate) fn turns(&self, names: &[OsString]) -> Result<Vec<(TaskTurn, OsString)>> {
        self.heads(names, task::turn_of, |whole| whole.header.into())
    }

    /// The header of each task that waits, read in the same way; one that cannot be read stays on this
    /// machine.
    pub(crate) fn headers(&self, names: &[OsString]) -> Result<Vec<(Header, OsString)>> {
        self.heads(names, task::head, |whole| whole.header)
    }

    /// Reads the first bytes of each file, and all of it only where they do not
    /// suffice. All cores share the reading.
    fn heads<T: Default + Send>(
        &self,
        names: &[OsString],
        of_start: fn(&[u8]) -> Option<T>,
        of_whole: fn(Task) -> T,
    ) -> Result<Vec<(T, OsString)>> {
        const WORTH_A_THREAD: usize = 256;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let directory = self.folder(Folder::Inbox);
        let inbox = durable::open_dir(&directory)
            .with_context(|| format!("cannot open {}", directory.display()))?;
        let read = |names: &[OsString]| -> Vec<(T, OsString)> {
            let mut buffer = [0; HEAD];
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                let head = head(&inbox, name, &mut buffer, of_start, of_whole);
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
        Ok(concurrent::map(shares, read).into_iter().flatten().collect())
    }
}

impl Inbox {
    /// One of the listed names as a task; `None` for a name that cannot be a task's.
    pub(crate) fn task(&self, name: &OsStr) -> Option<TaskRef> {
        let name = Name::new(name).ok()?;
        Some(TaskRef { project: self.project.clone(), name })
    }

    /// The tasks that have a `.delegated` marker.
    pub fn delegated_tasks(&self) -> impl Iterator<Item = TaskRef> {
        self.delegated.iter().filter_map(|name| self.task(name))
    }

    /// Takes out of `waiting` what somebody has, and what has a name that no task can have.
    fn separate_active(&mut self) {
        let dispatched: HashSet<&OsString> = self.dispatched.iter().collect();
        let delegated: HashSet<&OsString> = self.delegated.iter().collect();
        let held = &mut self.held;
        self.waiting.retain(|name| {
            let reason = if dispatched.contains(name) {
                Some(Held::NameActive)
            } else if delegated.contains(name) {
                // The file of a delegated task stays in the inbox: it is that task, and no new one of its name.
                return false;
            } else {
                Name::new(name).err()
            };
            held.extend(reason.map(|reason| (name.clone(), reason)));
            reason.is_none()
        });
    }
}

/// What one file's head says, with one read where its header fits into the buffer.
fn head<T>(
    inbox: &OwnedFd,
    name: &OsStr,
    buffer: &mut [u8; HEAD],
    of_start: fn(&[u8]) -> Option<T>,
    of_whole: fn(Task) -> T,
) -> Option<T> {
    let file = rustix::fs::openat(inbox, name, durable::NOFOLLOW, Mode::empty()).ok()?;
    let length = rustix::io::read(&file, &mut buffer[..]).ok()?;
    if let Some(found) = of_start(&buffer[..length]) {
        return Some(found);
    }
    let mut bytes = buffer[..length].to_vec();
    bytes.extend(durable::read_at_most(File::from(file), task::MAX_BYTES as u64).ok()?);
    Some(of_whole(task::parse(&String::from_utf8_lossy(&bytes))))
}
