//! The moments of a task's life in which a pass is disturbed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::faults::{Fault, Worker, World, was_killed};
use super::{PATIENCE, wait_until};

/// How a world looks before the pass that is killed, and which pass that is.
pub struct Scene {
    pub name: &'static str,
    pub worker: Worker,
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
        worker: Worker::Script,
        body: "hold\n",
        runs: 1,
        at_least: 45,
        pass: &["scan"],
        prepare: |_, _| {},
    },
    Scene {
        name: "scan creates the session and launches",
        worker: Worker::Script,
        body: "hold\n",
        runs: 1,
        at_least: 50,
        pass: &["scan"],
        prepare: without_session,
    },
    Scene {
        name: "reap files what is done",
        worker: Worker::Script,
        body: "go\n",
        runs: 1,
        at_least: 25,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
    Scene {
        name: "reap gives back what failed",
        worker: Worker::Script,
        body: "fail once\n",
        runs: 2,
        at_least: 29,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
    Scene {
        name: "assign files and launches the next",
        worker: Worker::Script,
        body: "hold\n",
        runs: 1,
        at_least: 60,
        pass: &["assign", "k-0"],
        prepare: behind_another,
    },
    Scene {
        name: "reap gives back what a killed scan had claimed",
        worker: Worker::Script,
        body: "go\n",
        runs: 1,
        at_least: 18,
        pass: &["reap"],
        prepare: just_claimed,
    },
    Scene {
        name: "scan finds the agent that a killed scan had started",
        worker: Worker::Script,
        body: "hold\n",
        runs: 1,
        at_least: 10,
        pass: &["scan"],
        prepare: just_started,
    },
    Scene {
        name: "scan finds the window that a killed scan had not noted",
        worker: Worker::Script,
        body: "hold\n",
        runs: 1,
        at_least: 10,
        pass: &["scan"],
        prepare: just_opened,
    },
    Scene {
        name: "scan starts what a killed scan had not",
        worker: Worker::Script,
        body: "hold\n",
        runs: 1,
        at_least: 45,
        pass: &["scan"],
        prepare: not_opened,
    },
    Scene {
        name: "Claude: scan launches",
        worker: Worker::Claude,
        body: "hold\n",
        runs: 1,
        at_least: 45,
        pass: &["scan"],
        prepare: |_, _| {},
    },
    Scene {
        name: "Claude: reap files what is done",
        worker: Worker::Claude,
        body: "go\n",
        runs: 1,
        at_least: 25,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
    Scene {
        name: "Claude: reap gives back what failed",
        worker: Worker::Claude,
        body: "fail once\n",
        runs: 2,
        at_least: 29,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
    Scene {
        name: "Claude: assign files and launches the next",
        worker: Worker::Claude,
        body: "hold\n",
        runs: 1,
        at_least: 60,
        pass: &["assign", "k-0"],
        prepare: behind_another,
    },
    Scene {
        name: "Claude: scan finds the agent that a killed scan had started",
        worker: Worker::Claude,
        body: "hold\n",
        runs: 1,
        at_least: 10,
        pass: &["scan"],
        prepare: just_started,
    },
    Scene {
        name: "Claude 2.1.100: reap files what is done",
        worker: Worker::OldClaude,
        body: "go\n",
        runs: 1,
        at_least: 25,
        pass: &["reap"],
        prepare: run_to_its_end,
    },
];

fn run_to_its_end(world: &World, task: &str) {
    world.pass(&["scan"]);
    world.wait_for_the_end(task);
}

fn without_session(world: &World, _: &str) {
    world.tmux.run(&["kill-session", "-t", "=k-0:"]);
}

/// Another one has been worked on; the task itself waits behind it.
fn behind_another(world: &World, task: &str) {
    let waiting = world.project.queue("inbox").join(task);
    let aside = world.sandbox.path().join("aside");
    std::fs::rename(&waiting, &aside).unwrap();
    let before = format!("before-{task}");
    world.project.drop_task(&before, "go\n");
    run_to_its_end(world, &before);
    std::fs::rename(&aside, &waiting).unwrap();
}

fn just_claimed(world: &World, _: &str) {
    // The rename of the claim that would say `launching`.
    killed_at(world, "renameat", -3);
}

fn not_opened(world: &World, task: &str) {
    // The call of tmux that would open the window.
    killed_at(world, "clone3", -1);
    assert_eq!(world.runs(task), 0);
}

fn just_opened(world: &World, task: &str) {
    // Of the session's marker, which would name the window's pane.
    killed_at(world, "renameat", -2);
    wait_until("the agent runs", PATIENCE, || world.runs(task) == 1);
}

fn just_started(world: &World, task: &str) {
    // And `working`.
    killed_at(world, "renameat", -1);
    wait_until("the agent runs", PATIENCE, || world.runs(task) == 1);
}

/// Kills a scan at the last call but some of its kind, as an untouched scan of another task counts
/// them: whoever works there.
fn killed_at(world: &World, syscall: &str, from_the_end: i32) {
    static CALLS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let calls = {
        let mut calls = CALLS.lock().unwrap();
        *calls.entry(syscall.to_owned()).or_insert_with(|| count_in_a_scan(syscall))
    };
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
    Fault { syscall, nth, action: "signal=SIGKILL", from_then_on: false }
}

/// The scene of this name.
pub fn scene(name: &str) -> &'static Scene {
    SCENES.iter().find(|scene| scene.name == name).expect("a scene")
}
