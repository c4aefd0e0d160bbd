//! The main job, end to end, where it can do no harm: a throw-away project, a
//! tmux server of its own, and an agent that shows what it was given.
//!
//! `cargo run --release --example demo` needs Rust and tmux and nothing else;
//! with `-- --agent claude` the Claude Code on the PATH does the work, in a
//! directory below the current one, which it has to trust.
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod clear;
#[path = "../support/nested_cargo.rs"]
mod nested_cargo;
#[path = "../support/secutools_server/mod.rs"]
mod secutools_server;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use stage::{AgentChoice, Stage};

/// The tasks of the demo: file name, text.
const TASKS: &[(&str, &str)] = &[
    (
        "10-tidy-readme.md",
        "---\ntitle: Tidy the README\npriority: low\n---\nFix the typos in README.md.\n",
    ),
    (
        "20-fix-login.md",
        "---\ntitle: Fix the login redirect\npriority: critical\ntags: [web, auth]\n---\n\
         After login, send people to the page they came from.\n\n```sh\necho \"$HOME\" 'stays as it is'\n```\n",
    ),
    ("30-plain.md", "A task needs no header: this one says what to do, and that is all.\n"),
    (
        "40-summarise.md",
        "---\ntitle: Summarise the changelog\nallow_delegation: true\ncomplexity_hint: low\n---\n\
         Summarise CHANGELOG.md in three sentences.\n",
    ),
    (
        "50-careful.md",
        "---\npriority: high\nallow_delegation: yes\n---\n\
         `yes` is not `true`, so this one does not leave the machine.\n",
    ),
];

fn main() -> Result<()> {
    let stage = Stage::set(AgentChoice::from_arguments()?)?;
    for (name, text) in TASKS {
        stage.drop_task(name, text)?;
    }
    stage.say("Five tasks lie in a project's inbox. Where would each of them go, and why?");
    let files: Vec<String> =
        TASKS.iter().map(|(name, _)| format!(".agent-queue/inbox/{name}")).collect();
    let decide: Vec<&str> =
        ["decide"].into_iter().chain(files.iter().map(String::as_str)).collect();
    stage.ccl(&decide)?;

    stage.say("One pass: two sessions take the most urgent tasks, and one task is delegated.");
    stage.ccl(&["-v", "scan"])?;
    stage.say("What is everybody doing?");
    stage.ccl(&["status"])?;
    stage.say("The most urgent task's session, as you would see it by attaching:");
    stage.show_session("demo-0")?;

    stage.say("A timer would now run these two every minute. Until the inbox is empty:");
    let deadline = Instant::now() + stage.patience();
    while stage.unfinished()? > 0 {
        if let Some(trouble) = stage.trouble()? {
            bail!("a session of the demo has a cooldown: {trouble}");
        }
        if Instant::now() > deadline {
            bail!("the demo's tasks are not finished; have a look at why: `ccl doctor`");
        }
        stage.wait_a_moment(Duration::from_millis(500));
        stage.ccl(&["reap"])?;
        stage.ccl(&["scan"])?;
    }

    stage.say("What ended up where:");
    stage.show_queue()?;
    stage.say("One of the finished tasks, with its result and its ending line:");
    stage.show("done/40-summarise.md")?;
    stage.show_received()?;
    Ok(())
}
