use super::*;

fn started(phase: Phase, agent: AgentState) -> Found {
    Found::Started { phase, agent }
}

fn of(found: Found) -> Snapshot {
    Snapshot {
        found,
        attended: false,
        last_attempt: false,
        time_limit: None,
        asks_nobody: false,
        over_budget: None,
        after_turn: AfterTurn::File,
        report: AgentReport::default(),
        already_held: false,
        ends_hold: false,
    }
}

fn step(found: Found, attended: bool, last_attempt: bool) -> Step {
    next_step(&Snapshot { attended, last_attempt, ..of(found) })
}

fn filed() -> Step {
    Step::Finish { report: AgentReport::default(), landed: false }
}

fn said(answer: &str) -> AgentReport {
    AgentReport { answer: Some(answer.to_owned()), ..AgentReport::default() }
}

fn finished() -> AgentState {
    AgentState::Finished(AgentReport::default())
}

fn limit() -> AttemptFailure {
    AttemptFailure { counts: false, ..AttemptFailure::of_task("the account's limit") }
}

/// What follows while a person looks: only what ends something waits for that.
fn while_attended(step: &Step) -> Step {
    match step {
        Step::Leave(_)
        | Step::MarkWorking
        | Step::Release
        | Step::TakeTicket
        | Step::UndoRound(_) => step.clone(),
        _ => Step::Leave(Leave::Attended),
    }
}

/// What has become too dear while its agent works.
#[test]
fn what_costs_too_much_is_ended_and_filed() {
    let reached =
        ReachedLimit { what: Timeout::Stall, limit: SignedDuration::from_mins(30), again: false };
    let next_of = |agent, attended, time_limit| {
        let found = started(Phase::Working, agent);
        let over_budget = Some("budget".to_owned());
        next_step(&Snapshot { attended, over_budget, time_limit, ..of(found) })
    };
    let next = |agent, attended| next_of(agent, attended, None);
    let failure = AttemptFailure::of_task("budget");
    let ended = Step::EndAttempt(AttemptEnd::of_task(failure, Outcome::Failed));
    assert_eq!(next(AgentState::Working, false), ended);
    // It would be resumed after its limit of time, and cost more.
    assert_eq!(next_of(AgentState::Working, false, Some(reached)), ended);
    assert_eq!(next(AgentState::Working, true), Step::Leave(Leave::AtWork));
    assert_eq!(next(finished(), false), filed());
}

/// What is found of an agent that has started. Where it has ended, it counts for nothing whether a pass has seen it at
/// work.
#[test]
fn finish() {
    use AgentState::{Failed, Interrupted, NeedsAttention, Working};
    let ended = |failure: AttemptFailure, outcome, cooldown| {
        Step::EndAttempt(AttemptEnd { cooldown, ..AttemptEnd::of_task(failure, outcome) })
    };
    let error = || AttemptFailure::of_task("an API error");
    let gone = || AttemptFailure::of_task("gone in mid-turn");
    let interrupted = || Interrupted("gone in mid-turn".to_owned());
    let question = || "a question".to_owned();
    for (row, agent, last_attempt, expected) in [
        ("the turn ended well", finished(), false, filed()),
        ("the last turn ended well", finished(), true, filed()),
        ("an API error", Failed(error()), false, ended(error(), Outcome::Released, true)),
        ("the last error", Failed(error()), true, ended(error(), Outcome::Failed, true)),
        ("a limit never files it", Failed(limit()), true, ended(limit(), Outcome::Released, true)),
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
        for phase in [Phase::Launching, Phase::Working] {
            let expected = match (&expected, phase) {
                (Step::Leave(_), Phase::Launching) => Step::MarkWorking,
                _ => expected.clone(),
            };
            let found = started(phase, agent.clone());
            let row = format!("{row}, {phase:?}");
            assert_eq!(step(found.clone(), false, last_attempt), expected, "{row}");
            let attended = while_attended(&expected);
            assert_eq!(step(found, true, last_attempt), attended, "attended: {row}");
        }
    }
}

