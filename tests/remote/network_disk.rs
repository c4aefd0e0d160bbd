//! What a queue on a network file system needs, seen without one.

use std::fs;

use serde_json::json;

use crate::ray_server::{Answer, Step};
use crate::support::faults::traced;
use crate::world::{TASK, World};

/// A marker whose submission is due again.
fn due(world: &World) {
    world.project.drop_task("a.md", TASK);
    world.ray.script([Step::Say(Answer::new(500, "Traceback"))]);
    world.pass(&["scan"]);
    let path = world.project.queue("inbox").join("a.md.delegated");
    let mut marker = world.marker("a.md");
    marker["not_before"] = json!("2020-01-01T00:00:00Z");
    fs::write(&path, marker.to_string()).unwrap();
}

/// NFS locks only descriptors that are open for writing.
#[test]
fn a_marker_that_is_locked_is_open_for_writing() {
    let world = World::new();
    due(&world);
    let trace = traced(&world.sandbox, &["scan"], &["openat", "open", "flock"]);
    let lines: Vec<&str> = trace.lines().collect();
    let locked = lines.iter().enumerate().filter(|(_, line)| line.contains(" flock("));
    let mut markers = 0;
    for (at, line) in locked {
        let descriptor = line.split("flock(").nth(1).unwrap().split(',').next().unwrap();
        let opened = lines[..at].iter().rev().find(|it| it.ends_with(&format!("= {descriptor}")));
        let opened = opened.unwrap();
        assert!(opened.contains("O_RDWR"), "{opened}");
        markers += usize::from(opened.contains("a.md.delegated"));
    }
    assert!(markers > 0, "{trace}");
}

/// There names are stale, also under a lock, until the directory is opened.
#[test]
fn the_inbox_is_opened_once_its_lock_is_held() {
    let world = World::new();
    due(&world);
    let calls = ["openat", "open", "flock", "rename", "renameat2", "unlink"];
    let trace = traced(&world.sandbox, &["scan"], &calls);
    let mut held = 0;
    let lines: Vec<&str> = trace.lines().collect();
    for (at, line) in
        lines.iter().enumerate().filter(|(_, line)| line.contains("/.agent-queue/.lock\""))
    {
        let descriptor = line.rsplit("= ").next().unwrap();
        let after = &lines[at..];
        let locked =
            after.iter().position(|it| it.contains(&format!("flock({descriptor},"))).unwrap();
        let next = after[locked + 1..].iter().find(|it| !it.contains("flock("));
        let next = next.unwrap();
        assert!(
            next.contains("/.agent-queue/inbox\"") && next.contains("O_DIRECTORY"),
            "{next}\n{trace}"
        );
        held += 1;
    }
    assert!(held > 0, "{trace}");
}

#[test]
fn doctor_names_the_file_system_of_a_queue() {
    let world = World::new();
    let said = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    let line = said.lines().find(|line| line.contains(" disk ")).unwrap();
    assert!(line.contains("1 queue(s), such as") && line.contains("/web, on "), "{line}");
}
