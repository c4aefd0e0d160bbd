//! What a person has to do something about, with the sentence that mends it. Pure.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{AgentReadiness, OVERDUE, SessionState, Status, TaskRow, TaskState};
use crate::pause::Pause;
use crate::task::Provider;
use crate::text::{local_time, path_text};

/// One thing that waits for a person; what has the same cause is one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Need<'a> {
    pub(crate) kind: NeedKind,
    /// `None` of what concerns no single project: an agent, a session that has no task, a pause of everything.
    pub(crate) project: Option<&'a Path>,
    /// The tasks that it is about, or the session, the agent, or the recurring task; none of a pause, and where nothing
    /// is handed out.
    pub(crate) names: Vec<&'a str>,
    /// Whether the names are those of tasks, or of files of `recurring/`.
    pub(crate) is_of_tasks: bool,
    /// The session in which the agent of the only task waits.
    pub(crate) session: Option<&'a str>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) reason: String,
}

/// In the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NeedKind {
    /// No scan has ended for long, though there are tasks.
    Overdue,
    /// Nothing is handed out until a person says so.
    Paused,
    /// The agent of a task, or a session, waits for a person.
    Attention,
    /// A task has been at work for long.
    Stale,
    /// Something is wrong with a task that was handed out.
    Odd,
    /// A task is not taken.
    Held,
    /// A task waits for others that it will never get, unless somebody changes something.
    Stuck,
    /// Nothing is made of a file of `recurring/`.
    Recurring,
    /// A branch is to be landed, or thrown away.
    ToLand,
    /// An engine has a task, or is to get it, and something is in the way; it is tried again.
    Job,
}

