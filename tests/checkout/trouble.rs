//! A disk that is full, git's locks that somebody left, and a repository with hooks: a pass that cannot go on says so and
//! ends with 75, or leaves the branch to a person with the reason; once the trouble is over, all goes on.

use std::fs;
use std::path::Path;

use super::kill::{LANDS, LAUNCHES, assert_landed, assert_nothing_is_left, commit, go_on};
use super::support::faults::{Worker, World, disturb_each, is_long, said, with_own_mounts};
use super::support::scenes::Scene;
use super::support::{PATIENCE, wait_until, write_program};
use super::world::ending;

/// Which call of git finds the disk full, at which of its system calls.
#[derive(Clone, Copy)]
struct Full {
    scene: &'static Scene,
    call: &'static str,
    syscall: &'static str,
}

/// A disk that is full at one call; false if git makes fewer of them.
fn fill_at(world: &mut World, full: Full, nth: u32) -> bool {
    let Full { scene, call, syscall } = full;
    let task = format!("{call}-{syscall}-{nth}.md");
    let when = format!("the disk is full in git {call}, at {syscall} {nth}");
    let trace = world.sandbox.path().join("git-trace");
    let _ = fs::remove_file(&trace);
    world.begin(&task, scene.body);
    (scene.prepare)(world, &task);
    world.git_fault(call, &format!("full {syscall} {nth}"));
    let output = world.sandbox.ccl(scene.pass).output().unwrap();
    assert!(world.was_git_disturbed(), "{when}: git was not called");
    let injected = fs::read_to_string(trace).unwrap().contains("(INJECTED)");
    // Some can be done without: a line of a log, the words on standard error.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 75)), "{when}: {}", said(&output));
    assert!(code == Some(0) || said(&output).contains("`git "), "{when}: {}", said(&output));
    go_on(world, scene, &task, &when);
    injected
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_git() {
    let mut jobs = Vec::new();
    for (scene, call) in [(&LAUNCHES, "worktree"), (&LANDS, "commit"), (&LANDS, "rebase")] {
        for syscall in ["write", "mkdir", "rename"] {
            jobs.push(Full { scene, call, syscall });
        }
    }
    let next = |_, nth| if is_long() { nth + 1 } else { nth * 3 };
    let failures = disturb_each(Worker::Branch, jobs, next, fill_at);
    assert!(failures >= if is_long() { 60 } else { 12 }, "only {failures} failures");
}

/// Where it has no room for what is to land, nothing of it is written: half of it would be in everybody's way.
#[test]
fn a_checkout_without_room_stays_as_it_is() {
    let world = World::of(Worker::Branch);
    world.say("isolation: worktree\n");
    world.begin("a.md", "commit\n");
    world.pass(&["scan"]);
    world.wait_for_the_end("a.md");
    world.converge("a.md", "before it lands");
    let root = world.project.root();
    let output = with_own_mounts(
        &world.sandbox,
        "at=$1; shift; all=$TMPDIR/all; mkdir $all; mount --bind $at $all
         mount -t tmpfs -o size=512k tmpfs $at; cp $all/README $at; mkdir $at/.git $at/.agent-queue
         mount --bind $all/.git $at/.git; mount --bind $all/.agent-queue $at/.agent-queue
         code=0; \"$@\" land a || code=$?; ls $at; exit $code",
        root,
    );
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("has no room for the"), "{}", said(&output));
    assert!(said(&output).contains("\nREADME\n"), "{}", said(&output));
    assert!(!said(&output).contains("a.md.txt"), "{}", said(&output));
    world.pass(&["land", "a"]);
    assert_landed(&world, "a.md", "commit", "with room");
}

