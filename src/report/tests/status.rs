//! The status as JSON and as text.

use super::*;
use crate::report::rows::Delegations;

fn status() -> Report {
    let session = |name: &str, state| SessionRow {
        name: name.to_owned(),
        state,
        task: None,
        project: None,
        since: None,
        until: None,
        reason: None,
        doing: None,
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
        waits: None,
        reason: None,
        stuck: None,
        is_elsewhere: false,
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
        agents: Vec::new(),
        sessions: vec![
            SessionRow {
                task: Some("fix-login.md".to_owned()),
                doing: Some("Bash: Run the tests".to_owned()),
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
            parallel: Some(1),
            waiting: 12,
            dispatched: 1,
            delegated: 1,
            done: 340,
            failed: 2,
            paused: None,
            to_land: vec![ToLandRow {
                task: "add-tests.md".to_owned(),
                branch: "ccl/add-tests".to_owned(),
                reason: "nothing has checked it".to_owned(),
            }],
            worktrees: vec![],
        }],
        delegated: Delegations {
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
            cost_24h: vec![Cost { amount: "0.0123".to_owned(), currency: Some("USD".to_owned()) }],
            unknown_costs: 2,
        },
        last_24h: vec![
            DayRow { provider: Some(Provider::ClaudeCode), done: 1234, failed: 0, cost: vec![] },
            DayRow {
                provider: Some(Provider::Gemini),
                done: 3,
                failed: 1,
                cost: vec![Cost { amount: "0.0123".to_owned(), currency: Some("USD".to_owned()) }],
            },
        ],
        tasks: vec![task, delegated],
        paused: None,
        recurring: Vec::new(),
        stale: 1,
        passed: Some(at("2026-03-01T11:59:30Z")),
    })
}

#[test]
fn the_status_as_json_has_every_key() {
    let json = json_of(&status());
    assert_eq!(
        json["sessions"][1],
        json!({"name": "ccl-auto-1", "state": "cooldown", "task": null, "project": null,
               "since": "2026-03-01T11:58:00Z", "until": "2026-03-01T12:03:00Z", "reason": "rate limit",
               "doing": null})
    );
    assert_eq!(json["sessions"][0]["project"], "/srv/app");
    assert_eq!(
        json["projects"],
        json!([{"path": "/srv/app", "parallel": 1, "waiting": 12, "dispatched": 1, "delegated": 1, "done": 340, "failed": 2,
                "paused": null,
                "to_land": [{"task": "add-tests.md", "branch": "ccl/add-tests", "reason": "nothing has checked it"}],
                "worktrees": []}])
    );
    assert_eq!(
        json["tasks"][0],
        json!({"project": "/srv/app", "name": "fix-login.md", "state": "dispatched", "priority": "critical",
               "title": "Fix the login redirect", "provider": "claude-code", "session": "ccl-auto-0", "job_id": null,
               "attempt": 2, "since": "2026-03-01T09:00:00Z", "stale": true, "waits": null, "reason": null})
    );
    assert_eq!(
        json["delegated"],
        json!({"active": 1, "done_24h": 3, "failed_24h": 1, "cost_24h": [{"amount": "0.0123", "currency": "USD"}], "unknown_costs": 2,
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
    assert_eq!(json["passed"], "2026-03-01T11:59:30Z");
    assert_eq!(
        json_of(&Report::Status(Status::default())),
        json!({"version": 1, "sessions": [], "projects": [], "tasks": [], "stale": 0, "last_24h": [],
               "agents": [], "paused": null, "recurring": [], "passed": null,
               "delegated": {"active": 0, "jobs": [], "done_24h": 0, "failed_24h": 0, "cost_24h": []}})
    );
}

#[test]
fn states_have_their_words() {
    let words = |states: &[Value]| {
        states.iter().map(|s| s.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        words(&SessionState::ALL.map(|state| json!(state))).join("|"),
        "free|claiming|launching|working|checking|needs-attention|attended|cooldown|busy|missing"
    );
    let states = [
        TaskState::Waiting,
        TaskState::Held,
        TaskState::Dispatched,
        TaskState::DelegatedToSecutools,
        TaskState::DelegatedToRemote,
    ];
    assert_eq!(
        words(&states.map(|state| json!(state))).join("|"),
        "waiting|held|dispatched|delegated_to_secutools|delegated_to_remote"
    );
}

#[test]
fn the_status_as_text_fits_80_columns() {
    let text = text_of(&status());
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    insta::assert_snapshot!(text, @r"
    1 branch is to land, 1 session needs attention, 1 task is stale
    NEEDS YOU     PROJECT  WHY              SESSION     SINCE
    ccl-auto-2             needs attention
        attach to it and look
    fix-login.md  app      stale            ccl-auto-0  3h
        it has been at work for long: attach and look, or `ccl cancel` it

    TO LAND       PROJECT  BRANCH
    add-tests.md  app      ccl/add-tests
        nothing has checked it

    SESSION     STATE            SINCE  TASK          PROJECT
    ccl-auto-0  working          3h     fix-login.md  app
        Fix the login redirect; Bash: Run the tests
    ccl-auto-1  cooldown         2m
        until 12:03, in 3 min; rate limit
    ccl-auto-2  needs-attention

    PROJECT   WAITING  AT WORK  DELEGATED  DONE  FAILED
    /srv/app  12       1        1          340   2

    JOB    TASK                                  PROJECT  PROVIDER  PHASE      SINCE
    job_1  review-the-whole-of-the-authenticat…  app      gemini    submitted  42s

    LAST 24 H    DONE  FAILED  COST
    claude-code  1234  0       unknown
    gemini       3     1       0.0123 USD
    ");
    assert_eq!(text_of(&Report::Status(Status::default())), "no task waits, and none is at work\n");
}

#[test]
fn of_many_waiting_tasks_the_first_are_shown() {
    let Report::Status(mut many) = status() else { unreachable!() };
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
    assert!(text.contains("t019.md") && !text.contains("t020.md"), "{text}");
    assert!(text.contains("… and 1007 more wait in app"), "{text}");
    let counts = "/srv/app  1027     3     1";
    assert!(text.contains(counts), "{text}");
    let by_priority = "waiting: 257 critical, 258 high, 256 default, 256 low";
    assert!(text.contains(by_priority), "{text}");
    assert_eq!(text.matches("\n    no trust\n").count(), 3, "each row has its own reason\n{text}");
}

#[test]
fn every_session_shows_its_reason_also_where_others_have_the_same() {
    let Report::Status(mut status) = status() else { unreachable!() };
    for row in &mut status.sessions {
        row.reason = Some("no tmux server".to_owned());
    }
    let text = text_of(&Report::Status(status));
    let lines: Vec<&str> = text.lines().collect();
    for name in ["ccl-auto-0", "ccl-auto-1", "ccl-auto-2"] {
        let at = lines.iter().position(|line| line.starts_with(name)).unwrap();
        let note = lines[at + 1..].iter().take_while(|line| line.starts_with("    "));
        let note: Vec<&str> = note.map(|line| line.trim()).collect();
        assert!(note.join(" ").ends_with("no tmux server"), "{name}\n{text}");
    }
}
