//! Agents that meet their limit: who is held, who finds out whether it has ended, and who takes over.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::launch::forever;
use super::support::fake_script::{Behaviour, Ending, Turn};
use super::support::program::write_program;
use super::support::wait::poll;
use super::world::{World, ending};

pub(crate) fn hold_file(world: &World, agent: &str) -> PathBuf {
    world.sandbox.state_dir().join(format!("agents/{agent}.hold"))
}

#[track_caller]
pub(crate) fn hold_of(world: &World, agent: &str) -> Value {
    serde_json::from_slice(&fs::read(hold_file(world, agent)).unwrap()).unwrap()
}

/// The hold's time has come.
pub(crate) fn let_it_end(world: &World, agent: &str) {
    let mut hold = hold_of(world, agent);
    hold["until"] = json!(Timestamp::now() - SignedDuration::from_secs(1));
    fs::write(hold_file(world, agent), hold.to_string()).unwrap();
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

/// The first `times` turns end in this error, all others go on for ever.
fn refuse(world: &World, kind: &str, times: usize) {
    let end = Ending::Error(kind.to_owned());
    let says = "You've hit your limit · resets 3pm (UTC)".to_owned();
    let turns = vec![Turn { end, says, ..Turn::default() }];
    world.script(&[
        Behaviour { turns, times, ..Behaviour::default() },
        Behaviour { turns: forever(), ..Behaviour::default() },
    ]);
}

/// A pass that files what has ended by now.
#[track_caller]
fn settle(world: &World, idle: usize) -> Vec<String> {
    world.wait_for_idle(idle);
    world.let_rest();
    world.pass(&["reap"])
}

#[test]
fn what_holds_an_agent_counts_for_no_task_and_holds_all_of_them() {
    for (kind, cause, minutes, sentence) in [
        ("rate_limit", "limit", 5, "the account's limit is reached"),
        ("authentication_failed", "account", 60, "no valid login"),
        ("billing_error", "account", 60, "cannot be billed"),
        ("server_error", "outage", 1, "the API cannot be used"),
    ] {
        let world = World::claude(2).with("dispatcher", json!({"max_attempts": 1}));
        refuse(&world, kind, 1);
        let project = world.project("web");
        project.drop_task("t.md", "Do it.\n");
        assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
        assert_eq!(settle(&world, 1), ["released t.md ccl-auto-0", "hold claude"], "{kind}");
        let end = ending(&project, "inbox/t.md");
        assert_eq!((&end["outcome"], &end["attempt"]), (&json!("released"), &json!(0)));
        assert_eq!(end["agent"], "claude");
        assert!(end["reason"].as_str().unwrap().contains(sentence), "{end}");
        let hold = hold_of(&world, "claude");
        assert_eq!(hold["cause"], cause, "{hold}");
        // The sentence names a time for people; only the transcript's own field counts.
        assert_eq!(time(&hold["until"]).duration_since(time(&hold["at"])).as_mins(), minutes);
        assert!(!world.session_file("ccl-auto-0", "cooldown").exists());

        // Neither session gives it a task, and people see why.
        world.project("api").drop_task("other.md", "Do that.\n");
        let pass = world.ccl(&["scan"]);
        assert_eq!((pass.code, pass.events.len()), (0, 0), "{pass:#?}");
        assert!(pass.stderr.contains("tasks wait for the agent claude, held until"), "{pass:#?}");
        let status = world.sandbox.ccl_json(&["status"]);
        let agent = &status["agents"][0];
        let state = if cause == "account" { "needs-attention" } else { "held" };
        assert_eq!((&agent["name"], &agent["state"]), (&json!("claude"), &json!(state)));
        assert!(agent["reason"].as_str().unwrap().contains(sentence), "{agent}");
        let waits = status["tasks"][0]["waits"].as_str().unwrap();
        assert!(waits.contains("the agent claude, held until"), "{status:#}");

        // A person has mended it; the conversation goes on.
        assert_eq!(world.pass(&["resume"]), ["resumed claude"]);
        assert_eq!(world.scan().len(), 2);
        let starts = world.fake.events("start");
        let resumed = starts.iter().any(|start| {
            let argv = start["argv"].as_array().unwrap();
            argv.windows(2).any(|pair| pair[0] == "--resume" && pair[1] == end["agent_session"])
        });
        assert!(resumed, "{kind}");
    }
}

#[test]
fn one_task_finds_out_whether_the_limit_has_ended_and_the_others_wait_for_that() {
    let world = World::claude(3);
    let turn = |end| vec![Turn { end, ..Turn::default() }];
    world.script(&[
        Behaviour {
            turns: turn(Ending::Error("rate_limit".to_owned())),
            times: 4,
            ..Behaviour::default()
        },
        Behaviour { turns: turn(Ending::Done), ..Behaviour::default() },
    ]);
    for name in ["a", "b", "c"] {
        world.project(name).drop_task("t.md", "Do it.\n");
    }
    assert_eq!(world.scan().len(), 3);
    // Three sessions run into one wall: it is met once.
    let filed = settle(&world, 3);
    assert_eq!(filed.iter().filter(|event| *event == "hold claude").count(), 1, "{filed:?}");
    assert_eq!(hold_of(&world, "claude")["tries"], 1);

    let_it_end(&world, "claude");
    assert_eq!(world.scan().len(), 1, "the probe");
    assert!(hold_of(&world, "claude")["probe"]["run"].is_string());
    // Its turn may have ended by now, or not: nobody else goes.
    let again = settle(&world, 1);
    assert_eq!(again[1..], ["hold claude"], "{again:?}");
    let hold = hold_of(&world, "claude");
    assert_eq!((&hold["tries"], &hold["probe"]), (&json!(2), &Value::Null), "{hold}");
    assert_eq!(time(&hold["until"]).duration_since(time(&hold["at"])).as_mins(), 10);

    let_it_end(&world, "claude");
    assert_eq!(world.scan().len(), 1, "the next probe");
    // What it answers with ends the hold; here it has ended with that.
    let settled = settle(&world, 1);
    assert_eq!(settled[0], "resumed claude", "{settled:?}");
    assert!(!hold_file(&world, "claude").exists());
    assert_eq!(world.scan().len(), 2, "all others go");
    let journal = fs::read_to_string(world.sandbox.state_dir().join("journal.jsonl")).unwrap();
    let lines = |what: &str| journal.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("\"event\":\"hold\""), 2, "{journal}");
    assert_eq!(lines("claude answers again"), 1, "{journal}");
    // One request for each session and probe has met the wall.
    assert_eq!(world.fake.events("start").len(), 3 + 2 + 2);
}

