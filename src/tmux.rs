//! The terminal: every call of tmux that `ccl` makes.
//!
//! tmux is started without a shell. Panes are addressed by their id (`%12`), for tmux matches names by
//! prefix; where a name is used it is `=NAME:`. Nothing that comes from a path or a file stands where tmux
//! expands formats: `#(…)` in a session's name or in `-c DIR` would be run as a command.

mod error;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Pid;
use uuid::Uuid;

pub use error::TmuxError;

use crate::config::KEY_VARIABLES;
use crate::marker::PaneId;
use crate::process::{LEADER_VARIABLE, RUN_VARIABLE};
use crate::subprocess::{Call, RunError};
use crate::text::is_session_name;

/// How long a tmux call may take before it is killed: a hanging server must not hang a pass.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// One line of `list-panes -a`. A pane whose window is linked to several sessions has a line in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pane {
    pub id: PaneId,
    /// The process that tmux started in it.
    pub pid: Pid,
    /// The name of its session.
    pub session: String,
    /// Its process has ended (`remain-on-exit`); `pid` may be another process by now.
    pub dead: bool,
    /// The run that `ccl` opened it for; none for a person's.
    pub run: Option<Uuid>,
    /// Clients attached to the session.
    pub attached: u32,
    /// When a client of the session last attached, detached or pressed a key, or else when it was created.
    ///
    /// Measured on 3.3a: output does not move `session_activity`.
    pub activity: Timestamp,
    /// The tmux server.
    pub server: Pid,
    /// The server's socket, as `tmux -S` takes it.
    pub socket: PathBuf,
}

/// The word that names the run in the command of a run's pane. If a pass is killed before it can note the pane, the
/// next one finds the pane by it. It is no option of the pane: a person's `after-new-window` hook may have split or
/// left the window before an option is set.
const RUN_WORD: &str = "ccl-run=";

/// The fields of [`Pane`]. Blanks between them, for tmux prints a tab as `_` in some locales. The socket may hold
/// blanks itself; a session's name holds no colon.
///
/// Of the command the last 45 characters: [`RUN_WORD`], the run and a quote. Characters that these do not have are
/// printed as `_`, the quote too.
const PANE_FORMAT: &str = "#{pane_id} #{pane_pid} #{pane_dead} -#{s/[^0-9a-z=-]/_/;=-45:pane_start_command} \
     #{session_attached} #{session_activity} #{pid} #{socket_path}:#{session_name}";

impl Pane {
    fn parse(line: &str) -> Option<Self> {
        let (rest, session) = line.rsplit_once(':')?;
        let mut fields = rest.splitn(8, ' ');
        let mut next = || fields.next();
        Some(Self {
            id: PaneId::parse(next()?)?,
            pid: parse_pid(next()?)?,
            dead: parse_flag(next()?)?,
            run: parse_run(next()?),
            attached: next()?.parse().ok()?,
            activity: Timestamp::from_second(next()?.parse().ok()?).ok()?,
            server: parse_pid(next()?)?,
            socket: PathBuf::from(next()?),
            session: Some(session).filter(|name| !name.is_empty())?.to_owned(),
        })
    }
}

