//! From a job that has ended to `done/` or `failed/`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};

use super::marker::{Delegated, between};
use super::{Delegation, Job, JobStatus, RemoteOutcome};
use crate::concurrent::locked;
use crate::durable;
use crate::event::{Event, EventKind};
use crate::money::Cost;
use crate::process::OpenFiles;
use crate::queue::{Folder, TaskRef};
use crate::task::{self, BranchEnding, CheckEnding, Ending, GitEnding, Outcome, Timeout};
use crate::text::{self, escape};

/// The footer quotes at most this many characters of a server's text.
const MAX_WORDS: usize = 300;

/// What is written into the filed task.
pub(super) struct Filing {
    pub(super) outcome: Outcome,
    pub(super) result: Option<String>,
    /// Who worked on it, in the server's words.
    pub(super) worker: Option<String>,
    pub(super) cost: Option<Cost>,
    pub(super) reason: Option<String>,
    pub(super) at: Timestamp,
    /// The agent's own name for its conversation.
    pub(super) session: Option<String>,
    pub(super) git: Option<GitEnding>,
    pub(super) check: Option<CheckEnding>,
    /// The time limit that ended its agent, if one did.
    pub(super) timeout: Option<Timeout>,
    /// False where the result is a red check's output, which has no footer below it.
    pub(super) has_footer: bool,
}

impl Filing {
    pub(super) fn of_job(job: &Job, at: Timestamp) -> Filing {
        let is_done = job.status == JobStatus::Succeeded;
        let result = match &job.output {
            None if is_done => Some("(secutools returned no output.)".to_owned()),
            output => output.clone(),
        };
        let reason = (!is_done).then(|| match &job.error {
            Some(error) => format!("secutools: job {}: {error}", job.status.as_str()),
            None => format!("secutools: job {}, without a reason", job.status.as_str()),
        });
        Filing {
            outcome: if is_done { Outcome::Done } else { Outcome::Failed },
            result,
            worker: job.provider.clone(),
            cost: job.cost.clone(),
            ..Self::bare(at, reason)
        }
    }

    /// The filing of a task that is given up, for this reason.
    pub(super) fn given_up(at: Timestamp, reason: String) -> Filing {
        Self::bare(at, Some(reason))
    }

    /// What an earlier pass has written into the copy, as far as its last line says it.
    pub(super) fn of_copy(ending: Ending, now: Timestamp) -> Filing {
        Filing {
            outcome: ending.outcome,
            cost: ending.cost,
            session: ending.agent_session,
            git: ending.git,
            check: ending.check,
            timeout: ending.timeout,
            ..Self::bare(ending.ended_at.unwrap_or(now), ending.reason)
        }
    }

    fn bare(at: Timestamp, reason: Option<String>) -> Filing {
        Filing {
            outcome: Outcome::Failed,
            result: None,
            worker: None,
            cost: None,
            reason,
            at,
            session: None,
            git: None,
            check: None,
            timeout: None,
            has_footer: true,
        }
    }

    fn ending(&self, marker: &Delegated) -> Ending {
        let task = task::parse(&marker.text);
        let attempt = task.attempts_made().saturating_add(1);
        let ending = Ending {
            provider: Some(marker.provider),
            job_id: marker.job_id().map(ToString::to_string),
            cost_of_task: task.cost(),
            started_at: Some(marker.started_at),
            ended_at: Some(self.at),
            reason: self.reason.clone(),
            agent_session: self.session.clone(),
            git: self.git.clone(),
            check: self.check.clone(),
            timeout: self.timeout,
            ..Ending::new(marker.key, self.outcome, attempt)
        };
        ending.with_cost(self.cost.clone())
    }

    /// The task with its result, footer and ending line.
    fn text(&self, marker: &Delegated, ending: &Ending) -> String {
        let footer = self.has_footer.then(|| self.footer(marker));
        task::with_ending(&marker.text, ending, self.result.as_deref(), footer.as_deref())
    }

    /// The one line for people: what went wrong, who worked on it, for how long, at what cost.
    fn footer(&self, marker: &Delegated) -> String {
        let seconds = between(marker.started_at, self.at).as_secs().try_into().unwrap_or(i64::MAX);
        let mut parts: Vec<String> = self.reason.as_deref().map(one_line).into_iter().collect();
        parts.push(one_line(self.worker.as_deref().unwrap_or(marker.provider.as_str())));
        parts.push(format!("{:#}", SignedDuration::from_secs(seconds)));
        parts.push(self.cost.as_ref().map_or("cost unknown".to_owned(), Cost::to_string));
        if let Some(GitEnding::Branch(BranchEnding { summary, .. })) = &self.git {
            parts.push(summary.to_string());
        }
        parts.extend(marker.job_id().map(|id| format!("job {id}")));
        format!("*{}*", parts.join(" · "))
    }
}

