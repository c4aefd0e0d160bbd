//! An agent of kind `command`: any program that takes a prompt and exits.

use std::path::Path;

use anyhow::Result;
use uuid::Uuid;

use crate::config::AgentConfig;
use crate::durable;
use crate::next_step::{AttemptFailure, HoldCause};

/// How a launch ended, as `NAME.run` noted it in `NAME.exit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    /// The project's directory could not be entered; nothing ran.
    NoDirectory,
    /// The agent's program was not found by the session's shell; nothing ran.
    NoProgram,
    /// The session's shell sets `CLAUDE_CONFIG_DIR` and `ccl` does not, so that
    /// it would look for Claude Code's files elsewhere; nothing ran.
    OtherConfigDir,
    /// What the new worktree needs could not be done; the agent was not started.
    SetupFailed,
}

impl Exit {
    /// The words that `NAME.run` writes.
    pub(super) const NO_DIRECTORY: &str = "no-directory";
    pub(super) const NO_PROGRAM: &str = "no-program";
    pub(super) const OTHER_CONFIG_DIR: &str = "other-config-dir";
    pub(super) const SETUP_FAILED: &str = "setup-failed";

    /// Reads `NAME.exit`, `RUN WORD`; `None` while the agent runs. What an earlier
    /// run's script wrote late is not this run's end.
    pub(crate) fn read(path: &Path, run: Uuid) -> Result<Option<Self>> {
        let Some(text) = durable::read_text(path)? else { return Ok(None) };
        Ok(text.strip_prefix(&format!("{run} ")).and_then(|word| match word.trim() {
            Self::NO_DIRECTORY => Some(Self::NoDirectory),
            Self::NO_PROGRAM => Some(Self::NoProgram),
            Self::OTHER_CONFIG_DIR => Some(Self::OtherConfigDir),
            Self::SETUP_FAILED => Some(Self::SetupFailed),
            code => code.parse().ok().map(Self::Code),
        }))
    }

    /// What it means for the task, and what a person can do; `screen` is what the agent's window shows last, `None` where
    /// that is gone. Every exit code counts, 127 too: an agent may end with that of the last command that it ran for its
    /// task.
    pub(crate) fn failure(
        self,
        agent: &AgentConfig,
        directory: &Path,
        screen: Option<&str>,
    ) -> AttemptFailure {
        let program = agent.program();
        let (is_gone, screen) = (screen.is_none(), screen.unwrap_or_default());
        match self {
            Self::Code(code) if agent.limit_exit == Some(code) => AttemptFailure::of_agent(
                HoldCause::Limit,
                format!(
                    "{program} ended with exit code {code}, which says that its limit is reached"
                ),
            ),
            Self::Code(_) if agent.limit.as_ref().is_some_and(|limit| limit.is_in(screen)) => {
                AttemptFailure::of_agent(
                    HoldCause::Limit,
                    format!("{program} says that its limit is reached: {}", last_lines(screen)),
                )
            }
            // It may have been the limit: the attempt does not count, and the agent is not held.
            Self::Code(code) if is_gone && agent.limit.is_some() => AttemptFailure {
                counts: false,
                ..AttemptFailure::of_task(format!(
                    "{program} ended with exit code {code}, and its window is gone, so nothing shows whether its limit is reached"
                ))
            },
            Self::Code(code) => {
                AttemptFailure::of_task(format!("{program} ended with exit code {code}"))
            }
            Self::NoDirectory => AttemptFailure::of_task(format!(
                "the agent's shell cannot enter {}: check that it exists, and its permissions",
                directory.display()
            )),
            Self::NoProgram => AttemptFailure::of_program(format!(
                "{program} is not on the PATH of your login shell: install it, or give its full path in agent.command"
            )),
            Self::SetupFailed => AttemptFailure::of_project(format!(
                "`setup` of its project.yaml failed in {}: {}",
                directory.display(),
                last_lines(screen)
            )),
            Self::OtherConfigDir => AttemptFailure::of_machine(
                "your login shell sets CLAUDE_CONFIG_DIR, and ccl was started without it: set it there too (with `systemctl --user edit ccl.service`, if the timer starts it)",
            ),
        }
    }
}

/// The last lines that a window shows, as one.
fn last_lines(screen: &str) -> String {
    const LINES: usize = 5;
    let lines: Vec<&str> = screen
        .lines()
        .map(str::trim)
        // tmux writes this below them, once the program has ended.
        .filter(|line| !line.is_empty() && !line.starts_with("Pane is dead"))
        .collect();
    match lines.get(lines.len().saturating_sub(LINES)..) {
        Some([]) | None => "(it printed nothing)".to_owned(),
        Some(last) => last.join(" / "),
    }
}
