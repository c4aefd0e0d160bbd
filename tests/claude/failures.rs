//! Turns that end in an API error: idle, and not done.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::support::{Consent, Reply, claude_home};
use super::world::{Filed, Setup, TASK, World, kinds};

/// Dispatches a task whose turn gets `reply`, and waits until a hook has put it back.
#[track_caller]
fn fails_with(world: &World, reply: Reply) -> Filed {
    world.api.otherwise(reply);
    world.dispatch("Fix it");
    let filed = world.wait_for_place("inbox/fix.md");
    assert_eq!(filed.ending["outcome"], "released");
    assert!(filed.text.starts_with("Fix it\n"), "{}", filed.text);
    world.assert_usable_shell();
    filed
}

/// How long the agent is held, from the end of the attempt on, in seconds.
#[track_caller]
fn held_seconds(world: &World, filed: &Filed) -> i64 {
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let until = time(&world.hold("claude")["until"]);
    until.duration_since(time(&filed.ending["ended_at"])).as_secs()
}

/// The hold is over, and the task is dispatched again: by this pass, or by the hook that put it back
/// and is still under way.
#[track_caller]
fn wake(world: &World) {
    world.sandbox.ccl_json(&["resume"]);
    let before = world.api.turns().len();
    world.tmux.wait_until("the task is dispatched again", || {
        world.scan();
        world.api.turns().len() > before
    });
}

#[test]
fn a_rate_limit_holds_the_agent_and_costs_no_attempt_and_the_conversation_goes_on() {
    let world = World::new();
    let now = Timestamp::now().as_second();
    let filed = fails_with(&world, Reply::rate_limited(now + 3600));
    assert_eq!(filed.ending["attempt"], 0);
    assert!(filed.reason().contains("limit is reached"), "{}", filed.reason());
    let conversation = filed.ending["agent_session"].clone();
    // With an API key Claude Code names no time.
    assert_eq!(held_seconds(&world, &filed), 300);
    assert_eq!(world.hold("claude")["cause"], "limit");
    assert_eq!(world.scan(), [] as [Value; 0]);

    world.api.otherwise(Reply::text("Fixed"));
    wake(&world);
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending["attempt"], 1);
    assert_eq!(filed.ending["agent_session"], conversation);
    let texts = world.api.turns().pop().unwrap().user_texts().concat();
    assert_eq!(texts.matches("[fix.md] Fix it").count(), 2, "{texts}");
}

#[test]
fn a_key_that_is_not_valid_needs_a_person() {
    let world = World::new();
    let filed = fails_with(&world, Reply::unauthorized());
    assert_eq!(filed.ending["attempt"], 0);
    assert!(filed.reason().contains("no valid login"), "{}", filed.reason());
    assert_eq!(world.hold("claude")["cause"], "account");
    assert_eq!(held_seconds(&world, &filed), 3600);
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["agents"][0]["state"], "needs-attention");
    let reason = status["agents"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("no valid login"), "{status:#}");
}

#[test]
fn an_account_without_money_needs_a_person() {
    let world = World::new();
    let filed = fails_with(&world, Reply::no_credit());
    assert_eq!(filed.ending["attempt"], 0);
    assert!(filed.reason().contains("cannot be billed"), "{}", filed.reason());
    assert_eq!(world.hold("claude")["cause"], "account");
}

#[test]
fn an_outage_is_nobody_s_attempt() {
    let world = World::with(Setup { dispatcher: json!({"max_attempts": 1}), ..Setup::default() });
    let filed = fails_with(&world, Reply::server_error());
    assert_eq!(filed.ending["attempt"], 0);
    assert!(filed.reason().contains("500"), "{}", filed.reason());
    assert_eq!(held_seconds(&world, &filed), 60);
    assert_eq!(world.hold("claude")["cause"], "outage");

    world.api.otherwise(Reply::text("Fixed"));
    wake(&world);
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending["attempt"], 1);
    assert_eq!(world.project.inbox(), [] as [&str; 0]);
}

/// The agent's hold is over, whenever it would have ended.
fn let_hold_end(world: &World) {
    let file = world.sandbox.state_dir().join("agents/claude.hold");
    let mut hold = world.hold("claude");
    hold["until"] = json!(Timestamp::now() - SignedDuration::from_secs(1));
    fs::write(file, hold.to_string()).unwrap();
}

