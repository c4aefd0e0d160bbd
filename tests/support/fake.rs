//! The stand-in for Claude Code as tests use it; the program itself is in `fake_claude/`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use super::claude_home::{json_lines, registry, transcript};
pub use super::fake_script::{Behaviour, Ending, Registry, Screen, Turn};
use super::nested_cargo;
use super::sandbox::Sandbox;
use super::wait::{PATIENCE, poll};

/// The stand-in installed as `claude` in a sandbox.
///
/// ```ignore
/// let mut sandbox = Sandbox::new();
/// let fake = FakeClaude::install(&sandbox);
/// let tmux = sandbox.tmux_with(|b| b.envs(fake.env()));
/// fake.script(&[Behaviour::on("fix.md").ends(Ending::Error("rate_limit".into()))]);
/// ```
pub struct FakeClaude {
    home: PathBuf,
    bin: PathBuf,
}

impl Behaviour {
    /// For launches with `when` in an argument or in the directory's path.
    pub fn on(when: &str) -> Self {
        Self { when: when.to_owned(), ..Self::default() }
    }

    /// With one dialog more before the composer.
    pub fn screen(mut self, screen: Screen) -> Self {
        self.screens.push(screen);
        self
    }

    /// With one turn more.
    pub fn turn(mut self, turn: Turn) -> Self {
        self.turns.push(turn);
        self
    }

    /// With one turn more, which ends so.
    pub fn ends(self, end: Ending) -> Self {
        self.turn(Turn { end, ..Turn::default() })
    }
}

impl FakeClaude {
    /// Puts it into the sandbox's `bin/`.
    pub fn install(sandbox: &Sandbox) -> Self {
        let bin = sandbox.path().join("bin");
        fs::create_dir_all(&bin).expect("bin/");
        std::os::unix::fs::symlink(Self::binary(), bin.join("claude")).expect("bin/claude");
        Self { home: sandbox.home(), bin }
    }

    /// The program.
    pub fn binary() -> &'static Path {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        BINARY.get_or_init(|| example("fake-claude"))
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

    /// Forgets all events so far. Nobody may be at work.
    pub fn forget(&self) {
        let _ = fs::remove_file(self.home.join(".fake-claude.log.jsonl"));
    }

    /// All events so far, oldest first.
    pub fn log(&self) -> Vec<Value> {
        json_lines(&self.home.join(".fake-claude.log.jsonl"))
    }

    /// The events of one kind: `start`, `prompt`, `keys`, `hook`, `sigterm`, `exit`.
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
            panic!("no {kind} with {text:?}; the stand-in\'s log:\n{}", log.join("\n"))
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

/// An example's program. `cargo test` builds it with the others, `cargo test --test NAME` does not:
/// then, and where its source is newer, it is built here.
pub fn example(name: &str) -> PathBuf {
    match nested_cargo::build(&["--example", name]) {
        Ok(profile) => profile.join("examples").join(name),
        Err(errors) => panic!("{name} does not build:\n{errors}"),
    }
}
