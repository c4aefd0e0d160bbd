//! What each session and each task is shown as.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::support::fake::{Behaviour, Ending, Screen, Turn};
use crate::support::{self, FakeClaude, Sandbox, claude_home, wait_until};
use crate::{edit, names, row, status, world};

#[test]
fn what_works_waits_and_is_held() {
    let (sandbox, tmux) = world(2);
    tmux.new_session("ccl-auto-1", &[]);
    let project = sandbox.project("web");
    let head = "---\ntitle: Fix the login\npriority: critical\n---\nDo it.\n";
    project.drop_task("fix.md", head);
    sandbox.ccl(["scan"]).assert().success();
    let before = sandbox.ccl_json(&["status"]);
    project.drop_task("low.md", "---\npriority: low\ntitle: L\n---\nx\n");
    project.drop_task("b.md", "x\n");
    project.drop_task("high.md", "---\npriority: high\n---\nx\n");
    symlink("/etc/passwd", project.queue("inbox").join("link.md")).unwrap();
    let linked = project.drop_task("linked.md", "x\n");
    fs::hard_link(&linked, sandbox.path().join("second-name")).unwrap();
    let open = project.drop_task("open.md", "x\n");
    let writer = fs::File::options().append(true).open(open).unwrap();

    let json = sandbox.ccl_json(&["status"]);
    let session = row(&json["sessions"], "name", "ccl-auto-0");
    assert_eq!(session["state"], "working", "{session}");
    assert_eq!(session["task"], "fix.md");
    assert_eq!(session["project"], json!(project.root()));
    assert!(session["since"].is_string());
    let free = row(&json["sessions"], "name", "ccl-auto-1");
    assert_eq!(free["state"], "free", "{free}");

    let task = row(&json["tasks"], "name", "fix.md");
    let since = &row(&before["tasks"], "name", "fix.md")["since"];
    assert_eq!(
        *task,
        json!({"project": project.root(), "name": "fix.md", "state": "dispatched", "priority": "critical",
               "title": "Fix the login", "provider": "claude-code", "session": "ccl-auto-0", "job_id": null,
               "attempt": 1, "since": since, "stale": false, "waits": null, "reason": null})
    );
    assert_eq!(
        names(&json["tasks"], "waiting"),
        ["high.md", "b.md", "low.md"],
        "in the order in which they go"
    );
    assert_eq!(row(&json["tasks"], "name", "low.md")["title"], "L");
    for (name, why) in [
        ("link.md", "links are not followed"),
        ("linked.md", "hard link"),
        ("open.md", "still being written"),
    ] {
        let task = row(&json["tasks"], "name", name);
        assert_eq!(task["state"], "held", "{task}");
        assert!(task["reason"].as_str().unwrap().contains(why), "{task}");
    }
    assert_eq!(
        json["projects"],
        json!([{"path": project.root(), "parallel": 0, "waiting": 6, "dispatched": 1, "delegated": 0, "done": 0, "failed": 0, "paused": null, "to_land": [], "worktrees": []}])
    );
    let (text, stderr, exit) = status(&sandbox, &[]);
    assert_eq!((stderr.as_str(), exit), ("", 0));
    for expected in ["Fix the login", "1 high, 1 default, 1 low", "3 tasks are held"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
    drop(writer);
}

#[test]
fn a_task_that_is_at_work_for_long_is_stale() {
    let (mut sandbox, _tmux) = world(1);
    let project = sandbox.project("web");
    project.drop_task("slow.md", "Do it.\n");
    sandbox.ccl(["scan"]).assert().success();
    assert_eq!(sandbox.ccl_json(&["status"])["stale"], 0);
    edit(&project, "inbox/.slow.md.claim", |claim| {
        claim["started_at"] = json!("2026-01-01T00:00:00Z");
    });
    let json = sandbox.ccl_json(&["status"]);
    assert_eq!(json["stale"], 1);
    assert_eq!(row(&json["tasks"], "name", "slow.md")["stale"], true);
    assert_eq!(json["sessions"][0]["state"], "working");
    let (text, ..) = status(&sandbox, &[]);
    assert!(text.contains("1 task is stale"), "{text}");
    sandbox.config("dispatcher", json!({"stale_after": "8000h"}));
    assert_eq!(sandbox.ccl_json(&["status"])["stale"], 0);
}

#[test]
fn an_unreadable_marker_is_reported_and_hides_nothing() {
    let (sandbox, _tmux) = world(2);
    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    project.drop_task("b.md", "Do it.\n");
    sandbox.ccl(["scan"]).assert().success();
    fs::write(sandbox.session_file("ccl-auto-0", "dispatched"), "{nonsense").unwrap();
    fs::write(project.queue("inbox").join(".b.md.claim"), r#"{"version":7}"#).unwrap();
    fs::write(project.queue("inbox").join("c.md.delegated"), "[]").unwrap();
    project.drop_task("c.md", "x\n");

    let out = sandbox.ccl(["status", "--json"]).output().unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    for file in ["ccl-auto-0.dispatched", ".b.md.claim", "c.md.delegated"] {
        let lines = stderr.lines().filter(|line| line.contains(file));
        assert_eq!(lines.count(), 1, "{file} is told once\n{stderr}");
    }
    assert!(stderr.contains("of version 7"), "{stderr}");
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    for session in ["ccl-auto-0", "ccl-auto-1"] {
        let session = row(&json["sessions"], "name", session);
        assert_eq!(session["state"], "needs-attention", "{session}");
        let reason = session["reason"].as_str().unwrap();
        assert!(reason.contains("is left alone"), "{session}");
    }
    let job = row(&json["tasks"], "name", "c.md");
    assert_eq!(job["state"], "delegated_to_secutools");
    assert!(job["reason"].as_str().unwrap().contains("c.md.delegated"));
    assert_eq!(names(&json["tasks"], "dispatched"), ["a.md", "b.md"]);
    let (text, ..) = status(&sandbox, &[]);
    assert!(text.contains("c.md"), "{text}");
}

#[test]
fn tasks_that_nobody_here_works_on_are_told_apart() {
    let (sandbox, _tmux) = world(1);
    let project = sandbox.project("web");
    project.drop_task("ours.md", "Do it.\n");
    sandbox.ccl(["scan"]).assert().success();
    let claim = project.marker("inbox/.ours.md.claim");
    let inbox = project.queue("inbox");
    for (name, owner) in [
        ("theirs", json!("00000000-0000-4000-8000-000000000001")),
        ("lost", claim["owner"].clone()),
    ] {
        let mut claim = claim.clone();
        claim["owner"] = owner;
        claim["run"] = json!("00000000-0000-4000-8000-000000000002");
        claim["host"] = json!("far");
        fs::write(inbox.join(format!(".{name}.md.claim")), claim.to_string()).unwrap();
        fs::write(inbox.join(format!("{name}.md.dispatched")), "x").unwrap();
    }
    fs::write(inbox.join("nobody.md.dispatched"), "x").unwrap();
    let json = sandbox.ccl_json(&["status"]);
    for (name, why) in [
        ("theirs.md", "another pool has it: session ccl-auto-0 on far"),
        ("lost.md", "ccl-auto-0 does not know of it any more: rename it to lost.md"),
        ("nobody.md", "nobody has claimed it: rename it to nobody.md"),
    ] {
        let task = row(&json["tasks"], "name", name);
        assert_eq!(task["state"], "dispatched");
        assert!(task["reason"].as_str().unwrap().contains(why), "{task}");
    }
    assert_eq!(row(&json["tasks"], "name", "ours.md")["reason"], Value::Null);
    let (text, ..) = status(&sandbox, &[]);
    assert!(text.contains("nobody.md") && text.contains("far"), "{text}");
}

#[test]
fn sessions_that_rest_are_busy_or_have_lost_their_task() {
    let (mut sandbox, tmux) = world(5);
    sandbox.env("TZ", "JST-9");
    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    sandbox.ccl(["scan"]).assert().success();
    for index in [1, 3, 4] {
        tmux.new_session(&format!("ccl-auto-{index}"), &[]);
    }
    tmux.type_line("=ccl-auto-1:", "sleep 1000");
    let rest = |needs_person: bool| {
        json!({"version": 1, "host": "h", "at": "2026-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z",
               "reason": "the reason", "needs_person": needs_person})
    };
    fs::write(sandbox.session_file("ccl-auto-3", "cooldown"), rest(false).to_string()).unwrap();
    fs::write(sandbox.session_file("ccl-auto-4", "cooldown"), rest(true).to_string()).unwrap();
    wait_until("sleep is in front", support::PATIENCE, || {
        let json = sandbox.ccl_json(&["status"]);
        row(&json["sessions"], "name", "ccl-auto-1")["state"] == "busy"
    });
    let json = sandbox.ccl_json(&["status"]);
    let of = |index: u32| row(&json["sessions"], "name", &format!("ccl-auto-{index}")).clone();
    assert_eq!(of(0)["state"], "working");
    assert!(of(1)["reason"].as_str().unwrap().contains("sleep"), "{}", of(1));
    assert_eq!(of(2)["state"], "missing");
    assert_eq!(of(3)["state"], "cooldown");
    assert_eq!(of(3)["until"], "2999-01-01T00:00:00Z");
    assert_eq!(of(3)["since"], "2026-01-01T00:00:00Z");
    assert_eq!(of(4)["state"], "needs-attention");
    assert_eq!(of(4)["reason"], "the reason");
    let (text, ..) = status(&sandbox, &[]);
    assert!(text.contains("until 2999-01-01 09:00, in "), "in local time: {text}");
    assert!(text.contains(" days; the reason"), "{text}");
    assert!(text.contains("1 session needs attention"), "{text}");

    tmux.run(&["kill-session", "-t", "=ccl-auto-0:"]);
    wait_until("the session is gone", support::PATIENCE, || {
        sandbox.ccl_json(&["status"])["sessions"][0]["state"] == "missing"
    });
    let gone = &sandbox.ccl_json(&["status"])["sessions"][0];
    assert_eq!(gone["task"], "a.md");
    assert!(gone["reason"].as_str().unwrap().contains("the next pass files it"), "{gone}");
    assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"], "status changes nothing");
}

#[test]
fn a_question_of_claude_needs_a_person() {
    let mut sandbox = Sandbox::new();
    let fake = FakeClaude::install(&sandbox);
    let tmux = sandbox.tmux_with(|builder| builder.envs(fake.env()));
    sandbox.config("pool", json!({"autonomous": {"max": 1}}));
    fake.script(&[Behaviour {
        turns: vec![Turn { end: Ending::Ask(Screen::Question), ..Turn::default() }],
        ..Behaviour::default()
    }]);
    let project = sandbox.project("web");
    let strange = sandbox.project("strange");
    claude_home::prepare_home(&sandbox.home(), &[project.root()], Default::default());
    project.drop_task("ask.md", "Do it.\n");
    strange.drop_task("held.md", "Do it.\n");
    let t = std::time::Instant::now();
    let o = sandbox.ccl(["scan", "-v"]).output().unwrap();
    eprintln!(
        "{:?} {} {}",
        t.elapsed(),
        String::from_utf8_lossy(&o.stdout),
        String::from_utf8_lossy(&o.stderr)
    );
    wait_until("status sees the question", support::PATIENCE, || {
        sandbox.ccl_json(&["status"])["sessions"][0]["state"] == "needs-attention"
    });
    let json = sandbox.ccl_json(&["status"]);
    let reason = json["sessions"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("attach -t =ccl-auto-0"), "{reason}");
    let held = row(&json["tasks"], "name", "held.md");
    assert_eq!(held["state"], "held");
    let advice = format!("run `claude` once in {}", strange.root().display());
    assert!(held["reason"].as_str().unwrap().contains(&advice), "{held}");
    drop(tmux);
}
