//! The shapes that scripts rely on, and what people see.

use super::*;
use serde_json::{Value, json};
use std::ffi::OsStr;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-01T12:00:00Z")
}

const PAGE: Page = Page {
    width: 80,
    colour: false,
};

fn json_of(report: &Report) -> Value {
    let line = report.render(true, PAGE, now()).unwrap();
    assert_eq!(line.matches('\n').count(), 1, "one object on one line");
    assert!(line.starts_with("{\"version\":1,"), "{line}");
    serde_json::from_str(&line).unwrap()
}

fn text_of(report: &Report) -> String {
    report.render(false, PAGE, now()).unwrap()
}

fn pass() -> Report {
    Report::Pass(Pass {
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
    })
}

#[test]
fn a_pass_as_json_has_every_key() {
    assert_eq!(
        json_of(&pass()),
        json!({"version": 1, "free_sessions": 2, "events": [
            {"event": "dispatched", "project": "/srv/app", "task": "fix-login.md", "session": "ccl-auto-0",
             "provider": "claude-code", "model": "opus", "job_id": null, "reason": null},
            {"event": "delegated", "project": "/srv/app", "task": "review.md", "session": null,
             "provider": "gemini", "model": null, "job_id": "job_1", "reason": null},
            {"event": "held", "project": "/srv/app", "task": "a\u{1b}[2J\n.md", "session": null,
             "provider": null, "model": null, "job_id": null, "reason": "its name has\ncontrol characters"},
            {"event": "cooldown", "project": null, "task": null, "session": "ccl-auto-1",
             "provider": null, "model": null, "job_id": null, "reason": "rate limit"},
        ]})
    );
    let nothing = json_of(&Report::Pass(Pass::default()));
    assert_eq!(
        nothing,
        json!({"version": 1, "events": [], "free_sessions": null})
    );
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
    assert_eq!(text_of(&Report::Pass(Pass::default())), "");
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
        let report = Report::Pass(Pass {
            events: vec![Event::new(kind)],
            free_sessions: None,
        });
        assert_eq!(json_of(&report)["events"][0]["event"], word);
        assert_eq!(text_of(&report), format!("{word}\n"));
    }
}

fn decisions() -> Report {
    let decision = Decision {
        task: "in/a.md".into(),
        provider: Provider::Gpu,
        delegated: true,
        delegation_enabled: true,
        rule: "auto".to_owned(),
        model: None,
        priority: Priority::High,
        warnings: vec![],
    };
    let local = Decision {
        task: PathBuf::from(OsStr::from_bytes(b"caf\xe9.md")),
        provider: Provider::ClaudeCode,
        delegated: false,
        rule: "invalid-frontmatter".to_owned(),
        model: Some("sonnet".to_owned()),
        warnings: vec![
            warning(Path::new("b.md"), Some((2, 7)), "unknown key `x`"),
            warning(Path::new("b.md"), None, "odd"),
        ],
        ..decision.clone()
    };
    let off = Decision {
        delegated: false,
        delegation_enabled: false,
        model: Some("opus".to_owned()),
        priority: Priority::Critical,
        ..decision.clone()
    };
    Report::Decisions {
        decisions: vec![decision, local, off],
    }
}

