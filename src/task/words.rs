//! The words a header may use, and what they mean.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
}

impl Provider {
    pub const ALL: [Self; 4] = [Self::ClaudeCode, Self::Gpu, Self::Gemini, Self::ClaudeApi];

    /// The word for it in headers, on the command line and in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Gpu => "gpu",
            Self::Gemini => "gemini",
            Self::ClaudeApi => "claude-api",
        }
    }

    /// Whether a task given to it leaves this machine.
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
    /// Before everything else, and on the stronger model.
    Critical,
    /// Before the default.
    High,
    #[default]
    Default,
    Low,
}

impl Priority {
    /// The most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Default, Self::Low];

    /// The word for it in headers and in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Default => "default",
            Self::Low => "low",
        }
    }
}

/// How hard the author thinks a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Complexity {
    Low,
    Medium,
    High,
}

impl Complexity {
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What `preferred_ai` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preference {
    /// `preferred_ai: auto`: choose by `complexity_hint`.
    Auto,
    Provider(Provider),
}

impl Preference {
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Provider(Provider::ClaudeCode),
        Self::Provider(Provider::Gpu),
        Self::Provider(Provider::Gemini),
        Self::Provider(Provider::ClaudeApi),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Provider(provider) => provider.as_str(),
        }
    }
}

/// A word that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {}", known.join(", "))]
pub struct UnknownWord {
    /// As it was written, trimmed.
    pub(super) word: String,
    /// The words that are understood.
    pub(super) known: Vec<&'static str>,
}

/// Finds a word: blanks around it and the case of its letters do not matter.
fn pick<T: Copy>(word: &str, all: &[T], as_str: fn(T) -> &'static str) -> Result<T, UnknownWord> {
    let word = word.trim();
    let found = all.iter().copied().find(|&one| as_str(one).eq_ignore_ascii_case(word));
    found.ok_or_else(|| UnknownWord {
        word: word.to_owned(),
        known: all.iter().copied().map(as_str).collect(),
    })
}

/// Reading and printing are the same for all of these.
macro_rules! word {
    ($($type:ty),*) => {$(
        impl FromStr for $type {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                pick(word, &Self::ALL, Self::as_str)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    )*};
}
word!(Provider, Priority, Complexity, Preference);
