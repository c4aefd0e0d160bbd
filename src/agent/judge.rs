//! What an agent is doing, from the signs of it. Pure.
//!
//! Evidence counts in this order: transcript, registry, screen. What is missing
//! is skipped; unknown is never taken for idle, and idle never for done.

use std::time::Duration;

use jiff::Timestamp;

use super::limits;
use super::screen::{Dialog, Screen};
use super::transcript::{Summary, Turn};
use super::{Doing, Failure, Report};

/// An agent that has been idle this long has really ended its turn.
const SETTLED: Duration = Duration::from_secs(10);

/// What can be seen of Claude Code at work on a task.
#[derive(Debug, Clone)]
pub struct Signs<'a> {
    /// Its process is in the foreground of the session.
    pub in_front: bool,
    /// The registry's word: `idle`, `busy`, `waiting` (for a person), `shell` (a
    /// command runs in the background); `None` in versions without one.
    pub status: Option<&'a str>,
    /// How long nothing has changed in registry and transcript.
    pub quiet: Duration,
    /// What the transcript says; `None` without one.
    pub summary: Option<&'a Summary>,
    /// What the screen shows; `None` without one.
    pub screen: Option<&'a Screen>,
    /// The text of that screen.
    pub capture: &'a str,
    /// Somebody who watches the session says that it is idle.
    pub told_idle: bool,
    /// The last `Stop` hook named work that goes on in the background.
    pub background: bool,
    /// The pass' time.
    pub now: Timestamp,
}

/// What the agent is doing.
pub fn judge(signs: &Signs<'_>) -> Doing {
    if signs.in_front
        && let Some(Screen::Dialog(dialog)) = signs.screen
    {
        return waits_at(*dialog, signs);
    }
    if signs.in_front && signs.status == Some("waiting") {
        return Doing::NeedsPerson(Dialog::Menu.advice().to_owned());
    }
    let summary = signs.summary.cloned().unwrap_or_default();
    if signs.in_front && !is_idle(signs) {
        return Doing::Working;
    }
    match &summary.turn {
        Turn::Ended if signs.in_front && (signs.background || summary.background > 0) => {
            Doing::Working
        }
        Turn::Ended => Doing::Finished(report(&summary)),
        Turn::Error { kind, text } => Doing::Failed(limits::failure(
            kind.as_deref(),
            text,
            signs.capture,
            signs.now,
        )),
        Turn::StoppedByPerson if signs.in_front => Doing::NeedsPerson(
            "a person stopped the agent: attach to its session and let it go on, or end it"
                .to_owned(),
        ),
        Turn::Open | Turn::None if signs.in_front => {
            if signs.quiet >= SETTLED && signs.status == Some("idle") {
                Doing::NeedsPerson(
                    "the agent is idle, but nothing shows that its turn ended: attach to its session and look"
                        .to_owned(),
                )
            } else {
                Doing::Working
            }
        }
        Turn::Open | Turn::None | Turn::StoppedByPerson => {
            Doing::Interrupted("the agent ended in the middle of its turn".to_owned())
        }
    }
}

fn is_idle(signs: &Signs<'_>) -> bool {
    // Versions without a registry write the words before a tool's call as if they ended the turn.
    let composer = match signs.screen {
        Some(Screen::Composer(composer)) => Some(!composer.busy),
        _ => None,
    };
    let shows_idle = match signs.status {
        Some(status) => status == "idle",
        None => composer.unwrap_or(signs.told_idle),
    };
    shows_idle && (signs.told_idle || signs.quiet >= SETTLED)
}

fn waits_at(dialog: Dialog, signs: &Signs<'_>) -> Doing {
    if dialog == Dialog::Limit {
        return Doing::Failed(limits::failure(
            Some("rate_limit"),
            dialog.advice(),
            signs.capture,
            signs.now,
        ));
    }
    Doing::NeedsPerson(dialog.advice().to_owned())
}

fn report(summary: &Summary) -> Report {
    Report {
        answer: summary.answer.clone(),
        tokens: summary.tokens,
        model: summary.model.clone(),
    }
}

impl Failure {
    /// A failure of the task's own attempt.
    pub fn of_task(reason: String) -> Self {
        Self {
            reason,
            of_account: false,
            until: None,
            needs_person: false,
        }
    }
}
