//! The agent: the script that starts it, and what it is doing.
//!
//! One launch is a few files in `STATE/sessions/`: `NAME.prompt` (the message), `NAME.run` (the script that is run in
//! the window), `NAME.ticket` (the right to start, which the script takes before it starts the agent) and `NAME.exit`
//! (what the script notes: a command agent's exit status, or why no agent could start); for Claude Code's hooks
//! `NAME.hook` and `NAME.stop`. All odd paths and texts lie in these files; nothing is ever typed.

pub mod claude;
pub(crate) mod command;
pub mod judge;
mod limits;
pub mod screen;
pub mod transcript;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::config::{AgentKind, Dispatcher, Questions};
use crate::durable;
use crate::task::Timeout;

/// Up to this many bytes a message is the agent's last argument; the kernel
/// takes 128 KiB for one.
const MAX_ARGUMENT: usize = 100 << 10;

/// In a word of `agent.command`: the prompt, and the path of its file.
const PROMPT: &str = "{prompt}";
const PROMPT_FILE: &str = "{prompt_file}";

/// What stands before the message of a task that another agent has begun.
pub(crate) const AFTER_A_COLLEAGUE: &str = "A colleague has begun this task and could not go on. Look first at what is there already, with `git status` and `git diff`, and go on from that.";

#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) command: &'a [String],
    pub(crate) kind: AgentKind,
    /// What is set in its environment.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// The run's UUID, `CCL_RUN` in the agent's environment.
    pub(crate) run: Uuid,
    /// Where the agent works.
    pub(crate) directory: &'a Path,
    pub(crate) setup: Option<Setup<'a>>,
    pub(crate) files: &'a Files,
    /// The message as a person would send it.
    pub(crate) message: &'a str,
    /// None for other agents.
    pub(crate) claude: Option<ClaudeOptions<'a>>,
}

/// What a new worktree needs before an agent works in it.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    /// The project, from which files are copied.
    pub(crate) from: &'a Path,
    /// Paths below it.
    pub(crate) copy: &'a [String],
    /// Run by `sh -c`.
    pub(crate) command: Option<&'a str>,
    /// A file that is there once all this was done.
    pub(crate) stamp: &'a Path,
}

impl Setup<'_> {
    /// The lines of a script that do it, in the worktree. They come after the ticket is taken, so that nothing is set
    /// up twice at once; they may take long.
    pub(crate) fn script(&self) -> Result<String> {
        let Self { from, copy, command, stamp } = self;
        // The mark names the path that is being copied: after a kill only a part of it may lie there, and goes before the
        // mark is written anew. A copy that fails takes both away: a person may put the path there by hand. The mark lies
        // beside the stamp, where git takes it for nobody's work.
        let mark = quote_path(&stamp.with_file_name("ccl-copies"))?;
        let (stamp, failed) = (quote_path(stamp)?, command::Exit::SETUP_FAILED);
        let mut steps = String::new();
        for path in *copy {
            let (source, copied) = (quote_path(&from.join(path))?, quote(&format!("./{path}"))?);
            steps.push_str(&format!(
                "[ ! -e {source} ] || {{ [ -e {copied} ] && [ \"$(cat {mark} 2>/dev/null)\" != {copied} ]; }} ||\n\
                 \t{{ mkdir -p \"$(dirname {copied})\" && rm -rf {copied} && printf %s {copied} >{mark} &&\n\
                 \t{{ cp -RPp {source} {copied} || {{ rm -rf {copied} {mark}; false; }}; }} && rm -f {mark}; }} ||\n\
                 \tfinish {failed}\n"
            ));
        }
        if let Some(command) = command {
            steps.push_str(&format!("sh -c {} </dev/null || finish {failed}\n", quote(command)?));
        }
        Ok(format!("if [ ! -e {stamp} ]; then\n{steps}: >{stamp} || finish {failed}\nfi\n"))
    }
}

