//! Bringing a task's branch into the branch that it started from: by rebase and fast-forward, nothing else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::git::{Git, GitError, PATIENCE, POLL, free_space, shown};
use super::leftovers::NOT_QUEUE;
use super::worktree::{Extent, admin_of, no_worktree, wait_for_idle};
use super::{GitStatus, Repository, put_mark, read_line};
use crate::durable;
use crate::error::Failure;
use crate::marker::Worktree;

/// Where git notes a rebase that is under way; the second by a git before 2.26, or with the user's `rebase.backend`.
const REBASE_STATES: [&str; 2] = ["rebase-merge", "rebase-apply"];

/// A mark in git's directory for a worktree: a rebase of `ccl`'s is under way there, and all that is uncommitted comes
/// from it.
const REBASING: &str = "ccl-rebases";
/// A second mark there: such a rebase is being taken back. Until that is over, the files may be those of a commit
/// halfway, even where HEAD is on its branch again.
const TAKING_BACK: &str = "ccl-takes-back";
/// The beginning of a ref; the branch's name, a dot and a commit follow. That commit holds what lay in the worktree,
/// and was on no branch, when a rebase of `ccl`'s was taken back.
pub(crate) const SAVED: &str = "refs/ccl-saved/";

/// Bytes that git needs beside the files: its index, objects, logs.
const SPARE: u64 = 1 << 20;

/// How a rebase ended. `onto` is the commit that the branch now starts from: the worktree's new base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rebase {
    /// The branch has all of the base branch already, or nothing of its own.
    UpToDate {
        onto: String,
    },
    Rebased {
        onto: String,
    },
    /// These files need somebody's decision. The rebase was aborted: the worktree is as it was before.
    Conflict {
        files: Vec<String>,
    },
    /// It cannot be rebased; the sentence says why, and what to do.
    Stuck(String),
}

/// How a fast-forward ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Landing {
    /// The base branch has all of the task's branch, since now or before.
    Landed,
    /// The base branch has commits that the task's branch has not: rebase first.
    Moved,
    /// The sentence says why, and what to do.
    Refused(String),
}

/// How a branch came into its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LandStep {
    Landed,
    /// Its commits are others than before, and have to be checked before they land.
    Rebased,
    /// These files need somebody's decision.
    Conflict(Vec<String>),
    /// The sentence says why, and what to do.
    Refused(String),
}

/// How often a branch is rebased whose base moves on meanwhile.
const ROUNDS: u32 = 3;

/// What is said where the base moved on `times` times while a branch was to land.
pub(crate) fn base_moved_on(times: u32) -> String {
    format!(
        "its base moved on {times} times meanwhile: run `ccl land` when nobody is pushing to it"
    )
}

impl Repository {
    /// Brings the branch into the branch that it started from. `note` is called with the worktree's new base before
    /// anything lands: what is counted as the branch's own afterwards starts there. A branch that is `checked` does not
    /// land after a rebase, but is to be checked again first.
    pub(crate) fn land(
        &self,
        worktree: &mut Worktree,
        checked: bool,
        mut note: impl FnMut(&Worktree) -> Result<()>,
    ) -> Result<LandStep> {
        let Some(base_branch) = worktree.base_branch.clone() else {
            return Ok(LandStep::Refused("it did not start from a branch".to_owned()));
        };
        for _ in 0..ROUNDS {
            // Before the rebase: a branch that has landed keeps its base, or it would seem to have no commits.
            if self.has_landed(worktree, &base_branch)? {
                return Ok(LandStep::Landed);
            }
            let (onto, is_rebased) = match self.rebase(worktree, &base_branch)? {
                Rebase::UpToDate { onto } => (onto, false),
                Rebase::Rebased { onto } => (onto, true),
                Rebase::Conflict { files } => return Ok(LandStep::Conflict(files)),
                Rebase::Stuck(why) => return Ok(LandStep::Refused(why)),
            };
            if onto != worktree.base {
                worktree.base = onto;
                note(worktree)?;
            }
            if is_rebased && checked {
                return Ok(LandStep::Rebased);
            }
            match self.fast_forward(worktree, &base_branch)? {
                Landing::Landed => return Ok(LandStep::Landed),
                Landing::Refused(why) => return Ok(LandStep::Refused(why)),
                // The base has moved on since the rebase: once more.
                Landing::Moved => {}
            }
        }
        Ok(LandStep::Refused(base_moved_on(ROUNDS)))
    }