/// What is found of an agent that is at work or at a question, and has reached a limit of time.
#[test]
fn limits_of_time() {
    use AgentState::{Failed, NeedsAttention, Working};
    use Timeout::{MaxDuration, Stall};
    let found = |agent| started(Phase::Working, agent);
    let question = || "a question".to_owned();
    let api_error = || AttemptFailure::of_task("an API error");
    let at_work = Step::Leave(Leave::AtWork);
    let ended_at = |reached: ReachedLimit| {
        let failure = reached.failure_at("a question");
        Step::EndAttempt(AttemptEnd::of_task(failure, Outcome::Released))
    };
    for (row, what, agent, again, attended, last_attempt, expected) in [
        ("first", MaxDuration, Working, false, false, false, Some((Outcome::Released, false))),
        ("first of the last", Stall, Working, false, false, true, Some((Outcome::Released, false))),
        ("again", Stall, Working, true, false, false, Some((Outcome::Released, true))),
        ("again, and last", MaxDuration, Working, true, false, true, Some((Outcome::Failed, true))),
        ("a person looks", MaxDuration, Working, true, true, true, None),
    ] {
        let reached = ReachedLimit { what, limit: SignedDuration::from_mins(90), again };
        let time_limit = Some(reached);
        let snapshot = Snapshot { attended, last_attempt, time_limit, ..of(found(agent)) };
        let expected = match expected {
            None => at_work.clone(),
            Some((outcome, counts)) => {
                let failure = AttemptFailure { counts, ..reached.failure() };
                let end = AttemptEnd::of_task(failure, outcome);
                Step::EndAttempt(AttemptEnd { cooldown: counts, ..end })
            }
        };
        assert_eq!(next_step(&snapshot), expected, "{row}");
    }
    // What else there is to see of it goes first.
    let reached = ReachedLimit { what: Stall, limit: SignedDuration::from_mins(30), again: false };
    let next = |found| next_step(&Snapshot { time_limit: Some(reached), ..of(found) });
    assert_eq!(next(found(finished())), filed());
    let failed = Step::EndAttempt(AttemptEnd::after(api_error(), false, true));
    assert_eq!(next(found(Failed(api_error()))), failed);
    // A question waits for a person, unless nobody was to be asked.
    let asks = Step::Leave(Leave::NeedsAttention(question()));
    for (row, asks_nobody, time_limit, attended, expected) in [
        ("a person is asked", false, Some(reached), false, asks.clone()),
        ("nobody is", true, Some(reached), false, ended_at(reached)),
        ("not for long yet", true, None, false, asks.clone()),
        ("a person has found it", true, Some(reached), true, asks.clone()),
    ] {
        let found = found(NeedsAttention(question()));
        let snapshot = Snapshot { asks_nobody, time_limit, attended, ..of(found) };
        assert_eq!(next_step(&snapshot), expected, "{row}");
    }
    let again = ReachedLimit { again: true, ..reached };
    let found_again = found(NeedsAttention(question()));
    let time_limit = Some(again);
    let last = Snapshot { asks_nobody: true, time_limit, last_attempt: true, ..of(found_again) };
    let end = AttemptEnd::after(again.failure_at("a question"), true, true);
    assert_eq!((end.outcome, end.cooldown), (Outcome::Failed, true));
    assert_eq!(next_step(&last), Step::EndAttempt(end));
    assert_eq!(next(started(Phase::Launching, Working)), Step::MarkWorking);
    assert_eq!(next(Found::Claimed), Step::Release);
    assert_eq!(
        reached.failure_at("a question").reason,
        "the agent was ended: it showed no sign of life for as long as `stall`, 30m; it is resumed once; what it stood at: a question"
    );
    let worked = ReachedLimit { what: MaxDuration, ..again };
    assert_eq!(
        worked.failure().reason,
        "the agent was ended: it worked for longer than `max_duration`, 30m; it was resumed once before"
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
        ("launching, the ticket is there", Found::Unstarted { round: None }, Step::TakeTicket),
        (
            "the same of what was red",
            Found::Unstarted { round: Some(Round::Red) },
            Step::UndoRound(Round::Red),
        ),
        (
            "of a conflict",
            Found::Unstarted { round: Some(Round::Conflict) },
            Step::UndoRound(Round::Conflict),
        ),
        ("launching, it works", launching(AgentState::Working), Step::MarkWorking),
        ("launching, it asks something", launching(question), Step::MarkWorking),
        ("launching, it is done", launching(finished()), filed()),
        ("noted as done", Found::Noted(Outcome::Done), Step::Place(Outcome::Done)),
        ("noted as failed", Found::Noted(Outcome::Failed), Step::Place(Outcome::Failed)),
        ("noted as released", Found::Noted(Outcome::Released), Step::Place(Outcome::Released)),
        ("landing, and it has no branch", Found::Landing, filed()),
        ("no task", gone(false, false), Step::RemoveClaim { taken_back: false }),
        ("no task, its agent works on", gone(false, true), Step::Leave(Leave::AtWork)),
        ("the task was taken back", gone(true, false), Step::RemoveClaim { taken_back: true }),
        ("from an agent at work", gone(true, true), Step::RemoveClaim { taken_back: true }),
    ] {
        assert_eq!(step(found.clone(), false, false), expected, "{row}");
        assert_eq!(step(found, true, false), while_attended(&expected), "attended: {row}");
    }
}

