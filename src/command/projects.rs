//! The projects that a pass looks at.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::config::{Config, Dedicated, Projects};
use crate::durable;
use crate::error::{Failure, unreadable_config};
use crate::log::Log;
use crate::queue::QUEUE;
use crate::text::{escape, path_text};

/// The projects of this pass, each once, in a fixed order: the dedicated ones as configured, then by path.
pub(super) fn project_dirs(config: &Config, log: &Log) -> Result<Vec<PathBuf>> {
    let found = match &config.projects {
        Projects::Given(given) => {
            given.iter().map(|path| given_project(path)).collect::<Result<_>>()?
        }
        Projects::NearestTo(start) => vec![nearest(start).ok_or_else(|| {
            Failure::Config(format!(
                "there is no {QUEUE} in {} or above it; {}, or name a projects_dir in ~/.config/ccl/config.yaml",
                shown(start),
                remedy(start)
            ))
        })?],
        Projects::Dedicated => dedicated(config, log),
        Projects::ChildrenOf(directory) => {
            let mut found = dedicated(config, log);
            found.extend(children(directory, log)?);
            found
        }
    };
    let mut seen = HashSet::new();
    Ok(found.into_iter().filter(|path| seen.insert(path.clone())).collect())
}

fn dedicated(config: &Config, log: &Log) -> Vec<PathBuf> {
    let mut projects = Vec::new();
    for Dedicated { project, .. } in &config.dedicated {
        if has_queue(project).unwrap_or(false) {
            projects.push(project.clone());
        } else {
            log.warn(format_args!(
                "the project {} of a dedicated session has no {QUEUE}; {}",
                shown(project),
                remedy(project)
            ));
        }
    }
    projects
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

/// The project that the directory is in.
pub(super) fn nearest(start: &Path) -> Option<PathBuf> {
    let project = start.ancestors().find(|directory| has_queue(directory).unwrap_or(false))?;
    Some(project.to_owned())
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
            // Directories of other users are not worth a warning every minute.
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
        Err(error) if durable::is_no_directory(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn unreadable(path: &Path, error: io::Error) -> anyhow::Error {
    unreadable_config(format!("cannot look for projects in {}", shown(path)), error)
}

fn remedy(project: &Path) -> String {
    format!("run `mkdir -p {}`", shown(&project.join(QUEUE).join("inbox")))
}

fn shown(path: &Path) -> String {
    escape(&path_text(path)).into_owned()
}

#[cfg(test)]
mod tests;
