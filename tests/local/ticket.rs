//! The window that starts the agent: refused, doubled, slow, or never ready; the agent starts once.

use std::fs;
use std::process::{Child, Command, Stdio};

use ccl::config::{Config, Overrides};
use ccl::environment::Environment;
use ccl::event::EventKind;
use ccl::log::{Level, Log, Style};
use ccl::queue;
use ccl::session::{Assignment, Pool, Session};
use ccl::task::TaskRules;
use jiff::Timestamp;
use serde_json::json;

use super::launch::forever;
use super::support::fake_script::Behaviour;
use super::support::write_program;
use super::support::{PATIENCE, wait_until};
use super::world::{HOLDS, World, ending, lives};

/// Puts a script between `ccl` and tmux that treats the calls that open a window in its own way.
fn between(world: World, on_window: &str) -> World {
    before(world, "new-window", on_window)
}

/// The same with the calls of any command of tmux.
fn before(world: World, command: &str, instead: &str) -> World {
    let wrapper = world.sandbox.path().join("tmux-between");
    let tmux: Vec<_> = world.tmux.command();
    let tmux = shlex::try_join(tmux.iter().map(String::as_str)).unwrap();
    let text = format!(
        "#!/bin/sh\ntmux() {{ command {tmux} \"$@\"; }}\ncase \" $* \" in\n\
         *' {command} '*) {instead} ;;\n*) tmux \"$@\" ;;\nesac\n"
    );
    write_program(&wrapper, &text);
    world.with("tmux", json!({"command": [wrapper]}))
}

#[test]
fn two_windows_of_one_run_start_one_agent() {
    let world = World::commands(1);
    // The one that `ccl` knows of comes first: of the other's agent it would see only that its own window has ended.
    let ticket = world.sandbox.session_file("ccl-auto-0", "ticket");
    let twice = format!(
        "tmux \"$@\"; while [ -e {} ]; do sleep 0.01; done; tmux \"$@\" >/dev/null",
        ticket.display()
    );
    let world = between(world, &twice);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    world.wait_for_end("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-0"]);
    assert_eq!(world.order(), ["a.md"]);
}

#[test]
fn a_window_that_is_closed_while_it_is_looked_at_fails_no_pass() {
    let world = World::claude(1);
    let project = world.project("web");
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    project.drop_task("a.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    let close = "for pane; do :; done; tmux kill-pane -t \"$pane\"; tmux \"$@\"";
    let world = before(world, "capture-pane", close);
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    world
        .tmux
        .wait_until("the task is back", || world.pass(&["reap"]) == ["released a.md ccl-auto-0"]);
}

#[test]
fn a_window_that_is_closed_before_the_agent_starts_is_nobodys_fault() {
    let world = World::commands(1);
    let shell = world.sandbox.path().join("slow");
    write_program(&shell, "#!/bin/sh\nsleep 600\n");
    let close = "out=$(tmux \"$@\"); echo \"$out\"; tmux kill-pane -t \"${out%% *}\"";
    let world = between(world, close)
        .with("agent", json!({"kind": "command", "command": ["true"], "shell": shell}));
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    world.tmux.new_session("ccl-auto-0", &[]);
    let pass = world.ccl(&["scan"]);
    assert_eq!(
        (pass.code, pass.short().first().unwrap().as_str()),
        (0, "released a.md ccl-auto-0")
    );
    assert_eq!(pass.reason("a.md"), "its window was closed before true had started");
    assert_eq!(ending(&project, "inbox/a.md")["attempt"], 0);
}

#[test]
fn a_hook_of_a_persons_tmux_keeps_no_last_words_from_being_read() {
    for hook in ["split-window", "last-window"] {
        let world = World::claude(1);
        let words = "no licence".to_owned();
        world.script(&[Behaviour { exit_at_once: Some((words, 1)), ..Behaviour::default() }]);
        let shell = world.tmux.new_session("ccl-auto-0", &[]);
        world.tmux.run(&["set-hook", "-g", "after-new-window", hook]);
        world.project("web").drop_task("a.md", "Do it.\n");
        let reason = world.ccl(&["scan"]).reason("a.md");
        assert!(reason.ends_with("last line: no licence"), "{hook}: {reason}");
        assert_eq!(world.tmux.format(&shell, "#{remain-on-exit}"), "off", "{hook}");
    }
}

#[test]
fn a_window_that_tmux_refuses_is_reported_and_so_is_the_tasks_return() {
    let world = between(World::commands(1), "echo broken >&2; exit 1");
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (75, vec!["released a.md ccl-auto-0".to_owned()]));
    let reported = "cannot dispatch a.md to ccl-auto-0: `tmux new-window` failed: broken";
    assert!(pass.stderr.contains(reported), "{}", pass.stderr);
    assert_eq!(project.read("inbox/a.md"), "Do it.\n", "no attempt counts");
    world.assert_nothing_is_left("ccl-auto-0");
}

