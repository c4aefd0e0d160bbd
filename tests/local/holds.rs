//! Holds in trouble: what they must not stop, who must not lift them, and which task finds out whether they have ended.

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::agents::{hold_file, hold_of, let_it_end};
use super::support::program::write_program;
use super::world::{World, ending};

/// An agent that says of tasks with `limit` in their text that it is at its limit, while `at-limit` is in the home of all.
fn world(max: usize, more: Value) -> World {
    let world = World::new(max, |builder| builder);
    let program = world.sandbox.path().join("codex");
    let script = "#!/bin/sh\ncase $1 in *limit*) echo 'usage limit reached'; exit 1;; esac\n\
                  [ ! -e ~/at-limit ] || { echo 'usage limit reached'; exit 1; }\n";
    write_program(&program, script);
    let mut agent = json!({"kind": "command", "command": [program], "limit": "usage limit"});
    for (key, value) in more.as_object().unwrap() {
        agent[key] = value.clone();
    }
    world.with("agents", json!({"codex": agent}))
}

fn write_hold(world: &World, agent: &str, cause: &str, model: Option<&str>) {
    let now = Timestamp::now();
    let hold = json!({
        "version": 1, "host": "h", "at": now, "until": now + SignedDuration::from_hours(2), "model": model,
        "cause": cause, "reason": "the limit", "since": now, "tries": 1, "has_reset": true,
    });
    let name = model.map_or_else(|| agent.to_owned(), |model| format!("{agent}@{model}"));
    fs::create_dir_all(world.sandbox.state_dir().join("agents")).unwrap();
    fs::write(hold_file(world, &name), hold.to_string()).unwrap();
}

fn decision(world: &World, file: &Path) -> Value {
    world.sandbox.ccl_json(&["decide", file.to_str().unwrap()])["decisions"][0].clone()
}

