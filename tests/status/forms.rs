//! Counts, long queues, and the forms: text, JSON, Prometheus, a terminal.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::{Project, Sandbox, TmuxServer};
use crate::{status, world};

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
        fs::write(project.root().join(".agent-queue").join(path), ended(run, &rest)).unwrap();
    }
    let old = project.queue("done").join("old.md");
    fs::write(&old, ended(run, r#""outcome":"done","provider":"gpu""#)).unwrap();
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
    fs::File::options().write(true).open(&old).unwrap().set_modified(yesterday).unwrap();
    fs::write(project.queue("failed").join("by-hand.md"), "moved by a person\n").unwrap();

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
    assert!(text.contains("gpu          2     1       0.3 USD"), "{text}");
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
    assert_eq!(tasks[0]["name"], "t2999.md", "whoever goes first stands first");
    assert_eq!(tasks[0]["title"], "T2999");
    assert!(tasks.iter().all(|task| task["priority"].is_string()));
    let titled = tasks.iter().filter(|task| task["title"].is_string());
    assert_eq!(titled.count(), 1000, "the other files are not looked into further");
    let (text, ..) = status(&sandbox, &[]);
    assert!(text.contains("… and 2980 more wait in web"), "{text}");
    assert!(text.contains("waiting: 1 critical, 2999 low"), "{text}");
    assert!(text.lines().count() < 40, "{text}");
}

#[test]
fn promtool_accepts_the_metrics() {
    let (sandbox, _tmux) = world(1);
    let odd =
        Project::make(&sandbox.projects_dir().join(OsStr::from_bytes(b"a \"b\\c\n{d=\"1\"} \xff")));
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
    let waiting =
        text.lines().find(|line| line.starts_with("ccl_tasks_waiting") && line.ends_with("} 1"));
    assert!(waiting.unwrap().contains(r#"a \"b\\c\\n{d=\"1\"} \\xff""#), "{waiting:?}");

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in Debian's package `prometheus`");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
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
fn json_has_no_raw_control_character_of_a_file_name() {
    let (sandbox, _tmux) = world(1);
    let project = sandbox.project("web");
    let name = "a\u{1b}[2J\u{7f}b\u{9b}2Jc.md";
    project.drop_task(name, "x\n");
    for args in [&["status", "--json"][..], &["scan", "--json"]] {
        let out = sandbox.ccl(args).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        assert!(text.contains("a\\u001b[2J\\u007fb\\u009b2Jc.md"), "{text}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert!(json.to_string().contains('\u{9b}'), "{json}");
    }
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
    // Each run ends with a word of its own: the last one's may still be on the screen.
    let run = |variables: &str, end: &str| {
        let line = format!(
            "clear; env HOME={} {variables} {} --config {} status; echo en''d-{end}",
            sandbox.home().display(),
            env!("CARGO_BIN_EXE_ccl"),
            sandbox.config_file().display()
        );
        terminal.type_line(&pane, &line);
        terminal.wait_for_text(&pane, &format!("\nend-{end}"));
        terminal.run(&["capture-pane", "-p", "-e", "-J", "-t", &pane])
    };
    let wide = run("A=1", "wide");
    assert!(wide.contains(&name), "200 columns show it whole\n{wide}");
    assert!(wide.contains("\u{1b}[33mheld"), "{wide}");
    let colourless = run("NO_COLOR=1", "colourless");
    assert!(!colourless.contains('\u{1b}'), "{colourless}");
    terminal.run(&["resize-window", "-t", &pane, "-x", "60", "-y", "50"]);
    terminal.wait_until("the pane is narrow", || terminal.format(&pane, "#{pane_width}") == "60");
    let narrow = run("NO_COLOR=1", "narrow");
    assert!(narrow.contains('…') && !narrow.contains(&name), "{narrow}");
    let text = narrow.split_once("SESSION").unwrap().1;
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
}
