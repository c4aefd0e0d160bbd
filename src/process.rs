//! What the kernel says about processes and terminals, read from `/proc`.
//!
//! Everything here is a snapshot: it can be out of date when it is returned. What kills looks again right before it
//! acts.

mod clock;
mod ending;
mod service;
mod writers;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Pid;
use uuid::Uuid;

pub(crate) use clock::monotonic_now;
pub use ending::{Ended, EndingError, terminate, terminate_all};
pub(crate) use ending::{GRACE, terminate_marked};
pub(crate) use service::in_service;
pub(crate) use writers::{OpenFiles, Writers};

/// The environment variable that holds the run a process works for.
pub(crate) const RUN_VARIABLE: &str = "CCL_RUN";

/// The environment variable that holds the number of the process that was started for a run: the agent itself, or the
/// script that waits for it. What it starts inherits the variable and has another number.
pub(crate) const LEADER_VARIABLE: &str = "CCL_PID";

/// One line of `/proc/PID/stat`, as far as it is needed (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub pid: Pid,
    /// `R`, `S`, `D`, `T`, `Z` …
    pub state: char,
    /// None for what the kernel started.
    pub ppid: Option<Pid>,
    pub pgrp: Option<Pid>,
    /// The process group in the foreground of its controlling terminal.
    pub foreground: Option<Pid>,
    /// `PF_*` of the kernel.
    flags: u64,
}

impl Stat {
    /// Reads a line of `/proc/PID/stat`. The name in it may hold blanks and parentheses.
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered as in proc_pid_stat(5): what follows the name begins with the third field.
        let number = |nth: usize| fields.get(nth - 3)?.parse::<i32>().ok();
        Some(Self {
            pid: to_pid(pid.parse().ok()?)?,
            state: fields.first()?.chars().next()?,
            ppid: to_pid(number(4)?),
            pgrp: to_pid(number(5)?),
            foreground: to_pid(number(8)?),
            flags: fields.get(9 - 3)?.parse().ok()?,
        })
    }

    /// Whether it still runs; a process that has ended stays in `/proc` until its parent has noticed.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    fn is_kernel_thread(&self) -> bool {
        const PF_KTHREAD: u64 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }
}

/// 0 and the -1 of a terminal without a foreground are no process.
fn to_pid(raw: i32) -> Option<Pid> {
    if raw > 0 { Pid::from_raw(raw) } else { None }
}

fn proc_path(pid: Pid, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{file}", pid.as_raw_pid()))
}

/// Where this program lies. After an upgrade, which puts another file in its place, `/proc/self/exe` says
/// `ccl (deleted)`: then the path of the new file.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let replaced = program.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    Ok(match replaced {
        // Unless the program is really called that.
        Some(path) if !program.exists() => PathBuf::from(OsStr::from_bytes(path)),
        _ => program,
    })
}

/// The state of a process; none when there is no such process.
pub fn stat(pid: Pid) -> io::Result<Option<Stat>> {
    let line = unless_gone(fs::read(proc_path(pid, "stat")))?;
    Ok(line.and_then(|line| Stat::parse(&String::from_utf8_lossy(&line))))
}