/// Every turn gets `reply`: the agent is held for so many minutes each time that a task has found out that this goes on.
#[track_caller]
fn holds_longer_each_time(setup: Setup, reply: Reply, cause: &str, minutes: &[i64]) {
    let dispatcher = json!({"max_attempts": 1});
    let world = World::with(Setup { hooks: false, dispatcher, ..setup });
    world.api.otherwise(reply);
    world.project.drop_task(TASK, "Fix it");
    for (tries, minutes) in (1..).zip(minutes) {
        assert_eq!(kinds(&world.scan()), ["dispatched"]);
        world.tmux.wait_until("it is put back", || {
            world.sandbox.ccl_json(&["reap"]);
            world.project.task_places(TASK) == ["inbox/fix.md"]
        });
        let filed = world.filed("inbox/fix.md");
        assert_eq!(
            (&filed.ending["outcome"], &filed.ending["attempt"]),
            (&json!("released"), &json!(0))
        );
        let hold = world.hold("claude");
        assert_eq!((&hold["cause"], &hold["tries"]), (&json!(cause), &json!(tries)), "{hold}");
        assert_eq!(held_seconds(&world, &filed), minutes * 60, "{hold}");
        assert_eq!(world.api.turns().len(), tries);
        assert_eq!(world.scan(), [] as [Value; 0]);
        let_hold_end(&world);
    }
    world.api.otherwise(Reply::text("Fixed"));
    assert_eq!(kinds(&world.scan()), ["dispatched"]);
    world.tmux.wait_until("it is done", || {
        world.sandbox.ccl_json(&["reap"]);
        world.project.task_places(TASK) == ["done/fix.md"]
    });
    assert_eq!(world.filed("done/fix.md").ending["attempt"], 1);
    assert!(!world.sandbox.state_dir().join("agents/claude.hold").exists());
}

#[test]
fn an_overloaded_api_is_an_outage_that_is_waited_for_longer_each_time() {
    holds_longer_each_time(Setup::default(), Reply::overloaded(), "outage", &[1, 2]);
}

#[test]
fn a_subscription_s_limit_without_a_reset_time_is_waited_for_longer_each_time() {
    let token = "sk-ant-oat01-made-up-for-the-tests-of-ccl".to_owned();
    let setup = Setup {
        consent: Consent { key: false, ..Consent::default() },
        env: vec![("CLAUDE_CODE_OAUTH_TOKEN", token)],
        ..Setup::default()
    };
    let reply = Reply::rate_limited(0).without_reset();
    holds_longer_each_time(setup, reply, "limit", &[5, 10]);
}

#[test]
fn an_error_of_the_task_counts_and_the_last_attempt_is_filed_in_failed() {
    let world = World::with(Setup { dispatcher: json!({"max_attempts": 1}), ..Setup::default() });
    world.api.otherwise(Reply::Error {
        status: 413,
        kind: "request_too_large",
        message: "Request exceeds the maximum size".to_owned(),
        headers: vec![("x-should-retry".to_owned(), "false".to_owned())],
    });
    world.dispatch("Fix it");
    let filed = world.wait_for_place("failed/fix.md");
    assert_eq!((&filed.ending["outcome"], &filed.ending["attempt"]), (&json!("failed"), &json!(1)));
    assert!(filed.text.starts_with("Fix it\n"), "{}", filed.text);
}

#[test]
fn the_cost_of_a_resumed_conversation_is_that_of_this_run() {
    let world = World::new();
    // 100 tokens read and 10 written each time; what failed cost nothing.
    world.api.script([Reply::bash("true"), Reply::bash("true"), Reply::server_error()]);
    world.dispatch("Fix it");
    let first = world.wait_for_place("inbox/fix.md");
    wake(&world);
    let second = world.wait_for_place("done/fix.md");
    assert_eq!(first.ending["agent_session"], second.ending["agent_session"]);
    let amount = |filed: &Filed| -> f64 {
        let amount = &filed.ending["cost"]["amount"];
        amount.as_str().unwrap().parse().unwrap()
    };
    let (first, second) = (amount(&first), amount(&second));
    assert!((first / second - 2.0).abs() < 1e-6, "{first} {second}");
}

#[test]
fn claude_code_itself_tries_again_what_may_pass() {
    let world = World::new();
    let busy =
        Reply::server_error().with_header("x-should-retry", "true").with_header("retry-after", "1");
    world.api.script([busy.clone(), busy]);
    world.dispatch("Fix it");
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending["attempt"], 1);
    assert_eq!(world.api.turns().len(), 3);
    let home = world.sandbox.home();
    let records = claude_home::transcript(&home, filed.ending["agent_session"].as_str().unwrap());
    assert!(records.iter().all(|r| r["isApiErrorMessage"] != true));
    assert_eq!(world.project.task_places(TASK), ["done/fix.md"]);
}