/// The agent never starts, which no task can cause.
#[test]
fn a_shell_whose_startup_files_hang_or_end_uses_up_no_attempt() {
    for (startup, sentence) in [
        ("echo 'Password for the vault:'; read x; sleep 1000", "Password for the vault:"),
        ("echo 'no such user'; exit 3", "ended before it started sh"),
    ] {
        let world = World::commands(1)
            .with("dispatcher", json!({"prompt_timeout": "2s", "max_attempts": 1}));
        let project = world.project("web");
        world.tmux.new_session("ccl-auto-0", &[]);
        // The session's own shell has started; the window's reads this.
        fs::write(world.sandbox.home().join(".profile"), startup).unwrap();
        fs::write(world.sandbox.home().join(".bash_profile"), startup).unwrap();
        project.drop_task("a.md", "Do it.\n");
        let pass = world.ccl(&["scan"]);
        assert_eq!(pass.short(), ["released a.md ccl-auto-0", "cooldown - ccl-auto-0"]);
        assert_eq!(pass.code, 1, "{pass:#?}");
        assert!(pass.reason("a.md").contains(sentence), "{pass:#?}");
        assert_eq!(ending(&project, "inbox/a.md")["attempt"], 0);
        world.assert_nothing_is_left("ccl-auto-0");
        assert_eq!(world.order(), [""; 0]);
    }
}

/// A shell may end and leave behind what its start-up files have begun, also by accident: zsh does, where its terminal
/// ends while it starts a program.
#[test]
fn what_startup_files_have_begun_ends_with_the_run_that_never_started() {
    let world = World::commands(1);
    let project = world.project("web");
    world.tmux.new_session("ccl-auto-0", &[]);
    let noted = world.sandbox.home().join("begun");
    let startup = format!("setsid sleep 1000 & echo $! >{}; sleep 1000", noted.display());
    for name in [".profile", ".bash_profile"] {
        fs::write(world.sandbox.home().join(name), &startup).unwrap();
    }
    project.drop_task("a.md", "Do it.\n");
    let mut scan = world.sandbox.std_ccl();
    scan.arg("--config").arg(world.sandbox.config_file()).arg("scan");
    let mut scan = scan.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = || fs::read_to_string(&noted).ok()?.trim().parse().ok();
    world.tmux.wait_until("the start-up file is read", || begun().is_some());
    scan.kill().unwrap();
    scan.wait().unwrap();
    let begun: i32 = begun().unwrap();
    assert!(lives(begun));
    assert_eq!(world.pass(&["reap"]), ["released a.md ccl-auto-0"]);
    assert!(!lives(begun));
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
fn what_a_person_starts_between_the_look_and_the_launch_is_not_disturbed() {
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
    let assignment = Assignment::shared(&config, task, TaskRules::default());

    // Something that shows every key.
    world.tmux.type_line(&pane, "cat -v");
    let shell = world.tmux.format(&pane, "#{pane_pid}");
    world.tmux.wait_until("cat is in front", || {
        world.tmux.format(&pane, "#{pane_current_command}") == "cat"
    });
    let (events, outcome) = pool.launch(slot, &assignment);
    outcome.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.event).collect();
    assert_eq!(kinds, [EventKind::Dispatched]);
    assert_ne!(world.agent_pid("ccl-auto-0").to_string(), shell);
    // What is typed now comes after whatever was typed before.
    world.tmux.type_line(&pane, "mark");
    let screen = world.tmux.wait_for_text(&pane, "mark\nmark");
    assert!(screen.contains("cat -v\nmark\nmark"), "{screen}");
    world.let_go();
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
