//! A tmux that lies, sessions that are not ours, and what stands in those that are.

use std::fs;

use serde_json::json;

use super::support::faults::{World, said};
use super::support::write_program;
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
        write_program(&stand_in, &format!("#!/bin/sh\n{script}\n"));
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

/// Waits until the shell has nothing more to write: what it greets with may come late.
fn wait_for_prompt(world: &World, pane: &str) {
    world.tmux.type_line(pane, "echo re''ady");
    world.tmux.wait_until("the shell's prompt", || {
        let screen = world.tmux.capture(pane);
        let after = screen.rsplit_once("\nready\n").map_or("", |(_, after)| after);
        after.trim_end().ends_with(['#', '$', '%', '>'])
    });
}

/// What a person left in the session's shell is neither run nor lost.
#[test]
fn whatever_stands_on_the_command_line_is_left_there() {
    let world = World::new();
    for shell in ["bash", "zsh", "dash", "fish"] {
        for (case, keys) in [
            ("half a line", &["touch canary-half"][..]),
            ("an open quote", &["echo 'open", "Enter", "touch canary-quote"]),
            ("copy mode", &[]),
        ] {
            let task = format!("{shell}-{}.md", case.replace(' ', "-"));
            let when = format!("{shell}, {case}");
            // Made before the old one goes: with its last session a server would lose its own options.
            let pane = world.tmux.new_session("new", &[shell]);
            world.tmux.run(&["kill-session", "-t", "=k-0:"]);
            world.tmux.run(&["rename-session", "-t", "=new:", "k-0"]);
            wait_for_prompt(&world, &pane);
            for key in keys {
                world.tmux.send_keys(&pane, &[key]);
                let shown = key.trim_end_matches("Enter");
                world.tmux.wait_for_text(&pane, shown);
            }
            if keys.is_empty() {
                world.tmux.run(&["copy-mode", "-t", &pane]);
            }
            let seen = || (world.tmux.format(&pane, "#{pane_mode}"), world.tmux.capture(&pane));
            let before = seen();
            world.project.drop_task(&task, "go\n");
            world.converge(&task, case);
            assert_eq!(world.runs(&task), 1, "{when}");
            assert_eq!(seen(), before, "{when}");
            assert_eq!(world.tmux.windows("k-0"), [pane], "{when}");
        }
    }
    assert_no_canary(&world);
}

#[test]
fn nothing_reaches_an_editor() {
    let world = World::new();
    let pane = world.tmux.format("=k-0:", "#{pane_id}");
    let file = world.sandbox.path().join("edited");
    world.tmux.type_line(&pane, &format!("vi {}", file.display()));
    world.tmux.wait_for_text(&pane, "~");
    world.tmux.send_keys(&pane, &["i"]);
    world.project.drop_task("t.md", "go\n");
    for _ in 0..3 {
        let output = world.pass(&["scan"]);
        let busy = format!("k-0 is busy: `vi` runs in its pane {pane}");
        assert!(said(&output).contains(&busy), "{}", said(&output));
        assert_eq!(world.project.inbox(), ["t.md"]);
    }
    world.tmux.send_keys(&pane, &["Escape", ":wq", "Enter"]);
    wait_until("the editor has written", PATIENCE, || file.exists());
    assert_eq!(fs::read_to_string(&file).expect("the file").trim(), "");
    world.converge("t.md", "after the editor");
}

/// A window of its own has no shell to which the agent could fall back.
#[test]
fn a_suspended_agent_is_not_replaced() {
    let world = World::new();
    at_work(&world, "t.md", "hold\n");
    let pane = world.tmux.format("=k-0:", "#{pane_id}");
    world.tmux.send_keys(&pane, &["C-z"]);
    world.tmux.wait_for_text(&pane, "^Z");
    for verb in ["scan", "reap", "scan"] {
        world.pass(&[verb]);
        assert_eq!(world.project.task_places("t.md"), ["inbox/t.md.dispatched"]);
    }
    let_go(&world, "t.md", "after it was suspended", 1);
}

