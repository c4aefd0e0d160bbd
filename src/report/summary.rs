//! What `ccl report` shows: what was done, what failed and why, what waits for a person, and what it cost. Pure.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use uuid::Uuid;

use super::text::{duration, short};
use crate::event::EventKind;
use crate::journal::Entry;
use crate::money::{Cost, Totals};
use crate::task::{self, CheckEnding, Ending, GitEnding, Provider};
use crate::text::{escape, path_text};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct WorkReport {
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    /// What waits for a person and concerns no single project.
    pub(crate) attention: Vec<AttentionRow>,
    pub(crate) projects: Vec<ProjectSummary>,
    pub(crate) spent: Vec<SpentRow>,
    pub(crate) waited: Waited,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct ProjectSummary {
    #[serde(serialize_with = "crate::text::path")]
    pub(crate) path: PathBuf,
    pub(crate) done: Vec<DoneRow>,
    pub(crate) failed: Vec<FailedRow>,
    pub(crate) attention: Vec<AttentionRow>,
    /// How many tasks wait for their turn.
    pub(crate) waiting: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct DoneRow {
    pub(crate) task: String,
    pub(crate) title: Option<String>,
    pub(crate) seconds: Option<i64>,
    pub(crate) cost: Option<Cost>,
    /// As the ending line has it.
    pub(crate) git: Option<GitEnding>,
    pub(crate) check: Option<CheckEnding>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct FailedRow {
    pub(crate) task: String,
    pub(crate) title: Option<String>,
    pub(crate) reason: Option<String>,
}

/// What a person has to do something about, with the sentence that mends it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AttentionRow {
    /// `None` where it is about a project, a session or an agent; a session or an agent begins the reason.
    pub(crate) task: Option<String>,
    pub(crate) reason: String,
}

/// What one agent, or one provider, has cost in one currency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SpentRow {
    /// `None` of a job.
    pub(crate) agent: Option<String>,
    pub(crate) provider: Option<Provider>,
    /// `None` where nothing is known.
    pub(crate) amount: Option<String>,
    pub(crate) currency: Option<String>,
    pub(crate) runs: usize,
    /// How many of the runs have no known cost.
    pub(crate) unknown: usize,
}

/// How long tasks had waited when they were handed out, in seconds; `None` where none was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Waited {
    pub(crate) median_s: Option<u64>,
    pub(crate) p90_s: Option<u64>,
}

/// One run that ended: who worked, and what it cost.
#[derive(Debug, Clone)]
struct EndedRun {
    agent: Option<String>,
    provider: Option<Provider>,
    cost: Option<Cost>,
}

/// The runs that ended, each once. The journal has all runs of this pool, the task files also have those of other
/// pools.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    ended: HashMap<Uuid, EndedRun>,
    waited: Vec<u64>,
}

impl Runs {
    pub(crate) fn add_entry(&mut self, entry: Entry) {
        let is_end =
            matches!(entry.event, EventKind::Done | EventKind::Failed | EventKind::Released);
        if let (true, Some(run)) = (is_end, entry.run) {
            let Entry { agent, provider, cost, .. } = entry;
            self.ended.insert(run, EndedRun { agent, provider, cost });
        }
        self.waited.extend(entry.waited);
    }

    /// The ending line of a task file. Where the journal has the run, the two say the same.
    pub(crate) fn add_ending(&mut self, ending: &Ending) {
        if !ending.run.is_nil() {
            let agent = ending.agent().map(str::to_owned);
            let (provider, cost) = (ending.provider, ending.cost.clone());
            self.ended.insert(ending.run, EndedRun { agent, provider, cost });
        }
    }

