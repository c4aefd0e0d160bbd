//! The agent that a task has, by its header and by its project: its own files, login and trust are what counts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::support::Project;
use super::support::claude_home::{Consent, prepare_home};
use super::support::fake_script::{Behaviour, Ending, Turn};
use super::support::program::write_program;
use super::world::{World, ending};

fn say(project: &Project, rules: &str) {
    fs::write(project.root().join(".agent-queue/project.yaml"), rules).unwrap();
}

#[track_caller]
fn decision(world: &World, project: &Project, task: &str) -> Value {
    let file = project.queue("inbox").join(task);
    world.sandbox.ccl_json(&["decide", file.to_str().unwrap()])["decisions"][0].clone()
}

/// Claude Code, which trusts `web` and `api`, one with a directory of its own, which trusts nothing, and a program.
fn three_agents(max: usize) -> (World, [Project; 2], PathBuf) {
    let world = World::new(max, |builder| builder);
    let projects = ["web", "api"].map(|name| world.project(name));
    let roots = projects.each_ref().map(Project::root);
    prepare_home(&world.sandbox.home(), &roots, Consent::default());
    let other = world.sandbox.home().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join(".claude.json"), r#"{"projects": {}}"#).unwrap();
    let program = world.sandbox.path().join("codex");
    write_program(&program, "#!/bin/sh\n");
    let agents = json!({
        "claude": {"hooks": false},
        "other": {"hooks": false, "config_dir": other},
        "codex": {"kind": "command", "hooks": false, "command": [program]},
    });
    (world.with("agents", agents), projects, other)
}

