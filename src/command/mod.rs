//! The verbs: parse, run one, print its report, end with the right status.

mod add;
mod assign;
mod cancel;
mod decide;
mod delegate;
mod dispatch;
mod doctor;
mod job;
mod projects;
mod reap;
mod retry;
mod scan;
mod status;
mod target;

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory, Parser};
use jiff::Timestamp;

use crate::cli::{Cli, Command};
use crate::concurrent;
use crate::config::{Config, DelegationOff};
use crate::durable;
use crate::environment::Environment;
use crate::error::{self, Failure};
use crate::event::{Event, EventKind};
use crate::log::{Log, Style};
use crate::progress::Progress;
use crate::queue::Project;
use crate::report::{self, Report, TerminalStyle};
use crate::router;
use crate::session::{Pool, Session, Trigger};
use crate::task::{self, Provider, Routing, Task};

/// What every verb works with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    config: &'a Config,
    log: &'a Log,
    progress: &'a Progress,
    /// The pass' time; the clock is read once.
    now: Timestamp,
}

/// What a pass did, and what in it failed: one task's or project's failure does
/// not keep the others from being served.
#[derive(Default)]
pub(crate) struct Pass {
    events: Vec<Event>,
    free_sessions: Option<usize>,
    exit: u8,
}

/// What a verb found out, and the status to end with.
pub(crate) struct Finished {
    report: Report,
    exit: u8,
}

impl From<Report> for Finished {
    fn from(report: Report) -> Self {
        Self { report, exit: 0 }
    }
}

impl From<Pass> for Finished {
    fn from(pass: Pass) -> Self {
        Self {
            exit: pass.exit,
            report: Report::Pass { events: pass.events, free_sessions: pass.free_sessions },
        }
    }
}

impl Pass {
    /// Takes what a step brought about; a failure is reported at once, and ends the
    /// pass with its status once everything else is done.
    fn take(&mut self, context: Context<'_>, step: Result<Vec<Event>>) {
        match step {
            Ok(events) => self.events.extend(events),
            Err(error) => {
                context.log.error(format_args!("{error:#}"));
                self.exit = combine_exit(self.exit, error::exit_code(&error));
            }
        }
    }

    /// What could be had; each failure is reported, and none keeps the others from being had.
    fn keep<T>(&mut self, context: Context<'_>, found: Vec<Result<T>>) -> Vec<T> {
        let mut kept = Vec::new();
        for one in found {
            match one {
                Ok(one) => kept.push(one),
                Err(error) => self.take(context, Err(error)),
            }
        }
        kept
    }

    /// Notes a failure that was reported already.
    fn fail(&mut self) {
        self.exit = combine_exit(self.exit, 1);
    }

    /// The end of a pass that changed something, with one line for a journal that is read a day later:
    /// `scan: 2 dispatched`.
    fn finish_with_summary(self, log: &Log, verb: &str) -> Finished {
        if let Some(summary) = self.summary() {
            log.summary(format_args!("{verb}: {summary}"));
        }
        self.into()
    }

    /// What happened how often, and to whom; none where nothing did. A task that is held back is so every minute, and
    /// `status` says why.
    fn summary(&self) -> Option<String> {
        /// How many are named.
        const NAMED: usize = 5;
        const KINDS: [(EventKind, &str); 6] = [
            (EventKind::Dispatched, "dispatched"),
            (EventKind::Delegated, "delegated"),
            (EventKind::Done, "done"),
            (EventKind::Failed, "failed"),
            (EventKind::Released, "released"),
            (EventKind::Cooldown, "on cooldown"),
        ];
        let counted = KINDS.iter().filter_map(|(kind, word)| {
            let events = self.events.iter().filter(|event| event.event == *kind);
            let names: Vec<&str> = events.map(Event::subject).collect();
            let first = names.get(..NAMED).unwrap_or(&names).join(", ");
            let more = if names.len() > NAMED { ", …" } else { "" };
            (!names.is_empty()).then(|| format!("{} {word} ({first}{more})", names.len()))
        });
        let counted: Vec<String> = counted.collect();
        (!counted.is_empty()).then(|| counted.join(", "))
    }
}

/// A failure outweighs what may work later.
fn combine_exit(one: u8, other: u8) -> u8 {
    match (one, other) {
        (0, status) | (status, 0) => status,
        (75, status) => status,
        (status, _) => status,
    }
}

/// Runs the command line, prints its report and returns the exit status.
pub fn main(environment: &Environment) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Standard output or error may be gone, and then there is nobody to inform.
            let _ = usage.print();
            return ExitCode::from(if usage.use_stderr() { 2 } else { 0 });
        }
    };
    let progress = Progress::on_stderr(cli.level());
    let mut log = Log::new(cli.level(), Style::of_stderr(environment), Box::new(progress.clone()));
    if io::stdout().is_terminal() {
        // The result on standard output has a line for each event.
        log = log.without_events();
    }
    let now = Timestamp::now();
    let finish = || -> Result<u8> {
        let Finished { report, exit } = run(&cli, environment, &log, &progress, now)?;
        let text = match cli.json() {
            true => report.json()?,
            false => report.text(now, || TerminalStyle::of_stdout(environment)),
        };
        report::print(&text).context("cannot write to standard output")?;
        Ok(exit)
    };
    ExitCode::from(finish().unwrap_or_else(|error| {
        log.error(format_args!("{error:#}"));
        error::exit_code(&error)
    }))
}

