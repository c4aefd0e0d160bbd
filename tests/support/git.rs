//! A git repository of a test, with nothing of the machine's own configuration.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Output};

use super::{Project, write_program};

/// A search path on which a script, `DIRECTORY/bin/git`, comes before git; `script` is given git's own path.
pub fn instead_of_git(directory: &Path, script: impl FnOnce(&str) -> String) -> OsString {
    let path = std::env::var_os("PATH").expect("PATH is set");
    let git = std::env::split_paths(&path).map(|at| at.join("git")).find(|it| it.exists());
    let git = git.expect("git");
    let bin = directory.join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    write_program(&bin.join("git"), &script(git.to_str().expect("UTF-8")));
    let all = std::iter::once(bin).chain(std::env::split_paths(&path));
    std::env::join_paths(all).expect("a search path")
}

/// `git ARGS…` in a directory, without the user's configuration.
pub fn try_git<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>) -> Output {
    Command::new("git")
        .args(["-c", "user.name=Person", "-c", "user.email=person@example.org"])
        .args(args)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .expect("git runs")
}

/// The same of a call that has to succeed: what it prints, without the last newline.
#[track_caller]
pub fn git<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>) -> String {
    let out = try_git(directory, args);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {stderr}", out.status);
    String::from_utf8(out.stdout).expect("UTF-8").trim_end().to_owned()
}

impl Project {
    /// Makes it a repository with one commit on `main`.
    pub fn init_git(&self) {
        self.git(["init", "-q", "-b", "main"]);
        std::fs::write(self.root().join("README"), "one\n").expect("a file");
        std::fs::write(self.root().join(".git/info/exclude"), "/.agent-queue/\n").expect("a file");
        self.git(["add", "."]);
        self.git(["commit", "-qm", "first"]);
    }

    #[track_caller]
    pub fn git<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        git(self.root(), args)
    }
}
