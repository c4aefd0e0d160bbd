//! What an agent is doing, from all that can be observed of it. Pure.
//!
//! Evidence counts in this order: transcript, registry, screen. What is missing
//! is skipped; unknown is never taken for idle, and idle never for done.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::limits;
use super::screen::{Dialog, Screen};
use super::transcript::{ApiError, RunSummary, Turn};
use crate::next_step::{AgentReport, AgentState};

/// An agent that has been idle this long has really ended its turn.
const SETTLED: Duration = Duration::from_secs(10);

/// Of a longer answer only this many characters are filed.
const MAX_ANSWER: usize = 20_000;

/// What can be seen of Claude Code while it has a task.
#[derive(Debug, Clone)]
pub struct Observations<'a> {
    /// Its process lives where it was started.
    pub alive: bool,
    /// The registry's word: `idle`, `busy`, `waiting` (for a person), `shell` (a
    /// command runs in the background); `None` where it has none (2.1.100).
    pub status: Option<&'a str>,
    /// How long nothing has changed in registry and transcript.
    pub quiet: Duration,
    /// `None` without a transcript.
    pub summary: Option<&'a RunSummary>,
    pub screen: Option<Screen>,
    /// A hook, or a person, says that it is idle.
    pub idle_hint: bool,
    /// The last `Stop` hook named work that goes on in the background.
    pub background: bool,
    /// The file with its key, where it has no login.
    pub key_file: Option<&'a Path>,
    pub now: Timestamp,
}

pub fn judge(seen: &Observations<'_>) -> AgentState {
    let summary = seen.summary.cloned().unwrap_or_default();
    if seen.alive { while_it_lives(seen, &summary) } else { after_its_end(seen, &summary) }
}

fn while_it_lives(seen: &Observations<'_>, summary: &RunSummary) -> AgentState {
    match seen.screen {
        Some(Screen::Dialog(Dialog::Limit)) => return at_the_limit(seen, summary),
        // What stands below a composer can look like a menu: one that waits for its limit to be reset says `Esc to
        // cancel`. With a menu the registry says `waiting`.
        Some(Screen::Dialog(Dialog::Menu)) if seen.status == Some("idle") => {}
        Some(Screen::Dialog(dialog)) => {
            return AgentState::NeedsAttention(dialog.advice_for(seen.key_file));
        }
        _ if seen.status == Some("waiting") => {
            return AgentState::NeedsAttention(Dialog::Menu.advice().to_owned());
        }
        _ => {}
    }
    if !is_idle(seen) {
        return AgentState::Working;
    }
    match &summary.turn {
        Turn::Ended if seen.background => AgentState::Working,
        // A registry that has a status has a word of its own for work in the background, `shell`.
        Turn::Ended if seen.status.is_none() && !summary.background.is_empty() => AgentState::Working,
        Turn::Ended => AgentState::Finished(AgentReport {
            only_while_it_lives: !summary.background.is_empty(),
            ..report(summary)
        }),
        Turn::Error(error) => AgentState::Failed(limits::failure(error, seen.key_file, seen.now)),
        Turn::StoppedByPerson => AgentState::NeedsAttention(
            "a person stopped the agent: attach to its session and let it go on, or end it"
                .to_owned(),
        ),
        // Registry and hook are some milliseconds ahead of the transcript: an open turn is a
        // finding only once all has been quiet.
        Turn::Open | Turn::None if seen.quiet >= SETTLED && seen.status == Some("idle") => {
            AgentState::NeedsAttention(
                "the agent is idle, but nothing shows that its turn ended: attach to its session and look"
                    .to_owned(),
            )
        }
        Turn::Open | Turn::None => AgentState::Working,
    }
}

fn after_its_end(seen: &Observations<'_>, summary: &RunSummary) -> AgentState {
    let interrupted = |reason: &str| AgentState::Interrupted(reason.to_owned());
    match &summary.turn {
        Turn::Ended if !summary.background.is_empty() => {
            interrupted("the agent ended while its background work was still running")
        }
        Turn::Ended => AgentState::Finished(report(summary)),
        Turn::Error(error) => AgentState::Failed(limits::failure(error, seen.key_file, seen.now)),
        Turn::Open | Turn::None | Turn::StoppedByPerson => {
            interrupted("the agent ended in the middle of its turn")
        }
    }
}

/// Judges the menu that is shown at the account's limit. Only the transcript says when the limit is reset, and it may
/// do so a moment later.
fn at_the_limit(seen: &Observations<'_>, summary: &RunSummary) -> AgentState {
    let shown = ApiError {
        kind: Some("rate_limit".to_owned()),
        text: Dialog::Limit.advice().to_owned(),
        resets_at: None,
        limit_type: None,
    };
    let error = match &summary.turn {
        Turn::Error(error) => error,
        _ if seen.summary.is_some() && seen.quiet < SETTLED => return AgentState::Working,
        _ => &shown,
    };
    AgentState::Failed(limits::failure(error, seen.key_file, seen.now))
}

fn is_idle(seen: &Observations<'_>) -> bool {
    let shows_idle = match (seen.status, seen.screen) {
        (Some(status), _) => status == "idle",
        (None, Some(Screen::Composer { busy })) => !busy,
        // Neither registry nor screen shows it: only a hook or a person can say so.
        (None, _) => seen.idle_hint,
    };
    shows_idle && (seen.idle_hint || seen.quiet >= SETTLED)
}

pub(crate) fn report(summary: &RunSummary) -> AgentReport {
    AgentReport {
        answer: summary.answer.as_deref().map(shortened),
        tokens: summary.tokens,
        model: summary.model.clone(),
        refused: summary.refused,
        only_while_it_lives: false,
    }
}

fn shortened(answer: &str) -> String {
    match answer.char_indices().nth(MAX_ANSWER) {
        Some((end, _)) => format!(
            "{}…\n\n(The answer goes on; the whole of it stands in the conversation.)",
            &answer[..end]
        ),
        None => answer.to_owned(),
    }
}

#[cfg(test)]
mod tests;
