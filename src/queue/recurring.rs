//! Tasks that come again and again: `recurring/T.md`, of which each slot makes one task.
//!
//! ```text
//! recurring/T.md                  what is to be done, and when
//! recurring/.T.SLOT.md.new        the task of a slot, complete, before it is in the inbox
//! recurring/.T.md.last            the last slot that was served, or passed; written before the task appears
//! recurring/.T.md.hold            three tasks in a row have failed
//! inbox/T.20261127T0100Z.md       the task of the slot at 01:00 UTC
//! ```
//!
//! A slot is served under the project's lock: the task is written, then `.last`, then the task is renamed into the
//! inbox. What a killed pass leaves says how far it came: a task of a later slot than `.last` is void, any other one is
//! moved by the next pass. So no slot is served twice, and none is lost; also with several machines, and after a task
//! was taken away.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::waiting::{self, Contents, Skip};
use super::{Folder, MAX_NAME, Name, Project, QUEUE};
use crate::durable;
use crate::marker::{self, Stamp};
use crate::process::Writers;
use crate::task::{self, RECURRING_FIELDS, Recurrence, Schedule};
use crate::text::local_time;

/// A slot that no pass has served within this time was missed; or within half the interval, if that is less.
const PUNCTUAL: SignedDuration = SignedDuration::from_mins(10);
/// Clocks of machines that share a queue differ by less.
const SKEW: SignedDuration = SignedDuration::from_hours(24);
/// After this many failures in a row a recurring task is held until `ccl resume`.
const FAILURES: usize = 3;

/// `.T.md.last`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LastSlot {
    #[serde(flatten)]
    stamp: Stamp,
    slot: Timestamp,
    /// The last tasks that were made, the newest last.
    made: Vec<String>,
    /// Schedule and zone as the file had them then; earlier versions did not note them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
}

/// `.T.md.hold`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HoldMarker {
    #[serde(flatten)]
    stamp: Stamp,
    reason: String,
}

/// One file of `recurring/`.
#[derive(Debug, Clone)]
pub(crate) struct Recurring {
    project: Project,
    name: Name,
}

/// What a pass did about one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// A slot has made this task.
    Made { task: String, slot: Timestamp },
    /// It makes nothing until somebody has mended it.
    Held(String),
    /// It makes nothing until `ccl resume`; `is_new`: from now on.
    OnHold { since: Timestamp, reason: String, is_new: bool },
}

/// When the next slot comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outlook {
    pub(crate) schedule: Option<String>,
    pub(crate) next: Option<Timestamp>,
    pub(crate) held: Option<String>,
    /// Its last slot was served or has passed, and no other one ever comes.
    pub(crate) is_over: bool,
}

impl Outlook {
    pub(crate) fn held(schedule: Option<String>, why: String) -> Self {
        Self { schedule, next: None, held: Some(why), is_over: false }
    }
}

/// What there is to know of a file, read without a lock.
struct RecurringFile {
    text: String,
    recurrence: Recurrence,
    zone: TimeZone,
    changed_at: Timestamp,
}

/// What has come of a look into a file.
enum RecurringRead {
    Gone,
    /// Nothing is made of it until somebody has mended it; the sentence says how.
    Held(String),
    Read(Box<RecurringFile>),
}

impl Project {
    fn recurring_folder(&self) -> PathBuf {
        self.path().join(QUEUE).join("recurring")
    }

