//! The next step for a session that has a marker: its agent is at work, or has ended, or a killed pass left it. Pure.
//!
//! The session, its claim, its task file, its window and its agent are read once, into a [`Snapshot`]; [`next_step`]
//! names the step; `session::reconcile` carries it out, and a dry run reports it instead.
//!
//! Two things are known only after a step has begun: how a branch comes out ([`after_branch`]), and the cost of an agent
//! that writes it down as it ends ([`AttemptEnd::with_cost`]). A dry run assumes that git finds nothing in the way, and
//! that the task stays within its budget.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::task::{Outcome, Timeout};

/// How far a claimed task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is ours; nothing was started.
    Claimed,
    /// The ticket waits for the agent, or the agent has taken it and was not seen at work yet.
    Launching,
    /// The agent has the task.
    Working,
    /// The turn has ended well, which is noted and stays so. A check judges the work.
    Checking,
    /// The turn has ended well, and no check is due. The branch is finished, and lands where that is wanted.
    Landing,
}

/// What a check judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckTarget {
    /// What the agent has made.
    Work,
    /// What it started from, to see whether that was red before.
    Base,
}

/// Why an agent was given something back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Round {
    Red,
    Conflict,
}

/// What holds an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldCause {
    /// The account's limit is reached, or one model's.
    Limit,
    /// The API does not answer, or answers with an error of its own.
    Outage,
    /// Its login or its billing: a person has to act.
    Account,
}

/// What was found of one session that has a marker.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) found: Found,
    /// A person is looking at its window, or was within the last minute.
    pub(crate) attended: bool,
    /// No further attempt follows this one.
    pub(crate) last_attempt: bool,
    /// The limit of time that its agent has reached, at work or at a question.
    pub(crate) time_limit: Option<ReachedLimit>,
    /// Its agent stands at a question, and is not to wait for the answer: nobody is to be asked (`questions: refuse`),
    /// and no person has stopped it.
    pub(crate) asks_nobody: bool,
    /// Its agent is at work, and its task has cost as much as it may: the sentence for people.
    pub(crate) over_budget: Option<String>,
    pub(crate) after_turn: AfterTurn,
    /// What its agent has left. Used where the turn is over: behind a green check, and in phase `landing`.
    pub(crate) report: AgentReport,
    /// Its agent has failed, and is held for that already.
    pub(crate) already_held: bool,
    /// This run is the probe of its agent's hold, and shows that the hold has ended ([`has_answer`]).
    pub(crate) ends_hold: bool,
}

/// What follows a turn that has ended well. In phase `checking`: what follows a green check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterTurn {
    /// A check judges it.
    Check,
    /// Its branch is finished first.
    Land(Prospect),
    /// Its task is filed.
    File,
}

/// The evidence that an agent was answered by its API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Claude Code: whether its transcript has an answer.
    ByApi(bool),
    /// Another program: whether it has started, and ended by itself.
    ByExit(bool),
}

/// How a branch comes out where git finds nothing in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// It stays a branch.
    Kept,
    Landed,
    /// No check could judge it, and none will.
    Unjudged,
}

/// How a branch has come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BranchOutcome {
    /// All that can be done with it is done.
    Finished { landed: bool },
    /// It is finished, but no check has judged it, for this reason.
    Unjudged(String),
    /// Its agent has to solve a conflict: what the agent is asked to do.
    Conflict(String),
    /// It is not what was checked any more: it was rebased, or somebody has changed it.
    Changed,
    /// It waits until the branch of this task has landed.
    Waits { behind: String },
}

/// A limit of time that an agent has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReachedLimit {
    pub(crate) what: Timeout,
    /// As it is set.
    pub(crate) limit: SignedDuration,
    /// An agent of this task was ended for such a limit before.
    pub(crate) again: bool,
}

impl ReachedLimit {
    /// [`Self::failure`] of an agent that stands at `question`.
    fn failure_at(self, question: &str) -> AttemptFailure {
        let failure = self.failure();
        AttemptFailure {
            reason: format!("{}; what it stood at: {question}", failure.reason),
            ..failure
        }
    }

