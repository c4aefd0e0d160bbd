//! Text for people: what may be printed, and how. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Serialize as _, Serializer};

/// The text with everything escaped that could move the cursor, change the terminal, start a line of its own or reorder
/// what stands around it: control characters, line and paragraph separators, bidirectional overrides. `\n` and `\t` are
/// written so, the rest as `\u{1b}`.
///
/// Messages may have several lines, so [`Log`] does not escape newlines: text from files, servers and people goes
/// through here first.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The beginning of a foreign text as one printable line: at most `most` characters, then `…` if it was longer.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    // One character more shows that it was longer. Escapes make it longer still, so it is cut once more below.
    let beginning: String = words.join(" ").chars().take(most + 1).collect();
    let mut line = escape(&beginning).into_owned();
    if let Some((end, _)) = line.char_indices().nth(most) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// The path as text, bytes that are not UTF-8 as `\xNN`.
pub(crate) fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A path as a JSON string, see [`path_text`].
pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}

/// A path as a JSON string, see [`path_text`], or `null`.
pub(crate) fn optional_path<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_deref().map(path_text).serialize(serializer)
}

/// A moment as people say it: `14:20, in 4 min`; on another day `Fri 14:20, in 2 days`; where the weekday would mislead
/// `2026-03-14 14:20, 12 days ago`.
pub(crate) fn local_time(moment: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let [local, today] = [moment, now].map(|it| it.to_zoned_datetime(zone.clone()));
    let days = local.date().duration_since(today.date()).as_hours() / 24;
    let clock = match days {
        0 => local.strftime("%H:%M"),
        -6..=6 => local.strftime("%a %H:%M"),
        _ => local.strftime("%Y-%m-%d %H:%M"),
    };
    let seconds = moment.duration_since(now).as_secs();
    // A unit ends where rounding would reach the next: at 59.5 min and at 23.5 h.
    let distance = match seconds.unsigned_abs() {
        0 => return format!("{clock}, now"),
        s @ 1..60 => format!("{s} s"),
        s @ 60..3570 => format!("{} min", (s + 30) / 60),
        s @ 3570..84_600 => format!("{} h", (s + 1800) / 3600),
        s => match (s + 43_200) / 86_400 {
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        },
    };
    match seconds < 0 {
        true => format!("{clock}, {distance} ago"),
        false => format!("{clock}, in {distance}"),
    }
}

/// The known word that was probably meant: at most one letter in four is missing, wrong or in another place, and two at
/// most. Case, hyphens and blanks for `_` are no mistakes.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    const MOST_MISTAKES: usize = 2;
    let word = word.trim().to_lowercase().replace(['-', ' '], "_");
    let mistakes = |known: &str| {
        // A file may hold a word of any length: one that cannot match is not compared.
        let length_differs = word.len().abs_diff(known.len());
        if length_differs > MOST_MISTAKES { usize::MAX } else { strsim::osa_distance(&word, known) }
    };
    known
        .iter()
        .map(|&known| (mistakes(&known.replace('-', "_")), known))
        .filter(|(mistakes, known)| *mistakes <= (known.len() / 4).clamp(1, MOST_MISTAKES))
        .min_by_key(|(mistakes, _)| *mistakes)
        .map(|(_, known)| known)
}

/// Whether `ccl` may give a tmux session this name. tmux reads `:` and `.` as parts of a target, expands `#`, and takes
/// what begins with `=`, `$`, `@`, `%` or `-` for something else.
pub(crate) fn is_session_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz;

    #[test]
    fn times_are_local_and_as_people_say_them() {
        let now: Timestamp = "2026-03-05T13:16:00.123456789Z".parse().unwrap();
        let zone = TimeZone::fixed(tz::offset(1));
        for (moment, expected) in [
            ("2026-03-05T13:20:10.987654321Z", "14:20, in 4 min"),
            ("2026-03-05T13:16:30Z", "14:16, in 29 s"),
            ("2026-03-05T13:16:00.2Z", "14:16, now"),
            ("2026-03-05T14:15:55Z", "15:15, in 1 h"),
            ("2026-03-05T13:12:00Z", "14:12, 4 min ago"),
            ("2026-03-05T22:59:00Z", "23:59, in 10 h"),
            // Tomorrow there, today in UTC.
            ("2026-03-05T23:00:00Z", "Fri 00:00, in 10 h"),
            ("2026-03-07T13:20:00Z", "Sat 14:20, in 2 days"),
            ("2026-03-06T13:00:00Z", "Fri 14:00, in 1 day"),
            ("2026-03-01T13:20:00Z", "Sun 14:20, 4 days ago"),
            // The same weekday.
            ("2026-03-12T13:20:00Z", "2026-03-12 14:20, in 7 days"),
            ("2999-01-01T00:00:00Z", "2999-01-01 01:00, in 355317 days"),
        ] {
            assert_eq!(local_time(moment.parse().unwrap(), now, &zone), expected);
        }
    }
}
