//! `ccl` is ended with SIGKILL at every system call of the passes that hold an agent, send its probe, end its hold, and
//! give its task to another agent. Ordinary passes then go on: the hold is neither lost nor for ever, and nothing is run
//! twice.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::faults::{Worker, World, calls, disturb_each, was_killed};
use support::sandbox::ending_line;
use support::scenes::kill;

/// A task of the agent `first` alone, which waits until it may end.
const PINNED: &str = "---\nagent: first\n---\nhold\n";

/// How things stand before the pass that is killed, and how they have to stand after the next ones.
struct Scene {
    name: &'static str,
    body: &'static str,
    pass: &'static [&'static str],
    prepare: fn(&World, &str),
    /// Before the task may go on.
    afterwards: fn(&World, &str, &str),
    /// How often the task runs in the end.
    runs: usize,
    /// The agent that the task is done by.
    agent: &'static str,
    /// Fewer kills than this would mean that not all was tested.
    at_least: usize,
}

fn hold_file(world: &World) -> PathBuf {
    world.sandbox.state_dir().join("agents/first.hold")
}

#[track_caller]
fn hold(world: &World, when: &str) -> Value {
    let bytes = fs::read(hold_file(world));
    let bytes = bytes.unwrap_or_else(|error| panic!("{when}: no hold: {error}\n{}", world.shown()));
    serde_json::from_slice(&bytes).unwrap()
}

/// The hold's time comes, and the limit is over or not.
fn come_to_its_end(world: &World, is_over: bool) {
    world.wall(!is_over);
    let mut hold = hold(world, "before its end");
    hold["until"] = json!(Timestamp::now() - SignedDuration::from_secs(1));
    fs::write(hold_file(world), hold.to_string()).unwrap();
}

/// The task has met the limit, which no pass has seen.
fn meet_the_limit(world: &World, task: &str) {
    world.wall(true);
    run_to_its_end(world, task, 1);
}

/// The agent is held, and the task waits.
fn be_held(world: &World, task: &str) {
    meet_the_limit(world, task);
    world.pass(&["reap"]);
    assert_eq!(hold(world, task)["tries"], 1);
}

fn run_to_its_end(world: &World, task: &str, runs: usize) {
    world.pass(&["scan"]);
    let exit = world.sandbox.session_file("k-0", "exit");
    world.tmux.wait_until("the agent has ended", || exit.exists() && world.runs(task) == runs);
}

/// What a hold says once its agent has met the limit so many times, and nobody asks it now.
#[track_caller]
fn assert_held(world: &World, task: &str, when: &str, tries: usize) {
    let hold = hold(world, when);
    assert_eq!((&hold["tries"], &hold["probe"]), (&json!(tries), &Value::Null), "{when}: {hold}");
    let until: Timestamp = hold["until"].as_str().unwrap().parse().unwrap();
    assert!(until > Timestamp::now(), "{when}: {hold}");
    assert_eq!(world.runs(task), tries, "{when}");
    assert_eq!(world.left_in_inbox(), [task], "{when}");
}

/// Makes passes until the task runs for the second time. Where the killed one had begun a launch, one pass gives the task
/// back, and a later one may launch it: until the closed window's process has ended, its session counts as busy.
#[track_caller]
fn launch_again(world: &World, task: &str, when: &str) {
    let launched = support::wait::poll(support::PATIENCE, || {
        let runs = world.runs(task) == 2;
        if !runs {
            world.pass(&["scan"]);
        }
        runs.then_some(())
    });
    assert!(launched.is_some(), "{when}: it is not launched again\n{}", world.shown());
}

