//! `config.yaml`: its shape, and errors that name their place in it.
//!
//! The sections are deserialized straight into the types of [`super`]; each value is checked while it is read, because
//! only then its line and column are known.

use super::agents::{self, AgentSections};
use super::engine::RemoteSection;
use super::notify::NotifierSection;
use super::scalar::{self, scalar};
use super::url::ServerUrl;
use super::value::{checked, optional_name, optional_path, reset_further_than, service_url};
use super::{AgentConfig, Budget, Dedicated, Dispatcher, PoolConfig, Price, ProjectKeys};
use crate::error::Failure;
use crate::router::AutoRoutes;
use crate::text::nearest;
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::Deserializer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The whole file. Every key may be left out; paths are still as they were written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct File {
    #[serde(deserialize_with = "pool_section")]
    pub(super) pool: PoolSection,
    pub(super) dispatcher: Dispatcher,
    #[serde(deserialize_with = "agents::only_agent")]
    pub(super) agent: Option<AgentConfig>,
    pub(super) agents: AgentSections,
    pub(super) failover: Option<Vec<FailoverName>>,
    #[serde(deserialize_with = "reset_further_than")]
    pub(super) reset_further_than: Option<SignedDuration>,
    pub(super) prices: BTreeMap<String, Price>,
    pub(super) routing: RoutingSection,
    pub(super) defaults: ProjectKeys,
    #[serde(deserialize_with = "secutools_section")]
    pub(super) secutools: SecutoolsSection,
    #[serde(deserialize_with = "remote_section")]
    pub(super) remote: Option<RemoteSection>,
    pub(super) tmux: TmuxSection,
    pub(super) notify: Vec<CheckedNotifier>,
    pub(super) http: HttpSection,
    #[serde(deserialize_with = "optional_path")]
    pub(super) state_dir: Option<PathBuf>,
    #[serde(deserialize_with = "optional_name")]
    pub(super) host: Option<String>,
    /// A sentence for each key of the file that is ignored, with its place.
    #[serde(skip)]
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct PoolSection {
    pub(super) autonomous: PoolConfig,
    pub(super) dedicated: Vec<Dedicated>,
    #[serde(deserialize_with = "optional_path")]
    pub(super) shared_projects_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct RoutingSection {
    pub(super) auto: AutoRoutes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct SecutoolsSection {
    #[serde(deserialize_with = "service_url")]
    pub(super) url: Option<ServerUrl>,
    #[serde(deserialize_with = "optional_path")]
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) budget: Budget,
}

fn secutools_section<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SecutoolsSection, D::Error> {
    checked(deserializer, |section: &SecutoolsSection| match section.budget.per_task {
        // A job's cost is known only when the job has ended.
        Some(_) => {
            Err("budget.per_task: a job cannot be ended for its cost; take it out, and use per_day"
                .to_owned())
        }
        None => Ok(()),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct HttpSection {
    pub(super) hosts: Vec<HostName>,
}

/// A name or an address under which `ccl http` may be asked.
#[derive(Debug)]
pub(super) struct HostName(pub(super) String);

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| scalar::host_name(text).map(Self))
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct TmuxSection {
    #[serde(deserialize_with = "scalar::command")]
    pub(super) command: Vec<String>,
}

impl Default for TmuxSection {
    fn default() -> Self {
        Self { command: vec!["tmux".to_owned()] }
    }
}

/// An entry of `notify` whose values fit together.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct CheckedNotifier(
    #[serde(deserialize_with = "notifier_section")] pub(super) NotifierSection,
);

fn notifier_section<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<NotifierSection, D::Error> {
    checked(deserializer, NotifierSection::check)
}

/// One name in `failover`.
#[derive(Debug)]
pub(super) struct FailoverName(pub(super) String);

impl<'de> Deserialize<'de> for FailoverName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| scalar::name(text).map(Self))
    }
}

