//! `ccl decide`: where each task would go, and by which rule. Changes nothing.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::{Context, Finished, combine_exit};
use crate::error;
use crate::queue::{self, Skip};
use crate::report::{self, DecisionRow, Report};
use crate::router;
use crate::task::Task;

/// Decides for each file that can be read, and reports errors for the others.
pub(super) fn run(context: Context<'_>, files: &[PathBuf]) -> Finished {
    let mut decisions = Vec::new();
    let mut exit = 0;
    for file in files {
        match read(file) {
            Ok(task) => decisions.push(decide(context, file, &task)),
            Err(error) => {
                context.log.error(format_args!("{error:#}"));
                exit = combine_exit(exit, error::exit_code(&error));
            }
        }
    }
    Finished { report: Report::Decisions { decisions }, exit }
}

/// For a file that `scan` would not take the error is the reason that `scan` would give.
fn read(path: &Path) -> Result<Task> {
    queue::read_file(path).map_err(|skip| match skip {
        Skip::Gone => anyhow!("there is no file {}", path.display()),
        Skip::Held(held) => anyhow!("{} would be held: {held}", path.display()),
        Skip::Unfit(_, unfit) => anyhow!("{} would be filed as failed: {unfit}", path.display()),
        Skip::Failed(error) => error,
    })
}

fn decide(context: Context<'_>, path: &Path, task: &Task) -> DecisionRow {
    let config = context.config;
    let decision = router::decide(&task.header.routing, &config.auto_routes);
    let is_on = config.secutools.is_ok();
    let delegated = decision.provider.is_remote() && is_on;
    let warnings = task.warnings.iter();
    let mut warnings: Vec<String> =
        warnings.map(|w| report::warning(path, Some((w.line, w.column)), &w.message)).collect();
    if let (true, Err(off)) = (decision.provider.is_remote(), &config.secutools) {
        let sentence = format!("it runs locally whatever the rule says: {off}");
        warnings.push(report::warning(path, None, &sentence));
    }
    DecisionRow {
        task: path.to_owned(),
        provider: decision.provider,
        delegated,
        delegation_enabled: is_on,
        rule: decision.rule.to_string(),
        model: if delegated { None } else { config.model(task.header.priority) },
        priority: task.header.priority,
        warnings,
    }
}
