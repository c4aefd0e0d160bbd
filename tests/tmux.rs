//! Every tmux call against the real tmux, and against programs that only pretend to be it.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ccl::process::stat;
use ccl::tmux::{Pane, PaneId, Tmux, TmuxError};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use support::{PATIENCE, TmuxServer, wait_until};

fn tmux_of(server: &TmuxServer) -> Tmux {
    Tmux::new(server.command())
}

#[track_caller]
fn pane_of(tmux: &Tmux, session: &str) -> Pane {
    let mut panes = tmux.list_panes().unwrap();
    panes.retain(|pane| pane.session == session);
    assert_eq!(panes.len(), 1, "{panes:?}");
    panes.remove(0)
}

/// A pane in which a program says `up` and then appends all that is typed to the file that is returned.
fn recorder(server: &TmuxServer, name: &str) -> (PaneId, std::path::PathBuf) {
    recorder_with(server, name, ":")
}

/// The same, where a shell has run `first` before.
fn recorder_with(server: &TmuxServer, name: &str, first: &str) -> (PaneId, std::path::PathBuf) {
    let file = server.home().join(name);
    let run = format!("{first}; echo up; exec cat >'{}'", file.display());
    let pane = server.new_session_unready(name, &["sh", "-c", &run]);
    server.wait_for_text(&pane, "up");
    (PaneId::parse(&pane).unwrap(), file)
}

/// An executable that stands in for tmux.
fn stand_in(dir: &Path, script: &str) -> Tmux {
    let path = dir.join("tmux");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Tmux::new(vec![path.to_str().unwrap().to_owned()])
}

#[test]
fn no_server_is_not_an_empty_server() {
    let server = TmuxServer::builder().not_running().start();
    let tmux = tmux_of(&server);
    assert_eq!(tmux.list_panes(), Err(TmuxError::NoServer));
    let refused = tmux.new_session("a", 200, 50, server.home(), false);
    assert_eq!(refused, Err(TmuxError::NoServer));
    assert!(!server.socket().exists());
    assert!(tmux.version().unwrap().starts_with("tmux "));

    server.start_server();
    assert_eq!(tmux.list_panes(), Ok(vec![]));
    tmux.new_session("a", 200, 50, server.home(), false).unwrap();
    assert_eq!(tmux.list_panes().unwrap().len(), 1);

    // The socket of a server that has died stays behind.
    let pid = tmux.list_panes().unwrap()[0].server;
    kill_process(pid, Signal::KILL).unwrap();
    wait_until("the server is gone", PATIENCE, || tmux.list_panes() == Err(TmuxError::NoServer));
    assert!(server.socket().exists());
}

#[test]
fn a_server_is_started_when_that_is_allowed() {
    let server = TmuxServer::builder().not_running().start();
    let tmux = tmux_of(&server);
    let pane = tmux.new_session("a", 200, 50, server.home(), true).unwrap();
    assert_eq!(pane_of(&tmux, "a").id, pane);
}

#[test]
fn a_session_is_made_as_asked_and_nothing_in_its_directory_is_expanded() {
    let server = TmuxServer::start();
    let tmux = tmux_of(&server);
    let dir = server.home().join("a #(touch pwned) #{pid} %H #[fg=red] 'x'");
    fs::create_dir(&dir).unwrap();
    let id = tmux.new_session("ccl-auto-0", 200, 50, &dir, false).unwrap();
    let pane = pane_of(&tmux, "ccl-auto-0");
    assert_eq!(pane.id, id);
    assert!(pane.is_alone() && !pane.dead && !pane.in_mode && pane.attached == 0);
    assert!(stat(pane.server).unwrap().is_some());
    assert_eq!(server.format(id.as_str(), "#{window_width}x#{window_height}"), "200x50");
    let cwd = format!("/proc/{}/cwd", pane.pid.as_raw_pid());
    wait_until("the shell starts there", PATIENCE, || {
        fs::read_link(&cwd).is_ok_and(|cwd| cwd == dir)
    });
    assert!(pane.tty.exists());
    assert!(!dir.join("pwned").exists() && !server.home().join("pwned").exists());

    let taken = tmux.new_session("ccl-auto-0", 200, 50, &dir, false).unwrap_err();
    assert!(taken.is_name_taken(), "{taken}");
    let odd = format!("x#(touch {})", server.home().join("pwned").display());
    let odd = tmux.new_session(&odd, 200, 50, &dir, false);
    assert!(matches!(odd, Err(TmuxError::Unfit { .. })), "{odd:?}");
    let gone = tmux.new_session("b", 200, 50, &dir.join("gone"), false).unwrap_err();
    assert!(gone.to_string().contains("gone"), "{gone}");
    assert_eq!(server.sessions(), ["ccl-auto-0"]);
}

