//! Reports for people: lines and tables that fit 80 columns. Text from elsewhere is printed with control characters
//! escaped.

use super::{
    Decision, Event, Job, JobRow, Pass, ProjectRow, SessionRow, SessionState, Status, TaskRow,
    TaskState, path_text,
};
use crate::log::escape;
use crate::money::Cost;
use jiff::Timestamp;
use serde::Serialize;
use std::path::Path;

/// What a table may take of a line.
const WIDTH: usize = 80;
/// No column is cut below this.
const NARROWEST: usize = 8;

/// One line for each event.
pub(super) fn pass(pass: &Pass) -> String {
    pass.events.iter().map(event).collect()
}

/// `dispatched  fix-login.md  → ccl-auto-0 (opus)  /srv/app: reason`
fn event(event: &Event) -> String {
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

/// Where an event's task is: `→ ccl-auto-0 (opus)`, `→ gemini (job_1)`.
fn place(event: &Event) -> Option<String> {
    let provider = event.provider.map(|provider| word(&provider));
    let target = event.session.clone().or(provider)?;
    let detail = event.job_id.as_ref().or(event.model.as_ref());
    let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
    Some(escape(&format!("→ {target}{detail}")).into_owned())
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

/// Tables of sessions, projects and tasks, and what secutools has.
pub(super) fn status(status: &Status, now: Timestamp) -> String {
    let mut blocks = vec![
        table(
            ["SESSION", "STATE", "SINCE", "TASK", "NOTE"],
            status.sessions.iter().map(|row| session(row, now)),
        ),
        table(
            [
                "PROJECT",
                "WAITING",
                "DISPATCHED",
                "DELEGATED",
                "DONE",
                "FAILED",
            ],
            status.projects.iter().map(project),
        ),
        table(
            ["TASK", "STATE", "PRIORITY", "SINCE", "WHERE", "NOTE"],
            status.tasks.iter().map(|row| task(row, now)),
        ),
        table(
            ["JOB", "TASK", "PROVIDER", "PHASE", "SINCE", "NOTE"],
            status.delegated.jobs.iter().map(|row| job_row(row, now)),
        ),
    ];
    blocks.push(summary(status));
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n")
}

fn session(row: &SessionRow, now: Timestamp) -> [String; 5] {
    let note = match (row.state, row.until) {
        (SessionState::Cooldown, Some(until)) => join(
            &format!("{} left", distance(now, until)),
            row.reason.as_deref(),
        ),
        _ => row.reason.clone().unwrap_or_default(),
    };
    [
        row.name.clone(),
        word(&row.state),
        row.since
            .map(|since| distance(since, now))
            .unwrap_or_default(),
        row.task.clone().unwrap_or_default(),
        note,
    ]
}

fn project(row: &ProjectRow) -> [String; 6] {
    [
        path_text(&row.path),
        row.waiting.to_string(),
        row.dispatched.to_string(),
        row.delegated.to_string(),
        row.done.to_string(),
        row.failed.to_string(),
    ]
}

fn task(row: &TaskRow, now: Timestamp) -> [String; 6] {
    let state = match row.state {
        TaskState::DelegatedToSecutools => "delegated".to_owned(),
        state => word(&state),
    };
    let provider = row.provider.map(|provider| word(&provider));
    let stale = if row.stale { "stale" } else { "" };
    let about = row.reason.as_deref().or(row.title.as_deref());
    [
        row.name.clone(),
        state,
        row.priority
            .map(|priority| word(&priority))
            .unwrap_or_default(),
        row.since
            .map(|since| distance(since, now))
            .unwrap_or_default(),
        row.session.clone().or(provider).unwrap_or_default(),
        join(stale, about),
    ]
}

fn job_row(row: &JobRow, now: Timestamp) -> [String; 6] {
    [
        row.job_id.clone().unwrap_or_else(|| "-".to_owned()),
        row.task.clone(),
        row.provider
            .map(|provider| word(&provider))
            .unwrap_or_default(),
        row.phase.clone(),
        row.since
            .map(|since| distance(since, now))
            .unwrap_or_default(),
        row.reason.clone().unwrap_or_default(),
    ]
}

/// The counters in one line.
fn summary(status: &Status) -> String {
    let delegated = &status.delegated;
    let cost = match delegated.cost_24h.as_slice() {
        [] => "cost unknown".to_owned(),
        costs => costs.iter().map(cost).collect::<Vec<_>>().join(" + "),
    };
    let mut line = format!(
        "{} at secutools; in 24 h: {} done, {} failed, {cost}",
        delegated.active, delegated.done_24h, delegated.failed_24h
    );
    if status.stale > 0 {
        line = format!("{} stale; {line}", status.stale);
    }
    line + "\n"
}

/// A job in a line or two, without its output.
pub(super) fn job(job: &Job) -> String {
    let mut lines = format!("{}  {}", escape(&job.id), escape(&job.status));
    for part in [job.provider.clone(), job.cost.as_ref().map(cost)]
        .into_iter()
        .flatten()
    {
        lines.push_str("  ");
        lines.push_str(&escape(&part));
    }
    lines.push('\n');
    if let Some(error) = &job.error {
        lines.push_str(&format!("error: {}\n", escape(error)));
    }
    lines
}

fn cost(cost: &Cost) -> String {
    match &cost.currency {
        Some(currency) => format!("{} {currency}", cost.amount),
        None => cost.amount.clone(),
    }
}

fn join(first: &str, second: Option<&str>) -> String {
    match second {
        None => first.to_owned(),
        Some(second) if first.is_empty() => second.to_owned(),
        Some(second) => format!("{first}: {second}"),
    }
}

fn shown(path: &Path) -> String {
    escape(&path_text(path)).into_owned()
}

/// The word that JSON has for a value, so that both outputs speak the same language.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        // Only called with enums of plain words.
        _ => String::new(),
    }
}

/// How long it is from one moment to a later one: `12s`, `5m`, `3h`, `2d`.
fn distance(from: Timestamp, to: Timestamp) -> String {
    match to.duration_since(from).as_secs().max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86400),
    }
}

/// Aligned columns under their names; empty where there are no rows. Columns that hold nothing are left out, and the
/// widest are cut until a line fits.
fn table<const N: usize>(names: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows
        .map(|row| row.map(|cell| escape(&cell).into_owned()))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let used: Vec<usize> = (0..N)
        .filter(|&column| rows.iter().any(|row| !row[column].is_empty()))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut widths: Vec<usize> = used
        .iter()
        .map(|&column| width(column).max(names[column].len()))
        .collect();
    fit(&mut widths);
    let line = |cells: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = used
            .iter()
            .zip(&widths)
            .map(|(&column, &width)| format!("{:<width$}", cut(&cells(column), width)))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&|column| names[column].to_owned());
    for row in &rows {
        text.push_str(&line(&|column| row[column].clone()));
    }
    text
}

/// Takes from the widest column, again and again, until all fit into a line with two blanks between them.
fn fit(widths: &mut [usize]) {
    let room = WIDTH.saturating_sub(2 * widths.len().saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}
