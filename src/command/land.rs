//! `ccl land`: brings the branch of a finished task into the branch that it started from, by a person's decision.

use std::ffi::OsStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::target::{self, Place};
use super::{Context, Pass};
use crate::checkout::{LandStep, Leftovers, Removal, Repository};
use crate::durable;
use crate::error::Failure;
use crate::event::{Event, EventKind};
use crate::journal::Entry;
use crate::task::{BranchEnding, Ending, GitEnding};

/// How long another pass that changes the project's branches is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(context: Context<'_>, task: &OsStr) -> Result<Pass> {
    let target = target::find(context, task, &[&[Place::Done]])?;
    let (project, name) = (&target.project, &target.name);
    let ending = project.ending(target.place.folder(), name)?;
    let Some((ending, branch)) = ending.as_ref().and_then(|it| Some((it, it.branch()?))) else {
        bail!("{target} has left no branch of its own: there is nothing to land");
    };
    let Some(base) = branch.base_branch.clone() else {
        bail!(
            "{target} did not start from a branch: merge {} by hand where you want it",
            branch.summary.branch
        );
    };
    let lock = project.lock_checkout(PATIENCE)?.with_context(|| {
        Failure::Temporary(format!(
            "another pass changes branches in {}: try again in a moment",
            project.path().display()
        ))
    })?;
    let repository = Repository::open(project.path())?;
    let mut worktree = repository
        .worktree_of(branch)
        .with_context(|| format!("{} is not a branch that ccl makes", branch.summary.branch))?;
    if !repository.has_branch(&worktree)? {
        let name = &worktree.branch;
        // There is nothing to decide any more.
        durable::remove(&project.to_land_path(name))?;
        bail!("the branch {name} is gone: {target} has landed, or somebody has deleted it");
    }
    if let Some(elsewhere) = repository.checked_out_elsewhere(&worktree)? {
        bail!(
            "`{}` is checked out in {}: check another branch out there, then run it again",
            worktree.branch,
            elsewhere.display()
        );
    }
    // The worktree of a finished task is gone; git rebases in one.
    repository.make(&worktree, ending.run, false)?;
    if let Leftovers::Stuck(why) = repository.commit_leftovers(&worktree, name.as_str())? {
        bail!("{} stays to land: {why}", worktree.branch);
    }
    match repository.land(&mut worktree, false, |_| Ok(()))? {
        // By hand nothing is checked: a person has decided.
        LandStep::Landed | LandStep::Rebased => {}
        LandStep::Conflict(files) => bail!(
            "{} conflicts with {base} in {}: in {}, run `git rebase {base}`, solve it, and run `ccl land {name}` again",
            worktree.branch,
            files.join(", "),
            worktree.path.display()
        ),
        LandStep::Refused(why) => bail!("{} stays to land: {why}", worktree.branch),
    }
    // Noted before the branch goes: whoever runs it again after it was killed finds either, and goes on.
    let landed = BranchEnding { landed: Some(true), reason: None, ..branch.clone() };
    let noted = Ending { git: Some(GitEnding::Branch(landed)), ..ending.clone() };
    project.renote(target.place.folder(), name, &noted)?;
    if let Removal::Kept(why) = repository.remove(&worktree)? {
        context.log.warn(format_args!("the worktree stays: {why}"));
    }
    repository.delete_landed(&worktree, &base)?;
    drop(lock);
    durable::remove(&project.to_land_path(&worktree.branch))?;
    let what = format!("{} is in {base}", worktree.branch);
    let entry = Entry::of_task(EventKind::Landed, project.path(), name.as_str());
    context.account.note(&entry.because(what.as_str()));
    let event = Event::of_task(EventKind::Landed, project.path(), name.as_str()).because(what);
    Ok(Pass { events: vec![event], ..Pass::default() })
}
