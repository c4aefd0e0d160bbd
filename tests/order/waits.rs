use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sandbox;
use crate::support::{Project, Sandbox, TmuxServer};

/// A pool of three sessions whose agents end at once.
fn world() -> (Sandbox, TmuxServer, Project) {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": 3}}));
    sandbox.config("agent", json!({"kind": "command", "command": ["true"]}));
    sandbox.config("defaults", json!({"parallel": 0}));
    let project = sandbox.project("web");
    (sandbox, tmux, project)
}

fn dispatched(sandbox: &Sandbox) -> Vec<String> {
    let report = sandbox.ccl_json(&["scan"]);
    let events = report["events"].as_array().unwrap().iter();
    let mut tasks: Vec<String> = events
        .filter(|event| event["event"] == "dispatched")
        .map(|event| event["task"].as_str().unwrap().to_owned())
        .collect();
    tasks.sort();
    tasks
}

/// Why tasks wait or are held, by `status`.
fn waits(sandbox: &Sandbox, task: &str) -> (String, Value, Value) {
    let out = sandbox.ccl(["status", "--json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&out.stdout).unwrap();
    let row = status["tasks"].as_array().unwrap().iter().find(|row| row["name"] == task);
    let row = row.unwrap_or_else(|| panic!("{status:#}"));
    (row["state"].as_str().unwrap().to_owned(), row["waits"].clone(), row["reason"].clone())
}

#[test]
fn a_task_waits_for_its_time() {
    let (mut sandbox, _tmux, project) = world();
    sandbox.env("TZ", "JST-9");
    let task = |time: &str| format!("---\nnot_before: {time}\n---\nDo it.\n");
    project.drop_task("past.md", task("2026-01-01 02:00"));
    project.drop_task("future.md", task("2999-01-01 02:00"));
    project.drop_task("offset.md", task("2999-01-01T02:00:00+00:00"));
    project.drop_task("bad.md", task("soon"));
    assert_eq!(dispatched(&sandbox), ["past.md"]);
    let (state, waiting, _) = waits(&sandbox, "future.md");
    assert_eq!(state, "waiting");
    assert!(waiting.as_str().unwrap().starts_with("until 2999-01-01 02:00, in "), "{waiting}");
    let (_, waiting, _) = waits(&sandbox, "offset.md");
    assert!(waiting.as_str().unwrap().starts_with("until 2999-01-01 11:00, in "), "{waiting}");
    let (state, waiting, reason) = waits(&sandbox, "bad.md");
    assert_eq!((state.as_str(), waiting), ("held", Value::Null));
    assert!(
        reason.as_str().unwrap().contains("`not_before` is `soon`, not a time such as"),
        "{reason}"
    );
    let out = sandbox.ccl(["scan"]).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("held        bad.md") && !said.contains("future"), "{said}");
    let file = project.queue("inbox").join("future.md");
    let out = sandbox.ccl(["decide"]).arg(&file).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("  waits     until 2999-01-01 02:00, in "), "{said}");
}

#[test]
fn a_task_goes_once_all_that_it_depends_on_is_done() {
    let (sandbox, tmux, web) = world();
    let api = sandbox.project("api");
    let task = |on: &str| format!("---\npriority: critical\ndepends_on: [{on}]\n---\nDo it.\n");
    web.drop_task("schema.md", "Do it.\n");
    api.drop_task("auth.md", "Do it.\n");
    web.drop_task("front.md", task("schema.md, ../api:auth.md"));
    web.drop_task("last.md", task("front.md"));
    fs::write(web.queue("failed").join("broken.md"), "x").unwrap();
    web.drop_task("stuck.md", task("broken.md"));
    web.drop_task("lost.md", task("nowhere.md"));
    assert_eq!(dispatched(&sandbox), ["auth.md", "schema.md"]);
    for (task, why) in [
        ("front.md", "schema.md is not done yet and ../api:auth.md is not done yet"),
        ("last.md", "front.md is not done yet"),
        ("stuck.md", "broken.md failed"),
        ("lost.md", "there is no nowhere.md"),
    ] {
        assert_eq!(
            waits(&sandbox, task),
            ("waiting".to_owned(), json!(why), Value::Null),
            "{task}"
        );
    }
    let done = |project: &Project, task: &str| {
        tmux.wait_until("it is done", || {
            sandbox.ccl(["reap"]).assert().success();
            project.done().contains(&task.to_owned())
        });
    };
    done(&web, "schema.md");
    done(&api, "auth.md");
    assert_eq!(dispatched(&sandbox), ["front.md"]);
    done(&web, "front.md");
    assert_eq!(dispatched(&sandbox), ["last.md"]);
    // A retry of the one frees the other.
    sandbox.ccl(["retry", "broken"]).assert().success();
    assert_eq!(waits(&sandbox, "stuck.md").1, "broken.md is not done yet");
    assert_eq!(dispatched(&sandbox), ["broken.md"]);
    done(&web, "broken.md");
    assert_eq!(dispatched(&sandbox), ["stuck.md"]);
}

#[test]
fn a_cycle_is_named() {
    let (sandbox, project) = sandbox();
    let task = |on: &str| format!("---\ndepends_on: {on}\n---\nDo it.\n");
    project.drop_task("a.md", task("b.md"));
    project.drop_task("b.md", task("[c]"));
    project.drop_task("c.md", task("a.md"));
    project.drop_task("bad.md", task("7"));
    let cycle =
        "they wait for each other, a.md → b.md → c.md → a.md: take one out of a `depends_on`";
    assert_eq!(waits(&sandbox, "a.md").1, cycle);
    let file = project.queue("inbox").join("a.md");
    let out = sandbox.ccl(["decide"]).arg(&file).output().unwrap();
    assert!(String::from_utf8(out.stdout).unwrap().contains(cycle));
    let (state, _, reason) = waits(&sandbox, "bad.md");
    assert_eq!(state, "held");
    assert!(reason.as_str().unwrap().contains("`depends_on` must be a list"), "{reason}");
}

/// Delegated tasks obey both, and a pause.
#[test]
fn a_task_for_secutools_waits_as_well() {
    let (mut sandbox, project) = sandbox();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 65536]).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let body = r#"{"id":"job-1","status":"queued"}"#;
            let head = format!(
                "HTTP/1.1 201 Created\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all((head + body).as_bytes()).unwrap();
        }
    });
    sandbox.config("secutools", json!({"url": url}));
    sandbox.env("SECUTOOLS_API_KEY", "key");
    let task = |more: &str| {
        format!("---\nallow_delegation: true\npreferred_ai: gpu\n{more}\n---\nDo it.\n")
    };
    let soon = Timestamp::now() + std::time::Duration::from_secs(3600);
    project.drop_task("early.md", task(&format!("not_before: {soon}")));
    project.drop_task("behind.md", task("depends_on: [first.md]"));
    project.drop_task("bad.md", task("not_before: soon"));
    let out = sandbox.ccl(["scan"]).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("held        bad.md") && said.lines().count() == 1, "{said}");
    assert!(waits(&sandbox, "early.md").1.as_str().unwrap().starts_with("until "));
    assert_eq!(waits(&sandbox, "behind.md").1, "there is no first.md");
    fs::write(project.queue("done").join("first.md"), "x").unwrap();
    sandbox.ccl(["pause"]).assert().success();
    sandbox.ccl(["scan"]).assert().success();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    sandbox.ccl(["resume"]).assert().success();
    let out = sandbox.ccl(["scan"]).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("delegated   behind.md") && !said.contains("early"), "{said}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
