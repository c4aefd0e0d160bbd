//! What a person does by hand: add, retry, cancel, and how the program explains itself.

// A step of a test that fails ends the test.
#![allow(missing_docs, clippy::unwrap_used)]

mod add;
mod cancel;
mod decide;
mod reap;
mod retry;
#[path = "../support/mod.rs"]
mod support;
mod words;

use serde_json::json;
use support::{Project, Sandbox};

/// Standard output, standard error and exit status of one run.
pub(crate) fn run(sandbox: &Sandbox, stdin: &str, args: &[&str]) -> (String, String, i32) {
    let mut command = sandbox.ccl(args);
    let out = command.write_stdin(stdin).output().unwrap();
    (
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
        out.status.code().unwrap(),
    )
}

/// Runs what must succeed, and returns its standard output.
#[track_caller]
pub(crate) fn ok(sandbox: &Sandbox, stdin: &str, args: &[&str]) -> String {
    let (stdout, stderr, exit) = run(sandbox, stdin, args);
    assert_eq!(exit, 0, "{args:?}: {stderr}");
    stdout
}

/// Runs what must fail with `status`, and returns its standard error.
#[track_caller]
pub(crate) fn fails(sandbox: &Sandbox, stdin: &str, args: &[&str], status: i32) -> String {
    let (stdout, stderr, exit) = run(sandbox, stdin, args);
    assert_eq!((exit, stdout.as_str()), (status, ""), "{args:?}: {stderr}");
    stderr
}

pub(crate) fn sandbox() -> (Sandbox, Project) {
    let mut sandbox = Sandbox::new();
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    let project = sandbox.project("web");
    (sandbox, project)
}

pub(crate) const RUN: &str = "00000000-0000-4000-8000-000000000001";
