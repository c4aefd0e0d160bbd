//! `ccl decide`: where each task would go, and by which rule. Changes nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use super::trust::Trusts;
use super::waits::Waits;
use super::{Answer, Context, combine_exit};
use crate::error;
use crate::hold::{Choice, Holds, Lineup};
use crate::queue::{self, Name, Project, QUEUE, Skip, TaskRef};
use crate::remote::{self, Departure};
use crate::report::{self, DecisionRow, Report};
use crate::spend;
use crate::task::{Order, ProjectRules, Provider, Task};
use crate::text::path_text;

/// Decides for each file that can be read, and reports errors for the others.
pub(super) fn run(context: Context<'_>, files: &[PathBuf]) -> Answer {
    let mut decisions = Vec::new();
    let mut exit = 0;
    // One for all files: where a hold's time has come, only the first task is its probe.
    let mut lineup = Holds::new(context.config, context.now).lineup();
    for file in files {
        let decision = read(file).and_then(|task| {
            let rules = project_rules(context, file)?;
            let waits = waits(context, file, &task)?;
            let project = project_of(file)?;
            let decision = decide(context, &mut lineup, file, project.as_ref(), &task, &rules)?;
            // Its dependencies are named before its agent's hold.
            Ok(DecisionRow { waits: waits.or(decision.waits), ..decision })
        });
        match decision {
            Ok(decision) => decisions.push(decision),
            Err(error) => {
                context.log.error(format_args!("{error:#}"));
                exit = combine_exit(exit, error::exit_code(&error));
            }
        }
    }
    Answer { report: Report::Decisions { decisions }, exit }
}

/// Reads the file. Where `scan` would not take it, the error is the reason that `scan` would give.
fn read(path: &Path) -> Result<Task> {
    queue::read_file(path).map_err(|skip| match skip {
        Skip::Gone => anyhow!("there is no file {}", path.display()),
        Skip::Held(held) => anyhow!("{} would be held: {held}", path.display()),
        Skip::Unfit(_, unfit) => anyhow!("{} would be filed as failed: {unfit}", path.display()),
        other => other.into(),
    })
}

/// What the task waits for.
fn waits(context: Context<'_>, file: &Path, task: &Task) -> Result<Option<String>> {
    let order = &task.header.order;
    let mut waits = Waits::new(context.now);
    let Some(project) = project_of(file)? else {
        // Outside of a queue only its time counts: there is no project in which to look up what it depends on.
        let order = Order { depends_on: Vec::new(), ..order.clone() };
        return waits.why(&Project::new(PathBuf::new()), &order);
    };
    let name = Name::new(file.file_name().unwrap_or_default()).map_err(anyhow::Error::from)?;
    waits.why_in_full(&TaskRef { project, name }, order)
}

/// The project in whose queue the file lies.
fn project_of(file: &Path) -> Result<Option<Project>> {
    let absolute =
        std::path::absolute(file).with_context(|| format!("cannot find {}", file.display()))?;
    // PROJECT/.agent-queue/FOLDER/FILE
    let mut above = absolute.ancestors().skip(2);
    Ok(match (above.next(), above.next()) {
        (Some(queue), Some(project)) if queue.ends_with(QUEUE) => {
            Some(Project::new(project.to_owned()))
        }
        _ => None,
    })
}

/// What holds in the project in whose queue the file lies; for a file elsewhere, what holds by default.
fn project_rules(context: Context<'_>, file: &Path) -> Result<ProjectRules> {
    match project_of(file)? {
        Some(project) => {
            let what = || format!("{} would be held", file.display());
            context.config.project_rules(&project.rules_path()).with_context(what)
        }
        None => Ok(context.config.default_rules()),
    }
}

fn decide<'a>(
    context: Context<'a>,
    lineup: &mut Lineup<'a>,
    path: &Path,
    project: Option<&Project>,
    task: &Task,
    rules_of_project: &ProjectRules,
) -> Result<DecisionRow> {
    let config = context.config;
    let decision = context.route(&task.header, rules_of_project.agent.as_deref());
    let is_on = match decision.provider {
        Provider::Remote => config.remote.is_some(),
        _ => config.secutools.is_ok(),
    };
    let delegated = decision.provider.is_remote() && is_on;
    let rules = (!delegated).then(|| rules_of_project.for_task(&task.header.rules));
    let warnings = task.warnings.iter();
    let mut warnings: Vec<String> =
        warnings.map(|w| report::warning(path, Some((w.line, w.column)), &w.message)).collect();
    let off = match (decision.provider, &config.secutools) {
        (Provider::Remote, _) if !is_on => {
            Some("there is no `remote:` in the configuration".to_owned())
        }
        (Provider::Remote | Provider::ClaudeCode, _) | (_, Ok(_)) => None,
        (_, Err(off)) => Some(off.to_string()),
    };
    if let Some(off) = off {
        let sentence = format!("it runs locally whatever the rule says: {off}");
        warnings.push(report::warning(path, None, &sentence));
    }
    let of_project = rules_of_project.for_task(&task.header.rules);
    if let (true, Some(settings), Some(project)) =
        (delegated && decision.provider == Provider::Remote, &config.remote, project)
        && let Departure::Held(why) = remote::departure(settings, project.path())?
    {
        warnings.push(report::warning(path, None, &format!("it would be held: {why}")));
    }
    // The runner of the remote engine runs the check, too; secutools does not.
    let judged = Some(&of_project).filter(|_| !delegated || decision.provider == Provider::Remote);
    let is_unchecked = delegated && decision.provider != Provider::Remote;
    if let (true, Some(command)) = (is_unchecked, of_project.check.command()) {
        let sentence = format!(
            "the check `{command}` does not judge it there: it is done when the provider says so"
        );
        warnings.push(report::warning(path, None, &sentence));
    }
    let pin = &task.header.pin;
    if let Some(name) = &pin.agent
        && config.agents.named(name).is_none()
    {
        let sentence = format!("there is no agent `{name}`: any of `failover` has the task");
        warnings.push(report::warning(path, None, &sentence));
    }
    // As holds name the task; a file outside of a queue is in none.
    let key = match project.zip(path.file_name()) {
        Some((project, name)) => spend::task_key(project.path(), &name.to_string_lossy()),
        None => path_text(path),
    };
    let wanted = context.wanted(&key, &task.header, rules_of_project.agent.as_deref());
    let (mut agent, mut model, mut agent_reason, mut waits) = (None, None, None, None);
    match (!delegated).then(|| lineup.choose(wanted)) {
        Some(Choice::Agent { agent: chosen, model: its, is_probe, passed_over }) => {
            if let Ok(Some(project)) = project_of(path)
                && let Some(why) = Trusts::default().refusal(chosen, project.path())
            {
                warnings.push(report::warning(path, None, &format!("it would be held: {why}")));
            }
            if is_probe {
                lineup.note_probe(chosen, its.as_deref());
            }
            (agent, model, agent_reason) = (Some(chosen), its, passed_over);
        }
        Some(Choice::Wait(why) | Choice::Last(why)) => waits = Some(format!("for {why}")),
        None => {}
    }
    Ok(DecisionRow {
        task: path.to_owned(),
        provider: decision.provider,
        delegated,
        delegation_enabled: is_on,
        rule: decision.rule.to_string(),
        agent: agent.map(|agent| agent.name.clone()),
        agent_reason,
        model,
        priority: task.header.priority,
        isolation: rules.as_ref().map(|rules| rules.isolation),
        land: rules.as_ref().map(|rules| rules.land),
        check: judged.and_then(|rules| rules.check.command().map(str::to_owned)),
        waits,
        warnings,
    })
}
