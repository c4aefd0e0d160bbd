//! `ccl job`: the job API of secutools by hand, for scripts, and a look at jobs of the remote engine.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use uuid::Uuid;

use super::{Answer, Context, read_bytes};
use crate::cli::JobCommand;
use crate::error::Failure;
use crate::queue;
use crate::remote::secutools::{self, Client};
use crate::remote::{
    self, Certainty, Engine, EngineError, EngineKind, ErrorKind, Job, JobId, JobStatus, Limits,
    NotAccepted,
};
use crate::report::Report;
use crate::task::{self, Field, HeaderState, Preference, Provider, Task};
use crate::text::escape;

/// The pause before the second look at a job; it grows by half with every further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// `--wait` gives up after this many failures in a row: about two minutes.
const MOST_FAILURES: u32 = 12;

/// The longest result that a person may ask for, in bytes: more than a pass would take.
const LONGEST_ANSWER: u64 = 256 << 20;

/// Why no task is given to the remote engine by hand.
const AN_INBOX: &str =
    "a task for `remote` goes through an inbox: only so its work comes back as a branch";

pub(super) fn run(context: Context<'_>, command: &JobCommand) -> Result<Answer> {
    match command {
        JobCommand::Submit { file, provider } => match engine(context, EngineKind::Secutools)? {
            Engine::Secutools(client) => submit(context, &client, file, *provider),
            Engine::Ray(_) => Err(anyhow!(AN_INBOX)),
        },
        JobCommand::Get { id } => {
            let job = engine(context, id.engine())?.get(id).map_err(no_answer)?;
            Ok(Report::Job { job }.into())
        }
        JobCommand::Result { id, wait } => {
            let engine = engine(context, id.engine())?;
            let job = match wait {
                true => wait_for(context, &engine, id)?,
                false => engine.get(id).map_err(no_answer)?,
            };
            let projects = match engine {
                Engine::Secutools(_) => Vec::new(),
                Engine::Ray(_) => context.projects()?,
            };
            let job = engine.with_output(job, &projects)?;
            Ok(result(context, &engine, job))
        }
    }
}

/// The engine, which has to be configured.
fn engine(context: Context<'_>, kind: EngineKind) -> Result<Engine<'_>> {
    let limits = Limits { longest_answer: LONGEST_ANSWER, ..Limits::default() };
    let engine = Engine::of(kind, context.config, limits)?;
    engine.ok_or_else(|| {
        let off = remote::why_off(kind, context.config);
        anyhow!(Failure::Config(format!("{} cannot be asked: {off}", kind.as_str())))
    })
}

fn submit(
    context: Context<'_>,
    client: &Client,
    file: &Path,
    provider: Option<Provider>,
) -> Result<Answer> {
    let file_name = file
        .file_name()
        .with_context(|| format!("{} is no file", file.display()))?
        .to_string_lossy();
    // A pipe, such as `/dev/fd/63`, cannot be resolved, and lies in no inbox.
    let place = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let directory = place.parent().unwrap_or(Path::new("/"));
    ensure!(
        !directory.ends_with(Path::new(queue::QUEUE).join("inbox")),
        "{} lies in an inbox: `ccl scan` delegates it; submitted by hand as well it would run twice. Copy it to another place",
        file.display()
    );
    let task = read_bytes(file)
        .and_then(|bytes| Ok(task::parse(task::text_of(&bytes)?)))
        .with_context(|| format!("{} is not submitted", file.display()))?;
    context.warn_about(file, &task);
    let provider = provider.or_else(|| provider_of(&task));
    ensure!(provider != Some(Provider::Remote), "{} is not submitted: {AN_INBOX}", file.display());
    let provider = provider.with_context(|| {
        format!(
            "{} names no provider: add `preferred_ai: gpu`, `gemini` or `claude-api` to its header, or give --provider",
            file.display()
        )
    })?;
    let body =
        secutools::request_body(&task, &file_name, directory, provider, &context.config.host);
    let accepted = client
        .submit(body.as_bytes(), Uuid::new_v4())
        .map_err(|error| not_submitted(file, &error))?;
    let job = Job {
        id: accepted.id,
        status: accepted.status,
        provider: Some(provider.as_str().to_owned()),
        output: None,
        cost: None,
        error: None,
    };
    Ok(Report::Job { job }.into())
}

/// The remote provider that a sound header names. Bad input never leaves this machine by itself.
fn provider_of(task: &Task) -> Option<Provider> {
    match task.header.routing.preferred_ai {
        Field::Given(Preference::Provider(provider))
            if provider.is_remote() && task.header.routing.state == HeaderState::Sound =>
        {
            Some(provider)
        }
        _ => None,
    }
}

fn not_submitted(file: &Path, error: &NotAccepted) -> anyhow::Error {
    let sentence = format!("{} is not submitted: {error}", file.display());
    match error.certainty {
        Certainty::NeverReached | Certainty::Later => Failure::Temporary(sentence).into(),
        Certainty::Refused => anyhow!(sentence),
        // Not a temporary failure: a script that tries again would make a second job.
        Certainty::Ambiguous => anyhow!(
            "it is not known whether {} was submitted: {error}; look at secutools before you submit it again",
            file.display()
        ),
    }
}

fn no_answer(error: EngineError) -> anyhow::Error {
    if is_lasting(&error) { error.into() } else { Failure::Temporary(error.text).into() }
}

/// Whether asking again would bring the same error.
fn is_lasting(error: &EngineError) -> bool {
    matches!(error.kind, ErrorKind::UnknownJob | ErrorKind::Unauthorized | ErrorKind::TooLong)
}

/// Asks until the job has ended, with ever longer pauses. A server that fails for a while is asked again.
fn wait_for(context: Context<'_>, engine: &Engine<'_>, id: &JobId) -> Result<Job> {
    let _waiting = context.progress.wait_for(&format!("job {id}"));
    let (mut pause, mut failures) = (FIRST_PAUSE, 0);
    loop {
        let mut retry_after = None;
        match engine.get(id) {
            Ok(job) if job.status.is_final() => return Ok(job),
            Ok(_) => failures = 0,
            Err(error) => {
                failures += 1;
                if is_lasting(&error) || failures > MOST_FAILURES {
                    return Err(no_answer(error));
                }
                context.log.warn(&error);
                retry_after = error.retry_after;
            }
        }
        thread::sleep(retry_after.unwrap_or(pause));
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// What the job has made. The exit status says how the job ended.
fn result(context: Context<'_>, engine: &Engine<'_>, job: Job) -> Answer {
    let exit = match &job.status {
        JobStatus::Succeeded => 0,
        status if status.is_final() => {
            let no_reason = format!("{} gives no reason", engine.name());
            let why = job.error.as_deref().unwrap_or(&no_reason);
            context.log.error(format_args!(
                "job {} has ended as {}: {}",
                job.id,
                escape(status.as_str()),
                escape(why)
            ));
            1
        }
        status => {
            context.log.warn(format_args!(
                "job {} has not ended, it is {}: ask again later, or with --wait",
                job.id,
                escape(status.as_str())
            ));
            75
        }
    };
    Answer { report: Report::Output { job }, exit }
}
