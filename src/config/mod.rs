//! File and environment → one checked [`Config`]. Nobody else reads the environment.

mod environment;
mod file;
mod key;
mod projects;
mod scalar;
#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use key::{ApiKey, DelegationOff, Secutools};
pub use projects::Projects;

use crate::error::{Failure, is_temporary};
use crate::router::AutoRoutes;
use crate::task::Priority;
use anyhow::{Context, Result};
use file::{File, value};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Component, Path, PathBuf};
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

/// The tmux sessions that belong to `ccl`: `prefix` followed by an index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Letters, digits, `-` and `_`; never empty, no `-` in front.
    #[serde(deserialize_with = "value::prefix")]
    pub prefix: String,
    /// The first session's index.
    #[serde(deserialize_with = "value::start_index")]
    pub start_index: u32,
    /// How many sessions there are, at most 256; with 0 nothing runs here.
    #[serde(deserialize_with = "value::max")]
    pub max: u32,
    /// Whether a missing session is created.
    #[serde(deserialize_with = "value::switch")]
    pub create: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            prefix: "ccl-auto-".to_owned(),
            start_index: 0,
            max: 4,
            create: true,
        }
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
#[serde(deny_unknown_fields)]
pub struct Dedicated {
    /// The session's name; it is never typed into.
    #[serde(deserialize_with = "value::name")]
    pub session: String,
    /// The project's directory.
    #[serde(deserialize_with = "value::dir")]
    pub project: PathBuf,
}

/// How tasks are dispatched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dispatcher {
    #[serde(deserialize_with = "value::projects_dir")]
    projects_dir: Option<PathBuf>,
    /// How long a launched agent has to show that it has the task: 1 s to 1 h.
    #[serde(deserialize_with = "value::prompt_timeout")]
    pub prompt_timeout: Duration,
    /// How long a session rests after a failed attempt: 0 to 7 days.
    #[serde(deserialize_with = "value::cooldown")]
    pub cooldown: Duration,
    /// After how many failed attempts a task is given up: 1 to 100.
    #[serde(deserialize_with = "value::max_attempts")]
    pub max_attempts: u32,
    /// After how long a busy task counts as stale: a minute to a year.
    #[serde(deserialize_with = "value::stale_after")]
    pub stale_after: Duration,
    /// Which model works on what.
    pub models: Models,
    /// The template of what an agent is told; it holds `{body}`, and `{task}` where the name is wanted.
    #[serde(deserialize_with = "value::message")]
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
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// For critical tasks.
    #[serde(deserialize_with = "value::model")]
    pub critical: String,
    /// For everything else.
    #[serde(deserialize_with = "value::model")]
    pub default: String,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            critical: "opus".to_owned(),
            default: "sonnet".to_owned(),
        }
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// What kind of program it is.
    pub kind: AgentKind,
    /// The program and its first arguments; never empty.
    #[serde(deserialize_with = "value::command")]
    pub command: Vec<String>,
    /// How it is given the task.
    pub delivery: Delivery,
    /// Whether Claude Code tells `ccl` at once that it is idle.
    #[serde(deserialize_with = "value::switch")]
    pub hooks: bool,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            kind: AgentKind::Claude,
            command: vec![
                "claude".to_owned(),
                "--dangerously-skip-permissions".to_owned(),
            ],
            delivery: Delivery::Argument,
            hooks: true,
        }
    }
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

