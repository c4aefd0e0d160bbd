//! A claimed task: the only thing that can be launched, and the steps by which
//! it is given back or filed.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use uuid::Uuid;

use super::note;
use super::waiting::{self, Held, Seen, Skip};
use super::{Folder, Name, Project};
use crate::durable::{self, Staged};
use crate::lock::Lock;
use crate::marker::{self, ClaimedCheckout, Phase, Worktree};
use crate::process::Writers;
use crate::task::{self, Ending, Outcome};

/// A task that this run has: `T.md.dispatched`, with the claim beside it.
#[derive(Debug)]
pub(crate) struct Claim {
    project: Project,
    name: Name,
    marker: marker::ClaimMarker,
}

/// What lies where a session's marker points.
#[derive(Debug)]
pub(crate) enum ClaimLookup {
    /// No claim of this run: the session's marker is void.
    Void,
    /// The claim, but no task: it was never renamed, or the agent or a person moved it.
    TaskMissing(Claim),
    /// The claim and its task. The outcome is there if it was noted already and
    /// the file only has to be placed.
    Active(Claim, Option<Outcome>),
}

impl Project {
    /// Claims a waiting task, if it is still the file that was `seen`, nobody
    /// else has one of its name, and at most `max_others` tasks of the project
    /// are at work, of whichever pool.
    pub(crate) fn claim(
        &self,
        name: &Name,
        seen: &Seen,
        max_others: Option<usize>,
        marker: marker::ClaimMarker,
        writers: &Writers,
    ) -> Result<Claim, Skip> {
        let claim = Claim { project: self.clone(), name: name.clone(), marker };
        // Many sessions wait for the lock: what takes time is done before it is taken, or once it is released.
        let staged = claim.stage()?;
        let lock = self.lock()?;
        let (waiting, dispatched) = (self.waiting_path(name), self.dispatched_path(name));
        if !seen.is_still(&waiting) {
            return Err(Skip::Gone);
        }
        if self.is_active(name.as_str(), &waiting)? {
            return Err(Held::NameActive.into());
        }
        if let Some(max_others) = max_others
            && self.list()?.dispatched.len() > max_others
        {
            return Err(Skip::Full);
        }
        staged.put(&self.claim_path(name))?;
        // Not every file system keeps the order, and no pass touches a dispatched task without a claim.
        durable::sync_dir(&self.folder(Folder::Inbox))?;
        // Where this fails, or is never reached, the claim lies beside a waiting task, and is void.
        durable::rename_noreplace(&waiting, &dispatched).with_context(|| {
            format!("cannot rename {} to {}", waiting.display(), dispatched.display())
        })?;
        drop(lock);
        durable::sync_dir(&self.folder(Folder::Inbox))?;
        // A process that had opened the file before the rename may still write to it, or has written
        // and closed it since: with these two looks in this order neither is missed.
        if waiting::is_being_written(&dispatched, writers)? || !seen.is_still(&dispatched) {
            claim.release()?;
            return Err(Held::BeingWritten.into());
        }
        Ok(claim)
    }

    /// Looks for the claim of `run` on `name`. An unreadable claim is an error,
    /// and nothing is done about its task.
    pub(crate) fn find_claim(&self, name: &Name, run: Uuid, owner: Uuid) -> Result<ClaimLookup> {
        let found: Option<marker::ClaimMarker> = marker::read(&self.claim_path(name))?;
        let Some(marker) = found.filter(|claim| claim.run == run && claim.owner == owner) else {
            return Ok(ClaimLookup::Void);
        };
        let claim = Claim { project: self.clone(), name: name.clone(), marker };
        if !claim.is_at_work()? {
            return Ok(ClaimLookup::TaskMissing(claim));
        }
        // The last line may be that of an earlier attempt.
        let outcome =
            claim.ending()?.filter(|ending| ending.run == run).map(|ending| ending.outcome);
        Ok(ClaimLookup::Active(claim, outcome))
    }
}

impl Claim {
    pub(crate) fn marker(&self) -> &marker::ClaimMarker {
        &self.marker
    }

