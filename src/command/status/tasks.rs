//! Every task that has not ended, what each project holds, and the last day.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Error, Result};
use uuid::Uuid;

use super::{DAY, Problems};
use crate::agent::claude::Trust;
use crate::command::Context;
use crate::config::AgentKind;
use crate::marker;
use crate::money::Totals;
use crate::process::OpenFiles;
use crate::queue::{Folder, Held, Inbox, Name, Project, Skip};
use crate::remote;
use crate::report::{DayRow, ProjectRow, Status, TaskRow, TaskState};
use crate::session::{Pool, Session};
use crate::task::{Ending, Outcome, Provider};
use crate::text::path_text;

/// This many waiting tasks of a project, the next ones to go, are looked at more
/// closely than for their priority.
const CLOSELY: usize = 1000;

/// Reads all projects and writes rows; one that cannot be read does not hide the others.
pub(super) struct Collector<'a, 'p> {
    context: Context<'a>,
    /// Which pool this is; `None` where it has never claimed a task.
    owner: Option<Uuid>,
    /// Whom Claude Code trusts, where the agent is Claude Code.
    trust: Option<Trust>,
    problems: &'p mut Problems<'a>,
    status: &'p mut Status,
    day: Day,
}

impl<'a, 'p> Collector<'a, 'p> {
    pub(super) fn new(
        context: Context<'a>,
        pool: &Pool<'_>,
        problems: &'p mut Problems<'a>,
        status: &'p mut Status,
    ) -> Self {
        let owner = pool.owner().unwrap_or_else(|error| {
            problems.note(&error);
            None
        });
        let is_claude = context.config.agent.kind == AgentKind::Claude;
        let trust = is_claude.then(|| Trust::read(&context.config.claude_json));
        Self { context, owner, trust, problems, status, day: Day::default() }
    }

    pub(super) fn collect(mut self, projects: &[Project]) {
        for project in projects {
            if let Err(error) = self.add(project) {
                self.problems.note(&error);
            }
        }
        let status = self.status;
        status.last_24h = self.day.rows();
        let mut costs = Totals::default();
        let is_delegated = |row: &&DayRow| row.provider.is_some_and(Provider::is_remote);
        for row in status.last_24h.iter().filter(is_delegated) {
            status.delegated.done_24h += row.done;
            status.delegated.failed_24h += row.failed;
            for cost in &row.cost {
                costs.add(cost);
            }
        }
        status.delegated.cost_24h = costs.costs();
        status.delegated.active = status.delegated.jobs.len();
        status.stale = status.tasks.iter().filter(|task| task.stale).count();
    }

    fn add(&mut self, project: &Project) -> Result<()> {
        let inbox = project.list()?;
        let done = self.ended(project, Folder::Done)?;
        let failed = self.ended(project, Folder::Failed)?;
        self.status.projects.push(ProjectRow {
            path: project.path().to_owned(),
            waiting: inbox.waiting.len() + inbox.held.len(),
            dispatched: inbox.dispatched.len(),
            delegated: inbox.delegated.len(),
            done,
            failed,
        });
        self.add_dispatched(project, &inbox);
        self.add_delegated(project, &inbox);
        let waiting = self.add_waiting(project, &inbox);
        self.add_held(project, &inbox);
        waiting
    }

    fn ended(&mut self, project: &Project, folder: Folder) -> Result<usize> {
        let ended = project.ended(folder, self.context.now - DAY)?;
        for ending in &ended.lately {
            self.day.count(folder, ending.as_ref());
        }
        Ok(ended.tasks)
    }

    fn add_dispatched(&mut self, project: &Project, inbox: &Inbox) {
        let mut names = inbox.dispatched.clone();
        names.sort();
        for name in &names {
            match self.dispatched(project, name) {
                Ok(row) => self.status.tasks.extend(row),
                Err(error) => {
                    let row = self.unreadable(project, name, TaskState::Dispatched, &error);
                    self.status.tasks.push(row);
                }
            }
        }
    }

    /// `None` if it has left the inbox meanwhile.
    fn dispatched(&mut self, project: &Project, file: &OsStr) -> Result<Option<TaskRow>> {
        let Ok(name) = Name::new(file) else {
            let reason = "its name is none that a task of ours has: nothing touches it";
            return Ok(Some(TaskRow {
                reason: Some(reason.to_owned()),
                ..row(project, file, TaskState::Dispatched)
            }));
        };
        let file_name = format!("{name}.dispatched");
        let glance = match project.glance(file_name.as_ref()) {
            Ok(glance) => glance,
            Err(Skip::Gone) => return Ok(None),
            Err(Skip::Failed(error)) => return Err(error),
            Err(held) => return Err(Error::msg(format!("{file_name}: {held}"))),
        };
        let mut row = TaskRow {
            priority: Some(glance.head.priority),
            title: glance.head.title,
            provider: Some(Provider::ClaudeCode),
            since: glance.modified,
            ..row(project, file, TaskState::Dispatched)
        };
        let claim = match project.claimant(&name) {
            Ok(claim) => claim,
            Err(error) => {
                row.reason = Some(self.problems.note(&error.into()));
                return Ok(Some(row));
            }
        };
        // What was filed between the two looks has neither.
        if !project.dispatched_path(&name).exists() {
            return Ok(None);
        }
        let Some(claim) = claim else {
            row.reason =
                Some(format!("nobody has claimed it: rename it to {name} to have it worked on"));
            return Ok(Some(row));
        };
        let age = self.context.now.duration_since(claim.started_at);
        row.stale = age.unsigned_abs() > self.context.config.dispatcher.stale_after;
        row.since = Some(claim.started_at);
        row.attempt = Some(claim.attempt);
        row.reason = self.odd_claim(project, &name, &claim)?;
        row.session = Some(claim.session);
        Ok(Some(row))
    }