#[derive(Debug)]
pub(crate) struct ClaudeOptions<'a> {
    pub(crate) model: &'a str,
    pub(crate) session: Uuid,
    /// Whether that session exists and is resumed.
    pub(crate) resume: bool,
    /// `CLAUDE_CONFIG_DIR`, where `ccl` was given one.
    pub(crate) config_dir: Option<&'a Path>,
    pub(crate) hooks: bool,
    /// The file with the key that it is to use.
    pub(crate) api_key_file: Option<&'a Path>,
    pub(crate) questions: Questions,
    /// Used for a turn in which `model` is overloaded.
    pub(crate) fallback_model: Option<&'a str>,
}

/// The paths of one launch, `NAME.run` and so on.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) run: PathBuf,
    pub(crate) prompt: PathBuf,
    pub(crate) ticket: PathBuf,
    pub(crate) exit: PathBuf,
    /// `NAME.hook`, the script that Claude Code's hooks run.
    pub(crate) hook: PathBuf,
    /// `NAME.stop`, the input of the last `Stop` hook.
    pub(crate) stop: PathBuf,
    /// What judges its work.
    pub(crate) check: CheckFiles,
}

/// `NAME.check`, `NAME.check-ticket` and `NAME.check-exit`.
#[derive(Debug, Clone)]
pub(crate) struct CheckFiles {
    pub(crate) script: PathBuf,
    pub(crate) ticket: PathBuf,
    pub(crate) exit: PathBuf,
}

/// What the agent is asked to do: a sentence stands in place of an empty body, and control characters
/// other than newline and tab are left out.
pub(crate) fn message(dispatcher: &Dispatcher, task: &str, body: &str, task_path: &Path) -> String {
    let no_text = format!(
        "The task file {} has no text below its header: carry out what its header says.",
        task_path.display()
    );
    let body = if body.trim().is_empty() { &no_text } else { body };
    let mut message = dispatcher.fill_message(task, body);
    message.retain(|c| !c.is_control() || c == '\n' || c == '\t');
    message
}

/// The message for a task whose agent was ended before its turn was over. It says why, so that the same does not happen
/// once more.
pub(crate) fn message_after(timeout: Option<Timeout>, message: String) -> String {
    let why = match timeout {
        None => return message,
        Some(Timeout::MaxDuration) => {
            "it took longer than its `max_duration` allows. Leave out what is not asked for."
        }
        Some(Timeout::Stall) => {
            "nothing happened for as long as its `stall` allows. Give a time limit to each command that may hang."
        }
    };
    format!(
        "{message}\n\nThe work on this task was cut off before: {why} Go on from what is there already."
    )
}

impl Files {
    pub(crate) fn remove(&self) -> Result<()> {
        let CheckFiles { script, ticket, exit } = &self.check;
        let check = [ticket, script, exit];
        let agent = [&self.ticket, &self.run, &self.prompt, &self.exit, &self.hook, &self.stop];
        for file in agent.into_iter().chain(check) {
            durable::remove(file)?;
        }
        Ok(())
    }
}

