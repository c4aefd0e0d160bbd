use std::fs;

use serde_json::{Value, json};

use crate::support::Sandbox;
use crate::{sandbox, told};

fn said(sandbox: &Sandbox, args: &[&str]) -> String {
    let out = sandbox.ccl(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_pause_is_said_first_and_nothing_is_handed_out() {
    let (mut sandbox, project) = sandbox();
    sandbox.env("USER", "me");
    project.drop_task("a.md", "Do it.\n");
    // There is no tmux: a pass that wanted to hand it out would fail.
    assert_eq!(sandbox.ccl(["scan"]).output().unwrap().status.code(), Some(75));
    let printed = said(&sandbox, &["pause", "a", "release"]);
    assert_eq!(printed, "paused: by me: a release\n");
    let printed = said(&sandbox, &["scan"]);
    assert!(
        printed.starts_with("paused: since ") && printed.contains(", by me: a release\n"),
        "{printed}"
    );
    assert_eq!(said(&sandbox, &["scan", "-n"]).lines().count(), 1);
    let out = sandbox.ccl(["status"]).output().unwrap();
    let printed = String::from_utf8(out.stdout).unwrap();
    assert!(
        printed.starts_with("paused since ")
            && printed.contains("by me: a release; `ccl resume` goes on"),
        "{printed}"
    );
    let out = sandbox.ccl(["status", "--json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&status["paused"]["who"], &status["paused"]["reason"]),
        (&json!("me"), &json!("a release"))
    );
    assert_eq!(status["tasks"][0]["state"], "waiting");
    assert_eq!(status["tasks"][0]["waits"], "it is paused, until `ccl resume`");
    assert_eq!(said(&sandbox, &["resume"]), "resumed\n");
    assert_eq!(said(&sandbox, &["resume"]), "");
    assert_eq!(sandbox.ccl(["scan"]).output().unwrap().status.code(), Some(75));
    assert_eq!(told(&sandbox), ["paused -", "resumed -"]);
}

#[test]
fn one_project_is_paused_and_a_touched_file_counts() {
    let (sandbox, web) = sandbox();
    let api = sandbox.project("api");
    web.drop_task("a.md", "Do it.\n");
    let root = web.root().to_str().unwrap();
    let printed = said(&sandbox, &["pause", "--project", root]);
    assert_eq!(printed, format!("paused      {root}\n"));
    let printed = said(&sandbox, &["scan"]);
    assert!(printed.starts_with(&format!("paused      {root}: since ")), "{printed}");
    api.drop_task("b.md", "Do it.\n");
    assert_eq!(sandbox.ccl(["scan"]).output().unwrap().status.code(), Some(75));
    fs::write(api.root().join(".agent-queue/paused"), "").unwrap();
    assert_eq!(said(&sandbox, &["scan"]).lines().count(), 2);
    assert!(said(&sandbox, &["resume", "-p", root]).starts_with("resumed "));
    assert!(!web.root().join(".agent-queue/paused").exists());
    assert!(api.root().join(".agent-queue/paused").exists());
    let out = sandbox.ccl(["pause", "--project", "/nowhere"]).output().unwrap();
    assert_eq!(out.status.code(), Some(78));
}

/// What is at work goes on and is filed, by a hook's pass too, which then hands nothing out.
#[test]
fn what_is_at_work_is_filed() {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": 1}}));
    sandbox.config("agent", json!({"kind": "command", "command": ["true"]}));
    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    said(&sandbox, &["scan"]);
    let exit = sandbox.session_file("k-0", "exit");
    tmux.wait_until("the agent ends", || exit.exists());
    project.drop_task("b.md", "Do it.\n");
    said(&sandbox, &["pause"]);
    let printed = said(&sandbox, &["assign", "k-0"]);
    assert!(printed.contains("done        a.md") && !printed.contains("b.md"), "{printed}");
    assert_eq!(
        (project.done(), project.inbox()),
        (vec!["a.md".to_owned()], vec!["b.md".to_owned()])
    );
    said(&sandbox, &["resume"]);
    assert!(said(&sandbox, &["scan"]).contains("dispatched  b.md"));
    drop(tmux);
}
