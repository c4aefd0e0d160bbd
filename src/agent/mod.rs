//! The agent: the script that starts it, and what it is doing.
//!
//! One launch is four files in `STATE/sessions/`: `NAME.prompt` (the message),
//! `NAME.run` (the script that is run in the pane), `NAME.ticket` (the right to
//! start, taken by the script's first step: however often the script is typed,
//! the agent starts once) and, where the agent ends by itself, `NAME.exit`.
//! All odd paths and texts lie in these files; none is ever typed.

pub mod claude;
pub mod command;
pub mod judge;
pub mod limits;
pub mod screen;
pub mod transcript;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::config::{AgentKind, Dispatcher};

/// Up to this many bytes a message is the agent's last argument; the kernel
/// takes 128 KiB for one.
const MAX_ARGUMENT: usize = 100 << 10;

/// Everything that the script of one launch depends on.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The agent's program and its first arguments.
    pub command: &'a [String],
    /// How its end is recognised.
    pub kind: AgentKind,
    /// The run's UUID, `CCL_RUN` in the agent's environment.
    pub run: Uuid,
    /// Where the agent works.
    pub project: &'a Path,
    /// The files of the launch.
    pub files: &'a Files,
    /// The message as a person would send it.
    pub message: &'a str,
    /// What Claude Code is told besides; nothing for other agents.
    pub claude: Option<ClaudeOptions<'a>>,
}

/// Options of Claude Code alone.
#[derive(Debug)]
pub struct ClaudeOptions<'a> {
    /// `--model`.
    pub model: &'a str,
    /// Its session's id.
    pub session: Uuid,
    /// Whether that session exists and is resumed.
    pub resume: bool,
    /// `CLAUDE_CONFIG_DIR`, where `ccl` was given one.
    pub config_dir: Option<&'a Path>,
    /// Whether its hooks run `NAME.hook`.
    pub hooks: bool,
}

/// The paths of one launch.
#[derive(Debug, Clone)]
pub struct Files {
    /// `NAME.run`.
    pub run: PathBuf,
    /// `NAME.prompt`.
    pub prompt: PathBuf,
    /// `NAME.ticket`.
    pub ticket: PathBuf,
    /// `NAME.exit`.
    pub exit: PathBuf,
    /// `NAME.hook`, the script that Claude Code's hooks run.
    pub hook: PathBuf,
    /// `NAME.stop`, what the last `Stop` hook was told.
    pub stop: PathBuf,
}

/// What the agent is told, with a sentence in place of an empty body, and
/// without control characters other than newline and tab (an `ESC[201~` would
/// end a paste and turn the rest into keystrokes).
pub fn message(dispatcher: &Dispatcher, task: &str, body: &str, task_path: &Path) -> String {
    let mut message = if body.trim().is_empty() {
        let body = format!(
            "The task file {} has no text below its header: carry out what its header says.",
            task_path.display()
        );
        dispatcher.fill_message(task, &body)
    } else {
        dispatcher.fill_message(task, body)
    };
    message.retain(|c| !c.is_control() || c == '\n' || c == '\t');
    message
}

