//! Every task that has not ended, what each project holds, and the last day.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Error, Result};
use uuid::Uuid;

use super::{DAY, Problems};
use crate::checkout::{self, ListedWorktree};
use crate::command::trust::Trusts;
use crate::command::waits::{self, Waits};
use crate::command::{Context, preconditions};
use crate::hold::{Choice, Holds, Lineup, Wanted};
use crate::marker::{self, ClaimedCheckout, Phase, ToLand};
use crate::money::Totals;
use crate::pause;
use crate::process::OpenFiles;
use crate::queue::{Folder, Held, Inbox, Name, Outlook, Project, Skip, TaskRef};
use crate::remote;
use crate::report::{
    DayRow, ProjectRow, RecurringRow, RecurringState, Status, TaskRow, TaskState, ToLandRow,
    WorktreeRow,
};
use crate::session::{Pool, Session};
use crate::spend;
use crate::task::{Header, Isolation, Outcome, Priority, ProjectRules, Provider};
use crate::text::path_text;

/// How many of each project's next tasks are looked at closely. Of those behind them only the priority is shown.
const CLOSELY: usize = 1000;

/// Reads all projects and writes rows. One that cannot be read does not hide the others.
struct Collector<'a, 'p> {
    context: Context<'a>,
    /// Which pool this is; `None` where it has never claimed a task.
    owner: Option<Uuid>,
    trusts: Trusts<'a>,
    lineup: Lineup<'a>,
    waits: Waits,
    problems: &'p mut Problems<'a>,
    status: &'p mut Status,
    /// What ended, by who worked on it: the local agent first, what nobody worked on last.
    last_day: Vec<(DayRow, Totals)>,
}

/// Adds what the projects hold, and what ended in the last day.
pub(super) fn add<'a>(
    context: Context<'a>,
    pool: &Pool<'_>,
    projects: &[Project],
    problems: &mut Problems<'a>,
    status: &mut Status,
) {
    let owner = pool.owner().unwrap_or_else(|error| {
        problems.note(&error);
        None
    });
    let last_day = Provider::ALL.map(Some).into_iter().chain([None]);
    let last_day = last_day
        .map(|provider| (DayRow { provider, ..DayRow::default() }, Totals::default()))
        .collect();
    let mut collector = Collector {
        context,
        owner,
        trusts: Trusts::default(),
        lineup: Holds::new(context.config, context.now).lineup(),
        waits: Waits::new(context.now),
        problems,
        status,
        last_day,
    };
    for project in projects {
        if let Err(error) = collector.add(project) {
            collector.problems.note(&error);
        }
    }
    let Collector { status, last_day, .. } = collector;
    let mut remote_costs = Totals::default();
    for (mut row, costs) in last_day {
        if row.done + row.failed == 0 {
            continue;
        }
        row.cost = costs.costs();
        if row.provider.is_some_and(Provider::is_remote) {
            status.delegated.done_24h += row.done;
            status.delegated.failed_24h += row.failed;
            row.cost.iter().for_each(|cost| remote_costs.add(cost));
        }
        status.last_24h.push(row);
    }
    status.delegated.cost_24h = remote_costs.costs();
    status.delegated.active = status.delegated.jobs.len();
    status.stale = status.tasks.iter().filter(|task| task.stale).count();
}

