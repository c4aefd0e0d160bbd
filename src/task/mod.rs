//! The task file: its header, its body, its ending line. Pure.
//!
//! [`text_of`] says whether the bytes of a file can be a task at all; [`parse`] reads every text, good or bad, and
//! tells what was wrong in [`Task::warnings`]. For many files at once, [`priority_of`] and [`head`] do with the first
//! bytes of each.

mod compose;
mod ending;
mod glance;
mod header;
mod parts;
mod words;
mod yaml;

pub use compose::{as_written, with_ending, with_fields};
pub use ending::{Ending, Outcome};
pub use header::{Field, Head, HeaderState, Routing, Warning};
use parts::Opening;
pub use parts::{Parts, split};
pub use words::{Complexity, Preference, Priority, Provider, UnknownWord};

/// A task of more bytes than these, not counting its ending line, is no task.
pub const MAX_BYTES: usize = 1024 * 1024;

/// What the ending line may add to a file: the most that has to be read of one is [`MAX_BYTES`] and this.
pub const MAX_ENDING_BYTES: usize = 64 * 1024;

/// A header that is not closed within so many bytes is not read as one. This bounds what YAML can cost.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Why a file can never be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(
        "the file is larger than {} MiB: put what is long into a file of its own and name that in the task",
        MAX_BYTES / 1024 / 1024
    )]
    TooLarge,
    /// `offset` is that of the first bad byte, from 0.
    #[error(
        "the file is not text: the byte at offset {offset} is NUL or not UTF-8; save it as UTF-8"
    )]
    NotText { offset: usize },
    /// Neither a header nor a body: nothing but blanks.
    #[error("the file is empty: write what is to be done")]
    Empty,
}

/// The text of a task file; a file with a header alone has text.
///
/// # Errors
/// [`Unfit`] if the bytes cannot be a task. Of a file that may be too large, the first `MAX_BYTES + MAX_ENDING_BYTES + 1`
/// bytes suffice.
pub fn text_of(bytes: &[u8]) -> Result<&str, Unfit> {
    if bytes.len() > MAX_BYTES + MAX_ENDING_BYTES {
        return Err(Unfit::TooLarge);
    }
    let nul = bytes.iter().position(|&b| b == 0);
    let text = match (std::str::from_utf8(bytes), nul) {
        (Ok(text), None) => text,
        (Ok(_), Some(offset)) => return Err(Unfit::NotText { offset }),
        (Err(error), nul) => {
            let offset = error.valid_up_to();
            return Err(Unfit::NotText { offset: nul.map_or(offset, |nul| nul.min(offset)) });
        }
    };
    let written = Parts::written(text);
    if written.len() > MAX_BYTES {
        Err(Unfit::TooLarge)
    } else if written.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}').is_empty() {
        Err(Unfit::Empty)
    } else {
        Ok(text)
    }
}

/// A task file, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its title, trimmed, never empty.
    pub title: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// The author's tags, trimmed.
    pub tags: Vec<String>,
    /// What decides who works on it.
    pub routing: Routing,
    /// What to do: the body without blank lines around it, and without the ending line. Where the header does not parse
    /// this is all that the author wrote, header included: it may be Markdown between two thematic breaks, and nothing of
    /// a task may be kept from the agent.
    pub body: String,
    /// What was odd about the header, in the order of the file.
    pub warnings: Vec<Warning>,
    /// What became of it so far.
    pub ending: Option<Ending>,
}

impl Task {
    /// How many attempts count against the limit: those noted by a release. A file that comes back into the inbox
    /// after it was done or had failed starts afresh.
    pub fn attempts_made(&self) -> u32 {
        match &self.ending {
            Some(ending) if ending.outcome == Outcome::Released => ending.attempt,
            _ => 0,
        }
    }
}

/// Reads a task file. Every text is some task: what cannot be understood is a warning, and keeps it on this machine
/// where it might matter for that.
pub fn parse(text: &str) -> Task {
    let parts = split(text);
    let (head, problems) = header::read(text, parts.opening);
    let body = match head.routing.state {
        HeaderState::Unreadable => Parts::written(text).trim_start_matches('\u{feff}'),
        HeaderState::Sound | HeaderState::DuplicateKey => parts.body,
    };
    Task {
        title: head.title,
        priority: head.priority,
        tags: head.tags,
        routing: head.routing,
        body: body.trim().to_owned(),
        warnings: header::warnings(text, parts.opening, problems),
        ending: parts.read_ending(),
    }
}

/// What [`parse`] would say of the header, from the first bytes of a file; `None` if they do not suffice (or the file ends
/// within an open header): read all of it and parse. More than [`MAX_HEADER_BYTES`] and one line always suffice.
pub fn head(bytes: &[u8]) -> Option<Head> {
    let opening = parts::open(bytes, false);
    if opening == Opening::Undecided {
        return None;
    }
    // Past the header the bytes may be cut within a character. Text that is not UTF-8 is found when the task is read.
    let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    match opening {
        Opening::Closed { close, .. } if valid.len() < close => Some(Head::default()),
        opening => Some(header::read(valid, opening).0),
    }
}

/// The priority that [`parse`] would find, from the first bytes of a file; `None` as with [`head`], which it answers much
/// faster than.
pub fn priority_of(bytes: &[u8]) -> Option<Priority> {
    match parts::open(bytes, false) {
        Opening::Undecided => None,
        Opening::Absent | Opening::Unclosed => Some(Priority::Default),
        Opening::Closed { start, close, .. } => {
            glance::priority(&bytes[start..close]).or_else(|| head(bytes).map(|head| head.priority))
        }
    }
}

#[cfg(test)]
mod tests;
