//! Notifications: what happened is queued as a file, and sent beside the pass's work.
//!
//! ```text
//! STATE/notify/ID.N.json    one event for the Nth entry of `notify:`; gone once it was taken, or after a day
//! STATE/notify/begun/TASK   a task that nobody worked on is being filed: the id of its event
//! STATE/notify/told/ID      the event of a state that lasts (an agent waits for a person, a hold) was queued
//! ```
//!
//! The event's file is there before the task is filed, and its name follows from the run: a pass that is killed
//! anywhere between the two, or after it has sent the event, makes nothing worse than a second message. Where nobody
//! worked on the task there is no run: the id is noted first, so that the next try uses it again, and nothing is sent
//! while the task still waits to be filed.

mod send;

pub(crate) use send::BUDGET;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::{Config, Notifier, Occasion};
use crate::durable;
use crate::journal::Entry;
use crate::log::Log;
use crate::marker::{self, VERSION};
use crate::money::Cost;
use crate::queue::{self, Project};
use crate::task;
use crate::text;

/// A longer id is cut to this many characters, without the occasion at its end and the hash that replaces the rest.
const MAX_ID: usize = 150;
/// An event that its receiver has not taken for this long is given up.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// A state that lasts is noted anew after this, so that its note outlives the sweep.
const NOTED_ANEW: Duration = Duration::from_secs(24 * 60 * 60);
/// A note that was not renewed for this long is of a state that is over.
const NOTE_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One event, as it is sent: JSON with all keys, `null` where something is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Notice {
    version: u32,
    /// The same for each try to send it.
    id: String,
    event: Occasion,
    time: Timestamp,
    #[serde(serialize_with = "text::optional_path")]
    project: Option<PathBuf>,
    task: Option<String>,
    title: Option<String>,
    reason: Option<String>,
    agent: Option<String>,
    cost: Option<Cost>,
    /// The task's text, only for an entry with `body: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl Notice {
    /// An event of which only the occasion is known. Its id is `what` (a run, or a name and a moment) and the occasion.
    pub(crate) fn new(event: Occasion, what: &str, time: Timestamp) -> Self {
        Self {
            version: VERSION,
            id: format!("{}-{}", file_name(what), word(event)),
            event,
            time,
            project: None,
            task: None,
            title: None,
            reason: None,
            agent: None,
            cost: None,
            body: None,
        }
    }

    pub(crate) fn of_run(event: Occasion, run: Uuid, time: Timestamp) -> Self {
        Self::new(event, &run.to_string(), time)
    }

    pub(crate) fn about(self, project: &Path, task: &str) -> Self {
        Self { project: Some(project.to_owned()), task: Some(task.to_owned()), ..self }
    }

    pub(crate) fn of_entry(self, entry: &Entry) -> Self {
        let Entry { project, task, agent, reason, .. } = entry.clone();
        Self { project, task, agent, reason, ..self }
    }

    pub(crate) fn by(self, agent: Option<&str>, cost: Option<Cost>) -> Self {
        Self { agent: agent.map(str::to_owned), cost, ..self }
    }

    pub(crate) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// Adds the title and the body of the task's text.
    fn of_text(self, text: &str) -> Self {
        let task = task::parse(text);
        Self { title: task.header.title, body: Some(task.body), ..self }
    }

    /// What happened in one line: `failed: Fix the login (fix-login.md of shop): no claude`.
    fn line(&self) -> String {
        let project = self.project.as_deref().and_then(Path::file_name);
        let project = project.map(|name| text::path_text(Path::new(name)));
        let place = match (&self.task, project) {
            (Some(task), Some(project)) => Some(format!("{task} of {project}")),
            (task, project) => task.clone().or(project),
        };
        let mut line = match (&self.title, place) {
            (Some(title), Some(place)) => format!("{}: {title} ({place})", word(self.event)),
            (None, Some(place)) => format!("{}: {place}", word(self.event)),
            (_, None) => match &self.agent {
                Some(agent) => format!("{}: {agent}", word(self.event)),
                None => word(self.event).to_owned(),
            },
        };
        if let Some(cost) = &self.cost {
            line.push_str(&format!(", {cost}"));
        }
        if let Some(reason) = &self.reason {
            line.push_str(&format!(": {reason}"));
        }
        text::escape(&line).into_owned()
    }
}

