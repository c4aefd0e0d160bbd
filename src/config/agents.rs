//! The agents by name, and the order in which they take over from each other.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::SignedDuration;
use regex::{Regex, RegexBuilder};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::value::{self, checked};
use super::{Questions, scalar, shell};
use crate::error::Failure;
use crate::marker::{AgentKind, StartedAgent};
use crate::money::Cost;
use crate::task::Provider;

/// This word in `failover` stands for the provider that the task's `complexity_hint` names.
const SECUTOOLS: &str = "secutools";
/// The currency in which Claude Code counts its costs.
const USD: &str = "USD";
/// The variables that decide whose login Claude Code uses.
const CONFIG_DIR: &str = "CLAUDE_CONFIG_DIR";
const LOGIN_VARIABLES: [&str; 2] = [CONFIG_DIR, "CLAUDE_CODE_OAUTH_TOKEN"];
/// How many bytes a compiled pattern may take: it is matched with the last screen only.
const LARGEST_PATTERN: usize = 1 << 20;

/// A program that works on tasks, and the settings of its runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(crate) struct AgentConfig {
    /// Its key below `agents:`.
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) kind: AgentKind,
    /// The program and its first arguments; never empty. The words `{prompt}` and `{prompt_file}` stand for the prompt
    /// and for its file, by themselves or inside a longer word; without them the prompt is the last argument.
    #[serde(deserialize_with = "scalar::command")]
    pub(crate) command: Vec<String>,
    /// `agent.shell`; without that it is empty until [`Self::shell`] looks the user's own up.
    #[serde(deserialize_with = "value::shell")]
    shell: OnceLock<PathBuf>,
    /// Whether the file has this key, which earlier versions knew and which is ignored.
    #[serde(deserialize_with = "value::is_given")]
    pub(super) delivery: bool,
    /// Whether Claude Code calls `ccl` as soon as it is idle.
    #[serde(deserialize_with = "value::switch")]
    pub(crate) hooks: bool,
    /// Variables that are added to the environment that its shell gives it.
    #[serde(deserialize_with = "variables")]
    pub(crate) env: BTreeMap<String, String>,
    /// The agent's own directory for Claude Code's settings, login and transcripts.
    #[serde(deserialize_with = "value::optional_path")]
    pub(super) config_dir: Option<PathBuf>,
    /// A file with the API key for Claude Code; the key is in no argument, environment or marker.
    #[serde(deserialize_with = "value::optional_path")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// What happens to questions that Claude Code asks while it works.
    pub(crate) questions: Questions,
    /// The model to use while another one is overloaded, or its limit is reached.
    #[serde(deserialize_with = "value::optional_model")]
    pub(crate) fallback_model: Option<String>,
    /// A program that ends with an error has reached a limit if its last screen matches this.
    #[serde(deserialize_with = "pattern")]
    pub(crate) limit: Option<LimitPattern>,
    /// A program that ends with this exit code has reached a limit.
    #[serde(deserialize_with = "exit_code")]
    pub(crate) limit_exit: Option<i32>,
    pub(crate) budget: Budget,
    /// The directory in which its Claude Code keeps its files, and its state file.
    #[serde(skip)]
    pub(crate) claude: ClaudeFiles,
}

/// Where one Claude Code keeps its files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClaudeFiles {
    /// `CLAUDE_CONFIG_DIR`, else `~/.claude`.
    pub(crate) directory: PathBuf,
    /// `.claude.json` in there, else `~/.claude.json`.
    pub(crate) state: PathBuf,
}

impl ClaudeFiles {
    pub(super) fn of(config_dir: Option<&Path>, home: &Path) -> Self {
        Self {
            directory: config_dir.map_or_else(|| home.join(".claude"), Path::to_owned),
            state: config_dir.unwrap_or(home).join(".claude.json"),
        }
    }

    /// The value of `CLAUDE_CONFIG_DIR`, where it has to be set for these files.
    pub(crate) fn config_dir(&self) -> Option<&Path> {
        // By default the state file lies beside the directory, and not in it.
        Some(self.directory.as_path()).filter(|directory| self.state.starts_with(directory))
    }
}

/// How much may be spent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "per_day and per_task")]
pub(crate) struct Budget {
    /// For a day from midnight to midnight, local time.
    #[serde(deserialize_with = "money")]
    pub(crate) per_day: Option<Cost>,
    #[serde(deserialize_with = "money")]
    pub(crate) per_task: Option<Cost>,
}

