//! `STATE/journal.jsonl`: one line for every change of a task's, an agent's or a project's state.
//!
//! It is a log, not a state: nothing is decided by it, and a line that is lost or torn is passed over. Lines are only
//! added, each by one `write`, so that any number of passes may write at once. At 64 MiB the file is moved aside.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::durable;
use crate::event::{Event, EventKind};
use crate::lock;
use crate::money::Cost;
use crate::task::{Ending, Provider};
use crate::text;

/// A longer file is moved aside before the next line.
const LONGEST: u64 = 64 << 20;
/// How many files that were moved aside are kept: `journal.jsonl.1` is the newer one.
const KEPT: u32 = 2;
/// A longer reason is cut: it may quote a server's whole answer. In characters.
const MAX_REASON: usize = 500;

/// One line. What is not known is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// When the line was written.
    pub(crate) time: Timestamp,
    pub(crate) event: EventKind,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "text::optional_path"
    )]
    pub(crate) project: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<Provider>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<Cost>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// How many seconds a task had waited when it was dispatched or delegated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waited: Option<u64>,
}

impl Entry {
    /// An entry of which only the kind is known. Its time is set when it is written.
    pub(crate) fn new(event: EventKind) -> Self {
        Self {
            time: Timestamp::UNIX_EPOCH,
            event,
            project: None,
            task: None,
            run: None,
            agent: None,
            provider: None,
            attempt: None,
            cost: None,
            reason: None,
            waited: None,
        }
    }

    /// The entry of what happened in a pass.
    pub(crate) fn of(event: &Event) -> Self {
        let Event { event, project, task, agent, provider, reason, .. } = event.clone();
        Self { project, task, agent, provider, reason, ..Self::new(event) }
    }

    /// The entry of a task.
    pub(crate) fn of_task(event: EventKind, project: &Path, task: &str) -> Self {
        Self { project: Some(project.to_owned()), task: Some(task.to_owned()), ..Self::new(event) }
    }

    pub(crate) fn of_run(self, ending: &Ending) -> Self {
        Self {
            // Nil where the task was filed without a run; 0 where no attempt has counted.
            run: Some(ending.run).filter(|run| !run.is_nil()),
            agent: ending.agent().map(str::to_owned),
            provider: ending.provider,
            attempt: Some(ending.attempt).filter(|attempt| *attempt > 0),
            cost: ending.cost.clone(),
            reason: ending.reason.clone(),
            ..self
        }
    }

    pub(crate) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

/// The journal of one state directory.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    path: PathBuf,
}

