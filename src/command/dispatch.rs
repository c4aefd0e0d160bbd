//! The local half of `scan`, and of `assign`: which waiting tasks go, and to which agents.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Result, anyhow};

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
use crate::task::{
    self, Ending, Isolation, Order, Priority, ProjectRules, StartFrom, TaskRules, TaskTurn,
};

/// How many tasks are read before one look for those still being written: a look costs some milliseconds, a task up to
/// a megabyte of memory.
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

/// The next tasks that can be launched, up to `wanted`, in the order of [`plan::next`]. Others are passed over, with
/// the reason.
pub(super) fn choose(
    context: Context<'_>,
    inboxes: &[Inbox],
    wanted: usize,
    mode: Mode,
    pass: &mut Pass,
) -> Vec<Assignment> {
    // Without a free session no file is opened, not even to find the order.
    if wanted == 0 {
        return Vec::new();
    }
    let dry_run = mode == Mode::DryRun;
    let (mut waits, mut agents) = (Waits::new(context.now), AgentChooser::new(context));
    let Candidates { mut queues, mut last, dependents } =
        Candidates::list(context, inboxes, &waits, &mut agents, pass);
    let mut admission = AdmissionControl::new(context, inboxes, agents);
    let (mut chosen, mut passed_over) = (Vec::new(), 0);
    // Where each agent is held or has its probe, no further task can go: the rest is not read to find that out.
    while chosen.len() < wanted && admission.agents.lineup.has_capacity() {
        // Reads as many tasks as are wanted, and more once many were passed over: what is not used goes on waiting.
        let count = (wanted - chosen.len()).max(passed_over).min(READ_TOGETHER);
        let (indices, tasks) = next_in_turn(inboxes, &mut queues, count, |index, task| {
            let Some(order) = dependents[index].get(OsStr::new(task.name.as_str())) else {
                return true;
            };
            let admitted = waits.admit(&task.project, order);
            admitted.map_err(|skip| pass_over(context, task, skip, dry_run, pass)).is_ok()
        });
        if tasks.is_empty() {
            if last.is_empty() {
                break;
            }
            // No other task is left that could be the probe. This comes once: `last` is empty then.
            queues = std::mem::take(&mut last);
            admission.agents.lineup.take_last();
            continue;
        }
        // An error means that nobody knows which files are still being written: then none is taken.
        let Some(read) = pass.ok(context, queue::read_all(tasks)) else {
            break;
        };
        for (index, read) in indices.into_iter().zip(read) {
            let (at, skip) = match read {
                Read::Task(task) => match admission.admit(index, &task, mode, &mut waits) {
                    Ok(Admission { rules, max_others, repository, who }) => {
                        chosen.push(Assignment { task: *task, rules, max_others, repository, who });
                        continue;
                    }
                    Err(skip) => (task.at, skip),
                },
                Read::Skipped(at, skip) => (at, skip),
            };
            match skip {
                // None of its other tasks can go either, so none of them is read.
                Skip::Full | Skip::ProjectHeld(_) => queues[index].close(),
                _ => queues[index].not_started(),
            }
            pass_over(context, &at, skip, dry_run, pass);
            passed_over += 1;
        }
    }
    // More may have been read, and admitted, than were wanted.
    chosen.truncate(wanted);
    admission.agents.say_who_is_held(pass);
    chosen
}

/// What may go, as far as the first bytes of the files say: a queue for each inbox.
struct Candidates {
    queues: Vec<Queue>,
    /// The tasks that an agent takes only where no other one can be its probe: they come behind all others.
    last: Vec<Queue>,
    /// The orders of the tasks that depend on others. They are few, and are looked at when their turn comes.
    dependents: Vec<HashMap<OsString, Order>>,
}

