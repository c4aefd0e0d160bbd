//! The status for people: what needs one, then tables of sessions, projects, tasks and jobs, and the last day.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;

use super::table::{Cell, Colour, Row, table, wrap};
use super::text::{distance, short, word};
use super::{
    AgentReadiness, AgentRow, Need, NeedKind, RecurringState, SessionRow, SessionState, Status,
    TaskRow, TaskState, TerminalStyle,
};
use crate::pause::Pause;
use crate::task::{Priority, Provider};
use crate::text::{escape, local_time, path_text};

/// How many waiting tasks of each project are shown, and how many rows of what needs a person.
const SHOWN: usize = 20;

/// What an agent has spent today, and how many of its runs have no known cost.
pub(super) fn spent(row: &AgentRow) -> String {
    let mut parts: Vec<String> = row.spent_today.iter().map(ToString::to_string).collect();
    if row.unknown_costs > 0 {
        parts.push(format!("{} of unknown cost", row.unknown_costs));
    }
    parts.join(", ")
}

pub(super) fn text(status: &Status, style: &TerminalStyle, now: Timestamp) -> String {
    let view = View { status, style, now };
    let mut blocks = vec![
        view.paused(),
        view.summary() + &view.needs(),
        view.to_land(),
        view.sessions(),
        view.agents(),
        view.projects(),
        view.tasks(),
        view.recurring(),
        view.worktrees(),
        view.jobs(),
        view.day(),
        view.idle(),
    ];
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n")
}

struct View<'a> {
    status: &'a Status,
    style: &'a TerminalStyle,
    now: Timestamp,
}

