//! Which task a person means: by its path, or by its name in one of the projects.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::Context;
use crate::queue::{Folder, Name, Project, QUEUE};
use crate::text::path_text;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskPlace {
    /// `inbox/T.md`; delegated, if there is a `T.md.delegated`.
    Waiting,
    /// `inbox/T.md.dispatched`
    Dispatched,
    Done,
    Failed,
}

impl TaskPlace {
    pub(super) fn folder(self) -> Folder {
        match self {
            Self::Waiting | Self::Dispatched => Folder::Inbox,
            Self::Done => Folder::Done,
            Self::Failed => Folder::Failed,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) project: Project,
    pub(super) name: Name,
    pub(super) place: TaskPlace,
}

impl Target {
    fn path(&self) -> PathBuf {
        match self.place {
            TaskPlace::Dispatched => self.project.dispatched_path(&self.name),
            place => self.project.folder(place.folder()).join(self.name.as_str()),
        }
    }

    /// A delegated task is there even if its file was deleted.
    fn exists(&self) -> bool {
        let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
        is_there(self.path())
            || self.place == TaskPlace::Waiting && is_there(self.project.delegated_path(&self.name))
    }
}

/// As a person may type it.
impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&path_text(&self.path()))
    }
}

/// Finds the task in one of the places. A bare name is looked for in the first group of places in all projects, then in
/// the next group.
pub(super) fn find(context: Context<'_>, task: &OsStr, places: &[&[TaskPlace]]) -> Result<Target> {
    let path = Path::new(task);
    if path.components().count() > 1 || path.is_absolute() {
        let target = by_path(path)?.filter(|target| places.concat().contains(&target.place));
        let target = target.with_context(|| {
            format!("{} is no task {} of a project", path.display(), named(&places.concat()))
        })?;
        ensure!(target.exists(), "there is no {target}");
        return Ok(target);
    }
    let projects = context.projects()?;
    for places in places {
        let mut found = by_name(&projects, path, places)?;
        if found.len() > 1 {
            let paths: Vec<String> = found.iter().map(Target::to_string).collect();
            bail!(
                "there are several tasks {}: name one by its path, {}",
                path.display(),
                paths.join(" or ")
            );
        }
        if let Some(target) = found.pop() {
            return Ok(target);
        }
    }
    let shown: Vec<String> = projects.iter().map(|it| path_text(it.path())).collect();
    bail!(
        "no task {} {} of {}: see `ccl status`, or name the task by its path",
        path.display(),
        named(&places.concat()),
        shown.join(", ")
    )
}

fn by_name(projects: &[Project], task: &Path, places: &[TaskPlace]) -> Result<Vec<Target>> {
    let mut file = task.as_os_str().to_owned();
    if task.extension().is_none_or(|extension| extension != "md") {
        file.push(".md");
    }
    let name = Name::new(&file).map_err(|held| anyhow::anyhow!("{}: {held}", task.display()))?;
    let candidates = projects.iter().flat_map(|project| {
        let target = |&place| Target { project: project.clone(), name: name.clone(), place };
        places.iter().map(target)
    });
    Ok(candidates.filter(Target::exists).collect())
}

/// The task that a path means, whether it exists or not.
fn by_path(path: &Path) -> Result<Option<Target>> {
    let Some((directory, file)) = path.parent().zip(path.file_name()) else {
        return Ok(None);
    };
    let directory = directory
        .canonicalize()
        .with_context(|| format!("cannot look into {}", directory.display()))?;
    // PROJECT/.agent-queue/FOLDER/FILE
    let parts = || {
        let queue = directory.parent().filter(|queue| queue.ends_with(QUEUE))?;
        Some((queue.parent()?, directory.file_name()?.to_str()?, file.to_str()?))
    };
    let Some((project, folder, file)) = parts() else {
        return Ok(None);
    };
    let (file, place) = match (folder, file.strip_suffix(".dispatched")) {
        ("inbox", Some(file)) => (file, TaskPlace::Dispatched),
        ("inbox", None) => (file.strip_suffix(".delegated").unwrap_or(file), TaskPlace::Waiting),
        ("done", _) => (file, TaskPlace::Done),
        ("failed", _) => (file, TaskPlace::Failed),
        _ => return Ok(None),
    };
    Ok(Name::from_marker(file).map(|name| Target {
        project: Project::new(project.to_owned()),
        name,
        place,
    }))
}

/// `in failed/ or done/`
fn named(places: &[TaskPlace]) -> String {
    let word = |place: &TaskPlace| match place {
        TaskPlace::Waiting | TaskPlace::Dispatched => "inbox/",
        TaskPlace::Done => "done/",
        TaskPlace::Failed => "failed/",
    };
    let mut words: Vec<&str> = places.iter().map(word).collect();
    words.dedup();
    format!("in {}", words.join(" or "))
}
