//! The verbs: parse, run one, print its report, end with the right status.

mod assign;
mod decide;
mod delegate;
mod dispatch;
pub mod job;
mod reap;
mod scan;
mod status;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory, Parser};
use jiff::Timestamp;

use crate::cli::{Cli, Command};
use crate::config::{Config, Environment};
use crate::error;
use crate::log::Log;
use crate::queue::Project;
use crate::report::{self, Event, EventKind, Report};
use crate::session::{Pool, Session, Word};

/// What every verb works with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    config: &'a Config,
    log: &'a Log,
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

/// A report, and the status to end with.
pub(crate) struct Outcome {
    report: Report,
    exit: u8,
}

impl From<Report> for Outcome {
    fn from(report: Report) -> Self {
        Self { report, exit: 0 }
    }
}

impl From<Pass> for Outcome {
    fn from(pass: Pass) -> Self {
        Self {
            exit: pass.exit,
            report: Report::Pass(report::Pass {
                events: pass.events,
                free_sessions: pass.free_sessions,
            }),
        }
    }
}

impl Pass {
    /// Takes what a step brought about; a failure is told at once, and ends the
    /// pass with its status once everything else is done.
    fn take(&mut self, context: Context<'_>, step: Result<Vec<Event>>) {
        match step {
            Ok(events) => self.events.extend(events),
            Err(error) => {
                context.log.error(format_args!("{error:#}"));
                self.exit = worse(self.exit, error::exit_code(&error));
            }
        }
    }

    /// Notes a failure that was told already.
    fn fail(&mut self) {
        self.exit = worse(self.exit, 1);
    }

    /// One line for a log that is read a day later; none where nothing happened.
    fn summary(&self) -> Option<String> {
        const KINDS: [(EventKind, &str); 7] = [
            (EventKind::Dispatched, "dispatched"),
            (EventKind::Delegated, "delegated"),
            (EventKind::Done, "done"),
            (EventKind::Failed, "failed"),
            (EventKind::Released, "released"),
            (EventKind::Cooldown, "resting"),
            (EventKind::Held, "held"),
        ];
        let counts: Vec<String> = KINDS
            .iter()
            .map(|(kind, word)| {
                let count = self.events.iter().filter(|e| e.event == *kind).count();
                (count, word)
            })
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        (!counts.is_empty()).then(|| counts.join(", "))
    }
}

/// A failure outweighs what may work later.
fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (0, status) | (status, 0) => status,
        (75, status) => status,
        (status, _) => status,
    }
}

/// Runs the command line and tells the exit status.
pub fn main(environment: &Environment) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Standard output or error may be gone; there is nobody left to tell.
            let _ = usage.print();
            return ExitCode::from(if usage.use_stderr() { 2 } else { 0 });
        }
    };
    let log = Log::to_stderr(cli.level(), environment);
    let now = Timestamp::now();
    let run = || -> Result<u8> {
        let outcome = run(&cli, environment, &log, now)?;
        let text = outcome.report.render(cli.global.json, now)?;
        report::print(&text).context("cannot write to standard output")?;
        Ok(outcome.exit)
    };
    ExitCode::from(run().unwrap_or_else(|error| {
        log.error(format_args!("{error:#}"));
        error::exit_code(&error)
    }))
}

fn run(cli: &Cli, environment: &Environment, log: &Log, now: Timestamp) -> Result<Outcome> {
    let with_config = |verb: &dyn Fn(Context<'_>) -> Result<Outcome>| {
        let config = Config::load(&cli.overrides(), environment)?;
        verb(Context {
            config: &config,
            log,
            now,
        })
    };
    match &cli.command {
        Command::Scan { dry_run, .. } => with_config(&|c| Ok(scan::run(c, *dry_run)?.into())),
        Command::Assign { session, run, .. } => {
            with_config(&|c| Ok(assign::run(c, session.as_deref(), *run)?.into()))
        }
        Command::Reap { dry_run } => with_config(&|c| Ok(reap::run(c, *dry_run)?.into())),
        Command::Decide { files } => with_config(&|c| Ok(decide::run(c, files))),
        Command::Status => with_config(&status::run),
        Command::Job(_) => with_config(&job::run),
        Command::Completions { shell } => print_completions(*shell),
        Command::Man => print_manual(),
    }
}

fn print_completions(shell: clap_complete::Shell) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ccl", &mut script);
    Ok(Report::Text(String::from_utf8(script)?).into())
}

fn print_manual() -> Result<Outcome> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .context("cannot write the manual page")?;
    Ok(Report::Text(String::from_utf8(page)?).into())
}

impl<'a> Context<'a> {
    fn projects(self) -> Result<Vec<Project>> {
        let paths = self.config.project_dirs(self.log)?;
        Ok(paths.into_iter().map(Project::new).collect())
    }

    fn pool(self) -> Result<Pool<'a>> {
        Pool::read(self.config, self.log, self.now)
    }

    /// Files what the sessions did, all of them at once: one that has to be
    /// waited for does not hold up the others.
    fn settle(self, pool: &Pool<'_>, sessions: &[Session], pass: &mut Pass) {
        let settled: Vec<Result<Vec<Event>>> = std::thread::scope(|scope| {
            let running: Vec<_> = sessions
                .iter()
                .map(|session| scope.spawn(move || pool.settle(session, Word::Pass)))
                .collect();
            running.into_iter().map(join).collect()
        });
        for step in settled {
            pass.take(self, step);
        }
    }
}

/// A thread's result; a panic in it goes on here.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
