//! The shapes that scripts rely on, and what people see.

mod status;

use super::*;
use crate::event::{Event, EventKind};
use crate::job::JobStatus;
use crate::money::Cost;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-01T12:00:00Z")
}

const STYLE: TerminalStyle = TerminalStyle { width: 80, colour: false, zone: TimeZone::UTC };

fn json_of(report: &Report) -> Value {
    let line = report.json().unwrap();
    assert_eq!(line.matches('\n').count(), 1, "one object on one line");
    assert!(line.starts_with("{\"version\":1,"), "{line}");
    serde_json::from_str(&line).unwrap()
}

fn text_of(report: &Report) -> String {
    report.text(now(), || STYLE)
}

fn pass() -> Report {
    Report::Pass {
        events: vec![
            Event {
                project: Some("/srv/app".into()),
                task: Some("fix-login.md".to_owned()),
                session: Some("ccl-auto-0".to_owned()),
                provider: Some(Provider::ClaudeCode),
                model: Some("opus".to_owned()),
                ..Event::new(EventKind::Dispatched)
            },
            Event {
                project: Some("/srv/app".into()),
                task: Some("review.md".to_owned()),
                provider: Some(Provider::Gemini),
                job_id: Some("job_1".to_owned()),
                ..Event::new(EventKind::Delegated)
            },
            Event {
                project: Some("/srv/app".into()),
                task: Some("a\u{1b}[2J\n.md".to_owned()),
                reason: Some("its name has\ncontrol characters".to_owned()),
                ..Event::new(EventKind::Held)
            },
            Event {
                session: Some("ccl-auto-1".to_owned()),
                reason: Some("rate limit".to_owned()),
                ..Event::new(EventKind::Cooldown)
            },
        ],
        free_sessions: Some(2),
    }
}

#[test]
fn a_pass_as_json_has_every_key() {
    assert_eq!(
        json_of(&pass()),
        json!({"version": 1, "free_sessions": 2, "events": [
            {"event": "dispatched", "project": "/srv/app", "task": "fix-login.md", "session": "ccl-auto-0",
             "agent": null, "provider": "claude-code", "model": "opus", "job_id": null, "reason": null},
            {"event": "delegated", "project": "/srv/app", "task": "review.md", "session": null,
             "agent": null, "provider": "gemini", "model": null, "job_id": "job_1", "reason": null},
            {"event": "held", "project": "/srv/app", "task": "a\u{1b}[2J\n.md", "session": null,
             "agent": null, "provider": null, "model": null, "job_id": null, "reason": "its name has\ncontrol characters"},
            {"event": "cooldown", "project": null, "task": null, "session": "ccl-auto-1",
             "agent": null, "provider": null, "model": null, "job_id": null, "reason": "rate limit"},
        ]})
    );
    let nothing = json_of(&Report::Pass { events: vec![], free_sessions: None });
    assert_eq!(nothing, json!({"version": 1, "events": [], "free_sessions": null}));
}

#[test]
fn a_pass_as_text_is_one_line_for_each_event() {
    assert_eq!(
        text_of(&pass()),
        "dispatched  fix-login.md  → ccl-auto-0 (opus)  /srv/app\n\
         delegated   review.md  → gemini (job_1)  /srv/app\n\
         held        a\\u{1b}[2J\\n.md  /srv/app: its name has\\ncontrol characters\n\
         cooldown    ccl-auto-1: rate limit\n"
    );
    assert_eq!(text_of(&Report::Pass { events: vec![], free_sessions: None }), "");
}

#[test]
fn every_kind_of_event_has_its_word() {
    let kinds = [
        (EventKind::Dispatched, "dispatched"),
        (EventKind::Delegated, "delegated"),
        (EventKind::Held, "held"),
        (EventKind::Released, "released"),
        (EventKind::Done, "done"),
        (EventKind::Failed, "failed"),
        (EventKind::Cooldown, "cooldown"),
    ];
    for (kind, word) in kinds {
        let report = Report::Pass { events: vec![Event::new(kind)], free_sessions: None };
        assert_eq!(json_of(&report)["events"][0]["event"], word);
        assert_eq!(text_of(&report), format!("{word}\n"));
    }
}