/// A shell that takes its time is no shell that has ended.
#[test]
fn a_window_whose_shell_begins_late_is_waited_for() {
    let mut world = World::new();
    let shell = world.sandbox.path().join("late-shell");
    write_program(&shell, "#!/bin/sh\nsleep 0.7\nexec /bin/bash \"$@\"\n");
    world.sandbox.config("agent", json!({"shell": shell}));
    world.sandbox.config("pool", json!({"autonomous": {"max": 2}}));
    world.go(false);
    for task in ["a.md", "b.md"] {
        world.project.drop_task(task, "hold\n");
    }
    let output = world.pass(&["scan"]);
    assert_eq!(said(&output).matches("DISPATCHED").count(), 2, "{}", said(&output));
    for task in ["a.md", "b.md"] {
        wait_until("the agent runs", PATIENCE, || world.runs(task) == 1);
    }
    world.pass(&["reap"]);
    world.go(true);
    serve(&world, &[&world.project], || world.project.done() == ["a.md", "b.md"]);
    assert_eq!(["a.md", "b.md"].map(|task| world.runs(task)), [1, 1]);
}

#[test]
fn a_launch_that_fails_leaves_no_window_in_a_server_that_its_pass_has_started() {
    let mut world = World::new();
    world.tmux.run(&["kill-server"]);
    world.sandbox.config("agent", json!({"command": ["no-such-agent"]}));
    world.project.drop_task("t.md", "go\n");
    let output = world.sandbox.ccl(["scan"]).output().expect("ccl runs");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(world.project.inbox(), ["t.md"]);
    assert_eq!(world.tmux.windows("k-0").len(), 1);
    world.assert_nothing_is_left("t.md", "after a launch that failed");
}

/// What a person's configuration of tmux may do to every window that is opened.
#[test]
fn a_hostile_configuration_of_tmux_changes_nothing_for_the_tasks() {
    let world = World::new();
    let persons = world.tmux.format("=k-0:", "#{pane_id}");
    for (nth, commands) in [
        &["set-hook -g after-new-window \"split-window 'sleep 1000'\""][..],
        &["set-hook -g after-new-window 'select-window -t :0'"],
        &["set-option -g base-index 7", "set-option -g pane-base-index 3"],
        &["set-option -g default-command 'exec false'", "set-option -g default-shell /bin/false"],
        &["set-option -g remain-on-exit on", "set-option -g renumber-windows on"],
        &["set-option -g update-environment CCL_RUN", "set-environment -g CCL_RUN x"],
        &["set-environment -g BASH_ENV /no/such/file", "set-environment -gr PATH"],
    ]
    .iter()
    .enumerate()
    {
        for command in *commands {
            let words = shlex::split(command).expect("words");
            world.tmux.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        for body in ["go\n", "fail once\n"] {
            let task = format!("{nth}-{}.md", &body[..2]);
            fs::write(world.sandbox.path().join("fails"), "").expect("fails");
            world.project.drop_task(&task, body);
            world.converge(&task, &format!("{commands:?}"));
            assert_eq!(world.runs(&task), 1 + usize::from(body != "go\n"), "{commands:?}");
        }
        world.tmux.run(&["set-hook", "-gu", "after-new-window"]);
        assert_eq!(world.tmux.format(&persons, "#{pane_dead}"), "0", "{commands:?}");
        // What the person's own hooks have opened is the person's.
        for left in world.tmux.windows("k-0").iter().filter(|pane| **pane != persons) {
            assert_eq!(world.tmux.format(left, "#{pane_start_command}"), "\"sleep 1000\"");
            world.tmux.run(&["kill-pane", "-t", left]);
        }
    }
    // A person closes all of their own windows while the agent is at work: the session goes with its last window.
    at_work(&world, "last.md", "hold\n");
    world.tmux.run(&["kill-pane", "-t", &persons]);
    let_go(&world, "last.md", "in the last window", 1);
    assert_eq!(world.tmux.sessions(), [""; 0]);
    world.project.drop_task("next.md", "go\n");
    world.converge("next.md", "in a session that is made anew");
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