/// The filing of a task that nobody worked on, until it is over.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    version: u32,
    /// The id that its event has in place of a run's.
    id: Uuid,
    /// When the first try looked at the task, and when this was written.
    time: Timestamp,
    written: Timestamp,
}

impl Begun {
    /// Whether the task has not been filed yet. A task that was dropped later under its name is another one.
    fn is_undecided(&self, project: &Path, task: &str) -> Result<bool> {
        let project = Project::new(project.to_owned());
        let Some(name) = queue::Name::from_marker(task) else { return Ok(false) };
        // Claimed since, it has not been filed either.
        for path in [project.waiting_path(&name), project.dispatched_path(&name)] {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if durable::modified(&found).is_some_and(|modified| modified <= self.written) {
                return Ok(true);
            }
            // A killed try may have written its ending line, which made the file newer.
            let ending = queue::ending_at(&path)?;
            if ending.is_some_and(|ending| self.is_noted_in(&ending)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_filed(&self, project: &Path, task: &str) -> Result<bool> {
        let Some(name) = queue::Name::from_marker(task) else { return Ok(false) };
        Project::new(project.to_owned()).is_filed_with(&name, |ending| self.is_noted_in(ending))
    }

    fn is_noted_in(&self, ending: &task::Ending) -> bool {
        let ended = ending.ended_at.map(Timestamp::as_second);
        ending.run.is_nil() && ended >= Some(self.time.as_second())
    }
}

/// A text as part of a file's name: another one for each text. A run's UUID stays as it is.
fn file_name(what: &str) -> String {
    let mut name = String::new();
    for byte in what.bytes() {
        match byte {
            b'.' | b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => name.push(char::from(byte)),
            other => name.push_str(&format!("_{other:02x}")),
        }
    }
    // The end of a path tells more than its beginning.
    match name.len().checked_sub(MAX_ID) {
        Some(cut @ 1..) => format!("{:016x}-{}", hash(what), &name[cut..]),
        _ => name,
    }
}

/// FNV-1a. The standard library's hash may be another one in the next release, and then each state would be notified
/// once more.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn word(event: Occasion) -> &'static str {
    match event {
        Occasion::Done => "done",
        Occasion::Failed => "failed",
        Occasion::NeedsAttention => "needs-attention",
        Occasion::Hold => "hold",
        Occasion::ToLand => "to-land",
    }
}

/// Where events wait to be sent.
pub(crate) struct Outbox<'a> {
    directory: PathBuf,
    notifiers: &'a [Notifier],
    log: &'a Log,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(config: &'a Config, log: &'a Log) -> Self {
        let directory = config.state_dir.join("notify");
        Self { directory, notifiers: &config.notifiers, log }
    }

    /// The entries of `notify:` that want the event, with their numbers.
    fn listeners(&self, event: Occasion) -> impl Iterator<Item = (usize, &'a Notifier)> {
        self.notifiers.iter().enumerate().filter(move |(_, it)| it.on.contains(&event))
    }

    fn wants(&self, event: Occasion) -> bool {
        self.listeners(event).next().is_some()
    }

    /// Queues an event, once for each entry that wants it. The task's `text` is read only where there is one.
    pub(crate) fn queue(
        &self,
        notice: Notice,
        text: impl FnOnce() -> Result<Option<String>>,
    ) -> Result<()> {
        if !self.wants(notice.event) {
            return Ok(());
        }
        let notice = match text()? {
            Some(text) => notice.of_text(&text),
            None => notice,
        };
        durable::make_dirs(&self.directory)?;
        for (number, notifier) in self.listeners(notice.event) {
            let body = notice.body.clone().filter(|_| notifier.body);
            let path = self.file(&notice.id, number);
            let json = serde_json::to_vec(&Notice { body, ..notice.clone() })
                .with_context(|| format!("cannot write {}", path.display()))?;
            durable::write(&path, &json, durable::PRIVATE)?;
        }
        Ok(())
    }

