//! Waiting tasks for free sessions: the local half of `scan`, and of `assign`.

use std::ffi::{OsStr, OsString};
use std::fs;

use anyhow::Result;

use super::{Context, Pass};
use crate::agent::claude::Trust;
use crate::config::AgentKind;
use crate::event::{Event, EventKind};
use crate::parallel;
use crate::plan::{self, Queue};
use crate::queue::{self, Folder, Held, Inbox, Name, Opened, Project, Seen};
use crate::session::{Pool, Slot, Work};
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
            pass.events.push(held_event(project, name, held));
        }
    }
}

fn held_event(project: &Project, name: &OsStr, why: &dyn std::fmt::Display) -> Event {
    Event {
        project: Some(project.path().to_owned()),
        task: Some(name.to_string_lossy().into_owned()),
        reason: Some(why.to_string()),
        ..Event::new(EventKind::Held)
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
    fn take(&mut self, wanted: usize, pass: &mut Pass) -> Vec<Work> {
        let (mut works, mut passed_over) = (Vec::new(), 0);
        while works.len() < wanted {
            let missing = wanted - works.len();
            let picked = self.pick(missing.max(passed_over).min(READ_TOGETHER));
            if picked.is_empty() {
                break;
            }
            let tasks: Vec<(&Project, &OsStr)> = picked
                .iter()
                .map(|(index, name)| (&self.waiting[*index].project, name.as_os_str()))
                .collect();
            let read = read_all(self.context, &tasks, self.hand == Hand::Rehearsal);
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    pass.take(self.context, Err(error));
                    break;
                }
            };
            for ((index, name), read) in picked.into_iter().zip(read) {
                match self.prepare(&self.waiting[index].project, &name, read) {
                    Ok(Ready::Work(work)) => {
                        works.push(*work);
                        continue;
                    }
                    Ok(Ready::NotForSessions) => {}
                    Ok(Ready::Event(event)) => pass.events.push(event),
                    Err(error) => pass.take(self.context, Err(error)),
                }
                self.queues[index].not_started();
                passed_over += 1;
            }
        }
        works.truncate(wanted);
        works
    }

    /// Those whose turn it is, up to `count`: the project's index and the file's name.
    fn pick(&mut self, count: usize) -> Vec<(usize, OsString)> {
        let waiting = self.waiting;
        let next =
            || plan::next(&mut self.queues, |index, name| modified(&waiting[index].project, name));
        std::iter::from_fn(next).take(count).collect()
    }

    fn prepare(&self, project: &Project, name: &OsStr, read: Result<Readable>) -> Result<Ready> {
        let Read { name: task_name, seen, task, .. } = match read? {
            Ok(read) => read,
            Err(event) => return Ok(event.map_or(Ready::NotForSessions, Ready::Event)),
        };
        if self.is_left_to_scan(&task) {
            return Ok(Ready::NotForSessions);
        }
        if project.path().to_str().is_none() {
            // Neither a marker nor a shell script can name it.
            let why = "the path of its project is not UTF-8: rename the directory";
            return Ok(Ready::Event(held_event(project, name, &why)));
        }
        if self.trust.as_ref().is_some_and(|trust| trust.refuses(project.path())) {
            let why = Trust::advice(project.path());
            return Ok(Ready::Event(held_event(project, name, &why)));
        }
        Ok(Ready::Work(Box::new(Work { project: project.clone(), name: task_name, seen, task })))
    }

    fn is_left_to_scan(&self, task: &task::Task) -> bool {
        self.hand == Hand::Assign && self.context.destination(&task.header.routing).is_remote()
    }
}

enum Ready {
    Work(Box<Work>),
    /// It was held back, or filed.
    Event(Event),
    /// It is gone, or somebody else's.
    NotForSessions,
}

/// A waiting task, read whole.
pub(super) struct Read {
    pub(super) name: Name,
    pub(super) seen: Seen,
    pub(super) text: String,
    pub(super) task: task::Task,
}

/// A waiting task that was read, or the event of one that is held back or was
/// filed as no agent's work; none where it has just gone.
pub(super) type Readable = Result<Read, Option<Event>>;

/// Reads waiting tasks, with one look at who writes to them. The outer error is
/// of that look.
pub(super) fn read_all(
    context: Context<'_>,
    tasks: &[(&Project, &OsStr)],
    rehearsal: bool,
) -> Result<Vec<Result<Readable>>> {
    let names: Vec<Result<Name, Held>> = tasks.iter().map(|(_, name)| Name::new(name)).collect();
    let valid = tasks
        .iter()
        .zip(&names)
        .filter_map(|((project, _), name)| Some((*project, name.as_ref().ok()?)));
    let mut opened = queue::open_all(&valid.collect::<Vec<_>>())?.into_iter();
    let read = tasks.iter().zip(names).map(|((project, file), name)| {
        let name = match name {
            Ok(name) => name,
            Err(held) => return Ok(Err(Some(held_event(project, file, &held)))),
        };
        let opened = opened.next().unwrap_or(Ok(Err(Held::Gone)))?;
        readable(context, project, name, opened, rehearsal)
    });
    Ok(read.collect())
}

fn readable(
    context: Context<'_>,
    project: &Project,
    name: Name,
    opened: Result<Opened, Held>,
    rehearsal: bool,
) -> Result<Readable> {
    let Opened { seen, text } = match opened {
        Ok(opened) => opened,
        Err(Held::Gone) => return Ok(Err(None)),
        Err(held) => {
            let event = held_event(project, name.as_str().as_ref(), &held);
            return Ok(Err(Some(event)));
        }
    };
    match text {
        Ok(text) => Ok(Ok(Read { name, seen, task: task::parse(&text), text })),
        Err(unfit) => {
            let ending = Ending::unworked(context.now, unfit.to_string());
            let filed = rehearsal || project.reject(&name, &seen, &ending)?.is_some();
            Ok(Err(filed.then(|| Event {
                event: EventKind::Failed,
                ..held_event(project, name.as_str().as_ref(), &unfit)
            })))
        }
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
        let what = format!("{} → {}", work.name, slot.name());
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
            project: Some(work.project.path().to_owned()),
            task: Some(work.name.to_string()),
            session: Some(session),
            provider: Some(Provider::ClaudeCode),
            model: (config.agent.kind == AgentKind::Claude).then(|| {
                let models = &config.dispatcher.models;
                models.for_priority(work.task.header.priority).to_owned()
            }),
            ..Event::new(EventKind::Dispatched)
        });
    }
}
