//! The task file: its header, its body, its ending line. Pure.

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
    /// What a task without a word about it has.
    #[default]
    Default,
    /// After everything else.
    Low,
}
