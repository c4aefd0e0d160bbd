//! File and environment → one checked [`Config`]. Nobody else reads the environment.

mod file;
mod key;
mod load;
mod scalar;
mod shell;
#[cfg(test)]
pub(crate) mod tests;
mod url;

pub use key::{ApiKey, DelegationOff, KEY_VARIABLES, KeySource, Secutools};
pub use url::ServerUrl;

use crate::router::AutoRoutes;
use crate::task::Priority;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that can be set, checked and resolved: paths are absolute, values within their bounds.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; `None` where there is none and all is default.
    pub file: Option<PathBuf>,
    /// The sessions that tasks are given to.
    pub pool: Pool,
    /// The operator's own sessions, which are never typed into, and their projects.
    pub dedicated: Vec<Dedicated>,
    /// Where projects come from, beside those of `dedicated`.
    pub projects: Projects,
    /// How tasks are dispatched.
    pub dispatcher: Dispatcher,
    /// The program that works on tasks.
    pub agent: Agent,
    /// Where `preferred_ai: auto` goes.
    pub auto_routes: AutoRoutes,
    /// The platform that tasks may be delegated to, or why there is none.
    pub secutools: Result<Secutools, DelegationOff>,
    /// The tmux command and its first arguments, such as `tmux -L ccl`.
    pub tmux: Vec<String>,
    /// Where `ccl` keeps its own state (section 2 of the design).
    pub state_dir: PathBuf,
    /// This machine, as markers name it.
    pub host: String,
    /// The user's home.
    pub home: PathBuf,
    /// Claude Code's directory: `$CLAUDE_CONFIG_DIR`, else `~/.claude`.
    pub claude_dir: PathBuf,
    /// Claude Code's state file: `$CLAUDE_CONFIG_DIR/.claude.json`, else `~/.claude.json`.
    pub claude_json: PathBuf,
    /// The tmux pane that `ccl` was called in, such as `%3`.
    pub tmux_pane: Option<String>,
    /// What the file says that no longer means anything: sentences with file and line, to be logged once.
    pub warnings: Vec<String>,
}

impl Config {
    /// `$CLAUDE_CONFIG_DIR`, where it is set: then Claude Code keeps its state file in there too.
    #[must_use]
    pub fn claude_config_dir(&self) -> Option<&Path> {
        Some(self.claude_dir.as_path()).filter(|dir| self.claude_json.starts_with(dir))
    }
}

/// What the command line says about the configuration; it goes before file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config FILE`
    pub config: Option<PathBuf>,
    /// `--project DIR`, any number of times
    pub projects: Vec<PathBuf>,
    /// `--state-dir DIR`
    pub state_dir: Option<PathBuf>,
}

/// Where projects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projects {
    /// These, given with `--project`, and no others.
    Given(Vec<PathBuf>),
    /// Those of the dedicated sessions, and every child of this directory that has an `.agent-queue`.
    ChildrenOf(PathBuf),
    /// Those of the dedicated sessions only.
    Dedicated,
    /// Nothing is configured: the nearest of this directory and its parents that has an `.agent-queue`.
    NearestTo(PathBuf),
}

/// The tmux sessions that belong to `ccl`: `prefix` followed by an index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub struct Pool {
    /// Letters, digits, `-` and `_`; never empty, no `-` in front.
    #[serde(deserialize_with = "file::prefix")]
    pub prefix: String,
    /// The first session's index.
    #[serde(deserialize_with = "file::start_index")]
    pub start_index: u32,
    /// How many sessions there are, at most 256; with 0 nothing runs here.
    #[serde(deserialize_with = "file::max")]
    pub max: u32,
    /// Whether a missing session is created.
    #[serde(deserialize_with = "file::switch")]
    pub create: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self { prefix: "ccl-auto-".to_owned(), start_index: 0, max: 4, create: true }
    }
}

impl Pool {
    /// The names of the pool's sessions in the order of their index.
    pub fn session_names(&self) -> impl Iterator<Item = String> + '_ {
        (self.start_index..self.start_index + self.max)
            .map(|index| format!("{}{index}", self.prefix))
    }
}

