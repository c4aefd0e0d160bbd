//! The status as a page for a browser. Pure: rows in, markup out.
//!
//! It is one file that asks for nothing else: no script, no font, no picture. What needs a person comes first. All text
//! from elsewhere has its control and bidirectional characters escaped, is markup nowhere (maud escapes what it is not
//! told to leave alone), and stands isolated, so that what is written from right to left moves nothing around it.

mod history;
mod plot;
mod work;

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text::short;
use super::{History, Need, NeedKind, SessionState, Status, TaskState};
use crate::money::Totals;
use crate::pause::Pause;
use crate::text::{escape, local_time, path_text};

const STYLE: &str = include_str!("style.css");

/// What the page may do: show its own style, by its hash, and nothing else.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'sha256-g4BUoQ7UJtSMDLsOUSj8EI/qxIHpvj6eqCPkx9BGqZM='; base-uri 'none'; form-action 'none'";

/// A title is cut at this many characters; the whole of it is its tooltip.
const MAX_TITLE: usize = 200;
/// The middle of a longer sentence is left out, since what mends it often stands at the end. In characters.
const MAX_SENTENCE: usize = 1200;
/// How many rows of what needs a person are shown, and how many tasks of each are named.
const NEEDS: usize = 50;
const PAUSES: usize = 10;
const NAMED: usize = 5;

/// Everything that the page is made of.
pub(crate) struct StatusPage<'a> {
    pub(crate) status: &'a Status,
    pub(crate) history: &'a History,
    /// What could not be read.
    pub(crate) problems: &'a [String],
    pub(crate) host: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) zone: &'a TimeZone,
    /// When a task that is at work counts as stale.
    pub(crate) stale_after: Duration,
}