/// What is found of a check.
#[test]
fn checks() {
    use AfterRed::{CheckBase, GiveUp, RequestFix};
    let given_up = |red_before, why: Option<&str>| Step::GiveUp {
        red_before,
        over_budget: why.map(str::to_owned),
    };
    let over = || AfterRed::NoFurtherRound(NoFurtherRound::OverBudget("budget".to_owned()));
    let gone = || AfterRed::NoFurtherRound(NoFurtherRound::AgentGone("gone".to_owned()));
    let failure = AttemptFailure { counts: false, ..AttemptFailure::of_task("gone") };
    let released = Step::EndAttempt(AttemptEnd::of_task(failure, Outcome::Released));
    use CheckState::{BaseEnded, Ended, NotRun, Running, Unstarted};
    let accepted = || Step::Accept { then: Box::new(filed()) };
    let missing = |what| NotRun(what, "no such program".to_owned());
    let attention = Step::Leave(Leave::NeedsAttention("no such program".to_owned()));
    let (work, base) = (CheckTarget::Work, CheckTarget::Base);
    for (row, check, may_try_again, red, expected) in [
        ("not started", Unstarted, true, CheckBase, Step::Check(work)),
        ("it runs", Running, true, CheckBase, Step::Leave(Leave::Checking)),
        ("green", Ended(0), true, CheckBase, accepted()),
        ("green at last", Ended(0), true, GiveUp, accepted()),
        ("the first red", Ended(1), true, CheckBase, Step::Check(base)),
        ("no worktree", Ended(1), true, RequestFix, Step::RequestFix { red_before: None }),
        ("red for the last time", Ended(1), true, GiveUp, given_up(None, None)),
        ("red and paid for", Ended(1), true, over(), given_up(None, Some("budget"))),
        ("the same", BaseEnded(0), true, over(), given_up(Some(false), Some("budget"))),
        ("green and paid for", Ended(0), true, over(), accepted()),
        ("red, and its agent is gone", Ended(1), true, gone(), released.clone()),
        ("its base, too", BaseEnded(1), true, gone(), released),
        ("green, and its agent is gone", Ended(0), true, gone(), accepted()),
        ("new", BaseEnded(0), true, RequestFix, Step::RequestFix { red_before: Some(false) }),
        ("once", BaseEnded(0), true, CheckBase, Step::RequestFix { red_before: Some(false) }),
        ("red before", BaseEnded(2), true, RequestFix, Step::RequestFix { red_before: Some(true) }),
        ("no rounds", BaseEnded(2), true, GiveUp, given_up(Some(true), None)),
        ("it could not run", missing(work), true, RequestFix, Step::Check(work)),
        ("nor on the base", missing(base), true, RequestFix, Step::Check(base)),
        ("it still could not run", missing(work), false, RequestFix, attention),
    ] {
        let found = Found::Checking { check, may_try_again, red };
        assert_eq!(step(found.clone(), false, false), expected, "{row}");
        assert_eq!(step(found, true, true), while_attended(&expected), "attended: {row}");
    }
}

