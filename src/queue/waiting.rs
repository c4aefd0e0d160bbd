//! Reading one waiting task safely, or saying why it is none.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::io::Errno;

use super::{Name, Project, TaskRef};
use crate::durable::{self, FileId};
use crate::event::{Event, EventKind};
use crate::process::{OpenFiles, Writers};
use crate::task::{self, Task, Unfit};

/// A file whose writers cannot be seen counts as finished after this time.
const SETTLED: Duration = Duration::from_secs(1);

/// Why a file in the inbox is left where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    #[error("its name is not UTF-8: rename it")]
    NameNotText,
    #[error("its name has control characters: rename it")]
    NameWithControls,
    #[error("its name has more than 200 bytes: shorten it")]
    NameTooLong,
    /// A link, a directory, a FIFO, a device.
    #[error("it is not a regular file (links are not followed): put the file itself here")]
    NotRegular,
    #[error("it has more than one hard link: copy it, so that nothing else can change it")]
    SecondLink,
    /// Somebody has it open for writing, or changed it a moment ago.
    #[error("it is still being written: it is taken once it is closed")]
    BeingWritten,
    #[error("a task of this name is at work: it waits for that to end, or rename it")]
    NameActive,
}

/// Why a file that was listed as waiting is not handed out.
///
/// Each room says it with the same type, so that a pass has one place where a task is passed over.
#[derive(Debug)]
pub enum Skip {
    /// It is not there any more, or is another file by now.
    Gone,
    /// It waits for a time, another task or an agent: `status` and `decide` say which, and a pass does not repeat it.
    NotYet,
    /// Its project has reached its limit of agents at work: none of its tasks starts now.
    Full,
    Held(Held),
    /// The task is held; this sentence says what mends that.
    HeldBecause(String),
    /// The whole project is held, for this reason: none of its tasks goes in this pass. The pass says so once.
    ProjectHeld(String),
    /// It can never be a task, and is to be filed as failed.
    Unfit(Seen, Unfit),
    Failed(anyhow::Error),
}

impl fmt::Display for Skip {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => out.write_str("it has just left the inbox, or was replaced"),
            Self::NotYet => out.write_str("its turn has not come"),
            Self::Held(held) => held.fmt(out),
            Self::HeldBecause(why) | Self::ProjectHeld(why) => out.write_str(why),
            Self::Full => out.write_str("another agent has just begun to work in its project"),
            Self::Unfit(_, unfit) => unfit.fmt(out),
            Self::Failed(error) => error.fmt(out),
        }
    }
}

impl Skip {
    /// What a person has to know of it; none where they need not.
    pub(crate) fn event(&self, at: &TaskRef) -> Option<Event> {
        match self {
            Self::Held(_) | Self::HeldBecause(_) => {
                Some(at.event(EventKind::Held).because(self.to_string()))
            }
            Self::ProjectHeld(why) => {
                let held = Event::of_project(EventKind::Held, at.project.path());
                Some(held.because(why.as_str()))
            }
            // The pass files what can never be a task, and reports a failure, where it passes over the task.
            Self::Gone | Self::NotYet | Self::Full | Self::Unfit(..) | Self::Failed(_) => None,
        }
    }
}

impl From<Held> for Skip {
    fn from(held: Held) -> Self {
        Self::Held(held)
    }
}

impl From<anyhow::Error> for Skip {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// For callers to whom every reason is a failure. `Skip` is no `std::error::Error`: wrapped as one,
/// it would hide what [`crate::error::exit_code`] looks for in the error of `Failed`.
impl From<Skip> for anyhow::Error {
    fn from(skip: Skip) -> Self {
        match skip {
            Skip::Failed(error) => error,
            other => Self::msg(other.to_string()),
        }
    }
}

/// Which file was looked at, so that another one of its name is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    file: FileId,
    size: u64,
    changed: (i64, i64),
}

impl Seen {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            file: FileId::of(metadata),
            size: metadata.size(),
            // Not ctime, which changes with the rename of a claim.
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether it has more bytes than a task may have.
    pub(super) fn is_too_large(&self) -> bool {
        self.size > (task::MAX_BYTES + task::MAX_ENDING_BYTES) as u64
    }

    /// Whether `path` is that file, unchanged.
    pub(crate) fn is_still(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|metadata| Self::of(&metadata) == *self)
    }
}

/// A waiting task, read and parsed. It belongs to nobody until it is claimed.
#[derive(Debug)]
pub struct WaitingTask {
    pub at: TaskRef,
    pub seen: Seen,
    pub text: String,
    pub task: Task,
}