    /// The first one counts as no attempt: the agent may have been about to end.
    fn failure(self) -> AttemptFailure {
        let Self { what, limit, again } = self;
        let why = match what {
            Timeout::MaxDuration => format!("it worked for longer than `max_duration`, {limit:#}"),
            Timeout::Stall => {
                format!("it showed no sign of life for as long as `stall`, {limit:#}")
            }
        };
        let then = if again { "it was resumed once before" } else { "it is resumed once" };
        AttemptFailure {
            counts: again,
            timeout: Some(what),
            ..AttemptFailure::of_task(format!("the agent was ended: {why}; {then}"))
        }
    }
}

/// What lies where the session's marker points.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// No claim of the marker's run.
    NoClaim,
    /// The claim, but no task under it: the agent or a person moved it. `taken_back` says that the task waits again,
    /// `at_work` that the agent still works.
    NoTask { taken_back: bool, at_work: bool },
    /// The task, with the outcome of this run noted in it.
    Noted(Outcome),
    /// The claim in phase `claimed`: nothing was started.
    Claimed,
    /// The claim in phase `launching`, and the ticket is still there: the agent has not started. `round`: it was to be
    /// given its work back.
    Unstarted { round: Option<Round> },
    /// The claim in phase `launching` or `working`, and the agent has started.
    Started { phase: Phase, agent: AgentState },
    /// The claim in phase `checking`.
    Checking { check: CheckState, may_try_again: bool, red: AfterRed },
    /// The claim in phase `landing`.
    Landing,
}

/// How the check stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckState {
    /// None was started since the turn ended.
    Unstarted,
    Running,
    /// It has judged the work, with this exit status: 0 is green.
    Ended(i32),
    /// It has judged what the agent started from, with this exit status.
    BaseEnded(i32),
    /// It could not judge this, for this reason.
    NotRun(CheckTarget, String),
}

/// What follows a red check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterRed {
    /// Run it on the base first, to see whether that was red before.
    CheckBase,
    RequestFix,
    GiveUp,
    /// A round is left, but this stands in its way.
    NoFurtherRound(NoFurtherRound),
}

/// Why an agent's work is not given back to it, each with the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoFurtherRound {
    /// Its task has cost as much as it may.
    OverBudget(String),
    /// The configuration does not have the agent any more.
    AgentGone(String),
}

impl NoFurtherRound {
    /// The step that ends the attempt instead.
    fn step(self) -> Step {
        let (failure, outcome) = match self {
            Self::OverBudget(why) => (AttemptFailure::of_task(why), Outcome::Failed),
            Self::AgentGone(why) => {
                let failure = AttemptFailure { counts: false, ..AttemptFailure::of_task(why) };
                (failure, Outcome::Released)
            }
        };
        Step::EndAttempt(AttemptEnd::of_task(failure, outcome))
    }
}

/// What an agent that has a task is doing, as far as there is evidence. Unknown is never taken for idle or done.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentState {
    /// It works, or nothing shows that it does not.
    Working,
    /// It waits for a person, for this reason.
    NeedsAttention(String),
    /// The turn ended well.
    Finished(AgentReport),
    /// The turn, or the agent, ended badly.
    Failed(AttemptFailure),
    /// It ended, or is gone, in the middle of its turn; the reason.
    Interrupted(String),
}

/// What an agent left behind; what is not known stays unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentReport {
    /// Its last answer.
    pub answer: Option<String>,
    /// Tokens read and written.
    pub tokens: Option<(u64, u64)>,
    /// The model that answered.
    pub model: Option<String>,
    /// How many calls were refused because nobody was there to be asked.
    pub refused: u32,
    /// Only the living agent shows that the turn ended well. Once it is gone, nothing does.
    pub only_while_it_lives: bool,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptFailure {
    /// A sentence for people.
    pub reason: String,
    /// The attempt counts. It does not where no task can have caused the failure (an account's limit, a missing program):
    /// three passes in such a night would file a whole inbox as failed.
    pub counts: bool,
    /// When the session may go on, if the agent named a time.
    pub until: Option<Timestamp>,
    /// It goes on only after a person did something.
    pub needs_attention: bool,
    /// It is about the agent's program, so that `ccl doctor` can see when it is mended.
    pub of_program: bool,
    /// It stands in the way of every task of the project, and of no other's.
    pub of_project: bool,
    /// It stands in the way of every task that the agent is given, in whatever session.
    pub hold: Option<HoldCause>,
    /// The model that is at its limit, by a name such as `seven_day_opus` that contains the model's; `None`: all.
    pub limited_model: Option<String>,
    /// The limit of time for which the agent was ended, if it was.
    pub timeout: Option<Timeout>,
}

