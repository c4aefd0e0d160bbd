//! One project, one server, and passes at made-up times.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ccl::config::{ApiKey, KeySource, Secutools, ServerUrl};
use ccl::event::EventKind;
use ccl::log::{Level, Log, Style};
use ccl::queue::{Name, Project, TaskRef};
use ccl::remote::{Delegated, Delegation, Limits, RemoteOutcome, Submission};
use ccl::router::{self, AutoRoutes};
use ccl::task::{self, Ending, Provider};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::secutools_server::{SecutoolsServer, Step};

pub(crate) const KEY: &str = "sk-test-0123456789";

/// A task that the router sends to the GPU.
pub(crate) const TASK: &str =
    "---\ntitle: It\nallow_delegation: true\npreferred_ai: gpu\n---\nDo it.\n";

pub(crate) struct World {
    pub(crate) server: SecutoolsServer,
    limits: Mutex<Limits>,
    url: String,
    dir: TempDir,
    log: Lines,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How long a hurried pass waits for an answer: long enough for a loaded machine to give one.
pub(crate) const MOMENT: Duration = Duration::from_secs(1);

fn patient() -> Limits {
    Limits { backoff: Duration::from_millis(5), ..Limits::default() }
}

/// What became of one task, in a word: `delegated`, `held`, `done`, `failed`, `local`, `nothing`,
/// `error`; and the reason, empty if none was given.
pub(crate) type Said = (String, String);

/// Whether it is this time, give or take the pass's own length.
pub(crate) fn is_about(time: Timestamp, expected: Timestamp) -> bool {
    time.duration_since(expected).as_secs() == 0
}

/// So many seconds after the first pass.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

impl World {
    /// A project with a task `T.md`, and a server that behaves.
    pub(crate) fn new() -> World {
        let world = World::empty();
        world.put("T.md", TASK);
        world
    }

    pub(crate) fn empty() -> World {
        let server = SecutoolsServer::start();
        server.expect_key(KEY);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("app/.agent-queue/inbox")).unwrap();
        World {
            url: server.url(),
            server,
            limits: Mutex::new(patient()),
            dir,
            log: Lines::default(),
        }
    }

    /// From now on passes do not wait long for a server that says nothing.
    pub(crate) fn hurry(&self) {
        *self.limits.lock().unwrap() =
            Limits { connect: MOMENT, answer: MOMENT, retrying: MOMENT, ..patient() };
    }

    /// From now on they do.
    pub(crate) fn relax(&self) {
        *self.limits.lock().unwrap() = patient();
    }

    /// What the server does from now on; passes hurry if it says nothing.
    pub(crate) fn break_server(&self, fault: &Step) {
        if matches!(fault, Step::Silence { .. } | Step::Drip) {
            self.hurry();
        }
        self.server.otherwise(fault.clone());
    }

    pub(crate) fn mend_server(&self) {
        self.relax();
        self.server.otherwise(Step::Behave);
    }

