//! `ccl assign`, called by hooks, by a watcher and by hand.

use std::fs;
use std::process::{Command, Stdio};

use ccl::lock;
use serde_json::json;

use super::launch::forever;
use super::support::fake_script::{Behaviour, Ending, Turn};
use super::support::write_program;
use super::support::{PATIENCE, wait_until};
use super::world::{World, ending};

fn hooked(max: usize) -> World {
    World::claude(max).with("agent", json!({"hooks": true}))
}

#[test]
fn one_scan_and_no_timer_work_through_a_whole_inbox() {
    let world = hooked(1);
    let project = world.project("web #{pane_id} 100% it's");
    let names: Vec<_> = (0..4).map(|n| format!("t{n}.md")).collect();
    for name in &names {
        project.drop_task(name, "Do it.\n");
    }
    // The answer is in the transcript only after the hook has run.
    let late = Behaviour {
        times: 2,
        turns: vec![Turn { late_ms: 700, ..Turn::default() }],
        ..Behaviour::default()
    };
    world.script(&[late]);
    assert_eq!(world.scan(), ["dispatched t0.md ccl-auto-0"]);
    world.tmux.wait_until("all of them are done", || project.done() == names);
    wait_until("the session is given back", PATIENCE, || {
        !world.session_file("ccl-auto-0", "dispatched").exists()
    });
    assert_eq!(world.fake.prompts().len(), 4);
    assert_eq!(world.fake.events("start").len(), 4);
    assert_eq!(project.inbox(), [""; 0]);
    let screen = world.tmux.format("=ccl-auto-0:", "#{pane_in_mode}");
    assert_eq!(screen, "0", "no hook's output was shown");
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn a_quick_task_beside_a_slow_launch_goes_on_at_once() {
    let world = hooked(2);
    let project = world.project("web");
    let slow = Behaviour {
        when: "slow.md".to_owned(),
        start_delay_ms: 12_000,
        turns: forever(),
        ..Behaviour::default()
    };
    world.script(&[slow]);
    for name in ["a.md", "b.md", "c.md"] {
        project.drop_task(name, "Do it.\n");
    }
    project.drop_task("slow.md", "---\npriority: critical\n---\nDo it.\n");
    // While the pass still waits for the slow one, the hooks of the other one's agents work.
    let mut scan = world.sandbox.std_ccl();
    scan.arg("--config").arg(world.sandbox.config_file()).arg("scan");
    let mut scan = scan.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.tmux.wait_until("the quick ones are done", || project.done().len() == 3);
    assert_eq!(scan.try_wait().unwrap(), None, "the pass is still at work");
    assert!(scan.wait().unwrap().success());
}

#[test]
fn a_turn_that_failed_is_reported_by_its_hook_and_the_agent_is_held() {
    let world = hooked(1);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    // Only versions that know the hook are told of it.
    let settings = world.sandbox.home().join(".claude.json");
    fs::write(settings, r#"{"lastReleaseNotesSeen":"2.1.330"}"#).unwrap();
    let failed = Turn { end: Ending::Error("rate_limit".to_owned()), ..Turn::default() };
    world.script(&[Behaviour { turns: vec![failed], ..Behaviour::default() }]);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.tmux.wait_until("the task is back", || project.inbox() == ["a.md"]);
    let end = ending(&project, "inbox/a.md");
    assert_eq!(end["attempt"], 0, "{end}");
    let hold = fs::read_to_string(world.sandbox.state_dir().join("agents/claude.hold")).unwrap();
    assert!(hold.contains("the account's limit is reached"), "{hold}");
    assert!(!world.session_file("ccl-auto-0", "cooldown").exists());
    world.tmux.wait_until("the session is given back", || {
        !world.session_file("ccl-auto-0", "dispatched").exists()
    });
    assert_eq!(world.scan(), [""; 0]);
    assert_eq!(world.fake.events("start").len(), 1);
}

#[test]
fn two_hooks_at_once_file_one_task_and_give_one() {
    let world = World::claude(1);
    let project = world.project("web");
    for name in ["a.md", "b.md", "c.md"] {
        project.drop_task(name, "Do it.\n");
    }
    world.script(&[
        Behaviour { times: 1, ..Behaviour::default() },
        Behaviour { turns: forever(), ..Behaviour::default() },
    ]);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_status("idle");
    let mut events: Vec<String> = std::thread::scope(|scope| {
        let hooks: Vec<_> = (0..3).map(|_| scope.spawn(|| world.assign("ccl-auto-0"))).collect();
        hooks.into_iter().flat_map(|hook| hook.join().unwrap()).collect()
    });
    events.sort();
    assert_eq!(events, ["dispatched b.md ccl-auto-0", "done a.md ccl-auto-0"]);
    assert_eq!(world.fake.prompts().len(), 2);
    assert_eq!(project.inbox(), [".b.md.claim", "b.md.dispatched", "c.md"]);
}

#[test]
fn a_hook_waits_for_the_pass_that_is_at_work_on_its_session() {
    let world = World::claude(1);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_status("idle");
    let path = world.session_file("ccl-auto-0", "lock");
    let lock = lock::try_exclusive(&path).unwrap().unwrap();
    let mut hook = world.sandbox.std_ccl();
    hook.arg("--config").arg(world.sandbox.config_file());
    let mut hook = hook.args(["assign", "ccl-auto-0"]).stdout(Stdio::null()).spawn().unwrap();
    let descriptors = format!("/proc/{}/fd", hook.id());
    world.tmux.wait_until("the hook waits for the lock", || {
        let open = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|file| file == path)
    });
    assert_eq!(project.done(), [""; 0]);
    drop(lock);
    assert!(hook.wait().unwrap().success());
    assert_eq!(project.done(), ["a.md"]);
}

#[test]
fn a_hook_after_its_task_was_filed_finds_nothing_to_do() {
    let world = World::claude(1);
    world.tmux.new_session("ccl-auto-0", &[]);
    assert_eq!(world.assign("ccl-auto-0"), [""; 0]);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    // A late one starts the next task, and one that is later still leaves that alone.
    assert_eq!(world.assign("ccl-auto-0"), ["dispatched a.md ccl-auto-0"]);
    assert_eq!(world.assign("ccl-auto-0"), [""; 0]);
    assert_eq!(world.fake.events("sigterm").len(), 0);
}

#[test]
fn without_a_name_it_is_the_session_it_is_called_in() {
    let mut world = World::claude(2);
    let pane = world.tmux.new_session("ccl-auto-1", &[]);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    let outside = world.ccl(&["assign"]);
    assert_eq!(outside.code, 2);
    assert!(outside.stderr.contains("not called inside tmux"), "{}", outside.stderr);
    world.sandbox.env("TMUX", format!("{},1,0", world.tmux.socket().display()));
    world.sandbox.env("TMUX_PANE", &pane);
    assert_eq!(world.pass(&["assign"]), ["dispatched a.md ccl-auto-1"]);
    world.sandbox.env("TMUX_PANE", "%999");
    let stranger = world.ccl(&["assign"]);
    assert_ne!(stranger.code, 0);
    assert!(stranger.stderr.contains("%999"), "{}", stranger.stderr);
}

#[test]
fn sessions_that_are_not_the_pools_are_refused() {
    let world = World::claude(2);
    let project = world.project("web");
    let dedicated = json!({"dedicated": [{"session": "main", "project": project.root()}]});
    let world = world.with("pool", dedicated);
    for name in ["main", "mine", "ccl-auto-2"] {
        world.tmux.new_session(name, &[]);
    }
    project.drop_task("a.md", "Do it.\n");
    for (name, sentence) in [
        ("main", "main is a dedicated session"),
        ("mine", "mine is not a session of the pool, which is ccl-auto-0 to ccl-auto-1"),
        ("ccl-auto-2", "not a session of the pool"),
        ("ccl-auto-", "not a session of the pool"),
        ("../evil", "not a session of the pool"),
    ] {
        let pass = world.ccl(&["assign", name]);
        assert_eq!(pass.code, 2, "{name}: {pass:#?}");
        assert!(pass.stderr.contains(sentence), "{}", pass.stderr);
    }
    assert_eq!(project.inbox(), ["a.md"]);
    assert!(!world.sandbox.state_dir().exists());
    for name in ["=main:", "=mine:", "=ccl-auto-2:"] {
        assert_eq!(world.tmux.capture(name).trim(), "$", "nothing was typed");
    }
}

#[test]
fn an_upgrade_in_the_middle_of_a_pass_does_not_mislead_the_hooks() {
    let world = hooked(1);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    // As `cargo install` does it: a new file takes the name while the old one runs.
    let bin = world.sandbox.path().join("upgraded");
    fs::create_dir(&bin).unwrap();
    let (program, wrapper) = (bin.join("ccl"), bin.join("tmux"));
    fs::copy(env!("CARGO_BIN_EXE_ccl"), &program).unwrap();
    let tmux = world.tmux.command();
    let tmux = shlex::try_join(tmux.iter().map(String::as_str)).unwrap();
    let upgrade = format!(
        "#!/bin/sh\ncd {} && cp ccl new && mv new ccl\nexec {tmux} \"$@\"\n",
        bin.display()
    );
    write_program(&wrapper, &upgrade);
    let world = world.with("tmux", json!({"command": [wrapper]}));
    let ccl = world.sandbox.std_ccl();
    let variables = ccl.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let scan = Command::new(&program)
        .env_clear()
        .envs(variables)
        .arg("--config")
        .arg(world.sandbox.config_file())
        .arg("scan")
        .output();
    assert!(scan.unwrap().status.success());
    assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    let hook = fs::read_to_string(world.session_file("ccl-auto-0", "hook")).unwrap();
    assert!(!hook.contains("(deleted)"), "{hook}");
    assert!(hook.contains(program.to_str().unwrap()), "{hook}");
}