impl Launch<'_> {
    /// The script that is run in the pane.
    pub fn script(&self) -> Result<String> {
        let files = self.files;
        let first = self.command.first().map_or("", String::as_str);
        let (ticket, exit) = (quote_path(&files.ticket)?, quote_path(&files.exit)?);
        let (project, run_file) = (quote_path(self.project)?, quote_path(&files.run)?);
        let run = self.run;
        let start = match self.kind {
            // What an earlier agent left on the screen must not be taken for this one's words.
            AgentKind::Claude => {
                format!("{}\nprintf '\\033[H\\033[2J'\nexec {}", self.config_dir()?, self.words()?)
            }
            AgentKind::Command => format!("{}\nfinish $?", self.words()?),
        };
        // Whoever has removed the ticket carries the run in its environment, so
        // that nothing that has started can be taken for something else. The run
        // is compared too: the next run's script may have taken this one's place
        // between the two starts.
        Ok(format!(
            "# Run {run} of ccl. It starts once: whoever removes the ticket starts it.\n\
             if [ \"${{CCL_PID-}} ${{CCL_RUN-}}\" != \"$$ {run}\" ]; then CCL_RUN={run} CCL_PID=$$ exec sh {run_file}; fi\n\
             unset CLAUDECODE CLAUDE_CODE_ENTRYPOINT SECUTOOLS_API_KEY CREDENTIALS_DIRECTORY\n\
             finish() {{ until {{ echo \"{run} $1\" > {exit}.new && mv {exit}.new {exit}; }} 2>/dev/null; do\n\
             \t[ -e {run_file} ] || exit; sleep 1; done; exit; }}\n\
             rm {ticket} 2>/dev/null || exit 0\n\
             cd {project} || finish {no_directory}\n\
             command -v {program} >/dev/null || finish {no_program}\n\
             {start}\n",
            no_directory = command::Exit::NO_DIRECTORY,
            no_program = command::Exit::NO_PROGRAM,
            program = quote(first)?,
        ))
    }

    /// Claude Code has its files where `ccl` looks for them, or does not start.
    fn config_dir(&self) -> Result<String> {
        let given = self.claude.as_ref().and_then(|claude| claude.config_dir);
        Ok(match given {
            Some(dir) => format!("export CLAUDE_CONFIG_DIR={}", quote_path(dir)?),
            None => format!(
                "[ -z \"${{CLAUDE_CONFIG_DIR-}}\" ] || finish {}",
                command::Exit::OTHER_CONFIG_DIR
            ),
        })
    }

    /// The agent's command line, quoted for the shell.
    fn words(&self) -> Result<String> {
        let mut words = Vec::new();
        for word in self.command {
            words.push(quote(word)?);
        }
        if let Some(claude) = &self.claude {
            let id = claude.session.to_string();
            let flag = if claude.resume { "--resume" } else { "--session-id" };
            for word in ["--model", claude.model, flag, &id] {
                words.push(quote(word)?);
            }
            if claude.hooks {
                words.push("--settings".to_owned());
                words.push(quote(&claude::hook_settings(&self.files.hook)?)?);
            }
        }
        words.extend(self.argument()?);
        Ok(words.join(" "))
    }

    fn argument(&self) -> Result<Vec<String>> {
        if self.message.len() > MAX_ARGUMENT {
            let path = self.files.prompt.display();
            return Ok(vec![quote(&format!(
                "Read the file {path} and carry out the task that it describes."
            ))?]);
        }
        let prompt = quote_path(&self.files.prompt)?;
        Ok(match self.kind {
            // Claude Code takes a message like `--help` for an option, and one like `update` for a
            // subcommand, behind `--` too: the newline at its end makes it neither.
            AgentKind::Claude => vec!["--".to_owned(), format!("\"$(cat {prompt})\n\"")],
            AgentKind::Command => vec![format!("\"$(cat {prompt})\"")],
        })
    }
}

/// The script that Claude Code's hooks run, with the event's name as its
/// argument: it keeps what `Stop` is told in `stop`, and has tmux call `assign`,
/// whose standard input is not the hook's. Any output would put the pane into a
/// mode, and so would an exit code, which tmux tells there: so there is neither.
pub fn hook_script(tmux: &[String], assign: &[String], stop: &Path) -> Result<String> {
    let mut run_shell = Vec::new();
    for word in tmux {
        run_shell.push(quote(word)?);
    }
    // tmux expands `#` in what it runs.
    let command =
        format!("{} >/dev/null 2>&1 </dev/null || true", assign.join(" ")).replace('#', "##");
    Ok(format!(
        "exec >/dev/null 2>&1\n\
         if [ \"$1\" = Stop ]; then cat > {stop}.new && mv {stop}.new {stop}; fi\n\
         exec {tmux} run-shell -b {command}\n",
        stop = quote_path(stop)?,
        tmux = run_shell.join(" "),
        command = quote(&command)?,
    ))
}