#[test]
fn a_task_that_looks_like_a_limit_does_not_keep_the_others_from_going() {
    let world = world(1, json!({}));
    let project = world.project("web");
    project.drop_task("a.md", "---\npriority: high\n---\nMend the rate limiter.\n");
    project.drop_task("b.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["released a.md ccl-auto-0", "hold codex"]);
    // It goes once more, as the first of all, to see whether the limit has ended.
    let_it_end(&world, "codex");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["released a.md ccl-auto-0", "hold codex"]);
    // Then it is another one's turn, which has an answer.
    let_it_end(&world, "codex");
    assert_eq!(world.scan(), ["dispatched b.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["resumed codex", "done b.md ccl-auto-0"]);
    assert_eq!(ending(&project, "inbox/a.md")["attempt"], 0);
    // Alone it is the probe again, or it would wait for ever.
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    for _ in 0..2 {
        world.wait_for_exit("ccl-auto-0");
        world.pass(&["reap"]);
        let_it_end(&world, "codex");
        assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    }
}

#[test]
fn a_hold_that_cannot_be_read_keeps_nothing_from_being_filed() {
    let world = world(2, json!({}));
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    project.drop_task("b.md", "Mend the limiter.\n");
    assert_eq!(world.scan().len(), 2);
    world.wait_for_exit("ccl-auto-0");
    world.wait_for_exit("ccl-auto-1");
    fs::create_dir_all(world.sandbox.state_dir().join("agents")).unwrap();
    fs::write(hold_file(&world, "codex"), "{ nonsense").unwrap();
    let mut events = world.pass(&["reap"]);
    events.sort();
    assert_eq!(events, ["done a.md ccl-auto-0", "released b.md ccl-auto-1"]);
    assert_eq!(fs::read_to_string(hold_file(&world, "codex")).unwrap(), "{ nonsense");
    assert_eq!(world.ccl(&["scan"]).code, 1);
    assert_eq!(world.pass(&["resume"]), ["resumed codex"]);
    assert_eq!(world.scan(), ["dispatched b.md ccl-auto-0"]);
}

#[test]
fn decide_says_that_a_task_that_was_a_probe_before_lets_another_go_first() {
    let world = world(1, json!({}));
    let project = world.project("web");
    let [a, b] = ["a.md", "b.md"].map(|name| project.drop_task(name, "Do it.\n"));
    write_hold(&world, "codex", "limit", None);
    let_it_end(&world, "codex");
    let mut hold = hold_of(&world, "codex");
    hold["refused"] = json!([project.root().join("a.md")]);
    fs::write(hold_file(&world, "codex"), hold.to_string()).unwrap();
    let waits = decision(&world, &a)["waits"].clone();
    assert!(waits.as_str().is_some_and(|it| it.contains("another task goes first")), "{waits}");
    assert_eq!(decision(&world, &b)["agent"], "codex");
    assert_eq!(world.pass(&["scan", "--dry-run"]), ["dispatched b.md ccl-auto-0"]);
}

#[test]
fn a_set_up_that_fails_is_no_answer_of_the_agent() {
    let world = world(1, json!({}));
    let project = world.project("web");
    project.init_git();
    let rules = project.root().join(".agent-queue/project.yaml");
    fs::write(&rules, "isolation: worktree\nsetup: exit 3\n").unwrap();
    write_hold(&world, "codex", "limit", None);
    let_it_end(&world, "codex");
    project.drop_task("a.md", "Do it.\n");
    // The pass may see itself that it fails, or a later one.
    world.scan();
    world.tmux.wait_until("the task is back", || {
        world.pass(&["reap"]);
        project.task_places("a.md") == ["inbox/a.md"]
    });
    assert!(hold_file(&world, "codex").exists());
    assert_eq!(ending(&project, "inbox/a.md")["attempt"], 0);
}

#[test]
fn an_end_whose_window_is_gone_counts_as_no_attempt_where_it_may_be_a_limit() {
    let world = world(1, json!({})).with("dispatcher", json!({"max_attempts": 1}));
    let project = world.project("web");
    project.drop_task("a.md", "Mend the limiter.\n");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    world.tmux.run(&["kill-server"]);
    world.pass(&["reap"]);
    let end = ending(&project, "inbox/a.md");
    assert_eq!((&end["outcome"], &end["attempt"]), (&json!("released"), &json!(0)), "{end}");
    assert!(end["reason"].as_str().unwrap().contains("its window is gone"), "{end}");
}

#[test]
fn one_project_that_is_resumed_lifts_the_holds_of_no_agent() {
    let world = world(1, json!({}));
    let project = world.project("web");
    write_hold(&world, "codex", "account", None);
    let root = project.root().to_str().unwrap();
    assert_eq!(world.pass(&["resume", "--project", root]), [""; 0]);
    assert!(hold_file(&world, "codex").exists());
    assert_eq!(world.pass(&["resume"]), ["resumed codex"]);
}

#[test]
fn a_pin_and_the_model_of_a_task_decide_whether_secutools_takes_over() {
    let mut world = World::new(1, |builder| builder)
        .with("agents", json!({"claude": {}, "codex": {"kind": "command", "command": ["true"]}}))
        .with("failover", json!(["claude", "secutools"]))
        .with("secutools", json!({"url": "http://127.0.0.1:9"}));
    world.sandbox.env("SECUTOOLS_API_KEY", "sk-made-up");
    let (web, pinned) = (world.project("web"), world.project("pinned"));
    fs::write(pinned.root().join(".agent-queue/project.yaml"), "agent: codex\n").unwrap();
    let header = "allow_delegation: true\npreferred_ai: claude-code\ncomplexity_hint: low\n";
    let rule = |file: &Path| decision(&world, file)["rule"].as_str().unwrap().to_owned();
    let task = format!("---\n{header}---\nDo it.\n");
    web.drop_task("t.md", &task);
    pinned.drop_task("t.md", &task);
    web.drop_task("opus.md", format!("---\n{header}model: opus\n---\nDo it.\n"));
    web.drop_task("nobody.md", format!("---\n{header}agent: nobody\n---\nDo it.\n"));
    let inbox = web.queue("inbox");
    write_hold(&world, "claude", "limit", Some("opus"));
    assert_eq!(rule(&inbox.join("t.md")), "preferred-claude-code");
    assert_eq!(rule(&inbox.join("opus.md")), "failover");
    write_hold(&world, "claude", "limit", None);
    assert_eq!(rule(&inbox.join("t.md")), "failover");
    assert_eq!(rule(&inbox.join("nobody.md")), "failover");
    let row = decision(&world, &pinned.queue("inbox").join("t.md"));
    assert_eq!((&row["rule"], &row["agent"]), (&json!("preferred-claude-code"), &json!("codex")));
    let status = world.sandbox.ccl_json(&["status"]);
    let provider = |project: &Path| {
        let rows = status["tasks"].as_array().unwrap().iter();
        let mut of_it = rows.filter(|row| row["project"] == project.to_str().unwrap());
        let is_it = |row: &&Value| row["name"] == "t.md";
        of_it.find(is_it).unwrap_or_else(|| panic!("{status:#}"))["provider"].clone()
    };
    assert_eq!(provider(web.root()), "gpu");
    assert_eq!(provider(pinned.root()), "claude-code");
}

#[test]
fn decide_says_why_an_agent_has_a_task_and_sends_one_probe() {
    let world = World::new(1, |builder| builder)
        .with("agents", json!({"claude": {}, "codex": {"kind": "command", "command": ["true"]}}))
        .with("failover", json!(["claude", "codex"]));
    let project = world.project("web");
    let files: Vec<String> = ["a.md", "b.md"]
        .map(|name| {
            project.drop_task(name, "Do it.\n");
            project.queue("inbox").join(name).to_str().unwrap().to_owned()
        })
        .into();
    let decide = || {
        let answer = world.sandbox.ccl_json(&["decide", &files[0], &files[1]]);
        answer["decisions"].as_array().unwrap().clone()
    };
    assert_eq!(decide()[0].get("agent_reason"), None);
    write_hold(&world, "claude", "account", None);
    for row in decide() {
        assert_eq!(row["agent"], "codex");
        let reason = row["agent_reason"].as_str().unwrap();
        assert!(reason.starts_with("the agent claude, held until"), "{reason}");
    }
    let_it_end(&world, "claude");
    let rows = decide();
    assert_eq!((&rows[0]["agent"], &rows[1]["agent"]), (&json!("claude"), &json!("codex")));
    let reason = rows[0]["agent_reason"].as_str().unwrap();
    assert_eq!(reason, "it finds out whether this has ended: the limit");
}
