//! What the journal shows of the last day, hour by hour, and of the last month, day by day. Pure.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{RoundMode, SignedDuration, Timestamp, Unit, ZonedDateTime, ZonedDateTimeRound};
use uuid::Uuid;

use super::summary::percentile;
use crate::event::EventKind;
use crate::journal::Entry;
use crate::money::{Cost, Totals};
use crate::task::Provider;

/// How many hours are shown, the present one among them.
const HOURS: i64 = 24;
/// How many days are shown, today among them.
const DAYS: i64 = 30;
/// How many of the tasks that ended last are named.
const NAMED: usize = 8;

/// How many tasks ended in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EndedCounts {
    pub(super) done: usize,
    pub(super) failed: usize,
}

#[derive(Debug, Clone)]
pub(super) struct HourSlot {
    pub(super) start: Timestamp,
    pub(super) ended: EndedCounts,
}

#[derive(Debug, Clone)]
pub(super) struct DaySlot {
    pub(super) date: Date,
    pub(super) ended: EndedCounts,
    /// By agent; a provider of secutools counts as one.
    spent: BTreeMap<String, Totals>,
    /// How long each task that was handed out had waited, in seconds.
    waited: Vec<u64>,
}

impl DaySlot {
    /// What an agent has cost, by currency.
    pub(super) fn spent(&self) -> impl Iterator<Item = (&str, Vec<Cost>)> {
        self.spent.iter().map(|(agent, totals)| (agent.as_str(), totals.costs()))
    }

    /// The median and the 90th percentile of the waits, in seconds, and how many there were.
    pub(super) fn waited(&self) -> Option<(u64, u64, usize)> {
        let mut waited = self.waited.clone();
        waited.sort_unstable();
        Some((percentile(&waited, 50)?, percentile(&waited, 90)?, waited.len()))
    }
}

/// How far a task has come since it was put into its inbox.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Since then it waits for its first claim.
    Waiting(Timestamp),
    /// It was handed out; what it waits for after a failed attempt is no wait for its turn.
    Claimed,
}

/// What this pool saw, as its journal has it.
#[derive(Debug)]
pub(crate) struct History {
    zone: TimeZone,
    hours: Vec<HourSlot>,
    days: Vec<DaySlot>,
    /// The runs whose cost is counted.
    counted: HashSet<Uuid>,
    stages: HashMap<(PathBuf, String), Stage>,
    lately: VecDeque<Entry>,
}

impl History {
    /// One in which nothing has happened; `now` lies in its last hour and on its last day.
    pub(crate) fn new(now: Timestamp, zone: &TimeZone) -> Self {
        let local = now.to_zoned_datetime(zone.clone());
        let hour = start_of_hour(&local);
        let slot = |back: i64| HourSlot {
            start: hour - SignedDuration::from_hours(back),
            ended: EndedCounts::default(),
        };
        let day = |back: i64| DaySlot {
            date: local.date().saturating_sub(SignedDuration::from_hours(24 * back)),
            ended: EndedCounts::default(),
            spent: BTreeMap::new(),
            waited: Vec::new(),
        };
        Self {
            zone: zone.clone(),
            hours: (0..HOURS).rev().map(slot).collect(),
            days: (0..DAYS).rev().map(day).collect(),
            counted: HashSet::new(),
            stages: HashMap::new(),
            lately: VecDeque::new(),
        }
    }

    /// From when on entries count.
    pub(crate) fn since(&self) -> Timestamp {
        let first = self.days.first().map(|day| day.date);
        let midnight = first.and_then(|date| date.to_zoned_datetime(self.zone.clone()).ok());
        midnight.map(|midnight| midnight.timestamp()).unwrap_or_default()
    }

    pub(super) fn hours(&self) -> &[HourSlot] {
        &self.hours
    }

    pub(super) fn days(&self) -> &[DaySlot] {
        &self.days
    }

    /// The tasks that ended last, the latest first.
    pub(super) fn lately(&self) -> impl Iterator<Item = &Entry> {
        self.lately.iter().rev()
    }

