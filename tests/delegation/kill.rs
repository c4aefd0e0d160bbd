//! `ccl` is ended with SIGKILL at every system call that changes a file or talks to the server;
//! ordinary passes then bring the task to its end. There is one job of it, whatever was killed.

use std::fs;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::pool::{Binary, jobs_of};
use crate::secutools_server::{SecutoolsServer, Step};
use crate::support::faults::{Fault, World, is_long, pass_with, was_injected, was_killed};
use crate::world::{KEY, TASK};

const CALLS: [&str; 11] = [
    "mkdir",
    "flock",
    "write",
    "fchmod",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "sendto",
    "recvfrom",
];
const WORKERS: usize = 4;

const KILL: &str = "signal=SIGKILL";

fn fault<'a>(syscall: &'a str, nth: u32, action: &'a str) -> Fault<'a> {
    Fault { syscall, nth, action, from_then_on: false }
}

/// Works on each kind of call, some at a time, each worker in a world of its own.
fn for_each_call<W>(make: impl Fn() -> W + Sync, work: impl Fn(&W, &'static str) + Sync) {
    let calls = Mutex::new(CALLS.into_iter());
    let next = || calls.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let world = make();
                while let Some(syscall) = next() {
                    work(&world, syscall);
                }
            });
        }
    });
}

fn finishing() -> Binary {
    let world = Binary::new();
    world.server.auto_finish(1, "ok", Value::Null);
    world
}

/// Kills `pass` at each call of each kind in turn, each time with a new task that `prepare` has
/// brought to where the pass finds it, and then brings it to `place`.
fn play(pass: &str, at_least: u32, place: &str, prepare: fn(&Binary, &str)) {
    play_with(KILL, pass, at_least, place, prepare);
}

/// The same, with any action instead of the kill.
fn play_with(action: &str, pass: &str, at_least: u32, place: &str, prepare: fn(&Binary, &str)) {
    let kills = AtomicU32::new(0);
    for_each_call(finishing, |world, syscall| {
        // A disk's error has no meaning for a connection.
        if action != KILL && matches!(syscall, "sendto" | "recvfrom") {
            return;
        }
        for nth in 1.. {
            let task = format!("{syscall}-{nth}.md");
            let when = format!("{pass}, {action} at {syscall} {nth}");
            world.project.drop_task(&task, TASK);
            prepare(world, &task);
            let output = pass_with(&world.sandbox, &[pass], fault(syscall, nth, action), &[]);
            let has_happened = was_killed(output.status) || was_injected(&world.sandbox);
            world.assert_once(&task, &when);
            assert_a_job_is_remembered(world, &task, &when);
            world.converge(&task, &place.replace('T', &task), &when);
            assert_eq!(jobs_of(&world.server, &task), 1, "{when}");
            if !has_happened {
                return;
            }
            kills.fetch_add(1, Ordering::SeqCst);
        }
    });
    let kills = kills.into_inner();
    assert!(kills >= at_least, "only {kills} kills");
}

/// Where the server has a job, the marker says that there is or may be one, or the task is filed.
fn assert_a_job_is_remembered(world: &Binary, task: &str, when: &str) {
    let marker = world.project.queue("inbox").join(format!("{task}.delegated"));
    if jobs_of(&world.server, task) == 0
        || !world.project.task_places(task)[0].starts_with("inbox/")
    {
        return;
    }
    let marker: Value = serde_json::from_str(&fs::read_to_string(marker).unwrap()).unwrap();
    assert!(marker["phase"] == "submitted" || marker["ambiguous"] == true, "{when}: {marker}");
}

#[test]
fn scan_that_submits() {
    play("scan", 15, "done/T", |_, _| {});
}

#[test]
fn scan_that_submits_again_what_the_server_had_put_off() {
    play("scan", 16, "done/T", put_off);
}

/// What was given up stays so, and nobody works on it.
#[test]
fn a_filing_that_was_cut_off_is_finished_and_not_submitted_again() {
    let world = finishing();
    world.project.drop_task("a.md", TASK);
    put_off(&world, "a.md");
    let marker = world.project.queue("inbox").join("a.md.delegated");
    let left = fs::read(&marker).unwrap();
    world.pass(&["cancel", "a"]);
    // As a kill leaves it: the copy is filed, task and marker are still there.
    world.project.drop_task("a.md", TASK);
    fs::write(&marker, left).unwrap();
    world.converge("a.md", "failed/a.md", "cut off");
    assert_eq!(jobs_of(&world.server, "a.md"), 0);
}

/// Leaves a marker of a submission that the server has put off, and whose time has come again.
fn put_off(world: &Binary, task: &str) {
    let later = || Step::status(503);
    world.server.script([later(), later(), later()]);
    world.pass(&["scan"]);
    let inbox = world.project.queue("inbox");
    let path = inbox.join(format!("{task}.delegated"));
    let mut marker: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(marker["ambiguous"], false);
    marker["not_before"] = json!("2020-01-01T00:00:00Z");
    fs::write(&path, marker.to_string()).unwrap();
}

