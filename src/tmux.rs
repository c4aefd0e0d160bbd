//! The terminal: every call of tmux that `ccl` makes.
//!
//! tmux is started without a shell. Panes are addressed by their id (`%12`), for tmux matches names by
//! prefix; where a name is used it is `=NAME:`. Nothing that comes from a path or a file stands where tmux
//! expands formats: `#(…)` in a session's name or in `-c DIR` would be run as a command.

mod error;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

pub use error::TmuxError;

use crate::config::KEY_VARIABLES;
use crate::subprocess::{Call, RunError};

/// How long a tmux call may take before it is killed: a hanging server must not hang a pass.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A pane's id, `%12`: unique for the life of its server, and never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PaneId(String);

impl TryFrom<String> for PaneId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a pane's id is a % and a number")
    }
}

impl From<PaneId> for String {
    fn from(id: PaneId) -> Self {
        id.0
    }
}

impl PaneId {
    /// Reads `%12`; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('%')?;
        let fits = (1..=10).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Self(text.to_owned()))
    }

    /// `%12`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One line of `list-panes -a`. A pane whose window is linked to several sessions has a line in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pane {
    /// The pane's id.
    pub id: PaneId,
    /// The process that tmux started in it.
    pub pid: Pid,
    /// The name of its session.
    pub session: String,
    /// Windows in the session.
    pub windows: u32,
    /// Panes in the window.
    pub panes: u32,
    /// The window is linked to further sessions.
    pub linked: bool,
    /// Its process has ended (`remain-on-exit`); `pid` may be another process by now.
    pub dead: bool,
    /// It is in copy mode or another mode, where keys do not reach the shell.
    pub in_mode: bool,
    /// Clients attached to the session.
    pub attached: u32,
    /// When a client of the session last attached, detached or pressed a key, or else when it was created.
    ///
    /// Measured on 3.3a: neither output nor `send-keys` moves `session_activity`.
    pub activity: Timestamp,
    /// The tmux server.
    pub server: Pid,
    /// Its terminal, `/dev/pts/7`.
    pub tty: PathBuf,
    /// The server's socket, as `tmux -S` takes it.
    pub socket: PathBuf,
}

/// The fields of [`Pane`]. Blanks between them, for tmux prints a tab as `_` in some locales. The last two may hold
/// blanks themselves; a session's name holds no colon.
const PANE_FORMAT: &str = "#{pane_id} #{pane_pid} #{session_windows} #{window_panes} #{window_linked} #{pane_dead} \
     #{?pane_in_mode,1,0} #{session_attached} #{session_activity} #{pid} #{pane_tty} #{socket_path}:#{session_name}";

impl Pane {
    /// The pane is the only one of its session, and its session's alone.
    pub fn is_alone(&self) -> bool {
        self.windows == 1 && self.panes == 1 && !self.linked
    }

    fn parse(line: &str) -> Option<Self> {
        let (rest, session) = line.rsplit_once(':')?;
        let mut fields = rest.splitn(12, ' ');
        let mut next = || fields.next();
        Some(Self {
            id: PaneId::parse(next()?)?,
            pid: parse_pid(next()?)?,
            windows: next()?.parse().ok()?,
            panes: next()?.parse().ok()?,
            linked: parse_flag(next()?)?,
            dead: parse_flag(next()?)?,
            in_mode: parse_flag(next()?)?,
            attached: next()?.parse().ok()?,
            activity: Timestamp::from_second(next()?.parse().ok()?).ok()?,
            server: parse_pid(next()?)?,
            tty: PathBuf::from(next()?),
            socket: PathBuf::from(next()?),
            session: Some(session).filter(|name| !name.is_empty())?.to_owned(),
        })
    }
}

fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|raw| *raw > 0).and_then(Pid::from_raw)
}

/// A tmux server, by the command that reaches it.
#[derive(Debug, Clone)]
pub struct Tmux {
    /// The program and its flags, `["tmux", "-L", "ccl"]`.
    pub command: Vec<String>,
    /// How long one call may take.
    pub limit: Duration,
}

