//! What a pass does about a session that has a marker: its agent has ended or not, or a killed pass left it. Pure.
//!
//! The session, its claim, its task file, its window and its agent are read once, into a [`Snapshot`]; [`next_step`]
//! names the step; `session::reconcile` carries it out, and a dry run reports it instead.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::task::{Outcome, Timeout};

/// How far a claimed task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is ours; nothing was started.
    Claimed,
    /// The ticket lies there, or the agent has begun without proof of it yet.
    Launching,
    /// The agent has the task.
    Working,
    /// Its turn has ended well, whatever can be seen of it from now on, and a check judges what it has made.
    Checking,
    /// The same, and nothing has to judge it any more: its branch is finished, and landed.
    Landing,
}

/// What a check judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// What the agent has made.
    Work,
    /// What it started from, to see whether that was red before.
    Base,
}

/// What holds an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldCause {
    /// The account's limit is reached, or one model's.
    Limit,
    /// The API does not answer, or with an error of its own.
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
    /// What its agent has reached while it was at work.
    pub(crate) time_limit: Option<ReachedLimit>,
    /// Its task has cost as much as it may while it was at work: the sentence that says so.
    pub(crate) over_budget: Option<String>,
}

/// A limit of time that an agent has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReachedLimit {
    pub(crate) what: Timeout,
    /// As it is set.
    pub(crate) limit: SignedDuration,
    /// An agent of the task was ended for one before.
    pub(crate) again: bool,
}

impl ReachedLimit {
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
    /// The claim in phase `launching`, and the ticket lies there: the agent has not started.
    Unstarted,
    /// The claim in phase `launching` or `working`, and the agent has started.
    Started { phase: Phase, agent: AgentState },
    /// The claim in phase `checking`.
    Checking { check: CheckState, may_try_again: bool, red: AfterRed },
    /// The claim in phase `landing`.
    Landing(AgentReport),
}

/// How the check stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckState {
    /// None was started since the turn ended.
    Unstarted,
    Running,
    /// It judged: green with 0.
    Ended(i32),
    /// It was started on what the agent started from, and judged that.
    BaseEnded(i32),
    /// It did not judge this, for this reason.
    NotRun(Judged, String),
}

/// What follows a red check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterRed {
    /// See first whether it was red before.
    CheckBase,
    GiveBack,
    GiveUp,
    /// It would be given back, but for this.
    NoFurtherRound(NoFurtherRound),
}

/// Why an agent's work is not given back to it. Each has the sentence that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoFurtherRound {
    /// Its task has cost as much as it may.
    OverBudget(String),
    /// The configuration has it no more.
    AgentGone(String),
}

