//! What lies: names, files, paths, texts, markers, clocks, tmux, terminals. Nothing is lost, nothing
//! is executed that is not the task, and everything that is left alone is said.
#![allow(clippy::expect_used)]

mod files;
mod markers;
#[path = "../support/mod.rs"]
mod support;
mod terminal;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use support::faults::{World, said};
use support::{PATIENCE, Project, wait_until};

/// An agent that writes down where it is and what it was told.
fn reporter(world: &mut World) -> PathBuf {
    let heard = world.sandbox.path().join("heard");
    fs::create_dir(&heard).expect("heard");
    let agent = world.sandbox.path().join("reporter.sh");
    let script = format!(
        "here=$(mktemp {}/XXXXXX)\npwd -P > $here.dir\nprintf %s \"$1\" > $here.text\nrm $here\n",
        heard.display()
    );
    fs::write(&agent, script).expect("the agent");
    world.sandbox.config("agent", json!({"command": ["sh", agent]}));
    heard
}

/// What the agent heard, in no order; the ends of files are `.text` or `.dir`.
fn heard(directory: &Path, end: &str) -> Vec<String> {
    let names = support::sandbox::names(directory);
    let paths = names.iter().filter(|name| name.ends_with(end));
    paths.map(|name| fs::read_to_string(directory.join(name)).expect("a report")).collect()
}

/// Makes passes until nothing that can be worked on waits or is at work.
#[track_caller]
fn serve(world: &World, projects: &[&Project], is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_done() {
        for verb in ["scan", "reap"] {
            let output = world.sandbox.ccl([verb]).output().expect("ccl runs");
            assert!(
                Instant::now() < deadline,
                "{projects:?}: {}\n{}",
                said(&output),
                world.tmux.screens()
            );
        }
    }
}

/// Nothing that stands in a name or a text was run.
#[track_caller]
fn assert_no_canary(world: &World) {
    let found = std::process::Command::new("find")
        .arg(world.sandbox.path())
        .args(["-name", "canary*"])
        .output()
        .expect("find");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

/// A task whose agent runs, until it is let go if its text says `hold`.
#[track_caller]
fn at_work(world: &World, task: &str, text: &str) {
    world.go(false);
    world.project.drop_task(task, text);
    world.pass(&["scan"]);
    wait_until("the agent runs", PATIENCE, || world.runs(task) == 1);
}

/// Lets the agents go on: the task is done, having run so many times.
#[track_caller]
fn let_go(world: &World, task: &str, when: &str, runs: usize) {
    world.go(true);
    world.converge(task, when);
    assert_eq!(world.runs(task), runs);
}
