//! Which tasks go to the remote engine.

use std::fs;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::{TASK, World};

/// What `decide` says of a task in the inbox.
fn decide(world: &World, task: &str) -> Value {
    let file = world.project.queue("inbox").join(task);
    world.sandbox.ccl_json(&["decide", file.to_str().unwrap()])["decisions"][0].clone()
}

#[test]
fn without_the_section_and_with_needs_claude_code_it_stays_here() {
    let mut world = World::new();
    world.project.drop_task("a.md", TASK.replace("remote\n", "remote\nneeds_claude_code: true\n"));
    assert_eq!(decide(&world, "a.md")["provider"], "claude-code");
    world.project.drop_task("a.md", TASK);
    let decision = decide(&world, "a.md");
    assert_eq!((&decision["provider"], &decision["delegated"]), (&json!("remote"), &json!(true)));
    let hint = "---\nallow_delegation: true\ncomplexity_hint: medium\n---\nDo it.\n";
    world.sandbox.config("routing", json!({"auto": {"medium": "remote"}}));
    world.project.drop_task("a.md", hint);
    let decision = decide(&world, "a.md");
    assert_eq!((&decision["provider"], &decision["rule"]), (&json!("remote"), &json!("auto")));

    world.sandbox.config("remote", Value::Null);
    let decision = decide(&world, "a.md");
    assert_eq!(decision["delegated"], json!(false));
    assert!(decision["warnings"].to_string().contains("there is no `remote:`"), "{decision}");
    // It waits for a session; there is no tmux here.
    world.run(&["scan"]);
    assert_eq!(world.project.inbox(), ["a.md"]);
    assert!(world.ray.requests().is_empty() && world.refs().is_empty());
}

#[test]
fn a_task_that_goes_to_ray_waits_for_its_time_and_for_other_tasks() {
    let world = World::new();
    let task = |more: &str| TASK.replacen("---\n", &format!("---\n{more}\n"), 1);
    world.project.drop_task("early.md", task("not_before: 9999-12-31 23:59"));
    world.project.drop_task("behind.md", task("depends_on: [first.md]"));
    world.project.drop_task("bad.md", task("not_before: soon"));
    let said = world.pass(&["scan"]);
    assert!(said.contains("held        bad.md") && !said.contains("→ remote"), "{said}");
    assert_eq!(world.project.inbox(), ["bad.md", "behind.md", "early.md"]);
    assert!(world.ray.jobs().is_empty() && world.refs().is_empty());
    assert_eq!(decide(&world, "behind.md")["waits"], "there is no first.md");
    let early = decide(&world, "early.md")["waits"].clone();
    assert!(early.as_str().unwrap().starts_with("until 9999-12-30"), "{early}");
    fs::write(world.project.queue("done").join("first.md"), "x").unwrap();
    let said = world.pass(&["scan"]);
    assert!(said.contains("behind.md") && said.contains("→ remote"), "{said}");
    let (_, job) = world.ray.only_job();
    assert_eq!(job.body["metadata"]["task"], "behind.md");
    assert_eq!(world.project.inbox().len(), 4, "two tasks, and one with its marker");
}

/// `secutools` in `failover` means the provider that the hint names, which may be the cluster; secutools' budget is nothing to
/// that.
#[test]
fn while_no_agent_of_this_machine_can_be_waited_for_the_hint_may_name_the_cluster() {
    let mut world = World::new();
    world
        .sandbox
        .config("agents", json!({"claude": {"api_key_file": "/no/such/key", "hooks": false}}));
    world.sandbox.config("agent", Value::Null);
    world.sandbox.config("failover", json!(["claude", "secutools"]));
    world.sandbox.config("routing", json!({"auto": {"medium": "remote"}}));
    let budget = json!({"url": "http://127.0.0.1:9", "budget": {"per_day": "2 EUR"}});
    world.sandbox.config("secutools", budget);
    world.sandbox.env("SECUTOOLS_API_KEY", "sk-made-up");
    let spent = json!({
        "run": "6f1c2a34-9d0e-4c55-8a77-1b2c3d4e5f60", "agent": "secutools", "task": "/p/x.md",
        "cost": {"amount": "2.5", "currency": "EUR"},
    });
    let directory = world.sandbox.state_dir().join("spend");
    fs::create_dir_all(&directory).unwrap();
    // Midnight may come while the test runs.
    for hours in [0, 24] {
        let moment = Timestamp::now() + SignedDuration::from_hours(hours);
        let day = TimeZone::system().to_datetime(moment).date();
        fs::write(directory.join(format!("{day}.jsonl")), format!("{spent}\n")).unwrap();
    }
    let task = |hint: &str| {
        format!(
            "---\nallow_delegation: true\npreferred_ai: claude-code\ncomplexity_hint: {hint}\n---\nDo it.\n"
        )
    };
    world.project.drop_task("a.md", task("medium"));
    world.project.drop_task("b.md", task("low"));
    let decision = decide(&world, "a.md");
    assert_eq!((&decision["provider"], &decision["rule"]), (&json!("remote"), &json!("failover")));
    let decision = decide(&world, "b.md");
    assert_eq!(decision["provider"], "claude-code", "{decision}");
    world.run(&["scan"]);
    assert_eq!(world.ray.jobs().len(), 1);
    assert_eq!(world.marker("a.md")["rule"], "failover");
    assert!(!world.project.queue("inbox").join("b.md.delegated").exists());
}
