//! What a person looks at: the page, the same over HTTP, and the status that is drawn again and again.

// A step of a test that fails ends the test.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod browser;
mod chromium;
mod http;
mod limits;
mod markup;
mod served;
#[path = "../support/mod.rs"]
mod support;
mod watch;

use std::fs;
use std::os::unix::fs::symlink;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use support::{Project, Sandbox, TmuxServer};

/// Words of people who mean no good: markup, a way out of an attribute, script, a text that turns what follows around.
pub(crate) const HOSTILE: &str = "</title></style><script>alert(1)</script>\" onclick=\"alert(2) '<img src=x onerror=alert(3)> &amp; \u{202e}desrever";

/// A pool in which everything that the page can show happens at once.
pub(crate) struct Scene {
    pub(crate) sandbox: Sandbox,
    pub(crate) project: Project,
    _tmux: TmuxServer,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let mut sandbox = Sandbox::new();
        let tmux = sandbox.tmux();
        sandbox.config("pool", json!({"autonomous": {"max": 3}}));
        let agent = json!({"kind": "command", "command": ["sh", "-c", "sleep 1000", "sh"]});
        sandbox.config("agents", json!({"aider": agent, "spare": agent}));
        sandbox.config("failover", json!(["aider", "spare"]));
        sandbox.env("TZ", "UTC");
        let project = sandbox.project("web");
        let urgent = "---\ntitle: Fix the login redirect\npriority: critical\n---\nDo it.\n";
        project.drop_task("fix-login.md", urgent);
        let slow = "---\ntitle: Rotate the signing keys\npriority: high\n---\nDo it.\n";
        project.drop_task("rotate.md", slow);
        sandbox.ccl(["scan"]).assert().success();
        let scene = Self { sandbox, project, _tmux: tmux };
        scene.age("rotate.md", SignedDuration::from_hours(3));
        scene.age("fix-login.md", SignedDuration::from_mins(25));
        scene.add_waiting();
        scene.add_cooldown();
        scene.add_hold();
        scene.add_job();
        scene.add_to_land();
        scene.write_journal();
        scene
    }

    /// As if a task had been handed out so long ago.
    fn age(&self, task: &str, age: SignedDuration) {
        let marker = format!("inbox/.{task}.claim");
        let mut claim = self.project.marker(&marker);
        claim["started_at"] = json!(Timestamp::now() - age);
        let path = self.project.root().join(".agent-queue").join(marker);
        fs::write(path, claim.to_string()).unwrap();
    }

    fn add_waiting(&self) {
        let project = &self.project;
        project
            .drop_task("cart.md", "---\ntitle: Add tests for the cart\npriority: high\n---\nx\n");
        project.drop_task("search.md", "---\npriority: low\n---\nx\n");
        project.drop_task("after.md", "---\ndepends_on: [fix-login.md]\n---\nx\n");
        symlink("/etc/passwd", project.queue("inbox").join("link.md")).unwrap();
        let other = self.sandbox.project("docs");
        let title = json!(format!("{HOSTILE} {}", "long ".repeat(1200)));
        other.drop_task("hostile.md", format!("---\ntitle: {title}\n---\nx\n"));
        other.drop_task("hebrew.md", "---\ntitle: שלום עולם\n---\nx\n");
        other.drop_task("<b>name.md", "x\n");
        let recurring = other.root().join(".agent-queue/recurring");
        fs::create_dir_all(&recurring).unwrap();
        fs::write(recurring.join("links.md"), "---\nat: Mon..Fri 02:00\n---\nCheck the links.\n")
            .unwrap();
    }

    /// A session that a person has to look at, for a reason of 64 KiB.
    fn add_cooldown(&self) {
        let now = Timestamp::now();
        let reason = format!("{HOSTILE} {} run `claude` once", "x".repeat(64 << 10));
        let cooldown = json!({"version": 1, "host": "h", "at": now, "until": "2999-01-01T00:00:00Z",
                              "reason": reason, "needs_person": true});
        let path = self.sandbox.session_file("ccl-auto-2", "cooldown");
        fs::write(path, cooldown.to_string()).unwrap();
    }

    fn add_hold(&self) {
        let (now, until) = (Timestamp::now(), Timestamp::now() + SignedDuration::from_hours(2));
        let hold = json!({"version": 1, "host": "h", "at": now, "until": until, "model": null, "cause": "limit",
                          "reason": HOSTILE, "since": now, "tries": 1, "has_reset": true});
        let agents = self.sandbox.state_dir().join("agents");
        fs::create_dir_all(&agents).unwrap();
        fs::write(agents.join("spare.hold"), hold.to_string()).unwrap();
    }

    fn add_job(&self) {
        let now = Timestamp::now();
        let text = "---\nallow_delegation: true\n---\nSummarise it.\n";
        self.project.drop_task("changelog.md", text);
        let job = json!({"version": 1, "host": "h", "at": now, "key": "00000000-0000-4000-8000-0000000000aa",
                         "text": text, "provider": "gemini", "rule": "x", "started_at": now, "phase": "submitted",
                         "job_id": "job-with-a-name-that-is-as-long-as-some-engines-make-it-0001",
                         "submitted_at": now, "unknown_since": null});
        let marker = self.project.queue("inbox").join("changelog.md.delegated");
        fs::write(marker, job.to_string()).unwrap();
    }

    fn add_to_land(&self) {
        let branch = "ccl/settings-in-a-branch-with-a-name-as-long-as-its-task-s";
        let to_land = json!({"version": 1, "host": "h", "at": Timestamp::now(), "task": "settings.md",
                             "branch": branch, "reason": HOSTILE});
        let directory = self.project.root().join(".agent-queue/to-land");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("settings"), to_land.to_string()).unwrap();
    }

    /// A month of work, the same on every day that is not a Sunday.
    fn write_journal(&self) {
        let now = Timestamp::now();
        let mut lines = String::new();
        for hours in (0..30 * 24).rev().filter(|hours| hours % 3 == 0 && hours % 168 > 24) {
            let time = now - SignedDuration::from_hours(hours);
            let task = format!("t-{hours}.md");
            let (agent, provider, currency) = match hours % 4 {
                0 => (Some("claude"), "claude-code", "USD"),
                1 => (Some("aider"), "claude-code", "USD"),
                2 => (None, "gemini", "EUR"),
                _ => (None, "gpu", "USD"),
            };
            let event = if hours % 7 == 0 { "failed" } else { "done" };
            let run = format!("00000000-0000-4000-8000-{hours:012}");
            let claim = time - SignedDuration::from_mins(10);
            let added = claim - SignedDuration::from_secs(20 + (hours * hours) % 4000);
            let project = self.project.root();
            for line in [
                json!({"time": added, "event": "added", "project": project, "task": task}),
                json!({"time": claim, "event": "dispatched", "project": project, "task": task, "run": run}),
                json!({"time": time, "event": event, "project": project, "task": task, "run": run, "agent": agent,
                       "provider": provider, "reason": (event == "failed").then_some(HOSTILE),
                       "cost": {"amount": format!("0.{:02}", 1 + hours % 90), "currency": currency}}),
            ] {
                lines.push_str(&format!("{line}\n"));
            }
        }
        fs::write(self.sandbox.state_dir().join("journal.jsonl"), lines).unwrap();
    }

    pub(crate) fn page(&self) -> String {
        page(&self.sandbox)
    }
}

/// What `status --format html` prints.
#[track_caller]
pub(crate) fn page(sandbox: &Sandbox) -> String {
    let out = sandbox.ccl(["status", "--format", "html"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}\n{stderr}", out.status);
    String::from_utf8(out.stdout).unwrap()
}