impl NeedKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Overdue => "nothing is handed out",
            Self::Paused => "paused",
            Self::Attention => "needs attention",
            Self::Stale => "stale",
            Self::Odd => "unclear",
            Self::Held => "held",
            Self::Stuck => "waits in vain",
            Self::Recurring => "recurring, held",
            Self::ToLand => "to land",
            Self::Job => "delegated",
        }
    }

    /// Whether the tables and the page show it where it belongs, with more than its sentence: pauses and stopped scans
    /// at the top, branches in a section of their own, and what an engine does not take, which is tried again, with the
    /// jobs.
    pub(super) fn has_a_place_of_its_own(self) -> bool {
        match self {
            Self::Overdue | Self::Paused | Self::ToLand | Self::Job => true,
            Self::Attention
            | Self::Stale
            | Self::Odd
            | Self::Held
            | Self::Stuck
            | Self::Recurring => false,
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
    /// Everything that waits for a person: `status`, the page and `report` take it from here.
    pub(crate) fn needs(&self, now: Timestamp, zone: &TimeZone) -> Vec<Need<'_>> {
        let tasks = self.tasks.iter().filter_map(|task| self.need_of(task));
        // Only those without a task in the list: `need_of` names the others by their task.
        let sessions = self.sessions.iter().filter(|session| {
            let tasks = &mut self.tasks.iter();
            session.state == SessionState::NeedsAttention
                && !tasks.any(|task| session.has_task(task))
        });
        let sessions = sessions.map(|row| Need {
            kind: NeedKind::Attention,
            project: row.project.as_deref(),
            names: vec![&row.name],
            is_of_tasks: false,
            session: None,
            since: row.since,
            reason: row.reason.clone().unwrap_or_else(|| "attach to it and look".to_owned()),
        });
        let agents = self.agents.iter().filter(|row| row.state == AgentReadiness::NeedsAttention);
        let agents = agents.map(|row| Need {
            kind: NeedKind::Attention,
            project: None,
            names: vec![&row.name],
            is_of_tasks: false,
            session: None,
            since: None,
            reason: row.reason.clone().unwrap_or_else(|| "see `ccl doctor`".to_owned()),
        });
        let recurring = self.recurring.iter().filter_map(|row| {
            Some(Need {
                kind: NeedKind::Recurring,
                project: Some(&row.project),
                names: vec![&row.name],
                is_of_tasks: true,
                session: None,
                since: None,
                reason: row.reason.clone()?,
            })
        });
        let to_land = self.projects.iter().flat_map(|project| {
            project.to_land.iter().map(|row| Need {
                kind: NeedKind::ToLand,
                project: Some(&project.path),
                names: vec![&row.task],
                is_of_tasks: true,
                session: None,
                since: None,
                reason: format!("{}: {}", row.branch, row.reason),
            })
        });
        let nameless = |kind, project, since, reason| Need {
            kind,
            project,
            names: Vec::new(),
            is_of_tasks: false,
            session: None,
            since,
            reason,
        };
        let overdue = self.overdue(now, zone).into_iter();
        let overdue = overdue.map(|reason| nameless(NeedKind::Overdue, None, self.passed, reason));
        let everything = self.paused.iter().map(|pause| (pause, None));
        let projects = self.projects.iter();
        let projects = projects.filter_map(|row| Some((row.paused.as_ref()?, Some(&*row.path))));
        let pauses = everything.chain(projects).map(|(pause, project)| {
            let reason = paused(pause, project, now, zone);
            nameless(NeedKind::Paused, project, Some(pause.since), reason)
        });
        let needs_of_rows = tasks.chain(sessions).chain(agents).chain(recurring).chain(to_land);
        let mut needs: Vec<Need<'_>> = Vec::new();
        let mut places: HashMap<_, usize> = HashMap::new();
        for need in overdue.chain(pauses).chain(needs_of_rows) {
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

    /// The sentence about scans that have stopped, where anything waits for them.
    pub(super) fn overdue(&self, now: Timestamp, zone: &TimeZone) -> Option<String> {
        let passed = self.passed?;
        let is_over = now.duration_since(passed) > OVERDUE;
        (is_over && !self.tasks.is_empty()).then(|| {
            let at = local_time(passed, now, zone);
            format!("the last scan ended at {at}: see `systemctl --user status ccl.timer`, or call `ccl scan`")
        })
    }

    fn need_of<'a>(&'a self, task: &'a TaskRow) -> Option<Need<'a>> {
        let session = self.sessions.iter().find(|session| {
            session.state == SessionState::NeedsAttention && session.has_task(task)
        });
        let (kind, reason) = match task.state {
            TaskState::Waiting => (NeedKind::Stuck, task.stuck.clone()?),
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
            is_of_tasks: true,
            session: session.map(|session| session.name.as_str()).or(task.session.as_deref()),
            since: task.since,
            reason,
        })
    }
}

fn paused(pause: &Pause, project: Option<&Path>, now: Timestamp, zone: &TimeZone) -> String {
    let since = pause.sentence(now, zone);
    match project {
        None => format!("everything is paused {since}; `ccl resume` goes on"),
        Some(path) => {
            let path = path_text(path);
            format!("it is paused {since}; `ccl resume --project {path}` goes on")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        AgentRow, ProjectRow, RecurringRow, RecurringState, SessionRow, ToLandRow,
    };

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
        let now = "2026-03-05T13:16:00Z".parse().unwrap();
        status.needs(now, &TimeZone::UTC).iter().map(line).collect()
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

    #[test]
    fn branches_pauses_and_what_waits_in_vain_need_a_person() {
        let since = "2026-03-05T13:06:00Z".parse().unwrap();
        let pause =
            |reason: &str| Some(Pause { since, who: None, reason: Some(reason.to_owned()) });
        let stuck = |name: &str, why: &str| TaskRow {
            stuck: Some(why.to_owned()),
            waits: Some("it is paused".to_owned()),
            ..task(name, TaskState::Waiting, None)
        };
        let status = Status {
            paused: pause("a release"),
            passed: Some(since),
            projects: vec![ProjectRow {
                path: "/p".into(),
                parallel: None,
                waiting: 2,
                dispatched: 0,
                delegated: 0,
                done: 1,
                failed: 0,
                paused: pause("a move"),
                to_land: vec![ToLandRow {
                    task: "a.md".to_owned(),
                    branch: "ccl/a".to_owned(),
                    reason: "nothing has checked it".to_owned(),
                }],
                worktrees: Vec::new(),
            }],
            tasks: vec![stuck("b.md", "x.md failed"), stuck("c.md", "x.md failed")],
            agents: vec![AgentRow {
                name: "claude".to_owned(),
                kind: "claude",
                state: AgentReadiness::NeedsAttention,
                until: None,
                reason: Some("log in".to_owned()),
                spent_today: Vec::new(),
                unknown_costs: 0,
            }],
            ..Status::default()
        };
        assert_eq!(
            sentences(&status),
            [
                "Overdue : the last scan ended at 13:06, 10 min ago: see `systemctl --user status ccl.timer`, or call `ccl scan`",
                "Paused : everything is paused since 13:06, 10 min ago: a release; `ccl resume` goes on",
                "Paused : it is paused since 13:06, 10 min ago: a move; `ccl resume --project /p` goes on",
                "Attention claude: log in",
                "Stuck b.md c.md: x.md failed",
                "ToLand a.md: ccl/a: nothing has checked it",
            ]
        );
    }
}
