//! `stall`: what counts as a sign of life.

use std::fs;

use serde_json::{Value, json};

use super::support::{Reply, claude_home};
use super::world::{SESSION, Setup, World, kinds};

/// What is noted of the agent's signs of life.
fn signs(world: &World) -> Value {
    let file = world.sandbox.session_file(SESSION, "signs");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// As if it had shown the last of them two hours before the machine was started.
fn let_be_silent(world: &World) {
    let mut signs = signs(world);
    signs["since"]["awake"] = json!("-PT2H");
    fs::write(world.sandbox.session_file(SESSION, "signs"), signs.to_string()).unwrap();
}

fn reap(world: &World) -> Vec<Value> {
    world.sandbox.ccl_json(&["reap"])["events"].as_array().unwrap().clone()
}

#[test]
fn a_command_that_takes_long_is_no_silence_and_an_api_that_hangs_is() {
    let world = World::with(Setup { hooks: false, ..Setup::default() });
    let rules = world.project.root().join(".agent-queue/project.yaml");
    fs::write(rules, "stall: 1h\n").unwrap();
    world.api.script([
        Reply::bash("touch began; while [ ! -e go ]; do sleep 0.1; done"),
        // A server, say: it lives as long as the agent.
        Reply::background("tail -f /dev/null"),
        Reply::Hang("Never said".to_owned()),
    ]);
    world.dispatch("Fix it");
    let conversation = world.conversation();
    let has_records = |what: &str, count| {
        let records = claude_home::transcript(&world.sandbox.home(), &conversation);
        let text = records.iter().map(Value::to_string).collect::<String>();
        text.matches(what).count() >= count
    };
    world.tmux.wait_until("the command runs", || {
        world.project.root().join("began").exists() && has_records("touch began", 1)
    });
    // Records beside the conversation may still come, and each is a sign.
    world.tmux.wait_until("nothing new comes", || {
        assert_eq!(reap(&world), [] as [Value; 0]);
        let before = signs(&world);
        let_be_silent(&world);
        assert_eq!(reap(&world), [] as [Value; 0]);
        let after = signs(&world);
        assert_ne!(after["since"]["awake"], "-PT2H");
        before["seen"] == after["seen"]
    });
    fs::write(world.project.root().join("go"), "").unwrap();
    world.tmux.wait_until("the API hangs", || {
        world.api.turns().len() == 3 && has_records("\"tool_use_id\"", 2)
    });
    let events = world.tmux.wait_for("it is ended", || {
        let events = reap(&world);
        if events.is_empty() {
            let_be_silent(&world);
        }
        Some(events).filter(|events| !events.is_empty())
    });
    assert_eq!(kinds(&events), ["released"], "{events:?}");
    let filed = world.wait_for_place("inbox/fix.md");
    assert!(
        filed.reason().contains("no sign of life for as long as `stall`, 1h"),
        "{}",
        filed.reason()
    );
    assert_eq!((&filed.ending["attempt"], &filed.ending["timeout"]), (&json!(0), &json!("stall")));
    world.assert_usable_shell();

    assert_eq!(kinds(&world.scan()), ["dispatched"]);
    assert_eq!(world.conversation(), conversation);
    let turn = world.api.wait_for_turn("cut off before: nothing happened");
    assert!(turn.user_texts().concat().contains("[fix.md] Fix it"));
    let filed = world.tmux.wait_for("assign files it", || {
        world.assign();
        (world.project.task_places("fix.md") == ["done/fix.md"]).then(|| world.filed("done/fix.md"))
    });
    assert_eq!((&filed.ending["attempt"], &filed.ending["timeout"]), (&json!(1), &json!("stall")));
}