/// The run, where the end of a pane's command names one.
fn parse_run(command: &str) -> Option<Uuid> {
    let run = command.strip_prefix('-')?.strip_prefix(RUN_WORD)?.strip_suffix('_')?;
    Uuid::try_parse(run).ok()
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
    /// The server that `command` reaches, with `CALL_LIMIT`.
    pub fn new(command: Vec<String>) -> Self {
        Self { command, limit: CALL_LIMIT }
    }

    fn call(&self, args: &[&str]) -> Result<Vec<u8>, TmuxError> {
        self.call_in(None, args)
    }

    /// Runs one tmux command and returns what it prints. A new pane starts in `cwd`: tmux expands formats in `-c`.
    fn call_in(&self, cwd: Option<&Path>, args: &[&str]) -> Result<Vec<u8>, TmuxError> {
        let failed = |stderr| TmuxError::Failed { args: owned(args), stderr };
        let Some((program, flags)) = self.command.split_first() else {
            return Err(failed("`tmux.command` is empty".to_owned()));
        };
        let mut call = Call::new(program, self.limit);
        // `-u`: without a UTF-8 locale, as under systemd, tmux would print `_` for what is not ASCII.
        call.command.args(flags).arg("-u").args(args);
        // A client that starts the server hands its environment to every pane: all of them would have the keys, and,
        // where an agent calls `ccl`, all that a person ever starts there would be part of the agent's run.
        for variable in KEY_VARIABLES.into_iter().chain([RUN_VARIABLE, LEADER_VARIABLE]) {
            call.command.env_remove(variable);
        }
        if let Some(cwd) = cwd {
            // tmux believes PWD where it names the same directory; an inherited one would not.
            call.command.current_dir(cwd).env("PWD", cwd);
        }
        let output = call.run().map_err(|error| match error {
            RunError::NotFound { program } => TmuxError::NotInstalled { program },
            RunError::Timeout { limit, .. } => TmuxError::Timeout { args: owned(args), limit },
            RunError::TooLong { .. } | RunError::Io { .. } => failed(error.to_string()),
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
            Err(TmuxError::Failed { stderr, .. }) if stderr == error::NO_SESSIONS => Vec::new(),
            other => other?,
        };
        String::from_utf8_lossy(&printed)
            .lines()
            .map(|line| Pane::parse(line).ok_or_else(|| unreadable(&args, line)))
            .collect()
    }

    /// Creates a detached session with a login shell in `cwd`.
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
    ) -> Result<(), TmuxError> {
        if !is_session_name(name) {
            return Err(unfit(name, "a session's name is made of letters, digits, `-` and `_`"));
        }
        let (width, height) = (width.to_string(), height.to_string());
        // `-N` keeps the call from starting a server.
        let mut args = vec!["-N"];
        if may_start_server {
            args.clear();
        }
        args.extend(["new-session", "-d", "-s", name, "-x", &width, "-y", &height]);
        // Where a person's configuration has `destroy-unattached` on, the session would be gone when this call ends.
        let target = format!("={name}:");
        args.extend([";", "set-option", "-t", &target, "destroy-unattached", "off"]);
        self.call_in(Some(cwd), &args).map(drop)
    }

    /// Opens a window in the session of this name, as its current one, and runs `shell` in it, which runs `script`;
    /// returns the window's pane. One call: the window stays when its process ends, and its command names the run.
    ///
    /// Measured on 3.3a: of 200 programs that ended at once, all left their screen.
    pub fn new_window(&self, window: &NewWindow<'_>) -> Result<NewPane, TmuxError> {
        let target = format!("={}:", window.session);
        let (run, script) = (window.run.to_string(), path_argument(window.script)?);
        let shell = path_argument(window.shell)?;
        let (run_env, script_env) = (format!("CCL_RUN={run}"), format!("CCL_SCRIPT={script}"));
        // It reads the same in bash, zsh, dash and fish. The script ignores its argument, which only names the run.
        let line = format!("exec sh \"$CCL_SCRIPT\" {RUN_WORD}{run}");
        let name = window_name(window.name);
        let args = [
            &["new-window", "-P", "-F", "#{pane_id} #{pane_pid} #{pid} #{socket_path}"][..],
            &["-t", &target, "-n", &name, "-e", &run_env, "-e", &script_env, "--"],
            // As a login shell it gives the agent the PATH and the environment of a terminal that the user opens.
            &[shell, "-l", "-i", "-c", &line, ";"],
            // Without a target it is the pane that was just opened, also where a person's hook has gone elsewhere since.
            &["set-option", "-p", "remain-on-exit", "on"],
        ]
        .concat();
        let printed = self.call_in(Some(window.cwd), &args)?;
        let printed = String::from_utf8_lossy(&printed);
        let line = printed.trim_end_matches('\n');
        NewPane::parse(line).ok_or_else(|| unreadable(&args, line))
    }

    /// Closes the pane, if it is there and carries the run, and with it the window, unless a person has split that.
    pub fn close_pane(&self, pane: &PaneId, run: Uuid) -> Result<(), TmuxError> {
        // The server decides, at one moment: another server may have given the id to a pane of its own.
        let is_ours = format!("#{{m:*{RUN_WORD}{run}*,#{{pane_start_command}}}}");
        let close = format!("kill-pane -t {pane}");
        match self.call(&["if-shell", "-F", "-t", pane.as_str(), &is_ours, &close]) {
            // It was the last window of the last session.
            Err(TmuxError::NoServer) => Ok(()),
            closed => closed.map(drop),
        }
    }

    /// What the pane shows, line by line, without colours and without trailing blanks.
    pub fn capture(&self, pane: &PaneId) -> Result<String, TmuxError> {
        self.capture_from(pane, "0")
    }

    /// What a pane showed when its process ended: its lines, and two lines above them, because tmux has written `Pane is
    /// dead` below and scrolled. In a pane that is alive, the two lines may be older output.
    pub fn capture_last(&self, pane: &PaneId) -> Result<String, TmuxError> {
        self.capture_from(pane, "-2")
    }

    /// What the pane shows, and `lines` lines above it as far as tmux has kept them. A line that tmux has wrapped is one
    /// line again.
    pub(crate) fn capture_history(&self, pane: &PaneId, lines: u32) -> Result<String, TmuxError> {
        let start = format!("-{lines}");
        let printed =
            self.call(&["capture-pane", "-p", "-J", "-S", &start, "-t", pane.as_str()])?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    fn capture_from(&self, pane: &PaneId, line: &str) -> Result<String, TmuxError> {
        let printed = self.call(&["capture-pane", "-p", "-S", line, "-t", pane.as_str()])?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// Whether tmux has read all that the pane's process has written before it ended, or has no such pane.
    pub fn has_read_all(&self, pane: &PaneId) -> Result<bool, TmuxError> {
        let args = ["display-message", "-p", "-t", pane.as_str(), "#{pane_dead}"];
        // Of a pane that is gone it prints an empty line, and does not fail.
        Ok(String::from_utf8_lossy(&self.call(&args)?).trim() != "0")
    }

    /// What tmux knows apart from any pane: `format` is a constant such as `#{default-shell}`, or names a variable of
    /// the server's environment, `#{PATH}`.
    ///
    /// # Errors
    /// [`TmuxError::NoServer`] where there is no server.
    pub(crate) fn display_global(&self, format: &'static str) -> Result<String, TmuxError> {
        let printed = self.call(&["display-message", "-p", format])?;
        Ok(String::from_utf8_lossy(&printed).trim_end_matches('\n').to_owned())
    }
}

/// What [`Tmux::new_window`] opens.
#[derive(Debug)]
pub struct NewWindow<'a> {
    pub session: &'a str,
    /// What the window is called: a task's name. Only letters, digits, `.`, `-` and `_` of it are used.
    pub name: &'a str,
    pub run: Uuid,
    /// Run by `sh`.
    pub script: &'a Path,
    /// A login shell, by its full path.
    pub shell: &'a Path,
    /// Where it starts.
    pub cwd: &'a Path,
}

/// A pane that was just opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPane {
    pub id: PaneId,
    pub pid: Pid,
    /// The tmux server.
    pub server: Pid,
    pub socket: PathBuf,
}

