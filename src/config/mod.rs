//! File and environment → one checked [`Config`].

mod agents;
mod engine;
mod file;
mod key;
mod load;
mod notify;
mod project;
mod scalar;
mod shell;
#[cfg(test)]
pub(crate) mod tests;
mod url;
mod value;

pub(crate) use agents::{AgentConfig, Agents, Budget, ClaudeFiles, Price};
pub(crate) use engine::RemoteEngine;
pub(crate) use engine::{ExchangeAt, Uncommitted, has_password};
pub(crate) use key::DelegationOff;
pub use key::{ApiKey, KeySource, Secutools};
pub(crate) use key::{KEY_VARIABLES, private as private_key};
pub(crate) use notify::{NoticeFormat, Notifier, Occasion, Receiver};
pub use url::ServerUrl;

pub(crate) use self::project::ProjectKeys;
pub use crate::marker::AgentKind;
use crate::router::AutoRoutes;
use crate::task::{Priority, Provider};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that can be set, checked and resolved: paths are absolute, values are within their bounds.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read; `None` where there is none and all is default.
    pub(crate) file: Option<PathBuf>,
    pub(crate) pool: PoolConfig,
    pub(crate) dedicated: Vec<Dedicated>,
    pub(crate) projects: Projects,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) agents: Agents,
    /// Prices by a part of the model's name, such as `opus`; for what turns that are under way have cost so far.
    pub(crate) prices: BTreeMap<String, Price>,
    /// How much secutools' jobs may cost.
    pub(crate) secutools_budget: Budget,
    /// Where `preferred_ai: auto` sends a task.
    pub(crate) auto_routes: AutoRoutes,
    /// The rules of a project where its `project.yaml` does not say otherwise.
    pub(crate) defaults: ProjectKeys,
    /// The secutools server, or why nothing is delegated to it.
    pub(crate) secutools: Result<Secutools, DelegationOff>,
    /// Where tasks of the provider `remote` go; `None`: they run here.
    pub(crate) remote: Option<RemoteEngine>,
    /// The tmux command and its first arguments, such as `tmux -L ccl`.
    pub(crate) tmux: Vec<String>,
    /// Who is notified.
    pub(crate) notifiers: Vec<Notifier>,
    /// Names under which `ccl http` may be asked, beside those that every machine has.
    pub(crate) http_hosts: Vec<String>,
    pub state_dir: PathBuf,
    /// This machine's name in markers.
    pub(crate) host: String,
    pub(crate) home: PathBuf,
    /// Claude Code's files, as the environment of `ccl` places them.
    pub(crate) claude: ClaudeFiles,
    /// The pane that `ccl` was called in, such as `%3`.
    pub(crate) tmux_pane: Option<String>,
    /// A sentence for each key of the file that is ignored, with file and line, to be logged once.
    pub(crate) warnings: Vec<String>,
}

impl Config {
    /// The model that the agent gets for a task; `None` where the agent is not Claude Code.
    pub(crate) fn model(
        &self,
        agent: &AgentConfig,
        priority: Priority,
        pinned: Option<&str>,
    ) -> Option<String> {
        let by_priority = || self.dispatcher.models.for_priority(priority);
        (agent.kind == AgentKind::Claude).then(|| pinned.unwrap_or_else(by_priority).to_owned())
    }

    /// Whether tasks of the provider leave this machine. An address of secutools without a key counts as on: hooks do
    /// not get the key, but `scan` may have it.
    pub(crate) fn delegates_to(&self, provider: Provider) -> bool {
        match provider {
            Provider::ClaudeCode => false,
            Provider::Remote => self.remote.is_some(),
            Provider::Gpu | Provider::Gemini | Provider::ClaudeApi => {
                matches!(self.secutools, Ok(_) | Err(DelegationOff::NoKey))
            }
        }
    }

    /// The tmux command as a person types it.
    pub(crate) fn tmux_as_typed(&self) -> String {
        let words = self.tmux.iter().map(String::as_str);
        shlex::try_join(words).unwrap_or_else(|_| "tmux".to_owned())
    }
}

