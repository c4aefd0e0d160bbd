//! `.agent-queue/project.yaml`, and the configuration's `defaults:` with the same keys.

use std::path::{Component, Path};

use anyhow::{Context, Result, anyhow, bail};
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::Deserializer;

use super::{Config, agents, file, scalar, value};
use crate::durable;
use crate::task::{Check, Isolation, Land, ProjectRules, TaskRules, TimeLimit};

/// A longer `project.yaml` is refused.
const MAX_BYTES: u64 = 64 << 10;

/// The longest check, in bytes: it becomes part of its task's ending line, which has room for this much.
const MAX_CHECK: usize = 4 << 10;

/// The keys that hold for a project's tasks; `None` where a key is not given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(crate) struct ProjectKeys {
    #[serde(deserialize_with = "parallel")]
    parallel: Option<u32>,
    isolation: Option<Isolation>,
    #[serde(deserialize_with = "base")]
    base: Option<String>,
    #[serde(deserialize_with = "shell_command")]
    setup: Option<String>,
    copy: Option<Vec<CopiedPath>>,
    #[serde(deserialize_with = "switch")]
    require_clean: Option<bool>,
    land: Option<Land>,
    #[serde(deserialize_with = "check")]
    check: Option<Check>,
    #[serde(deserialize_with = "check_timeout")]
    check_timeout: Option<SignedDuration>,
    #[serde(deserialize_with = "check_rounds")]
    check_rounds: Option<u32>,
    protect: Option<Vec<Glob>>,
    #[serde(deserialize_with = "agent")]
    agent: Option<String>,
    #[serde(deserialize_with = "time_limit")]
    max_duration: Option<TimeLimit>,
    #[serde(deserialize_with = "time_limit")]
    stall: Option<TimeLimit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CopiedPath(String);

impl<'de> Deserialize<'de> for CopiedPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::scalar(deserializer, |text| {
            let is_below = |part| matches!(part, Component::Normal(_));
            match Path::new(text).components().all(is_below) {
                true => scalar::name(text).map(Self),
                false => Err(format!("`{text}` is not a path below the project, such as .env")),
            }
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(String);

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::scalar(deserializer, |text| scalar::name(text).map(Self))
    }
}

/// Deserializers for single values: name, type, and the parser that checks the text.
macro_rules! values {
    ($($name:ident -> $type:ty = $parse:expr;)*) => {$(
        fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<$type>, D::Error> {
            scalar::scalar(deserializer, |text| $parse(text).map(Some))
        }
    )*};
}

values! {
    parallel -> u32 = |text| scalar::number(text, 0..=256);
    base -> String = scalar::revision;
    shell_command -> String = scalar::shell_command;
    switch -> bool = scalar::switch;
    check -> Check = |text| match scalar::shell_command(text)? {
        long if long.len() > MAX_CHECK => Err("is longer than 4 KiB: put it into a script".to_owned()),
        command => Ok(Check::parse(&command)),
    };
    check_timeout -> SignedDuration = |text| {
        let bounds = value::SECOND..=value::HOUR * 24;
        let duration = scalar::duration(text, bounds)?;
        SignedDuration::try_from(duration).map_err(|error| error.to_string())
    };
    check_rounds -> u32 = |text| scalar::number(text, 0..=20);
    agent -> String = agents::name;
    time_limit -> TimeLimit = TimeLimit::parse;
}

impl Config {
    /// The rules of the project whose `project.yaml` is at `path`, if there is one. The error names file, line and key.
    pub(crate) fn project_rules(&self, path: &Path) -> Result<ProjectRules> {
        let failed = || format!("cannot read {}", path.display());
        let Some(file) = durable::open_if_there(path).with_context(failed)? else {
            return Ok(self.defaults.clone().over(ProjectKeys::default()));
        };
        if !file.metadata().with_context(failed)?.is_file() {
            bail!("{} is not a regular file: put the file itself there", path.display());
        }
        let bytes = durable::read_at_most(file, MAX_BYTES + 1).with_context(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            bail!("{} is larger than {} KiB: shorten it", path.display(), MAX_BYTES >> 10);
        }
        let Ok(text) = String::from_utf8(bytes) else {
            bail!("{} is not UTF-8 text: save it as UTF-8", path.display());
        };
        // A plain error, not `Failure::Config`: the file is one project's, and a pass goes on without that project.
        let keys = file::from_yaml(&text, path).map_err(|failure| anyhow!("{failure}"))?;
        Ok(self.defaults.clone().over(keys))
    }

    /// The rules of a task that lies in no project.
    pub(crate) fn default_rules(&self) -> ProjectRules {
        self.defaults.clone().over(ProjectKeys::default())
    }
}

