//! Where the header, the body and the ending line of a task file begin and end.

use super::{Ending, MAX_HEADER_BYTES};

/// A task file, cut in three. The parts always add up to the file, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// From the start (a BOM included) to the end of the closing `---` line; empty without a header.
    pub header: &'a str,
    pub body: &'a str,
    /// The ending line, with the newline that sets it apart from the body and whatever blank lines follow it;
    /// empty where the last line is not an ending line.
    pub ending: &'a str,
    pub(super) opening: Opening,
}

impl Parts<'_> {
    pub fn read_ending(&self) -> Option<Ending> {
        Ending::parse(self.ending.trim())
    }
}

/// Cuts a task file into header, body and ending line; any text will do.
///
/// A header opens with a line `---` at the very start (after a BOM at most) and closes with the next such line, which
/// may end the file; blanks after the dashes and CRLF are accepted. A header that is not closed within
/// [`MAX_HEADER_BYTES`] counts as body.
pub fn split(text: &str) -> Parts<'_> {
    let (written, ending) = text.split_at(ending_start(text));
    let opening = open(written.as_bytes(), true);
    let end = match opening {
        Opening::Closed { end, .. } => end,
        Opening::Absent | Opening::Unclosed | Opening::NeedMoreInput => 0,
    };
    let (header, body) = written.split_at(end);
    Parts { header, body, ending, opening }
}

/// What the author wrote.
pub(super) fn without_ending(text: &str) -> &str {
    &text[..ending_start(text)]
}

/// Where the ending of a file begins: at the one newline above its ending line, or at the file's end.
///
/// That newline always belongs to the ending: [`super::with_ending`] puts it there, so that the body comes back as it
/// was, whether or not it ended with a newline of its own.
fn ending_start(text: &str) -> usize {
    let end = text.trim_end_matches(['\r', '\n']).len();
    let line = text[..end].rfind('\n').map_or(0, |newline| newline + 1);
    if Ending::parse(&text[line..end]).is_some() { line.saturating_sub(1) } else { text.len() }
}

/// How a file opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Without a header.
    Absent,
    /// With a field after the first `---`, but no second one.
    Unclosed,
    /// With a header: its YAML (the opening `---` included, which YAML understands, so that its line numbers are the
    /// file's) is at `start..close`, the body begins at `end`.
    Closed { start: usize, close: usize, end: usize },
    /// The bytes end before the header does, if there is one.
    NeedMoreInput,
}

/// Looks for the header in the first bytes of a file, or in `whole` of it.
pub(super) fn open(bytes: &[u8], whole: bool) -> Opening {
    const BOM: &[u8] = "\u{feff}".as_bytes();
    let start = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    // So few bytes that they may still become a BOM or a fence.
    if !whole && [BOM, b"---"].iter().any(|word| word.starts_with(&bytes[start..])) {
        return Opening::NeedMoreInput;
    }
    let mut lines = Lines { bytes, at: start };
    match lines.next() {
        Some((_, line)) if is_fence(line) => {
            // A line that is cut off may go on, and not be a fence.
            if !whole && !line.ends_with(b"\n") {
                return Opening::NeedMoreInput;
            }
        }
        _ => return Opening::Absent,
    }
    let after = lines.at;
    while let Some((close, line)) = lines.next() {
        if close > MAX_HEADER_BYTES {
            return unclosed(&bytes[after..]);
        }
        if !whole && !line.ends_with(b"\n") {
            break;
        }
        if is_fence(line) {
            return Opening::Closed { start, close, end: lines.at };
        }
    }
    // A line that is cut off may start before the limit and go on beyond it.
    if whole { unclosed(&bytes[after..]) } else { Opening::NeedMoreInput }
}

fn is_fence(line: &[u8]) -> bool {
    line.strip_prefix(b"---").is_some_and(|rest| rest.iter().all(u8::is_ascii_whitespace))
}

/// Markdown may begin with `---` as a thematic break: only one that is followed by a field was meant as a header.
fn unclosed(after: &[u8]) -> Opening {
    let mut lines = Lines { bytes: after, at: 0 }.map(|(_, line)| line.trim_ascii());
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).unwrap_or_default();
    let word = first.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_-".contains(b)).count();
    match &first[word..] {
        [b':'] | [b':', b' ' | b'\t', ..] if word > 0 => Opening::Unclosed,
        _ => Opening::Absent,
    }
}

/// Lines with their newline and the offset at which they start.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |at| at + 1);
        self.at += length;
        Some((start, &rest[..length]))
    }
}
