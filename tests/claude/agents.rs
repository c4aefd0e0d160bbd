//! Several agents, all of them the real Claude Code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::support::{Consent, Reply, Sandbox, claude_home};
use super::world::{LONG, SESSION, Setup, World, kinds};

const KEY: &str = "sk-ant-api03-of-the-agent-named-key-made-up-0000000000000";

/// A subscription, and an API key of the user's own behind it.
fn subscription_and_key() -> World {
    let token = "sk-ant-oat01-made-up-for-the-tests-of-ccl".to_owned();
    let mut world = World::with(Setup {
        consent: Consent { key: false, ..Consent::default() },
        env: vec![("CLAUDE_CODE_OAUTH_TOKEN", token)],
        hooks: false,
        ..Setup::default()
    });
    let file = world.sandbox.path().join("key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    world.sandbox.config("agent", Value::Null);
    let agents = json!({
        "claude": {"hooks": false},
        "key": {"hooks": false, "api_key_file": file},
    });
    world.sandbox.config("agents", agents);
    world.sandbox.config("failover", json!(["claude", "key"]));
    world
}

/// The files below a directory in which the text stands.
fn files_with(directory: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(&path, text, found);
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

fn environments_with(sandbox: &Sandbox, text: &str) -> Vec<String> {
    let home = sandbox.path().display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            let shown = String::from_utf8_lossy(&bytes);
            if shown.contains(text) && shown.contains(&home) {
                found.push(format!("{}/{file}", entry.path().display()));
            }
        }
    }
    found
}

#[test]
fn a_key_goes_on_with_the_conversation_where_the_subscription_is_at_its_limit() {
    let world = subscription_and_key();
    let reset = Timestamp::now().as_second() / 3600 * 3600 + 2 * 3600;
    world.api.script([Reply::rate_limited(reset), Reply::Hang("Fixed".to_owned())]);
    world.dispatch("Fix it");
    world.tmux.wait_until("its turn has begun", || !world.api.turns().is_empty());
    let first = world.api.turns()[0].clone();
    assert!(!first.headers.iter().any(|(_, value)| value.contains(KEY)), "{:?}", first.headers);
    // The limit is two hours away: the next agent goes on at once.
    world.tmux.wait_until("the key's agent has the task", || {
        world.scan();
        world.api.turns().len() == 2
    });
    assert_eq!(environments_with(&world.sandbox, KEY), [""; 0]);
    assert_eq!(world.claim()["agent"]["name"], "key");
    let turn = world.api.turns()[1].clone();
    assert_eq!(turn.header("x-api-key"), Some(KEY), "{:?}", turn.headers);
    // The same conversation, with all that was said before.
    assert_eq!(turn.user_texts().concat().matches("[fix.md] Fix it").count(), 2);
    world.api.release();
    world.tmux.wait_until("it is done", || {
        world.assign();
        world.project.task_places("fix.md") == ["done/fix.md"]
    });
    let filed = world.filed("done/fix.md");
    assert_eq!((&filed.ending["agent"], &filed.ending["attempt"]), (&json!("key"), &json!(1)));
    // The key is in its own file, and nowhere else.
    let mut found = Vec::new();
    files_with(world.sandbox.path(), KEY, &mut found);
    assert_eq!(found, [world.sandbox.path().join("key").display().to_string()]);
}

#[test]
fn an_agent_with_a_directory_of_its_own_has_its_login_its_trust_and_its_conversations_there() {
    let mut world = World::without_hooks();
    let other = world.sandbox.path().join("other home");
    claude_home::prepare_home(&other, &[world.project.root()], Consent::default());
    // Beside a directory of its own there is no state file.
    let directory = other.join(".claude");
    fs::rename(other.join(".claude.json"), directory.join(".claude.json")).unwrap();
    world.sandbox.config("agent", Value::Null);
    let agents = json!({
        "claude": {"hooks": false},
        "own": {"hooks": false, "config_dir": directory},
    });
    world.sandbox.config("agents", agents);
    let rules = world.project.root().join(".agent-queue/project.yaml");
    fs::write(rules, "agent: own\n").unwrap();
    world.api.otherwise(Reply::text("Fixed"));
    world.dispatch("Fix it");
    assert_eq!(world.claim()["agent"]["name"], "own");
    let conversation = world.conversation();
    let filed = super::support::wait::poll(LONG, || {
        world.scan();
        (world.project.task_places("fix.md") == ["done/fix.md"]).then(|| world.filed("done/fix.md"))
    });
    let ending = filed.expect("it is done").ending;
    assert_eq!(ending["agent"], "own");
    assert!(ending["cost"]["amount"].is_string(), "{ending:?}");
    assert_eq!(ending["cost_of_task"], json!([ending["cost"]]));
    let is_in = |directory: &Path| {
        let slugs = fs::read_dir(directory.join("projects")).into_iter().flatten().flatten();
        slugs.into_iter().any(|it| it.path().join(format!("{conversation}.jsonl")).exists())
    };
    assert!(is_in(&directory) && !is_in(&world.sandbox.home().join(".claude")));
}

