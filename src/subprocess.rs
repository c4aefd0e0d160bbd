//! One call of another program: started without a shell, read and ended within a time limit.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use thiserror::Error;

/// The most that is read of standard output, and of standard error; a program that prints more is killed.
/// For scale: `tmux list-panes` of a thousand panes is 100 KB.
const MAX_OUTPUT: usize = 16 << 20;

/// A program that is to be run. [`Call::command`] takes its arguments, environment and directory.
pub(crate) struct Call {
    pub(crate) command: Command,
    /// Its name in error messages.
    program: String,
    limit: Duration,
    input: Option<File>,
}

/// Why a program has no exit status.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("there is no program `{program}`")]
    NotFound { program: String },
    #[error("`{program}` gave no answer within {} s", limit.as_secs())]
    Timeout { program: String, limit: Duration },
    #[error("`{program}` printed more than {} MiB", MAX_OUTPUT >> 20)]
    TooLong { program: String },
    #[error("cannot run `{program}`{place}: {source}")]
    Io { program: String, place: String, source: io::Error },
}

impl Call {
    /// A program in a process group of its own: at its time limit everything in the group is killed.
    pub(crate) fn new(program: impl AsRef<OsStr>, limit: Duration) -> Self {
        let mut command = Command::new(&program);
        command.process_group(0);
        Self {
            command,
            program: program.as_ref().to_string_lossy().into_owned(),
            limit,
            input: None,
        }
    }

    /// A program in a session of its own, without a terminal: an interactive shell would stop itself, or take the
    /// terminal away from the caller of `ccl`. Where there is no such program, setsid ends with status 127.
    pub(crate) fn in_own_session(program: impl AsRef<OsStr>, limit: Duration) -> Self {
        // Not in a group of its own: setsid(1) would have to fork, and what it forks would outlive the time limit.
        // In its new session the program leads its group all the same.
        let mut command = Command::new("setsid");
        command.arg(&program);
        Self {
            command,
            program: program.as_ref().to_string_lossy().into_owned(),
            limit,
            input: None,
        }
    }

    /// Gives the program this file as its standard input. Without one, its standard input is empty.
    pub(crate) fn with_input(self, input: File) -> Self {
        Self { input: Some(input), ..self }
    }

    /// Runs the program to its end. What it leaves running, with its pipes open, is not waited for.
    pub(crate) fn run(mut self) -> Result<Output, RunError> {
        let input = self.input.take().map_or_else(Stdio::null, Stdio::from);
        self.command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|error| self.error(error))?;
        collect(&mut child, Instant::now() + self.limit).map_err(|error| {
            kill(&mut child);
            self.error(error)
        })
    }

    fn error(&self, source: io::Error) -> RunError {
        let program = self.program.clone();
        let directory = self.command.get_current_dir();
        match source.kind() {
            // The same error stands for a directory that is not there.
            ErrorKind::NotFound if directory.is_none_or(Path::is_dir) => {
                RunError::NotFound { program }
            }
            ErrorKind::TimedOut => RunError::Timeout { program, limit: self.limit },
            ErrorKind::FileTooLarge => RunError::TooLong { program },
            _ => {
                let place =
                    directory.map_or_else(String::new, |it| format!(" in {}", it.display()));
                RunError::Io { program, place, source }
            }
        }
    }
}

/// Reads what a program prints until it has ended. An error of kind `TimedOut` says that the deadline came first, one of
/// kind `FileTooLarge` that it prints too much.
fn collect(child: &mut Child, deadline: Instant) -> io::Result<Output> {
    let exit = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    // Not blocking: what the program has left running may keep them open, and write nothing.
    for pipe in [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)] {
        pipe.map_or(Ok(()), |pipe| rustix::io::ioctl_fionbio(pipe, true))?;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let open = [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)];
        wait(exit.as_fd(), open, deadline)?;
        // Asked before the pipes are read: what an ended program printed is then in them, or read already.
        let status = child.try_wait()?;
        drain(&mut out, &mut stdout)?;
        drain(&mut err, &mut stderr)?;
        if let Some(status) = status {
            return Ok(Output { status, stdout, stderr });
        }
    }
}

