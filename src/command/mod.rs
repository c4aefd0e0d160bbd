//! The verbs: parse, run one, print its report, end with the right status.

mod add;
mod assign;
mod cancel;
mod decide;
mod delegate;
mod dispatch;
mod doctor;
mod http;
mod job;
mod land;
mod pause;
mod preconditions;
mod projects;
mod reap;
mod report;
mod resume;
mod retry;
mod scan;
mod status;
mod target;
mod trust;
mod waits;

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
use crate::config::Config;
use crate::durable;
use crate::environment::Environment;
use crate::error::{self, Failure};
use crate::event::{Event, EventKind};
use crate::hold::{Holds, Lineup, Wanted};
use crate::journal::Entry;
use crate::last_scan;
use crate::log::{Log, Style};
use crate::notify;
use crate::progress::Progress;
use crate::queue::Project;
use crate::records::Records;
use crate::report::{Report, TerminalStyle, print, warning};
use crate::router::{self, Decision, Rule};
use crate::session::{Pool, Session, Trigger};
use crate::task::{self, Header, Provider, Task};
use crate::text::escape;

/// What every verb works with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    config: &'a Config,
    log: &'a Log,
    records: &'a Records<'a>,
    progress: &'a Progress,
    /// The clock is read once.
    now: Timestamp,
    /// How the agents stand; `None` unless `failover` names secutools. Then secutools takes over the tasks that no
    /// agent can take soon, or the remote engine does, where a task's hint names that.
    lineup: Option<&'a Lineup<'a>>,
    /// Secutools' jobs of today have cost as much as they may: its tasks run here until midnight.
    secutools_over_budget: bool,
}

/// What a pass did. A task or project that fails does not stop the others.
#[derive(Default)]
pub(crate) struct Pass {
    events: Vec<Event>,
    free_sessions: Option<usize>,
    exit: u8,
}

/// What a verb prints, and its exit status.
pub(crate) struct Answer {
    report: Report,
    exit: u8,
}

impl From<Report> for Answer {
    fn from(report: Report) -> Self {
        Self { report, exit: 0 }
    }
}

impl From<Pass> for Answer {
    fn from(pass: Pass) -> Self {
        Self {
            exit: pass.exit,
            report: Report::Pass { events: pass.events, free_sessions: pass.free_sessions },
        }
    }
}

impl Pass {
    /// Reports a failure at once; the pass goes on, and ends with the failure's status.
    fn fail(&mut self, context: Context<'_>, error: &anyhow::Error) {
        context.log.error(format_args!("{error:#}"));
        self.exit = combine_exit(self.exit, error::exit_code(error));
    }

    /// What a step returned, unless it failed.
    fn ok<T>(&mut self, context: Context<'_>, step: Result<T>) -> Option<T> {
        step.inspect_err(|error| self.fail(context, error)).ok()
    }

    /// Adds what happened, and writes it into the journal.
    fn record(&mut self, context: Context<'_>, event: Event) {
        context.records.note(&Entry::of(&event));
        self.events.push(event);
    }

    /// Adds what happened in a step, unless it failed.
    fn take(&mut self, context: Context<'_>, step: Result<Vec<Event>>) {
        let events = self.ok(context, step);
        self.events.extend(events.into_iter().flatten());
    }

    /// The end of a pass that changed something, with one line for the journal, `scan: 2 dispatched`.
    fn finish_with_summary(self, log: &Log, verb: &str) -> Answer {
        if let Some(summary) = self.summary() {
            log.summary(format_args!("{verb}: {summary}"));
        }
        self.into()
    }

    /// What happened, how often, and the names of the first few; `None` where nothing did. Held tasks are left out:
    /// they would stand there every minute.
    fn summary(&self) -> Option<String> {
        const NAMED: usize = 5;
        const KINDS: [(EventKind, &str); 8] = [
            (EventKind::Dispatched, "dispatched"),
            (EventKind::Delegated, "delegated"),
            (EventKind::Done, "done"),
            (EventKind::Failed, "failed"),
            (EventKind::Landed, "landed"),
            (EventKind::Checked, "checked"),
            (EventKind::Released, "released"),
            (EventKind::Cooldown, "on cooldown"),
        ];
        let counted: Vec<String> = KINDS
            .iter()
            .filter_map(|(kind, word)| {
                let events = self.events.iter().filter(|event| event.event == *kind);
                let names: Vec<&str> = events.map(Event::subject).collect();
                let first = names.get(..NAMED).unwrap_or(&names).join(", ");
                let more = if names.len() > NAMED { ", …" } else { "" };
                (!names.is_empty()).then(|| format!("{} {word} ({first}{more})", names.len()))
            })
            .collect();
        (!counted.is_empty()).then(|| counted.join(", "))
    }
}

