//! What the agent shows.

use super::{Agent, Mode};

impl Agent {
    /// The whole screen.
    pub(super) fn draw(&self) {
        if let Mode::Start(dialog) | Mode::Asking(_, dialog) = &self.mode {
            return self.terminal.draw(&dialog.lines(), &[]);
        }
        let version = self.session.version;
        let mut top = vec![format!(" ▐▛███▛█   Claude Code v{version}"), String::new()];
        let said = self.said.iter().flat_map(|text| text.lines().map(str::to_owned));
        top.extend(said);
        let idle = matches!(self.mode, Mode::Idle);
        if !idle {
            top.extend([String::new(), "* Simmering… (3s · ↓ 10 tokens)".to_owned()]);
        }
        let rule = "─".repeat(self.terminal.size().0);
        let footer = match idle {
            true => "  ⏵⏵ bypass permissions on (shift+tab to cycle) · ← for agents",
            false => "  ⏵⏵ bypass permissions on (shift+tab to cycle) · esc to interrupt",
        };
        let mut bottom = vec![rule.clone()];
        bottom.extend(self.composer_text().lines().map(str::to_owned));
        bottom.extend([rule, footer.to_owned()]);
        self.terminal.draw(&top, &bottom);
    }

    /// A paste of more than three lines or 800 characters is shown as a note, as the real one does.
    fn composer_text(&self) -> String {
        let marker = self.marker();
        match &self.pasted {
            _ if self.composer.is_empty() => {
                format!("{marker} \x1b[2m{}\x1b[22m", self.behaviour.suggestion)
            }
            Some(text) if text.lines().count() > 3 || text.len() > 800 => {
                let more = match text.lines().count() - 1 {
                    0 => String::new(),
                    lines => format!(" +{lines} lines"),
                };
                let note = format!("[Pasted text #1{more}]");
                format!("{marker} {}", self.composer.replacen(text, &note, 1))
            }
            _ => format!("{marker} {}", self.composer.replace('\n', "\n  ")),
        }
    }
}