    /// Notes that a task on which nobody worked is being filed. Returns the id of its event, the same for each try.
    /// [`Self::settle`] ends it.
    pub(crate) fn begin_unworked(
        &self,
        event: Occasion,
        (project, task): (&Path, &str),
        time: Timestamp,
    ) -> Result<Uuid> {
        if !self.wants(event) {
            return Ok(Uuid::new_v4());
        }
        let path = self.begun(event, project, task);
        if let Some(begun) = self.read_begun(&path)
            && begun.is_undecided(project, task)?
        {
            return Ok(begun.id);
        }
        let (id, written) = (Uuid::new_v4(), Timestamp::now());
        durable::make_dirs(path.parent().unwrap_or(&path))?;
        marker::write(&path, &Begun { version: VERSION, id, time, written })?;
        Ok(id)
    }

    /// The task was filed: its event may be sent.
    pub(crate) fn settle(&self, event: Occasion, (project, task): (&Path, &str)) -> Result<()> {
        if !self.wants(event) {
            return Ok(());
        }
        durable::remove(&self.begun(event, project, task)).map(drop)
    }

    /// Takes back the event of a filing that a killed pass began: the task has come to another end, or is about to.
    pub(crate) fn retract(&self, event: Occasion, (project, task): (&Path, &str)) -> Result<()> {
        if !self.wants(event) {
            return Ok(());
        }
        let path = self.begun(event, project, task);
        let Some(begun) = self.read_begun(&path) else { return Ok(()) };
        let notice = Notice::of_run(event, begun.id, begun.time);
        // The queued files first: without `begun/TASK` they would be sent.
        for (number, _) in self.listeners(event) {
            durable::remove(&self.file(&notice.id, number))?;
        }
        durable::remove(&path).map(drop)
    }

    /// This pass found nothing to file. Takes the event back, unless another pass has filed the task meanwhile: the two
    /// share the event, and it happened.
    pub(crate) fn retract_unfiled(&self, event: Occasion, at: (&Path, &str)) -> Result<()> {
        match self.read_begun(&self.begun(event, at.0, at.1)) {
            Some(begun) if !begun.is_filed(at.0, at.1)? => self.retract(event, at),
            _ => Ok(()),
        }
    }

    /// A run is filed. Takes back the event that a killed pass began for the same task, but not one of another task
    /// that had its name.
    pub(crate) fn retract_undecided(&self, event: Occasion, at: (&Path, &str)) -> Result<()> {
        match self.read_begun(&self.begun(event, at.0, at.1)) {
            Some(begun) if begun.is_undecided(at.0, at.1)? => self.retract(event, at),
            _ => Ok(()),
        }
    }

    /// Whether what the notice says has not happened yet: the pass that is about to do it is at work, or was killed.
    fn is_undecided(&self, notice: &Notice) -> Result<bool> {
        let Some((project, task)) = notice.project.as_deref().zip(notice.task.as_deref()) else {
            return Ok(false);
        };
        let path = self.begun(notice.event, project, task);
        let begun = self
            .read_begun(&path)
            .filter(|begun| Notice::of_run(notice.event, begun.id, begun.time).id == notice.id);
        let Some(begun) = begun else { return Ok(false) };
        let is_undecided = begun.is_undecided(project, task)?;
        if !is_undecided {
            // A pass was killed after it had filed the task: the next task of this name is another one.
            durable::remove(&path)?;
        }
        Ok(is_undecided)
    }

    /// A note that cannot be read counts as none: the worst that follows is a second id.
    fn read_begun(&self, path: &Path) -> Option<Begun> {
        marker::read(path).ok().flatten()
    }

    fn begun(&self, event: Occasion, project: &Path, task: &str) -> PathBuf {
        let what = text::path_text(&project.join(task));
        self.directory.join("begun").join(Notice::new(event, &what, Timestamp::UNIX_EPOCH).id)
    }

