//! The exchange: a bare repository by which a task's work goes to another machine, and comes back.
//!
//! ```text
//! refs/ccl/KEY/base    what is to be worked on, and the prompt
//! refs/ccl/KEY/run     absent -> claim -> result, or -> tombstone: moved by compare-and-swap only
//! ```
//!
//! In the project nothing changes but git's objects, and a branch `ccl/T` for what came back: no ref of anybody else's,
//! no file, and no `FETCH_HEAD`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::git::{Git, GitError, shown};
use super::{GitStatus, Obstacle, OpenError, Repository, is_object_name};
use crate::config::{ExchangeAt, has_password};
use crate::durable;
use crate::marker::Worktree;
use crate::subprocess::RunError;
use crate::task::Summary;
use crate::text::escape;

/// The time limit of one call of git that talks with the exchange. A fetch of what came back gets what is left of its
/// pass's time, and at least this.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The name of a quarantine begins with this: a directory beside the project's objects, in which the objects of one
/// fetch lie until all of them are there.
const QUARANTINE: &str = "tmp_objdir-ccl-";
/// A quarantine older than this is a killed pass's: no fetch takes nearly as long.
const OLD_QUARANTINE: Duration = Duration::from_secs(60 * 60);

/// Who makes the commits that are not a person's or an agent's.
const IDENTITY: &[&str] =
    &["user.name=ccl", "user.email=ccl@localhost", "i18n.commitEncoding=UTF-8"];

/// Settings against what a user may have set for their own pushes.
const PUSH: &[&str] = &["push.followTags=false", "push.gpgSign=false", "push.recurseSubmodules=no"];
/// Settings against what a user may have set for their own fetches. `core.fsync=all` has all of it synced, by git 2.36
/// and newer: once the task is filed, the only other copy is deleted in the exchange.
const FETCH: &[&str] = &[
    "fetch.fsckObjects=true",
    "fetch.prune=false",
    "fetch.writeCommitGraph=false",
    "core.fsync=all",
];

/// What may stay behind, and does not hold the project's tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) uncommitted: bool,
    pub(crate) submodules: bool,
    pub(crate) lfs: bool,
}

/// A project as it goes to another machine.
#[derive(Debug, Clone)]
pub(crate) struct Travel {
    pub(crate) head: String,
    /// The branch that is checked out.
    pub(crate) branch: Option<String>,
    /// Where the project lies in its repository.
    pub(crate) subdirectory: PathBuf,
    /// The address from which a worker fetches submodules and LFS files, where it may.
    pub(crate) origin: Option<String>,
    /// The exchange's address.
    pub(crate) url: String,
}

/// What became of an attempt to move a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    Yes,
    /// The ref is not what the caller took it for: somebody else has moved it.
    Refused,
}

impl Repository {
    /// The project as it would go to the exchange, or what holds it here.
    pub(crate) fn travel(&self, exchange: &ExchangeAt, terms: Terms) -> Result<Travel, OpenError> {
        let project = || shown(&self.project);
        let (head, branch) =
            self.head.clone().ok_or_else(|| Obstacle::NoCommit { project: project() })?;
        if self.look(["rev-parse", "--is-shallow-repository"]).word()? == "true" {
            return Err(Obstacle::Shallow { project: project() }.into());
        }
        let modules = ["ls-tree", "--full-tree", "--name-only", head.as_str(), ".gitmodules"];
        if !terms.submodules && !self.look(modules).run()?.is_empty() {
            return Err(Obstacle::Submodules { project: project() }.into());
        }
        let attributes = ":(top,glob)**/.gitattributes";
        let pointers =
            ["grep", "--quiet", "-F", "-e", "filter=lfs", head.as_str(), "--", attributes];
        if !terms.lfs && self.look(pointers).is_yes()? {
            return Err(Obstacle::Lfs { project: project() }.into());
        }
        if !terms.uncommitted {
            let count = GitStatus::of(&self.project)?.changed;
            if count > 0 {
                return Err(Obstacle::Uncommitted { count, project: project() }.into());
            }
        }
        let origin = match terms.lfs || terms.submodules {
            // Every worker would show the password.
            true => self.address_of("origin")?.filter(|address| !has_password(address)),
            false => None,
        };
        let url = self.exchange_url(exchange)?;
        Ok(Travel { head, branch, subdirectory: self.subdirectory.clone(), origin, url })
    }

