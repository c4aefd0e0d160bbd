//! The program itself against the stand-in server: a sandbox without any tmux.

use std::process::Output;
use std::time::Instant;

use serde_json::{Value, json};

use crate::secutools_server::SecutoolsServer;
use crate::support::faults::said;
use crate::support::{PATIENCE, Project, Sandbox};
use crate::world::KEY;

pub(crate) struct Binary {
    pub(crate) sandbox: Sandbox,
    pub(crate) project: Project,
    pub(crate) server: SecutoolsServer,
}

impl Binary {
    pub(crate) fn new() -> Binary {
        Binary::of(Sandbox::new())
    }

    /// A project and a server for this sandbox.
    pub(crate) fn of(mut sandbox: Sandbox) -> Binary {
        let server = SecutoolsServer::start();
        server.expect_key(KEY);
        sandbox.env("SECUTOOLS_API_KEY", KEY);
        sandbox.env("SECUTOOLS_URL", server.url());
        // Whatever goes wrong, no session is made on the machine's own tmux server.
        sandbox.config("tmux", json!({"command": [sandbox.path().join("no-tmux")]}));
        Binary { project: sandbox.project("web"), sandbox, server }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.sandbox.ccl(args).output().unwrap()
    }

    /// A pass that nothing disturbs.
    #[track_caller]
    pub(crate) fn pass(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        assert!(output.status.success(), "ccl {args:?}: {}", said(&output));
        output
    }

    #[track_caller]
    pub(crate) fn assert_once(&self, task: &str, when: &str) {
        let places = self.project.task_places(task);
        let places: Vec<_> = match &places[..] {
            // A copy that was filed, and the task not yet removed: the marker is still there.
            [waiting, _] if *waiting == format!("inbox/{task}") => {
                let inbox = self.project.inbox();
                assert!(inbox.contains(&format!("{task}.delegated")), "{when}");
                places[1..].to_vec()
            }
            _ => places,
        };
        assert_eq!(places.len(), 1, "{task} {when}: {places:?}");
    }

    /// Makes ordinary passes until the task is in this place, with no marker left.
    #[track_caller]
    pub(crate) fn converge(&self, task: &str, place: &str, when: &str) {
        let deadline = Instant::now() + PATIENCE;
        for verb in ["scan", "reap"].iter().cycle() {
            let output = self.pass(&[verb]);
            self.assert_once(task, when);
            let inbox = self.project.inbox();
            let is_marked = inbox.contains(&format!("{task}.delegated"));
            if !is_marked && self.project.task_places(task) == [place] {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{task} {when} does not get to {place}: {inbox:?} {}",
                said(&output)
            );
        }
    }
}

/// How many jobs the server has made of the task.
pub(crate) fn jobs_of(server: &SecutoolsServer, task: &str) -> usize {
    let asked = |body: &[u8]| -> Value { serde_json::from_slice(body).unwrap() };
    let jobs = server.jobs();
    jobs.iter().filter(|job| asked(&job.body)["metadata"]["task"] == task).count()
}
