//! `ccl status`: the real binary, a real tmux server, states made by real passes or laid out as a dead pass leaves them.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use support::fake::{Behaviour, Ending, Screen, Turn};
use support::{FakeClaude, Project, Sandbox, TmuxServer, claude_home, wait_until};

/// A sandbox whose agent is a program that works until it is ended.
fn world(sessions: u32) -> (Sandbox, TmuxServer) {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config(
        "agent",
        json!({"kind": "command", "command": ["sh", "-c", "sleep 1000", "sh"]}),
    );
    sandbox.config("pool", json!({"autonomous": {"max": sessions}}));
    (sandbox, tmux)
}

#[track_caller]
fn row<'a>(rows: &'a Value, key: &str, value: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|r| r[key] == value);
    found.unwrap_or_else(|| panic!("no {key} {value} in {rows:#}"))
}

fn names(rows: &Value, state: &str) -> Vec<String> {
    let rows = rows.as_array().unwrap().iter();
    rows.filter(|row| row["state"] == state)
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Standard output as text, standard error, exit status.
fn status(sandbox: &Sandbox, args: &[&str]) -> (String, String, i32) {
    let args = ["status"].iter().chain(args);
    let out = sandbox.ccl(args).output().unwrap();
    (
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
        out.status.code().unwrap(),
    )
}

fn edit(project: &Project, marker: &str, change: impl FnOnce(&mut Value)) {
    let mut value = project.marker(marker);
    change(&mut value);
    let path = project.root().join(".agent-queue").join(marker);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn without_a_tmux_server_the_queues_are_shown_and_one_line_says_so() {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux_with(|builder| builder.not_running());
    sandbox.project("web").drop_task("a.md", "Do it.\n");
    let json = sandbox.ccl_json(&["status"]);
    assert_eq!(json["sessions"].as_array().unwrap().len(), 4);
    for session in json["sessions"].as_array().unwrap() {
        assert_eq!(session["state"], "missing");
    }
    assert_eq!(names(&json["tasks"], "waiting"), ["a.md"]);
    let (text, stderr, exit) = status(&sandbox, &[]);
    assert_eq!((stderr.as_str(), exit), ("", 0));
    assert_eq!(text.matches("no tmux server").count(), 1, "{text}");
    assert!(!tmux.socket().exists(), "status starts no server");
}

#[test]
fn without_tmux_itself_the_queues_are_shown_all_the_same() {
    let mut sandbox = Sandbox::new();
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    sandbox.project("web").drop_task("a.md", "Do it.\n");
    let (text, stderr, exit) = status(&sandbox, &[]);
    assert_eq!(exit, 75, "{stderr}");
    assert!(stderr.contains("/nonexistent/tmux"), "{stderr}");
    assert!(text.contains("a.md"), "{text}");
}

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
               "attempt": 1, "since": since, "stale": false, "reason": null})
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
        json!([{"path": project.root(), "waiting": 6, "dispatched": 1, "delegated": 0, "done": 0, "failed": 0}])
    );
    let (text, stderr, exit) = status(&sandbox, &[]);
    assert_eq!((stderr.as_str(), exit), ("", 0));
    for expected in [
        "Fix the login",
        "1 high, 1 default, 1 low",
        "3 tasks are held",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
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
fn an_unreadable_marker_is_told_and_hides_nothing() {
    let (sandbox, _tmux) = world(2);
    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    project.drop_task("b.md", "Do it.\n");
    sandbox.ccl(["scan"]).assert().success();
    fs::write(
        sandbox.session_file("ccl-auto-0", "dispatched"),
        "{nonsense",
    )
    .unwrap();
    fs::write(
        project.queue("inbox").join(".b.md.claim"),
        r#"{"version":7}"#,
    )
    .unwrap();
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
        (
            "theirs.md",
            "another pool has it: session ccl-auto-0 on far",
        ),
        (
            "lost.md",
            "ccl-auto-0 does not know of it any more: rename it to lost.md",
        ),
        ("nobody.md", "nobody has claimed it: rename it to nobody.md"),
    ] {
        let task = row(&json["tasks"], "name", name);
        assert_eq!(task["state"], "dispatched");
        assert!(task["reason"].as_str().unwrap().contains(why), "{task}");
    }
    assert_eq!(
        row(&json["tasks"], "name", "ours.md")["reason"],
        Value::Null
    );
    let (text, ..) = status(&sandbox, &[]);
    assert!(text.contains("nobody.md") && text.contains("far"), "{text}");
}

