use super::*;

fn summary(turn: Turn) -> RunSummary {
    RunSummary {
        turn,
        answer: Some("Fixed".to_owned()),
        tokens: Some((5, 7)),
        model: Some("claude-x".to_owned()),
        ..RunSummary::default()
    }
}

fn error(kind: &str, text: &str) -> Turn {
    Turn::Error(ApiError {
        kind: Some(kind.to_owned()),
        text: text.to_owned(),
        resets_at: None,
        limit_type: None,
    })
}

/// Nothing is known but that the agent lives.
const LIVES: Observations<'static> = Observations {
    alive: true,
    status: None,
    quiet: Duration::ZERO,
    summary: None,
    screen: None,
    idle_hint: false,
    background: false,
    key_file: None,
    now: Timestamp::UNIX_EPOCH,
};

const IDLE: Screen = Screen::Composer { busy: false };
const BUSY: Screen = Screen::Composer { busy: true };

/// The outcome in one word.
fn word(doing: &AgentState) -> &'static str {
    match doing {
        AgentState::Working => "working",
        AgentState::NeedsAttention(_) => "person",
        AgentState::Finished(_) => "finished",
        AgentState::Failed(failure) if !failure.counts => "account",
        AgentState::Failed(_) => "failed",
        AgentState::Interrupted(_) => "interrupted",
    }
}

#[track_caller]
fn assert_judged(signs: &Observations<'_>, expected: &str) {
    let doing = judge(signs);
    assert_eq!(word(&doing), expected, "{signs:#?}\n{doing:#?}");
}

fn turns() -> [(Turn, &'static str, &'static str); 7] {
    // the turn, once the agent is idle, once it is gone
    [
        (Turn::Ended, "finished", "finished"),
        (error("rate_limit", "x"), "account", "account"),
        (error("server_error", "x"), "account", "account"),
        (error("invalid_request", "x"), "failed", "failed"),
        (Turn::StoppedByPerson, "person", "interrupted"),
        (Turn::Open, "working", "interrupted"),
        (Turn::None, "working", "interrupted"),
    ]
}

#[test]
fn an_agent_that_is_idle_is_judged_by_its_transcript() {
    for (turn, idle, gone) in turns() {
        let summary = summary(turn);
        let hinted = Observations {
            status: Some("idle"),
            idle_hint: true,
            summary: Some(&summary),
            ..LIVES
        };
        assert_judged(&hinted, idle);
        let ended = Observations { alive: false, ..LIVES };
        assert_judged(&Observations { summary: Some(&summary), ..ended }, gone);
    }
    let gone = Observations { alive: false, ..LIVES };
    assert_judged(&gone, "interrupted");
}

#[test]
fn an_ordinary_pass_waits_for_ten_seconds_of_rest() {
    let summary = summary(Turn::Ended);
    for (status, screen) in [(Some("idle"), None), (None, Some(IDLE))] {
        let signs = Observations { status, screen, summary: Some(&summary), ..LIVES };
        let quiet = |seconds| Observations { quiet: Duration::from_secs(seconds), ..signs.clone() };
        assert_judged(&quiet(9), "working");
        assert_judged(&quiet(10), "finished");
    }
}

#[test]
fn unknown_is_never_idle() {
    let hours = Duration::from_secs(7200);
    for (turn, _, _) in turns() {
        let summary = summary(turn);
        let unknown = Observations { summary: Some(&summary), quiet: hours, ..LIVES };
        // Neither registry nor screen.
        assert_judged(&unknown, "working");
        let screen = Some(Screen::Unknown);
        assert_judged(&Observations { screen, ..unknown.clone() }, "working");
        for status in ["busy", "shell", "starting", "a word of tomorrow"] {
            let signs = Observations { status: Some(status), idle_hint: true, ..unknown.clone() };
            assert_judged(&signs, "working");
        }
    }
}

#[test]
fn a_hint_of_idleness_is_not_believed_against_the_screen() {
    let summary = summary(Turn::Ended);
    for (screen, expected) in [(BUSY, "working"), (IDLE, "finished"), (Screen::Unknown, "finished")]
    {
        let signs = Observations {
            idle_hint: true,
            summary: Some(&summary),
            screen: Some(screen),
            ..LIVES
        };
        assert_judged(&signs, expected);
    }
}

#[test]
fn an_open_turn_of_an_idle_agent_is_looked_at_by_a_person() {
    let summary = summary(Turn::Open);
    let signs =
        Observations { status: Some("idle"), summary: Some(&summary), quiet: SETTLED, ..LIVES };
    assert_judged(&signs, "person");
}

