//! A project's queue: its inbox, and the steps by which a task changes hands.
//!
//! Every state is a name on disk, and every step is one rename that does not
//! overwrite:
//!
//! ```text
//! inbox/T.md                    waiting
//!   | claim: write .T.md.claim, rename                 (under .lock)
//! inbox/T.md.dispatched         a session has it; the claim says which
//!   | note: rewrite the task with its ending line
//!   | place: rename, then remove the claim             (under .lock)
//! inbox/T.md, done/T.md, failed/T.md
//! ```
//!
//! Recovery follows from the names: a claim whose task still waits, or is gone,
//! is void; a task whose ending line names the claim's run only has to be
//! placed; every other claimed task is what its phase says.

mod claim;
mod depends;
mod inbox;
mod look;
mod note;
mod recurring;
mod waiting;

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use uuid::Uuid;

pub(crate) use claim::{Claim, ClaimLookup};
pub(crate) use depends::{Dependencies, resolve};
pub use inbox::Inbox;
pub(crate) use look::{EndedTask, Peek};
pub(crate) use recurring::{Outlook, Served};
pub(crate) use waiting::Read;
pub use waiting::{Held, Seen, Skip, WaitingTask};
pub(crate) use waiting::{read_all, read_file};

use crate::durable::{self, Staged};
use crate::error::Failure;
use crate::event::{Event, EventKind};
use crate::lock::{self, Lock};
use crate::marker::{self, ToLand};
use crate::task::{self, Ending, Outcome};
use crate::text::{escape, path_text};

/// The directory that makes a directory a project.
pub(crate) const QUEUE: &str = ".agent-queue";

/// A task's name has at most this many bytes; with `.dispatched` and ours around
/// it, it stays under what file systems allow.
const MAX_NAME: usize = 200;

/// How long a pass waits for another one that changes the project's branches.
const CHECKOUT_LOCK_WAIT: Duration = Duration::from_secs(30);

