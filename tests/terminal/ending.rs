//! An agent is ended for its own run only, and leaves a usable shell.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ccl::process::{self, Ended, reset_terminal, terminate};
use ccl::tmux::Pane;
use rustix::process::Pid;
use uuid::Uuid;

use crate::support::{PATIENCE, TmuxServer};
use crate::{
    SHELLS, dispatch, line_that_appends_to, lines_of, never_ready, ready, session, tmux_of,
    wait_for_front,
};

/// A session with an agent in front; `body` is a script that says `up` when it is.
fn agent(
    server: &TmuxServer,
    name: &str,
    shell: &str,
    run: Option<Uuid>,
    body: &str,
) -> (Pane, Pid) {
    let script: PathBuf = server.home().join(format!("{name}.agent"));
    fs::write(&script, body).unwrap();
    let pane = session(server, name, &[shell]);
    ready(server, &pane);
    let run = run.map_or_else(String::new, |run| format!("CCL_RUN={run} "));
    let line = format!("env {run}sh '{}'", script.display());
    tmux_of(server).type_line(&pane.id, &line).unwrap();
    server.wait_for_text(pane.id.as_str(), "up\n");
    let front = wait_for_front(server, &pane, "the agent");
    (pane, front)
}

#[test]
fn an_agent_is_ended_only_for_its_own_run() {
    let server = TmuxServer::start();
    for shell in SHELLS {
        let (run, grace) = (Uuid::new_v4(), PATIENCE);
        let body = "echo up; sleep 1000; :";
        let (pane, _) = agent(&server, &format!("{shell}-1"), shell, Some(run), body);
        assert_eq!(terminate(Uuid::new_v4(), pane.pid, grace).unwrap(), Ended::NotThere);
        never_ready(&server, &pane, "another run's agent");
        assert_eq!(terminate(run, pane.pid, grace).unwrap(), Ended::Terminated, "{shell}");
        ready(&server, &pane);
        assert_eq!(terminate(run, pane.pid, grace).unwrap(), Ended::NotThere, "{shell}");

        let (pane, front) = agent(&server, &format!("{shell}-2"), shell, None, body);
        assert_eq!(terminate(run, pane.pid, grace).unwrap(), Ended::NotThere, "{shell}");
        assert!(process::stat(front).unwrap().is_some_and(|agent| agent.is_alive()));

        // The leader is a script that sets the variable itself, as `NAME.run` does for a `command` agent.
        let body = format!("export CCL_RUN={run}; echo up; sleep 1000; :");
        let (pane, front) = agent(&server, &format!("{shell}-3"), shell, None, &body);
        server.wait_until("its child", || process::carries_run(front, run).unwrap());
        assert!(!process::process_carries(front, run).unwrap());
        assert_eq!(terminate(run, pane.pid, grace).unwrap(), Ended::Terminated, "{shell}");
        ready(&server, &pane);
    }
}

#[test]
fn an_agent_that_ignores_sigterm_is_killed_and_the_terminal_put_right() {
    let server = TmuxServer::start();
    let out = server.home().join("out");
    let line = line_that_appends_to(&out);
    for (nth, shell) in SHELLS.iter().enumerate() {
        let run = Uuid::new_v4();
        let body = "trap '' TERM; stty raw -echo; printf '\\033[?1049h\\033[?1003h\\033[?1006h\\033[?25lup\\r\\n'; while :; do sleep 1000; done";
        let (pane, _) = agent(&server, shell, shell, Some(run), body);
        let modes =
            || server.format(pane.id.as_str(), "#{alternate_on}#{mouse_any_flag}#{cursor_flag}");
        server.wait_until("the full screen", || modes() == "110");
        assert_eq!(
            terminate(run, pane.pid, Duration::from_millis(200)).unwrap(),
            Ended::Killed,
            "{shell}"
        );
        server.wait_until("the shell is back", || {
            process::foreground(pane.pid).unwrap() == Some(pane.pid)
        });
        reset_terminal(&pane.tty, pane.pid).unwrap();
        server.wait_until("the ordinary screen", || modes() == "001");
        dispatch(&server, &pane, &line, shell);
        server.wait_until(shell, || lines_of(&out).len() > nth);
    }
    assert_eq!(lines_of(&out), ["ran"; 4]);
}
