//! The status for people: tables of sessions, projects, tasks and jobs, and the last day.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::table::{Cell, Colour, Row, table, wrap};
use super::text::{cost, distance, short, word};
use super::{
    DayRow, JobRow, Page, ProjectRow, SessionRow, SessionState, Status, TaskRow, TaskState,
};
use crate::task::Priority;
use crate::text::escape;
use crate::text::path_text;

/// So many waiting tasks of each project are shown.
const SHOWN: usize = 20;

/// Everything that there is to see.
pub(super) fn status(status: &Status, page: Page, now: Timestamp) -> String {
    let board = Board {
        status,
        page,
        now,
        in_sessions: status
            .tasks
            .iter()
            .filter(|task| task.reason.is_none())
            .filter_map(|task| Some((task.session.as_deref()?, task)))
            .collect(),
    };
    let mut blocks = vec![
        board.sessions(),
        board.projects(),
        board.tasks(),
        board.jobs(),
        board.day(),
        board.summary(),
    ];
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n")
}

struct Board<'a> {
    status: &'a Status,
    page: Page,
    now: Timestamp,
    /// The tasks of our sessions, by session: shown there, and not once more.
    in_sessions: HashMap<&'a str, &'a TaskRow>,
}

impl Board<'_> {
    fn sessions(&self) -> String {
        let names = ["SESSION", "STATE", "SINCE", "TASK", "PROJECT"];
        let rows = &self.status.sessions;
        let lines = rows.iter().enumerate().map(|(index, row)| {
            // A reason that sessions share stands below the last of them.
            let next = rows.get(index + 1).and_then(|next| next.reason.as_ref());
            let reason = row.reason.as_ref().filter(|reason| next != Some(*reason));
            self.session(row, reason)
        });
        table(self.page, names, lines)
    }

    fn session(&self, row: &SessionRow, reason: Option<&String>) -> Row<5> {
        let task = self
            .in_sessions
            .get(row.name.as_str())
            .filter(|task| row.task.as_ref() == Some(&task.name));
        let left = row.until.map(|until| {
            let left = distance(self.now, until);
            format!("{left} left")
        });
        let stale = task.filter(|task| task.stale).map(|_| {
            "stale: it has been at work for long; attach and look, or `ccl cancel` it".to_owned()
        });
        let title = task.and_then(|task| task.title.clone());
        let state = word(&row.state);
        Row {
            cells: [
                row.name.clone().into(),
                Cell::coloured(state, colour_of(row.state)),
                self.since(row.since),
                row.task.clone().unwrap_or_default().into(),
                row.project.as_deref().map(short).unwrap_or_default().into(),
            ],
            note: join([left, stale, reason.cloned().or(title)]),
        }
    }

    fn projects(&self) -> String {
        let mut waiting: HashMap<&PathBuf, Counts> = HashMap::new();
        for task in &self.status.tasks {
            waiting.entry(&task.project).or_default().add(task);
        }
        let names = ["PROJECT", "WAITING", "HELD", "AT WORK", "DELEGATED", "DONE", "FAILED"];
        let rows = self.status.projects.iter().map(|row| {
            let counts = waiting.get(&row.path).copied().unwrap_or_default();
            project(row, counts)
        });
        table(self.page, names, rows)
    }

    /// What waits or is held, and what is at work elsewhere.
    fn tasks(&self) -> String {
        let mut shown: HashMap<(&Path, bool), usize> = HashMap::new();
        let mut rows: Vec<&TaskRow> = Vec::new();
        for task in &self.status.tasks {
            match task.state {
                TaskState::Dispatched if self.is_in_a_session(task) => {}
                // It is among the jobs, unless its marker cannot be read.
                TaskState::DelegatedToSecutools if task.provider.is_some() => {}
                TaskState::Dispatched | TaskState::DelegatedToSecutools => rows.push(task),
                TaskState::Waiting | TaskState::Held => {
                    let is_held = task.state == TaskState::Held;
                    let count = shown.entry((&task.project, is_held)).or_default();
                    *count += 1;
                    if *count <= SHOWN {
                        rows.push(task);
                    }
                }
            }
        }
        // A reason that tasks share stands below the last of them.
        let notes = rows.iter().enumerate().map(|(index, task)| {
            let next = rows.get(index + 1).and_then(|next| next.reason.as_ref());
            let reason = task.reason.as_ref().filter(|reason| next != Some(*reason));
            reason.map(String::as_str)
        });
        let names = ["TASK", "PROJECT", "STATE", "PRIORITY", "SINCE", "WHERE"];
        let lines = rows.iter().zip(notes).map(|(task, note)| self.task(task, note));
        let mut text = table(self.page, names, lines);
        let mut more: Vec<_> = shown.into_iter().filter(|(_, n)| *n > SHOWN).collect();
        more.sort_unstable();
        for ((project, is_held), count) in more {
            let line = format!(
                "… and {} more {} in {}",
                grouped(count - SHOWN),
                if is_held { "are held" } else { "wait" },
                escape(&short(project)),
            );
            text.push_str(&wrap(self.page, &line));
        }
        text
    }

    fn is_in_a_session(&self, task: &TaskRow) -> bool {
        task.reason.is_none()
            && self
                .status
                .sessions
                .iter()
                .any(|session| Some(&session.name) == task.session.as_ref())
    }

    fn task(&self, row: &TaskRow, note: Option<&str>) -> Row<6> {
        let colour = match row.state {
            TaskState::Held => Some(Colour::RESTING),
            _ => None,
        };
        let provider = row.provider.map(|provider| word(&provider));
        let state = match row.state {
            TaskState::DelegatedToSecutools => "delegated".to_owned(),
            state => word(&state),
        };
        Row {
            cells: [
                row.name.clone().into(),
                short(&row.project).into(),
                Cell::coloured(state, colour),
                row.priority.map(|it| word(&it)).unwrap_or_default().into(),
                self.since(row.since),
                row.session.clone().or(provider).unwrap_or_default().into(),
            ],
            note: join([row.stale.then(|| "stale".to_owned()), note.map(str::to_owned)]),
        }
    }

    fn jobs(&self) -> String {
        let names = ["JOB", "TASK", "PROJECT", "PROVIDER", "PHASE", "SINCE"];
        let rows = self.status.delegated.jobs.iter().map(|row| self.job(row));
        table(self.page, names, rows)
    }

    fn job(&self, row: &JobRow) -> Row<6> {
        Row {
            cells: [
                row.job_id.clone().unwrap_or_else(|| "-".to_owned()).into(),
                row.task.clone().into(),
                short(&row.project).into(),
                row.provider.map(|it| word(&it)).unwrap_or_default().into(),
                row.phase.clone().into(),
                self.since(row.since),
            ],
            note: row.reason.clone().unwrap_or_default(),
        }
    }

    fn day(&self) -> String {
        let rows = self.status.last_24h.iter().map(day_row);
        table(self.page, ["LAST 24 H", "DONE", "FAILED", "COST"], rows)
    }

    /// What asks for a person, in one line.
    fn summary(&self) -> String {
        let attention = |row: &&SessionRow| row.state == SessionState::NeedsAttention;
        let sessions = self.status.sessions.iter().filter(attention).count();
        let held = |row: &&TaskRow| row.state == TaskState::Held;
        let counts = [
            (sessions, "session needs a person", "sessions need a person", Colour::BAD),
            (self.status.stale, "task is stale", "tasks are stale", Colour::BAD),
            (
                self.status.tasks.iter().filter(held).count(),
                "task is held",
                "tasks are held",
                Colour::RESTING,
            ),
        ];
        let parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many, colour)| {
                let what = if count == 1 { one } else { many };
                colour.paint(self.page, &format!("{} {what}", grouped(count)))
            })
            .collect();
        if !parts.is_empty() {
            return parts.join(", ") + "\n";
        }
        match self.status.tasks.is_empty() {
            true => "no task waits, and none is at work\n".to_owned(),
            false => String::new(),
        }
    }

    /// How long ago that was; empty where it is not known.
    fn since(&self, moment: Option<Timestamp>) -> Cell {
        moment.map(|moment| distance(moment, self.now)).unwrap_or_default().into()
    }
}

