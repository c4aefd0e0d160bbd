//! `ccl`, or the git that it called, is ended with SIGKILL at every step of a task that has a worktree and lands; so is a
//! person's `ccl land`. Ordinary passes then bring it to its end: the task has run once, its commits are in main once, by
//! a fast-forward, and nothing else is left.
//!
//! With `CCL_TEST_LONG=1` at each call, else at a fair sample of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::faults::{Worker, World, calls, disturb_each, is_long, said, was_killed};
use super::support::git::git;
use super::support::sandbox::names;
use super::support::scenes::{Scene, kill};

pub(super) const LAUNCHES: Scene = Scene {
    name: "scan launches into a worktree",
    worker: Worker::Branch,
    body: "commit leave hold\n",
    runs: 1,
    at_least: 60,
    pass: &["scan"],
    prepare: |_, _| {},
};

pub(super) const LANDS: Scene = Scene {
    name: "reap lands a branch whose base has moved",
    worker: Worker::Branch,
    body: "commit leave\n",
    runs: 1,
    at_least: 150,
    pass: &["reap"],
    prepare: behind_its_base,
};

const LEAVES_NOTHING: Scene = Scene {
    name: "reap removes a worktree without a commit",
    worker: Worker::Branch,
    body: "go\n",
    runs: 1,
    at_least: 90,
    pass: &["reap"],
    prepare: |world, task| {
        world.pass(&["scan"]);
        world.wait_for_the_end(task);
    },
};

/// Its agent has ended, and meanwhile a person has committed on main.
fn behind_its_base(world: &World, task: &str) {
    world.pass(&["scan"]);
    world.wait_for_the_end(task);
    commit(world, &format!("a person's, before {task}"));
}

pub(super) fn commit(world: &World, message: &str) {
    world.project.git(["commit", "-q", "--allow-empty", "-m", message]);
}

/// What is in main, and how main came there.
pub(super) fn assert_landed(world: &World, task: &str, body: &str, when: &str) {
    let project = &world.project;
    let log = project.git(["log", "--format=%s", "main"]);
    let count = |message: &str| log.lines().filter(|line| *line == message).count();
    let commits = usize::from(body.contains("commit"));
    let filed = || project.read(&format!("done/{task}"));
    assert_eq!(count(task), commits, "{when}: {}", filed());
    let left = format!("ccl: what {task} left uncommitted");
    assert_eq!(count(&left), usize::from(body.contains("leave")), "{when}:\n{log}");
    assert_eq!(project.git(["rev-list", "--merges", "main"]), "", "{when}");
    // The newest comes first: each is the one before it, and more.
    let moves = project.git(["reflog", "show", "--format=%H", "main"]);
    let moves: Vec<_> = moves.lines().collect();
    for pair in moves.windows(2).take(4) {
        git(project.root(), ["merge-base", "--is-ancestor", pair[1], pair[0]]);
    }
    assert_nothing_is_left(world, when);
}

/// No worktree, no branch, no lock, no note of what is to be done, and a clean checkout.
pub(super) fn assert_nothing_is_left(world: &World, when: &str) {
    let project = &world.project;
    let listed = project.git(["worktree", "list"]);
    assert_eq!(listed.lines().count(), 1, "{when}:\n{listed}");
    assert_eq!(project.git(["branch", "--format=%(refname:short)"]), "main", "{when}");
    assert_eq!(project.git(["status", "--porcelain"]), "", "{when}");
    let queue = project.root().join(".agent-queue");
    for directory in [queue.join("worktrees"), queue.join("to-land")] {
        if directory.exists() {
            assert_eq!(names(&directory), [""; 0], "{when}: {}", directory.display());
        }
    }
    let mut left = Vec::new();
    find(&project.root().join(".git"), &mut left);
    let locks = left.iter().filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".lock") || name.starts_with(".ccl-") || name.starts_with("ccl-")
    });
    assert_eq!(locks.collect::<Vec<_>>(), [""; 0], "{when}");
    git(project.root(), ["fsck", "--no-dangling", "--no-progress"]);
}

fn find(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // Objects have no locks.
        if path.is_dir() && !path.ends_with("objects") {
            find(&path, found);
        } else {
            found.push(path);
        }
    }
}

pub(super) fn go_on(world: &World, scene: &Scene, task: &str, when: &str) {
    world.assert_once(task, when);
    // An agent that is alive is recognised, and not started again.
    world.pass(&["scan"]);
    world.assert_once(task, when);
    world.go(true);
    world.converge(task, when);
    assert_eq!(world.runs(task), scene.runs, "{when}");
    assert!(world.project.failed().is_empty(), "{when}");
    assert_landed(world, task, scene.body, when);
}

/// Kills `ccl` at one system call; false if the pass makes fewer of them.
fn kill_at(world: &mut World, scene: &Scene, syscall: &str, nth: u32) -> bool {
    let task = format!("{syscall}-{nth}.md");
    let when = format!("{}, killed at {syscall} {nth}", scene.name);
    world.begin(&task, scene.body);
    (scene.prepare)(world, &task);
    let output = world.pass_with(scene.pass, kill(syscall, nth));
    go_on(world, scene, &task, &when);
    was_killed(output.status)
}

