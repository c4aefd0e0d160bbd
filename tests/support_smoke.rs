//! The test support itself: each stand-in works, and behaves like the real thing.

// The helpers of a test fail it.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{
    Consent, FakeClaude, MessagesApi, RealClaude, Reply, Sandbox, TmuxServer, claude_home,
    real_claude, wait_until,
};

#[test]
fn the_private_tmux_server_runs_shells_and_leaves_nothing_behind() {
    let tmux = TmuxServer::builder()
        .env("PATH", format!("/odd:{}", std::env::var("PATH").unwrap()))
        .start();
    assert!(tmux.sessions().is_empty());
    for shell in [&[][..], &["dash"], &["zsh"]] {
        let name = format!("s-{}", shell.first().unwrap_or(&"login"));
        let pane = tmux.new_session(&name, shell);
        tmux.type_line(&pane, "echo path=${PATH%%:*} home=$HOME tmux=${CLAUDECODE-unset}");
        let home = tmux.home().display();
        tmux.wait_for_text(&format!("={name}:"), &format!("path=/odd home={home} tmux=unset"));
    }
    let pane = tmux
        .new_session("stubborn", &["sh", "-c", "trap '' HUP; echo up; while :; do sleep 1; done"]);
    tmux.wait_for_text(&pane, "up");
    let pids = tmux.processes();
    assert!(pids.len() >= 5, "{pids:?}");
    let socket = tmux.socket().to_owned();
    drop(tmux);
    assert!(!socket.exists());
    wait_until("every process is gone", support::PATIENCE, || {
        pids.iter().all(|pid| {
            std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|e| e.is_empty())
                || !std::path::Path::new(&format!("/proc/{pid}")).exists()
        })
    });
}

#[test]
fn a_sandbox_runs_ccl_in_an_environment_of_its_own() {
    let mut sandbox = Sandbox::new();
    sandbox.config("dispatcher", json!({"cooldown": "1m"}));
    sandbox.env("CCL_TEST_VARIABLE", "set");
    sandbox.wrap(["env", "-0", "-S", "env"]);
    let config: Value = serde_json::from_slice(&fs::read(sandbox.config_file()).unwrap()).unwrap();
    assert_eq!(config["dispatcher"]["cooldown"], "1m");
    assert_eq!(config["dispatcher"]["projects_dir"], json!(sandbox.projects_dir()));

    sandbox.wrap(["sh", "-c", "env"]);
    let out = sandbox.ccl(["status"]).output().unwrap();
    let env = String::from_utf8(out.stdout).unwrap();
    let mut keys: Vec<_> = env.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "CCL_TEST_VARIABLE",
            "HOME",
            "LANG",
            "PATH",
            "PWD",
            "TMPDIR",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_RUNTIME_DIR",
            "XDG_STATE_HOME"
        ]
    );

    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    assert_eq!(project.inbox(), ["a.md"]);
    assert_eq!(project.task_places("a.md"), ["inbox/a.md"]);
    let done = project.queue("done");
    fs::rename(project.queue("inbox").join("a.md"), done.join("a.2.md")).unwrap();
    fs::write(project.queue("inbox").join("a.md.delegated"), "{}").unwrap();
    fs::write(project.queue("inbox").join("a.b.md"), "another").unwrap();
    assert_eq!(project.task_places("a.md"), ["done/a.2.md"]);
    assert_eq!(project.read("done/a.2.md"), "Do it.\n");
}

/// What `claude` does with a prompt on the command line, as every launch of `ccl` has it.
fn launch(tmux: &TmuxServer, pane: &str, dir: &Path, id: &str, prompt: &str) {
    let settings = json!({"hooks": {"Stop": [{"hooks": [
        {"type": "command", "command": "cat > ~/stop.json"}]}]}});
    let dir = dir.display();
    let line = format!(
        "cd '{dir}'; claude --dangerously-skip-permissions --model sonnet --session-id {id} \
         --settings '{settings}' '{prompt}'"
    );
    tmux.type_line(pane, &line);
}

