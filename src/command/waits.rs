//! Which tasks wait for a time, or for other tasks: of `scan`, `assign`, `status` and `decide`.

use std::cell::OnceCell;

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::queue::{Dependencies, Project, TaskRef};
use crate::task::Order;
use crate::text::local_time;

/// What has been looked up for one pass.
pub(super) struct Waits {
    now: Timestamp,
    /// The machine's; read from files, once a task needs it.
    zone: OnceCell<TimeZone>,
    dependencies: Dependencies,
}

impl Waits {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { now, zone: OnceCell::new(), dependencies: Dependencies::default() }
    }

    fn zone(&self) -> &TimeZone {
        self.zone.get_or_init(TimeZone::system)
    }

    /// The task's time, if that has not come yet.
    fn early(&self, order: &Order) -> Option<Timestamp> {
        let moment = order.not_before?.timestamp(self.zone());
        moment.filter(|moment| *moment > self.now)
    }

    pub(super) fn is_early(&self, order: &Order) -> bool {
        self.early(order).is_some()
    }

    /// Why it waits, as a clause: `until 02:00, in 8 h`, `schema.md failed`.
    pub(super) fn why(&mut self, project: &Project, order: &Order) -> Result<Option<String>> {
        if let Some(moment) = self.early(order) {
            return Ok(Some(format!("until {}", local_time(moment, self.now, self.zone()))));
        }
        if order.depends_on.is_empty() {
            return Ok(None);
        }
        self.dependencies.wait(project, order)
    }

    /// The same for people, who want to know of a circle: nothing in it ever goes.
    pub(super) fn why_in_full(&mut self, task: &TaskRef, order: &Order) -> Result<Option<String>> {
        let why = self.why(&task.project, order)?;
        if why.is_none() || order.depends_on.is_empty() {
            return Ok(why);
        }
        let circle = self.dependencies.circle(task, order);
        Ok(circle
            .map(|circle| {
                format!("they wait for each other, {circle}: take one out of a `depends_on`")
            })
            .or(why))
    }
}
