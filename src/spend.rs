//! `STATE/spend/2026-11-27.jsonl`: what the runs of one local day have cost.
//!
//! A line is written before a run's task is filed, and again by the pass after one that was killed in between. Where a
//! budget of the day depends on it, each pass that finds the run at work writes what it has cost so far, too. The last line
//! of a run counts; one without a cost, of an agent that was killed, leaves what is known. A cost that is not known at all is
//! counted as such, and not as zero.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::durable;
use crate::money::{Cost, Totals};

/// What stands in place of an agent's name in the lines of secutools' jobs.
pub(crate) const OF_SECUTOOLS: &str = "secutools";

/// What one run has cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SpendLine {
    pub(crate) run: Uuid,
    pub(crate) agent: String,
    /// Project and name of its task.
    pub(crate) task: String,
    /// `None`: unknown.
    pub(crate) cost: Option<Cost>,
}

/// What some runs have cost together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spent {
    pub(crate) totals: Totals,
    /// How many of them have no known cost.
    pub(crate) unknown: usize,
}

/// The files of one pool.
pub(crate) struct Spend {
    directory: PathBuf,
}

impl Spend {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("spend") }
    }

    fn path(&self, day: Date) -> PathBuf {
        self.directory.join(format!("{day}.jsonl"))
    }

    /// Adds a line to the day of `now`, by one write, so that any number of passes may write at once. What a crash has torn
    /// stays a line of its own.
    pub(crate) fn note(&self, line: &SpendLine, now: Timestamp) -> Result<()> {
        let path = self.path(day_of(now));
        let mut bytes = serde_json::to_vec(line).context("cannot write down a cost")?;
        bytes.push(b'\n');
        let mut write = || -> io::Result<()> {
            let mut file = durable::open_to_append(&path)?;
            if is_torn(&file)? {
                bytes.insert(0, b'\n');
            }
            file.write_all(&bytes)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Notes what a run that is still at work has cost so far, unless today's file says so already.
    pub(crate) fn note_so_far(&self, line: &SpendLine, now: Timestamp) -> Result<()> {
        let mut known = HashMap::new();
        self.read(day_of(now), &mut known)?;
        match known.get(&line.run) == Some(line) {
            true => Ok(()),
            false => self.note(line, now),
        }
    }

    /// What each agent has spent on the day of `now`; of a run that was at work at midnight, only what it spent since.
    /// A torn line is passed over.
    pub(crate) fn of_today(&self, now: Timestamp) -> Result<HashMap<String, Spent>> {
        let (mut lines, mut before) = (HashMap::new(), HashMap::new());
        let today = day_of(now);
        self.read(today, &mut lines)?;
        if let (false, Ok(yesterday)) = (lines.is_empty(), today.yesterday()) {
            self.read(yesterday, &mut before)?;
        }
        let mut spent: HashMap<String, Spent> = HashMap::new();
        for (run, line) in &lines {
            // A line counts from the run's start: what yesterday's file has of it was spent yesterday.
            let before = before.get(run).and_then(|line| line.cost.as_ref());
            let cost = line.cost.as_ref().map(|cost| cost.beyond(before));
            spent.entry(line.agent.clone()).or_default().add(cost.as_ref());
        }
        Ok(spent)
    }

    /// Adds the last line of each run of the day.
    fn read(&self, day: Date, lines: &mut HashMap<Uuid, SpendLine>) -> Result<()> {
        let path = self.path(day);
        let Some(text) = durable::read_text(&path)? else { return Ok(()) };
        for line in text.lines().filter_map(|line| serde_json::from_str::<SpendLine>(line).ok()) {
            let known = lines.remove(&line.run).and_then(|before| before.cost);
            lines.insert(line.run, SpendLine { cost: line.cost.or(known), ..line });
        }
        Ok(())
    }
}

impl Spent {
    /// An amount without a known currency counts as an unknown cost.
    fn add(&mut self, cost: Option<&Cost>) {
        match cost {
            Some(cost) if cost.currency.is_some() => self.totals.add(cost),
            Some(_) | None => self.unknown += 1,
        }
    }
}

/// How lines name a task.
pub(crate) fn task_key(project: &Path, task: &str) -> String {
    project.join(task).to_string_lossy().into_owned()
}

/// Whether the file ends within a line.
fn is_torn(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last != [b'\n'])
}

fn day_of(now: Timestamp) -> Date {
    TimeZone::system().to_datetime(now).date()
}