fn decisions() -> Report {
    let decision = DecisionRow {
        agent: None,
        agent_reason: None,
        task: "in/a.md".into(),
        provider: Provider::Gpu,
        delegated: true,
        delegation_enabled: true,
        rule: "auto".to_owned(),
        model: None,
        priority: Priority::High,
        isolation: None,
        land: None,
        check: None,
        waits: None,
        warnings: vec![],
    };
    let local = DecisionRow {
        task: PathBuf::from(OsStr::from_bytes(b"caf\xe9.md")),
        provider: Provider::ClaudeCode,
        agent: Some("claude".to_owned()),
        agent_reason: None,
        delegated: false,
        rule: "invalid-frontmatter".to_owned(),
        model: Some("sonnet".to_owned()),
        isolation: Some(Isolation::Worktree),
        land: Some(Land::Rebase),
        check: Some("make test".to_owned()),
        waits: Some("until 02:00, in 8 h".to_owned()),
        warnings: vec![
            warning(Path::new("b.md"), Some((2, 7)), "unknown key `x`"),
            warning(Path::new("b.md"), None, "odd"),
        ],
        ..decision.clone()
    };
    let off = DecisionRow {
        delegated: false,
        delegation_enabled: false,
        model: Some("opus".to_owned()),
        priority: Priority::Critical,
        ..decision.clone()
    };
    Report::Decisions { decisions: vec![decision, local, off] }
}

#[test]
fn decisions_as_json_have_every_key() {
    assert_eq!(
        json_of(&decisions()),
        json!({"version": 1, "decisions": [
            {"task": "in/a.md", "provider": "gpu", "delegated": true, "delegation_enabled": true, "rule": "auto",
             "agent": null, "model": null, "priority": "high", "isolation": null, "land": null, "check": null, "waits": null, "warnings": []},
            {"task": "caf\\xe9.md", "provider": "claude-code", "delegated": false, "delegation_enabled": true,
             "rule": "invalid-frontmatter", "agent": "claude", "model": "sonnet", "priority": "high",
             "isolation": "worktree", "land": "rebase", "check": "make test", "waits": "until 02:00, in 8 h",
             "warnings": ["b.md:2:7: unknown key `x`", "b.md: odd"]},
            {"task": "in/a.md", "provider": "gpu", "delegated": false, "delegation_enabled": false, "rule": "auto",
             "agent": null, "model": "opus", "priority": "critical", "isolation": null, "land": null, "check": null, "waits": null, "warnings": []},
        ]})
    );
}

#[test]
fn decisions_as_text_are_a_block_for_each_file() {
    insta::assert_snapshot!(text_of(&decisions()), @r"
    in/a.md
      provider  gpu, through secutools
      rule      auto
      model     -
      priority  high

    caf\xe9.md
      provider  claude-code
      rule      invalid-frontmatter
      agent     claude
      model     sonnet
      priority  high
      works in  a worktree of its own
      lands     by rebase, once it is checked
      check     make test
      waits     until 02:00, in 8 h
      warning   b.md:2:7: unknown key `x`
      warning   b.md: odd

    in/a.md
      provider  gpu, but delegation is off: it runs here
      rule      auto
      model     opus
      priority  critical
    ");
}

#[test]
fn a_job_is_shown_without_its_output() {
    let job = Report::Job {
        job: Job {
            id: "job_1".to_owned().try_into().unwrap(),
            status: JobStatus::Failed,
            provider: Some("gemini".to_owned()),
            output: Some("long".to_owned()),
            cost: Some(Cost { amount: "2".to_owned(), currency: None }),
            error: Some("too\x1blong".to_owned()),
        },
    };
    assert_eq!(
        text_of(&job),
        "job_1  failed  gemini  2 (currency unknown)\nerror: too\\u{1b}long\n"
    );
    assert_eq!(
        json_of(&job),
        json!({"version": 1, "job": {"id": "job_1", "status": "failed", "provider": "gemini", "output": "long",
               "cost": {"amount": "2", "currency": null}, "error": "too\u{1b}long"}})
    );
}

#[test]
fn odd_bytes_of_a_path_are_escaped() {
    let path = Path::new(OsStr::from_bytes(b"/a/\xff\xfeb/\xc3\xa9"));
    assert_eq!(path_text(path), "/a/\\xff\\xfeb/é");
}