impl NoFurtherRound {
    /// The step that ends the attempt instead.
    pub(crate) fn step(self) -> Step {
        let (failure, outcome) = match self {
            Self::OverBudget(why) => (AttemptFailure::of_task(why), Outcome::Failed),
            Self::AgentGone(why) => {
                let failure = AttemptFailure { counts: false, ..AttemptFailure::of_task(why) };
                (failure, Outcome::Released)
            }
        };
        Step::EndAttempt { failure, outcome, cooldown: false }
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
    /// It ended, or is gone, in the middle; the reason.
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
    /// How much was refused because nobody was there to be asked.
    pub refused: u32,
    /// Once the agent is gone, nothing will show that the turn ended well.
    pub only_while_it_lives: bool,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptFailure {
    /// A sentence for people.
    pub reason: String,
    /// The attempt counts. It does not where no task could have caused it, the account's limit or a missing program:
    /// three passes of such a night would file a whole inbox as failed.
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
    /// The model whose limit it is, by a name that contains that of the model; `None`: all.
    pub limited_model: Option<String>,
    /// The agent was ended for this, and not by itself.
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

    /// The same of the agent's program.
    pub(crate) fn of_program(reason: impl Into<String>) -> Self {
        Self { of_program: true, ..Self::of_machine(reason) }
    }

    /// A failure of the project's set-up.
    pub(crate) fn of_project(reason: impl Into<String>) -> Self {
        Self { counts: false, of_project: true, ..Self::of_task(reason) }
    }

    /// One of [`Self::of_machine`]: the pass has failed, too.
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
    /// The same, and remove the claim: its task is gone. One that is `taken_back` waits again: what its agent has
    /// started may not go on beside the next attempt.
    RemoveClaim { taken_back: bool },
    /// Give the task back as it is: nothing was started, no attempt counts.
    Release,
    /// Take the ticket away, then [`Step::Release`]; look again where the agent was faster.
    TakeTicket,
    /// Move the task where its noted outcome says.
    Place(Outcome),
    /// File the task in `done/`, once its branch is finished where it has one.
    Finish(AgentReport),
    /// Start the check on this, in a window of its own.
    Check(Judged),
    /// The check is green: note that, and go on to finish.
    Accept,
    /// Give the red check back to the agent. `red_before`: the base was looked at, and was red.
    GiveBack { red_before: Option<bool> },
    /// File the task as failed: the check is still red, and no round follows, or the task is `over_budget`.
    GiveUp { red_before: Option<bool>, over_budget: Option<String> },
    /// Note the failed attempt; back to the inbox, or to `failed/`. With a cooldown for the session where the agent
    /// failed; one that was interrupted is resumed at once.
    EndAttempt { failure: AttemptFailure, outcome: Outcome, cooldown: bool },
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leave {
    /// The agent is at work.
    AtWork,
    /// The check runs.
    Checking,
    /// The agent waits for a person, for this reason.
    NeedsAttention(String),
    /// It is over, but a person is looking at it.
    Attended,
}

/// The next step for what was found: one row of a table after the other. The tests below are that table.
pub(crate) fn next_step(snapshot: &Snapshot) -> Step {
    let Snapshot { found, attended, last_attempt, time_limit, over_budget } = snapshot;
    let step = match found {
        Found::NoClaim => Step::Clear,
        // An agent that filed its own task may say its last words, unless somebody took the task away from it.
        Found::NoTask { taken_back: false, at_work: true } => return Step::Leave(Leave::AtWork),
        Found::NoTask { taken_back, .. } => Step::RemoveClaim { taken_back: *taken_back },
        Found::Noted(outcome) => Step::Place(*outcome),
        // No agent was started, so there is nothing a person could be looking at.
        Found::Claimed => return Step::Release,
        Found::Unstarted => return Step::TakeTicket,
        Found::Landing(report) => Step::Finish(report.clone()),
        Found::Checking { check, may_try_again, red } => match (check, red) {
            (CheckState::Running, _) => return Step::Leave(Leave::Checking),
            (CheckState::Unstarted, _) => Step::Check(Judged::Work),
            (CheckState::Ended(0), _) => Step::Accept,
            (CheckState::Ended(_), AfterRed::CheckBase) => Step::Check(Judged::Base),
            (CheckState::Ended(_), AfterRed::GiveBack) => Step::GiveBack { red_before: None },
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
            (CheckState::BaseEnded(base), _) => Step::GiveBack { red_before: Some(*base != 0) },
            (CheckState::NotRun(what, _), _) if *may_try_again => Step::Check(*what),
            (CheckState::NotRun(_, why), _) => {
                return Step::Leave(Leave::NeedsAttention(why.clone()));
            }
        },
        Found::Started { phase, agent } => match agent {
            AgentState::Working | AgentState::NeedsAttention(_) if *phase == Phase::Launching => {
                return Step::MarkWorking;
            }
            AgentState::Working if *attended => return Step::Leave(Leave::AtWork),
            AgentState::Working => match (over_budget, time_limit) {
                (Some(reason), _) => Step::EndAttempt {
                    failure: AttemptFailure::of_task(reason.as_str()),
                    outcome: Outcome::Failed,
                    cooldown: false,
                },
                // The same conversation goes on in a moment, so the session rests only after a failed attempt.
                (None, Some(reached)) => {
                    end_attempt(reached.failure(), *last_attempt, reached.again)
                }
                (None, None) => return Step::Leave(Leave::AtWork),
            },
            AgentState::NeedsAttention(reason) => {
                return Step::Leave(Leave::NeedsAttention(reason.clone()));
            }
            AgentState::Finished(report) => Step::Finish(report.clone()),
            AgentState::Failed(failure) => end_attempt(failure.clone(), *last_attempt, true),
            AgentState::Interrupted(reason) => {
                end_attempt(AttemptFailure::of_task(reason.as_str()), *last_attempt, false)
            }
        },
    };
    if *attended { Step::Leave(Leave::Attended) } else { step }
}

/// The end of an attempt whose check is red. What that has said is filed with a task that is over its budget.
fn no_round(why: &NoFurtherRound, red_before: Option<bool>) -> Step {
    match why {
        NoFurtherRound::OverBudget(why) => {
            Step::GiveUp { red_before, over_budget: Some(why.clone()) }
        }
        NoFurtherRound::AgentGone(_) => why.clone().step(),
    }
}

/// The step that ends an attempt: the task goes back to the inbox, or is given up after the last one that counts.
pub(crate) fn end_attempt(failure: AttemptFailure, last_attempt: bool, cooldown: bool) -> Step {
    // What a project does wrong, or an agent's account, is not the session's fault.
    let cooldown = cooldown && !failure.of_project && failure.hold.is_none();
    let outcome = if failure.counts && last_attempt { Outcome::Failed } else { Outcome::Released };
    Step::EndAttempt { failure, outcome, cooldown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(phase: Phase, agent: AgentState) -> Found {
        Found::Started { phase, agent }
    }

    fn step(found: Found, attended: bool, last_attempt: bool) -> Step {
        next_step(&Snapshot { found, attended, last_attempt, time_limit: None, over_budget: None })
    }

    fn finished() -> AgentState {
        AgentState::Finished(AgentReport::default())
    }

    fn limit() -> AttemptFailure {
        AttemptFailure { counts: false, ..AttemptFailure::of_task("the account's limit") }
    }

    /// What is found of an agent that has its task.
    #[test]
    fn what_costs_too_much_is_ended_and_filed() {
        let next = |agent, attended| {
            let found = started(Phase::Working, agent);
            let over_budget = Some("budget".to_owned());
            next_step(&Snapshot {
                found,
                attended,
                last_attempt: false,
                time_limit: None,
                over_budget,
            })
        };
        let failure = AttemptFailure::of_task("budget");
        let ended = Step::EndAttempt { failure, outcome: Outcome::Failed, cooldown: false };
        assert_eq!(next(AgentState::Working, false), ended);
        assert_eq!(next(AgentState::Working, true), Step::Leave(Leave::AtWork));
        assert_eq!(next(finished(), false), Step::Finish(AgentReport::default()));
    }

    #[test]
    fn finish() {
        use AgentState::{Failed, Interrupted, NeedsAttention, Working};
        let ended = |failure: AttemptFailure, outcome, cooldown| Step::EndAttempt {
            failure,
            outcome,
            cooldown,
        };
        let error = || AttemptFailure::of_task("an API error");
        let gone = || AttemptFailure::of_task("gone in mid-turn");
        let interrupted = || Interrupted("gone in mid-turn".to_owned());
        let question = || "a question".to_owned();
        for (row, agent, last_attempt, expected) in [
            ("the turn ended well", finished(), false, Step::Finish(AgentReport::default())),
            ("the last turn ended well", finished(), true, Step::Finish(AgentReport::default())),
            ("an API error", Failed(error()), false, ended(error(), Outcome::Released, true)),
            ("the last error", Failed(error()), true, ended(error(), Outcome::Failed, true)),
            (
                "a limit never files it",
                Failed(limit()),
                true,
                ended(limit(), Outcome::Released, true),
            ),
            ("gone in mid-turn", interrupted(), false, ended(gone(), Outcome::Released, false)),
            ("the last one gone", interrupted(), true, ended(gone(), Outcome::Failed, false)),
            (
                "a project's set-up",
                Failed(AttemptFailure::of_project("npm")),
                true,
                ended(AttemptFailure::of_project("npm"), Outcome::Released, false),
            ),
            ("busy", Working, false, Step::Leave(Leave::AtWork)),
            (
                "a question",
                NeedsAttention(question()),
                false,
                Step::Leave(Leave::NeedsAttention(question())),
            ),
        ] {
            let found = started(Phase::Working, agent);
            assert_eq!(step(found.clone(), false, last_attempt), expected, "{row}");
            let while_attended = match &expected {
                Step::Leave(_) => expected.clone(),
                _ => Step::Leave(Leave::Attended),
            };
            assert_eq!(step(found, true, last_attempt), while_attended, "attended: {row}");
        }
    }

    /// What is found of an agent that is at work, and has reached a limit of time.
    #[test]
    fn limits_of_time() {
        use AgentState::{Failed, NeedsAttention, Working};
        use Timeout::{MaxDuration, Stall};
        let found = |agent| started(Phase::Working, agent);
        let question = || "a question".to_owned();
        let api_error = || AttemptFailure::of_task("an API error");
        let at_work = Step::Leave(Leave::AtWork);
        for (row, what, agent, again, attended, last_attempt, expected) in [
            ("first", MaxDuration, Working, false, false, false, Some((Outcome::Released, false))),
            (
                "first of the last",
                Stall,
                Working,
                false,
                false,
                true,
                Some((Outcome::Released, false)),
            ),
            ("again", Stall, Working, true, false, false, Some((Outcome::Released, true))),
            (
                "again, and last",
                MaxDuration,
                Working,
                true,
                false,
                true,
                Some((Outcome::Failed, true)),
            ),
            ("a person looks", MaxDuration, Working, true, true, true, None),
        ] {
            let reached = ReachedLimit { what, limit: SignedDuration::from_mins(90), again };
            let snapshot = Snapshot {
                found: found(agent),
                attended,
                last_attempt,
                time_limit: Some(reached),
                over_budget: None,
            };
            let expected = match expected {
                None => at_work.clone(),
                Some((outcome, counts)) => Step::EndAttempt {
                    failure: AttemptFailure { counts, ..reached.failure() },
                    outcome,
                    cooldown: counts,
                },
            };
            assert_eq!(next_step(&snapshot), expected, "{row}");
        }
        // What else there is to see of it goes first.
        let reached =
            ReachedLimit { what: Stall, limit: SignedDuration::from_mins(30), again: false };
        let next = |found| {
            let time_limit = Some(reached);
            next_step(&Snapshot {
                found,
                attended: false,
                last_attempt: false,
                time_limit,
                over_budget: None,
            })
        };
        assert_eq!(next(found(finished())), Step::Finish(AgentReport::default()));
        assert_eq!(next(found(Failed(api_error()))), end_attempt(api_error(), false, true));
        let asks = next(found(NeedsAttention(question())));
        assert_eq!(asks, Step::Leave(Leave::NeedsAttention(question())));
        assert_eq!(next(started(Phase::Launching, Working)), Step::MarkWorking);
        assert_eq!(next(Found::Claimed), Step::Release);
        assert_eq!(
            reached.failure().reason,
            "the agent was ended: it showed no sign of life for as long as `stall`, 30m; it is resumed once"
        );
    }

    /// What a killed pass left.
    #[test]
    fn crashes() {
        let launching = |agent| started(Phase::Launching, agent);
        let question = AgentState::NeedsAttention("a question".to_owned());
        let gone = |taken_back, at_work| Found::NoTask { taken_back, at_work };
        for (row, found, expected) in [
            ("marker, but no claim", Found::NoClaim, Step::Clear),
            ("claimed", Found::Claimed, Step::Release),
            ("launching, the ticket is there", Found::Unstarted, Step::TakeTicket),
            ("launching, it works", launching(AgentState::Working), Step::MarkWorking),
            ("launching, it asks something", launching(question), Step::MarkWorking),
            ("launching, it is done", launching(finished()), Step::Finish(AgentReport::default())),
            ("outcome noted", Found::Noted(Outcome::Failed), Step::Place(Outcome::Failed)),
            (
                "landing",
                Found::Landing(AgentReport::default()),
                Step::Finish(AgentReport::default()),
            ),
            ("no task", gone(false, false), Step::RemoveClaim { taken_back: false }),
            ("no task, its agent works on", gone(false, true), Step::Leave(Leave::AtWork)),
            ("the task was taken back", gone(true, true), Step::RemoveClaim { taken_back: true }),
        ] {
            assert_eq!(step(found, false, false), expected, "{row}");
        }
    }

    /// What is found of a check.
    #[test]
    fn checks() {
        use AfterRed::{CheckBase, GiveBack, GiveUp};
        let given_up = |red_before, why: Option<&str>| Step::GiveUp {
            red_before,
            over_budget: why.map(str::to_owned),
        };
        let over = || AfterRed::NoFurtherRound(NoFurtherRound::OverBudget("budget".to_owned()));
        let gone = || AfterRed::NoFurtherRound(NoFurtherRound::AgentGone("gone".to_owned()));
        let released = Step::EndAttempt {
            failure: AttemptFailure { counts: false, ..AttemptFailure::of_task("gone") },
            outcome: Outcome::Released,
            cooldown: false,
        };
        use CheckState::{BaseEnded, Ended, NotRun, Running, Unstarted};
        let missing = |what| NotRun(what, "no such program".to_owned());
        let attention = Step::Leave(Leave::NeedsAttention("no such program".to_owned()));
        let (work, base) = (Judged::Work, Judged::Base);
        for (row, check, may_try_again, red, expected) in [
            ("not started", Unstarted, true, CheckBase, Step::Check(work)),
            ("it runs", Running, true, CheckBase, Step::Leave(Leave::Checking)),
            ("green", Ended(0), true, CheckBase, Step::Accept),
            ("green at last", Ended(0), true, GiveUp, Step::Accept),
            ("the first red", Ended(1), true, CheckBase, Step::Check(base)),
            ("no worktree", Ended(1), true, GiveBack, Step::GiveBack { red_before: None }),
            ("red for the last time", Ended(1), true, GiveUp, given_up(None, None)),
            ("red and paid for", Ended(1), true, over(), given_up(None, Some("budget"))),
            ("the same", BaseEnded(0), true, over(), given_up(Some(false), Some("budget"))),
            ("green and paid for", Ended(0), true, over(), Step::Accept),
            ("red, and its agent is gone", Ended(1), true, gone(), released.clone()),
            ("its base, too", BaseEnded(1), true, gone(), released),
            ("green, and its agent is gone", Ended(0), true, gone(), Step::Accept),
            ("new", BaseEnded(0), true, GiveBack, Step::GiveBack { red_before: Some(false) }),
            ("red before", BaseEnded(2), true, GiveBack, Step::GiveBack { red_before: Some(true) }),
            ("no rounds", BaseEnded(2), true, GiveUp, given_up(Some(true), None)),
            ("it could not run", missing(work), true, GiveBack, Step::Check(work)),
            ("nor on the base", missing(base), true, GiveBack, Step::Check(base)),
            ("it still could not run", missing(work), false, GiveBack, attention),
        ] {
            let found = Found::Checking { check, may_try_again, red };
            assert_eq!(step(found.clone(), false, false), expected, "{row}");
            let while_attended = match &expected {
                Step::Leave(_) => expected.clone(),
                _ => Step::Leave(Leave::Attended),
            };
            assert_eq!(step(found, true, true), while_attended, "attended: {row}");
        }
    }

    #[test]
    fn a_person_keeps_what_can_be_looked_at() {
        for found in [Found::NoClaim, Found::Noted(Outcome::Done)] {
            assert_eq!(step(found, true, false), Step::Leave(Leave::Attended));
        }
        // Nothing was started.
        assert_eq!(step(Found::Claimed, true, false), Step::Release);
        assert_eq!(step(Found::Unstarted, true, false), Step::TakeTicket);
    }
}
