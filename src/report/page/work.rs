//! The page's tables: who works on what, what waits, what is elsewhere, what has ended.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use maud::{Markup, html};

use super::{StatusPage, count, project, section, sentence, table, title, words};
use crate::event::EventKind;
use crate::journal::Entry;
use crate::report::status_view::spent;
use crate::report::text::{duration, word};
use crate::report::{
    AgentReadiness, AgentRow, ProjectRow, RecurringState, SessionRow, SessionState, TaskRow,
    TaskState,
};
use crate::task::{Priority, Provider};
use crate::text::{escape, path_text};

/// How many waiting tasks of each project are shown, and how many of all.
const OF_PROJECT: usize = 20;
const OF_ALL: usize = 100;
/// How many projects are shown in which something happens, and how many others.
const BUSY_PROJECTS: usize = 100;
const QUIET_PROJECTS: usize = 30;

/// How many rows are left out.
fn more(hidden: usize, one: &str, many: &str) -> Markup {
    html! { @if hidden > 0 { p .soft { "… and " (count(hidden, one, many)) " more" } } }
}

impl StatusPage<'_> {
    pub(super) fn sessions(&self) -> Markup {
        let rows = html! { @for row in &self.status.sessions { (self.session(row)) } };
        let stale = duration(self.stale_after.as_secs());
        let caption = format!("A full bar: at work for {stale}, and from then on stale.");
        section("sessions", "Sessions", &table(&caption, &["Session", "Works on", "Since"], &rows))
    }

    fn session(&self, row: &SessionRow) -> Markup {
        use SessionState as S;
        let colour = match row.state {
            S::Working | S::Checking | S::Launching | S::Claiming => "good",
            S::NeedsAttention => "bad",
            S::Cooldown | S::Busy | S::Attended => "wait",
            S::Missing | S::Free => "plain",
        };
        let task = self.status.tasks.iter().find(|task| row.has_task(task));
        // What a person has to do stands above.
        let reason = row.reason.as_deref().filter(|_| row.state != S::NeedsAttention);
        html! {
            tr {
                th scope="row" {
                    (words(&row.name))
                    p .state.(colour) { (word(&row.state).replace('-', " ")) }
                    @if task.is_some_and(|task| task.stale) { p .state.bad { "stale" } }
                }
                td {
                    @if let Some(name) = &row.task {
                        (self.named(name, task.and_then(|task| task.title.as_deref()), row.project.as_deref()))
                    }
                    @if let Some(doing) = &row.doing { p { small { "▸ " (words(doing)) } } }
                    @if let (S::Cooldown, Some(until)) = (row.state, row.until) { p { "until " (self.moment(until)) } }
                    @if let Some(reason) = reason { p { small { (sentence(reason)) } } }
                }
                td {
                    (self.since(row.since))
                    @if let (Some(since), Some(_)) = (row.since, &row.task) { (self.bar(since)) }
                }
            }
        }
    }

    /// A task: its title and its name, or its name alone, and its project.
    fn named(&self, name: &str, titled: Option<&str>, place: Option<&Path>) -> Markup {
        html! {
            @match titled {
                Some(text) => { p { (title(text)) } p { small { (words(name)) @if let Some(place) = place { ", " (project(place)) } } } }
                None => { p { (words(name)) } @if let Some(place) = place { p { small { (project(place)) } } } }
            }
        }
    }

    /// How much of the time until it is stale has gone; what it shows stands beside it in words.
    fn bar(&self, since: Timestamp) -> Markup {
        let gone = self.now.duration_since(since).as_secs_f64().max(0.0);
        let share = (100.0 * gone / self.stale_after.as_secs_f64().max(1.0)).clamp(1.0, 100.0);
        let fill = if share < 100.0 { "fill" } else { "over" };
        html! {
            svg .bar viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                rect .track width="100" height="8" {}
                rect .(fill) width=(format!("{share:.1}")) height="8" {}
            }
        }
    }

    pub(super) fn queues(&self) -> Markup {
        let held = self.status.inbox_counts();
        let is_busy = |row: &&ProjectRow| row.waiting + row.dispatched + row.delegated > 0;
        let (busy, quiet): (Vec<_>, Vec<_>) = self.status.projects.iter().partition(is_busy);
        let shown = busy.iter().take(BUSY_PROJECTS).chain(quiet.iter().take(QUIET_PROJECTS));
        let rows = html! {
            @for row in shown {
                @let held_here = held(row, None);
                tr {
                    th scope="row" {
                        (project(&row.path))
                        p .wide { small { (words(&path_text(&row.path))) } }
                    }
                    td .n {
                        (row.waiting.saturating_sub(held_here))
                        @for priority in Priority::ALL {
                            @let number = held(row, Some(priority));
                            @if number > 0 { p { small { (number) " " (priority) } } }
                        }
                    }
                    td .n { (held_here) }
                    td .n { (row.dispatched) @if row.delegated > 0 { p { small { "+" (row.delegated) " elsewhere" } } } }
                    td .n { (row.done) }
                    td .n.bad[row.failed > 0] { (row.failed) }
                }
            }
        };
        let hidden_busy = busy.len().saturating_sub(BUSY_PROJECTS);
        let hidden = quiet.len().saturating_sub(QUIET_PROJECTS);
        let columns = ["Project", "#Waiting", "#Held", "#At work", "#Done", "#Failed"];
        let content = html! {
            (table("", &columns, &rows))
            (more(hidden_busy, "project", "projects"))
            @if hidden > 0 { p .soft { "… and " (count(hidden, "project", "projects")) " more in which nothing waits" } }
        };
        section("queues", "Queues", &content)
    }

    /// The tasks that wait for their turn, and those that another pool has.
    pub(super) fn waiting(&self) -> Markup {
        let mut of_project: HashMap<&Path, usize> = HashMap::new();
        let (mut shown, mut hidden) = (Vec::new(), 0);
        let waiting = |task: &&TaskRow| task.state == TaskState::Waiting || task.is_elsewhere;
        for task in self.status.tasks.iter().filter(waiting) {
            let number = of_project.entry(&task.project).or_default();
            *number += 1;
            match *number <= OF_PROJECT && shown.len() < OF_ALL {
                true => shown.push(task),
                false => hidden += 1,
            }
        }
        if shown.is_empty() {
            return Markup::default();
        }
        let rows = html! {
            @for task in shown {
                tr {
                    td {
                        (self.named(&task.name, task.title.as_deref(), Some(&task.project)))
                        @if let Some(why) = &task.waits { p { small { "waits: " (sentence(why)) } } }
                        @if let Some(reason) = &task.reason { p { small { (sentence(reason)) } } }
                    }
                    td {
                        @if let Some(priority) = task.priority { (priority) }
                        @if let Some(provider) = task.provider { p .keep { small { (provider.as_str()) } } }
                    }
                    td { (self.since(task.since)) }
                }
            }
        };
        let content = html! {
            (table("Of each project in the order in which they go.", &["Task", "Priority", "Since"], &rows))
            (more(hidden, "task", "tasks"))
        };
        section("waiting", "Next", &content)
    }

    pub(super) fn jobs(&self) -> Markup {
        if self.status.delegated.jobs.is_empty() {
            return Markup::default();
        }
        let rows = html! {
            @for row in self.status.delegated.jobs.iter().take(OF_ALL) {
                tr {
                    td {
                        (self.named(&row.task, None, Some(&row.project)))
                        @if let Some(reason) = &row.reason { p { small { (sentence(reason)) } } }
                    }
                    td {
                        (row.provider.map_or("", Provider::as_str)) " " (row.phase)
                        @if let Some(id) = &row.job_id { p { small { (words(id)) } } }
                    }
                    td { (self.since(row.since)) }
                }
            }
        };
        let hidden = self.status.delegated.jobs.len().saturating_sub(OF_ALL);
        let content = html! {
            (table("", &["Task", "Job", "Since"], &rows))
            (more(hidden, "job", "jobs"))
        };
        section("jobs", &format!("At {}", self.status.delegated.place()), &content)
    }

    /// The agents with their holds, unless all that can be said is that the only one is ready.
    pub(super) fn agents(&self) -> Markup {
        if let [AgentRow { state: AgentReadiness::Ready, .. }] | [] = self.status.agents.as_slice()
        {
            return Markup::default();
        }
        let rows = html! {
            @for row in &self.status.agents {
                @let colour = match row.state {
                    AgentReadiness::Ready => "good",
                    AgentReadiness::NeedsAttention => "bad",
                    AgentReadiness::Held | AgentReadiness::Probing | AgentReadiness::OverBudget => "wait",
                };
                tr {
                    th scope="row" { (words(&row.name)) }
                    td {
                        span .state.(colour) { (word(&row.state).replace('-', " ")) }
                        @if let Some(until) = row.until { p { small { "until " (self.moment(until)) } } }
                        @if let Some(reason) = &row.reason { p { small { (sentence(reason)) } } }
                    }
                    td .n { (escape(&spent(row))) }
                }
            }
        };
        section("agents", "Agents", &table("", &["Agent", "State", "#Spent today"], &rows))
    }

    pub(super) fn to_land(&self) -> Markup {
        let projects = self.status.projects.iter();
        let rows: Vec<_> =
            projects.flat_map(|it| it.to_land.iter().map(|row| (&it.path, row))).collect();
        if rows.is_empty() {
            return Markup::default();
        }
        let hidden = rows.len().saturating_sub(OF_ALL);
        let rows = html! {
            @for (place, row) in rows.iter().take(OF_ALL) {
                tr {
                    td { (self.named(&row.task, None, Some(place))) }
                    td { code { (words(&row.branch)) } p { small { (sentence(&row.reason)) } } }
                }
            }
        };
        let caption = "Work that is done and not in its base; `ccl land TASK` brings it there.";
        let content = html! {
            (table(caption, &["Task", "Branch"], &rows))
            (more(hidden, "branch", "branches"))
        };
        section("to-land", "To land", &content)
    }

    pub(super) fn worktrees(&self) -> Markup {
        let projects = self.status.projects.iter();
        let left: Vec<_> =
            projects.flat_map(|it| &it.worktrees).filter(|row| row.task.is_none()).collect();
        if left.is_empty() {
            return Markup::default();
        }
        let rows = html! {
            @for row in left.iter().take(OF_ALL) {
                tr {
                    td { (words(&path_text(&row.path))) }
                    td { @if let Some(branch) = &row.branch { code { (words(branch)) } } }
                }
            }
        };
        let content = html! {
            (table("", &["Directory", "Branch"], &rows))
            (more(left.len().saturating_sub(OF_ALL), "worktree", "worktrees"))
        };
        section("worktrees", "Worktrees left behind", &content)
    }

    /// The recurring tasks but those that are held: these stand above, with what needs a person.
    pub(super) fn recurring(&self) -> Markup {
        let ready: Vec<_> =
            self.status.recurring.iter().filter(|row| row.reason.is_none()).collect();
        if ready.is_empty() {
            return Markup::default();
        }
        let rows = html! {
            @for row in ready.iter().take(OF_ALL) {
                tr {
                    td { (self.named(&row.name, None, Some(&row.project))) }
                    td { @if let Some(schedule) = &row.schedule { (words(schedule)) } }
                    td {
                        @if let Some(next) = row.next { (self.moment(next)) }
                        @if row.state == RecurringState::Over { "never again: remove it" }
                    }
                }
            }
        };
        let content = html! {
            (table("", &["Task", "When", "Next"], &rows))
            (more(ready.len().saturating_sub(OF_ALL), "task", "tasks"))
        };
        section("recurring", "Recurring", &content)
    }

    /// What ended in the last day, by who worked on it.
    pub(super) fn last_day(&self) -> Markup {
        let rows = html! {
            @for row in &self.status.last_24h {
                @let costs: Vec<String> = row.cost.iter().map(ToString::to_string).collect();
                tr {
                    th scope="row" { (row.provider.map_or("nobody", Provider::as_str)) }
                    td .n { (row.done) }
                    td .n.bad[row.failed > 0] { (row.failed) }
                    td .n { @if costs.is_empty() { "unknown" } @else { (escape(&costs.join(" + "))) } }
                }
            }
        };
        let content = match self.status.last_24h.is_empty() {
            true => html! { p .soft { "Nothing ended." } },
            false => table("", &["By", "#Done", "#Failed", "#Cost"], &rows),
        };
        section("last-day", "Last 24 hours", &content)
    }

    /// The tasks that ended last, with what became of them.
    pub(super) fn lately(&self) -> Markup {
        let mut ended = self.history.lately().peekable();
        if ended.peek().is_none() {
            return Markup::default();
        }
        let rows = html! { @for entry in ended { (self.ended(entry)) } };
        section("lately", "Ended lately", &table("", &["Task", "Outcome", "When"], &rows))
    }

    fn ended(&self, entry: &Entry) -> Markup {
        let (colour, outcome) = match entry.event {
            EventKind::Done => ("good", "done"),
            _ => ("bad", "failed"),
        };
        let by = entry.agent.as_deref().or(entry.provider.map(Provider::as_str));
        html! {
            tr {
                td {
                    (self.named(entry.task.as_deref().unwrap_or_default(), None, entry.project.as_deref()))
                    @if let Some(reason) = &entry.reason { p { small { (sentence(reason)) } } }
                }
                td {
                    span .state.(colour) { (outcome) }
                    p {
                        small {
                            @if let Some(by) = by { "by " (words(by)) }
                            @if let Some(cost) = &entry.cost { ", " (cost) }
                        }
                    }
                }
                td { (self.since(Some(entry.time))) }
            }
        }
    }
}
