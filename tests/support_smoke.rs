//! The test support itself: each stand-in works, and behaves like the real thing.

mod support;

use support::{TmuxServer, wait_until};

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