impl Candidates {
    fn list(
        context: Context<'_>,
        inboxes: &[Inbox],
        waits: &Waits,
        agents: &mut AgentChooser<'_>,
        pass: &mut Pass,
    ) -> Self {
        let mut found = Self { queues: Vec::new(), last: Vec::new(), dependents: Vec::new() };
        for inbox in inboxes {
            let turns = pass.ok(context, inbox.project.turns(&inbox.waiting)).unwrap_or_default();
            let (mut waiting, mut depend) = (Vec::with_capacity(turns.len()), HashMap::new());
            let mut waiting_last = Vec::new();
            for (turn, name) in turns {
                // What cannot go now is neither looked at again nor read, however much of it waits.
                if waits.is_early(&turn.order) {
                    continue;
                }
                let queue = match agents.eligible(&inbox.project, &name, &turn) {
                    Eligible::Now => &mut waiting,
                    Eligible::Last => &mut waiting_last,
                    Eligible::Later => continue,
                };
                let TaskTurn { priority, order, .. } = turn;
                if !order.depends_on.is_empty() {
                    depend.insert(name.clone(), order);
                }
                queue.push((priority, name));
            }
            found.queues.push(Queue::new(inbox.dispatched.len(), waiting));
            found.last.push(Queue::new(inbox.dispatched.len(), waiting_last));
            found.dependents.push(depend);
        }
        found
    }
}

/// When an agent takes a task.
enum Eligible {
    Now,
    /// Behind all others: it was a probe before, and its agent's hold had not ended.
    Last,
    Later,
}

/// Chooses the agent of each task.
struct AgentChooser<'a> {
    context: Context<'a>,
    lineup: Lineup<'a>,
    /// What the Claude Code of each agent trusts; read once the agent is chosen.
    trust: HashMap<&'a str, Trust>,
    /// The agent that each project is pinned to, by its path; read once an agent is held.
    pinned: HashMap<PathBuf, Option<String>>,
    /// Why the first task that waits for an agent does so. It is reported once, and for all of them.
    waits: Option<String>,
}

impl<'a> AgentChooser<'a> {
    fn new(context: Context<'a>) -> Self {
        let lineup = Holds::new(context.config, context.now).lineup();
        Self { context, lineup, trust: HashMap::new(), pinned: HashMap::new(), waits: None }
    }

    /// When some agent takes the task, as far as its turn shows. Where all are ready nothing is looked up.
    fn eligible(&mut self, project: &Project, name: &OsStr, turn: &TaskTurn) -> Eligible {
        if self.lineup.is_all_ready() {
            return Eligible::Now;
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
            Choice::Agent { .. } => Eligible::Now,
            Choice::Last(_) => Eligible::Last,
            Choice::Wait(_) => Eligible::Later,
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

    /// The agent of a task that goes.
    fn assign_agent(
        &mut self,
        task: &WaitingTask,
        of_project: Option<&str>,
    ) -> Result<ChosenAgent, Skip> {
        let header = &task.task.header;
        let pinned = header.pin.agent.as_deref().or(of_project);
        let name = spend::task_key(task.at.project.path(), task.at.name.as_str());
        let choice = self.choose(&name, pinned, header.priority, header.pin.model.as_deref());
        let Choice::Agent { agent, model, is_probe, .. } = choice else {
            return Err(Skip::NotYet);
        };
        if agent.kind == AgentKind::Claude {
            let read = || Trust::read(&agent.claude);
            let trust = self.trust.entry(&agent.name).or_insert_with(read);
            let project = task.at.project.path();
            if trust.refuses(project) {
                return Err(Skip::HeldBecause(trust.advice(project)));
            }
        }
        if is_probe {
            // At once: the next task of this pass must not become a second probe.
            self.lineup.note_probe(agent, model.as_deref());
        }
        Ok(ChosenAgent { name: agent.name.clone(), model, is_probe })
    }

    /// An agent that cannot be used is a failure of the pass; one that is held is none.
    fn say_who_is_held(&self, pass: &mut Pass) {
        let mut unusable = Vec::new();
        for (_, availability) in self.lineup.rows() {
            if let Readiness::Unusable(why) = availability.worst() {
                pass.fail(self.context, &anyhow!("{why}"));
                unusable.push(why);
            }
        }
        // What was just reported as a failure is not repeated.
        if let Some(why) = self.waits.as_ref().filter(|why| !unusable.contains(why)) {
            self.context.log.notice(format_args!("tasks wait for {why}"));
        }
    }
}

/// The projects that tasks are chosen from: what each says of its tasks, read at most once in a pass, and how many of
/// its tasks are at work or chosen.
struct AdmissionControl<'a> {
    context: Context<'a>,
    rules: Vec<Rules>,
    at_work: Vec<usize>,
    agents: AgentChooser<'a>,
}

enum Rules {
    Unread,
    /// With the repository, where its tasks have worktrees.
    Read(Box<ProjectRules>, Option<Repository>),
    /// None of the project's tasks goes in this pass, which was reported.
    Held,
}

/// Leave for a task to go: the rest of its [`Assignment`].
struct Admission {
    rules: TaskRules,
    max_others: Option<usize>,
    repository: Option<Repository>,
    who: ChosenAgent,
}

impl<'a> AdmissionControl<'a> {
    fn new(context: Context<'a>, inboxes: &[Inbox], agents: AgentChooser<'a>) -> Self {
        Self {
            context,
            agents,
            rules: inboxes.iter().map(|_| Rules::Unread).collect(),
            at_work: inboxes.iter().map(|inbox| inbox.dispatched.len()).collect(),
        }
    }

