//! What a file in `recurring/` says of its slots. Pure.

use std::collections::HashSet;

use jiff::fmt::friendly::SpanParser;
use jiff::{SignedDuration, SpanRelativeTo};

use super::parts::{Opening, split};
use super::yaml::{self, KeyOrValue, KeyValue, Value};
use super::{UnknownWord, Warning};
use crate::calendar::Calendar;

/// The keys that count in `recurring/` only. The tasks that are made of the file do not have them.
pub(crate) const RECURRING_FIELDS: [&str; 5] = ["at", "every", "zone", "catch_up", "overlap"];

const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 366);

/// When a recurring task's slots come, and what becomes of those that were missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recurrence {
    pub(crate) schedule: Schedule,
    /// As it is written.
    pub(crate) schedule_text: String,
    /// The zone's name and its place; `None`: the machine's.
    pub(crate) zone: Option<(String, (usize, usize))>,
    /// Whether one task is made for all slots that were missed.
    pub(crate) catch_up: bool,
    /// Whether a slot is served while the task of an earlier one has not ended.
    pub(crate) overlap: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schedule {
    At(Calendar),
    Every(SignedDuration),
}

/// Reads the header of a file in `recurring/`; the error says where and what is wrong.
pub(crate) fn recurrence(text: &str) -> Result<Recurrence, Warning> {
    let wrong = |(line, column), message: String| Warning { line, column, message };
    let parts = split(text);
    let Opening::Closed { start, close, .. } = parts.opening else {
        let message = "there is no header with `at: Mon..Fri 02:00` or `every: 1d`";
        return Err(wrong((1, 1), message.to_owned()));
    };
    let yaml = &text[start..close];
    let entries = yaml::entries(yaml).map_err(|(place, why)| {
        wrong(place, format!("the header is not YAML that ccl can read: {why}"))
    })?;
    let mut seen = HashSet::new();
    let (mut schedule, mut zone, mut catch_up, mut overlap) = (None, None, true, false);
    for (index, KeyValue { key, value }) in entries.into_iter().enumerate() {
        if !RECURRING_FIELDS.contains(&key.as_str()) {
            continue;
        }
        let place = |what| yaml::position(yaml, index, what);
        let complain = |why: String| wrong(place(KeyOrValue::Value), format!("`{key}` {why}"));
        if !seen.insert(key.clone()) {
            let message = format!("`{key}` is given twice: remove one");
            return Err(wrong(place(KeyOrValue::Key), message));
        }
        let Value::Text(text) = value else {
            return Err(match value {
                Value::Null => wrong(place(KeyOrValue::Key), format!("`{key}` has no value")),
                other => complain(format!("must be text, not {}: put it in quotes", other.kind())),
            });
        };
        let text = text.trim();
        match key.as_str() {
            "at" | "every" if schedule.is_some() => {
                let message = "`at` and `every` stand both there: remove one";
                return Err(wrong(place(KeyOrValue::Key), message.to_owned()));
            }
            "at" => {
                let calendar = Calendar::parse(text).map_err(complain)?;
                schedule = Some((Schedule::At(calendar), text.to_owned()));
            }
            "every" => {
                let every = interval(text).map_err(complain)?;
                schedule = Some((Schedule::Every(every), format!("every {text}")));
            }
            "zone" => zone = Some((text.to_owned(), place(KeyOrValue::Value))),
            "catch_up" => catch_up = one_of(text, ["once", "skip"]).map_err(complain)? == "once",
            _ => overlap = one_of(text, ["queue", "skip"]).map_err(complain)? == "queue",
        }
    }
    let Some((schedule, schedule_text)) = schedule else {
        let message = "the header has neither `at: Mon..Fri 02:00` nor `every: 1d`";
        return Err(wrong((1, 1), message.to_owned()));
    };
    Ok(Recurrence { schedule, schedule_text, zone, catch_up, overlap })
}

/// `30m`, `12h`, `1d`, `2w`; a day has 24 hours.
fn interval(text: &str) -> Result<SignedDuration, String> {
    let span = SpanParser::new().parse_span(text);
    let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let duration =
        duration.map_err(|_| format!("is `{text}`, not a duration such as 30m, 12h or 1d"))?;
    match (SHORTEST..=LONGEST).contains(&duration) {
        true => Ok(duration),
        false => Err(format!("is `{text}`; it must lie between 1m and 366d")),
    }
}

fn one_of(text: &str, known: [&'static str; 2]) -> Result<&'static str, String> {
    let found = known.into_iter().find(|word| text.eq_ignore_ascii_case(word));
    found.ok_or_else(|| UnknownWord { word: text.to_owned(), known: known.to_vec() }.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_recurring_file_says() {
        let read = |header: &str| recurrence(&format!("---\n{header}\n---\nDo it.\n"));
        let full = read(
            "title: T\nat: Mon..Fri 02:00\nzone: Europe/Berlin\ncatch_up: Skip\noverlap: queue",
        )
        .unwrap();
        assert_eq!(full.schedule, Schedule::At(Calendar::parse("Mon..Fri 02:00").unwrap()));
        assert_eq!(full.zone.map(|it| it.0).as_deref(), Some("Europe/Berlin"));
        assert_eq!((full.catch_up, full.overlap), (false, true));
        let short = read("every: 1d 12h").unwrap();
        assert_eq!(short.schedule, Schedule::Every(SignedDuration::from_hours(36)));
        assert_eq!((short.catch_up, short.overlap, short.zone), (true, false, None));
        for (header, wrong) in [
            ("title: T", "1:1: the header has neither"),
            ("at: noon", "2:5: `at` has `noon`, which is not a weekday"),
            ("every: 1d\nat: daily", "3:1: `at` and `every` stand both there"),
            ("every: 30s", "2:8: `every` is `30s`; it must lie between"),
            ("every: -1d", "2:8: `every`"),
            ("every: often", "2:8: `every` is `often`, not a duration"),
            ("every: 5", "2:8: `every` must be text, not a number"),
            ("at: daily\nat: weekly", "3:1: `at` is given twice"),
            ("at:", "2:1: `at` has no value"),
            ("at: daily\ncatch_up: twice", "3:11: `catch_up` `twice` is not one of once, skip"),
            ("at: daily\noverlap: 1", "3:10: `overlap` must be text"),
            ("at: [", ": the header is not YAML"),
        ] {
            let error = read(header).unwrap_err().to_string();
            assert!(error.contains(wrong), "{header}: {error}");
        }
        assert!(recurrence("Do it.").unwrap_err().to_string().contains("no header"));
    }
}
