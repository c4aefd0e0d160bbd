//! What becomes of a task that Claude Code has: filed by evidence, the session free again.

use std::time::Instant;

use ccl::agent::claude::Transcript;
use serde_json::{Value, json};

use super::support::{Reply, claude_home};
use super::world::{SESSION, TASK, World, kinds};

/// Waits until Claude Code's registry says `status`.
#[track_caller]
fn wait_for_status(world: &World, status: &str) {
    let home = world.sandbox.home();
    world.tmux.wait_until(&format!("the status {status}"), || {
        claude_home::registry(&home).iter().any(|e| e["status"] == status)
    });
}

#[test]
fn what_is_done_is_filed_with_its_result_and_what_it_took() {
    let world = World::without_hooks();
    world.api.script([Reply::text("It is **fixed**.\n\n- twice")]);
    world.project.drop_task(TASK, "---\npriority: critical\n---\nFix it\n");
    let dispatched = world.scan();
    assert_eq!(kinds(&dispatched), ["dispatched"]);
    assert_eq!(dispatched[0]["model"], "opus");
    let conversation = world.conversation();
    world.api.wait_for_turn("Fix it");

    let events = world.assign();
    assert_eq!(kinds(&events), ["done"], "{events:?}");
    assert_eq!(events[0]["task"], TASK);
    assert_eq!(events[0]["session"], SESSION);
    assert_eq!(events[0]["provider"], "claude-code");
    let filed = world.wait_for_place("done/fix.md");
    let (task, rest) = filed.text.split_once("## Result").unwrap();
    assert_eq!(task.trim_end(), "---\npriority: critical\n---\nFix it");
    let lines: Vec<_> = rest.trim().lines().collect();
    let [first, "", "- twice", .., footer, "", _ending] = lines[..] else {
        panic!("{rest}");
    };
    assert_eq!(first, "It is **fixed**.");
    for part in [
        "claude-code (claude-opus",
        &format!("in {SESSION}"),
        "100 tokens in, 10 out",
        "USD",
        &format!("claude --resume {conversation}"),
    ] {
        assert!(footer.contains(part), "{part}: {footer}");
    }
    let ending = &filed.ending;
    assert_eq!(ending["outcome"], "done");
    assert_eq!(ending["attempt"], 1);
    assert_eq!(ending["provider"], "claude-code");
    assert_eq!(ending["agent_session"], json!(conversation));
    assert_eq!(ending["cost"]["currency"], "USD");
    assert!(ending["started_at"].as_str() < ending["ended_at"].as_str());
    assert_eq!(ending.get("reason"), None);
    world.assert_usable_shell();
    assert_eq!(kinds(&world.assign()), [] as [&str; 0]);
}

#[test]
fn an_ordinary_pass_waits_until_the_agent_has_been_quiet() {
    let world = World::without_hooks();
    world.dispatch("Fix it");
    wait_for_status(&world, "idle");
    let idle = Instant::now();
    let events = world.tmux.wait_for("reap files it", || {
        let report = world.sandbox.ccl_json(&["reap"]);
        Some(report["events"].as_array()?.clone()).filter(|events| !events.is_empty())
    });
    assert_eq!(kinds(&events), ["done"]);
    let waited = idle.elapsed().as_secs();
    assert!((8..25).contains(&waited), "{waited} s");
    world.wait_for_place("done/fix.md");
}

#[test]
fn a_turn_that_is_under_way_is_left_alone_even_if_assign_is_called() {
    let world = World::without_hooks();
    world.api.script([Reply::bash("tail -f /dev/null")]);
    world.dispatch("Fix it");
    world.tmux.wait_for_text(&format!("={SESSION}:"), "$ tail -f");
    assert_eq!(kinds(&world.assign()), [] as [&str; 0]);
    assert_eq!(world.project.task_places(TASK), ["inbox/fix.md.dispatched"]);
    assert_eq!(world.claim()["phase"], "working");
    assert_eq!(world.api.turns().len(), 1);
    let session = &world.sandbox.ccl_json(&["status"])["sessions"][0];
    assert_eq!(session["doing"], "Bash: Run it", "{session}");
}

#[test]
fn a_pool_of_one_works_through_the_inbox_after_one_scan() {
    let world = World::new();
    for name in ["a.md", "b.md", "c.md"] {
        world.project.drop_task(name, format!("Work on {name}"));
    }
    assert_eq!(kinds(&world.scan()), ["dispatched"]);
    for name in ["a.md", "b.md", "c.md"] {
        let filed = world.wait_for_place(&format!("done/{name}"));
        assert_eq!(filed.ending["attempt"], 1);
    }
    assert_eq!(world.project.inbox(), [] as [&str; 0]);
    let prompts: Vec<_> = world.api.turns().iter().map(|turn| turn.prompt()).collect();
    assert_eq!(prompts.len(), 3, "{prompts:#?}");
    for (prompt, name) in prompts.iter().zip(["a.md", "b.md", "c.md"]) {
        assert!(prompt.contains(&format!("Work on {name}")), "{prompt}");
    }
    world.assert_usable_shell();
}

