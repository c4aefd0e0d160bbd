//! A throw-away world for `ccl`: HOME, state, configuration, projects with their queues.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::program::write_apart;
use super::tmux_server::{Builder, MARK, TmuxServer};

/// How long one run of `ccl` may take before the test gives it up.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A directory that holds everything one test needs; nothing of the caller's environment gets in.
///
/// ```ignore
/// let mut sandbox = Sandbox::new();
/// let project = sandbox.project("web");
/// let tmux = sandbox.tmux();                 // panes have this HOME; the configuration names it
/// sandbox.config("pool", json!({"autonomous": {"max": 2}}));
/// sandbox.drop_task(&project, "fix.md", "Do it.\n");
/// sandbox.ccl(["scan"]).assert().success();
/// ```
pub struct Sandbox {
    dir: TempDir,
    config: Value,
    env: BTreeMap<OsString, OsString>,
    wrapper: Vec<OsString>,
}

impl Sandbox {
    /// HOME, XDG directories, an empty `projects` directory and a configuration that names it.
    pub fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("ccl-test-").tempdir().expect("a temporary directory");
        let mut sandbox =
            Self { dir, config: json!({}), env: BTreeMap::new(), wrapper: Vec::new() };
        for sub in ["home", "xdg/config", "xdg/cache", "xdg/run", "tmp", "projects"] {
            fs::create_dir_all(sandbox.path().join(sub)).expect("a directory of the sandbox");
        }
        let (projects, state) = (sandbox.projects_dir(), sandbox.state_dir());
        sandbox.config("dispatcher", json!({"projects_dir": projects}));
        sandbox.config("state_dir", json!(state));
        sandbox.config("host", json!("test-host"));
        // Most tests are about many tasks at once, and not about what they do to each other's files.
        sandbox.config("defaults", json!({"parallel": 0}));
        sandbox
    }

    /// The root of it all.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// HOME of `ccl` and of the panes.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// `ccl`'s state directory; `ccl` makes it.
    pub fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    /// A file of a session in the state directory: `session_file("ccl-auto-0", "dispatched")`.
    pub fn session_file(&self, session: &str, kind: &str) -> PathBuf {
        self.state_dir().join(format!("sessions/{session}.{kind}"))
    }

    /// The configuration's `dispatcher.projects_dir`.
    pub fn projects_dir(&self) -> PathBuf {
        self.path().join("projects")
    }

    /// Where the configuration is written.
    pub fn config_file(&self) -> PathBuf {
        self.path().join("config.yaml")
    }

    /// Merges `part` into the top-level `key` of the configuration (objects key by key, deeply;
    /// anything else is replaced, and null takes the key away) and writes the file.
    pub fn config(&mut self, key: &str, part: Value) {
        merge(&mut self.config[key], part);
        if let (true, Some(all)) = (self.config[key].is_null(), self.config.as_object_mut()) {
            all.remove(key);
        }
        // JSON is YAML.
        self.config_text(&format!("{:#}\n", self.config));
    }

    /// Writes the configuration file as it stands in `text`.
    pub fn config_text(&self, text: &str) {
        write(&self.config_file(), text.as_bytes());
    }

    /// A tmux server with this HOME, entered into the configuration.
    pub fn tmux(&mut self) -> TmuxServer {
        self.tmux_with(|builder| builder)
    }

    /// The same, with choices: `sandbox.tmux_with(|b| b.envs(claude.env(…)))`.
    pub fn tmux_with(&mut self, choose: impl FnOnce(Builder) -> Builder) -> TmuxServer {
        let builder = TmuxServer::builder()
            .home(&self.home())
            .env("TMPDIR", self.path().join("tmp"))
            // Claude Code's own, which does not heed TMPDIR.
            .env("CLAUDE_CODE_TMPDIR", self.path().join("tmp"))
            .env("XDG_RUNTIME_DIR", self.path().join("xdg/run"));
        let tmux = choose(builder).start();
        self.config("tmux", json!({"command": tmux.command()}));
        // Should `ccl` start the server itself, its processes are found all the same.
        self.env(MARK, tmux.socket());
        tmux
    }

    /// A variable for every later run of `ccl`.
    pub fn env(&mut self, key: impl Into<OsString>, value: impl Into<OsString>) {
        self.env.insert(key.into(), value.into());
    }

    /// Words put before `ccl` in every later run: `["strace", "-f", …]`.
    pub fn wrap<S: Into<OsString>>(&mut self, words: impl IntoIterator<Item = S>) {
        self.wrapper = words.into_iter().map(Into::into).collect();
    }

    /// `ccl --config CONFIG ARGS…`, in the sandbox's root, with nothing inherited but PATH.
    pub fn ccl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.bare_ccl();
        command.arg("--config").arg(self.config_file()).args(args);
        command
    }

    /// Like [`Self::ccl`] without `--config`.
    pub fn bare_ccl(&self) -> Command {
        let mut command = Command::from_std(self.std_ccl());
        command.timeout(RUN_LIMIT);
        command
    }

    /// Like [`Self::bare_ccl`], for tests that start it and kill it.
    pub fn std_ccl(&self) -> std::process::Command {
        let binary = OsString::from(env!("CARGO_BIN_EXE_ccl"));
        let words: Vec<_> = self.wrapper.iter().cloned().chain([binary]).collect();
        let mut command = std::process::Command::new(&words[0]);
        command.args(&words[1..]);
        command.env_clear().current_dir(self.path());
        command.env("PATH", std::env::var_os("PATH").expect("PATH is set"));
        command.env("HOME", self.home()).env("LANG", "C.UTF-8");
        command.env("TMPDIR", self.path().join("tmp"));
        command.env("XDG_STATE_HOME", self.path().join("xdg/state"));
        command.env("XDG_CONFIG_HOME", self.path().join("xdg/config"));
        command.env("XDG_CACHE_HOME", self.path().join("xdg/cache"));
        command.env("XDG_RUNTIME_DIR", self.path().join("xdg/run"));
        command.envs(&self.env);
        command
    }

    /// Runs `ccl --json ARGS…` and parses its standard output; panics unless it ends with 0.
    #[track_caller]
    pub fn ccl_json(&self, args: &[&str]) -> Value {
        let out = self.ccl(args).arg("--json").output().expect("ccl runs");
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "ccl {args:?}: {}\n{stderr}", out.status);
        serde_json::from_slice(&out.stdout).expect("standard output is JSON")
    }

    /// Makes a project with its queue below the projects directory.
    pub fn project(&self, name: &str) -> Project {
        Project::make(&self.projects_dir().join(name))
    }
}

