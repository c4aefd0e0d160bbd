//! Whether a shell waits for input in a pane.
//!
//! Measured with bash 5.2, zsh 5.9, fish 3.6 and dash 0.5 on Linux 6.18:
//!
//! - bash, zsh and fish switch the terminal's line mode *and* echo off while they edit a line. bash and zsh switch them
//!   on again before they run anything, start-up files included; fish leaves them off while it draws its prompt, and
//!   `read -n1` and `read -k1` leave the echo on.
//! - dash never does. A start-up file stays open while dash reads it; at its prompt only terminals are open.
//! - A shell that reads sleeps in the terminal's read (`wait_woken` in `/proc/PID/wchan`: dash, zsh) or in a poll
//!   (`poll_schedule_timeout`: bash, fish); one that waits for a command sleeps in `do_wait`, `anon_pipe_read` or,
//!   fish, in a futex.
//! - All four ignore SIGTSTP when interactive, and only then.
//!
//! What cannot be told apart: a `read` that a person typed into dash, fish's own `read` (it is its line editor), and a
//! program that calls itself `bash`, ignores SIGTSTP and reads the terminal without echo.

use std::fmt;
use std::fs;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::text::escape;

use super::terminal::{Input, input_of};
use super::{foreground, proc_path, stat};

/// How often a shell is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// How long a shell must have been asleep at the same spot to count as settled.
const SETTLED_AFTER: Duration = Duration::from_millis(12);

/// A shell that waited for input in the foreground of its pane when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyShell {
    /// The pane's first process.
    pub pane: Pid,
    /// The shell: that process or a child of it.
    pub pid: Pid,
    starttime: u64,
    /// How often it has gone to sleep: this grows with everything it takes.
    sleeps: u64,
}

/// Why nothing may be typed into a pane, as words that follow "the session is busy: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// The reason.
    pub reason: String,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for NotReady {}

fn not_ready<T>(reason: impl Into<String>) -> Result<T, NotReady> {
    Err(NotReady { reason: reason.into() })
}

/// How a shell reads its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Editor {
    /// Always with an editor of its own.
    Own,
    /// Always in the kernel's line mode.
    Kernel,
    /// Either, as it was built or configured.
    Either,
}

/// The shell that a program's file name stands for: `zsh`, also as `zsh5`, `bash-5.2` or `dash (deleted)`.
fn shell_of(exe: &str) -> Option<Editor> {
    let name = exe.split(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | ' ')).next()?;
    match name {
        "bash" | "zsh" | "fish" => Some(Editor::Own),
        "sh" | "dash" => Some(Editor::Kernel),
        "ash" | "ksh" | "mksh" => Some(Editor::Either),
        _ => None,
    }
}

/// Whether a shell that was started with these arguments reads its commands from the terminal: no script, no `-c`.
fn reads_commands_from_terminal(argv: &[&str]) -> bool {
    let mut args = argv.iter().skip(1);
    while let Some(arg) = args.next() {
        match *arg {
            "-" | "--" => return args.next().is_none(),
            "--rcfile" | "--init-file" | "--init-command" => {
                args.next();
            }
            "--command" => return false,
            long if long.starts_with("--") => {
                if long.starts_with("--command=") {
                    return false;
                }
            }
            short if short.starts_with(['-', '+']) => {
                if short.contains('c') {
                    return false;
                }
                // After `-s` the rest are the positional parameters of a shell that reads standard input.
                if short.starts_with('-') && short.contains('s') {
                    return true;
                }
                if short.ends_with(['o', 'O', 'C']) {
                    args.next();
                }
            }
            _ => return false,
        }
    }
    true
}

/// What `/proc/PID/status` tells about a process that sleeps or does not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    pending: bool,
    ignores_stop: bool,
    sleeps: u64,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let signals = |name: &str| u64::from_str_radix(value(name)?, 16).ok();
        Some(Self {
            pending: signals("SigPnd")? | signals("ShdPnd")? != 0,
            ignores_stop: signals("SigIgn")? >> (Signal::TSTP.as_raw() - 1) & 1 == 1,
            sleeps: value("voluntary_ctxt_switches")?.parse().ok()?,
        })
    }
}

/// Whether a shell waits for input in the pane whose first process is `pane`.
///
/// # Errors
/// The reason why it does not, or why that cannot be told; a person reads it in `ccl status`.
pub fn is_waiting_shell(pane: Pid) -> Result<ReadyShell, NotReady> {
    let look = || -> io::Result<_> {
        let front = foreground(pane)?.map(stat).transpose()?.flatten();
        Ok(front.zip(stat(pane)?))
    };
    let (leader, own) = match look() {
        Ok(Some(both)) => both,
        Ok(None) => return not_ready("nothing is in the foreground of its terminal"),
        Err(error) => return not_ready(format!("cannot see what is in its foreground: {error}")),
    };
    let exe = exe_name(leader.pid);
    let name = exe.clone().unwrap_or_else(|| own_name(leader.pid));
    let shown = format!("`{}` (process {})", escape(&name), leader.pid.as_raw_pid());
    // Of what another user runs, `sudo -s` for one, the program is not known: that is no shell of ours.
    let Some(editor) = exe.as_deref().and_then(shell_of) else {
        return not_ready(format!("{shown} is in the foreground"));
    };
    if leader.pid != own.pid && leader.ppid != Some(own.pid) {
        return not_ready(format!(
            "{shown} in the foreground was not started by the pane's own shell"
        ));
    }
    if !has_terminal_arguments(leader.pid) {
        return not_ready(format!("{shown} runs a script or a command"));
    }
    let status = fs::read(proc_path(leader.pid, "status")).ok();
    let Some(status) = status.and_then(|text| Status::parse(&String::from_utf8_lossy(&text)))
    else {
        return not_ready(format!("{shown} has just ended"));
    };
    if !status.ignores_stop {
        return not_ready(format!("{shown} is not interactive, or still starting"));
    }
    let Some(input) = input_of(&leader) else {
        return not_ready(format!("{shown} does not read from the pane's terminal"));
    };
    if leader.state != 'S' || status.pending || input.unread > 0 {
        return not_ready(format!("{shown} is at work"));
    }
    if let Some(doing) = other_than_reading(leader.pid, editor, input) {
        return not_ready(format!("{shown} {doing}"));
    }
    Ok(ReadyShell { pane, pid: leader.pid, starttime: leader.starttime, sleeps: status.sleeps })
}

