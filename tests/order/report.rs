use std::fs;

use serde_json::{Value, json};

use crate::sandbox;
use crate::support::Sandbox;

fn line(run: u32, outcome: &str, more: Value) -> String {
    let mut line = json!({"run": format!("00000000-0000-4000-8000-{run:012}"), "outcome": outcome,
                          "attempt": 1, "provider": "claude-code", "agent_session": "s"});
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("<!-- ccl {line} -->\n")
}

fn git() -> Value {
    json!({"branch": "ccl/a", "base": "b0", "head": "h1", "commits": 1, "files": 2, "insertions": 5, "deletions": 1})
}

fn check() -> Value {
    json!({"command": "make test", "exit": 0, "seconds": 3, "rounds": 0})
}

fn report(sandbox: &Sandbox, args: &[&str]) -> Value {
    sandbox.ccl_json(&[&["report"], args].concat())
}

#[test]
fn the_report_is_made_of_task_files_and_the_journal() {
    let (sandbox, project) = sandbox();
    let quiet = sandbox.project("quiet");
    let day = |hour: u32| format!("2026-11-26T{hour:02}:00:00Z");
    let cost = |amount: &str| json!({"amount": amount, "currency": "USD"});
    let task = |path: &str, text: String| {
        fs::write(project.root().join(".agent-queue").join(path), text).unwrap();
    };
    let ended = json!({"started_at": day(9), "ended_at": day(10), "cost": cost("0.25"),
        "git": git(), "check": check()});
    task("done/a.md", format!("---\ntitle: A\n---\nx\n{}", line(1, "done", ended)));
    // Of another day; without an ending line, but changed today; a failed one.
    task(
        "done/old.md",
        format!(
            "x\n{}",
            line(2, "done", json!({"ended_at": "2026-11-25T23:59:59Z", "cost": cost("9")}))
        ),
    );
    task(
        "failed/f.md",
        format!("x\n{}", line(3, "failed", json!({"ended_at": day(12), "reason": "red"}))),
    );
    project.drop_task("w.md", "x");
    std::os::unix::fs::symlink("/etc/passwd", project.queue("inbox").join("l.md")).unwrap();
    // The journal tells of run 1 again, of an attempt that is in no file, and of two waits.
    let entry = |event: &str, run: u32, hour: u32, more: Value| {
        let mut entry = json!({"time": day(hour), "event": event, "task": "a.md", "agent": "claude",
            "provider": "claude-code", "run": format!("00000000-0000-4000-8000-{run:012}")});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("{entry}\n")
    };
    let lines = [
        entry("dispatched", 4, 8, json!({"waited": 30})),
        entry("released", 4, 9, json!({"cost": cost("0.5")})),
        "torn {\"time\":\"2026\n".to_owned(),
        entry("dispatched", 1, 9, json!({"waited": 90})),
        entry("done", 1, 10, json!({"cost": cost("0.25")})),
        json!({"time": "2026-11-27T00:00:00Z", "event": "done", "run": "00000000-0000-4000-8000-000000000009",
               "provider": "claude-code", "agent": "claude", "cost": cost("7")}).to_string(),
    ];
    fs::create_dir_all(sandbox.state_dir()).unwrap();
    fs::write(sandbox.state_dir().join("journal.jsonl"), lines.concat()).unwrap();
    let mut with_zone = sandbox;
    with_zone.env("TZ", "UTC");
    let sandbox = with_zone;

    let out = sandbox.ccl(["report", "--json", "--since", "2026-11-26"]).output().unwrap();
    // There is no tmux: what could not be read is said, and the rest is shown.
    assert_eq!(out.status.code(), Some(75));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["version"], 1);
    assert_eq!(
        (&report["since"], &report["until"]),
        (&json!(day(0)), &json!("2026-11-27T00:00:00Z"))
    );
    let of = |root: &std::path::Path| {
        let projects = report["projects"].as_array().unwrap().iter();
        projects.clone().find(|it| it["path"] == root.to_str().unwrap()).unwrap().clone()
    };
    let web = of(project.root());
    assert_eq!(
        web["done"],
        json!([{"task": "a.md", "title": "A", "seconds": 3600, "cost": cost("0.25"), "check": check(), "git": git()}])
    );
    assert_eq!(web["failed"], json!([{"task": "f.md", "title": null, "reason": "red"}]));
    assert_eq!(web["attention"].as_array().unwrap().len(), 1, "{web}");
    assert_eq!((&web["attention"][0]["task"], &web["waiting"]), (&json!("l.md"), &json!(1)));
    assert_eq!(of(quiet.root())["done"], json!([]));
    assert_eq!(
        report["spent"],
        json!([{"agent": "claude", "provider": "claude-code", "amount": "0.75", "currency": "USD",
                "runs": 3, "unknown": 1}])
    );
    assert_eq!(report["waited"], json!({"median_s": 30, "p90_s": 90}));

    let out = sandbox.ccl(["report", "--since", "2026-11-26"]).output().unwrap();
    let page = String::from_utf8(out.stdout).unwrap();
    assert!(page.starts_with("# Thu 26 Nov 2026 00:00 to Fri 27 Nov 2026 00:00\n"), "{page}");
    assert!(
        page.contains("- **A** (`a.md`): 1h, 0.25 USD, 2 files +5 −1 on `ccl/a`, check passed\n"),
        "{page}"
    );
    assert!(page.contains("- `f.md`: red\n") && page.contains("Nothing ended in quiet."), "{page}");
}