#[test]
fn sessions_that_rest_are_busy_or_have_lost_their_task() {
    let (sandbox, tmux) = world(5);
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
    fs::write(
        sandbox.session_file("ccl-auto-3", "cooldown"),
        rest(false).to_string(),
    )
    .unwrap();
    fs::write(
        sandbox.session_file("ccl-auto-4", "cooldown"),
        rest(true).to_string(),
    )
    .unwrap();
    wait_until("sleep is in front", support::PATIENCE, || {
        let json = sandbox.ccl_json(&["status"]);
        row(&json["sessions"], "name", "ccl-auto-1")["state"] == "busy"
    });
    let json = sandbox.ccl_json(&["status"]);
    let of = |index: u32| row(&json["sessions"], "name", &format!("ccl-auto-{index}")).clone();
    assert_eq!(of(0)["state"], "working");
    assert!(
        of(1)["reason"].as_str().unwrap().contains("sleep"),
        "{}",
        of(1)
    );
    assert_eq!(of(2)["state"], "missing");
    assert_eq!(of(3)["state"], "cooldown");
    assert_eq!(of(3)["until"], "2999-01-01T00:00:00Z");
    assert_eq!(of(3)["since"], "2026-01-01T00:00:00Z");
    assert_eq!(of(4)["state"], "needs-attention");
    assert_eq!(of(4)["reason"], "the reason");
    let (text, ..) = status(&sandbox, &[]);
    assert!(text.contains("d left; the reason"), "{text}");
    assert!(text.contains("1 session needs a person"), "{text}");

    tmux.run(&["kill-session", "-t", "=ccl-auto-0:"]);
    wait_until("the session is gone", support::PATIENCE, || {
        sandbox.ccl_json(&["status"])["sessions"][0]["state"] == "missing"
    });
    let gone = &sandbox.ccl_json(&["status"])["sessions"][0];
    assert_eq!(gone["task"], "a.md");
    assert!(
        gone["reason"]
            .as_str()
            .unwrap()
            .contains("the next pass files it"),
        "{gone}"
    );
    assert_eq!(
        project.inbox().contains(&"a.md.dispatched".to_owned()),
        true,
        "status changes nothing"
    );
}

