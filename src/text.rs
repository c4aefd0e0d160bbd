//! Text for people: what may be printed, and how. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Serialize as _, Serializer};

/// The text with everything escaped that could move the cursor, change the terminal, start a line of its own or reorder
/// what stands around it: control characters, line and paragraph separators, bidirectional overrides. `\n` and `\t` are
/// written so, the rest as `\u{1b}`.
///
/// Messages may have several lines, so [`Log`] does not escape newlines: text from files, servers and people goes
/// through here first.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
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

fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The path as text, bytes that are not UTF-8 as `\xNN`.
#[must_use]
pub fn path_text(path: &Path) -> String {
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
pub fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}

/// The same where there may be none.
pub fn optional_path<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_deref().map(path_text).serialize(serializer)
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

/// Whether `ccl` gives a tmux session this name. tmux reads `:` and `.` as parts of a target, expands `#`, and takes what
/// begins with `=`, `$`, `@`, `%` or `-` for something else.
pub fn is_session_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}
