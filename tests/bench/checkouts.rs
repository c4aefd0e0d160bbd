//! What git costs: with a worktree for the task, beside the calls that cannot be saved; without one, how often it is
//! called.

use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use super::support::git::git;
use super::support::{PATIENCE, wait_until};
use super::table::Row;
use super::{Stage, calls, quietly, shortest, timed};

pub(super) fn rows() -> Vec<Row> {
    let stage = stage("isolation: worktree\n");
    let agent = || stage.time_of_the_agent_alone();
    let [dispatch, agent, git] = shortest(9, [&|| stage.time(), &agent, &|| bare_git(&stage)]);
    let clean = self::stage("require_clean: true\n");
    let outside = Stage::new(1);
    let [[dispatched, filed], [dispatched_outside, filed_outside]] =
        [&clean, &outside].map(calls_of_git);
    vec![
        Row::above(
            "a dispatch with a worktree, beyond the agent's own start",
            "`git worktree add`, `git status`",
            [dispatch - agent, git],
            20.0,
        ),
        Row::at_most("in git, without a worktree: a dispatch's calls of git", dispatched, "", 2.0),
        Row::at_most("the same: those at filing", filed, "", 2.0),
        Row::at_most("outside of git: both", dispatched_outside + filed_outside, "", 0.0),
    ]
}

/// A repository with this `project.yaml`.
fn stage(rules: &str) -> Stage {
    let stage = Stage::new(1);
    stage.project.init_git();
    fs::write(stage.project.root().join(".agent-queue/project.yaml"), rules).unwrap();
    stage
}

/// What a worktree and one look at the checkout cost without `ccl`.
fn bare_git(stage: &Stage) -> Duration {
    let (root, worktree) = (stage.project.root(), stage.sandbox.path().join("bare"));
    let run = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(args).current_dir(root).env("GIT_CONFIG_GLOBAL", "/dev/null");
        quietly(&mut command);
    };
    let path = worktree.to_str().unwrap();
    let took = timed(|| {
        run(&["worktree", "add", "-b", "bare", path, "HEAD"]);
        run(&["status"]);
    });
    git(root, ["worktree", "remove", path]);
    git(root, ["branch", "-D", "bare"]);
    took
}

/// How often a pass that launches a task calls git, and the one that files it.
fn calls_of_git(stage: &Stage) -> [f64; 2] {
    let of_git = |args: &[&str]| {
        let calls = calls(&stage.sandbox, args);
        // The same process looks for it in all of PATH.
        let of_git = calls.iter().filter(|call| call.contains("/git\", [\"git\""));
        of_git.filter_map(|call| call.split(' ').next()).collect::<HashSet<_>>().len() as f64
    };
    stage.project.drop_task("counted.md", "Do it.\n");
    let dispatched = of_git(&["scan"]);
    let exit = stage.sandbox.session_file("k-0", "exit");
    wait_until("the agent ends", PATIENCE, || exit.exists());
    let filed = of_git(&["reap"]);
    assert_eq!(stage.project.task_places("counted.md"), ["done/counted.md"]);
    [dispatched, filed]
}
