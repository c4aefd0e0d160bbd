//! One call of git: plain output, nobody is asked, no hook runs, and a lock in the way is waited for, then named.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use thiserror::Error;

use crate::config::KEY_VARIABLES;
use crate::error::Failure;
use crate::process;
use crate::subprocess::{Call, RunError};
use crate::text::{escape, excerpt, path_text};

/// How long a call that only looks may take.
const READ_LIMIT: Duration = Duration::from_secs(120);
/// How long a call that checks files out or in may take. A git that is killed leaves its locks behind.
const WRITE_LIMIT: Duration = Duration::from_secs(900);
/// How long a lock is waited for, and a git that an earlier pass started.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const POLL: Duration = Duration::from_millis(50);

/// In the environment of every git that changes a worktree, and of all that it starts: the worktree's path. A pass that
/// was killed leaves its git running; the next one finds it by this.
const MARK: &str = "CCL_CHECKOUT";

/// Variables that would change what our git does where `ccl` is called from a hook of another git: the list of
/// `git rev-parse --local-env-vars` of 2.47, and others that change where git works, what paths mean, or what it
/// prints.
const INHERITED: [&str; 30] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_QUARANTINE_PATH",
    "GIT_ATTR_SOURCE",
    "GIT_REFLOG_ACTION",
    // The moment of the commit that the hook belongs to.
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_DATE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_TRACE",
    "GIT_ADVICE",
];

/// The settings of every call, whatever the user's configuration says. An older git ignores keys that it does not know.
const SETTINGS: [&str; 14] = [
    // Hooks run for the agent's commits and for nobody else's.
    "core.hooksPath=/dev/null",
    // Empty: before 2.36 the value is a program.
    "core.fsmonitor=",
    "core.editor=true",
    // Or `git add` may refuse a file for its line ends.
    "core.safecrlf=false",
    "color.ui=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "rerere.enabled=false",
    "merge.conflictStyle=merge",
    "merge.autoStash=false",
    "rebase.autoStash=false",
    // So that `gitdir` says where a worktree is: it is compared with an absolute path.
    "worktree.useRelativePaths=false",
];

/// Why a call of git did not succeed.
#[derive(Debug, Error)]
pub(crate) enum GitError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(
        "`git {verb}` waited for the lock {lock} in {directory}: another git holds it, or one that was killed left it; \
         remove it once no git runs there"
    )]
    Locked { verb: String, directory: String, lock: String },
    /// The repository is as it should be, and the machine is not: the disk is full, or somebody has killed git.
    #[error("`git {verb}` failed in {directory}: {words}")]
    OfMachine { verb: String, directory: String, words: String, source: Failure },
    #[error("what `git fetch` has brought cannot be put into {directory}: {source}")]
    Objects { directory: String, source: std::io::Error },
    #[error("`git {verb}` failed in {directory}: {words}")]
    Failed {
        verb: String,
        directory: String,
        code: Option<i32>,
        /// The last lines of standard error, or of standard output where there are none; one line.
        words: String,
    },
}

impl GitError {
    /// Whether git ended with this status.
    pub(super) fn is(&self, status: i32) -> bool {
        matches!(self, Self::Failed { code: Some(code), .. } if *code == status)
    }

    /// Whether git's own words have this in them.
    pub(super) fn says(&self, text: &str) -> bool {
        matches!(self, Self::Failed { words, .. } if words.contains(text))
    }

    /// Whether another pass may do better, without anybody mending anything in the repository.
    pub(super) fn is_of_the_machine(&self) -> bool {
        matches!(self, Self::Run(_) | Self::OfMachine { .. } | Self::Objects { .. })
    }
}

/// What git 2.17 to 2.47 says where the machine has failed it, most often at a write. Often it does not name the system's
/// error.
const FAILED_CALLS: [&str; 19] = [
    "Input/output error",
    "Too many open files",
    "Out of memory",
    "No space left on device",
    "Out of diskspace",
    "Disk quota exceeded",
    "Cannot allocate memory",
    "unable to write",
    "Unable to write",
    "unable to append",
    "could not write",
    "couldn't write",
    "couldn't close",
    "couldn't set '",
    "failed to write",
    "failed to finalize",
    "failed to refresh the index",
    "write failure",
    // Our commits always have a message: git could not write it into its file.
    "due to empty commit message",
];