/// Kills at one call; false if the pass makes fewer of them.
fn kill_at(world: &mut World, scene: &Scene, syscall: &str, nth: u32) -> bool {
    let task = format!("{}-{syscall}-{nth}.md", scene.name.replace(' ', "-"));
    let when = format!("{}, killed at {syscall} {nth}", scene.name);
    world.begin(&task, scene.body);
    (scene.prepare)(world, &task);
    if syscall == "open" {
        // Others look at other processes, hundreds of times.
        let agents = world.sandbox.state_dir().join("agents");
        world.only_at = world.files_of(&task);
        world.only_at.extend(["first.lock", "first.hold"].map(|name| agents.join(name)));
    }
    let output = world.pass_with(scene.pass, kill(syscall, nth));
    world.only_at.clear();
    world.assert_once(&task, &when);
    world.pass(&["scan"]);
    world.assert_once(&task, &when);
    world.pass(&["reap"]);
    (scene.afterwards)(world, &task, &when);
    world.go(true);
    world.converge(&task, &when);
    assert_eq!(world.runs(&task), scene.runs, "{when}");
    assert!(world.project.failed().is_empty(), "{when}");
    let ending = ending_line(&world.project.read(&format!("done/{task}"))).unwrap();
    assert_eq!((&ending["agent"], &ending["attempt"]), (&json!(scene.agent), &json!(1)), "{when}");
    let is_held = scene.agent != "first";
    assert_eq!(hold_file(world).exists(), is_held, "{when}");
    if is_held {
        world.pass(&["resume"]);
        assert!(!hold_file(world).exists(), "{when}");
    }
    was_killed(output.status)
}

fn play(scene: &Scene) {
    let kills = disturb_each(
        Worker::Limited,
        calls(),
        // Of each process that there is, a pass asks whether it is the agent's.
        |syscall, nth| if syscall == "pidfd_open" { nth * 2 } else { nth + 1 },
        |world, syscall, nth| kill_at(world, scene, syscall, nth),
    );
    assert!(kills >= scene.at_least, "{}: only {kills} kills", scene.name);
}

#[test]
fn a_pass_that_holds_an_agent() {
    play(&Scene {
        name: "reap holds the agent",
        body: PINNED,
        pass: &["reap"],
        prepare: |world, task| {
            meet_the_limit(world, task);
            world.told();
        },
        afterwards: |world, task, when| {
            assert_held(world, task, when, 1);
            let told = world.told();
            assert!(told.contains("limit is reached"), "{when}: {told}");
            come_to_its_end(world, true);
        },
        runs: 2,
        agent: "first",
        at_least: 25,
    });
}

#[test]
fn a_pass_that_sends_a_probe() {
    play(&Scene {
        name: "scan sends the probe",
        body: PINNED,
        pass: &["scan"],
        prepare: |world, task| {
            be_held(world, task);
            come_to_its_end(world, true);
        },
        afterwards: |world, task, when| {
            launch_again(world, task, when);
            assert!(hold(world, when)["probe"]["run"].is_string(), "{when}");
        },
        runs: 2,
        agent: "first",
        at_least: 45,
    });
}

#[test]
fn a_pass_that_ends_a_hold() {
    play(&Scene {
        name: "reap ends the hold",
        body: PINNED,
        pass: &["reap"],
        prepare: |world, task| {
            be_held(world, task);
            come_to_its_end(world, true);
            world.go(true);
            run_to_its_end(world, task, 2);
        },
        afterwards: |_, _, _| {},
        runs: 2,
        agent: "first",
        at_least: 25,
    });
}

#[test]
fn a_pass_that_holds_an_agent_once_more() {
    play(&Scene {
        name: "reap holds the agent once more",
        body: PINNED,
        pass: &["reap"],
        prepare: |world, task| {
            be_held(world, task);
            come_to_its_end(world, false);
            run_to_its_end(world, task, 2);
        },
        afterwards: |world, task, when| {
            assert_held(world, task, when, 2);
            come_to_its_end(world, true);
        },
        runs: 3,
        agent: "first",
        at_least: 25,
    });
}

#[test]
fn a_pass_that_gives_the_task_to_another_agent() {
    play(&Scene {
        name: "scan switches",
        body: "hold\n",
        pass: &["scan"],
        prepare: be_held,
        afterwards: |world, task, when| {
            launch_again(world, task, when);
            assert_eq!(hold(world, when)["tries"], 1, "{when}");
        },
        runs: 2,
        agent: "second",
        at_least: 45,
    });
}