    fn has_landed(&self, worktree: &Worktree, base_branch: &str) -> Result<bool> {
        let (base, tip) = (self.tip(base_branch)?, self.tip(&worktree.branch)?);
        Ok(self.is_ancestor(&tip, &base)?)
    }

    /// Whether the branch has a commit of its own.
    pub(crate) fn has_commits(&self, worktree: &Worktree) -> Result<bool> {
        let tip = self.tip(&worktree.branch)?;
        Ok(!self.is_ancestor(&tip, &worktree.base)?)
    }

    /// Puts the branch's commits onto the end of `base_branch`, in the task's worktree. A rebase that was begun there
    /// and not finished, by a pass that was killed or by the agent, is aborted first.
    pub(crate) fn rebase(&self, worktree: &Worktree, base_branch: &str) -> Result<Rebase> {
        wait_for_idle(worktree)?;
        let admin = match (self.find(worktree)?, admin_of(&worktree.path)?) {
            (Extent::Whole, Some(admin)) => admin,
            (Extent::Nothing, _) => {
                return Ok(Rebase::Stuck(format!(
                    "{} is not there any more: rebase `{}` by hand",
                    shown(&worktree.path),
                    worktree.branch
                )));
            }
            _ => return Ok(Rebase::Stuck(no_worktree(worktree))),
        };
        // Waited for before, since the rebase itself fails at once where there is a lock.
        if let Some(lock) = self.wait_for_lock(worktree)? {
            return Ok(Rebase::Stuck(left_behind(&lock)));
        }
        if !self.take_back_ours(worktree)? {
            abort(worktree, &admin)?;
        }
        let status = GitStatus::of(&worktree.path)?;
        if status.branch.as_deref() != Some(&worktree.branch) || status.changed > 0 {
            return Ok(Rebase::Stuck(format!(
                "{} must have `{}` checked out, and nothing uncommitted",
                shown(&worktree.path),
                worktree.branch
            )));
        }
        let onto = self.tip(base_branch)?;
        let branch = format!("refs/heads/{}", worktree.branch);
        if self.is_ancestor(&onto, &branch)? || self.is_ancestor(&branch, &onto)? {
            return Ok(Rebase::UpToDate { onto });
        }
        let settings = [
            // This backend notes what it is about to do before it changes anything: `take_back_ours` relies on that.
            "rebase.backend=merge",
            "rebase.autoSquash=false",
            "rebase.updateRefs=false",
            "rebase.rebaseMerges=false",
            "rebase.forkPoint=false",
            "rebase.missingCommitsCheck=ignore",
        ];
        let mut args = vec!["rebase", "--no-verify", "--no-stat", "--onto", onto.as_str()];
        // Where a person has rewritten the base branch, what it had before is not the agent's work.
        let is_rewritten = !self.is_ancestor(&worktree.base, &onto)?;
        args.push(if is_rewritten { &worktree.base } else { &onto });
        let (identity, mark) = (self.identity(worktree)?, admin.join(REBASING));
        put_mark(&mark)?;
        let rebase = Git::change(&worktree.path, &worktree.path, args).once();
        let rebased = rebase.with(&settings).with(identity).run();
        let files = match &rebased {
            Ok(_) => Vec::new(),
            // Before it is undone, which takes the conflict away.
            Err(_) => self.conflicts(worktree)?,
        };
        if rebased.is_err() {
            // Nothing needs to be saved: nobody has worked there since the rebase began.
            self.undo(worktree, &admin)?;
        }
        // Last: by the mark the next call knows that a rebase which was broken off is ours.
        durable::remove(&mark)?;
        Ok(match rebased {
            Ok(_) => Rebase::Rebased { onto },
            Err(_) if !files.is_empty() => Rebase::Conflict { files },
            Err(error) if error.is_of_the_machine() => return Err(error.into()),
            Err(error) => Rebase::Stuck(error.to_string()),
        })
    }

