//! The status as metrics in Prometheus' text format, for node_exporter's textfile collector.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>. All are gauges: they are counted anew from
//! what lies on disk, and go down when files are removed.

use std::fmt::{Display, Write as _};

use super::text::word;
use super::{DayRow, ProjectRow, SessionState, Status};
use crate::task::{Priority, Provider};
use crate::text::{escape, path_text};

/// `exit` is the status that `ccl status` ends with.
pub(crate) fn metrics(status: &Status, exit: u8) -> String {
    let mut text = Exposition::default();
    sessions(&mut text, status);
    tasks(&mut text, status);
    last_day(&mut text, status);
    text.family("ccl_status_success", "Whether everything could be read (1) or not (0).");
    text.sample(&[], u8::from(exit == 0));
    text.text
}

fn sessions(text: &mut Exposition, status: &Status) {
    text.family("ccl_sessions", "Sessions of the pool, by what they are doing.");
    for state in SessionState::ALL {
        let count = status.sessions.iter().filter(|row| row.state == state);
        text.sample(&[("state", &word(&state))], count.count());
    }
    text.family(
        "ccl_session_rest_end_timestamp_seconds",
        "When a session on cooldown may work again.",
    );
    for row in &status.sessions {
        if let Some(until) = row.until {
            text.sample(&[("session", &row.name)], until.as_second());
        }
    }
}

fn tasks(text: &mut Exposition, status: &Status) {
    let count = status.inbox_counts();
    text.family(
        "ccl_tasks_waiting",
        "Tasks in the inbox whose turn will come, by project and priority.",
    );
    for row in &status.projects {
        let project = path_text(&row.path);
        for priority in Priority::ALL {
            let labels = [("project", project.as_str()), ("priority", &priority.to_string())];
            text.sample(&labels, count(row, Some(priority)));
        }
    }
    type Count<'a> = &'a dyn Fn(&ProjectRow) -> usize;
    let families: [(&str, &str, Count<'_>); 5] = [
        ("ccl_tasks_held", "Tasks in the inbox that are not taken.", &|row| count(row, None)),
        ("ccl_tasks_dispatched", "Tasks in sessions.", &|row| row.dispatched),
        ("ccl_tasks_delegated", "Tasks at secutools or the remote engine.", &|row| row.delegated),
        ("ccl_tasks_done", "Files in done/.", &|row| row.done),
        ("ccl_tasks_failed", "Files in failed/.", &|row| row.failed),
    ];
    for (name, help, count) in families {
        text.family(name, help);
        for row in &status.projects {
            text.sample(&[("project", &path_text(&row.path))], count(row));
        }
    }
    text.family("ccl_tasks_stale", "Tasks that have been worked on for longer than stale_after.");
    text.sample(&[], status.stale);
}

fn last_day(text: &mut Exposition, status: &Status) {
    let provider = |row: &DayRow| row.provider.map_or("none", Provider::as_str);
    text.family(
        "ccl_last_day_tasks",
        "Tasks that ended in the last 24 hours, by provider and outcome.",
    );
    for row in &status.last_24h {
        text.sample(&[("provider", provider(row)), ("outcome", "done")], row.done);
        text.sample(&[("provider", provider(row)), ("outcome", "failed")], row.failed);
    }
    text.family(
        "ccl_last_day_cost",
        "Known cost of the tasks that ended in the last 24 hours, in the currency of the label.",
    );
    for row in &status.last_24h {
        for cost in &row.cost {
            let currency = cost.currency.as_deref().unwrap_or("unknown");
            text.sample(&[("provider", provider(row)), ("currency", currency)], &cost.amount);
        }
    }
}

/// The text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
#[derive(Default)]
struct Exposition {
    text: String,
    /// The name of the family that samples are added to.
    name: &'static str,
}

impl Exposition {
    fn family(&mut self, name: &'static str, help: &str) {
        self.name = name;
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let quoted = labels.iter().map(|(label, value)| {
            // In this order: of what the format wants escaped only backslashes and quotes are left behind `escape`.
            let value = escape(value).replace('\\', "\\\\").replace('"', "\\\"");
            format!("{label}=\"{value}\"")
        });
        let mut name = self.name.to_owned();
        if !labels.is_empty() {
            name += &format!("{{{}}}", quoted.collect::<Vec<_>>().join(","));
        }
        let _ = writeln!(self.text, "{name} {value}");
    }
}
