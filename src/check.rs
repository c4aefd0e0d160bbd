//! The acceptance check: the script that runs it in a window of its own, the status that the script notes, and the
//! words for people and agents about it; and a check in the foreground, for which a person waits.
//!
//! One run of a check is three files in `STATE/sessions/`: `NAME.check` (the script), `NAME.check-ticket` (the right to
//! start) and `NAME.check-exit` (how it ended, `ID STATUS`). Its output is what the window shows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::SignedDuration;
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::agent::{CheckFiles, Setup, quote, quote_path};
use crate::durable;
use crate::process;
use crate::subprocess::Call;
use crate::text::{excerpt, is_unprintable};

/// The variable that names this run of the check, in the environment of the check and of all that it starts.
pub(crate) const VARIABLE: &str = "CCL_CHECK";

/// The variables that a check does not get: the key of `ccl`, and those of providers.
pub(crate) const KEYS: &str = "SECUTOOLS_API_KEY CREDENTIALS_DIRECTORY ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN CLAUDE_CODE_OAUTH_TOKEN \
    OPENAI_API_KEY CODEX_API_KEY GEMINI_API_KEY GOOGLE_API_KEY OPENROUTER_API_KEY";

/// The exit statuses of timeout(1): the time ran out; and its command did not end before it was killed.
const TIMED_OUT: i32 = 124;
const KILLED: i32 = 128 + 9;

/// The most of its output that is kept, in bytes.
const TAIL: usize = 4 << 10;

/// What tmux writes into a window whose program has ended.
const DEAD: &str = "Pane is dead";

/// How many characters of a command, which may be a whole script, a sentence quotes.
const LONG_COMMAND: usize = 200;

/// How much longer than its time limit a check that a person waits for may take: for its set-up, and to be killed.
const AFTER_TIMEOUT: Duration = Duration::from_mins(10);

/// How often a check that could not be run is started, the first time included.
pub(crate) const TRIES: u32 = 3;

/// Asks the terminal for its status, and waits at most 2 s for the answer, which tmux gives once it has read all that
/// was printed before. Otherwise the last words of a program that ends at once are lost now and then. The signals are
/// ignored since another process may have the terminal by now.
const DRAIN: &str = "trap '' TTIN TTOU; stty -icanon -echo min 0 time 20 && printf '\\033[5n' && dd bs=16 count=1 >/dev/null";

/// One run of a check.
#[derive(Debug)]
pub(crate) struct Script<'a> {
    pub(crate) id: Uuid,
    pub(crate) run: Uuid,
    pub(crate) task: &'a str,
    pub(crate) command: &'a str,
    pub(crate) timeout: SignedDuration,
    pub(crate) directory: &'a Path,
    /// The commit that the work started from.
    pub(crate) base: Option<&'a str>,
    pub(crate) setup: Option<Setup<'a>>,
    pub(crate) files: &'a CheckFiles,
    /// A script that is run at the end, so that a pass looks at the verdict.
    pub(crate) hook: Option<&'a Path>,
}

impl Script<'_> {
    pub(crate) fn text(&self) -> Result<String> {
        let Self { id, run, timeout, files, .. } = self;
        let (script, ticket) = (quote_path(&files.script)?, quote_path(&files.ticket)?);
        let (exit, directory) = (quote_path(&files.exit)?, quote_path(self.directory)?);
        let hook = match self.hook {
            Some(hook) => format!("sh {} Check; ", quote_path(hook)?),
            None => String::new(),
        };
        let setup = self.setup.as_ref().map_or(Ok(String::new()), Setup::script)?;
        let environment = environment(*id, self.task, self.base)?;
        // The run is compared first: this file may be the next run's by the time the shell of a slow window reads it.
        // The script starts itself anew with CCL_PID, since /proc shows only the environment that a program was started
        // with. The ticket goes before anything can fail: where it stays, the shell is to blame. `finish` tries again
        // and again: on a full disk the exit would be lost. It stops when the session's files are cleared.
        Ok(format!(
            "# Check {id} of run {run} of ccl. It starts once: whoever removes the ticket starts it.\n\
             [ \"${{CCL_RUN-}}\" = {run} ] || exit 0\n\
             [ \"${{CCL_PID-}}\" = $$ ] || CCL_PID=$$ exec sh {script}\n\
             unset CLAUDECODE CLAUDE_CODE_ENTRYPOINT {KEYS}\n\
             drain() {{ {DRAIN}; }} 2>/dev/null\n\
             finish() {{ drain; until {{ echo \"{id} $1\" > {exit}.new && mv {exit}.new {exit}; }} 2>/dev/null; do\n\
             \t[ -e {script} ] || exit; sleep 1; done; {hook}exit; }}\n\
             rm {ticket} 2>/dev/null || exit 0\n\
             cd {directory} || finish not-run\n\
             {setup}\
             {environment}\
             timeout --foreground -k 10 {seconds} sh -c {command} </dev/null\n\
             finish $?\n",
            seconds = timeout.as_secs(),
            command = quote(self.command)?,
        ))
    }
}

