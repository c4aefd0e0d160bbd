//! Which projects a pass looks at.

use super::{Config, Dedicated, load::absolute_here};
use crate::environment::Environment;
use crate::error::{Failure, is_temporary};
use crate::log::Log;
use crate::text::escape;
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// The directory that makes its parent a project.
const QUEUE: &str = ".agent-queue";

/// Where projects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projects {
    /// These, given with `--project`, and no others.
    Given(Vec<PathBuf>),
    /// Those of the dedicated sessions, and every child of this directory that has an `.agent-queue`.
    ChildrenOf(PathBuf),
    /// Those of the dedicated sessions only.
    Dedicated,
    /// Nothing is configured: the nearest of this directory and its parents that has an `.agent-queue`.
    NearestTo(PathBuf),
}

impl Projects {
    /// `--project` goes before everything; the current directory counts only where nothing is configured.
    pub(super) fn choose(
        given: &[PathBuf],
        directory: Option<PathBuf>,
        dedicated: &[Dedicated],
        environment: &Environment,
    ) -> Result<Self, Failure> {
        if !given.is_empty() {
            let absolute = given.iter().map(|path| absolute_here(path, environment));
            return Ok(Self::Given(absolute.collect::<Result<_, _>>()?));
        }
        Ok(match directory {
            Some(directory) => Self::ChildrenOf(directory),
            None if !dedicated.is_empty() => Self::Dedicated,
            None => Self::NearestTo(environment.current_dir.clone().unwrap_or_default()),
        })
    }
}

impl Config {
    /// The projects of this pass, each once, in a fixed order: the dedicated ones as configured, then by path. A
    /// dedicated project without a queue, or a child that cannot be looked into, is skipped with a warning.
    ///
    /// # Errors
    /// [`Failure::Config`] where `--project` or `projects_dir` leads nowhere, or there is no project at all to start
    /// from; the sentence says what to do.
    pub fn project_dirs(&self, log: &Log) -> Result<Vec<PathBuf>> {
        let mut found = match &self.projects {
            Projects::Given(given) => {
                return given
                    .iter()
                    .map(|path| given_project(path))
                    .collect::<Result<Vec<_>>>()
                    .map(without_repeats);
            }
            Projects::NearestTo(start) => return Ok(vec![nearest(start)?]),
            Projects::Dedicated | Projects::ChildrenOf(_) => self.dedicated_projects(log),
        };
        if let Projects::ChildrenOf(directory) = &self.projects {
            found.extend(children(directory, log)?);
        }
        Ok(without_repeats(found))
    }

    fn dedicated_projects(&self, log: &Log) -> Vec<PathBuf> {
        let projects = self.dedicated.iter().map(|dedicated| &dedicated.project);
        projects
            .filter(|project| {
                let is_project = has_queue(project).unwrap_or(false);
                if !is_project {
                    log.warn(format_args!(
                        "the project {} of a dedicated session has no {QUEUE}; {}",
                        shown(project),
                        remedy(project)
                    ));
                }
                is_project
            })
            .cloned()
            .collect()
    }
}

/// The project's real path: two ways to write one directory are one project.
fn given_project(path: &Path) -> Result<PathBuf> {
    match has_queue(path) {
        Ok(true) => {
            path.canonicalize().with_context(|| format!("cannot resolve {}", path.display()))
        }
        Ok(false) => Err(Failure::Config(format!(
            "--project {}: there is no {QUEUE} in it; {}",
            shown(path),
            remedy(path)
        ))
        .into()),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn nearest(start: &Path) -> Result<PathBuf, Failure> {
    let project = start.ancestors().find(|directory| has_queue(directory).unwrap_or(false));
    project.map(Path::to_path_buf).ok_or_else(|| {
        Failure::Config(format!(
            "there is no {QUEUE} in {} or above it; {}, or name a projects_dir in ~/.config/ccl/config.yaml",
            shown(start),
            remedy(start)
        ))
    })
}

/// One `stat` for each child: a directory of hundreds of projects is looked through every minute.
fn children(directory: &Path, log: &Log) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = directory.read_dir().map_err(|error| unreadable(directory, error))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", directory.display()))?.path();
        match has_queue(&path) {
            Ok(true) => found.push(path),
            Ok(false) => {}
            // Somebody else's directory among ours is an ordinary thing.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                log.debug(format_args!("skipped {}: {error}", shown(&path)));
            }
            Err(error) => log.warn(format_args!("skipped {}: {error}", shown(&path))),
        }
    }
    found.sort();
    Ok(found)
}

fn has_queue(directory: &Path) -> io::Result<bool> {
    match directory.join(QUEUE).metadata() {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
            _ => Err(error),
        },
    }
}

fn unreadable(path: &Path, error: io::Error) -> anyhow::Error {
    let sentence = format!("cannot look for projects in {}: {error}", shown(path));
    if is_temporary(&error) {
        anyhow::Error::new(error).context(sentence)
    } else {
        Failure::Config(sentence).into()
    }
}

fn remedy(project: &Path) -> String {
    format!("run `mkdir -p {}`", shown(&project.join(QUEUE).join("inbox")))
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy()).into_owned()
}

fn without_repeats(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    paths.into_iter().filter(|path| seen.insert(path.clone())).collect()
}