#[derive(Debug)]
pub(crate) enum Read {
    Task(Box<WaitingTask>),
    Skipped(TaskRef, Skip),
}

impl Project {
    /// Reads a waiting task whole: no link followed, no FIFO opened, nothing
    /// taken that somebody is still writing.
    pub fn read(&self, name: &Name) -> Result<WaitingTask, Skip> {
        let file = read_regular(&self.waiting_path(name))?;
        let at = TaskRef { project: self.clone(), name: name.clone() };
        file.into_task(at, &look()?)
    }
}

/// Reads several tasks, in their order, with one look at who is writing what.
/// The error is of that look.
pub(crate) fn read_all(tasks: Vec<TaskRef>) -> Result<Vec<Read>> {
    let files: Vec<_> =
        tasks.iter().map(|at| read_regular(&at.project.waiting_path(&at.name))).collect();
    // After all of them were read: a process that has one open now may not have written all of it yet.
    let open = look()?;
    let read = tasks.into_iter().zip(files).map(|(at, file)| {
        let read = file.and_then(|file| file.into_task(at.clone(), &open));
        read.map_or_else(|skip| Read::Skipped(at, skip), |task| Read::Task(Box::new(task)))
    });
    Ok(read.collect())
}

fn look() -> Result<OpenFiles> {
    OpenFiles::look().context("cannot find out who writes to the tasks that wait")
}

/// Reads a task that a person names, wherever it lies: by the rules of an inbox, but also while
/// it is being written.
pub(crate) fn read_file(path: &Path) -> Result<Task, Skip> {
    let file = read_regular(path)?;
    let text = task::text_of(&file.bytes);
    text.map(task::parse).map_err(|unfit| Skip::Unfit(Seen::of(&file.metadata), unfit))
}

/// A regular file with one name, and its contents: up to one byte more than a task may have.
pub(super) struct Contents {
    pub(super) metadata: fs::Metadata,
    pub(super) bytes: Vec<u8>,
}

impl Contents {
    /// Its ctime: when it was last changed, given this name, or given to somebody. A copy does not take it over.
    pub(super) fn changed_at(&self) -> Timestamp {
        Timestamp::from_second(self.metadata.ctime()).unwrap_or_default()
    }

    /// The task in the file, unless it may still be written.
    fn into_task(self, at: TaskRef, open: &OpenFiles) -> Result<WaitingTask, Skip> {
        let settled = is_settled(&self.metadata);
        if open.is_written(&self.metadata).unwrap_or(!settled) {
            return Err(Held::BeingWritten.into());
        }
        let seen = Seen::of(&self.metadata);
        match task::text_of(&self.bytes) {
            Ok(text) => {
                Ok(WaitingTask { at, seen, task: task::parse(text), text: text.to_owned() })
            }
            // Many editors close a new file before there is anything in it.
            Err(Unfit::Empty) if !settled => Err(Held::BeingWritten.into()),
            Err(unfit) => Err(Skip::Unfit(seen, unfit)),
        }
    }
}

pub(super) fn read_regular(path: &Path) -> Result<Contents, Skip> {
    let (file, metadata) = open_regular(path)?;
    if metadata.nlink() > 1 {
        return Err(Held::SecondLink.into());
    }
    let bytes = durable::read_at_most(file, task::MAX_READ)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Contents { metadata, bytes })
}

/// Opens a regular file, without following a link or waiting for a FIFO.
pub(super) fn open_regular(path: &Path) -> Result<(File, fs::Metadata), Skip> {
    let file = durable::open_nofollow(path).map_err(|error| {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Skip::Gone,
            // A link; a socket.
            Some(Errno::LOOP | Errno::NXIO) => Held::NotRegular.into(),
            _ => Skip::Failed(
                anyhow::Error::new(error).context(format!("cannot open {}", path.display())),
            ),
        }
    })?;
    let metadata = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => Err(Held::NotRegular.into()),
    }
}

/// Whether somebody may still be writing the file. The processes that have it open are looked at where they can be
/// seen, which is the case for a file of our own user and for root; else it must be unchanged for a second.
pub(super) fn is_being_written(path: &Path, writers: &Writers) -> Result<bool> {
    let metadata = durable::look_at(path)?;
    let is_written = writers
        .of(&metadata)
        .with_context(|| format!("cannot find out who writes to {}", path.display()))?;
    Ok(is_written.unwrap_or_else(|| !is_settled(&metadata)))
}

/// Whether the file has not changed for a second. A file with a time in the future counts as settled.
fn is_settled(metadata: &fs::Metadata) -> bool {
    durable::age(metadata, SystemTime::now()).is_none_or(|age| age >= SETTLED)
}