    /// Adds an entry; they come in the order in which they were written.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.add_wait(&entry);
        let count = |ended: &mut EndedCounts| match entry.event {
            EventKind::Done => ended.done += 1,
            EventKind::Failed => ended.failed += 1,
            _ => {}
        };
        if let Some(hour) = self.hour(entry.time) {
            count(&mut hour.ended);
        }
        let is_end =
            matches!(entry.event, EventKind::Done | EventKind::Failed | EventKind::Released);
        let is_first = is_end && entry.run.is_none_or(|run| self.counted.insert(run));
        if let Some(day) = self.day(entry.time) {
            count(&mut day.ended);
            if let (true, Some(cost)) = (is_first, &entry.cost) {
                let agent = entry.agent.as_deref().or(entry.provider.map(Provider::as_str));
                let agent = agent.unwrap_or("unknown").to_owned();
                day.spent.entry(agent).or_default().add(cost);
            }
        }
        if matches!(entry.event, EventKind::Done | EventKind::Failed) {
            self.lately.push_back(entry);
            if self.lately.len() > NAMED {
                self.lately.pop_front();
            }
        }
    }

    /// A task waits from its file's first line in the journal, else from the file's own time, to its first claim.
    fn add_wait(&mut self, entry: &Entry) {
        let (Some(project), Some(task)) = (&entry.project, &entry.task) else { return };
        let key = (project.clone(), task.clone());
        match entry.event {
            EventKind::Added | EventKind::Retried => {
                self.stages.insert(key, Stage::Waiting(entry.time));
            }
            EventKind::Dispatched | EventKind::Delegated => {
                let waited = match self.stages.insert(key, Stage::Claimed) {
                    Some(Stage::Claimed) => None,
                    Some(Stage::Waiting(since)) => {
                        Some(entry.time.duration_since(since).as_secs().max(0).unsigned_abs())
                    }
                    None => entry.waited,
                };
                if let Some(day) = self.day(entry.time) {
                    day.waited.extend(waited);
                }
            }
            EventKind::Done | EventKind::Failed | EventKind::Cancelled => {
                // A later task of this name waits anew.
                self.stages.remove(&key);
            }
            _ => {}
        }
    }

    fn hour(&mut self, time: Timestamp) -> Option<&mut HourSlot> {
        let first = self.hours.first()?.start;
        let hours = time.duration_since(first).as_secs().div_euclid(3600);
        self.hours.get_mut(usize::try_from(hours).ok()?)
    }

    fn day(&mut self, time: Timestamp) -> Option<&mut DaySlot> {
        let first = self.days.first()?.date;
        let date = time.to_zoned_datetime(self.zone.clone()).date();
        let days = date.duration_since(first).as_hours().div_euclid(24);
        self.days.get_mut(usize::try_from(days).ok()?)
    }
}

