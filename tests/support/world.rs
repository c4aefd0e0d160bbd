//! One test's world: a sandbox, a tmux server, and the agent that the tests script.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::fake_script::Behaviour;
use super::sandbox::ending_line;
use super::tmux_server::Builder;
use super::{FakeClaude, Project, Sandbox, TmuxServer, claude_home};

/// The agent of kind `command`: it notes what it was given and runs the lines of its task that begin with `DO: `.
const AGENT: &str = r#"
name=${1#\[}; name=${name%%\]*}
printf '%s' "$1" > "$HOME/got/$name.$CCL_RUN"
env > "$HOME/env/$name"
echo "$name" >> "$HOME/order"
eval "$(printf '%s\n' "$1" | sed -n 's/^\(\[[^]]*] \)\{0,1\}DO: //p')"
"#;

/// A task whose agent works until [`World::let_go`].
pub const HOLDS: &str = "DO: while [ ! -e ~/go ]; do sleep 0.05; done\n";

pub struct World {
    pub tmux: TmuxServer,
    pub fake: FakeClaude,
    pub sandbox: Sandbox,
}

/// What one run of `ccl` said and did.
#[derive(Debug)]
pub struct Pass {
    pub code: i32,
    pub events: Vec<Value>,
    pub free: Value,
    pub stderr: String,
}

impl World {
    /// Agents of kind `command`, in a pool of `max` sessions.
    pub fn commands(max: usize) -> Self {
        let world = Self::new(max, |builder| builder);
        for sub in ["got", "env"] {
            fs::create_dir(world.sandbox.home().join(sub)).unwrap();
        }
        let agent = world.sandbox.path().join("agent.sh");
        fs::write(&agent, AGENT).unwrap();
        world.with("agent", json!({"kind": "command", "command": ["sh", agent]}))
    }

    /// The stand-in for Claude Code, in a pool of `max` sessions, without hooks.
    pub fn claude(max: usize) -> Self {
        Self::new(max, |builder| builder).with("agent", json!({"hooks": false}))
    }

    pub fn new(max: usize, choose: impl FnOnce(Builder) -> Builder) -> Self {
        let mut sandbox = Sandbox::new();
        let fake = FakeClaude::install(&sandbox);
        let env = fake.env();
        let tmux = sandbox.tmux_with(|builder| choose(builder.envs(env)));
        sandbox.config("pool", json!({"autonomous": {"max": max}}));
        Self { tmux, fake, sandbox }
    }

    /// The same with a part of the configuration changed.
    pub fn with(mut self, key: &str, part: Value) -> Self {
        self.sandbox.config(key, part);
        self
    }

    pub fn script(&self, behaviours: &[Behaviour]) {
        self.fake.script(behaviours);
    }

    pub fn project(&self, name: &str) -> Project {
        self.sandbox.project(name)
    }

    /// Runs `ccl --json ARGS…`, whatever comes of it. `command` agents that it started have
    /// noted what they were given; `ccl` itself only waits until they are there.
    #[track_caller]
    pub fn ccl(&self, args: &[&str]) -> Pass {
        let begun = self.order().len();
        let out = self.sandbox.ccl(args).arg("--json").output().unwrap();
        let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        let pass = Pass {
            code: out.status.code().unwrap(),
            events: report["events"].as_array().cloned().unwrap_or_default(),
            free: report["free_sessions"].clone(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        };
        let notes = self.sandbox.home().join("got").exists() && !args.contains(&"--dry-run");
        if notes {
            let is_dispatched = |event: &&Value| event["event"] == "dispatched";
            let started = pass.events.iter().filter(is_dispatched).count();
            self.tmux.wait_until("the agents have begun", || self.order().len() >= begun + started);
        }
        pass
    }

    /// Runs a pass that has to end with 0, and tells its events in short.
    #[track_caller]
    pub fn pass(&self, args: &[&str]) -> Vec<String> {
        let pass = self.ccl(args);
        assert_eq!(pass.code, 0, "ccl {args:?}: {pass:#?}\n{}", self.tmux.screens());
        pass.short()
    }

    pub fn scan(&self) -> Vec<String> {
        self.pass(&["scan"])
    }

    /// What the watcher of a session calls when it sees it idle.
    pub fn assign(&self, session: &str) -> Vec<String> {
        self.pass(&["assign", session])
    }

    /// Waits until the `command` agent in `session` has ended.
    #[track_caller]
    pub fn wait_for_exit(&self, session: &str) {
        let exit = self.sandbox.session_file(session, "exit");
        self.tmux.wait_until("the agent ends", || exit.exists());
    }

    /// The prompts that `command` agents received for a task, in no order.
    pub fn got(&self, task: &str) -> Vec<String> {
        let entries = fs::read_dir(self.sandbox.home().join("got")).unwrap();
        entries
            .map(|entry| entry.unwrap())
            .filter(|entry| {
                let name = entry.file_name().into_string().unwrap();
                name.rsplit_once('.').unwrap().0 == task
            })
            .map(|entry| fs::read_to_string(entry.path()).unwrap())
            .collect()
    }

    /// The tasks in the order in which `command` agents began them.
    pub fn order(&self) -> Vec<String> {
        let order = fs::read_to_string(self.sandbox.home().join("order")).unwrap_or_default();
        order.lines().map(str::to_owned).collect()
    }

    /// Lets agents go on that were told [`HOLDS`].
    pub fn let_go(&self) {
        fs::write(self.sandbox.home().join("go"), "").unwrap();
    }

    pub fn session_file(&self, session: &str, kind: &str) -> PathBuf {
        self.sandbox.session_file(session, kind)
    }

    /// Waits until the turns of so many agents have ended.
    #[track_caller]
    pub fn wait_for_idle(&self, agents: usize) {
        self.tmux.wait_until("every turn has ended", || {
            let registry = self.fake.registry();
            let idle = registry.iter().filter(|entry| entry["status"] == "idle");
            idle.count() == agents
        });
    }

    /// Waits until the stand-in's registry says so.
    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        self.tmux.wait_until(&format!("the registry says {status}"), || {
            self.fake.registry().iter().any(|entry| entry["status"] == status)
        });
    }

    /// Makes Claude Code's files as old as they are after two minutes of rest.
    pub fn let_rest(&self) {
        claude_home::let_rest(&self.sandbox.home());
    }

    /// The windows of agents in a session: whether each one's process has ended, and which that is.
    fn agent_windows(&self, session: &str) -> Vec<(bool, i32)> {
        let target = format!("={session}:");
        let format = "#{?#{m:*ccl-run=*,#{pane_start_command}},run,} #{pane_dead} #{pane_pid}";
        let out = self.tmux.try_run(&["list-panes", "-s", "-t", &target, "-F", format]);
        let panes = String::from_utf8_lossy(&out.stdout).into_owned();
        let windows = panes.lines().filter(|line| !line.starts_with(' '));
        windows
            .map(|line| {
                let mut fields = line.split(' ').skip(1);
                (fields.next() == Some("1"), fields.next().unwrap().parse().unwrap())
            })
            .collect()
    }

    /// The process of the agent's window in a session.
    #[track_caller]
    pub fn agent_pid(&self, session: &str) -> i32 {
        let windows = self.agent_windows(session);
        assert_eq!(windows.len(), 1, "{windows:?}\n{}", self.tmux.screens());
        windows[0].1
    }

    /// Waits until the process of each agent's window in a session has ended.
    #[track_caller]
    pub fn wait_for_end(&self, session: &str) {
        self.tmux.wait_until("the agent is gone", || {
            self.agent_windows(session).iter().all(|(_, pid)| !lives(*pid))
        });
    }

    /// The session has no task and no agent's window.
    #[track_caller]
    pub fn assert_nothing_is_left(&self, session: &str) {
        for kind in [
            "dispatched",
            "ticket",
            "run",
            "prompt",
            "exit",
            "hook",
            "stop",
            "signs",
            "check",
            "check-ticket",
            "check-exit",
        ] {
            let file = self.session_file(session, kind);
            assert!(!file.exists(), "{} is left", file.display());
        }
        let windows = self.agent_windows(session);
        assert_eq!(windows, [], "{}", self.tmux.screens());
    }
}

impl Pass {
    /// `dispatched a.md ccl-auto-0`, one for each event.
    pub fn short(&self) -> Vec<String> {
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        self.events
            .iter()
            .map(|event| match (&event["task"], &event["session"], event["agent"].as_str()) {
                (Value::Null, Value::Null, Some(agent)) => {
                    format!("{} {agent}", word(&event["event"]))
                }
                _ => format!(
                    "{} {} {}",
                    word(&event["event"]),
                    word(&event["task"]),
                    word(&event["session"])
                ),
            })
            .collect()
    }

    /// The reason of the first event `held`.
    #[track_caller]
    pub fn reason_of_held(&self) -> String {
        let held = self.events.iter().find(|event| event["event"] == "held");
        held.unwrap_or_else(|| panic!("nothing is held: {self:#?}"))["reason"].to_string()
    }

    /// The reason of the one event about `task`.
    #[track_caller]
    pub fn reason(&self, task: &str) -> String {
        let mut about = self.events.iter().filter(|event| event["task"] == task);
        let event = about.next().unwrap_or_else(|| panic!("no event about {task}: {self:#?}"));
        event["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// The outcome in a file's last line.
#[track_caller]
pub fn ending(project: &Project, path: &str) -> Value {
    let text = project.read(path);
    Value::Object(ending_line(&text).unwrap_or_else(|| panic!("no ending line in {text}")))
}

/// Sends a signal by name.
pub fn kill(signal: &str, pid: i32) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Whether a process lives: there, and no zombie.
pub fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
}