/// The calls at which `ccl` is killed: `clone3` is the moment before a call of git, `pidfd_open` that after git has begun,
/// `wait4` that of its end.
pub(super) fn all_calls() -> Vec<&'static str> {
    let mut all = calls();
    // Others look at other processes, hundreds of times; locks are taken with a `flock` after it.
    all.retain(|call| *call != "open");
    if !all.contains(&"wait4") {
        all.push("wait4");
    }
    all
}

/// The next call to be disturbed.
fn next(nth: u32) -> u32 {
    if is_long() { nth + 1 } else { nth * 2 + 1 }
}

fn play(scene: &Scene) {
    let kills = disturb_each(
        scene.worker,
        all_calls(),
        |_, nth| next(nth),
        |world, syscall, nth| kill_at(world, scene, syscall, nth),
    );
    let at_least = if is_long() { scene.at_least } else { 15 };
    assert!(kills >= at_least, "{}: only {kills} kills", scene.name);
}

#[test]
fn scan_that_launches_into_a_worktree() {
    play(&LAUNCHES);
}

#[test]
fn reap_that_lands_a_branch() {
    play(&LANDS);
}

#[test]
fn reap_that_removes_a_worktree() {
    play(&LEAVES_NOTHING);
}

/// Kills git at one of its calls; false if the pass makes fewer of them.
fn kill_git_at(world: &mut World, scene: &Scene, how: &str, nth: u32) -> bool {
    let task = format!("git-{how}-{nth}.md");
    let when = format!("{}, git killed {how} its call {nth}", scene.name);
    world.begin(&task, scene.body);
    (scene.prepare)(world, &task);
    world.git_fault(&nth.to_string(), how);
    let output = world.sandbox.ccl(scene.pass).output().unwrap();
    let killed = world.was_git_disturbed();
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 75)), "{when}: {}", said(&output));
    assert!(!said(&output).contains("panicked"), "{when}: {}", said(&output));
    go_on(world, scene, &task, &when);
    killed
}

fn play_git(scene: &Scene, at_least: usize) {
    let kills = disturb_each(
        scene.worker,
        vec!["before", "after"],
        // Each in the long form, else one of two: the calls of the one kind lie between those of the other.
        |how, nth| nth + if is_long() { 1 } else { 2 + u32::from(how == "after" && nth % 3 == 0) },
        |world, how, nth| kill_git_at(world, scene, how, nth),
    );
    let at_least = if is_long() { at_least } else { at_least / 3 };
    assert!(kills >= at_least, "{}: only {kills} kills", scene.name);
}

#[test]
fn a_git_that_is_killed_while_scan_launches() {
    play_git(&LAUNCHES, 6);
}

#[test]
fn a_git_that_is_killed_while_reap_lands() {
    play_git(&LANDS, 40);
}

/// Done, but nothing has checked it: a person's `ccl land` is killed.
fn kill_land_at(world: &mut World, syscall: &str, nth: u32) -> bool {
    let (task, body) = (format!("land-{syscall}-{nth}.md"), "commit leave\n");
    let when = format!("ccl land, killed at {syscall} {nth}");
    world.say("isolation: worktree\n");
    world.begin(&task, body);
    world.pass(&["scan"]);
    world.wait_for_the_end(&task);
    world.converge(&task, &when);
    commit(world, &format!("a person's, before {task}"));
    let output = world.pass_with(&["land", &task], kill(syscall, nth));
    world.pass(&["scan"]);
    world.pass(&["reap"]);
    // Whoever was killed is called again, until there is nothing to land any more.
    let again = world.sandbox.ccl(["land", &task]).output().unwrap();
    let is_gone = said(&again).contains("the branch ccl/") && said(&again).contains("is gone");
    assert!(again.status.success() || is_gone, "{when}: {}", said(&again));
    assert_landed(world, &task, body, &when);
    let text = world.project.read(&format!("done/{task}"));
    assert!(text.contains("\"landed\":true"), "{when}: {text}");
    was_killed(output.status)
}

#[test]
fn a_person_s_land_that_is_killed() {
    let kills = disturb_each(Worker::Branch, all_calls(), |_, nth| next(nth), kill_land_at);
    let at_least = if is_long() { 60 } else { 15 };
    assert!(kills >= at_least, "only {kills} kills");
}

/// One call of git that is killed in its middle, and `ccl` with it: locks may be left, and half of a file.
#[derive(Clone, Copy)]
struct Cut {
    scene: &'static Scene,
    call: &'static str,
    syscall: &'static str,
}

