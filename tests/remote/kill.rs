//! `ccl` is ended with SIGKILL at every system call that changes a file or talks to Ray, and at every call of git, or its
//! git is; ordinary passes then bring the task to its end. The work is done once, or given up and said so: whatever was
//! killed there is one agent, one branch, and nothing left in the exchange.
//!
//! With `CCL_TEST_LONG=1` at each call, else at a fair sample of them.

use std::fs;

use crate::support::faults::{Fault, is_long, pass_with, said, was_injected, was_killed};
use crate::support::git::{git, instead_of_git};
use crate::support::wait_until;
use crate::world::{LONG, TASK, World};

const CALLS: [&str; 10] = [
    "mkdir",
    "flock",
    "write",
    "fsync",
    "rename",
    "renameat2",
    "unlink",
    "sendto",
    "recvfrom",
    "clone3",
];

/// Notes for whom it works.
const AGENT: &str = "#!/bin/sh\nhead -n 1 >>\"$HOME/runs\"\necho done >one\n";

/// A pass that is killed.
struct Scene {
    /// `T` stands for the task.
    pass: &'static [&'static str],
    /// Brings a new task to where the pass finds it.
    prepare: fn(&World, &str),
    /// Where it gets to.
    place: &'static str,
    agents: usize,
}

const SUBMITS: Scene = Scene { pass: &["scan"], prepare: |_, _| {}, place: "done", agents: 1 };

const FILES: Scene = Scene { pass: &["reap"], prepare: with_result, place: "done", agents: 1 };

const TAKES_BACK: Scene = Scene { pass: &["reap"], prepare: claimed, place: "failed", agents: 0 };

const BEGINS_ANEW: Scene = Scene { pass: &["reap"], prepare: unbegun, place: "done", agents: 1 };

const CANCELS: Scene =
    Scene { pass: &["cancel", "T"], prepare: waiting, place: "failed", agents: 0 };

fn with_result(world: &World, _: &str) {
    world.pass(&["scan"]);
    world.wait_for_ray();
}

/// Submitted, and nobody begins.
fn waiting(world: &World, task: &str) {
    world.ray.hold_jobs();
    world.pass(&["scan"]);
    world.ray.run_jobs(world.worker());
    assert!(world.marker(task)["job_id"].is_string());
}

fn unbegun(world: &World, task: &str) {
    waiting(world, task);
    let id = world.marker(task)["job_id"].as_str().unwrap().to_owned();
    world.ray.set(&id, "FAILED", Some("JOB_SUPERVISOR_ACTOR_START_TIMEOUT"));
}

/// A runner has claimed it, and was lost with its node.
fn claimed(world: &World, task: &str) {
    waiting(world, task);
    let marker = world.marker(task);
    let (key, base) =
        (marker["key"].as_str().unwrap(), marker["exchange"]["base"].as_str().unwrap());
    let claim = world.commit_there(base, r#"{"version":1,"claim":"x","host":"h"}"#);
    git(&world.exchange(), ["update-ref", &format!("refs/ccl/{key}/run"), &claim]);
    world.ray.set(marker["job_id"].as_str().unwrap(), "FAILED", None);
}

fn words<'a>(scene: &Scene, task: &'a str) -> Vec<&'a str> {
    scene.pass.iter().map(|word| if *word == "T" { task } else { *word }).collect()
}

/// Brings the task to its end by ordinary passes, and asks what became of it.
#[track_caller]
fn go_on(world: &World, scene: &Scene, task: &str, when: &str) {
    let place = format!("{}/{task}", scene.place);
    let mut last = String::new();
    let mut passes: Vec<Vec<&str>> = vec![vec!["scan"], vec!["reap"]];
    if scene.pass[0] == "cancel" {
        // A person who is not told that it worked does it again.
        passes = vec![words(scene, task), vec!["reap"]];
    }
    wait_until(&format!("{when}: {task} gets to {place}"), LONG, || {
        for pass in &passes {
            if pass[0] != "cancel" || world.project.task_places(task) != [place.as_str()] {
                last = said(&world.run(pass));
            }
        }
        world.project.task_places(task) == [place.as_str()] && world.is_clean()
    });
    let stem = task.strip_suffix(".md").unwrap();
    let runs = fs::read_to_string(world.node().join("runs")).unwrap_or_default();
    assert_eq!(runs.matches(&format!("[{task}]")).count(), scene.agents, "{when}: {last}");
    let branches =
        world.project.git(["branch", "--list", &format!("ccl/{stem}"), &format!("ccl/{stem}.*")]);
    assert_eq!(branches.lines().count(), scene.agents, "{when}: {branches}");
    // The same jobs again find nothing to work on.
    for job in world.ray.jobs().values().filter(|job| job.body["metadata"]["task"] == task) {
        let late = world.worker().command(&job.entrypoint()).status().unwrap();
        assert_eq!(late.code(), Some(75), "{when}");
    }
    world.ray.forget_all();
}

