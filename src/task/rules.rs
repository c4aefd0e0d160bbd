//! How a task is worked on: where its agent works, what judges the work, and what becomes of it. Pure.
//!
//! A task's header goes before its project's `project.yaml`, and that before `defaults:` of the configuration. What
//! holds for a run is frozen in its claim: an agent that edits a file changes the next task, not its own.

use jiff::SignedDuration;
use jiff::fmt::friendly::SpanParser;
use serde::{Deserialize, Serialize};

/// Where an agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// In the project itself.
    #[default]
    None,
    /// In a git worktree that is made for the task.
    Worktree,
}

/// What becomes of the branch of a task that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Land {
    /// A person brings it into its base.
    #[default]
    None,
    /// `ccl` rebases it and fast-forwards its base.
    Rebase,
}

/// The command that judges whether a task is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Nothing was said: nothing judges it, and nothing lands by itself.
    #[default]
    Unsaid,
    /// `check: none`.
    Off,
    /// Run by `sh -c`.
    Command(String),
}

impl Check {
    pub(crate) fn parse(text: &str) -> Self {
        match text.trim() {
            word if word.eq_ignore_ascii_case("none") => Self::Off,
            command => Self::Command(command.to_owned()),
        }
    }

    pub(crate) fn command(&self) -> Option<&str> {
        match self {
            Self::Command(command) => Some(command),
            Self::Unsaid | Self::Off => None,
        }
    }
}

/// How long something may go on; none: as long as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeLimit(pub(crate) Option<SignedDuration>);

impl TimeLimit {
    const SHORTEST: SignedDuration = SignedDuration::from_secs(1);
    const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 30);

    /// Reads `30m` or `2h`, or `none`, which lifts the limit of a project. The error begins with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(None));
        }
        let duration = SpanParser::new().parse_unsigned_duration(text).ok();
        let duration = duration.and_then(|duration| SignedDuration::try_from(duration).ok());
        match duration {
            None => Err(format!("`{text}` is neither a duration such as 30m or 2h, nor `none`")),
            Some(duration) if (Self::SHORTEST..=Self::LONGEST).contains(&duration) => {
                Ok(Self(Some(duration)))
            }
            Some(_) => Err(format!("`{text}` is out of range; it must lie between 1s and 720h")),
        }
    }

    fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

/// What holds for the tasks of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ProjectRules {
    /// The most local agents at once, 0 for any number; `None`: one, and with worktrees any number.
    pub parallel: Option<u32>,
    /// The one agent that works on its tasks; `None`: any.
    pub agent: Option<String>,
    /// Its tasks are held while the checkout has changes that are not committed.
    pub require_clean: bool,
    /// What holds for a task whose header says nothing.
    pub task: TaskRules,
}

/// What holds for one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRules {
    pub isolation: Isolation,
    pub land: Land,
    /// What a worktree starts from; `None`: what HEAD is at that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Run in a new worktree before the agent, by `sh -c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// Untracked files that a new worktree gets from the project, by their paths in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copy: Vec<String>,
    pub check: Check,
    pub check_timeout: SignedDuration,
    /// How often the agent gets a red check back.
    pub check_rounds: u32,
    /// Globs of the files that are as in the base when the check judges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protect: Vec<String>,
    /// How long its agent may work in one attempt, set-up and all; what a check takes does not count, nor what the
    /// agent spends waiting for a person that it may ask.
    #[serde(skip_serializing_if = "TimeLimit::is_none")]
    pub max_duration: TimeLimit,
    /// How long Claude Code may show no sign of life: nothing new in its transcripts, nothing new in its registry, and
    /// no command that it runs. Its screen is no sign, for that moves while the API hangs. Another agent shows nothing
    /// but that it lives, and what lives may be a command that takes long: `stall` never ends it, `max_duration` does.
    #[serde(skip_serializing_if = "TimeLimit::is_none")]
    pub stall: TimeLimit,
}

impl Default for TaskRules {
    fn default() -> Self {
        Self {
            isolation: Isolation::default(),
            land: Land::default(),
            base: None,
            setup: None,
            copy: Vec::new(),
            check: Check::default(),
            check_timeout: SignedDuration::from_mins(10),
            check_rounds: 2,
            protect: Vec::new(),
            max_duration: TimeLimit::default(),
            stall: TimeLimit::default(),
        }
    }
}

/// What a task's header says of it; `None` where it says nothing, or nothing that is understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderRules {
    pub isolation: Option<Isolation>,
    pub land: Option<Land>,
    pub check: Option<Check>,
    pub protect: Option<Vec<String>>,
    pub max_duration: Option<TimeLimit>,
    pub stall: Option<TimeLimit>,
}