    /// What is wrong with who has the task.
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
        if is_known || project.claimant(name)?.as_ref() != Some(claim) {
            return Ok(None);
        }
        Ok(Some(format!(
            "{} does not know of it any more: rename it to {name} to have it worked on again",
            claim.session
        )))
    }

    fn add_delegated(&mut self, project: &Project, inbox: &Inbox) {
        let mut tasks: Vec<_> = inbox.delegated_tasks().collect();
        tasks.sort_by(|one, other| one.name.cmp(&other.name));
        for task in tasks {
            let name = OsStr::new(task.name.as_str());
            match remote::job_row(&task) {
                Ok(Some(job)) => {
                    let head = project.glance(name).ok();
                    self.status.tasks.push(TaskRow {
                        priority: head.as_ref().map(|glance| glance.head.priority),
                        title: head.and_then(|glance| glance.head.title),
                        provider: job.provider,
                        job_id: job.job_id.clone(),
                        since: job.since,
                        reason: job.reason.clone(),
                        ..row(project, name, TaskState::DelegatedToSecutools)
                    });
                    self.status.delegated.jobs.push(job);
                }
                Ok(None) => {}
                Err(error) => {
                    let state = TaskState::DelegatedToSecutools;
                    let row = self.unreadable(project, name, state, &error);
                    self.status.tasks.push(row);
                }
            }
        }
    }

    /// All that wait, by whose turn it is; the first ones with all there is.
    fn add_waiting(&mut self, project: &Project, inbox: &Inbox) -> Result<()> {
        let mut order = project.priorities(&inbox.waiting)?;
        order.sort_unstable();
        let first = self.status.tasks.len();
        let mut files = Vec::new();
        for (index, (priority, name)) in order.iter().enumerate() {
            let mut row =
                TaskRow { priority: Some(*priority), ..row(project, name, TaskState::Waiting) };
            if index < CLOSELY {
                match project.glance(name) {
                    Ok(glance) => {
                        files.push((self.status.tasks.len(), glance.file));
                        self.describe_waiting(&mut row, &glance);
                    }
                    // An agent or another pass has it by now.
                    Err(Skip::Gone) => continue,
                    Err(Skip::Failed(error)) => row.reason = Some(self.problems.note(&error)),
                    Err(held) => hold(&mut row, held),
                }
            }
            self.status.tasks.push(row);
        }
        // Whoever cannot look reports what waits all the same.
        if !files.is_empty()
            && let Ok(open) = OpenFiles::look()
        {
            for (index, file) in files {
                if open.has_writer(file) {
                    hold(&mut self.status.tasks[index], Held::BeingWritten);
                }
            }
        }
        self.hold_untrusted(project.path(), first);
        Ok(())
    }

    fn describe_waiting(&self, row: &mut TaskRow, glance: &crate::queue::Glance) {
        row.title.clone_from(&glance.head.title);
        row.since = glance.modified;
        row.provider = Some(self.context.destination(&glance.head.routing));
        if let Some(ending) = &glance.ending
            && ending.outcome == Outcome::Released
        {
            row.attempt = Some(ending.attempt + 1);
            row.reason = ending.reason.as_ref().map(|reason| format!("the last attempt: {reason}"));
        }
        if !glance.is_single {
            hold(row, Held::SecondLink);
        }
    }

    /// Holds the local tasks of a project that Claude Code does not trust.
    fn hold_untrusted(&mut self, project: &Path, first: usize) {
        let refused = self.trust.as_ref().is_some_and(|trust| trust.refuses(project));
        if !refused {
            return;
        }
        for row in &mut self.status.tasks[first..] {
            let is_local = row.provider.is_none_or(|provider| !provider.is_remote());
            if is_local && row.state == TaskState::Waiting {
                hold(row, Trust::advice(project));
            }
        }
    }

    fn add_held(&mut self, project: &Project, inbox: &Inbox) {
        let mut held = inbox.held.clone();
        held.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, why) in held {
            let mut row = row(project, &name, TaskState::Held);
            hold(&mut row, why);
            self.status.tasks.push(row);
        }
    }

    fn unreadable(
        &mut self,
        project: &Project,
        name: &OsStr,
        state: TaskState,
        error: &Error,
    ) -> TaskRow {
        TaskRow { reason: Some(self.problems.note(error)), ..row(project, name, state) }
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

/// What ended in the last 24 hours, by who worked on it.
#[derive(Default)]
struct Day {
    counts: Vec<(Option<Provider>, usize, usize, Totals)>,
}

impl Day {
    fn count(&mut self, folder: Folder, ending: Option<&Ending>) {
        let provider = ending.and_then(|ending| ending.provider);
        let index =
            self.counts.iter().position(|(known, ..)| *known == provider).unwrap_or_else(|| {
                self.counts.push((provider, 0, 0, Totals::default()));
                self.counts.len() - 1
            });
        let (_, done, failed, cost) = &mut self.counts[index];
        match folder {
            Folder::Done => *done += 1,
            Folder::Failed | Folder::Inbox => *failed += 1,
        }
        if let Some(known) = ending.and_then(|ending| ending.cost.as_ref()) {
            cost.add(known);
        }
    }

    /// The local agent first, what nobody worked on last.
    fn rows(&self) -> Vec<DayRow> {
        let order = Provider::ALL.map(Some).into_iter().chain([None]);
        order
            .filter_map(|provider| self.counts.iter().find(|(known, ..)| *known == provider))
            .map(|(provider, done, failed, cost)| DayRow {
                provider: *provider,
                done: *done,
                failed: *failed,
                cost: cost.costs(),
            })
            .collect()
    }
}