/// When the local day of `now` is over.
pub(crate) fn midnight(now: Timestamp) -> Timestamp {
    let tomorrow = day_of(now).tomorrow();
    let midnight =
        tomorrow.and_then(|day| TimeZone::system().to_timestamp(day.to_datetime(Time::midnight())));
    // Only at the end of time there is no tomorrow.
    midnight.unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_run_counts_once_and_an_unknown_cost_is_not_zero() {
        let dir = tempfile::tempdir().unwrap();
        let spend = Spend::new(dir.path());
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert!(spend.of_today(now).unwrap().is_empty());
        let line = |agent: &str, task: &str, amount: Option<&str>| SpendLine {
            run: Uuid::new_v4(),
            agent: agent.to_owned(),
            task: task.to_owned(),
            cost: amount.and_then(|amount| Cost::of(amount, "USD")),
        };
        let first = line("claude", "/p/a.md", Some("1.50"));
        for line in [
            &first,
            // A pass was killed before it had filed the task.
            &first,
            &line("claude", "/p/a.md", Some("2")),
            &line("claude", "/p/b.md", None),
            &line("key", "/p/a.md", Some("0.25")),
        ] {
            spend.note(line, now).unwrap();
        }
        let file = fs::read_dir(dir.path().join("spend")).unwrap().next().unwrap().unwrap().path();
        let mut torn = fs::read(&file).unwrap();
        torn.extend(b"{\"run\":");
        fs::write(&file, torn).unwrap();
        // What is written behind it is not lost with it.
        spend.note(&line("key", "/p/c.md", Some("0.5")), now).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 7);
        // A server need not say which money it means.
        let nameless = Cost { currency: None, ..Cost::of("9", "USD").unwrap() };
        let nameless = SpendLine { cost: Some(nameless), ..line(OF_SECUTOOLS, "/p/d.md", None) };
        spend.note(&nameless, now).unwrap();
        let today = spend.of_today(now).unwrap();
        let usd = |amount: &str| Cost::of(amount, "USD").unwrap();
        assert_eq!(today["claude"].totals.costs(), [usd("3.5")]);
        assert_eq!(today["claude"].unknown, 1);
        assert_eq!(today["key"].totals.costs(), [usd("0.75")]);
        assert_eq!((today[OF_SECUTOOLS].totals.costs(), today[OF_SECUTOOLS].unknown), (vec![], 1));
        assert!(today["claude"].totals.reaches(&usd("3.5")));
        assert!(!today["claude"].totals.reaches(&usd("3.51")));
        let tomorrow = midnight(now);
        assert!(tomorrow > now && spend.of_today(tomorrow).unwrap().is_empty());
    }

    #[test]
    fn what_a_run_has_cost_so_far_counts_until_its_end_says_more() {
        let dir = tempfile::tempdir().unwrap();
        let spend = Spend::new(dir.path());
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let so_far = |run: Uuid, amount: Option<&str>| SpendLine {
            run,
            agent: "claude".to_owned(),
            task: "/p/a.md".to_owned(),
            cost: amount.and_then(|amount| Cost::of(amount, "USD")),
        };
        let usd = |amount: &str| Cost::of(amount, "USD").unwrap();
        let (killed, ended) = (Uuid::new_v4(), Uuid::new_v4());
        for amount in ["1", "1", "3"] {
            spend.note_so_far(&so_far(killed, Some(amount)), now).unwrap();
        }
        let file = fs::read_dir(dir.path().join("spend")).unwrap().next().unwrap().unwrap().path();
        assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 2);
        spend.note(&so_far(killed, None), now).unwrap();
        spend.note_so_far(&so_far(ended, Some("0.5")), now).unwrap();
        let today = |now| spend.of_today(now).unwrap().remove("claude").unwrap();
        assert_eq!((today(now).totals.costs(), today(now).unknown), (vec![usd("3.5")], 0));
        // It was at work at midnight: the rest was spent yesterday.
        let tomorrow = midnight(now);
        spend.note(&so_far(ended, Some("0.75")), tomorrow).unwrap();
        assert_eq!(today(tomorrow).totals.costs(), [usd("0.25")]);
        // Claude Code's own word may be less than what its tokens said.
        spend.note(&so_far(ended, Some("0.375")), tomorrow).unwrap();
        assert_eq!((today(tomorrow).totals.costs(), today(tomorrow).unknown), (vec![usd("0")], 0));
        spend.note(&so_far(killed, None), tomorrow).unwrap();
        assert_eq!(today(tomorrow).unknown, 1);
    }
}