/// What follows a turn that has ended well, and then a green check.
#[test]
fn after_a_turn() {
    use AfterTurn::{Check, File, Land};
    let land = |prospect| Step::Land { report: said("x"), prospect };
    let file = Step::Finish { report: said("x"), landed: false };
    let green = || Found::Checking {
        check: CheckState::Ended(0),
        may_try_again: true,
        red: AfterRed::GiveUp,
    };
    let ended = || started(Phase::Working, AgentState::Finished(said("x")));
    let accept = |then| Step::Accept { then: Box::new(then) };
    for (row, found, then, expected) in [
        ("a check judges it", ended(), Check, Step::EndTurn),
        ("a branch to land", ended(), Land(Prospect::Landed), land(Prospect::Landed)),
        ("a branch to keep", ended(), Land(Prospect::Kept), land(Prospect::Kept)),
        ("nothing else", ended(), File, file.clone()),
        ("green, to land", green(), Land(Prospect::Landed), accept(land(Prospect::Landed))),
        ("green, to keep", green(), Land(Prospect::Kept), accept(land(Prospect::Kept))),
        ("green, no branch", green(), File, accept(file.clone())),
        ("killed while it landed", Found::Landing, Land(Prospect::Landed), land(Prospect::Landed)),
        ("behind a green check", Found::Landing, File, file),
        ("no check could", Found::Landing, Land(Prospect::Unjudged), land(Prospect::Unjudged)),
    ] {
        let report = match found {
            // What was seen of a living agent counts.
            Found::Started { .. } => AgentReport::default(),
            _ => said("x"),
        };
        let snapshot = Snapshot { after_turn: then, report, ..of(found) };
        assert_eq!(next_step(&snapshot), expected, "{row}");
        let attended = Snapshot { attended: true, ..snapshot };
        assert_eq!(next_step(&attended), Step::Leave(Leave::Attended), "attended: {row}");
    }
}

/// What only git finds out.
#[test]
fn after_the_branch() {
    use BranchOutcome::{Changed, Conflict, Finished, Unjudged, Waits};
    let failed = |why: &str| AttemptEnd::of_task(AttemptFailure::of_task(why), Outcome::Failed);
    let finish = |landed| Step::Finish { report: said("x"), landed };
    let gone = || NoFurtherRound::AgentGone("gone".to_owned());
    let released = AttemptFailure { counts: false, ..AttemptFailure::of_task("gone") };
    for (outcome, no_round, expected) in [
        (
            Conflict("solve it".to_owned()),
            Some(NoFurtherRound::OverBudget("budget".to_owned())),
            Step::EndAttempt(failed("budget")),
        ),
        (
            Conflict("solve it".to_owned()),
            Some(gone()),
            Step::EndAttempt(AttemptEnd::of_task(released, Outcome::Released)),
        ),
        (Finished { landed: false }, None, finish(false)),
        (Finished { landed: true }, None, finish(true)),
        (Unjudged("broken".to_owned()), None, Step::EndAttempt(failed("broken"))),
        (Conflict("solve it".to_owned()), None, Step::RequestFixOfConflict("solve it".to_owned())),
        (Changed, None, Step::Check(CheckTarget::Work)),
        (
            Waits { behind: "b.md".to_owned() },
            None,
            Step::Leave(Leave::WaitsToLand { behind: "b.md".to_owned() }),
        ),
    ] {
        assert_eq!(after_branch(outcome, no_round, said("x")), expected);
    }
}