fn run(
    cli: &Cli,
    environment: &Environment,
    log: &Log,
    progress: &Progress,
    now: Timestamp,
) -> Result<Finished> {
    // Only read where it is needed: `man` works with a broken configuration, too.
    let config = OnceCell::new();
    let context = || -> Result<Context<'_>> {
        let read = Config::load(&cli.overrides(), environment)?;
        read.warnings.iter().for_each(|warning| log.warn(warning));
        Ok(Context { config: config.get_or_init(|| read), log, progress, now })
    };
    Ok(match &cli.command {
        Command::Scan { dry_run: true, .. } => scan::run(context()?, true)?.into(),
        Command::Scan { .. } => scan::run(context()?, false)?.finish_with_summary(log, "scan"),
        Command::Reap { dry_run: true } => reap::run(context()?, true)?.into(),
        Command::Reap { .. } => reap::run(context()?, false)?.finish_with_summary(log, "reap"),
        Command::Assign { session, run, .. } => {
            let pass = assign::run(context()?, session.as_deref(), *run)?;
            pass.finish_with_summary(log, "assign")
        }
        Command::Decide { files } => decide::run(context()?, files),
        Command::Add(new) => add::run(context()?, environment.current_dir.as_deref(), new)?.into(),
        Command::Retry { task, .. } => retry::run(context()?, task)?.into(),
        Command::Cancel { task, .. } => cancel::run(context()?, task)?.into(),
        Command::Status { format } => status::run(context()?, *format, cli.global.json)?,
        Command::Doctor => doctor::run(context()?, environment),
        Command::Job(command) => job::run(context()?, command)?,
        Command::Completions { shell } => Report::Text(completions(*shell)?).into(),
        Command::Man { command } => Report::Text(manual(command)?).into(),
    })
}

fn completions(shell: clap_complete::Shell) -> Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ccl", &mut script);
    Ok(String::from_utf8(script)?)
}

/// The page of `ccl`, or of the command that the words name.
fn manual(words: &[String]) -> Result<String> {
    let mut whole = Cli::command();
    whole.build();
    let mut command = &whole;
    for word in words {
        command = command.find_subcommand(word).ok_or_else(|| {
            let name = words.join(" ");
            Failure::Usage(format!("there is no command {name}: see `ccl --help`"))
        })?;
    }
    let mut page = Vec::new();
    let manual = clap_mangen::Man::new(command.clone());
    manual.render(&mut page).context("cannot write the manual page")?;
    Ok(String::from_utf8(page)?)
}

impl<'a> Context<'a> {
    fn projects(self) -> Result<Vec<Project>> {
        let paths = projects::project_dirs(self.config, self.log)?;
        Ok(paths.into_iter().map(Project::new).collect())
    }

    fn pool(self) -> Result<Pool<'a>> {
        Pool::read(self.config, self.log, self.now)
    }

    /// Who works on a task: what the router decides, or the local agent where
    /// delegation is off. Where there is an address but no key, as in a hook,
    /// the key may be where `scan` runs.
    fn destination(self, routing: &Routing) -> Provider {
        match self.config.secutools {
            Ok(_) | Err(DelegationOff::NoKey) => {
                router::decide(routing, &self.config.auto_routes).provider
            }
            Err(_) => Provider::ClaudeCode,
        }
    }

    /// Files what the sessions did, all of them at once: one that has to be
    /// waited for does not hold up the others.
    fn reconcile(self, pool: &Pool<'_>, sessions: &[Session], dry_run: bool, pass: &mut Pass) {
        let reconciled = concurrent::map(sessions.iter().collect(), |session| match dry_run {
            true => pool.reconcile_dry_run(session),
            false => pool.reconcile(session, Trigger::Poll),
        });
        for step in reconciled {
            pass.take(self, step);
        }
    }
}

/// Reads a task file, wherever it lies; a pipe will do.
fn read_task(path: &Path) -> Result<Task> {
    // One byte more than a task may have, so that one that is too large is seen to be.
    const MAX_READ: u64 = (task::MAX_BYTES + task::MAX_ENDING_BYTES) as u64 + 1;
    let bytes = File::open(path)
        .and_then(|file| durable::read_at_most(file, MAX_READ))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(task::parse(task::text_of(&bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_summed_up_in_one_line_that_names_the_first_few() {
        let event =
            |kind, number: u32| Event { task: Some(format!("{number}.md")), ..Event::new(kind) };
        let mut pass = Pass::default();
        assert_eq!(pass.summary(), None);
        pass.events.push(event(EventKind::Held, 0));
        assert_eq!(pass.summary(), None);
        pass.events.push(event(EventKind::Done, 1));
        let dispatched = (2..8).map(|number| event(EventKind::Dispatched, number));
        pass.events.extend(dispatched);
        assert_eq!(
            pass.summary().as_deref(),
            Some("6 dispatched (2.md, 3.md, 4.md, 5.md, 6.md, …), 1 done (1.md)")
        );
    }
}