/// As after a power cut; false if git makes fewer such calls.
fn cut_at(world: &mut World, cut: Cut, nth: u32) -> bool {
    let Cut { scene, call, syscall } = cut;
    let task = format!("{call}-{syscall}-{nth}.md");
    let when = format!("git {call} and ccl are killed at {syscall} {nth}");
    world.begin(&task, scene.body);
    (scene.prepare)(world, &task);
    world.git_fault(call, &format!("cut {syscall} {nth}"));
    let output = world.sandbox.ccl(scene.pass).output().unwrap();
    assert!(world.was_git_disturbed(), "{when}: git was not called");
    world.assert_once(&task, &when);
    world.go(true);
    let mut heard = said(&world.pass(&["scan"]));
    mend(world, &heard);
    world.converge(&task, &when);
    assert_eq!(world.runs(&task), scene.runs, "{when}");
    for _ in 0..4 {
        let status = world.sandbox.ccl_json(&["status"]);
        let Some(row) = status["projects"][0]["to_land"].get(0) else { break };
        heard += row["reason"].as_str().unwrap();
        mend(world, &heard);
        heard += &said(&world.sandbox.ccl(["land", &task]).output().unwrap());
    }
    // Those that were in nobody's way; and the branch that could not be deleted for one, as was said.
    locks(world).iter().for_each(|path| fs::remove_file(path).unwrap());
    if heard.contains(NAMED) {
        let branches =
            world.project.git(["branch", "--list", "--format=%(refname:short)", "ccl/*"]);
        for branch in branches.lines() {
            assert!(heard.contains("stays"), "{when}: {heard}");
            world.project.git(["branch", "-D", branch]);
        }
    }
    assert_landed(world, &task, scene.body, &format!("{when}: {heard}"));
    was_killed(output.status)
}

/// How a lock of git's that is in the way is named.
const NAMED: &str = "remove it once no git runs there";

fn locks(world: &World) -> Vec<PathBuf> {
    let mut files = Vec::new();
    find(&world.project.root().join(".git"), &mut files);
    files.retain(|path| path.extension().is_some_and(|it| it == "lock"));
    files
}

/// What a person does as the sentence says: git's locks are named, and what git has left in the checkout.
fn mend(world: &World, said: &str) {
    if said.contains(NAMED) {
        // Only those that are named: the agent may be committing just now, with locks of its own.
        let is_named = |path: &&PathBuf| said.contains(path.to_str().unwrap());
        locks(world).iter().filter(is_named).for_each(|path| fs::remove_file(path).unwrap());
    }
    if said.contains("would be overwritten by merge") {
        world.project.git(["checkout", "-q", "."]);
        world.project.git(["clean", "-qfd"]);
    }
}

#[test]
fn a_power_cut_in_the_middle_of_git() {
    let mut jobs = Vec::new();
    for (scene, call) in [
        (&LAUNCHES, "worktree"),
        (&LANDS, "commit"),
        (&LANDS, "rebase"),
        (&LANDS, "merge"),
        (&LANDS, "remove"),
    ] {
        for syscall in ["write", "rename", "unlink"] {
            jobs.push(Cut { scene, call, syscall });
        }
    }
    let next = |_, nth| if is_long() { nth + 1 } else { nth * 4 };
    let cuts = disturb_each(Worker::Branch, jobs, next, cut_at);
    assert!(cuts >= if is_long() { 80 } else { 15 }, "only {cuts} cuts");
}

/// Files that take git a while to check out.
fn with_big_files(world: &World) {
    let text = "a line of a file that takes git some time to write\n".repeat(40_000);
    for number in 1..=20 {
        fs::write(world.project.root().join(format!("big-{number}")), format!("{number}\n{text}"))
            .unwrap();
    }
    world.project.git(["add", "."]);
    world.project.git(["commit", "-qm", "big files"]);
}

#[test]
fn a_worktree_that_was_made_halfway_is_taken_away() {
    let world = World::of(Worker::Branch);
    with_big_files(&world);
    let task = "a.md";
    world.begin(task, LAUNCHES.body);
    world.git_fault("add", "within");
    let output = world.sandbox.ccl(["scan"]).output().unwrap();
    assert!(world.was_git_disturbed());
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("git worktree add"), "{}", said(&output));
    assert_eq!(world.project.inbox(), [task]);
    assert_nothing_is_left(&world, "after a half made worktree");
    go_on(&world, &LAUNCHES, task, "after a half made worktree");
}

#[test]
fn a_worktree_that_was_removed_halfway_is_removed_to_its_end() {
    let world = World::of(Worker::Branch);
    for (task, gone) in [("a.md", &["README"][..]), ("b.md", &["README", ".git"])] {
        world.begin(task, "commit hold\n");
        world.pass(&["scan"]);
        let worktree = world.project.root().join(".agent-queue/worktrees").join(&task[..1]);
        world.go(true);
        world.wait_for_the_end(task);
        world.git_fault("remove", "before");
        let output = world.sandbox.ccl(["reap"]).output().unwrap();
        assert!(world.was_git_disturbed());
        assert_eq!(output.status.code(), Some(75), "{}", said(&output));
        for file in gone {
            fs::remove_file(worktree.join(file)).unwrap();
        }
        world.converge(task, "after a half removed worktree");
        assert_landed(&world, task, "commit", "after a half removed worktree");
    }
}
