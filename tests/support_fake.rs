//! The stand-in agent does on command what the tests of `ccl` need it to do.

// The helpers of a test fail it.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::fake::{Behaviour, Ending, Screen, Turn};
use support::{FakeClaude, Project, Sandbox, TmuxServer, claude_home};

/// A sandbox with the stand-in on the panes' PATH, and one project.
struct Stage {
    fake: FakeClaude,
    tmux: TmuxServer,
    project: Project,
    // Removed last.
    _sandbox: Sandbox,
}

impl Stage {
    fn new(script: &[Behaviour]) -> Self {
        let mut sandbox = Sandbox::new();
        let project = sandbox.project("web");
        let fake = FakeClaude::install(&sandbox);
        fake.script(script);
        let tmux = sandbox.tmux_with(|b| b.envs(fake.env()));
        Self { fake, tmux, project, _sandbox: sandbox }
    }

    /// Runs `claude ARGS` in a new session; its exit status is printed when it ends. Returns the pane.
    fn claude(&self, session: &str, args: &str) -> String {
        let pane = self.tmux.new_session(session, &[]);
        let dir = self.project.root().display();
        let settings = self.settings();
        let line = format!("cd {dir}; claude --settings '{settings}' {args}; echo \"exit=$?\"");
        self.tmux.type_line(&pane, &line);
        pane
    }

    fn settings(&self) -> Value {
        let hook = json!([{"hooks": [{"type": "command", "command": "cat >> ~/hooks.jsonl; echo >> ~/hooks.jsonl"}]}]);
        json!({"hooks": {"Stop": hook, "StopFailure": hook, "SessionEnd": hook}})
    }

