//! A run's branch: its worktree is made before the launch, and after the turn what is in it is finished and landed.
//!
//! The claim names path, branch and base before git is called, and what came of them before the worktree goes. So the next
//! pass goes on where a killed one stood.

use anyhow::Result;

use super::Pool;
use super::landing_turn::{has_turn, take_turn};
use crate::checkout::{
    self, LandStep, Leftovers, Obstacle, OpenError, Removal, Repository, is_temporary,
};
use crate::config::Occasion;
use crate::durable;
use crate::error::Failure;
use crate::marker::{self, ClaimMarker, ClaimedCheckout, Phase, ToLand, Worktree};
use crate::next_step::{AfterTurn, BranchOutcome, Prospect};
use crate::notify::Notice;
use crate::process;
use crate::queue::{Claim, Project, WaitingTask};
use crate::task::{
    BranchEnding, Check, CheckoutEnding, Ending, GitEnding, Isolation, Land, Outcome, Summary,
    TaskRules,
};

/// Why a task is filed as failed although its agent has ended its turn.
pub(super) const UNJUDGED: &str = "its check cannot judge it";

/// Why a branch that was green does not land.
pub(crate) const NOT_WHAT_WAS_GREEN: &str = "its check, or what its agent has left running, changes the branch each time: end that, and look at the branch";

/// How often a branch that has its turn to land is checked again because somebody other than `ccl` has moved its base
/// meanwhile.
const ROUNDS: u32 = 3;

