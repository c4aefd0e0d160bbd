//! Waiting tasks for free sessions: the local half of `scan`, and of `assign`.

use std::ffi::OsStr;
use std::fs;

use anyhow::Result;

use super::{Context, Pass};
use crate::agent::claude::Trust;
use crate::config::AgentKind;
use crate::event::{Event, EventKind};
use crate::parallel;
use crate::plan::{self, Queue};
use crate::queue::{self, Folder, Inbox, Name, Project, Read, Skip, TaskRef, WaitingTask};
use crate::session::{Pool, Slot};
use crate::task::{self, Ending, Provider};

/// One project and what its inbox holds.
pub(super) struct Waiting {
    pub(super) project: Project,
    pub(super) inbox: Inbox,
}

/// Lists the inboxes; a project that cannot be read does not stop the others.
pub(super) fn list(context: Context<'_>, pass: &mut Pass) -> Result<Vec<Waiting>> {
    let mut found = Vec::new();
    for project in context.projects()? {
        match project.list() {
            Ok(Some(inbox)) => found.push(Waiting { project, inbox }),
            Ok(None) => {}
            Err(error) => pass.take(context, Err(error)),
        }
    }
    Ok(found)
}

/// Tells which files are held back, and why.
pub(super) fn report_held(waiting: &[Waiting], pass: &mut Pass) {
    for Waiting { project, inbox } in waiting {
        for (name, held) in &inbox.held {
            let name = name.to_string_lossy();
            let event = Event::of_task(EventKind::Held, project.path(), name);
            pass.events.push(event.because(held.to_string()));
        }
    }
}

/// So many tasks are read at most before one look tells which of them are still
/// being written; a look costs some milliseconds, a task up to a megabyte.
pub(super) const READ_TOGETHER: usize = 32;

/// Takes tasks in the order of DESIGN section 5.
struct Chooser<'a> {
    context: Context<'a>,
    waiting: &'a [Waiting],
    queues: Vec<Queue>,
    trust: Option<Trust>,
    hand: Hand,
}

/// On whose behalf tasks are chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// `scan` has taken out what is delegated.
    Scan,
    /// `assign` leaves to `scan` what routes to secutools. A hook has no key, so
    /// an address is enough to leave it.
    Assign,
    /// Nothing is changed.
    Rehearsal,
}

impl<'a> Chooser<'a> {
    /// Reads the heads of all tasks that wait; a project where that fails does
    /// not stop the others.
    fn new(context: Context<'a>, waiting: &'a [Waiting], hand: Hand, pass: &mut Pass) -> Self {
        let queues = waiting
            .iter()
            .map(|Waiting { project, inbox }| {
                let priorities = project.priorities(&inbox.waiting);
                let priorities = priorities.unwrap_or_else(|error| {
                    pass.take(context, Err(error));
                    Vec::new()
                });
                Queue::new(inbox.dispatched.len(), priorities)
            })
            .collect();
        let is_claude = context.config.agent.kind == AgentKind::Claude;
        Self {
            context,
            waiting,
            queues,
            trust: is_claude.then(|| Trust::read(&context.config.claude_json)),
            hand,
        }
    }

    /// The next tasks that can be launched, up to `wanted`; what cannot is told
    /// and passed over.
    ///
    /// As many as can be used are read with one look at who writes to them, and
    /// more where many had to be passed over: those left over go on waiting.
    fn take(&mut self, wanted: usize, pass: &mut Pass) -> Vec<WaitingTask> {
        let (mut works, mut passed_over) = (Vec::new(), 0);
        while works.len() < wanted {
            let missing = wanted - works.len();
            let picked = self.pick(missing.max(passed_over).min(READ_TOGETHER));
            if picked.is_empty() {
                break;
            }
            let (indices, tasks): (Vec<_>, Vec<_>) = picked.into_iter().unzip();
            let read = match queue::read_all(tasks) {
                Ok(read) => read,
                Err(error) => {
                    pass.take(self.context, Err(error));
                    break;
                }
            };
            for (index, read) in indices.into_iter().zip(read) {
                match self.check(read) {
                    Ok(Checked::Ready(task)) => {
                        works.push(*task);
                        continue;
                    }
                    Ok(Checked::PassedOver(event)) => pass.events.extend(event),
                    Err(error) => pass.take(self.context, Err(error)),
                }
                self.queues[index].not_started();
                passed_over += 1;
            }
        }
        works.truncate(wanted);
        works
    }

    /// Those whose turn it is, up to `count`, each with its project's index.
    fn pick(&mut self, count: usize) -> Vec<(usize, TaskRef)> {
        let waiting = self.waiting;
        let mut picked = Vec::new();
        while picked.len() < count {
            let modified = |index: usize, name: &OsStr| modified(&waiting[index].project, name);
            let Some((index, name)) = plan::next(&mut self.queues, modified) else {
                break;
            };
            picked.extend(task_ref(&waiting[index].project, &name).map(|task| (index, task)));
        }
        picked
    }

