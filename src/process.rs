//! What the kernel says about processes and terminals, read from `/proc`.
//!
//! Everything here is a snapshot: it can be out of date when it is returned. What types or kills looks again
//! right before it acts.

mod ending;
mod service;
mod shell;
mod terminal;
mod writers;

use std::fs;
use std::path::PathBuf;

use rustix::process::Pid;
use uuid::Uuid;

pub use ending::{Ended, EndingError, terminate};
pub use service::{in_service, unit_of_cgroup};
pub use shell::{NotReady, ReadyShell, is_waiting_shell, wait_until_ready};
pub use terminal::reset_terminal;
pub use writers::{is_open_for_writing, open_for_writing};

/// The environment variable that holds the run a process works for.
pub const RUN_VARIABLE: &str = "CCL_RUN";

/// The environment variable that holds the number of the process that was started for a run: the agent itself, or the
/// script that waits for it. What it starts inherits the variable and has another number.
pub const LEADER_VARIABLE: &str = "CCL_PID";

/// One line of `/proc/PID/stat`, as far as it is needed (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: Pid,
    /// `R`, `S`, `D`, `T`, `Z` …
    pub state: char,
    /// Its parent; none for what the kernel started.
    pub ppid: Option<Pid>,
    /// Its process group.
    pub pgrp: Option<Pid>,
    /// The device number of its controlling terminal, 0 without one.
    pub tty_nr: u64,
    /// The process group in the foreground of that terminal.
    pub foreground: Option<Pid>,
    /// When it started, in clock ticks since boot: tells it from a later process of the same number.
    pub starttime: u64,
}

impl Stat {
    /// Reads a line of `/proc/PID/stat`. The name in it may hold blanks and parentheses.
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |nth: usize| fields.get(nth - 3)?.parse::<i32>().ok();
        Some(Self {
            pid: to_pid(pid.parse().ok()?)?,
            state: fields.first()?.chars().next()?,
            ppid: to_pid(number(4)?),
            pgrp: to_pid(number(5)?),
            tty_nr: u64::from(number(7)?.cast_unsigned()),
            foreground: to_pid(number(8)?),
            starttime: fields.get(22 - 3)?.parse().ok()?,
        })
    }

    /// Whether it still runs; a process that has ended stays in `/proc` until its parent has noticed.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// 0 and the -1 of a terminal without a foreground are no process.
fn to_pid(raw: i32) -> Option<Pid> {
    if raw > 0 { Pid::from_raw(raw) } else { None }
}

/// `/proc/PID/FILE`
fn proc_path(pid: Pid, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{file}", pid.as_raw_pid()))
}

/// The state of a process; none when there is no such process.
pub fn stat(pid: Pid) -> Option<Stat> {
    let line = fs::read(proc_path(pid, "stat")).ok()?;
    Stat::parse(&String::from_utf8_lossy(&line))
}

/// The leader of the process group in the foreground of the terminal of `pane`, a pane's first process.
///
/// The leader may have ended while others of its group (a pipeline's) still run.
pub fn foreground(pane: Pid) -> Option<Pid> {
    stat(pane)?.foreground
}

/// Whether a process was started with `name=value` in its environment.
///
/// What a program changes in its own environment later, or a shell with `export`, does not show. False as well for
/// a process that has gone or belongs to somebody else.
pub fn environ_has(pid: Pid, name: &str, value: &str) -> bool {
    let Ok(environ) = fs::read(proc_path(pid, "environ")) else {
        return false;
    };
    environ.split(|byte| *byte == 0).any(|entry| {
        entry
            .strip_prefix(name.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
            == Some(value.as_bytes())
    })
}

/// Whether a process was started for `run`.
pub fn process_carries(pid: Pid, run: Uuid) -> bool {
    environ_has(pid, RUN_VARIABLE, &run.to_string())
}

/// Whether a process, named by the number that another program wrote down, was started for `run` and lives.
pub fn is_of_run(pid: i32, run: Uuid) -> bool {
    to_pid(pid).is_some_and(|pid| process_carries(pid, run))
}

/// Whether the process group works for `run`: its leader carries the run, or a process of the group does.
///
/// The second is for an agent of kind `command`: there the leader is the `sh` that set the variable itself,
/// and only its children carry it.
pub fn carries_run(group: Pid, run: Uuid) -> bool {
    process_carries(group, run)
        || members(group)
            .iter()
            .any(|member| process_carries(member.pid, run))
}

/// Whether what works for `run` is in the foreground of the terminal of `pane`.
pub fn runs_in_front(pane: Pid, run: Uuid) -> bool {
    foreground(pane).is_some_and(|group| carries_run(group, run))
}

/// The process group that was started for `run`, wherever it is: stopped, in the background of its pane, or left
/// without a terminal. What the agent put into groups of their own, a server that is to stay, does not count.
pub fn group_of(run: Uuid) -> Option<Pid> {
    all_processes().find_map(|pid| {
        let group = stat(pid).filter(Stat::is_alive)?.pgrp?;
        let leads = environ_has(pid, LEADER_VARIABLE, &group.as_raw_pid().to_string());
        (leads && process_carries(pid, run)).then_some(group)
    })
}

/// The process that was started for `run`, wherever it is. Without it, others of its group are only what it left
/// behind.
pub fn leader_of(run: Uuid) -> Option<Pid> {
    group_of(run).filter(|leader| stat(*leader).is_some_and(|process| process.is_alive()))
}

/// The processes of a process group that still run.
fn members(group: Pid) -> Vec<Stat> {
    all_processes()
        .filter_map(stat)
        .filter(|process| process.pgrp == Some(group) && process.is_alive())
        .collect()
}

/// Every process that `/proc` shows.
fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(to_pid))
}

#[cfg(test)]
mod tests;
