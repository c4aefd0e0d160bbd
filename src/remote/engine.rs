//! The engine that runs jobs, secutools or Ray, behind the same few methods.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use jiff::SignedDuration;
use serde_json::json;
use uuid::Uuid;

use super::marker::{Delegated, ExchangeNote};
use super::output;
use super::ray::RayClient;
use super::run::Refs;
use super::secutools::{self, Client};
use super::{
    Accepted, Certainty, EngineError, EngineKind, ErrorKind, Job, JobId, Limits, NotAccepted,
};
use crate::agent;
use crate::check;
use crate::checkout::{EXCHANGE_LIMIT, Exchange, OpenError, Repository, Terms, Travel};
use crate::concurrent::locked;
use crate::config::{Config, ExchangeAt, RemoteEngine, Uncommitted};
use crate::error::Failure;
use crate::queue::{Project, WaitingTask};
use crate::task::{Provider, Task, TaskRules};
use crate::text::escape;

/// The shell script that a job runs; its head says what it does.
const RUNNER: &str = include_str!("runner.sh");

/// How long an agent may work where no `max_duration` is set: without a limit it could occupy its node for ever.
const LONGEST_WORK: SignedDuration = SignedDuration::from_hours(6);

/// Somewhat less than the 128 KiB that the kernel takes for one word of a command line.
const LONGEST_ENTRYPOINT: usize = 120 << 10;

/// The engine of a [`super::Delegation`].
pub(crate) enum Engine<'a> {
    Secutools(Box<Client>),
    Ray(Box<RayEngine<'a>>),
}

/// What a task needs besides its text before it can be submitted.
pub(super) enum Ground {
    /// Nothing: its text alone goes to the engine.
    Text,
    Travel(Box<Travel>, TaskRules),
    /// The task is held; the sentence says how to mend that.
    Held(String),
}

impl<'a> Engine<'a> {
    /// The engine of this kind; `None` where the configuration has none.
    pub(crate) fn of(kind: EngineKind, config: &'a Config, limits: Limits) -> Result<Option<Self>> {
        Ok(match (kind, &config.secutools, &config.remote) {
            (EngineKind::Secutools, Ok(secutools), _) => {
                Some(Self::Secutools(Box::new(super::client(secutools, limits)?)))
            }
            (EngineKind::Ray, _, Some(settings)) => {
                Some(Self::Ray(Box::new(RayEngine::new(settings, config, limits)?)))
            }
            _ => None,
        })
    }

    pub(super) fn kind(&self) -> EngineKind {
        match self {
            Self::Secutools(_) => EngineKind::Secutools,
            Self::Ray(_) => EngineKind::Ray,
        }
    }

    /// Its name in sentences.
    pub(crate) fn name(&self) -> &'static str {
        self.kind().as_str()
    }

    pub(super) fn ground(&self, waiting: &WaitingTask) -> Result<Ground> {
        match self {
            Self::Secutools(_) => Ok(Ground::Text),
            Self::Ray(ray) => ray.ground(waiting),
        }
    }

    /// The request's body as it is sent at every try, and what the marker says of the exchange.
    pub(super) fn compose(
        &self,
        waiting: &WaitingTask,
        provider: Provider,
        ground: Ground,
        key: Uuid,
        host: &str,
    ) -> Result<(String, Option<ExchangeNote>)> {
        match (self, ground) {
            (Self::Ray(ray), Ground::Travel(travel, rules)) => {
                let note = ray.compose(waiting, *travel, rules, key, host)?;
                // The request stands in the note, which outlives the submission: it may be sent again later.
                Ok((String::new(), Some(note)))
            }
            _ => {
                let (name, project) = (waiting.at.name.as_str(), waiting.at.project.path());
                Ok((secutools::request_body(&waiting.task, name, project, provider, host), None))
            }
        }
    }

    /// Asks for the marker's job. The marker on the disk must say already that the job may exist.
    pub(super) fn submit(
        &self,
        project: &Path,
        marker: &Delegated,
        request: &str,
    ) -> Result<Accepted, NotAccepted> {
        match (self, &marker.exchange) {
            (Self::Secutools(client), _) => client.submit(request.as_bytes(), marker.key),
            (Self::Ray(ray), Some(note)) => ray.submit(project, marker.key, note),
            (Self::Ray(_), None) => Err(no_exchange("its marker names no exchange".to_owned())),
        }
    }

    pub(crate) fn get(&self, id: &JobId) -> Result<Job, EngineError> {
        match self {
            Self::Secutools(client) => client.get(id),
            Self::Ray(ray) => ray.client.get(id),
        }
    }

    /// Adds to a job that has ended what its agent has printed. For a job at Ray that is in the exchange until the task
    /// is filed.
    pub(crate) fn with_output(&self, job: Job, projects: &[Project]) -> Result<Job> {
        match (self, JobId::key(&job.id)) {
            (Self::Ray(ray), Some(key)) if job.status.is_final() => {
                Ok(Job { output: ray.output_of(key, projects)?, ..job })
            }
            _ => Ok(job),
        }
    }

    pub(super) fn cancel(&self, id: &JobId) -> Result<(), EngineError> {
        match self {
            Self::Secutools(client) => client.cancel(id),
            Self::Ray(ray) => ray.client.cancel(id),
        }
    }
}