/// The keys that a record must share with the real one's for `ccl` to read it.
fn shape(record: &Value) -> Value {
    let message = &record["message"];
    json!({
        "type": record["type"], "session": record["sessionId"], "cwd": record["cwd"],
        "error": record["isApiErrorMessage"], "kind": record["error"], "role": message["role"],
        "stop_reason": message["stop_reason"],
        "text": message["content"].as_str().or(message["content"][0]["text"].as_str()),
    })
}

fn turn_of(home: &Path, id: &str) -> Vec<Value> {
    let mut records = claude_home::transcript(home, id);
    records.retain(|record| record["type"] == "user" || record["type"] == "assistant");
    // On a busy machine an answer may stand before its own prompt, which `ccl` puts right as well.
    records.sort_by_key(|record| record["type"] != "user");
    records.iter().map(shape).collect()
}

/// The registry says `idle`, and the hook has run, some milliseconds before the answer is in the
/// transcript.
fn wait_for_the_answer(tmux: &TmuxServer, home: &Path) {
    tmux.wait_until("the answer is in the transcript", || {
        turn_of(home, ID).iter().any(|record| record["role"] == "assistant")
    });
}

const ID: &str = "6f1c2a34-9d0e-4c55-8a77-1b2c3d4e5f60";

fn real_turn(version: &str) -> (Sandbox, MessagesApi, TmuxServer, String) {
    let mut sandbox = Sandbox::new();
    let project = sandbox.project("web");
    let api = MessagesApi::start();
    let claude = RealClaude::install(version);
    claude_home::prepare_home(&sandbox.home(), &[project.root()], Consent::default());
    let tmux = sandbox.tmux_with(|b| b.envs(claude.env(&api, Consent::default())));
    let pane = tmux.new_session("s", &[]);
    launch(&tmux, &pane, project.root(), ID, "Say hello to ccl");
    (sandbox, api, tmux, pane)
}

#[test]
fn the_real_claude_code_asks_the_stand_in_of_the_api() {
    let (sandbox, api, tmux, pane) = real_turn(real_claude::CURRENT);
    let turn = api.wait_for_turn("Say hello to ccl");
    assert_eq!(turn.header("x-api-key"), Some(claude_home::API_KEY));
    let screen = tmux.wait_for_text(&pane, "● OK");
    assert!(screen.contains("bypass permissions on"), "{screen}");

    let home = sandbox.home();
    tmux.wait_until("the registry says idle", || {
        let entries = claude_home::registry(&home);
        entries.iter().any(|e| {
            e["sessionId"] == ID && e["status"] == "idle" && home.join("stop.json").exists()
        })
    });
    wait_for_the_answer(&tmux, &home);
    let cwd = sandbox.projects_dir().join("web");
    assert_eq!(
        turn_of(&home, ID),
        [
            json!({"type": "user", "session": ID, "cwd": cwd, "error": null, "kind": null,
                   "role": "user", "stop_reason": null, "text": "Say hello to ccl"}),
            json!({"type": "assistant", "session": ID, "cwd": cwd, "error": null, "kind": null,
                   "role": "assistant", "stop_reason": "end_turn", "text": "OK"}),
        ]
    );
    let stop: Value = serde_json::from_slice(&fs::read(home.join("stop.json")).unwrap()).unwrap();
    assert_eq!(stop["background_tasks"], json!([]));
    assert_eq!(stop["last_assistant_message"], "OK");
}

#[test]
fn the_older_real_ones_write_the_same() {
    for version in [real_claude::EARLIER, real_claude::OLDEST] {
        let (sandbox, api, tmux, pane) = real_turn(version);
        api.wait_for_turn("Say hello to ccl");
        tmux.wait_for_text(&pane, "● OK");
        let home = sandbox.home();
        wait_for_the_answer(&tmux, &home);
        let answer = turn_of(&home, ID).pop().unwrap();
        assert_eq!((&answer["text"], &answer["stop_reason"]), (&json!("OK"), &json!("end_turn")));
        let entry =
            tmux.wait_for("its entry in the registry", || claude_home::registry(&home).pop());
        assert_eq!(entry["sessionId"], ID);
        let has_status = version != real_claude::OLDEST;
        assert_eq!(entry["status"].is_string(), has_status, "{version}: {entry}");
    }
}

