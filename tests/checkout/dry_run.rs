//! A dry run reports what the pass behind it does, reasons and all: at a launch, at the end of a turn, at that of its
//! check, and at that of a branch.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::support::Project;
use super::worktree::{commit, say, world as in_worktrees};
use super::world::{HOLDS, World};

/// The events of a dry run, which have to be those of the pass right behind it.
#[track_caller]
fn agreed(world: &World) -> Vec<String> {
    let dry_run = world.ccl(&["reap", "--dry-run"]);
    let pass = world.ccl(&["reap"]);
    assert_eq!((dry_run.code, pass.code), (0, 0), "{dry_run:#?}\n{pass:#?}");
    assert_eq!(dry_run.events, pass.events, "{}", world.tmux.screens());
    pass.short()
}

/// What stands in the way of a launch: `rules` of a repository that `prepare` has seen to.
struct Refusal {
    rules: &'static str,
    task: &'static str,
    prepare: fn(&Project),
    /// The events, each with a part of its reason.
    says: &'static [(&'static str, &'static str)],
}

const LAUNCHED: (&str, &str) = ("dispatched t.md ccl-auto-0", "");

const REFUSALS: &[Refusal] = &[
    Refusal { rules: "", task: HOLDS, prepare: |_| {}, says: &[LAUNCHED] },
    Refusal { rules: "isolation: worktree\n", task: HOLDS, prepare: |_| {}, says: &[LAUNCHED] },
    // Only the launch's own plan sees this.
    Refusal {
        rules: "isolation: worktree\n",
        task: HOLDS,
        prepare: |project| drop(project.git(["branch", "ccl"])),
        says: &[("held t.md -", "the branch `ccl` in")],
    },
    Refusal {
        rules: "isolation: worktree\nbase: nowhere\n",
        task: HOLDS,
        prepare: |_| {},
        says: &[("held - -", "`nowhere` names no commit")],
    },
    Refusal {
        rules: "isolation: none\nrequire_clean: true\n",
        task: HOLDS,
        prepare: |project| fs::write(project.root().join("README"), "changed\n").unwrap(),
        says: &[("held - -", "not committed, and project.yaml says require_clean")],
    },
    Refusal {
        rules: "isolation: none\nprotect: [README]\n",
        task: HOLDS,
        prepare: |_| {},
        says: &[("held - -", "`protect` needs a worktree")],
    },
    Refusal {
        rules: "isolaton: none\n",
        task: HOLDS,
        prepare: |_| {},
        says: &[("held - -", "isolaton")],
    },
    Refusal {
        rules: "",
        task: " \n",
        // An empty file may be one that somebody has just begun to write.
        prepare: |project| {
            let task = fs::File::open(project.queue("inbox").join("t.md")).unwrap();
            task.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        },
        says: &[("failed t.md -", "")],
    },
    // One agent at a time in the project's own checkout.
    Refusal {
        rules: "isolation: none\n",
        task: HOLDS,
        prepare: |project| drop(project.drop_task("u.md", HOLDS)),
        says: &[LAUNCHED],
    },
];

#[test]
fn what_a_launch_refuses_is_foretold_in_the_same_words() {
    for Refusal { rules, task, prepare, says } in REFUSALS {
        let (world, project) = in_worktrees(2, "");
        say(&project, rules);
        project.drop_task("t.md", task);
        prepare(&project);
        let dry_run = world.ccl(&["scan", "--dry-run"]);
        let pass = world.ccl(&["scan"]);
        assert_eq!(dry_run.events, pass.events, "{rules}{dry_run:#?}\n{pass:#?}");
        assert_eq!((dry_run.code, &dry_run.free), (pass.code, &pass.free), "{rules}");
        let events: Vec<_> = says.iter().map(|(event, _)| *event).collect();
        assert_eq!(pass.short(), events, "{rules}{pass:#?}");
        for (event, (_, reason)) in pass.events.iter().zip(*says) {
            let said = event["reason"].as_str().unwrap_or_default();
            assert!(said.contains(reason), "{rules}{said}");
        }
        world.let_go();
    }
}

/// The same once the agent has ended its turn.
#[track_caller]
fn agreed_after_turn(world: &World) -> Vec<String> {
    world.wait_for_exit("ccl-auto-0");
    agreed(world)
}

/// The same once the check has judged.
#[track_caller]
fn agreed_after_check(world: &World) -> Vec<String> {
    let exit = world.session_file("ccl-auto-0", "check-exit");
    world.tmux.wait_until("the check ends", || exit.exists());
    agreed(world)
}

/// A project in whose own checkout agents work, and which says this.
fn plain(rules: &str) -> (World, Project) {
    let world = World::commands(1).with("agent", json!({"hooks": false}));
    let project = world.project("web");
    say(&project, rules);
    (world, project)
}

#[test]
fn the_end_of_a_turn_starts_the_check_and_green_is_done() {
    let (world, project) = plain("check: true\n");
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    let status = world.sandbox.ccl_json(&["status"]);
    let reason = "its turn is over: the next pass has its check judge it";
    assert_eq!(status["sessions"][0]["reason"], reason, "{status:#}");
    assert_eq!(agreed(&world), [""; 0]);
    assert_eq!(project.marker("inbox/.a.md.claim")["phase"], "checking");
    assert_eq!(agreed_after_check(&world), ["checked a.md ccl-auto-0", "done a.md ccl-auto-0"]);
    assert_eq!(project.task_places("a.md"), ["done/a.md"]);
}

#[test]
fn red_goes_back_to_its_agent_and_is_given_up_in_the_end() {
    let (world, project) = plain("check: exit 1\ncheck_rounds: 1\n");
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    assert_eq!(agreed_after_turn(&world), [""; 0]);
    assert_eq!(agreed_after_check(&world), ["checked a.md ccl-auto-0"]);
    assert_eq!(agreed_after_turn(&world), [""; 0]);
    assert_eq!(agreed_after_check(&world), ["checked a.md ccl-auto-0", "failed a.md ccl-auto-0"]);
    assert_eq!(project.task_places("a.md"), ["failed/a.md"]);
}

#[test]
fn a_first_red_in_a_worktree_has_its_base_checked() {
    let (world, project) = in_worktrees(1, "check: test -e good\n");
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    assert_eq!(agreed_after_turn(&world), [""; 0]);
    assert_eq!(agreed_after_check(&world), [""; 0]);
    let check = &project.marker("inbox/.a.md.claim")["check"];
    assert_eq!(check["of"], "base", "{check}");
    assert_eq!(agreed_after_check(&world), ["checked a.md ccl-auto-0"]);
}

#[test]
fn a_branch_lands_where_it_is_to() {
    let done = "done a.md ccl-auto-0";
    for (rules, events) in [
        ("land: rebase\ncheck: none\n", vec![done, "landed a.md ccl-auto-0"]),
        // Nothing has checked it.
        ("land: rebase\n", vec![done]),
        ("check: none\n", vec![done]),
    ] {
        let (world, project) = in_worktrees(1, rules);
        project.drop_task("a.md", commit("a.txt", "one"));
        world.scan();
        assert_eq!(agreed_after_turn(&world), events, "{rules}");
        assert_eq!(project.task_places("a.md"), ["done/a.md"]);
    }
    let (world, project) = in_worktrees(1, "land: rebase\ncheck: true\n");
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    assert_eq!(agreed_after_turn(&world), [""; 0]);
    assert_eq!(
        agreed_after_check(&world),
        ["checked a.md ccl-auto-0", done, "landed a.md ccl-auto-0"]
    );
    assert!(project.root().join("a.txt").exists());
}
