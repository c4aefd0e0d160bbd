//! The main job, end to end, where it can do no harm: a throw-away project, a
//! tmux server of its own, and an agent that shows what it was given.
//!
//! `cargo run --release --example demo` needs Rust and tmux and nothing else;
//! with `-- --agent claude` the Claude Code on the PATH does the work, in a
//! directory below the current one, which it has to trust. With `-- --remote`
//! a task goes to a Ray head of the demo's own, where Ray is installed.
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod clear;
#[path = "../support/nested_cargo.rs"]
mod nested_cargo;
mod remote;
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

/// Those of the second scene, which change files of a git repository.
const CHANGES: &[(&str, &str)] = &[
    ("greet.md", "Write a word of greeting into a new file, greeting.txt, and commit it.\n"),
    ("part.md", "Write a word of farewell into a new file, farewell.txt, and commit it.\n"),
];

fn main() -> Result<()> {
    if std::env::args().skip(1).eq(["--remote"]) {
        return remote::play(stage::build_ccl);
    }
    let mut stage = Stage::set(AgentChoice::from_arguments()?)?;
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
    work_off(&stage, &["reap", "scan"])?;

    stage.say("What ended up where:");
    stage.show_queue()?;
    stage.say("One of the finished tasks, with its result and its ending line:");
    stage.show("done/40-summarise.md")?;
    stage.show_received()?;
    // From 2.1.332 on it asks in each repository whether it may trust it, whatever it trusts above.
    if stage.agent() == AgentChoice::Claude {
        return Ok(());
    }

    stage.go_to_a_repository()?;
    for (name, text) in CHANGES {
        stage.drop_task(name, text)?;
    }
    stage.say("Two tasks in one git repository. What its .agent-queue/project.yaml says:");
    stage.show("project.yaml")?;
    stage.say("Each agent gets a worktree and a branch of its own:");
    stage.ccl(&["scan"])?;
    stage.git(&["worktree", "list"])?;
    stage.say(
        "A check judges what they have made. Red goes back to the agent, green lands in main:",
    );
    work_off(&stage, &["reap"])?;
    stage.git(&["log", "--oneline", "main"])
}

/// Has passes made until all tasks are filed.
fn work_off(stage: &Stage, passes: &[&str]) -> Result<()> {
    let deadline = Instant::now() + stage.patience();
    while stage.unfinished()? > 0 {
        if let Some(trouble) = stage.trouble()? {
            bail!("the demo cannot go on: {trouble}");
        }
        if Instant::now() > deadline {
            bail!("the demo's tasks are not finished; have a look at why: `ccl doctor`");
        }
        stage.wait_a_moment(Duration::from_millis(500));
        for pass in passes {
            stage.ccl(&[pass])?;
        }
    }
    Ok(())
}