#[test]
fn a_lock_of_git_s_in_the_way_of_a_worktree_is_named_and_the_task_waits() {
    let world = World::of(Worker::Branch);
    let lock = world.project.root().join(".git/refs/heads/ccl/a.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "").unwrap();
    world.begin("a.md", LAUNCHES.body);
    let said = said(&world.pass(&["scan"]));
    assert!(
        said.contains("held")
            && said.contains("refs/heads/ccl/a.lock")
            && said.contains("remove it once"),
        "{said}"
    );
    assert_eq!(world.project.inbox(), ["a.md"]);
    fs::remove_file(lock).unwrap();
    assert_nothing_is_left(&world, "after a lock");
    go_on(&world, &LAUNCHES, "a.md", "after a lock");
}

#[test]
fn a_lock_of_git_s_in_the_way_of_a_landing_leaves_all_as_it_is() {
    for lock in [".git/index.lock", ".git/refs/heads/main.lock", ".git/worktrees/a/index.lock"] {
        let world = World::of(Worker::Branch);
        world.begin("a.md", LANDS.body);
        (LANDS.prepare)(&world, "a.md");
        let before = world.project.git(["rev-parse", "main"]);
        let path = world.project.root().join(lock);
        fs::write(&path, "").unwrap();
        world.pass(&["reap"]);
        let git = ending(&world.project, "done/a.md")["git"].clone();
        let reason = git["reason"].as_str().unwrap();
        assert!(reason.contains(lock) && reason.contains("remove it once"), "{reason}");
        assert_eq!(git["landed"], false, "{lock}");
        let status = world.sandbox.ccl_json(&["status"]);
        assert_eq!(status["projects"][0]["to_land"][0]["reason"], git["reason"], "{lock}");
        fs::remove_file(path).unwrap();
        assert_eq!(world.project.git(["rev-parse", "main"]), before, "{lock}");
        assert_eq!(world.project.git(["status", "--porcelain"]), "", "{lock}");
        world.pass(&["land", "a"]);
        assert_landed(&world, "a.md", LANDS.body, lock);
    }
}

#[test]
fn a_worktree_that_somebody_has_locked_stays() {
    let world = World::of(Worker::Branch);
    world.begin("a.md", "commit\n");
    world.pass(&["scan"]);
    world.wait_for_the_end("a.md");
    let path = ".agent-queue/worktrees/a";
    world.project.git(["worktree", "unlock", path]);
    world.project.git(["worktree", "lock", "--reason", "on my stick", path]);
    let output = world.pass(&["reap"]);
    assert!(said(&output).contains("somebody has locked it (on my stick)"), "{}", said(&output));
    assert_eq!(world.project.done(), ["a.md"]);
    assert!(world.project.root().join(path).join("a.md.txt").exists());
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["projects"][0]["worktrees"].as_array().unwrap().len(), 1, "{status:#}");
}

/// Each notes whether it runs for the agent, whose `CCL_RUN` it has, or for `ccl`. The first refuses what an agent left.
fn with_hooks(root: &Path, notes: &Path) {
    let all = [
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "post-commit",
        "post-checkout",
        "pre-rebase",
        "post-rewrite",
        "post-merge",
        "pre-merge-commit",
        "pre-auto-gc",
        "reference-transaction",
        "post-index-change",
        "applypatch-msg",
        "pre-applypatch",
    ];
    for hook in all {
        let refuses = if hook == "pre-commit" { "[ ! -e a.md.left ]" } else { "true" };
        let text = format!(
            "#!/bin/sh\necho {hook} ${{CCL_RUN:+for the agent}} >> {}\n{refuses}\n",
            notes.display()
        );
        let path = root.join(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_program(&path, &text);
    }
}

#[test]
fn hooks_run_for_the_agents_commits_and_for_nobody_elses() {
    let world = World::of(Worker::Branch);
    let notes = world.sandbox.path().join("hooks");
    world.begin("a.md", "commit leave hold\n");
    with_hooks(world.project.root(), &notes);
    world.pass(&["scan"]);
    let noted = || fs::read_to_string(&notes).unwrap_or_default();
    wait_until("the agent has committed", PATIENCE, || noted().contains("post-commit"));
    let hooks = world.project.root().join(".git/hooks");
    let aside = world.project.root().join(".git/aside");
    fs::rename(&hooks, &aside).unwrap();
    commit(&world, "a person's");
    fs::rename(&aside, &hooks).unwrap();
    world.go(true);
    world.wait_for_the_end("a.md");
    world.converge("a.md", "with hooks");
    let notes = noted();
    for hook in ["pre-commit", "commit-msg", "post-commit", "reference-transaction"] {
        assert!(notes.contains(&format!("{hook} for the agent\n")), "{notes}");
    }
    for line in notes.lines() {
        assert!(line.ends_with(" for the agent"), "{line}");
    }
    // Hooks of the test's own calls would note nothing more.
    assert_landed(&world, "a.md", "commit leave", "with hooks");
}
