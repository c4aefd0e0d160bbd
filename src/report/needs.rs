//! What a person has to do something about, with the sentence that mends it. Pure.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;

use super::{AgentReadiness, SessionState, Status, TaskRow, TaskState};
use crate::task::Provider;

/// One thing that waits for a person; what has the same cause is one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Need<'a> {
    pub(crate) kind: NeedKind,
    /// `None` of a session that has no task.
    pub(crate) project: Option<&'a Path>,
    /// The tasks that it is about, or the session, the agent, or the recurring task.
    pub(crate) names: Vec<&'a str>,
    /// The session in which the agent of the only task waits.
    pub(crate) session: Option<&'a str>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) reason: String,
}

/// In the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NeedKind {
    /// The agent of a task, or a session, waits for a person.
    Attention,
    /// A task has been at work for long.
    Stale,
    /// Something is wrong with a task that was handed out.
    Odd,
    /// A task is not taken.
    Held,
    /// Nothing is made of a file of `recurring/`.
    Recurring,
    /// An engine has a task, or is to get it, and something is in the way; it is tried again.
    Job,
}

impl NeedKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Attention => "needs attention",
            Self::Stale => "stale",
            Self::Odd => "unclear",
            Self::Held => "held",
            Self::Recurring => "recurring, held",
            Self::Job => "delegated",
        }
    }
}

impl<'a> Need<'a> {
    /// Adds what has the same cause.
    fn merge(&mut self, other: Need<'a>) {
        self.names.extend(other.names);
        self.session = None;
        self.since = [self.since, other.since].into_iter().flatten().min();
    }
}

const STALE: &str = "it has been at work for long: attach and look, or `ccl cancel` it";

impl Status {
    /// Everything that waits for a person. Branches that are to land stand with their projects.
    pub(crate) fn needs(&self) -> Vec<Need<'_>> {
        let tasks = self.tasks.iter().filter_map(|task| self.need_of(task));
        let sessions = self.sessions.iter().filter(|session| {
            let tasks = &mut self.tasks.iter();
            session.state == SessionState::NeedsAttention
                && !tasks.any(|task| session.has_task(task))
        });
        let sessions = sessions.map(|row| Need {
            kind: NeedKind::Attention,
            project: row.project.as_deref(),
            names: vec![&row.name],
            session: None,
            since: row.since,
            reason: row.reason.clone().unwrap_or_else(|| "attach to it and look".to_owned()),
        });
        let agents = self.agents.iter().filter(|row| row.state == AgentReadiness::NeedsAttention);
        let agents = agents.map(|row| Need {
            kind: NeedKind::Attention,
            project: None,
            names: vec![&row.name],
            session: None,
            since: None,
            reason: row.reason.clone().unwrap_or_else(|| "see `ccl doctor`".to_owned()),
        });
        let recurring = self.recurring.iter().filter_map(|row| {
            Some(Need {
                kind: NeedKind::Recurring,
                project: Some(&row.project),
                names: vec![&row.name],
                session: None,
                since: None,
                reason: row.reason.clone()?,
            })
        });
        let mut needs: Vec<Need<'_>> = Vec::new();
        let mut places: HashMap<_, usize> = HashMap::new();
        for need in tasks.chain(sessions).chain(agents).chain(recurring) {
            let cause = (need.kind, need.project, need.reason.clone());
            match places.get(&cause).and_then(|place| needs.get_mut(*place)) {
                Some(first) => first.merge(need),
                None => {
                    places.insert(cause, needs.len());
                    needs.push(need);
                }
            }
        }
        needs.sort_by_key(|need| need.kind);
        needs
    }

    fn need_of<'a>(&'a self, task: &'a TaskRow) -> Option<Need<'a>> {
        let session = self.sessions.iter().find(|session| {
            session.state == SessionState::NeedsAttention && session.has_task(task)
        });
        let (kind, reason) = match task.state {
            TaskState::Waiting => return None,
            TaskState::Held => (NeedKind::Held, task.reason.clone()?),
            TaskState::Dispatched
            | TaskState::Checking
            | TaskState::DelegatedToSecutools
            | TaskState::DelegatedToRemote => {
                let asks = session.and_then(|session| session.reason.clone());
                match (asks, &task.reason) {
                    (Some(asks), _) => (NeedKind::Attention, asks),
                    (None, _) if task.is_elsewhere => return None,
                    (None, Some(reason)) if task.provider.is_some_and(Provider::is_remote) => {
                        (NeedKind::Job, reason.clone())
                    }
                    (None, Some(reason)) => (NeedKind::Odd, reason.clone()),
                    (None, None) if task.stale => (NeedKind::Stale, STALE.to_owned()),
                    (None, None) => return None,
                }
            }
        };
        Some(Need {
            kind,
            project: Some(&task.project),
            names: vec![&task.name],
            session: session.map(|session| session.name.as_str()).or(task.session.as_deref()),
            since: task.since,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{RecurringRow, RecurringState, SessionRow};

    fn task(name: &str, state: TaskState, reason: Option<&str>) -> TaskRow {
        TaskRow {
            project: "/p".into(),
            name: name.to_owned(),
            state,
            reason: reason.map(str::to_owned),
            ..TaskRow::default()
        }
    }

    fn sentences(status: &Status) -> Vec<String> {
        let line =
            |need: &Need<'_>| format!("{:?} {}: {}", need.kind, need.names.join(" "), need.reason);
        status.needs().iter().map(line).collect()
    }

    #[test]
    fn what_is_urgent_comes_first_and_what_has_the_same_cause_is_one() {
        let of_session = |name: &str, task: Option<&str>| SessionRow {
            name: name.to_owned(),
            state: SessionState::NeedsAttention,
            task: task.map(str::to_owned),
            project: task.map(|_| "/p".into()),
            reason: Some(format!("{name} asks")),
            ..SessionRow::default()
        };
        let recurring = |name: &str, reason: Option<&str>| RecurringRow {
            project: "/p".into(),
            name: name.to_owned(),
            state: RecurringState::Held,
            schedule: None,
            next: None,
            reason: reason.map(str::to_owned),
        };
        use TaskState::{DelegatedToSecutools, Dispatched, Held, Waiting};
        let status = Status {
            sessions: vec![of_session("s-0", Some("asks.md")), of_session("s-1", None)],
            tasks: vec![
                task("a.md", Held, Some("no trust")),
                task("w.md", Waiting, Some("the last attempt: it failed")),
                task("b.md", Held, Some("a link")),
                task("c.md", Held, Some("no trust")),
                task("asks.md", Dispatched, None),
                TaskRow { stale: true, ..task("slow.md", Dispatched, None) },
                task("lost.md", Dispatched, Some("nobody has claimed it")),
                TaskRow {
                    is_elsewhere: true,
                    stale: true,
                    ..task("far.md", Dispatched, Some("another pool has it"))
                },
                TaskRow {
                    provider: Some(Provider::Gpu),
                    ..task("job.md", DelegatedToSecutools, Some("it does not answer"))
                },
            ],
            recurring: vec![recurring("r.md", Some("three failures")), recurring("ok.md", None)],
            ..Status::default()
        };
        assert_eq!(
            sentences(&status),
            [
                "Attention asks.md: s-0 asks",
                "Attention s-1: s-1 asks",
                "Stale slow.md: it has been at work for long: attach and look, or `ccl cancel` it",
                "Odd lost.md: nobody has claimed it",
                "Held a.md c.md: no trust",
                "Held b.md: a link",
                "Recurring r.md: three failures",
                "Job job.md: it does not answer",
            ]
        );
        assert_eq!(sentences(&Status::default()), [""; 0]);
    }
}