    /// Talks with a port on which nothing listens, and which no other test can be given.
    pub(crate) fn without_server(mut self) -> World {
        self.url = "http://127.0.0.1:1".to_owned();
        self
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn project(&self) -> Project {
        Project::new(self.dir.path().join("app"))
    }

    /// `inbox/T.md`, `done/T.md` …
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join("app/.agent-queue").join(relative)
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.path("inbox").join(name), text).unwrap();
    }

    pub(crate) fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    /// The files of the queue, without its lock.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for folder in ["inbox", "done", "failed"] {
            if let Ok(entries) = fs::read_dir(self.path(folder)) {
                files.extend(entries.map(|entry| {
                    format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap())
                }));
            }
        }
        files.sort();
        files
    }

    pub(crate) fn marker(&self, name: &str) -> Delegated {
        let text = self.read(&format!("inbox/{name}.delegated"));
        serde_json::from_str(&text).unwrap()
    }

    /// The ending line of a filed task.
    pub(crate) fn ending(&self, relative: &str) -> Ending {
        task::split(&self.read(relative)).read_ending().unwrap()
    }

    /// Everything that was logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    /// What one pass has to say to the server.
    pub(crate) fn pass<T>(&self, now: Timestamp, act: impl FnOnce(&Delegation<'_>) -> T) -> T {
        self.run(now, false, act)
    }

    /// The same, as a dry run.
    pub(crate) fn dry_run<T>(&self, now: Timestamp, act: impl FnOnce(&Delegation<'_>) -> T) -> T {
        self.run(now, true, act)
    }

    fn run<T>(&self, now: Timestamp, dry_run: bool, act: impl FnOnce(&Delegation<'_>) -> T) -> T {
        let log = Log::new(Level::Debug, Style::Plain, Box::new(self.log.clone()));
        let secutools = Secutools {
            url: ServerUrl::parse(&self.url).unwrap(),
            api_key: ApiKey::parse(KEY).unwrap(),
            proxy: None,
            key_source: KeySource::Variable,
        };
        let limits = *self.limits.lock().unwrap();
        act(&Delegation::new(&secutools, "box", &log, now, limits, dry_run).unwrap())
    }

    /// The waiting tasks that the router sends away, as `scan` finds them.
    pub(crate) fn submissions(&self) -> Vec<Submission> {
        let project = self.project();
        let mut names = project.list().unwrap().waiting;
        names.sort();
        let submission = |name| {
            let waiting = project.read(&Name::new(name).unwrap()).unwrap();
            let decision = router::decide(&waiting.task.header.routing, &AutoRoutes::default());
            let is_remote = decision.provider != Provider::ClaudeCode;
            is_remote.then_some(Submission { waiting, decision })
        };
        names.iter().filter_map(|name| submission(name)).collect()
    }

    pub(crate) fn delegated(&self) -> Vec<TaskRef> {
        let mut tasks: Vec<_> = self.project().list().unwrap().delegated_tasks().collect();
        tasks.sort_by(|one, other| one.name.cmp(&other.name));
        tasks
    }

    /// What `scan` does: resume what was left, submit what waits.
    pub(crate) fn scan(&self, now: Timestamp) -> Vec<Said> {
        self.pass(now, |delegation| self.scan_with(delegation))
    }

    pub(crate) fn scan_with(&self, delegation: &Delegation<'_>) -> Vec<Said> {
        // What waits is listed before anything comes back.
        let submissions = self.submissions();
        let mut outcomes = delegation.resume(self.delegated());
        outcomes.extend(delegation.submit(submissions));
        said(&outcomes)
    }

    /// What `reap` does.
    pub(crate) fn reap(&self, now: Timestamp) -> Vec<Said> {
        said(&self.pass(now, |delegation| delegation.poll(self.delegated())))
    }

    /// The same, of a world with one task.
    pub(crate) fn scan_one(&self, now: Timestamp) -> Said {
        one(self.scan(now))
    }

    pub(crate) fn reap_one(&self, now: Timestamp) -> Said {
        one(self.reap(now))
    }
}

fn one(said: Vec<Said>) -> Said {
    assert_eq!(said.len(), 1, "{said:?}");
    said.into_iter().next().unwrap()
}

pub(crate) fn said(outcomes: &[(TaskRef, RemoteOutcome)]) -> Vec<Said> {
    let said = |outcome: &RemoteOutcome| match outcome {
        RemoteOutcome::Event(event) => {
            let word = match event.event {
                EventKind::Delegated => "delegated",
                EventKind::Held => "held",
                EventKind::Done => "done",
                EventKind::Failed => "failed",
                other => panic!("{other:?} is no event of a delegation"),
            };
            (word.to_owned(), event.reason.clone().unwrap_or_default())
        }
        RemoteOutcome::RunLocally { reason } => ("local".to_owned(), reason.clone()),
        RemoteOutcome::Nothing => ("nothing".to_owned(), String::new()),
        RemoteOutcome::Failed(error) => ("error".to_owned(), format!("{error:#}")),
    };
    outcomes.iter().map(|(_, outcome)| said(outcome)).collect()
}
