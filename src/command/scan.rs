//! `ccl scan`: route every waiting task, to an engine or to a free session.

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;

use super::dispatch::{self, Mode};
use super::waits::Waits;
use super::{Context, Pass, delegate, pause};
use crate::event::{Event, EventKind};
use crate::journal::Entry;
use crate::marker::Stamp;
use crate::queue::{Folder, Inbox, Project, Served, TaskRef};
use crate::remote::Delegation;
use crate::session::{self, Assignment, Pool, Slot};
use crate::task::Provider;
use crate::text::{local_time, path_text};

/// One pass over all projects.
pub(super) fn run(context: Context<'_>, dry_run: bool) -> Result<Pass> {
    let mut pass = Pass::default();
    let pool = reconcile(context, dry_run, &mut pass)?;
    let projects = context.projects()?;
    // Before the inboxes are listed, so that a task that is due goes in this same pass.
    serve_recurring(context, &projects, dry_run, &mut pass);
    let mut inboxes = dispatch::list(context, &projects, &mut pass);
    report_held(&inboxes, &mut pass);
    pause::take_out_paused(context, &mut inboxes, &mut pass);
    delegate::warn_delegation_disabled(context, &inboxes, &mut pass);
    let delegations = delegate::open(context, dry_run, &mut pass);
    let remote = route(context, &delegations, &mut inboxes, dry_run, &mut pass);
    let refused = submit(context, &delegations, &inboxes, remote, &mut pass);
    // What no engine takes waits for a session in this same pass.
    refused.into_iter().for_each(|task| put_with_waiting(&mut inboxes, &task));
    if inboxes.iter().all(|inbox| inbox.waiting.is_empty()) {
        report_nothing_waits(context, &inboxes, &pass);
    } else if let Err(error) = launch(context, pool, &inboxes, dry_run, &mut pass) {
        pass.fail(context, &error);
    }
    Ok(pass)
}

/// The pool is read at most once in a pass, and not at all where nothing needs it.
enum SeenPool<'a> {
    Unread,
    Read(Box<Pool<'a>>),
    /// tmux does not answer, which was reported.
    Silent,
}

/// Files what the sessions did, so that they are free for what waits. A dry run only says what it would file.
fn reconcile<'a>(context: Context<'a>, dry_run: bool, pass: &mut Pass) -> Result<SeenPool<'a>> {
    let marked = session::marked(&context.config.state_dir)?;
    if marked.is_empty() {
        // Nothing to file. `launch` asks tmux, if a task waits.
        return Ok(SeenPool::Unread);
    }
    match context.pool() {
        Ok(pool) => {
            context.reconcile(&pool, &marked, dry_run, pass);
            Ok(SeenPool::Read(Box::new(pool)))
        }
        Err(error) => {
            pass.fail(context, &error);
            Ok(SeenPool::Silent)
        }
    }
}

/// Makes the tasks of the slots that have come.
fn serve_recurring(context: Context<'_>, projects: &[Project], dry_run: bool, pass: &mut Pass) {
    let stamp = Stamp::new(&context.config.host, context.now);
    for project in projects {
        for recurring in pass.ok(context, project.recurring()).into_iter().flatten() {
            let served = recurring.serve(&stamp, dry_run);
            let served = served.with_context(|| format!("recurring task {}", recurring.name()));
            let Some(served) = pass.ok(context, served).flatten() else { continue };
            let event_of = |kind| Event::of_task(kind, project.path(), recurring.name());
            match served {
                Served::Made { task, slot } => {
                    let when = local_time(slot, context.now, &TimeZone::system());
                    let event = Event::of_task(EventKind::Added, project.path(), task);
                    let event = event.because(format!("its slot has come: {when}"));
                    match dry_run {
                        true => pass.events.push(event),
                        false => pass.record(context, event),
                    }
                }
                Served::Held(why) => pass.events.push(event_of(EventKind::Held).because(why)),
                Served::OnHold { since, reason, is_new } => {
                    let entry = Entry::of(&event_of(EventKind::Hold).because(reason.as_str()));
                    let name = path_text(&project.path().join(recurring.name()));
                    // In every pass, since one may be killed before this; `notify_hold` sends it once for each hold.
                    if !dry_run {
                        pass.ok(context, context.records.notify_hold(&entry, &name, since));
                    }
                    if is_new {
                        context.records.note(&entry);
                    }
                    let kind = if is_new { EventKind::Hold } else { EventKind::Held };
                    pass.events.push(event_of(kind).because(reason));
                }
            }
        }
    }
}

fn report_held(inboxes: &[Inbox], pass: &mut Pass) {
    for Inbox { project, held, .. } in inboxes {
        pass.events.extend(held.iter().map(|(name, held)| {
            // The name may be one that no task can have, so there is no `TaskRef`.
            let event = Event::of_task(EventKind::Held, project.path(), name.to_string_lossy());
            event.because(held.to_string())
        }));
    }
}

