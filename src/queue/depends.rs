//! What a task depends on: looked up when its turn has come, and never stored.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Result;

use super::{Folder, Name, Project, TaskRef};
use crate::durable;
use crate::task::Order;

/// Looks at what tasks depend on. Each of them is looked at once in a pass.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    looked_at: HashMap<(PathBuf, String), Option<Unready>>,
    /// Tasks that are known to be in no cycle.
    straight: HashSet<(PathBuf, String)>,
}

/// Why nothing may be built on a task yet.
#[derive(Debug, Clone, Copy)]
enum Unready {
    NotDone,
    Failed,
    Missing,
    NoName,
}

impl Dependencies {
    /// Why the task has to wait, as a clause: `schema.md failed`; `None` where all that it depends on is done.
    pub(crate) fn wait(&mut self, project: &Project, order: &Order) -> Result<Option<String>> {
        let unready = self.unready(project, order)?;
        let reasons: Vec<String> = unready.into_iter().map(|(_, reason)| reason).collect();
        Ok((!reasons.is_empty()).then(|| reasons.join(" and ")))
    }

    /// Those of its dependencies that stay unready until a person acts (one that failed, that is nowhere, or that is no
    /// task's name), each with what to do.
    pub(crate) fn lost(&mut self, project: &Project, order: &Order) -> Result<Option<String>> {
        let mut reasons = Vec::new();
        for (unready, reason) in self.unready(project, order)? {
            let what_to_do = match unready {
                Unready::NotDone => continue,
                Unready::Failed => "`ccl retry` it",
                Unready::Missing => "add it",
                Unready::NoName => "correct it",
            };
            reasons.push(format!("{reason}: {what_to_do}, or take it out of `depends_on`"));
        }
        Ok((!reasons.is_empty()).then(|| reasons.join("; ")))
    }

    /// Each dependency that is not done yet, once, with a clause that names it as the header of the waiting task does.
    fn unready(&mut self, project: &Project, order: &Order) -> Result<Vec<(Unready, String)>> {
        let mut found: Vec<(Unready, String)> = Vec::new();
        let mut seen = HashSet::new();
        for written in &order.depends_on {
            let Some(task) = resolve(project, written) else {
                let reason = format!("`{written}` is not the name of a task");
                if found.iter().all(|(_, known)| *known != reason) {
                    found.push((Unready::NoName, reason));
                }
                continue;
            };
            if !seen.insert(key_of(&task)) {
                continue;
            }
            let Some(unready) = self.look(&task)? else { continue };
            let shown = match written.rsplit_once(':') {
                Some((path, _)) if task.project != *project => format!("{path}:{}", task.name),
                _ => task.name.to_string(),
            };
            let reason = match unready {
                Unready::NotDone => format!("{shown} is not done yet"),
                Unready::Failed => format!("{shown} failed"),
                Unready::Missing | Unready::NoName => format!("there is no {shown}"),
            };
            found.push((unready, reason));
        }
        Ok(found)
    }

    fn look(&mut self, task: &TaskRef) -> Result<Option<Unready>> {
        let key = key_of(task);
        if let Some(known) = self.looked_at.get(&key) {
            return Ok(*known);
        }
        let TaskRef { project, name } = task;
        // `done/` first: `ccl retry` of a task that was done leaves it there, and puts a copy into the inbox.
        let there = |folder| durable::exists(&project.folder(folder).join(name.as_str()));
        let unready = if there(Folder::Done)? {
            None
        } else if there(Folder::Inbox)? || project.is_active(name.as_str(), "".as_ref())? {
            Some(Unready::NotDone)
        } else if there(Folder::Failed)? {
            Some(Unready::Failed)
        } else {
            Some(Unready::Missing)
        };
        self.looked_at.insert(key, unready);
        Ok(unready)
    }

    /// The cycle that a waiting task is part of, from it to itself: `a.md → b.md → a.md`.
    pub(crate) fn cycle(&mut self, task: &TaskRef, order: &Order) -> Option<String> {
        // The path to the task at hand; each task with those of its dependencies that were not looked at yet.
        let mut way: Vec<(TaskRef, Vec<String>)> = vec![(task.clone(), order.depends_on.clone())];
        let mut seen = HashSet::from([key_of(task)]);
        // How many tasks at the beginning of the path lead into a cycle: none of these may be noted as straight.
        let mut crooked = 0;
        while let Some((here, next)) = way.last_mut() {
            let here = here.clone();
            let Some(written) = next.pop() else {
                if way.len() > crooked {
                    self.straight.insert(key_of(&here));
                }
                way.pop();
                crooked = crooked.min(way.len());
                continue;
            };
            let Some(further) = resolve(&here.project, &written) else { continue };
            if further == *task {
                let names = way.iter().map(|(task, _)| task.name.as_str());
                let names: Vec<&str> = names.chain([task.name.as_str()]).collect();
                return Some(names.join(" → "));
            }
            // A cycle that the task is not part of is named at its own tasks: here it only ends the walk.
            if self.straight.contains(&key_of(&further)) {
                continue;
            }
            if !seen.insert(key_of(&further)) {
                crooked = way.len();
                continue;
            }
            // What does not wait, or cannot be read, leads no further.
            if let Ok(peek) = further.project.peek(further.name.as_str().as_ref()) {
                way.push((further, peek.head.order.depends_on));
            }
        }
        None
    }
}

fn key_of(task: &TaskRef) -> (PathBuf, String) {
    (task.project.path().to_owned(), task.name.to_string())
}