/// The name of a task's file in the inbox, `T.md`: text without control
/// characters, at most 200 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name, or why a file of this name is never a task of ours.
    pub fn new(name: &std::ffi::OsStr) -> Result<Self, Held> {
        let text = name.to_str().ok_or(Held::NameNotText)?;
        if text.chars().any(char::is_control) {
            Err(Held::NameWithControls)
        } else if text.len() > MAX_NAME {
            Err(Held::NameTooLong)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The name of a task as a marker or a header has it; none unless it is a plain file name `*.md`.
    pub fn from_marker(name: &str) -> Option<Self> {
        // It becomes part of a path, and anybody may have written it.
        let plain = name.ends_with(".md") && !name.starts_with('.') && !name.contains('/');
        Self::new(name.as_ref()).ok().filter(|_| plain)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The `number`th name to try where this one is taken: `T.md`, `T.2.md` … A very
    /// long name is cut before the number, or the task would be held as too long.
    fn numbered(&self, number: u32) -> String {
        match (number, self.0.strip_suffix(".md")) {
            (0 | 1, _) | (_, None) => self.0.clone(),
            (_, Some(stem)) => {
                let end = format!(".{number}.md");
                let kept = stem.floor_char_boundary(MAX_NAME - end.len());
                format!("{}{end}", &stem[..kept])
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Where a task waits, or goes when it leaves the hands of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    Inbox,
    Done,
    Failed,
}

impl From<Outcome> for Folder {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Released => Self::Inbox,
            Outcome::Done => Self::Done,
            Outcome::Failed => Self::Failed,
        }
    }
}

/// A directory with an `.agent-queue/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    path: PathBuf,
}

/// The last ending line of the task at `path`; `None` where it has none, and where there is no regular file.
pub(crate) fn ending_at(path: &Path) -> Result<Option<Ending>> {
    match look::read_ending(path) {
        Err(Skip::Failed(error)) => Err(error),
        ending => Ok(ending.unwrap_or_default()),
    }
}

impl Project {
    /// `path` need not have a queue.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn exists(&self) -> Result<bool> {
        durable::exists(&self.path.join(QUEUE))
    }

    pub(crate) fn folder(&self, folder: Folder) -> PathBuf {
        self.path.join(QUEUE).join(match folder {
            Folder::Inbox => "inbox",
            Folder::Done => "done",
            Folder::Failed => "failed",
        })
    }

    /// `.agent-queue/project.yaml`.
    pub(crate) fn rules_path(&self) -> PathBuf {
        self.path.join(QUEUE).join("project.yaml")
    }

    /// `.agent-queue/.setup-failed`.
    pub(crate) fn setup_hold_path(&self) -> PathBuf {
        self.path.join(QUEUE).join(".setup-failed")
    }

    /// `.agent-queue/to-land/T`, of the branch `ccl/T`.
    pub(crate) fn to_land_path(&self, branch: &str) -> PathBuf {
        let name = branch.rsplit('/').next().unwrap_or(branch);
        self.to_land_dir().join(name)
    }

    fn to_land_dir(&self) -> PathBuf {
        self.path.join(QUEUE).join("to-land")
    }

    /// The branches that a person has to decide on, by name.
    pub(crate) fn to_land(&self) -> Result<Vec<ToLand>> {
        let mut found = Vec::new();
        for entry in durable::list_dir(&self.to_land_dir())? {
            let path = entry?.path();
            let is_ours = path.file_name().is_some_and(|name| !name.as_bytes().starts_with(b"."));
            if is_ours {
                found.extend(marker::read::<ToLand>(&path)?);
            }
        }
        found.sort_by(|one, other| one.branch.cmp(&other.branch));
        Ok(found)
    }

    /// `inbox/T.md`.
    pub(crate) fn waiting_path(&self, name: &Name) -> PathBuf {
        self.folder(Folder::Inbox).join(name.as_str())
    }

    /// `inbox/T.md.dispatched`.
    pub(crate) fn dispatched_path(&self, name: &Name) -> PathBuf {
        self.beside(name.as_str(), "dispatched")
    }

    /// `inbox/T.md.delegated`.
    pub(crate) fn delegated_path(&self, name: &Name) -> PathBuf {
        self.beside(name.as_str(), "delegated")
    }

    /// `inbox/.T.md.claim`.
    pub(crate) fn claim_path(&self, name: &Name) -> PathBuf {
        self.folder(Folder::Inbox).join(format!(".{name}.claim"))
    }

    /// `inbox/.KEY.leaving`: the marker of a filed task whose refs are still in an exchange.
    pub(crate) fn leaving_path(&self, key: Uuid) -> PathBuf {
        self.folder(Folder::Inbox).join(format!(".{key}.leaving"))
    }

    /// Gives a marker the name that it keeps until its refs are gone; synced. The caller holds the lock.
    pub(crate) fn set_aside(&self, name: &Name, key: Uuid) -> Result<()> {
        let (from, to) = (self.delegated_path(name), self.leaving_path(key));
        std::fs::rename(&from, &to)
            .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
        // The refs go next: after a crash of the machine the old name would have the task worked on again.
        durable::sync_dir(&self.folder(Folder::Inbox))
    }

    fn beside(&self, name: &str, suffix: &str) -> PathBuf {
        self.folder(Folder::Inbox).join(format!("{name}.{suffix}"))
    }

    /// Takes the lock under which tasks change hands; held only for a moment.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let lock = lock::exclusive(&self.path.join(QUEUE).join(".lock"))?;
        // On NFS the names that are seen are up to half a minute old, also under a lock, until the directory is opened.
        let inbox = self.folder(Folder::Inbox);
        match durable::open_dir(&inbox) {
            Err(error) if !durable::is_no_directory(&error) => {
                Err(error).with_context(|| format!("cannot open {}", inbox.display()))
            }
            _ => Ok(lock),
        }
    }

    /// Takes the lock under which git's branches and worktrees are changed: one landing after the other, of whichever
    /// pool. It is a lock of its own, since a large checkout takes seconds, and claims must not wait for it.
    pub(crate) fn lock_checkout(&self) -> Result<Lock> {
        let path = self.path.join(QUEUE).join(".checkout.lock");
        lock::within(&path, CHECKOUT_LOCK_WAIT)?.with_context(|| {
            Failure::Temporary(format!(
                "another pass changes branches in {}: try again in a moment, or leave it to a later pass",
                self.path.display()
            ))
        })
    }

    /// Files a waiting task that no agent can work on, with its reason: in its
    /// ending line where the file is text, else in `T.md.reason` beside it.
    /// `None` if the file is not the one that was `seen` any more.
    pub(crate) fn reject(
        &self,
        name: &Name,
        seen: &Seen,
        ending: &Ending,
    ) -> Result<Option<PathBuf>> {
        let _lock = self.lock()?;
        let waiting = self.waiting_path(name);
        // A delegation that another pass has begun since leaves the file itself as it was seen.
        if !seen.is_still(&waiting) || durable::exists(&self.delegated_path(name))? {
            return Ok(None);
        }
        // Noted before it is moved: after a kill in between it still waits, and no filed text lacks its reason.
        let noted = !seen.is_too_large() && note::note(&waiting, ending, None, None)?;
        let placed = match noted {
            true => self.place(&waiting, Folder::Failed, name),
            false => self.place_with_reason(&waiting, Folder::Failed, name, ending, None),
        };
        placed.map(Some)
    }

    /// Moves `from` into `folder` under the first free name; both directories
    /// are synced. The caller holds the lock.
    fn place(&self, from: &Path, folder: Folder, name: &Name) -> Result<PathBuf> {
        let placed = self.take_name(folder, name, from, |to| rename_to_free(from, to))?;
        if folder != Folder::Inbox {
            durable::sync_dir(&self.folder(Folder::Inbox))?;
        }
        Ok(placed)
    }

    /// Moves `from` like [`Project::place`], for a file that cannot take `ending`: that is written
    /// into `T.md.reason` beside it.
    fn place_with_reason(
        &self,
        from: &Path,
        folder: Folder,
        name: &Name,
        ending: &Ending,
        result: Option<&str>,
    ) -> Result<PathBuf> {
        let moved = Seen::of(&durable::look_at(from)?);
        let noted = task::with_ending("", ending, result, None);
        let placed = self.take_name(folder, name, from, |to| {
            // A second name of the same file is what a kill in the middle of a rename may have left.
            if durable::exists(to)? && !moved.is_still(to) {
                return Ok(false);
            }
            // The reason first: after a kill in between the task is where it was, and is filed again.
            self.stage(&noted, durable::SHARED)?.put(&note::reason_path(to))?;
            rename_to_free(from, to)
        })?;
        durable::sync_dir(&self.folder(Folder::Inbox))?;
        Ok(placed)
    }

    /// Writes a new file under the first free name in `folder`; synced. The
    /// caller holds the lock.
    pub(crate) fn put(&self, folder: Folder, name: &Name, text: &str) -> Result<PathBuf> {
        self.put_as(folder, name, text, durable::SHARED)
    }

    /// Writes a new file like [`Project::put`], with the permissions `mode`.
    pub(crate) fn put_as(
        &self,
        folder: Folder,
        name: &Name,
        text: &str,
        mode: u32,
    ) -> Result<PathBuf> {
        let mut staged = self.stage(text, mode & durable::SHARED)?;
        self.take_name(folder, name, Path::new(""), |to| staged.put_new(to))
    }

    /// Has `take` try the names `T.md`, `T.2.md` … in `folder` until it gets one; synced. In the
    /// inbox a name is not free while a session or secutools has its task, unless that is `from`.
    fn take_name(
        &self,
        folder: Folder,
        name: &Name,
        from: &Path,
        mut take: impl FnMut(&Path) -> Result<bool>,
    ) -> Result<PathBuf> {
        let directory = self.make_folder(folder)?;
        for number in 1..u32::MAX {
            let candidate = name.numbered(number);
            if folder == Folder::Inbox && self.is_active(&candidate, from)? {
                continue;
            }
            let to = directory.join(&candidate);
            if take(&to)? {
                durable::sync_dir(&directory)?;
                return Ok(to);
            }
        }
        bail!("no free name for {name} in {}", directory.display())
    }

    /// Writes a file that is to get its name in one of the folders. It lies in the inbox, the only
    /// folder that `reap` walks and sweeps.
    fn stage(&self, text: &str, mode: u32) -> Result<Staged> {
        let inbox = self.folder(Folder::Inbox);
        durable::stage_in(&inbox, text.as_bytes(), mode)
            .with_context(|| format!("cannot write in {}", inbox.display()))
    }

    /// Puts a filed task back to wait, and starts it afresh: a task that failed
    /// leaves `failed/`, one that was done stays in `done/` as the record of it.
    /// `None` if it is not there any more.
    pub(crate) fn requeue(&self, folder: Folder, name: &Name) -> Result<Option<PathBuf>> {
        let _lock = self.lock()?;
        let filed = self.folder(folder).join(name.as_str());
        let waiting::Contents { metadata, bytes } = match waiting::read_regular(&filed) {
            Ok(contents) => contents,
            Err(Skip::Gone) => return Ok(None),
            Err(Skip::Failed(error)) => return Err(error),
            Err(held) => bail!("{}: {held}", filed.display()),
        };
        let text = task::text_of(&bytes)
            .with_context(|| format!("{} cannot be a task", filed.display()))?;
        let stage = |text: &str| {
            let inbox = self.folder(Folder::Inbox);
            durable::stage_like(&inbox, text.as_bytes(), &metadata)
                .with_context(|| format!("cannot write in {}", inbox.display()))
        };
        match (folder, task::as_written(text)) {
            (Folder::Done, written) => {
                let mut copy = stage(written.unwrap_or(text))?;
                let take = |to: &Path| copy.put_new(to);
                return self.take_name(Folder::Inbox, name, Path::new(""), take).map(Some);
            }
            (_, None) => {}
            (_, Some(written)) => {
                // Where it names a branch or a cost, the ending line stays: the branch goes on, the cost still counts.
                let ending = task::split(text)
                    .read_ending()
                    .filter(|ending| ending.branch().is_some() || !ending.cost_of_task.is_empty());
                let again = ending.map(|ending| {
                    task::with_ending(written, &Ending { check: None, ..ending }, None, None)
                });
                let again = stage(again.as_deref().unwrap_or(written))?;
                if !Seen::of(&metadata).is_still(&filed) {
                    bail!("{} has just changed: try it again", filed.display());
                }
                // Before it is moved, so that a kill never leaves two of it: both would be worked on.
                again.put(&filed)?;
            }
        }
        let placed = self.place(&filed, Folder::Inbox, name)?;
        durable::sync_dir(&self.folder(folder))?;
        durable::remove(&note::reason_path(&filed))?;
        Ok(Some(placed))
    }

    /// How a filed task ended; `None` also where it is not there.
    pub(crate) fn ending(&self, folder: Folder, name: &Name) -> Result<Option<Ending>> {
        ending_at(&self.folder(folder).join(name.as_str()))
    }

    /// Writes into a filed task what has become of it since.
    pub(crate) fn renote(&self, folder: Folder, name: &Name, ending: &Ending) -> Result<()> {
        let _lock = self.lock()?;
        note::note(&self.folder(folder).join(name.as_str()), ending, None, None).map(drop)
    }

    /// Whether a session or secutools has a task of this name, other than the one in `from`.
    fn is_active(&self, name: &str, from: &Path) -> Result<bool> {
        for suffix in ["dispatched", "delegated"] {
            let path = self.beside(name, suffix);
            if path != from && durable::exists(&path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `.agent-queue/paused`
    pub(crate) fn pause_path(&self) -> PathBuf {
        self.path.join(QUEUE).join("paused")
    }

    fn make_folder(&self, folder: Folder) -> Result<PathBuf> {
        let directory = self.folder(folder);
        durable::make_dir(&directory)?;
        Ok(directory)
    }
}

/// Renames a file unless the name is taken; true if it did.
fn rename_to_free(from: &Path, to: &Path) -> Result<bool> {
    match durable::rename_noreplace(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error)
            .with_context(|| format!("cannot rename {} to {}", from.display(), to.display())),
    }
}

/// One task of one project, by its name in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRef {
    pub project: Project,
    pub name: Name,
}

impl TaskRef {
    pub(crate) fn event(&self, event: EventKind) -> Event {
        Event::of_task(event, self.project.path(), self.name.as_str())
    }
}

/// `T.md of /srv/app`, harmless to print.
impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let project = path_text(self.project.path());
        write!(f, "{} of {}", escape(self.name.as_str()), escape(&project))
    }
}

#[cfg(test)]
mod tests;
