//! Claude Code in a worktree of its own: trusted, found again, resumed where it was, and given back what it has to solve.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::support::{MessagesApi, Reply, claude_home, real_claude};
use super::world::{SESSION, Setup, TASK, World, kinds};

/// A repository whose tasks have worktrees.
fn world(version: &'static str, rules: &str) -> World {
    let world = World::with(Setup { version, ..Setup::default() });
    world.project.init_git();
    let rules = format!("isolation: worktree\n{rules}");
    fs::write(world.project.root().join(".agent-queue/project.yaml"), rules).unwrap();
    world
}

fn worktree(world: &World) -> PathBuf {
    world.project.root().canonicalize().unwrap().join(".agent-queue/worktrees/fix")
}

/// What `git` of an agent needs that says who it is.
const GIT: &str = "GIT_EDITOR=true git -c user.name=Agent -c user.email=agent@example.org";

/// Waits until a tool of the agent has answered with `text`, as the API received it.
fn wait_for_result(api: &MessagesApi, world: &World, text: &str) {
    world.tmux.wait_until(&format!("the result {text:?}"), || {
        api.turns().iter().any(|turn| results(&turn.body).contains(text))
    });
}

/// What the conversation's tools have answered, by a turn's body.
fn results(body: &Value) -> String {
    let blocks = body["messages"].as_array().into_iter().flatten();
    let blocks = blocks.flat_map(|message| message["content"].as_array().into_iter().flatten());
    let results = blocks.filter(|block| block["type"] == "tool_result");
    results.map(|block| block["content"].to_string() + "\n").collect()
}

#[track_caller]
fn works_in_its_worktree(version: &'static str) {
    let world = world(version, "");
    let before = world.project.git(["rev-parse", "main"]);
    world.api.script([Reply::bash("pwd | tee where.txt"), Reply::text("It is written")]);
    // Of a dialog, which the API never hears of, the pass would say that it failed.
    world.dispatch("Write it");
    let conversation = world.conversation();
    // Nobody but the hook files it.
    let filed = world.wait_for_place("done/fix.md");
    assert!(filed.text.contains("## Result\n\nIt is written\n"), "{}", filed.text);
    assert!(filed.text.contains("200 tokens in, 20 out"), "{}", filed.text);
    assert_eq!(
        (&filed.ending["attempt"], &filed.ending["agent_session"]),
        (&json!(1), &json!(conversation))
    );
    let git = &filed.ending["git"];
    assert_eq!((&git["branch"], &git["base"]), (&json!("ccl/fix"), &json!(before)), "{git}");
    assert_eq!(
        (&git["commits"], &git["files"], &git["insertions"]),
        (&json!(1), &json!(1), &json!(1)),
        "{git}"
    );
    let path = worktree(&world);
    assert_eq!(world.project.git(["show", "ccl/fix:where.txt"]), path.to_str().unwrap());
    assert_eq!(world.project.git(["rev-parse", "main"]), before);
    assert!(!path.exists(), "its worktree is removed");
    // The transcript is the worktree's, and trust is the project's alone.
    assert!(!claude_home::transcript(&world.sandbox.home(), &conversation).is_empty());
    let known = fs::read_to_string(world.sandbox.home().join(".claude.json")).unwrap();
    let known: Value = serde_json::from_str(&known).unwrap();
    let trusted = &known["projects"][path.to_str().unwrap()]["hasTrustDialogAccepted"];
    assert_ne!(*trusted, json!(true), "{known:#}");
    world.assert_usable_shell();
}

#[test]
fn it_works_in_its_worktree_and_leaves_a_branch() {
    works_in_its_worktree(real_claude::CURRENT);
}

#[test]
fn the_older_versions_work_in_their_worktrees() {
    works_in_its_worktree(real_claude::EARLIER);
    works_in_its_worktree(real_claude::OLDEST);
}