/// One exit status for two: a failure outweighs 75, which stands for what may work later.
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
            // Where standard output and error are gone, nobody can read it.
            let _ = usage.print();
            return ExitCode::from(if usage.use_stderr() { 2 } else { 0 });
        }
    };
    let progress = Progress::on_stderr(cli.level());
    let mut log = Log::new(cli.level(), Style::of_stderr(environment), Box::new(progress.clone()));
    if io::stdout().is_terminal() {
        // The result has a line for each event: on the same terminal each would stand there twice.
        log = log.without_events();
    }
    let now = Timestamp::now();
    let (config, records, lineup) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
    // The configuration is only read where it is needed: `man` works with a broken one, too.
    let context = || -> Result<Context<'_>> {
        if config.get().is_none() {
            let read = Config::load(&cli.overrides(), environment)?;
            read.warnings.iter().for_each(|warning| log.warn(warning));
            let _is_first = config.set(read);
        }
        let config = config.get().context("the configuration was not read")?;
        let records = records.get_or_init(|| Records::new(config, &log));
        Ok(Context::new(config, &log, records, &progress, now, &lineup))
    };
    let finish = || -> Result<u8> {
        let Answer { report, exit } = run(&cli, environment, &log, now, context)?;
        let text = match cli.json() {
            true => report.json()?,
            false => report.text(now, || TerminalStyle::of_stdout(environment)),
        };
        print(&text).context("cannot write to standard output")?;
        Ok(exit)
    };
    let exit = finish().unwrap_or_else(|error| {
        log.error(format_args!("{error:#}"));
        error::exit_code(&error)
    });
    // Sent after the result, so that a slow receiver does not delay it.
    if let (true, Some(records)) = (cli.changes_something(), records.get()) {
        records.outbox().send(notify::BUDGET);
    }
    ExitCode::from(exit)
}

