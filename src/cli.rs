//! Every command and flag.

use crate::config::Overrides;
use crate::log::Level;
use crate::remote::JobId;
use crate::task::{Complexity, Preference, Priority, Provider};
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
  ccl decide .agent-queue/inbox/*.md     say where it would go
  ccl scan                               hand it to an agent
  ccl status                             show sessions and tasks
  ccl reap                               file what has ended";

/// Hands Markdown task files to coding agents: Claude Code in tmux sessions, or the secutools AI platform over HTTP.
///
/// A task is a Markdown file in a project's .agent-queue/inbox. Every call makes one pass and exits; call `ccl reap` and
/// `ccl scan` once a minute from a timer. Each task in an inbox is then worked on and filed in done/ or failed/.
#[derive(Debug, Clone, Parser)]
#[command(name = "ccl", version, after_help = EXIT_STATUS, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Read this configuration [default: $CCL_CONFIG, else $XDG_CONFIG_HOME/ccl/config.yaml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Keep the state here (for hooks, which may run in another environment)
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say why things are done
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Route every waiting task: delegate it, or dispatch it to a free session
    #[command(after_help = "\
Examples:
  ccl scan                              the projects of the configuration, or the current one
  ccl scan --dry-run                    change nothing, only say what would be done
  ccl scan --project /srv/app --json    one project, as JSON")]
    Scan {
        /// Change nothing, only say what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Look at this project only, whatever the configuration says; may be repeated
        #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        project: Vec<PathBuf>,
    },
    /// File what an idle session did, and give it the next local task
    #[command(after_help = "\
Examples:
  ccl assign                 the session that this is called in
  ccl assign ccl-auto-0      this session")]
    Assign {
        /// The tmux session [default: the one that ccl is called in]
        session: Option<String>,
        /// The project of the session's task, where no configuration names it
        #[arg(long, value_name = "DIR", hide = true, value_hint = ValueHint::DirPath)]
        project: Vec<PathBuf>,
        /// The run that has ended; a hook may come late, when the session has another one
        #[arg(long, value_name = "UUID", hide = true)]
        run: Option<Uuid>,
    },
    /// File what has ended, in sessions and elsewhere
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
    /// Show sessions, queues, jobs, cooldowns, stale tasks and counts
    #[command(after_help = "\
Examples:
  ccl status
  ccl status --json | jq .stale      how many tasks have been at work for too long
  ccl status --format prometheus > ccl.prom.new && mv ccl.prom.new ccl.prom
                                     for node_exporter's textfile collector
  ccl status --format html > ccl.html
  ccl status --watch                 on the terminal, until `q` is pressed")]
    Status {
        /// The form of the result; `json` is the same as --json
        #[arg(long, value_name = "FORM")]
        format: Option<StatusFormat>,
        /// Show it again every two seconds, until `q` or C-c is pressed
        #[arg(short, long)]
        watch: bool,
    },
    /// Answer one HTTP request on standard input; systemd's ccl-http.socket makes a server of it
    #[command(after_help = "\
There are / (the page), /api/status, /api/delegated/status, /api/report?since=24h, /watchdog/status, /metrics and /healthz. \
Nothing can be changed, and only names of this machine and those under `http.hosts` are answered.

Examples:
  systemctl --user enable --now ccl-http.socket && curl http://localhost:7433/healthz
  printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' | ccl http")]
    Http,
    /// Hand nothing out until `ccl resume`; what is at work goes on, and is filed
    #[command(after_help = "\
A file made by `touch` does the same: paused in the state directory, or in a project's .agent-queue.

Examples:
  ccl pause 'a release is under way'
  ccl pause --project . 'the tests are being rewritten'")]
    Pause {
        /// Pause this project only; may be repeated
        #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        project: Vec<PathBuf>,
        /// Why, for those who wonder
        reason: Vec<String>,
    },
    /// Hand out again, and end the holds that wait for a person
    #[command(after_help = "\
Ends the pause of everything, or of one project with --project. Recurring tasks that are held after three failures, and \
agents that wait for a person, go on, too.

Examples:
  ccl resume
  ccl resume --project .")]
    Resume {
        /// Resume this project only; may be repeated
        #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        project: Vec<PathBuf>,
    },
    /// Say what was done, what failed, what waits for you, and what it cost, as a page of Markdown
    #[command(after_help = "\
Examples:
  ccl report                               the last 24 hours
  ccl report --since yesterday             yesterday, from midnight to midnight
  ccl report --since 2026-11-26 --json     that day, as JSON
  ccl report --since 7d > week.md")]
    Report {
        /// A duration until now (24h, 7d), `today`, `yesterday`, or a day (2026-11-26)
        #[arg(long, value_name = "WHEN", default_value = "24h")]
        since: String,
        /// The form of the result; `json` is the same as --json
        #[arg(long, value_name = "FORM")]
        format: Option<ReportFormat>,
        /// Report on this project only; may be repeated
        #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        project: Vec<PathBuf>,
    },
    /// Put a new task into an inbox and print its path
    #[command(after_help = "\
The task is named after its title, else after FILE, else after its first words; a number is added where the name is \
taken. The options are written into the task's header and replace what it says.

Examples:
  ccl add --priority high --title 'Fix the login' notes.md
  echo 'Update the dependencies and run the tests' | ccl add
  git diff | ccl add --title 'Review this' --provider gemini --allow-delegation")]
    Add(NewTask),
    /// Put a failed or finished task back into the inbox; its attempts start again at 1
    #[command(after_help = "\
A finished task is copied without its result; the original stays in done/.

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
    /// Bring a finished task's branch into the branch that it started from
    #[command(after_help = "\
Its commits are put onto the end of that branch, as `land: rebase` does it; nothing is forced.

Examples:
  ccl land fix-login
  ccl land .agent-queue/done/fix-login.md")]
    Land {
        /// The task's path, or its name in done/
        #[arg(value_hint = ValueHint::FilePath)]
        task: OsString,
        /// Look for it in this project only
        #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        project: Option<PathBuf>,
    },
    /// Cancel a task, waiting or at work, and file it in failed/
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
Exits with 0 only if every check passes. A check that does not apply, such as linger without systemd, does not count.

Examples:
  ccl doctor
  ccl doctor --json | jq -r '.checks[] | select(.ok == false) | .remedy'")]
    Doctor,
    /// Talk to the job API of secutools by hand, and look at jobs of the remote engine
    #[command(subcommand)]
    Job(JobCommand),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  ccl completions bash > ~/.local/share/bash-completion/completions/ccl
  ccl completions fish > ~/.config/fish/completions/ccl.fish")]
    Completions {
        /// The shell to print completions for
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

#[derive(Debug, Clone, Args)]
pub(crate) struct NewTask {
    /// The task in Markdown [default: standard input, as with `-`]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// The project [default: the one around the current directory, else the only one configured]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) project: Option<PathBuf>,
    /// How urgent it is
    #[arg(long, value_parser = priority())]
    pub(crate) priority: Option<Priority>,
    /// The title that lists show
    #[arg(short, long)]
    pub(crate) title: Option<String>,
    /// A tag; the option may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Who should work on it
    #[arg(long, visible_alias = "preferred-ai", value_parser = PossibleValuesParser::new(Preference::words()))]
    pub(crate) provider: Option<String>,
    /// How hard it is, for --provider auto
    #[arg(long, visible_alias = "complexity-hint", value_parser = PossibleValuesParser::new(Complexity::ALL.map(Complexity::as_str)))]
    pub(crate) complexity: Option<String>,
    /// The task may leave this machine
    #[arg(long)]
    pub(crate) allow_delegation: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFormat {
    /// Tables for people
    Text,
    /// One JSON object
    Json,
    /// Metrics in Prometheus' text format
    Prometheus,
    /// A page for a browser
    Html,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// A page for people
    Markdown,
    /// One JSON object
    Json,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum JobCommand {
    /// Submit a file as a job, and print the job
    #[command(after_help = "\
The provider is the one of --provider, else the file's `preferred_ai`; one of them is needed. A file in an inbox is \
refused: `ccl scan` delegates it, and the task would run twice.

Examples:
  ccl job submit review.md --provider gemini
  id=$(ccl job submit review.md --json | jq -r .job.id)")]
    Submit {
        /// A task file that lies in no inbox
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Who works on it, instead of the file's `preferred_ai`
        #[arg(long, value_parser = remote_provider())]
        provider: Option<Provider>,
    },
    /// Print a job's state
    #[command(after_help = "\
Examples:
  ccl job get job_123
  ccl job get ccl-3f0c2a51-8d1e-4a57-9a3b-6f2f0c1d2e4b")]
    Get {
        /// The id that `ccl job submit` printed, or `ccl status` shows
        #[arg(value_parser = job_id)]
        id: JobId,
    },
    /// Print a job's result; exits with 75 while the job is unfinished
    #[command(after_help = "\
Examples:
  ccl job result job_123 --wait > answer.md")]
    Result {
        /// The id that `ccl job submit` printed, or `ccl status` shows
        #[arg(value_parser = job_id)]
        id: JobId,
        /// Wait until the job has ended
        #[arg(long)]
        wait: bool,
    },
}

fn priority() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(Priority::ALL.map(Priority::as_str)).try_map(|word| word.parse())
}

/// The providers that take jobs by hand.
fn remote_provider() -> impl TypedValueParser<Value = Provider> {
    let by_hand = |provider: &Provider| provider.is_remote() && *provider != Provider::Remote;
    let remote = Provider::ALL.into_iter().filter(by_hand);
    PossibleValuesParser::new(remote.map(Provider::as_str)).try_map(|word| word.parse())
}

fn job_id(text: &str) -> Result<JobId, String> {
    JobId::try_from(text.to_owned())
}

impl Cli {
    pub(crate) fn level(&self) -> Level {
        match (self.global.quiet, self.global.verbose) {
            (true, _) => Level::Warn,
            (_, true) => Level::Debug,
            (false, false) => Level::Info,
        }
    }

    pub(crate) fn json(&self) -> bool {
        self.global.json
            || match self.command {
                Command::Status { format, .. } => format == Some(StatusFormat::Json),
                Command::Report { format, .. } => format == Some(ReportFormat::Json),
                _ => false,
            }
    }

    /// Whether the command may change anything: then it also sends what waits for people.
    pub(crate) fn changes_something(&self) -> bool {
        match &self.command {
            Command::Scan { dry_run, .. } | Command::Reap { dry_run } => !dry_run,
            Command::Assign { .. }
            | Command::Pause { .. }
            | Command::Resume { .. }
            | Command::Add(_)
            | Command::Retry { .. }
            | Command::Land { .. }
            | Command::Cancel { .. } => true,
            Command::Decide { .. }
            | Command::Status { .. }
            | Command::Http
            | Command::Report { .. }
            | Command::Doctor
            | Command::Job(_)
            | Command::Completions { .. }
            | Command::Man { .. } => false,
        }
    }

    pub(crate) fn overrides(&self) -> Overrides {
        let projects = match &self.command {
            Command::Scan { project, .. }
            | Command::Assign { project, .. }
            | Command::Pause { project, .. }
            | Command::Resume { project }
            | Command::Report { project, .. } => project,
            Command::Retry { project, .. }
            | Command::Land { project, .. }
            | Command::Cancel { project, .. } => project.as_slice(),
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
