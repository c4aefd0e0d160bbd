//! `ccl cancel` of what waits or is at work here; `tests/delegation/cancel.rs` has the jobs.

use std::fs;

use serde_json::json;

use crate::support::sandbox::ending_line;
use crate::support::{self, Project, Sandbox, TmuxServer, wait_until};
use crate::{RUN, fails, ok, sandbox};

#[test]
fn a_task_that_waits_is_withdrawn() {
    let (sandbox, project) = sandbox();
    project.drop_task("a.md", "Do it.\n");
    assert!(ok(&sandbox, "", &["cancel", "a"]).contains("cancelled"));
    assert_eq!(project.task_places("a.md"), ["failed/a.md"]);
    let ending = ending_line(&project.read("failed/a.md")).unwrap();
    assert_eq!(ending["outcome"], "failed");
    assert_eq!(ending["reason"], "cancelled");
    let stderr = fails(&sandbox, "", &["cancel", "a"], 1);
    assert!(stderr.contains("no task a in inbox/ of"), "{stderr}");
    ok(&sandbox, "", &["retry", "a"]);
    assert_eq!(project.task_places("a.md"), ["inbox/a.md"]);
}

#[test]
fn what_is_not_ours_is_not_cancelled() {
    let (sandbox, project) = sandbox();
    let inbox = project.queue("inbox");
    let claim = json!({"version": 1, "host": "far", "at": "2026-01-01T00:00:00Z",
        "owner": "00000000-0000-4000-8000-000000000001", "session": "theirs-0", "run": RUN,
        "phase": "working", "attempt": 1, "started_at": "2026-01-01T00:00:00Z",
        "agent": {"kind": "command", "model": null, "session": null, "transcript_from": 0}});
    fs::write(inbox.join("theirs.md.dispatched"), "x").unwrap();
    fs::write(inbox.join(".theirs.md.claim"), claim.to_string()).unwrap();
    fs::write(inbox.join("nobody.md.dispatched"), "x").unwrap();
    fs::write(inbox.join("broken.md.dispatched"), "x").unwrap();
    fs::write(inbox.join(".broken.md.claim"), "{").unwrap();
    project.drop_task("job.md", "x");
    let job = json!({"version": 1, "host": "h", "at": "2026-01-01T00:00:00Z", "key": RUN, "text": "x",
        "sha256": "0", "provider": "gpu", "rule": "preferred-ai", "started_at": "2026-01-01T00:00:00Z",
        "phase": "submitted", "job_id": "job_1", "submitted_at": "2026-01-01T00:00:00Z", "unknown_since": null});
    fs::write(inbox.join("job.md.delegated"), job.to_string()).unwrap();
    let before = project.inbox();
    for (task, exit, why) in [
        ("theirs", 1, "session theirs-0 on far"),
        ("nobody", 1, "nobody has claimed it"),
        ("broken", 1, "is left alone"),
        ("job", 78, "it is delegated, and secutools cannot be asked"),
    ] {
        let stderr = fails(&sandbox, "", &["cancel", task], exit);
        assert!(stderr.contains(why), "{task}: {stderr}");
    }
    let mut after = project.inbox();
    after.retain(|name| name != ".lock");
    assert_eq!(after, before);
    project.drop_task("nobody.md", "a second one");
    let stderr = fails(&sandbox, "", &["cancel", "nobody"], 1);
    assert!(
        stderr.contains("nobody.md or ") && stderr.contains("nobody.md.dispatched"),
        "{stderr}"
    );
}

/// A project whose task `a.md` this shell script works on, in the only session.
fn at_work(script: &str) -> (Sandbox, TmuxServer, Project) {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("pool", json!({"autonomous": {"max": 1}}));
    let command = json!(["sh", "-c", script, "sh"]);
    sandbox.config("agent", json!({"kind": "command", "command": command}));
    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    ok(&sandbox, "", &["scan"]);
    (sandbox, tmux, project)
}

#[test]
fn an_agent_at_work_is_ended_and_its_session_free_again() {
    let script =
        "echo $$ > agent.pid; trap 'echo ended > ended; exit 1' TERM; while :; do sleep 0.1; done";
    let (sandbox, tmux, project) = at_work(script);
    assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    let pid_file = project.root().join("agent.pid");
    wait_until("the agent works", support::PATIENCE, || pid_file.exists());

    assert!(ok(&sandbox, "", &["cancel", "a"]).starts_with("failed      a.md"));
    assert_eq!(project.task_places("a.md"), ["failed/a.md"]);
    let ending = ending_line(&project.read("failed/a.md")).unwrap();
    assert_eq!(
        (&ending["reason"], &ending["session"]),
        (&json!("cancelled"), &json!("ccl-auto-0"))
    );
    assert!(project.root().join("ended").exists(), "the agent was asked to end");
    let pid = fs::read_to_string(pid_file).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    assert!(!sandbox.session_file("ccl-auto-0", "dispatched").exists());
    let status = sandbox.ccl_json(&["status"]);
    assert_eq!(status["sessions"][0]["state"], "free", "no cooldown: {}", tmux.screens());

    project.drop_task("b.md", "Next.\n");
    ok(&sandbox, "", &["scan"]);
    assert_eq!(project.task_places("b.md"), ["inbox/b.md.dispatched"]);
}

/// Only SIGKILL ends it, so that it cannot give the terminal back.
#[test]
fn an_agent_that_has_to_be_killed_leaves_no_spoilt_terminal() {
    let script =
        "printf '\\033[?1049h\\033[?1000h'; trap '' TERM; touch ready; while :; do sleep 0.1; done";
    let (sandbox, tmux, project) = at_work(script);
    let terminal = "#{alternate_on}#{mouse_any_flag}";
    let shown = || tmux.run(&["display-message", "-p", "-t", "=ccl-auto-0:", terminal]);
    wait_until("the agent has taken the terminal", support::PATIENCE, || {
        project.root().join("ready").exists() && shown().trim() == "11"
    });
    ok(&sandbox, "", &["cancel", "a"]);
    assert_eq!(shown().trim(), "00");
}
