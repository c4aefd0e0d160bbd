//! Tasks for secutools or the remote engine: the remote half of `scan`, and of `reap`.

use super::dispatch::{self, READ_TOGETHER};
use super::waits::Waits;
use super::{Context, Pass, combine_exit};
use crate::queue::{self, Inbox, Read, TaskRef};
use crate::remote::{self, Delegation, EngineKind, RemoteOutcome, Submission};

/// A [`Delegation`] for each engine that is configured.
pub(super) fn open<'a>(
    context: Context<'a>,
    dry_run: bool,
    pass: &mut Pass,
) -> Vec<Delegation<'a>> {
    let Context { config, log, records, now, .. } = context;
    let opened = Delegation::open(config, log, records, now, dry_run).into_iter();
    opened.filter_map(|delegation| pass.ok(context, delegation)).collect()
}

/// Goes on with what earlier passes have begun, and delegates the tasks that route to the engine.
/// Returns the tasks that the engine does not take: they go to sessions.
pub(super) fn submit(
    context: Context<'_>,
    delegation: &Delegation<'_>,
    begun: Vec<TaskRef>,
    remote: Vec<TaskRef>,
    pass: &mut Pass,
) -> Vec<TaskRef> {
    let mut local = report(context, delegation.resume(begun), pass);
    // In groups: the texts of all tasks together may be too much for the memory.
    for group in remote.chunks(READ_TOGETHER) {
        let submissions = read(context, group, delegation, pass);
        local.extend(report(context, delegation.submit(submissions), pass));
    }
    note_unauthorized(delegation, pass);
    local
}

/// Asks about every job and files those that have ended.
pub(super) fn reap(
    context: Context<'_>,
    delegation: &Delegation<'_>,
    begun: Vec<TaskRef>,
    pass: &mut Pass,
) {
    report(context, delegation.poll(begun), pass);
    note_unauthorized(delegation, pass);
}

/// A refused key fails the pass. The call that met it has reported it.
fn note_unauthorized(delegation: &Delegation<'_>, pass: &mut Pass) {
    if delegation.is_unauthorized() {
        pass.exit = combine_exit(pass.exit, 1);
    }
}

/// Warns of jobs that were made while delegation was on: their results are not fetched any more.
pub(super) fn warn_delegation_disabled(context: Context<'_>, inboxes: &[Inbox], pass: &mut Pass) {
    let config = context.config;
    for (kind, is_on) in [
        (EngineKind::Secutools, config.secutools.is_ok()),
        (EngineKind::Ray, config.remote.is_some()),
    ] {
        if is_on {
            continue;
        }
        let mut begun: Vec<TaskRef> = inboxes.iter().flat_map(Inbox::delegated_tasks).collect();
        begun.retain(|task| pass.ok(context, remote::engine_of(task)) == Some(kind));
        if let Some(task) = begun.first() {
            context.log.warn(format_args!(
                "the results of {} task(s) at {}, such as {task}, are not fetched: {}",
                begun.len(),
                kind.as_str(),
                remote::why_off(kind, config)
            ));
        }
    }
}

/// Reads some of the tasks; what cannot be submitted is reported.
fn read(
    context: Context<'_>,
    tasks: &[TaskRef],
    delegation: &Delegation<'_>,
    pass: &mut Pass,
) -> Vec<Submission> {
    let (mut submissions, mut waits) = (Vec::new(), Waits::new(context.now));
    let read = pass.ok(context, queue::read_all(tasks.to_vec())).unwrap_or_default();
    let dry_run = delegation.is_dry_run();
    let mut pass_over = |at: &TaskRef, skip| dispatch::pass_over(context, at, skip, dry_run, pass);
    for read in read {
        match read {
            Read::Task(waiting) => {
                let pin = context.pin_of(&waiting.at.project);
                let decision = context.route(&waiting.task.header, pin.as_deref());
                // Its file may have been changed since it was routed, and be local now: the next pass takes it.
                if !delegation.takes(decision.provider) {
                    continue;
                }
                match waits.admit(&waiting.at.project, &waiting.task.header.order) {
                    Ok(()) => submissions.push(Submission { waiting: *waiting, decision }),
                    Err(skip) => pass_over(&waiting.at, skip),
                }
            }
            Read::Skipped(at, skip) => pass_over(&at, skip),
        }
    }
    submissions
}

/// Reports what became of each task, and returns those that the engine does not have.
fn report(
    context: Context<'_>,
    outcomes: Vec<(TaskRef, RemoteOutcome)>,
    pass: &mut Pass,
) -> Vec<TaskRef> {
    let mut local = Vec::new();
    for (task, outcome) in outcomes {
        match outcome {
            RemoteOutcome::Event(event) => pass.events.push(event),
            RemoteOutcome::Nothing => {}
            RemoteOutcome::RunLocally { reason } => {
                context.log.warn(format_args!("{task} runs in a session: {reason}"));
                local.push(task);
            }
            RemoteOutcome::Failed(error) => pass.fail(context, &error),
        }
    }
    local
}
