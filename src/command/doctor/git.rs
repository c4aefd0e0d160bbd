//! Git, where tasks have worktrees.

use crate::checkout::{Repository, version_of_git};
use crate::config::Config;
use crate::queue::Project;
use crate::report::DoctorRow;
use crate::task::Isolation;

/// Whether each `project.yaml` can be read, and whether git can make the worktrees that it asks for. Git is not asked
/// where no task has a worktree.
pub(super) fn checks(config: &Config, projects: &[Project]) -> Vec<DoctorRow> {
    let mut checks = Vec::new();
    let mut with_worktrees = Vec::new();
    for project in projects {
        match config.project_rules(&project.rules_path()) {
            Ok(rules) if rules.task.isolation == Isolation::Worktree => {
                with_worktrees.push((project, rules.task.base));
            }
            Ok(_) => {}
            Err(error) => checks.push(DoctorRow::bad(
                "project",
                format!("{error:#}"),
                "mend it: until then none of the project's tasks goes to a session",
            )),
        }
    }
    let Some((first, _)) = with_worktrees.first() else { return checks };
    let version = match version_of_git(first.path()) {
        Ok(version) => version,
        Err(error) => {
            checks.push(DoctorRow::bad("git", "no task can have a worktree", format!("{error:#}")));
            return checks;
        }
    };
    let before = checks.len();
    checks.extend(with_worktrees.iter().filter_map(|(project, base)| {
        let start =
            Repository::open(project.path()).and_then(|it| it.start_commit(base.as_deref()));
        let detail = || format!("no task in {} can have a worktree", project.path().display());
        start.err().map(|why| DoctorRow::bad("git", detail(), format!("{why:#}")))
    }));
    if checks.len() == before {
        let count = with_worktrees.len();
        checks.push(DoctorRow::good(
            "git",
            format!("{version}, for worktrees in {count} project(s)"),
        ));
    }
    checks
}