fn money<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cost>, D::Error> {
    scalar::scalar(deserializer, |text| match Cost::parse(text) {
        Some(cost) => Ok(Some(cost)),
        None => Err(format!("`{text}` is no amount of money, such as 10 USD")),
    })
}

impl Budget {
    fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// Whether Claude Code's runs can reach it: their costs are in USD.
    fn check_usd(&self) -> Result<(), String> {
        for (key, limit) in [("per_day", &self.per_day), ("per_task", &self.per_task)] {
            if let Some(limit) = limit
                && limit.currency.as_deref() != Some(USD)
            {
                return Err(format!(
                    "budget.{key}: Claude Code says in {USD} what its runs cost, so {limit} would never be reached: name an amount in {USD}"
                ));
            }
        }
        Ok(())
    }
}

/// The price of a million tokens of one model, in USD.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "input and output")]
pub(crate) struct Price {
    #[serde(deserialize_with = "dollars")]
    pub(crate) input: Decimal,
    #[serde(deserialize_with = "dollars")]
    pub(crate) output: Decimal,
}

fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    scalar::scalar(deserializer, |text| {
        let price = Decimal::from_str_exact(text).ok().filter(|price| !price.is_sign_negative());
        price.ok_or_else(|| format!("`{text}` is no price in USD, such as 15 or 0.80"))
    })
}

/// A regular expression that ignores case.
#[derive(Debug, Clone)]
pub(crate) struct LimitPattern(Regex);

impl PartialEq for LimitPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for LimitPattern {}

impl LimitPattern {
    fn parse(text: &str) -> Result<Self, String> {
        RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(LARGEST_PATTERN)
            .build()
            .map(Self)
            .map_err(|error| {
                format!("`{text}` is no regular expression: {error}").replace('\n', " ")
            })
    }

    pub(crate) fn is_in(&self, screen: &str) -> bool {
        self.0.is_match(screen)
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            name: AgentKind::Claude.as_str().to_owned(),
            kind: AgentKind::Claude,
            command: vec!["claude".to_owned(), "--dangerously-skip-permissions".to_owned()],
            shell: OnceLock::new(),
            delivery: false,
            hooks: true,
            env: BTreeMap::new(),
            config_dir: None,
            api_key_file: None,
            questions: Questions::default(),
            fallback_model: None,
            limit: None,
            limit_exit: None,
            budget: Budget::default(),
            claude: ClaudeFiles::default(),
        }
    }
}

impl AgentConfig {
    /// The shell that reads the user's start-up files and then becomes the agent: `agent.shell`, else the user's own.
    /// The user's is looked up only when an agent is launched: most passes launch none, and with LDAP a server answers.
    pub(crate) fn shell(&self) -> &Path {
        self.shell.get_or_init(|| shell::usable(shell::of_user()))
    }

    /// The name of the agent's program in messages.
    pub(crate) fn program(&self) -> &str {
        self.command.first().map_or("agent", String::as_str)
    }

