//! Everything `ccl` does with git: a project's state, a worktree for a task, what the agent left in it, landing.
//!
//! It knows only paths, branches and commits. Each step may be killed at any moment, with its git or without it, and is
//! then simply made again: it starts from what it finds. No two steps change one project at once: the caller holds the
//! lock of the project's checkout.
//!
//! What is on disk: the worktree `PROJECT/.agent-queue/worktrees/T`, locked against `git worktree prune`; its branch
//! `ccl/T`; a line in the repository's `info/exclude`. Nothing is forced, no branch of anybody else's is moved but
//! by a fast-forward, and git's own locks are never removed, except inside a worktree that nobody has worked in.

mod exchange;
mod git;
mod landing;
mod leftovers;
mod name;
mod worktree;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use thiserror::Error;

use crate::durable;
use crate::error::{TEMPORARY, exit_code};
use crate::marker::Worktree;
use crate::subprocess::RunError;
use crate::task::{BranchEnding, Summary};
use crate::text::escape;
pub(crate) use git::GitError;
use git::{Git, shown};

pub(crate) use exchange::{Exchange, LIMIT as EXCHANGE_LIMIT, Moved, Terms, Travel};
pub(crate) use landing::{LandStep, base_moved_on};
#[cfg(test)]
use landing::{Landing, Rebase};
pub(crate) use leftovers::Leftovers;
pub(crate) use worktree::{ListedWorktree, Removal, list_worktrees, setup_stamp};

/// What the queue's directory is called, in a repository and in its worktrees.
const QUEUE: &str = ".agent-queue";
const WORKTREES: &str = ".agent-queue/worktrees";

/// The first git with `worktree remove`.
const OLDEST: (u32, u32) = (2, 17);

/// Why a project's tasks cannot have a worktree, or cannot go to another machine. Each is the sentence that mends it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Obstacle {
    #[error(
        "{project} is not in a git repository: run `git init` and commit there, or do without worktrees"
    )]
    NotARepository { project: String },
    #[error(
        "{project} is in a bare repository, which has no files to work on: put the project into a checkout of it"
    )]
    Bare { project: String },
    #[error(
        "{project} has no commit yet, and a worktree needs one to start from: commit something there"
    )]
    NoCommit { project: String },
    #[error(
        "`{base}` names no commit in {project}: name a branch, a tag or a commit that `git log {base}` finds"
    )]
    UnknownBase { base: String, project: String },
    #[error(
        "the branch `ccl` in {project} is in the way of branches named `ccl/TASK`: rename it, `git branch -m ccl NAME`"
    )]
    BranchInTheWay { project: String },
    #[error("there is no program `git`: install git, {} at least", version(OLDEST))]
    GitMissing,
    #[error(
        "git is of version {found}, and worktrees need {}: install a newer one",
        version(OLDEST)
    )]
    TooOld { found: String },
    #[error(
        "{count} files in {project} are not committed, and such changes do not travel: commit or stash them, or set \
         `dirty: ignore` under `remote:`"
    )]
    Uncommitted { count: usize, project: String },
    #[error(
        "{project} is a shallow clone, of which git hands nothing on: run `git fetch --unshallow` there"
    )]
    Shallow { project: String },
    #[error(
        "{project} has submodules, which do not travel: set `submodules: true` under `remote:`, and let the workers reach them"
    )]
    Submodules { project: String },
    #[error(
        "{project} keeps files in LFS, which do not travel: set `lfs: true` under `remote:`, and let the workers reach them"
    )]
    Lfs { project: String },
    #[error(
        "{project} has no remote `{name}`, which `exchange` of `remote:` names: run `git remote add {name} URL` there, \
         or give the exchange's address"
    )]
    NoRemote { name: String, project: String },
    #[error(
        "the address of `{name}` in {project} has a password in it, which every worker would show: let git ask its \
         credential helper, or use ssh"
    )]
    PasswordInRemote { name: String, project: String },
    /// `safe.directory`. Git says itself what to do.
    #[error("git refuses to work in {project}: {words}")]
    NotTrusted { project: String, words: String },
}

fn version((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// Why there is no plan for a worktree.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// The project's fault: its tasks are held until it is mended.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl From<GitError> for OpenError {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Run(RunError::NotFound { .. }) => Obstacle::GitMissing.into(),
            other => Self::Failed(other.into()),
        }
    }
}