/// A session of the operator's own, and the project whose inbox is served all the same.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a session and its project")]
pub struct Dedicated {
    /// The session's name; it is never typed into.
    #[serde(deserialize_with = "file::name")]
    pub session: String,
    /// The project's directory.
    #[serde(deserialize_with = "file::path")]
    pub project: PathBuf,
}

/// How tasks are dispatched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub struct Dispatcher {
    #[serde(deserialize_with = "file::optional_path")]
    pub(crate) projects_dir: Option<PathBuf>,
    /// How long a launched agent has to show that it has the task: 1 s to 1 h.
    #[serde(deserialize_with = "file::prompt_timeout")]
    pub prompt_timeout: Duration,
    /// How long a session rests after a failed attempt: 0 to 7 days.
    #[serde(deserialize_with = "file::cooldown")]
    pub cooldown: Duration,
    /// After how many failed attempts a task is given up: 1 to 100.
    #[serde(deserialize_with = "file::max_attempts")]
    pub max_attempts: u32,
    /// After how long a busy task counts as stale: a minute to a year.
    #[serde(deserialize_with = "file::stale_after")]
    pub stale_after: Duration,
    /// Which model works on what.
    pub models: Models,
    /// The template of what an agent is told; it holds `{body}`, and `{task}` where the name is wanted.
    #[serde(deserialize_with = "file::message")]
    pub message: String,
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self {
            projects_dir: None,
            prompt_timeout: Duration::from_secs(30),
            cooldown: Duration::from_secs(5 * 60),
            max_attempts: 3,
            stale_after: Duration::from_secs(2 * 3600),
            models: Models::default(),
            message: "[{task}] {body}\n\n\
                IMPORTANT: carry out what this task asks for; do not just describe how it could be done."
                .to_owned(),
        }
    }
}

impl Dispatcher {
    /// What the agent is told: the template with `{task}` and `{body}` filled in. Both are inserted as they are; a
    /// `{task}` inside the body is the body's own.
    #[must_use]
    pub fn fill_message(&self, task: &str, body: &str) -> String {
        let mut filled = String::with_capacity(self.message.len() + body.len());
        let mut rest = self.message.as_str();
        while let Some(start) = rest.find('{') {
            let (before, from) = rest.split_at(start);
            filled.push_str(before);
            let (value, after) = if let Some(after) = from.strip_prefix("{task}") {
                (task, after)
            } else if let Some(after) = from.strip_prefix("{body}") {
                (body, after)
            } else {
                from.split_at(1)
            };
            filled.push_str(value);
            rest = after;
        }
        filled + rest
    }
}

/// Which model works on a task of which priority.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub struct Models {
    /// For critical tasks.
    #[serde(deserialize_with = "file::model")]
    pub critical: String,
    /// For everything else.
    #[serde(deserialize_with = "file::model")]
    pub default: String,
}

impl Default for Models {
    fn default() -> Self {
        Self { critical: "opus".to_owned(), default: "sonnet".to_owned() }
    }
}

impl Models {
    /// The model for a task of this priority.
    #[must_use]
    pub fn for_priority(&self, priority: Priority) -> &str {
        match priority {
            Priority::Critical => &self.critical,
            Priority::High | Priority::Default | Priority::Low => &self.default,
        }
    }
}

/// The program that works on tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub kind: AgentKind,
    /// The program and its first arguments; never empty. The words `{prompt}` and `{prompt_file}` stand for the prompt
    /// and for its file, by themselves or inside a longer word; without them the prompt is the last argument.
    pub command: Vec<String>,
    /// The shell that reads the user's start-up files and then becomes the agent.
    pub shell: PathBuf,
    /// Always [`Delivery::Argument`].
    pub delivery: Delivery,
    /// Whether Claude Code calls `ccl` as soon as it is idle.
    pub hooks: bool,
}

/// What kind of program the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    /// Claude Code: stays when its turn is over, and leaves a transcript.
    Claude,
    /// Any program that takes a prompt and exits.
    Command,
}

/// How the agent is given the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// As its last argument.
    Argument,
    /// Pasted into its composer, once that is recognised.
    Paste,
}