#[test]
fn reap_that_files_what_is_done() {
    play("reap", 13, "done/T", |world, _| {
        world.pass(&["scan"]);
    });
}

#[test]
fn reap_that_files_what_has_failed() {
    play("reap", 13, "failed/T", |world, task| {
        world.pass(&["scan"]);
        let job = world.server.jobs().last().unwrap().id.clone();
        assert_eq!(jobs_of(&world.server, task), 1);
        // Instead of succeeding by itself.
        world.server.fail(&job, "No", "memory");
        world.server.auto_finish(usize::MAX, "", Value::Null);
    });
}

/// The same in trouble of several kinds: of all kinds with `CCL_TEST_LONG=1`.
fn starve(pass: &str, some: &[&str], at_least: u32, prepare: fn(&Binary, &str)) {
    const ALL: &[&str] = &["ENOSPC", "EIO", "EROFS", "EACCES", "EMFILE", "ENOLCK"];
    for errno in if is_long() { ALL } else { some } {
        play_with(&format!("error={errno}"), pass, at_least, "done/T", prepare);
    }
}

#[test]
fn a_scan_with_a_full_disk() {
    starve("scan", &["ENOSPC", "EACCES"], 12, |_, _| {});
}

#[test]
fn a_reap_with_a_failing_disk() {
    starve("reap", &["EIO", "EROFS"], 10, |world, _| {
        world.pass(&["scan"]);
    });
}

/// A session takes what the server has refused. Whatever is killed on the way, there is one job or
/// one run, and never both.
#[test]
fn scan_that_falls_back_to_a_session() {
    let kills = AtomicU32::new(0);
    let make = || {
        let mut world = World::new();
        let server = SecutoolsServer::start();
        server.auto_finish(1, "ok", Value::Null);
        world.sandbox.env("SECUTOOLS_API_KEY", KEY);
        world.sandbox.env("SECUTOOLS_URL", server.url());
        world.go(true);
        (world, server)
    };
    for_each_call(make, |(world, server), syscall| {
        for nth in 1.. {
            let task = format!("{syscall}-{nth}.md");
            let when = format!("killed at {syscall} {nth}");
            world.project.drop_task(&task, TASK);
            server.otherwise(Step::status(422));
            let output = world.pass_with(&["scan"], fault(syscall, nth, KILL));
            server.otherwise(Step::Behave);
            world.assert_once(&task, &when);
            world.converge(&task, &when);
            let jobs = jobs_of(server, &task);
            assert_eq!(jobs + world.runs(&task), 1, "{when}");
            if !was_killed(output.status) {
                return;
            }
            kills.fetch_add(1, Ordering::SeqCst);
        }
    });
    let kills = kills.into_inner();
    assert!(kills >= 25, "only {kills} kills");
}

const TASKS: usize = 40;

/// Starts a pass over many tasks, kills it when `is_far_enough`, and lets ordinary passes end them.
fn kill_in_the_middle(world: &Binary, pass: &str, is_far_enough: impl Fn() -> bool) {
    let mut ccl = world.sandbox.std_ccl();
    ccl.arg("--config").arg(world.sandbox.config_file()).arg(pass);
    ccl.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut ccl: Child = ccl.spawn().unwrap();
    while !is_far_enough() && ccl.try_wait().unwrap().is_none() {
        thread::yield_now();
    }
    ccl.kill().unwrap();
    ccl.wait().unwrap();
    for _ in 0..3 {
        world.pass(&["scan"]);
        world.pass(&["reap"]);
    }
    assert_eq!(filed(world), TASKS);
    assert_eq!(world.server.jobs().len(), TASKS);
    let left = world.project.inbox();
    assert!(left.iter().all(|name| is_temporary(name)), "{left:?}");
}

/// What a killed pass leaves for a day.
fn is_temporary(name: &str) -> bool {
    name.starts_with(".ccl-")
}

fn filed(world: &Binary) -> usize {
    let done = world.project.done();
    done.iter().filter(|name| !is_temporary(name)).count()
}

fn many() -> Binary {
    let world = finishing();
    for number in 0..TASKS {
        world.project.drop_task(format!("T{number}.md"), TASK);
    }
    world
}

#[test]
fn a_scan_of_many_tasks_killed_in_the_middle() {
    for far in [1, 2, 9, 25, TASKS] {
        let world = many();
        kill_in_the_middle(&world, "scan", || world.server.requests().len() >= far);
    }
}

#[test]
fn a_reap_of_many_jobs_killed_in_the_middle() {
    for far in [1, 2, 9, 25, TASKS] {
        let world = many();
        world.pass(&["scan"]);
        kill_in_the_middle(&world, "reap", || filed(&world) >= far);
    }
}