/// Whether a later pass may do better, without anybody mending anything in the repository. A lock of git's that did not
/// go away counts as left behind: no session waits for the person who removes it.
pub(crate) fn is_temporary(error: &anyhow::Error) -> bool {
    let is_lock = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(GitError::Locked { .. }))
    };
    exit_code(error) == TEMPORARY && !error.chain().any(is_lock)
}

/// Whether the project lies in a git checkout, by `.git` in it or above it. Starts no process.
pub(crate) fn is_inside_git(project: &Path) -> bool {
    checkout_of(project).is_some()
}

/// The git checkout that the project lies in, found in the same way.
pub(crate) fn checkout_of(project: &Path) -> Option<&Path> {
    project.ancestors().find(|directory| directory.join(".git").symlink_metadata().is_ok())
}

/// A checkout at one moment, as [`state`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The commit that is checked out; none before the first.
    pub(crate) head: Option<String>,
    /// The branch that is checked out; none where HEAD is detached.
    pub(crate) branch: Option<String>,
    /// How many entries `git status` has, a directory of untracked files being one; the queue left out.
    pub(crate) dirty: u32,
}

/// The state of the checkout that the project lies in: one call of git.
pub(crate) fn state(project: &Path) -> Result<State> {
    let GitStatus { head, branch, changed, .. } = GitStatus::of(project)?;
    let dirty = u32::try_from(changed).unwrap_or(u32::MAX);
    Ok(State { head, branch, dirty })
}

/// What `git status` prints of the whole checkout that a directory lies in.
#[derive(Debug, Default)]
struct GitStatus {
    head: Option<String>,
    branch: Option<String>,
    /// How many files differ or are untracked, without those of the queue.
    changed: usize,
    /// How many files differ or are untracked, including those of the queue, but not deleted ones.
    present: usize,
    /// Those whose merge a person or an agent has to finish.
    unmerged: Vec<String>,
}

impl GitStatus {
    fn of(directory: &Path) -> Result<Self, GitError> {
        let args = ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal"];
        // Without `--no-renames`, git compares all that is new with all that has gone. What is untracked counts,
        // whatever the user has set in `status.showUntrackedFiles`.
        Ok(Self::parse(&Git::look(directory, args.into_iter().chain(["--no-renames"])).run()?))
    }

    /// git-status(1), "Porcelain Format Version 2". With `-z` paths stand as they are.
    fn parse(printed: &[u8]) -> Self {
        let mut status = Self::default();
        let mut fields = printed.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        while let Some(field) = fields.next() {
            let header = |name: &[u8]| {
                field.strip_prefix(name).map(|value| String::from_utf8_lossy(value).into_owned())
            };
            if let Some(head) = header(b"# branch.oid ") {
                status.head = Some(head).filter(|head| head != "(initial)");
            } else if let Some(branch) = header(b"# branch.head ") {
                status.branch = Some(branch).filter(|branch| branch != "(detached)");
            }
            // How many blanks stand before the path.
            let before = match field.first() {
                Some(b'1') => 8,
                Some(b'2') => 9,
                Some(b'u') => 10,
                Some(b'?') => 1,
                _ => continue,
            };
            if field.first() == Some(&b'2') {
                // A renamed file's old path is a field of its own.
                fields.next();
            }
            let path = field.splitn(before + 1, |byte| *byte == b' ').nth(before);
            let path = Path::new(OsStr::from_bytes(path.unwrap_or_default()));
            if field.first() == Some(&b'u') {
                status.unmerged.push(shown(path));
            }
            if path.components().all(|part| part.as_os_str() != QUEUE) {
                status.changed += 1;
            }
            // Unchanged in the index, and deleted in the worktree.
            if !field.starts_with(b"1 .D ") {
                status.present += 1;
            }
        }
        status
    }
}

/// The repository of a project whose tasks have worktrees.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// Canonical, like all paths here: git names them so.
    project: PathBuf,
    /// `.git` of the main checkout, also for a project in a linked worktree.
    common: PathBuf,
    /// The checkout that the project lies in.
    top: PathBuf,
    /// Where the project lies in it; empty where it is the checkout.
    subdirectory: PathBuf,
    /// Where worktrees lie.
    worktrees: PathBuf,
    /// What HEAD was when it was opened; none before the first commit.
    head: Option<Start>,
}

