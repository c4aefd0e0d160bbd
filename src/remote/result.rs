//! A runner's result becomes a branch, and the task is filed.

use anyhow::Result;

use super::RemoteOutcome;
use super::engine::time_limit;
use super::exchange::{LONGEST_ERROR, OpenRun};
use super::filing::Filing;
use super::marker::ExchangeNote;
use super::output::{self, Spoken};
use super::run::{RunResult, RunnerFailure};
use crate::check;
use crate::checkout::{OpenError, Repository};
use crate::durable;
use crate::marker::{self as markers, Stamp, ToLand};
use crate::queue::TaskRef;
use crate::task::{BranchEnding, CheckEnding, GitEnding, Land, Outcome, Timeout};
use crate::text::{escape, excerpt};

/// The exit code of a shell, and of `timeout`, where the program that they ran was killed.
const KILLED: i32 = 128 + 9;

impl OpenRun<'_> {
    /// Files a task with what its runner has handed in: the work becomes a branch, the agent's output the result.
    pub(super) fn file_result(&self, commit: &str, result: &RunResult) -> Result<RemoteOutcome> {
        let note = self.note;
        let exchange = self.exchange();
        let read = |name: &str| exchange.read_file(commit, name);
        let spoken = output::read(&read("output")?);
        let reason = why_failed(result, &spoken, &read("errors")?, note);
        let is_done = reason.is_none();
        // The branch comes first: once the task is filed, the exchange's copy of the work is deleted.
        let git = match self.by.dry_run || result.work == note.head {
            true => None,
            false => match self.bring_in(result, is_done)? {
                Some(git) => Some(git),
                None => return Ok(RemoteOutcome::Nothing),
            },
        };
        let check = note.rules.check.command().zip(result.check);
        let tail = match check {
            Some((_, it)) if it.exit != 0 => Some(check::fenced(&check::tail(&read("check")?))),
            _ => None,
        };
        let text = Some(spoken.text).filter(|text| !text.is_empty());
        let nothing = || is_done.then(|| "(its agent printed nothing.)".to_owned());
        let filing = Filing {
            outcome: if is_done { Outcome::Done } else { Outcome::Failed },
            has_footer: tail.is_none(),
            result: tail.or(text).or_else(nothing),
            worker: Some(format!("remote, on {}", result.host)),
            cost: spoken.cost,
            session: spoken.session,
            git,
            check: check.map(|(command, it)| CheckEnding {
                command: command.to_owned(),
                exit: it.exit,
                seconds: it.seconds,
                rounds: 0,
                tree: None,
                red_before: None,
            }),
            timeout: (result.failed == Some(RunnerFailure::Time)).then_some(Timeout::MaxDuration),
            reason,
            at: self.by.now(),
        };
        self.file_and_clean(&filing)
    }

    /// Makes the branch of the work: one for one result, also after a kill. `None`: another pass has filed the task.
    fn bring_in(&self, result: &RunResult, is_done: bool) -> Result<Option<GitEnding>> {
        let OpenRun { task: TaskRef { project, name }, marker, note, .. } = *self;
        let _lock = project.lock_checkout()?;
        let repository = Repository::open(project.path()).map_err(of_project)?;
        // Read again under the lock: the pass that held it may have filed the task. A pass that was killed may have
        // noted the branch.
        let Some(current) = super::current(self.task, marker)? else { return Ok(None) };
        let mut noted = current.exchange.and_then(|note| note.work);
        let branch = loop {
            let branch = match noted.take() {
                Some(branch) => branch,
                None => {
                    let plan = repository.plan_branch(name.as_str(), &note.head);
                    let branch = plan.map_err(of_project)?.branch;
                    let is_noted = self.change(|marker| {
                        if let Some(note) = &mut marker.exchange {
                            note.work = Some(branch.clone());
                        }
                    })?;
                    if !is_noted {
                        return Ok(None);
                    }
                    branch
                }
            };
            // False: the name was taken for something else since it was planned. The next round plans another one.
            if repository.make_branch(&branch, &result.work)? {
                break branch;
            }
        };
        let summary = repository.summary_of(&branch, &note.head)?;
        let wants_to_land = is_done && note.rules.land == Land::Rebase;
        let reason = "it was worked on elsewhere: look at it, and `ccl land` it";
        if wants_to_land {
            let to_land = ToLand {
                stamp: Stamp::new(self.by.host, self.by.now()),
                task: name.to_string(),
                branch,
                reason: reason.to_owned(),
            };
            let path = project.to_land_path(&to_land.branch);
            durable::make_dir(path.parent().unwrap_or(project.path()))?;
            markers::write(&path, &to_land)?;
        }
        Ok(Some(GitEnding::Branch(BranchEnding {
            summary,
            base_branch: note.branch.clone(),
            landed: wants_to_land.then_some(false),
            reason: wants_to_land.then(|| reason.to_owned()),
        })))
    }
}

fn of_project(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Obstacle(obstacle) => obstacle.into(),
        OpenError::Failed(error) => error,
    }
}

/// Why the work on a task has failed; `None`: it has not.
fn why_failed(
    result: &RunResult,
    spoken: &Spoken,
    errors: &str,
    note: &ExchangeNote,
) -> Option<String> {
    let host = &result.host;
    let mut lines = errors.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let left = result.left_in.as_ref().map(|directory| {
        let directory = if directory.is_empty() { "its runner's directory" } else { directory };
        // The runner's own line stands below those of the agent.
        let what = excerpt(lines.next().unwrap_or_default(), LONGEST_ERROR);
        let place = escape(directory);
        format!(
            "not all that its agent has made came back: the rest lies on {host} in {place}: {what}"
        )
    });
    let last = lines.next();
    let said = last.map_or(String::new(), |line| format!(": {}", excerpt(line, LONGEST_ERROR)));
    let check = note.rules.check.command().zip(result.check);
    let reason = match (result.failed, result.exit, check) {
        (Some(RunnerFailure::Checkout), ..) => {
            Some(format!("the project could not be checked out on {host}{said}"))
        }
        (Some(RunnerFailure::Program), ..) => {
            Some(format!("{host} has no such program for an agent{said}"))
        }
        (Some(RunnerFailure::Time), ..) => {
            let limit = time_limit(&note.rules);
            Some(format!("it worked for longer than `max_duration`, {limit:#}, on {host}{said}"))
        }
        (Some(RunnerFailure::Other), ..) => Some(format!("its runner on {host} has failed{said}")),
        (None, KILLED, _) => Some(format!("its agent was killed on {host}{said}")),
        (None, exit, _) if exit != 0 => {
            let said = if said.is_empty() { of_agent(spoken) } else { said };
            Some(format!("its agent ended with exit code {exit} on {host}{said}"))
        }
        _ if spoken.is_error => Some(format!("its agent has failed on {host}{}", of_agent(spoken))),
        (None, _, Some((command, check))) if check.exit != 0 => {
            let how = check::how(check.exit, check.seconds, note.rules.check_timeout);
            Some(format!("{} {how}", check::named(command)))
        }
        _ => None,
    };
    match (reason, left) {
        (Some(reason), Some(left)) => Some(format!("{reason}; {left}")),
        (reason, left) => reason.or(left),
    }
}

fn of_agent(spoken: &Spoken) -> String {
    match spoken.text.as_str() {
        "" => String::new(),
        text => format!(": {}", excerpt(text, LONGEST_ERROR)),
    }
}
