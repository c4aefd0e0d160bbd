//! The check of a run: started in a window of the session once the agent's turn has ended well, and what follows from its
//! verdict. No pass waits for it.
//!
//! The claim names each run of the check before its ticket can be taken, and a verdict before anything is done about
//! it. If a pass is killed in between, the check judges again. The agent is never set to work on nothing, and no task
//! is filed as done without a green exit status of that very run.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use uuid::Uuid;

use super::Pool;
use super::snapshot::{Run, agent_lives};
use crate::agent::{CheckFiles, Setup};
use crate::check::{self, CheckExit, Script, TRIES};
use crate::checkout::{self, is_temporary};
use crate::durable;
use crate::marker::{
    CheckRun, CheckTarget, ClaimMarker, ClaimedCheckout, Phase, RedCheck, Round, Work, Worktree,
};
use crate::next_step::{AfterRed, CheckState, Found};
use crate::process;
use crate::queue::Claim;
use crate::task::{Check, CheckEnding, Ending, Outcome};

/// How long tmux may take to read what the check has printed; with megabytes it lags behind.
const CHECK_OUTPUT_WAIT: Duration = Duration::from_secs(20);
/// How many lines of its window are looked at for the last 4 KiB.
const LINES: u32 = 2000;

/// Where a check runs.
struct Prepared {
    directory: PathBuf,
    /// The worktree that it runs in, if any: the task's, or one that was made for the check.
    worktree: Option<Worktree>,
    tree: Option<String>,
    head: Option<String>,
}