    /// Admits the task of the project at `index` if nothing of its own stands in its way, its project has capacity and
    /// an agent takes it.
    fn admit(
        &mut self,
        index: usize,
        task: &WaitingTask,
        mode: Mode,
        waits: &mut Waits,
    ) -> Result<Admission, Skip> {
        let (project, header) = (&task.at.project, &task.task.header);
        if mode == Mode::Assign && is_remote(self.context, task) {
            return Err(Skip::NotYet);
        }
        // Its file may have changed since its first bytes were read.
        waits.admit(project, &header.order)?;
        // Neither a marker nor the agent's script can name a path that is not UTF-8.
        if project.path().to_str().is_none() {
            let why = "the path of its project is not UTF-8: rename the directory";
            return Err(Skip::HeldBecause(why.to_owned()));
        }
        if let Rules::Unread = self.rules[index] {
            match preconditions::of_project(self.context.config, project) {
                Ok((rules, repository)) => {
                    self.rules[index] = Rules::Read(Box::new(rules), repository);
                }
                Err(why) => {
                    self.rules[index] = Rules::Held;
                    return Err(Skip::ProjectHeld(format!("{why:#}")));
                }
            }
        }
        // This one was read together with the task that found the project held, which was reported then.
        let Rules::Read(of_project, repository) = &self.rules[index] else {
            return Err(Skip::Full);
        };
        let is_full = |most: Option<usize>| most.is_some_and(|most| self.at_work[index] > most);
        let mut rules = of_project.for_task(&header.rules);
        let max_others = of_project.max_others(rules.isolation);
        if is_full(max_others) {
            // Where only this task's isolation is full, one behind it may still go. Where the project's own is, the
            // project is not read to its end.
            return Err(match is_full(of_project.max_others(of_project.task.isolation)) {
                true => Skip::Full,
                false => Skip::NotYet,
            });
        }
        // The project's own rules were looked at above; only other ones need a look of their own.
        let is_other = (rules.isolation, &rules.protect)
            != (of_project.task.isolation, &of_project.task.protect);
        let repository = match is_other {
            false => repository.clone(),
            true => preconditions::of_task(project, of_project, &rules)
                .map_err(|why| Skip::HeldBecause(format!("{why:#}")))?,
        };
        if rules.isolation == Isolation::Worktree && !header.order.depends_on.is_empty() {
            let branches = waits::branches(project, &header.order)?;
            match task::start_from(&waits::borrowed(&branches)) {
                StartFrom::Base => {}
                StartFrom::Branch(branch) => rules.base = Some(branch.to_owned()),
                StartFrom::WaitsFor(_) => return Err(Skip::NotYet),
            }
        }
        let who = self.agents.assign_agent(task, of_project.agent.as_deref())?;
        self.at_work[index] += 1;
        Ok(Admission { rules, max_others, repository, who })
    }
}

/// Whether the task leaves this machine.
fn is_remote(context: Context<'_>, task: &WaitingTask) -> bool {
    let pin = context.pin_of(&task.at.project);
    context.destination(&task.task.header, pin.as_deref()).is_remote()
}

/// The next tasks in turn, up to `count`, each with the index of its project. What `may_go` refuses is passed over
/// without a look into its file.
fn next_in_turn(
    inboxes: &[Inbox],
    queues: &mut [Queue],
    count: usize,
    mut may_go: impl FnMut(usize, &TaskRef) -> bool,
) -> (Vec<usize>, Vec<TaskRef>) {
    let (mut indices, mut tasks) = (Vec::new(), Vec::new());
    while tasks.len() < count {
        let since = |index: usize, name: &OsStr| inboxes[index].modified(name);
        let Some((index, name)) = plan::next(queues, since) else {
            break;
        };
        let task = inboxes[index].task(&name);
        match task.filter(|task| may_go(index, task)) {
            Some(task) => {
                indices.push(index);
                tasks.push(task);
            }
            None => queues[index].not_started(),
        }
    }
    (indices, tasks)
}

/// Passes over a task that does not go now, and says what a person has to know of that; a file that can never be a task
/// is filed as failed.
pub(super) fn pass_over(
    context: Context<'_>,
    at: &TaskRef,
    skip: Skip,
    dry_run: bool,
    pass: &mut Pass,
) {
    match skip {
        Skip::Unfit(seen, unfit) => {
            let why = unfit.to_string();
            let ending = Ending::unworked(context.now, why.clone());
            let reject = || {
                let place = (at.project.path(), at.name.as_str());
                let file = || at.project.reject(&at.name, &seen, &ending);
                context.records.file_and_record(place, &ending, || Ok(None), file)
            };
            // Where another pass was faster, that one reports it.
            let filed = dry_run || pass.ok(context, reject()).flatten().is_some();
            if filed {
                pass.events.push(at.event(EventKind::Failed).because(why));
            }
        }
        Skip::Failed(error) => pass.fail(context, &error),
        skip => pass.events.extend(skip.event(at)),
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
    hand_out(context, slots, tasks, pass, |slot, assignment| {
        let what = format!("{} → {}", assignment.task.at.name, slot.name());
        let _waiting = context.progress.wait_for(&what);
        pool.launch(slot, assignment)
    });
}

/// The dry run of [`launch`]: reports what that would do in the free sessions of these names.
pub(super) fn launch_dry_run(
    context: Context<'_>,
    pool: &Pool<'_>,
    free: Vec<String>,
    tasks: Vec<Assignment>,
    pass: &mut Pass,
) {
    hand_out(context, free, tasks, pass, |name, assignment| pool.launch_dry_run(&name, assignment));
}

/// Gives each task to a free session, and reports what came of it.
fn hand_out<F: Send>(
    context: Context<'_>,
    free: Vec<F>,
    tasks: Vec<Assignment>,
    pass: &mut Pass,
    give: impl Fn(F, &Assignment) -> (Vec<Event>, Result<()>) + Sync,
) {
    let all_free = free.len();
    // A slot that gets no task is unlocked before the others are waited for.
    let pairs = free.into_iter().zip(tasks).collect();
    let given =
        concurrent::map(pairs, |(free, assignment): (F, Assignment)| give(free, &assignment));
    // A session that was put on cooldown is not free either.
    let used = given
        .iter()
        .flat_map(|(events, _)| events)
        .filter(|event| matches!(event.event, EventKind::Dispatched | EventKind::Cooldown))
        .count();
    pass.free_sessions = Some(all_free.saturating_sub(used));
    for (events, outcome) in given {
        pass.events.extend(events);
        pass.ok(context, outcome);
    }
}
