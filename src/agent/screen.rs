//! What Claude Code's screen shows, from a capture of its pane. Pure.
//!
//! A screen is only ever evidence of what is recognised on it: what is not
//! recognised never counts as idle or done.

use std::path::Path;

use crate::next_step::{AttemptFailure, HoldCause};

/// A screen that waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialog {
    Trust,
    Bypass,
    ApiKey,
    Login,
    /// First start: which colours.
    Theme,
    /// The account's limit is reached.
    Limit,
    ResumePicker,
    /// Some other menu, a question or a permission prompt.
    Menu,
}

impl Dialog {
    /// The failed attempt of a task that met the screen in place of its first turn; `key_file` is that of its agent.
    pub(crate) fn failure(self, key_file: Option<&Path>) -> AttemptFailure {
        AttemptFailure {
            counts: self.is_of_task(),
            needs_attention: self.needs_attention(),
            // The account's limit, or a missing login, is met in every session.
            hold: match self {
                Self::Limit => Some(HoldCause::Limit),
                Self::Login => Some(HoldCause::Account),
                _ => None,
            },
            ..AttemptFailure::of_task(self.advice_for(key_file))
        }
    }

    /// What a person can do about it. An agent that has its key from `key_file` needs no login.
    pub(crate) fn advice_for(self, key_file: Option<&Path>) -> String {
        match (self, key_file) {
            (Self::Login, Some(file)) => {
                format!(
                    "the API does not take the key in {}: put a valid one there",
                    file.display()
                )
            }
            _ => self.advice().to_owned(),
        }
    }

    /// What the screen waits for and how a person mends it.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Trust => {
                "Claude Code asks whether it may trust the project: run `claude` once there and accept"
            }
            Self::Bypass => {
                "Claude Code asks whether it may bypass permissions: run `claude --dangerously-skip-permissions` once and accept"
            }
            Self::ApiKey => {
                "Claude Code asks whether it may use the API key of its environment: run `claude` once and answer"
            }
            Self::Login => "Claude Code has no valid login: run `claude` and log in with `/login`",
            Self::Theme => {
                "Claude Code has never been set up: run `claude` once and go through its first screens"
            }
            Self::Limit => "Claude Code says that the account's limit is reached",
            Self::ResumePicker => "Claude Code asks which conversation to resume",
            Self::Menu => "the agent asks a question: attach to its session and answer",
        }
    }

    /// Whether it comes from the task or its project, so that another task might
    /// not meet it. An unprepared Claude Code shows the others to every task.
    pub(crate) fn is_of_task(self) -> bool {
        matches!(self, Self::Trust | Self::ResumePicker | Self::Menu)
    }

    /// Whether it goes on only after a person has acted.
    pub(crate) fn needs_attention(self) -> bool {
        self != Self::Limit
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// The input box; `busy`: a turn is under way above it.
    Composer {
        busy: bool,
    },
    Dialog(Dialog),
    Unknown,
}

/// Phrases that stand on one kind of screen only, most specific first.
const PHRASES: &[(&str, Dialog)] = &[
    ("Quick safety check: Is this a project you", Dialog::Trust),
    ("WARNING: Claude Code running in Bypass Permissions mode", Dialog::Bypass),
    ("Detected a custom API key", Dialog::ApiKey),
    ("Select login method", Dialog::Login),
    ("Please run /login", Dialog::Login),
    ("Choose the text style that looks best", Dialog::Theme),
    ("Resume session", Dialog::ResumePicker),
];

/// What the last line of every menu of Claude Code says.
const MENU_ENDS: &[&str] = &["Enter to confirm", "Enter to select", "Esc to cancel"];

/// Recognises a screen. A menu counts before a composer: both draw `❯`.
pub fn recognise(capture: &str) -> Screen {
    let rows: Vec<&str> = capture.lines().map(str::trim_end).collect();
    let composer = composer_row(&rows);
    // What stands above a composer is what was said before, not a dialog.
    let below = &rows[composer.map_or(0, |row| row + 1)..];
    if let Some(dialog) = dialog(below) {
        return Screen::Dialog(dialog);
    }
    match composer {
        Some(_) => Screen::Composer { busy: contains(&rows, "esc to interrupt") },
        None => Screen::Unknown,
    }
}

