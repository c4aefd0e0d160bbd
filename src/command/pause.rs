//! `ccl pause`: nothing is handed out until `ccl resume`. What is at work goes on.

use std::path::Path;

use anyhow::Result;

use super::{Context, Pass};
use crate::config::Projects;
use crate::environment::Environment;
use crate::event::{Event, EventKind};
use crate::marker::Stamp;
use crate::pause;
use crate::queue::{Inbox, Project};
use jiff::tz::TimeZone;

/// Pauses everything, or the one project that `--project` names.
pub(super) fn run(
    context: Context<'_>,
    environment: &Environment,
    reason: &[String],
) -> Result<Pass> {
    let user = ["LOGNAME", "USER"].into_iter().find_map(|name| environment.var(name));
    let who = user.map(|user| user.to_string_lossy().into_owned());
    let reason = Some(reason.join(" ")).filter(|reason| !reason.trim().is_empty());
    let mut pass = Pass::default();
    for place in places(context)? {
        let stamp = Stamp::new(&context.config.host, context.now);
        pause::begin(&place.file, stamp, who.clone(), reason.clone())?;
        let mut words = who.iter().map(|who| format!("by {who}")).collect::<Vec<_>>();
        words.extend(reason.clone());
        let reason = Some(words.join(": ")).filter(|words| !words.is_empty());
        let event = Event { project: place.project, reason, ..Event::new(EventKind::Paused) };
        pass.record(context, event);
    }
    Ok(pass)
}

/// What one file pauses: a project, or everything where `project` is none.
pub(super) struct PauseScope {
    pub(super) file: std::path::PathBuf,
    pub(super) project: Option<std::path::PathBuf>,
}

/// The project that `--project` names, else all.
pub(super) fn places(context: Context<'_>) -> Result<Vec<PauseScope>> {
    let Projects::Given(_) = &context.config.projects else {
        return Ok(vec![PauseScope {
            file: pause::of_state(&context.config.state_dir),
            project: None,
        }]);
    };
    let projects = context.projects()?.into_iter();
    let place = |project: Project| PauseScope {
        file: project.pause_path(),
        project: Some(project.path().to_owned()),
    };
    Ok(projects.map(place).collect())
}

/// Takes what waits out of the inboxes of what is paused, and says so in the pass's first lines. A paused project in
/// which nothing waits is not mentioned.
pub(super) fn take_out_paused(context: Context<'_>, inboxes: &mut [Inbox], pass: &mut Pass) {
    if let Some(pause) = pause::read(&pause::of_state(&context.config.state_dir)) {
        inboxes.iter_mut().for_each(|inbox| inbox.waiting.clear());
        pass.events.insert(0, event(context, &pause, None));
        return;
    }
    for inbox in inboxes.iter_mut().filter(|inbox| !inbox.waiting.is_empty()) {
        if let Some(pause) = pause::read(&inbox.project.pause_path()) {
            inbox.waiting.clear();
            pass.events.insert(0, event(context, &pause, Some(inbox.project.path())));
        }
    }
}

fn event(context: Context<'_>, pause: &pause::Pause, project: Option<&Path>) -> Event {
    let event = Event { project: project.map(Path::to_owned), ..Event::new(EventKind::Paused) };
    event.because(pause.sentence(context.now, &TimeZone::system()))
}
