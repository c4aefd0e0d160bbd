//! Which tasks wait for a time, or for other tasks. `scan`, `assign`, `status` and `decide` ask for it.

use std::cell::OnceCell;

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::checkout::Repository;
use crate::queue::{self, Dependencies, Folder, Project, Skip, TaskRef};
use crate::task::{self, Order, StartFrom};
use crate::text::local_time;

/// What has been looked up for one pass.
pub(super) struct Waits {
    now: Timestamp,
    /// The machine's; read from files, once a task needs it.
    zone: OnceCell<TimeZone>,
    dependencies: Dependencies,
}

impl Waits {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { now, zone: OnceCell::new(), dependencies: Dependencies::default() }
    }

    fn zone(&self) -> &TimeZone {
        self.zone.get_or_init(TimeZone::system)
    }

    /// The task's time, if that has not come yet.
    fn early(&self, order: &Order) -> Option<Timestamp> {
        let moment = order.not_before?.timestamp(self.zone());
        (moment > self.now).then_some(moment)
    }

    pub(super) fn is_early(&self, order: &Order) -> bool {
        self.early(order).is_some()
    }

    /// Why it waits, as a clause: `until 02:00, in 8 h`, `schema.md failed`.
    pub(super) fn why(&mut self, project: &Project, order: &Order) -> Result<Option<String>> {
        // The time first: before it, nothing has to be looked up on disk.
        if let Some(moment) = self.early(order) {
            return Ok(Some(format!("until {}", local_time(moment, self.now, self.zone()))));
        }
        if order.depends_on.is_empty() {
            return Ok(None);
        }
        self.dependencies.wait(project, order)
    }

    /// Lets the task go, as far as its order is concerned.
    pub(super) fn admit(&mut self, project: &Project, order: &Order) -> Result<(), Skip> {
        if let Some(obstacle) = order.obstacle() {
            return Err(Skip::HeldBecause(obstacle));
        }
        match self.why(project, order)? {
            Some(_) => Err(Skip::NotYet),
            None => Ok(()),
        }
    }

    /// Why a task waits, for a person: it names a cycle of tasks, none of which can ever start.
    pub(super) fn why_in_full(&mut self, task: &TaskRef, order: &Order) -> Result<Option<String>> {
        let why = self.why(&task.project, order)?;
        if why.is_none() || order.depends_on.is_empty() {
            return Ok(why);
        }
        Ok(self.cycle(task, order).or(why))
    }

    fn cycle(&mut self, task: &TaskRef, order: &Order) -> Option<String> {
        let cycle = self.dependencies.cycle(task, order)?;
        Some(format!("they wait for each other, {cycle}: take one out of a `depends_on`"))
    }

    /// What the task waits for that never comes by itself, and what to do about that; also before the task's time.
    pub(super) fn in_vain(&mut self, task: &TaskRef, order: &Order) -> Result<Option<String>> {
        if order.depends_on.is_empty() {
            return Ok(None);
        }
        let lost = self.dependencies.lost(&task.project, order)?;
        Ok(lost.or_else(|| self.cycle(task, order)))
    }
}

/// The tasks of its own project that a task depends on, each with the branch that it has left and that has not landed.
/// Other projects have other repositories.
pub(super) fn branches(project: &Project, order: &Order) -> Result<Vec<(String, Option<String>)>> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for written in &order.depends_on {
        let task = queue::resolve(project, written).filter(|task| task.project == *project);
        let is_new = |task: &TaskRef| found.iter().all(|(name, _)| *name != task.name.as_str());
        if let Some(task) = task.filter(is_new) {
            found.push((task.name.to_string(), open_branch(&task)?));
        }
    }
    Ok(found)
}

/// The branch of a finished task that has not landed, and that nobody has deleted.
fn open_branch(task: &TaskRef) -> Result<Option<String>> {
    let Some(ending) = task.project.ending(Folder::Done, &task.name)? else { return Ok(None) };
    let Some(branch) = ending.branch().filter(|branch| branch.landed != Some(true)) else {
        return Ok(None);
    };
    // Where git cannot be asked, no worktree can be made either: the task is held for that, with the sentence for it.
    let Ok(repository) = Repository::open(task.project.path()) else { return Ok(None) };
    let Some(worktree) = repository.worktree_of(branch) else { return Ok(None) };
    let is_there = repository.has_branch(&worktree)?;
    Ok(is_there.then(|| branch.summary.branch.clone()))
}

/// Which branches have to land before a task can have its worktree, as a clause: `a.md and b.md to land`.
pub(super) fn why_to_land(project: &Project, order: &Order) -> Result<Option<String>> {
    let branches = branches(project, order)?;
    Ok(match task::start_from(&borrowed(&branches)) {
        StartFrom::WaitsFor(tasks) => Some(format!("{} to land", tasks.join(" and "))),
        StartFrom::Base | StartFrom::Branch(_) => None,
    })
}

/// The branches in the form that [`task::start_from`] takes.
pub(super) fn borrowed(branches: &[(String, Option<String>)]) -> Vec<(&str, Option<&str>)> {
    branches.iter().map(|(task, branch)| (task.as_str(), branch.as_deref())).collect()
}
