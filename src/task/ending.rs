//! The one line in which `ccl` notes inside a task file what became of it.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Provider;
use super::parts::Parts;
use crate::money::Cost;

const OPEN: &str = "<!-- ccl ";
const CLOSE: &str = " -->";

/// A reason longer than this many characters is cut when it is written: it may quote a server's whole answer.
const MAX_REASON_CHARS: usize = 2000;

/// What became of a task, or of one attempt at it: the file's last line, `<!-- ccl {json} -->`.
///
/// Fields that are `None` are left out of the JSON; when read, a missing field and `null` are the same, and
/// unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The run that came to this end; nil where the task was filed without one.
    pub run: Uuid,
    /// What became of it.
    pub outcome: Outcome,
    /// Attempts made so far, this one included: from 1; 0 where none has counted.
    pub attempt: u32,
    /// Who worked on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The model that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The tmux session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The agent's own name for its session, by which it can be resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
    /// The job at secutools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// What it cost, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// When the agent was launched or the job submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the end was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it ended like this, for a person; written up to 2,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The work is done.
    Done,
    /// Given up.
    Failed,
    /// The attempt is over, the task waits for the next one.
    Released,
}

impl Ending {
    /// An end of which no more is known.
    pub fn new(run: Uuid, outcome: Outcome, attempt: u32) -> Self {
        Self {
            run,
            outcome,
            attempt,
            provider: None,
            model: None,
            session: None,
            agent_session: None,
            job_id: None,
            cost: None,
            started_at: None,
            ended_at: None,
            reason: None,
        }
    }

    /// The end of a task that nobody worked on: filed as failed at `at`, for `reason`.
    pub fn unworked(at: Timestamp, reason: String) -> Self {
        Self {
            ended_at: Some(at),
            reason: Some(reason),
            ..Self::new(Uuid::nil(), Outcome::Failed, 0)
        }
    }

    /// The line, without a newline. Whatever the texts contain, it is one line and one HTML comment:
    /// `<`, `>` and control characters are escaped inside the JSON.
    pub fn render(&self) -> String {
        let mut short = self.clone();
        if let Some(reason) = &mut short.reason
            && let Some((end, _)) = reason.char_indices().nth(MAX_REASON_CHARS)
        {
            reason.truncate(end);
            reason.push('…');
        }
        #[expect(clippy::expect_used, reason = "no map with odd keys, no failing Serialize inside")]
        let json = serde_json::to_string(&short).expect("an ending is always JSON");
        let mut line = String::with_capacity(json.len() + OPEN.len() + CLOSE.len());
        line.push_str(OPEN);
        for c in json.chars() {
            // In JSON these stand only inside of strings. All of them have four hexadecimal digits.
            if c.is_control() || matches!(c, '<' | '>' | '\u{2028}' | '\u{2029}') {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            } else {
                line.push(c);
            }
        }
        line.push_str(CLOSE);
        line
    }

    /// Reads such a line; anything else is `None`.
    pub fn parse(line: &str) -> Option<Self> {
        let json = line.trim_end().strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
        serde_json::from_str(json).ok()
    }
}

/// Where the ending of a file begins: at the one newline above its ending line, or at the file's end.
///
/// That newline always belongs to the ending: [`with_ending`] puts it there, so that the body comes back as it was,
/// whether or not it ended with a newline of its own.
pub(super) fn start(text: &str) -> usize {
    let end = text.trim_end_matches(['\r', '\n']).len();
    let line = text[..end].rfind('\n').map_or(0, |newline| newline + 1);
    if Ending::parse(&text[line..end]).is_some() { line.saturating_sub(1) } else { text.len() }
}

/// The file with this ending instead of any older one.
///
/// Without a result and a footer nothing else changes: header and body stay as they are through any number of
/// releases. With them, a section `## Result` and a line for people to read stand above the ending line.
pub fn with_ending(
    text: &str,
    ending: &Ending,
    result: Option<&str>,
    footer: Option<&str>,
) -> String {
    let mut file = Parts::written(text).to_owned();
    if let Some(result) = result {
        add_paragraph(&mut file, "## Result");
        add_paragraph(&mut file, result.trim_end());
    }
    if let Some(footer) = footer {
        add_paragraph(&mut file, footer);
    }
    file.push('\n');
    file.push_str(&ending.render());
    file.push('\n');
    file
}

/// Adds a paragraph and its newline, a blank line above it.
fn add_paragraph(file: &mut String, paragraph: &str) {
    if !file.is_empty() && !file.ends_with('\n') {
        file.push('\n');
    }
    if !file.is_empty() {
        file.push('\n');
    }
    file.push_str(paragraph);
    file.push('\n');
}