#[test]
fn work_in_the_background_is_work() {
    let mut summary = summary(Turn::Ended);
    fn doing(summary: &RunSummary, status: Option<&'static str>, background: bool) -> &'static str {
        let signs =
            Observations { status, idle_hint: true, summary: Some(summary), background, ..LIVES };
        word(&judge(&signs))
    }
    assert_eq!(doing(&summary, Some("idle"), true), "working");
    assert_eq!(doing(&summary, None, true), "working");
    summary.background.insert("b1".to_owned());
    assert_eq!(doing(&summary, None, false), "working");
    assert_eq!(doing(&summary, Some("idle"), false), "finished");
    let gone = Observations { alive: false, summary: Some(&summary), ..LIVES };
    assert_judged(&gone, "interrupted");
}

#[test]
fn a_dialog_waits_for_a_person_but_for_the_limit() {
    for dialog in [
        Dialog::Trust,
        Dialog::Bypass,
        Dialog::ApiKey,
        Dialog::Login,
        Dialog::Theme,
        Dialog::ResumePicker,
        Dialog::Menu,
    ] {
        let screen = Screen::Dialog(dialog);
        let signs = Observations { screen: Some(screen), ..LIVES };
        assert_judged(&signs, "person");
    }
    let waiting = Observations { status: Some("waiting"), ..LIVES };
    assert_judged(&waiting, "person");

    let limited = ApiError { resets_at: Some(7200), ..ApiError::default() };
    let limited = ApiError { kind: Some("rate_limit".to_owned()), ..limited };
    let (open, limited) = (summary(Turn::Open), summary(Turn::Error(limited)));
    let judged = |summary, quiet| {
        let screen = Some(Screen::Dialog(Dialog::Limit));
        judge(&Observations { screen, summary, quiet, ..LIVES })
    };
    // The menu was faster than the record that says when the limit is reset.
    assert_eq!(judged(Some(&open), Duration::ZERO), AgentState::Working);
    let until = |summary, quiet| match judged(summary, quiet) {
        AgentState::Failed(failure) => failure.until.map(Timestamp::as_second),
        doing => panic!("{doing:?}"),
    };
    assert_eq!(until(Some(&limited), Duration::ZERO), Some(7200));
    assert_eq!(until(Some(&open), SETTLED), None);
    assert_eq!(until(None, Duration::ZERO), None);
}

/// 2.1.330 goes on by itself when the limit is reset; below its composer stands `Esc to cancel`.
#[test]
fn an_agent_that_waits_for_its_limit_has_failed() {
    let screen = Screen::Dialog(Dialog::Menu);
    let summary = summary(error("rate_limit", "You've hit your 5-hour limit · resets 5am (UTC)"));
    let signs = Observations {
        status: Some("idle"),
        screen: Some(screen),
        summary: Some(&summary),
        quiet: SETTLED,
        ..LIVES
    };
    assert_judged(&signs, "account");
}

#[test]
fn what_only_a_living_agent_shows_is_marked() {
    let seen = |turn, background: &[&str]| {
        let mut summary = summary(turn);
        summary.background = background.iter().map(ToString::to_string).collect();
        let signs = Observations {
            status: Some("idle"),
            idle_hint: true,
            summary: Some(&summary),
            screen: Some(IDLE),
            ..LIVES
        };
        match judge(&signs) {
            AgentState::Finished(report) => report.only_while_it_lives,
            doing => panic!("{doing:?}"),
        }
    };
    assert!(!seen(Turn::Ended, &[]));
    assert!(seen(Turn::Ended, &["b1"]));
}

#[test]
fn the_report_holds_what_the_transcript_has_and_a_long_answer_is_shortened() {
    let mut summary = summary(Turn::Ended);
    let finished = |summary: &RunSummary| {
        let signs = Observations { alive: false, summary: Some(summary), ..LIVES };
        match judge(&signs) {
            AgentState::Finished(report) => report,
            doing => panic!("{doing:?}"),
        }
    };
    let report = finished(&summary);
    assert_eq!(report.answer.as_deref(), Some("Fixed"));
    assert_eq!(report.tokens, Some((5, 7)));
    assert_eq!(report.model.as_deref(), Some("claude-x"));

    summary.answer = Some("é".repeat(MAX_ANSWER));
    assert_eq!(finished(&summary).answer, summary.answer);
    summary.answer = Some("é".repeat(MAX_ANSWER + 1));
    let answer = finished(&summary).answer.unwrap();
    assert!(answer.starts_with(&"é".repeat(MAX_ANSWER)));
    assert!(answer.ends_with("stands in the conversation.)"), "{answer}");
}
