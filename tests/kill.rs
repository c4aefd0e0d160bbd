//! `ccl` is ended with SIGKILL at every system call that changes a file or talks to tmux; ordinary
//! passes then bring the task to its end. After every step the task is in one place, and in the end
//! it has run as often as it should, whatever was killed.

mod support;

use support::faults::{UNUSED, Worker, World, calls, disturb_each, is_long, traced, was_killed};
use support::scenes::{SCENES, Scene, kill, scene};

/// Kills at one call; false if the pass makes fewer of them.
fn kill_at(world: &mut World, scene: &Scene, syscall: &str, nth: u32) -> bool {
    let task = format!("{}-{syscall}-{nth}.md", scene.name.replace(' ', "-"));
    let when = format!("{}, killed at {syscall} {nth}", scene.name);
    world.begin(&task, scene.body);
    (scene.prepare)(world, &task);
    if syscall == "open" {
        // Others look at other processes, hundreds of times.
        world.only_at = world.files_of(&task);
    }
    let output = world.pass_with(scene.pass, kill(syscall, nth));
    world.only_at.clear();
    world.assert_once(&task, &when);
    // An agent that is alive is recognised, and not started again.
    world.pass(&["scan"]);
    world.assert_once(&task, &when);
    world.pass(&["reap"]);
    world.go(true);
    world.converge(&task, &when);
    assert_eq!(world.runs(&task), scene.runs, "{when}");
    assert!(world.project.failed().is_empty(), "{when}");
    was_killed(output.status)
}

fn play(name: &str) {
    let scene = scene(name);
    // An agent takes longer than a script, and `assign` does what `reap` and `scan` do.
    let is_simple = scene.worker == Worker::Script && scene.pass[0] != "assign";
    let is_sample = !is_simple && !is_long();
    let kills = disturb_each(
        scene.worker,
        calls(),
        |_, nth| {
            if is_sample { nth * 2 + 1 } else { nth + 1 }
        },
        |world, syscall, nth| kill_at(world, scene, syscall, nth),
    );
    let at_least = scene.at_least / if is_sample { 4 } else { 1 };
    assert!(kills >= at_least, "{name}: only {kills} kills");
}

/// On a file system without `renameat2`: a link is made, then the old name removed.
fn play_with_links(name: &str, at_least: usize) {
    let scene = scene(name);
    let calls = vec!["linkat", "unlink", "fsync", "flock"];
    let kills = disturb_each(
        scene.worker,
        calls,
        |_, nth| nth + 1,
        |world, syscall, nth| {
            world.lacks_renameat2 = true;
            kill_at(world, scene, syscall, nth)
        },
    );
    assert!(kills >= at_least, "{name}: only {kills} kills");
}

#[test]
fn no_pass_changes_anything_by_another_call() {
    // The others are about what a killed pass has left: there is nothing new in them.
    for scene in SCENES.iter().filter(|scene| !scene.name.contains("killed")) {
        let world = World::of(scene.worker);
        world.begin("a.md", scene.body);
        (scene.prepare)(&world, "a.md");
        let trace = traced(&world.sandbox, scene.pass, UNUSED);
        // Who the user is, and which shell is theirs, a name service may be asked.
        let changes = trace.lines().filter(|line| !line.contains("/nscd/socket"));
        assert_eq!(changes.collect::<Vec<_>>(), [""; 0], "{}", scene.name);
        world.go(true);
        world.converge("a.md", scene.name);
    }
}

#[test]
fn scan_that_launches() {
    play("scan launches");
}

#[test]
fn scan_that_creates_the_session() {
    play("scan creates the session and launches");
}

#[test]
fn reap_that_files() {
    play("reap files what is done");
}

#[test]
fn reap_that_gives_back() {
    play("reap gives back what failed");
}

#[test]
fn assign_that_files_and_launches() {
    play("assign files and launches the next");
}

#[test]
fn reap_after_a_killed_scan() {
    play("reap gives back what a killed scan had claimed");
}

#[test]
fn scan_after_a_killed_scan() {
    play("scan finds the agent that a killed scan had started");
}

#[test]
fn scan_after_a_scan_that_was_killed_when_it_had_opened_the_window() {
    play("scan finds the window that a killed scan had not noted");
}

#[test]
fn scan_after_a_scan_that_was_killed_before_it_opened_the_window() {
    play("scan starts what a killed scan had not");
}

#[test]
fn scan_that_launches_claude() {
    play("Claude: scan launches");
}

#[test]
fn reap_that_files_a_finished_turn() {
    play("Claude: reap files what is done");
}

#[test]
fn reap_that_files_a_finished_turn_of_an_old_claude() {
    play("Claude 2.1.100: reap files what is done");
}

#[test]
fn reap_that_gives_back_what_a_killed_claude_had() {
    play("Claude: reap gives back what failed");
}

#[test]
fn assign_that_files_a_finished_turn_and_launches() {
    play("Claude: assign files and launches the next");
}

#[test]
fn scan_after_a_scan_that_was_killed_when_it_had_launched_claude() {
    play("Claude: scan finds the agent that a killed scan had started");
}

#[test]
fn scan_that_launches_where_nothing_can_be_renamed_safely() {
    play_with_links("scan launches", 10);
}

#[test]
fn reap_that_files_where_nothing_can_be_renamed_safely() {
    play_with_links("reap files what is done", 10);
}
