//! `ccl report`: what was done, what failed, what waits for a person, and what it cost. Changes nothing.

use std::path::Path;

use anyhow::{Result, bail};
use jiff::civil::Date;
use jiff::fmt::friendly::SpanParser;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::status::{self, Collected};
use super::{Answer, Context};
use crate::cli::ReportFormat;
use crate::error::Failure;
use crate::journal::Journal;
use crate::queue::{EndedTask, Folder, Project};
use crate::report::{
    AttentionRow, DoneRow, FailedRow, Need, ProjectSummary, Report, Runs, Status, TaskRow,
    TaskState, WorkReport,
};
use crate::task::Moment;

pub(super) fn run(
    context: Context<'_>,
    since: &str,
    format: Option<ReportFormat>,
    json: bool,
) -> Result<Answer> {
    if json && format == Some(ReportFormat::Markdown) {
        let sentence = "--json and --format name two different forms: leave one out";
        bail!(Failure::Usage(sentence.to_owned()));
    }
    let now = context.now.to_zoned_datetime(TimeZone::system());
    let (since, until) = window(since, &now).map_err(Failure::Usage)?;
    let Collected { status, exit, .. } = status::collect(context)?;
    let needs = status.needs(context.now, now.time_zone());
    let mut runs = Runs::default();
    let journal = Journal::new(&context.config.state_dir);
    journal.read(since, |entry| {
        if entry.time < until {
            runs.add_entry(entry);
        }
    })?;
    let mut projects = Vec::new();
    for row in &status.projects {
        let project = Project::new(row.path.clone());
        let mut summary = ProjectSummary {
            path: row.path.clone(),
            attention: attention(&needs, Some(project.path())),
            waiting: waiting(&status, &project),
            ..ProjectSummary::default()
        };
        for task in project.ended_between(Folder::Done, since, until)? {
            task.ending.iter().for_each(|ending| runs.add_ending(ending));
            summary.done.push(done(task));
        }
        for task in project.ended_between(Folder::Failed, since, until)? {
            task.ending.iter().for_each(|ending| runs.add_ending(ending));
            let reason = task.ending.and_then(|ending| ending.reason);
            summary.failed.push(FailedRow { task: task.name, title: task.title, reason });
        }
        projects.push(summary);
    }
    let (spent, waited) = (runs.spent(), runs.waited());
    let attention = attention(&needs, None);
    let report = Report::Summary(WorkReport { since, until, attention, projects, spent, waited });
    Ok(Answer { report, exit })
}

fn done(task: EndedTask) -> DoneRow {
    let ending = task.ending;
    let times = ending.as_ref().and_then(|ending| ending.started_at.zip(ending.ended_at));
    DoneRow {
        task: task.name,
        title: task.title,
        seconds: times.map(|(start, end)| end.duration_since(start).as_secs()),
        cost: ending.as_ref().and_then(|ending| ending.cost.clone()),
        git: ending.as_ref().and_then(|ending| ending.git.clone()),
        check: ending.and_then(|ending| ending.check),
    }
}

/// What a person has to do something about in this project; without one, what concerns no single project.
fn attention(needs: &[Need<'_>], project: Option<&Path>) -> Vec<AttentionRow> {
    let of_project = needs.iter().filter(|need| need.project == project);
    let rows = of_project.flat_map(|need| {
        let row = |name: &&str| match need.is_of_tasks {
            true => AttentionRow { task: Some((*name).to_owned()), reason: need.reason.clone() },
            false => AttentionRow { task: None, reason: format!("{name}: {}", need.reason) },
        };
        let nameless = AttentionRow { task: None, reason: need.reason.clone() };
        let nameless = need.names.is_empty().then_some(nameless);
        nameless.into_iter().chain(need.names.iter().map(row))
    });
    rows.collect()
}

fn waiting(status: &Status, project: &Project) -> usize {
    let is_waiting =
        |task: &&TaskRow| task.state == TaskState::Waiting && task.project == project.path();
    status.tasks.iter().filter(is_waiting).count()
}

/// The time that `--since` names, its end not included; or what is wrong with it.
fn window(since: &str, now: &ZonedDateTime) -> Result<(Timestamp, Timestamp), String> {
    let wrong = || {
        format!(
            "--since {since}: write a duration such as 24h or 7d, today, yesterday, a day such as 2026-11-26, or a \
             time such as 2026-11-26 10:00 that has passed"
        )
    };
    let text = since.trim().to_ascii_lowercase();
    let day = match text.as_str() {
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        // Parsing would take a date with a time as well, and drop the time: a day has ten characters.
        other => other.parse::<Date>().ok().filter(|_| other.len() == "2026-11-26".len()),
    };
    let Some(day) = day else {
        let start = match Moment::parse(&text) {
            Some(moment) => moment.timestamp(now.time_zone()),
            None => {
                let span = SpanParser::new().parse_span(&text).map_err(|_| wrong())?;
                // A day back is the same time of yesterday, whatever the clocks did.
                now.checked_sub(span.abs()).map_err(|_| wrong())?.timestamp()
            }
        };
        return if start < now.timestamp() { Ok((start, now.timestamp())) } else { Err(wrong()) };
    };
    let midnight = |day: Date| {
        let start = day.to_zoned_datetime(now.time_zone().clone()).and_then(|it| it.start_of_day());
        start.map(|it| it.timestamp()).map_err(|_| wrong())
    };
    Ok((midnight(day)?, midnight(day.tomorrow().map_err(|_| wrong())?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_duration_or_a_local_day() {
        // The clocks went back at three in the morning of the 25th.
        let now: ZonedDateTime = "2026-10-26T08:00[Europe/Berlin]".parse().unwrap();
        let shown = |since: &str| {
            window(since, &now).map(|(start, end)| format!("{start} {end}")).map_err(drop)
        };
        let until_now = |start: &str| Ok(format!("{start} 2026-10-26T07:00:00Z"));
        assert_eq!(shown("24h"), until_now("2026-10-25T07:00:00Z"));
        assert_eq!(shown("90m"), until_now("2026-10-26T05:30:00Z"));
        assert_eq!(shown("1d"), until_now("2026-10-25T07:00:00Z"));
        assert_eq!(shown("2d"), until_now("2026-10-24T06:00:00Z"));
        let day = |day: &str| Ok(day.to_owned());
        assert_eq!(shown("yesterday"), day("2026-10-24T22:00:00Z 2026-10-25T23:00:00Z"));
        assert_eq!(shown("2026-10-24"), day("2026-10-23T22:00:00Z 2026-10-24T22:00:00Z"));
        assert_eq!(shown("today"), day("2026-10-25T23:00:00Z 2026-10-26T23:00:00Z"));
        for moment in
            ["2026-10-25 10:00", "2026-10-25T10:00", "2026-10-25t10:00", "2026-10-25T09:00Z"]
        {
            assert_eq!(shown(moment), until_now("2026-10-25T09:00:00Z"), "{moment}");
        }
        assert_eq!(shown("Yesterday"), shown("yesterday"));
        assert_eq!(shown(" TODAY "), shown("today"));
        assert_eq!(shown("24H"), shown("24h"));
        for wrong in [
            "2026-10-26 08:01",
            "2026-10-25 25:00",
            "20261025",
            "",
            "0s",
            "soon",
            "24",
            "2026-13-01",
            "-",
        ] {
            assert_eq!(shown(wrong), Err(()), "{wrong}");
        }
    }
}