impl Pool<'_> {
    /// How the check of a claim in phase `checking` stands. `asked`: a person asks, and may have mended what kept it
    /// from running, so that it is tried once more.
    pub(super) fn find_check(&self, run: &Run, claim: &Claim, asked: bool) -> Result<Found> {
        let work = &claim.marker().work;
        let may_try_again = asked || work.check.as_ref().is_none_or(|check| check.tries < TRIES);
        let check = match &work.check {
            Some(check) => self.check_state(run, claim.marker(), check)?,
            None => CheckState::Unstarted,
        };
        let red = match check {
            CheckState::Ended(1..) | CheckState::BaseEnded(_) => self.after_red(claim)?,
            // Without a red check nothing depends on it.
            _ => AfterRed::RequestFix,
        };
        Ok(Found::Checking { check, may_try_again, red })
    }

    fn after_red(&self, claim: &Claim) -> Result<AfterRed> {
        let work = &claim.marker().work;
        let has_rounds = work.rounds.red < work.rules.check_rounds;
        if has_rounds && let Some(why) = self.no_further_round(claim)? {
            return Ok(AfterRed::NoFurtherRound(why));
        }
        Ok(match &work.check {
            // Once for a task, at its first red check, and only where git can put the base somewhere else.
            Some(CheckRun { of: CheckTarget::Work, .. })
                if is_in_worktree(claim.marker())
                    && work.rounds.red == 0
                    && work.rounds.red_before.is_none() =>
            {
                AfterRed::CheckBase
            }
            _ if has_rounds => AfterRed::RequestFix,
            _ => AfterRed::GiveUp,
        })
    }

    fn check_state(&self, run: &Run, claim: &ClaimMarker, check: &CheckRun) -> Result<CheckState> {
        let files = run.session.files().check;
        // Looked at before its exit status: once it is gone, what it leaves at its end is there.
        let lives = agent_lives(run.pane.as_ref(), run.id())?;
        if durable::exists(&files.ticket)? {
            // The pass that opens the window waits for the ticket to go. So that pass was killed, or the shell hangs.
            return Ok(CheckState::NotRun(check.of, self.why_not_started(run, claim)));
        }
        let check_named = check::named(work_command(claim));
        Ok(match (CheckExit::read(&files.exit, check.id)?, check.of) {
            (None, _) if lives => CheckState::Running,
            (None, of) => CheckState::NotRun(
                of,
                format!(
                    "{check_named} ended without a status: its window was closed, or the machine went down; run `ccl assign {}` to have it run again",
                    run.session.name
                ),
            ),
            (Some(exit), of) => match (exit.status(), of) {
                (Some(status), CheckTarget::Work) => CheckState::Ended(status),
                (Some(status), CheckTarget::Base) => CheckState::BaseEnded(status),
                // The command may not exist yet in what the agent started from: then the base counts as red.
                (None, CheckTarget::Base) => CheckState::BaseEnded(127),
                (None, CheckTarget::Work) => CheckState::NotRun(
                    of,
                    format!(
                        "{check_named} could not be run ({}): mend it, then run `ccl assign {}`",
                        words(exit),
                        run.session.name
                    ),
                ),
            },
        })
    }

    fn why_not_started(&self, run: &Run, claim: &ClaimMarker) -> String {
        format!(
            "the shell {} did not start {} within {} s: mend its start-up files, one of which hangs or asks something, or name another shell in agent.shell, and run `ccl assign {}`",
            self.agent_of(claim).shell().display(),
            check::named(work_command(claim)),
            self.config.dispatcher.prompt_timeout.as_secs(),
            run.session.name
        )
    }

    /// Starts the check on what the agent has made, or on what it started from.
    pub(super) fn start_check(&self, run: &Run, mut claim: Claim, of: CheckTarget) -> Result<()> {
        self.close_window(run)?;
        self.clear_check(&claim)?;
        let Prepared { directory, worktree, tree, head } = match self.prepare_check(&claim, of) {
            // No later pass could check it either. In phase `landing` it is filed as failed, for no check has judged
            // it.
            Err(error) if !is_temporary(&error) => {
                self.log.warn(format_args!("{}: it cannot be checked: {error:#}", claim.name()));
                return claim.update(self.now, |claim| {
                    claim.phase = Phase::Landing;
                    claim.work.check = None;
                });
            }
            prepared => prepared?,
        };
        let marker = claim.marker();
        let earlier = marker.work.check.as_ref().filter(|check| check.of == of);
        let check = CheckRun {
            id: Uuid::new_v4(),
            of,
            // Not the pass's own time, which may be long ago: the check's duration counts from here.
            started_at: Timestamp::now(),
            tries: earlier.map_or(0, |check| check.tries).saturating_add(1),
            tree,
            head,
        };
        let files = run.session.files();
        let agent = self.agent_of(marker);
        let hooks = agent.hooks;
        let stamp = match &worktree {
            Some(worktree) => Some(checkout::setup_stamp(worktree)?),
            None => None,
        };
        let setup = stamp.as_deref().map(|stamp| Setup {
            from: claim.project().path(),
            copy: &marker.work.rules.copy,
            command: marker.work.rules.setup.as_deref(),
            stamp,
        });
        let base = match &marker.work.checkout {
            Some(ClaimedCheckout::Own { worktree, .. }) => Some(worktree.base.as_str()),
            Some(ClaimedCheckout::Shared { head, .. }) => head.as_deref(),
            None => None,
        };
        let script = Script {
            id: check.id,
            run: run.id(),
            task: claim.name().as_str(),
            command: work_command(marker),
            timeout: marker.work.rules.check_timeout,
            directory: &directory,
            base,
            setup,
            files: &files.check,
            hook: hooks.then_some(files.hook.as_path()),
        }
        .text()?;
        if hooks {
            self.write_hook(run, &claim, &files)?;
        }
        let CheckFiles { script: path, ticket, exit } = &files.check;
        for stale in [ticket, exit] {
            durable::remove(stale)?;
        }
        durable::write_unsynced(path, script.as_bytes(), durable::PRIVATE)?;
        claim.update(self.now, |claim| claim.work.check = Some(check))?;
        durable::write(ticket, b"", durable::PRIVATE)?;
        let mut run = Run { pane: None, ..run.clone() };
        self.open_window(&mut run, agent.shell(), path)?;
        self.await_start(&run, ticket)
    }

    /// Where the check runs, and what it judges there.
    fn prepare_check(&self, claim: &Claim, of: CheckTarget) -> Result<Prepared> {
        let Some(ClaimedCheckout::Own { worktree, .. }) = &claim.marker().work.checkout else {
            let directory = claim.project().path().to_owned();
            return Ok(Prepared { directory, worktree: None, tree: None, head: None });
        };
        let _lock = claim.lock_worktree(worktree)?.ok_or_else(|| claim.lost())?;
        let repository = self.repository(claim)?;
        let (judged, head) = match of {
            CheckTarget::Base => {
                (repository.make_check_worktree(worktree, &worktree.base, &[])?, None)
            }
            CheckTarget::Work => {
                // The agent may have removed it.
                repository.make(worktree, claim.marker().run, false)?;
                let stuck = self.commit_leftovers(&repository, worktree, claim)?;
                let head = repository.head_of(worktree)?;
                let protect = &claim.marker().work.rules.protect;
                let judged = match protect.is_empty() {
                    true => worktree.clone(),
                    false => repository.make_check_worktree(worktree, &head, protect)?,
                };
                // Where something could not be committed, no commit is what the check judges.
                (judged, Some(head).filter(|_| stuck.is_none()))
            }
        };
        let tree = Some(repository.tree_of(&judged)?);
        Ok(Prepared { directory: judged.directory(), worktree: Some(judged), tree, head })
    }

    /// Ends what the check has left running, and takes away the worktree that was made for it.
    pub(super) fn clear_check(&self, claim: &Claim) -> Result<()> {
        let work = &claim.marker().work;
        if let Some(check) = &work.check {
            process::terminate_marked(check::VARIABLE, &check.id.to_string(), process::GRACE)?;
        }
        // A check has a worktree of its own to put protected paths back, and to see whether the base is red. Else no
        // lock is taken here and no git started.
        let has_worktree = !work.rules.protect.is_empty() || work.red.is_some();
        if let (Some(ClaimedCheckout::Own { worktree, .. }), Check::Command(_), true) =
            (&work.checkout, &work.rules.check, has_worktree)
        {
            let Some(_lock) = claim.lock_worktree(worktree)? else { return Ok(()) };
            match self.repository(claim).and_then(|it| it.remove_check_worktree(worktree)) {
                // The agent has broken the repository: the task is filed all the same.
                Err(error) if !is_temporary(&error) => {
                    self.log.warn(format_args!("{}: {error:#}", claim.name()));
                }
                cleared => cleared?,
            }
        }
        Ok(())
    }

    /// Notes what a red check of the work has said, before anything is done about it.
    pub(super) fn note_red(&self, run: &Run, claim: &mut Claim) -> Result<()> {
        let Some(check) = claim.marker().work.check.clone().filter(|it| it.of == CheckTarget::Work)
        else {
            return Ok(());
        };
        // An earlier pass that was killed has noted it, and may have closed the window that showed its output.
        if claim.marker().work.red.as_ref().is_some_and(|red| red.id == check.id) {
            return Ok(());
        }
        let exit =
            CheckExit::read(&run.session.files().check.exit, check.id)?.and_then(CheckExit::status);
        let Some(exit) = exit.filter(|exit| *exit != 0) else { return Ok(()) };
        let red = RedCheck {
            id: check.id,
            exit,
            seconds: self.seconds(run, &check),
            tail: check::tail(&self.screen_of_check(run)),
            tree: check.tree,
        };
        claim.update(self.now, |claim| claim.work.red = Some(red))
    }

    /// What the check's window shows, and what has scrolled out of it; nothing where it was closed.
    fn screen_of_check(&self, run: &Run) -> String {
        let Some(pane) = &run.pane else { return String::new() };
        self.await_last_words(pane, CHECK_OUTPUT_WAIT);
        self.tmux.capture_history(&pane.id, LINES).unwrap_or_default()
    }

    /// How long the check took.
    fn seconds(&self, run: &Run, check: &CheckRun) -> u64 {
        let exit = fs::metadata(run.session.files().check.exit).ok();
        let ended = exit.and_then(|exit| durable::modified(&exit)).unwrap_or(self.now);
        u64::try_from(ended.duration_since(check.started_at).as_secs()).unwrap_or_default()
    }

    /// Notes the green check: from now on no check has to judge the work.
    pub(super) fn accept(&self, run: &Run, claim: &mut Claim) -> Result<()> {
        let Some(check) = claim.marker().work.check.clone() else {
            bail!("{} has no check that could be green", claim.name());
        };
        let seconds = self.seconds(run, &check);
        self.clear_check(claim)?;
        self.drop_what_the_check_left(claim)?;
        // Last: if a pass is killed before this, the next one finds the green check and accepts it again.
        claim.update(self.now, |claim| {
            claim.phase = Phase::Landing;
            claim.work.checked = Some(ending(&claim.work, 0, seconds, check.tree));
        })
    }

    /// Gives the red check back to the agent.
    pub(super) fn request_fix_of_red(
        &self,
        run: &Run,
        mut claim: Claim,
        red_before: Option<bool>,
    ) -> Result<()> {
        self.clear_check(&claim)?;
        if red_before.is_some() {
            claim.update(self.now, |claim| claim.work.rounds.red_before = red_before)?;
        }
        let work = &claim.marker().work;
        let red = work.red.as_ref().with_context(|| no_verdict(&claim))?;
        let base = match &work.checkout {
            Some(ClaimedCheckout::Own { worktree, .. }) if red_before == Some(true) => {
                Some(worktree.base.as_str())
            }
            _ => None,
        };
        let how = check::how(red.exit, red.seconds, work.rules.check_timeout);
        let message = check::message(work_command(claim.marker()), &how, &red.tail, base);
        self.request_fix(run, claim, message, Round::Red)
    }

    /// Files the task as failed, with the last of what its check has printed.
    pub(super) fn give_up(
        &self,
        claim: &Claim,
        red_before: Option<bool>,
        over_budget: Option<String>,
    ) -> Result<Option<PathBuf>> {
        let work = &claim.marker().work;
        let red = work.red.as_ref().with_context(|| no_verdict(claim))?;
        let how = check::how(red.exit, red.seconds, work.rules.check_timeout);
        let still_red = || format!("{} {how}", check::named(work_command(claim.marker())));
        let reason = over_budget.unwrap_or_else(still_red);
        // Not that of `work.check`, which may be the base's run by now.
        let check = ending(work, red.exit, red.seconds, red.tree.clone());
        let ending = Ending {
            check: Some(CheckEnding { red_before: red_before.or(check.red_before), ..check }),
            refused: self.refused(claim)?,
            ..self.ending(claim, Outcome::Failed, Some(reason)).with_cost(self.cost(claim)?)
        };
        self.file(claim, &ending, || claim.finish(&ending, Some(&check::fenced(&red.tail)), None))
    }
}

/// What a check has said, for the ending line.
fn ending(work: &Work, exit: i32, seconds: u64, tree: Option<String>) -> CheckEnding {
    CheckEnding {
        command: work.rules.check.command().unwrap_or_default().to_owned(),
        exit,
        seconds,
        rounds: work.rounds.red,
        tree,
        red_before: work.rounds.red_before,
    }
}

fn no_verdict(claim: &Claim) -> String {
    format!("what the check of {} has said is not in its claim", claim.name())
}

fn is_in_worktree(claim: &ClaimMarker) -> bool {
    matches!(claim.work.checkout, Some(ClaimedCheckout::Own { .. }))
}

fn work_command(claim: &ClaimMarker) -> &str {
    claim.work.rules.check.command().unwrap_or_default()
}

fn words(exit: CheckExit) -> String {
    match exit {
        CheckExit::NotRun => "its directory or its set-up".to_owned(),
        CheckExit::Status(status) => format!("status {status}"),
    }
}