/// With fewer free bytes than this on the disk, any failure of git is taken for one of the full disk.
const FULL: u64 = 64 << 10;

/// What ends a program from outside: a person, a shutdown, the kernel where memory is short.
const KILLS: [Signal; 4] = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP];

fn is_of_the_machine(status: ExitStatus, said: &str, directory: &Path) -> bool {
    status.signal().is_some_and(|it| KILLS.iter().any(|kill| kill.as_raw() == it))
        || FAILED_CALLS.iter().any(|failed| said.contains(failed))
        || free_space(directory).is_ok_and(|free| free < FULL)
}

/// How many bytes the disk of a directory has free.
pub(super) fn free_space(directory: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// A call that is to be made.
pub(super) struct Git<'a> {
    directory: &'a Path,
    args: Vec<OsString>,
    settings: Vec<&'static str>,
    /// The worktree that it changes; none where it only looks.
    changes: Option<&'a Path>,
    patience: Duration,
    /// None: what is usual for calls that look, or change something.
    limit: Option<Duration>,
    /// Whether it runs without a terminal: on one, ssh would ask, whatever its environment says.
    alone: bool,
    /// The file that is its standard input.
    input: Option<&'a Path>,
    /// The directory for the objects that it makes, instead of the repository's own.
    objects: Option<&'a Path>,
}

