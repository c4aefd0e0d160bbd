//! With the real git, in repositories under a temporary directory; what a user may have configured stands in theirs.

mod hostile;
mod landing;
mod worktrees;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;
use uuid::Uuid;

use super::*;

const RUN: Uuid = Uuid::from_u128(7);

/// A repository with one commit, `main`, and a person who works in it.
struct World {
    dir: TempDir,
    project: PathBuf,
}

impl World {
    fn new() -> Self {
        Self::at("repo")
    }

    fn at(name: &str) -> Self {
        let world = Self::empty(name, &[]);
        world.commit("README", "one\ntwo\nthree\n");
        world
    }

    /// Without a commit.
    fn empty(name: &str, init: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("ccl-test-").tempdir().unwrap();
        let project = dir.path().canonicalize().unwrap().join(name);
        fs::create_dir_all(&project).unwrap();
        let world = Self { dir, project };
        world.git(["init", "--quiet", "--initial-branch=main"].iter().chain(init));
        world.configure(&[("user.name", "Ada"), ("user.email", "ada@example.org")]);
        fs::create_dir(world.project.join(QUEUE)).unwrap();
        world
    }

    fn configure(&self, settings: &[(&str, &str)]) {
        for (key, value) in settings {
            self.git(["config", key, value]);
        }
    }

    /// The person's git, in the project.
    fn git<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        git_in(&self.project, args)
    }

    fn write(&self, file: &str, text: &str) {
        write_in(&self.project, file, text);
    }

    /// A person's commit.
    fn commit(&self, file: &str, text: &str) -> String {
        commit_in(&self.project, file, text)
    }

    fn tip(&self, name: &str) -> String {
        self.git(["rev-parse", name])
    }

    fn open(&self) -> Repository {
        Repository::open(&self.project).unwrap()
    }

    /// A worktree for `T.md`, made.
    fn worktree(&self, task: &str) -> Worktree {
        let repository = self.open();
        let worktree = repository.plan(task, None, None).unwrap();
        repository.make(&worktree, RUN, true).unwrap();
        worktree
    }

    fn hook(&self, name: &str, script: &str) {
        let path = self.project.join(".git/hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn command_in<A: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("git");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command
        .current_dir(directory)
        .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("LC_ALL", "C")])
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(args);
    command
}