    /// The sums, by agent and provider, the local agents first.
    pub(crate) fn spent(&self) -> Vec<SpentRow> {
        #[derive(Default)]
        struct Sum {
            totals: Totals,
            runs: BTreeMap<Option<String>, usize>,
            unknown: usize,
        }
        let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
        for EndedRun { agent, provider, cost } in self.ended.values() {
            let order = Provider::ALL.iter().position(|it| Some(*it) == *provider);
            let sum = sums.entry((order, agent.clone())).or_default();
            match cost {
                Some(cost) => {
                    sum.totals.add(cost);
                    *sum.runs.entry(cost.currency.clone()).or_default() += 1;
                }
                None => sum.unknown += 1,
            }
        }
        let rows = sums.into_iter().flat_map(|((order, agent), sum)| {
            let provider = order.and_then(|order| Provider::ALL.get(order).copied());
            let row = |amount, currency, runs, unknown| SpentRow {
                agent: agent.clone(),
                provider,
                amount,
                currency,
                runs,
                unknown,
            };
            let mut rows: Vec<SpentRow> = Vec::new();
            for cost in sum.totals.costs() {
                let runs = sum.runs.get(&cost.currency).copied().unwrap_or_default();
                // Runs of unknown cost have no currency: the first row counts them.
                let unknown = if rows.is_empty() { sum.unknown } else { 0 };
                rows.push(row(Some(cost.amount), cost.currency, runs + unknown, unknown));
            }
            // No cost is known, or each sum is too large to be held.
            if rows.is_empty() {
                let runs = sum.unknown + sum.runs.values().sum::<usize>();
                rows.push(row(None, None, runs, runs));
            }
            rows
        });
        rows.collect()
    }

    pub(crate) fn waited(&self) -> Waited {
        let mut waited = self.waited.clone();
        waited.sort_unstable();
        Waited { median_s: percentile(&waited, 50), p90_s: percentile(&waited, 90) }
    }
}

/// The nearest-rank percentile.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// A page of Markdown.
pub(super) fn markdown(summary: &WorkReport, zone: &TimeZone) -> String {
    let mut page = Page(String::new());
    let moment = |at: Timestamp| {
        at.to_zoned_datetime(zone.clone()).strftime("%a %-d %b %Y %H:%M").to_string()
    };
    page.line(&format!("# {} to {}", moment(summary.since), moment(summary.until)));
    page.paragraph(&overview(summary));
    page.list("Waits for you:", summary.attention.iter().map(attention));
    let (eventful, quiet): (Vec<_>, Vec<_>) = summary.projects.iter().partition(|project| {
        !(project.done.is_empty() && project.failed.is_empty() && project.attention.is_empty())
    });
    for project in eventful {
        page.project(project);
    }
    if !quiet.is_empty() {
        let names: Vec<String> = quiet.iter().map(|it| plain(&short(&it.path))).collect();
        page.paragraph(&format!("Nothing ended in {}.", names.join(", ")));
    }
    page.spent(&summary.spent);
    page.0
}

fn overview(summary: &WorkReport) -> String {
    let count = |of: fn(&ProjectSummary) -> usize| summary.projects.iter().map(of).sum::<usize>();
    let (done, failed) = (count(|it| it.done.len()), count(|it| it.failed.len()));
    let attention = summary.attention.len() + count(|it| it.attention.len());
    let waiting = count(|it| it.waiting);
    let wait = |number: usize| if number == 1 { "waits" } else { "wait" };
    let tasks = if done == 1 { "task" } else { "tasks" };
    let mut sentence = format!(
        "**{done} {tasks} done, {failed} failed, {attention} {} for you, {waiting} {} for their turn.**",
        wait(attention),
        wait(waiting)
    );
    let mut totals = Totals::default();
    let (mut runs, mut unknown) = (0, 0);
    for row in &summary.spent {
        runs += row.runs;
        unknown += row.unknown;
        if let Some(amount) = &row.amount {
            totals.add(&Cost { amount: amount.clone(), currency: row.currency.clone() });
        }
    }
    let costs: Vec<String> = totals.costs().iter().map(ToString::to_string).collect();
    if !costs.is_empty() {
        let (known, s) = (runs - unknown, if runs - unknown == 1 { "" } else { "s" });
        sentence.push_str(&format!(" {known} run{s} cost {}.", costs.join(" and ")));
    }
    if unknown > 0 {
        let s = if unknown == 1 { "" } else { "s" };
        sentence.push_str(&format!(" What {unknown} run{s} cost is not known."));
    }
    if let Waited { median_s: Some(median), p90_s: Some(p90) } = summary.waited {
        let (median, p90) = (duration(median), duration(p90));
        sentence.push_str(&format!(
            " Half of the tasks waited at most {median}, nine of ten at most {p90}."
        ));
    }
    sentence
}