/// Reads the configuration. A text without any YAML in it is all defaults. The error is
/// `FILE:LINE:COLUMN: KEY: what is wrong`.
pub(super) fn parse(text: &str, path: &Path) -> Result<File, Failure> {
    let mut file: File = from_yaml(text, path)?;
    if file.agent.as_ref().is_some_and(|agent| agent.delivery) {
        file.warnings.push(delivery_warning(text, path));
    }
    Ok(file)
}

/// Reads YAML. The error is `FILE:LINE:COLUMN: KEY: what is wrong`.
pub(super) fn from_yaml<'t, T: Deserialize<'t>>(text: &'t str, path: &Path) -> Result<T, Failure> {
    serde_yaml::from_str(text).map_err(|error| {
        let message = error.to_string();
        let place = error
            .location()
            .map_or(String::new(), |at| format!(" at line {} column {}", at.line(), at.column()));
        // The YAML reader puts the place at the end of its message; ours begins with it.
        let sentence = explain(message.strip_suffix(&place).unwrap_or(&message));
        Failure::Config(format!("{}: {sentence}", place_of(path, &error)))
    })
}

fn delivery_warning(text: &str, path: &Path) -> String {
    /// The YAML reader gives places for errors only, so this refuses the value to learn where it is.
    #[derive(Deserialize)]
    struct DeliveryKey {
        #[serde(rename = "delivery", deserialize_with = "refuse")]
        _delivery: (),
    }
    #[derive(Deserialize)]
    struct AgentKey {
        #[serde(rename = "agent")]
        _agent: DeliveryKey,
    }
    fn refuse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        scalar(deserializer, |_| Err(String::new()))
    }
    let refused = serde_yaml::from_str::<AgentKey>(text).err();
    let place = refused.map_or_else(|| path.display().to_string(), |error| place_of(path, &error));
    format!(
        "{place}: agent.delivery is ignored, remove it: the prompt is the agent's last argument; \
         write {{prompt}} or {{prompt_file}} in agent.command to put it elsewhere"
    )
}

/// `FILE:LINE:COLUMN`, where the YAML reader knows them.
fn place_of(path: &Path, error: &serde_yaml::Error) -> String {
    let file = path.display();
    match error.location() {
        Some(at) => format!("{file}:{}:{}", at.line(), at.column()),
        None => file.to_string(),
    }
}

/// Serde's message in plain words. For an unknown key or value it suggests the nearest known one.
fn explain(message: &str) -> String {
    for (serde, ours) in [("unknown field `", "unknown key"), ("unknown variant `", "unknown word")]
    {
        let Some((path, rest)) = message.split_once(serde) else {
            continue;
        };
        let Some((unknown, list)) = rest.split_once("`, expected ") else {
            continue;
        };
        // The known names stand between backticks: they are every second piece.
        let known: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        return match nearest(unknown, &known) {
            Some(near) => format!("{path}{ours} `{unknown}`; did you mean `{near}`?"),
            None => format!("{path}{ours} `{unknown}`; there are: {}", known.join(", ")),
        };
    }
    message
        .replace("missing field", "there is no")
        .replace("duplicate field", "there is more than one")
        .replace(
            "deserializing from YAML containing more than one document is not supported",
            "there is more than one YAML document",
        )
}

fn pool_section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PoolSection, D::Error> {
    checked(deserializer, |section: &PoolSection| {
        let pool: Vec<String> = section.autonomous.session_names().collect();
        for (index, Dedicated { session, .. }) in section.dedicated.iter().enumerate() {
            if pool.contains(session) {
                return Err(format!(
                    "dedicated[{index}].session: `{session}` is one of the pool's own sessions, \
                     which ccl starts agents in; rename it or change autonomous.prefix"
                ));
            }
        }
        Ok(())
    })
}

fn remote_section<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RemoteSection>, D::Error> {
    checked(deserializer, RemoteSection::check).map(Some)
}
