//! Ending an agent: only what carries the run is ever signalled.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open, pidfd_send_signal,
};
use thiserror::Error;
use uuid::Uuid;

use crate::text::escape;

use super::{RUN_VARIABLE, carries_run, environ_has, group_of, members, processes_that, visibly};

/// How long a process may take to end by itself after SIGTERM.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long to wait for what SIGKILL ends.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing carries the run: it had ended before. Nothing was done.
    NotThere,
    /// It ended by itself after SIGTERM.
    Terminated,
    Killed,
}

/// Why an agent could not be ended.
#[derive(Debug, Error)]
pub enum EndingError {
    #[error("cannot see what runs in the session")]
    Unseen(#[from] io::Error),
    #[error("cannot end process {process}: {error}")]
    Refused { process: i32, error: Errno },
    #[error(
        "process {process} ({}) does not end, even after SIGKILL: it hangs in the kernel, perhaps on a dead network drive",
        escape(name)
    )]
    StillThere { process: i32, name: String },
}

/// Ends the process group that works for `run`: SIGTERM, and SIGKILL after `grace`. That is the group of `leader`, the
/// process of the run's window; where that does not carry the run, the group is looked for: its window may be gone.
///
/// Only the group that carries the run is signalled, and that is checked again right before each signal. A group's
/// number is not given to others while a process is left in it.
pub fn terminate(run: Uuid, leader: Option<Pid>, grace: Duration) -> Result<Ended, EndingError> {
    let found = match leader {
        Some(group) if carries_run(group, run)? => leader,
        _ => group_of(run)?,
    };
    let Some(group) = found else {
        return Ok(Ended::NotThere);
    };
    signal(group, Signal::TERM)?;
    // A stopped process sees the signal only once it goes on.
    signal(group, Signal::CONT)?;
    if is_gone_within(group, grace)? || !carries_run(group, run)? {
        return Ok(Ended::Terminated);
    }
    signal(group, Signal::KILL)?;
    if is_gone_within(group, AFTER_KILL)? {
        return Ok(Ended::Killed);
    }
    let left = members(group)?.first().map_or(group, |member| member.pid);
    Err(still_there(left))
}

/// Ends all that carries the run, in whatever group or session: what a failed attempt has started must not go on beside
/// the next one. Measured: a tool of Claude Code 2.1.200 outlives Claude Code's own end by SIGTERM.
pub fn terminate_all(run: Uuid, leader: Option<Pid>, grace: Duration) -> Result<(), EndingError> {
    terminate(run, leader, grace)?;
    terminate_marked(RUN_VARIABLE, &run.to_string(), grace)
}

/// Ends every process that was started with `name=value` in its environment, but for this one.
pub(crate) fn terminate_marked(
    name: &str,
    value: &str,
    grace: Duration,
) -> Result<(), EndingError> {
    for (signal, limit) in [(Signal::TERM, grace), (Signal::KILL, AFTER_KILL)] {
        let deadline = Instant::now() + limit;
        let mut is_first_look = true;
        loop {
            let found = carriers(name, value)?;
            let Some((_, first)) = found.first() else { return Ok(()) };
            // What has SIGTERM may start others that tidy up. After the grace, those are ended as well.
            let to_signal = if is_first_look || signal == Signal::KILL { &found[..] } else { &[] };
            is_first_look = false;
            for (process, handle) in to_signal {
                match pidfd_send_signal(handle, signal) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(error) => {
                        return Err(EndingError::Refused { process: process.as_raw_pid(), error });
                    }
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            wait_for(first, left);
        }
    }
    match carriers(name, value)?.first() {
        None => Ok(()),
        Some((process, _)) => Err(still_there(*process)),
    }
}

fn still_there(process: Pid) -> EndingError {
    let name = super::name(process).unwrap_or_default();
    EndingError::StillThere { process: process.as_raw_pid(), name }
}

/// The processes that carry it, but for this one: an agent may have called `ccl`. Each with a handle that was opened
/// before it was looked at for the last time, so that no later process of its number is signalled.
fn carriers(name: &str, value: &str) -> io::Result<Vec<(Pid, OwnedFd)>> {
    let mut found = Vec::new();
    for process in processes_that(|process| process.pid != getpid())? {
        // Few do: a handle for each process of the machine would cost more than the look itself.
        if !visibly(environ_has(process.pid, name, value))? {
            continue;
        }
        let Ok(handle) = pidfd_open(process.pid, PidfdFlags::empty()) else { continue };
        // Once more behind the handle: the number may be another process's by now.
        if visibly(environ_has(process.pid, name, value))? {
            found.push((process.pid, handle));
        }
    }
    Ok(found)
}

fn wait_for(handle: &OwnedFd, limit: Duration) {
    if let Ok(timeout) = Timespec::try_from(limit) {
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        // An interruption only makes the next look come early.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

fn signal(group: Pid, signal: Signal) -> Result<(), EndingError> {
    match kill_process_group(group, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(EndingError::Refused { process: group.as_raw_pid(), error }),
    }
}

/// Waits until no process of the group is left.
fn is_gone_within(group: Pid, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let Some(member) = members(group)?.first().copied() else {
            return Ok(true);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // A process that is gone by now has no pidfd: the next look shows it.
        if let Ok(handle) = pidfd_open(member.pid, PidfdFlags::empty()) {
            wait_for(&handle, left);
        }
    }
}
