//! The local half of `scan`, and of `assign`: which waiting tasks go, and to which agents.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::anyhow;

use super::waits::{self, Waits};
use super::{Context, Pass, preconditions};
use crate::agent::claude::Trust;
use crate::checkout::Repository;
use crate::concurrent;
use crate::config::AgentKind;
use crate::event::{Event, EventKind};
use crate::hold::{Choice, Holds, Lineup, Readiness, Wanted};
use crate::plan::{self, Queue};
use crate::queue::{self, Inbox, Project, Read, Skip, TaskRef, WaitingTask};
use crate::session::{Assignment, ChosenAgent, Pool, Slot};
use crate::spend;
use crate::task::{self, Ending, Isolation, Order, Priority, ProjectRules, StartFrom, TaskTurn};

/// How many tasks are read before one look for those still being written: a look costs some milliseconds, a task up to a
/// megabyte of memory.
pub(super) const READ_TOGETHER: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// `scan` has taken out what is delegated.
    Scan,
    /// What routes to secutools is left to `scan`.
    Assign,
    /// Nothing is changed.
    DryRun,
}

/// Lists the inboxes; a project that cannot be read does not stop the others.
pub(super) fn list(context: Context<'_>, projects: &[Project], pass: &mut Pass) -> Vec<Inbox> {
    projects.iter().filter_map(|project| pass.ok(context, project.list())).collect()
}

/// The next tasks that can be launched, up to `wanted`, in the order of [`plan::next`]. Others are passed over, with the
/// reason.
pub(super) fn choose(
    context: Context<'_>,
    inboxes: &[Inbox],
    wanted: usize,
    mode: Mode,
    pass: &mut Pass,
) -> Vec<Assignment> {
    // The order would be read from every waiting file.
    if wanted == 0 {
        return Vec::new();
    }
    let mut waits = Waits::new(context.now);
    let mut agents = AgentChooser::new(context);
    // Those that an agent takes only where no other task can be its probe come behind all others.
    let (mut queues, mut last) = (Vec::new(), Vec::new());
    // Few depend on others: what those say is kept until their turn comes.
    let mut dependents: Vec<HashMap<OsString, Order>> = Vec::new();
    for inbox in inboxes {
        let turns = pass.ok(context, inbox.project.turns(&inbox.waiting)).unwrap_or_default();
        let (mut waiting, mut depend) = (Vec::with_capacity(turns.len()), HashMap::new());
        let mut waiting_last = Vec::new();
        for (turn, name) in turns {
            if waits.is_early(&turn.order) {
                continue;
            }
            let queue = match agents.turn_of(&inbox.project, &name, &turn) {
                Turn::Now => &mut waiting,
                Turn::Last => &mut waiting_last,
                // What no agent takes now is not read, however much of it waits.
                Turn::Later => continue,
            };
            let TaskTurn { priority, order, .. } = turn;
            if !order.depends_on.is_empty() {
                depend.insert(name.clone(), order);
            }
            queue.push((priority, name));
        }
        queues.push(Queue::new(inbox.dispatched.len(), waiting));
        last.push(Queue::new(inbox.dispatched.len(), waiting_last));
        dependents.push(depend);
    }
    let mut projects = ProjectRoom::new(inboxes, agents);
    let (mut chosen, mut passed_over) = (Vec::new(), 0);
    // Behind a probe nothing more goes: what waits is not read to its end to find that out.
    while chosen.len() < wanted && projects.agents.lineup.has_room() {
        // As many as can be used are read together, and more where many had to be passed over: those that are not used go
        // on waiting.
        let count = (wanted - chosen.len()).max(passed_over).min(READ_TOGETHER);
        let (indices, tasks) = next_in_turn(inboxes, &mut queues, count, |index, name| {
            let Some(order) = dependents[index].get(name) else { return false };
            waits.blocks(context, &inboxes[index].project, order, pass)
        });
        if tasks.is_empty() {
            if last.is_empty() {
                break;
            }
            queues = std::mem::take(&mut last);
            projects.agents.lineup.take_last();
            continue;
        }
        let Some(read) = pass.ok(context, queue::read_all(tasks)) else {
            break;
        };
        for (index, read) in indices.into_iter().zip(read) {
            match read {
                Read::Task(task) if mode == Mode::Assign && is_remote(context, &task) => {}
                Read::Task(task) => match obstacle(&task) {
                    Some(why) => pass.events.push(task.at.event(EventKind::Held).because(why)),
                    // It was changed since its head was read.
                    None if waits.blocks(
                        context,
                        &task.at.project,
                        &task.task.header.order,
                        pass,
                    ) => {}
                    None => match projects.admit(context, index, *task, pass) {
                        Admission::Admitted(assignment) => {
                            chosen.push(*assignment);
                            continue;
                        }
                        Admission::Passed => {}
                        Admission::ProjectClosed => queues[index].close(),
                    },
                },
                Read::Skipped(at, skip) => {
                    pass_over(context, &at, skip, mode == Mode::DryRun, pass);
                }
            }
            queues[index].not_started();
            passed_over += 1;
        }
    }
    chosen.truncate(wanted);
    projects.agents.say_who_is_held(pass);
    chosen
}