impl NewPane {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(4, ' ');
        let mut next = || fields.next();
        Some(Self {
            id: PaneId::parse(next()?)?,
            pid: parse_pid(next()?)?,
            server: parse_pid(next()?)?,
            socket: PathBuf::from(next()?),
        })
    }
}

/// tmux expands formats in a window's name: `#(…)` in it would be run as a command (measured on 3.3a).
fn window_name(text: &str) -> String {
    const LONGEST: usize = 40;
    let fit = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    text.chars().map(fit).take(LONGEST).collect()
}

/// A path as an argument. tmux takes a `;` at the end of one for the end of the command.
fn path_argument(path: &Path) -> Result<&str, TmuxError> {
    match path.to_str() {
        None => Err(unfit(&path.to_string_lossy(), "it is not UTF-8")),
        Some(text) if text.ends_with(';') => Err(unfit(text, "it ends with a semicolon")),
        Some(text) => Ok(text),
    }
}

fn unfit(text: &str, why: &'static str) -> TmuxError {
    TmuxError::Unfit { text: text.to_owned(), why }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// The words of tmux 1.8 to 3.5 for a socket without a server, or with one that ends during the call; tmux does not
/// translate them.
fn is_no_server(stderr: &str) -> bool {
    stderr.starts_with("no server running on")
        || stderr == "server exited unexpectedly"
        || stderr.starts_with("error connecting to") && stderr.contains("No such file or directory")
}

fn unreadable(args: &[&str], line: &str) -> TmuxError {
    TmuxError::Unreadable { args: owned(args), line: line.to_owned() }
}

#[cfg(test)]
mod tests;