/// The task that is meant: `T.md` or `T` of this project, or `PATH:T.md` of another, by the path from this one to it.
pub(crate) fn resolve(project: &Project, written: &str) -> Option<TaskRef> {
    let (other, name) = match written.rsplit_once(':') {
        Some((path, name)) => (Some(path), name),
        None => (None, written),
    };
    let file = if name.ends_with(".md") { name.to_owned() } else { format!("{name}.md") };
    let name = Name::from_marker(&file)?;
    let project = match other {
        None => project.clone(),
        Some(path) => {
            let path = project.path().join(path);
            // Two ways to write one directory are one project.
            Project::new(path.canonicalize().unwrap_or(path))
        }
    };
    Some(TaskRef { project, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn project(root: &std::path::Path, name: &str) -> Project {
        let project = Project::new(root.join(name));
        for folder in [Folder::Inbox, Folder::Done, Folder::Failed] {
            fs::create_dir_all(project.folder(folder)).unwrap();
        }
        project
    }

    fn order(depends_on: &[&str]) -> Order {
        Order {
            depends_on: depends_on.iter().map(|it| (*it).to_owned()).collect(),
            ..Order::default()
        }
    }

    fn put(project: &Project, folder: Folder, name: &str, depends_on: &str) {
        let text = format!("---\ndepends_on: [{depends_on}]\n---\nx\n");
        fs::write(project.folder(folder).join(name), text).unwrap();
    }

    #[test]
    fn ready_is_what_depends_on_nothing_that_is_not_done() {
        let dir = tempfile::tempdir().unwrap();
        let (web, api) = (project(dir.path(), "web"), project(dir.path(), "api"));
        put(&web, Folder::Done, "a.md", "");
        put(&web, Folder::Failed, "a.md", "");
        put(&web, Folder::Failed, "f.md", "");
        put(&web, Folder::Inbox, "w.md", "");
        put(&web, Folder::Inbox, "d.md.dispatched", "");
        put(&api, Folder::Done, "auth.md", "");
        for (depends_on, expected) in [
            (&[][..], None),
            (&["a.md", "a", "../api:auth.md"], None),
            (&["w.md"], Some("w.md is not done yet")),
            (&["a.md", "d.md"], Some("d.md is not done yet")),
            (&["f", "f.md"], Some("f.md failed")),
            (&["n.md", "../api:a.md"], Some("there is no n.md and there is no ../api:a.md")),
            (&["../none:a.md"], Some("there is no ../none:a.md")),
            (&["x/y.md"], Some("`x/y.md` is not the name of a task")),
        ] {
            let found = Dependencies::default().wait(&web, &order(depends_on)).unwrap();
            assert_eq!(found.as_deref(), expected, "{depends_on:?}");
        }
        for (depends_on, expected) in [
            (&["a.md", "w.md", "d.md"][..], None),
            (&["w.md", "f"], Some("f.md failed: `ccl retry` it, or take it out of `depends_on`")),
            (&["n"], Some("there is no n.md: add it, or take it out of `depends_on`")),
            (
                &["x/y", "f.md"],
                Some(
                    "`x/y` is not the name of a task: correct it, or take it out of `depends_on`; \
                     f.md failed: `ccl retry` it, or take it out of `depends_on`",
                ),
            ),
        ] {
            let found = Dependencies::default().lost(&web, &order(depends_on)).unwrap();
            assert_eq!(found.as_deref(), expected, "{depends_on:?}");
        }
    }

    #[test]
    fn each_task_is_named_once_in_the_words_of_whoever_waits() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (web, api) = (project(&root, "web"), project(&root, "api"));
        // One pass: what one task has looked up is not looked up again for the others.
        let mut dependencies = Dependencies::default();
        let absolute = format!("{}:z", api.path().display());
        for (of, depends_on, expected) in [
            (&web, &[absolute.as_str()][..], format!("there is no {absolute}.md")),
            (
                &web,
                &["../api:z", "../api:z.md", "../web/../api:z"],
                "there is no ../api:z.md".into(),
            ),
            (&api, &["z"], "there is no z.md".into()),
            (&api, &["../api:z.md", "z"], "there is no z.md".into()),
            (&web, &["a/b", "a/b"], "`a/b` is not the name of a task".into()),
        ] {
            let found = dependencies.wait(of, &order(depends_on)).unwrap();
            assert_eq!(found, Some(expected), "{depends_on:?}");
        }
    }

    #[test]
    fn a_cycle_is_named_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (web, api) = (project(dir.path(), "web"), project(dir.path(), "api"));
        put(&web, Folder::Inbox, "a.md", "b");
        put(&web, Folder::Inbox, "b.md", "x.md, ../api:c.md");
        put(&api, Folder::Inbox, "c.md", "../web:a.md");
        put(&web, Folder::Inbox, "before.md", "a.md");
        put(&web, Folder::Inbox, "self.md", "self");
        put(&web, Folder::Inbox, "x.md", "y.md");
        put(&web, Folder::Inbox, "y.md", "");
        let web = Project::new(web.path().canonicalize().unwrap());
        let mut dependencies = Dependencies::default();
        let mut cycle = |name: &str, depends_on: &[&str]| {
            let name = Name::new(name.as_ref()).unwrap();
            dependencies.cycle(&TaskRef { project: web.clone(), name }, &order(depends_on))
        };
        assert_eq!(cycle("x.md", &["y.md"]), None);
        assert_eq!(cycle("before.md", &["a.md"]), None);
        assert_eq!(cycle("self.md", &["self"]).as_deref(), Some("self.md → self.md"));
        assert_eq!(cycle("a.md", &["b"]).as_deref(), Some("a.md → b.md → c.md → a.md"));
        assert_eq!(
            cycle("b.md", &["x.md", "../api:c.md"]).as_deref(),
            Some("b.md → c.md → a.md → b.md")
        );
    }
}
