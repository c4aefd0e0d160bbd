//! The runner by itself: one of many, killed at every moment.

use std::fs;

use crate::support::git::git;
use crate::support::{wait_until, write_program};
use crate::world::{AGENT, LONG, Runner, TASK, World};

fn submitted(world: &World) -> (String, String) {
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();
    (id, job.entrypoint())
}

#[test]
fn twenty_runners_with_one_key_are_one_agent() {
    let world = World::new();
    let (id, entrypoint) = submitted(&world);
    let mut runners: Vec<Runner> = (0..20).map(|_| Runner::start(&world, &entrypoint)).collect();
    let codes: Vec<Option<i32>> = runners.iter_mut().map(Runner::wait).collect();
    assert_eq!(world.agents(), 1);
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(75)).count(), 19, "{codes:?}");
    world.ray.set(&id, "SUCCEEDED", None);
    world.converge("a.md", "done/a.md");
}

/// SIGKILL to the runner's whole group before each of its calls of git, and in the middle of its agent: the work is done
/// once, or given up, and never twice.
#[test]
fn a_runner_that_is_killed_anywhere_costs_no_second_agent() {
    let mut kills = 0;
    for nth in 1.. {
        let world = World::new();
        let (id, entrypoint) = submitted(&world);
        let mut worker = world.worker();
        let bin = world.node().join("bin");
        fs::create_dir(&bin).unwrap();
        let count = world.node().join("count");
        write_program(
            &bin.join("git"),
            &format!(
                "#!/bin/sh\necho >>{count}\n[ \"$(wc -l <{count})\" != {nth} ] || kill -9 0\nPATH=${{PATH#*:}}\nexec git \"$@\"\n",
                count = count.display()
            ),
        );
        let path = std::env::var("PATH").unwrap();
        worker.env.insert("PATH".into(), format!("{}:{path}", bin.display()).into());
        let status = worker.command(&entrypoint).status().unwrap();
        let was_killed = status.code().is_none();
        kills += usize::from(was_killed);
        world.ray.set(&id, if was_killed { "FAILED" } else { "SUCCEEDED" }, None);
        // Ray has restarted it, which it never does: it is another one with the same key.
        let again = world.worker().command(&entrypoint).status().unwrap();
        world.pass(&["reap"]);
        let places = world.project.task_places("a.md");
        match places[0].as_str() {
            "done/a.md" => {}
            "failed/a.md" => {
                let reason = world.ending("failed/a.md")["reason"].to_string();
                assert!(reason.contains("has handed nothing in"), "{nth}: {reason}");
            }
            // Nobody had begun.
            "inbox/a.md" => {
                world.ray.run_jobs(world.worker());
                world.converge("a.md", "done/a.md");
            }
            other => panic!("{nth}: {other}"),
        }
        assert!(world.agents() <= 1, "{nth}: {} agents, {again}", world.agents());
        assert!(places[0] != "done/a.md" || world.agents() == 1, "{nth}");
        if !was_killed {
            break;
        }
    }
    assert!(kills >= 15, "only {kills} kills");
}

/// Its exchange is away when it has something to hand in.
#[test]
fn a_runner_waits_for_its_exchange_and_loses_nothing() {
    let world =
        World::with_agent(&format!("{AGENT}until [ -e \"$HOME/go\" ]; do sleep 0.02; done\n"));
    let (id, entrypoint) = submitted(&world);
    let mut runner = Runner::start(&world, &entrypoint);
    wait_until("the agent", LONG, || world.node().join("pwd").exists());
    let elsewhere = world.sandbox.path().join("elsewhere.git");
    fs::rename(world.exchange(), &elsewhere).unwrap();
    // A tool that says when the first attempt was made is git itself, which has gone by then: its pause follows.
    fs::write(world.node().join("go"), "").unwrap();
    wait_until("a pause of the runner", LONG, || is_asleep(runner.group()));
    fs::rename(&elsewhere, world.exchange()).unwrap();
    assert_eq!(runner.wait(), Some(0));
    world.ray.set(&id, "SUCCEEDED", None);
    world.converge("a.md", "done/a.md");
    git(world.project.root(), ["rev-parse", "ccl/a"]);
}

/// Whether a process of the group is `sleep 2` or a longer one.
fn is_asleep(group: i32) -> bool {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().into_string().ok());
    let mut processes = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    processes.any(|pid| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let of_group =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2).map(str::to_owned));
        let words = read("cmdline");
        of_group == Some(group.to_string())
            && words.starts_with(b"sleep\0")
            && !words.ends_with(b"\x000\0")
    })
}