    /// Whether its values fit together. The error is the end of a sentence that names the agent.
    fn check(&self) -> Result<(), String> {
        let holds = |name: &str| self.command.iter().any(|word| word.contains(name));
        let placeholder = ["{prompt}", "{prompt_file}"].into_iter().find(|name| holds(name));
        let of_claude = [
            ("api_key_file", self.api_key_file.is_some()),
            ("config_dir", self.config_dir.is_some()),
            ("fallback_model", self.fallback_model.is_some()),
        ];
        let of_command =
            [("limit", self.limit.is_some()), ("limit_exit", self.limit_exit.is_some())];
        let given = |keys: &[(&'static str, bool)]| {
            keys.iter().find(|(_, is_given)| *is_given).map(|(key, _)| *key)
        };
        match self.kind {
            AgentKind::Command if self.command == Self::default().command => {
                Err("kind: command needs a command of its own, one that takes a prompt and exits, \
                 such as [claude, -p]"
                    .to_owned())
            }
            AgentKind::Command => match given(&of_claude) {
                Some(key) => Err(format!(
                    "{key}: only Claude Code has that; take it out, or give the program its own by `env`"
                )),
                None if self.budget.is_given() => Err(
                    "budget: nothing says what the runs of a program cost, so it would never be reached; take it out".to_owned()
                ),
                None => Ok(()),
            },
            AgentKind::Claude => match (placeholder, given(&of_command)) {
                (Some(name), _) => Err(format!(
                    "command: Claude Code takes its prompt as its last argument; \
                     take {name} out, or set kind: command for another program"
                )),
                (None, Some(key)) => Err(format!(
                    "{key}: Claude Code says itself when a limit is reached; take it out, or set kind: command for another program"
                )),
                (None, None) if self.env.contains_key(CONFIG_DIR) => Err(format!(
                    "env.{CONFIG_DIR}: ccl has to know where Claude Code's files are; use config_dir in its place"
                )),
                (None, None) => self.budget.check_usd(),
            },
        }
    }

    /// Whether the two differ only in the login that they use. The name, the budget, the hooks and what happens to
    /// questions do not count as a difference.
    fn is_same_but_for_login(&self, other: &Self) -> bool {
        let bare = |agent: &Self| {
            let mut env = agent.env.clone();
            env.retain(|name, _| !LOGIN_VARIABLES.contains(&name.as_str()));
            Self {
                name: String::new(),
                config_dir: None,
                env,
                hooks: true,
                questions: Questions::default(),
                budget: Budget::default(),
                claude: ClaudeFiles::default(),
                ..agent.clone()
            }
        };
        let login = |agent: &Self| {
            (agent.config_dir.clone(), LOGIN_VARIABLES.map(|name| agent.env.get(name).cloned()))
        };
        login(self) != login(other) && bare(self) == bare(other)
    }
}

/// `agents:` in the order of the file, each agent with its name.
#[derive(Debug, Default)]
pub(super) struct AgentSections(pub(super) Vec<AgentConfig>);

impl<'de> Deserialize<'de> for AgentSections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;

        impl<'de> Visitor<'de> for ByName {
            type Value = AgentSections;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names, each with the keys of an agent")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut agents, mut names) = (Vec::new(), HashSet::new());
                while let Some(AgentName(name)) = map.next_key()? {
                    let CheckedAgent(agent) = map.next_value()?;
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("there is more than one `{name}`")));
                    }
                    if agent.delivery {
                        return Err(A::Error::custom(format!(
                            "{name}: delivery is no key of an agent: take it out"
                        )));
                    }
                    agents.push(AgentConfig { name, ..agent });
                }
                match agents.is_empty() {
                    true => Err(A::Error::custom("there is none: name one, or take `agents` out")),
                    false => Ok(AgentSections(agents)),
                }
            }
        }

        deserializer.deserialize_map(ByName)
    }
}

struct AgentName(String);

impl<'de> Deserialize<'de> for AgentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::scalar(deserializer, |text| name(text).map(Self))
    }
}

/// The name of an agent, which is the name of a file, too.
pub(super) fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    // The costs of the providers' jobs are recorded under these names.
    if [SECUTOOLS, Provider::Remote.as_str()].contains(&text) {
        return Err(format!("`{text}` is the name of a provider: choose another one"));
    }
    match !text.is_empty() && text.len() <= 40 && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no name for an agent: use up to 40 letters, digits, `-` and `_`"
        )),
    }
}

/// An agent whose values fit together.
#[derive(Deserialize)]
#[serde(transparent)]
struct CheckedAgent(#[serde(deserialize_with = "agent_section")] AgentConfig);

fn agent_section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AgentConfig, D::Error> {
    checked(deserializer, AgentConfig::check)
}

/// `agent:`, the only agent of a configuration without `agents:`.
pub(super) fn only_agent<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<AgentConfig>, D::Error> {
    agent_section(deserializer).map(Some)
}

fn variables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct VariableName(String);
    impl<'de> Deserialize<'de> for VariableName {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            scalar::scalar(deserializer, |text| {
                let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
                let is_name = text.starts_with(is_letter)
                    && text.chars().all(|c| is_letter(c) || c.is_ascii_digit());
                match is_name {
                    true => Ok(Self(text.to_owned())),
                    false => Err(format!("`{text}` is no name of a variable, such as AWS_PROFILE")),
                }
            })
        }
    }
    struct VariableValue(String);
    impl<'de> Deserialize<'de> for VariableValue {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            scalar::scalar(deserializer, |text| scalar::printable(text).map(Self))
        }
    }
    let given: BTreeMap<VariableName, VariableValue> = BTreeMap::deserialize(deserializer)?;
    Ok(given.into_iter().map(|(name, value)| (name.0, value.0)).collect())
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LimitPattern>, D::Error> {
    scalar::scalar(deserializer, |text| LimitPattern::parse(text).map(Some))
}

