//! Every command and flag (section 8 of the design).

use crate::config::Overrides;
use crate::log::Level;
use crate::remote::JobId;
use crate::task::{Priority, Provider};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;
use uuid::Uuid;

const EXIT_STATUS: &str = "\
Exit status:
  0   the pass was made, also when there was nothing to do
  1   something in it failed; standard error says what
  2   wrong usage
  75  impossible right now (no tmux server, disk full, server unreachable)
  78  the configuration is wrong";

const EXAMPLES: &str = "\
Examples:
  mkdir -p .agent-queue/inbox            make this directory a project
  echo 'Fix the login' > .agent-queue/inbox/fix-login.md
  ccl decide .agent-queue/inbox/*.md     where would it go?
  ccl scan                               hand it to an agent
  ccl status                             what is everybody doing?
  ccl reap                               file what has ended";

/// Hands Markdown task files to coding agents: Claude Code in tmux sessions, or the secutools AI platform over HTTP.
///
/// A task is a Markdown file in a project's .agent-queue/inbox. Every call makes one pass and exits; call `ccl scan` and
/// `ccl reap` once a minute, from a timer, and what was dropped into an inbox is worked on and ends up in done/ or
/// failed/.
#[derive(Debug, Clone, Parser)]
#[command(name = "ccl", version, after_help = EXIT_STATUS, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Read this configuration [default: $CCL_CONFIG, else $XDG_CONFIG_HOME/ccl/config.yaml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Keep the state here; for hooks, which may run in another environment
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub state_dir: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// Say why things are done
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub quiet: bool,
}

/// One command and what it takes.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Route every waiting task: delegate it, or dispatch it to a free session
    #[command(after_help = "\
Examples:
  ccl scan                              the projects of the configuration, or the current one
  ccl scan --dry-run                    only say what would be done
  ccl scan --project /srv/app --json    one project, as JSON")]
    Scan {
        /// Change nothing, only say what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Look at this project only, whatever the configuration says; may be repeated
        #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        project: Vec<PathBuf>,
    },
    /// A session is idle: file what it did, and give it the next local task
    #[command(after_help = "\
Examples:
  ccl assign                 the session that this is called in
  ccl assign ccl-auto-0      this session")]
    Assign {
        /// The tmux session [default: the one that ccl is called in]
        session: Option<String>,
        /// The project of the task that the session had, where no configuration names one.
        #[arg(long, value_name = "DIR", hide = true, value_hint = ValueHint::DirPath)]
        project: Vec<PathBuf>,
        /// The run that the session is idle of: a hook may come late.
        #[arg(long, value_name = "UUID", hide = true)]
        run: Option<Uuid>,
    },
    /// File what has ended, in sessions and at secutools
    #[command(after_help = "\
Examples:
  ccl reap                look at what was dispatched and delegated, and file what has ended
  ccl reap --dry-run      only say what would be filed")]
    Reap {
        /// Change nothing, only say what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Say where each task would go, and by which rule; changes nothing
    #[command(after_help = "\
Examples:
  ccl decide task.md
  ccl decide --json .agent-queue/inbox/*.md | jq -r '.decisions[] | .task + \" \" + .provider'")]
    Decide {
        /// Task files, wherever they lie
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Show sessions, queues, jobs, cooldowns, stale tasks and counters
    #[command(after_help = "\
Examples:
  ccl status
  ccl status --json | jq .stale      how many tasks have been worked on for too long?
  ccl status --format prometheus > ccl.prom.new && mv ccl.prom.new ccl.prom
                                     for node_exporter's textfile collector")]
    Status {
        /// The form of the result; `json` is the same as --json
        #[arg(long, value_name = "FORM")]
        format: Option<StatusFormat>,
    },
    /// Put a new task into an inbox, complete or not at all, and print its path
    #[command(after_help = "\
The task's name is made from its title, else from FILE's name, else from its first words; where it is taken, a number is
added. What the options say stands in the task's header, in place of what stood there.

Examples:
  ccl add --priority high --title 'Fix the login' notes.md
  echo 'Update the dependencies and run the tests' | ccl add
  git diff | ccl add --title 'Review this' --provider gemini --allow-delegation")]
    Add(NewTask),
    /// Put a task that failed, or was done, back into the inbox; it starts afresh
    #[command(after_help = "\
What was done is copied, without its result: the record of it stays in done/.

Examples:
  ccl retry fix-login
  ccl retry .agent-queue/failed/fix-login.md")]
    Retry {
        /// The task's path, or its name in failed/ or done/
        #[arg(value_hint = ValueHint::FilePath)]
        task: OsString,
        /// Look for it in this project only
        #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        project: Option<PathBuf>,
    },
    /// Withdraw a task that waits, or end the agent or job that works on it; it is filed in failed/
    #[command(after_help = "\
Examples:
  ccl cancel fix-login
  ccl cancel .agent-queue/inbox/fix-login.md.dispatched")]
    Cancel {
        /// The task's path, or its name in the inbox
        #[arg(value_hint = ValueHint::FilePath)]
        task: OsString,
        /// Look for it in this project only
        #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        project: Option<PathBuf>,
    },
    /// Check what a pass needs, and say how to mend what is missing
    #[command(after_help = "\
Ends with 0 only if all is well. What does not apply here, as linger without systemd, is named and not counted.

Examples:
  ccl doctor
  ccl doctor --json | jq -r '.checks[] | select(.ok == false) | .remedy'")]
    Doctor,
    /// Talk to secutools' job API by hand
    #[command(subcommand)]
    Job(JobCommand),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  ccl completions bash > ~/.local/share/bash-completion/completions/ccl
  ccl completions fish > ~/.config/fish/completions/ccl.fish")]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print a manual page
    #[command(after_help = "\
Examples:
  ccl man | man -l -
  ccl man job submit | man -l -")]
    Man {
        /// The command that it is about [default: ccl as a whole]
        command: Vec<String>,
    },
}

/// A task that is added.
#[derive(Debug, Clone, Args)]
pub struct NewTask {
    /// What to do, in Markdown; with `-` or without it, standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// The project [default: the one around the current directory, else the only one configured]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub project: Option<PathBuf>,
    /// How urgent it is
    #[arg(long, value_parser = priority())]
    pub priority: Option<Priority>,
    /// Its title
    #[arg(short, long)]
    pub title: Option<String>,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Who should work on it
    #[arg(long, visible_alias = "preferred-ai", value_parser = ["auto", "claude-code", "gpu", "gemini", "claude-api"])]
    pub provider: Option<String>,
    /// How hard it is, for --provider auto
    #[arg(long, visible_alias = "complexity-hint", value_parser = ["low", "medium", "high"])]
    pub complexity: Option<String>,
    /// It may leave this machine
    #[arg(long)]
    pub allow_delegation: bool,
}

/// What `status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// Tables for people
    Text,
    /// One JSON object
    Json,
    /// Metrics in Prometheus' text format
    Prometheus,
}

/// The job API by hand, for scripts.
#[derive(Debug, Clone, Subcommand)]
pub enum JobCommand {
    /// Submit a file as a job, and print the job
    #[command(after_help = "\
The file must name its provider (`preferred_ai`), or --provider does. A file in an inbox is refused: `ccl scan` delegates
those, and submitted twice it would run twice.

Examples:
  ccl job submit review.md --provider gemini
  id=$(ccl job submit review.md --json | jq -r .job.id)")]
    Submit {
        /// A task file that lies in no inbox
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Who works on it, whatever the file says
        #[arg(long, value_parser = remote_provider())]
        provider: Option<Provider>,
    },
    /// Print a job's state
    #[command(after_help = "\
Examples:
  ccl job get job_123")]
    Get {
        /// The job's id
        #[arg(value_parser = job_id)]
        id: JobId,
    },
    /// Print what a job has made; ends with 75 while it is unfinished
    #[command(after_help = "\
Examples:
  ccl job result job_123 --wait > answer.md")]
    Result {
        /// The job's id
        #[arg(value_parser = job_id)]
        id: JobId,
        /// Wait until it has ended
        #[arg(long)]
        wait: bool,
    },
}

fn priority() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(Priority::ALL.map(Priority::as_str))
        .map(|word| word.parse().unwrap_or_default())
}

/// The providers that take jobs.
fn remote_provider() -> impl TypedValueParser<Value = Provider> {
    PossibleValuesParser::new(["gpu", "gemini", "claude-api"]).map(|word| match word.as_str() {
        "gpu" => Provider::Gpu,
        "gemini" => Provider::Gemini,
        _ => Provider::ClaudeApi,
    })
}

fn job_id(text: &str) -> Result<JobId, String> {
    JobId::try_from(text.to_owned())
}

impl Cli {
    /// How much is said on standard error.
    #[must_use]
    pub fn level(&self) -> Level {
        match (self.global.quiet, self.global.verbose) {
            (true, _) => Level::Warn,
            (_, true) => Level::Debug,
            (false, false) => Level::Info,
        }
    }

    /// Whether the result is printed as one JSON object.
    #[must_use]
    pub fn json(&self) -> bool {
        let form = match &self.command {
            Command::Status { format } => *format,
            _ => None,
        };
        self.global.json || form == Some(StatusFormat::Json)
    }

    /// What goes before the configuration file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let projects = match &self.command {
            Command::Scan { project, .. } | Command::Assign { project, .. } => project.as_slice(),
            Command::Retry { project, .. } | Command::Cancel { project, .. } => project.as_slice(),
            Command::Add(new) => new.project.as_slice(),
            _ => &[],
        };
        Overrides {
            config: self.global.config.clone(),
            projects: projects.to_vec(),
            state_dir: self.global.state_dir.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