    /// Takes back a rebase of ours whose pass was killed, wherever git stood in it; an agent's own rebase is left
    /// alone. False where none of ours was begun. What keeps git from it is an error, and the next call tries again.
    ///
    /// A person may have worked there since. So a rebase that is over stays as it is. Of one that is not over, what no
    /// branch has is kept at [`SAVED`] before it goes.
    pub(crate) fn take_back_ours(&self, worktree: &Worktree) -> Result<bool> {
        let Some(admin) = admin_of(&worktree.path)? else { return Ok(false) };
        let mark = admin.join(REBASING);
        if !durable::exists(&mark)? {
            return Ok(false);
        }
        wait_for_idle(worktree)?;
        if let Some(lock) = self.wait_for_lock(worktree)? {
            bail!("{}", left_behind(&lock));
        }
        let is_on_its_branch =
            GitStatus::of(&worktree.path)?.branch.as_deref() == Some(&worktree.branch);
        let taking_back = admin.join(TAKING_BACK);
        // Git writes the index last. Once that is the branch's, the taking back is over: a person may have gone on.
        let is_half_taken_back = || -> Result<bool> {
            let is_reset = Git::look(&worktree.path, ["diff", "--cached", "--quiet", "HEAD"]);
            Ok(durable::exists(&taking_back)? && !is_reset.is_yes()?)
        };
        let is_under_way = !is_on_its_branch || is_noted(&admin)? || is_half_taken_back()?;
        if is_under_way {
            self.save(worktree)?;
            self.undo(worktree, &admin)?;
        } else if durable::exists(&admin.join("CHERRY_PICK_HEAD"))? {
            // The rebase is over but for this note: git was killed, or met a lock, before it could remove it.
            Git::change(&worktree.path, &worktree.path, ["cherry-pick", "--quit"]).run()?;
        }
        // In this order: without the mark no later call would look here.
        durable::remove(&taking_back)?;
        durable::remove(&mark)?;
        Ok(true)
    }

    /// Keeps what is uncommitted in the worktree, with the commits that lie below it. What was kept before is not lost:
    /// its ref has another name.
    fn save(&self, worktree: &Worktree) -> Result<()> {
        let call = |args: &[&str]| Git::change(&worktree.path, &worktree.path, args);
        // A stash takes only files that are in the index. So all are added first, unmerged ones as they lie there.
        call(&["add", "--all", "--", ":(top)", NOT_QUEUE]).run()?;
        let stash = call(&["stash", "create", "ccl: a rebase was taken back"])
            .with(self.identity(worktree)?)
            .word()?;
        let saved = match stash.is_empty() {
            false => Some(stash),
            // Nothing is uncommitted, but somebody may have committed on the detached HEAD.
            true => self.commit_on_the_way(worktree)?,
        };
        if let Some(saved) = saved {
            let name = format!("{SAVED}{}.{}", worktree.branch, &saved[..12]);
            call(&["update-ref", &name, &saved]).run()?;
        }
        Ok(())
    }

    /// The commit that HEAD is, unless the branch or its base has it.
    fn commit_on_the_way(&self, worktree: &Worktree) -> Result<Option<String>> {
        let head = Git::look(&worktree.path, ["rev-parse", "--verify", "HEAD"]).word()?;
        for branch in [Some(&worktree.branch), worktree.base_branch.as_ref()].into_iter().flatten()
        {
            if let Some(tip) = self.find_tip(branch)?
                && self.is_ancestor(&head, &tip)?
            {
                return Ok(None);
            }
        }
        Ok(Some(head))
    }

    /// Makes the worktree what its branch says.
    ///
    /// `git rebase --abort` does too little. It refuses where git was killed before it had noted where to go back to,
    /// and has nothing to abort once git has removed its notes; then HEAD may be detached and the files be those of a
    /// commit halfway. The branch itself is whole in any case: git moves it once, with all its commits.
    fn undo(&self, worktree: &Worktree, admin: &Path) -> Result<()> {
        if let Some(lock) = self.wait_for_lock(worktree)? {
            bail!("{}", left_behind(&lock));
        }
        let call = |args: &[&str]| Git::change(&worktree.path, &worktree.path, args).run();
        // A mark, since the pass may be killed, or the disk be full, before the files are those of the branch.
        let taking_back = admin.join(TAKING_BACK);
        put_mark(&taking_back)?;
        if is_noted(admin)? {
            // Only git's notes of it go; HEAD and the files are set below.
            call(&["rebase", "--quit"])?;
        }
        let branch = format!("refs/heads/{}", worktree.branch);
        call(&["symbolic-ref", "-m", "ccl: a rebase is taken back", "HEAD", &branch])?;
        call(&["reset", "--quiet", "--hard"])?;
        call(&["clean", "--quiet", "--force", "-d", "--exclude=.agent-queue"])?;
        durable::remove(&taking_back).map(drop)
    }

