//! One call of the tmux program: started without a shell, fed, read and ended within a time limit.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::TmuxError;
use crate::config::KEY_VARIABLES;

/// More output than this is nonsense: `list-panes` of a thousand panes is 100 KB.
const MOST_OUTPUT: usize = 16 << 20;

/// What a tmux call is given.
pub(super) struct Call<'a> {
    /// The program and the flags in front of the tmux command: `["tmux", "-L", "ccl"]`.
    pub(super) command: &'a [String],
    /// The tmux command and its arguments. They reach tmux as they stand.
    pub(super) args: &'a [&'a str],
    /// Standard input.
    pub(super) input: &'a [u8],
    /// The directory to call it in.
    pub(super) cwd: Option<&'a Path>,
    /// After this time the call is killed.
    pub(super) limit: Duration,
}

struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Call<'_> {
    /// Runs the call and returns what it wrote to standard output.
    pub(super) fn run(&self) -> Result<Vec<u8>, TmuxError> {
        let mut child = self.spawn()?;
        let ended = match exchange(&mut child, self.input, Instant::now() + self.limit) {
            Ok(ended) => ended,
            Err(error) => {
                end(&mut child);
                return Err(match error.kind() {
                    ErrorKind::TimedOut => {
                        TmuxError::Timeout { args: self.shown(), limit: self.limit }
                    }
                    _ => self.failed(format!("cannot talk to it: {error}")),
                });
            }
        };
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        let stderr = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        if is_no_server(&stderr) {
            return Err(TmuxError::NoServer);
        }
        Err(self.failed(if stderr.is_empty() {
            format!("it ended with {}", ended.status)
        } else {
            stderr
        }))
    }

    fn spawn(&self) -> Result<Child, TmuxError> {
        let (program, flags) = self
            .command
            .split_first()
            .ok_or_else(|| self.failed("`tmux.command` is empty".to_owned()))?;
        let mut command = Command::new(program);
        // `-u`: without a UTF-8 locale, as under systemd, tmux would print `_` for what is not ASCII.
        command.args(flags).arg("-u").args(self.args);
        // A client that starts the server hands its environment to every pane.
        for variable in KEY_VARIABLES {
            command.env_remove(variable);
        }
        if let Some(cwd) = self.cwd {
            // tmux believes PWD where it names the same directory; an inherited one would not.
            command.current_dir(cwd).env("PWD", cwd);
        }
        command
            .stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what a wrapper script started can be ended with it.
            .process_group(0);
        command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound if self.cwd.is_none_or(Path::is_dir) => {
                TmuxError::NotInstalled { program: program.clone() }
            }
            _ => self.failed(match self.cwd {
                Some(cwd) => format!("cannot start it in {}: {error}", cwd.display()),
                None => format!("cannot start it: {error}"),
            }),
        })
    }

    fn shown(&self) -> Vec<String> {
        self.args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    fn failed(&self, stderr: String) -> TmuxError {
        TmuxError::Failed { args: self.shown(), stderr }
    }
}

/// The words of tmux 1.8 to 3.5 for a socket without a server; tmux does not translate them.
fn is_no_server(stderr: &str) -> bool {
    stderr.starts_with("no server running on")
        || stderr.starts_with("error connecting to") && stderr.contains("No such file or directory")
}

/// Feeds and reads a child until it has exited. What outlives it and holds its pipes is not waited for.
///
/// An error of kind `TimedOut` says that the deadline came first.
fn exchange(child: &mut Child, mut input: &[u8], deadline: Instant) -> io::Result<Ended> {
    let exit = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let (mut stdin, mut stdout, mut stderr) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    for fd in [
        stdin.as_ref().map(AsFd::as_fd),
        stdout.as_ref().map(AsFd::as_fd),
        stderr.as_ref().map(AsFd::as_fd),
    ]
    .into_iter()
    .flatten()
    {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    let (mut printed, mut said) = (Vec::new(), Vec::new());
    loop {
        let reading = [
            Some(exit.as_fd()),
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ];
        wait(&reading, stdin.as_ref().map(AsFd::as_fd), deadline)?;
        let status = child.try_wait()?;
        feed(&mut stdin, &mut input)?;
        take(&mut stdout, &mut printed)?;
        take(&mut stderr, &mut said)?;
        if let Some(status) = status {
            return Ok(Ended { status, stdout: printed, stderr: said });
        }
    }
}

/// Sleeps until one of the files is ready or the deadline has come.
fn wait(
    reading: &[Option<BorrowedFd<'_>>],
    writing: Option<BorrowedFd<'_>>,
    deadline: Instant,
) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut fds: Vec<PollFd<'_>> = reading
        .iter()
        .flatten()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .chain(writing.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)))
        .collect();
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes as much as goes; closes the pipe at the end or when the reader has gone.
fn feed(pipe: &mut Option<impl Write>, input: &mut &[u8]) -> io::Result<()> {
    let Some(open) = pipe else { return Ok(()) };
    match open.write(input) {
        Ok(written) => *input = &input[written..],
        Err(error) if error.kind() == ErrorKind::BrokenPipe => *input = &[],
        Err(error) if is_later(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    if input.is_empty() {
        *pipe = None;
    }
    Ok(())
}

/// Reads what is there; closes the pipe at its end.
fn take(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(open) = pipe else { return Ok(()) };
    match open.take(MOST_OUTPUT as u64).read_to_end(into) {
        Ok(_) if into.len() < MOST_OUTPUT => *pipe = None,
        Err(error) if is_later(&error) && into.len() < MOST_OUTPUT => {}
        Err(error) if !is_later(&error) => return Err(error),
        _ => return Err(io::Error::other("it printed more than 16 MiB")),
    }
    Ok(())
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Ends a child that is not to go on, and everything in its process group.
fn end(child: &mut Child) {
    // Both fail only if the child has already been waited for.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}
