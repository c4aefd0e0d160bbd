//! The paths, asked for by curl.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::Scene;
use crate::served::Served;
use crate::support::{Sandbox, TmuxServer};

/// `curl ARGS… URL`: head and body.
#[track_caller]
fn curl(served: &Served, path: &str, args: &[&str]) -> (String, String) {
    let out = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--include"])
        .args(args)
        .arg(served.url(path))
        .output()
        .expect("curl is installed");
    let text = String::from_utf8(out.stdout).unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    let parts = text.split_once("\r\n\r\n");
    let (head, body) = parts.unwrap_or_else(|| panic!("{path}: {}\n{said}\n{text}", out.status));
    (head.to_owned(), body.to_owned())
}

/// The status and the body.
#[track_caller]
fn get(served: &Served, path: &str) -> (u16, String) {
    let (head, body) = curl(served, path, &[]);
    (status_of(&head), body)
}

#[track_caller]
fn status_of(head: &str) -> u16 {
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"))
}

fn printed(sandbox: &Sandbox, args: &[&str]) -> String {
    let out = sandbox.ccl(args).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What changes from second to second is the time of the report's end.
fn without_until(text: &str) -> Value {
    let mut json = json_of(text);
    for key in ["since", "until"] {
        json[key] = Value::Null;
    }
    json
}

#[test]
fn each_path_answers_what_the_command_prints() {
    let scene = Scene::new();
    let served = Served::start(&scene.sandbox);
    let (status, body) = get(&served, "/api/status");
    assert_eq!(
        (status, body.as_str()),
        (200, printed(&scene.sandbox, &["status", "--json"]).as_str())
    );
    let (_, delegated) = get(&served, "/api/delegated/status");
    assert_eq!(json_of(&delegated), json_of(&body)["delegated"]);
    let (_, watchdog) = get(&served, "/watchdog/status");
    let (watchdog, whole) = (json_of(&watchdog), json_of(&body));
    assert_eq!(watchdog["version"], 1);
    for key in ["sessions", "stale", "delegated"] {
        assert_eq!(watchdog[key], whole[key], "{key}");
    }
    assert_eq!(watchdog["stale_tasks"].as_array().unwrap().len(), 1);
    assert_eq!(watchdog["stale_tasks"][0]["name"], "rotate.md");

    let (status, report) = get(&served, "/api/report?since=7d");
    let expected = printed(&scene.sandbox, &["report", "--since", "7d", "--format", "json"]);
    assert_eq!((status, without_until(&report)), (200, without_until(&expected)));
    let (_, day) = get(&served, "/api/report");
    let expected = printed(&scene.sandbox, &["report", "--json"]);
    assert_eq!(without_until(&day), without_until(&expected));

    let (head, page) = curl(&served, "/", &[]);
    for line in ["Content-Type: text/html; charset=utf-8", "Refresh: 30", "Cache-Control: no-store"]
    {
        assert!(head.contains(line), "{line}\n{head}");
    }
    assert!(!head.contains("Access-Control"), "{head}");
    assert!(head.contains("Content-Security-Policy: default-src 'none'; "), "{head}");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("Needs you"), "{page}");
    assert_eq!(served.exits(), [Some(0); 6]);
}

#[test]
fn promtool_accepts_the_metrics_as_they_are_served() {
    let scene = Scene::new();
    let served = Served::start(&scene.sandbox);
    let (head, metrics) = curl(&served, "/metrics", &[]);
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert_eq!(metrics, printed(&scene.sandbox, &["status", "--format", "prometheus"]));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in Debian's package `prometheus`");
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_is_not_answered_is_told_in_problem_details() {
    let mut sandbox = Sandbox::new();
    sandbox.project("web");
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    sandbox.config("http", json!({"hosts": ["ccl.example"]}));
    let served = Served::start(&sandbox);
    for (path, args, status) in [
        ("/nothing", &[][..], 404),
        ("/api/status/", &[], 404),
        ("/%2e", &[], 404),
        ("/", &["--request", "POST"], 405),
        ("/api/status", &["--request", "DELETE"], 405),
        ("/", &["--data", "x=1"], 413),
        ("/", &["--header", "Host: evil.example"], 421),
        ("/", &["--header", "Host:"], 400),
        ("/api/report?since=soon", &[], 400),
    ] {
        let (head, body) = curl(&served, path, args);
        assert_eq!(status_of(&head), status, "{path} {args:?}\n{body}");
        assert!(head.contains("Content-Type: application/problem+json"), "{head}");
        assert!(head.contains("Connection: close"), "{head}");
        let problem = json_of(&body);
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].is_string() && problem["title"].is_string(), "{problem}");
        assert_eq!(head.contains("Allow: GET, HEAD"), status == 405, "{head}");
    }
    let long = format!("/{}", "x".repeat(9000));
    assert_eq!(get(&served, &long).0, 414);
    let wide = format!("X: {}", "x".repeat(9000));
    let (head, _) = curl(&served, "/", &["--header", &wide]);
    assert_eq!(status_of(&head), 431);
    let named = ["--header", "Host: CCL.example:80"];
    let (head, _) = curl(&served, "/metrics", &named);
    assert_eq!(status_of(&head), 200);
    // A refusal is no failure.
    assert!(served.exits().iter().all(|exit| *exit == Some(0)));
}

#[test]
fn head_is_answered_without_a_body() {
    let mut sandbox = Sandbox::new();
    sandbox.project("web");
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    let served = Served::start(&sandbox);
    let (whole, body) = curl(&served, "/metrics", &[]);
    for (path, host) in
        [("/metrics", "localhost"), ("/nothing", "localhost"), ("/", "evil.example")]
    {
        let mut client = served.connect();
        write!(client, "HEAD {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{path}\n{head}");
        assert!(head.contains("Content-Length: "), "{head}");
    }
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(whole.contains(&length), "{whole}");
}