    /// Queues the event of a state that lasts, once until [`Self::forget`].
    pub(crate) fn queue_once(
        &self,
        notice: Notice,
        text: impl FnOnce() -> Result<Option<String>>,
    ) -> Result<()> {
        if !self.wants(notice.event) {
            return Ok(());
        }
        let note = self.note(&notice.id);
        let is_fresh = |found: &fs::Metadata| {
            durable::age(found, SystemTime::now()).is_some_and(|age| age < NOTED_ANEW)
        };
        match fs::symlink_metadata(&note) {
            Ok(found) if is_fresh(&found) => return Ok(()),
            // Queued long ago: only its note is renewed.
            Ok(_) => {}
            // Queued before it is noted: after a kill in between it is sent twice, and not never.
            Err(_) => self.queue(notice, text)?,
        }
        let told = self.directory.join("told");
        durable::make_dirs(&told)?;
        durable::write(&note, b"", durable::PRIVATE)
    }

    /// The state is over: when it comes again, it is queued again.
    pub(crate) fn forget(&self, event: Occasion, what: &str) -> Result<()> {
        if !self.wants(event) {
            return Ok(());
        }
        let id = Notice::new(event, what, Timestamp::UNIX_EPOCH).id;
        durable::remove(&self.note(&id)).map(drop)
    }

    fn file(&self, id: &str, number: usize) -> PathBuf {
        self.directory.join(format!("{id}.{number}.json"))
    }

    fn note(&self, id: &str) -> PathBuf {
        self.directory.join("told").join(id)
    }

    /// Removes what killed passes left unfinished, and notes of states that are over.
    pub(crate) fn sweep(&self, now: Timestamp) -> Result<()> {
        let now = SystemTime::try_from(now).context("the clock is out of range")?;
        durable::sweep(&self.directory, now)?;
        for directory in ["told", "begun"].map(|name| self.directory.join(name)) {
            durable::sweep(&directory, now)?;
            for entry in durable::list_dir(&directory)? {
                let entry = entry?;
                let age = entry.metadata().ok().and_then(|found| durable::age(&found, now));
                if age.is_some_and(|age| age > NOTE_LIFE) {
                    durable::remove(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// The events that wait for each entry of `notify:`, those first whose last try is longest ago.
    fn waiting(&self) -> Result<Vec<Vec<PathBuf>>> {
        let mut waiting: Vec<Vec<(SystemTime, PathBuf)>> = vec![Vec::new(); self.notifiers.len()];
        for entry in durable::list_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| {
                if name.starts_with('.') {
                    return None;
                }
                name.strip_suffix(".json")?.rsplit_once('.')?.1.parse::<usize>().ok()
            });
            let Some(number) = number else { continue };
            let Ok(modified) = entry.metadata().and_then(|found| found.modified()) else {
                continue;
            };
            match waiting.get_mut(number) {
                Some(files) => files.push((modified, entry.path())),
                // Its entry was taken out of the configuration.
                None => drop(durable::remove(&entry.path())?),
            }
        }
        Ok(waiting
            .into_iter()
            .map(|mut files| {
                files.sort();
                files.into_iter().map(|(_, path)| path).collect()
            })
            .collect())
    }
}

/// Reads a queued event; `None` where it was taken meanwhile.
fn read(path: &Path) -> Result<Option<Notice>, marker::Unreadable> {
    marker::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(what: &str) -> String {
        Notice::new(Occasion::Hold, what, Timestamp::UNIX_EPOCH).id
    }

    #[test]
    fn two_names_are_two_ids() {
        let long = |directory: &str| format!("/srv/{directory}/{}", "a".repeat(300));
        for (one, other) in [
            ("/p/日報.md", "/p/週報.md"),
            ("/srv/a/b", "/srv/a-b"),
            ("/srv/a/b", "_2fsrv_2fa_2fb"),
            (&long("one"), &long("two")),
        ] {
            assert_ne!(id(one), id(other));
        }
        for what in ["日本語/".repeat(100), long("one")] {
            let id = id(&what);
            assert!(id.len() < 200, "it is a file's name: {id}");
            assert!(
                id.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it)),
                "{id}"
            );
        }
    }

    #[test]
    fn the_id_of_a_run_holds_the_run_as_it_is() {
        let run = Uuid::new_v4();
        let notice = Notice::of_run(Occasion::ToLand, run, Timestamp::UNIX_EPOCH);
        assert_eq!(notice.id, format!("{run}-to-land"));
    }
}
