//! The one typed line: lost, doubled, late, or not typed at all; the agent starts once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use ccl::config::{Config, Overrides};
use ccl::environment::Environment;
use ccl::event::EventKind;
use ccl::log::{Level, Log, Style};
use ccl::queue;
use ccl::session::{Pool, Session};
use jiff::Timestamp;
use serde_json::json;

use super::support::{PATIENCE, wait_until};
use super::world::{HOLDS, World};

/// Puts a script between `ccl` and tmux that treats the calls that type a line (`send-keys … -l`) in its own way.
fn between(world: World, on_line: &str) -> World {
    let wrapper = world.sandbox.path().join("tmux-between");
    let tmux: Vec<_> = world.tmux.command();
    let tmux = shlex::try_join(tmux.iter().map(String::as_str)).unwrap();
    let text = format!(
        "#!/bin/sh\ntmux() {{ command {tmux} \"$@\"; }}\ncase \" $* \" in\n\
         *' send-keys '*' -l '*) echo line >> \"$0.log\"; {on_line} ;;\n*) tmux \"$@\" ;;\nesac\n"
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    world.with("tmux", json!({"command": [wrapper]}))
}

fn lines_typed(world: &World) -> usize {
    let log = world.sandbox.path().join("tmux-between.log");
    fs::read_to_string(log).unwrap_or_default().lines().count()
}

#[test]
fn a_line_that_is_lost_is_typed_again() {
    let world = between(World::commands(1), "[ -e \"$0.once\" ] && tmux \"$@\"; : > \"$0.once\"");
    world.project("web").drop_task("a.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    assert_eq!(lines_typed(&world), 2);
    assert_eq!(world.order(), ["a.md"]);
    world.let_go();
}

#[test]
fn a_line_that_is_typed_thrice_starts_one_agent() {
    let world = between(World::commands(1), "tmux \"$@\"; tmux \"$@\"; tmux \"$@\"");
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    world.wait_for_shell("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-0"]);
    // What was typed too often comes after it, and does nothing.
    project.drop_task("b.md", "Do it.\n");
    wait_until("the session takes the next one", PATIENCE, || {
        world.scan() == ["dispatched b.md ccl-auto-0"]
    });
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.order(), ["a.md", "b.md"]);
}

#[test]
fn a_line_that_never_arrives_costs_an_attempt_and_nothing_else() {
    let world = between(World::commands(1), ":")
        .with("dispatcher", json!({"prompt_timeout": "3s", "cooldown": "0s"}));
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["released a.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    assert_eq!((pass.code, lines_typed(&world)), (0, 2));
    assert_eq!(project.inbox(), ["a.md"]);
    world.assert_nothing_is_left("ccl-auto-0");
    assert_eq!(world.order(), [""; 0]);
}

#[test]
fn a_line_that_tmux_refuses_is_told_and_so_is_the_tasks_return() {
    let world = between(World::commands(1), "echo broken >&2; exit 1");
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (75, vec!["released a.md ccl-auto-0".to_owned()]));
    let told = "cannot dispatch a.md to ccl-auto-0: `tmux send-keys` failed: broken";
    assert!(pass.stderr.contains(told), "{}", pass.stderr);
    assert_eq!(project.read("inbox/a.md"), "Do it.\n", "no attempt counts");
    world.assert_nothing_is_left("ccl-auto-0");
}

/// The library's view of this world, with nothing of the test's own environment in it.
fn config(world: &World) -> Config {
    let environment = Environment::of([("HOME", world.sandbox.home())], world.sandbox.path());
    let overrides = Overrides { config: Some(world.sandbox.config_file()), ..Overrides::default() };
    Config::load(&overrides, &environment).unwrap()
}

#[test]
fn nothing_is_typed_where_the_shell_has_just_become_busy() {
    let world = World::commands(1);
    let pane = world.tmux.new_session("ccl-auto-0", &[]);
    let root = world.project("web");
    root.drop_task("a.md", HOLDS);
    let config = config(&world);
    let log = Log::new(Level::Debug, Style::Plain, Box::new(std::io::sink()));
    let pool = Pool::read(&config, &log, Timestamp::now()).unwrap();
    let session = Session::new(&config.state_dir, "ccl-auto-0");
    let slot = pool.try_slot(session).unwrap().unwrap();
    let project = queue::Project::new(root.root().to_owned());
    let name = queue::Name::new("a.md".as_ref()).unwrap();
    let task = project.read(&name).unwrap();

    // Between the look and the dispatch a person starts something that shows every key.
    world.tmux.type_line(&pane, "cat -v");
    let pid: i32 = world.tmux.format(&pane, "#{pane_pid}").parse().unwrap();
    world.tmux.wait_until("cat is in front", || world.agent_pid("ccl-auto-0") != pid);
    let (events, outcome) = pool.dispatch(slot, &task);
    let kinds: Vec<_> = events.iter().map(|event| event.event).collect();
    assert_eq!(kinds, [EventKind::Released, EventKind::Cooldown]);
    let error = format!("{:#}", outcome.unwrap_err());
    assert!(error.contains("cannot dispatch a.md to ccl-auto-0"), "{error}");
    assert!(error.contains("`cat` (process"), "{error}");
    // What is typed now comes after whatever was typed before.
    world.tmux.type_line(&pane, "mark");
    let screen = world.tmux.wait_for_text(&pane, "mark\nmark");
    assert!(!screen.contains("sh '") && !screen.contains("^C"), "{screen}");
    assert_eq!(root.inbox(), ["a.md"]);
    assert_eq!(root.read("inbox/a.md"), HOLDS, "no attempt counts");
    for kind in ["dispatched", "ticket", "run"] {
        assert!(!world.session_file("ccl-auto-0", kind).exists(), "{kind}");
    }
}

/// Keeps a core busy until it is dropped.
struct Spinner(Child);

impl Spinner {
    fn start() -> Self {
        let spin = ["-c", "while :; do :; done"];
        Self(Command::new("sh").args(spin).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_starved_shell_on_a_busy_machine_gets_every_task_once() {
    let world = World::commands(3).with("dispatcher", json!({"prompt_timeout": "60s"}));
    let project = world.project("web");
    for index in 0..3 {
        let session = format!("ccl-auto-{index}");
        let pane = world.tmux.new_session(&session, &[]);
        let pid = world.tmux.format(&pane, "#{pane_pid}");
        let renice = Command::new("renice").args(["-n", "19", "-p", &pid]).output();
        assert!(renice.unwrap().status.success());
    }
    let _spinners: Vec<_> = (0..2).map(|_| Spinner::start()).collect();
    let mut done = 0;
    for round in 0..3 {
        for index in 0..3 {
            project.drop_task(format!("t{round}{index}.md"), format!("A task.\nround {round}\n"));
        }
        wait_until("a round is done", PATIENCE * 2, || {
            let pass = world.ccl(&["scan"]);
            let count = |kind: &str| pass.events.iter().filter(|e| e["event"] == kind).count();
            assert_eq!(count("failed"), 0, "{pass:#?}");
            done += count("done");
            done == (round + 1) * 3
        });
    }
    let mut order = world.order();
    order.sort();
    let each_once: Vec<_> = (0..9).map(|n| format!("t{}{}.md", n / 3, n % 3)).collect();
    assert_eq!(order, each_once);
    assert_eq!(project.done(), each_once);
}
