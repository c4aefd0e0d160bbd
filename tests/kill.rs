//! `ccl` is ended with SIGKILL at every system call that changes a file or talks to tmux; ordinary
//! passes then bring the task to its end. After every step the task is in one place, and in the end
//! it has run as often as it should, whatever was killed.

// The helpers of a test fail it.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use support::faults::{CHANGING, Fault, World, in_worlds, was_killed};
use support::wait_until;

/// How a world looks before the pass that is killed, and which pass that is.
struct Scene {
    name: &'static str,
    /// What the task says, for the agent.
    body: &'static str,
    /// How often the task runs in the end.
    runs: usize,
    /// Fewer kills than this would mean that nothing was tested.
    at_least: u32,
    pass: &'static [&'static str],
    /// Brings the task `T` to where the pass finds it.
    prepare: fn(&World, &str),
}

const SCENES: &[Scene] = &[
    Scene {
        name: "scan launches",
        body: "hold\n",
        runs: 1,
        at_least: 30,
        pass: &["scan"],
        prepare: |_, _| {},
    },
    Scene {
        name: "scan creates the session and launches",
        body: "hold\n",
        runs: 1,
        at_least: 30,
        pass: &["scan"],
        prepare: |world, _| {
            world.tmux.run(&["kill-session", "-t", "=k-0:"]);
        },
    },
    Scene {
        name: "reap files what is done",
        body: "go\n",
        runs: 1,
        at_least: 10,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
    Scene {
        name: "reap gives back what failed",
        body: "fail once\n",
        runs: 2,
        at_least: 10,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
    Scene {
        name: "assign files and launches the next",
        body: "hold\n",
        runs: 1,
        at_least: 40,
        pass: &["assign", "k-0"],
        prepare: |world, task| {
            // This one is at work; the task itself waits behind it.
            let waiting = world.project.queue("inbox").join(task);
            let aside = world.sandbox.path().join("aside");
            std::fs::rename(&waiting, &aside).unwrap();
            let before = format!("before-{task}");
            world.project.drop_task(&before, "go\n");
            run_to_its_end(world, &before);
            std::fs::rename(&aside, &waiting).unwrap();
        },
    },
    Scene {
        name: "reap gives back what a killed scan had claimed",
        body: "go\n",
        runs: 1,
        at_least: 8,
        pass: &["reap"],
        // The rename of the claim that would say `launching`.
        prepare: |world, _| killed_at(world, "renameat", -2),
    },
    Scene {
        name: "scan finds the agent that a killed scan had started",
        body: "hold\n",
        runs: 1,
        at_least: 3,
        pass: &["scan"],
        prepare: |world, task| {
            killed_at(world, "renameat", -1);
            wait_until("the agent runs", support::PATIENCE, || {
                world.runs(task) == 1
            });
        },
    },
];

fn run_to_its_end(world: &World, task: &str) {
    world.pass(&["scan"]);
    let exit = world.sandbox.session_file("k-0", "exit");
    wait_until("the agent has ended", support::PATIENCE, || {
        exit.exists() && world.runs(task) == 1
    });
}

/// Kills a scan at the last call but some of its kind, as an untouched scan of another task counts
/// them.
fn killed_at(world: &World, syscall: &str, from_the_end: i32) {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    if CALLS.load(Ordering::SeqCst) == 0 {
        CALLS.store(count_in_a_scan(syscall), Ordering::SeqCst);
    }
    let calls = CALLS.load(Ordering::SeqCst);
    let nth = calls.checked_add_signed(from_the_end + 1).unwrap();
    let output = world.pass_with(&["scan"], kill(syscall, nth));
    assert!(was_killed(output.status));
}

fn count_in_a_scan(syscall: &str) -> u32 {
    let world = World::new();
    let mut calls = 0;
    loop {
        let task = format!("count-{calls}.md");
        world.project.drop_task(&task, "go\n");
        let output = world.pass_with(&["scan"], kill(syscall, calls + 1));
        world.converge(&task, "while counting");
        if !was_killed(output.status) {
            return calls;
        }
        calls += 1;
    }
}

fn kill(syscall: &str, nth: u32) -> Fault<'_> {
    Fault {
        syscall,
        nth,
        action: "signal=SIGKILL",
    }
}

/// Kills at each call of one kind in turn; returns how many there were.
fn kill_at_each(world: &World, scene: &Scene, syscall: &str) -> u32 {
    for nth in 1.. {
        let task = format!("{}-{syscall}-{nth}.md", scene.name.replace(' ', "-"));
        let when = format!("{}, killed at {syscall} {nth}", scene.name);
        world.go(false);
        world.project.drop_task(&task, scene.body);
        (scene.prepare)(world, &task);
        let output = world.pass_with(scene.pass, kill(syscall, nth));
        world.assert_once(&task, &when);
        // An agent that is alive is recognised, and not started again.
        world.pass(&["scan"]);
        world.assert_once(&task, &when);
        world.pass(&["reap"]);
        world.go(true);
        world.converge(&task, &when);
        assert_eq!(world.runs(&task), scene.runs, "{when}");
        assert!(world.project.failed().is_empty(), "{when}");
        if !was_killed(output.status) {
            return nth - 1;
        }
    }
    unreachable!("a pass makes fewer calls than that");
}

fn play(name: &str) {
    let scene = SCENES.iter().find(|scene| scene.name == name).unwrap();
    let kills = AtomicU32::new(0);
    in_worlds(CHANGING.to_vec(), |world, syscall| {
        kills.fetch_add(kill_at_each(world, scene, syscall), Ordering::SeqCst);
    });
    let kills = kills.into_inner();
    assert!(kills >= scene.at_least, "{name}: only {kills} kills");
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
