//! A tmux that lies, sessions that are not ours, and what stands in those that are.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::support::faults::{World, said};
use super::support::{PATIENCE, wait_until};
use super::{assert_no_canary, at_work, let_go, serve};

#[test]
fn a_tmux_that_hangs_or_talks_nonsense_costs_one_pass() {
    for (script, word) in [
        ("sleep 1000", "gave no answer"),
        ("echo nonsense", "cannot be read"),
        ("printf '%%1 2 3\\n\\n'", "cannot be read"),
        ("head -c 20000000 /dev/zero", "16 MiB"),
        ("echo no; echo bad >&2; exit 3", "bad"),
        ("kill -9 $$", "signal"),
    ] {
        let mut world = World::new();
        let stand_in = world.sandbox.path().join("tmux.sh");
        fs::write(&stand_in, format!("#!/bin/sh\n{script}\n")).expect("a stand-in");
        fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).expect("a mode");
        let real = world.tmux.command();
        world.project.drop_task("t.md", "go\n");
        world.sandbox.config("tmux", json!({"command": [stand_in]}));
        let output = world.sandbox.ccl(["scan"]).output().expect("ccl runs");
        assert_eq!(output.status.code(), Some(75), "{script}: {}", said(&output));
        assert!(said(&output).contains(word), "{script}: {}", said(&output));
        assert_eq!(world.project.inbox(), ["t.md"]);
        world.sandbox.config("tmux", json!({"command": real}));
        world.converge("t.md", script);
        assert_eq!(world.runs("t.md"), 1);
    }
}

#[test]
fn a_session_whose_name_begins_like_ours_is_not_ours() {
    let mut world = World::new();
    let pane = world.tmux.new_session("k-10", &[]);
    world.tmux.run(&["kill-session", "-t", "=k-0:"]);
    world.sandbox.config("pool", json!({"autonomous": {"start_index": 1, "create": false}}));
    let before = world.tmux.capture(&pane);
    world.project.drop_task("t.md", "go\n");
    let output = world.pass(&["scan"]);
    assert!(said(&output).contains("k-1 does not exist"), "{}", said(&output));
    assert_eq!(world.project.inbox(), ["t.md"]);
    world.sandbox.config("pool", json!({"autonomous": {"create": true}}));
    serve(&world, &[&world.project], || world.project.done() == ["t.md"]);
    assert_eq!(world.tmux.capture(&pane), before);
}

#[test]
fn whatever_stands_on_the_command_line_is_not_run() {
    let world = World::new();
    for shell in ["bash", "zsh", "dash", "fish"] {
        for (case, keys) in [
            ("half a line", &["touch canary-half"][..]),
            ("an open quote", &["echo 'open", "Enter", "touch canary-quote"]),
            ("copy mode", &[]),
        ] {
            let task = format!("{shell}-{}.md", case.replace(' ', "-"));
            world.tmux.run(&["kill-session", "-t", "=k-0:"]);
            let pane = world.tmux.new_session("k-0", &[shell]);
            for key in keys {
                world.tmux.send_keys(&pane, &[key]);
                let shown = key.trim_end_matches("Enter");
                world.tmux.wait_for_text(&pane, shown);
            }
            if keys.is_empty() {
                world.tmux.run(&["copy-mode", "-t", &pane]);
            }
            world.project.drop_task(&task, "go\n");
            world.converge(&task, case);
            assert_eq!(world.runs(&task), 1, "{shell}, {case}");
        }
    }
    assert_no_canary(&world);
}

#[test]
fn nothing_is_typed_into_an_editor() {
    let world = World::new();
    let pane = "=k-0:";
    let file = world.sandbox.path().join("edited");
    world.tmux.type_line(pane, &format!("vi {}", file.display()));
    world.tmux.wait_for_text(pane, "~");
    world.tmux.send_keys(pane, &["i"]);
    world.project.drop_task("t.md", "go\n");
    for _ in 0..3 {
        let output = world.pass(&["scan"]);
        assert!(said(&output).contains("in the foreground"), "{}", said(&output));
        assert_eq!(world.project.inbox(), ["t.md"]);
    }
    world.tmux.send_keys(pane, &["Escape", ":wq", "Enter"]);
    wait_until("the editor has written", PATIENCE, || file.exists());
    assert_eq!(fs::read_to_string(&file).expect("the file").trim(), "");
    world.converge("t.md", "after the editor");
}

#[test]
fn a_suspended_agent_is_not_replaced() {
    let world = World::new();
    at_work(&world, "t.md", "hold\n");
    world.tmux.send_keys("=k-0:", &["C-z"]);
    world.tmux.wait_until("the shell says so", || world.tmux.capture("=k-0:").contains("topped"));
    for verb in ["scan", "reap", "scan"] {
        world.pass(&[verb]);
        assert_eq!(world.project.task_places("t.md"), ["inbox/t.md.dispatched"]);
    }
    world.tmux.type_line("=k-0:", "fg");
    let_go(&world, "t.md", "after it was suspended", 1);
}

#[test]
fn an_agent_that_outlives_its_session_is_ended_before_another_one_starts() {
    let world = World::new();
    at_work(&world, "t.md", "hold, without its session\n");
    let agents = || {
        let agent = world.sandbox.path().join("agent.sh");
        let out = std::process::Command::new("pgrep").args(["-f", "--"]).arg(agent).output();
        let out = out.expect("pgrep");
        String::from_utf8_lossy(&out.stdout).lines().count()
    };
    assert_eq!(agents(), 1);
    world.tmux.run(&["kill-session", "-t", "=k-0:"]);
    for verb in ["reap", "scan", "reap"] {
        world.pass(&[verb]);
        world.assert_once("t.md", "without its session");
        assert!(agents() <= 1, "{}", world.shown());
    }
    let_go(&world, "t.md", "after its session had gone", 2);
}
