//! What an API error means for the task and for the session. Pure.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ToSpan};

use super::Failure;
use super::transcript::ApiError;

/// A time further away than this is not believed: a monthly limit is reset
/// within a month.
const MAX_REST: SignedDuration = SignedDuration::from_hours(32 * 24);

/// What an API error means. Where it names no reset time, `capture`, the screen,
/// may.
pub fn failure(error: &ApiError, capture: &str, now: Timestamp) -> Failure {
    let sentence = error.text.trim();
    match classify(error.kind.as_deref(), sentence) {
        Cause::RateLimit => {
            let until = error
                .resets_at
                .and_then(|second| Timestamp::from_second(second).ok())
                .filter(|time| is_near(*time, now))
                .or_else(|| reset_time(sentence, now))
                .or_else(|| reset_time_on_screen(capture, now));
            Failure {
                reason: format!("the account's limit is reached: {sentence}"),
                counts: false,
                needs_person: until.is_none() && is_spent(sentence),
                until,
            }
        }
        Cause::Login => Failure {
            reason: format!(
                "Claude Code has no valid login, run `claude` and `/login`: {sentence}"
            ),
            counts: false,
            until: None,
            needs_person: true,
        },
        Cause::Billing => Failure {
            reason: format!("the account cannot be billed, see to its balance: {sentence}"),
            counts: false,
            until: None,
            needs_person: true,
        },
        Cause::Other => Failure::of_task(format!("the API answered with an error: {sentence}")),
    }
}

/// A limit of money is raised by a person, where it names no day.
fn is_spent(text: &str) -> bool {
    let text = text.to_lowercase();
    ["spend limit", "spending cap", "usage credits", "out of usage"]
        .iter()
        .any(|phrase| text.contains(phrase))
}

enum Cause {
    RateLimit,
    Login,
    Billing,
    Other,
}

/// By the transcript's word, else by what only such a sentence says (2.1.100
/// calls a 429 `unknown`; older versions have no word).
fn classify(kind: Option<&str>, text: &str) -> Cause {
    match kind {
        Some("rate_limit") => return Cause::RateLimit,
        Some("authentication_failed" | "oauth_org_not_allowed" | "verification_required") => {
            return Cause::Login;
        }
        Some("billing_error") => return Cause::Billing,
        _ => {}
    }
    let text = text.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if says(&["credit balance", "billing", "usage credits"]) {
        Cause::Billing
    } else if says(&[
        "/login",
        "invalid api key",
        "invalid x-api-key",
        "authentication_error",
        "api error: 401",
    ]) {
        Cause::Login
    } else if says(&[
        "usage limit",
        "session limit",
        "weekly limit",
        "-hour limit",
        "opus limit",
        "hit your limit",
        "rate limit",
        "rate_limit",
        "api error: 429",
    ]) {
        Cause::RateLimit
    } else {
        Cause::Other
    }
}

/// The time after which Claude Code says that work may go on: `…|1760000000`
/// (1.x), `resets 3pm (Europe/Paris)`, `will reset at 3pm`, `resets Oct 7 at
/// 3:30pm (UTC)`, `resets Oct 7, 2026, 3pm`, `resets Mon 12:00am`.
pub fn reset_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let time = epoch(text).or_else(|| {
        let lower = text.to_ascii_lowercase();
        let found = lower.match_indices("reset").filter_map(|(at, _)| clock(&text[at..], now));
        found.last()
    })?;
    is_near(time, now).then_some(time)
}

/// Only a line that speaks of a limit: an agent's own words may stand there too.
fn reset_time_on_screen(capture: &str, now: Timestamp) -> Option<Timestamp> {
    let speaks_of_it = |line: &&str| line.to_ascii_lowercase().contains("limit");
    let mut newest_first = capture.lines().rev().filter(speaks_of_it);
    newest_first.find_map(|line| reset_time(line, now))
}

