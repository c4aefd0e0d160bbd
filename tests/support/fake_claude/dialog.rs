//! The screens that wait for an answer, worded as Claude Code 2.1.332 words them.

use crate::script::Screen;

/// What choosing an option does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The agent goes on.
    Continue,
    /// It exits with status 1.
    Exit,
    /// Nothing happens.
    Stay,
}

/// A screen with options of which one is marked.
pub struct Dialog {
    screen: Screen,
    text: String,
    options: Vec<(&'static str, Choice)>,
    footer: &'static str,
    selected: usize,
}

impl Dialog {
    /// As it looks when it comes up in `cwd`.
    pub fn new(screen: Screen, cwd: &str) -> Self {
        use Choice::{Continue, Exit, Stay};
        const CONFIRM: &str = " Enter to confirm · Esc to cancel";
        let safety = format!(
            " Accessing workspace:\n\n {cwd}\n\n Quick safety check: Is this a project you created \
             or one you trust? (Like your own code, a well-known open source project, or work from \
             your team). If not, take a moment to review what's in this folder first.\n\n Claude \
             Code'll be able to read, edit, and execute files here.\n\n Security guide\n"
        );
        let (no, yes) = (("No, exit", Exit), ("Yes, I trust this folder", Continue));
        let (text, options, footer) = match screen {
            Screen::Trust => (safety, vec![no, yes], CONFIRM),
            Screen::TrustYesFirst => (safety, vec![yes, no], CONFIRM),
            Screen::Bypass => (
                "  WARNING: Claude Code running in Bypass Permissions mode\n\n  In Bypass Permissions \
                 mode, Claude Code will not ask for your approval before running potentially \
                 dangerous commands.\n"
                    .to_owned(),
                vec![no, ("Yes, I accept", Continue)],
                CONFIRM,
            ),
            Screen::ApiKey => (
                "  Detected a custom API key in your environment\n\n  ANTHROPIC_API_KEY: \
                 sk-ant-...ts-of-ccl-0000000000\n\n  Do you want to use this API key?\n"
                    .to_owned(),
                vec![("Yes", Continue), ("No (recommended)", Continue)],
                CONFIRM,
            ),
            Screen::Login => (
                "  Login\n\n  Claude Code can be used with your Claude subscription or billed based on \
                 API usage through your Console account.\n\n  Select login method:\n"
                    .to_owned(),
                vec![
                    ("1. Claude account with subscription · Individual, Team, or Enterprise", Stay),
                    ("2. Anthropic Console account · API usage billing", Stay),
                ],
                "  Esc to cancel",
            ),
            Screen::Theme => (
                " Let's get started.\n\n Choose the text style that looks best with your terminal\n"
                    .to_owned(),
                vec![("1. Dark mode ✔", Continue), ("2. Light mode", Continue)],
                "",
            ),
            Screen::Limit => (
                " What do you want to do?\n".to_owned(),
                vec![
                    ("1. Stop and wait for limit to reset", Continue),
                    ("2. Upgrade your plan", Stay),
                ],
                CONFIRM,
            ),
            Screen::ResumePicker => (
                "  Resume session\n\n    work\n".to_owned(),
                vec![("Fix the login redirect", Continue), ("Another task", Continue)],
                "  Type to search · Enter to resume · Esc to close",
            ),
            Screen::Question => (
                " ☐ Choice\n\nWhich way shall I go?\n".to_owned(),
                vec![("1. Left", Continue), ("2. Right", Continue)],
                "Enter to select · ↑/↓ to navigate · Esc to cancel",
            ),
            Screen::Permission => (
                " Bash command\n\n touch /etc/foo\n\n Do you want to proceed?\n".to_owned(),
                vec![("1. Yes", Continue), ("2. No", Continue)],
                " Esc to cancel · Tab to amend",
            ),
        };
        let selected = usize::from(screen == Screen::ApiKey);
        Self { screen, text, options, footer, selected }
    }

    /// What is printed when the user chose to exit.
    pub fn farewell(&self) -> &'static str {
        if self.is_about_trust() {
            "Claude Code didn't start because this folder isn't trusted.\n\
             Run claude again and choose Yes, or run it in another folder.\n"
        } else {
            ""
        }
    }

    /// Whether it asks to trust the directory.
    pub fn is_about_trust(&self) -> bool {
        matches!(self.screen, Screen::Trust | Screen::TrustYesFirst)
    }

    /// What the registry says while it waits.
    pub fn waiting_for(&self) -> &'static str {
        match self.screen {
            Screen::Permission => "permission prompt",
            _ => "input needed",
        }
    }

    /// The lines as drawn.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.text.lines().map(str::to_owned).collect();
        lines.push(String::new());
        for (i, (option, _)) in self.options.iter().enumerate() {
            let mark = if i == self.selected { "❯" } else { " " };
            lines.push(format!(" {mark} {option}"));
        }
        lines.extend([String::new(), self.footer.to_owned()]);
        lines
    }

    /// Marks the next option.
    pub fn step_down(&mut self) {
        self.selected = (self.selected + 1).min(self.options.len() - 1);
    }

    /// What Enter does now.
    pub fn enter(&self) -> Choice {
        self.options[self.selected].1
    }
}