#[test]
fn many_calls_of_assign_file_it_once() {
    let world = World::without_hooks();
    world.dispatch("Fix it");
    wait_for_status(&world, "idle");
    let started: Vec<_> = (0..4)
        .map(|_| {
            let mut ccl = world.sandbox.std_ccl();
            ccl.arg("--config").arg(world.sandbox.config_file());
            ccl.args(["--json", "assign", SESSION]);
            ccl.stdout(std::process::Stdio::piped());
            ccl.spawn().unwrap()
        })
        .collect();
    let mut done = 0;
    for child in started {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        done += kinds(report["events"].as_array().unwrap()).len();
    }
    assert_eq!(done, 1);
    world.wait_for_place("done/fix.md");
    world.assert_usable_shell();
}

#[test]
fn an_agent_that_was_killed_goes_on_where_it_was() {
    let world = World::without_hooks();
    world.api.script([Reply::bash("tail -f /dev/null")]);
    world.dispatch("Fix it in two steps");
    world.tmux.wait_for_text(&format!("={SESSION}:"), "$ tail -f");
    let conversation = world.conversation();
    let pid = claude_home::registry(&world.sandbox.home())[0]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    // A pass finds it and gives it back; that one, or the next, resumes it.
    let mut events = Vec::new();
    world.tmux.wait_until("the passes go on with it", || {
        events.extend(world.scan());
        events.len() >= 2
    });
    assert_eq!(kinds(&events), ["released", "dispatched"], "{events:#?}");
    assert!(events[0]["reason"].as_str().unwrap().contains("in the middle"), "{events:?}");
    assert_eq!(world.conversation(), conversation);
    assert_eq!(world.claim()["attempt"], 2);
    wait_for_status(&world, "idle");
    let turn = world.api.turns().pop().unwrap();
    let texts = turn.user_texts();
    assert!(texts.concat().matches("Fix it in two steps").count() == 2, "{texts:#?}");
    let events = world.assign();
    assert_eq!(kinds(&events), ["done"]);
    let filed = world.wait_for_place("done/fix.md");
    assert_eq!(filed.ending["agent_session"], json!(conversation));
    assert_eq!(filed.ending["attempt"], 2);
    world.assert_usable_shell();
}

/// How much of the conversation's work runs in the background, by its transcript.
fn in_the_background(world: &World, conversation: &str) -> usize {
    let claude_dir = world.sandbox.home().join(".claude");
    let found = Transcript::find(&claude_dir, conversation.parse().unwrap()).unwrap();
    found.map_or(0, |transcript| transcript.summary(0).unwrap().background.len())
}

#[test]
fn a_command_in_the_background_is_work() {
    let world = World::new();
    let gate = world.sandbox.path().join("gate");
    let gate_file = gate.display();
    let wait = format!("until [ -e {gate_file} ]; do sleep 0.1; done; echo built");
    world.api.script([
        Reply::background(&wait),
        Reply::text("It is building"),
        Reply::text("It is built"),
    ]);
    world.dispatch("Build it");
    let conversation = world.conversation();
    let stop = world.sandbox.session_file(SESSION, "stop");
    world.tmux.wait_until("the turn ends", || stop.exists());
    assert_eq!(kinds(&world.assign()), [] as [&str; 0]);
    assert_eq!(world.project.task_places(TASK), ["inbox/fix.md.dispatched"]);
    // The hook is ahead of the transcript.
    let is_counted = || in_the_background(&world, &conversation) == 1;
    world.tmux.wait_until("the transcript says so", is_counted);
    std::fs::write(&gate, "").unwrap();
    let filed = world.wait_for_place("done/fix.md");
    assert!(filed.text.contains("It is built"), "{}", filed.text);
    assert_eq!(in_the_background(&world, &conversation), 0);
}

#[test]
fn an_agent_in_the_background_is_work() {
    let world = World::new();
    let input = json!({"description": "look", "prompt": "Look around",
                       "subagent_type": "general-purpose", "run_in_background": true});
    // Which of the two asks first for the second reply does not matter.
    world.api.script([
        Reply::Tool { name: "Agent", input },
        Reply::text("It is being looked at"),
        Reply::Hang("It was looked at".to_owned()),
    ]);
    world.dispatch("Look");
    let conversation = world.conversation();
    world.tmux.wait_until("both ask", || world.api.turns().len() == 3);
    assert_eq!(kinds(&world.assign()), [] as [&str; 0]);
    assert_eq!(world.project.task_places(TASK), ["inbox/fix.md.dispatched"]);
    world.api.release();
    world.wait_for_place("done/fix.md");
    assert_eq!(in_the_background(&world, &conversation), 0);
    assert!(world.api.turns().len() > 3);
}

#[test]
fn a_hook_that_fails_leaves_the_screen_as_it_is() {
    let world = World::new();
    world.api.script([Reply::Hang("Fixed".to_owned())]);
    world.dispatch("Fix it");
    // The hook reads this instead of its configuration, and waits for what is in it.
    let config = world.sandbox.config_file();
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&config).status();
    assert!(made.unwrap().success());
    world.api.wait_for_turn("Fix it");
    world.api.release();
    std::fs::write(&config, "no: such key\n").unwrap();
    world.tmux.wait_until("the hook ends", || {
        world.tmux.processes().iter().all(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            name.unwrap_or_default().trim() != "ccl"
        })
    });
    std::fs::remove_file(&config).unwrap();
    world.sandbox.config_text(&good);
    assert_eq!(kinds(&world.assign()), ["done"]);
    world.wait_for_place("done/fix.md");
    world.assert_usable_shell();
}
