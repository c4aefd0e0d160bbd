//! Tasks for secutools: the remote half of `scan`, and of `reap`.

use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::dispatch::{self, READ_TOGETHER, Read, Readable, Waiting};
use super::{Context, Pass};
use crate::event::Event;
use crate::queue::Project;
use crate::queue::TaskRef;
use crate::remote::{Candidate, Delegation, Outcome, Settled};
use crate::router;

/// What a step of a pass is told to have brought about.
type Told = Result<Vec<Event>>;

/// Goes on with what earlier passes have begun, and delegates what waits and
/// routes to secutools. In `waiting` stays what is for sessions.
pub(super) fn submit(
    context: Context<'_>,
    delegation: &Delegation<'_>,
    waiting: &mut [Waiting],
    dry_run: bool,
    pass: &mut Pass,
) {
    let begun = begun(waiting);
    let remote = take_remote(context, waiting, pass);
    // Threads ask for candidates; those that are none are told when all is over.
    let told: Mutex<Vec<Told>> = Mutex::default();
    let candidates = remote
        .chunks(READ_TOGETHER)
        .flat_map(|group| candidates(context, waiting, group, dry_run))
        .filter_map(|candidate| match candidate {
            Ok(candidate) => Some(candidate),
            Err(other) => {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.push(other);
                None
            }
        });
    let settled = if dry_run {
        for candidate in candidates {
            pass.events.push(candidate.would_be_delegated());
        }
        delegation.would_retry(begun)
    } else {
        let mut settled = delegation.retry_all(begun);
        settled.extend(delegation.submit_all(candidates));
        settled
    };
    for step in told.into_inner().unwrap_or_else(PoisonError::into_inner) {
        pass.take(context, step);
    }
    take(context, settled, waiting, pass);
    if delegation.is_unauthorized() {
        pass.fail();
    }
}

/// Asks about every job and files those that have ended.
pub(super) fn reap(
    context: Context<'_>,
    delegation: &Delegation<'_>,
    waiting: &mut [Waiting],
    dry_run: bool,
    pass: &mut Pass,
) {
    let settled = delegation.reap_all(begun(waiting), dry_run);
    take(context, settled, waiting, pass);
    if delegation.is_unauthorized() {
        pass.fail();
    }
}

/// Tells that nobody asks for the jobs that were made while delegation was on.
pub(super) fn tell_off(context: Context<'_>, waiting: &[Waiting]) {
    let begun = begun(waiting);
    if let (Some(task), Err(off)) = (begun.first(), &context.config.secutools) {
        context.log.warn(format_args!(
            "secutools has {} of the tasks, such as {task}, and nobody asks what became of them: {off}",
            begun.len()
        ));
    }
}

fn begun(waiting: &[Waiting]) -> Vec<TaskRef> {
    waiting
        .iter()
        .flat_map(|Waiting { project, inbox }| TaskRef::delegated_in(project, inbox))
        .collect()
}

/// Takes the tasks that route to secutools out of those that wait for sessions:
/// the project's index and the file's name of each. Of a project whose routes
/// cannot be read, nothing waits in this pass.
fn take_remote(
    context: Context<'_>,
    waiting: &mut [Waiting],
    pass: &mut Pass,
) -> Vec<(usize, OsString)> {
    let mut remote = Vec::new();
    for (index, Waiting { project, inbox }) in waiting.iter_mut().enumerate() {
        let routings = project.routings(&std::mem::take(&mut inbox.waiting));
        let routings = routings.unwrap_or_else(|error| {
            pass.take(context, Err(error));
            Vec::new()
        });
        for (routing, name) in routings {
            let decision = router::decide(&routing, &context.config.auto_routes);
            if decision.provider.is_remote() {
                remote.push((index, name));
            } else {
                inbox.waiting.push(name);
            }
        }
    }
    remote
}

/// Reads some of the tasks.
fn candidates(
    context: Context<'_>,
    waiting: &[Waiting],
    group: &[(usize, OsString)],
    dry_run: bool,
) -> Vec<Result<Candidate, Told>> {
    let tasks: Vec<(&Project, &OsStr)> =
        group.iter().map(|(index, name)| (&waiting[*index].project, name.as_os_str())).collect();
    match dispatch::read_all(context, &tasks, dry_run) {
        Ok(read) => tasks
            .iter()
            .zip(read)
            .map(|((project, _), read)| candidate(context, project, read))
            .collect(),
        Err(error) => vec![Err(Err(error))],
    }
}

/// The task as it is submitted, or what to tell instead.
fn candidate(
    context: Context<'_>,
    project: &Project,
    read: Result<Readable>,
) -> Result<Candidate, Told> {
    let Read { name, seen, text, task } =
        read.map_err(Err)?.map_err(|event| Ok(event.into_iter().collect()))?;
    let decision = router::decide(&task.routing, &context.config.auto_routes);
    if !decision.provider.is_remote() {
        // It was changed a moment ago; the next pass gives it to a session.
        return Err(Ok(Vec::new()));
    }
    Ok(Candidate {
        task: TaskRef { project: project.clone(), name },
        seen,
        text,
        parsed: task,
        provider: decision.provider,
        rule: decision.rule,
    })
}

/// Tells what became of each task; one that secutools does not have waits for a
/// session in this same pass.
fn take(context: Context<'_>, settled: Vec<Settled>, waiting: &mut [Waiting], pass: &mut Pass) {
    for Settled { task, outcome } in settled {
        let step = match outcome {
            Ok(Outcome::Event(event)) => Ok(vec![event]),
            Ok(Outcome::Nothing) => Ok(Vec::new()),
            Ok(Outcome::RunLocally { reason }) => {
                context.log.warn(format_args!("{task} runs in a session: {reason}"));
                let home = waiting.iter_mut().find(|one| one.project == task.project);
                if let Some(home) = home {
                    home.inbox.waiting.push(task.name.as_str().into());
                }
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        };
        pass.take(context, step);
    }
}