impl Tmux {
    /// The server that `command` reaches, with [`CALL_LIMIT`].
    pub fn new(command: Vec<String>) -> Self {
        Self { command, limit: CALL_LIMIT }
    }

    fn call(&self, args: &[&str]) -> Result<Vec<u8>, TmuxError> {
        self.call_with(args, &[], None)
    }

    /// Runs one tmux command and returns what it prints.
    fn call_with(
        &self,
        args: &[&str],
        input: &[u8],
        cwd: Option<&Path>,
    ) -> Result<Vec<u8>, TmuxError> {
        let failed = |stderr| TmuxError::Failed { args: owned(args), stderr };
        let Some((program, flags)) = self.command.split_first() else {
            return Err(failed("`tmux.command` is empty".to_owned()));
        };
        let mut call = Call::new(program, self.limit).with_input(input);
        // `-u`: without a UTF-8 locale, as under systemd, tmux would print `_` for what is not ASCII.
        call.command.args(flags).arg("-u").args(args);
        // A client that starts the server hands its environment to every pane.
        for variable in KEY_VARIABLES {
            call.command.env_remove(variable);
        }
        if let Some(cwd) = cwd {
            // tmux believes PWD where it names the same directory; an inherited one would not.
            call.command.current_dir(cwd).env("PWD", cwd);
        }
        let output = call.run().map_err(|error| match error {
            RunError::NotFound { program } => TmuxError::NotInstalled { program },
            RunError::Timeout { limit, .. } => TmuxError::Timeout { args: owned(args), limit },
            RunError::Io { .. } => failed(error.to_string()),
        })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(if is_no_server(&stderr) {
            TmuxError::NoServer
        } else if stderr.is_empty() {
            failed(format!("it ended with {}", output.status))
        } else {
            failed(stderr)
        })
    }

    /// What `tmux -V` prints, `tmux 3.3a`. Needs no server; a running server may be older.
    pub fn version(&self) -> Result<String, TmuxError> {
        let printed = self.call(&["-V"])?;
        Ok(String::from_utf8_lossy(&printed).trim().to_owned())
    }

    /// Every pane of the server. A server without sessions has none.
    ///
    /// # Errors
    /// [`TmuxError::NoServer`] where there is no server; [`TmuxError::Unreadable`] for a line that is no pane's.
    pub fn list_panes(&self) -> Result<Vec<Pane>, TmuxError> {
        let args = ["list-panes", "-a", "-F", PANE_FORMAT];
        let printed = match self.call(&args) {
            // The words of tmux for `-a` on a server without sessions (measured on 3.3a).
            Err(TmuxError::Failed { stderr, .. }) if stderr == "no current target" => Vec::new(),
            other => other?,
        };
        String::from_utf8_lossy(&printed)
            .lines()
            .map(|line| Pane::parse(line).ok_or_else(|| unreadable(&args, line)))
            .collect()
    }

    /// Creates a detached session with a login shell in `cwd`, and returns its pane.
    ///
    /// A relative path in [`Tmux::command`] would be looked up from `cwd`.
    ///
    /// # Errors
    /// [`TmuxError::NoServer`] where there is none and it may not be started; [`TmuxError::Unfit`] for a name that
    /// [`is_session_name`] refuses; [`TmuxError::Failed`] where the name is taken.
    pub fn new_session(
        &self,
        name: &str,
        width: u16,
        height: u16,
        cwd: &Path,
        may_start_server: bool,
    ) -> Result<PaneId, TmuxError> {
        if !is_session_name(name) {
            return Err(unfit(name, "a session's name is made of letters, digits, `-` and `_`"));
        }
        let (width, height) = (width.to_string(), height.to_string());
        let mut args = vec!["-N"];
        if may_start_server {
            args.clear();
        }
        args.extend(["new-session", "-d", "-s", name, "-x", &width, "-y", &height]);
        args.extend(["-P", "-F", "#{pane_id}"]);
        // The directory is the call's own: tmux expands formats in `-c`.
        let printed = self.call_with(&args, &[], Some(cwd))?;
        let printed = String::from_utf8_lossy(&printed);
        PaneId::parse(printed.trim()).ok_or_else(|| unreadable(&args, &printed))
    }