#[test]
fn decisions_as_json_have_every_key() {
    assert_eq!(
        json_of(&decisions()),
        json!({"version": 1, "decisions": [
            {"task": "in/a.md", "provider": "gpu", "delegated": true, "delegation_enabled": true, "rule": "auto",
             "model": null, "priority": "high", "warnings": []},
            {"task": "caf\\xe9.md", "provider": "claude-code", "delegated": false, "delegation_enabled": true,
             "rule": "invalid-frontmatter", "model": "sonnet", "priority": "high",
             "warnings": ["b.md:2:7: unknown key `x`", "b.md: odd"]},
            {"task": "in/a.md", "provider": "gpu", "delegated": false, "delegation_enabled": false, "rule": "auto",
             "model": "opus", "priority": "critical", "warnings": []},
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
      model     sonnet
      priority  high
      warning   b.md:2:7: unknown key `x`
      warning   b.md: odd

    in/a.md
      provider  gpu, but delegation is off: it runs here
      rule      auto
      model     opus
      priority  critical
    ");
}

fn status() -> Report {
    let session = |name: &str, state| SessionRow {
        name: name.to_owned(),
        state,
        task: None,
        project: None,
        since: None,
        until: None,
        reason: None,
    };
    let task = TaskRow {
        project: "/srv/app".into(),
        name: "fix-login.md".to_owned(),
        state: TaskState::Dispatched,
        priority: Some(Priority::Critical),
        title: Some("Fix the login redirect".to_owned()),
        provider: Some(Provider::ClaudeCode),
        session: Some("ccl-auto-0".to_owned()),
        job_id: None,
        attempt: Some(2),
        since: Some(at("2026-03-01T09:00:00Z")),
        stale: true,
        reason: None,
    };
    let delegated = TaskRow {
        name: "review-the-whole-of-the-authentication-and-session-handling-code.md".to_owned(),
        state: TaskState::DelegatedToSecutools,
        priority: Some(Priority::Default),
        provider: Some(Provider::Gemini),
        session: None,
        job_id: Some("job_1".to_owned()),
        attempt: None,
        since: Some(at("2026-03-01T11:59:18Z")),
        stale: false,
        ..task.clone()
    };
    Report::Status(Status {
        sessions: vec![
            SessionRow {
                task: Some("fix-login.md".to_owned()),
                project: Some("/srv/app".into()),
                since: Some(at("2026-03-01T09:00:00Z")),
                ..session("ccl-auto-0", SessionState::Working)
            },
            SessionRow {
                since: Some(at("2026-03-01T11:58:00Z")),
                until: Some(at("2026-03-01T12:03:00Z")),
                reason: Some("rate limit".to_owned()),
                ..session("ccl-auto-1", SessionState::Cooldown)
            },
            session("ccl-auto-2", SessionState::NeedsAttention),
        ],
        projects: vec![ProjectRow {
            path: "/srv/app".into(),
            waiting: 12,
            dispatched: 1,
            delegated: 1,
            done: 340,
            failed: 2,
        }],
        delegated: Delegated {
            active: 1,
            jobs: vec![JobRow {
                project: "/srv/app".into(),
                task: delegated.name.clone(),
                provider: Some(Provider::Gemini),
                job_id: Some("job_1".to_owned()),
                phase: "submitted".to_owned(),
                since: delegated.since,
                reason: None,
            }],
            done_24h: 3,
            failed_24h: 1,
            cost_24h: vec![Cost {
                amount: "0.0123".to_owned(),
                currency: Some("USD".to_owned()),
            }],
        },
        last_24h: vec![
            DayRow {
                provider: Some(Provider::ClaudeCode),
                done: 1234,
                failed: 0,
                cost: vec![],
            },
            DayRow {
                provider: Some(Provider::Gemini),
                done: 3,
                failed: 1,
                cost: vec![Cost {
                    amount: "0.0123".to_owned(),
                    currency: Some("USD".to_owned()),
                }],
            },
        ],
        tasks: vec![task, delegated],
        stale: 1,
    })
}

#[test]
fn the_status_as_json_has_every_key() {
    let json = json_of(&status());
    assert_eq!(
        json["sessions"][1],
        json!({"name": "ccl-auto-1", "state": "cooldown", "task": null, "project": null,
               "since": "2026-03-01T11:58:00Z", "until": "2026-03-01T12:03:00Z", "reason": "rate limit"})
    );
    assert_eq!(json["sessions"][0]["project"], "/srv/app");
    assert_eq!(
        json["projects"],
        json!([{"path": "/srv/app", "waiting": 12, "dispatched": 1, "delegated": 1, "done": 340, "failed": 2}])
    );
    assert_eq!(
        json["tasks"][0],
        json!({"project": "/srv/app", "name": "fix-login.md", "state": "dispatched", "priority": "critical",
               "title": "Fix the login redirect", "provider": "claude-code", "session": "ccl-auto-0", "job_id": null,
               "attempt": 2, "since": "2026-03-01T09:00:00Z", "stale": true, "reason": null})
    );
    assert_eq!(
        json["delegated"],
        json!({"active": 1, "done_24h": 3, "failed_24h": 1, "cost_24h": [{"amount": "0.0123", "currency": "USD"}],
               "jobs": [{"project": "/srv/app", "provider": "gemini", "job_id": "job_1", "phase": "submitted",
                         "task": "review-the-whole-of-the-authentication-and-session-handling-code.md",
                         "since": "2026-03-01T11:59:18Z", "reason": null}]})
    );
    assert_eq!(
        json["last_24h"],
        json!([{"provider": "claude-code", "done": 1234, "failed": 0, "cost": []},
               {"provider": "gemini", "done": 3, "failed": 1, "cost": [{"amount": "0.0123", "currency": "USD"}]}])
    );
    assert_eq!(json["stale"], 1);
    assert_eq!(
        json_of(&Report::Status(Status::default())),
        json!({"version": 1, "sessions": [], "projects": [], "tasks": [], "stale": 0, "last_24h": [],
               "delegated": {"active": 0, "jobs": [], "done_24h": 0, "failed_24h": 0, "cost_24h": []}})
    );
}

#[test]
fn states_have_their_words() {
    let words = |states: &[Value]| {
        states
            .iter()
            .map(|s| s.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    use SessionState as S;
    let states = [
        S::Free,
        S::Claiming,
        S::Launching,
        S::Working,
        S::NeedsAttention,
        S::Attended,
        S::Cooldown,
        S::Busy,
        S::Missing,
    ];
    assert_eq!(
        words(&states.map(|state| json!(state))).join("|"),
        "free|claiming|launching|working|needs-attention|attended|cooldown|busy|missing"
    );
    let states = [
        TaskState::Waiting,
        TaskState::Held,
        TaskState::Dispatched,
        TaskState::DelegatedToSecutools,
    ];
    assert_eq!(
        words(&states.map(|state| json!(state))).join("|"),
        "waiting|held|dispatched|delegated_to_secutools"
    );
}

#[test]
fn the_status_as_text_fits_80_columns() {
    let text = text_of(&status());
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    insta::assert_snapshot!(text, @r"
    SESSION     STATE            SINCE  TASK          PROJECT
    ccl-auto-0  working          3h     fix-login.md  app
        stale: it has been at work for long; attach and look, or `ccl cancel` it;
        Fix the login redirect
    ccl-auto-1  cooldown         2m
        3m left; rate limit
    ccl-auto-2  needs-attention

    PROJECT   WAITING  AT WORK  DELEGATED  DONE  FAILED
    /srv/app  12       1        1          340   2

    JOB    TASK                                  PROJECT  PROVIDER  PHASE      SINCE
    job_1  review-the-whole-of-the-authenticat…  app      gemini    submitted  42s

    LAST 24 H    DONE   FAILED  COST
    claude-code  1,234  0       unknown
    gemini       3      1       0.0123 USD

    1 session needs a person, 1 task is stale
    ");
    assert_eq!(
        text_of(&Report::Status(Status::default())),
        "no task waits, and none is at work\n"
    );
}

#[test]
fn of_many_waiting_tasks_the_first_are_shown() {
    let Report::Status(mut many) = status() else {
        unreachable!()
    };
    let waiting = |index: usize| TaskRow {
        name: format!("t{index:03}.md"),
        state: TaskState::Waiting,
        priority: Some(Priority::ALL[index % 4]),
        session: None,
        stale: false,
        ..many.tasks[0].clone()
    };
    many.tasks = (0..1030).map(waiting).collect();
    for index in 30..33 {
        many.tasks[index].state = TaskState::Held;
        many.tasks[index].reason = Some("no trust".to_owned());
    }
    many.projects[0].waiting = 1030;
    let text = text_of(&Report::Status(many));
    assert!(
        text.contains("t019.md") && !text.contains("t020.md"),
        "{text}"
    );
    assert!(text.contains("… and 1,007 more wait in app"), "{text}");
    let counts = "/srv/app  1,027    3     1";
    assert!(text.contains(counts), "{text}");
    let by_priority = "waiting: 257 critical, 258 high, 256 default, 256 low";
    assert!(text.contains(by_priority), "{text}");
    assert_eq!(
        text.matches("no trust").count(),
        1,
        "a reason that several share stands once\n{text}"
    );
}

#[test]
fn a_job_is_shown_without_its_output() {
    let job = Report::Job {
        job: Job {
            id: "job_1".to_owned(),
            status: "failed".to_owned(),
            provider: Some("gemini".to_owned()),
            output: Some("long".to_owned()),
            cost: Some(Cost {
                amount: "2".to_owned(),
                currency: None,
            }),
            error: Some("too\x1blong".to_owned()),
        },
    };
    assert_eq!(
        text_of(&job),
        "job_1  failed  gemini  2\nerror: too\\u{1b}long\n"
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