impl Config {
    /// Reads the file and the environment, checks everything and fills in the defaults.
    ///
    /// # Errors
    /// [`Failure::Config`] for whatever a person has to mend, naming file, line and key, or the variable.
    pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Self> {
        let home = home(environment)?;
        let (path, mut file) = read(overrides, environment, &home)?;
        // Only the command line's paths and a relative $CCL_CONFIG need the current directory.
        let base = path.as_deref().and_then(Path::parent).unwrap_or(&home);
        let resolve = |path: PathBuf| absolute(&path, base, &home);
        for dedicated in &mut file.pool.dedicated {
            dedicated.project = resolve(std::mem::take(&mut dedicated.project));
        }
        let projects = Projects::choose(
            &overrides.projects,
            file.dispatcher
                .projects_dir
                .take()
                .or(file.pool.shared_projects_dir)
                .map(resolve),
            &file.pool.dedicated,
            environment,
        )?;
        let secutools = key::secutools(
            environment,
            file.secutools.url,
            file.secutools.api_key_file.map(resolve),
        )?;
        let claude = environment.var("CLAUDE_CONFIG_DIR").map(PathBuf::from);
        Ok(Self {
            state_dir: state_dir(overrides, file.state_dir.map(resolve), environment, &home)?,
            file: path,
            pool: file.pool.autonomous,
            dedicated: file.pool.dedicated,
            projects,
            dispatcher: file.dispatcher,
            agent: file.agent,
            auto_routes: AutoRoutes {
                low: file.routing.auto.low,
                medium: file.routing.auto.medium,
                high: file.routing.auto.high,
            },
            secutools,
            tmux: file.tmux.command,
            host: file.host.unwrap_or_else(machine),
            claude_json: claude.as_ref().unwrap_or(&home).join(".claude.json"),
            claude_dir: claude.unwrap_or_else(|| home.join(".claude")),
            home,
            tmux_pane: tmux_pane(environment),
        })
    }
}

/// The user's home.
fn home(environment: &Environment) -> Result<PathBuf, Failure> {
    environment.absolute_path("HOME").ok_or_else(|| {
        Failure::Config("HOME is not set to an absolute path; set it to your home directory".into())
    })
}

/// Finds, reads and parses the file: `--config`, `$CCL_CONFIG`, `$XDG_CONFIG_HOME/ccl/config.yaml`,
/// `~/.config/ccl/config.yaml`. One that was named must exist, the default one need not.
fn read(
    overrides: &Overrides,
    environment: &Environment,
    home: &Path,
) -> Result<(Option<PathBuf>, File)> {
    let named = overrides
        .config
        .as_deref()
        .or_else(|| environment.var("CCL_CONFIG").map(Path::new));
    let path = match named {
        Some(path) => absolute_here(path, environment)?,
        None => environment
            .absolute_path("XDG_CONFIG_HOME")
            .unwrap_or_else(|| home.join(".config"))
            .join("ccl/config.yaml"),
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            return Ok((None, File::default()));
        }
        Err(error) if is_temporary(&error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
        Err(error) => {
            let sentence = format!(
                "cannot read the configuration {}: {}",
                path.display(),
                reason(&error)
            );
            return Err(Failure::Config(sentence).into());
        }
    };
    let file = file::parse(&text, &path)?;
    Ok((Some(path), file))
}

/// What an I/O error says, without the number that Rust adds.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

/// The path as seen from `base`, `~` replaced, with no `.` in it.
fn absolute(path: &Path, base: &Path, home: &Path) -> PathBuf {
    let joined = match path.strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => base.join(path),
    };
    joined
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

/// The path as seen from the current directory.
fn absolute_here(path: &Path, environment: &Environment) -> Result<PathBuf, Failure> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = environment.current_dir.as_deref().ok_or_else(|| {
        Failure::Config(format!(
            "{} is relative, but the current directory is gone; cd to one that exists",
            path.display()
        ))
    })?;
    Ok(here
        .join(path)
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect())
}

/// `--state-dir`, `state_dir`, `$XDG_STATE_HOME/ccl`, `~/.local/state/ccl`. Its path is part of a line that is typed into
/// a shell, so nothing in it may be a key press.
fn state_dir(
    overrides: &Overrides,
    from_file: Option<PathBuf>,
    environment: &Environment,
    home: &Path,
) -> Result<PathBuf, Failure> {
    let path = match (&overrides.state_dir, from_file) {
        (Some(given), _) => absolute_here(given, environment)?,
        (None, Some(path)) => path,
        (None, None) => environment
            .absolute_path("XDG_STATE_HOME")
            .unwrap_or_else(|| home.join(".local/state"))
            .join("ccl"),
    };
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(path),
        _ => Err(Failure::Config(format!(
            "the state directory {} has characters that cannot be typed into a shell; set state_dir to another one",
            path.display()
        ))),
    }
}

/// The machine's name, as `uname -n` prints it.
fn machine() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The pane that `ccl` was called in; a pane's id outside of tmux means nothing.
fn tmux_pane(environment: &Environment) -> Option<String> {
    environment.var("TMUX")?;
    let pane = environment.var("TMUX_PANE")?.to_str()?;
    let digits = pane.strip_prefix('%')?;
    let is_id = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_id.then(|| pane.to_owned())
}
