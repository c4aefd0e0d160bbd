//! Why a tmux call did not succeed, in sentences that say what to do.

use std::time::Duration;

use thiserror::Error;

use crate::text::escape;

/// The words of tmux on a server without sessions, whatever the target (measured on 3.3a).
pub(super) const NO_SESSIONS: &str = "no current target";

/// Why a tmux call did not succeed. `args` are the tmux command and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TmuxError {
    #[error("there is no program `{}`: install tmux or set `tmux.command`", escape(program))]
    NotInstalled { program: String },
    /// No tmux server runs on the socket. A server without sessions is not missing.
    #[error("no tmux server is running: start one with `tmux new -d`")]
    NoServer,
    /// tmux did not answer and was killed.
    #[error(
        "`tmux {}` gave no answer within {limit:?}: the tmux server hangs, look at it with `tmux ls`",
        verb(args)
    )]
    Timeout { args: Vec<String>, limit: Duration },
    /// tmux refused: what it wrote to standard error, or what kept it from running.
    #[error("`tmux {}` failed: {}", verb(args), escape(stderr))]
    Failed { args: Vec<String>, stderr: String },
    /// tmux printed what it never prints.
    #[error(
        "`tmux {}` printed a line that cannot be read: `{}`: check `tmux.command`",
        verb(args),
        escape(line)
    )]
    Unreadable { args: Vec<String>, line: String },
    /// A text that must not be given to tmux; nothing was called.
    #[error("`{}` is not given to tmux: {why}", escape(text))]
    Unfit { text: String, why: &'static str },
}

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

/// The tmux command: what follows the flags.
fn verb(args: &[String]) -> &str {
    let named = args.iter().find(|arg| !arg.starts_with('-'));
    named.or(args.first()).map_or("", String::as_str)
}
