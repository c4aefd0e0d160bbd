use std::process::Command;

use super::*;

/// The slots that systemd finds, up to `most` from `base` on; `None` where it loses its way ("Infinite loop"), as version 252
/// does south of the equator.
fn systemd(expression: &str, zone: &str, base: &str, most: usize) -> Option<Vec<Timestamp>> {
    let out = Command::new("systemd-analyze")
        .args(["calendar", &format!("--iterations={most}"), &format!("--base-time={base} UTC")])
        .arg(expression)
        .env("TZ", zone)
        .env("LC_ALL", "C")
        .output()
        .expect("systemd-analyze starts");
    let why = String::from_utf8_lossy(&out.stderr);
    if why.contains("Infinite loop") {
        return None;
    }
    assert!(out.status.success(), "{expression}: {why}");
    let said = String::from_utf8_lossy(&out.stdout);
    let is_slot = |line: &&str| match zone {
        "UTC" => line.starts_with("Next elapse: ") || line.starts_with("Iter. #"),
        _ => line.starts_with("(in UTC): "),
    };
    let lines = said.lines().map(str::trim).filter(is_slot);
    // `(in UTC): Mon 2026-03-30 00:30:00 UTC`
    let slots = lines.filter(|line| !line.ends_with("never")).map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [.., date, time, "UTC"] = words[..] else { panic!("{line}") };
        format!("{date}T{time}Z").parse().unwrap()
    });
    Some(slots.collect())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// When the zone's clocks change.
fn changes(zone: &TimeZone, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let changes = zone.following(from).map(|change| change.timestamp());
    changes.take_while(|change| *change < until).collect()
}

const DAYS: [&str; 21] = [
    "",
    "*-*-*",
    "Mon..Fri",
    "Sat,Sun",
    "Mon,Wed..Fri",
    "Sunday",
    "*-*-01",
    "*-*-31",
    "*-*-1,15",
    "*-*-5/10",
    "*-02-29",
    "*-*~1",
    "*-02~03",
    "*-*~7/1",
    "*-*~9/3",
    "*-*~3..5",
    "Mon *-05~07/1",
    "Sun *-*-1..7",
    "*-1,4,7..9-01",
    "*-1/3-10..20/4",
    "2027-*-01",
];

/// Among them those that every change of the zones below leaves out or repeats.
const TIMES: [&str; 9] =
    ["", "02:00", "00:00", "02:30:15", "1..3:30", "23:59:59", "0/6:15,45", "3:0/20", "01:30"];

/// Europe, America, the southern half of the world, a change at midnight, one of half an hour, none at all.
const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Pacific/Auckland",
    "UTC",
];

/// Whether the expression names this local time.
fn is_named(calendar: &Calendar, local: DateTime) -> bool {
    calendar.years.matches(local.year())
        && calendar.months.matches(local.month().into())
        && calendar.matches(local.date())
        && calendar.hours.contains(&local.hour())
        && calendar.minutes.contains(&local.minute())
        && calendar.seconds.contains(&local.second())
}

/// All of them, the changes of the clock included. Two things are not systemd's: the slot that `ccl` makes at the end of a gap,
/// of times that were left out; and which of two equal times is meant. There systemd takes the first or the second, by where
/// its search came from; so times are compared as the clock on the wall shows them.
#[test]
fn slots_are_those_of_systemd_over_two_years() {
    let mut expressions: Vec<String> = Vec::new();
    for day in DAYS {
        for time in TIMES {
            let expression = format!("{day} {time}");
            expressions.extend(Some(expression.trim().to_owned()).filter(|it| !it.is_empty()));
        }
    }
    for word in ["hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly"] {
        expressions.push(word.to_owned());
    }
    /// Those of two years and more, of what comes twice a day.
    const MOST: usize = 1500;
    let base = "2026-01-01 00:30:00";
    let (start, end) = (at("2026-01-01T00:30:00Z"), at("2028-01-01T00:30:00Z"));
    let checks: Vec<(usize, &String)> = expressions.iter().enumerate().collect();
    let compared = crate::concurrent::map(checks.chunks(110).collect(), |chunk| {
        let (mut compared, mut lost) = (0, 0);
        for (number, expression) in chunk {
            let calendar = Calendar::parse(expression).unwrap();
            // Some in two zones; all in all of them would take minutes.
            let second = (number % 4 == 0).then(|| ZONES[(number + 1 + number / 6 % 5) % 6]);
            for name in [ZONES[number % 6]].into_iter().chain(second) {
                let Some(theirs) = systemd(expression, name, base, MOST) else {
                    lost += 1;
                    continue;
                };
                let zone = TimeZone::get(name).unwrap();
                // Of dense ones it was asked for fewer.
                let end = if theirs.len() < MOST { end } else { theirs[MOST - 1] };
                let changes = changes(&zone, start, end);
                let is_of_a_gap = |slot: &Timestamp| {
                    changes.contains(slot) && !is_named(&calendar, zone.to_datetime(*slot))
                };
                let ours = std::iter::successors(calendar.next_after(start, &zone), |slot| {
                    calendar.next_after(*slot, &zone)
                });
                let ours = ours.take_while(|it| *it < end).filter(|slot| !is_of_a_gap(slot));
                let ours: Vec<DateTime> = ours.map(|it| zone.to_datetime(it)).collect();
                let theirs = theirs.into_iter().filter(|it| *it < end);
                let theirs: Vec<DateTime> = theirs.map(|it| zone.to_datetime(it)).collect();
                let differ = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
                assert_eq!((ours.len(), differ), (theirs.len(), None), "{expression} in {name}");
                compared += theirs.len();
            }
        }
        (compared, lost)
    });
    let slots: usize = compared.iter().map(|it| it.0).sum();
    let lost: usize = compared.iter().map(|it| it.1).sum();
    assert!(slots > 40_000 && expressions.len() - lost > 150, "{slots} slots, {lost} lost");
}

