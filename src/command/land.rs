//! `ccl land`: brings the branch of a finished task into the branch that it started from, by a person's decision.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::target::{self, TaskPlace};
use super::{Context, Pass};
use crate::agent::Setup;
use crate::check::{self, ForegroundCheck};
use crate::checkout::{self, LandStep, Leftovers, Removal, Repository};
use crate::durable;
use crate::error::Failure;
use crate::marker::Worktree;
use crate::queue;
use crate::session::NOT_WHAT_WAS_GREEN;
use crate::task::{BranchEnding, CheckEnding, Ending, GitEnding, TaskRules};

/// How often a branch is checked again because its base has moved on meanwhile, and how often because the branch has
/// changed while it was checked.
const ROUNDS: u32 = 3;

pub(super) fn run(context: Context<'_>, task: &OsStr) -> Result<Pass> {
    let target = target::find(context, task, &[&[TaskPlace::Done]])?;
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
    let mut lock = project.lock_checkout()?;
    let repository = Repository::open(project.path())?;
    let mut worktree = repository
        .worktree_of(branch)
        .with_context(|| format!("{} is not a branch that ccl makes", branch.summary.branch))?;
    if !repository.has_branch(&worktree)? {
        let name = &worktree.branch;
        // Nothing is left to decide, so it is no longer listed as to land.
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
    // As a rule a finished task has no worktree any more, and git needs one to rebase in.
    repository.make(&worktree, ending.run, false)?;
    // Where the worktree was kept, somebody may have worked in it since.
    if let Leftovers::Stuck(why) = repository.commit_leftovers(&worktree, name.as_str())? {
        bail!("{} stays to land: {why}", worktree.branch);
    }
    let mut check = ending.check.clone();
    let mut judged_head = None;
    let (mut rebased, mut changed) = (0, 0);
    loop {
        // A task that was checked lands only as its check has judged it. Any other lands unchecked: a person decided
        // so.
        if let Some(green) = &mut check {
            let head = repository.head_of(&worktree)?;
            let is_judged = match &judged_head {
                // By the commit: with `protect`, the tree that was judged is not the commit's.
                Some(judged) => head == *judged,
                None => green.tree == Some(repository.tree_of_head(&worktree)?),
            };
            if !is_judged {
                // A check has just judged it, and something has changed it since.
                if judged_head.is_some() {
                    if changed == ROUNDS {
                        bail!("{} stays to land: {NOT_WHAT_WAS_GREEN}", worktree.branch);
                    }
                    changed += 1;
                }
                let recheck = Recheck::prepare(context, &target, &repository, &worktree)?;
                // It may take long, and other branches may land meanwhile.
                drop(lock);
                let judged = recheck.wait(&target, ending, &worktree, &green.command);
                lock = project.lock_checkout()?;
                // Before the verdict is looked at: what the check has left goes, whatever it says.
                recheck.clear(&repository, &worktree)?;
                *green = CheckEnding { rounds: green.rounds, ..judged? };
                judged_head = Some(head);
                continue;
            }
        }
        match repository.land(&mut worktree, check.is_some(), |_| Ok(()))? {
            LandStep::Landed => break,
            LandStep::Rebased if rebased < ROUNDS => {
                rebased += 1;
                // No check has judged what the rebase has made, so nothing has changed that since.
                judged_head = None;
            }
            LandStep::Rebased => bail!(Failure::Temporary(format!(
                "{} stays to land: {base} has moved on {ROUNDS} times while it was checked",
                worktree.branch
            ))),
            LandStep::Conflict(files) => bail!(
                "{} conflicts with {base} in {}: in {}, run `git rebase {base}`, solve it, and run `ccl land {name}` again",
                worktree.branch,
                files.join(", "),
                worktree.path.display()
            ),
            LandStep::Refused(why) => bail!("{} stays to land: {why}", worktree.branch),
        }
    }
    // Noted before the branch goes: after a kill in between, the next `ccl land` finds the one or the other, and goes
    // on.
    let landed = BranchEnding { landed: Some(true), reason: None, ..branch.clone() };
    let noted = Ending { git: Some(GitEnding::Branch(landed)), check, ..ending.clone() };
    project.renote(target.place.folder(), name, &noted)?;
    if let Removal::Kept(why) = repository.remove(&worktree)? {
        context.log.warn(format_args!("the worktree stays: {why}"));
    }
    repository.delete_landed(&worktree, &base)?;
    drop(lock);
    durable::remove(&project.to_land_path(&worktree.branch))?;
    let landed = context.records.landed((project.path(), name.as_str()), &worktree.branch, &base);
    Ok(Pass { events: vec![landed], ..Pass::default() })
}

/// A check that judges a branch once more, because the branch has changed since.
struct Recheck {
    rules: TaskRules,
    /// Where it runs: the task's, or one that was made for it.
    place: Worktree,
    stamp: PathBuf,
    tree: String,
}

impl Recheck {
    /// The checkout's lock is held.
    fn prepare(
        context: Context<'_>,
        target: &target::Target,
        repository: &Repository,
        worktree: &Worktree,
    ) -> Result<Self> {
        let (project, name) = (&target.project, &target.name);
        if let Leftovers::Stuck(why) = repository.commit_leftovers(worktree, name.as_str())? {
            bail!("{} stays to land: {why}", worktree.branch);
        }
        let task = queue::read_file(&project.folder(target.place.folder()).join(name.as_str()))
            .map_err(anyhow::Error::from)?;
        let rules = context.config.project_rules(&project.rules_path())?;
        let rules = rules.for_task(&task.header.rules);
        let place = match rules.protect.is_empty() {
            true => worktree.clone(),
            false => repository.make_check_worktree(
                worktree,
                &repository.head_of(worktree)?,
                &rules.protect,
            )?,
        };
        let (stamp, tree) = (checkout::setup_stamp(&place)?, repository.tree_of(&place)?);
        Ok(Self { rules, place, stamp, tree })
    }

    /// Runs it to its end: what the ending line says of it where it is green, else an error.
    fn wait(
        &self,
        target: &target::Target,
        ending: &Ending,
        worktree: &Worktree,
        command: &str,
    ) -> Result<CheckEnding> {
        let Self { rules, place, stamp, tree } = self;
        let directory = place.directory();
        let judged = ForegroundCheck {
            run: ending.run,
            task: target.name.as_str(),
            command,
            timeout: rules.check_timeout,
            directory: &directory,
            base: &worktree.base,
            setup: Setup {
                from: target.project.path(),
                copy: &rules.copy,
                command: rules.setup.as_deref(),
                stamp,
            },
        }
        .wait()?;
        let how = match judged.status {
            Some(0) => {
                return Ok(CheckEnding {
                    command: command.to_owned(),
                    exit: 0,
                    seconds: judged.seconds,
                    rounds: 0,
                    tree: Some(tree.clone()),
                    red_before: None,
                });
            }
            Some(status) => check::how(status, judged.seconds, rules.check_timeout),
            None => "could not be run".to_owned(),
        };
        bail!(
            "{} stays to land: it is not what was checked any more, and now {} {how}; mend and commit it in {}, and run `ccl land {}` again\n\n{}",
            worktree.branch,
            check::named(command),
            worktree.path.display(),
            target.name,
            judged.tail
        )
    }

    /// Takes away what the check has left. The checkout's lock is held.
    fn clear(&self, repository: &Repository, worktree: &Worktree) -> Result<()> {
        match self.rules.protect.is_empty() {
            // The worktree was clean before, so what is uncommitted is the check's.
            true => repository.drop_uncommitted(worktree).map(drop),
            false => repository.remove_check_worktree(worktree),
        }
    }
}
