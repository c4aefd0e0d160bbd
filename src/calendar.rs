//! When a recurring task's slots come: systemd's calendar expressions, as far as days and times go. Pure.
//!
//! The grammar is that of systemd.time(7): `Mon..Fri 02:00`, `*-*-01 04:00`, `*:0/15`, `weekly`. A time that a change
//! of the clock skips comes once, right after the gap; a time that a change repeats comes once, the first time.
//! (systemd leaves the former out; in all else the two agree, which a test shows.)

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// No later year is looked at.
const LAST_YEAR: i16 = 2199;
/// One more than the longest month has days.
const BEYOND: i8 = 32;

/// A calendar expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calendar {
    /// Which weekdays match, from Monday on; `None`: all of them.
    weekdays: Option<[bool; 7]>,
    years: Numbers,
    months: Numbers,
    days: Numbers,
    /// Days are counted from the month's end: 31 is its last, 30 the one before.
    from_end: bool,
    hours: Vec<i8>,
    minutes: Vec<i8>,
    seconds: Vec<i8>,
}

/// The numbers that match at one place of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Numbers {
    Any,
    Of(Vec<Range>),
}

/// `5`, `5..9`, `5/2`, `5..9/2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: i16,
    stop: i16,
    step: i16,
    /// Whether the expression does not say where it stops, as in `5/2`.
    is_open: bool,
}

impl Range {
    /// Turns a range that is counted back from the month's end into numbers of [`Calendar::from_end`]. `~7/2` is the
    /// seventh day before the end, and every second one after it.
    fn turn_round(&mut self) {
        let beyond = i16::from(BEYOND);
        let last = if self.is_open { 1 } else { self.start };
        let first = if self.is_open { self.start } else { self.stop };
        (self.start, self.stop) = (beyond - first, beyond - last);
    }
}

impl Numbers {
    fn matches(&self, number: i16) -> bool {
        let in_range = |range: &Range| {
            (range.start..=range.stop).contains(&number) && (number - range.start) % range.step == 0
        };
        match self {
            Self::Any => true,
            Self::Of(ranges) => ranges.iter().any(in_range),
        }
    }

    /// The numbers up to `most` that match, in ascending order.
    fn list(&self, most: i8) -> Vec<i8> {
        (0..=most).filter(|number| self.matches(i16::from(*number))).collect()
    }
}

