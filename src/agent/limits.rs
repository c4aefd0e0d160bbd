//! What an API error means for the task and for the session. Pure.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::Failure;

/// A time further away than this is not believed.
const MAX_REST: SignedDuration = SignedDuration::from_hours(8 * 24);

/// What an API error means. `kind` is the transcript's word, `text` its
/// sentence; where neither names a reset time, `capture`, the screen, may.
pub fn failure(kind: Option<&str>, text: &str, capture: &str, now: Timestamp) -> Failure {
    let sentence = text.trim();
    match classify(kind, sentence) {
        Cause::RateLimit => Failure {
            reason: format!("the account's limit is reached: {sentence}"),
            of_account: true,
            until: reset_time(sentence, now).or_else(|| reset_time(capture, now)),
            needs_person: false,
        },
        Cause::Login => Failure {
            reason: format!(
                "Claude Code has no valid login, run `claude` and `/login`: {sentence}"
            ),
            of_account: true,
            until: None,
            needs_person: true,
        },
        Cause::Billing => Failure {
            reason: format!("the account cannot be billed, see to its balance: {sentence}"),
            of_account: true,
            until: None,
            needs_person: true,
        },
        Cause::Other => Failure::of_task(format!("the API answered with an error: {sentence}")),
    }
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
        Some("authentication_failed") => return Cause::Login,
        Some("billing_error") => return Cause::Billing,
        _ => {}
    }
    let text = text.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if says(&["credit balance", "billing"]) {
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
/// (1.x), `resets 3pm (Europe/Paris)`, `resets Oct 7 at 3:30pm (UTC)`.
pub fn reset_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let time = epoch(text).or_else(|| {
        text.match_indices("reset")
            .filter_map(|(at, _)| clock(&text[at..], now))
            .last()
    })?;
    let rest = time.duration_since(now);
    (rest.is_positive() && rest < MAX_REST).then_some(time)
}

fn epoch(text: &str) -> Option<Timestamp> {
    let (_, after) = text.split_once("limit reached|")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    Timestamp::from_second(digits.parse().ok()?).ok()
}

/// `resets [at] [Oct 7[,] [at]] 3[:30]pm [(Zone/Name)]`
fn clock(text: &str, now: Timestamp) -> Option<Timestamp> {
    let line = text.lines().next()?;
    let zone = line
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .and_then(|(name, _)| TimeZone::get(name).ok())
        .unwrap_or_else(TimeZone::system);
    let today = now.to_zoned_datetime(zone);
    let words = line.split('(').next()?.split_whitespace().skip(1);
    let mut words = words
        .map(|word| word.trim_matches(','))
        .filter(|word| *word != "at")
        .peekable();
    let month = words.peek().and_then(|word| month(word));
    let day = match month {
        Some(_) => {
            words.next();
            words.next()?.parse::<i8>().ok()
        }
        None => None,
    };
    let time = time(words.next()?)?;
    let date = match (month, day) {
        (Some(month), Some(day)) => today.date().with().month(month).day(day).build().ok()?,
        _ => today.date(),
    };
    let candidate = date
        .to_datetime(time)
        .to_zoned_datetime(today.time_zone().clone())
        .ok()?;
    let candidate = match month {
        None if candidate <= today => candidate.checked_add(1.day()).ok()?,
        Some(_) if candidate <= today => candidate.checked_add(1.year()).ok()?,
        _ => candidate,
    };
    Some(candidate.timestamp())
}

fn month(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let word = word.to_lowercase();
    let index = MONTHS.iter().position(|month| word.starts_with(month))?;
    i8::try_from(index + 1).ok()
}

/// `3pm`, `3:30pm`, `15:30`.
fn time(word: &str) -> Option<Time> {
    let word = word.trim_end_matches(['.', '·']).to_lowercase();
    let (digits, half) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(0)),
        (_, Some(digits)) => (digits, Some(12)),
        _ => (word.as_str(), None),
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
mod tests {
    use super::*;

    #[test]
    fn reset_times_in_every_wording() {
        let now: Timestamp = "2026-10-06T12:00:00Z".parse().unwrap();
        let cases = [
            (
                "Claude AI usage limit reached|1791302400",
                Some("2026-10-06T16:00:00Z"),
            ),
            (
                "You've hit your limit · resets 3pm (UTC)",
                Some("2026-10-06T15:00:00Z"),
            ),
            ("resets 3:30pm (Europe/Paris)", Some("2026-10-06T13:30:00Z")),
            ("resets 9am (UTC)", Some("2026-10-07T09:00:00Z")),
            ("limit resets at 12am (UTC)", Some("2026-10-07T00:00:00Z")),
            (
                "weekly limit · resets Oct 7 at 3pm (UTC)",
                Some("2026-10-07T15:00:00Z"),
            ),
            ("resets Oct 9, 3:05am (UTC)", Some("2026-10-09T03:05:00Z")),
            ("resets Dec 24 at 3pm (UTC)", None),
            ("resets 25pm (UTC)", None),
            ("resets soon", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|time| time.parse::<Timestamp>().unwrap());
            assert_eq!(reset_time(text, now), expected, "{text}");
        }
    }

    #[test]
    fn what_is_the_accounts_is_not_the_tasks() {
        let cases = [
            (Some("rate_limit"), "x", true, false),
            (Some("unknown"), "API Error: 429 {}", true, false),
            (None, "Invalid API key · Please run /login", true, true),
            (Some("authentication_failed"), "x", true, true),
            (None, "Credit balance is too low", true, true),
            (Some("server_error"), "API Error: 500", false, false),
        ];
        for (kind, text, of_account, needs_person) in cases {
            let failure = failure(kind, text, "", Timestamp::UNIX_EPOCH);
            assert_eq!(
                (failure.of_account, failure.needs_person),
                (of_account, needs_person),
                "{text}"
            );
        }
    }
}
