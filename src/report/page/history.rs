//! The page's plots: what ended when, what it cost, how long it had waited.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::plot::{self, Bar, Figure, SERIES, WaitRange};
use super::{StatusPage, count, section, table, words};
use crate::money::{Cost, Totals};
use crate::report::history::{DaySlot, EndedCounts};
use crate::report::text::duration;
use crate::text::escape;

/// How many currencies have a plot of their own.
const CURRENCIES: usize = 3;

impl StatusPage<'_> {
    pub(super) fn figures(&self) -> Markup {
        let content = html! {
            (plot::patterns())
            div .figures {
                (self.by_hour())
                (self.by_day())
                (self.costs())
                (self.waits())
            }
        };
        section("history", "What this pool did", &content)
    }

    fn by_hour(&self) -> Markup {
        let hours = self.history.hours();
        let clock = |index: usize| {
            let start = hours[index].start.to_zoned_datetime(self.zone.clone());
            start.strftime("%H:%M").to_string()
        };
        let slots: Vec<_> =
            hours.iter().enumerate().map(|(index, hour)| (clock(index), hour.ended)).collect();
        let labels = (2..slots.len()).step_by(6).map(|index| (index, clock(index))).collect();
        ended("hours", "Done and failed by hour, last day", "Hour from", &slots, labels)
    }

    fn by_day(&self) -> Markup {
        let days = self.history.days();
        let slots: Vec<_> = days.iter().map(|day| (day_name(day), day.ended)).collect();
        ended("days", "Done and failed by day, last month", "Day", &slots, weeks(days))
    }

    /// A plot for each currency: amounts in several cannot be added.
    fn costs(&self) -> Markup {
        let days = self.history.days();
        let mut currencies: BTreeSet<(bool, Option<String>)> = BTreeSet::new();
        for (_, costs) in days.iter().flat_map(DaySlot::spent) {
            // The unknown currency comes last.
            currencies.extend(costs.into_iter().map(|it| (it.currency.is_none(), it.currency)));
        }
        if currencies.is_empty() {
            return Figure {
                id: "cost",
                title: "Cost by day, last month",
                summary: "No cost is known.",
                labels: &[],
                slots: 0,
                drawing: &Markup::default(),
                key: &Markup::default(),
                numbers: None,
            }
            .markup();
        }
        let agents = AgentSeries::of(days);
        html! {
            @for (index, (_, currency)) in currencies.iter().take(CURRENCIES).enumerate() {
                (cost(index, currency.as_ref(), days, &agents))
            }
        }
    }

    fn waits(&self) -> Markup {
        let days = self.history.days();
        let wait_text = |median, p90| {
            format!("half within {}, nine of ten within {}", duration(median), duration(p90))
        };
        let waits: Vec<_> = days
            .iter()
            .enumerate()
            .filter_map(|(slot, day)| Some((slot, day_name(day), day.waited()?)))
            .collect();
        let ranges = waits.iter().map(|(slot, name, (median, p90, _))| WaitRange {
            slot: *slot,
            median: *median,
            p90: *p90,
            tooltip: format!("{name}: {}", wait_text(*median, *p90)),
        });
        let drawing = plot::ranges(days.len(), &ranges.collect::<Vec<_>>());
        let rows = html! {
            @for (_, name, (median, p90, tasks)) in &waits {
                tr {
                    th scope="row" { (name) }
                    td .n { (duration(*median)) }
                    td .n { (duration(*p90)) }
                    td .n { (tasks) }
                }
            }
        };
        let numbers = table("", &["Day", "#Median", "#90 %", "#Tasks"], &rows);
        let summary = match waits.last() {
            Some((_, name, (median, p90, _))) => format!("On {name} {}.", wait_text(*median, *p90)),
            None => "No task was handed out.".to_owned(),
        };
        let key = html! {
            ul .key {
                li { svg viewBox="0 0 14 11" aria-hidden="true" { circle .dot cx="7" cy="5.5" r="3.5" {} } "half waited no longer" }
                li { svg viewBox="0 0 14 11" aria-hidden="true" { circle .ring cx="7" cy="5.5" r="3.5" {} } "nine of ten" }
            }
        };
        Figure {
            id: "waits",
            title: "How long tasks waited, by day",
            summary: &summary,
            labels: &weeks(days),
            slots: days.len(),
            drawing: &drawing,
            key: &key,
            numbers: (!waits.is_empty()).then_some(&numbers),
        }
        .markup()
    }
}

fn day_name(day: &DaySlot) -> String {
    day.date.strftime("%a %-d %b").to_string()
}

/// The labels below the days: yesterday, and the days that are whole weeks before it.
fn weeks(days: &[DaySlot]) -> Vec<(usize, String)> {
    let label = |index: usize| (index, days[index].date.strftime("%-d %b").to_string());
    // Today's label would be cut off at the edge.
    (0..days.len().saturating_sub(1)).rev().step_by(7).map(label).collect()
}