/// Takes the tasks that route to one of the engines out of those that wait for sessions; without an engine, none. A
/// project whose headers cannot be read is left out of this pass.
fn route(
    context: Context<'_>,
    delegations: &[Delegation<'_>],
    inboxes: &mut [Inbox],
    dry_run: bool,
    pass: &mut Pass,
) -> Vec<(Provider, TaskRef)> {
    let (mut remote, mut waits) = (Vec::new(), Waits::new(context.now));
    if delegations.is_empty() {
        // Without an engine no header is read here.
        return remote;
    }
    for inbox in inboxes {
        let pin = context.pin_of(&inbox.project);
        let headers = inbox.project.headers(&std::mem::take(&mut inbox.waiting));
        for (header, name) in pass.ok(context, headers).unwrap_or_default() {
            let (decision, order) = (context.route(&header, pin.as_deref()), header.order);
            if !delegations.iter().any(|it| it.takes(decision.provider)) {
                inbox.waiting.push(name);
                continue;
            }
            let Some(task) = inbox.task(&name) else { continue };
            match waits.admit(&task.project, &order) {
                Ok(()) => remote.push((decision.provider, task)),
                Err(skip) => dispatch::pass_over(context, &task, skip, dry_run, pass),
            }
        }
    }
    remote
}

/// Goes on with what the engines have, and submits what routes to them. Returns what they do not take.
fn submit(
    context: Context<'_>,
    delegations: &[Delegation<'_>],
    inboxes: &[Inbox],
    mut remote: Vec<(Provider, TaskRef)>,
    pass: &mut Pass,
) -> Vec<TaskRef> {
    let mut refused = Vec::new();
    for delegation in delegations {
        let own = remote.extract_if(.., |(provider, _)| delegation.takes(*provider));
        let own = own.map(|(_, task)| task).collect();
        let begun = inboxes.iter().flat_map(Inbox::delegated_tasks).collect();
        refused.extend(delegate::submit(context, delegation, begun, own, pass));
    }
    refused
}

fn put_with_waiting(inboxes: &mut [Inbox], task: &TaskRef) {
    if let Some(inbox) = inboxes.iter_mut().find(|inbox| inbox.project == task.project) {
        inbox.waiting.push(task.name.as_str().into());
    }
}

/// Gives what waits to the free sessions.
fn launch(
    context: Context<'_>,
    pool: SeenPool<'_>,
    inboxes: &[Inbox],
    dry_run: bool,
    pass: &mut Pass,
) -> Result<()> {
    let pool = match pool {
        SeenPool::Unread => Box::new(context.pool()?),
        SeenPool::Read(pool) => pool,
        SeenPool::Silent => return Ok(()),
    };
    // Checked once here, or each session that has to be created would fail with the same error.
    pool.check_server()?;
    if dry_run {
        let free = pool.free_names().into_iter();
        let free: Vec<String> = free.filter_map(|name| pass.ok(context, name)).collect();
        let tasks = choose(context, &pool, inboxes, free.len(), Mode::DryRun, pass);
        dispatch::launch_dry_run(context, &pool, free, tasks, pass);
    } else {
        let free = pool.free().into_iter();
        let slots: Vec<Slot> = free.filter_map(|slot| pass.ok(context, slot)).collect();
        let tasks = choose(context, &pool, inboxes, slots.len(), Mode::Scan, pass);
        dispatch::launch(context, &pool, slots, tasks, pass);
    }
    Ok(())
}

fn choose(
    context: Context<'_>,
    pool: &Pool<'_>,
    inboxes: &[Inbox],
    free: usize,
    mode: Mode,
    pass: &mut Pass,
) -> Vec<Assignment> {
    if free == 0 {
        context.log.notice(format_args!("no free session: {}", pool.why_none_is_free()));
    }
    dispatch::choose(context, inboxes, free, mode, pass)
}

/// Says in one line why the pass did nothing, where it did nothing.
fn report_nothing_waits(context: Context<'_>, inboxes: &[Inbox], pass: &Pass) {
    if pass.events.iter().any(|event| event.event != EventKind::Held) {
        context.log.debug("no further task waits");
        return;
    }
    match pass.events.len() {
        0 => context.log.notice(format_args!(
            "nothing to do: no task waits in {}",
            match inboxes {
                [one] => path_text(&one.project.folder(Folder::Inbox)),
                several => format!("{} projects", several.len()),
            }
        )),
        1 => context.log.notice("nothing to do: the only task is held, as it says above"),
        all => context.log.notice(format_args!(
            "nothing to do: all {all} tasks are held, each for the reason above"
        )),
    }
}
