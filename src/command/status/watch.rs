//! `ccl status --watch`: the status on a terminal, drawn again every two seconds.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpgrp, getppid, getsid, kill_current_process_group};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcgetwinsize,
    tcsetattr,
};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::low_level::{self, pipe};
use unicode_width::UnicodeWidthChar;

use super::{Collected, collect};
use crate::cli::StatusFormat;
use crate::command::Context;
use crate::concurrent::locked;
use crate::environment::Environment;
use crate::error::Failure;
use crate::log::{Level, Log, Style};
use crate::report::{Report, TerminalStyle};

const PERIOD: Duration = Duration::from_secs(2);

/// The other screen of the terminal, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// In the place of a special character: it is switched off (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// What ends the wait for the next drawing.
enum Wake {
    Redraw,
    End,
}

/// Draws the status again and again, until a key or a signal ends it.
pub(in crate::command) fn watch(
    context: Context<'_>,
    environment: &Environment,
    format: Option<StatusFormat>,
    json: bool,
) -> Result<Report> {
    if json || !matches!(format, None | Some(StatusFormat::Text)) {
        bail!(Failure::Usage("--watch shows text: leave --json and --format out".to_owned()));
    }
    if !io::stdout().is_terminal() {
        let sentence = "--watch draws on a terminal, and standard output is none: leave it out";
        bail!(Failure::Usage(sentence.to_owned()));
    }
    let mut screen = AlternateScreen::open().context("cannot use the terminal")?;
    loop {
        let frame = frame(context, environment)?;
        screen.draw(&frame).context("cannot draw on the terminal")?;
        if let Wake::End = screen.wait().context("cannot read from the terminal")? {
            return Ok(Report::Text(String::new()));
        }
    }
}

/// The lines of one drawing. What would stand on standard error stands below the status.
fn frame(context: Context<'_>, environment: &Environment) -> Result<String> {
    let said = Said::default();
    let log = Log::new(Level::Warn, Style::Plain, Box::new(said.clone()));
    // Made anew each time: a hold may have ended since, or the day whose spending counts.
    let Context { config, records, progress, .. } = context;
    let lineup = OnceCell::new();
    let context = Context::new(config, &log, records, progress, Timestamp::now(), &lineup);
    let Collected { status, .. } = collect(context)?;
    let style = TerminalStyle::of_stdout(environment);
    let text = Report::Status(status).text(context.now, || style);
    let said = locked(&said.0);
    Ok(format!("{text}{}", String::from_utf8_lossy(&said)))
}

/// What was written to a log.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The terminal while the status is drawn on it. Dropping this sets the terminal back to what it was before.
struct AlternateScreen {
    terminal: File,
    before: Termios,
    is_entered: bool,
    /// Each becomes readable when a signal of its kind has come: one that ends the program, the terminal's new size, a
    /// request to stop, and what lets it go on afterwards.
    end: UnixStream,
    resized: UnixStream,
    suspended: UnixStream,
    resumed: UnixStream,
}

impl AlternateScreen {
    fn open() -> io::Result<Self> {
        let signals = |signals: &[i32]| {
            let (readable, written) = UnixStream::pair()?;
            for signal in signals {
                pipe::register(*signal, written.try_clone()?)?;
            }
            io::Result::Ok(readable)
        };
        // Before the terminal is changed: from here on none of these ends the program while it is.
        let end = signals(&[SIGINT, SIGQUIT, SIGTERM, SIGHUP])?;
        let resized = signals(&[SIGWINCH])?;
        let suspended = signals(&[SIGTSTP])?;
        let resumed = signals(&[SIGCONT])?;
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        // From here on `drop` sets it back.
        let is_entered = false;
        let mut screen = Self { terminal, before, is_entered, end, resized, suspended, resumed };
        screen.enter()?;
        Ok(screen)
    }

