//! What must hold before a task goes: its project's rules can be read, and git can give what they ask for.

use anyhow::{Result, bail};

use crate::checkout::{self, Repository};
use crate::config::Config;
use crate::marker::{self, SetupHold};
use crate::queue::Project;
use crate::task::{Isolation, ProjectRules, TaskRules};

/// The rules of a project, and the repository where its tasks have worktrees; or the sentence that says why none of its
/// local tasks goes.
pub(super) fn of_project(
    config: &Config,
    project: &Project,
) -> Result<(ProjectRules, Option<Repository>)> {
    let rules = config.project_rules(&project.rules_path())?;
    let repository = of_task(project, &rules, &rules.task)?;
    Ok((rules, repository))
}

/// The repository in which a task with these rules has its worktree, if it has one. The error is the sentence that
/// mends why it cannot go. Outside of git no process is started, and in it none for a task that neither has a worktree
/// nor requires a clean checkout.
pub(super) fn of_task(
    project: &Project,
    project_rules: &ProjectRules,
    rules: &TaskRules,
) -> Result<Option<Repository>> {
    if rules.isolation == Isolation::None && !rules.protect.is_empty() {
        bail!(
            "`protect` needs a worktree for each task, and {} says isolation: none: say `isolation: worktree`, or `protect: []`",
            project.rules_path().display()
        );
    }
    match rules.isolation {
        Isolation::Worktree => {
            let repository = Repository::open(project.path())?;
            let start = repository.start_commit(rules.base.as_deref())?;
            if let Some(hold) = setup_hold(project, rules, &start)? {
                bail!(
                    "{}: mend it, then run `ccl resume`, or change project.yaml or HEAD",
                    hold.reason
                );
            }
            return Ok(Some(repository));
        }
        Isolation::None if project_rules.require_clean => {
            if !checkout::is_inside_git(project.path()) {
                bail!(
                    "project.yaml says require_clean, and {} is in no git repository: run `git init` there, or take that out",
                    project.path().display()
                );
            }
            let dirty = checkout::state(project.path())?.dirty;
            if dirty > 0 {
                bail!(
                    "{dirty} files in {} are not committed, and project.yaml says require_clean: commit or stash them",
                    project.path().display()
                );
            }
        }
        Isolation::None => {}
    }
    Ok(None)
}

/// The hold of a project whose set-up has failed. It counts until `setup`, `copy` or the commit to start from changes.
fn setup_hold(project: &Project, rules: &TaskRules, start: &str) -> Result<Option<SetupHold>> {
    let hold = marker::read::<SetupHold>(&project.setup_hold_path())?;
    Ok(hold.filter(|hold| {
        (&hold.rules.setup, &hold.rules.copy) == (&rules.setup, &rules.copy)
            && hold.head.as_deref() == Some(start)
    }))
}
