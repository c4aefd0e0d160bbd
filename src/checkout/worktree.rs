//! A worktree's life: made, found half made, taken away.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::git::{Git, GitError, PATIENCE, POLL, shown, wait_for_earlier_git};
use super::{GitStatus, Repository, WORKTREES, put_mark, read_line};
use crate::durable;
use crate::error::Failure;
use crate::marker::Worktree;
use crate::text::escape;

/// What became of a worktree that was to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removal {
    Removed,
    /// It stays; the sentence says why, and what to do.
    Kept(String),
    /// There was none.
    Gone,
}

/// A worktree in a project's queue, as its files show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedWorktree {
    pub(crate) path: PathBuf,
    /// None where HEAD is detached, or kept in another form than a file (`reftable`).
    pub(crate) branch: Option<String>,
    /// `ccl RUN` where `ccl` made it.
    pub(crate) locked: Option<String>,
}

/// The worktrees of a project, by name. Starts no process; what is no worktree is left out.
pub(crate) fn list_worktrees(project: &Path) -> Result<Vec<ListedWorktree>> {
    let mut found = Vec::new();
    for entry in durable::list_dir(&project.join(WORKTREES))? {
        let path = entry?.path();
        // Hidden ones are those of checks, which come and go.
        let is_hidden = path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."));
        let Some(admin) = admin_of(&path)?.filter(|_| !is_hidden) else { continue };
        let text = |name: &str| -> Result<Option<String>> {
            let line = read_line(&admin.join(name))?;
            Ok(line.map(|line| String::from_utf8_lossy(&line).into_owned()))
        };
        let Some(head) = text("HEAD")? else { continue };
        // Where refs are no files, git writes `.invalid` there instead of a branch's name.
        let branch = head.strip_prefix("ref: refs/heads/").filter(|name| *name != ".invalid");
        let branch = branch.map(ToOwned::to_owned);
        found.push(ListedWorktree { branch, locked: text("locked")?, path });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The file that says that the set-up of a worktree is done. It lies among git's own notes of the worktree, and goes
/// with them.
pub(crate) fn setup_stamp(worktree: &Worktree) -> Result<PathBuf> {
    let admin = admin_of(&worktree.path)?
        .with_context(|| format!("{} is no worktree of git", shown(&worktree.path)))?;
    Ok(admin.join("ccl-ready"))
}

/// Git's directory for the worktree at `path`, as the `.git` file in it names it.
pub(super) fn admin_of(path: &Path) -> Result<Option<PathBuf>> {
    let line = read_line(&path.join(".git"))?;
    let admin = line.as_deref().and_then(|line| line.strip_prefix(b"gitdir: "));
    let admin = admin.map(|admin| path.join(OsStr::from_bytes(admin)));
    // It may be relative, see `worktree.useRelativePaths`.
    Ok(admin.map(|admin| fs::canonicalize(&admin).unwrap_or(admin)))
}

/// A mark in git's directory for a worktree: it was clean, and its removal has begun. Files that are missing from then
/// on were not deleted by the agent.
const LEAVING: &str = "ccl-removes-it";

/// How much there is of a worktree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Nothing,
    /// A git that was killed began it, or a person removed the directory.
    Half,
    /// All files are checked out, or were.
    Whole,
    /// A git that was killed was removing it.
    Leaving,
}

impl Repository {
    /// Makes the worktree, or finishes what a killed pass began; nothing where it stands already. `fresh`: no agent was
    /// ever started in it, so that a half-made one may be thrown away.
    ///
    /// `run` is the reason of git's lock.
    pub(crate) fn make(&self, worktree: &Worktree, run: Uuid, fresh: bool) -> Result<()> {
        self.exclude()?;
        let find = || match self.find(worktree)? {
            // All files are there, but with a lock that was left behind the agent could not commit.
            Extent::Whole if fresh && self.lock(worktree)?.is_some() => Ok(Extent::Half),
            found => anyhow::Ok(found),
        };
        let mut found = find()?;
        if found != Extent::Whole && found != Extent::Nothing {
            wait_for_idle(worktree)?;
            // What seemed half made may have been finished meanwhile.
            found = find()?;
        }
        match found {
            Extent::Whole => return Ok(()),
            Extent::Nothing => {}
            Extent::Leaving => {
                if let Removal::Kept(why) = self.finish_removal(worktree)? {
                    bail!(why);
                }
            }
            // Nothing is lost: no agent was in it, or its directory is gone; the branch stays.
            Extent::Half if fresh || !durable::exists(&worktree.path)? => {
                self.throw_away(worktree)?;
            }
            Extent::Half => bail!(no_worktree(worktree)),
        }
        let Err(error) = self.add(worktree, run) else { return Ok(()) };
        // The git of a killed pass may have made it, and begun too late to be seen above.
        wait_for_idle(worktree)?;
        match find()? {
            Extent::Whole => Ok(()),
            _ => Err(error.into()),
        }
    }

    fn add(&self, worktree: &Worktree, run: Uuid) -> Result<(), GitError> {
        let reason = format!("ccl {run}");
        let add = |with_reason: bool, new_branch: bool| {
            let mut args: Vec<&OsStr> = ["worktree", "add", "--lock"].map(OsStr::new).to_vec();
            if with_reason {
                args.extend([OsStr::new("--reason"), reason.as_ref()]);
            }
            let (path, branch) = (worktree.path.as_os_str(), OsStr::new(&worktree.branch));
            match new_branch {
                true => args.extend([OsStr::new("-b"), branch, path, worktree.base.as_ref()]),
                false => args.extend([path, branch]),
            }
            Git::change(&self.project, &worktree.path, args).run().map(drop)
        };
        let add = |with_reason| match add(with_reason, true) {
            // The branch is that of an earlier attempt, or of a git that was killed right after it had made it.
            Err(error) if error.says("already exists") && error.says("branch") => {
                add(with_reason, false)
            }
            other => other,
        };
        match add(true) {
            // 129 stands for usage: before 2.34 there is no `--reason`.
            Err(error) if error.is(129) => add(false),
            other => other,
        }
    }

    /// Takes away what [`Self::make`] made for an agent that was never started: the worktree where it is clean, and the
    /// branch where it has no commit of its own.
    pub(crate) fn unmake(&self, worktree: &Worktree) -> Result<()> {
        wait_for_idle(worktree)?;
        if self.find(worktree)? != Extent::Half {
            return self.remove(worktree).map(drop);
        }
        self.throw_away(worktree)?;
        self.delete_branch(worktree, &worktree.base).map(drop)
    }

    /// Takes away a worktree in which no agent was ever started, with all that its set-up left there.
    pub(crate) fn discard(&self, worktree: &Worktree) -> Result<()> {
        wait_for_idle(worktree)?;
        self.throw_away(worktree)?;
        self.delete_branch(worktree, &worktree.base).map(drop)
    }

    /// Makes anew the worktree in which a check judges `commit`: detached, and with the paths that the globs in
    /// `protect` name as they are in the task's base.
    pub(crate) fn make_check_worktree(
        &self,
        worktree: &Worktree,
        commit: &str,
        protect: &[String],
    ) -> Result<Worktree> {
        let judged = Self::check_worktree_of(worktree);
        self.remove_check_worktree(worktree)?;
        self.exclude()?;
        let args = [OsStr::new("worktree"), "add".as_ref(), "--detach".as_ref()];
        let args = args.into_iter().chain([judged.path.as_os_str(), OsStr::new(commit)]);
        Git::change(&self.project, &judged.path, args).run()?;
        if !protect.is_empty() {
            self.restore(&judged, commit, protect)?;
        }
        Ok(judged)
    }

    /// Removes the worktree of a check, whatever that has left there.
    pub(crate) fn remove_check_worktree(&self, worktree: &Worktree) -> Result<()> {
        let judged = Self::check_worktree_of(worktree);
        wait_for_idle(&judged)?;
        self.throw_away(&judged)
    }

    fn check_worktree_of(worktree: &Worktree) -> Worktree {
        let name = worktree.path.file_name().unwrap_or_default().to_string_lossy();
        Worktree {
            path: worktree.path.with_file_name(format!(".{name}.check")),
            ..worktree.clone()
        }
    }

    /// Puts the protected paths back to the base's; what was added there goes.
    fn restore(&self, judged: &Worktree, commit: &str, protect: &[String]) -> Result<()> {
        let globs: Vec<String> = protect.iter().map(|glob| format!(":(top,glob){glob}")).collect();
        let call = |args: &[&str]| Git::change(&judged.path, &judged.path, args).run();
        let listed = |filter: &str, globs: &[String]| -> Result<Vec<u8>> {
            // The agent's `.gitmodules` may say that a submodule is to be ignored.
            let diff = ["diff", "--name-only", "-z", "--no-renames", "--ignore-submodules=none"];
            let ends = [filter, &judged.base, commit, "--"];
            let globs = globs.iter().map(String::as_str);
            Ok(Git::look(&judged.path, diff.into_iter().chain(ends).chain(globs)).run()?)
        };
        // The base has no added paths, so they are removed one by one. Git finds all others by the globs itself: paths
        // may be any bytes.
        let added = listed("--diff-filter=A", &globs)?;
        for path in added.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
            let path = judged.path.join(OsStr::from_bytes(path));
            // A submodule is an empty directory here.
            match fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                true => remove_dir_all(&path)?,
                false => durable::remove(&path).map(drop)?,
            }
        }
        // One by one, too: given a glob that matches nothing in the base, git puts nothing back.
        for glob in &globs {
            if !listed("--diff-filter=MDT", std::slice::from_ref(glob))?.is_empty() {
                call(&["checkout", &judged.base, "--", glob])?;
            }
        }
        // The index, whose tree is noted as what was judged, has to be what lies there.
        call(&["add", "--all", "--", ":(top)"]).map(drop).map_err(Into::into)
    }

    /// Removes the worktree where nothing in it would be lost, and its branch where that has no commit of its own.
    pub(crate) fn remove(&self, worktree: &Worktree) -> Result<Removal> {
        let mut found = self.find(worktree)?;
        if found != Extent::Whole && found != Extent::Nothing {
            wait_for_idle(worktree)?;
            found = self.find(worktree)?;
        }
        let removal = match found {
            Extent::Whole => self.remove_whole(worktree)?,
            Extent::Leaving => self.finish_removal(worktree)?,
            // Its directory has gone, and git's notes of it are of no use any more.
            Extent::Half if !durable::exists(&worktree.path)? => {
                self.throw_away(worktree)?;
                Removal::Removed
            }
            Extent::Half => Removal::Kept(no_worktree(worktree)),
            Extent::Nothing => Removal::Gone,
        };
        if !matches!(removal, Removal::Kept(_)) {
            self.delete_branch(worktree, &worktree.base)?;
        }
        Ok(removal)
    }

    fn remove_whole(&self, worktree: &Worktree) -> Result<Removal> {
        let path = &worktree.path;
        let Some(admin) = admin_of(path)? else { bail!("{} has gone", shown(path)) };
        if let Some(why) = self.why_kept(worktree)? {
            return Ok(Removal::Kept(format!("{} stays: {why}", shown(path))));
        }
        let call = |verb: &str| {
            let args = [OsStr::new("worktree"), verb.as_ref(), path.as_os_str()];
            Git::change(&self.project, path, args).run()
        };
        // Git removes file by file. The mark comes before the first, so that no later pass commits what is gone.
        let leaving = admin.join(LEAVING);
        put_mark(&leaving)?;
        match call("unlock") {
            // A killed pass may have unlocked it already.
            Err(error) if !error.says("is not locked") => return Err(error.into()),
            _ => {}
        }
        match call("remove") {
            Ok(_) => Ok(Removal::Removed),
            // 128: git has refused, and removed nothing. Locked again, so that no `git worktree prune` forgets it.
            Err(error) if error.is(128) && !error.is_of_the_machine() => {
                durable::remove(&leaving)?;
                call("lock")?;
                Ok(Removal::Kept(error.to_string()))
            }
            // Git was killed, or met a file that it may not remove: the mark stays, and the next call goes on.
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what a git that was killed in [`Self::remove_whole`] has left. By hand: to git the missing files are
    /// changes.
    fn finish_removal(&self, worktree: &Worktree) -> Result<Removal> {
        let path = &worktree.path;
        if durable::exists(path)? {
            let admins = self.registered()?;
            let admin = admins.iter().find(|(_, at)| at == path).map(|(admin, _)| admin);
            let file = path.join(".git");
            // Git may have removed the `.git` file first. It is made anew, as by `git worktree repair`.
            if let Some(admin) = admin
                && !durable::exists(&file)?
            {
                let line = [b"gitdir: ", admin.as_os_str().as_bytes(), b"\n"].concat();
                durable::write_unsynced(&file, &line, durable::SHARED)?;
            }
            let present = GitStatus::of(path)?.present;
            if present > 0 {
                return Ok(Removal::Kept(format!(
                    "{} was to be removed, and has {present} new or changed files since: look at them, and remove it",
                    shown(path)
                )));
            }
        }
        Ok(match self.throw_away(worktree) {
            Ok(()) => Removal::Removed,
            Err(error) => Removal::Kept(format!("{error:#}: remove it by hand")),
        })
    }

    /// What would be lost with a worktree, beyond what git itself looks at.
    fn why_kept(&self, worktree: &Worktree) -> Result<Option<String>> {
        if let Some(what) = under_way(worktree)? {
            return Ok(Some(format!("{what} is under way in it; finish or abort it")));
        }
        let lock = admin_of(&worktree.path)?.map(|admin| read_line(&admin.join("locked")));
        let lock = lock.transpose()?.flatten();
        if let Some(reason) = lock.filter(|it| !it.is_empty() && !it.starts_with(b"ccl ")) {
            let reason = String::from_utf8_lossy(&reason);
            return Ok(Some(format!(
                "somebody has locked it ({}); `git worktree unlock` it",
                escape(&reason)
            )));
        }
        let status = GitStatus::of(&worktree.path)?;
        if status.changed > 0 {
            let count = status.changed;
            return Ok(Some(format!(
                "`git status` there names {count} uncommitted; commit or remove them"
            )));
        }
        if status.branch.as_deref() == Some(&worktree.branch) {
            return Ok(None);
        }
        let own = &worktree.branch;
        let is_in_own = match &status.head {
            Some(head) => self.is_ancestor(head, &format!("refs/heads/{own}"))?,
            None => true,
        };
        Ok(match (is_in_own, &status.branch, &status.head) {
            (false, Some(other), _) => Some(format!(
                "`{other}` is checked out in it, with commits that `{own}` does not have; `git merge` them into `{own}`"
            )),
            (false, None, Some(head)) => Some(format!(
                "its HEAD is detached at {head}, which `{own}` does not have; make a branch of it"
            )),
            _ => None,
        })
    }

    /// Deletes the task's branch where `tip` is its last commit and nobody has it checked out.
    pub(super) fn delete_branch(&self, worktree: &Worktree, tip: &str) -> Result<bool> {
        if self.find_tip(&worktree.branch)?.as_deref() != Some(tip)
            || self.checked_out(&worktree.branch)?.is_some()
        {
            return Ok(false);
        }
        let name = format!("refs/heads/{}", worktree.branch);
        let args = ["update-ref", "-d", name.as_str(), tip];
        match Git::change(&self.project, &worktree.path, args).run() {
            Ok(_) => Ok(true),
            // It has moved since: the branch stays, and is in nobody's way.
            Err(GitError::Failed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A lock that keeps others from the worktree or its branch: of a git at work, or of one that was killed.
    fn lock(&self, worktree: &Worktree) -> Result<Option<PathBuf>> {
        let Some(admin) = admin_of(&worktree.path)? else { return Ok(None) };
        for entry in durable::list_dir(&admin)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "lock") {
                return Ok(Some(path));
            }
        }
        let of_branch = self.common.join(format!("refs/heads/{}.lock", worktree.branch));
        Ok(durable::exists(&of_branch)?.then_some(of_branch))
    }

    /// Waits until nothing is locked that a rebase needs. Returns the lock that stays.
    pub(super) fn wait_for_lock(&self, worktree: &Worktree) -> Result<Option<PathBuf>> {
        // Where `packed-refs` is locked, git cannot delete its note of a commit that it picks, and says nothing of it.
        let packed = self.common.join("packed-refs.lock");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lock = match self.lock(worktree)? {
                None => durable::exists(&packed)?.then(|| packed.clone()),
                lock => lock,
            };
            match lock {
                Some(_) if Instant::now() < deadline => sleep(POLL),
                found => return Ok(found),
            }
        }
    }

    /// How much there is of the worktree. Asked before any call of git in it: where its `.git` is missing, git would
    /// work in the person's checkout, which lies above.
    pub(super) fn find(&self, worktree: &Worktree) -> Result<Extent> {
        let path = &worktree.path;
        let exists = durable::exists(path)?;
        let admin = admin_of(path)?;
        let Some(admin) = admin else {
            let known = self.registered()?.into_iter().find(|(_, at)| at == path);
            return match known {
                Some((admin, _)) if durable::exists(&admin.join(LEAVING))? => Ok(Extent::Leaving),
                None if !exists => Ok(Extent::Nothing),
                _ => Ok(Extent::Half),
            };
        };
        if admin.parent() != Some(&self.common.join("worktrees")) {
            bail!(
                "{} is a worktree of another repository, {}: run `git worktree repair {}` if the repository was moved, else move the worktree away",
                shown(path),
                shown(&admin),
                shown(path)
            );
        }
        if durable::exists(&admin.join(LEAVING))? {
            return Ok(Extent::Leaving);
        }
        // Git writes the index last, when all files are there. One of the others is missing where git was killed as it
        // took back what it had failed to make.
        for file in ["index", "HEAD", "commondir", "gitdir"] {
            if !durable::exists(&admin.join(file))? {
                return Ok(Extent::Half);
            }
        }
        Ok(Extent::Whole)
    }

    /// Git's directories for worktrees, each with the path that it is for: `.git/worktrees/ID/gitdir`.
    pub(super) fn registered(&self) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut found = Vec::new();
        for entry in durable::list_dir(&self.common.join("worktrees"))? {
            let admin = entry?.path();
            let path = match read_line(&admin.join("gitdir"))?.filter(|line| !line.is_empty()) {
                Some(line) => admin.join(OsStr::from_bytes(&line)).parent().map(Path::to_owned),
                // A git that was killed had come no further than to its lock, with our reason. Without the lock
                // `git worktree prune` would remove it.
                None => Some(read_line(&admin.join("locked"))?.unwrap_or_default())
                    .filter(|reason| reason.is_empty() || reason.starts_with(b"ccl "))
                    .and_then(|_| Some(self.worktrees.join(admin.file_name()?))),
            };
            found.extend(path.map(|path| (admin, path)));
        }
        Ok(found)
    }

    /// Removes a worktree that nobody has worked in. Deletes the directories itself: `git worktree remove` refuses
    /// where a part is missing.
    fn throw_away(&self, worktree: &Worktree) -> Result<()> {
        // The directory first: git's notes, which name its path, show the next pass that there was something to remove.
        let known = self.registered()?.into_iter().filter(|(_, at)| *at == worktree.path);
        let admins = known.map(|(admin, _)| admin).collect::<Vec<_>>();
        for directory in [worktree.path.clone()].into_iter().chain(admins) {
            remove_dir_all(&directory)?;
        }
        Ok(())
    }

    /// Sees to it that worktrees do not show in the project's own checkout.
    fn exclude(&self) -> Result<()> {
        let directory = self.common.join("info");
        let path = directory.join("exclude");
        let old = durable::read(&path)?.unwrap_or_default();
        let line = exclude_line(&self.subdirectory);
        let is_line = |found: &[u8]| found.strip_suffix(b"\r").unwrap_or(found) == line;
        if old.split(|byte| *byte == b'\n').any(is_line) {
            return Ok(());
        }
        let before: &[u8] = if old.is_empty() || old.ends_with(b"\n") { b"" } else { b"\n" };
        durable::make_dirs(&directory)?;
        // One write at its end: another project of this repository may add its own line at this moment, the file may be
        // a link of the user's, and nobody would sweep a temporary file here.
        fs::File::options()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&[before, &line, b"\n"].concat()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Removes a directory with all that is in it, if it is there.
fn remove_dir_all(directory: &Path) -> Result<()> {
    let removed = durable::if_there(fs::remove_dir_all(directory));
    removed.map(drop).with_context(|| format!("cannot remove {}", directory.display()))
}

/// The line of gitignore(5) for the worktrees of a project that lies there in its repository.
fn exclude_line(subdirectory: &Path) -> Vec<u8> {
    let mut line = vec![b'/'];
    for part in subdirectory {
        for byte in part.as_bytes() {
            match byte {
                b'\\' | b'*' | b'?' | b'[' => line.extend([b'\\', *byte]),
                // A line has no newline; this is any one character.
                b'\n' => line.push(b'?'),
                _ => line.push(*byte),
            }
        }
        line.push(b'/');
    }
    line.extend(format!("{WORKTREES}/").bytes());
    line
}

/// The sentence about a directory that git knows nothing of, or of which a part is missing.
pub(super) fn no_worktree(worktree: &Worktree) -> String {
    format!(
        "{} is no worktree of git any more: look at what is in it, and move it away",
        shown(&worktree.path)
    )
}

/// Waits for a git that a killed pass left at work in the worktree.
pub(super) fn wait_for_idle(worktree: &Worktree) -> Result<()> {
    let still = wait_for_earlier_git(&worktree.path)
        .with_context(|| format!("cannot see whether git works in {}", worktree.path.display()))?;
    if let Some(pid) = still {
        bail!(Failure::Temporary(format!(
            "git, process {pid}, is still at work in {}: the next pass looks again",
            shown(&worktree.path)
        )));
    }
    Ok(())
}

/// What somebody has begun in the worktree, and not finished: gitrepository-layout(5).
pub(super) fn under_way(worktree: &Worktree) -> Result<Option<&'static str>> {
    let Some(admin) = admin_of(&worktree.path)? else { return Ok(None) };
    for (file, what) in [
        ("rebase-merge", "a rebase"),
        ("rebase-apply", "a rebase or `git am`"),
        ("MERGE_HEAD", "a merge"),
        ("CHERRY_PICK_HEAD", "a cherry-pick"),
        ("REVERT_HEAD", "a revert"),
        ("sequencer", "a cherry-pick or revert"),
    ] {
        if durable::exists(&admin.join(file))? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}