fn one_line(text: &str) -> String {
    text::excerpt(text, MAX_WORDS)
}

impl Delegation<'_> {
    /// Files the task as it was submitted: first writes the copy, then removes the task if it is still
    /// that file, and the marker last. A copy that a killed pass has written is found by the run in
    /// its last line.
    pub(super) fn file(
        &self,
        task: &TaskRef,
        marker: &Delegated,
        filing: &Filing,
    ) -> Result<RemoteOutcome> {
        let TaskRef { project, name } = task;
        if is_being_written(&project.waiting_path(name))? {
            let reason = "its job has ended, but the file is open for writing: it is filed once it is closed";
            self.log.warn(format_args!("{task}: {reason}"));
            return Ok(RemoteOutcome::Event(marker.event(task, EventKind::Held).because(reason)));
        }
        // A pass was killed after it had filed the task and before it had put the marker away: the copy stays as it is, and
        // what it says is recorded.
        let copied = project.filed_ending(name, marker.key)?;
        let copied = copied.map(|ending| Filing::of_copy(ending, self.now()));
        let filing = copied.as_ref().unwrap_or(filing);
        let (kind, word) = match filing.outcome {
            Outcome::Done => (EventKind::Done, "DONE"),
            Outcome::Failed | Outcome::Released => (EventKind::Failed, "FAILED"),
        };
        let reason = filing.reason.as_deref().map(one_line);
        let event = Event { reason: reason.clone(), ..marker.event(task, kind) };
        if self.dry_run {
            return Ok(RemoteOutcome::Event(event));
        }
        let ending = filing.ending(marker);
        let file = || self.place(task, marker, filing, &ending).map(|placed| placed.then_some(()));
        let filed = match self.records {
            Some(records) => {
                let at = (project.path(), name.as_str());
                records.file_and_record(at, &ending, || Ok(Some(marker.text.clone())), file)?
            }
            None => file()?,
        };
        if filed.is_none() {
            return Ok(RemoteOutcome::Nothing);
        }
        self.log.event(format_args!(
            "{word} task={} provider={} job={}{}",
            escape(name.as_str()),
            marker.provider.as_str(),
            event.job_id.as_deref().unwrap_or("-"),
            reason.map(|reason| format!(": {reason}")).unwrap_or_default()
        ));
        Ok(RemoteOutcome::Event(event))
    }

    /// Moves the task; false if another pass has done so.
    fn place(
        &self,
        task: &TaskRef,
        marker: &Delegated,
        filing: &Filing,
        ending: &Ending,
    ) -> Result<bool> {
        let TaskRef { project, name } = task;
        let (waiting, path) = (project.waiting_path(name), project.delegated_path(name));
        let _local = locked(&self.local_lock);
        let _lock = project.lock()?;
        if super::current(task, marker)?.is_none() {
            return Ok(false);
        }
        if project.filed_ending(name, marker.key)?.is_none() {
            let mode = durable::look_at(&path)?.mode();
            project.put_as(filing.outcome.into(), name, &filing.text(marker, ending), mode)?;
        }
        if is_the_submitted_file(&waiting, marker)? {
            durable::remove(&waiting)?;
            // After a crash of the machine the task must not be back without its marker: it would run again.
            durable::sync_dir(&project.folder(Folder::Inbox))?;
        }
        match &marker.exchange {
            // Kept under another name until its refs are gone; the task's name is free at once.
            Some(_) => project.set_aside(name, marker.key)?,
            None => durable::remove(&path).map(drop)?,
        }
        Ok(true)
    }
}

/// Whether a process has the file open for writing, as far as that can be seen.
fn is_being_written(path: &Path) -> Result<bool> {
    // Gone, as a rule; if it is there after all, `is_the_submitted_file` meets it.
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(false);
    };
    let open = OpenFiles::look()
        .with_context(|| format!("cannot find out who writes to {}", path.display()))?;
    Ok(open.is_written(&metadata) == Some(true))
}

/// Whether `path` is the file that was submitted, byte for byte; false also if it is gone.
fn is_the_submitted_file(path: &Path, marker: &Delegated) -> Result<bool> {
    let failed = || format!("cannot read {}", path.display());
    let file = match durable::open_if_there(path) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(false),
        // A link or the like has taken the name.
        Err(_) if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) => {
            return Ok(false);
        }
        Err(error) => return Err(error).with_context(failed),
    };
    if !file.metadata().with_context(failed)?.is_file() {
        return Ok(false);
    }
    // One byte more than was submitted: a longer file is a different one.
    let bytes = durable::read_at_most(file, marker.text.len() as u64 + 1).with_context(failed)?;
    Ok(bytes == marker.text.as_bytes())
}
