//! What an agent leaves behind: nothing half written or unknown is taken for the end of its work.

use std::time::Duration;

use ccl::agent::claude::Registered;
use ccl::agent::judge::{Observations, judge};
use ccl::agent::screen::{Dialog, Screen, recognise};
use ccl::agent::transcript::{RunSummary, Turn, summarise};
use ccl::next_step::{AgentState, AttemptFailure};
use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;

/// Stands between the transcript, the registry's file and the screen.
const SEPARATOR: &str = "\n%%%%\n";
const SESSION: &str = "00000000-0000-0000-0000-000000000007";
/// Monday, 23 November 2026, 12:00 UTC.
const NOW: i64 = 1_795_435_200;

/// All of it, for a transcript, with a registry's file and a screen behind it.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, SEPARATOR);
    let mut part = || parts.next().unwrap_or_default();
    let (transcript, registry, capture) = (part(), part(), part());

    let summary = summarise(transcript);
    half_a_line_says_nothing(transcript);
    the_last_record_decides(transcript, &summary);
    let status = registered(registry);
    let screen = recognise(capture);
    a_menu_is_never_a_composer(capture);
    for seen in all_observations(&summary, status.as_deref(), screen) {
        only_evidence_counts(&seen);
    }
}

/// Claude Code may be writing the last line at this very moment.
fn half_a_line_says_nothing(text: &str) {
    for cut in super::cuts(text.as_bytes()) {
        let Some(torn) = text.get(..cut) else {
            continue;
        };
        let whole = torn.rfind('\n').map_or("", |newline| &torn[..=newline]);
        if serde_json::from_str::<IgnoredAny>(&torn[whole.len()..]).is_err() {
            assert!(same(&summarise(torn), &summarise(whole)), "cut off at {cut}");
        }
    }
}

/// Whatever stands above: the turn is as its last record says, and what is nobody's word changes nothing.
fn the_last_record_decides(text: &str, before: &RunSummary) {
    let with = |line: &str| summarise(&format!("{text}\n{line}\n"));
    for nothing in [
        "",
        "null",
        r#"{"type":"assistant","message":{"content":"x","stop_reason":"end_turn""#,
        r#"{"type":"summary","message":{"content":"x","stop_reason":"end_turn"}}"#,
        r#"{"type":"assistant","isSidechain":true,"message":{"content":"x","stop_reason":"end_turn"}}"#,
        r#"{"type":"user","isMeta":true,"message":{"content":"x"}}"#,
    ] {
        assert!(same(&with(nothing), before), "{nothing}");
    }
    let prompt = with(r#"{"type":"user","message":{"content":"go on"}}"#);
    assert_eq!(prompt.turn, Turn::Open);
    assert_eq!(prompt.answer, before.answer);
    let tool = with(
        r#"{"type":"assistant","message":{"content":[{"type":"tool_use"}],"stop_reason":"end_turn"}}"#,
    );
    assert_eq!(tool.turn, Turn::Open);
    let end = with(r#"{"type":"assistant","message":{"content":"fine","stop_reason":"end_turn"}}"#);
    assert_eq!((&end.turn, end.answer.as_deref()), (&Turn::Ended, Some("fine")));
    let error = with(
        r#"{"type":"assistant","isApiErrorMessage":true,"message":{"content":"no","stop_reason":"end_turn"}}"#,
    );
    assert!(matches!(error.turn, Turn::Error(_)), "{:?}", error.turn);
    assert_eq!(error.answer, before.answer);
}

fn same(one: &RunSummary, other: &RunSummary) -> bool {
    one == other
}

/// What the registry's file says; half of one never says `idle`.
fn registered(file: &str) -> Option<String> {
    let read = |bytes: &[u8]| Registered::read(bytes, 7, SESSION);
    for cut in super::cuts(file.as_bytes()) {
        let torn = &file.as_bytes()[..cut];
        if serde_json::from_slice::<IgnoredAny>(torn).is_err() {
            let status = read(torn).and_then(|entry| entry.status);
            assert!(status.is_some_and(|status| status != "idle"), "cut off at {cut}");
        }
    }
    let entry = read(file.as_bytes())?;
    assert_eq!(entry.pid, 7);
    entry.status
}

/// A menu below it is not a composer, whatever stands above.
fn a_menu_is_never_a_composer(capture: &str) {
    for end in ["Enter to confirm", "Esc to cancel"] {
        let screen = recognise(&format!("{capture}\n❯ 1. No, exit\n  2. Yes\n {end}\n"));
        assert!(matches!(screen, Screen::Dialog(_)), "{screen:?}");
    }
}

/// What is observed of an agent in each state that it can be seen in.
fn all_observations<'a>(
    summary: &'a RunSummary,
    status: Option<&'a str>,
    screen: Screen,
) -> impl Iterator<Item = Observations<'a>> {
    let statuses = [status, None, Some("idle"), Some("busy")];
    (0..64_usize).map(move |bits| Observations {
        key_file: None,
        alive: bits & 1 != 0,
        idle_hint: bits & 2 != 0,
        background: bits & 4 != 0,
        quiet: Duration::from_secs(if bits & 8 == 0 { 9 } else { 10 }),
        status: statuses[bits >> 4],
        summary: Some(summary),
        screen: Some(screen),
        now: now(),
    })
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

/// Done is only what is known to be done; unknown is never idle, and idle never done.
fn only_evidence_counts(seen: &Observations<'_>) {
    let summary = seen.summary.expect("always there");
    match judge(seen) {
        AgentState::Finished(report) if seen.alive => {
            assert_eq!(summary.turn, Turn::Ended);
            assert!(matches!(seen.status, None | Some("idle")), "{seen:?}");
            assert!(seen.idle_hint || seen.quiet.as_secs() >= 10);
            assert!(!seen.background);
            assert!(seen.status.is_some() || summary.background.is_empty());
            match seen.screen {
                Some(Screen::Dialog(dialog)) => {
                    assert_eq!((dialog, seen.status), (Dialog::Menu, Some("idle")));
                }
                Some(Screen::Composer { busy }) => assert!(seen.status.is_some() || !busy),
                Some(Screen::Unknown) | None => {}
            }
            assert_eq!(report.answer.is_some(), summary.answer.is_some());
        }
        AgentState::Finished(_) => {
            assert_eq!(summary.turn, Turn::Ended);
            assert!(summary.background.is_empty());
        }
        AgentState::Failed(failure) => {
            let limit = seen.screen == Some(Screen::Dialog(Dialog::Limit));
            assert!(matches!(summary.turn, Turn::Error(_)) || (limit && seen.alive));
            cools_down_for_a_while(&failure);
        }
        AgentState::Working | AgentState::NeedsAttention(_) => assert!(seen.alive),
        AgentState::Interrupted(_) => assert!(!seen.alive),
    }
}

/// A reset time that is believed lies ahead, and not further than a month.
fn cools_down_for_a_while(failure: &AttemptFailure) {
    if let Some(until) = failure.until {
        let rest = until.duration_since(now());
        assert!(rest.is_positive() && rest < SignedDuration::from_hours(32 * 24));
        assert!(!failure.counts);
    }
    assert!(!failure.counts || !failure.needs_attention);
}
