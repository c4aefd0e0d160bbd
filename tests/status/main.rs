//! `ccl status`: the real binary, a real tmux server, states made by real passes or laid out as a dead pass leaves them.

// A step of a test that fails ends the test.
#![allow(clippy::unwrap_used)]

mod alone;
mod forms;
mod rows;
#[path = "../support/mod.rs"]
mod support;

use std::fs;

use serde_json::{Value, json};
use support::{Project, Sandbox, TmuxServer};

/// A sandbox whose agent is a program that works until it is ended.
pub(crate) fn world(sessions: u32) -> (Sandbox, TmuxServer) {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox
        .config("agent", json!({"kind": "command", "command": ["sh", "-c", "sleep 1000", "sh"]}));
    sandbox.config("pool", json!({"autonomous": {"max": sessions}}));
    (sandbox, tmux)
}

#[track_caller]
pub(crate) fn row<'a>(rows: &'a Value, key: &str, value: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|r| r[key] == value);
    found.unwrap_or_else(|| panic!("no {key} {value} in {rows:#}"))
}

pub(crate) fn names(rows: &Value, state: &str) -> Vec<String> {
    let rows = rows.as_array().unwrap().iter();
    rows.filter(|row| row["state"] == state)
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Standard output as text, standard error, exit status.
pub(crate) fn status(sandbox: &Sandbox, args: &[&str]) -> (String, String, i32) {
    let args = ["status"].iter().chain(args);
    let out = sandbox.ccl(args).output().unwrap();
    (
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
        out.status.code().unwrap(),
    )
}

pub(crate) fn edit(project: &Project, marker: &str, change: impl FnOnce(&mut Value)) {
    let mut value = project.marker(marker);
    change(&mut value);
    let path = project.root().join(".agent-queue").join(marker);
    fs::write(path, value.to_string()).unwrap();
}