impl Collector<'_, '_> {
    fn add(&mut self, project: &Project) -> Result<()> {
        let mut inbox = project.list()?;
        let done = self.ended(project, Folder::Done)?;
        let failed = self.ended(project, Folder::Failed)?;
        // Git is asked only where a task waits: without one, its answer holds up nothing.
        let rules = match inbox.waiting.is_empty() {
            true => self.context.config.project_rules(&project.rules_path()),
            false => {
                preconditions::of_project(self.context.config, project).map(|(rules, _)| rules)
            }
        };
        let (to_land, worktrees) =
            (self.branches_to_land(project), self.worktrees(project, &inbox));
        let paused = pause::read(&project.pause_path());
        let is_paused = paused.is_some() || self.status.paused.is_some();
        self.status.projects.push(ProjectRow {
            path: project.path().to_owned(),
            parallel: rules.as_ref().ok().map(ProjectRules::limit),
            waiting: inbox.waiting.len() + inbox.held.len(),
            dispatched: inbox.dispatched.len(),
            delegated: inbox.delegated.len(),
            done,
            failed,
            paused,
            to_land,
            worktrees,
        });
        self.add_recurring(project)?;
        inbox.dispatched.sort();
        for name in &inbox.dispatched {
            let found = self.dispatched(project, name);
            self.push(project, name, TaskState::Dispatched, found);
        }
        let mut delegated: Vec<TaskRef> = inbox.delegated_tasks().collect();
        delegated.sort_by(|one, other| one.name.cmp(&other.name));
        for task in &delegated {
            let found = self.delegated(task);
            let name = OsStr::new(task.name.as_str());
            self.push(project, name, TaskState::DelegatedToSecutools, found);
        }
        let rules = rules.map_err(|error| format!("{error:#}"));
        // Returned at the end: where it fails, the held files are shown all the same.
        let waiting = self.add_waiting(project, &inbox, &rules, is_paused);
        inbox.held.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, why) in inbox.held {
            let mut row = row(project, &name, TaskState::Held);
            hold(&mut row, why);
            self.status.tasks.push(row);
        }
        waiting
    }

    fn branches_to_land(&mut self, project: &Project) -> Vec<ToLandRow> {
        let found = project.to_land().unwrap_or_else(|error| {
            self.problems.note(&error);
            Vec::new()
        });
        let row = |ToLand { task, branch, reason, .. }| ToLandRow { task, branch, reason };
        found.into_iter().map(row).collect()
    }

    fn worktrees(&mut self, project: &Project, inbox: &Inbox) -> Vec<WorktreeRow> {
        let found = checkout::list_worktrees(project.path()).unwrap_or_else(|error| {
            self.problems.note(&error);
            Vec::new()
        });
        if found.is_empty() {
            return Vec::new();
        }
        let claims: Vec<(&OsString, marker::ClaimMarker)> = inbox
            .dispatched
            .iter()
            // One that cannot be read is reported where its task is.
            .filter_map(|name| Some((name, project.claimant(&Name::new(name).ok()?).ok()??)))
            .collect();
        let row = |ListedWorktree { path, branch, .. }| {
            let has_it = |claim: &marker::ClaimMarker| match &claim.work.checkout {
                Some(ClaimedCheckout::Own { worktree, .. }) => worktree.path == path,
                _ => false,
            };
            let task = claims.iter().find(|(_, claim)| has_it(claim));
            let task = task.map(|(name, _)| path_text(Path::new(name)));
            WorktreeRow { task, path, branch }
        };
        found.into_iter().map(row).collect()
    }

    fn ended(&mut self, project: &Project, folder: Folder) -> Result<usize> {
        let ended = project.ended(folder, self.context.now - DAY)?;
        for ending in &ended.lately {
            let provider = ending.as_ref().and_then(|ending| ending.provider);
            let row = self.last_day.iter_mut().find(|(row, _)| row.provider == provider);
            let Some((row, costs)) = row else { continue };
            match folder {
                Folder::Done => row.done += 1,
                Folder::Failed | Folder::Inbox => row.failed += 1,
            }
            if let Some(cost) = ending.as_ref().and_then(|ending| ending.cost.as_ref()) {
                costs.add(cost);
            }
        }
        Ok(ended.tasks)
    }

    /// `None` if it has left the inbox meanwhile.
    fn dispatched(&mut self, project: &Project, file: &OsStr) -> Result<Option<TaskRow>> {
        let Ok(name) = Name::new(file) else {
            let reason = "no task can have this name, so nothing touches it: rename or remove it";
            return Ok(Some(TaskRow {
                reason: Some(reason.to_owned()),
                ..row(project, file, TaskState::Dispatched)
            }));
        };
        let file_name = format!("{name}.dispatched");
        let peek = match project.peek(file_name.as_ref()) {
            Ok(peek) => peek,
            Err(Skip::Gone) => return Ok(None),
            Err(Skip::Failed(error)) => return Err(error),
            Err(held) => return Err(Error::msg(format!("{file_name}: {held}"))),
        };
        let mut row = TaskRow {
            priority: Some(peek.head.priority),
            title: peek.head.title,
            provider: Some(Provider::ClaudeCode),
            since: peek.modified,
            ..row(project, file, TaskState::Dispatched)
        };
        let claim = match project.claimant(&name) {
            Ok(claim) => claim,
            Err(error) => {
                row.reason = Some(self.problems.note(&error.into()));
                return Ok(Some(row));
            }
        };
        // A task that was filed between the two looks has no claim either.
        if !project.dispatched_path(&name).exists() {
            return Ok(None);
        }
        let Some(claim) = claim else {
            row.reason =
                Some(format!("nobody has claimed it: rename it to {name} to have it worked on"));
            return Ok(Some(row));
        };
        if claim.phase == Phase::Checking {
            row.state = TaskState::Checking;
        }
        let age = self.context.now.duration_since(claim.started_at);
        row.stale = age.unsigned_abs() > self.context.config.dispatcher.stale_after;
        row.since = Some(claim.started_at);
        row.attempt = Some(claim.attempt);
        row.reason = self.odd_claim(project, &name, &claim)?;
        let behind = claim.lands_behind();
        row.waits = behind.map(|behind| format!("its turn to land, behind {behind}"));
        row.is_elsewhere = Some(claim.owner) != self.owner;
        row.session = Some(claim.session);
        Ok(Some(row))
    }

    /// Why no session of this pool works on the task, although it is claimed.
    fn odd_claim(
        &self,
        project: &Project,
        name: &Name,
        claim: &marker::ClaimMarker,
    ) -> Result<Option<String>> {
        if Some(claim.owner) != self.owner {
            return Ok(Some(format!(
                "another pool has it: session {} on {}",
                claim.session, claim.stamp.host
            )));
        }
        let session = Session::new(&self.context.config.state_dir, &claim.session);
        // An unreadable marker is reported where the session is.
        let is_known =
            session.dispatched().map_or(true, |found| found.is_some_and(|it| it.run == claim.run));
        // The claim is read once more: the task may have been filed since, and its session be free.
        if is_known || project.claimant(name)?.as_ref() != Some(claim) {
            return Ok(None);
        }
        Ok(Some(format!(
            "{} does not know of it any more: rename it to {name} to have it worked on again",
            claim.session
        )))
    }

    /// `None` if it has left the inbox meanwhile.
    fn delegated(&mut self, task: &TaskRef) -> Result<Option<TaskRow>> {
        let Some(job) = remote::job_row(task)? else {
            return Ok(None);
        };
        let name = OsStr::new(task.name.as_str());
        let head = task.project.peek(name).ok().map(|peek| peek.head);
        let row = TaskRow {
            priority: head.as_ref().map(|head| head.priority),
            title: head.and_then(|head| head.title),
            provider: job.provider,
            job_id: job.job_id.clone(),
            since: job.since,
            reason: job.reason.clone(),
            ..row(&task.project, name, TaskState::delegated_to(job.provider))
        };
        self.status.delegated.jobs.push(job);
        Ok(Some(row))
    }

    /// The waiting tasks in the order of their turns.
    fn add_waiting(
        &mut self,
        project: &Project,
        inbox: &Inbox,
        rules: &Result<ProjectRules, String>,
        is_paused: bool,
    ) -> Result<()> {
        let turns = project.turns(&inbox.waiting)?.into_iter();
        let mut order: Vec<(Priority, OsString)> =
            turns.map(|(turn, name)| (turn.priority, name)).collect();
        order.sort_unstable();
        let first = self.status.tasks.len();
        let mut files = Vec::new();
        // Of the rows behind the first `CLOSELY` only the priority is known.
        let (mut by_default, mut refusals) = (HashMap::new(), HashMap::new());
        for (index, (priority, name)) in order.iter().enumerate() {
            let mut row =
                TaskRow { priority: Some(*priority), ..row(project, name, TaskState::Waiting) };
            if index < CLOSELY {
                match project.peek(name) {
                    Ok(peek) => {
                        files.push((self.status.tasks.len(), peek.file));
                        let of_project = rules.as_ref().ok().and_then(|it| it.agent.as_deref());
                        self.describe_waiting(&mut row, of_project, &peek);
                        let task = spend::task_key(project.path(), &name.to_string_lossy());
                        let wanted = self.context.wanted(&task, &peek.head, of_project);
                        let refusal = self.trusts.refusal_of(&self.lineup, wanted, project.path());
                        refusals.insert(self.status.tasks.len(), refusal);
                        if let Ok(rules) = rules {
                            let rules_of_task = rules.for_task(&peek.head.rules);
                            let capacity = waits_for_capacity(
                                rules,
                                rules_of_task.isolation,
                                &inbox.dispatched,
                            );
                            row.waits = capacity.or_else(|| self.waits_for_agent(wanted));
                        }
                        if row.provider.is_some_and(Provider::is_remote) {
                            // It needs no session and no worktree here.
                            row.waits = None;
                        } else if let Ok(rules) = rules
                            && rules.for_task(&peek.head.rules).isolation == Isolation::Worktree
                            && let Some(why) = waits::why_to_land(project, &peek.head.order)?
                        {
                            row.waits = Some(why);
                        }
                        self.describe_order(&mut row, inbox, name, &peek)?;
                        // What waits for ever still does once the pause is over, so that stays its reason.
                        if is_paused && row.state == TaskState::Waiting && row.stuck.is_none() {
                            row.waits = Some("it is paused, until `ccl resume`".to_owned());
                        }
                    }
                    // An agent or another pass has it by now.
                    Err(Skip::Gone) => continue,
                    Err(Skip::Failed(error)) => row.reason = Some(self.problems.note(&error)),
                    Err(held) => hold(&mut row, held),
                }
            }
            self.status.tasks.push(row);
        }
        // Where open files cannot be seen, the tasks are shown as waiting.
        if !files.is_empty()
            && let Ok(open) = OpenFiles::look()
        {
            for (index, file) in files {
                if open.has_writer(file) {
                    hold(&mut self.status.tasks[index], Held::BeingWritten);
                }
            }
        }
        for (index, row) in self.status.tasks.iter_mut().enumerate().skip(first) {
            let is_local = row.provider.is_none_or(|provider| !provider.is_remote());
            if is_local && row.state == TaskState::Waiting {
                let refusal = refusals.remove(&index).unwrap_or_else(|| {
                    let priority = row.priority.unwrap_or_default();
                    // Which agent it gets depends on its model, and that on its priority.
                    let refusal = by_default.entry(priority).or_insert_with(|| {
                        let header = Header { priority, ..Header::default() };
                        let of_project = rules.as_ref().ok().and_then(|it| it.agent.as_deref());
                        let wanted = self.context.wanted("", &header, of_project);
                        self.trusts.refusal_of(&self.lineup, wanted, project.path())
                    });
                    refusal.clone()
                });
                if let Some(why) = refusal.or_else(|| rules.as_ref().err().cloned()) {
                    hold(row, why);
                }
            }
            if row.state == TaskState::Held {
                row.waits = None;
            }
        }
        Ok(())
    }

    /// Whether every agent that may have the task is held, and until when.
    fn waits_for_agent(&self, wanted: Wanted<'_>) -> Option<String> {
        match self.lineup.choose(wanted) {
            Choice::Agent { .. } => None,
            Choice::Wait(why) | Choice::Last(why) => Some(why),
        }
    }

    /// Says for what time or tasks it waits.
    fn describe_order(
        &mut self,
        row: &mut TaskRow,
        inbox: &Inbox,
        name: &OsStr,
        peek: &crate::queue::Peek,
    ) -> Result<()> {
        let order = &peek.head.order;
        if let Some(wrong) = order.obstacle() {
            hold(row, wrong);
        } else if let Some(task) = inbox.task(name) {
            if let Some(why) = self.waits.why_in_full(&task, order)? {
                row.waits = Some(why);
            }
            row.stuck = self.waits.in_vain(&task, order)?;
        }
        Ok(())
    }

    fn add_recurring(&mut self, project: &Project) -> Result<()> {
        for recurring in project.recurring()? {
            let outlook = recurring
                .outlook(self.context.now)
                .unwrap_or_else(|error| Some(Outlook::held(None, self.problems.note(&error))));
            let Some(Outlook { schedule, next, held, is_over }) = outlook else { continue };
            self.status.recurring.push(RecurringRow {
                project: project.path().to_owned(),
                name: recurring.name().to_owned(),
                state: match held {
                    Some(_) => RecurringState::Held,
                    None if is_over => RecurringState::Over,
                    None => RecurringState::Ready,
                },
                schedule,
                next,
                reason: held,
            });
        }
        Ok(())
    }

    fn describe_waiting(
        &self,
        row: &mut TaskRow,
        of_project: Option<&str>,
        peek: &crate::queue::Peek,
    ) {
        row.title.clone_from(&peek.head.title);
        row.since = peek.modified;
        row.provider = Some(self.context.destination(&peek.head, of_project));
        if let Some(ending) = &peek.ending
            && ending.outcome == Outcome::Released
        {
            row.attempt = Some(ending.attempt + 1);
            row.reason = ending.reason.as_ref().map(|reason| format!("the last attempt: {reason}"));
        }
        if !peek.is_single {
            hold(row, Held::SecondLink);
        }
    }

    /// Adds the row of a task that was handed out; one that cannot be read has the error as its reason.
    fn push(
        &mut self,
        project: &Project,
        name: &OsStr,
        state: TaskState,
        found: Result<Option<TaskRow>>,
    ) {
        let found = found.unwrap_or_else(|error| {
            let reason = Some(self.problems.note(&error));
            Some(TaskRow { reason, ..row(project, name, state) })
        });
        self.status.tasks.extend(found);
    }
}

/// Which agents at work a task of the project waits for, if any.
fn waits_for_capacity(
    rules: &ProjectRules,
    isolation: Isolation,
    at_work: &[OsString],
) -> Option<String> {
    let max_others = rules.max_others(isolation)?;
    match at_work {
        _ if at_work.len() <= max_others => None,
        [only] => Some(format!("the checkout is in use by {}", path_text(Path::new(only)))),
        more => {
            Some(format!("{} agents are at work in the project, as many as may be", more.len()))
        }
    }
}

fn hold(row: &mut TaskRow, why: impl ToString) {
    row.state = TaskState::Held;
    row.reason = Some(why.to_string());
}

/// A row of which nothing is known but the file's name.
fn row(project: &Project, name: &OsStr, state: TaskState) -> TaskRow {
    TaskRow {
        project: project.path().to_owned(),
        name: path_text(Path::new(name)),
        state,
        ..TaskRow::default()
    }
}
