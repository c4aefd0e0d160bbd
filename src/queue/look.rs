//! What `status` reads of a queue: a task's first and last bytes, and what has
//! ended lately. Nothing here changes anything or takes a lock.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use uuid::Uuid;

use super::note;
use super::waiting::{self, Skip};
use super::{Folder, Name, Project};
use crate::durable::{self, FileId};
use crate::marker::{self, Unreadable};
use crate::task::{self, Ending, Header, MAX_ENDING_BYTES};

/// The first bytes that are read of a file: they hold every header, and one line more.
const FIRST: usize = 2 * task::MAX_HEADER_BYTES;

/// The names that one system call lists, in bytes.
const LISTED: usize = 64 << 10;

/// What the first and the last bytes of a task's file say.
#[derive(Debug)]
pub(crate) struct Peek {
    pub head: Header,
    pub ending: Option<Ending>,
    pub modified: Option<Timestamp>,
    pub file: FileId,
    /// Whether it has no second name.
    pub is_single: bool,
}

/// A task that has ended.
#[derive(Debug)]
pub(crate) struct EndedTask {
    pub name: String,
    pub title: Option<String>,
    /// When its ending line says that it ended, else when the file was last changed.
    pub at: Timestamp,
    /// Its ending line; for a task that is no text, the one in `T.md.reason`. `None` where nobody noted one.
    pub ending: Option<Ending>,
}

/// What lies in `done/` or `failed/`.
#[derive(Debug, Default)]
pub(crate) struct EndedTasks {
    pub tasks: usize,
    /// The endings of those that ended lately; `None` where nobody noted one.
    pub lately: Vec<Option<Ending>>,
}

impl Project {
    /// Reads the head and the ending line of a file of the inbox, at most 80 KiB
    /// of it. The error says why a file that is not ours to read is left alone.
    pub(crate) fn peek(&self, file_name: &OsStr) -> Result<Peek, Skip> {
        let path = self.folder(Folder::Inbox).join(file_name);
        let (file, metadata) = waiting::open_regular(&path)?;
        let failed = || format!("cannot read {}", path.display());
        let mut first = vec![0; FIRST];
        let length = file.read_at(&mut first, 0).with_context(failed)?;
        first.truncate(length);
        let ending = ending(&file, metadata.len()).with_context(failed)?;
        Ok(Peek {
            head: task::head(&first)
                .unwrap_or_else(|| task::parse(&String::from_utf8_lossy(&first)).header),
            ending,
            modified: durable::modified(&metadata),
            file: FileId::of(&metadata),
            is_single: metadata.nlink() <= 1,
        })
    }

    /// What ended in `done/` or `failed/` in this time, in the order in which it ended. Only files changed since then
    /// are opened, and only their first and last bytes are read.
    pub(crate) fn ended_between(
        &self,
        folder: Folder,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<EndedTask>> {
        let mut ended = Vec::new();
        self.walk_ended(folder, since, |path| {
            let task = ended_task(path)?;
            if (since..until).contains(&task.at) {
                ended.push(task);
            }
            Ok(())
        })?;
        ended.sort_by(|one, other| (one.at, &one.name).cmp(&(other.at, &other.name)));
        Ok(ended)
    }

    /// Counts the tasks in `done/` or `failed/`, and reads the last line of
    /// those that ended at `since` or later. Only files changed since then are
    /// opened, and only their last 64 KiB are read.
    pub(crate) fn ended(&self, folder: Folder, since: Timestamp) -> Result<EndedTasks> {
        let mut lately = Vec::new();
        let tasks = self.walk_ended(folder, since, |path| {
            let ending = read_ending(path)?;
            if ending.as_ref().and_then(|ending| ending.ended_at).is_none_or(|at| at >= since) {
                lately.push(ending);
            }
            Ok(())
        })?;
        Ok(EndedTasks { tasks, lately })
    }

    /// Counts the tasks in `done/` or `failed/`, and shows each one whose file was changed at `since` or later.
    fn walk_ended(
        &self,
        folder: Folder,
        since: Timestamp,
        mut show: impl FnMut(&Path) -> Result<(), Skip>,
    ) -> Result<usize> {
        let directory = self.folder(folder);
        let failed = || format!("cannot read {}", directory.display());
        let handle = match durable::open_dir(&directory) {
            Ok(handle) => handle,
            Err(error) if durable::is_no_directory(&error) => return Ok(0),
            Err(error) => return Err(error).with_context(failed),
        };
        let mut tasks = 0;
        // Of a hundred thousand files, each costs one system call and no allocation.
        let mut buffer = vec![MaybeUninit::uninit(); LISTED];
        let mut entries = RawDir::new(&handle, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(io::Error::from).with_context(failed)?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") || !name.to_bytes().ends_with(b".md") {
                continue;
            }
            // It was moved away after it was listed.
            let Ok(found) = rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            tasks += 1;
            if !FileType::from_raw_mode(found.st_mode).is_file() || is_older(&found, since) {
                continue;
            }
            // A file that is not ours to read only counts as a task.
            if let Err(Skip::Failed(error)) =
                show(&directory.join(OsStr::from_bytes(name.to_bytes())))
            {
                return Err(error);
            }
        }
        Ok(tasks)
    }