fn dialog(rows: &[&str]) -> Option<Dialog> {
    let phrase = PHRASES.iter().find(|(phrase, _)| contains(rows, phrase));
    let is_menu = || MENU_ENDS.iter().any(|end| contains(rows, end));
    match phrase {
        Some((_, dialog)) => Some(*dialog),
        None if !is_menu() => None,
        None if contains(rows, "What do you want to do?") => Some(Dialog::Limit),
        None => Some(Dialog::Menu),
    }
}

fn contains(rows: &[&str], text: &str) -> bool {
    rows.iter().any(|row| row.contains(text))
}

/// The row of a composer's prompt sign: the last one that stands right below a rule, with another
/// rule further down.
fn composer_row(rows: &[&str]) -> Option<usize> {
    (1..rows.len()).rev().find(|&row| {
        is_rule(rows[row - 1])
            && is_prompt(rows[row])
            && rows[row + 1..].iter().any(|below| is_rule(below))
    })
}

/// A horizontal line, with or without a title in it.
fn is_rule(row: &str) -> bool {
    row.trim_start().starts_with('─') && row.chars().filter(|c| *c == '─').count() >= 10
}

fn is_prompt(row: &str) -> bool {
    let rest = row.trim_start().strip_prefix('❯');
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\u{a0}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Screen {
        let path =
            format!("{}/tests/support/fixtures/screens/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        recognise(&std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn what_no_task_can_cause_counts_as_no_attempt() {
        use Dialog::{ApiKey, Bypass, Limit, Login, Menu, ResumePicker, Theme, Trust};
        for (dialog, counts) in [
            (Trust, true),
            (ResumePicker, true),
            (Menu, true),
            (Bypass, false),
            (ApiKey, false),
            (Theme, false),
            (Login, false),
            (Limit, false),
        ] {
            assert_eq!(dialog.is_of_task(), counts, "{dialog:?}");
        }
    }

    #[test]
    fn no_dialog_of_the_real_one_is_taken_for_a_composer() {
        let cases = [
            ("trust", Dialog::Trust),
            ("bypass", Dialog::Bypass),
            ("api-key", Dialog::ApiKey),
            ("login", Dialog::Login),
            ("theme", Dialog::Theme),
            ("limit", Dialog::Limit),
            ("resume-picker", Dialog::ResumePicker),
            ("permission", Dialog::Menu),
            ("question", Dialog::Menu),
            // A composer, with the wait for the limit's reset below it.
            ("limit-waiting", Dialog::Menu),
            ("2.1.100-trust", Dialog::Trust),
            ("2.1.100-bypass", Dialog::Bypass),
            ("2.1.100-limit", Dialog::Limit),
            ("2.1.100-question", Dialog::Menu),
        ];
        for (name, dialog) in cases {
            assert_eq!(fixture(name), Screen::Dialog(dialog), "{name}");
        }
    }

    #[test]
    fn a_composer_is_recognised_and_whether_a_turn_is_under_way() {
        let cases = [
            ("composer-empty", false),
            ("composer-after-turn", false),
            ("busy-tool", true),
            ("busy-thinking", true),
            ("background-task", false),
            ("error-rate-limit", false),
            ("error-authentication", false),
            ("2.1.100-composer-after-turn", false),
            ("2.1.100-busy-tool", true),
            ("2.1.100-background-task", false),
        ];
        for (name, busy) in cases {
            assert_eq!(fixture(name), Screen::Composer { busy }, "{name}");
        }
    }

    #[test]
    fn anything_else_is_unknown() {
        for name in ["resume-unknown", "session-in-use", "first-start-offline"] {
            assert_eq!(fixture(name), Screen::Unknown, "{name}");
        }
        assert_eq!(recognise("❯ No, exit\n  Yes"), Screen::Unknown);
        assert_eq!(recognise(""), Screen::Unknown);
    }
}