/// Kills the scene's pass at calls of each kind.
fn play(scene: &Scene, at_least: usize) {
    disturb(scene, "signal=SIGKILL", at_least);
}

/// Disturbs it in strace's words.
fn disturb(scene: &Scene, action: &str, at_least: usize) {
    let world = World::with_agent(AGENT).runs();
    let before = world.checkout();
    let step = if is_long() { 1 } else { 4 };
    let mut faults = 0;
    for (first, syscall) in CALLS.into_iter().enumerate() {
        // A disk's error has no meaning for a connection.
        if action.contains("ENOSPC") && matches!(syscall, "sendto" | "recvfrom") {
            continue;
        }
        let first = if is_long() { 1 } else { 1 + first % 2 };
        for nth in (first..).step_by(step) {
            let task = format!("{syscall}-{nth}.md");
            let when = format!("{:?}, {action} at {syscall} {nth}", scene.pass);
            world.project.drop_task(&task, TASK);
            (scene.prepare)(&world, &task);
            let nth = u32::try_from(nth).unwrap();
            let fault = Fault { syscall, nth, action, from_then_on: false };
            let output = pass_with(&world.sandbox, &words(scene, &task), fault, &[]);
            let has_happened = was_killed(output.status) || was_injected(&world.sandbox);
            go_on(&world, scene, &task, &when);
            if !has_happened {
                break;
            }
            faults += 1;
        }
    }
    assert_eq!(world.checkout(), before);
    assert!(faults >= at_least, "only {faults} faults");
}

/// Kills the pass as it calls git for the nth time, or that very git.
fn play_git(scene: &Scene, at_least: usize) {
    let mut kills = 0;
    for victim in ["$PPID", "$$"] {
        let mut world = World::with_agent(AGENT).runs();
        let before = world.checkout();
        let count = world.sandbox.path().join("count");
        let path = instead_of_git(world.sandbox.path(), |git| {
            format!(
                "#!/bin/sh\necho >>{0}\n[ \"$(wc -l <{0})\" != \"$CCL_TEST_KILL\" ] || kill -9 {victim}\nexec {git} \"$@\"\n",
                count.display()
            )
        });
        let plain = std::env::var_os("PATH").unwrap();
        for nth in 1.. {
            let task = format!("git-{nth}.md");
            let when = format!("{:?} with kill {victim} at git {nth}", scene.pass);
            world.project.drop_task(&task, TASK);
            world.sandbox.env("PATH", &plain);
            (scene.prepare)(&world, &task);
            let _ = fs::remove_file(&count);
            world.sandbox.env("PATH", &path);
            world.sandbox.env("CCL_TEST_KILL", nth.to_string());
            let output = world.run(&words(scene, &task));
            let calls = fs::read_to_string(&count).map_or(0, |text| text.lines().count());
            world.sandbox.env("PATH", &plain);
            go_on(&world, scene, &task, &when);
            let _ = output;
            if calls < nth {
                break;
            }
            kills += 1;
        }
        assert_eq!(world.checkout(), before);
    }
    assert!(kills >= at_least, "only {kills} kills");
}

#[test]
fn scan_that_submits() {
    play(&SUBMITS, 8);
}

#[test]
fn reap_that_files() {
    play(&FILES, 8);
}

#[test]
fn reap_that_takes_back() {
    play(&TAKES_BACK, 8);
}

#[test]
fn reap_that_begins_anew() {
    play(&BEGINS_ANEW, 4);
}

#[test]
fn cancel() {
    play(&CANCELS, 7);
}

#[test]
fn every_git_of_a_submission() {
    play_git(&SUBMITS, 10);
}

#[test]
fn every_git_of_a_filing() {
    play_git(&FILES, 16);
}

#[test]
fn every_git_of_what_is_taken_back_and_begun_anew() {
    play_git(&TAKES_BACK, 10);
    play_git(&BEGINS_ANEW, 4);
}

#[test]
fn a_full_disk_under_a_submission_and_under_a_filing() {
    disturb(&SUBMITS, "error=ENOSPC", 6);
    disturb(&FILES, "error=ENOSPC", 6);
}
