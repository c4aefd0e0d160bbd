//! The life of a task in a session: done, failed, interrupted, left alone.

use std::fs;

use serde_json::{Value, json};

use super::launch::forever;
use super::support::fake_script::{Behaviour, Ending, Registry, Screen, Turn};
use super::world::{HOLDS, World, ending, kill, lives};

fn turn(end: Ending) -> Behaviour {
    Behaviour { turns: vec![Turn { end, ..Turn::default() }], ..Behaviour::default() }
}

/// A behaviour for the project of this name.
fn of(project: &str, behaviour: Behaviour) -> Behaviour {
    Behaviour { when: format!("projects/{project}"), ..behaviour }
}

#[test]
fn idle_for_a_while_with_a_good_end_is_done() {
    let world = World::claude(1);
    let project = world.project("web");
    project.drop_task("a.md", "---\ntitle: A\n---\nDo it.\n");
    project.drop_task("b.md", "And that.\n");
    let mut done = turn(Ending::Done);
    done.turns[0].says = "I did it.\nAll of it.".to_owned();
    world.script(&[done]);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_status("idle");
    assert_eq!(world.pass(&["reap"]), [""; 0], "it may go on in a moment");
    world.let_rest();
    assert_eq!(world.pass(&["reap", "-n"]), ["done a.md ccl-auto-0"]);
    assert_eq!(world.scan(), ["done a.md ccl-auto-0", "dispatched b.md ccl-auto-0"]);

    let filed = project.read("done/a.md");
    assert!(filed.starts_with("---\ntitle: A\n---\nDo it.\n"), "{filed}");
    assert!(filed.contains("\n## Result\n\nI did it.\nAll of it.\n"), "{filed}");
    let end = ending(&project, "done/a.md");
    let id = end["agent_session"].as_str().unwrap();
    assert!(filed.contains("claude-code (claude-sonnet-5-5) in ccl-auto-0 · "), "{filed}");
    assert!(filed.contains("100 tokens in, 10 out"), "{filed}");
    assert!(filed.contains(&format!("claude --resume {id}")), "{filed}");
    assert_eq!(end["outcome"], "done");
    assert_eq!(end["provider"], "claude-code");
    assert_eq!(end["model"], "claude-sonnet-5-5");
    assert_eq!(end["cost"], json!({"amount": "0.0003", "currency": "USD"}));
    assert_eq!(end["session"], "ccl-auto-0");
    assert_eq!(world.fake.events("exit")[0]["code"], 143);

    // The watcher's word counts at once.
    world.wait_for_status("idle");
    assert_eq!(world.assign("ccl-auto-0"), ["done b.md ccl-auto-0"]);
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn an_agent_that_was_killed_is_resumed() {
    let world = World::claude(2);
    let projects = ["one", "two"].map(|name| world.project(name));
    for project in &projects {
        project.drop_task("t.md", "Do it.\n");
    }
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    assert_eq!(world.scan().len(), 2);
    for start in world.fake.events("start") {
        kill("-KILL", start["pid"].as_i64().unwrap() as i32);
    }
    world.wait_for_end("ccl-auto-0");
    world.wait_for_end("ccl-auto-1");
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.code, 0, "{pass:#?}");
    let mut events = pass.short();
    events.sort();
    assert_eq!(events, ["released t.md ccl-auto-0", "released t.md ccl-auto-1"]);
    assert!(pass.events[0]["reason"].as_str().unwrap().contains("in the middle of its turn"));
    for project in &projects {
        assert_eq!(ending(project, "inbox/t.md")["attempt"], 1);
    }
    for session in ["ccl-auto-0", "ccl-auto-1"] {
        world.assert_nothing_is_left(session);
    }
    let again = world.scan();
    assert_eq!(again.len(), 2, "{again:?}\n{}", world.tmux.screens());
    let starts = world.fake.events("start");
    let ids = |start: &Value, flag: &str| {
        let argv = start["argv"].as_array().unwrap().clone();
        let at = argv.iter().position(|word| word == flag);
        at.map(|at| argv[at + 1].clone())
    };
    let mut first: Vec<_> = starts[..2].iter().map(|s| ids(s, "--session-id").unwrap()).collect();
    let mut then: Vec<_> = starts[2..].iter().map(|s| ids(s, "--resume").unwrap()).collect();
    first.sort_by_key(Value::to_string);
    then.sort_by_key(Value::to_string);
    assert_eq!(first, then);
}

#[test]
fn a_session_or_a_server_that_is_gone_gives_its_task_back() {
    let world = World::commands(2);
    let project = world.project("web");
    project.drop_task("a.md", HOLDS);
    // It does not take notice when its terminal goes.
    project.drop_task("b.md", format!("DO: trap '' HUP; echo $PPID > ~/stubborn\n{HOLDS}"));
    assert_eq!(world.scan().len(), 2);
    let stubborn = world.sandbox.home().join("stubborn");
    world.tmux.wait_until("b is at work", || stubborn.exists());
    let agent = world.agent_pid("ccl-auto-0");
    world.tmux.run(&["kill-session", "-t", "=ccl-auto-0"]);
    world.tmux.wait_until("the agent is gone", || !lives(agent));
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.short(), ["released a.md ccl-auto-0"], "{pass:#?}");
    assert!(pass.reason("a.md").contains("ended without an exit status"));

    let left: Vec<i32> = world
        .tmux
        .processes()
        .into_iter()
        .filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.windows(8).any(|window| window == b"CCL_RUN=")
        })
        .collect();
    assert!(!left.is_empty());
    let script = world.agent_pid("ccl-auto-1");
    world.tmux.run(&["kill-server"]);
    world.tmux.wait_until("the server is gone", || {
        !world.tmux.try_run(&["list-sessions"]).status.success() && !lives(script)
    });
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.short(), ["released b.md ccl-auto-1"], "{pass:#?}");
    for pid in left {
        assert!(!lives(pid), "a claim was released while its agent lived");
    }
    assert_eq!(project.inbox(), ["a.md", "b.md"]);
    world.tmux.start_server();
    world.let_go();
    assert_eq!(world.scan().len(), 2);
}