/// How many tasks of a project wait, by priority, and how many are held.
#[derive(Clone, Copy, Default)]
struct Counts {
    waiting: [usize; Priority::ALL.len()],
    held: usize,
}

impl Counts {
    fn add(&mut self, task: &TaskRow) {
        match task.state {
            TaskState::Waiting => {
                let priority = task.priority.unwrap_or_default();
                let at = Priority::ALL.iter().position(|it| *it == priority);
                self.waiting[at.unwrap_or(0)] += 1;
            }
            TaskState::Held => self.held += 1,
            TaskState::Dispatched | TaskState::DelegatedToSecutools => {}
        }
    }
}

fn project(row: &ProjectRow, counts: Counts) -> Row<7> {
    let by_priority: Vec<String> = Priority::ALL
        .iter()
        .zip(counts.waiting)
        .filter(|(_, count)| *count > 0)
        .map(|(priority, count)| format!("{} {priority}", grouped(count)))
        .collect();
    let is_ordinary = counts.waiting[2] == counts.waiting.iter().sum::<usize>();
    // A column in which no project has anything is left out.
    let rare = |count: usize| match count {
        0 => String::new(),
        count => grouped(count),
    };
    let failed = (row.failed > 0).then_some(Colour::BAD);
    Row {
        cells: [
            path_text(&row.path).into(),
            grouped(row.waiting.saturating_sub(counts.held)).into(),
            rare(counts.held).into(),
            rare(row.dispatched).into(),
            rare(row.delegated).into(),
            grouped(row.done).into(),
            Cell::coloured(grouped(row.failed), failed),
        ],
        note: match is_ordinary {
            true => String::new(),
            false => format!("waiting: {}", by_priority.join(", ")),
        },
    }
}

fn day_row(row: &DayRow) -> Row<4> {
    let costs: Vec<String> = row.cost.iter().map(cost).collect();
    let provider = match row.provider {
        Some(provider) => word(&provider),
        None => "nobody".to_owned(),
    };
    Row {
        cells: [
            provider.into(),
            grouped(row.done).into(),
            grouped(row.failed).into(),
            match costs.is_empty() {
                true => "unknown".into(),
                false => costs.join(" + ").into(),
            },
        ],
        note: String::new(),
    }
}

fn colour_of(state: SessionState) -> Option<Colour> {
    match state {
        SessionState::Working | SessionState::Launching | SessionState::Claiming => {
            Some(Colour::GOOD)
        }
        SessionState::NeedsAttention => Some(Colour::BAD),
        SessionState::Cooldown | SessionState::Busy | SessionState::Attended => {
            Some(Colour::RESTING)
        }
        SessionState::Free => None,
        SessionState::Missing => Some(Colour::ASIDE),
    }
}

fn join<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("; ")
}

/// `99,980`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
