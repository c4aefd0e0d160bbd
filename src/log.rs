//! Diagnostics for standard error. A [`Log`] is handed down; there is no global one.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;

use crate::concurrent::locked;
use crate::environment::Environment;
use crate::text::escape;

/// A [`Log`] prints messages up to its own level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something in this pass failed.
    Error,
    /// The pass went on, but a person should know.
    Warn,
    /// What was done.
    Info,
    /// Why it was done.
    Debug,
}

impl Level {
    /// The word in front of a message, the SGR parameters of its colour, and the priority that the journal reads at the
    /// start of a line, sd-daemon(3).
    fn marks(self) -> (&'static str, &'static str, u8) {
        match self {
            Self::Error => ("error: ", "1;31", 3),
            Self::Warn => ("warning: ", "1;33", 4),
            Self::Info => ("", "", 6),
            Self::Debug => ("debug: ", "2", 7),
        }
    }
}

/// What stands around a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    /// With a priority, `<N>`, at the start of each line.
    Journal,
    Colour,
}

impl Style {
    /// What suits standard error: the journal's priorities only if `JOURNAL_STREAM` names this very stream (panes of a
    /// tmux server under systemd inherit the variable, but not the stream), colour only on a terminal without
    /// `NO_COLOR`.
    pub(crate) fn of_stderr(environment: &Environment) -> Self {
        let stderr = io::stderr();
        let stream = environment.var("JOURNAL_STREAM").and_then(|value| value.to_str());
        if stream.is_some_and(|stream| identity(&stderr).as_deref() == Some(stream)) {
            return Self::Journal;
        }
        if shows_colours(environment, &stderr) { Self::Colour } else { Self::Plain }
    }
}

/// Whether what is written to `stream` may be coloured: a terminal that is not `dumb`, without `NO_COLOR`.
pub(crate) fn shows_colours(environment: &Environment, stream: &impl IsTerminal) -> bool {
    let colourless = environment.var("NO_COLOR").is_some()
        || environment.var("TERM").is_none_or(|term| term == "dumb");
    !colourless && stream.is_terminal()
}