#[test]
fn a_question_of_claude_needs_a_person() {
    let mut sandbox = Sandbox::new();
    let fake = FakeClaude::install(&sandbox);
    let tmux = sandbox.tmux_with(|builder| builder.envs(fake.env()));
    sandbox.config("pool", json!({"autonomous": {"max": 1}}));
    fake.script(&[Behaviour {
        turns: vec![Turn {
            end: Ending::Ask(Screen::Question),
            ..Turn::default()
        }],
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

fn ended(run: &str, rest: &str) -> String {
    format!("Do it.\n\n<!-- ccl {{\"run\":\"{run}\",\"attempt\":1,{rest}}} -->\n")
}

#[test]
fn the_last_day_is_counted_by_provider() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    let project = sandbox.project("web");
    let run = "00000000-0000-4000-8000-000000000001";
    let now = jiff::Timestamp::now();
    let files = [
        (
            "done/a.md",
            r#""outcome":"done","provider":"gpu","cost":{"amount":"0.1","currency":"USD"}"#,
        ),
        (
            "done/b.md",
            r#""outcome":"done","provider":"gpu","cost":{"amount":"0.2","currency":"USD"}"#,
        ),
        (
            "done/c.md",
            r#""outcome":"done","provider":"gemini","cost":{"amount":"3","currency":"EUR"}"#,
        ),
        ("failed/d.md", r#""outcome":"failed","provider":"gpu""#),
        ("done/e.md", r#""outcome":"done","provider":"claude-code""#),
    ];
    for (path, rest) in files {
        let rest = format!(r#"{rest},"ended_at":"{now}""#);
        fs::write(
            project.root().join(".agent-queue").join(path),
            ended(run, &rest),
        )
        .unwrap();
    }
    let old = project.queue("done").join("old.md");
    fs::write(&old, ended(run, r#""outcome":"done","provider":"gpu""#)).unwrap();
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
    fs::File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(yesterday)
        .unwrap();
    fs::write(
        project.queue("failed").join("by-hand.md"),
        "moved by a person\n",
    )
    .unwrap();

    let json = sandbox.ccl_json(&["status"]);
    assert_eq!(
        json["last_24h"],
        json!([{"provider": "claude-code", "done": 1, "failed": 0, "cost": []},
               {"provider": "gpu", "done": 2, "failed": 1, "cost": [{"amount": "0.3", "currency": "USD"}]},
               {"provider": "gemini", "done": 1, "failed": 0, "cost": [{"amount": "3", "currency": "EUR"}]},
               {"provider": null, "done": 0, "failed": 1, "cost": []}])
    );
    assert_eq!(
        json["delegated"],
        json!({"active": 0, "jobs": [], "done_24h": 3, "failed_24h": 1,
               "cost_24h": [{"amount": "3", "currency": "EUR"}, {"amount": "0.3", "currency": "USD"}]})
    );
    assert_eq!(json["projects"][0]["done"], 5);
    assert_eq!(json["projects"][0]["failed"], 2);
    let (text, ..) = status(&sandbox, &[]);
    assert!(
        text.contains("gpu          2     1       0.3 USD"),
        "{text}"
    );
}

#[test]
fn a_long_queue_is_listed_whole_and_read_in_part() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    let project = sandbox.project("web");
    for index in 0..3000 {
        let path = project.queue("inbox").join(format!("t{index:04}.md"));
        let priority = if index == 2999 { "critical" } else { "low" };
        let text = format!("---\ntitle: T{index}\npriority: {priority}\n---\nx\n");
        fs::write(path, text).unwrap();
    }
    let json = sandbox.ccl_json(&["status"]);
    let tasks = json["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 3000);
    assert_eq!(
        tasks[0]["name"], "t2999.md",
        "whoever goes first stands first"
    );
    assert_eq!(tasks[0]["title"], "T2999");
    assert!(tasks.iter().all(|task| task["priority"].is_string()));
    let titled = tasks.iter().filter(|task| task["title"].is_string());
    assert_eq!(
        titled.count(),
        1000,
        "the other files are not looked into further"
    );
    let (text, ..) = status(&sandbox, &[]);
    assert!(text.contains("… and 2,980 more wait in web"), "{text}");
    assert!(text.contains("waiting: 1 critical, 2,999 low"), "{text}");
    assert!(text.lines().count() < 40, "{text}");
}

#[test]
fn promtool_accepts_the_metrics() {
    let (sandbox, _tmux) = world(1);
    let odd = Project::make(
        &sandbox
            .projects_dir()
            .join(OsStr::from_bytes(b"a \"b\\c\n{d=\"1\"} \xff")),
    );
    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    sandbox.ccl(["scan"]).assert().success();
    odd.drop_task("b.md", "---\npriority: high\n---\nx\n");
    let rest = r#""outcome":"done","provider":"gpu","cost":{"amount":"0.0123","currency":"USD"}"#;
    let path = project.queue("done").join("c.md");
    fs::write(path, ended("00000000-0000-4000-8000-000000000001", rest)).unwrap();

    let (text, stderr, exit) = status(&sandbox, &["--format", "prometheus"]);
    assert_eq!((stderr.as_str(), exit), ("", 0));
    for line in [
        "ccl_sessions{state=\"working\"} 1",
        "ccl_last_day_cost{provider=\"gpu\",currency=\"USD\"} 0.0123",
        "ccl_last_day_tasks{provider=\"gpu\",outcome=\"done\"} 1",
        "ccl_status_success 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    let waiting = text
        .lines()
        .find(|line| line.starts_with("ccl_tasks_waiting") && line.ends_with("} 1"));
    assert!(
        waiting.unwrap().contains(r#"a \"b\\c\\n{d=\"1\"} \\xff""#),
        "{waiting:?}"
    );

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in Debian's package `prometheus`");
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let out = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn forms_that_exclude_each_other_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.project("web");
    let (_, stderr, exit) = status(&sandbox, &["--json", "--format", "prometheus"]);
    assert_eq!(exit, 2, "{stderr}");
    let (text, ..) = status(&sandbox, &["--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["version"], 1);
}

#[test]
fn on_a_terminal_the_text_uses_its_width_and_its_colours() {
    let (sandbox, _tmux) = world(1);
    let project = sandbox.project("web");
    let name = format!("{}.md", "long-name-".repeat(12));
    project.drop_task(&name, "---\npriority: low\n---\nx\n");
    symlink("/etc/passwd", project.queue("inbox").join("l.md")).unwrap();
    let terminal = TmuxServer::start();
    let pane = terminal.new_session("look", &[]);
    let run = |variables: &str| {
        let line = format!(
            "clear; env HOME={} {variables} {} --config {} status; echo en''d",
            sandbox.home().display(),
            env!("CARGO_BIN_EXE_ccl"),
            sandbox.config_file().display()
        );
        terminal.type_line(&pane, &line);
        terminal.wait_for_text(&pane, "\nend");
        terminal.run(&["capture-pane", "-p", "-e", "-J", "-t", &pane])
    };
    let wide = run("A=1");
    assert!(wide.contains(&name), "200 columns show it whole\n{wide}");
    assert!(wide.contains("\u{1b}[33mheld"), "{wide}");
    let colourless = run("NO_COLOR=1");
    assert!(!colourless.contains('\u{1b}'), "{colourless}");
    terminal.run(&["resize-window", "-t", &pane, "-x", "60", "-y", "50"]);
    terminal.wait_until("the pane is narrow", || {
        terminal.format(&pane, "#{pane_width}") == "60"
    });
    let narrow = run("NO_COLOR=1");
    assert!(narrow.contains('…') && !narrow.contains(&name), "{narrow}");
    let text = narrow.split_once("SESSION").unwrap().1;
    assert!(
        text.lines().all(|line| line.chars().count() <= 60),
        "{text}"
    );
}