/// The variables that a check gets.
fn environment(id: Uuid, task: &str, base: Option<&str>) -> Result<String> {
    let base = base.map_or("unset CCL_BASE".to_owned(), |base| format!("export CCL_BASE={base}"));
    Ok(format!("export CCL_TASK={} {VARIABLE}={id}\n{base}\n", quote(task)?))
}

/// A run of a check in the foreground, for which a person waits.
pub(crate) struct ForegroundCheck<'a> {
    pub(crate) run: Uuid,
    pub(crate) task: &'a str,
    pub(crate) command: &'a str,
    pub(crate) timeout: SignedDuration,
    pub(crate) directory: &'a Path,
    pub(crate) base: &'a str,
    pub(crate) setup: Setup<'a>,
}

/// What came of it.
pub(crate) struct ForegroundEnd {
    /// None where it could not be run.
    pub(crate) status: Option<i32>,
    pub(crate) seconds: u64,
    pub(crate) tail: String,
}

impl ForegroundCheck<'_> {
    /// Runs the check to its end, and then ends what it has left running.
    pub(crate) fn wait(&self) -> Result<ForegroundEnd> {
        let (id, output) = (
            Uuid::new_v4(),
            NamedTempFile::new().context("cannot make a temporary file for the check's output")?,
        );
        let mut call = Call::new("sh", self.timeout.unsigned_abs() + AFTER_TIMEOUT);
        call.command.arg("-c").arg(self.text(id, output.path())?).current_dir(self.directory);
        let started = Instant::now();
        let ended = call.run();
        // Also where the call has failed: what it started must not go on beside `ccl`.
        process::terminate_marked(VARIABLE, &id.to_string(), process::GRACE)?;
        let exit = ended?.status;
        Ok(ForegroundEnd {
            status: CheckExit::Status(exit.code().unwrap_or(KILLED)).status(),
            seconds: started.elapsed().as_secs(),
            tail: tail(&last_of(output.path())?),
        })
    }

    fn text(&self, id: Uuid, output: &Path) -> Result<String> {
        // Into a file: a call of another program reads 16 MiB at most, and a check may print more.
        // A set-up that fails ends with 126, which says that nothing was judged.
        Ok(format!(
            "unset CLAUDECODE CLAUDE_CODE_ENTRYPOINT {KEYS}\n\
             exec >{output} 2>&1\n\
             finish() {{ exit 126; }}\n\
             export CCL_RUN={run}\n\
             {environment}\
             {setup}\
             timeout -k 10 {seconds} sh -c {command} </dev/null\n",
            output = quote_path(output)?,
            run = self.run,
            environment = environment(id, self.task, Some(self.base))?,
            setup = self.setup.script()?,
            seconds = self.timeout.as_secs(),
            command = quote(self.command)?,
        ))
    }
}

/// The end of a file, from which the tail is made. It is longer: what no terminal shows is left out of the tail.
fn last_of(path: &Path) -> Result<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(4 * TAIL as u64);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How a run of the check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckExit {
    Status(i32),
    /// Its directory could not be entered, or its set-up failed.
    NotRun,
}

impl CheckExit {
    /// Reads `NAME.check-exit`; `None` while the check runs. What an earlier run wrote late is not this one's.
    pub(crate) fn read(path: &Path, id: Uuid) -> Result<Option<Self>> {
        let Some(text) = durable::read_text(path)? else { return Ok(None) };
        let word = text.strip_prefix(&format!("{id} "));
        Ok(word.map(|word| word.trim().parse().map_or(Self::NotRun, Self::Status)))
    }

    /// The status, unless that says that nothing ran: the shell found no such program, or may not run it.
    pub(crate) fn status(self) -> Option<i32> {
        match self {
            Self::NotRun | Self::Status(126 | 127) => None,
            Self::Status(status) => Some(status),
        }
    }
}

/// What a red check said, in words that follow its name.
pub(crate) fn how(status: i32, seconds: u64, timeout: SignedDuration) -> String {
    let is_over = seconds >= timeout.as_secs().unsigned_abs();
    match status {
        // Earlier, such a status is the command's own, or the kernel was out of memory.
        TIMED_OUT | KILLED if is_over => format!("ran out of time after {timeout:#}"),
        status => format!("ended with {status}"),
    }
}

/// The message to the agent about a red check.
pub fn message(command: &str, how: &str, tail: &str, before: Option<&str>) -> String {
    let command = plain(command);
    let command = match command.trim() {
        line if line.contains(['\n', '`']) => format!("The check\n\n{}\n\n", fenced(line)),
        line => format!("The check `{line}` "),
    };
    let output = match tail {
        "" => "It printed nothing.".to_owned(),
        tail => format!("The last of its output:\n\n{}", fenced(tail)),
    };
    let before = match before {
        Some(base) => format!(
            "\n\nIt was red before you began, too: on {base}, which you started from, it is red as well."
        ),
        None => String::new(),
    };
    format!("{command}{how}. {output}{before}\n\nMake it pass. It is run again when you are done.")
}