impl Calendar {
    /// Reads an expression; the error is the end of a sentence that begins with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let whole = match text.to_ascii_lowercase().as_str() {
            "minutely" => "*-*-* *:*:00",
            "hourly" => "*-*-* *:00:00",
            "daily" => "*-*-* 00:00:00",
            "weekly" => "Mon *-*-* 00:00:00",
            "monthly" => "*-*-01 00:00:00",
            "quarterly" => "*-01,04,07,10-01 00:00:00",
            "semiannually" | "semi-annually" | "biannually" | "bi-annually" => {
                "*-01,07-01 00:00:00"
            }
            "yearly" | "annually" => "*-01-01 00:00:00",
            _ => text,
        };
        let mut calendar = Self {
            weekdays: None,
            years: Numbers::Any,
            months: Numbers::Any,
            days: Numbers::Any,
            from_end: false,
            hours: vec![0],
            minutes: vec![0],
            seconds: vec![0],
        };
        let mut rest = whole;
        if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            rest = calendar.read_weekdays(rest)?;
        } else if rest.is_empty() {
            return Err("is empty; write days and a time, such as Mon..Fri 02:00".to_owned());
        }
        let mut words = rest.split_ascii_whitespace();
        let mut next = words.next();
        if let Some(date) = next.filter(|word| !word.contains(':')) {
            calendar.read_date(date)?;
            next = words.next();
        }
        if let Some(time) = next {
            calendar.read_time(time)?;
        }
        if let Some(more) = words.next() {
            return Err(match TimeZone::get(more) {
                Ok(_) => format!("names a zone: write it as `zone: {more}`"),
                Err(_) => format!("has `{more}` behind the time"),
            });
        }
        Ok(calendar)
    }

    /// Takes weekdays from the front, and returns what follows.
    fn read_weekdays<'a>(&mut self, text: &'a str) -> Result<&'a str, String> {
        let mut weekdays = [false; 7];
        let mut rest = text;
        loop {
            let (first, after) = weekday(rest)?;
            let (last, after) = match after.strip_prefix("..") {
                Some(after) => weekday(after)?,
                None => (first, after),
            };
            if last < first {
                return Err("has a range of weekdays that runs backwards: write Sat,Sun,Mon".into());
            }
            weekdays[first..=last].fill(true);
            match after.strip_prefix(',') {
                // A comma may stand behind the last weekday, too.
                Some(after) if after.starts_with(' ') || after.is_empty() => {
                    rest = after;
                    break;
                }
                Some(after) => rest = after,
                None if after.is_empty() || after.starts_with(' ') => {
                    rest = after;
                    break;
                }
                None => return Err(format!("has `{after}` behind a weekday")),
            }
        }
        self.weekdays = Some(weekdays);
        Ok(rest)
    }

    /// `2026-11-26`, `*-*-01`, `11-26`, `*-02~03`.
    fn read_date(&mut self, text: &str) -> Result<(), String> {
        let (front, day) = match text.split_once('~') {
            Some((front, day)) => {
                self.from_end = true;
                (front, day)
            }
            None => text
                .rsplit_once('-')
                .ok_or_else(|| format!("has `{text}`, which is neither a date nor a time"))?,
        };
        let (year, month) = match front.split_once('-') {
            Some((year, month)) => (year, month),
            None => ("*", front),
        };
        self.years = numbers(year, "a year", 1970, LAST_YEAR)?;
        self.months = numbers(month, "a month", 1, 12)?;
        self.days = numbers(day, "a day", 1, 31)?;
        if let (true, Numbers::Of(ranges)) = (self.from_end, &mut self.days) {
            ranges.iter_mut().for_each(Range::turn_round);
        }
        Ok(())
    }

    /// `02:00`, `*:0/15`, `02:00:30`.
    fn read_time(&mut self, text: &str) -> Result<(), String> {
        let mut parts = text.split(':');
        let (hour, minute, second) = (parts.next(), parts.next(), parts.next());
        let (Some(hour), Some(minute), None) = (hour, minute, parts.next()) else {
            return Err(format!("has `{text}`, which is not a time such as 02:00"));
        };
        self.hours = numbers(hour, "an hour", 0, 23)?.list(23);
        self.minutes = numbers(minute, "a minute", 0, 59)?.list(59);
        self.seconds = numbers(second.unwrap_or("0"), "a second", 0, 59)?.list(59);
        Ok(())
    }

    fn matches(&self, date: Date) -> bool {
        let weekday = date.weekday().to_monday_zero_offset().unsigned_abs();
        let day = match self.from_end {
            true => BEYOND - (date.days_in_month() - date.day() + 1),
            false => date.day(),
        };
        self.weekdays.is_none_or(|days| days[usize::from(weekday)])
            && self.days.matches(i16::from(day))
    }

    /// The first slot after this moment, in the zone's time; `None` where none comes.
    pub(crate) fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let local = zone.to_datetime(after);
        let mut date = local.date();
        while date.year() <= LAST_YEAR {
            if !self.years.matches(date.year()) {
                date = date.last_of_year().tomorrow().ok()?;
                continue;
            }
            if !self.months.matches(i16::from(date.month())) {
                date = date.last_of_month().tomorrow().ok()?;
                continue;
            }
            if self.matches(date) {
                // A time before `from` cannot come after `after`: where the clock repeats it, the first time counts.
                let from = if date == local.date() { local.time() } else { Time::midnight() };
                let mut slots =
                    self.times(from).filter_map(|time| instant(date.to_datetime(time), zone));
                if let Some(slot) = slots.find(|slot| *slot > after) {
                    return Some(slot);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The times of a day from `from` on, to the second.
    fn times(&self, from: Time) -> impl Iterator<Item = Time> + '_ {
        let start = (from.hour(), from.minute(), from.second());
        let hours = self.hours.iter().copied().filter(move |hour| *hour >= start.0);
        hours.flat_map(move |hour| {
            let minutes = self.minutes.iter().copied();
            let minutes = minutes.filter(move |minute| (hour, *minute) >= (start.0, start.1));
            minutes.flat_map(move |minute| {
                let seconds = self.seconds.iter().copied();
                let seconds = seconds.filter(move |second| (hour, minute, *second) >= start);
                seconds.filter_map(move |second| Time::new(hour, minute, second, 0).ok())
            })
        })
    }

    /// The last slot after `after` and not after `until`; `None` where none came. A span of years takes about as long
    /// as one of a minute.
    pub(crate) fn last_between(
        &self,
        after: Timestamp,
        until: Timestamp,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        let next = |moment| self.next_after(moment, zone).filter(|slot| *slot <= until);
        let mut found = next(after)?;
        let (mut low, mut high) = (found.as_second(), until.as_second());
        // Bisection: a slot after `middle` is the new lower end; without one the last slot is not after `middle`.
        while low < high {
            let middle = low + (high - low) / 2;
            match next(Timestamp::from_second(middle).ok()?) {
                Some(slot) => {
                    found = slot;
                    low = slot.as_second();
                }
                None => high = middle,
            }
        }
        Some(found)
    }
}

/// The moment of a local time: the first of two, or where there is none the end of the gap.
fn instant(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            // Read with the offset that holds after it, a time in the gap is a moment just before the gap.
            let before_the_gap = after.to_timestamp(local).ok()?;
            zone.following(before_the_gap).next().map(|change| change.timestamp())
        }
    }
}