impl AttemptFailure {
    /// A failure of the task's own attempt.
    pub(crate) fn of_task(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            counts: true,
            until: None,
            needs_attention: false,
            of_program: false,
            of_project: false,
            hold: None,
            limited_model: None,
            timeout: None,
        }
    }

    /// A failure of this machine's set-up, which stands in the way of every task until a person mends it.
    pub(crate) fn of_machine(reason: impl Into<String>) -> Self {
        Self { counts: false, needs_attention: true, ..Self::of_task(reason) }
    }

    /// A failure that no task has caused, and that holds the agent.
    pub(crate) fn of_agent(cause: HoldCause, reason: impl Into<String>) -> Self {
        Self { counts: false, hold: Some(cause), ..Self::of_task(reason) }
    }

    /// A failure of the agent's program on this machine.
    pub(crate) fn of_program(reason: impl Into<String>) -> Self {
        Self { of_program: true, ..Self::of_machine(reason) }
    }

    /// A failure of the project's set-up.
    pub(crate) fn of_project(reason: impl Into<String>) -> Self {
        Self { counts: false, of_project: true, ..Self::of_task(reason) }
    }

    /// Whether it is one of [`Self::of_machine`]. Then the pass has failed, too.
    pub(crate) fn is_of_machine(&self) -> bool {
        !self.counts && self.needs_attention
    }
}

/// The next step for a session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Nothing, for this reason.
    Leave(Leave),
    /// Note in the claim that the agent has the task.
    MarkWorking,
    /// End what carries the run, remove the session's marker.
    Clear,
    /// The task is gone: as [`Step::Clear`], and remove the claim. `taken_back`: the task waits in the inbox again, and
    /// nothing that its agent has started may go on beside the next attempt.
    RemoveClaim { taken_back: bool },
    /// Give the task back as it is: nothing was started, no attempt counts.
    Release,
    /// Take the ticket away, then [`Step::Release`]. Where the agent has taken it first, look again.
    TakeTicket,
    /// Take away the ticket of an agent that was to be given its work back, and do not count the round: a later pass
    /// finds out once more whether there has to be one.
    UndoRound(Round),
    /// Move the task where its noted outcome says.
    Place(Outcome),
    /// The turn is over: note that, end the agent, and start the check.
    EndTurn,
    /// The turn is over, and no check is due: note that, end the agent and finish the branch. [`after_branch`] names the
    /// next step.
    Land { report: AgentReport, prospect: Prospect },
    /// File the task in `done/`. `landed`: its branch is in its base.
    Finish { report: AgentReport, landed: bool },
    /// Start the check on this, in a window of its own.
    Check(CheckTarget),
    /// The check is green: note that, and go on with this step.
    Accept { then: Box<Step> },
    /// Give the red check back to the agent. `red_before`: the base was looked at, and was red.
    RequestFix { red_before: Option<bool> },
    /// Give the agent its branch back, with what it is asked to do about a conflict.
    RequestFixOfConflict(String),
    /// File the task as failed: the check is still red, and no round follows, or the task is `over_budget`.
    GiveUp { red_before: Option<bool>, over_budget: Option<String> },
    /// Note the failed attempt; back to the inbox, or to `failed/`.
    EndAttempt(AttemptEnd),
}

/// How an attempt ends that has failed, or was interrupted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttemptEnd {
    pub(crate) failure: AttemptFailure,
    pub(crate) outcome: Outcome,
    /// The session rests. Not after an attempt that was interrupted: that one is resumed at once.
    pub(crate) cooldown: bool,
    /// Its agent is held for it from now on, and was not before.
    pub(crate) hold: bool,
    /// Why no further attempt follows although this failure leaves room for one.
    pub(crate) over_budget: Option<String>,
}

impl AttemptEnd {
    /// An end that concerns only the task: no cooldown, no hold.
    pub(crate) fn of_task(failure: AttemptFailure, outcome: Outcome) -> Self {
        Self { failure, outcome, cooldown: false, hold: false, over_budget: None }
    }