#[test]
fn an_interrupted_attempt_goes_back_into_its_worktree_and_its_conversation() {
    let world = world(real_claude::CURRENT, "");
    world.api.script([
        Reply::bash("echo begun | tee half.txt"),
        Reply::bash("tail -f /dev/null"),
        Reply::bash("pwd; cat half.txt; echo rest >> half.txt"),
        Reply::text("Both halves are there"),
    ]);
    world.dispatch("Write it in two steps");
    world.tmux.wait_for_text(&format!("={SESSION}:"), "$ tail -f");
    let conversation = world.conversation();
    let pid = claude_home::registry(&world.sandbox.home())[0]["pid"].as_i64().unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let mut events = Vec::new();
    world.tmux.wait_until("the passes go on with it", || {
        events.extend(world.scan());
        events.len() >= 2
    });
    assert_eq!(kinds(&events), ["released", "dispatched"], "{events:#?}");
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(
        (&filed.ending["attempt"], &filed.ending["agent_session"]),
        (&json!(2), &json!(conversation))
    );
    assert_eq!(filed.ending["git"]["branch"], "ccl/fix");
    assert_eq!(world.project.git(["show", "ccl/fix:half.txt"]), "begun\nrest");
    // What the API got last is one conversation with both attempts, and the second looked around in the same place.
    let last = world.api.turns().pop().unwrap();
    let texts = last.user_texts().concat();
    assert_eq!(texts.matches("Write it in two steps").count(), 2, "{texts}");
    let results = results(&last.body);
    let place = worktree(&world);
    assert!(results.contains(&format!("{}\\nbegun", place.display())), "{results}");
    world.assert_usable_shell();
}

#[test]
fn a_conflict_is_given_back_in_its_conversation_and_lands_once_it_is_solved() {
    let world = world(real_claude::CURRENT, "land: rebase\ncheck: none\n");
    world.api.script([
        Reply::bash(&format!("echo agent > README && {GIT} commit -qam 'agent' && echo committed")),
        Reply::Hang("It is written".to_owned()),
        Reply::bash(&format!(
            "pwd; {GIT} rebase -q main; echo both > README; git add README; {GIT} rebase --continue"
        )),
        Reply::text("It is solved"),
    ]);
    world.dispatch("Write it");
    let conversation = world.conversation();
    wait_for_result(&world.api, &world, "committed");
    fs::write(world.project.root().join("README"), "a person's\n").unwrap();
    world.project.git(["commit", "-qam", "a person's"]);
    world.api.release();

    let filed = world.wait_for_place("done/fix.md");
    assert!(filed.text.contains("## Result\n\nIt is solved\n"), "{}", filed.text);
    assert!(filed.text.contains("landed in main: 1 commits"), "{}", filed.text);
    assert_eq!(
        (&filed.ending["attempt"], &filed.ending["agent_session"]),
        (&json!(1), &json!(conversation))
    );
    assert_eq!(filed.ending["git"]["landed"], true, "{:?}", filed.ending);
    assert_eq!(world.project.git(["log", "--format=%s"]), "agent\na person's\nfirst");
    assert_eq!(fs::read_to_string(world.project.root().join("README")).unwrap(), "both\n");
    assert_eq!(world.project.git(["status", "--porcelain"]), "");
    assert_eq!(world.project.git(["branch", "--list", "ccl/*"]), "");
    assert!(!worktree(&world).exists());

    let asked = world.api.wait_for_turn("Rebase your branch onto main");
    let texts = asked.user_texts();
    assert!(texts.concat().contains("Write it"), "the same conversation: {texts:#?}");
    assert!(asked.prompt().contains("conflicts in README"), "{}", asked.prompt());
    assert!(results(&asked.body).contains("committed"), "{:#}", asked.body["messages"]);
    let turns = world.api.turns();
    let is_asked = |text: &str| text.contains("Rebase your branch onto main");
    let last = turns.last().unwrap();
    assert_eq!(last.user_texts().iter().filter(|text| is_asked(text)).count(), 1);
    assert!(results(&last.body).contains(worktree(&world).to_str().unwrap()));
    assert_eq!(world.project.task_places(TASK), ["done/fix.md"]);
    world.assert_usable_shell();
}
