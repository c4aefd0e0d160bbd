//! Which sessions are free.

use std::fs;
use std::process::Command;

use ccl::process::is_waiting_shell;

use crate::support::TmuxServer;
use crate::{SHELLS, never_ready, ready, session, tmux_of, wait_for_front, with_startup_file};

#[test]
fn a_fresh_session_becomes_free() {
    for shell in SHELLS {
        let server = TmuxServer::builder().shell(&format!("/usr/bin/{shell}")).start();
        let login = session(&server, "login", &[]);
        assert_eq!(ready(&server, &login).pid, login.pid, "{shell}");
        let plain = session(&server, "plain", &[shell]);
        ready(&server, &plain);
        tmux_of(&server).type_line(&plain.id, "bash --norc").unwrap();
        let inner = wait_for_front(&server, &plain, "the inner shell");
        assert_eq!(ready(&server, &plain).pid, inner, "{shell}");
    }
}

#[test]
fn a_shell_that_reads_its_startup_files_is_not_free() {
    for shell in SHELLS {
        let dir = tempfile::tempdir().unwrap();
        let (go, fifo) = (dir.path().join("go"), dir.path().join("fifo"));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let (go_path, fifo_path) = (go.display(), fifo.display());
        let server = with_startup_file(
            shell,
            &format!(
                "PS1='$ '\necho one\nuntil [ -e {go_path} ]; do sleep 0.1; done\necho two\nread x <{fifo_path}\necho three\nread x\n"
            ),
            &format!(
                "echo one\nwhile not test -e {go_path}; sleep 0.1; end\necho two\nread x <{fifo_path}\n"
            ),
        );
        let pane = session(&server, "s", &[shell]);
        server.wait_for_text(pane.id.as_str(), "one");
        never_ready(&server, &pane, &format!("{shell}, sleep in a start-up file"));
        fs::write(&go, "").unwrap();
        server.wait_for_text(pane.id.as_str(), "two");
        never_ready(&server, &pane, &format!("{shell}, read in a start-up file"));
        fs::write(&fifo, "x\n").unwrap();
        if shell != "fish" {
            server.wait_for_text(pane.id.as_str(), "three");
            never_ready(&server, &pane, &format!("{shell}, a question in a start-up file"));
            server.send_keys(pane.id.as_str(), &["Enter"]);
        }
        ready(&server, &pane);
    }
}

#[test]
fn a_shell_that_draws_its_prompt_is_not_free() {
    for shell in SHELLS {
        let dir = tempfile::tempdir().unwrap();
        let (go, drawing) = (dir.path().join("go"), dir.path().join("drawing"));
        let (wait, mark) = (go.display(), drawing.display());
        let server = with_startup_file(
            shell,
            &format!(
                "setopt prompt_subst 2>/dev/null\nPS1='$(: >{mark}; until [ -e {wait} ]; do sleep 0.1; done)$ '\n"
            ),
            &format!(
                "function fish_prompt; true >{mark}; while not test -e {wait}; sleep 0.1; end; echo '$ '; end\n"
            ),
        );
        let pane = session(&server, "s", &[shell]);
        server.wait_until("the prompt is being drawn", || drawing.exists());
        never_ready(&server, &pane, shell);
        fs::write(&go, "").unwrap();
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
            &format!("sh -c 'stty raw -echo; exec {}'", path("cat/bash")),
            "dash -c 'bash --norc; :'",
            "bash -ic 'stty raw -echo; read -r -u 0 x; :'",
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
        ("bash", &["read x", "read -n1 x", "x=$(sleep 1000)", "while :; do :; done"][..]),
        ("zsh", &["read x", "read -k1 x", "x=$(sleep 1000)", "while :; do :; done"]),
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
