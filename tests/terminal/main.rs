//! Shells in a real tmux: which of them wait for input, what arrives when it is typed, how an agent is ended.
#![allow(clippy::unwrap_used)]

mod ending;
mod free;
#[path = "../support/mod.rs"]
mod support;
mod typing;

use std::fs;
use std::path::Path;

use ccl::process::{self, ReadyShell, is_waiting_shell, wait_until_ready};
use ccl::tmux::{Pane, Tmux};
use rustix::process::Pid;
use support::{PATIENCE, TmuxServer};

const SHELLS: [&str; 4] = ["bash", "zsh", "dash", "fish"];

/// How often a pane that is not free is looked at: one look may hit a lucky moment.
const LOOKS: usize = 40;

/// A session that runs `argv`, seen as `list_panes` sees it; not waited for.
#[track_caller]
fn session(server: &TmuxServer, name: &str, argv: &[&str]) -> Pane {
    // tmux gives a single word to the default shell, and dash would stay in between.
    let direct = if argv.len() == 1 { &["env"][..] } else { &[] };
    server.new_session_unready(name, &[direct, argv].concat());
    let mut panes = tmux_of(server).list_panes().unwrap();
    panes.retain(|pane| pane.session == name);
    assert_eq!(panes.len(), 1, "{panes:?}");
    panes.remove(0)
}

fn tmux_of(server: &TmuxServer) -> Tmux {
    Tmux::new(server.command())
}

#[track_caller]
fn ready(server: &TmuxServer, pane: &Pane) -> ReadyShell {
    wait_until_ready(pane.pid, PATIENCE)
        .unwrap_or_else(|error| panic!("{error}\n{}", server.screens()))
}

#[track_caller]
fn never_ready(server: &TmuxServer, pane: &Pane, what: &str) {
    for _ in 0..LOOKS {
        if let Ok(shell) = is_waiting_shell(pane.pid) {
            panic!("{what}: {shell:?} counts as free\n{}", server.screens());
        }
    }
}

/// The front of the terminal is another process than the pane's own.
fn wait_for_front(server: &TmuxServer, pane: &Pane, what: &str) -> Pid {
    server.wait_for(what, || {
        process::foreground(pane.pid).unwrap().filter(|front| *front != pane.pid)
    })
}

/// Types `C-c`, waits until the shell reads again, types a line: step 4 of a dispatch.
///
/// `C-c` twice: fish 3.6 loses one that reaches it while it is awake for a suggestion (1 in about 500 half-typed lines
/// on a loaded machine), and what was half typed would then be run together with the line.
#[track_caller]
fn dispatch(server: &TmuxServer, pane: &Pane, line: &str, what: &str) {
    let tmux = tmux_of(server);
    let mut shell = ready(server, pane);
    for _ in 0..2 {
        tmux.interrupt(&pane.id).unwrap();
        shell = shell
            .wait_until_reading(PATIENCE)
            .unwrap_or_else(|error| panic!("{what}: {error}\n{}", server.screens()));
    }
    tmux.type_line(&pane.id, line).unwrap();
}

fn lines_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The line that runs a script which appends one line to `out`, in a directory of an odd name.
fn line_that_appends_to(out: &Path) -> String {
    let dir = out.with_file_name("with space; $(and) more");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("x.run");
    fs::write(&path, format!("echo ran >>'{}'\n", out.display())).unwrap();
    format!("sh '{}'", path.display())
}

/// A server whose `shell` reads this start-up file.
fn with_startup_file(shell: &str, posix: &str, fish: &str) -> TmuxServer {
    let server = TmuxServer::start();
    let rc = server.home().join(match shell {
        "bash" => ".bashrc",
        "zsh" => ".zshrc",
        "dash" => ".shinit",
        _ => ".config/fish/config.fish",
    });
    fs::create_dir_all(rc.parent().unwrap()).unwrap();
    fs::write(&rc, if shell == "fish" { fish } else { posix }).unwrap();
    if shell == "dash" {
        server.run(&["set-environment", "-g", "ENV", rc.to_str().unwrap()]);
    }
    server
}