#[test]
fn names_that_begin_alike_are_not_mixed_up() {
    let server = TmuxServer::start();
    let tmux = tmux_of(&server);
    let (ten, ten_file) = recorder(&server, "ccl-auto-10");
    assert!(tmux.list_panes().unwrap().iter().all(|pane| pane.session != "ccl-auto-1"));
    tmux.new_session("ccl-auto-1", 200, 50, server.home(), false).unwrap();
    let one = pane_of(&tmux, "ccl-auto-1");
    assert_ne!(one.id, ten);
    for (pane, name) in [(&one.id, "ccl-auto-1"), (&ten, "ccl-auto-10")] {
        assert_eq!(server.format(pane.as_str(), "#{session_name}"), name);
    }
    tmux.type_line(&one.id, "echo for one").unwrap();
    tmux.type_line(&ten, "for ten").unwrap();
    wait_until("the line", PATIENCE, || fs::read(&ten_file).is_ok_and(|text| text == b"for ten\n"));

    server.run(&["kill-session", "-t", "=ccl-auto-1:"]);
    let gone = tmux.type_line(&one.id, "lost").unwrap_err();
    assert!(gone.to_string().contains("can't find pane"), "{gone}");
    assert!(tmux.capture(&one.id).is_err() && tmux.interrupt(&one.id).is_err());
    assert_eq!(fs::read(&ten_file).unwrap(), b"for ten\n");
}

#[test]
fn names_and_screens_are_read_in_every_locale() {
    let server = TmuxServer::start();
    server.new_session_unready("ünï x|y", &["sh", "-c", "echo '❯ up'; exec sleep 1000"]);
    for locale in ["C", "POSIX", "C.UTF-8", ""] {
        let mut command =
            vec!["env".to_owned(), "-u".into(), "LANG".into(), format!("LC_ALL={locale}")];
        command.extend(server.command());
        let tmux = Tmux::new(command);
        let pane = pane_of(&tmux, "ünï x|y");
        server.wait_until(locale, || tmux.capture(&pane.id).unwrap().starts_with("❯ up\n"));
    }
}

#[test]
fn what_is_shared_or_split_is_not_alone() {
    let server = TmuxServer::start();
    let tmux = tmux_of(&server);
    for name in ["split", "windows", "linked", "other"] {
        server.new_session_unready(name, &["sleep", "1000"]);
    }
    assert!(tmux.list_panes().unwrap().iter().all(Pane::is_alone));
    server.run(&["split-window", "-d", "-t", "=split:", "--", "sleep", "1000"]);
    server.run(&["new-window", "-d", "-t", "=windows:", "--", "sleep", "1000"]);
    server.run(&["link-window", "-d", "-s", "=linked:", "-t", "=other:"]);
    assert!(!tmux.list_panes().unwrap().iter().any(Pane::is_alone));
}

#[test]
fn every_mode_is_left() {
    let server = TmuxServer::start();
    let tmux = tmux_of(&server);
    // It lives on when C-c is typed.
    let (deaf, file) = recorder_with(&server, "deaf", "trap '' INT");
    for (nth, mode) in ["copy-mode", "clock-mode", "choose-tree"].iter().enumerate() {
        server.run(&[mode, "-t", deaf.as_str()]);
        assert!(pane_of(&tmux, "deaf").in_mode, "{mode}");
        tmux.interrupt(&deaf).unwrap();
        assert!(!pane_of(&tmux, "deaf").in_mode, "{mode}");
        tmux.interrupt(&deaf).unwrap();
        tmux.type_line(&deaf, mode).unwrap();
        wait_until(mode, PATIENCE, || fs::read_to_string(&file).unwrap().lines().count() > nth);
    }
    let (pane, _) = recorder(&server, "s");
    server.run(&["copy-mode", "-t", pane.as_str()]);
    tmux.interrupt(&pane).unwrap();
    wait_until("the interrupt ends cat", PATIENCE, || {
        tmux.list_panes().unwrap().iter().all(|found| found.id != pane)
    });
}

