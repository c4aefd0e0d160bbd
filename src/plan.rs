//! Who goes next when a session is free. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};

use crate::task::Priority;

/// The local tasks of one project: those that wait, and how many run.
#[derive(Debug, Default)]
pub struct Queue {
    /// Including those that [`next`] has picked.
    running: usize,
    /// The most urgent on top, of equals the first by name. A heap: of a hundred thousand only a few are taken.
    waiting: BinaryHeap<Reverse<(Priority, OsString)>>,
    /// Since when the task on top waits, once [`next`] has asked.
    since: Option<i64>,
}

impl Queue {
    /// `waiting` may be in any order.
    pub fn new(running: usize, waiting: Vec<(Priority, OsString)>) -> Self {
        let waiting: Vec<_> = waiting.into_iter().map(Reverse).collect();
        Self { running, waiting: waiting.into(), since: None }
    }

    /// Drops what waits: no further task of this project goes in this pass.
    pub(crate) fn close(&mut self) {
        self.waiting.clear();
        self.since = None;
    }

    /// A task that [`next`] picked does not run after all: it was gone, or it is held back.
    pub(crate) fn not_started(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}

/// Takes the task that goes next: its project's index and its name, or `None` where nothing waits.
///
/// The most urgent goes first; between projects the one with the fewest tasks running, then the one whose first task
/// has waited longest, then the first of them; within a project the first by file name. The task counts as running from
/// now on.
///
/// `since(project, name)` is the time since when a task waits; a smaller number is earlier. It costs a system call, so
/// it is asked only where nothing else decides, and once for each task.
pub fn next(
    queues: &mut [Queue],
    mut since: impl FnMut(usize, &OsStr) -> i64,
) -> Option<(usize, OsString)> {
    let rank = |queue: &Queue| {
        queue.waiting.peek().map(|Reverse((priority, _))| (*priority, queue.running))
    };
    let best = queues.iter().filter_map(rank).min()?;
    let tied: Vec<usize> =
        (0..queues.len()).filter(|&project| rank(&queues[project]) == Some(best)).collect();
    let project = match tied[..] {
        [only] => only,
        // Of equal times `min_by_key` takes the first: then the order of the projects decides.
        _ => tied.into_iter().min_by_key(|&project| {
            let queue = &mut queues[project];
            let Reverse((_, name)) = queue.waiting.peek()?;
            Some(*queue.since.get_or_insert_with(|| since(project, name)))
        })?,
    };
    let queue = &mut queues[project];
    let Reverse((_, name)) = queue.waiting.pop()?;
    queue.since = None;
    queue.running += 1;
    Some((project, name))
}

#[cfg(test)]
mod tests;
