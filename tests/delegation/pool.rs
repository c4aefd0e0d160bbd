//! The program itself against the stand-in server: a sandbox without any tmux.

use std::fs;
use std::process::Output;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
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

#[test]
fn secutools_goes_on_with_what_may_leave_while_the_agents_are_held() {
    let mut world = Binary::new();
    world.sandbox.config("agents", json!({"claude": {"hooks": false}}));
    world.sandbox.config("failover", json!(["claude", "secutools"]));
    let now = Timestamp::now();
    let hold = json!({
        "version": 1, "host": "h", "at": now, "until": now + SignedDuration::from_hours(2), "model": null,
        "cause": "limit", "reason": "the limit", "since": now, "tries": 1, "has_reset": true,
    });
    let agents = world.sandbox.state_dir().join("agents");
    fs::create_dir_all(&agents).unwrap();
    fs::write(agents.join("claude.hold"), hold.to_string()).unwrap();
    let header = "allow_delegation: true\npreferred_ai: claude-code\ncomplexity_hint: low\n";
    world.project.drop_task("t.md", format!("---\n{header}---\nDo it.\n"));
    let output = world.pass(&["scan", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let event = &report["events"][0];
    assert_eq!((&event["event"], &event["provider"]), (&json!("delegated"), &json!("gpu")));
    assert_eq!(report["events"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(jobs_of(&world.server, "t.md"), 1);
    assert_eq!(world.project.marker("inbox/t.md.delegated")["rule"], "failover");
    assert!(said(&output).contains("rule=failover"), "{}", said(&output));
    let journal = fs::read_to_string(world.sandbox.state_dir().join("journal.jsonl")).unwrap();
    let line: Value = serde_json::from_str(journal.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&line["event"], &line["task"], &line["provider"], &line["reason"]),
        (&json!("delegated"), &json!("t.md"), &json!("gpu"), &json!("failover")),
        "{journal}"
    );
}