fn exit_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    scalar::scalar(deserializer, |text| {
        scalar::number(text, 1..=255).map(|code| i32::try_from(code).ok())
    })
}

/// All agents of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    /// Never empty.
    all: Vec<AgentConfig>,
    /// The places in `all` of the agents that take tasks that are pinned to none, in this order; never empty.
    failover: Vec<usize>,
    /// How many agents of `failover` come before secutools; `None` where it is not in the list.
    pub(crate) secutools_after: Option<usize>,
    /// A limit whose known reset is nearer than this is waited for.
    pub(crate) reset_further_than: SignedDuration,
}

impl Agents {
    /// `failover` holds the names as they are written in the file. The error is a sentence for people.
    pub(super) fn new(
        all: Vec<AgentConfig>,
        failover: Option<Vec<String>>,
        reset_further_than: SignedDuration,
    ) -> Result<Self, Failure> {
        const FIRST: &str = "failover: name an agent of this machine that comes first";
        let wrong = |sentence: String| Err(Failure::Config(sentence));
        let (mut order, mut secutools_after) = (Vec::new(), None);
        for name in failover.iter().flatten() {
            if name == SECUTOOLS {
                if order.is_empty() {
                    return wrong(FIRST.to_owned());
                }
                secutools_after = secutools_after.or(Some(order.len()));
                continue;
            }
            let Some(index) = all.iter().position(|agent| agent.name == *name) else {
                let known: Vec<&str> = all.iter().map(|agent| agent.name.as_str()).collect();
                return wrong(format!(
                    "failover: there is no agent `{name}`; there are: {}",
                    known.join(", ")
                ));
            };
            if order.contains(&index) {
                return wrong(format!("failover: `{name}` stands there twice: remove one"));
            }
            order.push(index);
        }
        if order.is_empty() {
            if failover.is_some() {
                return wrong(FIRST.to_owned());
            }
            order.push(0);
        }
        for (place, one) in order.iter().enumerate() {
            for other in &order[place + 1..] {
                let (one, other) = (&all[*one], &all[*other]);
                if one.is_same_but_for_login(other) {
                    return wrong(format!(
                        "failover: `{}` and `{}` differ in nothing but whose login they use (config_dir): ccl does not switch between logins to get around a limit; \
                         pin projects to them by `agent:` in project.yaml instead, or use an API key of your own",
                        one.name, other.name
                    ));
                }
            }
        }
        Ok(Self { all, failover: order, secutools_after, reset_further_than })
    }

    pub(crate) fn all(&self) -> &[AgentConfig] {
        &self.all
    }

    pub(crate) fn named(&self, name: &str) -> Option<&AgentConfig> {
        self.all.iter().find(|agent| agent.name == name)
    }

    /// The agents that take tasks that are pinned to none, in the order in which they are tried.
    pub(crate) fn failover(&self) -> impl Iterator<Item = &AgentConfig> {
        self.failover.iter().map(|index| &self.all[*index])
    }

    /// The agent that takes tasks first.
    pub(crate) fn first(&self) -> &AgentConfig {
        // `Agents::new` refuses an empty failover.
        &self.all[self.failover[0]]
    }

    /// The agent that a run was started with, if the configuration still has it, with the same conversations.
    pub(crate) fn still_has(&self, started: &StartedAgent) -> Option<&AgentConfig> {
        let has_files = |agent: &&AgentConfig| {
            started.claude_dir.as_ref().is_none_or(|dir| agent.claude.directory == *dir)
        };
        self.named(started.name()).filter(|agent| agent.kind == started.kind).filter(has_files)
    }

    /// The agent that a run was started with. If the configuration no longer names it, an agent that can go on with the
    /// same conversation takes its place, else the first one.
    pub(crate) fn of_run(&self, started: &StartedAgent) -> &AgentConfig {
        let is_like = |agent: &&AgentConfig| {
            agent.kind == started.kind
                && started.claude_dir.as_ref().is_none_or(|dir| agent.claude.directory == *dir)
        };
        self.named(started.name())
            .filter(|agent| agent.kind == started.kind)
            .or_else(|| self.all.iter().find(is_like))
            .unwrap_or_else(|| self.first())
    }
}