    /// The files of `recurring/`, by name. Where there is no such directory this costs one system call.
    pub(crate) fn recurring(&self) -> Result<Vec<Recurring>> {
        let mut found = Vec::new();
        for entry in durable::list_dir(&self.recurring_folder())? {
            let name = entry?.file_name();
            let is_task =
                name.to_str().is_some_and(|it| it.ends_with(".md") && !it.starts_with('.'));
            if let (true, Ok(name)) = (is_task, Name::new(&name)) {
                found.push(Recurring { project: self.clone(), name });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Lifts the holds of its recurring tasks; the names of those that were held.
    pub(crate) fn lift_recurring_holds(&self) -> Result<Vec<String>> {
        let mut lifted = Vec::new();
        for recurring in self.recurring()? {
            if recurring.lift_hold()? {
                lifted.push(recurring.name.to_string());
            }
        }
        Ok(lifted)
    }

    /// Removes what killed passes left unfinished a day ago.
    pub(crate) fn sweep_recurring(&self, now: SystemTime) -> Result<()> {
        durable::sweep(&self.recurring_folder(), now)
    }
}

impl Recurring {
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// `.T.md.last`
    fn beside(&self, suffix: &str) -> PathBuf {
        self.project.recurring_folder().join(format!(".{}.{suffix}", self.name))
    }

    fn stem(&self) -> &str {
        self.name.as_str().strip_suffix(".md").unwrap_or(self.name.as_str())
    }

    /// The name of a slot's task.
    fn task_name(&self, slot: Timestamp) -> String {
        format!("{}.{}.md", self.stem(), slot_text(slot))
    }

    /// The slot that a task's name encodes.
    fn slot_of(&self, task: &str) -> Option<Timestamp> {
        let rest = task.strip_prefix(self.stem())?.strip_prefix('.')?.strip_suffix(".md")?;
        // A task that came back under another name: `T.20261127T0100Z.2.md`.
        read_slot(rest.split('.').next()?)
    }

    fn read(&self) -> Result<RecurringRead> {
        let path = self.project.recurring_folder().join(self.name.as_str());
        let contents = match waiting::read_regular(&path) {
            Ok(contents) => contents,
            Err(Skip::Gone) => return Ok(RecurringRead::Gone),
            Err(Skip::Failed(error)) => return Err(error),
            Err(held) => return Ok(RecurringRead::Held(held.to_string())),
        };
        Ok(match self.understand(&contents) {
            Ok(file) => RecurringRead::Read(Box::new(file)),
            Err(why) => RecurringRead::Held(why),
        })
    }

    /// The error is a sentence for people: why nothing can be made of it.
    fn understand(&self, contents: &Contents) -> Result<RecurringFile, String> {
        let text = task::text_of(&contents.bytes).map_err(|unfit| unfit.to_string())?;
        let at = |(line, column), message: &dyn fmt::Display| {
            format!("recurring/{}:{line}:{column}: {message}", self.name)
        };
        let recurrence = task::recurrence(text)
            .map_err(|wrong| at((wrong.line, wrong.column), &wrong.message))?;
        let zone = match &recurrence.zone {
            None => TimeZone::system(),
            Some((name, place)) => TimeZone::get(name).map_err(|_| {
                let message = format!(
                    "`zone` is `{name}`, which this machine does not know; write Europe/Berlin"
                );
                at(*place, &message)
            })?,
        };
        // Two bytes more: the name of a slot may have seconds, too.
        if self.task_name(Timestamp::UNIX_EPOCH).len() > MAX_NAME - "15".len() {
            return Err("its name is too long for the slots behind it: shorten it".to_owned());
        }
        let changed_at = contents.changed_at();
        Ok(RecurringFile { text: text.to_owned(), recurrence, zone, changed_at })
    }

    /// Serves the slot that has come, if one has, and returns what that did. A dry run returns what it would do.
    pub(crate) fn serve(&self, stamp: &Stamp, dry_run: bool) -> Result<Option<Served>> {
        let reading = match self.read()? {
            RecurringRead::Gone => return Ok(None),
            RecurringRead::Held(why) => return Ok(Some(Served::Held(why))),
            RecurringRead::Read(reading) => reading,
        };
        self.serve_file(&reading, stamp, dry_run)
    }

    fn serve_file(
        &self,
        reading: &RecurringFile,
        stamp: &Stamp,
        dry_run: bool,
    ) -> Result<Option<Served>> {
        if let Some(HoldMarker { stamp, reason }) = marker::read(&self.beside("hold"))? {
            return Ok(Some(Served::OnHold { since: stamp.at, reason, is_new: false }));
        }
        let last: Option<LastSlot> = marker::read(&self.beside("last"))?;
        let has_failed = self.has_failed_in_a_row(last.as_ref())?;
        let due = reading.due(last.as_ref(), stamp.at);
        let is_new = last.is_none();
        if dry_run {
            let makes =
                due.filter(|due| !has_failed && (due.punctual || reading.recurrence.catch_up));
            return Ok(
                makes.map(|due| Served::Made { task: self.task_name(due.slot), slot: due.slot })
            );
        }
        if !has_failed && !is_new && due.is_none() && self.unfinished()?.is_empty() {
            return Ok(None);
        }
        self.serve_locked(reading, stamp)
    }

    /// Serves the slot under the project's lock. What was read before may have changed, so it looks again.
    fn serve_locked(&self, reading: &RecurringFile, stamp: &Stamp) -> Result<Option<Served>> {
        let now = stamp.at;
        let _lock = self.project.lock()?;
        if marker::read::<HoldMarker>(&self.beside("hold"))?.is_some() {
            return Ok(None);
        }
        let last: Option<LastSlot> = marker::read(&self.beside("last"))?;
        if let Some(made) = self.finish(last.as_ref())? {
            return Ok(Some(made));
        }
        if self.has_failed_in_a_row(last.as_ref())? {
            return self.begin_hold(stamp).map(Some);
        }
        let schedule = Some(reading.schedule());
        let Some(due) = reading.due(last.as_ref(), now) else {
            if last.is_none() {
                // From now on its slots count.
                let slot = reading.first_sight(now);
                marker::write(
                    &self.beside("last"),
                    &LastSlot { stamp: stamp.clone(), slot, made: Vec::new(), schedule },
                )?;
            }
            return Ok(None);
        };
        let path = self.project.recurring_folder().join(self.name.as_str());
        // It was read before, perhaps half written: then a later pass serves the slot.
        if waiting::is_being_written(&path, &Writers::default())? {
            return Ok(None);
        }
        let mut made = last.map(|last| last.made).unwrap_or_default();
        let name = self.task_name(due.slot);
        // A slot that passes makes no task, but is noted in `.last` all the same, so that it is not caught up.
        let passes = !due.punctual && !reading.recurrence.catch_up
            || !reading.recurrence.overlap && self.is_any_active()?
            || self.was_made(&name)?;
        // In this order, so that no slot is lost and none served twice: the task, `.last`, the rename.
        let unfinished = self.unfinished_path(&name);
        if !passes {
            let text = task::without_fields(&reading.text, &RECURRING_FIELDS);
            durable::write(&unfinished, text.as_bytes(), durable::SHARED)?;
            made.push(name.clone());
            made.drain(..made.len().saturating_sub(FAILURES));
        }
        marker::write(
            &self.beside("last"),
            &LastSlot { stamp: stamp.clone(), slot: due.slot, made, schedule },
        )?;
        if passes {
            return Ok(None);
        }
        self.put_into_the_inbox(&unfinished, &name)?;
        Ok(Some(Served::Made { task: name, slot: due.slot }))
    }

    /// `.T.SLOT.md.new`
    fn unfinished_path(&self, task: &str) -> PathBuf {
        self.project.recurring_folder().join(format!(".{task}.new"))
    }

    /// The tasks that killed passes have written, and not moved.
    fn unfinished(&self) -> Result<Vec<String>> {
        let mut unfinished = Vec::new();
        for entry in durable::list_dir(&self.project.recurring_folder())? {
            let name = entry?.file_name();
            let task = name.to_str().and_then(|it| it.strip_prefix('.')?.strip_suffix(".new"));
            if let Some(task) = task.filter(|task| self.slot_of(task).is_some()) {
                unfinished.push(task.to_owned());
            }
        }
        unfinished.sort();
        Ok(unfinished)
    }

    /// Finishes what a killed pass has begun. The caller holds the lock.
    fn finish(&self, last: Option<&LastSlot>) -> Result<Option<Served>> {
        let mut finished = None;
        for task in self.unfinished()? {
            let path = self.unfinished_path(&task);
            let slot = self.slot_of(&task);
            // A slot behind `.last` was not noted: its task goes, and the slot is served anew.
            let is_void = slot > last.map(|last| last.slot);
            match slot {
                Some(slot) if !is_void && !self.was_made(&task)? => {
                    self.put_into_the_inbox(&path, &task)?;
                    finished = Some(Served::Made { task, slot });
                }
                _ => drop(durable::remove(&path)?),
            }
        }
        Ok(finished)
    }

    /// One rename: the task is never in both places.
    fn put_into_the_inbox(&self, from: &std::path::Path, task: &str) -> Result<()> {
        let inbox = self.project.make_folder(Folder::Inbox)?;
        let to = inbox.join(task);
        durable::rename_noreplace(from, &to)
            .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
        durable::sync_dir(&inbox)?;
        durable::sync_dir(&self.project.recurring_folder())
    }

    /// Whether the task of this name is anywhere, although `.last` does not know of it.
    fn was_made(&self, task: &str) -> Result<bool> {
        if self.project.is_active(task, std::path::Path::new(""))? {
            return Ok(true);
        }
        for folder in [Folder::Inbox, Folder::Done, Folder::Failed] {
            if durable::exists(&self.project.folder(folder).join(task))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the task of any slot waits or is at work.
    fn is_any_active(&self) -> Result<bool> {
        let inbox = self.project.list()?;
        let is_ours =
            |name: &OsString| OsStr::to_str(name).is_some_and(|name| self.slot_of(name).is_some());
        let held = inbox.held.iter().map(|(name, _)| name);
        let mut names =
            inbox.waiting.iter().chain(&inbox.dispatched).chain(&inbox.delegated).chain(held);
        Ok(names.any(is_ours))
    }

    fn has_failed_in_a_row(&self, last: Option<&LastSlot>) -> Result<bool> {
        let Some(last) = last.filter(|last| last.made.len() >= FAILURES) else {
            return Ok(false);
        };
        let failed = self.project.folder(Folder::Failed);
        for task in &last.made {
            if !durable::exists(&failed.join(task))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The caller holds the lock.
    fn begin_hold(&self, stamp: &Stamp) -> Result<Served> {
        let reason = format!(
            "its last {FAILURES} tasks have failed: look at them in failed/, then run `ccl resume --project {}`",
            self.project.path().display()
        );
        marker::write(
            &self.beside("hold"),
            &HoldMarker { stamp: stamp.clone(), reason: reason.clone() },
        )?;
        Ok(Served::OnHold { since: stamp.at, reason, is_new: true })
    }

    /// False if it was not held.
    fn lift_hold(&self) -> Result<bool> {
        let hold = self.beside("hold");
        if !durable::exists(&hold)? {
            return Ok(false);
        }
        let _lock = self.project.lock()?;
        // First it forgets the failed tasks, for which it would be held again at once.
        if let Some(last) = marker::read::<LastSlot>(&self.beside("last"))? {
            marker::write(&self.beside("last"), &LastSlot { made: Vec::new(), ..last })?;
        }
        durable::remove(&hold)
    }

    /// What `status` shows; `None` where it is gone.
    pub(crate) fn outlook(&self, now: Timestamp) -> Result<Option<Outlook>> {
        let reading = match self.read()? {
            RecurringRead::Gone => return Ok(None),
            RecurringRead::Held(why) => return Ok(Some(Outlook::held(None, why))),
            RecurringRead::Read(reading) => reading,
        };
        self.outlook_of(&reading, now).map(Some)
    }

    fn outlook_of(&self, reading: &RecurringFile, now: Timestamp) -> Result<Outlook> {
        let schedule = Some(reading.recurrence.schedule_text.clone());
        if let Some(HoldMarker { reason, .. }) = marker::read(&self.beside("hold"))? {
            return Ok(Outlook::held(schedule, reason));
        }
        let last: Option<LastSlot> = marker::read(&self.beside("last"))?;
        let next = reading.next(last.as_ref(), now);
        let is_over =
            next.is_none() && last.as_ref().is_some_and(|last| reading.has_slot(last.slot));
        let held = match (next, last) {
            (None, _) if is_over => None,
            (None, _) => Some("no slot of it ever comes: mend its `at`".to_owned()),
            // A slot was served while the clock was wrong. None before it is served, so that none comes twice.
            (Some(_), Some(last)) if last.slot.duration_since(now) > SKEW => Some(format!(
                "its last slot ({}) has not come yet: if the clock was wrong then, remove {}",
                local_time(last.slot, now, &TimeZone::system()),
                self.beside("last").display()
            )),
            _ => None,
        };
        Ok(Outlook { schedule, next, held, is_over })
    }
}

/// A slot that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    slot: Timestamp,
    /// It was not missed.
    punctual: bool,
}

impl RecurringFile {
    /// When slots begin to count for a file that no pass has seen before: at its last change, at most ten minutes ago.
    fn first_sight(&self, now: Timestamp) -> Timestamp {
        let earliest = now.checked_sub(PUNCTUAL).unwrap_or(now);
        self.changed_at.clamp(earliest, now)
    }

    /// Its schedule and zone as one text, by which a later change is noticed.
    fn schedule(&self) -> String {
        let Recurrence { schedule_text, zone, .. } = &self.recurrence;
        match zone {
            Some((zone, _)) => format!("{schedule_text} {zone}"),
            None => schedule_text.clone(),
        }
    }

    fn due(&self, last: Option<&LastSlot>, now: Timestamp) -> Option<Due> {
        let slot = last.map(|last| last.slot);
        let due = due(&self.recurrence.schedule, &self.zone, slot, self.first_sight(now), now)?;
        let Some(last) = last else { return Some(due) };
        // A slot before the file's last change counts only if the file had the same schedule then, so that no slot is
        // lost when a person mends the text or pulls the repository. Where the old schedule is not known, or the time
        // of the change is in the future, a slot that is still on time counts.
        let said = last.schedule.as_ref();
        let was_named = said.is_some_and(|said| *said == self.schedule());
        let may_be_named = said.is_none() || self.changed_at > now;
        (due.slot > self.changed_at || was_named || due.punctual && may_be_named).then_some(due)
    }

    /// The next slot that will be served.
    fn next(&self, last: Option<&LastSlot>, now: Timestamp) -> Option<Timestamp> {
        if let Some(due) = self.due(last, now) {
            return Some(due.slot);
        }
        let last = last.map_or(now, |last| last.slot);
        match &self.recurrence.schedule {
            Schedule::At(calendar) => calendar.next_after(last.max(now), &self.zone),
            Schedule::Every(every) => {
                // Slots that have come already do not count any more.
                let passed = now.duration_since(last).as_secs().div_euclid(every.as_secs()).max(0);
                let until_next = (passed + 1).checked_mul(every.as_secs())?;
                last.checked_add(SignedDuration::from_secs(until_next)).ok()
            }
        }
    }

    /// Whether its `at` names this moment.
    fn has_slot(&self, moment: Timestamp) -> bool {
        let Schedule::At(calendar) = &self.recurrence.schedule else { return false };
        let before = moment.checked_sub(SignedDuration::from_secs(1));
        before.is_ok_and(|before| calendar.next_after(before, &self.zone) == Some(moment))
    }
}

/// The latest slot after `last` that has come by `now`; the earlier ones have passed for good. Pure.
fn due(
    schedule: &Schedule,
    zone: &TimeZone,
    last: Option<Timestamp>,
    first_sight: Timestamp,
    now: Timestamp,
) -> Option<Due> {
    let (slot, interval) = match schedule {
        Schedule::At(calendar) => {
            let slot = calendar.last_between(last.unwrap_or(first_sight), now, zone)?;
            let next = calendar.next_after(slot, zone);
            // Without a next slot, half the interval is no less than `PUNCTUAL`.
            (slot, next.map_or(PUNCTUAL * 2, |next| next.duration_since(slot)))
        }
        Schedule::Every(every) => {
            let Some(last) = last else {
                // Whole seconds: the name of its task has no smaller unit.
                let slot = Timestamp::from_second(now.as_second()).ok()?;
                return Some(Due { slot, punctual: true });
            };
            let passed = now.duration_since(last).as_secs().checked_div(every.as_secs())?;
            if passed < 1 {
                return None;
            }
            let since_last = SignedDuration::from_secs(passed.checked_mul(every.as_secs())?);
            (last.checked_add(since_last).ok()?, *every)
        }
    };
    Some(Due { slot, punctual: now.duration_since(slot) <= PUNCTUAL.min(interval / 2) })
}

/// `20261127T0100Z`, with seconds only where there are some.
fn slot_text(slot: Timestamp) -> String {
    let form = if slot.as_second() % 60 == 0 { "%Y%m%dT%H%MZ" } else { "%Y%m%dT%H%M%SZ" };
    slot.strftime(form).to_string()
}

fn read_slot(text: &str) -> Option<Timestamp> {
    let form = match text.len() {
        14 => "%Y%m%dT%H%MZ",
        16 => "%Y%m%dT%H%M%SZ",
        _ => return None,
    };
    DateTime::strptime(form, text)
        .ok()?
        .to_zoned_datetime(TimeZone::UTC)
        .ok()
        .map(|it| it.timestamp())
}

#[cfg(test)]
mod tests;