/// Where systemd differs. It leaves out what a change leaves out: it looks for a moment that has this local time, and there is
/// none. Of a repeated time it takes the second one when it is asked in between: it remembers nothing, and is asked from
/// where a clock on the wall shows an earlier time. `ccl` would then have served the first one.
#[test]
fn around_a_change_systemd_leaves_out_and_repeats_what_comes_once_here() {
    for (expression, zone, after, theirs, ours) in [
        (
            "02:30",
            "Europe/Berlin",
            "2026-03-28 12:00:00",
            "2026-03-30T00:30:00Z",
            "2026-03-29T01:00:00Z",
        ),
        (
            "02:30",
            "America/New_York",
            "2026-03-07 12:00:00",
            "2026-03-09T06:30:00Z",
            "2026-03-08T07:00:00Z",
        ),
        (
            "02:15",
            "Australia/Lord_Howe",
            "2026-10-03 12:00:00",
            "2026-10-04T15:15:00Z",
            "2026-10-03T15:30:00Z",
        ),
        (
            "Sun 00:00",
            "America/Santiago",
            "2026-09-05 12:00:00",
            "2026-09-13T03:00:00Z",
            "2026-09-06T04:00:00Z",
        ),
        (
            "02:30",
            "Europe/Berlin",
            "2026-10-25 01:10:00",
            "2026-10-25T01:30:00Z",
            "2026-10-26T01:30:00Z",
        ),
        (
            "01:30",
            "America/New_York",
            "2026-11-01 06:10:00",
            "2026-11-01T06:30:00Z",
            "2026-11-02T06:30:00Z",
        ),
        // Asked before the first one, or between the first and the change, systemd repeats nothing either.
        (
            "02:30",
            "Europe/Berlin",
            "2026-10-24 12:00:00",
            "2026-10-25T00:30:00Z",
            "2026-10-25T00:30:00Z",
        ),
        (
            "02:30",
            "Europe/Berlin",
            "2026-10-25 00:40:00",
            "2026-10-26T01:30:00Z",
            "2026-10-26T01:30:00Z",
        ),
    ] {
        let found = systemd(expression, zone, after, 1).unwrap();
        assert_eq!(found, [at(theirs)], "{expression} in {zone} after {after}");
        let zone = TimeZone::get(zone).unwrap();
        let after = at(&format!("{}Z", after.replace(' ', "T")));
        let found = Calendar::parse(expression).unwrap().next_after(after, &zone);
        assert_eq!(found, Some(at(ours)), "{expression} after {after}");
    }
}

/// Every minute of the days around each change is asked whether a slot is there: the minute matches by the clock on the wall
/// and did not come before, or it ends a gap in which a matching one was left out.
#[test]
fn around_every_change_each_minute_says_itself_whether_it_is_a_slot() {
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        for change in changes(&zone, at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z")) {
            let minute = jiff::SignedDuration::from_mins(1);
            let start = change - jiff::SignedDuration::from_hours(26);
            let minutes: Vec<(Timestamp, DateTime)> = (0..52 * 60)
                .map(|number| start + minute * number)
                .map(|moment| (moment, zone.to_datetime(moment)))
                .collect();
            for expression in
                ["*:0/7", "minutely", "1..2:*", "02:30", "0:0", "Sun 2:15,45", "*-*~1..7 0/3:30"]
            {
                let calendar = Calendar::parse(expression).unwrap();
                let named = |local| is_named(&calendar, local);
                let mut furthest = minutes[0].1;
                let mut expected = Vec::new();
                for (moment, local) in &minutes[1..] {
                    let mut left_out = furthest.saturating_add(minute);
                    let mut is_slot = named(*local) && *local > furthest;
                    while left_out < *local {
                        is_slot |= named(left_out);
                        left_out = left_out.saturating_add(minute);
                    }
                    furthest = furthest.max(*local);
                    expected.extend(is_slot.then_some(*moment));
                }
                let ours = std::iter::successors(calendar.next_after(start, &zone), |slot| {
                    calendar.next_after(*slot, &zone)
                });
                let ours: Vec<Timestamp> =
                    ours.take_while(|it| *it <= minutes[minutes.len() - 1].0).collect();
                let differ = ours.iter().zip(&expected).find(|(ours, expected)| ours != expected);
                assert_eq!(
                    (ours.len(), differ),
                    (expected.len(), None),
                    "{expression} in {name} at {change}"
                );
            }
        }
    }
}