/// Two agents: Claude Code, and a program that notes what it is given.
fn two_agents(max: usize) -> World {
    let world = World::new(max, |builder| builder);
    let notes = world.sandbox.home().join("noted");
    let program = world.sandbox.path().join("codex");
    write_program(
        &program,
        &format!("#!/bin/sh\nprintf '%s' \"$2\" > {}.new && mv {0}.new {0}\n", notes.display()),
    );
    world
        .with(
            "agents",
            json!({
                "claude": {"hooks": false},
                "codex": {"kind": "command", "command": [program, "exec"]},
            }),
        )
        .with("failover", json!(["claude", "codex"]))
}

#[test]
fn the_next_agent_goes_on_where_the_limit_is_far_and_is_told_of_its_colleague() {
    let world = two_agents(1);
    refuse(&world, "rate_limit", 1);
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    project.drop_task("u.md", "---\nagent: claude\n---\nOnly claude.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    world.wait_for_idle(1);
    world.let_rest();
    let events = world.scan();
    let expected = [
        "released t.md ccl-auto-0",
        "hold claude",
        "dispatched t.md ccl-auto-0",
        "switched t.md ccl-auto-0",
    ];
    assert_eq!(events, expected);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.scan(), ["done t.md ccl-auto-0"], "the other one waits for its agent");
    let noted = fs::read_to_string(world.sandbox.home().join("noted")).unwrap();
    assert!(noted.starts_with("A colleague has begun this task"), "{noted}");
    assert!(noted.contains("[t.md] Do it."), "{noted}");
    let end = ending(&project, "done/t.md");
    assert_eq!((&end["agent"], &end["attempt"]), (&json!("codex"), &json!(1)), "{end}");
    let journal = fs::read_to_string(world.sandbox.state_dir().join("journal.jsonl")).unwrap();
    let switched = journal.lines().find(|line| line.contains("switched")).unwrap();
    assert!(switched.contains("claude → codex: the account's limit is reached"), "{switched}");
    let decision = |task: &str| {
        let file = project.queue("inbox").join(task);
        world.sandbox.ccl_json(&["decide", file.to_str().unwrap()])["decisions"][0].clone()
    };
    let pinned = decision("u.md");
    assert_eq!(pinned["agent"], Value::Null);
    assert!(pinned["waits"].as_str().unwrap().contains("the agent claude, held"), "{pinned}");
    project.drop_task("v.md", "---\nagent: nobody\n---\nAnyone.\n");
    let unknown = decision("v.md");
    assert_eq!(unknown["agent"], "codex");
    assert!(unknown["warnings"][0].as_str().unwrap().contains("no agent `nobody`"), "{unknown}");
}