/// The weekday with which the text begins, from Monday = 0, and what follows it.
fn weekday(text: &str) -> Result<(usize, &str), String> {
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let length = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (word, rest) = text.split_at(length);
    let lower = word.to_ascii_lowercase();
    let found = DAYS.iter().position(|(name, _)| lower == *name || lower == name[..3]);
    let day = found.ok_or_else(|| {
        format!(
            "has `{word}`, which is not a weekday (Mon … Sun) nor a word such as daily or weekly"
        )
    })?;
    Ok((day, rest))
}

/// Reads `*`, or numbers, ranges and steps between commas.
fn numbers(text: &str, what: &str, least: i16, most: i16) -> Result<Numbers, String> {
    if text == "*" {
        return Ok(Numbers::Any);
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && (least..=most).contains(number));
        number.ok_or_else(|| match text.strip_prefix('*') {
            Some(_) => format!("has `{text}` for {what}: write {least} instead of the *"),
            None => format!("has `{text}`, which is not {what} from {least} to {most}"),
        })
    };
    let range = |text: &str| {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => {
                let step = step.parse().ok().filter(|step| (1..=9999).contains(step));
                let step =
                    step.ok_or_else(|| format!("has `{text}`, which has no step from 1 on"))?;
                (range, Some(step))
            }
            None => (text, None),
        };
        match range.split_once("..") {
            Some((start, stop)) => {
                let (start, stop) = (number(start)?, number(stop)?);
                match start <= stop {
                    true => Ok(Range { start, stop, step: step.unwrap_or(1), is_open: false }),
                    false => Err(format!("has `{range}`, a range that runs backwards")),
                }
            }
            None => {
                let start = number(range)?;
                let stop = if step.is_some() { most } else { start };
                Ok(Range { start, stop, step: step.unwrap_or(1), is_open: step.is_some() })
            }
        }
    };
    text.split(',').map(range).collect::<Result<_, _>>().map(Numbers::Of)
}

#[cfg(test)]
mod tests;