    /// Leaves every mode and types `C-c`.
    pub fn interrupt(&self, pane: &PaneId) -> Result<(), TmuxError> {
        let pane = pane.as_str();
        let (leave, type_it) = (["copy-mode", "-q", "-t", pane], ["send-keys", "-t", pane, "C-c"]);
        self.call(&[&leave[..], &[";"], &type_it].concat()).map(drop)
    }

    /// Types one line and Enter, in one call.
    ///
    /// # Errors
    /// [`TmuxError::Unfit`] where the text holds a control character: a newline in it would be an Enter.
    pub fn type_line(&self, pane: &PaneId, text: &str) -> Result<(), TmuxError> {
        if text.chars().any(char::is_control) {
            return Err(unfit(text, "it holds a control character"));
        }
        let (pane, text) = (pane.as_str(), as_last_argument(text));
        let literal = ["send-keys", "-t", pane, "-l", "--", &text];
        let enter = ["send-keys", "-t", pane, "Enter"];
        self.call(&[&literal[..], &[";"], &enter].concat()).map(drop)
    }

    /// Presses Enter.
    pub fn enter(&self, pane: &PaneId) -> Result<(), TmuxError> {
        self.call(&["send-keys", "-t", pane.as_str(), "Enter"]).map(drop)
    }

    /// What the pane shows, line by line, without colours and without trailing blanks.
    pub fn capture(&self, pane: &PaneId) -> Result<String, TmuxError> {
        let printed = self.call(&["capture-pane", "-p", "-t", pane.as_str()])?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// Pastes bytes into the program in the pane, bracketed where it asked for that, line ends as they are.
    ///
    /// They go through a buffer of a name of its own, which is gone afterwards, whatever happens.
    pub fn paste(&self, pane: &PaneId, bytes: &[u8]) -> Result<(), TmuxError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let buffer = format!("ccl-{}", uuid::Uuid::new_v4());
        let load = ["load-buffer", "-b", &buffer, "-"];
        let paste = ["paste-buffer", "-p", "-r", "-d", "-b", &buffer, "-t", pane.as_str()];
        let result = self.call_with(&[&load[..], &[";"], &paste].concat(), bytes, None);
        if result.is_err() {
            // Fails where the buffer was never made; the error that counts is the first.
            let _ = self.call(&["delete-buffer", "-b", &buffer]);
        }
        result.map(drop)
    }

    /// What tmux knows apart from any pane: `format` is a constant such as `#{default-shell}`, or names a variable of
    /// the server's environment, `#{PATH}`.
    ///
    /// # Errors
    /// [`TmuxError::NoServer`] where there is no server.
    pub fn display_global(&self, format: &'static str) -> Result<String, TmuxError> {
        let printed = self.call(&["display-message", "-p", format])?;
        Ok(String::from_utf8_lossy(&printed).trim_end_matches('\n').to_owned())
    }
}

/// Whether a name can be that of a pool session: tmux reads `:` and `.` as parts of a target, runs `#(…)` in it,
/// and takes what begins with `=`, `$`, `@`, `%` or `-` for something else.
pub fn is_session_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// tmux takes a `;` at the end of an argument for the end of the command, unless a backslash stands before it.
fn as_last_argument(text: &str) -> String {
    match text.strip_suffix(';') {
        Some(rest) => format!("{rest}\\;"),
        None => text.to_owned(),
    }
}

fn unfit(text: &str, why: &'static str) -> TmuxError {
    TmuxError::Unfit { text: text.to_owned(), why }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// The words of tmux 1.8 to 3.5 for a socket without a server; tmux does not translate them.
fn is_no_server(stderr: &str) -> bool {
    stderr.starts_with("no server running on")
        || stderr.starts_with("error connecting to") && stderr.contains("No such file or directory")
}

fn unreadable(args: &[&str], line: &str) -> TmuxError {
    TmuxError::Unreadable { args: owned(args), line: line.to_owned() }
}

#[cfg(test)]
mod tests;
