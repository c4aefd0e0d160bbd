//! The terminal: raw mode and what Claude Code switches on, drawing, and its restoration.

use std::io::{Write, stdin, stdout};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1002h\x1b[?1003h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1003l\x1b[?1002l\x1b[?1000l";

/// A terminal in raw mode.
pub struct Terminal {
    saved: Termios,
    alternate: bool,
}

impl Terminal {
    /// Switches to raw mode; `None` if standard input is no terminal.
    pub fn raw() -> Option<Self> {
        let saved = tcgetattr(stdin()).ok()?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        // As the real one does; a paste is none of the stand-in's business.
        put("\x1b[?2004h");
        Some(Self { saved, alternate: false })
    }

    /// The composer is drawn on the alternate screen, with the mouse; the dialogs of the start are not.
    pub fn use_alternate_screen(&mut self) {
        self.alternate = true;
        put(&format!("\x1b[?1049h{MOUSE_ON}\x1b]0;✳ Claude Code\x07"));
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(stdout()).ok().filter(|s| s.ws_row > 0);
        size.map_or((80, 24), |s| (s.ws_col.into(), s.ws_row.into()))
    }

    /// Draws `top` from the top and `bottom` at the bottom (after `top` where there is no alternate
    /// screen), in place of what was there.
    pub fn draw(&self, top: &[String], bottom: &[String]) {
        let (_, rows) = self.size();
        let mut screen = "\x1b[H\x1b[2J".to_owned();
        // What does not fit scrolls out at the top.
        let room = rows.saturating_sub(bottom.len() + 1);
        screen += &top[top.len().saturating_sub(room)..].join("\r\n");
        if self.alternate {
            screen += &format!("\x1b[{};1H", rows.saturating_sub(bottom.len()) + 1);
        } else {
            screen += "\r\n";
        }
        screen += &bottom.join("\r\n");
        put(&screen);
    }

    /// Gives the terminal back as it was, cleared of this program's drawing.
    pub fn restore(&mut self) {
        let leave = match self.alternate {
            true => format!("{MOUSE_OFF}\x1b[?1049l"),
            false => "\r\n".to_owned(),
        };
        put(&format!("\x1b[?2004l{leave}\x1b[?25h"));
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.saved);
    }
}

/// Writes to the terminal; one that is gone is no concern of a program that is about to end.
pub fn put(text: &str) {
    let mut out = stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