    /// The files that nobody but a person or an agent can merge.
    fn conflicts(&self, worktree: &Worktree) -> Result<Vec<String>> {
        Ok(GitStatus::of(&worktree.path)?.unmerged)
    }

    /// Moves `base_branch` on to the task's branch, if it is an ancestor of it: in its checkout where it has one, where
    /// git refuses what would touch a person's changes.
    pub(crate) fn fast_forward(&self, worktree: &Worktree, base_branch: &str) -> Result<Landing> {
        let (old, new) = (self.tip(base_branch)?, self.tip(&worktree.branch)?);
        if self.is_ancestor(&new, &old)? {
            return Ok(Landing::Landed);
        }
        if !self.is_ancestor(&old, &new)? {
            return Ok(Landing::Moved);
        }
        if let Some(checkout) = self.rebased_in(base_branch)? {
            return Ok(Landing::Refused(format!(
                "`{base_branch}` is being rebased in {}: finish that first",
                shown(&checkout)
            )));
        }
        match self.checked_out(base_branch)? {
            Some(checkout) => self.merge(worktree, base_branch, &checkout, &new),
            None => self.update(worktree, base_branch, &old, &new),
        }
    }

    fn merge(
        &self,
        worktree: &Worktree,
        base_branch: &str,
        checkout: &Path,
        new: &str,
    ) -> Result<Landing> {
        // Git changes the files before it moves the branch. Where a lock keeps it from moving the branch, the files
        // would be ahead of it: so locks are looked for first. A main checkout has no `.git` file that names its git
        // directory.
        let admin = admin_of(checkout)?.unwrap_or_else(|| self.common.clone());
        let branch = self.common.join("refs/heads").join(format!("{base_branch}.lock"));
        for lock in [admin.join("index.lock"), admin.join("HEAD.lock"), branch] {
            if !is_gone(&lock)? {
                return Ok(Landing::Refused(left_behind(&lock)));
            }
        }
        self.check_free_space(worktree, checkout, new)?;
        let flags = ["--ff-only", "--no-squash", "--no-stat", "--no-verify-signatures", "--quiet"];
        let args = ["merge"].into_iter().chain(flags).chain([new]);
        match Git::change(checkout, &worktree.path, args).run() {
            // A person may have checked another branch out meanwhile.
            Ok(_) if self.tip(base_branch)? != new => Ok(Landing::Refused(format!(
                "`{base_branch}` is not checked out in {} any more: land once more",
                shown(checkout)
            ))),
            Ok(_) => Ok(Landing::Landed),
            // A person has just committed there, or another project of this repository has landed.
            Err(error) if error.says("Not possible to fast-forward") => Ok(Landing::Moved),
            Err(error) if error.is_of_the_machine() => Err(error.into()),
            Err(error) => Ok(Landing::Refused(error.to_string())),
        }
    }

    /// Fails where the disk of the checkout has no room for the files that are to land: a git that finds out in the
    /// middle leaves half of them there.
    fn check_free_space(&self, worktree: &Worktree, checkout: &Path, new: &str) -> Result<()> {
        let diff = ["diff", "--name-only", "-z", "--no-renames", "--diff-filter=d", "HEAD", new];
        let names = Git::look(checkout, diff.into_iter().chain(["--"])).run()?;
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        // In the worktree these files are as they will be in the checkout.
        let size = |name| fs::symlink_metadata(worktree.path.join(OsStr::from_bytes(name)));
        let needed: u64 = names.filter_map(|name| size(name).ok()).map(|it| it.len()).sum();
        let free = free_space(checkout)
            .with_context(|| format!("cannot look at {}", checkout.display()))?;
        if free < needed.saturating_add(SPARE) {
            bail!(Failure::Temporary(format!(
                "the disk of {} has no room for the {} KiB that are to land there",
                shown(checkout),
                needed >> 10
            )));
        }
        Ok(())
    }

    fn update(&self, worktree: &Worktree, base: &str, old: &str, new: &str) -> Result<Landing> {
        let reason = format!("ccl: {} landed", worktree.branch);
        let name = format!("refs/heads/{base}");
        let args = ["update-ref", "-m", &reason, &name, new, old];
        match Git::change(&self.project, &worktree.path, args).run() {
            Ok(_) => Ok(Landing::Landed),
            // The words of git where the ref is not `old` any more.
            Err(error) if error.says("but expected") => Ok(Landing::Moved),
            Err(error) if error.is_of_the_machine() => Err(error.into()),
            Err(error) => Ok(Landing::Refused(error.to_string())),
        }
    }