impl ProjectKeys {
    /// The rules by `keys`; where they say nothing, by these.
    fn over(self, keys: Self) -> ProjectRules {
        let default = TaskRules::default();
        let texts = |list: Vec<CopiedPath>| list.into_iter().map(|it| it.0).collect();
        let globs = |list: Vec<Glob>| list.into_iter().map(|it| it.0).collect();
        ProjectRules {
            parallel: keys.parallel.or(self.parallel),
            agent: keys.agent.or(self.agent),
            require_clean: keys.require_clean.or(self.require_clean).unwrap_or_default(),
            task: TaskRules {
                isolation: keys.isolation.or(self.isolation).unwrap_or(default.isolation),
                land: keys.land.or(self.land).unwrap_or(default.land),
                base: keys.base.or(self.base),
                setup: keys.setup.or(self.setup),
                copy: keys.copy.or(self.copy).map(texts).unwrap_or_default(),
                check: keys.check.or(self.check).unwrap_or(default.check),
                check_timeout: keys
                    .check_timeout
                    .or(self.check_timeout)
                    .unwrap_or(default.check_timeout),
                check_rounds: keys
                    .check_rounds
                    .or(self.check_rounds)
                    .unwrap_or(default.check_rounds),
                protect: keys.protect.or(self.protect).map(globs).unwrap_or_default(),
                max_duration: keys.max_duration.or(self.max_duration).unwrap_or_default(),
                stall: keys.stall.or(self.stall).unwrap_or_default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ProjectKeys, String> {
        file::from_yaml(text, Path::new("project.yaml")).map_err(|failure| failure.to_string())
    }

    fn rules(defaults: &str, project: &str) -> ProjectRules {
        parse(defaults).unwrap().over(parse(project).unwrap())
    }

    #[test]
    fn what_the_project_says_goes_before_the_defaults() {
        assert_eq!(rules("", ""), ProjectRules::default());
        let defaults =
            "parallel: 2\nisolation: worktree\ncheck: make test\ncopy: [.env]\nstall: 30m\n";
        let all = rules(defaults, "");
        assert_eq!((all.parallel, all.task.isolation), (Some(2), Isolation::Worktree));
        assert_eq!(all.task.check, Check::Command("make test".to_owned()));
        assert_eq!(all.task.copy, [".env"]);
        assert_eq!(all.task.stall, TimeLimit(Some(SignedDuration::from_mins(30))));
        let project = rules(
            defaults,
            "parallel: 0\nisolation: none\nbase: main\nsetup: npm ci\ncopy: []\nrequire_clean: true\nland: rebase\ncheck: none\ncheck_timeout: 90s\ncheck_rounds: 0\nprotect: ['tests/**']\nmax_duration: 2h\nstall: none\nagent: codex\n",
        );
        assert_eq!(
            project,
            ProjectRules {
                parallel: Some(0),
                agent: Some("codex".to_owned()),
                require_clean: true,
                task: TaskRules {
                    isolation: Isolation::None,
                    land: Land::Rebase,
                    base: Some("main".to_owned()),
                    setup: Some("npm ci".to_owned()),
                    copy: Vec::new(),
                    check: Check::Off,
                    check_timeout: SignedDuration::from_secs(90),
                    check_rounds: 0,
                    protect: vec!["tests/**".to_owned()],
                    max_duration: TimeLimit(Some(SignedDuration::from_hours(2))),
                    stall: TimeLimit(None),
                },
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_place() {
        for (text, sentence) in [
            ("paralell: 1", "project.yaml:1:1: unknown key `paralell`; did you mean `parallel`?"),
            ("parallel: two", "`two` is not a whole number"),
            ("\nisolation: container", "project.yaml:2:"),
            ("isolation: worktre", "did you mean `worktree`?"),
            ("land: merge", "unknown word `merge`"),
            ("base: --all", "`--all`"),
            ("setup: ''", "setup: is empty"),
            ("copy: [../.env]", "`../.env` is not a path below the project"),
            ("copy: [/etc/passwd]", "`/etc/passwd` is not a path below the project"),
            ("check_timeout: 0s", "check_timeout:"),
            (&format!("check: {}", "true;".repeat(1000)), "check: is longer than 4 KiB"),
            ("protect: tests", "protect:"),
            ("max_duration: 2", "max_duration: `2` is neither a duration such as 30m or 2h"),
            ("\nstall: 0s", "project.yaml:2:8: stall: `0s` is out of range"),
            ("parallel: 1\nparallel: 2", "more than one"),
            ("- a", "expected keys and values"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(sentence), "{text:?}: {error}");
        }
    }
}