fn run<'a>(
    cli: &Cli,
    environment: &Environment,
    log: &Log,
    now: Timestamp,
    context: impl Fn() -> Result<Context<'a>>,
) -> Result<Answer> {
    Ok(match &cli.command {
        Command::Scan { dry_run: true, .. } => scan::run(context()?, true)?.into(),
        Command::Scan { .. } => {
            let context = context()?;
            // Noted also where it failed: `status` and `/healthz` show that scans are made, however they end.
            let scanned = scan::run(context, false);
            context.note_scan();
            scanned?.finish_with_summary(log, "scan")
        }
        Command::Reap { dry_run: true } => reap::run(context()?, true)?.into(),
        Command::Reap { .. } => reap::run(context()?, false)?.finish_with_summary(log, "reap"),
        Command::Assign { session, run, .. } => {
            let pass = assign::run(context()?, session.as_deref(), *run)?;
            pass.finish_with_summary(log, "assign")
        }
        Command::Decide { files } => decide::run(context()?, files),
        Command::Add(new) => add::run(context()?, environment.current_dir.as_deref(), new)?.into(),
        Command::Retry { task, .. } => retry::run(context()?, task)?.into(),
        Command::Land { task, .. } => land::run(context()?, task)?.into(),
        Command::Cancel { task, .. } => cancel::run(context()?, task)?.into(),
        Command::Status { watch: true, format } => {
            status::watch(context()?, environment, *format, cli.global.json)?.into()
        }
        Command::Status { format, .. } => status::run(context()?, *format, cli.global.json)?,
        Command::Http => http::run(log, now, context).into(),
        Command::Pause { reason, .. } => pause::run(context()?, environment, reason)?.into(),
        Command::Resume { .. } => resume::run(context()?)?.into(),
        Command::Report { since, format, .. } => {
            report::run(context()?, since, *format, cli.global.json)?
        }
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
    /// `lineup` is filled where the route of tasks depends on it.
    fn new(
        config: &'a Config,
        log: &'a Log,
        records: &'a Records<'a>,
        progress: &'a Progress,
        now: Timestamp,
        lineup: &'a OnceCell<Lineup<'a>>,
    ) -> Self {
        let holds = Holds::new(config, now);
        // A sum that cannot be read may be too high: secutools gets nothing, and all else goes on.
        let secutools_over_budget = holds.is_secutools_over_budget().unwrap_or_else(|error| {
            log.warn(format_args!("secutools gets no task until this is mended: {error:#}"));
            true
        });
        let may_take_over = config.agents.secutools_after.is_some();
        let lineup = may_take_over.then(|| lineup.get_or_init(|| holds.lineup()));
        Self { config, log, records, progress, now, lineup, secutools_over_budget }
    }

    /// Reports what is odd about a task file.
    fn warn_about(self, file: &Path, task: &Task) {
        for found in &task.warnings {
            let place = Some((found.line, found.column));
            self.log.warn(warning(file, place, &escape(&found.message)));
        }
    }

    /// Notes that a scan has ended, however it did. Where that cannot be noted, it is reported, and stops nothing.
    fn note_scan(self) {
        if let Err(error) = last_scan::touch(&self.config.state_dir) {
            self.log.warn(format_args!("{error:#}"));
        }
    }

    fn projects(self) -> Result<Vec<Project>> {
        let paths = projects::project_dirs(self.config, self.log)?;
        Ok(paths.into_iter().map(Project::new).collect())
    }

    fn pool(self) -> Result<Pool<'a>> {
        Pool::read(self.config, self.log, self.now)
    }

    /// The agent that a project pins its tasks to, where that matters for their route. Rules that cannot be read pin
    /// nothing: they hold the project's tasks later.
    fn pin_of(self, project: &Project) -> Option<String> {
        // The route depends on the pin only where secutools may take over.
        self.lineup?;
        self.config.project_rules(&project.rules_path()).ok()?.agent
    }

    /// Who works on a task: what the router decides, or the local agent where delegation is off.
    fn destination(self, header: &Header, of_project: Option<&str>) -> Provider {
        let provider = self.route(header, of_project).provider;
        if self.config.delegates_to(provider) { provider } else { Provider::ClaudeCode }
    }

    /// What a task asks of the agents of this machine; `of_project` is the agent that its project pins it to.
    fn wanted<'t>(
        self,
        task: &'t str,
        header: &'t Header,
        of_project: Option<&'t str>,
    ) -> Wanted<'t>
    where
        'a: 't,
    {
        let models = &self.config.dispatcher.models;
        Wanted {
            task,
            agent: header.pin.agent.as_deref().or(of_project),
            model: header.pin.model.as_deref().unwrap_or(models.for_priority(header.priority)),
        }
    }

    /// Where the router sends a task; or `failover`, where no agent of this machine can take the task soon.
    fn route(self, header: &Header, of_project: Option<&str>) -> Decision {
        let auto = &self.config.auto_routes;
        let decision = router::decide(&header.routing, auto);
        // Secutools' budget does not limit the remote engine.
        let is_spent = |provider: Provider| {
            let is_at_secutools = provider.is_remote() && provider != Provider::Remote;
            is_at_secutools && self.secutools_over_budget
        };
        if is_spent(decision.provider) {
            return Decision { provider: Provider::ClaudeCode, rule: Rule::OverBudget };
        }
        // Without its name: whether it was a probe before does not change where it goes.
        let wanted = self.wanted("", header, of_project);
        let instead = match self.lineup.is_some_and(|lineup| lineup.goes_to_secutools(wanted)) {
            true => router::failover(&header.routing, auto),
            false => None,
        };
        instead.filter(|it| !is_spent(it.provider)).unwrap_or(decision)
    }

    /// Files what the sessions did, all at once: one that has to be waited for does not hold up the others.
    fn reconcile(self, pool: &Pool<'_>, sessions: &[Session], dry_run: bool, pass: &mut Pass) {
        let reconciled = concurrent::map(sessions.iter().collect(), |session| match dry_run {
            true => pool.reconcile_dry_run(session),
            false => pool.reconcile(session, Trigger::Poll),
        });
        for step in reconciled {
            pass.take(self, step);
        }
        if !dry_run {
            self.reconcile_waiting_to_land(pool, sessions, pass);
        }
    }

    /// Looks once more at the sessions whose branches wait for others to land, one after the other: it may be their
    /// turn now.
    fn reconcile_waiting_to_land(self, pool: &Pool<'_>, sessions: &[Session], pass: &mut Pass) {
        for session in pool.waiting_to_land(sessions) {
            pass.take(self, pool.reconcile(&session, Trigger::Poll));
        }
    }
}

/// Reads as much of a file as a task may have, wherever it lies; a pipe will do.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    File::open(path)
        .and_then(|file| durable::read_at_most(file, task::MAX_READ))
        .with_context(|| format!("cannot read {}", path.display()))
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
