//! Ends or starves `ccl` at any system call.

mod world;

use std::any::Any;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Sandbox;
pub use world::{Worker, World};

/// Whether tests are to disturb everything that there is, as `CCL_TEST_LONG=1` asks.
pub fn is_long() -> bool {
    std::env::var_os("CCL_TEST_LONG").is_some()
}

/// The system calls by which a pass changes a file, takes a lock or talks to tmux. `ccl` dies or
/// fails on entering one of them, so each stands for the moment after the one before. (An `openat`
/// that makes a temporary file is missing: a `write` to it follows, and nobody else looks at it.)
pub const CHANGING: &[&str] = &[
    "mkdir",
    // Of the lock files.
    "open",
    "flock",
    "write",
    "fchmod",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "clone3",
    "pidfd_open",
    "kill",
    "pidfd_send_signal",
];

/// While tmux works, which does not change anything here.
const WAITING: &[&str] = &["ppoll", "wait4"];

/// By these a file or a process can be changed as well; no pass comes to one of them.
pub const UNUSED: &[&str] = &[
    "creat",
    "mkdirat",
    "mknodat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlinkat",
    "rmdir",
    "truncate",
    "ftruncate",
    "fallocate",
    "pwrite64",
    "pwritev",
    "sendfile",
    "copy_file_range",
    "chmod",
    "fchmodat",
    "chown",
    "fchown",
    "fchownat",
    "utimensat",
    "setxattr",
    "fsetxattr",
    "fdatasync",
    "sync_file_range",
    "fork",
    "vfork",
    "connect",
    "sendto",
    "sendmsg",
    "tkill",
    "tgkill",
];

/// The calls of [`CHANGING`] and, with `CCL_TEST_LONG=1`, those at which a pass waits for tmux.
pub fn calls() -> Vec<&'static str> {
    let waiting = if is_long() { WAITING } else { &[] };
    [CHANGING, waiting].concat()
}

/// What to do at the Nth call of a system call, counted for each thread.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    pub syscall: &'a str,
    pub nth: u32,
    /// In strace's words: `signal=SIGKILL`, `error=ENOSPC`.
    pub action: &'a str,
    /// At every later call too.
    pub from_then_on: bool,
}

/// A pass in which the fault happens, if it comes to that call at all: look at [`was_killed`] for
/// killed ones, at [`was_injected`] for others. `more` are further words for strace.
pub fn pass_with(sandbox: &Sandbox, args: &[&str], fault: Fault<'_>, more: &[&str]) -> Output {
    let Fault { syscall, nth, action, from_then_on } = fault;
    let plus = if from_then_on { "+" } else { "" };
    let mut words = vec![
        format!("--inject={syscall}:{action}:when={nth}{plus}"),
        format!("--trace={syscall},renameat2"),
    ];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    strace(sandbox, args, &words)
}

/// What a pass that nothing disturbs does by these calls, a line each.
pub fn traced(sandbox: &Sandbox, args: &[&str], calls: &[&str]) -> String {
    let words = [format!("--trace={}", calls.join(",")), "--signal=none".to_owned()];
    let output = strace(sandbox, args, &words);
    assert!(output.status.success(), "{}", said(&output));
    fs::read_to_string(trace(sandbox)).expect("the trace")
}

fn strace(sandbox: &Sandbox, args: &[&str], words: &[String]) -> Output {
    let ccl = sandbox.std_ccl();
    let output = std::process::Command::new("strace")
        // Without its children: tmux is not to be killed in ccl's place.
        .args(["-f", "-b", "execve", "-qq", "-o"])
        .arg(trace(sandbox))
        .args(words)
        .arg(ccl.get_program())
        .arg("--config")
        .arg(sandbox.config_file())
        .args(args)
        .env_clear()
        .envs(ccl.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .current_dir(sandbox.path())
        .stdin(Stdio::null())
        .output()
        .expect("strace runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("strace:"), "{text}");
    output
}

fn trace(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join("trace")
}

/// Whether the last [`pass_with`] came to the call that was to fail.
pub fn was_injected(sandbox: &Sandbox) -> bool {
    fs::read_to_string(trace(sandbox)).unwrap_or_default().contains("(INJECTED)")
}

/// A process' last words.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs `script` with file systems of its own; `$1` is a directory to mount on, the rest is ccl's
/// command line.
pub fn with_own_mounts(sandbox: &Sandbox, script: &str, at: &Path) -> Output {
    let ccl = sandbox.std_ccl();
    let mut command = std::process::Command::new("unshare");
    let mapped = !rustix::process::geteuid().is_root();
    command.args(mapped.then_some("--map-root-user"));
    command.args(["--mount", "sh", "-ec", script, "sh"]).arg(at);
    command.arg(ccl.get_program()).arg("--config");
    command.arg(sandbox.config_file());
    command.env_clear();
    command.envs(ccl.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.output().expect("unshare runs")
}

/// Whether SIGKILL ended it.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// Disturbs a pass at each of its calls in turn: for each job, `disturb(world, job, nth)` with
/// `nth` = 1, … as `next(job, nth)` counts, until it answers that the pass came to no such call. Several at a
/// time, each in a world of its own. Returns how many calls were disturbed; all that went wrong is
/// shown together.
#[track_caller]
pub fn disturb_each<J: Copy + Send>(
    worker: Worker,
    jobs: Vec<J>,
    next: impl Fn(J, u32) -> u32 + Sync,
    disturb: impl Fn(&mut World, J, u32) -> bool + Sync,
) -> usize {
    const WORKERS: usize = 5;
    let lines = Mutex::new(jobs.into_iter().map(Line::new).collect::<Vec<_>>());
    let (disturbed, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        let mut world = World::of(worker);
        loop {
            let Some((number, job, nth)) = take(&mut lines.lock().expect("the lines"), &next)
            else {
                return;
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| disturb(&mut world, job, nth)));
            let line = &mut lines.lock().expect("the lines")[number];
            line.at_work -= 1;
            match outcome {
                Ok(true) => {
                    disturbed.fetch_add(1, Ordering::SeqCst);
                }
                Ok(false) => line.is_over = true,
                Err(panic) => {
                    wrong.lock().expect("the list").push(text_of(panic.as_ref()));
                    world = World::of(worker);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().expect("the list");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    disturbed.into_inner()
}

/// How far one job has come.
struct Line<J> {
    job: J,
    nth: u32,
    at_work: usize,
    is_over: bool,
}

impl<J> Line<J> {
    fn new(job: J) -> Self {
        Self { job, nth: 1, at_work: 0, is_over: false }
    }
}

/// The next call to be disturbed, of the job that the fewest work on: beyond its last call there is
/// nothing to be found.
fn take<J: Copy>(lines: &mut [Line<J>], next: impl Fn(J, u32) -> u32) -> Option<(usize, J, u32)> {
    // strace counts no further.
    let open = lines.iter_mut().enumerate().filter(|(_, line)| !line.is_over && line.nth < 1 << 16);
    let (number, line) = open.min_by_key(|(_, line)| line.at_work)?;
    let nth = line.nth;
    line.nth = next(line.job, nth);
    line.at_work += 1;
    Some((number, line.job, nth))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    match panic.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => format!("{:?}", panic.downcast_ref::<&str>()),
    }
}