/// When an agent takes a task.
enum Turn {
    Now,
    /// Behind all others: it was a probe before, in vain.
    Last,
    Later,
}

/// Chooses the agent of each task.
struct AgentChooser<'a> {
    context: Context<'a>,
    lineup: Lineup<'a>,
    /// Whom the Claude Code of each agent trusts, once one has been chosen.
    trust: HashMap<&'a str, Trust>,
    /// The agent that each project is pinned to, by its path; read once an agent is held.
    pinned: HashMap<PathBuf, Option<String>>,
    /// Why some task waits for an agent; said once.
    waits: Option<String>,
}

impl<'a> AgentChooser<'a> {
    fn new(context: Context<'a>) -> Self {
        let lineup = Holds::new(context.config, context.now).lineup();
        Self { context, lineup, trust: HashMap::new(), pinned: HashMap::new(), waits: None }
    }

    /// When some agent takes the task, as far as its turn shows. Where all are ready nothing is looked up.
    fn turn_of(&mut self, project: &Project, name: &OsStr, turn: &TaskTurn) -> Turn {
        if self.lineup.is_all_ready() {
            return Turn::Now;
        }
        let pinned = match (&turn.pin.agent, self.pinned.get(project.path())) {
            (Some(agent), _) => Some(agent.clone()),
            (None, Some(known)) => known.clone(),
            (None, None) => {
                // Rules that cannot be read are reported when the task's turn comes.
                let rules = self.context.config.project_rules(&project.rules_path());
                let agent = rules.ok().and_then(|rules| rules.agent);
                self.pinned.insert(project.path().to_owned(), agent.clone());
                agent
            }
        };
        let task = spend::task_key(project.path(), &name.to_string_lossy());
        match self.choose(&task, pinned.as_deref(), turn.priority, turn.pin.model.as_deref()) {
            Choice::Agent { .. } => Turn::Now,
            Choice::Last(_) => Turn::Last,
            Choice::Wait(_) => Turn::Later,
        }
    }

    fn choose(
        &mut self,
        task: &str,
        pinned: Option<&str>,
        priority: Priority,
        model: Option<&str>,
    ) -> Choice<'a> {
        let models = &self.context.config.dispatcher.models;
        let model = model.unwrap_or_else(|| models.for_priority(priority));
        let choice = self.lineup.choose(Wanted { task, agent: pinned, model });
        if let Choice::Wait(why) = &choice {
            self.waits.get_or_insert_with(|| why.clone());
        }
        choice
    }

    /// The agent of a task that goes; `None` where it waits for one. The error is the reason to hold it.
    fn assign_agent(
        &mut self,
        task: &WaitingTask,
        of_project: Option<&str>,
    ) -> Result<Option<ChosenAgent>, String> {
        let header = &task.task.header;
        let pinned = header.pin.agent.as_deref().or(of_project);
        let name = spend::task_key(task.at.project.path(), task.at.name.as_str());
        let choice = self.choose(&name, pinned, header.priority, header.pin.model.as_deref());
        let Choice::Agent { agent, model, is_probe, .. } = choice else { return Ok(None) };
        if agent.kind == AgentKind::Claude {
            let read = || Trust::read(&agent.claude);
            let trust = self.trust.entry(&agent.name).or_insert_with(read);
            let project = task.at.project.path();
            if trust.refuses(project) {
                return Err(trust.advice(project));
            }
        }
        if is_probe {
            self.lineup.note_probe(agent, model.as_deref());
        }
        Ok(Some(ChosenAgent { name: agent.name.clone(), model, is_probe }))
    }

    /// An agent that cannot be used is a failure of the pass; one that is held is none.
    fn say_who_is_held(&self, pass: &mut Pass) {
        let mut unusable = Vec::new();
        for (_, standing) in self.lineup.rows() {
            if let Readiness::Unusable(why) = standing.worst() {
                pass.fail(self.context, &anyhow!("{why}"));
                unusable.push(why);
            }
        }
        if let Some(why) = self.waits.as_ref().filter(|why| !unusable.contains(why)) {
            self.context.log.notice(format_args!("tasks wait for {why}"));
        }
    }
}

