//! What is being waited for, shown on standard error while it lasts.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::log::Level;
use crate::text::escape;

/// The lines at the bottom of the terminal, one for each thing that is waited for. It also stands for standard error:
/// what is written to it appears above these lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// `None` where standard error is no terminal. The lines are made when the first is needed.
    lines: Option<Arc<OnceLock<MultiProgress>>>,
}

impl Progress {
    /// Lines where standard error is a terminal, unless the person asked for silence.
    pub(crate) fn on_stderr(level: Level) -> Self {
        let is_shown = level >= Level::Info && io::stderr().is_terminal();
        Self { lines: is_shown.then(Arc::default) }
    }

    /// Shows a line, `fix.md → ccl-auto-0: 3s`, until the returned value is dropped.
    pub(crate) fn wait_for(&self, what: &str) -> Waiting {
        let bar = self.lines.as_ref().map(|lines| {
            let lines = lines.get_or_init(MultiProgress::new);
            let bar = lines.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(escape(what).into_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Waiting(bar)
    }
}

impl Write for Progress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.lines.as_ref().and_then(|lines| lines.get()) {
            // Takes the lines away meanwhile: the text would be written into one of them.
            Some(lines) => lines.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[derive(Debug)]
pub(crate) struct Waiting(Option<ProgressBar>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