#[test]
fn a_report_of_nothing_and_of_nonsense() {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.project("web");
    let report = report(&sandbox, &[]);
    assert_eq!((&report["spent"], &report["waited"]["median_s"]), (&json!([]), &Value::Null));
    for args in [&["--since", "soon"][..], &["--json", "--format", "markdown"]] {
        let out = sandbox.ccl(["report"]).args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(out.stdout.is_empty() && !out.stderr.is_empty());
    }
    drop(tmux);
}

/// All that `status` shows a person is in the report, too.
#[test]
fn what_waits_for_a_person_is_in_the_report() {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": 1}}));
    let project = sandbox.project("web");
    tmux.new_session("k-0", &[]);
    let queue = project.root().join(".agent-queue");
    fs::create_dir_all(queue.join("to-land")).unwrap();
    let stamp = json!({"version": 1, "host": "h", "at": "2026-11-26T02:00:00Z"});
    let with = |more: Value| {
        let mut marker = stamp.clone();
        marker.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        marker.to_string()
    };
    let branch = json!({"task": "a.md", "branch": "ccl/a", "reason": "nothing has checked it: run `ccl land a`"});
    fs::write(queue.join("to-land/a"), with(branch)).unwrap();
    let sessions = sandbox.state_dir().join("sessions");
    fs::create_dir_all(&sessions).unwrap();
    let cooldown = json!({"until": "2999-01-01T00:00:00Z", "reason": "log in with `claude`", "needs_person": true,
                          "needs_attention": true});
    fs::write(sessions.join("k-0.cooldown"), with(cooldown)).unwrap();
    project.drop_task("lost.md", "---\ndepends_on: [none.md]\n---\nx\n");
    project.drop_task("self.md", "---\ndepends_on: [self.md]\n---\nx\n");
    fs::write(project.queue("failed").join("f.md"), "x").unwrap();
    project.drop_task("after.md", "---\ndepends_on: [f.md]\n---\nx\n");
    fs::create_dir_all(queue.join("recurring")).unwrap();
    fs::write(
        queue.join("recurring/<img src=x onerror=alert(2)>.md"),
        "---\nat: never ever\n---\nx\n",
    )
    .unwrap();
    sandbox.ccl(["pause", "a release"]).assert().success();

    let out = sandbox.ccl(["report", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let lines = |rows: &Value| -> Vec<String> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| format!("{}: {}", row["task"].as_str().unwrap_or("-"), row["reason"]))
            .collect()
    };
    let (all, web) = (lines(&report["attention"]), lines(&report["projects"][0]["attention"]));
    let has = |rows: &[String], words: &[&str]| {
        let found = rows.iter().any(|row| words.iter().all(|word| row.contains(word)));
        assert!(found, "{words:?} is not in {rows:#?}");
    };
    has(&all, &["-: ", "k-0: log in with `claude`"]);
    has(&all, &["-: ", "everything is paused since", "a release", "`ccl resume`"]);
    has(&web, &["a.md: ", "ccl/a: nothing has checked it", "`ccl land a`"]);
    has(&web, &["lost.md: ", "there is no none.md: add it"]);
    has(&web, &["self.md: ", "self.md → self.md"]);
    has(&web, &["after.md: ", "f.md failed: `ccl retry` it"]);
    has(&web, &["<img src=x onerror=alert(2)>.md: "]);

    let page = String::from_utf8(sandbox.ccl(["report"]).output().unwrap().stdout).unwrap();
    let needed = all.len() + web.len();
    assert!(page.contains(&format!(", {needed} wait for you")), "{page}");
    for (index, part) in page.split('`').enumerate() {
        assert!(index % 2 == 1 || !part.replace("\\<", "").contains('<'), "{page}");
    }
    let text = String::from_utf8(sandbox.ccl(["status"]).output().unwrap().stdout).unwrap();
    let (needs, _) = text.split_once("TO LAND").unwrap();
    for name in ["lost.md", "self.md", "after.md", "k-0"] {
        assert!(needs.contains(name), "{name}: {text}");
    }
    let html = sandbox.ccl(["status", "--format", "html"]).output().unwrap().stdout;
    let html = String::from_utf8(html).unwrap();
    let needs = &html[html.find("id=\"needs\"").unwrap()..html.find("id=\"to-land\"").unwrap()];
    assert!(needs.contains("there is no none.md") && needs.contains("f.md failed"), "{needs}");
}