    fn enter(&mut self) -> io::Result<()> {
        let mut keys = self.before.clone();
        // Each key by itself, and not shown; C-c stays a signal.
        keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        // C-z is a key as well. As a signal it would also stop the child that is about to become tmux, and the thread
        // that starts it sleeps until then (vfork), with all signals blocked: nothing could wake it.
        keys.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        // Before anything is drawn: in the background this call stops the program, and the shell keeps its screen.
        tcsetattr(&self.terminal, OptionalActions::Drain, &keys)?;
        self.is_entered = true;
        self.terminal.write_all(ENTER.as_bytes())
    }

    /// Gives the terminal back, if it has it. Else the terminal is not touched: in the background that would stop the
    /// program.
    fn leave(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_entered) {
            return Ok(());
        }
        self.terminal.write_all(LEAVE.as_bytes())?;
        Ok(tcsetattr(&self.terminal, OptionalActions::Flush, &self.before)?)
    }

    /// Stands still until the shell brings it to the foreground again, or ends it.
    fn stop(&mut self, by_key: bool) -> io::Result<Wake> {
        self.leave()?;
        if by_key {
            // To the whole group, as the terminal does it: a script that runs this and the rest of a pipeline stop,
            // too. This process gets the signal as well, and takes it out here, so that it does not count as a second
            // C-z.
            kill_current_process_group(Signal::TSTP)?;
            let _length = self.suspended.read(&mut [0; 64])?;
        }
        // Once more where it was continued in the background (`bg`): the terminal is still the shell's.
        loop {
            low_level::raise(SIGSTOP)?;
            let mut end = [PollFd::new(&self.end, PollFlags::IN)];
            if poll(&mut end, Some(&Timespec::default()))? > 0 {
                return Ok(Wake::End);
            }
            if tcgetpgrp(&self.terminal)? == getpgrp() {
                // A person may have changed the terminal's settings meanwhile.
                self.before = tcgetattr(&self.terminal)?;
                return Ok(Wake::Redraw);
            }
        }
    }

    /// C-z, unless the person has another key for it or none.
    fn suspend_key(&self) -> Option<u8> {
        let key = self.before.special_codes[SpecialCodeIndex::VSUSP];
        (key != DISABLED && self.before.local_modes.contains(LocalModes::ISIG)).then_some(key)
    }

    fn draw(&mut self, text: &str) -> io::Result<()> {
        let size = tcgetwinsize(&self.terminal)?;
        // 0 columns: the terminal does not know how wide it is.
        let columns = if size.ws_col == 0 { usize::MAX } else { size.ws_col.into() };
        let drawn = drawing(text, columns, size.ws_row.max(1).into());
        self.terminal.write_all(drawn.as_bytes())
    }

    /// Waits for the time to draw again. With C-z it stops here, until the shell lets it go on.
    fn wait(&mut self) -> io::Result<Wake> {
        let timeout = Timespec::try_from(PERIOD).map_err(io::Error::other)?;
        let mut files = [
            PollFd::new(&self.terminal, PollFlags::IN),
            PollFd::new(&self.end, PollFlags::IN),
            PollFd::new(&self.resized, PollFlags::IN),
            PollFd::new(&self.suspended, PollFlags::IN),
            PollFd::new(&self.resumed, PollFlags::IN),
        ];
        match poll(&mut files, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [key, end, resized, suspended, resumed] = files.map(|file| !file.revents().is_empty());
        if end {
            return Ok(Wake::End);
        }
        let mut bytes = [0; 64];
        if resized {
            let _length = self.resized.read(&mut bytes)?;
        }
        if suspended {
            let _length = self.suspended.read(&mut bytes)?;
        }
        let mut by_key = false;
        if key {
            let length = self.terminal.read(&mut bytes)?;
            // Nothing to read: the terminal is gone.
            if length == 0 {
                return Ok(Wake::End);
            }
            let suspend = self.suspend_key();
            let is_known = |byte: &&u8| matches!(byte, b'q' | b'Q') || Some(**byte) == suspend;
            if let Some(byte) = bytes[..length].iter().find(is_known) {
                by_key = Some(*byte) == suspend;
                if !by_key {
                    return Ok(Wake::End);
                }
            }
        }
        let suspended = suspended || by_key;
        if suspended {
            // Without a shell that could let it go on, C-z does nothing, as with any other program.
            if has_a_shell()
                && let Wake::End = self.stop(by_key)?
            {
                return Ok(Wake::End);
            }
        }
        if suspended || resumed {
            // The shell has set the terminal to what it needs itself.
            self.enter()?;
        }
        if resumed {
            let _length = self.resumed.read(&mut bytes)?;
        }
        Ok(Wake::Redraw)
    }
}

