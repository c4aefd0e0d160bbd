//! What is typed arrives: once, whole, and not before the shell reads.

use std::process::{Child, Command};
use std::time::Duration;

use ccl::process::is_waiting_shell;
use ccl::tmux::PaneId;

use crate::support::{PATIENCE, TmuxServer};
use crate::{
    SHELLS, dispatch, line_that_appends_to, lines_of, ready, session, tmux_of, with_startup_file,
};

/// What a person may have left at a prompt, some time ago.
fn leave_something(server: &TmuxServer, pane: &PaneId, shell: &str, nth: usize) {
    let pane = pane.as_str();
    let keys: &[&str] = match nth % 5 {
        0 => &["rm -rf half"],
        1 => &["echo 'an open quote", "Enter", "half"],
        2 if shell == "fish" => &["begin", "Enter", "echo half"],
        2 => &["cat <<EOF", "Enter", "half"],
        3 => return drop(server.run(&["copy-mode", "-t", pane])),
        _ => return,
    };
    server.run(&["send-keys", "-R", "-t", pane]);
    server.run(&[&["send-keys", "-t", pane], keys].concat());
    server.wait_for_text(pane, "half");
}

#[track_caller]
fn type_many_lines(shell: &str) {
    const ROUNDS: usize = 30;
    let server = TmuxServer::start();
    let out = server.home().join("out");
    let line = line_that_appends_to(&out);
    let pane = session(&server, "s", &[shell]);
    ready(&server, &pane);
    for round in 1..=ROUNDS {
        leave_something(&server, &pane.id, shell, round);
        dispatch(&server, &pane, &line, &format!("{shell} {round}"));
        server.wait_until(&format!("{shell}: line {round}"), || lines_of(&out).len() >= round);
    }
    ready(&server, &pane);
    assert_eq!(lines_of(&out), vec!["ran"; ROUNDS], "{shell}");
}

#[test]
fn a_typed_line_arrives_once_and_whole() {
    for shell in SHELLS {
        type_many_lines(shell);
    }
}

/// Processes that keep every core busy, until dropped.
struct Spinners(Vec<Child>);

impl Spinners {
    fn start() -> Self {
        let cores = std::thread::available_parallelism().unwrap().get();
        let spin = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..2 * cores).map(spin).collect())
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_typed_line_arrives_on_a_busy_machine() {
    let _busy = Spinners::start();
    for shell in SHELLS {
        type_many_lines(shell);
    }
}

#[test]
fn a_typed_line_arrives_in_a_shell_that_gets_hardly_any_time() {
    // Spinners in the pane's own session compete with the shell there; elsewhere the scheduler's groups protect it.
    let starved = "for i in 1 2 3; do while :; do :; done & done; exec nice -n 10 $0";
    for shell in SHELLS {
        let server = TmuxServer::start();
        let out = server.home().join("out");
        let line = line_that_appends_to(&out);
        let pane = session(&server, "s", &["sh", "-c", starved, shell]);
        for round in 1..=5 {
            dispatch(&server, &pane, &line, &format!("{shell} {round}"));
            server.wait_until(shell, || lines_of(&out).len() >= round);
        }
        assert_eq!(lines_of(&out), ["ran"; 5], "{shell}");
    }
}

#[test]
fn a_slow_prompt_is_waited_for() {
    for shell in SHELLS {
        let server = with_startup_file(
            shell,
            "setopt prompt_subst 2>/dev/null\nPS1='$(sleep 0.3)$ '\n",
            "function fish_prompt; sleep 0.3; echo '$ '; end\n",
        );
        let out = server.home().join("out");
        let line = line_that_appends_to(&out);
        let pane = session(&server, "s", &[shell]);
        for round in 1..=3 {
            dispatch(&server, &pane, &line, &format!("{shell} {round}"));
            server.wait_until(shell, || lines_of(&out).len() >= round);
        }
        assert_eq!(lines_of(&out), ["ran"; 3], "{shell}");
    }
}

#[test]
fn a_shell_that_has_not_taken_the_interrupt_does_not_read() {
    let server = TmuxServer::start();
    for shell in SHELLS {
        let pane = session(&server, shell, &[shell]);
        let before = ready(&server, &pane);
        let never = before.wait_until_reading(Duration::from_millis(100));
        assert!(never.unwrap_err().reason.contains("C-c"), "{shell}");
        tmux_of(&server).interrupt(&pane.id).unwrap();
        before.wait_until_reading(PATIENCE).unwrap();

        tmux_of(&server).type_line(&pane.id, "exec cat").unwrap();
        server.wait_until("cat is in front", || is_waiting_shell(pane.pid).is_err());
        let gone = before.wait_until_reading(Duration::from_millis(100));
        assert!(gone.is_err(), "{shell}: {gone:?}");
    }
}
