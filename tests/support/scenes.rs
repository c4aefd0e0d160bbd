//! The moments of a task's life in which a pass is disturbed.

use std::sync::atomic::{AtomicU32, Ordering};

use super::faults::{Fault, World, was_killed};
use super::{PATIENCE, wait_until};

/// How a world looks before the pass that is killed, and which pass that is.
pub struct Scene {
    pub name: &'static str,
    /// What the task says, for the agent.
    pub body: &'static str,
    /// How often the task runs in the end.
    pub runs: usize,
    /// Fewer kills than this would mean that not all was tested.
    pub at_least: usize,
    pub pass: &'static [&'static str],
    /// Brings the task `T` to where the pass finds it.
    pub prepare: fn(&World, &str),
}

/// Every scene.
pub const SCENES: &[Scene] = &[
    Scene {
        name: "scan launches",
        body: "hold\n",
        runs: 1,
        at_least: 35,
        pass: &["scan"],
        prepare: |_, _| {},
    },
    Scene {
        name: "scan creates the session and launches",
        body: "hold\n",
        runs: 1,
        at_least: 38,
        pass: &["scan"],
        prepare: |world, _| {
            world.tmux.run(&["kill-session", "-t", "=k-0:"]);
        },
    },
    Scene {
        name: "reap files what is done",
        body: "go\n",
        runs: 1,
        at_least: 22,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
    Scene {
        name: "reap gives back what failed",
        body: "fail once\n",
        runs: 2,
        at_least: 26,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
    Scene {
        name: "assign files and launches the next",
        body: "hold\n",
        runs: 1,
        at_least: 46,
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
        at_least: 16,
        pass: &["reap"],
        // The rename of the claim that would say `launching`.
        prepare: |world, _| killed_at(world, "renameat", -2),
    },
    Scene {
        name: "scan finds the agent that a killed scan had started",
        body: "hold\n",
        runs: 1,
        at_least: 8,
        pass: &["scan"],
        prepare: |world, task| {
            killed_at(world, "renameat", -1);
            wait_until("the agent runs", PATIENCE, || world.runs(task) == 1);
        },
    },
];

fn run_to_its_end(world: &World, task: &str) {
    world.pass(&["scan"]);
    let exit = world.sandbox.session_file("k-0", "exit");
    wait_until("the agent has ended", PATIENCE, || {
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

/// A SIGKILL on entering the `nth` call.
pub fn kill(syscall: &str, nth: u32) -> Fault<'_> {
    Fault {
        syscall,
        nth,
        action: "signal=SIGKILL",
        from_then_on: false,
    }
}

/// The scene of this name.
pub fn scene(name: &str) -> &'static Scene {
    SCENES
        .iter()
        .find(|scene| scene.name == name)
        .expect("a scene")
}
