//! A small pool that can be ended or starved at any system call, and the question that is asked
//! after each step: where is the task, and how often did it run?

use std::any::Any;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;

use super::{Project, Sandbox, TmuxServer, wait};

/// The system calls by which a pass changes a file, takes a lock or starts tmux. `ccl` dies or
/// fails on entering one of them, so each stands for the moment after the one before.
pub const CHANGING: &[&str] = &[
    "mkdir",
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

/// One session, `k-0`, and one project; the agent is a shell script that notes each run.
pub struct World {
    pub sandbox: Sandbox,
    pub tmux: TmuxServer,
    pub project: Project,
    /// In passes with a fault, as on a file system without `RENAME_NOREPLACE`.
    pub lacks_renameat2: bool,
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

impl World {
    /// A pool whose agent's runs can be counted.
    pub fn new() -> Self {
        let mut sandbox = Sandbox::new();
        let tmux = sandbox.tmux();
        let project = sandbox.project("web");
        let world = sandbox.path().display();
        let agent = sandbox.path().join("agent.sh");
        // A task whose text says `hold` works until `go` is there; one that says `fail once` does.
        let script = format!(
            "name=${{1%% *}}\n\
             case $1 in *'without its session'*) trap '' HUP;; esac\n\
             echo \"$name\" >> {world}/runs\n\
             case $1 in *hold*) until [ -e {world}/go ]; do sleep 0.02; done;; esac\n\
             case $1 in *'fail once'*) [ \"$(grep -cx \"$name\" {world}/runs)\" -gt 1 ];; esac\n"
        );
        fs::write(&agent, script).expect("the agent");
        sandbox.config(
            "agent",
            json!({"kind": "command", "command": ["sh", agent]}),
        );
        sandbox.config(
            "dispatcher",
            json!({"message": "{task} {body}", "cooldown": "0s", "prompt_timeout": "10s"}),
        );
        sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": 1}}));
        tmux.new_session("k-0", &[]);
        Self {
            sandbox,
            tmux,
            project,
            lacks_renameat2: false,
        }
    }

    /// Lets agents that hold a task end, or not.
    pub fn go(&self, now: bool) {
        let path = self.sandbox.path().join("go");
        if now {
            fs::write(path, "").expect("go");
        } else {
            let _ = fs::remove_file(path);
        }
    }

    /// How often the agent has begun the task.
    pub fn runs(&self, task: &str) -> usize {
        let log = fs::read_to_string(self.sandbox.path().join("runs")).unwrap_or_default();
        log.lines().filter(|line| *line == task).count()
    }

    /// A pass that nothing disturbs.
    #[track_caller]
    pub fn pass(&self, args: &[&str]) -> Output {
        let output = self.sandbox.ccl(args).output().expect("ccl runs");
        assert!(output.status.success(), "ccl {args:?}: {}", said(&output));
        output
    }

    /// [`pass_with`] in this sandbox.
    pub fn pass_with(&self, args: &[&str], fault: Fault<'_>) -> Output {
        let lacking = ["--inject=renameat2:error=EINVAL"];
        let more = if self.lacks_renameat2 {
            &lacking[..]
        } else {
            &[]
        };
        pass_with(&self.sandbox, args, fault, more)
    }

    /// [`was_injected`] in this sandbox.
    pub fn was_injected(&self) -> bool {
        was_injected(&self.sandbox)
    }

    /// The task is in one place, no more and no less; two names of one file are one.
    #[track_caller]
    pub fn assert_once(&self, task: &str, when: &str) {
        let mut places = self.project.task_places(task);
        let inode = |place: &String| {
            let path = self.project.root().join(".agent-queue").join(place);
            fs::symlink_metadata(path).map_or(0, |metadata| metadata.ino())
        };
        places.dedup_by_key(|place| inode(place));
        assert_eq!(
            places.len(),
            1,
            "{task} {when}: {places:?}\n{}",
            self.shown()
        );
    }

    /// Makes ordinary passes until the task is done and the session free.
    #[track_caller]
    pub fn converge(&self, task: &str, when: &str) {
        let deadline = Instant::now() + wait::PATIENCE;
        for verb in ["scan", "reap"].iter().cycle() {
            let output = self.pass(&[verb]);
            self.assert_once(task, when);
            if self.project.task_places(task) == [format!("done/{task}")]
                && self.left_in_inbox().is_empty()
                && !self.sandbox.session_file("k-0", "dispatched").exists()
            {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{task} {when} does not get done: {}\n{}",
                said(&output),
                self.shown()
            );
        }
    }

    /// What lies in the inbox, but for temporary files: a killed pass leaves them for a day.
    pub fn left_in_inbox(&self) -> Vec<String> {
        let mut names = self.project.inbox();
        names.retain(|name| !name.starts_with(".ccl-"));
        names
    }

    /// Everything that tells where the world stands.
    pub fn shown(&self) -> String {
        let sessions = self.sandbox.state_dir().join("sessions");
        let state = if sessions.exists() {
            super::sandbox::names(&sessions)
        } else {
            Vec::new()
        };
        format!(
            "inbox {:?}\nfailed {:?}\nsessions {state:?}\n{}",
            self.project.inbox(),
            self.project.failed(),
            self.tmux.screens()
        )
    }
}

/// A pass in which the fault happens, if it comes to that call at all: look at [`was_killed`] for
/// killed ones, at [`was_injected`] for others. `more` are further words for strace.
pub fn pass_with(sandbox: &Sandbox, args: &[&str], fault: Fault<'_>, more: &[&str]) -> Output {
    // Without its children: tmux is not to be killed in ccl's place.
    let mut words = ["strace", "-f", "-b", "execve", "-qq", "-o"]
        .map(str::to_owned)
        .to_vec();
    words.push(trace(sandbox).display().to_string());
    let Fault {
        syscall,
        nth,
        action,
        from_then_on,
    } = fault;
    let plus = if from_then_on { "+" } else { "" };
    words.push(format!("--inject={syscall}:{action}:when={nth}{plus}"));
    words.push(format!("--trace={syscall},renameat2"));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    let ccl = sandbox.std_ccl();
    let mut command = std::process::Command::new(&words[0]);
    command
        .args(&words[1..])
        .arg(ccl.get_program())
        .arg("--config")
        .arg(sandbox.config_file())
        .args(args)
        .env_clear()
        .envs(
            ccl.get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .current_dir(sandbox.path())
        .stdin(Stdio::null());
    let output = command.output().expect("strace runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("strace:"), "{text}");
    output
}

fn trace(sandbox: &Sandbox) -> PathBuf {
    sandbox.path().join("trace")
}

/// Whether the last [`pass_with`] came to the call that was to fail.
pub fn was_injected(sandbox: &Sandbox) -> bool {
    fs::read_to_string(trace(sandbox))
        .unwrap_or_default()
        .contains("(INJECTED)")
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

/// Whether SIGKILL ended it.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// Disturbs a pass at each of its calls in turn: for each job, `disturb(world, job, nth)` with
/// `nth` = 1, … as `next` counts, until it answers that the pass came to no such call. Several jobs
/// at a time, each in a world of its own. Returns how many calls were disturbed; all that went
/// wrong is shown together.
#[track_caller]
pub fn disturb_each<J: Copy + Send>(
    jobs: Vec<J>,
    next: impl Fn(u32) -> u32 + Sync,
    disturb: impl Fn(&mut World, J, u32) -> bool + Sync,
) -> usize {
    const WORKERS: usize = 5;
    let jobs = Mutex::new(jobs.into_iter());
    let (disturbed, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || {
        let mut world = World::new();
        loop {
            let Some(job) = jobs.lock().expect("the jobs").next() else {
                return;
            };
            let mut nth = 1;
            loop {
                match catch_unwind(AssertUnwindSafe(|| disturb(&mut world, job, nth))) {
                    Ok(true) => {
                        disturbed.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(false) => break,
                    Err(panic) => {
                        wrong
                            .lock()
                            .expect("the list")
                            .push(text_of(panic.as_ref()));
                        world = World::new();
                    }
                }
                nth = next(nth);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(worker);
        }
    });
    let wrong = wrong.into_inner().expect("the list");
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    disturbed.into_inner()
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    match panic.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => format!("{:?}", panic.downcast_ref::<&str>()),
    }
}
