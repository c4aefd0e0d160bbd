//! Why a tmux call did not succeed, in sentences that say what to do.

use std::fmt;
use std::time::Duration;

use crate::text::escape;

/// Why a tmux call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TmuxError {
    /// There is no such program.
    NotInstalled {
        /// The program of `tmux.command`.
        program: String,
    },
    /// No tmux server runs on the socket. A server without sessions is not missing.
    NoServer,
    /// tmux did not answer and was killed.
    Timeout {
        /// The tmux command and its arguments.
        args: Vec<String>,
        /// How long it was given.
        limit: Duration,
    },
    /// tmux said no.
    Failed {
        /// The tmux command and its arguments.
        args: Vec<String>,
        /// What it wrote to standard error, or what kept it from running.
        stderr: String,
    },
    /// tmux printed what it never prints.
    Unreadable {
        /// The tmux command and its arguments.
        args: Vec<String>,
        /// The line that could not be read.
        line: String,
    },
    /// A text that must not be given to tmux; nothing was called.
    Unfit {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The words of tmux on a server without sessions, whatever the target (measured on 3.3a).
pub(super) const NO_SESSIONS: &str = "no current target";

impl TmuxError {
    /// Whether a session was not made because there is one of its name.
    pub fn is_name_taken(&self) -> bool {
        matches!(self, Self::Failed { stderr, .. } if stderr.contains("duplicate session"))
    }

    /// Whether there is no session of the name that was given.
    pub fn is_no_session(&self) -> bool {
        self.is_no_target("can't find session")
    }

    /// Whether there is no pane of the id that was given.
    pub fn is_no_pane(&self) -> bool {
        self.is_no_target("can't find pane")
    }

    /// The last pane may have taken the server's last session with it, which lives on by `exit-empty off`.
    fn is_no_target(&self, words: &str) -> bool {
        matches!(self, Self::Failed { stderr, .. } if stderr.contains(words) || stderr == NO_SESSIONS)
    }
}

impl fmt::Display for TmuxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled { program } => write!(
                f,
                "there is no program `{}`: install tmux or set `tmux.command`",
                escape(program)
            ),
            Self::NoServer => {
                write!(f, "no tmux server is running: start one with `tmux new -d`")
            }
            Self::Timeout { args, limit } => write!(
                f,
                "`tmux {}` gave no answer within {limit:?}: the tmux server hangs, look at it with `tmux ls`",
                verb(args)
            ),
            Self::Failed { args, stderr } => {
                write!(f, "`tmux {}` failed: {}", verb(args), escape(stderr))
            }
            Self::Unreadable { args, line } => write!(
                f,
                "`tmux {}` printed a line that cannot be read: `{}`: check `tmux.command`",
                verb(args),
                escape(line)
            ),
            Self::Unfit { text, why } => {
                write!(f, "`{}` is not given to tmux: {why}", escape(text))
            }
        }
    }
}

impl std::error::Error for TmuxError {}

/// The tmux command: what follows the flags.
fn verb(args: &[String]) -> &str {
    let named = args.iter().find(|arg| !arg.starts_with('-'));
    named.or(args.first()).map_or("", String::as_str)
}