/// The check, by its command, in a sentence about it.
pub(crate) fn named(command: &str) -> String {
    format!("the check `{}`", excerpt(command, LONG_COMMAND))
}

/// A text between fences that are longer than any in it.
pub fn fenced(text: &str) -> String {
    let longest =
        text.lines().map(|line| line.trim_start().bytes().take_while(|byte| *byte == b'`').count());
    let fence = "`".repeat(longest.max().unwrap_or(0).max(2) + 1);
    format!("{fence}\n{text}\n{fence}")
}

/// The last 4 KiB of what a window shows, from the beginning of a line, as plain text.
pub fn tail(screen: &str) -> String {
    let text = plain(screen);
    let text = text.trim_matches('\n').trim_end();
    // tmux writes this below the output once the program has ended, or right behind a last line without a newline.
    let last = text.rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[last..].rfind(DEAD).map_or(text.len(), |at| last + at);
    let text = text[..end].trim_end();
    let start = text.len().saturating_sub(TAIL);
    if start == 0 {
        return text.to_owned();
    }
    let start = text.ceil_char_boundary(start);
    // Within one long line no line begins: then it is cut.
    let line = text[start..].find('\n').map_or(start, |newline| start + newline + 1);
    text[line..].trim_start_matches('\n').to_owned()
}

/// The lines of a text, without what a terminal would not show.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        plain.extend(line.chars().filter(|c| *c == '\t' || !is_unprintable(*c)));
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_begins_with_a_line_and_is_plain_text() {
        assert_eq!(tail(""), "");
        assert_eq!(tail("\none\u{1b}[31m\u{85}\n\ttwo\u{202e}  \n\n"), "one[31m\n\ttwo");
        assert_eq!(tail("red\n\nPane is dead (status 1, now)\n"), "red");
        assert_eq!(tail("red\nhalf a linePane is dead (status 1, now)\n"), "red\nhalf a line");
        assert_eq!(tail("Pane is dead (status 1, now)\n"), "");
        // Now and then tmux does not write it.
        assert_eq!(tail("Pane is dead\nred\n"), "Pane is dead\nred");
        let long: String = (0..2000).map(|line| format!("line {line} é\n")).collect();
        let last = tail(&long);
        assert!(last.len() <= TAIL && last.len() > TAIL - 20, "{}", last.len());
        assert!(last.starts_with("line ") && last.ends_with("line 1999 é"));
        assert_eq!(tail(&"é".repeat(5000)).len(), TAIL);
    }

    #[test]
    fn a_status_that_says_that_nothing_ran_is_no_verdict() {
        for (exit, status) in [
            (CheckExit::Status(0), Some(0)),
            (CheckExit::Status(1), Some(1)),
            (CheckExit::Status(124), Some(124)),
            (CheckExit::Status(126), None),
            (CheckExit::Status(127), None),
            (CheckExit::NotRun, None),
        ] {
            assert_eq!(exit.status(), status, "{exit:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let id = Uuid::new_v4();
        assert_eq!(CheckExit::read(&path, id).unwrap(), None);
        for (text, exit) in [
            (format!("{id} 3\n"), Some(CheckExit::Status(3))),
            (format!("{id} not-run\n"), Some(CheckExit::NotRun)),
            (format!("{} 0\n", Uuid::new_v4()), None),
            (String::new(), None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(CheckExit::read(&path, id).unwrap(), exit);
        }
    }

    #[test]
    fn no_output_ends_its_own_fence() {
        assert_eq!(fenced("a\n````\nb"), "`````\na\n````\nb\n`````");
        let told = message("make", "ended with 2", "no rule", Some("abc"));
        assert!(told.starts_with(
            "The check `make` ended with 2. The last of its output:\n\n```\nno rule\n```"
        ));
        assert!(told.contains("red before you began"));
        assert!(message("make", "ended with 2", "", None).contains("It printed nothing."));
        let told = message("echo \u{1b}a\n\n\texit 1\n", "ended with 1", "a", None);
        assert!(
            told.starts_with("The check\n\n```\necho a\n\n\texit 1\n```\n\nended with 1. The"),
            "{told}"
        );
        let script = "true\n".repeat(1000);
        let name = named(&script);
        assert!(name.len() < 300 && name.starts_with("the check `true true"), "{name}");
        let limit = SignedDuration::from_mins(10);
        for (status, seconds, words) in [
            (124, 600, "ran out of time after 10m"),
            (137, 610, "ran out of time after 10m"),
            // The kernel was out of memory, say.
            (137, 5, "ended with 137"),
            (1, 700, "ended with 1"),
        ] {
            assert_eq!(how(status, seconds, limit), words);
        }
    }
}