#[test]
fn a_limit_whose_reset_is_near_is_waited_for() {
    is_waited_for(two_agents(1), 10, 16);
}

#[test]
fn how_near_a_reset_must_be_is_configured() {
    is_waited_for(two_agents(1).with("reset_further_than", json!("2h")), 115, 130);
    is_waited_for(two_agents(1).with("reset_further_than", json!("10m")), 8, 14);
}

/// A reset that is so many minutes away is waited for, and one that is further away is not.
#[track_caller]
fn is_waited_for(world: World, near: i64, far: i64) {
    let project = world.project("web");
    refuse(&world, "rate_limit", 1);
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    settle(&world, 1);
    // As where the account has named a time.
    let mut hold = hold_of(&world, "claude");
    hold["has_reset"] = json!(true);
    hold["until"] = json!(Timestamp::now() + SignedDuration::from_mins(near));
    fs::write(hold_file(&world, "claude"), hold.to_string()).unwrap();
    assert_eq!(world.scan(), [""; 0]);
    hold["until"] = json!(Timestamp::now() + SignedDuration::from_mins(far));
    fs::write(hold_file(&world, "claude"), hold.to_string()).unwrap();
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0", "switched t.md ccl-auto-0"]);
}

#[test]
fn a_program_says_by_its_screen_or_its_status_that_its_limit_is_reached() {
    for (says, key, value) in [
        (
            "echo 'You have reached your Usage Limit.'; exit 1",
            "limit",
            json!("usage limit|rate limit"),
        ),
        ("exit 75", "limit_exit", json!(75)),
    ] {
        let world = World::new(1, |builder| builder);
        let program = world.sandbox.path().join("codex");
        let go = world.sandbox.home().join("go");
        write_program(
            &program,
            &format!("#!/bin/sh\n[ ! -e {} ] || exit 0\n{says}\n", go.display()),
        );
        let mut agent = json!({"kind": "command", "command": [program]});
        agent[key] = value;
        let world = world.with("agents", json!({"codex": agent}));
        let project = world.project("web");
        project.drop_task("t.md", "Do it.\n");
        assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
        world.wait_for_exit("ccl-auto-0");
        for pass in [&["reap", "--dry-run"][..], &["reap"]] {
            let held = ["released t.md ccl-auto-0", "hold codex"];
            assert_eq!(world.pass(pass), held, "{pass:?}: {says}");
        }
        let end = ending(&project, "inbox/t.md");
        assert_eq!((&end["attempt"], &end["agent"]), (&json!(0), &json!("codex")), "{end}");
        assert!(end["reason"].as_str().unwrap().contains("limit is reached"), "{end}");
        // The probe ends well, and with it the hold.
        let_it_end(&world, "codex");
        fs::write(&go, "").unwrap();
        assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
        world.wait_for_exit("ccl-auto-0");
        for pass in [&["reap", "--dry-run"][..], &["reap"]] {
            assert_eq!(world.pass(pass), ["resumed codex", "done t.md ccl-auto-0"], "{pass:?}");
        }
        assert!(!hold_file(&world, "codex").exists());
    }
}

#[test]
fn a_hold_that_cannot_be_read_is_reported_and_gives_nobody_a_task() {
    let world = World::claude(1);
    world.project("web").drop_task("t.md", "Do it.\n");
    fs::create_dir_all(world.sandbox.state_dir().join("agents")).unwrap();
    fs::write(hold_file(&world, "claude"), "{ nonsense").unwrap();
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.events), (1, Vec::new()));
    let sentence = "the agent claude gets no task: ";
    assert_eq!(pass.stderr.matches(sentence).count(), 1, "{}", pass.stderr);
    assert!(pass.stderr.contains("`ccl resume` removes it"), "{}", pass.stderr);
    assert_eq!(world.sandbox.ccl_json(&["status"])["agents"][0]["state"], "needs-attention");
    assert_eq!(world.pass(&["resume"]), ["resumed claude"]);
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
}

#[test]
fn an_agent_has_its_own_environment_and_directory() {
    let world = World::new(1, |builder| builder);
    let noted = world.sandbox.home().join("noted");
    let program = world.sandbox.path().join("codex");
    write_program(&program, &format!("#!/bin/sh\nprintf '%s' \"$WHOSE\" > {}\n", noted.display()));
    let agent =
        json!({"kind": "command", "command": [program], "env": {"WHOSE": "it's \"mine\" $HOME"}});
    let world = world.with("agents", json!({"codex": agent}));
    world.project("web").drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(fs::read_to_string(noted).unwrap(), "it's \"mine\" $HOME");
}

