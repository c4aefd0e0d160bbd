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
        bottom.extend(["❯ ".to_owned(), rule, footer.to_owned()]);
        self.terminal.draw(&top, &bottom);
    }
}