fn is_near(time: Timestamp, now: Timestamp) -> bool {
    let rest = time.duration_since(now);
    rest.is_positive() && rest < MAX_REST
}

fn epoch(text: &str) -> Option<Timestamp> {
    let (_, after) = text.split_once("limit reached|")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    Timestamp::from_second(digits.parse().ok()?).ok()
}

/// `resets [at] [Mon | Oct 7[, 2026]][,] [at] 3[:30] pm [(Zone/Name)]`
fn clock(text: &str, now: Timestamp) -> Option<Timestamp> {
    let line = text.lines().next()?;
    let zone = line
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .and_then(|(name, _)| TimeZone::get(name).ok())
        .unwrap_or_else(TimeZone::system);
    let today = now.to_zoned_datetime(zone);
    let words: Vec<&str> = line
        .split(['(', '·', '∙'])
        .next()?
        .split_whitespace()
        .skip(1)
        .map(|word| word.trim_matches(','))
        .filter(|word| *word != "at")
        .collect();
    let (day, rest) = day(&words, today.date())?;
    let time = time(rest)?;
    let mut candidate =
        day.date.to_datetime(time).to_zoned_datetime(today.time_zone().clone()).ok()?;
    if candidate <= today {
        candidate = candidate.checked_add(day.period).ok()?;
    }
    Some(candidate.timestamp())
}

/// A day that a sentence names.
struct Day {
    date: Date,
    /// When the same words mean a day again.
    period: Span,
}

/// The day that `words` begin with, today without one, and the words after it.
fn day<'a, 'b>(words: &'a [&'b str], today: Date) -> Option<(Day, &'a [&'b str])> {
    let first = words.first()?;
    let day = |date, period| Day { date, period };
    if let Some(month) = month(first) {
        let number = words.get(1)?.parse().ok()?;
        let year = words.get(2).and_then(|word| word.parse::<i16>().ok());
        let date = Date::new(year.unwrap_or(today.year()), month, number).ok()?;
        let rest = &words[if year.is_some() { 3 } else { 2 }..];
        return Some((day(date, 1.year()), rest));
    }
    if let Some(weekday) = weekday(first) {
        let ahead = today.weekday().until(weekday);
        let date = today.checked_add(i64::from(ahead).days()).ok()?;
        return Some((day(date, 1.week()), &words[1..]));
    }
    Some((day(today, 1.day()), words))
}

fn weekday(word: &str) -> Option<Weekday> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let word = word.to_lowercase();
    let index = DAYS.iter().position(|day| word.starts_with(day))?;
    Weekday::from_monday_one_offset(i8::try_from(index + 1).ok()?).ok()
}

fn month(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let word = word.to_lowercase();
    let index = MONTHS.iter().position(|month| word.starts_with(month))?;
    i8::try_from(index + 1).ok()
}

/// `3pm`, `3:30pm`, `3:30 PM`, `15:30`.
fn time(words: &[&str]) -> Option<Time> {
    let mut text = words.first()?.to_lowercase();
    if let Some(half @ ("am" | "pm")) = words.get(1).map(|w| w.to_lowercase()).as_deref() {
        text.push_str(half);
    }
    let text = text.trim_end_matches('.');
    let (digits, half) = match (text.strip_suffix("am"), text.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(0)),
        (_, Some(digits)) => (digits, Some(12)),
        _ => (text, None),
    };
    let (hour, minute) = match digits.split_once(':') {
        Some((hour, minute)) => (hour.parse::<i8>().ok()?, minute.parse::<i8>().ok()?),
        None if half.is_some() => (digits.parse().ok()?, 0),
        None => return None,
    };
    let hour = match half {
        Some(half) if (1..=12).contains(&hour) => hour % 12 + half,
        Some(_) => return None,
        None => hour,
    };
    Time::new(hour, minute, 0, 0).ok()
}

#[cfg(test)]
mod tests;
