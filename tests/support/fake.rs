//! The stand-in for Claude Code as tests use it; the program itself is in `fake_claude/`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::claude_home::{json_lines, registry, transcript};
pub use super::fake_script::{Behaviour, Ending, Registry, Screen, Turn};
use super::sandbox::Sandbox;
use super::wait::{PATIENCE, poll};

/// The stand-in installed as `claude` in a sandbox.
///
/// ```ignore
/// let mut sandbox = Sandbox::new();
/// let fake = FakeClaude::install(&sandbox);
/// let tmux = sandbox.tmux_with(|b| b.envs(fake.env()));
/// fake.script(&[Behaviour { screens: vec![Screen::Trust], ..Behaviour::default() }]);
/// ```
pub struct FakeClaude {
    home: PathBuf,
    bin: PathBuf,
}

impl FakeClaude {
    /// Puts it into the sandbox's `bin/`.
    pub fn install(sandbox: &Sandbox) -> Self {
        let bin = sandbox.path().join("bin");
        fs::create_dir_all(&bin).expect("bin/");
        std::os::unix::fs::symlink(Self::binary(), bin.join("claude")).expect("bin/claude");
        Self {
            home: sandbox.home(),
            bin,
        }
    }

    /// The program, as Cargo built it beside the tests.
    pub fn binary() -> PathBuf {
        let test = std::env::current_exe().expect("the test's own path");
        let deps = test.parent().expect("deps/");
        let binary = deps.with_file_name("examples").join("fake-claude");
        assert!(
            binary.exists(),
            "{} is built by `cargo test`",
            binary.display()
        );
        binary
    }

    /// The variables of a pane in which `claude` is this program: for the tmux server.
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        let mut path = self.bin.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").expect("PATH is set"));
        vec![("PATH".into(), path)]
    }

    /// What later launches do: the first behaviour that fits counts, the default where none does.
    pub fn script(&self, behaviours: &[Behaviour]) {
        let text = serde_json::to_string_pretty(behaviours).expect("behaviours are JSON");
        // Renamed into place: a launch may read it at this moment.
        let new = self.home.join(".fake-claude.json.new");
        fs::write(&new, text).expect("the script");
        fs::rename(new, self.home.join(".fake-claude.json")).expect("the script");
    }

    /// All events so far, oldest first.
    pub fn log(&self) -> Vec<Value> {
        json_lines(&self.home.join(".fake-claude.log.jsonl"))
    }

    /// The events of one kind: `start`, `prompt`, `paste`, `keys`, `hook`, `sigterm`, `exit`.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let mut events = self.log();
        events.retain(|event| event["event"] == kind);
        events
    }

    /// The texts that were submitted, oldest first.
    pub fn prompts(&self) -> Vec<String> {
        let events = self.events("prompt");
        let texts = events.iter().filter_map(|event| event["text"].as_str());
        texts.map(str::to_owned).collect()
    }

    /// Waits for an event of `kind` that contains `text` anywhere, and returns it.
    #[track_caller]
    pub fn wait_for(&self, kind: &str, text: &str) -> Value {
        let find = || {
            let mut events = self.events(kind).into_iter();
            events.find(|event| event.to_string().contains(text))
        };
        poll(PATIENCE, find).unwrap_or_else(|| {
            let log: Vec<_> = self.log().iter().map(Value::to_string).collect();
            panic!(
                "no {kind} with {text:?}; the stand-in\'s log:\n{}",
                log.join("\n")
            )
        })
    }

    /// The records of a conversation.
    pub fn transcript(&self, id: &str) -> Vec<Value> {
        transcript(&self.home, id)
    }

    /// The registry of sessions.
    pub fn registry(&self) -> Vec<Value> {
        registry(&self.home)
    }

    /// Its HOME.
    pub fn home(&self) -> &Path {
        &self.home
    }
}
