//! The task file: its header, its body, its ending line. Pure.
//!
//! [`text_of`] says whether the bytes of a file can be a task at all. [`parse`] reads every text, good or bad; what was
//! wrong is in [`Task::warnings`]. [`turn_of`] and [`head`] need only the first bytes of a file, for passes over many.

mod compose;
mod ending;
mod fast_turn;
mod header;
mod order;
mod parts;
mod recurrence;
mod rules;
mod words;
mod yaml;

pub(crate) use compose::without_fields;
pub use compose::{as_written, with_ending, with_fields};
pub use ending::{
    BranchEnding, CheckEnding, CheckoutEnding, Ending, GitEnding, Outcome, Summary, Timeout,
};
pub use header::{Field, Header, HeaderState, Pin, Routing, Warning};
pub use order::{Moment, Order, TaskTurn};
pub(crate) use order::{StartFrom, start_from};
use parts::{Opening, without_ending};
pub use parts::{Parts, split};
pub(crate) use recurrence::{RECURRING_FIELDS, Recurrence, Schedule, recurrence};
pub(crate) use rules::ProjectRules;
pub use rules::{Check, HeaderRules, Isolation, Land, TaskRules, TimeLimit};
pub use words::{Complexity, Preference, Priority, Provider, UnknownWord};

use crate::money::Cost;

/// A larger file, not counting its ending line, is no task.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// The most that the ending line may add to a file: no more than [`MAX_BYTES`] and this has to be read of one.
pub(crate) const MAX_ENDING_BYTES: usize = 64 * 1024;

/// This many bytes of a file show whether it is too large to be a task.
pub(crate) const MAX_READ: u64 = (MAX_BYTES + MAX_ENDING_BYTES) as u64 + 1;

/// A header that is not closed within this many bytes is not read as one. This bounds what YAML can cost.
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

/// The text of a task file; a file with a header alone has text. Of a file that may be too large, the first
/// [`MAX_READ`] bytes suffice.
pub fn text_of(bytes: &[u8]) -> Result<&str, Unfit> {
    if bytes.len() > MAX_BYTES + MAX_ENDING_BYTES {
        return Err(Unfit::TooLarge);
    }
    // Of a NUL and a byte that is not UTF-8 the first is reported.
    let nul = bytes.iter().position(|&b| b == 0);
    let text = std::str::from_utf8(&bytes[..nul.unwrap_or(bytes.len())])
        .map_err(|error| Unfit::NotText { offset: error.valid_up_to() })?;
    if let Some(offset) = nul {
        return Err(Unfit::NotText { offset });
    }
    let written = without_ending(text);
    if written.len() > MAX_BYTES {
        Err(Unfit::TooLarge)
    } else if written.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}').is_empty() {
        Err(Unfit::Empty)
    } else {
        Ok(text)
    }
}

/// A task file that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub header: Header,
    /// What to do: the body without blank lines around it, and without the ending line. Where the header does not parse
    /// this is all that the author wrote, header included: it may be Markdown between two thematic breaks, and nothing
    /// of a task may be kept from the agent.
    pub body: String,
    /// What was wrong with the header, in the order of the file.
    pub warnings: Vec<Warning>,
    pub ending: Option<Ending>,
}

impl Task {
    /// How many attempts count against the limit: those noted by a release. A file that comes back into the inbox
    /// after it was done or had failed starts afresh.
    pub(crate) fn attempts_made(&self) -> u32 {
        match &self.ending {
            Some(ending) if ending.outcome == Outcome::Released => ending.attempt,
            _ => 0,
        }
    }

    /// What the attempts at it have cost; a file that comes back after it was done starts afresh.
    pub(crate) fn cost(&self) -> Vec<Cost> {
        let unfinished = self.ending.as_ref().filter(|it| it.outcome != Outcome::Done);
        unfinished.map_or_else(Vec::new, |ending| ending.cost_of_task.clone())
    }

    /// Why an agent of it was ended before its turn was over. A file that comes back after it was done or had failed
    /// starts afresh.
    pub(crate) fn timeout(&self) -> Option<Timeout> {
        let released = self.ending.as_ref().filter(|it| it.outcome == Outcome::Released);
        released.and_then(|ending| ending.timeout)
    }
}

/// Reads a task file. Every text is some task: what cannot be understood becomes a warning. Where it could have sent
/// the task elsewhere, the task stays on this machine.
pub fn parse(text: &str) -> Task {
    let parts = split(text);
    let (header, problems) = header::read(text, parts.opening);
    let body = match header.routing.state {
        HeaderState::Unreadable => without_ending(text).trim_start_matches('\u{feff}'),
        HeaderState::Sound | HeaderState::DuplicateKey => parts.body,
    };
    Task {
        header,
        body: body.trim().to_owned(),
        warnings: header::warnings(text, parts.opening, problems),
        ending: parts.read_ending(),
    }
}

/// The header that [`parse`] would find, from the first bytes of a file. `None` if they do not suffice, or if the file
/// ends within an open header: then read all of it and parse. [`MAX_HEADER_BYTES`] and the rest of a line always
/// suffice.
pub fn head(bytes: &[u8]) -> Option<Header> {
    let opening = parts::open(bytes, false);
    if opening == Opening::NeedMoreInput {
        return None;
    }
    // Past the header the bytes may be cut within a character. Text that is not UTF-8 is found when the task is read.
    let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    match opening {
        Opening::Closed { close, .. } if valid.len() < close => Some(Header::default()),
        opening => Some(header::read(valid, opening).0),
    }
}

/// When a task goes, as [`parse`] would find it, from the first bytes of a file. `None` as with [`head`], which is much
/// slower.
pub fn turn_of(bytes: &[u8]) -> Option<TaskTurn> {
    match parts::open(bytes, false) {
        Opening::NeedMoreInput => None,
        // Of a header that is not closed no field counts.
        Opening::Absent | Opening::Unclosed => Some(TaskTurn::default()),
        Opening::Closed { start, close, .. } => {
            fast_turn::read(&bytes[start..close]).or_else(|| head(bytes).map(TaskTurn::from))
        }
    }
}

#[cfg(test)]
mod tests;
