//! What an agent's screen shows, from a capture of its pane. Pure.
//!
//! A screen is only ever evidence of what is recognised on it: what is not
//! recognised is never typed into, and never counts as idle or done.

/// A screen that waits for a person, so that nothing may be typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialog {
    /// Whether the folder is trusted.
    Trust,
    /// Whether permissions may be skipped.
    Bypass,
    /// Whether an API key from the environment may be used.
    ApiKey,
    /// No login.
    Login,
    /// First start: which colours.
    Theme,
    /// The account's limit is reached.
    Limit,
    /// Which conversation to resume.
    ResumePicker,
    /// Some other menu, a question or a permission prompt.
    Menu,
}

impl Dialog {
    /// What the screen waits for and how a person mends it.
    pub fn advice(self) -> &'static str {
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

    /// Whether another task, in another project, might not have met it. An
    /// unprepared Claude Code shows the others to every task.
    pub fn is_of_task(self) -> bool {
        matches!(self, Self::Trust | Self::ResumePicker | Self::Menu)
    }

    /// Whether it goes on only after a person did something.
    pub fn needs_person(self) -> bool {
        self != Self::Limit
    }
}

/// An input box that was positively recognised: text may be pasted into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composer {
    /// What stands in it, without the prompt sign; a placeholder looks the same.
    pub text: String,
    /// A turn is under way above it.
    pub busy: bool,
}

impl Composer {
    /// Whether the pasted `message` provably stands in it: as Claude Code's
    /// placeholder for a long paste, or by the beginning of its first line.
    pub fn shows(&self, message: &str) -> bool {
        const ENOUGH: usize = 12;
        let text: String = self.text.split_whitespace().collect();
        let start: String = message.chars().filter(|c| !c.is_whitespace()).take(ENOUGH).collect();
        self.text.contains("[Pasted text") || text.starts_with(&start)
    }
}

/// What a capture shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Screen {
    /// An input box that takes text.
    Composer(Composer),
    /// A screen that waits for a person.
    Dialog(Dialog),
    /// Anything else.
    Unknown,
}

/// Phrases that stand on one kind of screen only, most specific first.
const PHRASES: &[(&str, Dialog)] = &[
    ("Quick safety check: Is this a project you", Dialog::Trust),
    ("Do you trust the files in this folder?", Dialog::Trust),
    ("WARNING: Claude Code running in Bypass Permissions mode", Dialog::Bypass),
    ("Detected a custom API key", Dialog::ApiKey),
    ("Select login method", Dialog::Login),
    ("Please run /login", Dialog::Login),
    ("Choose the text style that looks best", Dialog::Theme),
    ("Resume session", Dialog::ResumePicker),
    ("Resume Session", Dialog::ResumePicker),
];

/// What the last line of every menu of Claude Code says.
const MENU_ENDS: &[&str] = &["Enter to confirm", "Enter to select", "Esc to cancel"];

/// Recognises a screen. A menu counts before a composer: both draw `❯`.
pub fn recognise(capture: &str) -> Screen {
    let rows: Vec<&str> = capture.lines().map(str::trim_end).collect();
    if let Some(dialog) = dialog(&rows) {
        return Screen::Dialog(dialog);
    }
    composer(&rows).map_or(Screen::Unknown, Screen::Composer)
}

fn dialog(rows: &[&str]) -> Option<Dialog> {
    let composer_row = composer_row(rows);
    // What stands above a composer is what was said before, not a dialog.
    let below = &rows[composer_row.map_or(0, |row| row + 1)..];
    let menu = below.iter().any(|row| MENU_ENDS.iter().any(|end| row.contains(end)));
    let phrase = PHRASES.iter().find(|(phrase, _)| below.iter().any(|row| row.contains(phrase)));
    match phrase {
        Some((_, dialog)) => Some(*dialog),
        None if menu && below.iter().any(|row| row.contains("What do you want to do?")) => {
            Some(Dialog::Limit)
        }
        None if menu => Some(Dialog::Menu),
        None => None,
    }
}

fn composer(rows: &[&str]) -> Option<Composer> {
    let first = composer_row(rows)?;
    let text: Vec<String> = rows[first..]
        .iter()
        .take_while(|row| !is_rule(row))
        .enumerate()
        .map(|(index, row)| match index {
            0 => after_sign(row).unwrap_or_default().trim().to_owned(),
            _ => inside_box(row).trim().to_owned(),
        })
        .collect();
    Some(Composer {
        text: text.join("\n"),
        busy: rows.iter().any(|row| row.contains("esc to interrupt")),
    })
}

/// The row of the prompt sign of a composer: the last one that stands right
/// below a rule, with another rule further down.
fn composer_row(rows: &[&str]) -> Option<usize> {
    (1..rows.len()).rev().find(|&row| {
        is_rule(rows[row - 1])
            && after_sign(rows[row]).is_some()
            && rows[row + 1..].iter().any(|below| is_rule(below))
    })
}

/// A horizontal line, or the upper or lower edge of a box.
fn is_rule(row: &str) -> bool {
    let row = row.trim();
    let dashes = row.chars().filter(|c| *c == '─').count();
    dashes >= 10 && row.starts_with(['─', '╭', '╰'])
}

fn after_sign(row: &str) -> Option<&str> {
    let row = inside_box(row).trim_start();
    let rest = row.strip_prefix('❯').or_else(|| row.strip_prefix('>'))?;
    (rest.is_empty() || rest.starts_with([' ', '\u{a0}'])).then_some(rest)
}

fn inside_box(row: &str) -> &str {
    let row = row.trim();
    row.strip_prefix('│').map_or(row, |row| row.strip_suffix('│').unwrap_or(row))
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
    fn every_dialog_of_the_real_one_is_told_from_a_composer() {
        let cases = [
            ("trust", Dialog::Trust),
            ("bypass", Dialog::Bypass),
            ("api-key", Dialog::ApiKey),
            ("login", Dialog::Login),
            ("resume-picker", Dialog::ResumePicker),
            ("permission", Dialog::Menu),
            ("question", Dialog::Menu),
        ];
        for (name, dialog) in cases {
            assert_eq!(fixture(name), Screen::Dialog(dialog), "{name}");
        }
    }

    #[test]
    fn a_composer_is_recognised_with_what_stands_in_it() {
        let cases = [
            ("composer-empty", "", false),
            ("composer-after-turn", "", false),
            ("composer-pasted", "first line\nsecond line\nthird", false),
            ("composer-pasted-long", "[Pasted text #1 +39 lines]", false),
            ("busy-tool", "", true),
            ("busy-thinking", "", true),
            ("background-task", "", false),
            ("error-rate-limit", "", false),
            ("error-authentication", "Once fixed, resend your message", false),
            ("2.0.30-composer", "Try \"write a test for <filepath>\"", false),
        ];
        for (name, text, busy) in cases {
            let expected = Composer { text: text.to_owned(), busy };
            assert_eq!(fixture(name), Screen::Composer(expected), "{name}");
        }
    }

    #[test]
    fn a_shell_is_nothing_to_type_into() {
        for name in ["resume-unknown", "session-in-use", "first-start-offline"] {
            assert_eq!(fixture(name), Screen::Unknown, "{name}");
        }
        assert_eq!(recognise("❯ No, exit\n  Yes"), Screen::Unknown);
        assert_eq!(recognise(""), Screen::Unknown);
    }
}
