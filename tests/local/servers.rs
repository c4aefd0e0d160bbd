//! Two tmux servers: a pass that reaches the one judges nothing in the other.

use std::fs;

use serde_json::json;

use super::launch::forever;
use super::support::fake_script::Behaviour;
use super::support::write_program;
use super::support::{PATIENCE, TmuxServer, wait_until};
use super::world::{HOLDS, World, kill, lives};

/// From now on `ccl` is called inside the server on this socket, as a person does.
fn inside(world: &mut World, socket: &std::path::Path) {
    world.sandbox.env("TMUX", format!("{},1,0", socket.display()));
}

#[test]
fn a_task_in_another_server_is_left_alone_while_its_pane_lives() {
    let mut world = World::claude(1).with("tmux", json!({"command": ["tmux"]}));
    let first = world.tmux.socket().to_owned();
    inside(&mut world, &first);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    let pid = world.agent_pid("ccl-auto-0");

    // A person's own server: with a pane of the same id, without any, and none at all.
    let other = TmuxServer::start();
    inside(&mut world, other.socket());
    let left_alone = |what: &str| {
        for verb in [&["reap"][..], &["scan"], &["reap", "--dry-run"], &["status"]] {
            let pass = world.ccl(verb);
            assert_eq!((pass.code, pass.short()), (1, vec![]), "{what}: {pass:#?}");
            let told = format!("a.md is at work in the tmux server at {}", first.display());
            assert!(pass.stderr.contains(&told), "{what}: {}", pass.stderr);
        }
        assert!(lives(pid), "{what}");
        assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    };
    other.new_session("own", &[]);
    left_alone("a server with a session");
    other.run(&["kill-session", "-t", "=own:"]);
    left_alone("a server without sessions");
    other.run(&["kill-server"]);
    left_alone("no server");

    // Its own server sees how it is, and once that is gone, any pass may judge.
    inside(&mut world, &first);
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["sessions"][0]["state"], "working", "{status:#}");
    world.tmux.run(&["kill-server"]);
    world
        .tmux
        .wait_until("the server and the agent are gone", || world.tmux.processes().is_empty());
    inside(&mut world, other.socket());
    assert_eq!(world.pass(&["reap"]), ["released a.md ccl-auto-0"]);
    assert!(!lives(pid));
    assert_eq!(world.fake.events("start").len(), 1);
}

/// A cleaner of /tmp may remove a socket under a server that lives.
#[test]
fn a_server_without_its_socket_keeps_its_task_and_no_second_one_takes_its_place() {
    let world = World::commands(2);
    let project = world.project("web");
    project.drop_task("a.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    project.drop_task("b.md", HOLDS);
    let socket = world.tmux.socket().to_owned();
    let marker = fs::read(world.session_file("ccl-auto-0", "dispatched")).unwrap();
    let marker: serde_json::Value = serde_json::from_slice(&marker).unwrap();
    let server = marker["pane"]["server"]["pid"].to_string();
    fs::remove_file(&socket).unwrap();
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (1, vec![]), "{pass:#?}");
    let advice = format!("`kill -USR1 {server}` makes it anew");
    assert!(pass.stderr.contains(&advice), "{}", pass.stderr);
    assert!(!socket.exists(), "no second server");
    assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    assert_eq!(project.task_places("b.md"), ["inbox/b.md"]);

    kill("-USR1", server.parse().unwrap());
    wait_until("the socket is there again", PATIENCE, || socket.exists());
    assert_eq!(world.scan(), ["dispatched b.md ccl-auto-1"]);
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    world.wait_for_exit("ccl-auto-1");
    assert_eq!(world.pass(&["reap"]).len(), 2);
}

#[test]
fn a_session_that_appears_at_this_moment_is_left_to_whoever_made_it() {
    let world = World::commands(1);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    let real = world.tmux.command().join(" ");
    let script = world.sandbox.path().join("tmux");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *new-session*) {real} new-session -d -s ccl-auto-0;; esac\nexec {real} \"$@\"\n"
    );
    write_program(&script, &text);
    let world = world.with("tmux", json!({"command": [script]}));
    assert_eq!(world.pass(&["scan"]), ["held a.md -"]);
    assert_eq!(project.inbox(), ["a.md"]);
    world.wait_for_end("ccl-auto-0");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
}

