//! Several passes at once, and one that comes late.

use std::fs;
use std::process::Stdio;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::faults::{Fault, pass_with, said};
use crate::support::git::instead_of_git;
use crate::support::wait::poll;
use crate::support::{Sandbox, wait_until};
use crate::world::{LONG, TASK, World};

/// Notes for whom it works.
const AGENT: &str = "#!/bin/sh\nhead -n 1 >>\"$HOME/runs\"\necho done >one\n";

const TASKS: usize = 12;

/// Nothing is submitted twice, filed twice or lost, whoever makes passes meanwhile.
#[test]
fn passes_at_once_do_everything_once() {
    let world = World::with_agent(AGENT).runs();
    let before = world.checkout();
    let is_over = || world.project.done().len() == TASKS && world.is_clean();
    thread::scope(|scope| {
        for verb in ["scan", "reap", "scan", "reap"] {
            let (world, is_over) = (&world, &is_over);
            scope.spawn(move || {
                wait_until("all tasks are done", LONG, || {
                    let output = world.run(&[verb]);
                    assert!(output.status.success(), "{}", said(&output));
                    is_over()
                });
            });
        }
        for number in 0..TASKS {
            world.project.drop_task(format!("{number}.md"), TASK);
        }
    });
    assert_eq!(world.ray.taken().len(), TASKS);
    assert!(world.ray.taken().values().all(|times| *times == 1), "{:?}", world.ray.taken());
    let runs = fs::read_to_string(world.node().join("runs")).unwrap();
    let events: Vec<Value> =
        world.journal().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for number in 0..TASKS {
        let task = format!("{number}.md");
        assert_eq!(runs.matches(&format!("[{task}]")).count(), 1, "{runs}");
        let of_task = events.iter().filter(|event| event["task"] == task.as_str());
        let of_task: Vec<&str> = of_task.map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(of_task, ["delegated", "done"], "{task}");
        assert_eq!(world.project.task_places(&task), [format!("done/{task}")]);
    }
    let branches = world.project.git(["branch", "--list", "ccl/*"]);
    assert_eq!(branches.lines().count(), TASKS, "{branches}");
    assert_eq!(world.checkout(), before);
}

/// A pass has read the result, or is about to look for one, and stands still; another one files it, or is killed over it.
/// The late one makes no second branch, brings no marker back, and puts nothing at a ref that has gone.
#[test]
fn a_pass_that_comes_late_does_nothing_twice() {
    let cases = [("cat-file blob", false), ("cat-file blob", true), ("ls-remote", false)];
    for (stands_at, is_killed) in cases {
        let (mut world, key, entrypoint) = World::submitted();
        world.worker().command(&entrypoint).output().unwrap();
        world.ray.set(&format!("ccl-{key}"), "SUCCEEDED", None);
        let (late, go) = (world.sandbox.path().join("late"), world.sandbox.path().join("go"));
        let waits = instead_of_git(world.sandbox.path(), |git| {
            format!(
                "#!/bin/sh\ncase \"$*\" in *' {stands_at} '*) : >{}; until [ -e {} ]; do sleep 0.02; done ;; esac\nexec {git} \"$@\"\n",
                late.display(),
                go.display()
            )
        });
        let dies = instead_of_git(&world.node(), |git| {
            format!(
                "#!/bin/sh\n{git} \"$@\"\ncode=$?\ncase \"$*\" in *' update-ref '*) kill -9 $PPID ;; esac\nexit $code\n"
            )
        });
        let mut pass = world.sandbox.std_ccl();
        pass.arg("--config").arg(world.sandbox.config_file()).arg("reap").env("PATH", waits);
        pass.stdout(Stdio::null()).stderr(Stdio::piped());
        let pass = pass.spawn().unwrap();
        wait_until("the pass stands still", LONG, || late.exists());
        if is_killed {
            world.sandbox.env("PATH", dies);
            assert_eq!(world.run(&["reap"]).status.code(), None);
        } else {
            world.pass(&["reap"]);
            assert_eq!(world.project.done(), ["a.md"]);
        }
        fs::write(&go, "").unwrap();
        let output = pass.wait_with_output().unwrap();
        let when = format!("{stands_at}, {is_killed}");
        assert!(output.status.success(), "{when}: {}", said(&output));
        assert_eq!(world.project.task_places("a.md"), ["done/a.md"], "{when}");
        assert!(world.is_clean(), "{when}: {:?} {:?}", world.project.inbox(), world.refs());
        let branches = world.project.git(["branch", "--list", "ccl/*"]);
        assert_eq!(branches.trim(), "ccl/a", "{when}");
    }
}

/// A runner claims in the moment in which a person takes the run away from it.
#[test]
fn a_runner_that_begins_as_a_person_cancels_is_named_and_loses_the_run_the_next_time() {
    let (mut world, key, _) = World::submitted();
    let run = format!("refs/ccl/{key}/run");
    let message = r#"{"version":1,"claim":"x","host":"h"}"#;
    let claim = world.commit_there(&format!("refs/ccl/{key}/base"), message);
    let path = instead_of_git(world.sandbox.path(), |git| {
        format!(
            "#!/bin/sh\ncase \"$*\" in *' --force-with-lease='*) {git} -C {} update-ref {run} {claim} ;; esac\nexec {git} \"$@\"\n",
            world.exchange().display()
        )
    });
    world.sandbox.env("PATH", path);
    let output = world.run(&["cancel", "a"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("its run has just moved in the exchange"), "{}", said(&output));
    assert_eq!(world.refs()[&run], claim);
    world.pass(&["cancel", "a"]);
    assert_eq!(world.ending("failed/a.md")["reason"], "cancelled");
    assert!(world.is_clean());
}

/// A pass submits the task between a person's look at its marker and the lock.
#[test]
fn what_is_submitted_as_a_person_cancels_is_cancelled_at_ray() {
    let world = World::new();
    let elsewhere = world.sandbox.path().join("elsewhere.git");
    fs::rename(world.exchange(), &elsewhere).unwrap();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    fs::rename(&elsewhere, world.exchange()).unwrap();
    let path = world.project.queue("inbox").join("a.md.delegated");
    let mut due = world.marker("a.md");
    assert_eq!(due["exchange"]["is_sent"], false);
    due["not_before"] = "2020-01-01T00:00:00Z".into();
    fs::write(&path, due.to_string()).unwrap();
    // It looks for the engine first, then at how far the task is.
    let fault = Fault { syscall: "close", nth: 2, action: "signal=SIGSTOP", from_then_on: false };
    let only_the_marker = format!("--trace-path={}", path.display());
    let output = thread::scope(|scope| {
        let cancel =
            scope.spawn(|| pass_with(&world.sandbox, &["cancel", "a"], fault, &[&only_the_marker]));
        let stopped = poll(LONG, || stopped_process(&world.sandbox));
        let scanned = world.run(&["scan"]);
        if let Some(process) = stopped {
            kill_process(process, Signal::CONT).unwrap();
        }
        assert!(scanned.status.success(), "{}", said(&scanned));
        cancel.join().unwrap()
    });
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(world.ending("failed/a.md")["reason"], "cancelled");
    assert_eq!(world.ray.only_job().1.status, "STOPPED");
    assert!(world.is_clean());
}

/// The process that a fault has stopped.
fn stopped_process(sandbox: &Sandbox) -> Option<Pid> {
    let trace = fs::read_to_string(sandbox.path().join("trace")).ok()?;
    let line = trace.lines().find(|line| line.contains("stopped by SIGSTOP"))?;
    Pid::from_raw(line.split(' ').next()?.parse().ok()?)
}