impl Launch<'_> {
    pub(crate) fn script(&self) -> Result<String> {
        let files = self.files;
        let first = self.command.first().map_or("", String::as_str);
        let (ticket, exit) = (quote_path(&files.ticket)?, quote_path(&files.exit)?);
        let (directory, run_file) = (quote_path(self.directory)?, quote_path(&files.run)?);
        let run = self.run;
        let start = match self.kind {
            // It takes the script's place: its transcript shows how its turn ended, and nobody has to note it.
            AgentKind::Claude => format!("exec {}", self.command_line()?),
            // SIGTERM is for the agent: were the script to end before it, the terminal would hang up on it.
            AgentKind::Command => format!("trap : TERM\n{}\nfinish $?", self.command_line()?),
        };
        // The run is compared first: this file may be the next run's by the time the shell of a slow window reads it.
        // CCL_PID distinguishes the agent from what it starts, which inherits both variables. What keeps the agent from
        // starting is noted before the ticket is taken: where the pass is killed, the next one finds the ticket, and
        // counts no attempt. `finish` tries again and again: on a full disk the exit would be lost. It stops when the
        // session's files are cleared.
        Ok(format!(
            "# Run {run} of ccl. It starts once: whoever removes the ticket starts it.\n\
             [ \"${{CCL_RUN-}}\" = {run} ] || exit 0\n\
             [ \"${{CCL_PID-}}\" = $$ ] || CCL_PID=$$ exec sh {run_file}\n\
             unset CLAUDECODE CLAUDE_CODE_ENTRYPOINT SECUTOOLS_API_KEY CREDENTIALS_DIRECTORY\n\
             finish() {{ until {{ echo \"{run} $1\" > {exit}.new && mv {exit}.new {exit}; }} 2>/dev/null; do\n\
             \t[ -e {run_file} ] || exit; sleep 1; done; exit; }}\n\
             cd {directory} || finish {no_directory}\n\
             {config_dir}\
             {env}\
             command -v {program} >/dev/null || finish {no_program}\n\
             rm {ticket} 2>/dev/null || exit 0\n\
             {setup}\
             {start}\n",
            no_directory = command::Exit::NO_DIRECTORY,
            no_program = command::Exit::NO_PROGRAM,
            program = quote(first)?,
            config_dir = self.config_dir()?,
            env = self.variables()?,
            setup = self.setup.as_ref().map_or(Ok(String::new()), Setup::script)?,
        ))
    }

    /// Claude Code has its files where `ccl` looks for them, or does not start.
    fn config_dir(&self) -> Result<String> {
        Ok(match &self.claude {
            None => String::new(),
            Some(ClaudeOptions { config_dir: Some(dir), .. }) => {
                format!("export CLAUDE_CONFIG_DIR={}\n", quote_path(dir)?)
            }
            Some(_) => format!(
                "[ -z \"${{CLAUDE_CONFIG_DIR-}}\" ] || finish {}\n",
                command::Exit::OTHER_CONFIG_DIR
            ),
        })
    }

    fn variables(&self) -> Result<String> {
        let mut lines = String::new();
        // Claude Code would prefer a key in its environment to the one of the file.
        if self.claude.as_ref().is_some_and(|claude| claude.api_key_file.is_some()) {
            lines
                .push_str("unset ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN CLAUDE_CODE_OAUTH_TOKEN\n");
        }
        for (name, value) in self.env {
            lines.push_str(&format!("export {name}={}\n", quote(value)?));
        }
        Ok(lines)
    }

    /// The agent's command, with what `ccl` adds to it, as a line of shell.
    fn command_line(&self) -> Result<String> {
        let mut words = Vec::new();
        let mut has_prompt = false;
        for word in self.command {
            words.push(self.filled(word)?);
            has_prompt |= word.contains(PROMPT) || word.contains(PROMPT_FILE);
        }
        if let Some(claude) = &self.claude {
            let id = claude.session.to_string();
            let flag = if claude.resume { "--resume" } else { "--session-id" };
            for word in ["--model", claude.model, flag, &id] {
                words.push(quote(word)?);
            }
            // Measured: 2.1.200 and 2.1.332 take it in a terminal too, 2.1.100 ignores it there.
            if let Some(fallback) = claude.fallback_model.filter(|it| *it != claude.model) {
                words.extend(["--fallback-model".to_owned(), quote(fallback)?]);
            }
            let hook = claude.hooks.then_some(self.files.hook.as_path());
            let settings = claude::settings(hook, claude.questions, claude.api_key_file)?;
            if let Some(settings) = settings {
                words.extend(["--settings".to_owned(), quote(&settings)?]);
            }
            // Claude Code takes a message like `--help` for an option, and one like `update` for a subcommand, behind
            // `--` too: the newline at its end makes it neither.
            words.extend(["--".to_owned(), format!("{}\"\n\"", self.prompt()?)]);
        } else if !has_prompt {
            words.push(self.prompt()?);
        }
        Ok(words.join(" "))
    }

    /// A word of `agent.command` with the prompt, or its file, where it says so.
    fn filled(&self, word: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = word;
        // `{prompt_file}` does not begin with `{prompt}`: the brace differs.
        while let Some(start) = rest.find(PROMPT).into_iter().chain(rest.find(PROMPT_FILE)).min() {
            let (before, from) = rest.split_at(start);
            if !before.is_empty() {
                filled.push_str(&quote(before)?);
            }
            if let Some(after) = from.strip_prefix(PROMPT) {
                filled.push_str(&self.prompt()?);
                rest = after;
            } else {
                filled.push_str(&quote_path(&self.files.prompt)?);
                rest = &from[PROMPT_FILE.len()..];
            }
        }
        if filled.is_empty() || !rest.is_empty() {
            filled.push_str(&quote(rest)?);
        }
        Ok(filled)
    }

    /// The prompt as one word: read from its file when the agent starts, or, where it is too long for an argument, a
    /// sentence that names the file.
    fn prompt(&self) -> Result<String> {
        if self.message.len() > MAX_ARGUMENT {
            let path = self.files.prompt.display();
            return quote(&format!(
                "Read the file {path} and carry out the task that it describes."
            ));
        }
        Ok(format!("\"$(cat {})\"", quote_path(&self.files.prompt)?))
    }
}