/// Markdown that grows.
struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn paragraph(&mut self, text: &str) {
        self.line("");
        self.line(text);
    }

    fn list(&mut self, heading: &str, items: impl Iterator<Item = String>) {
        let mut items = items.peekable();
        if items.peek().is_some() {
            self.paragraph(heading);
            self.line("");
            items.for_each(|item| self.line(&format!("- {item}")));
        }
    }

    fn project(&mut self, project: &ProjectSummary) {
        let name = plain(&short(&project.path));
        self.paragraph(&format!("## {name}"));
        self.paragraph(&code(&path_text(&project.path)));
        self.list("Done:", project.done.iter().map(done));
        self.list("Failed:", project.failed.iter().map(failed));
        self.list("Waits for you:", project.attention.iter().map(attention));
        match project.waiting {
            0 => {}
            1 => self.paragraph("1 task waits for its turn."),
            more => self.paragraph(&format!("{more} tasks wait for their turn.")),
        }
    }

    fn spent(&mut self, rows: &[SpentRow]) {
        if rows.is_empty() {
            return;
        }
        self.paragraph("## Spent");
        self.paragraph("| by | amount | runs | of unknown cost |");
        self.line("| --- | ---: | ---: | ---: |");
        for row in rows {
            let provider = row.provider.map_or("nobody", Provider::as_str);
            let by = row.agent.as_deref().map_or_else(|| provider.to_owned(), plain);
            let amount = match (&row.amount, &row.currency) {
                (Some(amount), Some(currency)) => format!("{amount} {currency}"),
                (Some(amount), None) => amount.clone(),
                (None, _) => "unknown".to_owned(),
            };
            let unknown = if row.unknown == 0 { String::new() } else { row.unknown.to_string() };
            self.line(&format!("| {by} | {amount} | {} | {unknown} |", row.runs));
        }
    }
}

/// The title and the file's name, or the name alone.
fn name_of(title: Option<&String>, task: &str) -> String {
    match title {
        Some(title) => format!("**{}** ({})", plain(title), code(task)),
        None => code(task),
    }
}