#[test]
fn a_busy_agent_and_one_that_asks_are_left_alone() {
    let world = World::claude(3);
    world.script(&[
        of("busy", turn(Ending::Forever)),
        of("asks", turn(Ending::Ask(Screen::Question))),
        of("wants", turn(Ending::Ask(Screen::Permission))),
    ]);
    for name in ["busy", "asks", "wants"] {
        world.project(name).drop_task("t.md", "Do it.\n");
    }
    assert_eq!(world.scan().len(), 3);
    world.wait_for_status("waiting");
    world.let_rest();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let claims =
        || ["busy", "asks", "wants"].map(|name| world.project(name).read("inbox/.t.md.claim"));
    let before = claims();
    let watched = ["ccl-auto-0", "ccl-auto-1", "ccl-auto-2"];
    std::thread::scope(|scope| {
        for session in watched {
            scope.spawn(|| assert_eq!(world.assign(session), [""; 0]));
        }
    });
    assert_eq!(claims(), before);
    assert_eq!(world.fake.events("keys"), [] as [Value; 0]);
    assert_eq!(world.fake.events("sigterm"), [] as [Value; 0]);
}

#[test]
fn what_the_agent_does_with_its_task_file_is_respected() {
    let world = World::claude(3);
    let run = |project: &str, command: &str| {
        let mut behaviour = of(project, turn(Ending::Done));
        behaviour.turns[0].run = command.to_owned();
        behaviour
    };
    let file = ".agent-queue/inbox/t.md.dispatched";
    world.script(&[
        run("moves", &format!("mv {file} .agent-queue/done/by-hand.md")),
        run("deletes", &format!("rm {file}")),
        run("edits", &format!("echo 'What I found.' >> {file}")),
    ]);
    let [moves, deletes, edits] = ["moves", "deletes", "edits"].map(|name| world.project(name));
    for project in [&moves, &deletes, &edits] {
        project.drop_task("t.md", "Do it.\n");
    }
    assert_eq!(world.scan().len(), 3);
    world.wait_for_idle(3);
    world.let_rest();
    let events = world.pass(&["reap"]);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("done t.md"));
    assert_eq!(moves.read("done/by-hand.md"), "Do it.\n");
    assert_eq!((moves.inbox(), moves.done()), (vec![], vec!["by-hand.md".to_owned()]));
    assert_eq!((deletes.inbox(), deletes.done()), (vec![], vec![]));
    assert!(edits.read("done/t.md").starts_with("Do it.\nWhat I found.\n"));
    for index in 0..3 {
        world.assert_nothing_is_left(&format!("ccl-auto-{index}"));
    }
}

#[test]
fn work_in_the_background_keeps_it_working() {
    let world = World::claude(1).with("agent", json!({"hooks": true}));
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    let mut behaviour = turn(Ending::Done);
    behaviour.turns[0].background = vec!["sleep 600".to_owned()];
    // Then the hook's word is all there is.
    behaviour.registry = Registry::WithoutStatus;
    world.script(&[behaviour]);
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    let stop = world.session_file("ccl-auto-0", "stop");
    world.tmux.wait_until("the hook was told", || stop.exists());
    assert_eq!(world.assign("ccl-auto-0"), [""; 0]);
    world.let_rest();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    assert_eq!(project.task_places("t.md"), ["inbox/t.md.dispatched"]);
    let told = fs::read_to_string(&stop).unwrap().replace("running", "completed");
    fs::write(&stop, told).unwrap();
    // The hook's own pass may still be looking, and holds the session's lock meanwhile, or files it itself.
    world.tmux.wait_until("it is filed", || {
        world.pass(&["reap"]);
        project.done() == ["t.md"]
    });
}

#[test]
fn what_the_agent_of_a_task_that_was_taken_back_has_started_does_not_go_on() {
    let world = World::commands(1);
    let project = world.project("web");
    project.drop_task("a.md", format!("DO: setsid sleep 604 & echo $! > ~/tool\n{HOLDS}"));
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    let tool = world.sandbox.home().join("tool");
    let tool: i32 =
        world.tmux.wait_for("a tool runs", || fs::read_to_string(&tool).ok()?.trim().parse().ok());
    let inbox = project.queue("inbox");
    fs::rename(inbox.join("a.md.dispatched"), inbox.join("a.md")).unwrap();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    assert!(!lives(tool));
    world.assert_nothing_is_left("ccl-auto-0");
    world.let_go();
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
}