    /// The task goes back to the inbox, or is given up after the last attempt that counts.
    pub(crate) fn after(failure: AttemptFailure, last_attempt: bool, cooldown: bool) -> Self {
        let gives_up = failure.counts && last_attempt;
        let outcome = if gives_up { Outcome::Failed } else { Outcome::Released };
        let hold = failure.hold.is_some();
        // What a project does wrong, or an agent's account, is not the session's fault.
        let cooldown = cooldown && !failure.of_project && !hold;
        Self { cooldown, hold, ..Self::of_task(failure, outcome) }
    }

    /// The end, once the agent has ended and its cost is known. A task that would go back to the inbox is given up where
    /// it is `over_budget`, which holds the sentence for people.
    pub(crate) fn with_cost(self, over_budget: Option<String>) -> Self {
        match (self.outcome, &over_budget) {
            (Outcome::Released, Some(_)) => Self { outcome: Outcome::Failed, over_budget, ..self },
            _ => self,
        }
    }

    /// The failure that is noted in the task.
    pub(crate) fn noted(&self) -> AttemptFailure {
        match &self.over_budget {
            Some(why) => AttemptFailure::of_task(why.as_str()),
            None => self.failure.clone(),
        }
    }
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leave {
    /// The agent is at work.
    AtWork,
    /// The check runs.
    Checking,
    /// Its branch waits until the branch of this task has landed.
    WaitsToLand { behind: String },
    /// The agent waits for a person, for this reason.
    NeedsAttention(String),
    /// It is over, but a person is looking at it.
    Attended,
}

/// The next step for what was found: the tables "Finish" and "Crashes" of DESIGN section 6, row by row. The tests have a
/// row for each arm.
pub(crate) fn next_step(snapshot: &Snapshot) -> Step {
    let Snapshot { found, attended, last_attempt, time_limit, over_budget, .. } = snapshot;
    let end_attempt = |failure, cooldown| {
        let end = AttemptEnd::after(failure, *last_attempt, cooldown);
        Step::EndAttempt(AttemptEnd { hold: end.hold && !snapshot.already_held, ..end })
    };
    let step = match found {
        Found::NoClaim => Step::Clear,
        // An agent that filed its own task may say its last words, unless somebody took the task away from it.
        Found::NoTask { taken_back: false, at_work: true } => return Step::Leave(Leave::AtWork),
        Found::NoTask { taken_back, .. } => Step::RemoveClaim { taken_back: *taken_back },
        Found::Noted(outcome) => Step::Place(*outcome),
        // No agent was started, so there is nothing a person could be looking at.
        Found::Claimed => return Step::Release,
        Found::Unstarted { round: None } => return Step::TakeTicket,
        Found::Unstarted { round: Some(round) } => return Step::UndoRound(*round),
        Found::Landing => after_turn(snapshot.after_turn, &snapshot.report),
        Found::Checking { check, may_try_again, red } => match (check, red) {
            (CheckState::Running, _) => return Step::Leave(Leave::Checking),
            (CheckState::Unstarted, _) => Step::Check(CheckTarget::Work),
            (CheckState::Ended(0), _) => {
                let then = after_turn(snapshot.after_turn, &snapshot.report);
                Step::Accept { then: Box::new(then) }
            }
            (CheckState::Ended(_), AfterRed::CheckBase) => Step::Check(CheckTarget::Base),
            (CheckState::Ended(_), AfterRed::RequestFix) => Step::RequestFix { red_before: None },
            (CheckState::Ended(_), AfterRed::GiveUp) => {
                Step::GiveUp { red_before: None, over_budget: None }
            }
            (CheckState::BaseEnded(base), AfterRed::GiveUp) => {
                Step::GiveUp { red_before: Some(*base != 0), over_budget: None }
            }
            (CheckState::Ended(_), AfterRed::NoFurtherRound(why)) => no_round(why, None),
            (CheckState::BaseEnded(base), AfterRed::NoFurtherRound(why)) => {
                no_round(why, Some(*base != 0))
            }
            // The base is looked at once.
            (CheckState::BaseEnded(base), AfterRed::CheckBase | AfterRed::RequestFix) => {
                Step::RequestFix { red_before: Some(*base != 0) }
            }
            (CheckState::NotRun(what, _), _) if *may_try_again => Step::Check(*what),
            (CheckState::NotRun(_, why), _) => {
                return Step::Leave(Leave::NeedsAttention(why.clone()));
            }
        },
        Found::Started { phase, agent } => match agent {
            // Also while a person is looking: it ends nothing.
            AgentState::Working | AgentState::NeedsAttention(_) if *phase == Phase::Launching => {
                return Step::MarkWorking;
            }
            // While a person is looking, no limit ends it.
            AgentState::Working if *attended => return Step::Leave(Leave::AtWork),
            AgentState::Working => match (over_budget, time_limit) {
                // Before the limit of time, after which it would be resumed, and cost more.
                (Some(reason), _) => {
                    let failure = AttemptFailure::of_task(reason.as_str());
                    Step::EndAttempt(AttemptEnd::of_task(failure, Outcome::Failed))
                }
                // After the first limit the conversation is resumed at once: only a failed attempt starts a cooldown.
                (None, Some(reached)) => end_attempt(reached.failure(), reached.again),
                (None, None) => return Step::Leave(Leave::AtWork),
            },
            AgentState::NeedsAttention(reason) => match time_limit {
                // A session that nobody comes to is to be free for the next task.
                Some(reached) if snapshot.asks_nobody && !*attended => {
                    end_attempt(reached.failure_at(reason), reached.again)
                }
                _ => return Step::Leave(Leave::NeedsAttention(reason.clone())),
            },
            AgentState::Finished(report) => after_turn(snapshot.after_turn, report),
            AgentState::Failed(failure) => end_attempt(failure.clone(), true),
            AgentState::Interrupted(reason) => {
                end_attempt(AttemptFailure::of_task(reason.as_str()), false)
            }
        },
    };
    // What ends something, or starts a window, waits until nobody is looking.
    if *attended { Step::Leave(Leave::Attended) } else { step }
}

/// The end of an attempt whose check is red, where `why` keeps its agent from another round. A task that is over its
/// budget is filed with what the check has said.
fn no_round(why: &NoFurtherRound, red_before: Option<bool>) -> Step {
    match why {
        NoFurtherRound::OverBudget(why) => {
            Step::GiveUp { red_before, over_budget: Some(why.clone()) }
        }
        NoFurtherRound::AgentGone(_) => why.clone().step(),
    }
}

fn after_turn(then: AfterTurn, report: &AgentReport) -> Step {
    let report = report.clone();
    match then {
        AfterTurn::Check => Step::EndTurn,
        AfterTurn::Land(prospect) => Step::Land { report, prospect },
        AfterTurn::File => Step::Finish { report, landed: false },
    }
}

/// The step that follows [`Step::Land`], once git has shown how the branch comes out. `no_round`: why a conflict is not
/// given to its agent.
pub(crate) fn after_branch(
    outcome: BranchOutcome,
    no_round: Option<NoFurtherRound>,
    report: AgentReport,
) -> Step {
    match outcome {
        BranchOutcome::Finished { landed } => Step::Finish { report, landed },
        BranchOutcome::Unjudged(why) => {
            Step::EndAttempt(AttemptEnd::of_task(AttemptFailure::of_task(why), Outcome::Failed))
        }
        BranchOutcome::Conflict(message) => {
            no_round.map_or(Step::RequestFixOfConflict(message), NoFurtherRound::step)
        }
        BranchOutcome::Changed => Step::Check(CheckTarget::Work),
        BranchOutcome::Waits { behind } => Step::Leave(Leave::WaitsToLand { behind }),
    }
}

/// Whether the probe of an agent's hold shows that the hold has ended.
pub(crate) fn has_answer(found: &Found, answered: Answered) -> bool {
    use AgentState::{Failed, Finished, Interrupted, NeedsAttention, Working};
    match (found, answered) {
        // It has met the same obstacle again, or nobody was asked.
        (Found::Started { agent: Failed(failure), .. }, _) if !failure.counts => false,
        (_, Answered::ByApi(is_answered)) => is_answered,
        (Found::Started { agent, .. }, Answered::ByExit(has_ended)) => match agent {
            // Where the program could not be started, nobody was asked.
            Finished(_) | Failed(_) => has_ended,
            Working | NeedsAttention(_) | Interrupted(_) => false,
        },
        // Its turn has ended well.
        (Found::Noted(Outcome::Done) | Found::Checking { .. } | Found::Landing, _) => true,
        (Found::NoClaim | Found::NoTask { .. } | Found::Noted(_), _) => false,
        (Found::Claimed | Found::Unstarted { .. }, _) => false,
    }
}

#[cfg(test)]
mod tests;
