//! Time, order, pause, notifications, the journal and the report.

// A step of a test that fails ends the test.
#![allow(missing_docs, clippy::unwrap_used)]

mod journal;
mod notify;
mod pause;
mod recurring;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod waits;

use serde_json::{Value, json};
use support::{Project, Sandbox};

/// A sandbox without tmux: tasks are cancelled and filed, and none is launched.
pub(crate) fn sandbox() -> (Sandbox, Project) {
    let mut sandbox = Sandbox::new();
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    let project = sandbox.project("web");
    (sandbox, project)
}

/// The journal's lines.
#[track_caller]
pub(crate) fn journal(sandbox: &Sandbox) -> Vec<Value> {
    let text = std::fs::read_to_string(sandbox.state_dir().join("journal.jsonl"));
    let text = text.unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same, in short: `failed a.md`.
#[track_caller]
pub(crate) fn told(sandbox: &Sandbox) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let lines = journal(sandbox).into_iter();
    lines.map(|line| format!("{} {}", word(&line["event"]), word(&line["task"]))).collect()
}
