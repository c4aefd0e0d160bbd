//! What Claude Code would ask a person in the middle of its turn: refused at once, or left for the person.

use std::fs;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::support::{Consent, Project, Reply, real_claude};
use super::world::{SESSION, Setup, TASK, World, kinds};

/// The project has Claude Code ask before it runs `touch`, bypass or not.
fn ask_before_touch(project: &Project) {
    let settings = json!({"permissions": {"ask": ["Bash(touch:*)"]}});
    fs::create_dir(project.root().join(".claude")).unwrap();
    fs::write(project.root().join(".claude/settings.json"), settings.to_string()).unwrap();
}

fn touch() -> Reply {
    Reply::bash("touch touched")
}

fn with(questions: &str, hooks: bool) -> Setup {
    Setup { hooks, agent: json!({"questions": questions}), ..Setup::default() }
}

fn state(world: &World) -> Value {
    world.sandbox.ccl_json(&["status"])["sessions"][0]["state"].clone()
}

#[test]
fn what_nobody_is_there_to_be_asked_is_refused_and_the_turn_goes_on() {
    let world = World::new();
    ask_before_touch(&world.project);
    world.api.script([touch(), Reply::question("Which way?"), Reply::text("Half of it")]);
    world.dispatch("Fix it");
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending["refused"], 2);
    assert!(filed.text.contains("## Result\n\nHalf of it\n"), "{}", filed.text);
    assert!(filed.text.contains(" · 2 questions refused · "), "{}", filed.text);
    assert!(!world.project.root().join("touched").exists());
    // What cannot be asked is not offered.
    let tools = world.api.turns()[0].body["tools"].as_array().unwrap().clone();
    assert!(tools.iter().any(|tool| tool["name"] == "Bash"), "{tools:#?}");
    assert!(tools.iter().all(|tool| tool["name"] != "AskUserQuestion"), "{tools:#?}");
}

#[test]
fn what_was_refused_in_an_attempt_that_failed_is_counted_in_it() {
    let world = World::new();
    ask_before_touch(&world.project);
    world.api.script([touch(), Reply::server_error()]);
    world.dispatch("Fix it");
    let filed = world.wait_for_place("inbox/fix.md");
    assert_eq!((&filed.ending["attempt"], &filed.ending["refused"]), (&json!(0), &json!(1)));
    // The next one has a count of its own.
    world.sandbox.ccl_json(&["resume"]);
    world.tmux.wait_until("it is dispatched again", || {
        world.scan();
        world.api.turns().len() > 2
    });
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending.get("refused"), None);
    assert!(!filed.text.contains("refused ·"), "{}", filed.text);
}

#[test]
fn a_question_waits_for_a_person_where_that_is_configured() {
    let world = World::with(with("wait", false));
    world.api.script([Reply::question("Which way?")]);
    world.dispatch("Fix it");
    world.tmux.wait_for_text(&format!("={SESSION}:"), "Which way?");
    assert_eq!(kinds(&world.assign()), [] as [&str; 0]);
    assert_eq!(world.project.task_places(TASK), ["inbox/fix.md.dispatched"]);
    assert!(world.screen().contains("Which way?"));
    assert_eq!(state(&world), "needs-attention");
}

#[track_caller]
fn waits_for_leave_to_touch(setup: Setup) {
    let world = World::with(setup);
    ask_before_touch(&world.project);
    world.api.script([touch()]);
    world.dispatch("Fix it");
    world.tmux.wait_for_text(&format!("={SESSION}:"), "Do you want to proceed?");
    assert_eq!(kinds(&world.assign()), [] as [&str; 0]);
    assert_eq!(world.project.task_places(TASK), ["inbox/fix.md.dispatched"]);
    assert_eq!(state(&world), "needs-attention");
}

#[test]
fn leave_to_run_a_command_is_waited_for_where_that_is_configured() {
    waits_for_leave_to_touch(with("wait", false));
}

/// It ignores settings that it does not know.
#[test]
fn a_version_that_cannot_refuse_waits_as_before() {
    waits_for_leave_to_touch(Setup { version: real_claude::EARLIER, ..with("refuse", false) });
}

/// A subscription's limit: Claude Code shows its menu, or, with `wait`, means to go on by itself when the time has come.
#[track_caller]
fn comes_back_with_its_reset_time(questions: &str, hooks: bool) {
    let token = "sk-ant-oat01-made-up-for-the-tests-of-ccl".to_owned();
    let world = World::with(Setup {
        consent: Consent { key: false, ..Consent::default() },
        env: vec![("CLAUDE_CODE_OAUTH_TOKEN", token)],
        ..with(questions, hooks)
    });
    let reset = Timestamp::now().as_second() / 3600 * 3600 + 2 * 3600;
    world.api.otherwise(Reply::rate_limited(reset));
    world.dispatch("Fix it");
    // An ordinary pass is enough, and does no harm where a hook is faster.
    world.tmux.wait_until("it is filed", || {
        let report = world.sandbox.ccl_json(&["reap"]);
        let events = report["events"].as_array().unwrap();
        assert!(events.is_empty() || kinds(events) == ["released", "hold"], "{events:?}");
        world.project.task_places(TASK) == ["inbox/fix.md"]
    });
    let filed = world.wait_for_place("inbox/fix.md");
    assert_eq!(filed.ending["attempt"], 0);
    assert!(filed.reason().contains("5-hour limit · resets"), "{}", filed.reason());
    let until: Timestamp = world.hold("claude")["until"].as_str().unwrap().parse().unwrap();
    assert_eq!(until.as_second(), reset + 60, "{}", filed.reason());
    assert_eq!(world.api.turns().len(), 1);
    world.assert_usable_shell();
}

#[test]
fn a_subscription_at_its_limit_is_released_by_a_hook_or_a_pass() {
    comes_back_with_its_reset_time("refuse", true);
}

#[test]
fn a_subscription_at_its_limit_is_released_without_hooks() {
    comes_back_with_its_reset_time("refuse", false);
}

#[test]
fn a_subscription_that_would_wait_for_its_reset_is_released_without_hooks() {
    comes_back_with_its_reset_time("wait", false);
}

#[test]
fn another_model_takes_the_turn_whose_own_is_overloaded() {
    let world =
        World::with(Setup { agent: json!({"fallback_model": "haiku"}), ..Setup::default() });
    world.api.script([Reply::overloaded()]);
    world.dispatch("Fix it");
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending["attempt"], 1);
    let models: Vec<_> = world.api.turns().iter().map(|turn| turn.body["model"].clone()).collect();
    let [first, second] = models.as_slice() else { panic!("{models:?}") };
    assert!(first.as_str().unwrap().contains("sonnet"), "{models:?}");
    assert!(second.as_str().unwrap().contains("haiku"), "{models:?}");
    assert_eq!(filed.ending["model"], *second);
}
