//! Reports for people: lines and blocks. Text from elsewhere is printed with control characters escaped.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::{DecisionRow, DoctorRow};
use crate::event::{Event, EventKind};
use crate::job::Job;
use crate::queue::{Folder, Project};
use crate::task::{Isolation, Land, Provider};
use crate::text::{escape, path_text};

pub(super) fn events(events: &[Event]) -> String {
    events.iter().map(event).collect()
}

/// The path of a task that was added; else
/// `dispatched  fix-login.md  → ccl-auto-0 (opus)  /srv/app: reason`
fn event(event: &Event) -> String {
    // By `ccl add`, which prints the path alone. A task that a recurring one has made has a reason.
    if let (EventKind::Added, Some(project), Some(task), None) =
        (event.event, &event.project, &event.task, &event.reason)
    {
        let inbox = Project::new(project.clone()).folder(Folder::Inbox);
        return escape(&path_text(&inbox.join(task))).into_owned() + "\n";
    }
    let parts = [event.task.clone(), place(event), event.project.as_deref().map(path_text)];
    let mut line = format!("{:<10}", word(&event.event));
    for part in parts.into_iter().flatten() {
        line.push_str("  ");
        line.push_str(&escape(&part));
    }
    if let Some(reason) = &event.reason {
        // The word is padded: where no part follows it, blanks would stand before the colon.
        line.truncate(line.trim_end().len());
        line.push_str(": ");
        line.push_str(&escape(reason));
    }
    line.trim_end().to_owned() + "\n"
}

/// Where an event's task is or goes: `→ ccl-auto-0 (opus)`, `→ gemini (job_1)`, `ccl-auto-0`.
fn place(event: &Event) -> Option<String> {
    let provider = event.provider.map(Provider::as_str);
    let target = event.session.as_deref().or(provider)?;
    let is_new = matches!(event.event, EventKind::Dispatched | EventKind::Delegated);
    let arrow = if is_new { "→ " } else { "" };
    Some(match event.job_id.as_ref().or(event.model.as_ref()) {
        Some(detail) => format!("{arrow}{target} ({detail})"),
        None => format!("{arrow}{target}"),
    })
}

/// A block for each file.
pub(super) fn decisions(decisions: &[DecisionRow]) -> String {
    let blocks: Vec<String> = decisions.iter().map(decision).collect();
    blocks.join("\n")
}

fn decision(decision: &DecisionRow) -> String {
    let provider = decision.provider.as_str();
    let place = match (decision.delegated, decision.provider.is_remote()) {
        (true, _) if decision.provider == Provider::Remote => "remote, as a job of Ray".to_owned(),
        (true, _) => format!("{provider}, through secutools"),
        (false, false) => provider.to_owned(),
        (false, true) => format!("{provider}, but delegation is off: it runs here"),
    };
    let priority = decision.priority.to_string();
    let mut rows = vec![("provider", place.as_str()), ("rule", decision.rule.as_str())];
    let agent = decision.agent.as_deref().map(|agent| match &decision.agent_reason {
        Some(reason) => format!("{agent}: {reason}"),
        None => agent.to_owned(),
    });
    rows.extend(agent.as_deref().map(|agent| ("agent", agent)));
    rows.extend([
        ("model", decision.model.as_deref().unwrap_or("-")),
        ("priority", priority.as_str()),
    ]);
    if decision.isolation == Some(Isolation::Worktree) {
        rows.push(("works in", "a worktree of its own"));
    }
    if decision.land == Some(Land::Rebase) {
        rows.push(("lands", "by rebase, once it is checked"));
    }
    rows.extend(decision.check.as_deref().map(|check| ("check", check)));
    rows.extend(decision.waits.as_deref().map(|waits| ("waits", waits)));
    rows.extend(decision.warnings.iter().map(|warning| ("warning", warning.as_str())));
    let rows = rows.into_iter().map(|(key, value)| format!("  {key:<9} {}\n", escape(value)));
    format!("{}\n{}", escape(&path_text(&decision.task)), rows.collect::<String>())
}

/// A line for each check, one more for its remedy, and how many failed.
pub(super) fn checks(checks: &[DoctorRow]) -> String {
    let mut text = String::new();
    for check in checks {
        let word = match check.ok {
            Some(true) => "ok",
            Some(false) => "FAIL",
            None => "-",
        };
        text.push_str(&format!("{word:<5} {:<10} {}\n", check.check, escape(&check.detail)));
        if let Some(remedy) = &check.remedy {
            text.push_str(&format!("{:16} → {}\n", "", escape(remedy)));
        }
    }
    match checks.iter().filter(|check| check.ok == Some(false)).count() {
        0 => text + "all is well\n",
        1 => text + "1 thing is not well\n",
        more => text + &format!("{more} things are not well\n"),
    }
}

/// A job in a line or two, without its output.
pub(super) fn job(job: &Job) -> String {
    let cost = job.cost.as_ref().map(ToString::to_string);
    let parts = [
        Some(job.id.as_str()),
        Some(job.status.as_str()),
        job.provider.as_deref(),
        cost.as_deref(),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().map(|part| escape(part)).collect();
    let error = job.error.as_ref().map(|error| format!("error: {}\n", escape(error)));
    format!("{}\n{}", parts.join("  "), error.unwrap_or_default())
}

/// What it has made, ending with a newline if there is anything.
pub(super) fn output(job: &Job) -> String {
    let mut output = job.output.clone().unwrap_or_default();
    if !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    output
}

/// A project as a table names it: by its directory's name.
pub(super) fn short(project: &Path) -> String {
    project.file_name().map_or_else(|| path_text(project), |name| path_text(Path::new(name)))
}

/// The word that JSON has for a value, so that both outputs speak the same language.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        // Only called with enums of plain words.
        _ => String::new(),
    }
}

/// Seconds as people say them: `12s`, `5m`, `3h 20m`, `2d 4h`.
pub(super) fn duration(seconds: u64) -> String {
    let two = |large: u64, of: char, small: u64, and: char| match small {
        0 => format!("{large}{of}"),
        small => format!("{large}{of} {small}{and}"),
    };
    match seconds {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => two(s / 3600, 'h', s % 3600 / 60, 'm'),
        s => two(s / 86_400, 'd', s % 86_400 / 3600, 'h'),
    }
}

/// How long it is from one moment to a later one: `12s`, `5m`, `3h`, `2d`.
pub(super) fn distance(from: Timestamp, to: Timestamp) -> String {
    match to.duration_since(from).as_secs().max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86400),
    }
}
