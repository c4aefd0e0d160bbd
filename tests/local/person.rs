//! A session in which a person had a hand, and what an agent leaves behind.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::support::write_program;
use super::world::{HOLDS, World, kill, lives};

/// A person's terminal, attached to a session.
struct Person(Child);

impl Person {
    fn attach(world: &World, session: &str) -> Self {
        let mut words = world.tmux.command();
        words.extend(["attach-session", "-t", &format!("={session}")].map(str::to_owned));
        let line = shlex::try_join(words.iter().map(String::as_str)).unwrap();
        let child = std::process::Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let person = Self(child);
        let target = format!("={session}:");
        world.tmux.wait_until("a client is attached", || {
            world.tmux.format(&target, "#{session_attached}") == "1"
        });
        person
    }

    fn press(&mut self, keys: &str) {
        let terminal = self.0.stdin.as_mut().unwrap();
        terminal.write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_session_that_a_person_uses_is_neither_given_a_task_nor_recycled() {
    let world = World::claude(1);
    let project = world.project("web");
    world.tmux.new_session("ccl-auto-0", &[]);
    project.drop_task("t.md", "Do it.\n");
    let mut person = Person::attach(&world, "ccl-auto-0");
    person.press("half a li");
    world.tmux.wait_for_text("=ccl-auto-0:", "half a li");
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (0, vec![]));
    assert!(pass.stderr.contains("ccl-auto-0 is in use by a person"), "{}", pass.stderr);
    let pass = world.ccl(&["assign", "ccl-auto-0"]);
    assert_eq!((pass.code, pass.short()), (0, vec![]));
    let reason = "ccl-auto-0 gets no task: it is in use by a person";
    assert!(pass.stderr.contains(reason), "{}", pass.stderr);
    let screen = world.tmux.capture("=ccl-auto-0:");
    assert!(screen.trim_end().ends_with("half a li"), "{screen}");
    assert_eq!(project.inbox(), ["t.md"]);
    drop(person);

    // Once nobody is attached, the half-typed line is no obstacle.
    world.tmux.wait_until("the person is gone", || {
        world.tmux.format("=ccl-auto-0:", "#{session_attached}") == "0"
    });
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    world.wait_for_status("idle");
    world.let_rest();
    let person = Person::attach(&world, "ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    // Nor when the task is gone from under the agent.
    fs::rename(project.queue("inbox").join("t.md.dispatched"), project.queue("done").join("t.md"))
        .unwrap();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    assert_eq!(world.fake.events("sigterm"), [] as [Value; 0]);
    drop(person);
    world.tmux.wait_until("the session is free", || {
        world.pass(&["reap"]);
        !world.session_file("ccl-auto-0", "dispatched").exists()
    });
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn what_a_person_cancels_is_filed_while_they_look() {
    let world = World::claude(1);
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    // A pass was killed before it filed it.
    let marker = fs::read(world.session_file("ccl-auto-0", "dispatched")).unwrap();
    let run = &serde_json::from_slice::<Value>(&marker).unwrap()["run"];
    let line = json!({"run": run, "outcome": "failed", "attempt": 1, "reason": "noted"});
    let task = project.queue("inbox").join("t.md.dispatched");
    fs::write(&task, format!("Do it.\n\n<!-- ccl {line} -->\n")).unwrap();
    let _person = Person::attach(&world, "ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    assert_eq!(world.pass(&["cancel", task.to_str().unwrap()]), ["failed t.md ccl-auto-0"]);
    assert_eq!(project.failed(), ["t.md"]);
    world.assert_nothing_is_left("ccl-auto-0");
}

/// `tmux new -t ccl-auto-0` gives a person a view of their own.
#[test]
fn a_person_may_look_through_a_session_of_their_own() {
    let world = World::claude(1);
    let project = world.project("web");
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    world.wait_for_status("idle");
    world.let_rest();
    world.tmux.run(&["new-session", "-d", "-s", "mine", "-t", "=ccl-auto-0"]);
    let grouped = Person::attach(&world, "mine");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    drop(grouped);
    world.tmux.run(&["kill-session", "-t", "=mine"]);
    world.tmux.new_session("mine", &[]);
    let window = world.tmux.windows("ccl-auto-0").pop().unwrap();
    world.tmux.run(&["move-window", "-s", &window, "-t", "=mine:"]);
    let moved = Person::attach(&world, "mine");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    drop(moved);
    world
        .tmux
        .wait_until("nobody looks", || world.tmux.format("=mine:", "#{session_attached}") == "0");
    assert_eq!(world.pass(&["reap"]), ["done t.md ccl-auto-0"]);
    assert_eq!(world.tmux.windows("mine").len(), 1);
}

/// tmux lets what stops in a window of its own go on (measured on 3.3a), so that no agent waits for an `fg` that never
/// comes.
#[test]
fn an_agent_that_a_person_stopped_goes_on_and_is_never_started_a_second_time() {
    let world = World::commands(2);
    let project = world.project("web");
    project.drop_task("a.md", format!("{HOLDS}DO: echo went on > ~/went-on\n"));
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    kill("-STOP", world.agent_pid("ccl-auto-0"));
    for verb in ["reap", "scan", "reap"] {
        assert_eq!(world.pass(&[verb]), [""; 0]);
    }
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    assert!(world.sandbox.home().join("went-on").exists());
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-0"]);
    assert_eq!(world.order(), ["a.md"]);
}

#[test]
fn a_window_that_a_person_closes_is_an_agent_that_was_interrupted() {
    let world = World::commands(1);
    let project = world.project("web");
    project.drop_task("a.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    let agent = world.agent_pid("ccl-auto-0");
    // The agent's window is the session's current one.
    world.tmux.run(&["kill-window", "-t", "=ccl-auto-0:"]);
    world.tmux.wait_until("its agent has ended with it", || !lives(agent));
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.short(), ["released a.md ccl-auto-0"], "{pass:#?}");
    assert!(pass.reason("a.md").contains("its window was closed"), "{pass:#?}");
    world.assert_nothing_is_left("ccl-auto-0");
    world.let_go();
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
}

#[test]
fn a_persons_own_windows_stay_and_a_shell_in_them_keeps_nobody_out() {
    let world = World::commands(1);
    let project = world.project("web");
    world.tmux.new_session("ccl-auto-0", &[]);
    world.tmux.run(&["new-window", "-d", "-t", "=ccl-auto-0:"]);
    project.drop_task("a.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    // A person has split the agent's window.
    world.tmux.run(&["split-window", "-d", "-t", "=ccl-auto-0:"]);
    let panes = || world.tmux.run(&["list-panes", "-s", "-t", "=ccl-auto-0:"]).lines().count();
    assert_eq!(panes(), 4);
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-0"]);
    assert_eq!(panes(), 3);
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn a_session_of_which_only_the_agents_window_is_left_is_made_anew() {
    let world = World::commands(1);
    let project = world.project("web");
    for name in ["a.md", "b.md"] {
        project.drop_task(name, HOLDS);
    }
    let shell = world.tmux.new_session("ccl-auto-0", &[]);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.tmux.run(&["kill-pane", "-t", &shell]);
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.scan(), ["done a.md ccl-auto-0", "dispatched b.md ccl-auto-0"]);
}

/// Programs that run as another user and may not be looked at, as `sudo` may not: as root `ccl` sees everything, so that
/// there it is called without root's privileges, and the program is one of nobody's.
struct Forbidden {
    unprivileged: &'static [&'static str],
    program: String,
}

impl Forbidden {
    fn of(world: &World) -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self { unprivileged: &[], program: "su".to_owned() };
        }
        let program = world.sandbox.path().join("sudo");
        fs::copy("/bin/sleep", &program).unwrap();
        std::os::unix::fs::chown(&program, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        Self {
            unprivileged: &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
            program: format!("{} 1000", program.display()),
        }
    }

    /// Makes a session in which the program hides, and has `ccl` called so that it does.
    fn session(&self, world: &mut World) {
        let shell = [self.unprivileged, &["bash", "-l"]].concat();
        world.tmux.new_session("ccl-auto-0", &shell);
        world.sandbox.wrap(self.unprivileged.iter().copied());
        // Nor may the agent have privileges that `ccl` lacks.
        let shell = world.sandbox.path().join("shell");
        let line = shlex::try_join(self.unprivileged.iter().copied()).unwrap();
        write_program(&shell, &format!("#!/bin/sh\nexec {line} /bin/bash \"$@\"\n"));
        world.sandbox.config("agent", json!({"shell": shell}));
    }

    /// Runs the program as the only process of a window; returns it.
    fn run_as_window(&self, world: &World) -> (String, i32) {
        let line = shlex::try_join(self.unprivileged.iter().copied()).unwrap();
        let line = format!("exec {line} {}", self.program);
        let window = ["new-window", "-d", "-P", "-F", "#{pane_id}", "-t", "=ccl-auto-0:", &line];
        let pane = world.tmux.run(&window).trim().to_owned();
        let pid: i32 = world.tmux.format(&pane, "#{pane_pid}").parse().unwrap();
        world.tmux.wait_until("the window's process is the program", || {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            ["sudo", "su"].contains(&name.trim_end())
        });
        (pane, pid)
    }

    /// Runs the program in a pane with a shell; returns its process.
    fn run_in(&self, world: &World, pane: &str) -> i32 {
        world.tmux.type_line(pane, &self.program);
        let shell = world.tmux.format(pane, "#{pane_pid}");
        world.tmux.wait_for("it is in front", || {
            let stat = fs::read_to_string(format!("/proc/{shell}/stat")).unwrap();
            let front = stat.rsplit_once(") ").unwrap().1.split(' ').nth(5).unwrap().to_owned();
            let name = fs::read_to_string(format!("/proc/{front}/comm")).ok()?;
            ["sudo", "su"].contains(&name.trim_end()).then(|| front.parse().unwrap())
        })
    }
}

#[test]
fn what_may_not_be_looked_at_makes_a_session_busy_and_nothing_fails() {
    let mut world = World::commands(1);
    let project = world.project("web");
    let forbidden = Forbidden::of(&world);
    forbidden.session(&mut world);
    forbidden.run_in(&world, "=ccl-auto-0:");
    project.drop_task("a.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (0, vec![]), "{pass:#?}");
    let reason = "no free session: ccl-auto-0 is busy: `su";
    assert!(pass.stderr.contains(reason), "{}", pass.stderr);
    assert_eq!(project.inbox(), ["a.md"]);
}

#[test]
fn what_may_not_be_looked_at_is_not_taken_for_the_agents_end() {
    let mut world = World::commands(1);
    let project = world.project("web");
    let forbidden = Forbidden::of(&world);
    forbidden.session(&mut world);
    let shell = world.tmux.format("=ccl-auto-0:", "#{pane_id}");
    project.drop_task("a.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    // As if the agent had become the program.
    let hidden = forbidden.run_as_window(&world);
    let path = world.session_file("ccl-auto-0", "dispatched");
    let mut marker: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let agents = marker["pane"].clone();
    (marker["pane"]["id"], marker["pane"]["pid"]) = (hidden.0.into(), hidden.1.into());
    fs::write(&path, marker.to_string()).unwrap();
    for verb in ["reap", "scan"] {
        assert_eq!(world.pass(&[verb]), [""; 0]);
    }
    let status = world.sandbox.ccl_json(&["status"]);
    let session = &status["sessions"][0];
    assert_eq!(session["state"], "needs-attention", "{status:#}");
    let reason = session["reason"].as_str().unwrap();
    assert!(reason.contains("belongs to another user"), "{reason}");
    assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    // Its window is gone, and its number has been given to another user's process: the tmux server did not start that.
    world.tmux.run(&["kill-pane", "-t", agents["id"].as_str().unwrap()]);
    let agent = agents["pid"].as_i64().unwrap().try_into().unwrap();
    world.tmux.wait_until("the agent is gone", || !lives(agent));
    marker["pane"] = agents;
    marker["pane"]["pid"] = forbidden.run_in(&world, &shell).into();
    fs::write(&path, marker.to_string()).unwrap();
    assert_eq!(world.pass(&["reap"]), ["released a.md ccl-auto-0"]);
    world.tmux.run(&["kill-pane", "-t", &shell]);
    world.let_go();
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-0"]);
    assert_eq!(world.order(), ["a.md", "a.md"]);
}

#[test]
fn what_an_agent_leaves_running_does_not_keep_its_task_open() {
    let world = World::commands(2);
    let project = world.project("web");
    // It ends once the second has its own session: until then the end of its terminal would be its end, too.
    let leaves = "sleep 600 & setsid sh -c '>~/apart; exec sleep 601' & \
                  while [ ! -e ~/apart ]; do sleep 0.05; done";
    project.drop_task("a.md", format!("DO: {leaves}\n"));
    // Killed once it has begun for certain.
    let killed = format!("{HOLDS}DO: sleep 602 & setsid sleep 603 & kill -KILL $PPID $$\n");
    project.drop_task("b.md", killed);
    assert_eq!(world.scan().len(), 2);
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    world.wait_for_end("ccl-auto-1");
    let mut events = world.pass(&["reap"]);
    events.sort();
    assert_eq!(events, ["done a.md ccl-auto-0", "released b.md ccl-auto-1"]);
    // What a done task has started in a session of its own is to stay; of an attempt that failed nothing is.
    let sleeps = |seconds: &str| {
        let line = format!("sleep\0{seconds}\0");
        let mut processes = world.tmux.processes().into_iter();
        processes.any(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default() == line.as_bytes()
        })
    };
    assert_eq!(["601", "602", "603"].map(sleeps), [true, false, false]);
}