impl<'a> Git<'a> {
    /// A call that only looks; it takes no lock.
    pub(super) fn look<A: AsRef<OsStr>>(
        directory: &'a Path,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Self {
            directory,
            args,
            settings: Vec::new(),
            changes: None,
            patience: PATIENCE,
            limit: None,
            alone: false,
            input: None,
            objects: None,
        }
    }

    /// A call that changes `worktree`, or what belongs to it.
    pub(super) fn change<A: AsRef<OsStr>>(
        directory: &'a Path,
        worktree: &'a Path,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self { changes: Some(worktree), ..Self::look(directory, args) }
    }

    /// For a call that may not simply be made again: it fails at once where there is a lock.
    pub(super) fn once(self) -> Self {
        Self { patience: Duration::ZERO, ..self }
    }

    /// For a call that talks with another machine: it may not take longer than this, and asks nobody for anything.
    pub(super) fn remote(self, limit: Duration) -> Self {
        Self { limit: Some(limit), alone: true, ..self }
    }

    /// For a call that reads this file.
    pub(super) fn with_input(self, input: &'a Path) -> Self {
        Self { input: Some(input), ..self }
    }

    /// For a call whose objects are not to be the repository's yet.
    pub(super) fn with_objects(self, objects: &'a Path) -> Self {
        Self { objects: Some(objects), ..self }
    }

    /// `key=value` for this call.
    pub(super) fn with(mut self, settings: &[&'static str]) -> Self {
        self.settings.extend(settings);
        self
    }

    /// What git prints. A lock in its way is waited for.
    pub(super) fn run(&self) -> Result<Vec<u8>, GitError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let output = self.call()?.run()?;
            if output.status.success() {
                return Ok(output.stdout);
            }
            match self.error(&output) {
                GitError::Locked { .. } if Instant::now() < deadline => sleep(POLL),
                error => return Err(error),
            }
        }
    }

    /// What git prints, without the newline at its end: an object's name, a ref's.
    pub(super) fn word(&self) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.run()?).trim_end().to_owned())
    }

    /// The answer of a call that says no by status 1.
    pub(super) fn is_yes(&self) -> Result<bool, GitError> {
        match self.run() {
            Ok(_) => Ok(true),
            Err(error) if error.is(1) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn call(&self) -> Result<Call, GitError> {
        let usual = if self.changes.is_some() { WRITE_LIMIT } else { READ_LIMIT };
        let limit = self.limit.unwrap_or(usual);
        let mut call = match self.alone {
            true => Call::in_own_session("git", limit),
            false => Call::new("git", limit),
        };
        if let Some(path) = self.input {
            // Opened for each try: a further one reads it from the beginning.
            let opened = File::open(path).map_err(|source| RunError::Io {
                program: "git".to_owned(),
                place: format!(" with {}", path.display()),
                source,
            })?;
            call = call.with_input(opened);
        }
        for variable in INHERITED.into_iter().chain(KEY_VARIABLES) {
            call.command.env_remove(variable);
        }
        call.command
            .current_dir(self.directory)
            // In English, since the words of git are compared below.
            .envs([("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_ASKPASS", "true")])
            .envs([("GIT_EDITOR", "true"), ("GIT_SEQUENCE_EDITOR", "true"), ("GIT_PAGER", "cat")])
            .arg("--no-pager");
        match self.changes {
            Some(worktree) => call.command.env(MARK, path_text(worktree)),
            None => call.command.env("GIT_OPTIONAL_LOCKS", "0"),
        };
        if let Some(objects) = self.objects {
            call.command.env("GIT_OBJECT_DIRECTORY", objects);
        }
        // The machine's own configuration is nothing to a test.
        #[cfg(test)]
        call.command
            .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for setting in SETTINGS.iter().chain(&self.settings) {
            call.command.args(["-c", setting]);
        }
        call.command.args(&self.args);
        Ok(call)
    }

    fn error(&self, output: &Output) -> GitError {
        let (verb, directory) = (self.verb(), shown(self.directory));
        let stderr = String::from_utf8_lossy(&output.stderr);
        if let Some(lock) = lock_in_the_way(&stderr) {
            return GitError::Locked { verb, directory, lock: escape(lock).into_owned() };
        }
        let words = match last_lines(&stderr) {
            words if words.is_empty() => last_lines(&String::from_utf8_lossy(&output.stdout)),
            words => words,
        };
        // Where it was killed, its last words are not the reason.
        let words = match output.status.code() {
            Some(_) if !words.is_empty() => words,
            _ => format!("it ended with {}", output.status),
        };
        if is_of_the_machine(output.status, &stderr, self.directory) {
            let source = Failure::Temporary("a later pass tries it again".to_owned());
            return GitError::OfMachine { verb, directory, words, source };
        }
        GitError::Failed { verb, directory, code: output.status.code(), words }
    }

    /// The call in short: `worktree add`.
    fn verb(&self) -> String {
        let words = self.args.iter().map(|arg| arg.to_string_lossy());
        let length = if self.args.first().is_some_and(|it| it == "worktree") { 2 } else { 1 };
        words.take(length).collect::<Vec<_>>().join(" ")
    }
}

/// A path in a message.
pub(super) fn shown(path: &Path) -> String {
    escape(&path_text(path)).into_owned()
}

/// The words of git 2.17 to 2.47 where it cannot make `NAME.lock`.
fn lock_in_the_way(stderr: &str) -> Option<&str> {
    let (_, rest) = stderr.split_once("Unable to create '")?;
    let (lock, _) = rest.split_once("': File exists")?;
    Some(lock)
}

/// The end of what git said, as one line, without what it advises.
fn last_lines(text: &str) -> String {
    const MOST_LINES: usize = 6;
    const LONGEST: usize = 400;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("hint:")).collect();
    let end = &lines[lines.len().saturating_sub(MOST_LINES)..];
    excerpt(&end.join(" / "), LONGEST)
}

/// Waits until no git of an earlier pass is at work in the worktree any more. Returns the process that still is after
/// [`PATIENCE`].
pub(super) fn wait_for_earlier_git(worktree: &Path) -> std::io::Result<Option<i32>> {
    let (value, deadline) = (path_text(worktree), Instant::now() + PATIENCE);
    loop {
        match process::started_with(MARK, &value)? {
            Some(pid) if Instant::now() > deadline => return Ok(Some(pid.as_raw_pid())),
            Some(_) => sleep(POLL),
            None => return Ok(None),
        }
    }
}