/// The projects that tasks are chosen from: what each says of its tasks, read at most once in a pass, and how many of
/// its tasks are at work or chosen.
struct ProjectRoom<'a> {
    rules: Vec<Rules>,
    at_work: Vec<usize>,
    agents: AgentChooser<'a>,
}

enum Rules {
    Unread,
    /// With the repository, where its tasks have worktrees.
    Read(Box<ProjectRules>, Option<Repository>),
    /// Nothing goes in this pass, which was reported once for all of its tasks.
    Held,
}

enum Admission {
    Admitted(Box<Assignment>),
    /// It has to wait, or is held; another task of the project may go.
    Passed,
    /// Nothing more of the project goes in this pass.
    ProjectClosed,
}

impl<'a> ProjectRoom<'a> {
    fn new(inboxes: &[Inbox], agents: AgentChooser<'a>) -> Self {
        Self {
            agents,
            rules: inboxes.iter().map(|_| Rules::Unread).collect(),
            at_work: inboxes.iter().map(|inbox| inbox.dispatched.len()).collect(),
        }
    }

    /// Admits the task of the project at `index`, where the project has room for it and an agent takes it.
    fn admit(
        &mut self,
        context: Context<'_>,
        index: usize,
        task: WaitingTask,
        pass: &mut Pass,
    ) -> Admission {
        let project = &task.at.project;
        if let Rules::Unread = self.rules[index] {
            self.rules[index] = match preconditions::of_project(context.config, project) {
                Ok((rules, repository)) => Rules::Read(Box::new(rules), repository),
                Err(why) => {
                    let event = Event::of_project(EventKind::Held, project.path());
                    pass.events.push(event.because(format!("{why:#}")));
                    Rules::Held
                }
            };
        }
        let Rules::Read(project_rules, repository) = &self.rules[index] else {
            return Admission::ProjectClosed;
        };
        let is_full = |room: Option<usize>| room.is_some_and(|room| self.at_work[index] > room);
        let mut rules = project_rules.for_task(&task.task.header.rules);
        let room = project_rules.room_beside(rules.isolation);
        if is_full(room) {
            // What waits behind it may want a worktree, but a project that is full as a whole is not read to its end.
            return match is_full(project_rules.room_beside(project_rules.task.isolation)) {
                true => Admission::ProjectClosed,
                false => Admission::Passed,
            };
        }
        // What its project says of all tasks was looked at above.
        let is_other = (rules.isolation, &rules.protect)
            != (project_rules.task.isolation, &project_rules.task.protect);
        let repository = match is_other {
            false => Ok(repository.clone()),
            true => preconditions::of_task(project, project_rules, &rules),
        };
        let repository = match repository {
            Ok(repository) => repository,
            Err(why) => {
                let event = task.at.event(EventKind::Held);
                pass.events.push(event.because(format!("{why:#}")));
                return Admission::Passed;
            }
        };
        if rules.isolation == Isolation::Worktree && !task.task.header.order.depends_on.is_empty() {
            let branches = waits::branches(project, &task.task.header.order);
            let Some(branches) = pass.ok(context, branches) else { return Admission::Passed };
            match task::start_from(&waits::borrowed(&branches)) {
                StartFrom::Base => {}
                StartFrom::Branch(branch) => rules.base = Some(branch.to_owned()),
                StartFrom::WaitsFor(_) => return Admission::Passed,
            }
        }
        let who = match self.agents.assign_agent(&task, project_rules.agent.as_deref()) {
            Ok(Some(who)) => who,
            Ok(None) => return Admission::Passed,
            Err(why) => {
                pass.events.push(task.at.event(EventKind::Held).because(why));
                return Admission::Passed;
            }
        };
        self.at_work[index] += 1;
        Admission::Admitted(Box::new(Assignment { task, rules, room, repository, who }))
    }
}