fn slots(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let (calendar, zone) = (Calendar::parse(expression).unwrap(), TimeZone::get(zone).unwrap());
    let mut after: Timestamp = after.parse().unwrap();
    let mut slots = Vec::new();
    for _ in 0..count {
        after = calendar.next_after(after, &zone).unwrap();
        slots.push(zone.to_datetime(after).to_string());
    }
    slots
}

#[test]
fn a_time_that_is_left_out_comes_once_right_after_the_gap() {
    let berlin = |expression| slots(expression, "Europe/Berlin", "2026-03-28T02:00:00Z", 3);
    assert_eq!(
        berlin("02:30"),
        ["2026-03-29T03:00:00", "2026-03-30T02:30:00", "2026-03-31T02:30:00"]
    );
    // All that is left out comes as one.
    assert_eq!(
        berlin("2:0/20"),
        ["2026-03-29T03:00:00", "2026-03-30T02:00:00", "2026-03-30T02:20:00"]
    );
    // One that would have come then anyway is not doubled.
    assert_eq!(
        slots("2,3:00", "Europe/Berlin", "2026-03-28T12:00:00Z", 3),
        ["2026-03-29T03:00:00", "2026-03-30T02:00:00", "2026-03-30T03:00:00"]
    );
    // A whole day was left out.
    let apia = slots("12:00", "Pacific/Apia", "2011-12-29T23:00:00Z", 2);
    assert_eq!(apia, ["2011-12-31T00:00:00", "2011-12-31T12:00:00"]);
}

#[test]
fn a_time_that_is_repeated_comes_once() {
    assert_eq!(
        slots("02:30", "Europe/Berlin", "2026-10-24T22:00:00Z", 2),
        ["2026-10-25T02:30:00", "2026-10-26T02:30:00"]
    );
    // Within the second hour, too.
    assert_eq!(slots("*:30", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["2026-10-25T03:30:00"]);
}

#[test]
fn the_last_slot_is_found_however_long_ago_the_one_before_was() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let last = |expression: &str, after: &str, until: &str| {
        let calendar = Calendar::parse(expression).unwrap();
        calendar.last_between(at(after), at(until), &zone).map(|slot| slot.to_string())
    };
    for (expression, after, until, expected) in [
        ("02:00", "2026-06-01T00:00:00Z", "2026-06-01T00:00:00Z", None),
        ("02:00", "2026-05-31T23:59:59Z", "2026-06-01T00:00:00Z", Some("2026-06-01T00:00:00Z")),
        ("02:00", "2026-05-31T00:00:00Z", "2026-06-01T00:00:00.5Z", Some("2026-06-01T00:00:00Z")),
        ("02:00", "1990-01-01T00:00:00Z", "2026-06-01T12:00:00Z", Some("2026-06-01T00:00:00Z")),
        ("minutely", "1990-01-01T00:00:00Z", "2026-06-01T12:00:30Z", Some("2026-06-01T12:00:00Z")),
        ("*:*:*", "1990-01-01T00:00:00Z", "2026-06-01T12:00:30.9Z", Some("2026-06-01T12:00:30Z")),
        ("Mon *:*:*", "1990-01-01T00:00:00Z", "2026-06-04T12:00:30Z", Some("2026-06-01T21:59:59Z")),
        ("*-02-29", "1990-01-01T00:00:00Z", "2026-06-04T12:00:30Z", Some("2024-02-28T23:00:00Z")),
        ("2027-01-01", "1990-01-01T00:00:00Z", "2026-06-04T12:00:30Z", None),
    ] {
        assert_eq!(
            last(expression, after, until).as_deref(),
            expected,
            "{expression} {after} {until}"
        );
    }
}

#[test]
fn what_is_not_understood_is_named() {
    for (text, why) in [
        ("", "is empty"),
        ("Mo 02:00", "has `Mo`, which is not a weekday"),
        ("Sat..Mon", "runs backwards"),
        ("Mon,02:00", "has ``"),
        ("Mon/2", "has `/2` behind a weekday"),
        ("25:00", "has `25`, which is not an hour from 0 to 23"),
        ("2:60", "not a minute"),
        ("2", "neither a date nor a time"),
        ("2:00:00:00", "not a time"),
        ("*/2:00", "write 0 instead of the *"),
        ("*-13-01", "not a month"),
        ("*-*-0", "not a day"),
        ("*-*-9..3", "runs backwards"),
        ("*:0/0", "no step"),
        ("2026-1-1-1", "not a month"),
        ("1960-1-1", "not a year"),
        ("02:00 Europe/Berlin", "write it as `zone: Europe/Berlin`"),
        ("02:00 often", "has `often` behind the time"),
        ("99999:00", "not an hour"),
        ("*-*-1 2 3", ""),
    ] {
        let error = Calendar::parse(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    let zone = TimeZone::UTC;
    let never = Calendar::parse("*-02-30").unwrap();
    assert_eq!(never.next_after(Timestamp::UNIX_EPOCH, &zone), None);
}