/// The script that Claude Code's hooks run, with the event's name as its
/// argument: it keeps the input of `Stop` in `stop`, and has tmux call `assign`,
/// whose standard input is not the hook's. Any output would put the pane into a
/// mode, and so would an exit code, which tmux shows there: so there is neither.
pub(crate) fn hook_script(tmux: &[String], assign: &[String], stop: &Path) -> Result<String> {
    let tmux = tmux.iter().map(|word| quote(word)).collect::<Result<Vec<_>>>()?;
    // tmux expands `#` in what it runs.
    let command =
        format!("{} >/dev/null 2>&1 </dev/null || true", assign.join(" ")).replace('#', "##");
    Ok(format!(
        "exec >/dev/null 2>&1\n\
         if [ \"$1\" = Stop ]; then cat > {stop}.new && mv {stop}.new {stop}; fi\n\
         exec {tmux} run-shell -b {command}\n",
        stop = quote_path(stop)?,
        tmux = tmux.join(" "),
        command = quote(&command)?,
    ))
}

/// A path as one word of a shell's command line.
pub(crate) fn quote_path(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    quote(text)
}

pub(crate) fn quote(text: &str) -> Result<String> {
    shlex::try_quote(text)
        .map(Cow::into_owned)
        .with_context(|| format!("a NUL cannot be passed to a program: {text:?}"))
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
            check: CheckFiles {
                script: dir.join("a.check"),
                ticket: dir.join("a.check-ticket"),
                exit: dir.join("a.check-exit"),
            },
        };
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        let launch = Launch {
            command: &command,
            kind: AgentKind::Command,
            env: &BTreeMap::new(),
            run: Uuid::nil(),
            directory: &dir.join("pro ject"),
            setup: None,
            files: &files,
            message,
            claude: None,
        };
        std::fs::create_dir_all(launch.directory).unwrap();
        std::fs::write(&files.run, launch.script().unwrap()).unwrap();
        std::fs::write(&files.prompt, message).unwrap();
        if ticket {
            std::fs::write(&files.ticket, "").unwrap();
        }
        let run = Uuid::nil().to_string();
        let output = Command::new("sh").arg(&files.run).env("CCL_RUN", run).output().unwrap();
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

    #[test]
    fn the_prompt_stands_where_the_command_says() {
        let dir = tempfile::tempdir().unwrap();
        let show = |words: &[&str]| {
            let command = ["sh", "-c", "printf '<%s>' \"$@\"", "sh"];
            let command: Vec<&str> = command.iter().chain(words).copied().collect();
            let output = run(dir.path(), &command, "it's\n$(x)", true);
            output.replace(&dir.path().display().to_string(), "DIR")
        };
        assert_eq!(show(&["-m"]), "<-m><it's\n$(x)>|0");
        assert_eq!(show(&["{prompt}", "end"]), "<it's\n$(x)><end>|0");
        let file = "DIR/a $(b).prompt";
        assert_eq!(show(&["--file={prompt_file}", ""]), format!("<--file={file}><>|0"));
        assert_eq!(
            show(&["{prompt_file}'{prompt}:{prompt}"]),
            format!("<{file}'it's\n$(x):it's\n$(x)>|0")
        );
    }

    #[test]
    fn a_copy_that_was_cut_off_is_made_again() {
        for (cut_off, file) in [("printf wh >\"$3\"", "it's"), ("mkdir \"$3\"", "it's/a")] {
            let dir = tempfile::tempdir().unwrap();
            let (project, worktree) = (dir.path().join("pro ject"), dir.path().join("T"));
            let stamp = dir.path().join("it's ready");
            for (path, text) in [(file, "whole"), ("first", "whole"), ("tracked", "theirs")] {
                let path = project.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            std::fs::create_dir(&worktree).unwrap();
            std::fs::write(worktree.join("tracked"), "git's").unwrap();
            let copy = ["tracked", "first", "it's"].map(str::to_owned);
            let setup = Setup { from: &project, copy: &copy, command: None, stamp: &stamp };
            let run = |before: &str| {
                let script =
                    format!("finish() {{ exit 1; }}\n{before}\n{}", setup.script().unwrap());
                let mut command = Command::new("sh");
                command.args(["-c", &script]).current_dir(&worktree).status().unwrap().success()
            };
            let killed = format!(
                "cp() {{ case $3 in *first) command cp \"$@\";; *) {cut_off}; kill -KILL $$;; esac; }}"
            );
            assert!(!run(&killed) && !stamp.exists() && worktree.join("it's").exists());
            assert!(!run("printf() { return 1; }") && !stamp.exists());
            assert!(run("") && stamp.exists());
            let diff = Command::new("diff").arg("-r").args([&project, &worktree]).output().unwrap();
            let diff = String::from_utf8_lossy(&diff.stdout).into_owned();
            assert!(diff.lines().all(|line| !line.starts_with("Only in")), "{diff}");
            assert!(diff.contains("< theirs\n") && diff.lines().count() == 7, "{diff}");
        }
    }

    #[test]
    fn what_a_person_puts_where_a_copy_has_failed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let [project, worktree] = ["project", "T"].map(|name| dir.path().join(name));
        for directory in [&project, &worktree] {
            std::fs::create_dir(directory).unwrap();
        }
        std::fs::write(project.join("env"), "whole").unwrap();
        let (copy, stamp) = (["env".to_owned()], dir.path().join("ready"));
        let setup = Setup { from: &project, copy: &copy, command: None, stamp: &stamp };
        let run = |before: &str| {
            let script = format!("finish() {{ exit 1; }}\n{before}\n{}", setup.script().unwrap());
            let mut command = Command::new("sh");
            command.args(["-c", &script]).current_dir(&worktree).status().unwrap().success()
        };
        assert!(!run("cp() { printf wh >\"$3\"; return 1; }") && !worktree.join("env").exists());
        std::fs::write(worktree.join("env"), "by hand").unwrap();
        assert!(run("") && stamp.exists());
        assert_eq!(std::fs::read_to_string(worktree.join("env")).unwrap(), "by hand");
    }

    #[test]
    fn the_script_of_another_run_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run(dir.path(), &["echo"], "x", true), "x\n|0");
        let files = ["it's a.run", "a.ticket"].map(|name| dir.path().join(name));
        std::fs::write(&files[1], "").unwrap();
        let run = Uuid::new_v4().to_string();
        let output = Command::new("sh").arg(&files[0]).env("CCL_RUN", run).output().unwrap();
        assert!(output.stdout.is_empty() && files[1].exists());
    }
}
