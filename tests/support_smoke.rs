//! The test support itself: each stand-in works, and behaves like the real thing.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::{Sandbox, TmuxServer, wait_until};

#[test]
fn the_private_tmux_server_runs_shells_and_leaves_nothing_behind() {
    let tmux = TmuxServer::builder()
        .env("PATH", format!("/odd:{}", std::env::var("PATH").unwrap()))
        .start();
    assert!(tmux.sessions().is_empty());
    for shell in [&[][..], &["dash"], &["zsh"]] {
        let name = format!("s-{}", shell.first().unwrap_or(&"login"));
        let pane = tmux.new_session(&name, shell);
        tmux.type_line(
            &pane,
            "echo path=${PATH%%:*} home=$HOME tmux=${CLAUDECODE-unset}",
        );
        let home = tmux.home().display();
        tmux.wait_for_text(
            &format!("={name}:"),
            &format!("path=/odd home={home} tmux=unset"),
        );
    }
    let pane = tmux.new_session(
        "stubborn",
        &[
            "sh",
            "-c",
            "trap '' HUP; echo up; while :; do sleep 1; done",
        ],
    );
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
    assert_eq!(
        config["dispatcher"]["projects_dir"],
        json!(sandbox.projects_dir())
    );

    sandbox.wrap(["sh", "-c", "env"]);
    let out = sandbox.ccl(["status"]).output().unwrap();
    let env = String::from_utf8(out.stdout).unwrap();
    let mut keys: Vec<_> = env
        .lines()
        .filter_map(|l| Some(l.split_once('=')?.0))
        .collect();
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