impl View<'_> {
    /// What is paused, before anything else: it explains the rest.
    fn paused(&self) -> String {
        let everything = self.status.paused.iter().map(|pause| (pause, String::new()));
        let projects = self.status.projects.iter().filter_map(|row| {
            let place = format!(" in {}", short(&row.path));
            row.paused.as_ref().map(|pause| (pause, place))
        });
        let line = |(pause, place): (&Pause, String)| {
            let sentence = pause.sentence(self.now, &self.style.zone);
            let line = format!("paused{place} {sentence}; `ccl resume` goes on");
            Colour::WAITING.paint(self.style, &escape(&line)) + "\n"
        };
        everything.chain(projects).map(line).collect()
    }

    /// What needs a person, each with the sentence that mends it.
    fn needs(&self) -> String {
        let needs = self.status.needs(self.now, &self.style.zone).into_iter();
        // Pauses stand above, branches and jobs in tables of their own.
        let is_here =
            |need: &Need<'_>| need.kind == NeedKind::Overdue || !need.kind.has_a_place_of_its_own();
        let mut needs: Vec<Need<'_>> = needs.filter(is_here).collect();
        // Only scans that have stopped have no name here: their row is named after the command that makes one.
        for need in needs.iter_mut().filter(|need| need.names.is_empty()) {
            need.names.push("ccl scan");
        }
        // Each has the sentence in its own row, also where others have the same.
        let each: Vec<(&Need<'_>, &str)> = needs
            .iter()
            .flat_map(|need| need.names.iter().map(move |name| (need, *name)))
            .collect();
        let rows = each.iter().take(SHOWN).map(|(need, name)| {
            let colour = match need.kind {
                NeedKind::Overdue | NeedKind::Attention | NeedKind::Stale | NeedKind::Odd => {
                    Colour::BAD
                }
                NeedKind::Paused
                | NeedKind::Held
                | NeedKind::Stuck
                | NeedKind::Recurring
                | NeedKind::ToLand
                | NeedKind::Job => Colour::WAITING,
            };
            Row {
                cells: [
                    (*name).into(),
                    need.project.map(short).unwrap_or_default().into(),
                    Cell::coloured(need.kind.word().to_owned(), Some(colour)),
                    need.session.unwrap_or_default().into(),
                    self.since(need.since),
                ],
                note: need.reason.clone(),
            }
        });
        let mut text = table(self.style, ["NEEDS YOU", "PROJECT", "WHY", "SESSION", "SINCE"], rows);
        if each.len() > SHOWN {
            let more = format!("… and {} more: `ccl status --json`", each.len() - SHOWN);
            text.push_str(&wrap(self.style, &more));
        }
        text
    }

    /// The recurring tasks but those that are held: these stand above, with what needs a person.
    fn recurring(&self) -> String {
        let ready = self.status.recurring.iter().filter(|row| row.reason.is_none());
        let rows = ready.map(|row| {
            let next = row.next.map(|next| local_time(next, self.now, &self.style.zone));
            let state = match row.state {
                RecurringState::Ready => next.unwrap_or_default().into(),
                RecurringState::Over => "never again: remove it".to_owned().into(),
                RecurringState::Held => Cell::coloured("held".to_owned(), Some(Colour::BAD)),
            };
            Row {
                cells: [
                    row.name.clone().into(),
                    short(&row.project).into(),
                    row.schedule.clone().unwrap_or_default().into(),
                    state,
                ],
                note: row.reason.clone().unwrap_or_default(),
            }
        });
        table(self.style, ["RECURRING", "PROJECT", "WHEN", "NEXT"], rows)
    }

    fn sessions(&self) -> String {
        let names = ["SESSION", "STATE", "SINCE", "TASK", "PROJECT"];
        table(self.style, names, self.status.sessions.iter().map(|row| self.session(row)))
    }

    fn session(&self, row: &SessionRow) -> Row<5> {
        let task = self.status.tasks.iter().find(|task| {
            row.task.as_ref() == Some(&task.name)
                && task.session.as_ref() == Some(&row.name)
                && task.reason.is_none()
        });
        let until = row
            .until
            .filter(|_| row.state != SessionState::NeedsAttention)
            .map(|until| format!("until {}", local_time(until, self.now, &self.style.zone)));
        let title = task.and_then(|task| task.title.clone());
        // The sentence of one that needs a person stands above.
        let needs_person = row.state == SessionState::NeedsAttention;
        let reason = row.reason.clone().filter(|_| !needs_person);
        Row {
            cells: [
                row.name.clone().into(),
                Cell::coloured(word(&row.state), colour_of(row.state)),
                self.since(row.since),
                row.task.clone().unwrap_or_default().into(),
                row.project.as_deref().map(short).unwrap_or_default().into(),
            ],
            note: match reason {
                Some(reason) => join([until, row.doing.clone(), Some(reason)]),
                None => join([until, title, row.doing.clone()]),
            },
        }
    }

    /// The agents, unless all that can be said is that the only one is ready.
    fn agents(&self) -> String {
        if let [AgentRow { state: AgentReadiness::Ready, .. }] = self.status.agents.as_slice() {
            return String::new();
        }
        let rows = self.status.agents.iter().map(|row| {
            let colour = match row.state {
                AgentReadiness::Ready => None,
                AgentReadiness::Held | AgentReadiness::Probing | AgentReadiness::OverBudget => {
                    Some(Colour::WAITING)
                }
                AgentReadiness::NeedsAttention => Some(Colour::BAD),
            };
            let until = row.until.map(|until| local_time(until, self.now, &self.style.zone));
            Row {
                cells: [
                    row.name.clone().into(),
                    Cell::coloured(word(&row.state), colour),
                    until.unwrap_or_default().into(),
                    spent(row).into(),
                ],
                note: row.reason.clone().unwrap_or_default(),
            }
        });
        table(self.style, ["AGENT", "STATE", "UNTIL", "SPENT TODAY"], rows)
    }

    fn projects(&self) -> String {
        // A column in which no project has anything is left out.
        let rare = |count: usize| match count {
            0 => Cell::default(),
            count => count.to_string().into(),
        };
        let count = self.status.inbox_counts();
        let rows = self.status.projects.iter().map(|row| {
            let held = count(row, None);
            let waiting = Priority::ALL.map(|priority| (priority, count(row, Some(priority))));
            let present = waiting.iter().filter(|(_, count)| *count > 0);
            let is_ordinary = present.clone().all(|(priority, _)| *priority == Priority::default());
            let counts: Vec<String> = present.map(|(it, count)| format!("{count} {it}")).collect();
            let failed = (row.failed > 0).then_some(Colour::BAD);
            Row {
                cells: [
                    path_text(&row.path).into(),
                    row.waiting.saturating_sub(held).to_string().into(),
                    rare(held),
                    rare(row.dispatched),
                    rare(row.delegated),
                    row.done.to_string().into(),
                    Cell::coloured(row.failed.to_string(), failed),
                ],
                note: match is_ordinary {
                    true => String::new(),
                    false => format!("waiting: {}", counts.join(", ")),
                },
            }
        });
        let names = ["PROJECT", "WAITING", "HELD", "AT WORK", "DELEGATED", "DONE", "FAILED"];
        table(self.style, names, rows)
    }

    /// The tasks that stand nowhere else: those that wait, and those that another pool has.
    fn tasks(&self) -> String {
        let mut shown: HashMap<&Path, usize> = HashMap::new();
        let mut rows: Vec<Row<6>> = Vec::new();
        for task in &self.status.tasks {
            match task.state {
                TaskState::Waiting => {
                    let count = shown.entry(&task.project).or_default();
                    *count += 1;
                    if *count <= SHOWN {
                        rows.push(self.task(task));
                    }
                }
                TaskState::Dispatched | TaskState::Checking
                    if task.reason.is_none() && !self.is_in_a_session(task) =>
                {
                    rows.push(self.task(task));
                }
                _ if task.is_elsewhere => rows.push(self.task(task)),
                TaskState::Held
                | TaskState::Dispatched
                | TaskState::Checking
                | TaskState::DelegatedToSecutools
                | TaskState::DelegatedToRemote => {}
            }
        }
        let names = ["TASK", "PROJECT", "STATE", "PRIORITY", "SINCE", "WHERE"];
        let mut text = table(self.style, names, rows.into_iter());
        let mut more: Vec<_> = shown.into_iter().filter(|(_, n)| *n > SHOWN).collect();
        more.sort_unstable();
        for (project, count) in more {
            let project = short(project);
            let line = format!("… and {} more wait in {}", count - SHOWN, escape(&project));
            text.push_str(&wrap(self.style, &line));
        }
        text
    }

    fn is_in_a_session(&self, task: &TaskRow) -> bool {
        let mut sessions = self.status.sessions.iter();
        sessions.any(|it| Some(&it.name) == task.session.as_ref())
    }

    fn task(&self, row: &TaskRow) -> Row<6> {
        let provider = row.provider.map(|it| it.as_str().to_owned());
        Row {
            cells: [
                row.name.clone().into(),
                short(&row.project).into(),
                word(&row.state).into(),
                row.priority.map(|it| it.to_string()).unwrap_or_default().into(),
                self.since(row.since),
                row.session.clone().or(provider).unwrap_or_default().into(),
            ],
            note: join([
                row.waits.as_ref().map(|what| match what.starts_with("until ") {
                    true => format!("waits {what}"),
                    false => format!("waits: {what}"),
                }),
                row.reason.clone(),
            ]),
        }
    }

    fn to_land(&self) -> String {
        let projects = self.status.projects.iter();
        let rows = projects.flat_map(|project| {
            project.to_land.iter().map(|row| Row {
                cells: [
                    row.task.as_str().into(),
                    short(&project.path).into(),
                    Cell::coloured(row.branch.clone(), Some(Colour::WAITING)),
                ],
                note: row.reason.clone(),
            })
        });
        table(self.style, ["TO LAND", "PROJECT", "BRANCH"], rows)
    }

    /// The worktrees in which no agent works any more.
    fn worktrees(&self) -> String {
        let projects = self.status.projects.iter();
        let left = projects.flat_map(|project| {
            project.worktrees.iter().filter(|row| row.task.is_none()).map(|row| Row {
                cells: [path_text(&row.path).into(), row.branch.clone().unwrap_or_default().into()],
                note: String::new(),
            })
        });
        table(self.style, ["WORKTREE LEFT", "BRANCH"], left)
    }

    fn jobs(&self) -> String {
        let rows = self.status.delegated.jobs.iter().map(|row| Row {
            cells: [
                row.job_id.as_deref().unwrap_or("-").into(),
                row.task.clone().into(),
                short(&row.project).into(),
                row.provider.map_or("", Provider::as_str).into(),
                row.phase.clone().into(),
                self.since(row.since),
            ],
            note: row.reason.clone().unwrap_or_default(),
        });
        table(self.style, ["JOB", "TASK", "PROJECT", "PROVIDER", "PHASE", "SINCE"], rows)
    }

    fn day(&self) -> String {
        let rows = self.status.last_24h.iter().map(|row| {
            let costs: Vec<String> = row.cost.iter().map(ToString::to_string).collect();
            let costs = if costs.is_empty() { "unknown".to_owned() } else { costs.join(" + ") };
            Row {
                cells: [
                    row.provider.map_or("nobody", Provider::as_str).into(),
                    row.done.to_string().into(),
                    row.failed.to_string().into(),
                    costs.into(),
                ],
                note: String::new(),
            }
        });
        table(self.style, ["LAST 24 H", "DONE", "FAILED", "COST"], rows)
    }

    /// What a person should look at, in one line.
    fn summary(&self) -> String {
        let attention = |row: &&SessionRow| row.state == SessionState::NeedsAttention;
        let sessions = self.status.sessions.iter().filter(attention).count();
        let held = self.status.tasks.iter().filter(|row| row.state == TaskState::Held).count();
        let to_land: usize = self.status.projects.iter().map(|row| row.to_land.len()).sum();
        let counts = [
            (to_land, "branch is to land", "branches are to land", Colour::WAITING),
            (sessions, "session needs attention", "sessions need attention", Colour::BAD),
            (self.status.stale, "task is stale", "tasks are stale", Colour::BAD),
            (held, "task is held", "tasks are held", Colour::WAITING),
        ];
        let parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many, colour)| {
                let what = if count == 1 { one } else { many };
                colour.paint(self.style, &format!("{count} {what}"))
            })
            .collect();
        let line = parts.join(", ");
        if line.is_empty() { line } else { line + "\n" }
    }

    fn idle(&self) -> String {
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

fn colour_of(state: SessionState) -> Option<Colour> {
    use SessionState as S;
    match state {
        S::Working | S::Checking | S::Launching | S::Claiming => Some(Colour::GOOD),
        S::NeedsAttention => Some(Colour::BAD),
        S::Cooldown | S::Busy | S::Attended => Some(Colour::WAITING),
        S::Missing => Some(Colour::FAINT),
        S::Free => None,
    }
}

fn join<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("; ")
}