/// What only the agent's end shows.
#[test]
fn after_the_cost() {
    let error = || AttemptFailure::of_task("an API error");
    let end = |last_attempt| AttemptEnd::after(error(), last_attempt, true);
    let budget = || Some("budget".to_owned());
    assert_eq!(end(false).with_cost(None), end(false));
    // It is given up anyhow, for its own reason.
    assert_eq!(end(true).with_cost(budget()), end(true));
    let given_up = end(false).with_cost(budget());
    assert_eq!((given_up.outcome, given_up.cooldown), (Outcome::Failed, true));
    assert_eq!(given_up.noted(), AttemptFailure::of_task("budget"));
    assert_eq!((end(false).noted(), given_up.failure), (error(), error()));
}

/// What makes the pass fail as well.
#[test]
fn failures_of_the_machine() {
    let asks = AttemptFailure { needs_attention: true, ..AttemptFailure::of_task("a dialog") };
    for (failure, expected) in [
        (AttemptFailure::of_machine("a theme"), true),
        (AttemptFailure::of_program("no claude"), true),
        (AttemptFailure::of_task("an API error"), false),
        (asks, false),
        (AttemptFailure::of_project("npm"), false),
        (AttemptFailure::of_agent(HoldCause::Account, "no login"), false),
    ] {
        assert_eq!(failure.is_of_machine(), expected, "{}", failure.reason);
    }
}

/// An agent's hold begins once.
#[test]
fn holds() {
    let outage = || AttemptFailure::of_agent(HoldCause::Outage, "no connection");
    let found = || started(Phase::Working, AgentState::Failed(outage()));
    for already_held in [false, true] {
        let end = AttemptEnd::of_task(outage(), Outcome::Released);
        let expected = Step::EndAttempt(AttemptEnd { hold: !already_held, ..end });
        assert_eq!(next_step(&Snapshot { already_held, ..of(found()) }), expected);
    }
}

/// What a run shows that was sent to see whether its agent's hold has ended.
#[test]
fn probes() {
    use AgentState::{Failed, Finished, Interrupted, NeedsAttention, Working};
    use Answered::{ByApi, ByExit};
    let outage = AttemptFailure::of_agent(HoldCause::Outage, "no connection");
    let working = |agent| started(Phase::Working, agent);
    let failed = || working(Failed(AttemptFailure::of_task("an error")));
    let done = || working(Finished(said("x")));
    let checking =
        Found::Checking { check: CheckState::Running, may_try_again: true, red: AfterRed::GiveUp };
    let words = || "words".to_owned();
    for (row, found, of_command, of_claude) in [
        ("the same once more", working(Failed(outage)), false, false),
        ("it works", working(Working), false, true),
        ("it asks", working(NeedsAttention(words())), false, true),
        ("it is gone", working(Interrupted(words())), false, true),
        ("done", done(), true, true),
        ("failed otherwise", failed(), true, true),
        ("noted as done", Found::Noted(Outcome::Done), true, true),
        ("noted otherwise", Found::Noted(Outcome::Released), false, true),
        ("a check runs", checking, true, true),
        ("landing", Found::Landing, true, true),
        ("claimed", Found::Claimed, false, true),
        ("not started", Found::Unstarted { round: None }, false, true),
        ("no task", Found::NoTask { taken_back: false, at_work: true }, false, true),
        ("no claim", Found::NoClaim, false, true),
    ] {
        assert_eq!(has_answer(&found, ByExit(true)), of_command, "{row}");
        assert_eq!(has_answer(&found, ByApi(true)), of_claude, "Claude Code: {row}");
        assert!(!has_answer(&found, ByApi(false)), "Claude Code without an answer: {row}");
    }
    // Its program, or its directory, is not there.
    assert!(!has_answer(&failed(), ByExit(false)));
    assert!(!has_answer(&done(), ByExit(false)));
}
