//! A check judges what Claude Code has made: red goes back to it in the same conversation, and green is done.

use std::fs;

use serde_json::{Value, json};

use super::support::messages_api::Request;
use super::support::wait::wait_until;
use super::support::{Reply, claude_home};
use super::world::{Filed, LONG, Setup, World, kinds};

/// Red until there is a file `good`, and says so in colour.
const RULES: &str = "check: \"printf 'no \\\\033[31mgood\\\\033[0m here\\\\n'; pwd; [ -e good ]\"\ncheck_timeout: 5m\n";

/// What the agent gets back of it; on the screen of the check there is a line more.
const RED: &str = "ended with 1. The last of its output:\n\n```\nno good here\n";

fn world(rules: &str, hooks: bool) -> World {
    let world = World::with(Setup { hooks, ..Setup::default() });
    world.project.init_git();
    let rules = format!("{RULES}{rules}");
    fs::write(world.project.root().join(".agent-queue/project.yaml"), rules).unwrap();
    world.api.script([
        Reply::bash("pwd; echo first > work"),
        Reply::text("It is written"),
        Reply::bash("pwd; touch good"),
        Reply::text("It is good now"),
    ]);
    world
}

/// The turns of the conversation that was given the red check, as the API received them.
fn given_back(world: &World) -> Vec<Request> {
    let mut turns = world.api.turns();
    turns.retain(|turn| turn.user_texts().concat().contains("Make it pass"));
    turns
}

/// Red went back once, in the conversation that had the task; and the second round made it green.
#[track_caller]
fn assert_mended(world: &World, conversation: &str, filed: &Filed) {
    assert!(filed.text.contains("## Result\n\nIt is good now\n"), "{}", filed.text);
    assert!(filed.text.contains("check passed, "), "{}", filed.text);
    let check = &filed.ending["check"];
    assert_eq!((&check["exit"], &check["rounds"]), (&json!(0), &json!(1)), "{check}");
    assert_eq!(
        (&filed.ending["attempt"], &filed.ending["agent_session"]),
        (&json!(1), &json!(conversation))
    );
    let asked = given_back(world);
    // The round's prompt, then the answer of its tool.
    assert_eq!(asked.len(), 2, "{asked:#?}");
    let first = &asked[0];
    let texts = first.user_texts();
    assert!(texts.concat().contains("Write it"), "the first turn is a part of it: {texts:#?}");
    assert!(first.body["messages"].to_string().contains("It is written"), "{:#}", first.body);
    let prompt = first.prompt();
    assert!(prompt.contains(RED), "{prompt}");
    assert!(!prompt.contains('\u{1b}'), "{prompt:?}");
    for turn in &asked {
        let is_given = |text: &&String| text.contains("Make it pass");
        assert_eq!(turn.user_texts().iter().filter(is_given).count(), 1, "{turn:#?}");
    }
    // Nobody was given the task itself a second time.
    let last = asked[1].user_texts().concat();
    assert_eq!(last.matches("Write it").count(), 1, "{last}");
    let home = world.sandbox.home();
    let records = claude_home::transcript(&home, conversation);
    let given = records.iter().filter(|record| {
        record["type"] == "user" && record["message"].to_string().contains("Make it pass")
    });
    assert_eq!(given.count(), 1, "{records:#?}");
    assert_eq!(world.project.inbox(), [""; 0]);
    world.assert_usable_shell();
}

/// The Stop hook starts the check, the check's end brings its verdict, the verdict the agent, and so on: nobody calls
/// `ccl` after the scan.
#[test]
fn with_hooks_red_is_mended_in_the_same_conversation_without_a_pass() {
    let world = world("", true);
    world.dispatch("Write it");
    let conversation = world.conversation();
    let filed = world.wait_for_place("done/fix.md");
    assert_mended(&world, &conversation, &filed);
    assert!(world.project.root().join("good").exists());
    // Without a worktree nobody looks at what it was before.
    assert_eq!(filed.ending["check"].get("red_before"), None);
}

#[test]
fn with_hooks_red_is_mended_in_a_worktree_without_a_pass() {
    let world = world("isolation: worktree\nland: rebase\n", true);
    world.dispatch("Write it");
    let conversation = world.conversation();
    let filed = world.wait_for_place("done/fix.md");
    assert_mended(&world, &conversation, &filed);
    assert_in_worktree(&world, &filed);
}

#[track_caller]
fn assert_in_worktree(world: &World, filed: &Filed) {
    let project = &world.project;
    let path = project.root().canonicalize().unwrap().join(".agent-queue/worktrees/fix");
    let prompt = given_back(world)[0].prompt();
    assert!(prompt.contains(&format!("{}\n", path.display())), "it was judged there: {prompt}");
    assert!(prompt.contains("It was red before you began, too"), "{prompt}");
    let check = &filed.ending["check"];
    assert_eq!(check["red_before"], true, "{check}");
    assert_eq!(filed.ending["git"]["landed"], true, "{:?}", filed.ending);
    // What was judged is what main has.
    assert_eq!(check["tree"], project.git(["rev-parse", "main^{tree}"]));
    assert_eq!(project.git(["show", "main:work"]), "first");
    let worktrees = project.queue("worktrees");
    assert_eq!(fs::read_dir(worktrees).unwrap().count(), 0);
}

/// Ordinary passes alone, until the task is filed; their events.
#[track_caller]
fn reap_until_done(world: &World) -> Vec<Value> {
    let mut events = Vec::new();
    wait_until("passes file it", 2 * LONG, || {
        let report = world.sandbox.ccl_json(&["reap"]);
        events.extend(report["events"].as_array().unwrap().clone());
        world.project.done() == ["fix.md"]
    });
    events
}

#[test]
fn without_hooks_plain_passes_do_the_same() {
    for rules in ["", "isolation: worktree\nland: rebase\n"] {
        let world = world(rules, false);
        world.dispatch("Write it");
        let conversation = world.conversation();
        let events = reap_until_done(&world);
        let filed = world.wait_for_place("done/fix.md");
        assert_mended(&world, &conversation, &filed);
        let mut expected = vec!["checked", "checked", "done"];
        if !rules.is_empty() {
            assert_in_worktree(&world, &filed);
            expected.push("landed");
        }
        assert_eq!(kinds(&events), expected, "{events:#?}");
    }
}
