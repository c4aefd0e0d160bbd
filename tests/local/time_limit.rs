//! `max_duration` and `stall`: an agent that takes too long is ended, resumed once, and then it is a failed attempt.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::support::Project;
use super::support::fake_script::{Behaviour, Ending, Screen, Turn};
use super::world::{HOLDS, World, ending};

const SESSION: &str = "ccl-auto-0";

fn change(marker: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(marker).unwrap()).unwrap();
    change(&mut value);
    fs::write(marker, value.to_string()).unwrap();
}

fn change_claim(project: &Project, how: impl FnOnce(&mut Value)) {
    change(&project.queue("inbox").join(".t.md.claim"), how);
}

/// As if the agent had worked for two hours more.
fn let_work(project: &Project) {
    change_claim(project, |claim| claim["worked"]["before"] = json!("PT2H"));
}

/// As if the agent had last shown something two hours before the machine was started.
fn let_be_silent(world: &World) {
    let signs = world.session_file(SESSION, "signs");
    change(&signs, |signs| signs["since"]["awake"] = json!("-PT2H"));
}

fn dispatched() -> Vec<String> {
    vec![format!("dispatched t.md {SESSION}")]
}

#[test]
fn an_agent_that_works_too_long_is_ended_and_resumed_once_and_then_it_is_an_attempt() {
    let world = World::commands(1).with("dispatcher", json!({"max_attempts": 2, "cooldown": "0s"}));
    let project = world.project("web");
    project.drop_task("t.md", format!("---\nmax_duration: 1h\n---\n{HOLDS}"));
    assert_eq!(world.scan(), dispatched());
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let_work(&project);
    assert_eq!(world.pass(&["reap", "--dry-run"]), ["released t.md ccl-auto-0"]);
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.short(), ["released t.md ccl-auto-0"], "{pass:#?}");
    let reason = pass.reason("t.md");
    assert!(reason.contains("longer than `max_duration`, 1h; it is resumed once"), "{reason}");
    world.assert_nothing_is_left(SESSION);
    let line = ending(&project, "inbox/t.md");
    assert_eq!((&line["attempt"], &line["timeout"]), (&json!(0), &json!("max_duration")));

    // No cooldown; and the prompt says why.
    assert_eq!(world.scan(), dispatched());
    let again = |prompt: &String| prompt.contains("cut off before: it took longer");
    assert_eq!(world.got("t.md").iter().filter(|prompt| again(prompt)).count(), 1);
    // What it had worked before is over.
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let_work(&project);
    assert_eq!(world.pass(&["reap"]), ["released t.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    let line = ending(&project, "inbox/t.md");
    assert_eq!((&line["attempt"], &line["timeout"]), (&json!(1), &json!("max_duration")));
    assert_eq!(world.scan(), dispatched());
    let_work(&project);
    assert_eq!(world.pass(&["reap"]), ["failed t.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    let line = ending(&project, "failed/t.md");
    assert_eq!((&line["outcome"], &line["attempt"]), (&json!("failed"), &json!(2)));
    world.assert_nothing_is_left(SESSION);
}

#[test]
fn a_second_is_enough_where_it_is_the_limit() {
    let world = World::commands(1).with("defaults", json!({"max_duration": "1s"}));
    let project = world.project("web");
    project.drop_task("t.md", HOLDS);
    assert_eq!(world.scan(), dispatched());
    world.tmux.wait_until("it is ended", || {
        let events = world.pass(&["reap"]);
        assert!(events.is_empty() || events == ["released t.md ccl-auto-0"], "{events:?}");
        !events.is_empty()
    });
    assert_eq!(project.inbox(), ["t.md"]);
}

/// The clock was set, the machine slept, or was started again: none of that is work.
#[test]
fn the_time_of_day_is_no_measure_of_work() {
    let world = World::commands(1).with("defaults", json!({"max_duration": "1h"}));
    let project = world.project("web");
    project.drop_task("t.md", HOLDS);
    assert_eq!(world.scan(), dispatched());
    let mut boot = Value::Null;
    change_claim(&project, |claim| {
        for time in ["at", "started_at"] {
            claim[time] = json!("2020-01-01T00:00:00Z");
        }
        let since = &mut claim["worked"]["since"];
        since["awake"] = json!("-PT2H");
        boot = std::mem::replace(&mut since["boot"], json!(uuid::Uuid::new_v4()));
    });
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    change_claim(&project, |claim| claim["worked"]["since"]["boot"] = boot);
    assert_eq!(world.pass(&["reap"]), ["released t.md ccl-auto-0"]);
}

/// Its Claude Code asks something in its first turn; a pass has seen that.
fn asks(questions: &str) -> (World, Project) {
    let world = World::claude(1)
        .with("agent", json!({"questions": questions}))
        .with("defaults", json!({"max_duration": "1h"}))
        .with("dispatcher", json!({"cooldown": "0s"}));
    let asks = Turn { end: Ending::Ask(Screen::Question), ..Turn::default() };
    world.script(&[Behaviour { turns: vec![asks], ..Behaviour::default() }]);
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), dispatched());
    world.wait_for_status("waiting");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    (world, project)
}

/// It asks all the same: a version that does not know the setting, or a screen that `ccl` does not.
#[test]
fn a_question_that_nobody_was_to_be_asked_is_ended_as_any_work() {
    let (world, project) = asks("refuse");
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["sessions"][0]["state"], "needs-attention", "{status:#}");
    let_work(&project);
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.short(), ["released t.md ccl-auto-0"], "{pass:#?}");
    let reason = pass.reason("t.md");
    assert!(
        reason.contains("longer than `max_duration`, 1h; it is resumed once; what"),
        "{reason}"
    );
    let line = ending(&project, "inbox/t.md");
    assert_eq!((&line["attempt"], &line["timeout"]), (&json!(0), &json!("max_duration")));
    world.assert_nothing_is_left(SESSION);
    // The session is free, and the conversation goes on in it.
    assert_eq!(world.scan(), dispatched());
    let prompts = world.fake.events("prompt");
    let last = prompts.last().unwrap();
    assert_eq!(last["session"], line["agent_session"]);
    assert!(last["text"].as_str().unwrap().contains("cut off before: it took longer"), "{last}");
    world.wait_for_status("waiting");
    let_work(&project);
    assert_eq!(world.pass(&["reap"]), ["released t.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    assert_eq!(ending(&project, "inbox/t.md")["attempt"], 1);
}

#[test]
fn to_wait_for_a_person_is_no_work() {
    let (world, project) = asks("wait");
    let claim = || project.marker("inbox/.t.md.claim");
    assert_eq!(claim()["worked"].get("since"), None);
    let_work(&project);
    assert_eq!(world.pass(&["reap"]), [""; 0]);

    let world = World::commands(1).with("defaults", json!({"max_duration": "1h"}));
    let project = world.project("web");
    project.drop_task("t.md", HOLDS);
    assert_eq!(world.scan(), dispatched());
    // As if it had waited until now.
    change_claim(&project, |claim| {
        claim["worked"].as_object_mut().unwrap().remove("since").unwrap();
    });
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let since = project.marker("inbox/.t.md.claim")["worked"]["since"].clone();
    assert!(since["boot"].is_string(), "{since}");
}

fn hangs() -> Behaviour {
    Behaviour {
        turns: vec![Turn { end: Ending::Forever, ..Turn::default() }],
        ..Behaviour::default()
    }
}

#[test]
fn an_agent_that_shows_no_sign_of_life_is_ended_and_its_conversation_resumed_once() {
    let world = World::claude(1)
        .with("defaults", json!({"stall": "1h"}))
        .with("dispatcher", json!({"max_attempts": 1, "cooldown": "0s"}));
    world.script(&[hangs()]);
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), dispatched());
    world.wait_for_status("busy");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    // What cannot be read shows nothing, and is written anew.
    fs::write(world.session_file(SESSION, "signs"), "half {").unwrap();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    // Neither is the time of day a measure here: files that are two minutes older are something new.
    let_be_silent(&world);
    world.let_rest();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let_be_silent(&world);
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.short(), ["released t.md ccl-auto-0"], "{pass:#?}");
    let reason = pass.reason("t.md");
    assert!(reason.contains("no sign of life for as long as `stall`, 1h"), "{reason}");
    let first = ending(&project, "inbox/t.md");
    assert_eq!((&first["attempt"], &first["timeout"]), (&json!(0), &json!("stall")));
    world.assert_nothing_is_left(SESSION);

    assert_eq!(world.scan(), dispatched());
    let prompts = world.fake.events("prompt");
    let last = prompts.last().unwrap();
    assert_eq!(last["session"], first["agent_session"]);
    assert!(last["text"].as_str().unwrap().contains("cut off before: nothing happened"), "{last}");
    world.wait_for_status("busy");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let_be_silent(&world);
    assert_eq!(world.pass(&["reap"]), ["failed t.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    assert_eq!(ending(&project, "failed/t.md")["attempt"], 1);
}

/// What lives may be a command that takes long.
#[test]
fn stall_says_nothing_of_another_agent() {
    let world = World::commands(1).with("defaults", json!({"stall": "1s"}));
    let project = world.project("web");
    project.drop_task("t.md", HOLDS);
    assert_eq!(world.scan(), dispatched());
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    assert!(!world.session_file(SESSION, "signs").exists());
    world.let_go();
    world.wait_for_exit(SESSION);
    assert_eq!(world.pass(&["reap"]), ["done t.md ccl-auto-0"]);
    assert_eq!(ending(&project, "done/t.md")["timeout"], Value::Null);
}
