//! Reports for people: lines and blocks. Text from elsewhere is printed with control characters escaped.

use super::{Decision, Job, Pass};
use crate::event::{Event, EventKind};
use crate::money::Cost;
use crate::queue::{Folder, Project};
use crate::text::escape;
use crate::text::path_text;
use jiff::Timestamp;
use serde::Serialize;
use std::path::Path;

/// One line for each event.
pub(super) fn pass(pass: &Pass) -> String {
    pass.events.iter().map(event).collect()
}

/// The path of a task that was added; else
/// `dispatched  fix-login.md  → ccl-auto-0 (opus)  /srv/app: reason`
fn event(event: &Event) -> String {
    if let (EventKind::Added, Some(project), Some(task)) =
        (event.event, &event.project, &event.task)
    {
        let inbox = Project::new(project.clone()).folder(Folder::Inbox);
        return shown(&inbox.join(task)) + "\n";
    }
    let mut line = format!("{:<10}", word(&event.event));
    let mut add = |text: &str| {
        line.push_str("  ");
        line.push_str(text);
    };
    if let Some(task) = &event.task {
        add(&escape(task));
    }
    if let Some(place) = place(event) {
        add(&place);
    }
    if let Some(project) = &event.project {
        add(&shown(project));
    }
    if let Some(reason) = &event.reason {
        line.push_str(": ");
        line.push_str(&escape(reason));
    }
    line.trim_end().to_owned() + "\n"
}

/// Where an event's task is or goes: `→ ccl-auto-0 (opus)`, `→ gemini (job_1)`, `ccl-auto-0`.
fn place(event: &Event) -> Option<String> {
    let provider = event.provider.map(|provider| word(&provider));
    let target = event.session.clone().or(provider)?;
    let arrow = match event.event {
        EventKind::Dispatched | EventKind::Delegated => "→ ",
        _ => "",
    };
    let detail = event.job_id.as_ref().or(event.model.as_ref());
    let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
    Some(escape(&format!("{arrow}{target}{detail}")).into_owned())
}

/// A block for each file.
pub(super) fn decisions(decisions: &[Decision]) -> String {
    let blocks: Vec<String> = decisions.iter().map(decision).collect();
    blocks.join("\n")
}

fn decision(decision: &Decision) -> String {
    let provider = word(&decision.provider);
    let place = match (decision.delegated, provider.as_str()) {
        (true, _) => format!("{provider}, through secutools"),
        (false, "claude-code") => provider,
        (false, _) => format!("{provider}, but delegation is off: it runs here"),
    };
    let mut block = format!("{}\n", shown(&decision.task));
    let mut row =
        |key: &str, value: &str| block.push_str(&format!("  {key:<9} {}\n", escape(value)));
    row("provider", &place);
    row("rule", &decision.rule);
    row("model", decision.model.as_deref().unwrap_or("-"));
    row("priority", &word(&decision.priority));
    for warning in &decision.warnings {
        row("warning", warning);
    }
    block
}

/// A job in a line or two, without its output.
pub(super) fn job(job: &Job) -> String {
    let mut lines = format!("{}  {}", escape(&job.id), escape(&job.status));
    for part in [job.provider.clone(), job.cost.as_ref().map(cost)].into_iter().flatten() {
        lines.push_str("  ");
        lines.push_str(&escape(&part));
    }
    lines.push('\n');
    if let Some(error) = &job.error {
        lines.push_str(&format!("error: {}\n", escape(error)));
    }
    lines
}

/// What it has made, ending with a newline if there is anything.
pub(super) fn output(job: &Job) -> String {
    let mut output = job.output.clone().unwrap_or_default();
    if !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    output
}

pub(super) fn cost(cost: &Cost) -> String {
    match &cost.currency {
        Some(currency) => format!("{} {currency}", cost.amount),
        None => cost.amount.clone(),
    }
}

fn shown(path: &Path) -> String {
    escape(&path_text(path)).into_owned()
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

/// How long it is from one moment to a later one: `12s`, `5m`, `3h`, `2d`.
pub(super) fn distance(from: Timestamp, to: Timestamp) -> String {
    match to.duration_since(from).as_secs().max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86400),
    }
}