#[test]
fn the_agent_of_a_project_has_its_tasks_and_a_header_goes_before_it() {
    let (world, [web, api], _) = three_agents(3);
    say(&web, "agent: codex\nparallel: 0\n");
    web.drop_task("a.md", "Do it.\n");
    web.drop_task("b.md", "---\nagent: claude\n---\nDo it.\n");
    api.drop_task("c.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    let mut agents: Vec<_> = pass
        .events
        .iter()
        .map(|event| (event["task"].as_str().unwrap(), event["agent"].as_str().unwrap()))
        .collect();
    agents.sort_unstable();
    assert_eq!(agents, [("a.md", "codex"), ("b.md", "claude"), ("c.md", "claude")], "{pass:#?}");
    world.tmux.wait_until("the program has ended", || {
        world.pass(&["reap"]);
        web.done() == ["a.md"]
    });
    assert_eq!(ending(&web, "done/a.md")["agent"], "codex");
}

#[test]
fn everybody_asks_the_agent_that_the_task_would_have_whether_it_is_trusted() {
    let (world, [web, api], other) = three_agents(1);
    web.drop_task("first.md", "Do it.\n");
    web.drop_task("pinned.md", "---\nagent: other\n---\nDo it.\n");
    web.drop_task("program.md", "---\nagent: codex\n---\nDo it.\n");
    say(&api, "agent: other\n");
    api.drop_task("of-project.md", "Do it.\n");
    let advice = format!("run `CLAUDE_CONFIG_DIR={} claude` once in", other.display());
    let status = world.sandbox.ccl_json(&["status"]);
    let tasks = status["tasks"].as_array().unwrap();
    for (project, task, is_held) in [
        (&web, "first.md", false),
        (&web, "pinned.md", true),
        (&web, "program.md", false),
        (&api, "of-project.md", true),
    ] {
        let row = tasks.iter().find(|row| row["name"] == task).unwrap();
        assert_eq!(row["state"] == "held", is_held, "{row}");
        assert_eq!(row["reason"].as_str().unwrap_or_default().contains(&advice), is_held, "{row}");
        let decided = decision(&world, project, task);
        let warned = decided["warnings"].to_string();
        assert_eq!(warned.contains(&advice), is_held, "{task}: {decided}");
    }
    // The first agent is another program; the projects' is not.
    let (world, [_, api], other) = three_agents(1);
    let world = world.with("failover", json!(["codex"]));
    say(&api, "agent: other\n");
    let output = world.sandbox.ccl(["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    let bad: Vec<_> = checks.filter(|row| row["check"] == "trust" && row["ok"] == false).collect();
    assert_eq!(bad.len(), 1, "{report:#}");
    let remedy = bad[0]["remedy"].as_str().unwrap();
    assert!(remedy.contains(&format!("CLAUDE_CONFIG_DIR={} claude", other.display())), "{remedy}");
    assert!(remedy.contains("/api "), "{remedy}");
}

#[test]
fn a_path_of_its_own_is_where_its_program_is_looked_for() {
    let world = World::new(1, |builder| builder);
    let tools = world.sandbox.home().join("tools");
    fs::create_dir(&tools).unwrap();
    write_program(&tools.join("my-codex"), "#!/bin/sh\n");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", tools.display());
    let agent = json!({"kind": "command", "command": ["my-codex"], "env": {"PATH": path}});
    let world = world.with("agents", json!({"codex": agent}));
    let report: Value =
        serde_json::from_slice(&world.sandbox.ccl(["doctor", "--json"]).output().unwrap().stdout)
            .unwrap();
    let checks = report["checks"].as_array().unwrap();
    let program = checks.iter().find(|row| row["check"] == "agent").unwrap();
    let found = tools.join("my-codex").display().to_string();
    assert_eq!(program["ok"], true, "{program}");
    assert!(program["detail"].as_str().unwrap().contains(&found), "{program}");
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["done t.md ccl-auto-0"]);
}

#[test]
fn a_key_that_is_refused_is_named_by_its_file() {
    let world = World::claude(1);
    let key = world.sandbox.home().join("key");
    fs::write(&key, "sk-ant-made-up\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let world = world.with("agent", json!({"api_key_file": key}));
    let end = Ending::Error("authentication_failed".to_owned());
    world.script(&[Behaviour {
        turns: vec![Turn { end, ..Turn::default() }],
        ..Behaviour::default()
    }]);
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    world.wait_for_idle(1);
    world.let_rest();
    assert_eq!(world.pass(&["reap"]), ["released t.md ccl-auto-0", "hold claude"]);
    let reason = ending(&project, "inbox/t.md")["reason"].clone();
    let reason = reason.as_str().unwrap();
    let named = format!("the API does not take the key in {}: ", key.display());
    assert!(reason.starts_with(&named) && !reason.contains("/login"), "{reason}");
}

#[test]
fn a_spend_file_that_cannot_be_read_keeps_tasks_from_secutools_and_stops_nothing() {
    let mut world = World::commands(1)
        .with("secutools", json!({"url": "http://127.0.0.1:9", "budget": {"per_day": "2 EUR"}}));
    world.sandbox.env("SECUTOOLS_API_KEY", "sk-made-up");
    let project = world.project("web");
    project.drop_task("t.md", "---\nallow_delegation: true\npreferred_ai: gpu\n---\nDO: true\n");
    // Whatever day it is by then.
    let now = TimeZone::system().to_datetime(Timestamp::now());
    for date in [now.date(), now.date().tomorrow().unwrap()] {
        fs::create_dir_all(world.sandbox.state_dir().join(format!("spend/{date}.jsonl"))).unwrap();
    }
    let rule = &decision(&world, &project, "t.md")["rule"];
    assert_eq!(rule, "over-budget");
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (0, vec!["dispatched t.md ccl-auto-0".to_owned()]));
    assert_eq!(pass.stderr.matches("secutools gets no task until this is mended").count(), 1);
    assert_eq!(world.ccl(&["pause"]).code, 0);
}

#[test]
fn an_agent_is_ready_or_probing() {
    let world = World::claude(1);
    let standing = || world.sandbox.ccl_json(&["status"])["agents"][0].clone();
    assert_eq!(standing()["state"], "ready");
    assert_eq!((&standing()["until"], &standing()["reason"]), (&Value::Null, &Value::Null));
    let now = Timestamp::now();
    let past = now - SignedDuration::from_mins(1);
    let hold = json!({
        "version": 1, "host": "h", "at": past, "until": past, "model": null, "cause": "limit",
        "reason": "the limit", "since": past, "tries": 1, "has_reset": true,
    });
    let agents = world.sandbox.state_dir().join("agents");
    fs::create_dir_all(&agents).unwrap();
    fs::write(agents.join("claude.hold"), hold.to_string()).unwrap();
    // The next task finds out whether that has ended.
    assert_eq!(standing()["state"], "probing");
    let end = Ending::Forever;
    let slow = Turn { end, prompt_late_ms: 0, ..Turn::default() };
    world.script(&[Behaviour { turns: vec![slow], ..Behaviour::default() }]);
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    let agent = standing();
    assert_eq!((&agent["state"], &agent["reason"]), (&json!("probing"), &json!("the limit")));
}
