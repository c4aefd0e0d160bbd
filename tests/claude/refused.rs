//! Launches that come to nothing: each with its sentence, and nothing lost.

use std::fs;

use serde_json::json;

use super::support::{Consent, Reply, claude_home};
use super::world::{SESSION, Setup, TASK, World, kinds};

const BODY: &str = "Line one\nexit\nLine three";

/// Whose fault it is that a launch came to nothing.
#[derive(PartialEq)]
enum Fault {
    /// Of what the task or its project is: the attempt counts.
    Task,
    /// Of this machine: the attempt does not count, and the pass ends with 1.
    Machine,
}

/// The attempt failed with `sentence`, nothing was typed and nobody was asked.
#[track_caller]
fn assert_refused(world: &World, fault: Fault, sentence: &str) {
    world.project.drop_task(TASK, BODY);
    let of_machine = fault == Fault::Machine;
    let (events, stderr) = world.scan_ending_with(of_machine.into());
    assert!(stderr.contains(sentence), "{stderr}");
    assert_eq!(kinds(&events), ["released", "cooldown"], "{events:?}");
    for event in &events {
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains(sentence), "{reason}");
    }
    assert_eq!(world.project.inbox(), [TASK]);
    let filed = world.filed("inbox/fix.md");
    assert!(filed.text.starts_with(BODY), "{}", filed.text);
    assert_eq!(filed.ending["outcome"], "released");
    assert_eq!(filed.ending["attempt"], u8::from(!of_machine));
    assert_eq!(world.cooldown()["needs_person"], true);
    assert!(filed.reason().contains(sentence), "{}", filed.reason());
    assert!(world.cooldown()["reason"].as_str().unwrap().contains(sentence));
    assert!(!world.sandbox.session_file(SESSION, "dispatched").exists());
    assert_eq!(world.api.turns().len(), 0);
    world.assert_usable_shell();
    assert!(!world.screen().contains("Line three"), "{}", world.screen());
    // The cooldown lasts: the next pass starts nothing.
    assert_eq!(world.scan(), [] as [serde_json::Value; 0]);
}

#[test]
fn an_untrusted_project_costs_no_session_and_no_attempt() {
    let world = World::with(Setup { trusted: false, ..Setup::default() });
    world.project.drop_task(TASK, BODY);
    let events = world.scan();
    assert_eq!(kinds(&events), ["held"], "{events:?}");
    let reason = events[0]["reason"].as_str().unwrap();
    let mend = format!("run `claude` once in {}", world.project.root().display());
    assert!(reason.contains(&mend), "{reason}");
    assert_eq!(world.project.read("inbox/fix.md"), BODY);
    assert_eq!(world.tmux.sessions(), [] as [&str; 0]);
    assert!(!world.sandbox.session_file(SESSION, "cooldown").exists());
}

/// `.claude.json` says nothing of projects, so nothing is known beforehand.
#[test]
fn a_trust_dialog_is_not_answered() {
    let world = World::new();
    let file = world.sandbox.home().join(".claude.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    state.as_object_mut().unwrap().remove("projects");
    fs::write(&file, state.to_string()).unwrap();
    assert_refused(
        &world,
        Fault::Task,
        "whether it may trust the project: run `claude` once there",
    );
}

#[test]
fn a_bypass_warning_is_not_answered() {
    let world = World::with(Setup {
        consent: Consent { bypass: false, ..Consent::default() },
        ..Setup::default()
    });
    assert_refused(
        &world,
        Fault::Machine,
        "run `claude --dangerously-skip-permissions` once and accept",
    );
    let settings = fs::read_to_string(world.sandbox.home().join(".claude/settings.json")).unwrap();
    assert_eq!(settings.trim(), "{}");
}

#[test]
fn a_question_about_the_key_is_not_answered() {
    let world = World::with(Setup {
        consent: Consent { key_approved: false, ..Consent::default() },
        ..Setup::default()
    });
    assert_refused(&world, Fault::Machine, "whether it may use the API key of its environment");
    let file = world.sandbox.home().join(".claude.json");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(state["customApiKeyResponses"], json!(null));
}

#[test]
fn without_a_login_the_task_waits_for_a_person() {
    let world = World::with(Setup {
        consent: Consent { key: false, ..Consent::default() },
        ..Setup::default()
    });
    world.project.drop_task(TASK, BODY);
    // Whether it shows at the launch or in the first turn is left to Claude Code.
    world.sandbox.ccl(["scan"]).output().unwrap();
    let filed = world.wait_for_place("inbox/fix.md");
    assert_eq!(filed.ending["outcome"], "released");
    assert_eq!(filed.ending["attempt"], 0, "{}", filed.reason());
    assert!(filed.reason().contains("no valid login"), "{}", filed.reason());
    assert_eq!(world.hold("claude")["cause"], "account");
    assert_eq!(world.api.turns().len(), 0);
}

#[test]
fn an_agent_that_is_not_installed_is_named() {
    let world = World::with(Setup {
        agent: json!({"command": ["claude-of-tomorrow"]}),
        ..Setup::default()
    });
    assert_refused(
        &world,
        Fault::Machine,
        "claude-of-tomorrow is not on the PATH of your login shell",
    );
}

const KNOWN: &str = "6f1c2a34-9d0e-4c55-8a77-1b2c3d4e5f60";

fn ask_to_resume(world: &World, id: &str) -> std::path::PathBuf {
    let context = world.sandbox.home().join(".claude-context");
    fs::create_dir_all(&context).unwrap();
    let file = context.join(format!("{SESSION}-resume-id.txt"));
    fs::write(&file, format!("{id}\n")).unwrap();
    file
}

#[test]
fn a_conversation_that_was_asked_for_is_resumed() {
    let world = World::new();
    // Somebody's conversation, as `claude -p` leaves it.
    let pane = world.tmux.new_session("other", &[]);
    let dir = world.project.root().display();
    world.tmux.type_line(
        &pane,
        &format!("cd {dir} && claude -p --session-id {KNOWN} 'The first word' && echo en''ded"),
    );
    world.tmux.wait_for_text(&pane, "ended");
    let before = claude_home::transcript(&world.sandbox.home(), KNOWN).len();
    assert!(before > 0);

    let file = ask_to_resume(&world, KNOWN);
    world.api.script([Reply::text("The second answer")]);
    world.dispatch("The second word");
    assert!(!file.exists());
    let turn = world.api.wait_for_turn("The second word");
    let texts = turn.user_texts().join("\n");
    assert!(texts.contains("The first word"), "{texts}");
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending["agent_session"], KNOWN);
    assert!(filed.text.contains("The second answer"), "{}", filed.text);
}

#[test]
fn a_conversation_that_claude_does_not_know_is_begun_anew() {
    let world = World::new();
    let file = ask_to_resume(&world, KNOWN);
    world.project.drop_task(TASK, BODY);
    let out = world.sandbox.ccl(["scan"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{stderr}");
    assert!(stderr.contains("does not know the conversation to resume"), "{stderr}");
    assert!(!file.exists());
    world.api.wait_for_turn("Line three");
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending["attempt"], 1);
    assert_ne!(filed.ending["agent_session"], KNOWN);
    assert_eq!(world.api.turns().len(), 1);
}