    /// The ending of the copy of the task that `run` has filed; `None` where neither `done/` nor `failed/` holds one,
    /// under the task's name or a numbered one.
    pub(crate) fn filed_ending(&self, name: &Name, run: Uuid) -> Result<Option<Ending>> {
        self.find_filed(name, |ending| ending.run == run)
    }

    /// Whether one of the copies has such an ending.
    pub(crate) fn is_filed_with(
        &self,
        name: &Name,
        is_meant: impl Fn(&Ending) -> bool,
    ) -> Result<bool> {
        self.find_filed(name, is_meant).map(|found| found.is_some())
    }

    fn find_filed(
        &self,
        name: &Name,
        is_meant: impl Fn(&Ending) -> bool,
    ) -> Result<Option<Ending>> {
        for folder in [Folder::Done, Folder::Failed] {
            let directory = self.folder(folder);
            for number in 1.. {
                match read_ending(&directory.join(name.numbered(number))) {
                    Ok(Some(ending)) if is_meant(&ending) => return Ok(Some(ending)),
                    // Numbers are given in order: behind the first free name there is no copy.
                    Err(Skip::Gone) => break,
                    Err(Skip::Failed(error)) => return Err(error),
                    // Another task, or no regular file, has this name: the copy may have the next one.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(None)
    }

    /// Who has the task, whichever pool that is; `None` without a claim.
    pub(crate) fn claimant(&self, name: &Name) -> Result<Option<marker::ClaimMarker>, Unreadable> {
        marker::read(&self.claim_path(name))
    }
}

fn is_older(file: &Stat, since: Timestamp) -> bool {
    let changed = (file.st_mtime, i64::try_from(file.st_mtime_nsec).unwrap_or_default());
    changed < (since.as_second(), i64::from(since.subsec_nanosecond()))
}

fn ended_task(path: &Path) -> Result<EndedTask, Skip> {
    let failed = || format!("cannot read {}", path.display());
    let (file, metadata) = waiting::open_regular(path)?;
    let mut first = vec![0; FIRST];
    let length = file.read_at(&mut first, 0).with_context(failed)?;
    first.truncate(length);
    let mut last = last_text(&file, metadata.len()).with_context(failed)?;
    if task::split(&last).read_ending().is_none()
        && let Ok((beside, found)) = waiting::open_regular(&note::reason_path(path))
    {
        last = last_text(&beside, found.len()).with_context(failed)?;
    }
    let ending = task::split(&last).read_ending();
    let modified = durable::modified(&metadata);
    let ended_at = ending.as_ref().and_then(|ending| ending.ended_at);
    Ok(EndedTask {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        title: task::head(&first)
            .unwrap_or_else(|| task::parse(&String::from_utf8_lossy(&first)).header)
            .title,
        at: ended_at.or(modified).unwrap_or_default(),
        ending,
    })
}

pub(super) fn read_ending(path: &Path) -> Result<Option<Ending>, Skip> {
    let (file, metadata) = waiting::open_regular(path)?;
    let ending = ending(&file, metadata.len());
    Ok(ending.with_context(|| format!("cannot read {}", path.display()))?)
}

/// The ending line of a file of `length` bytes.
fn ending(file: &File, length: u64) -> io::Result<Option<Ending>> {
    Ok(task::split(&last_text(file, length)?).read_ending())
}

/// The last bytes of a file of `length` bytes, which hold every ending line.
fn last_text(file: &File, length: u64) -> io::Result<String> {
    let last = length.min(MAX_ENDING_BYTES as u64);
    let mut text = vec![0; last as usize];
    let read = file.read_at(&mut text, length - last)?;
    // The cut may go through a character, which then belongs to no last line.
    Ok(String::from_utf8_lossy(&text[..read]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Held;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn project() -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["inbox", "done", "failed"] {
            fs::create_dir_all(dir.path().join(".agent-queue").join(folder)).unwrap();
        }
        let project = Project::new(dir.path().to_owned());
        (dir, project)
    }

    fn ending_at(at: &str) -> String {
        format!(
            r#"<!-- ccl {{"run":"{}","outcome":"done","attempt":1,"provider":"gpu","ended_at":"{at}"}} -->"#,
            uuid::Uuid::nil()
        )
    }

    #[test]
    fn a_glance_reads_both_ends_of_a_long_file() {
        let (_dir, project) = project();
        let path = project.folder(Folder::Inbox).join("a.md");
        let end = ending_at("2026-03-01T12:00:00Z");
        let text = format!("---\ntitle: T\npriority: low\n---\n{}\n{end}\n", "é".repeat(200_000));
        fs::write(&path, text).unwrap();
        let peek = project.peek(OsStr::new("a.md")).unwrap();
        assert_eq!(peek.head.title.as_deref(), Some("T"));
        assert_eq!(peek.head.priority, task::Priority::Low);
        assert_eq!(peek.ending.unwrap().attempt, 1);
        fs::write(&path, "---\ntitle: unclosed").unwrap();
        assert!(project.peek(OsStr::new("a.md")).is_ok());
    }

    #[test]
    fn links_and_what_is_gone_are_held() {
        let (_dir, project) = project();
        let inbox = project.folder(Folder::Inbox);
        symlink("/etc/passwd", inbox.join("link.md")).unwrap();
        fs::create_dir(inbox.join("dir.md")).unwrap();
        let skip = |name: &str| project.peek(OsStr::new(name)).unwrap_err();
        assert!(matches!(skip("link.md"), Skip::Held(Held::NotRegular)));
        assert!(matches!(skip("dir.md"), Skip::Held(Held::NotRegular)));
        assert!(matches!(skip("none.md"), Skip::Gone));
    }

    #[test]
    fn only_what_ended_lately_is_read() {
        let (_dir, project) = project();
        let done = project.folder(Folder::Done);
        let since: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (name, text) in [
            ("new.md", ending_at("2026-03-01T12:00:00Z")),
            ("old.md", ending_at("2026-03-01T11:59:59Z")),
            ("by-hand.md", "no ending".to_owned()),
            ("note.txt", String::new()),
            (".hidden.md", String::new()),
        ] {
            fs::write(done.join(name), text).unwrap();
        }
        let touched = File::options().write(true).open(done.join("new.md"));
        touched.unwrap().set_modified(since.try_into().unwrap()).unwrap();
        let mut ended = project.ended(Folder::Done, since).unwrap();
        ended.lately.sort_by_key(Option::is_none);
        assert_eq!(ended.tasks, 3);
        assert_eq!(ended.lately.len(), 2, "{ended:?}");
        assert!(ended.lately[0].is_some() && ended.lately[1].is_none());
        let after = since + std::time::Duration::from_secs(1);
        assert_eq!(project.ended(Folder::Done, after).unwrap().lately.len(), 1);
    }
}