/// The commit that something starts from, and its branch where that is one.
type Start = (String, Option<String>);

/// What `git rev-parse` is asked for what HEAD is.
const HEAD: [&str; 3] = ["HEAD^{commit}", "--symbolic-full-name", "HEAD"];

impl Repository {
    /// One call of git.
    pub(crate) fn open(project: &Path) -> Result<Self, OpenError> {
        let cannot_open = || format!("cannot look at {}", project.display());
        let project = fs::canonicalize(project).with_context(cannot_open)?;
        let what = [
            "--show-object-format",
            "--is-bare-repository",
            "--is-inside-work-tree",
            "--show-cdup",
            "--git-common-dir",
        ];
        let ask = |more: &[&str]| {
            Git::look(&project, ["rev-parse"].iter().chain(&what).chain(more)).run()
        };
        // As a rule there is a commit, and one call is enough. Without one git fails, and is asked only for the rest.
        let (mut printed, has_commit) = match ask(&HEAD) {
            Ok(printed) => (printed, true),
            Err(GitError::Failed { .. }) => match ask(&[]) {
                Ok(printed) => (printed, false),
                Err(error) => return Err(not_opened(&project, error)),
            },
            Err(error) => return Err(error.into()),
        };
        let head = if has_commit { take_head(&mut printed) } else { None };
        // `--git-common-dir` was asked for last: it is a path, and may have newlines in it.
        let mut lines = printed.splitn(5, |byte| *byte == b'\n');
        let mut next = || lines.next().unwrap_or_default();
        // A git before 2.28 prints `--show-object-format`, which it does not know, as it is: it may be too old.
        if next().starts_with(b"--") {
            check_version(&project)?;
        }
        if next() == b"true" {
            return Err(Obstacle::Bare { project: shown(&project) }.into());
        }
        if next() != b"true" {
            return Err(Obstacle::NotARepository { project: shown(&project) }.into());
        }
        // `--show-cdup` prints `../` for each directory up to the top.
        let up = next().strip_suffix(b"/").map_or(0, |up| up.split(|byte| *byte == b'/').count());
        let common = next();
        let common = common.strip_suffix(b"\n").unwrap_or(common);
        let common = project.join(OsStr::from_bytes(common));
        let common = fs::canonicalize(&common)
            .with_context(|| format!("cannot look at {}", common.display()))?;
        let top = project.ancestors().nth(up).unwrap_or(&project);
        let subdirectory = project.strip_prefix(top).unwrap_or(Path::new("")).to_owned();
        // Git names a worktree by its real path, and the queue may be a link.
        let queue = project.join(QUEUE);
        let worktrees = fs::canonicalize(&queue).unwrap_or(queue).join("worktrees");
        let worktrees = fs::canonicalize(&worktrees).unwrap_or(worktrees);
        Ok(Self { common, top: top.to_owned(), subdirectory, worktrees, head, project })
    }

    /// The worktree that the task `T.md` is to have; makes nothing.
    ///
    /// `own` is the one that an earlier attempt of this very task had: taken again where its branch is still there.
    /// Otherwise the first of `ccl/T`, `ccl/T.2` … whose branch and directory are free, from `base` or what HEAD was
    /// when the repository was opened.
    pub(crate) fn plan(
        &self,
        task: &str,
        base: Option<&str>,
        own: Option<&Worktree>,
    ) -> Result<Worktree, OpenError> {
        let printed = self.look(["for-each-ref", "--format=%(refname)", "refs/heads/ccl"]).run()?;
        let printed = String::from_utf8_lossy(&printed);
        let branches: HashSet<&str> =
            printed.lines().filter_map(|name| name.strip_prefix("refs/heads/")).collect();
        if let Some(own) = own.filter(|own| branches.contains(own.branch.as_str())) {
            return Ok(own.clone());
        }
        if branches.contains("ccl") {
            return Err(Obstacle::BranchInTheWay { project: shown(&self.project) }.into());
        }
        let (base, base_branch) = self.start(base)?;
        let registered = self.registered()?;
        let is_taken = |name: &str| {
            let (branch, path) = (format!("ccl/{name}"), self.worktrees.join(name));
            // Beside a ref `ccl/T/x` git cannot make a ref `ccl/T`.
            let below = format!("{branch}/");
            branches.contains(branch.as_str())
                || branches.iter().any(|other| other.starts_with(&below))
                // What cannot be looked at is not free.
                || durable::exists(&path).unwrap_or(true)
                || registered.iter().any(|(_, at)| *at == path)
        };
        let name = name::first_free(&name::fit(task), is_taken);
        Ok(Worktree {
            path: self.worktrees.join(&name),
            branch: format!("ccl/{name}"),
            base,
            base_branch,
            subdirectory: self.subdirectory.clone(),
        })
    }