    /// The address of the exchange by which its tasks go.
    pub(crate) fn exchange_url(&self, exchange: &ExchangeAt) -> Result<String, OpenError> {
        let name = match exchange {
            ExchangeAt::Url(url) => return Ok(url.clone()),
            ExchangeAt::RemoteOfProject(name) => name,
        };
        let address = self.address_of(name)?;
        let (name, project) = (escape(name).into_owned(), shown(&self.project));
        match address {
            None => Err(Obstacle::NoRemote { name, project }.into()),
            Some(url) if has_password(&url) => {
                Err(Obstacle::PasswordInRemote { name, project }.into())
            }
            Some(url) => Ok(url),
        }
    }

    fn address_of(&self, remote: &str) -> Result<Option<String>, GitError> {
        match self.look(["remote", "get-url", remote]).word() {
            Ok(url) => Ok(Some(url)),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The branch that takes what came back for the task `T.md`: the first of `ccl/T`, `ccl/T.2` … that is free.
    pub(crate) fn plan_branch(&self, task: &str, base: &str) -> Result<Worktree, OpenError> {
        self.plan(task, Some(base), None)
    }

    /// Makes a branch of a commit; false where there is one of this name that is something else.
    pub(crate) fn make_branch(&self, branch: &str, commit: &str) -> Result<bool> {
        if let Some(tip) = self.find_tip(branch)? {
            return Ok(tip == commit);
        }
        let name = format!("refs/heads/{branch}");
        // The empty value says that there must be none.
        let args = [
            "-c",
            "core.fsync=all",
            "update-ref",
            "--create-reflog",
            "-m",
            "ccl",
            name.as_str(),
            commit,
            "",
        ];
        match Git::change(&self.project, &self.project, args).run() {
            Ok(_) => Ok(true),
            // Another pass may have made it meanwhile.
            Err(error @ GitError::Failed { .. }) => match self.find_tip(branch)? {
                Some(tip) => Ok(tip == commit),
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// What a branch brings that started from `base`.
    pub(crate) fn summary_of(&self, branch: &str, base: &str) -> Result<Summary> {
        self.summary(&Worktree {
            path: self.worktrees.clone(),
            branch: branch.to_owned(),
            base: base.to_owned(),
            base_branch: None,
            subdirectory: PathBuf::new(),
        })
    }
}

/// An exchange, as a project's git reaches it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange<'a> {
    pub(crate) project: &'a Path,
    pub(crate) url: &'a str,
}

impl<'a> Exchange<'a> {
    /// Makes an empty repository in `directory`, and returns the exchange as that reaches it.
    pub(crate) fn scratch(directory: &'a Path, url: &'a str) -> Result<Self, GitError> {
        Git::change(directory, directory, ["init", "--quiet", "--bare"]).run()?;
        Ok(Self { project: directory, url })
    }
}

impl Exchange<'_> {
    /// A commit of the tree of `of`, with these parents. Nothing refers to it yet.
    pub(crate) fn commit(&self, of: &str, parents: &[&str], message: &str) -> Result<String> {
        // By a file: a prompt may be longer than an argument can be.
        let mut file = NamedTempFile::new().context("cannot make a file for a commit's message")?;
        file.write_all(message.as_bytes()).context("cannot write a commit's message")?;
        let tree = format!("{of}^{{tree}}");
        let mut args = vec!["commit-tree", tree.as_str(), "-F", "-"];
        args.extend(parents.iter().flat_map(|parent| ["-p", parent]));
        let commit = Git::change(self.project, self.project, args).with(IDENTITY);
        Ok(commit.with_input(file.path()).word()?)
    }

    /// Gives `reference` this commit; nothing happens where it has it already.
    pub(crate) fn push(&self, commit: &str, reference: &str) -> Result<(), GitError> {
        let refspec = format!("{commit}:{reference}");
        self.change(["push", "--quiet", self.url, refspec.as_str()], PUSH).run().map(drop)
    }

    /// Makes a ref as a run does, of a commit that holds nothing, and removes it again.
    pub(crate) fn try_swap(&self, reference: &str) -> Result<Moved, GitError> {
        let tree = self.change(["mktree"], &[]).word()?;
        let args = ["commit-tree", tree.as_str(), "-m", "ccl doctor"];
        let commit = self.change(args, IDENTITY).word()?;
        let moved = self.swap(reference, None, &commit)?;
        self.delete(reference).map(|()| moved)
    }

    /// Moves a ref from `old`, or makes it where that is none.
    pub(crate) fn swap(
        &self,
        reference: &str,
        old: Option<&str>,
        new: &str,
    ) -> Result<Moved, GitError> {
        let lease = format!("--force-with-lease={reference}:{}", old.unwrap_or_default());
        let refspec = format!("{new}:{reference}");
        let args = ["push", "--quiet", lease.as_str(), self.url, refspec.as_str()];
        match self.change(args, PUSH).run() {
            Ok(_) => Ok(Moved::Yes),
            // The words of a client that has seen it, and of a server that has seen it at the last moment.
            Err(error)
                if ["stale info", "fetch first", "but expected", "reference already exists"]
                    .iter()
                    .any(|words| error.says(words)) =>
            {
                Ok(Moved::Refused)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a ref; nothing happens where there is none.
    pub(crate) fn delete(&self, reference: &str) -> Result<(), GitError> {
        let refspec = format!(":{reference}");
        match self.change(["push", "--quiet", self.url, refspec.as_str()], PUSH).run() {
            Err(error) if !error.says("remote ref does not exist") => Err(error),
            _ => Ok(()),
        }
    }

    /// All refs of `ccl` there, with the objects that they name.
    pub(crate) fn list(&self) -> Result<HashMap<String, String>, GitError> {
        let args = ["ls-remote", "--refs", self.url, "refs/ccl/*"];
        let printed = Git::look(self.project, args).remote(LIMIT).run()?;
        let printed = String::from_utf8_lossy(&printed);
        let pairs = printed.lines().filter_map(|line| line.split_once('\t'));
        let pairs = pairs.filter(|(object, _)| is_object_name(object));
        Ok(pairs.map(|(object, name)| (name.to_owned(), object.to_owned())).collect())
    }

    /// Brings what a ref names, and all that it needs, into the project's git, and checks every object. All of it comes
    /// into a quarantine first, as git does for a push, so that a fetch that is ended by its limit leaves nothing. A
    /// later fetch removes the quarantine of a killed pass; so does `git gc`, since the name is one of git's own.
    pub(crate) fn fetch(&self, reference: &str, limit: Duration) -> Result<(), GitError> {
        let objects = self.objects()?;
        let failed = |source| GitError::Objects { directory: shown(&objects), source };
        remove_old_quarantines(&objects).map_err(failed)?;
        let quarantine = tempfile::Builder::new().prefix(QUARANTINE).tempdir_in(&objects);
        let quarantine = quarantine.map_err(failed)?;
        let info = quarantine.path().join("info");
        fs::create_dir(&info).map_err(failed)?;
        // An alternate, the project's own objects: what is here already is not fetched again.
        fs::write(info.join("alternates"), "..\n").map_err(failed)?;
        let args = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-gc",
            self.url,
            reference,
        ];
        self.change(args, FETCH).remote(limit).with_objects(quarantine.path()).run()?;
        take_over(quarantine.path(), &objects).map_err(failed)
    }

    /// Where the project's git keeps its objects.
    fn objects(&self) -> Result<PathBuf, GitError> {
        let printed = Git::look(self.project, ["rev-parse", "--git-path", "objects"]).run()?;
        let path = printed.strip_suffix(b"\n").unwrap_or(&printed);
        Ok(self.project.join(OsStr::from_bytes(path)))
    }

    /// The bytes of a commit, `None` where the project's git has no such commit, or one that is too long to be read.
    pub(crate) fn read_commit(&self, object: &str) -> Result<Option<Vec<u8>>, GitError> {
        match Git::look(self.project, ["cat-file", "commit", object]).run() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(GitError::Failed { .. } | GitError::Run(RunError::TooLong { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the project's git has the object.
    pub(crate) fn has(&self, object: &str) -> Result<bool, GitError> {
        match Git::look(self.project, ["cat-file", "-e", object]).run() {
            Ok(_) => Ok(true),
            Err(GitError::Failed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a runner wrote into a file of its result; nothing where it has none of this name.
    pub(crate) fn read_file(&self, commit: &str, name: &str) -> Result<String> {
        let file = format!("{commit}:{name}");
        match Git::look(self.project, ["cat-file", "blob", file.as_str()]).run() {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(GitError::Failed { .. }) => Ok(String::new()),
            // A runner cuts its files. A longer one was put there by somebody else, and must not hold up the rest.
            Err(GitError::Run(RunError::TooLong { .. })) => {
                Ok("(It is longer than what any runner hands in.)".to_owned())
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot read what the runner wrote, `{name}`"))
            }
        }
    }

    fn change<'s>(
        &'s self,
        args: impl IntoIterator<Item = &'s str>,
        settings: &[&'static str],
    ) -> Git<'s> {
        Git::change(self.project, self.project, args).with(settings).remote(LIMIT)
    }
}

/// Removes the quarantines of killed passes. A younger one may be in use.
fn remove_old_quarantines(objects: &Path) -> io::Result<()> {
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(QUARANTINE.as_bytes()) {
            continue;
        }
        let age = entry.metadata().ok().and_then(|found| durable::age(&found, SystemTime::now()));
        if age.is_some_and(|age| age > OLD_QUARANTINE) {
            // It may be another user's, or another pass may remove it at this moment. Where it stays, it does no harm.
            let _left = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Moves the contents of `quarantine` to `objects`, as git itself does: what is there already stays, and an index comes
/// last, since nobody looks into a pack without it.
fn take_over(quarantine: &Path, objects: &Path) -> io::Result<()> {
    for entry in fs::read_dir(quarantine)? {
        let entry = entry?;
        let (name, from) = (entry.file_name(), entry.path());
        // Only `alternates` lies in `info`.
        if name == "info" || !entry.file_type()?.is_dir() {
            continue;
        }
        let to = objects.join(&name);
        // A whole directory at once, with the permissions that git has given it.
        if !to.exists() && fs::rename(&from, &to).is_ok() {
            continue;
        }
        let files = fs::read_dir(&from)?.map(|file| Ok(file?.file_name()));
        let mut files = files.collect::<io::Result<Vec<_>>>()?;
        files.sort_by_key(|file| Path::new(file).extension().is_some_and(|it| it == "idx"));
        for file in files {
            match fs::hard_link(from.join(&file), to.join(&file)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // A file system may have no such links, and `pack` may be a link to another disk.
                Err(_) => copy(&from.join(&file), &to, &file)?,
            }
        }
        durable::sync(&to)?;
    }
    durable::sync(objects)
}

fn copy(from: &Path, to: &Path, name: &OsStr) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix("tmp_").tempfile_in(to)?;
    let mut source = fs::File::open(from)?;
    io::copy(&mut source, &mut file)?;
    file.as_file().set_permissions(source.metadata()?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(to.join(name)).map(drop).map_err(|error| error.error)
}

impl GitError {
    /// Whether git refused an object that a fetch has brought, and would refuse it again. A connection that broke off,
    /// or a disk that is full, has other words.
    pub(crate) fn is_bad_object(&self) -> bool {
        self.says("fsck error")
    }

    /// Whether it is the time limit that ended the call.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Run(RunError::Timeout { .. }))
    }
}