fn done(row: &DoneRow) -> String {
    let seconds = row.seconds.map(|seconds| duration(seconds.max(0).unsigned_abs()));
    let cost = row.cost.as_ref().map(ToString::to_string);
    let parts = [seconds, cost, row.git.as_ref().and_then(changes), row.check.as_ref().map(check)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let name = name_of(row.title.as_ref(), &row.task);
    if parts.is_empty() { name } else { format!("{name}: {}", parts.join(", ")) }
}

/// `3 files +42 −7 on ccl/T`
fn changes(git: &GitEnding) -> Option<String> {
    let GitEnding::Branch(branch) = git else { return None };
    let task::Summary { files, insertions, deletions, branch: name, .. } = &branch.summary;
    let s = if *files == 1 { "" } else { "s" };
    let place = match (&branch.base_branch, branch.landed) {
        (Some(base), Some(true)) => format!("landed in {}", code(base)),
        _ => format!("on {}", code(name)),
    };
    Some(format!("{files} file{s} +{insertions} −{deletions} {place}"))
}

fn check(check: &CheckEnding) -> String {
    match check.exit {
        0 => "check passed".to_owned(),
        _ => "check not passed".to_owned(),
    }
}

fn failed(row: &FailedRow) -> String {
    let reason = row.reason.as_deref().map_or("without a reason".into(), plain);
    format!("{}: {reason}", name_of(row.title.as_ref(), &row.task))
}

fn attention(row: &AttentionRow) -> String {
    match &row.task {
        Some(task) => format!("{}: {}", code(task), sentence(&row.reason)),
        None => sentence(&row.reason),
    }
}

/// A sentence of ours, which may quote a file's words: what stands in it between backquotes is code, and nothing else
/// in it is Markdown.
fn sentence(text: &str) -> String {
    let line = one_line(text);
    let parts: Vec<&str> = line.split('`').collect();
    // An odd number of backquotes: one of them is a file's, and nobody knows which. So none begins code.
    if parts.len().is_multiple_of(2) {
        return escaped(&line);
    }
    let parts = parts.iter().enumerate().map(|(index, part)| match index % 2 {
        0 => escaped(part),
        // Two backquotes with nothing between them would be the beginning of longer code.
        _ if part.trim().is_empty() => escaped(&format!("`{part}`")),
        _ => format!("`{part}`"),
    });
    parts.collect()
}

/// A foreign text, in which nothing is Markdown.
fn plain(text: &str) -> String {
    escaped(&one_line(text))
}

fn escaped(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        if matches!(c, '\\' | '&' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#') {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}

fn code(text: &str) -> String {
    // Within code Markdown has no escapes.
    format!("`{}`", one_line(text).replace('`', "'"))
}

fn one_line(text: &str) -> String {
    escape(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::task::{BranchEnding, Outcome};
    use proptest::prelude::*;

    fn ending(run: u128, provider: Provider, cost: Option<Cost>) -> Ending {
        let id = (provider == Provider::ClaudeCode).then(|| "s".to_owned());
        Ending {
            provider: Some(provider),
            agent_session: id,
            cost,
            ..Ending::new(Uuid::from_u128(run), Outcome::Done, 1)
        }
    }

    fn entry(ending: &Ending) -> Entry {
        Entry::of_task(EventKind::Done, Path::new("/p"), "t.md").of_run(ending)
    }

    #[test]
    fn how_long_tasks_waited() {
        let waited = |seconds: &[u64]| {
            let mut runs = Runs::default();
            for seconds in seconds {
                let entry = Entry::new(EventKind::Dispatched);
                runs.add_entry(Entry { waited: Some(*seconds), ..entry });
            }
            let Waited { median_s, p90_s } = runs.waited();
            (median_s, p90_s)
        };
        assert_eq!(waited(&[]), (None, None));
        assert_eq!(waited(&[7]), (Some(7), Some(7)));
        assert_eq!(waited(&[3, 1, 2, 100]), (Some(2), Some(100)));
        let ten: Vec<u64> = (1..=10).collect();
        assert_eq!(waited(&ten), (Some(5), Some(9)));
    }

    proptest! {
        /// Whichever of them the journal has, once or twice.
        #[test]
        fn the_sums_equal_those_of_the_ending_lines(
            runs in prop::collection::vec((0..3_usize, prop::option::of(0..10_000_u32), 0..2_usize, 0..4_u8), 0..40)
        ) {
            let mut collected = Runs::default();
            let mut expected: BTreeMap<(usize, &str), u64> = BTreeMap::new();
            for (number, (who, cents, currency, times)) in runs.iter().enumerate() {
                let provider = Provider::ALL[*who];
                let currency = ["USD", "EUR"][*currency];
                let cost = cents.and_then(|cents| Cost::of(&format!("{}.{:02}", cents / 100, cents % 100), currency));
                let ending = ending(number as u128 + 1, provider, cost);
                for _ in 1..*times {
                    collected.add_entry(entry(&ending));
                }
                // Either source has each.
                if *times != 2 {
                    collected.add_ending(&ending);
                }
                if let Some(cents) = cents {
                    *expected.entry((*who, currency)).or_default() += u64::from(*cents);
                }
            }
            let spent = collected.spent();
            let mut found = BTreeMap::new();
            for row in &spent {
                if let (Some(amount), Some(currency)) = (&row.amount, &row.currency) {
                    let who = Provider::ALL.iter().position(|it| Some(*it) == row.provider).unwrap();
                    let (whole, part) = amount.split_once('.').unwrap_or((amount, "0"));
                    let cents = whole.parse::<u64>().unwrap() * 100 + format!("{part:0<2}").parse::<u64>().unwrap();
                    let currency = ["USD", "EUR"].into_iter().find(|it| it == currency).unwrap();
                    prop_assert!(found.insert((who, currency), cents).is_none());
                }
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(spent.iter().map(|row| row.runs).sum::<usize>(), runs.len());
            let unknown = runs.iter().filter(|(_, cents, ..)| cents.is_none()).count();
            prop_assert_eq!(spent.iter().map(|row| row.unknown).sum::<usize>(), unknown);
        }
    }

    #[test]
    fn what_a_file_says_is_no_markdown() {
        for (reason, expected) in [
            ("it asks: `ccl cancel` it", "it asks: `ccl cancel` it"),
            ("/q/<img src=x>.md:2:1: `at` is `<b>`", r"/q/\<img src=x\>.md:2:1: `at` is `<b>`"),
            ("a ` and <img src=x>", r"a \` and \<img src=x\>"),
            ("``<img>``", r"\`\`\<img\>\`\`"),
            ("*a* _b_ [c](d)", r"\*a\* \_b\_ \[c\](d)"),
            ("x &lt;img&gt; y", r"x \&lt;img\&gt; y"),
            (" one  `two`  three\n", "one `two` three"),
        ] {
            assert_eq!(sentence(reason), expected, "{reason}");
        }
    }

    #[test]
    fn a_page_of_markdown() {
        let cost = Cost::of("0.35", "USD");
        let web = ProjectSummary {
            path: "/srv/web".into(),
            done: vec![
                DoneRow {
                    task: "fix.md".into(),
                    title: Some("Fix <the> *login*".into()),
                    seconds: Some(754),
                    cost: cost.clone(),
                    git: Some(GitEnding::Branch(BranchEnding {
                        summary: task::Summary {
                            branch: "ccl/fix".into(),
                            base: String::new(),
                            head: String::new(),
                            commits: 1,
                            files: 3,
                            insertions: 42,
                            deletions: 7,
                        },
                        base_branch: None,
                        landed: None,
                        reason: None,
                    })),
                    check: Some(CheckEnding {
                        command: "make test".into(),
                        exit: 0,
                        seconds: 1,
                        rounds: 0,
                        tree: None,
                        red_before: None,
                    }),
                },
                DoneRow { task: "b.md".into(), ..DoneRow::default() },
            ],
            failed: vec![FailedRow {
                task: "c.md".into(),
                reason: Some("two\nlines\u{1b}[2J".into()),
                ..FailedRow::default()
            }],
            attention: vec![AttentionRow {
                task: Some("d.md".into()),
                reason: "it asks: `ccl cancel` it".into(),
            }],
            waiting: 2,
        };
        let mut runs = Runs::default();
        runs.add_ending(&ending(1, Provider::ClaudeCode, cost));
        runs.add_ending(&ending(2, Provider::ClaudeCode, None));
        runs.add_ending(&ending(3, Provider::Gemini, None));
        for seconds in [60, 7200] {
            let entry = Entry::new(EventKind::Delegated);
            runs.add_entry(Entry { waited: Some(seconds), ..entry });
        }
        let summary = WorkReport {
            since: "2026-11-25T07:00:00Z".parse().unwrap(),
            until: "2026-11-26T07:00:00Z".parse().unwrap(),
            projects: vec![web, ProjectSummary { path: "/srv/blog".into(), ..Default::default() }],
            spent: runs.spent(),
            waited: runs.waited(),
            attention: vec![AttentionRow { task: None, reason: "ccl-auto-0: log in".into() }],
        };
        insta::assert_snapshot!(markdown(&summary, &TimeZone::UTC), @r#"
        # Wed 25 Nov 2026 07:00 to Thu 26 Nov 2026 07:00

        **2 tasks done, 1 failed, 2 wait for you, 2 wait for their turn.** 1 run cost 0.35 USD. What 2 runs cost is not known. Half of the tasks waited at most 1m, nine of ten at most 2h.

        Waits for you:

        - ccl-auto-0: log in

        ## web

        `/srv/web`

        Done:

        - **Fix \<the\> \*login\*** (`fix.md`): 12m, 0.35 USD, 3 files +42 −7 on `ccl/fix`, check passed
        - `b.md`

        Failed:

        - `c.md`: two lines\\u{1b}\[2J

        Waits for you:

        - `d.md`: it asks: `ccl cancel` it

        2 tasks wait for their turn.

        Nothing ended in blog.

        ## Spent

        | by | amount | runs | of unknown cost |
        | --- | ---: | ---: | ---: |
        | claude | 0.35 USD | 2 | 1 |
        | gemini | unknown | 1 | 1 |
        "#);
    }
}