#[test]
fn a_line_is_typed_as_it_stands() {
    let server = TmuxServer::start();
    let tmux = tmux_of(&server);
    let (pane, file) = recorder(&server, "s");
    let lines = [
        "ends with;",
        "ends with\\;",
        ";",
        "\\",
        "-l -- x",
        "Enter",
        "C-c",
        "#{pid} #(touch x) %H",
        "it's \"quoted\" $HOME `x`",
        "❯ ünï",
        "a  b ",
        "{ x",
        "~",
        "sh '/a b/x.run'",
    ];
    for line in lines {
        tmux.type_line(&pane, line).unwrap();
    }
    tmux.enter(&pane).unwrap();
    let expected = format!("{}\n\n", lines.join("\n"));
    server.wait_until("all lines", || fs::read_to_string(&file).unwrap().len() >= expected.len());
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    for bad in ["two\nlines", "esc\u{1b}", "\u{3}", "tab\t"] {
        let refused = tmux.type_line(&pane, bad);
        assert!(matches!(refused, Err(TmuxError::Unfit { .. })), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
}

#[test]
fn a_paste_arrives_byte_for_byte_and_leaves_no_buffer() {
    let server = TmuxServer::start();
    let tmux = tmux_of(&server);
    let bytes: Vec<u8> =
        (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let file = server.home().join("pasted");
    let reader =
        format!("stty raw -echo; echo up; exec head -c {} >'{}'", bytes.len(), file.display());
    let pane = server.new_session_unready("s", &["sh", "-c", &reader]);
    server.wait_for_text(&pane, "up");
    let pane = PaneId::parse(&pane).unwrap();
    tmux.paste(&pane, &bytes).unwrap();
    server.wait_until("all bytes", || fs::metadata(&file).is_ok_and(|meta| meta.len() >= 300_000));
    assert!(fs::read(&file).unwrap() == bytes);

    let (pane, file) = recorder(&server, "t");
    tmux.paste(&pane, b"").unwrap();
    tmux.paste(&pane, b"one\ntwo\n").unwrap();
    server.wait_until("both lines", || fs::read(&file).unwrap() == b"one\ntwo\n");
    let missing = tmux.paste(&PaneId::parse("%99").unwrap(), b"lost").unwrap_err();
    assert!(missing.to_string().contains("can't find pane"), "{missing}");
    assert_eq!(server.run(&["list-buffers"]), "");
}

#[test]
fn only_a_persons_keys_count_as_activity() {
    let server = TmuxServer::start();
    let tmux = tmux_of(&server);
    let inner = tmux.new_session("inner", 200, 50, server.home(), false).unwrap();
    let created = pane_of(&tmux, "inner").activity;
    let later = |than: Timestamp| {
        wait_until("the clock goes on", PATIENCE, || {
            Timestamp::now().as_second() > than.as_second() + 1
        });
    };
    later(created);
    tmux.type_line(&inner, "echo a line and its $((1+1)) words").unwrap();
    server.wait_for_text(inner.as_str(), "its 2 words");
    assert_eq!(pane_of(&tmux, "inner").activity, created);

    let socket = server.socket().to_str().unwrap();
    let attach = ["env", "-u", "TMUX", "tmux", "-S", socket, "attach", "-t", "=inner:"];
    let outer = server.new_session_unready("outer", &attach);
    server.wait_until("somebody is attached", || pane_of(&tmux, "inner").attached == 1);
    let attached = pane_of(&tmux, "inner").activity;
    later(attached);
    server.send_keys(&outer, &["x"]);
    server.wait_until("a key counts", || pane_of(&tmux, "inner").activity > attached);
}

#[test]
fn a_hanging_tmux_is_given_up_and_leaves_no_child() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let mut tmux =
        stand_in(dir.path(), &format!("sleep 1000 & echo $$ $! >'{}'; wait", pids.display()));
    assert_eq!(tmux.limit, Duration::from_secs(10));
    tmux.limit = Duration::from_secs(1);
    let start = Instant::now();
    let error = tmux.list_panes().unwrap_err();
    assert!(matches!(error, TmuxError::Timeout { .. }), "{error:?}");
    assert!(error.to_string().contains("list-panes"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(6));
    let pids = fs::read_to_string(&pids).unwrap();
    let pids: Vec<Pid> =
        pids.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect();
    assert_eq!(pids.len(), 2);
    wait_until("both are gone", PATIENCE, || {
        pids.iter().all(|pid| stat(*pid).unwrap().is_none_or(|process| !process.is_alive()))
    });
    // A paste that is never read does not hang either.
    let error = tmux.paste(&PaneId::parse("%0").unwrap(), &[b'x'; 300_000]).unwrap_err();
    assert!(matches!(error, TmuxError::Timeout { .. }), "{error:?}");
}

#[test]
fn a_program_that_is_not_tmux_gets_its_sentence() {
    let dir = tempfile::tempdir().unwrap();
    for (script, sentence) in [
        ("echo nonsense", "`nonsense`"),
        ("echo '%1 2 3'", "cannot be read"),
        ("printf '\\377\\033[31m\\n'", "\\u{1b}[31m"),
        ("yes", "more than 16 MiB"),
        ("echo broken >&2; exit 3", "broken"),
        ("exit 3", "exit status: 3"),
        ("kill -9 $$", "signal: 9"),
    ] {
        let error = stand_in(dir.path(), script).list_panes().unwrap_err().to_string();
        assert!(error.contains(sentence) && error.contains("list-panes"), "{script}: {error}");
    }
    assert_eq!(stand_in(dir.path(), "exit 0").list_panes(), Ok(vec![]));
    // What outlives the call and holds its pipes is not waited for.
    let start = Instant::now();
    assert_eq!(stand_in(dir.path(), "sleep 1000 & exit 0").list_panes(), Ok(vec![]));
    assert!(start.elapsed() < Duration::from_secs(5));

    let missing = dir.path().join("none").to_str().unwrap().to_owned();
    let error = Tmux::new(vec![missing.clone()]).list_panes().unwrap_err();
    assert_eq!(error, TmuxError::NotInstalled { program: missing });
    fs::set_permissions(dir.path().join("tmux"), fs::Permissions::from_mode(0o644)).unwrap();
    let denied = Tmux::new(vec![dir.path().join("tmux").to_str().unwrap().to_owned()]);
    assert!(matches!(denied.list_panes(), Err(TmuxError::Failed { .. })));
    assert!(matches!(Tmux::new(vec![]).list_panes(), Err(TmuxError::Failed { .. })));
}
