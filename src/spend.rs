//! `STATE/spend/2026-11-27.jsonl`: what the runs of one local day have cost.
//!
//! A line is written before a run's task is filed, and again by the pass after one that was killed in between. Where a
//! budget of the day depends on it, each pass that finds the run at work writes what it has cost so far, too. The last line
//! of a run counts; one without a cost, of an agent that was killed, leaves what is known. A cost that is not known at all is
//! counted as such, and not as zero.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::durable;
use crate::money::{Cost, Totals};

/// What lines of secutools' jobs have for an agent.
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

    /// Adds a line to the day of `now`, by one write, so that any number of passes may write at once.
    pub(crate) fn note(&self, line: &SpendLine, now: Timestamp) -> Result<()> {
        let path = self.path(day_of(now));
        let mut bytes = serde_json::to_vec(line).context("cannot write down a cost")?;
        bytes.push(b'\n');
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            let mut options = OpenOptions::new();
            let options = options.append(true).create(true).mode(durable::PRIVATE);
            options.open(&path)?.write_all(&bytes)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The same for a run that is under way, unless that is written there already.
    pub(crate) fn note_so_far(&self, line: &SpendLine, now: Timestamp) -> Result<()> {
        let mut known = HashMap::new();
        self.read(day_of(now), &mut known)?;
        match known.get(&line.run) == Some(line) {
            true => Ok(()),
            false => self.note(line, now),
        }
    }

    /// What each agent has spent on the day of `now`. A line that is torn is passed over.
    pub(crate) fn of_today(&self, now: Timestamp) -> Result<HashMap<String, Spent>> {
        let mut lines = HashMap::new();
        self.read(day_of(now), &mut lines)?;
        let mut spent: HashMap<String, Spent> = HashMap::new();
        for line in lines.values() {
            spent.entry(line.agent.clone()).or_default().add(line);
        }
        Ok(spent)
    }

    /// What the attempts at a task have cost since yesterday, without this one.
    pub(crate) fn of_task(&self, task: &str, without: Uuid, now: Timestamp) -> Result<Spent> {
        let today = day_of(now);
        // A run that was at work at midnight is in both.
        let mut lines = HashMap::new();
        for day in [today.yesterday().unwrap_or(today), today] {
            self.read(day, &mut lines)?;
        }
        let mut spent = Spent::default();
        let of_others = |line: &&SpendLine| line.task == task && line.run != without;
        lines.values().filter(of_others).for_each(|line| spent.add(line));
        Ok(spent)
    }

    /// Adds the last line of each run of the day.
    fn read(&self, day: Date, lines: &mut HashMap<Uuid, SpendLine>) -> Result<()> {
        let path = self.path(day);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        for line in text.lines().filter_map(|line| serde_json::from_str::<SpendLine>(line).ok()) {
            let known = lines.remove(&line.run).and_then(|before| before.cost);
            lines.insert(line.run, SpendLine { cost: line.cost.or(known), ..line });
        }
        Ok(())
    }
}

impl Spent {
    fn add(&mut self, line: &SpendLine) {
        match &line.cost {
            Some(cost) => self.totals.add(cost),
            None => self.unknown += 1,
        }
    }
}

/// How lines name a task.
pub(crate) fn task_key(project: &Path, task: &str) -> String {
    project.join(task).to_string_lossy().into_owned()
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
        let today = spend.of_today(now).unwrap();
        let usd = |amount: &str| Cost::of(amount, "USD").unwrap();
        assert_eq!(today["claude"].totals.costs(), [usd("3.5")]);
        assert_eq!(today["claude"].unknown, 1);
        assert!(today["claude"].totals.reaches(&usd("3.5")));
        assert!(!today["claude"].totals.reaches(&usd("3.51")));
        assert_eq!(
            spend.of_task("/p/a.md", Uuid::nil(), now).unwrap().totals.costs(),
            [usd("3.75")]
        );
        let tomorrow = midnight(now);
        assert!(tomorrow > now && spend.of_today(tomorrow).unwrap().is_empty());
        assert_eq!(
            spend.of_task("/p/a.md", first.run, tomorrow).unwrap().totals.costs(),
            [usd("2.25")]
        );
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
        // It was at work at midnight.
        let tomorrow = midnight(now);
        spend.note(&so_far(ended, Some("0.75")), tomorrow).unwrap();
        assert_eq!(today(tomorrow).totals.costs(), [usd("0.75")]);
        let of_task = spend.of_task("/p/a.md", Uuid::nil(), tomorrow).unwrap();
        assert_eq!(of_task.totals.costs(), [usd("3.75")]);
    }
}