/// What a sleeping interactive shell does instead of waiting for a command.
fn other_than_reading(shell: Pid, editor: Editor, input: Input) -> Option<&'static str> {
    const BUSY: &str = "runs a command or its start-up files";
    let Ok(waits_in) = fs::read_to_string(proc_path(shell, "wchan")) else {
        return Some("cannot be judged: this kernel has no /proc/PID/wchan");
    };
    let reads = ["wait_woken", "tty_read"].contains(&waits_in.as_str());
    let polls = ["poll", "select"].iter().any(|word| waits_in.contains(word));
    if editor != Editor::Kernel && !input.line_mode && !input.echo {
        return (!reads && !polls).then_some(BUSY);
    }
    if editor == Editor::Own {
        return Some(BUSY);
    }
    if !input.line_mode {
        return Some("has a terminal that another program left in raw mode: run `stty sane` there");
    }
    (!reads || has_file_open(shell)).then_some(BUSY)
}

/// Whether a process has a regular file open, as a shell does that reads a script.
fn has_file_open(pid: Pid) -> bool {
    let Ok(entries) = fs::read_dir(proc_path(pid, "fd")) else {
        return true;
    };
    entries.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file()))
}

/// The file name of a process' program; none where that may not be known.
fn exe_name(pid: Pid) -> Option<String> {
    let exe = fs::read_link(proc_path(pid, "exe")).ok()?;
    Some(exe.file_name()?.to_string_lossy().into_owned())
}

/// What a process calls itself, for messages alone: it may say anything.
fn own_name(pid: Pid) -> String {
    let name = fs::read(proc_path(pid, "comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

fn has_terminal_arguments(pid: Pid) -> bool {
    let cmdline = fs::read(proc_path(pid, "cmdline")).unwrap_or_default();
    let cmdline = String::from_utf8_lossy(&cmdline);
    let argv: Vec<&str> = cmdline.trim_end_matches('\0').split('\0').collect();
    reads_commands_from_terminal(&argv)
}

/// Whether the foreground process of a pane is a shell that relies on the terminal's line mode.
pub(super) fn needs_line_mode(pane: Pid) -> bool {
    let leader = foreground(pane).ok().flatten();
    let shell = leader.and_then(|leader| shell_of(&exe_name(leader)?));
    shell.is_some_and(|editor| editor != Editor::Own)
}

impl ReadyShell {
    /// Waits until this shell has taken the `C-c` that was typed after it was looked at, and reads again.
    ///
    /// What is typed before that loses its first characters. The shell must have been awake since then, must be the
    /// same process, ready, and stay asleep for a moment.
    ///
    /// # Errors
    /// The last reason why not, when `limit` is over.
    pub fn wait_until_reading(&self, limit: Duration) -> Result<Self, NotReady> {
        wait_for(self.pane, limit, |now| {
            if (now.pid, now.starttime) != (self.pid, self.starttime) {
                return Err("another shell came to the foreground");
            }
            if now.sleeps == self.sleeps {
                return Err("the shell does not answer to C-c");
            }
            Ok(())
        })
    }
}

/// Waits until a shell waits for input in a pane, and stays so for a moment: after a session was created, or an agent
/// has ended.
///
/// # Errors
/// The last reason why not, when `limit` is over.
pub fn wait_until_ready(pane: Pid, limit: Duration) -> Result<ReadyShell, NotReady> {
    wait_for(pane, limit, |_| Ok(()))
}

fn wait_for(
    pane: Pid,
    limit: Duration,
    accept: impl Fn(&ReadyShell) -> Result<(), &'static str>,
) -> Result<ReadyShell, NotReady> {
    let deadline = Instant::now() + limit;
    let mut asleep: Option<(ReadyShell, Instant)> = None;
    loop {
        let looked = is_waiting_shell(pane).and_then(|shell| match accept(&shell) {
            Ok(()) => Ok(shell),
            Err(reason) => not_ready(reason),
        });
        let now = Instant::now();
        let reason = match looked {
            Ok(shell) => {
                let since =
                    asleep.filter(|(before, _)| *before == shell).map_or(now, |(_, since)| since);
                if now.duration_since(since) >= SETTLED_AFTER {
                    return Ok(shell);
                }
                asleep = Some((shell, since));
                "the shell does not settle".to_owned()
            }
            Err(NotReady { reason }) => {
                asleep = None;
                reason
            }
        };
        if now >= deadline {
            return not_ready(format!("{reason}, after {limit:?}"));
        }
        sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests;