fn start_of_hour(local: &ZonedDateTime) -> Timestamp {
    let whole = ZonedDateTimeRound::new().smallest(Unit::Hour).mode(RoundMode::Trunc);
    // Only a moment at the very end of time cannot be rounded.
    local.round(whole).map_or(local.timestamp(), |start| start.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz;

    const NOW: &str = "2026-11-26T12:34:56Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry(event: EventKind, time: &str, task: &str) -> Entry {
        Entry { time: at(time), ..Entry::of_task(event, "/p".as_ref(), task) }
    }

    fn history(entries: impl IntoIterator<Item = Entry>) -> History {
        let mut history = History::new(at(NOW), &TimeZone::UTC);
        entries.into_iter().for_each(|entry| history.add(entry));
        history
    }

    fn waits(history: &History) -> Vec<(u64, u64, usize)> {
        history.days().iter().filter_map(DaySlot::waited).collect()
    }

    #[test]
    fn what_ended_is_counted_by_hour_and_by_day() {
        use EventKind::{Done, Failed, Released};
        let history = history([
            entry(Done, "2026-10-27T23:59:59Z", "too-old.md"),
            entry(Done, "2026-10-28T00:00:00Z", "a.md"),
            entry(Failed, "2026-11-25T12:59:59Z", "b.md"),
            entry(Done, "2026-11-25T13:00:00Z", "c.md"),
            entry(Done, "2026-11-26T12:00:00Z", "d.md"),
            entry(Failed, "2026-11-26T12:34:56Z", "e.md"),
            entry(Released, "2026-11-26T12:34:56Z", "f.md"),
            // A clock that was wrong.
            entry(Done, "2026-11-27T00:00:00Z", "g.md"),
        ]);
        let hours: Vec<_> =
            history.hours().iter().map(|hour| (hour.ended.done, hour.ended.failed)).collect();
        assert_eq!((hours.len(), hours[0], hours[23]), (24, (1, 0), (1, 1)));
        assert_eq!(hours[1..23], [(0, 0); 22]);
        let days: Vec<_> =
            history.days().iter().map(|day| (day.ended.done, day.ended.failed)).collect();
        assert_eq!((days.len(), days[0], days[28], days[29]), (30, (1, 0), (1, 1), (1, 1)));
        assert_eq!(history.days()[0].date.to_string(), "2026-10-28");
        assert_eq!(history.since(), at("2026-10-28T00:00:00Z"));
        let last: Vec<_> = history.lately().map(|entry| entry.task.as_deref().unwrap()).collect();
        assert_eq!(last[..2], ["g.md", "e.md"]);
    }

    #[test]
    fn hours_and_days_are_local() {
        // Half past six in the evening of the next day.
        let zone = TimeZone::fixed(tz::Offset::from_seconds(5 * 3600 + 1800).unwrap());
        let history = History::new(at("2026-11-26T20:10:00Z"), &zone);
        assert_eq!(history.days()[29].date.to_string(), "2026-11-27");
        assert_eq!(history.hours()[23].start, at("2026-11-26T19:30:00Z"));
        assert_eq!(history.since(), at("2026-10-28T18:30:00Z"));
    }

    #[test]
    fn a_run_costs_once_and_a_provider_is_an_agent() {
        let spent = |run: u128, agent: Option<&str>, provider, cents: &str, currency: &str| Entry {
            run: Some(Uuid::from_u128(run)),
            agent: agent.map(str::to_owned),
            provider,
            cost: Cost::of(cents, currency),
            ..entry(EventKind::Done, NOW, "t.md")
        };
        let history = history([
            Entry { run: Some(Uuid::from_u128(1)), ..entry(EventKind::Dispatched, NOW, "t.md") },
            spent(1, Some("claude"), Some(Provider::ClaudeCode), "0.1", "USD"),
            spent(1, Some("claude"), Some(Provider::ClaudeCode), "0.1", "USD"),
            spent(2, Some("claude"), Some(Provider::ClaudeCode), "0.2", "USD"),
            spent(3, None, Some(Provider::Gemini), "1", "EUR"),
            spent(4, None, None, "2", "USD"),
        ]);
        let today = history.days().last().unwrap();
        let spent: Vec<_> = today
            .spent()
            .map(|(agent, costs)| {
                let costs: Vec<_> = costs.iter().map(ToString::to_string).collect();
                format!("{agent} {}", costs.join("+"))
            })
            .collect();
        assert_eq!(spent, ["claude 0.3 USD", "gemini 1 EUR", "unknown 2 USD"]);
    }

    #[test]
    fn a_task_waits_from_its_first_line_to_its_first_claim() {
        use EventKind::{Added, Delegated, Dispatched, Done, Released, Retried};
        let claim = |event, time: &str, task: &str, waited| Entry {
            waited: Some(waited),
            ..entry(event, time, task)
        };
        let history = history([
            entry(Added, "2026-11-26T08:00:00Z", "a.md"),
            // Its file was changed meanwhile.
            claim(Dispatched, "2026-11-26T08:01:00Z", "a.md", 5),
            entry(Released, "2026-11-26T08:02:00Z", "a.md"),
            claim(Dispatched, "2026-11-26T08:30:00Z", "a.md", 1680),
            entry(Done, "2026-11-26T08:31:00Z", "a.md"),
            // It was dropped, and the journal knows of it only since its claim.
            claim(Delegated, "2026-11-26T09:00:00Z", "b.md", 600),
            entry(Done, "2026-11-26T09:10:00Z", "b.md"),
            entry(Retried, "2026-11-26T09:20:00Z", "b.md"),
            claim(Delegated, "2026-11-26T09:20:07Z", "b.md", 7),
        ]);
        assert_eq!(waits(&history), [(60, 600, 3)]);
        assert_eq!(waits(&self::history([])), []);
    }
}
