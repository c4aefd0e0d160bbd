//! Tasks for secutools: the remote half of `scan`, and of `reap`.

use super::dispatch::{self, READ_TOGETHER};
use super::{Context, Pass};
use crate::queue::{self, Inbox, Read, TaskRef};
use crate::remote::{Candidate, Delegation, Outcome, Settled};
use crate::router;

/// Goes on with what earlier passes have begun, and delegates the tasks that route to secutools.
/// Returns those that it does not have, which are for sessions.
pub(super) fn submit(
    context: Context<'_>,
    delegation: &Delegation<'_>,
    begun: Vec<TaskRef>,
    remote: Vec<TaskRef>,
    dry_run: bool,
    pass: &mut Pass,
) -> Vec<TaskRef> {
    let settled = match dry_run {
        true => delegation.would_retry(begun),
        false => delegation.retry_all(begun),
    };
    let mut local = report(context, settled, pass);
    // In groups: the texts of all tasks together may be too much for the memory.
    for group in remote.chunks(READ_TOGETHER) {
        let candidates = candidates(context, group, dry_run, pass);
        if dry_run {
            pass.events.extend(candidates.iter().map(Candidate::would_be_delegated));
        } else {
            let settled = delegation.submit_all(candidates.into_iter());
            local.extend(report(context, settled, pass));
        }
    }
    if delegation.is_unauthorized() {
        pass.fail();
    }
    local
}

/// Asks about every job and files those that have ended.
pub(super) fn reap(
    context: Context<'_>,
    delegation: &Delegation<'_>,
    begun: Vec<TaskRef>,
    dry_run: bool,
    pass: &mut Pass,
) {
    let settled = delegation.reap_all(begun, dry_run);
    report(context, settled, pass);
    if delegation.is_unauthorized() {
        pass.fail();
    }
}

/// Nobody asks for the jobs that were made while delegation was on.
pub(super) fn warn_delegation_disabled(context: Context<'_>, inboxes: &[Inbox]) {
    let begun: Vec<TaskRef> = inboxes.iter().flat_map(Inbox::delegated_tasks).collect();
    if let (Some(task), Err(off)) = (begun.first(), &context.config.secutools) {
        context.log.warn(format_args!(
            "secutools has {} of the tasks, such as {task}, and nobody asks what became of them: {off}",
            begun.len()
        ));
    }
}

/// Reads some of the tasks; what cannot be submitted is reported.
fn candidates(
    context: Context<'_>,
    tasks: &[TaskRef],
    dry_run: bool,
    pass: &mut Pass,
) -> Vec<Candidate> {
    let read = queue::read_all(tasks.to_vec()).unwrap_or_else(|error| {
        pass.take(context, Err(error));
        Vec::new()
    });
    let mut candidates = Vec::new();
    for read in read {
        match read {
            Read::Task(task) => {
                let decision = router::decide(&task.task.routing, &context.config.auto_routes);
                // One that was changed a moment ago may be local by now: the next pass has it.
                if decision.provider.is_remote() {
                    candidates.push(Candidate {
                        task: task.at,
                        seen: task.seen,
                        text: task.text,
                        parsed: task.task,
                        provider: decision.provider,
                        rule: decision.rule,
                    });
                }
            }
            Read::Skipped(at, skip) => {
                let reported = dispatch::pass_over(context, &at, skip, dry_run);
                pass.take(context, reported);
            }
        }
    }
    candidates
}

/// Reports what became of each task, and returns those that secutools does not have.
fn report(context: Context<'_>, settled: Vec<Settled>, pass: &mut Pass) -> Vec<TaskRef> {
    let mut local = Vec::new();
    for Settled { task, outcome } in settled {
        match outcome {
            Ok(Outcome::Event(event)) => pass.events.push(event),
            Ok(Outcome::Nothing) => {}
            Ok(Outcome::RunLocally { reason }) => {
                context.log.warn(format_args!("{task} runs in a session: {reason}"));
                local.push(task);
            }
            Err(error) => pass.take(context, Err(error)),
        }
    }
    local
}