    fn hooks(&self) -> Vec<Value> {
        let file = self.fake.home().join("hooks.jsonl");
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn wait_for_status(&self, status: &str) -> Value {
        self.tmux.wait_for(&format!("the registry says {status}"), || {
            self.fake.registry().into_iter().find(|e| e["status"] == status)
        })
    }

    fn signal(&self, signal: &str) {
        let pid = self.fake.events("start").pop().unwrap()["pid"].to_string();
        let killed = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(killed.unwrap().success());
    }
}

const ID: &str = "6f1c2a34-9d0e-4c55-8a77-1b2c3d4e5f60";

#[test]
fn enter_in_the_trust_dialog_quits_and_yes_goes_on() {
    let stage = Stage::new(&[Behaviour::default().screen(Screen::Trust)]);
    let pane = stage.claude("no", "'do it'");
    let screen = stage.tmux.wait_for_text(&pane, "❯ No, exit");
    assert!(screen.contains("Quick safety check: Is this a project you created"));
    assert_eq!(stage.tmux.format(&pane, "#{alternate_on}"), "0");
    stage.tmux.send_keys(&pane, &["Enter"]);
    let screen = stage.tmux.wait_for_text(&pane, "exit=1");
    assert!(screen.contains("this folder isn't trusted"), "{screen}");
    assert!(stage.fake.prompts().is_empty());
    assert!(stage.fake.registry().is_empty());

    let pane = stage.claude("yes", "'do it'");
    stage.tmux.wait_for_text(&pane, "❯ No, exit");
    stage.tmux.send_keys(&pane, &["Down", "Enter"]);
    stage.tmux.wait_for_text(&pane, "● OK");
    assert_eq!(stage.fake.prompts(), ["do it"]);
}

#[test]
fn every_screen_says_what_the_real_one_says() {
    let screens = [
        (Screen::TrustYesFirst, "❯ Yes, I trust this folder"),
        (Screen::Bypass, "WARNING: Claude Code running in Bypass Permissions mode"),
        (Screen::ApiKey, "Detected a custom API key in your environment"),
        (Screen::Login, "Select login method:"),
        (Screen::Theme, "Choose the text style that looks best with your terminal"),
        (Screen::Limit, "What do you want to do?"),
        (Screen::ResumePicker, "Resume session"),
        (Screen::Question, "Which way shall I go?"),
        (Screen::Permission, "Do you want to proceed?"),
    ];
    let script: Vec<_> = screens
        .iter()
        .map(|(screen, _)| Behaviour::on(&format!("{screen:?}.")).screen(*screen))
        .collect();
    let stage = Stage::new(&script);
    for (screen, text) in screens {
        let pane = stage.claude(&format!("{screen:?}"), &format!("'{screen:?}.'"));
        stage.tmux.wait_for_text(&pane, text);
    }
    assert!(stage.fake.prompts().is_empty());
}

#[test]
fn a_failed_turn_leaves_the_error_in_the_transcript_and_calls_stop_failure() {
    let kinds = ["rate_limit", "authentication_failed", "billing_error"];
    let script: Vec<_> = kinds
        .iter()
        .map(|kind| Behaviour::on(&format!("{kind}.")).ends(Ending::Error((*kind).to_owned())))
        .collect();
    let stage = Stage::new(&script);
    for (n, kind) in kinds.into_iter().enumerate() {
        let id = format!("{n}{}", &ID[1..]);
        let pane = stage.claude(kind, &format!("--session-id {id} '{kind}.'"));
        stage.tmux.wait_until("the hook has run", || stage.hooks().len() == n + 1);
        let record = stage.fake.transcript(&id).pop().unwrap();
        assert_eq!(record["isApiErrorMessage"], true);
        assert_eq!(record["error"], kind);
        let hook = stage.hooks().pop().unwrap();
        assert_eq!(hook["hook_event_name"], "StopFailure");
        assert_eq!(hook["error"], kind);
        assert_eq!(hook["session_id"], id);
        stage.tmux.wait_for_text(&pane, record["message"]["content"][0]["text"].as_str().unwrap());
    }
}

#[test]
fn sigterm_gives_the_terminal_back_and_says_how_to_resume() {
    let stage = Stage::new(&[]);
    let pane = stage.claude("s", &format!("--session-id {ID} 'do it'"));
    stage.tmux.wait_until("the hook has run", || stage.hooks().len() == 1);
    stage.wait_for_status("idle");
    stage.signal("-TERM");
    let screen = stage.tmux.wait_for_text(&pane, "exit=143");
    assert!(
        screen.contains(&format!("Resume this session with:\nclaude --resume {ID}")),
        "{screen}"
    );
    assert_eq!(stage.tmux.format(&pane, "#{alternate_on} #{mouse_any_flag}"), "0 0");
    assert!(stage.fake.registry().is_empty());
    let last = stage.fake.transcript(ID).pop().unwrap();
    assert_eq!(last["type"], "cost-state");
    assert_eq!(stage.hooks().pop().unwrap()["hook_event_name"], "SessionEnd");

    let resumed = stage.claude("r", &format!("--resume {ID} 'go on'"));
    stage.tmux.wait_for_text(&resumed, "● OK");
    let users = stage.fake.transcript(ID).into_iter().filter(|r| r["type"] == "user");
    let texts: Vec<_> = users.map(|r| r["message"]["content"].clone()).collect();
    assert_eq!(texts, ["do it", "go on"]);
}

#[test]
fn it_can_ignore_sigterm_crash_and_exit_at_once() {
    let stage = Stage::new(&[
        Behaviour { ignore_sigterm: true, ..Behaviour::on("ignore").ends(Ending::Forever) },
        Behaviour::on("crash").ends(Ending::Crash),
        Behaviour::on("leave").ends(Ending::Exit(3)),
        Behaviour { exit_at_once: Some(("no such model".into(), 7)), ..Behaviour::on("at once") },
    ]);
    let pane = stage.claude("ignore", "ignore");
    stage.wait_for_status("busy");
    stage.signal("-TERM");
    stage.fake.wait_for("sigterm", "true");
    assert_eq!(stage.tmux.format(&pane, "#{pane_current_command}"), "claude");
    stage.signal("-KILL");
    stage.tmux.wait_for_text(&pane, "exit=137");

    let pane = stage.claude("crash", "crash");
    stage.tmux.wait_for_text(&pane, "exit=137");
    assert_eq!(stage.tmux.format(&pane, "#{alternate_on} #{mouse_any_flag}"), "1 1");
    assert_eq!(stage.fake.registry().len(), 2, "killed agents leave their registry files");

    let pane = stage.claude("leave", "leave");
    stage.tmux.wait_for_text(&pane, "exit=3");
    let pane = stage.claude("once", "'at once'");
    let screen = stage.tmux.wait_for_text(&pane, "exit=7");
    assert!(screen.contains("no such model"));
}

#[test]
fn ids_and_options_that_the_real_one_refuses_are_refused() {
    let stage = Stage::new(&[]);
    let pane = stage.claude("unknown", &format!("--resume {ID} 'do it'"));
    let screen = stage.tmux.wait_for_text(&pane, "exit=1");
    assert!(screen.contains(&format!("No conversation found with session ID: {ID}")));
    let pane = stage.claude("first", &format!("--session-id {ID} 'do it'"));
    stage.tmux.wait_for_text(&pane, "● OK");
    let pane = stage.claude("second", &format!("--session-id {ID} 'do it'"));
    let screen = stage.tmux.wait_for_text(&pane, "exit=1");
    assert!(screen.contains(&format!("Error: Session ID {ID} is already in use.")));
    let pane = stage.claude("dash", "'- a list'");
    let screen = stage.tmux.wait_for_text(&pane, "exit=1");
    assert!(screen.contains("error: unknown option '- a list'"), "{screen}");
    assert_eq!(stage.fake.prompts(), ["do it"]);
}

#[test]
fn a_turn_can_ask_wait_in_the_background_and_touch_its_task() {
    let stage = Stage::new(&[
        Behaviour::on("ask").ends(Ending::Ask(Screen::Question)),
        Behaviour::on("background")
            .turn(Turn { background: vec!["sleep 60".into()], ..Turn::default() }),
        Behaviour::on("move").turn(Turn {
            run: "mv .agent-queue/inbox/a.md .agent-queue/done/".into(),
            ..Turn::default()
        }),
    ]);
    let pane = stage.claude("ask", "ask");
    let entry = stage.wait_for_status("waiting");
    assert_eq!(entry["waitingFor"], "input needed");
    stage.tmux.wait_for_text(&pane, "Which way shall I go?");
    assert!(stage.hooks().is_empty());
    stage.tmux.send_keys(&pane, &["Enter"]);
    stage.tmux.wait_for_text(&pane, "● OK");

    stage.claude("background", "background");
    stage.wait_for_status("shell");
    let stop = stage.hooks().pop().unwrap();
    assert_eq!(stop["background_tasks"][0]["command"], "sleep 60");

    stage.project.drop_task("a.md", "Do it.");
    let pane = stage.claude("move", "move");
    stage.tmux.wait_for_text(&pane, "● OK");
    assert_eq!(stage.project.task_places("a.md"), ["done/a.md"]);
}

#[test]
fn the_answer_can_come_after_the_hook() {
    let stage = Stage::new(&[Behaviour::default().turn(Turn {
        late_ms: 4000,
        says: "Late.".into(),
        ..Turn::default()
    })]);
    stage.claude("s", &format!("--session-id {ID} 'do it'"));
    stage.tmux.wait_until("the hook has run", || stage.hooks().len() == 1);
    let kinds = |records: Vec<Value>| records.iter().map(|r| r["type"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(stage.fake.transcript(ID)), ["user"]);
    stage.wait_for_status("idle");
    assert_eq!(kinds(stage.fake.transcript(ID)), ["user", "assistant"]);
}

#[test]
fn it_can_be_an_old_version() {
    let stage = Stage::new(&[
        Behaviour { old: true, ..Behaviour::on("limit").ends(Ending::Error("rate_limit".into())) },
        Behaviour { old: true, ..Behaviour::default() },
    ]);
    let pane = stage.claude("old", &format!("--session-id {ID} limit"));
    let screen = stage.tmux.wait_for_text(&pane, "Request rejected");
    assert!(screen.contains("Claude Code v2.1.100"), "{screen}");
    assert_eq!(stage.tmux.format(&pane, "#{alternate_on}"), "0");
    let record = stage.fake.transcript(ID).pop().unwrap();
    assert_eq!((&record["isApiErrorMessage"], &record["error"]), (&json!(true), &json!("unknown")));
    let registered = stage.tmux.wait_for("one is registered", || stage.fake.registry().pop());
    assert_eq!(registered["status"], Value::Null);
    let hook = stage.tmux.wait_for("the hook has run", || stage.hooks().pop());
    assert_eq!(
        (&hook["hook_event_name"], &hook["error"]),
        (&json!("StopFailure"), &json!("unknown"))
    );

    let pane = stage.claude("done", "'do it'");
    stage.tmux.wait_for_text(&pane, "● OK");
    let stop = stage.tmux.wait_for("the hook has run", || {
        stage.hooks().into_iter().find(|hook| hook["hook_event_name"] == "Stop")
    });
    assert_eq!(stop.get("background_tasks"), None);
}

#[test]
fn a_dialog_that_is_ended_tells_the_hook_unless_it_is_about_trust() {
    let stage = Stage::new(&[
        Behaviour::on("trust.").screen(Screen::Trust),
        Behaviour::default().screen(Screen::Bypass),
    ]);
    for (session, text) in [("trust", "Quick safety check"), ("bypass", "Bypass Permissions")] {
        let pane = stage.claude(session, &format!("'{session}.'"));
        stage.tmux.wait_for_text(&pane, text);
        stage.signal("-TERM");
        let screen = stage.tmux.wait_for_text(&pane, "exit=143");
        assert!(!screen.contains("Resume this session"), "{screen}");
    }
    let hooks = stage.hooks();
    assert_eq!(hooks.len(), 1, "{hooks:?}");
    assert_eq!(hooks[0]["hook_event_name"], "SessionEnd");
    assert!(stage.fake.prompts().is_empty());
}

#[test]
fn a_behaviour_can_be_for_the_first_launches_only() {
    let stage = Stage::new(&[Behaviour {
        times: 1,
        exit_at_once: Some(("no".into(), 1)),
        ..Behaviour::default()
    }]);
    let pane = stage.claude("first", "'do it'");
    stage.tmux.wait_for_text(&pane, "exit=1");
    let pane = stage.claude("second", "'do it'");
    stage.tmux.wait_for_text(&pane, "● OK");
    let starts = stage.fake.events("start");
    assert_eq!(starts[0]["behaviour"], 0);
    assert_eq!(starts[1]["behaviour"], Value::Null);
    assert_eq!(starts[1]["env"]["HOME"], json!(stage.fake.home()));
    // The registry is written in place, as by the real one: a look may come in between.
    stage
        .tmux
        .wait_until("one is registered", || claude_home::registry(stage.fake.home()).len() == 1);
}