impl StatusPage<'_> {
    /// The whole document.
    pub(crate) fn html(&self) -> String {
        let needs = self.needs();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title {
                        @if self.needed(&needs) > 0 { (count(self.needed(&needs), "thing needs", "things need")) " you: " }
                        "ccl on " (escape(self.host))
                    }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (self.header(&needs))
                    main {
                        (self.needs_section(&needs))
                        (self.to_land())
                        (self.sessions())
                        (self.queues())
                        (self.waiting())
                        (self.jobs())
                        (self.agents())
                        (self.last_day())
                        (self.lately())
                        (self.figures())
                        (self.recurring())
                        (self.worktrees())
                    }
                    footer {
                        p { "ccl " (env!("CARGO_PKG_VERSION")) ". The page changes nothing. "
                            "The plots show what this pool's journal saw." }
                    }
                }
            }
        };
        page.into_string()
    }

    /// What needs a person, and has no other place on the page.
    fn needs(&self) -> Vec<Need<'_>> {
        let needs = self.status.needs(self.now, self.zone).into_iter();
        needs.filter(|need| !need.kind.has_a_place_of_its_own()).collect()
    }

    fn needed(&self, needs: &[Need<'_>]) -> usize {
        needs.len() + self.problems.len() + usize::from(self.overdue().is_some())
    }

    fn header(&self, needs: &[Need<'_>]) -> Markup {
        let local = self.now.to_zoned_datetime(self.zone.clone());
        let made = local.strftime("%a %-d %b %Y, %H:%M:%S %Z").to_string();
        html! {
            header {
                h1 { "ccl on " (words(self.host)) }
                p .soft {
                    "Made " time datetime=(self.now) { (made) } ". "
                    @match self.status.passed {
                        Some(passed) => { "The last scan ended at " (self.moment(passed)) "." }
                        None => { "No scan has been made yet." }
                    }
                }
                (self.pauses())
                (self.tiles(needs))
            }
        }
    }

    fn pauses(&self) -> Markup {
        let everything = self.status.paused.iter().map(|pause| (pause, None));
        let projects = self.status.projects.iter();
        let projects =
            projects.filter_map(|row| Some((row.paused.as_ref()?, Some(row.path.as_path()))));
        let line = |(pause, place): (&Pause, Option<&Path>)| {
            let since = pause.sentence(self.now, self.zone);
            html! {
                p .paused {
                    strong { "Paused" }
                    @if let Some(place) = place { " in " (project(place)) }
                    " " (words(&since)) ". " code { "ccl resume" } " goes on."
                }
            }
        };
        let (shown, hidden): (Vec<_>, Vec<_>) =
            everything.chain(projects).enumerate().partition(|(index, _)| *index < PAUSES);
        html! {
            @for (_, pause) in shown { (line(pause)) }
            @if !hidden.is_empty() { p .soft { "… and " (hidden.len()) " more projects are paused" } }
        }
    }

    /// The numbers of the page, each of which leads to its section.
    fn tiles(&self, needs: &[Need<'_>]) -> Markup {
        let status = self.status;
        let at_work = |state| {
            matches!(state, SessionState::Claiming | SessionState::Launching)
                || matches!(state, SessionState::Working | SessionState::Checking)
        };
        let working = status.sessions.iter().filter(|row| at_work(row.state)).count();
        let waiting = status.tasks.iter().filter(|row| row.state == TaskState::Waiting).count();
        let to_land: usize = status.projects.iter().map(|row| row.to_land.len()).sum();
        let done: usize = status.last_24h.iter().map(|row| row.done).sum();
        let failed: usize = status.last_24h.iter().map(|row| row.failed).sum();
        let mut cost = Totals::default();
        status.last_24h.iter().flat_map(|row| &row.cost).for_each(|it| cost.add(it));
        let tile = |number: &str, what: &str, target: &str, is_bad: bool| {
            html! { li .bad[is_bad] { a href={ "#" (target) } { b { (number) } (what) } } }
        };
        let needed = self.needed(needs);
        html! {
            ul .tiles {
                (tile(&needed.to_string(), if needed == 1 { "needs you" } else { "need you" }, "needs", needed > 0))
                @if to_land > 0 { (tile(&to_land.to_string(), "to land", "to-land", false)) }
                (tile(&format!("{working}/{}", status.sessions.len()), "sessions at work", "sessions", false))
                (tile(&waiting.to_string(), if waiting == 1 { "task waits" } else { "tasks wait" }, "queues", false))
                @if status.delegated.active > 0 {
                    (tile(&status.delegated.active.to_string(), &format!("at {}", status.delegated.place()), "jobs", false))
                }
                (tile(&done.to_string(), "done in 24 h", "last-day", false))
                (tile(&failed.to_string(), "failed in 24 h", "last-day", failed > 0))
                @for cost in cost.costs() {
                    @let currency = cost.currency.unwrap_or_else(|| "(currency unknown)".to_owned());
                    (tile(&rounded(&cost.amount), &format!("{currency} in 24 h"), "last-day", false))
                }
            }
        }
    }

    fn needs_section(&self, needs: &[Need<'_>]) -> Markup {
        let overdue = self.overdue();
        if needs.is_empty() && self.problems.is_empty() && overdue.is_none() {
            return html! {
                section #needs .well aria-labelledby="h-needs" {
                    h2 #h-needs { "Nothing needs you" }
                    p .soft { "No agent asks, no task is held, and none is stale." }
                }
            };
        }
        html! {
            section #needs .needs aria-labelledby="h-needs" {
                h2 #h-needs { "Needs you" }
                ul .list {
                    @for problem in self.problems.iter().take(NEEDS) {
                        li { p { span .state.bad { "cannot be read" } } p { (sentence(problem)) } }
                    }
                    @if let Some(overdue) = &overdue {
                        li { p { span .state.bad { "nothing is handed out" } } p { (sentence(overdue)) } }
                    }
                    @for need in needs.iter().take(NEEDS) { (self.need(need)) }
                }
                @let hidden = needs.len().saturating_sub(NEEDS) + self.problems.len().saturating_sub(NEEDS);
                @if hidden > 0 { p .soft { "… and " (hidden) " more: " code { "ccl status --json" } } }
            }
        }
    }

    /// The sentence about scans that have stopped, where anything waits for them.
    fn overdue(&self) -> Option<String> {
        self.status.overdue(self.now, self.zone)
    }

    fn need(&self, need: &Need<'_>) -> Markup {
        let colour = match need.kind {
            NeedKind::Overdue | NeedKind::Attention | NeedKind::Stale | NeedKind::Odd => "bad",
            NeedKind::Paused
            | NeedKind::Held
            | NeedKind::Stuck
            | NeedKind::Recurring
            | NeedKind::ToLand
            | NeedKind::Job => "wait",
        };
        let named = need.names.get(..NAMED).unwrap_or(&need.names);
        html! {
            li {
                p {
                    @for (index, name) in named.iter().enumerate() {
                        @if index > 0 { ", " }
                        strong { (words(name)) }
                    }
                    @if need.names.len() > NAMED { " and " (need.names.len() - NAMED) " more" }
                    " " span .state.(colour) { (need.kind.word()) }
                    span .soft {
                        @if let Some(place) = need.project { " in " (project(place)) }
                        @if let Some(session) = need.session { ", session " (words(session)) }
                        @if let Some(since) = need.since { ", since " (self.moment(since)) }
                    }
                }
                p { (sentence(&need.reason)) }
            }
        }
    }

    /// A moment as people say it, with the machine's form behind it.
    fn moment(&self, moment: Timestamp) -> Markup {
        html! { time datetime=(moment) { (local_time(moment, self.now, self.zone)) } }
    }

    fn since(&self, moment: Option<Timestamp>) -> Markup {
        html! { @if let Some(moment) = moment { span .since { (self.moment(moment)) } } }
    }
}

/// A section with a heading, and a name by which a tile leads to it.
fn section(id: &str, heading: &str, content: &Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={ "h-" (id) } {
            h2 id={ "h-" (id) } { (heading) }
            (content)
        }
    }
}