/// Sleeps until the program has ended or a pipe has something to read.
fn wait(
    exit: BorrowedFd<'_>,
    open: [Option<BorrowedFd<'_>>; 2],
    deadline: Instant,
) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    let files = [Some(exit)].into_iter().chain(open).flatten();
    let mut files: Vec<_> = files.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    match poll(&mut files, Some(&timeout)) {
        Ok(0) => Err(ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads what is there; a pipe that has ended is closed, so that nobody waits for it again.
fn drain(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(open) = pipe else { return Ok(()) };
    // One byte more than is allowed shows that there is too much.
    let left = MAX_OUTPUT + 1 - into.len();
    let read = open.take(left as u64).read_to_end(into);
    if into.len() > MAX_OUTPUT {
        return Err(ErrorKind::FileTooLarge.into());
    }
    match read {
        Ok(_) => *pipe = None,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Ends a program that is not to go on, and everything in its process group.
fn kill(child: &mut Child) {
    // All three fail only where there is nothing left to end. The program itself leads no group before setsid(1) has
    // made its session.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str, limit: Duration) -> Call {
        let mut call = Call::new("sh", limit);
        call.command.args(["-c", script]);
        call
    }

    fn printed(call: Call) -> (Option<i32>, String, String) {
        let output = call.run().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    #[test]
    fn status_output_and_errors_are_kept_apart_and_there_is_no_input() {
        let call = shell("cat; echo out; echo why >&2; exit 3", LIMIT);
        assert_eq!(printed(call), (Some(3), "out\n".to_owned(), "why\n".to_owned()));
    }

    #[test]
    fn output_larger_than_a_pipe_blocks_nobody() {
        let (_, out, err) = printed(shell("seq 300000 | tee /dev/stderr", LIMIT));
        assert!(out == err && out.ends_with("\n300000\n"));
    }

    #[test]
    fn what_is_left_running_with_the_pipes_open_is_not_waited_for() {
        let call = shell("sleep 60 & echo $!", LIMIT);
        let (status, pid, _) = printed(call);
        assert_eq!(status, Some(0));
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    /// Whether a process has ended, its parent having noticed or not.
    fn has_ended(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }

    #[test]
    fn at_the_limit_everything_that_was_started_is_killed() {
        let limit = Duration::from_millis(300);
        let starts: [fn(&str, Duration) -> Call; 2] = [
            |program, limit| Call::new(program, limit),
            |program, limit| Call::in_own_session(program, limit),
        ];
        for start in starts {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut call = start("sh", limit);
            call.command.args(["-c", "sleep 60 & echo $! > \"$0\"; wait"]).arg(file.path());
            let started = Instant::now();
            let error = call.run().unwrap_err();
            assert!(matches!(error, RunError::Timeout { .. }), "{error}");
            assert!(started.elapsed() >= limit);
            let pid = std::fs::read_to_string(file.path()).unwrap();
            while !has_ended(pid.trim()) {
                assert!(started.elapsed() < LIMIT, "{pid} lives on");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_program_that_never_stops_printing_is_killed() {
        let error = shell("yes", LIMIT).run().unwrap_err();
        assert!(error.to_string().contains("more than 16 MiB"), "{error}");
    }

    #[test]
    fn a_missing_program_differs_from_a_missing_directory() {
        let missing = Call::new("/no/such/program", LIMIT).run().unwrap_err();
        assert!(matches!(missing, RunError::NotFound { .. }), "{missing}");
        let mut call = shell("true", LIMIT);
        call.command.current_dir("/no/such/directory");
        let error = call.run().unwrap_err();
        assert!(matches!(error, RunError::Io { .. }), "{error}");
        assert!(error.to_string().contains("/no/such/directory"), "{error}");
        // A session of one's own reports it by its exit status.
        let output = Call::in_own_session("/no/such/program", LIMIT).run().unwrap();
        assert_eq!(output.status.code(), Some(127));
    }
}