    /// The worktree that an earlier attempt had, by its ending; none where that names no branch of ours.
    pub(crate) fn worktree_of(&self, ending: &BranchEnding) -> Option<Worktree> {
        let name = ending.summary.branch.strip_prefix("ccl/")?;
        // Anybody may have written the ending line, and the name becomes a path.
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return None;
        }
        Some(Worktree {
            path: self.worktrees.join(name),
            branch: ending.summary.branch.clone(),
            base: ending.summary.base.clone(),
            base_branch: ending.base_branch.clone(),
            subdirectory: self.subdirectory.clone(),
        })
    }

    /// The commit that a new worktree would start from.
    pub(crate) fn start_commit(&self, base: Option<&str>) -> Result<String, OpenError> {
        self.start(base).map(|(commit, _)| commit)
    }

    /// The commit that `base` names, and the branch where it is one.
    fn start(&self, base: Option<&str>) -> Result<Start, OpenError> {
        let Some(base) = base else {
            let none = || Obstacle::NoCommit { project: shown(&self.project) };
            return Ok(self.head.clone().ok_or_else(none)?);
        };
        let unknown = || Obstacle::UnknownBase {
            base: escape(base).into_owned(),
            project: shown(&self.project),
        };
        // Git would take it for an option.
        if base.is_empty() || base.starts_with('-') {
            return Err(unknown().into());
        }
        // The branch first: git would prefer a tag of the same name.
        let found = match self.resolve(&format!("refs/heads/{base}"))? {
            None => self.resolve(base)?,
            found => found,
        };
        Ok(found.ok_or_else(unknown)?)
    }

    /// The commit that a name stands for, and the branch that it names.
    fn resolve(&self, name: &str) -> Result<Option<Start>, GitError> {
        let commit = format!("{name}^{{commit}}");
        let look = self.look(["rev-parse", commit.as_str(), "--symbolic-full-name", name]);
        let printed = match look.word() {
            Ok(printed) => printed,
            // The name is unknown; any other failure of git's is taken for that, too.
            Err(GitError::Failed { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = printed.lines();
        Ok(lines.next().and_then(|commit| start_of(commit, lines.next().unwrap_or_default())))
    }

    /// What the branch has beyond its base.
    pub(crate) fn summary(&self, worktree: &Worktree) -> Result<Summary> {
        let (base, head) = (&worktree.base, self.tip(&worktree.branch)?);
        let range = format!("{base}..{head}");
        let commits = self.look(["rev-list", "--count", range.as_str(), "--"]).word()?;
        let diff = ["diff", "--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv"];
        let diff = |ends: &str| self.look(diff.into_iter().chain([ends, "--"])).run();
        // From the common ancestor, as a person sees it. Where the agent began a history of its own, there is none:
        // then the two ends are compared.
        let printed = diff(&format!("{base}...{head}")).or_else(|error| match error {
            GitError::Failed { .. } => diff(&range),
            other => Err(other),
        })?;
        let mut summary = Summary {
            branch: worktree.branch.clone(),
            base: base.clone(),
            commits: commits.parse().with_context(|| format!("git counted `{commits}` commits"))?,
            head,
            files: 0,
            insertions: 0,
            deletions: 0,
        };
        for file in printed.split(|byte| *byte == 0).filter(|file| !file.is_empty()) {
            let mut numbers = file.split(|byte| *byte == b'\t').map(|number| {
                std::str::from_utf8(number).ok().and_then(|number| number.parse::<u64>().ok())
            });
            // A binary file has `-` for both.
            let mut next = || numbers.next().flatten().unwrap_or(0);
            summary.files += 1;
            summary.insertions += next();
            summary.deletions += next();
        }
        Ok(summary)
    }

    /// The branch's last commit.
    fn tip(&self, branch: &str) -> Result<String> {
        self.find_tip(branch)?.ok_or_else(|| {
            let (branch, project) = (escape(branch), shown(&self.project));
            anyhow!("there is no branch `{branch}` in {project}: its agent or somebody else has deleted it; `git branch {branch} COMMIT` brings it back")
        })
    }

    /// The branch's last commit.
    pub(crate) fn head_of(&self, worktree: &Worktree) -> Result<String> {
        self.tip(&worktree.branch)
    }

    /// The tree object of the branch's last commit.
    pub(crate) fn tree_of_head(&self, worktree: &Worktree) -> Result<String> {
        let tree = format!("refs/heads/{}^{{tree}}", worktree.branch);
        Ok(self.look(["rev-parse", "--verify", tree.as_str()]).word()?)
    }

    /// The tree object of what lies in a worktree's index.
    pub(crate) fn tree_of(&self, worktree: &Worktree) -> Result<String> {
        Ok(Git::change(&worktree.path, &worktree.path, ["write-tree"]).word()?)
    }

    pub(crate) fn has_branch(&self, worktree: &Worktree) -> Result<bool> {
        Ok(self.find_tip(&worktree.branch)?.is_some())
    }

    fn find_tip(&self, branch: &str) -> Result<Option<String>, GitError> {
        let name = format!("refs/heads/{branch}");
        match self.look(["rev-parse", "--verify", "--quiet", name.as_str()]).word() {
            Ok(tip) => Ok(Some(tip)),
            // With `--quiet`, 1 says that there is no such ref.
            Err(error) if error.is(1) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_ancestor(&self, older: &str, newer: &str) -> Result<bool, GitError> {
        self.look(["merge-base", "--is-ancestor", older, newer]).is_yes()
    }

    fn look<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Git<'_> {
        Git::look(&self.project, args)
    }
}

/// Takes the last two lines off what `git rev-parse` has printed: those that [`HEAD`] asked for.
fn take_head(printed: &mut Vec<u8>) -> Option<Start> {
    let mut take_line = || {
        printed.pop_if(|byte| *byte == b'\n')?;
        let start = printed.iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
        String::from_utf8(printed.split_off(start)).ok()
    };
    let (name, commit) = (take_line()?, take_line()?);
    start_of(&commit, &name)
}

/// `name` is a full one: `refs/heads/main`, or `HEAD` where that is detached.
fn start_of(commit: &str, name: &str) -> Option<Start> {
    let branch = name.strip_prefix("refs/heads/").map(ToOwned::to_owned);
    is_object_name(commit).then(|| (commit.to_owned(), branch))
}

/// The version of the `git` that is called, in its own words.
pub(crate) fn version_of_git(directory: &Path) -> Result<String, OpenError> {
    Ok(Git::look(directory, ["version"]).word()?)
}

/// Whether that is new enough.
fn check_version(directory: &Path) -> Result<(), OpenError> {
    let printed = version_of_git(directory)?;
    if parse_version(&printed).is_some_and(|found| found < OLDEST) {
        let found = printed.trim_start_matches("git version ").to_owned();
        return Err(Obstacle::TooOld { found: escape(&found).into_owned() }.into());
    }
    Ok(())
}

/// Why git did not open the repository.
fn not_opened(project: &Path, error: GitError) -> OpenError {
    let project = shown(project);
    match error {
        GitError::Failed { words, .. } if words.contains("not a git repository") => {
            Obstacle::NotARepository { project }.into()
        }
        GitError::Failed { words, .. } if words.contains("dubious ownership") => {
            Obstacle::NotTrusted { project, words }.into()
        }
        other => other.into(),
    }
}

/// `git version 2.39.5`, `git version 2.39.2 (Apple Git-143)`.
fn parse_version(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.strip_prefix("git version ")?.split(['.', ' ', '-']);
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// SHA-1 or SHA-256.
fn is_object_name(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The contents of a file of git's, without the newline at the end; none where there is no such file.
fn read_line(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(mut bytes) => {
            if bytes.ends_with(b"\n") {
                bytes.pop();
            }
            Ok(Some(bytes))
        }
        // `.git` of a main checkout is a directory.
        Err(error)
            if durable::is_no_directory(&error) || error.kind() == io::ErrorKind::IsADirectory =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Puts an empty file among git's own, as a mark that something has begun there. Not synced: a crash of the machine may
/// take it back.
fn put_mark(path: &Path) -> Result<()> {
    fs::write(path, "").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