impl Journal {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("journal.jsonl") }
    }

    /// Adds a line; its time is now.
    pub(crate) fn write(&self, entry: &Entry) -> Result<()> {
        let mut entry = Entry { time: Timestamp::now(), ..entry.clone() };
        if let Some(reason) = &mut entry.reason
            && let Some((end, _)) = reason.char_indices().nth(MAX_REASON)
        {
            reason.truncate(end);
            reason.push('…');
        }
        let mut line = serde_json::to_vec(&entry).context("cannot write the journal")?;
        line.push(b'\n');
        self.append(&line).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn append(&self, line: &[u8]) -> Result<()> {
        let mut file = durable::open_to_append(&self.path)?;
        if file.metadata()?.len() >= LONGEST {
            self.rotate()?;
            file = durable::open_to_append(&self.path)?;
        }
        // One `write`, and no second one for the rest: where only a part fits on the disk, the line is torn, and its
        // rest must not end up behind another pass's line.
        let written = file.write(line)?;
        anyhow::ensure!(written == line.len(), io::Error::from(io::ErrorKind::StorageFull));
        Ok(())
    }

    /// Moves a file that is too long aside. A pass that still has it open writes into the moved file.
    fn rotate(&self) -> Result<()> {
        let _lock = lock::exclusive(&self.path.with_extension("lock"))?;
        // Another process may have moved it first, and may not have made the next file yet.
        if !fs::metadata(&self.path).is_ok_and(|found| found.len() >= LONGEST) {
            return Ok(());
        }
        for number in (1..KEPT).rev() {
            let (older, newer) = (self.aside(number + 1), self.aside(number));
            // Missing at first, and after a kill between these renames.
            if durable::exists(&newer)? {
                rename(&newer, &older)?;
            }
        }
        rename(&self.path, &self.aside(1))
    }

    /// `journal.jsonl.1`
    fn aside(&self, number: u32) -> PathBuf {
        self.path.with_extension(format!("jsonl.{number}"))
    }

    /// Hands the entries of `since` and later to `take`, the oldest file first. What is no entry is passed over.
    pub(crate) fn read(&self, since: Timestamp, mut take: impl FnMut(Entry)) -> Result<()> {
        let older = (1..=KEPT).rev().map(|number| self.aside(number));
        for path in older.chain([self.path.clone()]) {
            read_file(&path, since, &mut take)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(())
    }
}

fn read_file(path: &Path, since: Timestamp, take: &mut impl FnMut(Entry)) -> io::Result<()> {
    let Some(file) = durable::open_if_there(path)? else { return Ok(()) };
    // No entry is newer than the file's last change: an older file need not be read. A time in the future proves
    // nothing.
    if durable::modified(&file.metadata()?).is_some_and(|modified| modified < since) {
        return Ok(());
    }
    let mut lines = BufReader::with_capacity(256 << 10, file);
    let mut line = Vec::new();
    while {
        line.clear();
        lines.read_until(b'\n', &mut line)?
    } > 0
    {
        if let Some(entry) = parse(&line).filter(|entry| entry.time >= since) {
            take(entry);
        }
    }
    Ok(())
}

/// The entry in a line. Behind a torn entry the next one stands on the same line, and is found by its beginning.
fn parse(line: &[u8]) -> Option<Entry> {
    const BEGINNING: &[u8] = br#"{"time":"#;
    serde_json::from_slice(line).ok().or_else(|| {
        let last = line.windows(BEGINNING.len()).rposition(|part| part == BEGINNING)?;
        // At 0 it is the line itself, which could not be read.
        (last > 0).then(|| serde_json::from_slice(&line[last..]).ok())?
    })
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (tempfile::TempDir, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(&dir.path().join("state"));
        (dir, journal)
    }

    fn tasks(journal: &Journal) -> Vec<String> {
        let mut tasks = Vec::new();
        journal.read(Timestamp::UNIX_EPOCH, |entry| tasks.push(entry.task.unwrap())).unwrap();
        tasks
    }

    fn entry(task: &str) -> Entry {
        Entry::of_task(EventKind::Done, Path::new("/p"), task)
    }

    #[test]
    fn what_is_written_is_read_back_with_the_time_of_the_writing() {
        let (_dir, journal) = journal();
        let before = Timestamp::now();
        let long = "x".repeat(10_000);
        let full = Entry {
            run: Some(Uuid::from_u128(1)),
            cost: Cost::of("0.5", "USD"),
            attempt: Some(2),
            waited: Some(7),
            ..entry("a.md").because(long)
        };
        journal.write(&full).unwrap();
        let mut read = Vec::new();
        journal.read(before, |entry| read.push(entry)).unwrap();
        assert!(read[0].time >= before && read[0].reason.as_ref().unwrap().len() < 600);
        let (time, reason) = (read[0].time, read[0].reason.clone());
        assert_eq!(read, [Entry { time, reason, ..full }]);
        let later = Timestamp::now() + std::time::Duration::from_secs(60);
        journal.read(later, |entry| panic!("{entry:?}")).unwrap();
    }

    #[test]
    fn a_torn_line_takes_no_other_one_with_it() {
        let (_dir, journal) = journal();
        journal.write(&entry("a.md")).unwrap();
        let mut file = durable::open_to_append(&journal.path).unwrap();
        file.write_all(br#"{"time":"2026-01-01T00:00:00Z","event":"do"#).unwrap();
        journal.write(&entry("b.md")).unwrap();
        file.write_all(b"nonsense\n\n{}\n\xff\n").unwrap();
        journal.write(&entry("c.md")).unwrap();
        file.write_all(br#"{"time":"2026"#).unwrap();
        assert_eq!(tasks(&journal), ["a.md", "b.md", "c.md"]);
    }

    #[test]
    fn a_long_journal_is_moved_aside_and_two_are_kept() {
        let (_dir, journal) = journal();
        for task in ["a.md", "b.md", "c.md", "d.md"] {
            journal.write(&entry(task)).unwrap();
            // A hole: it takes no room on the disk, and is one line that is no entry.
            let file = durable::open_to_append(&journal.path).unwrap();
            file.set_len(LONGEST).unwrap();
            (&file).write_all(b"\n").unwrap();
        }
        journal.write(&entry("e.md")).unwrap();
        let lengths = [1, 2, 3].map(|number| journal.aside(number).exists());
        assert_eq!(lengths, [true, true, false]);
        assert_eq!(tasks(&journal), ["c.md", "d.md", "e.md"]);
    }

    /// Twenty writers of a hundred lines each, at once; nothing of that is lost or mixed.
    #[track_caller]
    fn check_twenty_writers(journal: &Journal) {
        let tasks_of = |writer: usize| (0..100).map(move |line| format!("{writer}-{line}.md"));
        crate::concurrent::map((0..20).collect(), |writer| {
            let journal = Journal { path: journal.path.clone() };
            tasks_of(writer).for_each(|task| journal.write(&entry(&task)).unwrap());
        });
        let mut read = tasks(journal);
        let mut written: Vec<String> = (0..20).flat_map(tasks_of).collect();
        read.sort();
        written.sort();
        assert_eq!(read, written);
    }

    #[test]
    fn twenty_writers_at_once_lose_and_mix_nothing() {
        check_twenty_writers(&journal().1);
    }

    #[test]
    fn twenty_writers_at_once_move_a_long_journal_aside_once() {
        for _ in 0..3 {
            let (_dir, journal) = journal();
            // A hole, up to where some of the lines still fit.
            let file = durable::open_to_append(&journal.path).unwrap();
            file.set_len(LONGEST - 20_000).unwrap();
            (&file).write_all(b"\n").unwrap();
            check_twenty_writers(&journal);
            assert!(fs::metadata(journal.aside(1)).unwrap().len() >= LONGEST);
            assert!(fs::metadata(&journal.path).unwrap().len() > 0 && !journal.aside(2).exists());
        }
    }
}
