//! Sessions in a real tmux: which of them are free, and how what runs in a window is ended.
#![allow(clippy::unwrap_used)]

mod ending;
mod free;
#[path = "../support/mod.rs"]
mod support;

use std::fs;

use ccl::tmux::{NewPane, NewWindow, Tmux};
use support::TmuxServer;
use uuid::Uuid;

const SHELLS: [&str; 4] = ["bash", "zsh", "dash", "fish"];

fn tmux_of(server: &TmuxServer) -> Tmux {
    Tmux::new(server.command())
}

/// Opens a window in `session` in which `shell` runs a script, with the run and its own number in its environment, as an
/// agent has them.
#[track_caller]
fn open(server: &TmuxServer, session: &str, shell: &str, run: Uuid, body: &str) -> NewPane {
    let script = server.home().join(format!("{run}.run"));
    let text = format!("[ \"${{CCL_PID-}}\" = $$ ] || CCL_PID=$$ exec sh \"$0\"\n{body}\n");
    fs::write(&script, text).unwrap();
    let path = format!("/usr/bin/{shell}");
    let window = NewWindow {
        session,
        name: "t.md",
        run,
        script: &script,
        shell: path.as_ref(),
        cwd: server.home(),
    };
    tmux_of(server).new_window(&window).unwrap()
}

/// The same, once it says `up`.
#[track_caller]
fn agent(server: &TmuxServer, session: &str, run: Uuid, body: &str) -> NewPane {
    let pane = open(server, session, "bash", run, body);
    let is_up = || tmux_of(server).capture_last(&pane.id).unwrap().contains("up\n");
    server.wait_until("it is up", is_up);
    pane
}

/// A server whose `shell` reads this start-up file.
fn with_startup_file(shell: &str, text: &str) -> TmuxServer {
    let server = TmuxServer::start();
    let file = server.home().join(match shell {
        "bash" | "dash" => ".profile",
        "zsh" => ".zshrc",
        _ => ".config/fish/config.fish",
    });
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    server
}
