//! What a pass records of its work: lines of the journal, and notifications.

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;

use crate::config::{Config, Occasion};
use crate::durable;
use crate::event::{Event, EventKind};
use crate::journal::{Entry, Journal};
use crate::log::Log;
use crate::notify::{Notice, Outbox};
use crate::spend::{self, OF_SECUTOOLS, Spend, SpendLine};
use crate::task::{Ending, Outcome, Provider};

/// Where a pass records its work. Threads share it.
pub(crate) struct Records<'a> {
    journal: Journal,
    outbox: Outbox<'a>,
    spend: Spend,
    log: &'a Log,
}

impl<'a> Records<'a> {
    pub(crate) fn new(config: &'a Config, log: &'a Log) -> Self {
        Self {
            journal: Journal::new(&config.state_dir),
            outbox: Outbox::new(config, log),
            spend: Spend::new(&config.state_dir),
            log,
        }
    }

    pub(crate) fn outbox(&self) -> &Outbox<'a> {
        &self.outbox
    }

    /// Adds a line to the journal. One that cannot be written is reported, and stops nothing.
    pub(crate) fn note(&self, entry: &Entry) {
        if let Err(error) = self.journal.write(entry) {
            self.log.warn(format_args!("{error:#}"));
        }
    }

    /// Notes that a branch has landed in its base; the event that says so.
    pub(crate) fn landed(&self, (project, task): (&Path, &str), branch: &str, base: &str) -> Event {
        let event = Event::landed(project, task, branch, base);
        self.note(&Entry::of(&event));
        event
    }

    /// Files a task: queues the notification of it, has `file` file it, and adds it to the journal. `file` returns
    /// `None` where the task has left meanwhile: the pass that took it has recorded that.
    pub(crate) fn file_and_record<T>(
        &self,
        (project, task): (&Path, &str),
        ending: &Ending,
        text: impl FnOnce() -> Result<Option<String>>,
        file: impl FnOnce() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let (occasion, kind) = match ending.outcome {
            Outcome::Done => (Some(Occasion::Done), EventKind::Done),
            Outcome::Failed => (Some(Occasion::Failed), EventKind::Failed),
            Outcome::Released => (None, EventKind::Released),
        };
        // Without a run nothing gives its event an id: the outbox makes one, and keeps it until the task is filed.
        let unworked = occasion.filter(|_| ending.run.is_nil());
        if let Some(occasion) = occasion {
            let time = ending.ended_at.unwrap_or_else(Timestamp::now);
            let id = match unworked {
                Some(_) => self.outbox.begin_unworked(occasion, (project, task), time)?,
                None => {
                    // A pass that was killed in `ccl cancel`, say, may have queued a failure: that did not happen.
                    self.outbox.retract_undecided(Occasion::Failed, (project, task))?;
                    ending.run
                }
            };
            let notice = Notice::of_run(occasion, id, time).about(project, task);
            let notice = notice.by(ending.agent(), ending.cost.clone());
            let notice = match &ending.reason {
                Some(reason) => notice.because(reason),
                None => notice,
            };
            // Before the filing: a pass that is killed in between is followed by one that queues the same id once more.
            self.outbox.queue(notice, text)?;
        }
        // Before the filing as well: of a repeated line of one run only the last counts.
        self.note_spent((project, task), ending);
        let filed = file()?;
        if filed.is_some() {
            self.note(&Entry::of_task(kind, project, task).of_run(ending));
        }
        let settled = match (unworked, &filed) {
            (Some(occasion), Some(_)) => self.outbox.settle(occasion, (project, task)),
            (Some(occasion), None) => self.outbox.retract_unfiled(occasion, (project, task)),
            (None, _) => Ok(()),
        };
        // The filing stands. The pass that sends the event finds out by itself whether it has happened.
        if let Err(error) = settled {
            self.log.warn(format_args!("{error:#}"));
        }
        Ok(filed)
    }

    /// Writes down what a run has cost. What cannot be written is reported, and stops nothing.
    fn note_spent(&self, (project, task): (&Path, &str), ending: &Ending) {
        let agent = match ending.provider {
            // The cost of a cluster does not count against the budget of secutools.
            Some(provider @ Provider::Remote) => provider.as_str(),
            Some(provider) if provider.is_remote() => OF_SECUTOOLS,
            _ => match ending.agent() {
                Some(agent) => agent,
                // Nobody worked on it.
                None => return,
            },
        };
        let (agent, task) = (agent.to_owned(), spend::task_key(project, task));
        let line = SpendLine { run: ending.run, agent, task, cost: ending.cost.clone() };
        if let Err(error) = self.spend.note(&line, ending.ended_at.unwrap_or_else(Timestamp::now)) {
            self.log.warn(format_args!("{error:#}"));
        }
    }

    /// Notes what a run has cost that is still at work.
    pub(crate) fn note_cost_so_far(&self, line: SpendLine) {
        if let Err(error) = self.spend.note_so_far(&line, Timestamp::now()) {
            self.log.warn(format_args!("{error:#}"));
        }
    }

    /// Notifies people once that an agent, a project or a recurring task is held, however often it is called for one
    /// hold. `name` says what is held; `since` tells one hold from the next.
    pub(crate) fn notify_hold(&self, entry: &Entry, name: &str, since: Timestamp) -> Result<()> {
        let notice = Notice::new(Occasion::Hold, &format!("{name}-{since}"), since);
        self.outbox.queue_once(notice.of_entry(entry), || Ok(None))
    }
}

/// How many seconds a task has waited by `now`, counted from the last change of its file: it was dropped or given back
/// then.
pub(crate) fn waited(file: &Path, now: Timestamp) -> Option<u64> {
    let modified = durable::modified(&file.symlink_metadata().ok()?)?;
    u64::try_from(now.duration_since(modified).as_secs()).ok()
}