#[test]
fn a_limit_of_one_model_holds_that_model_and_another_takes_the_task() {
    let token = "sk-ant-oat01-made-up-for-the-tests-of-ccl".to_owned();
    let world = World::with(Setup {
        consent: Consent { key: false, ..Consent::default() },
        env: vec![("CLAUDE_CODE_OAUTH_TOKEN", token)],
        hooks: false,
        agent: json!({"fallback_model": "sonnet"}),
        ..Setup::default()
    });
    let reset = Timestamp::now().as_second() / 3600 * 3600 + 2 * 3600;
    let of_opus = Reply::rate_limited(reset)
        .with_header("anthropic-ratelimit-unified-representative-claim", "seven_day_opus")
        .with_header("anthropic-ratelimit-unified-7d_opus-reset", &reset.to_string());
    world.api.script([of_opus]);
    world.api.otherwise(Reply::text("Fixed"));
    world.dispatch("---\nmodel: opus\n---\nFix it");
    world.tmux.wait_until("its turn has begun", || !world.api.turns().is_empty());
    assert!(world.api.turns()[0].body["model"].as_str().unwrap().contains("opus"));
    world.tmux.wait_until("another model has the task", || {
        world.scan();
        world.api.turns().len() > 1
    });
    let hold = world.hold("claude@opus");
    assert_eq!((&hold["model"], &hold["cause"]), (&json!("opus"), &json!("limit")), "{hold}");
    let turns = world.api.turns();
    assert!(turns.last().unwrap().body["model"].as_str().unwrap().contains("sonnet"));
    let filed = super::support::wait::poll(LONG, || {
        world.scan();
        (world.project.task_places("fix.md") == ["done/fix.md"]).then(|| world.filed("done/fix.md"))
    });
    let filed = filed.expect("it is done");
    assert_eq!(filed.ending["attempt"], 1);
    assert!(!world.sandbox.session_file(SESSION, "cooldown").exists());
    assert_eq!(kinds(&world.scan()), [] as [&str; 0]);
}

/// Prices for the model, or none, and what the second request gets: 100 tokens read and 10 written have been paid for by
/// then.
#[track_caller]
fn costs_too_much(prices: Value, second: Reply) {
    let mut world = World::with(Setup {
        hooks: false,
        agent: json!({"budget": {"per_task": "0.0001 USD"}}),
        ..Setup::default()
    });
    world.sandbox.config("prices", prices);
    world.api.script([Reply::bash("true"), second]);
    world.dispatch("Fix it");
    world.tmux.wait_until("it is filed", || {
        world.sandbox.ccl_json(&["reap"]);
        world.project.task_places("fix.md") == ["failed/fix.md"]
    });
    let filed = world.filed("failed/fix.md");
    assert!(filed.reason().starts_with("budget: it has cost 0.0"), "{}", filed.reason());
    world.api.release();
    // A person raises it, and the conversation goes on.
    world.sandbox.config("agent", json!({"budget": {"per_task": "9 USD"}}));
    world.sandbox.ccl_json(&["retry", "fix.md"]);
    world.sandbox.ccl_json(&["resume"]);
    world.tmux.wait_until("it is done", || {
        world.scan();
        world.project.task_places("fix.md") == ["done/fix.md"]
    });
}

#[test]
fn what_a_turn_has_cost_so_far_counts_for_the_day_and_the_turn_goes_on() {
    let mut world = World::with(Setup {
        hooks: false,
        agent: json!({"budget": {"per_day": "0.001 USD"}}),
        ..Setup::default()
    });
    world.sandbox.config("prices", json!({"sonnet": {"input": 15, "output": 75}}));
    world.api.script([Reply::bash("true"), Reply::Hang("It is done".to_owned())]);
    world.dispatch("Fix it");
    let agent = || world.sandbox.ccl_json(&["status"])["agents"][0].clone();
    world.tmux.wait_until("its first answer is paid for", || {
        assert_eq!(kinds(&world.scan()), [] as [&str; 0]);
        agent()["state"] == "over-budget"
    });
    assert_eq!(agent()["spent_today"], json!([{"amount": "0.00225", "currency": "USD"}]));
    world.tmux.wait_until("it asks for the second", || world.api.turns().len() == 2);
    world.api.release();
    let filed = super::support::wait::poll(LONG, || {
        world.scan();
        (world.project.task_places("fix.md") == ["done/fix.md"]).then(|| world.filed("done/fix.md"))
    });
    // What Claude Code says at its end takes the place of what its tokens said.
    let cost = &filed.expect("it is done").ending["cost"];
    assert_eq!(agent()["spent_today"], json!([cost]));
}

#[test]
fn a_task_is_ended_once_its_turn_has_cost_too_much() {
    let prices = json!({"sonnet": {"input": 15, "output": 75}});
    costs_too_much(prices, Reply::Hang("late".to_owned()));
}

#[test]
fn a_task_is_not_tried_again_once_its_attempts_have_cost_too_much() {
    costs_too_much(json!({}), Reply::rate_limited(Timestamp::now().as_second() + 3600));
}