#[test]
fn the_fake_agent_leaves_what_the_real_one_leaves() {
    let mut sandbox = Sandbox::new();
    let project = sandbox.project("web");
    let fake = FakeClaude::install(&sandbox);
    let tmux = sandbox.tmux_with(|b| b.envs(fake.env()));
    let pane = tmux.new_session("s", &[]);
    launch(&tmux, &pane, project.root(), ID, "Say hello to ccl");
    fake.wait_for("prompt", "Say hello to ccl");
    let screen = tmux.wait_for_text(&pane, "● OK");
    assert!(screen.contains("bypass permissions on"), "{screen}");
    assert_eq!(tmux.format(&pane, "#{alternate_on} #{pane_current_command}"), "1 claude");
    tmux.wait_until("the registry says idle", || {
        fake.registry().iter().any(|e| e["sessionId"] == ID && e["status"] == "idle")
    });
    let cwd = project.root();
    assert_eq!(
        turn_of(fake.home(), ID),
        [
            json!({"type": "user", "session": ID, "cwd": cwd, "error": null, "kind": null,
                   "role": "user", "stop_reason": null, "text": "Say hello to ccl"}),
            json!({"type": "assistant", "session": ID, "cwd": cwd, "error": null, "kind": null,
                   "role": "assistant", "stop_reason": "end_turn", "text": "OK"}),
        ]
    );
    let stop: Value =
        serde_json::from_slice(&fs::read(fake.home().join("stop.json")).unwrap()).unwrap();
    assert_eq!(stop["background_tasks"], json!([]));
}

#[test]
fn the_real_claude_code_takes_every_scripted_reply() {
    let (sandbox, api, tmux, _) = real_turn(real_claude::CURRENT);
    let home = sandbox.home();
    let dir = sandbox.projects_dir().join("web");
    let last = |id: &str| turn_of(&home, id).pop().unwrap_or_default();
    tmux.wait_until("the first turn is over", || last(ID)["text"] == "OK");

    let refusals = [
        (Reply::rate_limited(1_900_000_000), "rate_limit"),
        (Reply::unauthorized(), "authentication_failed"),
        (Reply::no_credit(), "billing_error"),
        (Reply::server_error(), "server_error"),
    ];
    for (n, (reply, error)) in refusals.into_iter().enumerate() {
        let id = format!("{n}{}", &ID[1..]);
        api.script([reply]);
        launch(&tmux, &tmux.new_session(error, &[]), &dir, &id, error);
        tmux.wait_until(error, || last(&id)["kind"] == error);
    }

    api.script([Reply::bash("tail -f /dev/null")]);
    let pane = tmux.new_session("tool", &[]);
    launch(&tmux, &pane, &dir, &ID.replace('6', "a"), "Use a tool");
    tmux.wait_for_text(&pane, "esc to interrupt");
    tmux.wait_until("the registry says busy", || {
        let entries = claude_home::registry(&home);
        entries.iter().any(|entry| entry["status"] == "busy")
    });

    api.script([Reply::question("Which way?")]);
    let pane = tmux.new_session("question", &[]);
    launch(&tmux, &pane, &dir, &ID.replace('6', "b"), "Ask me");
    tmux.wait_for_text(&pane, "Which way?");

    api.script([Reply::Hang("Late.".to_owned())]);
    let pane = tmux.new_session("hang", &[]);
    launch(&tmux, &pane, &dir, &ID.replace('6', "c"), "Hang on");
    api.wait_for_turn("Hang on");
    assert!(!tmux.capture(&pane).contains("Late."));
    api.release();
    tmux.wait_for_text(&pane, "● Late.");
}
