//! What an agent is doing, from all that can be observed of it. Pure.
//!
//! Evidence counts in this order: transcript, registry, screen. What is missing
//! is skipped; unknown is never taken for idle, and idle never for done.

use std::time::Duration;

use jiff::Timestamp;

use super::limits;
use super::screen::{Dialog, Screen};
use super::transcript::{ApiError, Summary, Turn};
use super::{Doing, Failure, Report};

/// An agent that has been idle this long has really ended its turn.
const SETTLED: Duration = Duration::from_secs(10);

/// Of a longer answer only this many characters are filed.
const MAX_ANSWER: usize = 20_000;

/// What can be seen of Claude Code at work on a task.
#[derive(Debug, Clone)]
pub struct Observations<'a> {
    /// Its process lives where it was started.
    pub alive: bool,
    /// The registry's word: `idle`, `busy`, `waiting` (for a person), `shell` (a
    /// command runs in the background); `None` where it has none (2.1.100).
    pub status: Option<&'a str>,
    /// How long nothing has changed in registry and transcript.
    pub quiet: Duration,
    /// What the transcript says; `None` without one.
    pub summary: Option<&'a Summary>,
    /// What the screen shows; `None` without one.
    pub screen: Option<Screen>,
    /// A hook, or a person, says that it is idle.
    pub idle_hint: bool,
    /// The last `Stop` hook named work that goes on in the background.
    pub background: bool,
    /// The pass' time.
    pub now: Timestamp,
}

/// What the agent is doing.
pub fn judge(seen: &Observations<'_>) -> Doing {
    let summary = seen.summary.cloned().unwrap_or_default();
    if seen.alive { while_it_lives(seen, &summary) } else { after_its_end(seen, &summary) }
}

fn while_it_lives(seen: &Observations<'_>, summary: &Summary) -> Doing {
    match seen.screen {
        Some(Screen::Dialog(Dialog::Limit)) => return at_the_limit(seen, summary),
        // What stands below a composer can look like a menu: one that waits for its limit to be reset says `Esc to
        // cancel`. With a menu the registry says `waiting`.
        Some(Screen::Dialog(Dialog::Menu)) if seen.status == Some("idle") => {}
        Some(Screen::Dialog(dialog)) => return Doing::NeedsPerson(dialog.advice().to_owned()),
        _ if seen.status == Some("waiting") => {
            return Doing::NeedsPerson(Dialog::Menu.advice().to_owned());
        }
        _ => {}
    }
    if !is_idle(seen) {
        return Doing::Working;
    }
    match &summary.turn {
        Turn::Ended if seen.background => Doing::Working,
        // Where the registry has a status, it has a word of its own for this.
        Turn::Ended if seen.status.is_none() && !summary.background.is_empty() => Doing::Working,
        Turn::Ended => Doing::Finished(Report {
            only_while_it_lives: !summary.background.is_empty(),
            ..report(summary)
        }),
        Turn::Error(error) => Doing::Failed(limits::failure(error, seen.now)),
        Turn::StoppedByPerson => Doing::NeedsPerson(
            "a person stopped the agent: attach to its session and let it go on, or end it"
                .to_owned(),
        ),
        // Registry and hook are some milliseconds ahead of the transcript: an open turn is a
        // finding only once all has been quiet.
        Turn::Open | Turn::None if seen.quiet >= SETTLED && seen.status == Some("idle") => {
            Doing::NeedsPerson(
                "the agent is idle, but nothing shows that its turn ended: attach to its session and look"
                    .to_owned(),
            )
        }
        Turn::Open | Turn::None => Doing::Working,
    }
}

fn after_its_end(seen: &Observations<'_>, summary: &Summary) -> Doing {
    let interrupted = |reason: &str| Doing::Interrupted(reason.to_owned());
    match &summary.turn {
        Turn::Ended if !summary.background.is_empty() => {
            interrupted("the agent ended while work of its ran in the background")
        }
        Turn::Ended => Doing::Finished(report(summary)),
        Turn::Error(error) => Doing::Failed(limits::failure(error, seen.now)),
        Turn::Open | Turn::None | Turn::StoppedByPerson => {
            interrupted("the agent ended in the middle of its turn")
        }
    }
}

/// The menu that is shown at the account's limit; the transcript may say more.
fn at_the_limit(seen: &Observations<'_>, summary: &Summary) -> Doing {
    let shown = ApiError {
        kind: Some("rate_limit".to_owned()),
        text: Dialog::Limit.advice().to_owned(),
        resets_at: None,
    };
    let error = match &summary.turn {
        Turn::Error(error) => error,
        _ => &shown,
    };
    Doing::Failed(limits::failure(error, seen.now))
}

fn is_idle(seen: &Observations<'_>) -> bool {
    let shows_idle = match (seen.status, seen.screen) {
        (Some(status), _) => status == "idle",
        (None, Some(Screen::Composer { busy })) => !busy,
        (None, _) => seen.idle_hint,
    };
    shows_idle && (seen.idle_hint || seen.quiet >= SETTLED)
}

fn report(summary: &Summary) -> Report {
    Report {
        answer: summary.answer.as_deref().map(shortened),
        tokens: summary.tokens,
        model: summary.model.clone(),
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

impl Failure {
    /// A failure of the task's own attempt.
    pub fn of_task(reason: String) -> Self {
        Self { reason, counts: true, until: None, needs_person: false }
    }

    /// A failure of this machine's set-up, which stands in the way of every task
    /// until a person mends it. DESIGN section 6 counts a dialog as an attempt;
    /// but then a theme dialog after an upgrade, or a PATH without `claude`,
    /// would file good tasks as failed.
    pub fn of_machine(reason: String) -> Self {
        Self { counts: false, needs_person: true, ..Self::of_task(reason) }
    }

    /// A dialog in place of the composer, right after the start.
    pub fn of_dialog(dialog: Dialog) -> Self {
        Self {
            counts: dialog.is_of_task(),
            needs_person: dialog.needs_attention(),
            ..Self::of_task(dialog.advice().to_owned())
        }
    }

    /// Whether it is one of [`Self::of_machine`].
    pub fn is_of_machine(&self) -> bool {
        !self.counts && self.needs_person
    }
}

#[cfg(test)]
mod tests;