impl Pool<'_> {
    /// What the project's own checkout is like before an agent works in it; `None` outside of git, or where git does not
    /// say: nothing depends on it but the report.
    pub(super) fn shared_checkout(
        &self,
        project: &Project,
        rules: &TaskRules,
    ) -> Option<ClaimedCheckout> {
        if rules.isolation == Isolation::Worktree || !checkout::is_inside_git(project.path()) {
            return None;
        }
        match checkout::state(project.path()) {
            Ok(state) => Some(ClaimedCheckout::Shared { head: state.head, dirty: state.dirty }),
            Err(error) => {
                self.log.debug(format_args!("{error:#}"));
                None
            }
        }
    }

    /// The worktree that the task is to have: the claim names it before git makes it. The checkout's lock is held.
    pub(super) fn plan_worktree(
        &self,
        repository: &Repository,
        task: &WaitingTask,
        rules: &TaskRules,
    ) -> Result<ClaimedCheckout, OpenError> {
        // An attempt that was interrupted, or has failed and is retried, goes on in its worktree.
        let earlier = task.task.ending.as_ref().filter(|ending| ending.outcome != Outcome::Done);
        let own = earlier.and_then(Ending::branch).and_then(|it| repository.worktree_of(it));
        let worktree =
            repository.plan(task.at.name.as_str(), rules.base.as_deref(), own.as_ref())?;
        let fresh = own.as_ref() != Some(&worktree);
        Ok(ClaimedCheckout::Own { worktree, fresh })
    }

    /// Makes the worktree that the claim names. Where that is impossible, returns the sentence that says what to mend.
    /// The checkout's lock is held.
    pub(super) fn make_worktree(
        &self,
        repository: &Repository,
        claim: &Claim,
    ) -> Result<Option<String>> {
        let Some(ClaimedCheckout::Own { worktree, fresh }) = &claim.marker().work.checkout else {
            return Ok(None);
        };
        let mut made = repository.make(worktree, claim.marker().run, *fresh);
        if !fresh {
            // Before the agent works there: a later pass must not take its work for what a killed rebase has left.
            made = made.and_then(|()| repository.take_back_ours(worktree).map(drop));
        }
        match made {
            Err(error) if !is_temporary(&error) => Ok(Some(format!("{error:#}"))),
            made => made.map(|()| None),
        }
    }

    /// Takes away what was made for an agent that never started. What cannot be taken away stays, and the next attempt
    /// takes another name; an error means that a later pass can take it away.
    pub(super) fn unmake_worktree(&self, claim: &Claim) -> Result<()> {
        self.take_away(claim, Repository::unmake)
    }

    /// Takes away the worktree of a task whose set-up has failed.
    pub(super) fn discard_worktree(&self, claim: &Claim) -> Result<()> {
        self.take_away(claim, Repository::discard)
    }

    /// Removes the worktree of a task whose file an agent or a person has moved, unless something in it would be lost. A
    /// branch with commits stays.
    pub(super) fn leave_worktree(&self, claim: &Claim) -> Result<()> {
        let Some(ClaimedCheckout::Own { worktree, .. }) = &claim.marker().work.checkout else {
            return Ok(());
        };
        let Some(_lock) = claim.lock_worktree(worktree)? else { return Ok(()) };
        match self.repository(claim).and_then(|it| it.remove(worktree)) {
            Err(error) if is_temporary(&error) => return Err(error),
            Err(error) => {
                let path = worktree.path.display();
                self.log.warn(format_args!("{}: {path} stays as it is: {error:#}", claim.name()));
            }
            Ok(Removal::Kept(why)) => {
                self.log.warn(format_args!("{}: its worktree {why}", claim.name()));
            }
            Ok(Removal::Removed | Removal::Gone) => {}
        }
        Ok(())
    }

    fn take_away(
        &self,
        claim: &Claim,
        how: fn(&Repository, &Worktree) -> Result<()>,
    ) -> Result<()> {
        // What an earlier attempt has worked in stays for the next one.
        let Some(ClaimedCheckout::Own { worktree, fresh: true }) = &claim.marker().work.checkout
        else {
            return Ok(());
        };
        let take_away = || -> Result<()> {
            let Some(_lock) = claim.lock_worktree(worktree)? else { return Ok(()) };
            how(&self.repository(claim)?, worktree)
        };
        match take_away() {
            Err(error) if is_temporary(&error) => Err(error),
            Err(error) => {
                let path = worktree.path.display();
                self.log.warn(format_args!("the worktree {path} stays: {error:#}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Commits what the agent left, brings the branch into its base where that is wanted, notes what came of it, and
    /// removes the worktree. The agent has ended. Where it is [`BranchOutcome::Changed`] the claim is in phase `checking`
    /// again.
    pub(super) fn finish_branch(&self, claim: &mut Claim) -> Result<BranchOutcome> {
        let outcome = match &claim.marker().work.checkout {
            Some(ClaimedCheckout::Own { worktree, .. }) => {
                let mut worktree = worktree.clone();
                let _lock = claim.lock_worktree(&worktree)?.ok_or_else(|| claim.lost())?;
                match self.finish_locked(claim, &mut worktree) {
                    // No later pass could do more, and the session is not to wait for a person.
                    Err(error) if !is_temporary(&error) => {
                        self.leave_branch(claim, &worktree, &error)?
                    }
                    finished => finished?,
                }
            }
            Some(ClaimedCheckout::Shared { .. }) | None => {
                BranchOutcome::Finished { landed: false }
            }
        };
        Ok(match outcome {
            BranchOutcome::Finished { .. } if is_unjudged(claim.marker()) => {
                BranchOutcome::Unjudged(self.why_unjudged(claim))
            }
            outcome => outcome,
        })
    }

    fn why_unjudged(&self, claim: &Claim) -> String {
        let why = match self.git_ending(claim) {
            Some(GitEnding::Branch(branch)) => branch.reason,
            Some(GitEnding::Checkout(_)) | None => None,
        };
        format!("{UNJUDGED}: {}", why.as_deref().unwrap_or("its worktree is broken"))
    }

    /// The checkout's lock is held.
    fn finish_locked(&self, claim: &mut Claim, worktree: &mut Worktree) -> Result<BranchOutcome> {
        let is_green = claim.marker().work.checked.as_ref().is_some_and(|it| it.exit == 0);
        let may_land = claim.marker().work.git.is_none()
            && wants_to_land(claim)
            && why_not_to_land(claim, worktree, is_green).is_none();
        // Before git is called: a branch may wait for hours, and every pass comes by here.
        if may_land && let Some(behind) = self.wait_for_turn(claim)? {
            return Ok(BranchOutcome::Waits { behind });
        }
        let repository = self.repository(claim)?;
        if claim.marker().work.git.is_none() {
            // Counted only with the turn: then somebody other than `ccl` has moved its base.
            let moved = match has_turn(claim.marker()) {
                true => claim.marker().work.rounds.rebased,
                false => 0,
            };
            // Called once: what only a second call could commit, no check would have seen.
            let stuck = self.commit_leftovers(&repository, worktree, claim)?;
            let has_changed =
                self.has_changed_since_its_check(&repository, worktree, claim, stuck.is_some())?;
            let changed = claim.marker().work.rounds.changed;
            if has_changed && changed < ROUNDS {
                // Without the turn: a check that changes what it judges would keep the others waiting for ever.
                claim.update(self.now, |claim| {
                    check_again(claim);
                    claim.work.rounds.changed = changed + 1;
                    claim.work.landing = None;
                })?;
                return Ok(BranchOutcome::Changed);
            }
            let mut landed = None;
            let mut reason = if has_changed { Some(NOT_WHAT_WAS_GREEN.to_owned()) } else { stuck };
            // Where something is in the way, there is work as well: the agent may have left it on another branch.
            let has_work = reason.is_some() || repository.has_commits(worktree)?;
            if wants_to_land(claim) && has_work {
                let why_not = reason.clone().or_else(|| why_not_to_land(claim, worktree, is_green));
                let outcome = match why_not {
                    Some(why) => LandStep::Refused(why),
                    None => self.land(&repository, worktree, claim)?,
                };
                match outcome {
                    LandStep::Landed => landed = Some(true),
                    LandStep::Rebased if moved < ROUNDS => {
                        claim.update(self.now, |claim| {
                            check_again(claim);
                            claim.work.rounds.rebased = moved + 1;
                            take_turn(claim, self.now);
                        })?;
                        return Ok(BranchOutcome::Changed);
                    }
                    LandStep::Rebased => {
                        reason = Some(checkout::base_moved_on(ROUNDS));
                        landed = Some(false);
                    }
                    // The agent gets a conflict once.
                    LandStep::Conflict(files) if claim.marker().work.rounds.conflicts == 0 => {
                        return Ok(BranchOutcome::Conflict(conflict_message(worktree, &files)));
                    }
                    LandStep::Conflict(files) => {
                        let files = files.join(", ");
                        reason = Some(format!("its agent did not solve the conflict in {files}"));
                        landed = Some(false);
                    }
                    LandStep::Refused(why) => {
                        reason = Some(why);
                        landed = Some(false);
                    }
                }
            }
            let ending = BranchEnding {
                summary: repository.summary(worktree)?,
                base_branch: worktree.base_branch.clone(),
                landed,
                reason,
            };
            self.note_branch(claim, ending)?;
        }
        if let Removal::Kept(why) = repository.remove(worktree)? {
            self.log.warn(format_args!("{}: its worktree {why}", claim.name()));
        }
        if let (true, Some(base)) = (has_landed(claim), &worktree.base_branch) {
            repository.delete_landed(worktree, base)?;
        }
        Ok(self.note_landed(claim, worktree))
    }

    /// The outcome of a branch with which nothing more can be done. If it has landed, the journal gets a line.
    fn note_landed(&self, claim: &Claim, worktree: &Worktree) -> BranchOutcome {
        let landed_in = worktree.base_branch.as_deref().filter(|_| has_landed(claim));
        if let Some(base) = landed_in {
            let at = (claim.project().path(), claim.name().as_str());
            self.records.landed(at, &worktree.branch, base);
        }
        BranchOutcome::Finished { landed: landed_in.is_some() }
    }

    /// Finishes a branch with which git can do no more: all of it stays where it is, and the claim says why.
    fn leave_branch(
        &self,
        claim: &mut Claim,
        worktree: &Worktree,
        error: &anyhow::Error,
    ) -> Result<BranchOutcome> {
        let why = format!("{error:#}");
        let path = worktree.path.display();
        self.log.warn(format_args!("{}: {path} stays as it is: {why}", claim.name()));
        if claim.marker().work.git.is_none() {
            let Worktree { branch, base, .. } = worktree;
            let ending = BranchEnding {
                summary: Summary::of_nothing(branch, base),
                base_branch: worktree.base_branch.clone(),
                landed: wants_to_land(claim).then_some(false),
                reason: Some(why),
            };
            self.note_branch(claim, ending)?;
        }
        Ok(self.note_landed(claim, worktree))
    }

    /// Notes what has become of the branch; from then on only its worktree has to go.
    fn note_branch(&self, claim: &mut Claim, ending: BranchEnding) -> Result<()> {
        // Before the claim: if the pass is killed in between, the next one finishes the branch, and does this, again.
        match ending.landed {
            Some(false) => self.note_to_land(claim, &ending)?,
            // An earlier pass that was killed may have listed it as to land when something was still in the way.
            _ => {
                durable::remove(&claim.project().to_land_path(&ending.summary.branch)).map(drop)?;
            }
        }
        claim.update(self.now, |claim| claim.work.git = Some(GitEnding::Branch(ending)))
    }

    /// What the run left in git, for the ending of an attempt that was not finished, or of one in a shared checkout.
    pub(super) fn git_ending(&self, claim: &Claim) -> Option<GitEnding> {
        let work = &claim.marker().work;
        let ending = match (&work.git, &work.checkout) {
            (Some(git), _) => return Some(git.clone()),
            (None, None) => return None,
            (None, Some(ClaimedCheckout::Shared { head, dirty })) => {
                checkout::state(claim.project().path()).map(|after| {
                    GitEnding::Checkout(CheckoutEnding {
                        head_before: head.clone(),
                        head_after: after.head,
                        dirty: [*dirty, after.dirty],
                    })
                })
            }
            (None, Some(ClaimedCheckout::Own { worktree, .. })) => {
                let summary = self.repository(claim).and_then(|it| it.summary(worktree));
                summary.map(|summary| {
                    GitEnding::Branch(BranchEnding {
                        summary,
                        base_branch: worktree.base_branch.clone(),
                        landed: None,
                        reason: None,
                    })
                })
            }
        };
        // The outcome is noted all the same.
        ending.inspect_err(|error| self.log.warn(format_args!("{}: {error:#}", claim.name()))).ok()
    }

    pub(super) fn repository(&self, claim: &Claim) -> Result<Repository> {
        let project = claim.project().path();
        Repository::open(project).map_err(|error| match error {
            // A missing git is not the project's fault: a later pass may find it.
            OpenError::Obstacle(Obstacle::GitMissing) => {
                Failure::Temporary(Obstacle::GitMissing.to_string()).into()
            }
            OpenError::Obstacle(obstacle) => obstacle.into(),
            OpenError::Failed(error) => error,
        })
    }

    pub(super) fn commit_leftovers(
        &self,
        repository: &Repository,
        worktree: &Worktree,
        claim: &Claim,
    ) -> Result<Option<String>> {
        // The agent may have removed the worktree; the branch is there all the same.
        if !durable::exists(&worktree.path)? {
            return Ok(None);
        }
        Ok(match repository.commit_leftovers(worktree, claim.name().as_str())? {
            Leftovers::None | Leftovers::Committed => None,
            Leftovers::Stuck(why) => Some(why),
        })
    }

    /// Whether the branch is another than the one that its check has found to be green: something that its agent had left
    /// running has changed it, or a pass was killed that had rebased it. `is_stuck`: what lies in its worktree cannot be
    /// committed.
    fn has_changed_since_its_check(
        &self,
        repository: &Repository,
        worktree: &Worktree,
        claim: &Claim,
        is_stuck: bool,
    ) -> Result<bool> {
        let work = &claim.marker().work;
        let Some(check) = work.check.as_ref().filter(|_| work.checked.is_some()) else {
            return Ok(false);
        };
        if !durable::exists(&worktree.path)? {
            return Ok(false);
        }
        let is_what_was_judged = match &check.head {
            Some(judged) => repository.head_of(worktree)? == *judged,
            // It could not be committed then. If it can be now, no check has seen what is on the branch.
            None => is_stuck,
        };
        if is_what_was_judged {
            return Ok(false);
        }
        self.log.info(format_args!("{}: it has changed since its check", claim.name()));
        // What the agent has left running would go on changing it.
        process::terminate_all(claim.marker().run, None, process::GRACE)?;
        Ok(true)
    }

    /// Takes away what a green check has left in the worktree of its branch. Called when the check is accepted: what is
    /// found there later is an agent's or a person's. Where it cannot be taken away, nothing more is done with the
    /// branch: the next step would commit it.
    pub(super) fn drop_what_the_check_left(&self, claim: &mut Claim) -> Result<()> {
        let work = &claim.marker().work;
        let Some(ClaimedCheckout::Own { worktree, .. }) = &work.checkout else { return Ok(()) };
        // No head: the agent's work could not be committed, and lies among what the check has left.
        let Some(judged) = work.check.as_ref().and_then(|check| check.head.as_ref()) else {
            return Ok(());
        };
        // A check that ran in a worktree of its own has left nothing in this one.
        if !work.rules.protect.is_empty() || !durable::exists(&worktree.path)? {
            return Ok(());
        }
        let _lock = claim.lock_worktree(worktree)?.ok_or_else(|| claim.lost())?;
        let dropped = self.repository(claim).and_then(|repository| {
            match repository.head_of(worktree)? == *judged {
                true => repository.drop_uncommitted(worktree),
                // Something has changed the branch meanwhile: a check judges it anew, with all that lies there.
                false => Ok(0),
            }
        });
        match dropped {
            Err(error) if is_temporary(&error) => return Err(error),
            Err(error) => {
                let worktree = worktree.clone();
                self.leave_branch(claim, &worktree, &error)?;
            }
            Ok(0) => {}
            Ok(dropped) => self.log.info(format_args!(
                "{}: its check has left {dropped} files in its worktree, which go with it",
                claim.name()
            )),
        }
        Ok(())
    }

    fn land(
        &self,
        repository: &Repository,
        worktree: &mut Worktree,
        claim: &mut Claim,
    ) -> Result<LandStep> {
        let is_checked = claim.marker().work.rules.check.command().is_some();
        // The agent may have removed its worktree; git rebases in one.
        repository.make(worktree, claim.marker().run, false)?;
        repository.land(worktree, is_checked, |rebased| {
            claim.update(self.now, |claim| {
                claim.work.checkout =
                    Some(ClaimedCheckout::Own { worktree: rebased.clone(), fresh: false });
            })
        })
    }

    fn note_to_land(&self, claim: &Claim, ending: &BranchEnding) -> Result<()> {
        let marker = ToLand {
            stamp: self.stamp(),
            task: claim.name().as_str().to_owned(),
            branch: ending.summary.branch.clone(),
            reason: ending.reason.clone().unwrap_or_default(),
        };
        let path = claim.project().to_land_path(&marker.branch);
        durable::make_dir(path.parent().unwrap_or(&path))?;
        marker::write(&path, &marker)?;
        let notice = Notice::of_run(Occasion::ToLand, claim.marker().run, self.now)
            .about(claim.project().path(), claim.name().as_str())
            .because(format!("{}: {}", marker.branch, marker.reason));
        self.records.outbox().queue_once(notice, || claim.text())
    }
}

fn has_landed(claim: &Claim) -> bool {
    let git = &claim.marker().work.git;
    matches!(git, Some(GitEnding::Branch(BranchEnding { landed: Some(true), .. })))
}

fn wants_to_land(claim: &Claim) -> bool {
    claim.marker().work.rules.land == Land::Rebase
}

/// What follows the turn of the claim's agent, or, in phase `checking`, a green check.
pub(super) fn after_turn(claim: &Claim) -> AfterTurn {
    let marker = claim.marker();
    let is_checked = marker.work.rules.check.command().is_some();
    match (marker.phase, &marker.work.checkout) {
        (Phase::Claimed | Phase::Launching | Phase::Working, _) if is_checked => AfterTurn::Check,
        // Work that no check has judged is never filed as done.
        (Phase::Landing, _) if is_unjudged(marker) => AfterTurn::Land(Prospect::Unjudged),
        (phase, Some(ClaimedCheckout::Own { worktree, .. })) => {
            let is_green = is_checked && matches!(phase, Phase::Checking | Phase::Landing);
            let lands = match marker.work.git {
                Some(_) => has_landed(claim),
                None => {
                    wants_to_land(claim) && why_not_to_land(claim, worktree, is_green).is_none()
                }
            };
            AfterTurn::Land(if lands { Prospect::Landed } else { Prospect::Kept })
        }
        (_, Some(ClaimedCheckout::Shared { .. }) | None) => AfterTurn::File,
    }
}

/// Whether a check was to judge the work, and none has.
fn is_unjudged(claim: &ClaimMarker) -> bool {
    claim.work.rules.check.command().is_some() && claim.work.checked.is_none()
}

/// Why the branch does not land by itself. `is_green`: its check is.
fn why_not_to_land(claim: &Claim, worktree: &Worktree, is_green: bool) -> Option<String> {
    let name = claim.name();
    if worktree.base_branch.is_none() {
        return Some("it did not start from a branch, so there is none to land in".to_owned());
    }
    match claim.marker().work.rules.check {
        Check::Off => None,
        Check::Command(_) if is_green => None,
        Check::Unsaid | Check::Command(_) => Some(format!(
            "nothing has checked it: look at it and run `ccl land {name}`, or say `check: none` in project.yaml"
        )),
    }
}

fn conflict_message(worktree: &Worktree, files: &[String]) -> String {
    let base = worktree.base_branch.as_deref().unwrap_or(&worktree.base);
    format!(
        "While you worked, {base} has moved on. Rebase your branch onto {base}, with `git rebase {base}`, and solve the conflicts in {}. Commit all of it on your branch, and do not touch {base} itself.",
        files.join(", ")
    )
}

/// Sends the work back to its check: it is not, or not any more, what a check has judged.
fn check_again(claim: &mut ClaimMarker) {
    claim.phase = Phase::Checking;
    claim.work.check = None;
    claim.work.checked = None;
}
