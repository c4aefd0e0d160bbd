//! One project, one session, one Claude Code, one API.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::support::sandbox::ending_line;
use super::support::wait::poll;
use super::support::{
    Consent, MessagesApi, Project, RealClaude, Sandbox, TmuxServer, claude_home, real_claude,
};

/// The pool's only session.
pub(crate) const SESSION: &str = "ccl-auto-0";
/// The task's name in most tests.
pub(crate) const TASK: &str = "fix.md";

/// A turn and what follows it take seconds, on a loaded machine ten times as long.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// Everything one test needs; each has its own.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) project: Project,
    pub(crate) api: MessagesApi,
    pub(crate) tmux: TmuxServer,
}

/// How a world differs from the usual one.
pub(crate) struct Setup {
    /// Version of Claude Code.
    pub(crate) version: &'static str,
    /// What its HOME agrees to.
    pub(crate) consent: Consent,
    /// Whether the project is trusted.
    pub(crate) trusted: bool,
    /// Whether Claude Code's hooks call `ccl`.
    pub(crate) hooks: bool,
    /// Merged into `dispatcher` of the configuration.
    pub(crate) dispatcher: Value,
    /// Merged into `agent`.
    pub(crate) agent: Value,
    /// Further variables of the panes.
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            version: real_claude::CURRENT,
            consent: Consent::default(),
            trusted: true,
            hooks: true,
            dispatcher: json!({}),
            agent: json!({}),
            env: Vec::new(),
        }
    }
}

impl World {
    /// A trusted project, everything agreed to, hooks on, a pool of one, no task.
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    /// Where nothing but `ccl` itself files what has ended.
    pub(crate) fn without_hooks() -> Self {
        Self::with(Setup { hooks: false, ..Setup::default() })
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let mut sandbox = Sandbox::new();
        let project = sandbox.project("web");
        let api = MessagesApi::start();
        let claude = RealClaude::install(setup.version);
        let root = project.root();
        let trusted = if setup.trusted { vec![root] } else { vec![] };
        claude_home::prepare_home(&sandbox.home(), &trusted, setup.consent);
        let env = claude.env(&api, setup.consent);
        let tmux = sandbox.tmux_with(|builder| builder.envs(env).envs(setup.env));
        sandbox.config("pool", json!({"autonomous": {"max": 1}}));
        sandbox.config("agent", json!({"hooks": setup.hooks}));
        sandbox.config("agent", setup.agent);
        sandbox.config("dispatcher", setup.dispatcher);
        Self { sandbox, project, api, tmux }
    }

    /// `ccl scan`: its events.
    #[track_caller]
    pub(crate) fn scan(&self) -> Vec<Value> {
        events(&self.sandbox.ccl_json(&["scan"]))
    }

    /// A `ccl scan` that ends with this status: its events and what it said.
    #[track_caller]
    pub(crate) fn scan_ending_with(&self, status: i32) -> (Vec<Value>, String) {
        let out = self.sandbox.ccl(["scan", "--json"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(status), "{stderr}");
        (events(&serde_json::from_slice(&out.stdout).unwrap()), stderr)
    }

    /// `ccl assign SESSION`: its events.
    #[track_caller]
    pub(crate) fn assign(&self) -> Vec<Value> {
        events(&self.sandbox.ccl_json(&["assign", SESSION]))
    }

    /// Drops the task and has it dispatched.
    #[track_caller]
    pub(crate) fn dispatch(&self, text: &str) {
        self.project.drop_task(TASK, text);
        let events = self.scan();
        assert_eq!(kinds(&events), ["dispatched"], "{events:?}");
    }

    /// Waits until the task is at `place` (`done/fix.md`) and the session has it no more, then reads
    /// the file.
    #[track_caller]
    pub(crate) fn wait_for_place(&self, place: &str) -> Filed {
        let name = place.rsplit('/').next().unwrap();
        let has_it = |marker: &Path| {
            let text = fs::read_to_string(marker).unwrap_or_default();
            text.contains(&format!("{name:?}"))
        };
        let marker = self.sandbox.session_file(SESSION, "dispatched");
        let filed = poll(LONG, || {
            let is_there = self.project.task_places(name) == [place];
            (is_there && !has_it(&marker)).then_some(())
        });
        if filed.is_none() {
            panic!("waited in vain: {place}\n{}", self.tmux.screens());
        }
        self.filed(place)
    }

    /// What is in a filed task.
    #[track_caller]
    pub(crate) fn filed(&self, place: &str) -> Filed {
        let text = self.project.read(place);
        let ending = ending_line(&text).unwrap_or_else(|| panic!("no ending line:\n{text}"));
        Filed { text, ending }
    }

    /// The session's cooldown.
    #[track_caller]
    pub(crate) fn cooldown(&self) -> Value {
        let file = self.sandbox.session_file(SESSION, "cooldown");
        serde_json::from_slice(&fs::read(file).expect("a cooldown")).unwrap()
    }

    /// The agent's hold.
    #[track_caller]
    pub(crate) fn hold(&self, agent: &str) -> Value {
        let file = self.sandbox.state_dir().join(format!("agents/{agent}.hold"));
        serde_json::from_slice(&fs::read(file).expect("a hold")).unwrap()
    }

    /// The claim of the task at work.
    #[track_caller]
    pub(crate) fn claim(&self) -> Value {
        self.project.marker(&format!("inbox/.{TASK}.claim"))
    }

    /// The conversation that the task at work has.
    #[track_caller]
    pub(crate) fn conversation(&self) -> String {
        let id = self.claim()["agent"]["session"].clone();
        id.as_str().expect("a conversation").to_owned()
    }

    /// Asserts that the agent's window is closed, and that the session's own shell takes a line and shows what it echoes.
    #[track_caller]
    pub(crate) fn assert_usable_shell(&self) {
        let target = format!("={SESSION}:");
        self.tmux.type_line(&target, "echo us''able-$((40+2))");
        self.tmux.wait_for_text(&target, "usable-42");
        let format = "#{alternate_on} #{mouse_any_flag} #{pane_in_mode} #{session_windows}";
        assert_eq!(self.tmux.format(&target, format), "0 0 0 1");
    }

    /// The session's screen.
    #[track_caller]
    pub(crate) fn screen(&self) -> String {
        self.tmux.capture(&format!("={SESSION}:"))
    }
}

/// A task that `ccl` wrote an outcome into.
pub(crate) struct Filed {
    pub(crate) text: String,
    pub(crate) ending: Map<String, Value>,
}

impl Filed {
    /// The sentence in the ending line.
    #[track_caller]
    pub(crate) fn reason(&self) -> &str {
        self.ending["reason"].as_str().expect("a reason")
    }
}

fn events(report: &Value) -> Vec<Value> {
    report["events"].as_array().expect("events").clone()
}

/// The kinds of events, in their order.
pub(crate) fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["event"].as_str());
    kinds.map(|kind| kind.expect("a kind")).collect()
}