fn ended(
    id: &str,
    title: &str,
    column: &str,
    slots: &[(String, EndedCounts)],
    labels: Vec<(usize, String)>,
) -> Markup {
    let bars = |of: fn(&EndedCounts) -> usize, word: &str| -> Vec<Bar> {
        let bars = slots.iter().enumerate().map(|(slot, (name, ended))| {
            let number = of(ended);
            Bar { slot, value: number as f64, tooltip: format!("{name}: {number} {word}") }
        });
        bars.filter(|bar| bar.value > 0.0).collect()
    };
    let (done, failed) = (bars(|it| it.done, "done"), bars(|it| it.failed, "failed"));
    let sum =
        |of: fn(&EndedCounts) -> usize| slots.iter().map(|(_, ended)| of(ended)).sum::<usize>();
    let (sum_done, sum_failed) = (sum(|it| it.done), sum(|it| it.failed));
    let is_empty = sum_done + sum_failed == 0;
    let summary = match is_empty {
        true => "Nothing ended.".to_owned(),
        false => {
            format!("{} done and {sum_failed} failed in all.", count(sum_done, "task", "tasks"))
        }
    };
    let rows = html! {
        @for (name, ended) in slots.iter().filter(|(_, ended)| ended.done + ended.failed > 0) {
            tr {
                th scope="row" { (name) }
                td .n { (ended.done) }
                td .n { (ended.failed) }
            }
        }
    };
    let numbers = table("", &[column, "#Done", "#Failed"], &rows);
    let key = html! {
        ul .key {
            li { svg viewBox="0 0 14 11" aria-hidden="true" { path .done d="M7 0L13 10H1Z" {} } (sum_done) " done, upwards" }
            li { svg viewBox="0 0 14 11" aria-hidden="true" { path .failed d="M7 11L13 1H1Z" {} } (sum_failed) " failed, downwards" }
        }
    };
    Figure {
        id,
        title,
        summary: &summary,
        labels: &labels,
        slots: slots.len(),
        drawing: &plot::up_and_down(slots.len(), &done, &failed),
        key: &key,
        numbers: (!is_empty).then_some(&numbers),
    }
    .markup()
}

/// The agents, each in its place: it has the same colour and pattern in every plot.
struct AgentSeries<'a>(Vec<&'a str>);

impl<'a> AgentSeries<'a> {
    /// The agents that worked on most days come first.
    fn of(days: &'a [DaySlot]) -> Self {
        let mut worked: BTreeMap<&str, usize> = BTreeMap::new();
        for (agent, _) in days.iter().flat_map(DaySlot::spent) {
            *worked.entry(agent).or_default() += 1;
        }
        let mut agents: Vec<(&str, usize)> = worked.into_iter().collect();
        agents.sort_by_key(|(_, days)| std::cmp::Reverse(*days));
        Self(agents.into_iter().map(|(agent, _)| agent).collect())
    }

    /// The series of an agent; all that have none of their own share the last.
    fn series(&self, agent: &str) -> usize {
        let place = self.0.iter().position(|it| *it == agent);
        place.unwrap_or_default().min(SERIES - 1)
    }

    fn name(&self, series: usize) -> String {
        match self.0.len().saturating_sub(SERIES) {
            // The last series stands for an agent of its own and for these others.
            others @ 1.. if series == SERIES - 1 => format!("{} others", others + 1),
            _ => self.0.get(series).copied().unwrap_or_default().to_owned(),
        }
    }
}

/// What the agents cost in one currency.
fn cost(
    index: usize,
    currency: Option<&String>,
    days: &[DaySlot],
    agents: &AgentSeries<'_>,
) -> Markup {
    let word = currency.map_or("unknown currency", String::as_str);
    // The slot, who, and the exact amount.
    let spent = days.iter().enumerate().flat_map(|(slot, day)| {
        day.spent().flat_map(move |(agent, costs)| {
            let costs = costs.into_iter().filter(move |it| it.currency.as_ref() == currency);
            costs.map(move |cost| (slot, agent, cost.amount))
        })
    });
    let spent: Vec<(usize, &str, String)> = spent.collect();
    let mut series: Vec<Vec<Bar>> = (0..SERIES).map(|_| Vec::new()).collect();
    let mut total = Totals::default();
    for (slot, agent, amount) in &spent {
        let day = day_name(&days[*slot]);
        series[agents.series(agent)].push(Bar {
            slot: *slot,
            // A float is exact enough for the drawing: the tooltip and the table have the amount itself.
            value: amount.parse().unwrap_or(0.0),
            tooltip: format!("{day}: {} {amount} {word}", escape(agent)),
        });
        // All are of one currency, which the sum need not name.
        total.add(&Cost { amount: amount.clone(), currency: None });
    }
    let names: Vec<(usize, String)> = series
        .iter()
        .enumerate()
        .filter(|(_, bars)| !bars.is_empty())
        .map(|(place, _)| (place, agents.name(place)))
        .collect();
    let total = total.costs().into_iter().next().map_or_else(String::new, |cost| cost.amount);
    let summary = format!("{total} {word} in all.");
    let rows = html! {
        @for (slot, agent, amount) in &spent {
            tr {
                th scope="row" { (day_name(&days[*slot])) }
                td { (words(agent)) }
                td .n { (amount) }
            }
        }
    };
    let title = format!("Cost in {word} by day and agent");
    let numbers = table("", &["Day", "Agent", &format!("#{word}")], &rows);
    Figure {
        id: &format!("cost-{index}"),
        title: &title,
        summary: &summary,
        labels: &weeks(days),
        slots: days.len(),
        drawing: &plot::stacked(days.len(), &series),
        key: &plot::key_of_series(&names),
        numbers: Some(&numbers),
    }
    .markup()
}