/// Whether the task leaves this machine.
fn is_remote(context: Context<'_>, task: &WaitingTask) -> bool {
    let pin = context.pin_of(&task.at.project);
    context.destination(&task.task.header, pin.as_deref()).is_remote()
}

/// Those whose turn it is, up to `count`: the index of each one's project, and the task. What `waits` is passed over
/// without a look into its file.
fn next_in_turn(
    inboxes: &[Inbox],
    queues: &mut [Queue],
    count: usize,
    mut waits: impl FnMut(usize, &OsStr) -> bool,
) -> (Vec<usize>, Vec<TaskRef>) {
    let (mut indices, mut tasks) = (Vec::new(), Vec::new());
    while tasks.len() < count {
        let since = |index: usize, name: &OsStr| inboxes[index].modified(name);
        let Some((index, name)) = plan::next(queues, since) else {
            break;
        };
        if waits(index, &name) {
            queues[index].not_started();
        } else if let Some(task) = inboxes[index].task(&name) {
            indices.push(index);
            tasks.push(task);
        }
    }
    (indices, tasks)
}

/// Why no agent can be started for this task.
fn obstacle(task: &WaitingTask) -> Option<String> {
    if let Some(wrong) = task.task.header.order.obstacle() {
        return Some(wrong);
    }
    // Neither a marker nor a shell script can name it.
    let is_text = task.at.project.path().to_str().is_some();
    (!is_text).then(|| "the path of its project is not UTF-8: rename the directory".to_owned())
}

/// Reports a file that is no task to hand out; one that can never be is filed as failed.
pub(super) fn pass_over(
    context: Context<'_>,
    at: &TaskRef,
    skip: Skip,
    dry_run: bool,
    pass: &mut Pass,
) {
    match skip {
        Skip::Gone | Skip::Full => {}
        Skip::Held(held) => {
            pass.events.push(at.event(EventKind::Held).because(held.to_string()));
        }
        Skip::Unfit(seen, unfit) => {
            let why = unfit.to_string();
            let ending = Ending::unworked(context.now, why.clone());
            let reject = || {
                let place = (at.project.path(), at.name.as_str());
                let file = || at.project.reject(&at.name, &seen, &ending);
                context.records.file_and_record(place, &ending, || Ok(None), file)
            };
            let filed = dry_run || pass.ok(context, reject()).flatten().is_some();
            if filed {
                pass.events.push(at.event(EventKind::Failed).because(why));
            }
        }
        Skip::Failed(error) => pass.fail(context, &error),
    }
}

/// Gives each task to one of the slots, all at once.
pub(super) fn launch(
    context: Context<'_>,
    pool: &Pool<'_>,
    slots: Vec<Slot>,
    tasks: Vec<Assignment>,
    pass: &mut Pass,
) {
    let free = slots.len();
    // A slot that gets no task is unlocked before the others are waited for.
    let pairs = slots.into_iter().zip(tasks).collect();
    let launched = concurrent::map(pairs, |(slot, assignment): (Slot, Assignment)| {
        let what = format!("{} → {}", assignment.task.at.name, slot.name());
        let _waiting = context.progress.wait_for(&what);
        pool.dispatch(slot, &assignment)
    });
    let used = launched
        .iter()
        .flat_map(|(events, _)| events)
        .filter(|event| matches!(event.event, EventKind::Dispatched | EventKind::Cooldown))
        .count();
    pass.free_sessions = Some(free.saturating_sub(used));
    for (events, outcome) in launched {
        pass.events.extend(events);
        pass.ok(context, outcome);
    }
}
