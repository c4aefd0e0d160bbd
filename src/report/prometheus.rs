//! The status as metrics in Prometheus' text format, for node_exporter's textfile collector.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>. All are gauges: they are counted anew from what
//! lies on disk, and go down when somebody tidies up.

use std::fmt::Write as _;

use super::text::word;
use super::{SessionState, Status, TaskState};
use crate::task::Priority;
use crate::text::escape;
use crate::text::path_text;

const SESSION_STATES: [SessionState; 9] = [
    SessionState::Free,
    SessionState::Claiming,
    SessionState::Launching,
    SessionState::Working,
    SessionState::NeedsAttention,
    SessionState::Attended,
    SessionState::Cooldown,
    SessionState::Busy,
    SessionState::Missing,
];

/// All metrics; `exit` is the status that `ccl status` ends with.
pub(crate) fn metrics(status: &Status, exit: u8) -> String {
    let mut text = Exposition::default();
    sessions(&mut text, status);
    tasks(&mut text, status);
    last_day(&mut text, status);
    text.family("ccl_status_success", "Whether everything could be read (1) or not (0).");
    text.sample("ccl_status_success", &[], u8::from(exit == 0));
    text.0
}

fn sessions(text: &mut Exposition, status: &Status) {
    let name = "ccl_sessions";
    text.family(name, "Sessions of the pool, by what they are doing.");
    for state in SESSION_STATES {
        let count = status.sessions.iter().filter(|row| row.state == state);
        text.sample(name, &[("state", word(&state))], count.count());
    }
    let name = "ccl_session_rest_end_timestamp_seconds";
    text.family(name, "When a session that rests may work again.");
    for row in &status.sessions {
        if let Some(until) = row.until {
            text.sample(name, &[("session", row.name.clone())], until.as_second());
        }
    }
}

fn tasks(text: &mut Exposition, status: &Status) {
    let name = "ccl_tasks_waiting";
    text.family(name, "Tasks in the inbox whose turn will come, by project and priority.");
    for project in &status.projects {
        for priority in Priority::ALL {
            let waiting = status.tasks.iter().filter(|task| {
                task.state == TaskState::Waiting
                    && task.project == project.path
                    && task.priority.unwrap_or_default() == priority
            });
            let labels = [("project", path_text(&project.path)), ("priority", word(&priority))];
            text.sample(name, &labels, waiting.count());
        }
    }
    let held = |project: &std::path::Path| {
        let held = |task: &&super::TaskRow| task.state == TaskState::Held;
        let tasks = status.tasks.iter().filter(held);
        tasks.filter(|task| task.project == project).count()
    };
    type Count<'a> = &'a dyn Fn(&super::ProjectRow) -> usize;
    let families: [(&str, &str, Count<'_>); 5] = [
        ("ccl_tasks_held", "Tasks in the inbox that are not taken.", &|row| held(&row.path)),
        ("ccl_tasks_dispatched", "Tasks in sessions.", &|row| row.dispatched),
        ("ccl_tasks_delegated", "Tasks at secutools.", &|row| row.delegated),
        ("ccl_tasks_done", "Files in done/.", &|row| row.done),
        ("ccl_tasks_failed", "Files in failed/.", &|row| row.failed),
    ];
    for (name, help, count) in families {
        text.family(name, help);
        for project in &status.projects {
            let labels = [("project", path_text(&project.path))];
            text.sample(name, &labels, count(project));
        }
    }
    let name = "ccl_tasks_stale";
    text.family(name, "Tasks that have been worked on for longer than stale_after.");
    text.sample(name, &[], status.stale);
}

fn last_day(text: &mut Exposition, status: &Status) {
    let name = "ccl_last_day_tasks";
    text.family(name, "Tasks that ended in the last 24 hours, by provider and outcome.");
    for row in &status.last_24h {
        for (outcome, count) in [("done", row.done), ("failed", row.failed)] {
            let labels = [("provider", provider(row)), ("outcome", outcome.to_owned())];
            text.sample(name, &labels, count);
        }
    }
    let name = "ccl_last_day_cost";
    text.family(
        name,
        "Known cost of the tasks that ended in the last 24 hours, in the currency of the label.",
    );
    for row in &status.last_24h {
        for cost in &row.cost {
            let currency = cost.currency.as_deref().unwrap_or("unknown").to_owned();
            let labels = [("provider", provider(row)), ("currency", currency)];
            text.sample(name, &labels, &cost.amount);
        }
    }
}

fn provider(row: &super::DayRow) -> String {
    row.provider.map_or_else(|| "none".to_owned(), |it| word(&it))
}

/// The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", label_value(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn label_value(text: &str) -> String {
    escape(text).replace('\\', "\\\\").replace('"', "\\\"")
}
