//! What an agent left uncommitted.

use anyhow::Result;

use super::git::{Git, GitError, shown};
use super::worktree::{Extent, no_worktree, under_way, wait_for_idle};
use super::{GitStatus, Repository, is_temporary};
use crate::marker::Worktree;
use crate::text::excerpt;

/// The pathspec for all files of a worktree except those of a queue.
pub(super) const NOT_QUEUE: &str = ":(exclude,top,glob)**/.agent-queue/**";

/// What became of what the agent left uncommitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// There was nothing, or nothing that git can commit.
    None,
    Committed,
    /// It cannot be committed; the sentence says why, and what to do.
    Stuck(String),
}

impl Repository {
    /// Commits what the agent left, on the task's branch: all but what git ignores and the queue. No hook runs, and the
    /// author is the user, or `ccl` where git knows none.
    pub(crate) fn commit_leftovers(&self, worktree: &Worktree, task: &str) -> Result<Leftovers> {
        let path = shown(&worktree.path);
        let stuck = |why: String| Ok(Leftovers::Stuck(why));
        match self.find(worktree)? {
            Extent::Whole => {}
            Extent::Half => return stuck(no_worktree(worktree)),
            // Its removal has begun only after all was committed.
            Extent::Leaving | Extent::Nothing => return Ok(Leftovers::None),
        }
        // First: what a killed rebase of `ccl` has left in the files is no work of the agent's.
        match self.take_back_ours(worktree) {
            Err(error) if is_temporary(&error) => return Err(error),
            Err(error) => return stuck(format!("{error:#}")),
            Ok(_) => {}
        }
        if let Some(what) = under_way(worktree)? {
            return stuck(format!("{what} is under way in {path}: finish or abort it there"));
        }
        let status = GitStatus::of(&worktree.path)?;
        if status.branch.as_deref() != Some(&worktree.branch) {
            let instead = status.branch.map_or("no branch".to_owned(), |name| format!("`{name}`"));
            return stuck(format!(
                "{instead} is checked out in {path}: bring what is to stay onto `{}` and check that out",
                worktree.branch
            ));
        }
        if !status.unmerged.is_empty() {
            return stuck(format!(
                "{} in {path} is not merged: solve the conflict and commit it",
                excerpt(&status.unmerged.join(", "), 200)
            ));
        }
        if status.changed == 0 {
            return Ok(Leftovers::None);
        }
        // The git of a killed pass may be about to commit this very change.
        wait_for_idle(worktree)?;
        match self.commit(worktree, task) {
            Ok(()) => Ok(Leftovers::Committed),
            // Files that differ without a change that could be committed, as inside a submodule.
            Err(error) if error.is(1) && is_nothing(&error) => Ok(Leftovers::None),
            Err(error) if error.is_of_the_machine() => Err(error.into()),
            Err(error) => stuck(error.to_string()),
        }
    }

    /// Takes away what lies uncommitted in the worktree, all but what git ignores and the queue. Returns how many files
    /// that were.
    pub(crate) fn drop_uncommitted(&self, worktree: &Worktree) -> Result<usize> {
        if self.find(worktree)? != Extent::Whole || under_way(worktree)?.is_some() {
            return Ok(0);
        }
        let GitStatus { changed, branch, .. } = GitStatus::of(&worktree.path)?;
        // Another branch is checked out: what lies there is a person's.
        if branch.as_deref() != Some(&worktree.branch) {
            return Ok(0);
        }
        if changed > 0 {
            wait_for_idle(worktree)?;
            let call = |args: &[&str]| Git::change(&worktree.path, &worktree.path, args).run();
            // First: it frees a disk that the check has filled, on which `reset` could not write its index. `-ff`
            // removes repositories that the check has made there, too.
            call(&["clean", "-ffd", "--quiet", "--exclude=.agent-queue"])?;
            call(&["reset", "--hard", "--quiet"])?;
        }
        Ok(changed)
    }

    fn commit(&self, worktree: &Worktree, task: &str) -> Result<(), GitError> {
        let call = |args: &[&str]| Git::change(&worktree.path, &worktree.path, args);
        call(&["add", "--all", "--", ":(top)", NOT_QUEUE]).run()?;
        let message = format!("ccl: what {} left uncommitted", excerpt(task, 200));
        let commit = ["commit", "--no-verify", "--cleanup=verbatim", "-m", message.as_str()];
        call(&commit).with(self.identity(worktree)?).run().map(drop)
    }

    /// What git needs where the user has said nowhere who they are.
    pub(super) fn identity(
        &self,
        worktree: &Worktree,
    ) -> Result<&'static [&'static str], GitError> {
        // Without `useConfigOnly` git would make an address up from the machine's name.
        let ask = Git::look(&worktree.path, ["var", "GIT_COMMITTER_IDENT"]);
        match ask.with(&["user.useConfigOnly=true"]).run() {
            Ok(_) => Ok(&[]),
            Err(GitError::Failed { .. }) => Ok(&["user.name=ccl", "user.email=ccl@localhost"]),
            Err(error) => Err(error),
        }
    }
}

/// The words of git where a commit would be empty; they stand on standard output.
fn is_nothing(error: &GitError) -> bool {
    ["nothing to commit", "no changes added to commit", "nothing added to commit"]
        .iter()
        .any(|words| error.says(words))
}