/// A day of which enough is left: what is spent before midnight counts until then.
fn wait_for_a_long_day(world: &World) {
    let is_late = || {
        let now = TimeZone::system().to_datetime(Timestamp::now());
        now.hour() == 23 && now.minute() == 59
    };
    // Longer than the last minute, which is as long as the usual patience twice.
    let is_over = poll(Duration::from_secs(90), || (!is_late()).then_some(()));
    assert!(is_over.is_some(), "{}", world.tmux.screens());
}

#[test]
fn an_agent_that_has_spent_its_budget_of_the_day_gets_no_more_and_another_takes_over() {
    let world =
        two_agents(1).with("agents", json!({"claude": {"budget": {"per_day": "0.0003 USD"}}}));
    wait_for_a_long_day(&world);
    let turns = vec![Turn { end: Ending::Done, ..Turn::default() }];
    world.script(&[Behaviour { turns, ..Behaviour::default() }]);
    let project = world.project("web");
    for name in ["a.md", "b.md"] {
        project.drop_task(name, "Do it.\n");
    }
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    assert_eq!(settle(&world, 1), ["done a.md ccl-auto-0"]);
    assert_eq!(ending(&project, "done/a.md")["cost"]["amount"], "0.0003");
    let status = world.sandbox.ccl_json(&["status"]);
    let agent = &status["agents"][0];
    assert_eq!(agent["state"], "over-budget", "{agent}");
    assert_eq!(agent["spent_today"], json!([{"amount": "0.0003", "currency": "USD"}]));
    assert_eq!(agent["unknown_costs"], 0);
    assert_eq!(world.scan(), ["dispatched b.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.scan(), ["done b.md ccl-auto-0"]);
    assert_eq!(ending(&project, "done/b.md")["agent"], "codex");
    // What is unknown is not zero.
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["agents"][1]["unknown_costs"], 1, "{status:#}");
}

#[test]
fn secutools_takes_over_what_may_leave_the_machine_until_its_own_budget_is_spent() {
    let mut world = two_agents(1)
        .with("failover", json!(["claude", "secutools"]))
        .with("secutools", json!({"url": "http://127.0.0.1:9", "budget": {"per_day": "2 EUR"}}));
    world.sandbox.env("SECUTOOLS_API_KEY", "sk-made-up");
    wait_for_a_long_day(&world);
    let project = world.project("web");
    let header = "allow_delegation: true\npreferred_ai: claude-code\ncomplexity_hint: low\n";
    project.drop_task("t.md", format!("---\n{header}---\nDo it.\n"));
    project.drop_task("pinned.md", format!("---\n{header}agent: claude\n---\nDo it.\n"));
    let rule = |task: &str| {
        let file = project.queue("inbox").join(task);
        let row = world.sandbox.ccl_json(&["decide", file.to_str().unwrap()]);
        let row = &row["decisions"][0];
        format!("{} {}", row["provider"].as_str().unwrap(), row["rule"].as_str().unwrap())
    };
    assert_eq!(rule("t.md"), "claude-code preferred-claude-code");
    let now = Timestamp::now();
    let hold = json!({
        "version": 1, "host": "h", "at": now, "until": now + SignedDuration::from_hours(2), "model": null,
        "cause": "limit", "reason": "the limit", "since": now, "tries": 1, "has_reset": true,
    });
    fs::create_dir_all(world.sandbox.state_dir().join("agents")).unwrap();
    fs::write(hold_file(&world, "claude"), hold.to_string()).unwrap();
    assert_eq!(rule("t.md"), "gpu failover");
    assert_eq!(rule("pinned.md"), "claude-code preferred-claude-code");
    // Its jobs of today have cost as much as they may.
    let day = TimeZone::system().to_datetime(Timestamp::now()).date();
    let spent = json!({
        "run": "6f1c2a34-9d0e-4c55-8a77-1b2c3d4e5f60", "agent": "secutools", "task": "/p/x.md",
        "cost": {"amount": "2.5", "currency": "EUR"},
    });
    fs::create_dir_all(world.sandbox.state_dir().join("spend")).unwrap();
    fs::write(world.sandbox.state_dir().join(format!("spend/{day}.jsonl")), format!("{spent}\n"))
        .unwrap();
    assert_eq!(rule("t.md"), "claude-code preferred-claude-code");
    project.drop_task("remote.md", "---\nallow_delegation: true\npreferred_ai: gpu\n---\nDo it.\n");
    assert_eq!(rule("remote.md"), "claude-code over-budget");
}