fn git_in<A: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = A>) -> String {
    let output = command_in(directory, args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn write_in(directory: &Path, file: &str, text: &str) {
    let path = directory.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn commit_in(directory: &Path, file: &str, text: &str) -> String {
    write_in(directory, file, text);
    git_in(directory, ["add", "--", file]);
    git_in(directory, ["commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", file]);
    git_in(directory, ["rev-parse", "HEAD"])
}

fn obstacle(project: &Path) -> Obstacle {
    match Repository::open(project) {
        Err(OpenError::Obstacle(obstacle)) => obstacle,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_version_is_read() {
    for (printed, expected) in [
        ("git version 2.47.3", Some((2, 47))),
        ("git version 2.39.2 (Apple Git-143)", Some((2, 39))),
        ("git version 2.17.0.rc1", Some((2, 17))),
        ("git version 3.0-rc1", Some((3, 0))),
        ("git version next", None),
        ("", None),
    ] {
        assert_eq!(parse_version(printed), expected, "{printed}");
    }
}

#[test]
fn a_checkouts_state_is_read_without_the_queue() {
    let world = World::empty("repo", &[]);
    let found = state(&world.project).unwrap();
    assert_eq!(found, State { head: None, branch: Some("main".to_owned()), dirty: 0 });
    let head = world.commit("a file", "1");
    world.commit("gone", "1");
    world.git(["reset", "--quiet", "--soft", &head]);
    world.git(["mv", "gone", "new\nname"]);
    world.write("a file", "2");
    world.write("untracked/é", "");
    world.write(".agent-queue/inbox/T.md", "");
    let found = state(&world.project).unwrap();
    assert_eq!((found.head.as_ref(), found.dirty), (Some(&head), 3));
    // From below it is the same checkout.
    assert_eq!(state(&world.project.join("untracked")).unwrap(), found);
    world.git(["checkout", "--quiet", "--detach"]);
    assert_eq!(state(&world.project).unwrap(), State { branch: None, ..found });
    assert!(state(Path::new("/")).unwrap_err().to_string().contains("not a git repository"));
}

#[test]
fn what_stands_in_the_way_is_named() {
    let world = World::new();
    assert!(is_inside_git(&world.project.join(QUEUE)) && !is_inside_git(world.dir.path()));
    let outside = obstacle(world.dir.path()).to_string();
    assert!(outside.contains("is not in a git repository: run `git init`"), "{outside}");
    assert!(matches!(obstacle(&world.project.join(".git")), Obstacle::NotARepository { .. }));
    let bare = world.dir.path().join("bare.git");
    world.git(["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    assert!(matches!(obstacle(&bare), Obstacle::Bare { .. }));
    let plan = |base| world.open().plan("T.md", base, None).unwrap_err().to_string();
    for base in ["no such", "--all", "", "HEAD~9", "README"] {
        assert!(plan(Some(base)).starts_with(&format!("`{base}` names no commit in ")), "{base}");
    }
    world.git(["branch", "ccl"]);
    assert!(plan(None).contains("git branch -m ccl NAME"), "{}", plan(None));
    let empty = World::empty("repo", &[]);
    let error = empty.open().plan("T.md", None, None).unwrap_err();
    assert!(matches!(error, OpenError::Obstacle(Obstacle::NoCommit { .. })), "{error}");
}

#[test]
fn a_plan_takes_what_is_free_and_says_what_it_starts_from() {
    let world = World::new();
    let first = world.tip("HEAD");
    world.git(["tag", "v1"]);
    world.git(["tag", "other", "HEAD"]);
    world.git(["branch", "other"]);
    world.git(["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let second = world.commit("b", "");
    let repository = world.open();
    let plan = |base| {
        let plan = world.open().plan("fix it.md", base, None).unwrap();
        (plan.base, plan.base_branch)
    };
    let on = |name: &str| Some(name.to_owned());
    assert_eq!(plan(None), (second.clone(), on("main")));
    assert_eq!(plan(Some("main")), (second.clone(), on("main")));
    assert_eq!(plan(Some("refs/heads/main")), (second.clone(), on("main")));
    assert_eq!(plan(Some("v1")), (first.clone(), None));
    assert_eq!(plan(Some("other")), (first.clone(), on("other")));
    assert_eq!(plan(Some("origin/main")), (first.clone(), None));
    assert_eq!(plan(Some("HEAD^")), (first.clone(), None));
    assert_eq!(plan(Some(&first)), (first.clone(), None));
    world.git(["checkout", "--quiet", "--detach"]);
    assert_eq!(plan(None), (second, None));

    let name = || repository.plan("fix it.md", None, None).unwrap();
    assert_eq!(name().branch, "ccl/fix-it");
    assert_eq!(name().path, world.project.join(".agent-queue/worktrees/fix-it"));
    assert_eq!(name().directory(), name().path);
    world.git(["branch", "ccl/fix-it"]);
    world.write(".agent-queue/worktrees/fix-it.2/x", "");
    world.git(["branch", "ccl/fix-it.3/below"]);
    assert_eq!(name().branch, "ccl/fix-it.4");
    repository.make(&name(), RUN, true).unwrap();
    fs::remove_dir_all(world.project.join(".agent-queue/worktrees/fix-it.4")).unwrap();
    world.git(["update-ref", "-d", "refs/heads/ccl/fix-it.4"]);
    assert_eq!(name().branch, "ccl/fix-it.5");
}

#[test]
fn a_summary_counts_commits_files_and_lines() {
    let world = World::new();
    let worktree = world.worktree("T.md");
    let repository = world.open();
    let empty = repository.summary(&worktree).unwrap();
    assert_eq!((empty.commits, empty.files, &empty.head), (0, 0, &worktree.base));
    let tree = repository.tree_of(&worktree).unwrap();
    assert_eq!(tree, world.tip("main^{tree}"));
    commit_in(&worktree.path, "new\n\tname", "1\n2\n");
    commit_in(&worktree.path, "binary", "\0\0");
    commit_in(&worktree.path, "README", "one\n");
    world.commit("a person's", "");
    assert_ne!(repository.tree_of(&worktree).unwrap(), tree);
    let head = world.tip("ccl/T");
    let expected = Summary {
        branch: "ccl/T".to_owned(),
        base: worktree.base.clone(),
        head,
        commits: 3,
        files: 3,
        insertions: 2,
        deletions: 2,
    };
    assert_eq!(repository.summary(&worktree).unwrap(), expected);
    // A history without a beginning in common.
    git_in(&worktree.path, ["checkout", "--quiet", "--orphan", "new"]);
    git_in(&worktree.path, ["commit", "--quiet", "-m", "all"]);
    git_in(&worktree.path, ["branch", "--quiet", "--force", "ccl/T"]);
    let summary = repository.summary(&worktree).unwrap();
    assert_eq!((summary.commits, summary.files), (1, 3));
}
