use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::sandbox;
use crate::support::fake_script::{Behaviour, Ending, Screen, Turn};
use crate::support::faults::{
    self, CHANGING, Fault, Worker, calls, disturb_each, is_long, pass_with, was_killed,
};
use crate::support::sandbox::names;
use crate::support::scenes::kill;
use crate::support::world::World;
use crate::support::{PATIENCE, Project, Sandbox, wait_until};

/// A program that adds what it is given to `heard`, and then does more.
fn listener(sandbox: &Sandbox, name: &str, more: &str) -> PathBuf {
    let heard = sandbox.path().join(name);
    let program = sandbox.path().join(format!("{name}.sh"));
    let script = format!(
        "#!/bin/sh\n{{ cat; }} > {0}.$$ && cat {0}.$$ >> {0}\nenv > {0}.env\n{more}\n",
        heard.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn heard(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.path().join(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn queued(sandbox: &Sandbox) -> Vec<String> {
    let directory = sandbox.state_dir().join("notify");
    let mut files = if directory.exists() { names(&directory) } else { Vec::new() };
    files.retain(|name| name.ends_with(".json"));
    files
}

fn cancel(sandbox: &Sandbox, project: &Project, task: &str) -> Duration {
    project.drop_task(task, "---\ntitle: The title\n---\nSecret words.\n");
    let start = Instant::now();
    sandbox.ccl(["cancel", task]).assert().success();
    start.elapsed()
}

#[test]
fn a_command_is_given_json_and_no_secret() {
    let (mut sandbox, project) = sandbox();
    sandbox.env("SECUTOOLS_API_KEY", "hush-hush");
    let with_body = listener(&sandbox, "with-body", "");
    let without = listener(&sandbox, "without", "yes | head -c 30000000; yes >&2 | head -c 100");
    let other = listener(&sandbox, "other", "");
    sandbox.config(
        "notify",
        json!([{"on": ["failed"], "command": [with_body], "body": true},
               {"on": ["failed", "done"], "command": [without]},
               {"on": ["done", "hold", "needs-attention", "to-land"], "command": [other]}]),
    );
    cancel(&sandbox, &project, "a.md");
    let [notice] = &heard(&sandbox, "with-body")[..] else { panic!() };
    assert_eq!(notice["version"], 1);
    assert_eq!(notice["event"], "failed");
    assert_eq!(notice["task"], "a.md");
    assert_eq!(notice["title"], "The title");
    assert_eq!(notice["reason"], "cancelled");
    assert_eq!(notice["project"], project.root().to_str().unwrap());
    assert_eq!(notice["body"], "Secret words.");
    let [notice] = &heard(&sandbox, "without")[..] else { panic!() };
    assert!(notice.get("body").is_none() && notice.get("cost").is_some(), "{notice}");
    assert!(heard(&sandbox, "other").is_empty());
    let env = fs::read_to_string(sandbox.path().join("with-body.env")).unwrap();
    assert!(!env.contains("hush-hush"), "{env}");
}

/// One notifier hangs, one fails, one floods, one is not there: the others hear of it, and the task is filed.
#[test]
fn bad_notifiers_cost_five_seconds_and_no_task() {
    let (mut sandbox, project) = sandbox();
    let hangs = listener(&sandbox, "hangs", "sleep 60");
    let fails = listener(&sandbox, "fails", "echo broken >&2; exit 3");
    let floods = listener(&sandbox, "floods", "yes");
    let good = listener(&sandbox, "good", "");
    let deaf = sandbox.path().join("nothing-here");
    let entry = |program: &Path| json!({"on": ["failed"], "command": [program]});
    let all = [&hangs, &fails, &floods, &deaf, &good].map(|program| entry(program));
    sandbox.config("notify", json!(all));
    for round in 1..=2 {
        let took = cancel(&sandbox, &project, &format!("t{round}.md"));
        assert!(took < Duration::from_secs(8), "{took:?}");
        assert_eq!(project.failed().len(), round);
    }
    assert_eq!(heard(&sandbox, "good").len(), 2);
    // What was not taken is tried again: two events for each of four.
    assert_eq!(queued(&sandbox).len(), 8, "{:?}", queued(&sandbox));
    assert!(heard(&sandbox, "fails").len() >= 3);
    // All is well again: everything is told, once more at most for those that had hung, and never again.
    for program in [&hangs, &fails, &floods, &deaf] {
        fs::copy(&good, program).unwrap();
    }
    sandbox.ccl(["reap"]).assert().success();
    assert!(queued(&sandbox).is_empty(), "{:?}", queued(&sandbox));
    let told = heard(&sandbox, "good").len();
    assert_eq!(told, 2 + 8);
    sandbox.ccl(["reap"]).assert().success();
    assert_eq!(heard(&sandbox, "good").len(), told);
}

#[test]
fn after_a_day_an_event_is_given_up() {
    let (mut sandbox, project) = sandbox();
    sandbox.config("notify", json!([{"on": ["failed"], "command": ["false"]}]));
    cancel(&sandbox, &project, "a.md");
    let [file] = &queued(&sandbox)[..] else { panic!() };
    let path = sandbox.state_dir().join("notify").join(file);
    let mut notice: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    notice["time"] = json!("2026-01-01T00:00:00Z");
    fs::write(&path, notice.to_string()).unwrap();
    let nonsense = sandbox.state_dir().join("notify/x.0.json");
    fs::write(&nonsense, "nonsense").unwrap();
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    fs::File::options().write(true).open(&nonsense).unwrap().set_modified(two_days_ago).unwrap();
    let out = sandbox.ccl(["reap"]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("after a day: failed: The title (a.md of web): cancelled"), "{said}");
    assert!(queued(&sandbox).is_empty());
}

/// What a server was sent: the first line, the headers, the body.
type Requests = Arc<Mutex<Vec<(String, Vec<String>, String)>>>;

/// Answers every request with the same status line.
fn server(answer: &'static str) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/topic?token=xyz", listener.local_addr().unwrap());
    let requests = Requests::default();
    let kept = Arc::clone(&requests);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = read_request(&mut stream);
            // Before the answer: with that, `ccl` may have ended, and the test looks.
            kept.lock().unwrap().push(request);
            let reply =
                format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    (url, requests)
}

fn read_request(stream: &mut TcpStream) -> (String, Vec<String>, String) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = head.iter().find_map(|line| {
        line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let first = head.remove(0);
    (first, head, String::from_utf8(body).unwrap())
}

#[test]
fn an_address_is_posted_to() {
    let (mut sandbox, project) = sandbox();
    let (url, requests) = server("200 OK");
    let headers = sandbox.path().join("headers");
    fs::write(&headers, "Authorization: Bearer s3cret\nTitle: ccl\n\n").unwrap();
    fs::set_permissions(&headers, fs::Permissions::from_mode(0o600)).unwrap();
    let entry = |format: &str| json!({"on": ["failed"], "url": url, "format": format});
    let mut text = entry("text");
    text["header_file"] = json!(headers);
    sandbox.config("notify", json!([text, entry("json"), entry("slack")]));
    cancel(&sandbox, &project, "a.md");
    let requests = requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3);
    let line = "failed: The title (a.md of web): cancelled\n";
    let find = |body: &dyn Fn(&str) -> bool| requests.iter().find(|it| body(&it.2)).unwrap();
    let (first, head, _) = find(&|body| body == line);
    assert_eq!(first, "POST /topic?token=xyz HTTP/1.1");
    let has = |wanted: &str| head.iter().any(|line| line.eq_ignore_ascii_case(wanted));
    assert!(has("Authorization: Bearer s3cret") && has("Title: ccl"), "{head:?}");
    find(&|body| {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        json["event"] == "failed" && json["id"].is_string()
    });
    find(&|body| {
        serde_json::from_str::<Value>(body).is_ok_and(|json| json == json!({"text": line}))
    });
    assert!(queued(&sandbox).is_empty());
}

#[test]
fn a_server_that_refuses_or_moves_has_not_taken_it_and_no_secret_is_logged() {
    for answer in ["500 Broken", "302 Found\r\nLocation: http://127.0.0.1:1/"] {
        let (mut sandbox, project) = sandbox();
        let (url, requests) = server(answer);
        sandbox.config("notify", json!([{"on": ["failed"], "url": url}]));
        project.drop_task("a.md", "x");
        let out = sandbox.ccl(["cancel", "a", "-v"]).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.contains("cannot notify 127.0.0.1: it answered with "), "{said}");
        assert!(!said.contains("xyz"), "{said}");
        assert_eq!((queued(&sandbox).len(), requests.lock().unwrap().len()), (1, 1));
    }
}

#[test]
fn a_header_file_that_others_may_read_is_not_sent() {
    let (mut sandbox, project) = sandbox();
    let (url, requests) = server("200 OK");
    let headers = sandbox.path().join("headers");
    fs::write(&headers, "Authorization: Bearer s3cret\n").unwrap();
    fs::set_permissions(&headers, fs::Permissions::from_mode(0o644)).unwrap();
    sandbox.config("notify", json!([{"on": ["failed"], "url": url, "header_file": headers}]));
    project.drop_task("a.md", "x");
    let out = sandbox.ccl(["cancel", "a"]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("other users may read it (mode 0644); run `chmod 600"), "{said}");
    assert!(out.status.success() && requests.lock().unwrap().is_empty());
}

/// SIGKILL at every call that changes something: the task is filed once, and the event is told at least once.
#[test]
fn no_kill_loses_an_event() {
    let mut kills = 0;
    for syscall in CHANGING {
        for nth in (1..).step_by(if is_long() { 1 } else { 2 }) {
            let (mut sandbox, project) = sandbox();
            let program = listener(&sandbox, "heard", "");
            sandbox.config("notify", json!([{"on": ["failed"], "command": [program]}]));
            project.drop_task("a.md", "Do it.\n");
            let fault = Fault { syscall, nth, action: "signal=SIGKILL", from_then_on: false };
            let out = pass_with(&sandbox, &["cancel", "a.md"], fault, &[]);
            let when = format!("killed at {syscall} {nth}");
            if project.inbox().contains(&"a.md".to_owned()) {
                sandbox.ccl(["cancel", "a.md"]).assert().success();
            }
            assert_eq!(project.failed(), ["a.md"], "{when}");
            // A program of a killed pass goes on by itself.
            wait_until("all is told", PATIENCE, || {
                sandbox.ccl(["reap"]).assert().success();
                queued(&sandbox).is_empty()
            });
            wait_until("it was heard", PATIENCE, || !heard(&sandbox, "heard").is_empty());
            let told = heard(&sandbox, "heard");
            assert!(told.len() <= 3, "{when}: {told:?}");
            assert!(told.iter().all(|it| it["id"] == told[0]["id"]), "{when}: {told:?}");
            if !was_killed(out.status) {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= if is_long() { 20 } else { 10 }, "only {kills} kills");
}

/// However often the change is broken off, its event has one id, and nobody hears of it before it has happened.
#[test]
fn a_change_that_is_broken_off_again_and_again_has_one_event() {
    for (syscall, last) in [("renameat2", 3), ("rename", 8), ("renameat", 8), ("fsync", 12)] {
        let (mut sandbox, project) = sandbox();
        let program = listener(&sandbox, "heard", "");
        sandbox.config("notify", json!([{"on": ["failed"], "command": [program]}]));
        project.drop_task("k.md", "Do it.\n");
        let waits = || project.inbox().contains(&"k.md".to_owned());
        let mut queues = Vec::new();
        for nth in [1, 1].into_iter().chain(1..=last) {
            if !waits() {
                break;
            }
            pass_with(&sandbox, &["cancel", "k"], kill(syscall, nth), &[]);
            let was_waiting = waits();
            sandbox.ccl(["reap"]).assert().success();
            if was_waiting {
                assert_eq!(heard(&sandbox, "heard"), [] as [Value; 0], "{syscall} {nth}");
            }
            queues.extend(queued(&sandbox));
        }
        if waits() {
            sandbox.ccl(["cancel", "k"]).assert().success();
        }
        assert_eq!(project.failed(), ["k.md"], "{syscall}");
        sandbox.ccl(["reap"]).assert().success();
        wait_until("it was heard", PATIENCE, || !heard(&sandbox, "heard").is_empty());
        queues.sort();
        queues.dedup();
        assert!(queues.len() <= 1, "{syscall}: {queues:?}");
        let first = heard(&sandbox, "heard");
        // The next task of this name is another one.
        project.drop_task("k.md", "Do it.\n");
        sandbox.ccl(["cancel", "k"]).assert().success();
        let told = heard(&sandbox, "heard");
        assert_eq!(told.len(), first.len() + 1, "{syscall}: {told:?}");
        assert_ne!(told[told.len() - 1]["id"], first[0]["id"], "{syscall}");
    }
}

/// What a killed cancel announced is not said of a task that was done instead.
#[test]
fn a_cancel_that_did_not_happen_is_not_told() {
    let mut world = faults::World::new();
    let program = listener(&world.sandbox, "heard", "");
    world.sandbox.config("notify", json!([{"on": ["failed", "done"], "command": [program]}]));
    world.begin("k.md", "go\n");
    let mut nth = 1;
    while queued(&world.sandbox).is_empty() {
        let out = world.pass_with(&["cancel", "k"], kill("fsync", nth));
        assert!(was_killed(out.status));
        nth += 1;
    }
    world.converge("k.md", "after a killed cancel");
    world.pass(&["reap"]);
    assert!(queued(&world.sandbox).is_empty());
    let told = heard(&world.sandbox, "heard");
    assert!(told.iter().all(|it| it["event"] == "done"), "{told:?}");
    assert_eq!(told.len(), 1, "{told:?}");
}

/// SIGKILL while a pass files what a session has done: people hear of it at least once, with one id.
#[test]
fn no_kill_of_a_filing_loses_an_event_or_changes_its_id() {
    const OF_FILES: [&str; 6] = ["write", "fsync", "rename", "renameat", "renameat2", "unlink"];
    let all = if is_long() { calls() } else { OF_FILES.to_vec() };
    let kills = disturb_each(
        Worker::Script,
        all,
        |_, nth| if is_long() { nth + 1 } else { nth * 2 + 1 },
        |world, syscall, nth| {
            let program = world.sandbox.path().join("heard.sh");
            if !program.exists() {
                listener(&world.sandbox, "heard", "");
                let on = json!([{"on": ["done"], "command": [program]}]);
                world.sandbox.config("notify", on);
            }
            let task = format!("{syscall}-{nth}.md");
            world.begin(&task, "go\n");
            world.pass(&["scan"]);
            world.wait_for_the_end(&task);
            if syscall == "open" {
                // Others look at other processes, hundreds of times.
                world.only_at = world.files_of(&task);
            }
            let out = world.pass_with(&["reap"], kill(syscall, nth));
            world.only_at.clear();
            let when = format!("killed at {syscall} {nth}");
            world.converge(&task, &when);
            let told = || {
                let mut told = heard(&world.sandbox, "heard");
                told.retain(|it| it["task"] == task.as_str());
                told
            };
            // A program of a killed pass goes on by itself.
            wait_until("all is told", PATIENCE, || {
                world.pass(&["reap"]);
                queued(&world.sandbox).is_empty() && !told().is_empty()
            });
            let told = told();
            assert!(told.len() <= 3, "{when}: {told:?}");
            assert!(told.iter().all(|it| it["id"] == told[0]["id"]), "{when}: {told:?}");
            was_killed(out.status)
        },
    );
    assert!(kills >= if is_long() { 25 } else { 8 }, "only {kills} kills");
}

/// What becomes of the tasks of a session: done, failed, and a branch that nothing has checked.
#[test]
fn what_sessions_have_done_is_heard() {
    let mut world = World::commands(1).with("dispatcher", json!({"max_attempts": 1}));
    let program = listener(&world.sandbox, "heard", "");
    let on = json!([{"on": ["done", "failed", "to-land"], "command": [program]}]);
    world.sandbox.config("notify", on);
    let project = world.project("web");
    project.init_git();
    let rules = "isolation: worktree\nland: rebase\n";
    fs::write(project.root().join(".agent-queue/project.yaml"), rules).unwrap();
    let commit =
        "echo one > a.txt && git add a.txt && git -c user.name=a -c user.email=a@b commit -qm a";
    for (task, body) in [("a.md", commit), ("f.md", "exit 3")] {
        project.drop_task(task, format!("---\ntitle: The {task}\n---\nDO: {body}\n"));
        assert_eq!(world.scan(), [format!("dispatched {task} ccl-auto-0")]);
        wait_until("it is filed", PATIENCE, || {
            world.pass(&["reap"]);
            !project.inbox().iter().any(|name| name.contains(task))
        });
    }
    world.pass(&["reap"]);
    let heard = heard(&world.sandbox, "heard");
    let mut short: Vec<String> = heard
        .iter()
        .map(|it| format!("{} {} {}", it["event"], it["task"], it["title"]).replace('"', ""))
        .collect();
    short.sort();
    assert_eq!(
        short,
        ["done a.md The a.md", "failed f.md The f.md", "to-land a.md The a.md"],
        "{heard:#?}"
    );
    let of = |event: &str| heard.iter().find(|it| it["event"] == event).unwrap();
    let reason = of("to-land")["reason"].as_str().unwrap();
    assert!(reason.starts_with("ccl/a: ") && reason.contains("nothing has checked it"), "{reason}");
    assert!(of("failed")["reason"].as_str().unwrap().contains('3'), "{}", of("failed"));
    assert!(
        heard.iter().all(|it| it["agent"] == "command" || it["event"] == "to-land"),
        "{heard:#?}"
    );
}

#[test]
fn a_single_held_file_is_no_event() {
    let mut world = World::commands(1);
    let program = listener(&world.sandbox, "heard", "");
    let all = ["done", "failed", "needs-attention", "hold", "to-land"];
    world.sandbox.config("notify", json!([{"on": all, "command": [program]}]));
    let project = world.project("web");
    project.drop_task("bad.md", "---\nnot_before: soon\n---\nDo it.\n");
    std::os::unix::fs::symlink("/etc/passwd", project.queue("inbox").join("l.md")).unwrap();
    for _ in 0..2 {
        let said = world.scan();
        assert!(said.iter().any(|it| it.starts_with("held bad.md")), "{said:?}");
    }
    assert!(queued(&world.sandbox).is_empty() && heard(&world.sandbox, "heard").is_empty());
}

/// A question lasts: people are told once, and again of the next agent's.
#[test]
fn that_an_agent_waits_for_a_person_is_told_once() {
    let turn = Turn { end: Ending::Ask(Screen::Question), ..Turn::default() };
    let mut world = World::claude(1);
    world.script(&[Behaviour { turns: vec![turn], ..Behaviour::default() }]);
    let program = listener(&world.sandbox, "heard", "");
    let on = json!([{"on": ["needs-attention"], "command": [program]}]);
    world.sandbox.config("notify", on);
    let project = world.project("web");
    for task in ["a.md", "b.md"] {
        project.drop_task(task, "---\ntitle: A question\n---\nDo it.\n");
        assert_eq!(world.scan(), [format!("dispatched {task} ccl-auto-0")]);
        let told = |task: &str| {
            let heard = heard(&world.sandbox, "heard");
            heard.iter().filter(|notice| notice["task"] == task).count()
        };
        wait_until("it is told", PATIENCE, || {
            world.pass(&["reap"]);
            told(task) > 0
        });
        for _ in 0..2 {
            world.pass(&["reap"]);
        }
        assert_eq!(told(task), 1);
        world.pass(&["cancel", task]);
    }
    let heard = heard(&world.sandbox, "heard");
    assert_eq!(heard.len(), 2, "{heard:#?}");
    assert_eq!(
        (&heard[0]["event"], &heard[0]["title"]),
        (&json!("needs-attention"), &json!("A question"))
    );
    assert!(heard[0]["reason"].is_string());
}