/// The command line's `--config`, `--project` and `--state-dir`; they override file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub config: Option<PathBuf>,
    pub projects: Vec<PathBuf>,
    pub state_dir: Option<PathBuf>,
}

/// Where projects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Projects {
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
pub(crate) struct PoolConfig {
    /// For its characters see [`crate::text::is_session_name`].
    #[serde(deserialize_with = "value::prefix")]
    pub(crate) prefix: String,
    #[serde(deserialize_with = "value::start_index")]
    pub(crate) start_index: u32,
    /// The number of sessions; with 0 nothing runs here.
    #[serde(deserialize_with = "value::max")]
    pub(crate) max: u32,
    /// Whether a missing session is created.
    #[serde(deserialize_with = "value::switch")]
    pub(crate) create: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { prefix: "ccl-auto-".to_owned(), start_index: 0, max: 4, create: true }
    }
}

impl PoolConfig {
    pub(crate) fn session_names(&self) -> impl Iterator<Item = String> + '_ {
        (self.start_index..self.start_index + self.max)
            .map(|index| format!("{}{index}", self.prefix))
    }
}

/// The operator's own session, which is never touched, and the project whose inbox is served nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a session and its project")]
pub(crate) struct Dedicated {
    #[serde(deserialize_with = "value::name")]
    pub(crate) session: String,
    #[serde(deserialize_with = "value::path")]
    pub(crate) project: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub struct Dispatcher {
    #[serde(deserialize_with = "value::optional_path")]
    pub(crate) projects_dir: Option<PathBuf>,
    /// How long a launched agent has to show that it has the task.
    #[serde(deserialize_with = "value::prompt_timeout")]
    pub(crate) prompt_timeout: Duration,
    /// How long a session is left alone after a failed attempt.
    #[serde(deserialize_with = "value::cooldown")]
    pub(crate) cooldown: Duration,
    /// A task is given up after this many failed attempts.
    #[serde(deserialize_with = "value::max_attempts")]
    pub(crate) max_attempts: u32,
    /// A task that has been at work for longer counts as stale.
    #[serde(deserialize_with = "value::stale_after")]
    pub(crate) stale_after: Duration,
    pub(crate) models: Models,
    /// The template of the prompt; it holds `{body}`, and `{task}` where the name is wanted.
    #[serde(deserialize_with = "value::message")]
    pub(crate) message: String,
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
    /// The prompt: the template with `{task}` and `{body}` filled in. Both are inserted as they are: a
    /// `{task}` inside the body is not replaced.
    pub(crate) fn fill_message(&self, task: &str, body: &str) -> String {
        let mut filled = String::with_capacity(self.message.len() + body.len());
        let mut rest = self.message.as_str();
        while let Some((before, name, after)) = scalar::placeholder(rest) {
            filled.push_str(before);
            // `scalar::message` refuses a template with a third name.
            filled.push_str(if name == "task" { task } else { body });
            rest = after;
        }
        filled + rest
    }
}

/// The model for a task, by its priority.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(crate) struct Models {
    #[serde(deserialize_with = "value::model")]
    pub(crate) critical: String,
    #[serde(deserialize_with = "value::model")]
    pub(crate) default: String,
}

impl Default for Models {
    fn default() -> Self {
        Self { critical: "opus".to_owned(), default: "sonnet".to_owned() }
    }
}

impl Models {
    pub(crate) fn for_priority(&self, priority: Priority) -> &str {
        match priority {
            Priority::Critical => &self.critical,
            Priority::High | Priority::Default | Priority::Low => &self.default,
        }
    }
}

/// What happens to a question for which Claude Code would wait: whether it may use a tool, say, or which way to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Questions {
    /// It is refused at once, and the turn goes on, if Claude Code can do that (2.1.319 and later).
    #[default]
    Refuse,
    /// It waits for a person.
    Wait,
}
