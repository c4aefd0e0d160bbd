//! When a task's turn may come: not before a time, and not before what it depends on. Pure.

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;

use super::{Pin, Priority};

/// What decides when a task goes, from its header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskTurn {
    pub priority: Priority,
    pub order: Order,
    pub pin: Pin,
}

/// What a task waits for. The default waits for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    pub not_before: Option<Moment>,
    /// As they are written: `T.md`, or `PATH:T.md` of another project.
    pub depends_on: Vec<String>,
    /// What is wrong with one of the two, as a sentence: then the task is held.
    pub wrong: Option<String>,
}

impl Order {
    /// Why the task is held, where something is wrong with one of the two.
    pub(crate) fn obstacle(&self) -> Option<String> {
        Some(format!("{}: mend it", self.wrong.as_ref()?))
    }
}

/// A time as a header has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// By the clock on the machine's wall.
    Local(DateTime),
    Exact(Timestamp),
}

impl Moment {
    /// `2026-11-27 02:00` or `2026-11-27` in local time, or RFC 3339 with an offset.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        // A zone's name in brackets would be ignored below, and a bare number such as 20261127 be read as a date.
        if text.contains('[') || text.as_bytes().get(4) != Some(&b'-') {
            return None;
        }
        let pieces = Pieces::parse(text).ok()?;
        let local = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
        Some(match pieces.to_numeric_offset() {
            Some(offset) => Self::Exact(offset.to_timestamp(local).unwrap_or_else(|_| end(local))),
            None => Self::Local(local),
        })
    }

    /// A local time that comes twice means the first; one that the clocks skip is moved on by the length of the gap.
    pub(crate) fn timestamp(self, zone: &TimeZone) -> Timestamp {
        match self {
            Self::Local(local) => zone.to_timestamp(local).unwrap_or_else(|_| end(local)),
            Self::Exact(moment) => moment,
        }
    }
}

/// The last moment that there is, or the first, for a time beyond it: a task of the year 9999 still waits.
fn end(beyond: DateTime) -> Timestamp {
    if beyond.year() > 0 { Timestamp::MAX } else { Timestamp::MIN }
}

/// What the worktree of a task starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartFrom<'a> {
    /// What any task starts from.
    Base,
    /// The branch of the one task that it depends on and that has not landed.
    Branch(&'a str),
    /// Nothing yet: of several branches none holds all of the work.
    WaitsFor(Vec<&'a str>),
}

/// What a task starts from, by what it depends on: each one's name, and its branch where that has not landed.
pub(crate) fn start_from<'a>(dependencies: &[(&'a str, Option<&'a str>)]) -> StartFrom<'a> {
    let mut open = dependencies.iter().filter_map(|(task, branch)| Some((*task, (*branch)?)));
    match (open.next(), open.next()) {
        (None, _) => StartFrom::Base,
        (Some((_, branch)), None) => StartFrom::Branch(branch),
        (Some((first, _)), Some((second, _))) => {
            let names = [first, second].into_iter().chain(open.map(|(task, _)| task));
            StartFrom::WaitsFor(names.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_or_exact() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let read = |text: &str| Some(Moment::parse(text)?.timestamp(&berlin).to_string());
        for (text, moment) in [
            ("2026-11-27 02:00", "2026-11-27T01:00:00Z"),
            ("2026-11-27T02:00:30", "2026-11-27T01:00:30Z"),
            (" 2026-07-27 ", "2026-07-26T22:00:00Z"),
            ("2026-11-27T02:00:00+05:30", "2026-11-26T20:30:00Z"),
            ("2026-11-27 02:00Z", "2026-11-27T02:00:00Z"),
            // Left out, and repeated.
            ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            ("2026-10-25 02:30", "2026-10-25T00:30:00Z"),
            // Further than any clock counts.
            ("9999-12-31", "9999-12-30T22:00:00.999999999Z"),
            ("9999-12-31 23:59", "9999-12-30T22:00:00.999999999Z"),
            ("9999-12-31T23:59:59Z", "9999-12-30T22:00:00.999999999Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(moment), "{text}");
        }
        for text in [
            "",
            "soon",
            "02:00",
            "2026",
            "20261127",
            "2026-13-01",
            "2026-11-27 02:00 sharp",
            "9999-12-32",
            "2026-11-27 02:00[Europe/Berlin]",
            "-1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_dependent_starts_from_the_one_branch_that_has_not_landed() {
        use StartFrom::{Base, Branch, WaitsFor};
        for (dependencies, start) in [
            (&[][..], Base),
            (&[("a.md", None), ("b.md", None)], Base),
            (&[("a.md", Some("ccl/a"))], Branch("ccl/a")),
            (&[("a.md", None), ("b.md", Some("ccl/b"))], Branch("ccl/b")),
            (&[("a.md", Some("ccl/a")), ("b.md", Some("ccl/b"))], WaitsFor(vec!["a.md", "b.md"])),
            (
                &[("a.md", Some("x")), ("b.md", None), ("c.md", Some("y")), ("d.md", Some("z"))],
                WaitsFor(vec!["a.md", "c.md", "d.md"]),
            ),
        ] {
            assert_eq!(start_from(dependencies), start, "{dependencies:?}");
        }
    }
}
