use super::super::screen::Composer;
use super::*;

fn summary(turn: Turn) -> Summary {
    Summary {
        turn,
        answer: Some("Fixed".to_owned()),
        tokens: Some((5, 7)),
        model: Some("claude-x".to_owned()),
        ..Summary::default()
    }
}

fn error(kind: &str, text: &str) -> Turn {
    Turn::Error(ApiError { kind: Some(kind.to_owned()), text: text.to_owned(), resets_at: None })
}

/// Nothing is known but that the agent lives.
const LIVES: Signs<'static> = Signs {
    in_front: true,
    status: None,
    quiet: Duration::ZERO,
    summary: None,
    screen: None,
    capture: "",
    told_idle: false,
    background: false,
    now: Timestamp::UNIX_EPOCH,
};

fn composer(busy: bool) -> Screen {
    Screen::Composer(Composer { text: String::new(), busy })
}

/// The outcome in one word.
fn word(doing: &Doing) -> &'static str {
    match doing {
        Doing::Working => "working",
        Doing::NeedsPerson(_) => "person",
        Doing::Finished(_) => "finished",
        Doing::Failed(failure) if !failure.counts => "account",
        Doing::Failed(_) => "failed",
        Doing::Interrupted(_) => "interrupted",
    }
}

#[track_caller]
fn assert_judged(signs: &Signs<'_>, expected: &str) {
    let doing = judge(signs);
    assert_eq!(word(&doing), expected, "{signs:#?}\n{doing:#?}");
}

fn turns() -> [(Turn, &'static str, &'static str); 7] {
    // the turn, once the agent is idle, once it is gone
    [
        (Turn::Ended, "finished", "finished"),
        (Turn::Spoke, "finished", "interrupted"),
        (error("rate_limit", "x"), "account", "account"),
        (error("server_error", "x"), "failed", "failed"),
        (Turn::StoppedByPerson, "person", "interrupted"),
        (Turn::Open, "working", "interrupted"),
        (Turn::None, "working", "interrupted"),
    ]
}

#[test]
fn an_agent_that_is_idle_is_judged_by_its_transcript() {
    for (turn, idle, gone) in turns() {
        let summary = summary(turn);
        let told =
            Signs { status: Some("idle"), told_idle: true, summary: Some(&summary), ..LIVES };
        assert_judged(&told, idle);
        let ended = Signs { in_front: false, ..LIVES };
        assert_judged(&Signs { summary: Some(&summary), ..ended }, gone);
    }
    let gone = Signs { in_front: false, ..LIVES };
    assert_judged(&gone, "interrupted");
}

#[test]
fn an_ordinary_pass_waits_for_ten_seconds_of_rest() {
    let summary = summary(Turn::Ended);
    for (status, screen) in [(Some("idle"), None), (None, Some(composer(false)))] {
        let signs = Signs { status, screen: screen.as_ref(), summary: Some(&summary), ..LIVES };
        let quiet = |seconds| Signs { quiet: Duration::from_secs(seconds), ..signs.clone() };
        assert_judged(&quiet(9), "working");
        assert_judged(&quiet(10), "finished");
    }
}

#[test]
fn unknown_is_never_idle() {
    let hours = Duration::from_secs(7200);
    for (turn, _, _) in turns() {
        let summary = summary(turn);
        let unknown = Signs { summary: Some(&summary), quiet: hours, ..LIVES };
        // Neither registry nor screen.
        assert_judged(&unknown, "working");
        let nothing_known = Screen::Unknown;
        let screen = Some(&nothing_known);
        assert_judged(&Signs { screen, ..unknown.clone() }, "working");
        for status in ["busy", "shell", "starting", "a word of tomorrow"] {
            let signs = Signs { status: Some(status), told_idle: true, ..unknown.clone() };
            assert_judged(&signs, "working");
        }
    }
}

#[test]
fn whoever_says_idle_is_not_believed_against_the_screen() {
    let summary = summary(Turn::Ended);
    for (screen, expected) in
        [(composer(true), "working"), (composer(false), "finished"), (Screen::Unknown, "finished")]
    {
        let signs =
            Signs { told_idle: true, summary: Some(&summary), screen: Some(&screen), ..LIVES };
        assert_judged(&signs, expected);
    }
}

#[test]
fn an_open_turn_of_an_idle_agent_is_looked_at_by_a_person() {
    let summary = summary(Turn::Open);
    let signs = Signs { status: Some("idle"), summary: Some(&summary), quiet: SETTLED, ..LIVES };
    assert_judged(&signs, "person");
}

#[test]
fn work_in_the_background_is_work() {
    let mut summary = summary(Turn::Ended);
    fn told(summary: &Summary, status: Option<&'static str>, background: bool) -> &'static str {
        let signs = Signs { status, told_idle: true, summary: Some(summary), background, ..LIVES };
        word(&judge(&signs))
    }
    assert_eq!(told(&summary, Some("idle"), true), "working");
    assert_eq!(told(&summary, None, true), "working");
    summary.background.insert("b1".to_owned());
    assert_eq!(told(&summary, None, false), "working");
    assert_eq!(told(&summary, Some("idle"), false), "finished");
    let gone = Signs { in_front: false, summary: Some(&summary), ..LIVES };
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
        let signs = Signs { screen: Some(&screen), ..LIVES };
        assert_judged(&signs, "person");
    }
    let waiting = Signs { status: Some("waiting"), ..LIVES };
    assert_judged(&waiting, "person");

    let limit = Screen::Dialog(Dialog::Limit);
    let capture = "5-hour limit reached ∙ resets 3am (UTC)\nWhat do you want to do?";
    let summary = summary(error("rate_limit", "resets 5am (UTC)"));
    let until = |summary| {
        let signs = Signs { screen: Some(&limit), capture, summary, ..LIVES };
        match judge(&signs) {
            Doing::Failed(failure) => failure.until.unwrap().as_second() / 3600,
            doing => panic!("{doing:?}"),
        }
    };
    assert_eq!((until(None), until(Some(&summary))), (3, 5));
}

/// 2.1.330 goes on by itself when the limit is reset; below its composer stands `Esc to cancel`.
#[test]
fn an_agent_that_waits_for_its_limit_has_failed() {
    let screen = Screen::Dialog(Dialog::Menu);
    let summary = summary(error("rate_limit", "You've hit your 5-hour limit · resets 5am (UTC)"));
    let signs = Signs {
        status: Some("idle"),
        screen: Some(&screen),
        summary: Some(&summary),
        quiet: SETTLED,
        ..LIVES
    };
    assert_judged(&signs, "account");
}

#[test]
fn it_is_told_what_only_a_living_agent_shows() {
    let idle = composer(false);
    let seen = |turn, background: &[&str]| {
        let mut summary = summary(turn);
        summary.background = background.iter().map(ToString::to_string).collect();
        let signs = Signs {
            status: Some("idle"),
            told_idle: true,
            summary: Some(&summary),
            screen: Some(&idle),
            ..LIVES
        };
        match judge(&signs) {
            Doing::Finished(report) => report.only_while_it_lives,
            doing => panic!("{doing:?}"),
        }
    };
    assert!(!seen(Turn::Ended, &[]));
    assert!(seen(Turn::Ended, &["b1"]));
    assert!(seen(Turn::Spoke, &[]));
}

#[test]
fn the_report_holds_what_the_transcript_has_and_a_long_answer_is_shortened() {
    let mut summary = summary(Turn::Ended);
    let finished = |summary: &Summary| {
        let signs = Signs { in_front: false, summary: Some(summary), ..LIVES };
        match judge(&signs) {
            Doing::Finished(report) => report,
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