/// A directory with an `.agent-queue/`.
#[derive(Clone, Debug)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// Makes one at `root`.
    pub fn make(root: &Path) -> Self {
        for queue in ["inbox", "done", "failed"] {
            fs::create_dir_all(root.join(".agent-queue").join(queue)).expect("a queue");
        }
        Self { root: root.to_path_buf() }
    }

    /// The project's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `inbox`, `done` or `failed`.
    pub fn queue(&self, name: &str) -> PathBuf {
        self.root.join(".agent-queue").join(name)
    }

    /// Puts a task into the inbox as a careful writer does: under a hidden name, then renamed.
    pub fn drop_task(&self, name: impl AsRef<OsStr>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.queue("inbox").join(name.as_ref());
        let hidden = self.queue("inbox").join(".dropping");
        write_apart(&hidden, text.as_ref());
        fs::rename(&hidden, &path).expect("the task is dropped");
        path
    }

    /// All names in the inbox, markers and hidden files included, sorted.
    pub fn inbox(&self) -> Vec<String> {
        names(&self.queue("inbox"))
    }

    /// All names in `done/`, sorted.
    pub fn done(&self) -> Vec<String> {
        names(&self.queue("done"))
    }

    /// All names in `failed/`, sorted.
    pub fn failed(&self) -> Vec<String> {
        names(&self.queue("failed"))
    }

    /// The text of a file: `read("done/fix.md")`.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        let path = self.root.join(".agent-queue").join(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Every place where the task `name` (`fix.md`) is now, under whatever name `ccl` gives it:
    /// `["inbox/fix.md.dispatched"]`. Markers do not count, the task itself does. A task that was
    /// neither lost nor doubled has exactly one.
    pub fn task_places(&self, name: &str) -> Vec<String> {
        let stem = name.strip_suffix(".md").unwrap_or(name);
        let numbered = |file: &str| {
            let rest = file.strip_prefix(stem).and_then(|r| r.strip_prefix('.'));
            let number = rest.and_then(|r| r.strip_suffix(".md"));
            number.is_some_and(|n| n.parse::<u32>().is_ok())
        };
        let mut places = Vec::new();
        for queue in ["inbox", "done", "failed"] {
            for file in names(&self.queue(queue)) {
                let task = file.strip_suffix(".dispatched").unwrap_or(&file);
                if task == name || numbered(task) {
                    places.push(format!("{queue}/{file}"));
                }
            }
        }
        places
    }

    /// The JSON of a marker: `marker("inbox/.fix.md.claim")`.
    #[track_caller]
    pub fn marker(&self, path: &str) -> Value {
        serde_json::from_str(&self.read(path)).expect("a marker is JSON")
    }
}

/// The outcome that stands in a file's last line, `<!-- ccl {json} -->`; `None` without one.
pub fn ending_line(text: &str) -> Option<Map<String, Value>> {
    let line = text.trim_end().lines().last()?;
    let json = line.strip_prefix("<!-- ccl ")?.strip_suffix(" -->")?;
    serde_json::from_str(json).ok()
}

/// The names in a directory, sorted; what is not UTF-8 is shown escaped.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut names: Vec<_> = entries
        .map(|entry| {
            let name = entry.expect("a directory entry").file_name();
            name.to_str().map_or_else(|| name.as_bytes().escape_ascii().to_string(), str::to_owned)
        })
        .collect();
    names.sort();
    names
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}

fn merge(into: &mut Value, part: Value) {
    match (into, part) {
        (Value::Object(into), Value::Object(part)) => {
            for (key, value) in part {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, part) => *into = part,
    }
}