/// A path as one word of a shell's command line.
pub fn quote_path(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    quote(text)
}

fn quote(text: &str) -> Result<String> {
    shlex::try_quote(text)
        .map(Cow::into_owned)
        .with_context(|| format!("a NUL cannot be passed to a program: {text:?}"))
}

/// What an agent that has a task is doing, as far as there is evidence.
#[derive(Debug, Clone, PartialEq)]
pub enum Doing {
    /// It works, or nothing shows that it does not.
    Working,
    /// It waits for a person.
    NeedsPerson(String),
    /// The turn ended well.
    Finished(Report),
    /// The turn, or the agent, ended badly.
    Failed(Failure),
    /// It ended, or is gone, in the middle.
    Interrupted(String),
}

/// What an agent left behind; what is not known stays unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Its last answer.
    pub answer: Option<String>,
    /// Tokens read and written.
    pub tokens: Option<(u64, u64)>,
    /// The model that answered.
    pub model: Option<String>,
    /// Whether nothing will show that the turn ended well once the agent is gone.
    pub only_while_it_lives: bool,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// Whether the attempt counts. It does not where no task could have caused
    /// it, the account's limit or a missing program: three passes of such a night
    /// would file a whole inbox as failed.
    pub counts: bool,
    /// When it may go on, if the agent named a time.
    pub until: Option<jiff::Timestamp>,
    /// It goes on only after a person did something.
    pub needs_person: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_message_has_no_control_characters_and_is_never_empty() {
        let dispatcher = Dispatcher::default();
        let message = |body| message(&dispatcher, "t.md", body, Path::new("/p/t.md.dispatched"));
        assert!(message("a\u{1b}[201~b\tc\nd\u{0}").starts_with("[t.md] a[201~b\tc\nd\n"));
        assert!(message(" \n").contains("/p/t.md.dispatched"));
    }

    /// Runs the script as a session's shell would.
    fn run(dir: &Path, command: &[&str], message: &str, ticket: bool) -> String {
        let files = Files {
            run: dir.join("it's a.run"),
            prompt: dir.join("a $(b).prompt"),
            ticket: dir.join("a.ticket"),
            exit: dir.join("a \"b\".exit"),
            hook: dir.join("a.hook"),
            stop: dir.join("a.stop"),
        };
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        let launch = Launch {
            command: &command,
            kind: AgentKind::Command,
            run: Uuid::nil(),
            project: &dir.join("pro ject"),
            files: &files,
            message,
            claude: None,
        };
        std::fs::create_dir_all(launch.project).unwrap();
        std::fs::write(&files.run, launch.script().unwrap()).unwrap();
        std::fs::write(&files.prompt, message).unwrap();
        if ticket {
            std::fs::write(&files.ticket, "").unwrap();
        }
        let output = Command::new("sh").arg(&files.run).output().unwrap();
        let exit = std::fs::read_to_string(&files.exit).unwrap_or_default();
        format!(
            "{}{}|{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            exit.trim().trim_start_matches(&format!("{} ", Uuid::nil()))
        )
    }

    #[test]
    fn the_script_starts_the_agent_once_with_the_message_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let odd = "it's \"$(odd)\" `text` \\ *\n--last line";
        let show = ["sh", "-c", "printf '%s' \"$CCL_RUN $1\"; exit 3", "sh"];
        let expected = format!("{} {odd}|3", Uuid::nil());
        assert_eq!(run(dir.path(), &show, odd, true), expected);
        std::fs::remove_file(dir.path().join("a \"b\".exit")).unwrap();
        assert_eq!(run(dir.path(), &show, odd, false), "|");
    }

    #[test]
    fn the_script_says_what_could_not_start() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run(dir.path(), &["no-such-agent"], "x", true), "|no-program");
    }

    #[test]
    fn a_long_message_stays_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(MAX_ARGUMENT + 1);
        let output = run(dir.path(), &["echo"], &long, true);
        assert!(output.starts_with("Read the file /"), "{output}");
        assert!(output.contains("a $(b).prompt"), "{output}");
    }
}