    pub(crate) fn project(&self) -> &Project {
        &self.project
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Where its agent works.
    pub(crate) fn directory(&self) -> PathBuf {
        match &self.marker.work.checkout {
            Some(ClaimedCheckout::Own { worktree, .. }) => worktree.directory(),
            Some(ClaimedCheckout::Shared { .. }) | None => self.project.path().to_owned(),
        }
    }

    pub(crate) fn advance(&mut self, phase: Phase, now: Timestamp) -> Result<()> {
        self.update(now, |marker| marker.phase = phase)
    }

    /// Notes what has changed of the run.
    pub(crate) fn update(
        &mut self,
        now: Timestamp,
        change: impl FnOnce(&mut marker::ClaimMarker),
    ) -> Result<()> {
        change(&mut self.marker);
        self.marker.stamp.at = now;
        self.rewrite()
    }

    /// Gives the task back as it is: nothing was started, no attempt counts.
    pub(crate) fn release(&self) -> Result<Option<PathBuf>> {
        self.place(Outcome::Released)
    }

    /// Writes the outcome into the task, with its result and footer, and then
    /// moves it where the outcome says. `None` if it has left the inbox
    /// meanwhile; the claim is removed all the same.
    pub(crate) fn finish(
        &self,
        ending: &Ending,
        result: Option<&str>,
        footer: Option<&str>,
    ) -> Result<Option<PathBuf>> {
        let _lock = self.project.lock()?;
        if !self.is_ours()? {
            return Ok(None);
        }
        if !self.is_at_work()? {
            return self.remove_marker().map(|()| None);
        }
        let dispatched = self.project.dispatched_path(&self.name);
        // A pass that was killed before the move has noted it already.
        let noted = self.ending()?.is_some_and(|old| old.run == ending.run)
            || note::note(&dispatched, ending, result, footer)?;
        let folder = Folder::from(ending.outcome);
        if noted {
            return self.move_to(folder);
        }
        let placed =
            self.project.place_with_reason(&dispatched, folder, &self.name, ending, result)?;
        self.remove_marker()?;
        Ok(Some(placed))
    }

    /// Moves the task where the outcome says. Nothing is noted in it: an earlier pass has done that.
    pub(crate) fn place(&self, outcome: Outcome) -> Result<Option<PathBuf>> {
        let _lock = self.project.lock()?;
        match self.is_ours()? {
            true => self.move_to(Folder::from(outcome)),
            false => Ok(None),
        }
    }

    /// Removes the claim of a task that is not there any more.
    pub(crate) fn remove(&self) -> Result<()> {
        let _lock = self.project.lock()?;
        match self.is_ours()? {
            true => self.remove_marker(),
            false => Ok(()),
        }
    }

    fn remove_marker(&self) -> Result<()> {
        durable::remove(&self.project.claim_path(&self.name)).map(drop)
    }

    /// Takes the lock under which the run's worktree is changed. `None`: the task came back into the inbox, and
    /// another run has claimed it with a worktree of the same name. That claim was written under this lock, too.
    pub(crate) fn lock_worktree(&self, worktree: &Worktree) -> Result<Option<Lock>> {
        let lock = self.project.lock_checkout()?;
        let is_anothers = self.on_disk()?.is_some_and(|claim| {
            let its = claim.work.checkout;
            claim.run != self.marker.run
                && matches!(its, Some(ClaimedCheckout::Own { worktree: its, .. }) if its.path == worktree.path)
        });
        Ok((!is_anothers).then_some(lock))
    }

    /// What is wrong where the run needs its claim, and has it no more.
    pub(crate) fn lost(&self) -> anyhow::Error {
        anyhow!(
            "{} is not ours any more: it came back into the inbox, and was claimed anew",
            self.name
        )
    }

    /// Whether the claim on disk is still this run's. A task that came back into
    /// the inbox may have been claimed anew by anybody since it was looked at.
    /// The caller holds the lock.
    fn is_ours(&self) -> Result<bool> {
        Ok(self.on_disk()?.is_some_and(|claim| claim.run == self.marker.run))
    }

    fn on_disk(&self) -> Result<Option<marker::ClaimMarker>> {
        Ok(marker::read(&self.project.claim_path(&self.name))?)
    }

    fn is_at_work(&self) -> Result<bool> {
        durable::exists(&self.project.dispatched_path(&self.name))
    }

    /// The caller holds the lock.
    fn move_to(&self, folder: Folder) -> Result<Option<PathBuf>> {
        // The claim goes last: without its task it is void, but no pass touches a dispatched task without a claim.
        let dispatched = self.project.dispatched_path(&self.name);
        let placed = if self.is_at_work()? {
            Some(self.project.place(&dispatched, folder, &self.name)?)
        } else {
            None
        };
        self.remove_marker()?;
        Ok(placed)
    }

    /// The text of the task, as it is now; `None` where it is no text.
    pub(crate) fn text(&self) -> Result<Option<String>> {
        note::read_text(&self.project.dispatched_path(&self.name))
    }

    /// The ending line of the task, as it is now.
    pub(crate) fn ending(&self) -> Result<Option<Ending>> {
        Ok(self.text()?.and_then(|text| task::split(&text).read_ending()))
    }

    /// Writes what has changed, if the claim is still ours.
    fn rewrite(&self) -> Result<()> {
        let staged = self.stage()?;
        let lock = self.project.lock()?;
        if !self.is_ours()? {
            return Err(self.lost());
        }
        staged.put(&self.project.claim_path(&self.name))?;
        drop(lock);
        durable::sync_dir(&self.project.folder(Folder::Inbox))
    }

    fn stage(&self) -> Result<Staged> {
        marker::stage(&self.project.claim_path(&self.name), &self.marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AgentKind;
    use crate::marker::{Stamp, StartedAgent, Work};

    /// A project with the task `t.md`, and a claim on it by a run of its own.
    fn claimed(directory: &std::path::Path) -> Claim {
        let project = Project::new(directory.to_owned());
        std::fs::create_dir_all(project.folder(Folder::Inbox)).unwrap();
        let name = Name::new("t.md".as_ref()).unwrap();
        let waiting = project.waiting_path(&name);
        if !waiting.exists() {
            std::fs::write(&waiting, "Do it.\n").unwrap();
        }
        let seen = project.read(&name).unwrap().seen;
        let marker = marker::ClaimMarker {
            stamp: Stamp::new("host", Timestamp::UNIX_EPOCH),
            owner: Uuid::new_v4(),
            session: "s".to_owned(),
            run: Uuid::new_v4(),
            phase: Phase::Claimed,
            attempt: 1,
            started_at: Timestamp::UNIX_EPOCH,
            agent: StartedAgent {
                name: None,
                claude_dir: None,
                kind: AgentKind::Command,
                model: None,
                session: None,
                transcript_from: 0,
            },
            work: Work::default(),
        };
        project.claim(&name, &seen, None, marker, &Writers::default()).unwrap()
    }

    #[test]
    fn a_run_that_lost_its_task_does_nothing_to_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = claimed(dir.path());
        let (project, name) = (first.project().clone(), first.name().clone());
        // A person puts the task back, and another pool claims it.
        let (waiting, dispatched) = (project.waiting_path(&name), project.dispatched_path(&name));
        std::fs::rename(&dispatched, &waiting).unwrap();
        let second = claimed(dir.path());
        first.remove().unwrap();
        assert_eq!(first.release().unwrap(), None);
        assert_eq!(first.place(Outcome::Done).unwrap(), None);
        assert!(first.advance(Phase::Working, Timestamp::UNIX_EPOCH).is_err());
        let (run, owner) = (second.marker().run, second.marker().owner);
        let found = project.find_claim(&name, run, owner).unwrap();
        assert!(matches!(found, ClaimLookup::Active(..)), "{found:?}");
        assert!(second.release().unwrap().is_some());
        assert!(waiting.exists());
    }
}