/// Whether a shell with job control has started this: such a shell gives each job a process group of its own, other
/// than the one of the session's leader.
fn has_a_shell() -> bool {
    let own = getsid(None).ok();
    let of_parent = getppid().and_then(|parent| getsid(Some(parent)).ok());
    own.is_some() && own == of_parent && own != Some(getpgrp())
}

impl Drop for AlternateScreen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = self.leave();
    }
}

/// One drawing: as many lines as there is room for, each no wider than the terminal, over the drawing before.
fn drawing(text: &str, columns: usize, rows: usize) -> String {
    let height = rows - 1;
    let lines: Vec<&str> = text.lines().collect();
    let mut drawn = String::from("\x1b[H");
    for line in lines.iter().take(height) {
        // Cleared before it is written: behind a full line the cursor still stands on its last column.
        drawn.push_str(&format!("\x1b[K{}\r\n", cut(line, columns)));
    }
    let hidden = lines.len().saturating_sub(height);
    let more = if hidden > 0 { format!("; {hidden} more lines") } else { String::new() };
    let last = format!("q ends{more}");
    drawn + &format!("\x1b[J\x1b[2m{}\x1b[0m", cut(&last, columns))
}

/// At most this many columns of a line; its colours take none.
fn cut(line: &str, columns: usize) -> Cow<'_, str> {
    let (mut taken, mut fits, mut in_colour) = (0, 0, false);
    for (at, c) in line.char_indices() {
        if in_colour || c == '\x1b' {
            in_colour = c != 'm';
            continue;
        }
        taken += c.width().unwrap_or(0);
        if taken > columns {
            return Cow::Owned(format!("{}…\x1b[0m", &line[..fits]));
        }
        // One column is left for the ellipsis.
        if taken < columns {
            fits = at + c.len_utf8();
        }
    }
    Cow::Borrowed(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for (line, columns, expected) in [
            ("", 1, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…\x1b[0m"),
            ("abcd", 1, "…\x1b[0m"),
            // A wide character takes two columns, and is not halved; a mark above one takes none.
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…\x1b[0m"),
            ("日本語", 4, "日…\x1b[0m"),
            ("ae\u{301}", 2, "ae\u{301}"),
            ("\x1b[1;31mheld\x1b[0m", 4, "\x1b[1;31mheld\x1b[0m"),
            ("\x1b[1;31mheld\x1b[0m x", 4, "\x1b[1;31mhel…\x1b[0m"),
        ] {
            assert_eq!(cut(line, columns), expected, "{line:?} {columns}");
        }
    }

    #[test]
    fn no_more_lines_are_drawn_than_the_terminal_has() {
        for (rows, expected) in [
            (1, "\x1b[H\x1b[J\x1b[2mq ends; 2…\x1b[0m\x1b[0m"),
            (2, "\x1b[H\x1b[Kone\r\n\x1b[J\x1b[2mq ends; 1…\x1b[0m\x1b[0m"),
            (9, "\x1b[H\x1b[Kone\r\n\x1b[Ktwo\r\n\x1b[J\x1b[2mq ends\x1b[0m"),
        ] {
            assert_eq!(drawing("one\ntwo\n", 10, rows), expected, "{rows}");
        }
    }
}