/// A submission that failed because of the exchange. `Later`: the engine was not asked, so there is no job yet.
fn no_exchange(text: String) -> NotAccepted {
    let error = EngineError { kind: ErrorKind::NoExchange, retry_after: None, text };
    NotAccepted { certainty: Certainty::Later, error }
}

/// The refs of an exchange with what they name, or why there is no answer.
type Listing = Result<Arc<HashMap<String, String>>, String>;

/// A Ray head, and what one pass knows of the exchanges.
pub(crate) struct RayEngine<'a> {
    pub(super) client: RayClient,
    settings: &'a RemoteEngine,
    config: &'a Config,
    /// For each project: whether it can go to the exchange, looked up once in a pass.
    departures: Mutex<HashMap<PathBuf, Departure>>,
    /// For each exchange's address: its refs, asked for once in a pass, or why there is no answer.
    listed: Mutex<HashMap<String, Listing>>,
}

impl<'a> RayEngine<'a> {
    pub(super) fn new(
        settings: &'a RemoteEngine,
        config: &'a Config,
        limits: Limits,
    ) -> Result<Self> {
        Ok(Self {
            client: ray_client(settings, limits)?,
            settings,
            config,
            departures: Mutex::default(),
            listed: Mutex::default(),
        })
    }

    /// What the agent of a run has printed; `None` where no exchange has a result of it (any more).
    fn output_of(&self, key: Uuid, projects: &[Project]) -> Result<Option<String>> {
        let scratch = tempfile::tempdir().context("cannot make a directory")?;
        let name = Refs::of(key).run;
        let mut failed = None;
        for url in self.exchanges(projects) {
            let exchange = Exchange::scratch(scratch.path(), &url)?;
            let refs = match exchange.list() {
                Ok(refs) => refs,
                // The result may lie in another exchange: only if none has it is this the answer.
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            if let Some(commit) = refs.get(&name) {
                exchange.fetch(&name, EXCHANGE_LIMIT)?;
                let printed = exchange.read_file(commit, "output")?;
                return Ok(Some(output::read(&printed).text));
            }
        }
        failed.map_or(Ok(None), |error| Err(error.into()))
    }

    /// The exchanges of these projects. A project that is no repository any more has none.
    fn exchanges(&self, projects: &[Project]) -> BTreeSet<String> {
        let exchange = &self.settings.exchange;
        if let ExchangeAt::Url(url) = exchange {
            return [url.clone()].into();
        }
        let urls = projects.iter().filter_map(|project| {
            Repository::open(project.path()).and_then(|it| it.exchange_url(exchange)).ok()
        });
        urls.collect()
    }

    fn ground(&self, waiting: &WaitingTask) -> Result<Ground> {
        let project = &waiting.at.project;
        let rules = match self.config.project_rules(&project.rules_path()) {
            Ok(rules) => rules.for_task(&waiting.task.header.rules),
            Err(error) => return Ok(Ground::Held(format!("{error:#}"))),
        };
        // Held while git looks: the tasks of one project wait for one look.
        let mut departures = locked(&self.departures);
        let departure = match departures.get(project.path()) {
            Some(known) => known.clone(),
            None => {
                let found = departure(self.settings, project.path())?;
                departures.insert(project.path().to_owned(), found.clone());
                found
            }
        };
        Ok(match departure {
            Departure::Ready(travel) => Ground::Travel(travel, rules),
            Departure::Held(why) => Ground::Held(why),
        })
    }

    /// Makes the commit that the run starts from. Nothing refers to it before it is pushed.
    fn compose(
        &self,
        waiting: &WaitingTask,
        travel: Travel,
        rules: TaskRules,
        key: Uuid,
        host: &str,
    ) -> Result<ExchangeNote> {
        let project = waiting.at.project.path();
        let name = waiting.at.name.as_str();
        let prompt = prompt(self.config, &waiting.task, name, project);
        let request = self.request(name, project, &travel, &rules, key, host)?;
        let exchange = Exchange { project, url: &travel.url };
        let base = exchange
            .commit(&travel.head, &[&travel.head], &prompt)
            .context("cannot make the commit that the run starts from")?;
        Ok(ExchangeNote {
            url: travel.url,
            base,
            // The marker is written before the job is asked for, and a pass may be killed in between.
            is_sent: true,
            head: travel.head,
            branch: travel.branch,
            request,
            rules,
            claim: None,
            work: None,
            unfetched: None,
            keeps_run: false,
            restarts: 0,
        })
    }

    /// The body of the request for a job; the same key always gives the same one. It holds no secret: Ray shows it to
    /// everybody.
    fn request(
        &self,
        name: &str,
        project: &Path,
        travel: &Travel,
        rules: &TaskRules,
        key: Uuid,
        host: &str,
    ) -> Result<String> {
        let settings = self.settings;
        let directory = travel.subdirectory.to_str().with_context(|| {
            format!("the path of {} in its repository is not UTF-8", project.display())
        })?;
        let (key_text, check) = (key.to_string(), rules.check.command().unwrap_or_default());
        let timeout = format!("{}s", rules.check_timeout.as_secs());
        let protect = rules.protect.join("\n");
        // In the order in which the runner reads them; `ccl` is its `$0`.
        let mut words = vec!["sh", "-c", RUNNER, "ccl", &travel.url, &key_text, directory];
        let limit = format!("{}s", time_limit(rules).as_secs());
        words.extend([limit.as_str(), name, travel.origin.as_deref().unwrap_or_default()]);
        words.extend(
            [settings.lfs, settings.submodules].map(|it| if it { "true" } else { "false" }),
        );
        words.extend([check, &timeout, &protect, check::KEYS]);
        words.extend(settings.agent.iter().map(String::as_str));
        let entrypoint = shlex::try_join(words).context("a NUL cannot be passed to a program")?;
        anyhow::ensure!(
            entrypoint.len() <= LONGEST_ENTRYPOINT,
            "the agent's command, its check and what is protected are longer than {} KiB together: put them into scripts",
            LONGEST_ENTRYPOINT >> 10
        );
        let project = project.file_name().unwrap_or_default().to_string_lossy();
        let body = json!({
            "entrypoint": entrypoint,
            "submission_id": JobId::of_key(key),
            "entrypoint_resources": settings.resources,
            "metadata": {"task": name, "project": project, "host": host},
        });
        Ok(body.to_string())
    }

    /// Pushes the commit that the run starts from, and asks for the job. Both are idempotent.
    fn submit(
        &self,
        project: &Path,
        key: Uuid,
        note: &ExchangeNote,
    ) -> Result<Accepted, NotAccepted> {
        if let Some(why) = self.why_silent(&note.url) {
            return Err(no_exchange(why));
        }
        let exchange = Exchange { project, url: &note.url };
        if let Err(error) = exchange.push(&note.base, &Refs::of(key).base) {
            // A refusal concerns this project alone. An exchange that does not answer in time is not asked again in
            // this pass.
            return Err(no_exchange(match error.is_timeout() {
                true => self.note_silent(&note.url, &error.to_string()),
                false => silence(&note.url, &error.to_string()),
            }));
        }
        self.client.submit(&JobId::of_key(key), note.request.as_bytes())
    }

    /// The exchange's refs as they were at the first look of this pass, or why there is no answer. A listing that is
    /// out of date does no harm: a ref is changed only by compare-and-swap.
    pub(super) fn refs(&self, exchange: Exchange<'_>) -> Listing {
        // Held during the call: all tasks of a pass share one `ls-remote`.
        let mut listed = locked(&self.listed);
        if let Some(known) = listed.get(exchange.url) {
            return known.clone();
        }
        let found = exchange.list().map(Arc::new);
        let found = found.map_err(|error| silence(exchange.url, &error.to_string()));
        listed.insert(exchange.url.to_owned(), found.clone());
        found
    }

    /// Why the exchange is asked nothing more in this pass; `None`: it may be asked.
    pub(super) fn why_silent(&self, url: &str) -> Option<String> {
        locked(&self.listed).get(url).and_then(|known| known.as_ref().err().cloned())
    }

    /// Forgets that the exchange did not answer, so that it is asked again.
    pub(super) fn look_again(&self, url: &str) {
        let mut listed = locked(&self.listed);
        if listed.get(url).is_some_and(|known| known.is_err()) {
            listed.remove(url);
        }
    }

    /// From now on the exchange is asked nothing more in this pass. Returns the sentence that says why.
    pub(super) fn note_silent(&self, url: &str, words: &str) -> String {
        let sentence = silence(url, words);
        locked(&self.listed).insert(url.to_owned(), Err(sentence.clone()));
        sentence
    }
}

/// How long an agent may work on a task with these rules.
pub(super) fn time_limit(rules: &TaskRules) -> SignedDuration {
    rules.max_duration.0.unwrap_or(LONGEST_WORK)
}

fn silence(url: &str, words: &str) -> String {
    format!("the exchange {} does not do what it is asked for: {words}", escape(url))
}

/// Whether a project can go to the exchange.
#[derive(Debug, Clone)]
pub(crate) enum Departure {
    Ready(Box<Travel>),
    /// Its tasks are held; the sentence says how to mend that.
    Held(String),
}

/// Finds out whether a project can go to the exchange.
pub(crate) fn departure(settings: &RemoteEngine, project: &Path) -> Result<Departure> {
    let terms = Terms {
        uncommitted: settings.dirty == Uncommitted::Ignore,
        submodules: settings.submodules,
        lfs: settings.lfs,
    };
    let found = Repository::open(project).and_then(|it| it.travel(&settings.exchange, terms));
    match found {
        Ok(travel) => Ok(Departure::Ready(Box::new(travel))),
        Err(OpenError::Obstacle(obstacle)) => Ok(Departure::Held(obstacle.to_string())),
        Err(OpenError::Failed(error)) => Err(error),
    }
}

/// The prompt, the same that a local agent gets.
fn prompt(config: &Config, task: &Task, name: &str, project: &Path) -> String {
    // A task may have a title and no body.
    let title = task.header.title.as_deref().unwrap_or_default();
    let body = if task.body.is_empty() { title } else { &task.body };
    agent::message(&config.dispatcher, name, body, &project.join(name))
}

pub(crate) fn ray_client(settings: &RemoteEngine, limits: Limits) -> Result<RayClient> {
    let token = settings.token.as_ref().map(|token| token.expose());
    RayClient::new(settings.url.clone(), token, settings.proxy.as_deref(), limits)
        .with_context(|| Failure::Config("cannot talk with Ray".to_owned()))
}