    /// Deletes the task's branch once `base_branch` has all of it and its worktree is gone; true if it did.
    pub(crate) fn delete_landed(&self, worktree: &Worktree, base_branch: &str) -> Result<bool> {
        let Some(tip) = self.find_tip(&worktree.branch)? else { return Ok(false) };
        Ok(self.is_ancestor(&tip, &format!("refs/heads/{base_branch}"))?
            && self.delete_branch(worktree, &tip)?)
    }

    /// The checkout other than its worktree that has the task's branch checked out.
    pub(crate) fn checked_out_elsewhere(&self, worktree: &Worktree) -> Result<Option<PathBuf>> {
        let checkout = self.checked_out(&worktree.branch)?;
        // Git also lists worktrees whose directory is gone.
        Ok(checkout.filter(|path| *path != worktree.path && durable::exists(path).unwrap_or(true)))
    }

    /// The checkout that has the branch checked out, the main one or a worktree.
    pub(super) fn checked_out(&self, branch: &str) -> Result<Option<PathBuf>> {
        let list = |flags: &[&str]| self.look(["worktree", "list"].iter().chain(flags)).run();
        let (printed, end) = match list(&["--porcelain", "-z"]) {
            Ok(printed) => (printed, 0),
            // 129 stands for usage: before 2.36 there is no `-z`.
            Err(error) if error.is(129) => (list(&["--porcelain"])?, b'\n'),
            Err(error) => return Err(error.into()),
        };
        let wanted = format!("branch refs/heads/{branch}");
        let mut path = None;
        for line in printed.split(|byte| *byte == end) {
            if let Some(at) = line.strip_prefix(b"worktree ") {
                path = Some(at);
            } else if line == wanted.as_bytes() {
                let Some(path) = path else { bail!("git lists a worktree without a path") };
                let path = PathBuf::from(OsStr::from_bytes(path));
                // Git lists a main checkout by its git directory where that lies elsewhere, as a submodule's.
                let is_ours = path == self.common && admin_of(&self.top)?.as_ref() == Some(&path);
                return Ok(Some(if is_ours { self.top.clone() } else { path }));
            }
        }
        Ok(None)
    }

    /// The git directory of a checkout in which the branch is being rebased: until the end of that the branch is
    /// checked out nowhere, and then it is again.
    fn rebased_in(&self, branch: &str) -> Result<Option<PathBuf>> {
        let name = format!("refs/heads/{branch}");
        let linked = self.registered()?.into_iter().map(|(admin, _)| admin);
        for admin in std::iter::once(self.common.clone()).chain(linked) {
            for state in REBASE_STATES {
                let head = read_line(&admin.join(state).join("head-name"))?;
                if head.as_deref() == Some(name.as_bytes()) {
                    return Ok(Some(admin));
                }
            }
        }
        Ok(None)
    }
}

fn left_behind(lock: &Path) -> String {
    let lock = shown(lock);
    format!(
        "the lock {lock} is in the way: another git holds it, or one that was killed left it; remove it once no git runs there"
    )
}

/// Waits until a lock of git's has gone; false where it stays.
fn is_gone(lock: &Path) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while durable::exists(lock)? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(POLL);
    }
    Ok(true)
}

/// Whether git has a rebase under way.
fn is_noted(admin: &Path) -> Result<bool> {
    for state in REBASE_STATES {
        if durable::exists(&admin.join(state))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes back a rebase that an agent has begun and not finished.
fn abort(worktree: &Worktree, admin: &Path) -> Result<()> {
    for state in REBASE_STATES.map(|name| admin.join(name)) {
        if !durable::exists(&state)? {
            continue;
        }
        let call = |how| Git::change(&worktree.path, &worktree.path, ["rebase", how]).run();
        match call("--abort") {
            // Git notes last where to go back to, and leaves the branch only after that: only its notes have to go.
            Err(GitError::Failed { .. } | GitError::OfMachine { .. })
                if read_line(&state.join("orig-head"))?.is_none_or(|it| it.is_empty()) =>
            {
                call("--quit")?
            }
            other => other?,
        };
    }
    Ok(())
}