/// What was read of a process; none if it has gone. Any other failure stays an error: a process that cannot be looked at
/// must not be taken for one that has ended.
fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What a process is called, cut at 15 bytes.
pub(crate) fn name(pid: Pid) -> Option<String> {
    let name = fs::read(proc_path(pid, "comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// Whether a process was started with `name=value` in its environment.
///
/// What a program changes in its own environment later, or a shell with `export`, does not show. False for a process
/// that has gone. The error is `PermissionDenied` for a process of somebody else.
pub fn environ_has(pid: Pid, name: &str, value: &str) -> io::Result<bool> {
    Ok(environ(pid)?.split(|byte| *byte == 0).any(|entry| {
        entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
            == Some(value.as_bytes())
    }))
}

/// What a process was started with; empty for one that has gone.
///
/// Between two programs, in the middle of execve(2), a process has neither environment nor arguments for a moment, which
/// can be long on a busy machine: that must not be taken for an end.
fn environ(pid: Pid) -> io::Result<Vec<u8>> {
    const BETWEEN_PROGRAMS: Duration = Duration::from_secs(5);
    let deadline = Instant::now() + BETWEEN_PROGRAMS;
    loop {
        let environ = unless_gone(fs::read(proc_path(pid, "environ")))?.unwrap_or_default();
        // A process that has ended, or a kernel thread, never has either.
        let settled = !environ.is_empty()
            || unless_gone(fs::read(proc_path(pid, "cmdline")))?.is_none_or(|it| !it.is_empty())
            || stat(pid)?.is_none_or(|process| !process.is_alive() || process.is_kernel_thread());
        if settled || Instant::now() > deadline {
            return Ok(environ);
        }
        sleep(Duration::from_millis(1));
    }
}

pub fn process_carries(pid: Pid, run: Uuid) -> io::Result<bool> {
    environ_has(pid, RUN_VARIABLE, &run.to_string())
}

/// Whether the process of a window that tmux opened for `run` lives. The error is `PermissionDenied` for a process of
/// somebody else.
///
/// tmux reports the process as soon as it has forked. Until it becomes the window's shell, it is a copy of tmux, with
/// the server's environment.
pub fn window_lives(pid: Pid, server: Option<Pid>, run: Uuid) -> io::Result<bool> {
    let Some(process) = stat(pid)?.filter(Stat::is_alive) else {
        return Ok(false);
    };
    if is_another_users(pid, server)? {
        return Ok(false);
    }
    // Looked at before its environment: what is no tmux any more has become the shell, and shows the run.
    let is_tmux = process.ppid.is_some_and(|parent| {
        Some(parent) == server && program(pid).is_some_and(|it| program(parent) == Some(it))
    });
    Ok(is_tmux || process_carries(pid, run)?)
}

/// Whether the number of a window's process belongs to another user's process by now, as after a restart of the
/// machine: that one may not be looked at, and its parent is not the tmux `server`. The window's own process may be
/// hidden as well, behind a `sudo`, but stays that server's child.
pub(crate) fn is_another_users(pid: Pid, server: Option<Pid>) -> io::Result<bool> {
    match environ(pid) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let process = stat(pid)?;
            Ok(server.is_some() && process.is_some_and(|process| process.ppid != server))
        }
        _ => Ok(false),
    }
}

/// The file of the program that a process runs, where that may be seen.
fn program(pid: Pid) -> Option<PathBuf> {
    fs::read_link(proc_path(pid, "exe")).ok()
}

/// Whether a process, named by the number that another program wrote down, was started for `run` and lives.
pub fn is_of_run(pid: i32, run: Uuid) -> bool {
    to_pid(pid).is_some_and(|pid| process_carries(pid, run).unwrap_or(false))
}

/// Whether the process group works for `run`: its leader carries the run, or a process of the group does.
///
/// The second is for an agent whose leader has ended, or that changed what it was started with.
pub fn carries_run(group: Pid, run: Uuid) -> io::Result<bool> {
    if process_carries(group, run)? {
        return Ok(true);
    }
    for process in members(group)? {
        if visibly(process_carries(process.pid, run))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A process of another user, whose environment may not be read, belongs to no run.
fn visibly(carries: io::Result<bool>) -> io::Result<bool> {
    match carries {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        other => other,
    }
}

/// The process group that was started for `run`, wherever it is: its window may be gone. What the agent put into groups
/// of their own, a server that is to stay, does not count.
pub(crate) fn group_of(run: Uuid) -> io::Result<Option<Pid>> {
    for process in processes_that(|_| true)? {
        let Some(group) = process.pgrp else { continue };
        let leader = group.as_raw_pid().to_string();
        if visibly(environ_has(process.pid, LEADER_VARIABLE, &leader))?
            && process_carries(process.pid, run)?
        {
            return Ok(Some(group));
        }
    }
    Ok(None)
}

/// The process that was started for `run`, wherever it is. Without it, others of its group are only what it left
/// behind.
pub(crate) fn leader_of(run: Uuid) -> io::Result<Option<Pid>> {
    let Some(group) = group_of(run)? else {
        return Ok(None);
    };
    let lives = stat(group)?.is_some_and(|process| process.is_alive());
    Ok(lives.then_some(group))
}

/// A process that was started with `name=value` in its environment, and lives; its children have inherited it.
pub(crate) fn started_with(name: &str, value: &str) -> io::Result<Option<Pid>> {
    for process in processes_that(|_| true)? {
        if visibly(environ_has(process.pid, name, value))? {
            return Ok(Some(process.pid));
        }
    }
    Ok(None)
}

/// Whether a process works for `run` besides its agent, the process `leader`: a command that the agent runs.
pub(crate) fn has_others(run: Uuid, leader: Option<Pid>) -> io::Result<bool> {
    for process in processes_that(|process| Some(process.pid) != leader)? {
        if visibly(process_carries(process.pid, run))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn members(group: Pid) -> io::Result<Vec<Stat>> {
    processes_that(|process| process.pgrp == Some(group))
}

/// The processes that still run and are wanted.
fn processes_that(is_wanted: impl Fn(&Stat) -> bool) -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for pid in all_processes()? {
        found.extend(stat(pid)?.filter(|process| process.is_alive() && is_wanted(process)));
    }
    Ok(found)
}

fn all_processes() -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        found.extend(pid.and_then(to_pid));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
