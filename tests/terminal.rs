//! Shells in a real tmux: which of them wait for input, what arrives when it is typed, how an agent is ended.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use ccl::process::{
    self, Ended, ReadyShell, is_waiting_shell, reset_terminal, terminate, wait_until_ready,
};
use ccl::tmux::{Pane, PaneId, Tmux};
use rustix::process::Pid;
use support::{PATIENCE, TmuxServer};
use uuid::Uuid;

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
        process::foreground(pane.pid).filter(|front| *front != pane.pid)
    })
}

/// Types `C-c`, waits until the shell reads again, types a line: step 4 of a dispatch.
#[track_caller]
fn dispatch(server: &TmuxServer, pane: &Pane, line: &str, what: &str) {
    let tmux = tmux_of(server);
    let before = ready(server, pane);
    tmux.interrupt(&pane.id).unwrap();
    before
        .wait_until_reading(PATIENCE)
        .unwrap_or_else(|error| panic!("{what}: {error}\n{}", server.screens()));
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

/// The file that `shell` reads at its start, and the server it does so under.
fn with_startup_file(shell: &str, posix: &str, fish: &str) -> TmuxServer {
    let home = tempfile::tempdir().unwrap().keep();
    let rc = home.join(match shell {
        "bash" => ".bashrc",
        "zsh" => ".zshrc",
        "dash" => ".shinit",
        _ => ".config/fish/config.fish",
    });
    fs::create_dir_all(rc.parent().unwrap()).unwrap();
    fs::write(&rc, if shell == "fish" { fish } else { posix }).unwrap();
    TmuxServer::builder()
        .home(&home)
        .env("ENV", home.join(".shinit"))
        .start()
}

#[test]
fn a_fresh_session_becomes_free() {
    for shell in SHELLS {
        let server = TmuxServer::builder()
            .shell(&format!("/usr/bin/{shell}"))
            .start();
        let login = session(&server, "login", &[]);
        assert_eq!(ready(&server, &login).pid, login.pid, "{shell}");
        let plain = session(&server, "plain", &[shell]);
        ready(&server, &plain);
        tmux_of(&server)
            .type_line(&plain.id, "bash --norc")
            .unwrap();
        let inner = wait_for_front(&server, &plain, "the inner shell");
        let shell = server.wait_for("the inner shell is free", || {
            is_waiting_shell(plain.pid).ok()
        });
        assert_eq!(shell.pid, inner);
    }
}

#[test]
fn a_shell_that_reads_its_startup_files_is_not_free() {
    for shell in SHELLS {
        let dir = tempfile::tempdir().unwrap();
        let (go, fifo) = (dir.path().join("go"), dir.path().join("fifo"));
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        let (go_path, fifo_path) = (go.display(), fifo.display());
        let server = with_startup_file(
            shell,
            &format!(
                "PS1='$ '\necho one\nuntil [ -e {go_path} ]; do sleep 0.1; done\necho two\nread x <{fifo_path}\n"
            ),
            &format!(
                "echo one\nwhile not test -e {go_path}; sleep 0.1; end\necho two\nread x <{fifo_path}\n"
            ),
        );
        let pane = session(&server, "s", &[shell]);
        server.wait_for_text(pane.id.as_str(), "one");
        never_ready(
            &server,
            &pane,
            &format!("{shell}, sleep in a start-up file"),
        );
        fs::write(&go, "").unwrap();
        server.wait_for_text(pane.id.as_str(), "two");
        never_ready(&server, &pane, &format!("{shell}, read in a start-up file"));
        fs::write(&fifo, "x\n").unwrap();
        ready(&server, &pane);
    }
}

#[test]
fn a_busy_session_is_not_free() {
    let server = TmuxServer::start();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(dir.path().join("sleep")).unwrap();
    fs::copy("/bin/sleep", path("sleep/bash")).unwrap();
    fs::create_dir(dir.path().join("cat")).unwrap();
    fs::copy("/bin/cat", path("cat/bash")).unwrap();
    fs::write(path("long.sh"), "sleep 1000; :\n").unwrap();
    fs::write(path("reads.sh"), "read x; :\n").unwrap();
    for shell in SHELLS {
        for (nth, command) in [
            "sleep 1000",
            "cat",
            "sh -c 'stty raw -echo; exec cat'",
            "sh -c 'read x'",
            "bash -c 'read -n1 x; :'",
            &format!("bash {}", path("long.sh")),
            &format!("dash {}", path("reads.sh")),
            &format!("bash <{}", path("long.sh")),
            &format!("{} 1000", path("sleep/bash")),
            &path("cat/bash"),
            "dash -c 'bash --norc; :'",
        ]
        .iter()
        .enumerate()
        {
            let pane = session(&server, &format!("{shell}-{nth}"), &[shell]);
            ready(&server, &pane);
            tmux_of(&server).type_line(&pane.id, command).unwrap();
            wait_for_front(&server, &pane, command);
            never_ready(&server, &pane, &format!("{shell}: {command}"));
        }
    }
}

#[test]
fn what_a_shell_does_itself_makes_it_busy_too() {
    let server = TmuxServer::start();
    for (shell, commands) in [
        (
            "bash",
            &[
                "read x",
                "read -n1 x",
                "x=$(sleep 1000)",
                "while :; do :; done",
            ][..],
        ),
        (
            "zsh",
            &[
                "read x",
                "read -k1 x",
                "x=$(sleep 1000)",
                "while :; do :; done",
            ],
        ),
        ("dash", &["x=$(sleep 1000)", "while :; do :; done"]),
        ("fish", &["set x (sleep 1000)", "while true; end"]),
    ] {
        for (nth, command) in commands.iter().enumerate() {
            let pane = session(&server, &format!("{shell}-{nth}"), &[shell]);
            ready(&server, &pane);
            tmux_of(&server).type_line(&pane.id, command).unwrap();
            server.wait_until(command, || is_waiting_shell(pane.pid).is_err());
            never_ready(&server, &pane, &format!("{shell}: {command}"));
        }
    }
}

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
        server.wait_until(&format!("{shell}: line {round}"), || {
            lines_of(&out).len() >= round
        });
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
        let spin = |_| {
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .spawn()
                .unwrap()
        };
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
        let gone = before.wait_until_reading(Duration::from_millis(100));
        assert!(gone.is_err(), "{shell}: {gone:?}");
    }
}

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
        assert_eq!(
            terminate(Uuid::new_v4(), pane.pid, grace),
            Ok(Ended::NotThere)
        );
        never_ready(&server, &pane, "another run's agent");
        assert_eq!(
            terminate(run, pane.pid, grace),
            Ok(Ended::Terminated),
            "{shell}"
        );
        ready(&server, &pane);
        assert_eq!(
            terminate(run, pane.pid, grace),
            Ok(Ended::NotThere),
            "{shell}"
        );

        let (pane, front) = agent(&server, &format!("{shell}-2"), shell, None, body);
        assert_eq!(
            terminate(run, pane.pid, grace),
            Ok(Ended::NotThere),
            "{shell}"
        );
        assert!(process::stat(front).is_some_and(|agent| agent.is_alive()));

        // The leader is a script that sets the variable itself, as `NAME.run` does for a `command` agent.
        let body = format!("export CCL_RUN={run}; echo up; sleep 1000; :");
        let (pane, front) = agent(&server, &format!("{shell}-3"), shell, None, &body);
        server.wait_until("its child", || process::carries_run(front, run));
        assert!(!process::process_carries(front, run));
        assert_eq!(
            terminate(run, pane.pid, grace),
            Ok(Ended::Terminated),
            "{shell}"
        );
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
        let modes = || {
            server.format(
                pane.id.as_str(),
                "#{alternate_on}#{mouse_any_flag}#{cursor_flag}",
            )
        };
        server.wait_until("the full screen", || modes() == "110");
        assert_eq!(
            terminate(run, pane.pid, Duration::from_millis(200)),
            Ok(Ended::Killed),
            "{shell}"
        );
        server.wait_until("the shell is back", || {
            process::foreground(pane.pid) == Some(pane.pid)
        });
        reset_terminal(&pane.tty, pane.pid).unwrap();
        server.wait_until("the ordinary screen", || modes() == "001");
        dispatch(&server, &pane, &line, shell);
        server.wait_until(shell, || lines_of(&out).len() > nth);
    }
    assert_eq!(lines_of(&out), ["ran"; 4]);
}
