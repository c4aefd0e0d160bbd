//! What a project says of its tasks, `.agent-queue/project.yaml`: how many agents may be at work in it.

use std::fs;

use serde_json::{Value, json};

use super::support::Project;
use super::world::{HOLDS, World};

fn say(project: &Project, rules: &str) {
    fs::write(project.root().join(".agent-queue/project.yaml"), rules).unwrap();
}

/// A world in which nothing is said of `parallel`.
fn unsaid(max: usize) -> World {
    World::commands(max).with("defaults", Value::Null)
}

fn task_row(world: &World, name: &str) -> Value {
    let status = world.sandbox.ccl_json(&["status"]);
    let rows = status["tasks"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{status:#}")).clone()
}

#[test]
fn a_project_has_one_agent_at_a_time_and_status_says_whom_the_others_wait_for() {
    let world = unsaid(3);
    let project = world.project("web");
    for name in ["a.md", "b.md", "c.md"] {
        project.drop_task(name, HOLDS);
    }
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["dispatched a.md ccl-auto-0"], "{pass:#?}");
    assert_eq!(pass.free, 2);
    // It waits; it is not held.
    assert_eq!(world.scan(), [""; 0]);
    for name in ["b.md", "c.md"] {
        let row = task_row(&world, name);
        assert_eq!((&row["state"], &row["reason"]), (&json!("waiting"), &Value::Null));
        assert_eq!(row["waits"], "the checkout is in use by a.md");
    }
    assert_eq!(world.sandbox.ccl_json(&["status"])["projects"][0]["parallel"], 1);
    // Another project has a checkout of its own.
    world.project("api").drop_task("d.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched d.md ccl-auto-1"]);
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    world.wait_for_exit("ccl-auto-1");
    let events = world.scan();
    assert!(events.contains(&"dispatched b.md ccl-auto-0".to_owned()), "{events:?}");
    assert_eq!(project.inbox().iter().filter(|name| name.ends_with(".dispatched")).count(), 1);
}

#[test]
fn a_project_says_how_many_agents_may_be_at_work_in_it() {
    let world = unsaid(4);
    let [two, any] = ["two", "any"].map(|name| world.project(name));
    say(&two, "parallel: 2\n");
    say(&any, "parallel: 0\n");
    for project in [&two, &any] {
        for name in ["a.md", "b.md", "c.md"] {
            project.drop_task(name, HOLDS);
        }
    }
    assert_eq!(world.scan().len(), 4);
    let at_work = |project: &Project| {
        project.inbox().iter().filter(|name| name.ends_with(".dispatched")).count()
    };
    assert_eq!((at_work(&two), at_work(&any)), (2, 2));
    two.drop_task("d.md", "Do it.\n");
    let waits = task_row(&world, "d.md")["waits"].clone();
    assert_eq!(waits, "2 agents are at work in the project, as many as may be");
}

/// Twenty passes of two pools at once, each of which sees an empty checkout.
#[test]
fn two_pools_put_one_agent_into_one_checkout() {
    let world = unsaid(4);
    let project = world.project("web");
    for number in 0..20 {
        project.drop_task(format!("{number}.md"), HOLDS);
    }
    let other = world.sandbox.path().join("other-state");
    std::thread::scope(|scope| {
        for pass in 0..20 {
            let mut ccl = world.sandbox.ccl(["scan"]);
            if pass % 2 == 1 {
                ccl.arg("--state-dir").arg(&other);
            }
            scope.spawn(move || ccl.output().unwrap());
        }
    });
    let inbox = project.inbox();
    let at_work = inbox.iter().filter(|name| name.ends_with(".dispatched")).count();
    assert_eq!(at_work, 1, "{inbox:?}");
}

#[test]
fn what_is_wrong_in_it_holds_the_projects_local_tasks_with_file_line_and_key() {
    let world = unsaid(2);
    let [bad, good] = ["bad", "good"].map(|name| world.project(name));
    say(&bad, "parallel: 1\nisolaton: worktree\n");
    bad.drop_task("a.md", "Do it.\n");
    bad.drop_task("b.md", "Do it.\n");
    good.drop_task("c.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    // One event for all of them.
    assert_eq!(pass.short(), ["held - -", "dispatched c.md ccl-auto-0"], "{pass:#?}");
    let file = bad.root().join(".agent-queue/project.yaml");
    let sentence =
        format!("{}:2:1: unknown key `isolaton`; did you mean `isolation`?", file.display());
    assert_eq!(pass.events[0]["reason"], sentence);
    assert_eq!(pass.events[0]["project"].as_str(), bad.root().to_str());
    for name in ["a.md", "b.md"] {
        let row = task_row(&world, name);
        assert_eq!((&row["state"], &row["reason"]), (&json!("held"), &json!(sentence)));
    }
    let task = bad.queue("inbox").join("a.md");
    let out = world.sandbox.ccl(["decide"]).arg(&task).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains(&sentence));
    assert_eq!(bad.inbox(), ["a.md", "b.md"]);
    // A FIFO holds nobody up.
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
    let pass = world.ccl(&["scan"]);
    assert!(pass.reason_of_held().contains("is not a regular file"), "{pass:#?}");
    fs::remove_file(&file).unwrap();
    let events = world.scan();
    assert!(events.iter().any(|event| event.starts_with("dispatched a.md")), "{events:?}");
}

#[test]
fn decide_names_what_would_hold_for_a_task() {
    let world = unsaid(1);
    let project = world.project("web");
    say(&project, "isolation: worktree\nland: rebase\ncheck: make test\n");
    let [plain, other] = [
        project.drop_task("a.md", "Do it.\n"),
        project
            .drop_task("b.md", "---\nisolation: none\nland: nowhere\ncheck: none\n---\nDo it.\n"),
    ];
    let decide = |task: &std::path::Path| {
        world.sandbox.ccl_json(&["decide", task.to_str().unwrap()])["decisions"][0].clone()
    };
    let row = decide(&plain);
    assert_eq!(
        (&row["isolation"], &row["land"], &row["check"]),
        (&json!("worktree"), &json!("rebase"), &json!("make test"))
    );
    let row = decide(&other);
    assert_eq!((&row["isolation"], &row["check"]), (&json!("none"), &Value::Null));
    assert_eq!(row["land"], "rebase");
    let warning = row["warnings"][0].as_str().unwrap();
    assert!(warning.contains("`land` is `nowhere`, not one of none, rebase"), "{warning}");
}
