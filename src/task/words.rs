//! The words that a header may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Isolation, Land};

/// Who works on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// Claude Code (or the configured agent) in a tmux session of this machine.
    ClaudeCode,
    /// secutools' GPU workers.
    Gpu,
    /// Gemini, through secutools.
    Gemini,
    /// Claude's API, through secutools.
    ClaudeApi,
    /// The engine that `remote:` of the configuration names.
    Remote,
}

impl Provider {
    pub fn is_remote(self) -> bool {
        self != Self::ClaudeCode
    }
}

/// How urgent a task is; `Critical` sorts first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Critical,
    High,
    #[default]
    Default,
    Low,
}

/// How hard the author thinks a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Complexity {
    Low,
    Medium,
    High,
}

/// What `preferred_ai` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preference {
    /// The choice is left to `complexity_hint`.
    Auto,
    Provider(Provider),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {}", known.join(", "))]
pub struct UnknownWord {
    /// As it was written, trimmed.
    pub(super) word: String,
    pub(super) known: Vec<&'static str>,
}

/// Gives an enum its words: in headers, on the command line and in JSON they are the same. Blanks around a word and the
/// case of its letters do not matter.
macro_rules! words {
    ($($type:ident { $($variant:ident = $word:literal),+ })+) => {$(
        impl $type {
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                let word = word.trim();
                let found = Self::ALL.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(word));
                found.ok_or_else(|| UnknownWord { word: word.to_owned(), known: vec![$($word),+] })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    )+};
}

words! {
    Provider {
        ClaudeCode = "claude-code",
        Gpu = "gpu",
        Gemini = "gemini",
        ClaudeApi = "claude-api",
        Remote = "remote"
    }
    Priority { Critical = "critical", High = "high", Default = "default", Low = "low" }
    Isolation { None = "none", Worktree = "worktree" }
    Land { None = "none", Rebase = "rebase" }
    Complexity { Low = "low", Medium = "medium", High = "high" }
}

impl Preference {
    pub(crate) fn words() -> Vec<&'static str> {
        ["auto"].into_iter().chain(Provider::ALL.map(Provider::as_str)).collect()
    }
}

impl FromStr for Preference {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        if word.trim().eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        let provider = word.parse().map(Self::Provider);
        provider.map_err(|unknown: UnknownWord| UnknownWord { known: Self::words(), ..unknown })
    }
}