impl ProjectRules {
    /// The rules for a task with this header.
    pub(crate) fn for_task(&self, header: &HeaderRules) -> TaskRules {
        let mut rules = self.task.clone();
        rules.isolation = header.isolation.unwrap_or(rules.isolation);
        rules.land = header.land.unwrap_or(rules.land);
        rules.check = header.check.clone().unwrap_or(rules.check);
        rules.protect = header.protect.clone().unwrap_or(rules.protect);
        rules.max_duration = header.max_duration.unwrap_or(rules.max_duration);
        rules.stall = header.stall.unwrap_or(rules.stall);
        rules
    }

    /// How many agents may be at work in the project at once, 0 for any number.
    pub(crate) fn limit(&self) -> u32 {
        self.limit_beside(self.task.isolation)
    }

    fn limit_beside(&self, isolation: Isolation) -> u32 {
        self.parallel.unwrap_or(match isolation {
            Isolation::None => 1,
            Isolation::Worktree => 0,
        })
    }

    /// How many other tasks of the project may be at work when one begins; `None` for any number.
    pub(crate) fn max_others(&self, isolation: Isolation) -> Option<usize> {
        // The limit 0 stands for any number, and so becomes `None`.
        usize::try_from(self.limit_beside(isolation)).ok()?.checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_goes_before_the_project() {
        let check = |command: &str| Check::Command(command.to_owned());
        let project = ProjectRules {
            task: TaskRules {
                isolation: Isolation::Worktree,
                land: Land::Rebase,
                check: check("make test"),
                protect: vec!["tests/**".to_owned()],
                max_duration: TimeLimit::parse("2h").unwrap(),
                stall: TimeLimit::parse("30m").unwrap(),
                ..TaskRules::default()
            },
            ..ProjectRules::default()
        };
        assert_eq!(project.for_task(&HeaderRules::default()), project.task);
        let header = HeaderRules {
            isolation: Some(Isolation::None),
            land: Some(Land::None),
            check: Some(Check::Off),
            protect: Some(Vec::new()),
            max_duration: Some(TimeLimit::parse("3h").unwrap()),
            stall: Some(TimeLimit(None)),
        };
        let rules = project.for_task(&header);
        assert_eq!((rules.isolation, rules.land), (Isolation::None, Land::None));
        assert_eq!((rules.check, rules.protect), (Check::Off, Vec::new()));
        assert_eq!(rules.max_duration, TimeLimit(Some(SignedDuration::from_hours(3))));
        assert_eq!(rules.stall, TimeLimit(None));
    }

    #[test]
    fn one_agent_in_a_checkout_and_any_number_in_worktrees_unless_it_is_said() {
        let max_others = |parallel, isolation| {
            ProjectRules { parallel, ..ProjectRules::default() }.max_others(isolation)
        };
        for (parallel, isolation, expected) in [
            (None, Isolation::None, Some(0)),
            (None, Isolation::Worktree, None),
            (Some(0), Isolation::None, None),
            (Some(1), Isolation::Worktree, Some(0)),
            (Some(3), Isolation::None, Some(2)),
        ] {
            assert_eq!(max_others(parallel, isolation), expected, "{parallel:?} {isolation:?}");
        }
    }

    #[test]
    fn a_claim_of_before_has_the_rules_of_before() {
        assert_eq!(serde_json::from_str::<TaskRules>("{}").unwrap(), TaskRules::default());
        let rules = TaskRules { check: Check::Command("make".to_owned()), ..TaskRules::default() };
        let text = serde_json::to_string(&rules).unwrap();
        assert_eq!(serde_json::from_str::<TaskRules>(&text).unwrap(), rules);
        assert_eq!(Check::parse(" None "), Check::Off);
        let rules = TaskRules { stall: TimeLimit::parse("90m").unwrap(), ..TaskRules::default() };
        let text = serde_json::to_string(&rules).unwrap();
        assert!(text.ends_with(r#""stall":"PT1H30M"}"#), "{text}");
        assert_eq!(serde_json::from_str::<TaskRules>(&text).unwrap(), rules);
    }

    #[test]
    fn a_limit_of_time_is_a_duration_or_none() {
        assert_eq!(TimeLimit::parse(" None "), Ok(TimeLimit(None)));
        let limit = |text| TimeLimit::parse(text).map(|limit| limit.0.unwrap().as_secs());
        assert_eq!(limit("1h 30m"), Ok(5400));
        assert_eq!(limit("1s"), Ok(1));
        for text in ["", "30", "-5m", "soon", "1w", "30m ago"] {
            let error = limit(text).unwrap_err();
            assert!(error.contains("is neither a duration"), "{text}: {error}");
        }
        for text in ["0s", "721h", "999999999999999h"] {
            let error = limit(text).unwrap_err();
            assert!(error.starts_with(&format!("`{text}` is")), "{text}: {error}");
        }
    }
}