/// `DEVICE:INODE` of an open file, as systemd writes it into `JOURNAL_STREAM`.
fn identity(stream: impl AsFd) -> Option<String> {
    let stat = rustix::fs::fstat(stream).ok()?;
    Some(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Where diagnostics go. Share it as `&Log`; a message is written whole, also when several threads write at once.
pub struct Log {
    level: Level,
    style: Style,
    sink: Mutex<Box<dyn Write + Send>>,
    shows_events: bool,
}

impl Log {
    pub fn new(level: Level, style: Style, sink: Box<dyn Write + Send>) -> Self {
        Self { level, style, sink: Mutex::new(sink), shows_events: true }
    }

    /// A log that leaves events out, for a person who reads them on standard output.
    pub(crate) fn without_events(self) -> Self {
        Self { shows_events: false, ..self }
    }

    pub(crate) fn error(&self, message: impl Display) {
        self.write(Level::Error, message);
    }

    pub(crate) fn warn(&self, message: impl Display) {
        self.write(Level::Warn, message);
    }

    /// What was done, where the result on standard output does not say so.
    pub(crate) fn info(&self, message: impl Display) {
        self.write(Level::Info, message);
    }

    /// What was done to a task. The result on standard output repeats it once the pass is over.
    pub(crate) fn event(&self, message: impl Display) {
        if self.shows_events {
            self.info(message);
        }
    }

    /// Why nothing was done. The journal gets it only with `--verbose`: a timer would repeat it there every minute.
    pub(crate) fn notice(&self, message: impl Display) {
        match self.style {
            Style::Journal => self.debug(message),
            Style::Plain | Style::Colour => self.info(message),
        }
    }

    /// A pass in one line: for the journal, which does not get the result itself; elsewhere only with `--verbose`.
    pub(crate) fn summary(&self, message: impl Display) {
        match self.style {
            Style::Journal => self.info(message),
            Style::Plain | Style::Colour => self.debug(message),
        }
    }

    pub(crate) fn debug(&self, message: impl Display) {
        self.write(Level::Debug, message);
    }

    fn write(&self, level: Level, message: impl Display) {
        if level > self.level {
            return;
        }
        let text = format_lines(self.style, level, &message.to_string());
        let mut sink = locked(&self.sink);
        // Where standard error is gone, the pass goes on without it.
        let _ = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
    }
}

/// Gives every line of the message its prefix, and escapes control characters.
fn format_lines(style: Style, level: Level, message: &str) -> String {
    let (word, colour, priority) = level.marks();
    let mut text = String::new();
    for line in message.trim_end_matches('\n').split('\n') {
        let line = escape(line);
        // Writing to a String cannot fail.
        let _ = match style {
            Style::Journal => writeln!(text, "<{priority}>{word}{line}"),
            Style::Colour if !word.is_empty() => {
                writeln!(text, "\x1b[{colour}m{word}\x1b[0m{line}")
            }
            Style::Plain | Style::Colour => writeln!(text, "{word}{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, style: Style, speak: impl FnOnce(&Log)) -> String {
        let buffer = Buffer::default();
        speak(&Log::new(level, style, Box::new(buffer.clone())));
        buffer.text()
    }

    fn all_levels(log: &Log) {
        log.error("e");
        log.warn("w");
        log.info("i");
        log.debug("d");
    }

    #[test]
    fn a_log_prints_up_to_its_level() {
        for (level, expected) in [
            (Level::Error, "error: e\n"),
            (Level::Warn, "error: e\nwarning: w\n"),
            (Level::Info, "error: e\nwarning: w\ni\n"),
            (Level::Debug, "error: e\nwarning: w\ni\ndebug: d\n"),
        ] {
            assert_eq!(logged(level, Style::Plain, all_levels), expected);
        }
    }

    #[test]
    fn the_journal_gets_priorities_and_no_colour() {
        assert_eq!(
            logged(Level::Debug, Style::Journal, all_levels),
            "<3>error: e\n<4>warning: w\n<6>i\n<7>debug: d\n"
        );
    }

    #[test]
    fn a_terminal_gets_coloured_words() {
        assert_eq!(
            logged(Level::Info, Style::Colour, all_levels),
            "\x1b[1;31merror: \x1b[0me\n\x1b[1;33mwarning: \x1b[0mw\ni\n"
        );
    }

    #[test]
    fn every_line_of_a_message_has_its_prefix() {
        let text = logged(Level::Info, Style::Journal, |log| log.warn("one\ntwo\n"));
        assert_eq!(text, "<4>warning: one\n<4>warning: two\n");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let text = logged(Level::Info, Style::Plain, |log| {
            log.info("a\x1b[2Jb\rc\u{9b}d\u{202e}e");
        });
        assert_eq!(text, "a\\u{1b}[2Jb\\rc\\u{9b}d\\u{202e}e\n");
        assert_eq!(escape("x\ny\tz"), "x\\ny\\tz");
        assert!(matches!(escape("naïve – 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn events_can_be_left_to_standard_output() {
        let buffer = Buffer::default();
        let log = Log::new(Level::Debug, Style::Plain, Box::new(buffer.clone()));
        log.event("one");
        let log = log.without_events();
        log.event("two");
        log.info("three");
        assert_eq!(buffer.text(), "one\nthree\n");
    }

    #[test]
    fn several_threads_never_mix_their_lines() {
        let text = logged(Level::Info, Style::Plain, |log| {
            std::thread::scope(|scope| {
                for name in ["a", "b", "c"] {
                    scope.spawn(move || (0..50).for_each(|_| log.info(name.repeat(40))));
                }
            });
        });
        assert_eq!(text.lines().count(), 150);
        for line in text.lines() {
            assert_eq!(line.len(), 40);
            assert!(line.chars().all(|c| line.starts_with(c)), "{line}");
        }
    }

    #[test]
    fn a_closed_standard_error_stops_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        Log::new(Level::Debug, Style::Plain, Box::new(Closed)).error("unheard");
    }

    #[test]
    fn journal_stream_counts_only_if_it_is_this_stream() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        assert_eq!(identity(&file), Some(format!("{}:{}", stat.st_dev, stat.st_ino)));
        let elsewhere = Environment::of([("JOURNAL_STREAM", "1:1"), ("NO_COLOR", "1")], "/");
        assert_eq!(Style::of_stderr(&elsewhere), Style::Plain);
        let here = identity(io::stderr()).unwrap();
        let journal = Environment::of([("JOURNAL_STREAM", here)], "/");
        assert_eq!(Style::of_stderr(&journal), Style::Journal);
    }
}