/// A sandbox without tmux's server whose last scan is so long ago.
fn rested(minutes: u64) -> (Sandbox, TmuxServer) {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux_with(|builder| builder.not_running());
    sandbox.project("web");
    sandbox.ccl(["scan"]).assert().success();
    let passed = fs::File::options().write(true).open(sandbox.state_dir().join("passed")).unwrap();
    passed.set_modified(SystemTime::now() - Duration::from_secs(60 * minutes)).unwrap();
    (sandbox, tmux)
}

#[test]
fn health_says_why_tasks_are_not_handed_out() {
    let (sandbox, _tmux) = rested(4);
    let served = Served::start(&sandbox);
    assert_eq!(get(&served, "/healthz"), (200, "ok\n".to_owned()));

    // What could not be handed out now waits for no server.
    let web = sandbox.projects_dir().join("web/.agent-queue/inbox");
    let paused = web.with_file_name("paused");
    for text in
        ["---\nnot_before: 2099-01-01\n---\nDo it.\n", "---\ndepends_on: [b.md]\n---\nDo it.\n"]
    {
        fs::write(web.join("a.md"), text).unwrap();
        assert_eq!(get(&served, "/healthz"), (200, "ok\n".to_owned()), "{text}");
    }
    fs::write(web.join("a.md"), "Do it.\n").unwrap();
    fs::write(&paused, "").unwrap();
    assert_eq!(get(&served, "/healthz"), (200, "ok\n".to_owned()), "it is paused");
    fs::remove_file(&paused).unwrap();
    let (status, why) = get(&served, "/healthz");
    assert_eq!((status, why.as_str()), (503, "tasks wait, and no tmux server is running\n"));
    fs::remove_file(web.join("a.md")).unwrap();

    fs::rename(&web, web.with_extension("away")).unwrap();
    symlink(&web, &web).unwrap();
    let (status, why) = get(&served, "/healthz");
    assert!(status == 503 && why.contains("/web/.agent-queue/inbox"), "{status} {why}");
    fs::remove_file(&web).unwrap();
    fs::rename(web.with_extension("away"), &web).unwrap();
    assert_eq!(get(&served, "/healthz").0, 200);

    let passed = fs::File::options().write(true).open(sandbox.state_dir().join("passed")).unwrap();
    passed.set_modified(SystemTime::now() - Duration::from_secs(360)).unwrap();
    let (status, why) = get(&served, "/healthz");
    assert!(status == 503 && why.starts_with("the last scan ended at "), "{status} {why}");
    // A scan heals it, whatever its exit status; a dry run is none.
    sandbox.ccl(["scan", "--dry-run"]).assert().success();
    assert_eq!(get(&served, "/healthz").0, 503);
    let mut other = sandbox;
    other.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    fs::write(web.join("a.md"), "Do it.\n").unwrap();
    assert!(!other.ccl(["scan"]).output().unwrap().status.success());
    let (status, why) = get(&served, "/healthz");
    assert_eq!((status, why.lines().count()), (503, 1), "{why}");
    assert!(why.contains("there is no program `/nonexistent/tmux`"), "{why}");
}

#[test]
fn where_no_scan_was_made_or_the_configuration_is_wrong_health_says_so() {
    let mut sandbox = Sandbox::new();
    let _tmux = sandbox.tmux();
    sandbox.project("web");
    let served = Served::start(&sandbox);
    assert_eq!(get(&served, "/healthz"), (503, "no scan has been made yet\n".to_owned()));
    sandbox.config_text("nonsense: 1\n");
    let (status, why) = get(&served, "/healthz");
    assert!(status == 503 && why.contains("config.yaml:1:1: unknown key `nonsense`"), "{why}");
    let (status, problem) = get(&served, "/api/status");
    assert!(status == 500 && problem.contains("unknown key"), "{problem}");
    assert_eq!(get(&served, "/nothing").0, 404);
    assert_eq!(served.exits(), [Some(0); 4]);
}

/// `ccl http` with pipes, as a person tries it.
pub(crate) fn piped(sandbox: &Sandbox, request: &[u8]) -> Output {
    let mut command = sandbox.std_ccl();
    command.arg("--config").arg(sandbox.config_file()).arg("http");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have heard enough before the end.
    let _ = child.stdin.take().unwrap().write_all(request);
    child.wait_with_output().unwrap()
}

#[test]
fn a_pipe_is_answered_too_and_what_follows_the_request_is_not_looked_at() {
    let mut sandbox = Sandbox::new();
    sandbox.project("web");
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    for (request, expected) in [
        ("GET /metrics HTTP/1.0\r\n\r\n", Some("HTTP/1.1 200 OK\r\n")),
        ("GET /x HTTP/1.0\n\nGET / HTTP/1.0\n\n", Some("HTTP/1.1 404 Not Found\r\n")),
        ("GET / HT", Some("HTTP/1.1 400 Bad Request\r\n")),
        ("hello\r\n\r\n", Some("HTTP/1.1 400 Bad Request\r\n")),
        ("", None),
    ] {
        let out = piped(&sandbox, request.as_bytes());
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!(out.status.code(), Some(0), "{request:?}");
        match expected {
            Some(line) => assert!(text.starts_with(line), "{request:?}\n{text}"),
            None => assert_eq!(text, ""),
        }
        assert_eq!(text.matches("HTTP/1.1 ").count(), usize::from(expected.is_some()), "{text}");
    }
    for request in ["GET /api/report?since=soon HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.0\r\n\r\n"] {
        let out = piped(&sandbox, request.as_bytes());
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(said, "", "what a client asks for wrongly does not come into the journal");
    }
}