/// A table with its columns' names; those that start with `#` hold numbers.
fn table(caption: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        table {
            @if !caption.is_empty() { caption { (sentence(caption)) } }
            thead {
                tr {
                    @for column in columns {
                        @match column.strip_prefix('#') {
                            Some(column) => { th .n scope="col" { (column) } }
                            None => { th scope="col" { (column) } }
                        }
                    }
                }
            }
            tbody { (rows) }
        }
    }
}

/// A foreign text, escaped and isolated.
fn words(text: &str) -> Markup {
    html! { bdi { (escape(text)) } }
}

/// A title: cut, with the whole of it as its tooltip.
fn title(text: &str) -> Markup {
    match text.char_indices().nth(MAX_TITLE) {
        Some((end, _)) => html! { bdi title=(escape(text)) { (escape(&text[..end])) "…" } },
        None => words(text),
    }
}

/// A sentence of ours: what stands in it between backquotes is a command.
fn sentence(text: &str) -> Markup {
    let text = without_middle(text);
    let parts: Vec<&str> = text.split('`').collect();
    // An odd number of backquotes: one of them is not ours, and nobody knows which.
    if parts.len().is_multiple_of(2) {
        return words(&text);
    }
    html! {
        bdi {
            @for (index, part) in parts.iter().enumerate() {
                @if index % 2 == 1 { code { (escape(part)) } } @else { (escape(part)) }
            }
        }
    }
}

fn without_middle(text: &str) -> Cow<'_, str> {
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    if ends.len() <= MAX_SENTENCE {
        return Cow::Borrowed(text);
    }
    let (head, tail) = (ends[MAX_SENTENCE * 2 / 3], ends[ends.len() - MAX_SENTENCE / 3]);
    Cow::Owned(format!("{} … {}", &text[..head], &text[tail..]))
}

/// A project by its directory's name; its path is the tooltip.
fn project(path: &Path) -> Markup {
    html! { bdi title=(escape(&path_text(path))) { (escape(&short(path))) } }
}

/// `1 task waits`, `2 tasks wait`
fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A decimal with two digits behind the point, for a tile.
fn rounded(amount: &str) -> String {
    amount.parse::<f64>().map_or_else(|_| amount.to_owned(), |amount| format!("{amount:.2}"))
}
