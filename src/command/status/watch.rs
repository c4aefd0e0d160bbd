//! `ccl status --watch`: the status on a terminal, drawn again every two seconds.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::low_level::pipe;

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

/// What ends the wait for the next drawing.
enum Wake {
    Redraw,
    End,
}

/// Draws until a person has seen enough.
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
    let context = Context { log: &log, now: Timestamp::now(), ..context };
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

/// The terminal while it is watched; when it is dropped it is as it was.
struct AlternateScreen {
    terminal: File,
    before: Termios,
    /// Readable when a signal has come that ends it, or that says that the terminal has another size.
    end: UnixStream,
    resized: UnixStream,
}

impl AlternateScreen {
    fn open() -> io::Result<Self> {
        let (end, ending) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            pipe::register(signal, ending.try_clone()?)?;
        }
        let (resized, resizing) = UnixStream::pair()?;
        pipe::register(SIGWINCH, resizing)?;
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut keys = before.clone();
        // Each key by itself, and not shown; C-c stays a signal.
        keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &keys)?;
        // From here on it is set back.
        let mut screen = Self { terminal, before, end, resized };
        screen.terminal.write_all(ENTER.as_bytes())?;
        Ok(screen)
    }

    /// Draws as many lines as there is room for, over what stands there.
    fn draw(&mut self, text: &str) -> io::Result<()> {
        let rows = rustix::termios::tcgetwinsize(&self.terminal)?.ws_row.max(2);
        let height = usize::from(rows) - 1;
        let lines: Vec<&str> = text.lines().collect();
        let mut drawn = String::from("\x1b[H");
        for line in lines.iter().take(height) {
            drawn.push_str(line);
            // To the end of the line.
            drawn.push_str("\x1b[K\r\n");
        }
        let hidden = lines.len().saturating_sub(height);
        let more = if hidden > 0 { format!("{hidden} more lines; ") } else { String::new() };
        drawn.push_str(&format!("\x1b[J\x1b[2m{more}q ends\x1b[0m"));
        self.terminal.write_all(drawn.as_bytes())
    }

    fn wait(&mut self) -> io::Result<Wake> {
        let timeout = Timespec::try_from(PERIOD).map_err(io::Error::other)?;
        let mut files = [
            PollFd::new(&self.terminal, PollFlags::IN),
            PollFd::new(&self.end, PollFlags::IN),
            PollFd::new(&self.resized, PollFlags::IN),
        ];
        match poll(&mut files, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [key, end, resized] = files.map(|file| !file.revents().is_empty());
        if end {
            return Ok(Wake::End);
        }
        let mut bytes = [0; 64];
        if resized {
            let _length = self.resized.read(&mut bytes)?;
        }
        if key {
            let length = self.terminal.read(&mut bytes)?;
            // Nothing to read: the terminal is gone.
            if length == 0 || bytes[..length].iter().any(|byte| matches!(byte, b'q' | b'Q')) {
                return Ok(Wake::End);
            }
        }
        Ok(Wake::Redraw)
    }
}

impl Drop for AlternateScreen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = self.terminal.write_all(LEAVE.as_bytes());
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}
