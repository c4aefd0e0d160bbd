//! `ccl resume`: tasks are handed out again, and what is held until this command is held no longer.

use anyhow::Result;

use super::pause::{self, PauseScope};
use super::{Context, Pass};
use crate::config::Projects;
use crate::durable;
use crate::event::{Event, EventKind};
use crate::hold::Holds;
use crate::queue::Project;
use crate::session;

pub(super) fn run(context: Context<'_>) -> Result<Pass> {
    let mut pass = Pass::default();
    for PauseScope { file, project } in pause::places(context)? {
        if crate::pause::end(&file)? {
            pass.record(context, Event { project, ..Event::new(EventKind::Resumed) });
        }
    }
    for project in projects(context)? {
        if pass.ok(context, durable::remove(&project.setup_hold_path())).unwrap_or_default() {
            let event = Event::of_project(EventKind::Resumed, project.path());
            pass.record(context, event.because("its setup is tried again"));
        }
        let lifted = project.lift_recurring_holds();
        for task in pass.ok(context, lifted).unwrap_or_default() {
            let event = Event::of_task(EventKind::Resumed, project.path(), task);
            pass.record(context, event.because("its slots are served again"));
        }
    }
    // Sessions and agents serve every project: `ccl resume --project` leaves them alone.
    if !matches!(context.config.projects, Projects::Given(_)) {
        for session in session::attention_cooldowns(&context.config.state_dir)? {
            session.end_cooldown()?;
            let event = Event::of_session(EventKind::Resumed, session.name());
            pass.events.push(event.because("its cooldown has ended"));
        }
        let holds = Holds::new(context.config, context.now);
        for agent in context.config.agents.all() {
            if holds.lift(&agent.name)? {
                let event = Event::new(EventKind::Resumed).of_agent(Some(agent.name.clone()));
                pass.record(context, event.because("it is given tasks again"));
            }
        }
    }
    if pass.events.is_empty() {
        context.log.notice("nothing is paused, and nothing is held until `ccl resume`");
    }
    Ok(pass)
}

/// The projects of the configuration; without one, and outside of a project, none.
fn projects(context: Context<'_>) -> Result<Vec<Project>> {
    match context.projects() {
        Err(_) if matches!(context.config.projects, Projects::NearestTo(_)) => Ok(Vec::new()),
        found => found,
    }
}
