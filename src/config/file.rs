//! `config.yaml`: its shape, and errors that say where in it they are.
//!
//! The sections are deserialized straight into the types of [`super`]; each value is checked while it is read, because
//! only then its line and column are known.

use super::scalar::{self, scalar};
use super::{Agent, AgentKind, Dedicated, Dispatcher, Pool};
use crate::error::Failure;
use crate::remote::ServerUrl;
use crate::task::Provider;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole file. Every key may be left out; paths are still as they were written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct File {
    #[serde(deserialize_with = "pool_section")]
    pub(super) pool: PoolSection,
    pub(super) dispatcher: Dispatcher,
    #[serde(deserialize_with = "agent_section")]
    pub(super) agent: Agent,
    pub(super) routing: RoutingSection,
    pub(super) secutools: SecutoolsSection,
    pub(super) tmux: TmuxSection,
    #[serde(deserialize_with = "optional_path")]
    pub(super) state_dir: Option<PathBuf>,
    #[serde(deserialize_with = "optional_name")]
    pub(super) host: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct PoolSection {
    pub(super) autonomous: Pool,
    pub(super) dedicated: Vec<Dedicated>,
    #[serde(deserialize_with = "optional_path")]
    pub(super) shared_projects_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct RoutingSection {
    pub(super) auto: AutoSection,
}

/// `routing.auto`; the router's [`AutoRoutes`](crate::router::AutoRoutes) with the defaults of a file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct AutoSection {
    pub(super) low: Provider,
    pub(super) medium: Provider,
    pub(super) high: Provider,
}

impl Default for AutoSection {
    fn default() -> Self {
        Self { low: Provider::Gpu, medium: Provider::Gemini, high: Provider::ClaudeApi }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct SecutoolsSection {
    #[serde(deserialize_with = "service_url")]
    pub(super) url: Option<ServerUrl>,
    #[serde(deserialize_with = "optional_path")]
    pub(super) api_key_file: Option<PathBuf>,
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

/// Parses the file's text; `path` is for the error only. A text without any YAML in it is all defaults.
///
/// # Errors
/// [`Failure::Config`] with `FILE:LINE:COLUMN: KEY: what is wrong`.
pub(super) fn parse(text: &str, path: &Path) -> Result<File, Failure> {
    serde_yaml::from_str(text).map_err(|error| Failure::Config(locate(path, &error)))
}

/// `FILE:LINE:COLUMN: sentence` for an error of the YAML reader, which puts the position last.
fn locate(path: &Path, error: &serde_yaml::Error) -> String {
    let file = path.display();
    let text = error.to_string();
    let Some(location) = error.location() else {
        return format!("{file}: {}", explain(&text));
    };
    let (line, column) = (location.line(), location.column());
    let position = format!(" at line {line} column {column}");
    let sentence = explain(text.strip_suffix(&position).unwrap_or(&text));
    format!("{file}:{line}:{column}: {sentence}")
}

/// Serde's words for a key or value that is not in a list, turned into plain ones, with the nearest that is.
fn explain(message: &str) -> String {
    for (serde, ours) in [("unknown field `", "unknown key"), ("unknown variant `", "unknown word")]
    {
        let Some((path, rest)) = message.split_once(serde) else {
            continue;
        };
        let Some((unknown, list)) = rest.split_once("`, expected ") else {
            continue;
        };
        // Names stand between backticks: every second piece.
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

fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Deserializes a section and checks its values against each other. The error is raised inside the visitor, so that it
/// carries the section's position and path.
fn checked<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    check: fn(&T) -> Result<(), String>,
) -> Result<T, D::Error> {
    struct Section<T>(fn(&T) -> Result<(), String>, PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Section<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("keys and values")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            let section = T::deserialize(MapAccessDeserializer::new(map))?;
            (self.0)(&section).map_err(A::Error::custom)?;
            Ok(section)
        }
    }

    deserializer.deserialize_map(Section(check, PhantomData))
}

fn pool_section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PoolSection, D::Error> {
    checked(deserializer, |section: &PoolSection| {
        let pool: Vec<String> = section.autonomous.session_names().collect();
        let clash =
            section.dedicated.iter().position(|dedicated| pool.contains(&dedicated.session));
        match clash {
            None => Ok(()),
            Some(index) => Err(format!(
                "dedicated[{index}].session: `{}` is one of the pool's own sessions, and those are typed into; \
                 rename it or change autonomous.prefix",
                section.dedicated[index].session
            )),
        }
    })
}

fn agent_section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Agent, D::Error> {
    checked(deserializer, |agent: &Agent| {
        if agent.kind == AgentKind::Command && agent.command == Agent::default().command {
            return Err(
                "kind: command needs a command of its own, one that takes a prompt and exits, such as [claude, -p]"
                    .to_owned(),
            );
        }
        Ok(())
    })
}

/// Deserializers for single values: name, type, and the parser that checks the text.
macro_rules! values {
    ($($name:ident -> $type:ty = $parse:expr;)*) => {$(
        pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            scalar(deserializer, $parse)
        }
    )*};
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

values! {
    prefix -> String = scalar::prefix;
    start_index -> u32 = |text| scalar::number(text, 0..=9999);
    max -> u32 = |text| scalar::number(text, 0..=256);
    switch -> bool = scalar::switch;
    name -> String = scalar::name;
    optional_name -> Option<String> = |text| scalar::name(text).map(Some);
    path -> PathBuf = scalar::path;
    optional_path -> Option<PathBuf> = |text| scalar::path(text).map(Some);
    prompt_timeout -> Duration = |text| scalar::duration(text, SECOND..=HOUR);
    cooldown -> Duration = |text| scalar::duration(text, Duration::ZERO..=HOUR * 168);
    stale_after -> Duration = |text| scalar::duration(text, SECOND * 60..=HOUR * 8760);
    max_attempts -> u32 = |text| scalar::number(text, 1..=100);
    model -> String = scalar::model;
    message -> String = scalar::message;
    service_url -> Option<ServerUrl> = |text| ServerUrl::parse(text).map(Some);
}