    /// Whether a task that was read can be launched.
    fn check(&self, read: Read) -> Result<Checked> {
        let dry_run = self.hand == Hand::Rehearsal;
        let task = match read {
            Read::Task(task) => task,
            Read::Skipped(at, skip) => {
                return pass_over(self.context, &at, skip, dry_run).map(Checked::PassedOver);
            }
        };
        let project = task.at.project.path();
        let why = if self.is_left_to_scan(&task.task) {
            return Ok(Checked::PassedOver(None));
        } else if project.to_str().is_none() {
            // Neither a marker nor a shell script can name it.
            "the path of its project is not UTF-8: rename the directory".to_owned()
        } else if self.trust.as_ref().is_some_and(|trust| trust.refuses(project)) {
            Trust::advice(project)
        } else {
            return Ok(Checked::Ready(task));
        };
        Ok(Checked::PassedOver(Some(task.at.event(EventKind::Held).because(why))))
    }

    fn is_left_to_scan(&self, task: &task::Task) -> bool {
        self.hand == Hand::Assign && self.context.destination(&task.routing).is_remote()
    }
}

enum Checked {
    Ready(Box<WaitingTask>),
    /// With what is reported of it.
    PassedOver(Option<Event>),
}

/// A task of an inbox's list. The list holds no name that cannot be one's.
pub(super) fn task_ref(project: &Project, name: &OsStr) -> Option<TaskRef> {
    Name::new(name).ok().map(|name| TaskRef { project: project.clone(), name })
}

/// What is reported of a file that is no task to hand out; one that can never be is filed as
/// failed.
pub(super) fn pass_over(
    context: Context<'_>,
    at: &TaskRef,
    skip: Skip,
    dry_run: bool,
) -> Result<Option<Event>> {
    match skip {
        Skip::Gone => Ok(None),
        Skip::Held(held) => Ok(Some(at.event(EventKind::Held).because(held.to_string()))),
        Skip::Unfit(seen, unfit) => {
            let ending = Ending::unworked(context.now, unfit.to_string());
            let filed = dry_run || at.project.reject(&at.name, &seen, &ending)?.is_some();
            Ok(filed.then(|| at.event(EventKind::Failed).because(unfit.to_string())))
        }
        Skip::Failed(error) => Err(error),
    }
}

/// When the file was last changed, in nanoseconds; a file that is gone is last.
fn modified(project: &Project, name: &OsStr) -> i64 {
    fs::symlink_metadata(project.folder(Folder::Inbox).join(name))
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| jiff::Timestamp::try_from(time).ok())
        .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
        .unwrap_or(i64::MAX)
}

/// Gives each slot the next task, all at once.
pub(super) fn launch(
    context: Context<'_>,
    pool: &Pool<'_>,
    slots: Vec<Slot>,
    waiting: &[Waiting],
    hand: Hand,
    pass: &mut Pass,
) {
    let free = slots.len();
    let works = Chooser::new(context, waiting, hand, pass).take(free, pass);
    // A slot that gets no task is unlocked before the others are waited for.
    let pairs = slots.into_iter().zip(works).collect();
    let launched = parallel::map(pairs, |(slot, work)| {
        let what = format!("{} → {}", work.at.name, slot.name());
        let _waiting = context.progress.wait_for(&what);
        pool.dispatch(slot, &work)
    });
    let used = launched
        .iter()
        .flat_map(|(events, _)| events)
        .filter(|event| matches!(event.event, EventKind::Dispatched | EventKind::Cooldown))
        .count();
    pass.free_sessions = Some(free.saturating_sub(used));
    for (events, outcome) in launched {
        pass.events.extend(events);
        pass.take(context, outcome.map(|()| Vec::new()));
    }
}

/// What [`launch`] would do, with nothing locked, changed or typed.
pub(super) fn rehearse(
    context: Context<'_>,
    sessions: Vec<String>,
    waiting: &[Waiting],
    pass: &mut Pass,
) {
    let config = context.config;
    let mut chooser = Chooser::new(context, waiting, Hand::Rehearsal, pass);
    let works = chooser.take(sessions.len(), pass);
    for (session, work) in sessions.into_iter().zip(works) {
        pass.free_sessions = pass.free_sessions.map(|free| free.saturating_sub(1));
        pass.events.push(Event {
            session: Some(session),
            provider: Some(Provider::ClaudeCode),
            model: (config.agent.kind == AgentKind::Claude).then(|| {
                let models = &config.dispatcher.models;
                models.for_priority(work.task.priority).to_owned()
            }),
            ..work.at.event(EventKind::Dispatched)
        });
    }
}