#[test]
fn without_an_answer_of_tmux_status_shows_what_is_at_work_as_it_is() {
    let world = World::commands(1);
    let project = world.project("web");
    project.drop_task("a.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    let world = world.with("tmux", json!({"command": ["false"]}));
    let out = world.sandbox.ccl(["status", "--json"]).output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(75), "{told}");
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(status["sessions"][0]["state"], "working", "{status:#}");
    assert!(!told.contains("has reached another"), "{told}");
}

#[test]
fn a_missing_tmux_is_reported_once() {
    let world = World::commands(1);
    let project = world.project("web");
    project.drop_task("a.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    project.drop_task("b.md", "Do it.\n");
    let world = world.with("tmux", json!({"command": ["no-such-tmux"]}));
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (75, vec![]), "{pass:#?}");
    let told = pass.stderr.matches("there is no program `no-such-tmux`");
    assert_eq!(told.count(), 1, "{}", pass.stderr);
    assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    assert_eq!(project.task_places("b.md"), ["inbox/b.md"]);
}

#[test]
fn one_session_that_cannot_be_judged_does_not_hide_the_others() {
    let world = World::commands(2);
    let project = world.project("web");
    project.drop_task("a.md", HOLDS);
    let state = world.sandbox.state_dir().join("sessions");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("ccl-auto-0.cooldown"), "nonsense").unwrap();
    let told = "ccl-auto-0.cooldown is left alone";
    for verb in [&["scan", "--dry-run"][..], &["scan"]] {
        let pass = world.ccl(verb);
        assert_eq!(pass.short(), ["dispatched a.md ccl-auto-1"], "{pass:#?}");
        assert_eq!(pass.code, 1);
        assert!(pass.stderr.contains(told), "{}", pass.stderr);
    }
    // None is free now, which is told with the reason for each.
    project.drop_task("b.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (1, vec![]), "{pass:#?}");
    let why = pass.stderr.lines().find(|line| line.contains("no free session"));
    let why = why.unwrap_or_else(|| panic!("{}", pass.stderr));
    assert!(why.contains(told) && why.contains("ccl-auto-1 works on a.md"), "{why}");
}

#[test]
fn a_marker_of_an_older_version_names_no_server() {
    let world = World::commands(1);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    let path = world.session_file("ccl-auto-0", "dispatched");
    let mut marker: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let server = marker["pane"].as_object_mut().unwrap().remove("server");
    assert_eq!(server.unwrap()["socket"], world.tmux.socket().to_str().unwrap());
    fs::write(&path, marker.to_string()).unwrap();
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-0"]);
}

#[test]
fn a_server_that_an_agent_has_started_is_no_part_of_its_run() {
    let mut world = World::new(1, |builder| builder.not_running());
    for variable in ["CCL_RUN", "CCL_PID"] {
        world.sandbox.env(variable, "1");
    }
    let world = world.with("agent", json!({"kind": "command", "command": ["true"]}));
    world.project("web").drop_task("a.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    let environment = world.tmux.run(&["show-environment", "-g"]);
    assert!(!environment.contains("CCL_RUN") && !environment.contains("CCL_PID"), "{environment}");
}

#[test]
fn a_session_stays_where_unattached_ones_are_destroyed() {
    let world = World::commands(1);
    let project = world.project("web");
    world.tmux.run(&["set-option", "-g", "destroy-unattached", "on"]);
    project.drop_task("a.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-0"]);
    assert_eq!(world.tmux.sessions(), ["ccl-auto-0"]);
}

/// Nobody starts a server where the sessions are a person's to make.
#[test]
fn without_a_server_and_where_none_may_be_made_a_waiting_task_is_a_temporary_failure() {
    let world = World::new(1, |builder| builder.not_running())
        .with("agent", json!({"kind": "command", "command": ["true"]}))
        .with("pool", json!({"autonomous": {"create": false}}));
    let project = world.project("web");
    assert_eq!(world.scan(), [""; 0], "nothing waits");
    project.drop_task("a.md", "Do it.\n");
    for args in [&["scan"][..], &["scan", "--dry-run"]] {
        let pass = world.ccl(args);
        assert_eq!((pass.code, pass.short()), (75, vec![]), "{pass:#?}");
        let sentence = "no tmux server is running, and pool.autonomous.create is false: start one";
        assert!(pass.stderr.contains(sentence), "{}", pass.stderr);
    }
    assert_eq!(project.inbox(), ["a.md"]);
    assert!(!world.tmux.socket().exists());
}
