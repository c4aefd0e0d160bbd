//! 200 tasks submitted to a stand-in of Ray, and filed, beside a bare loop of the same requests and calls of git.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ccl::durable;
use ray_server::RayServer;
use serde_json::{Value, json};

use super::delegations::secutools_server;
use super::shortest;
use super::table::Row;

#[path = "../support/ray_server/mod.rs"]
mod ray_server;

const TASKS: usize = 200;
const TASK: &str = "---\nallow_delegation: true\npreferred_ai: remote\n---\nDo it.\n";

pub(super) fn rows() -> Vec<Row> {
    let times = shortest(1, [&passes, &bare_loop]);
    let probe = "requests, git, two synced writes";
    vec![Row::beside("200 tasks to Ray and back", probe, times, 1.5)]
}

/// A project with one commit, and an exchange.
struct Place {
    dir: tempfile::TempDir,
    ray: RayServer,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), ray: RayServer::start() };
        fs::create_dir_all(place.project().join(".agent-queue/inbox")).unwrap();
        place.git(["init", "-q"]);
        fs::write(place.project().join("README"), "one\n").unwrap();
        fs::write(place.project().join(".git/info/exclude"), "/.agent-queue/\n").unwrap();
        place.git(["add", "."]);
        place.git(["commit", "-qm", "first"]);
        place.git(["init", "-q", "--bare", place.exchange().to_str().unwrap()]);
        place
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("web")
    }

    fn exchange(&self) -> PathBuf {
        self.dir.path().join("exchange.git")
    }

    fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        git(&self.project(), args)
    }

    /// What a runner would have handed in for a key: one commit of work.
    fn hand_in(&self, key: &str, base: &str) -> String {
        let exchange = self.exchange();
        let tree = format!("{base}^{{tree}}");
        let claim = git(
            &exchange,
            ["commit-tree", &tree, "-p", base, "-m", r#"{"version":1,"claim":"x"}"#],
        );
        let work = git(&exchange, ["commit-tree", &tree, "-p", &format!("{base}^"), "-m", key]);
        let blob = git(&exchange, ["hash-object", "-w", "--stdin"]);
        let files = format!("100644 blob {blob}\terrors\n100644 blob {blob}\toutput\n");
        let mut mktree = Command::new("git");
        mktree.arg("mktree").current_dir(&exchange).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = mktree.spawn().unwrap();
        child.stdin.take().unwrap().write_all(files.as_bytes()).unwrap();
        let files = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let text = json!({"version": 1, "exit": 0, "host": "h", "work": work}).to_string();
        let parents = ["commit-tree", files.trim(), "-p", &claim, "-p", &work, "-m", &text];
        let result = git(&exchange, parents);
        git(&exchange, ["update-ref", &format!("refs/ccl/{key}/run"), &result]);
        result
    }
}

fn git<'a>(directory: &Path, args: impl IntoIterator<Item = &'a str>) -> String {
    let out = Command::new("git")
        .args(["-c", "user.name=ccl", "-c", "user.email=ccl@localhost"])
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

fn passes() -> Duration {
    let place = Place::new();
    let config = json!({
        "remote": {"kind": "ray", "url": place.ray.url(), "exchange": place.exchange()},
        "tmux": {"command": ["/no-tmux"]},
    });
    let path = place.dir.path().join("config.yaml");
    fs::write(&path, config.to_string()).unwrap();
    let inbox = place.project().join(".agent-queue/inbox");
    for number in 0..TASKS {
        fs::write(inbox.join(format!("T{number:03}.md")), TASK).unwrap();
    }
    let ccl = |verb: &str| {
        let status = Command::new(env!("CARGO_BIN_EXE_ccl"))
            .args([verb, "--quiet", "--config"])
            .arg(&path)
            .env("HOME", place.dir.path())
            .current_dir(place.project())
            .status();
        assert!(status.unwrap().success());
    };
    let start = Instant::now();
    while place.ray.jobs().len() < TASKS {
        ccl("scan");
    }
    let mut took = start.elapsed();
    for number in 0..TASKS {
        let marker = fs::read(inbox.join(format!("T{number:03}.md.delegated"))).unwrap();
        let marker: Value = serde_json::from_slice(&marker).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        place.hand_in(&text(&marker["key"]), &text(&marker["exchange"]["base"]));
    }
    for id in place.ray.jobs().keys() {
        place.ray.set(id, "SUCCEEDED", None);
    }
    let start = Instant::now();
    while fs::read_dir(&inbox).unwrap().count() > 0 {
        ccl("reap");
    }
    took += start.elapsed();
    took
}

fn bare_loop() -> Duration {
    let place = Place::new();
    let (project, exchange) = (place.project(), place.exchange().to_str().unwrap().to_owned());
    let url = place.ray.url();
    let (mut took, mut runs) = (Duration::ZERO, Vec::new());
    let marker = vec![b'x'; 8000];
    for number in 0..TASKS {
        let key = uuid::Uuid::new_v4().to_string();
        let start = Instant::now();
        let path = project.join(format!(".agent-queue/T{number}.delegated"));
        durable::create(&path, &marker, durable::SHARED).unwrap();
        let base = git(&project, ["commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "Do it."]);
        git(&project, ["push", "-q", &exchange, &format!("{base}:refs/ccl/{key}/base")]);
        let body = json!({"entrypoint": "x".repeat(6000), "submission_id": format!("ccl-{key}")});
        request(&url, "POST", "/api/jobs/", &body.to_string());
        durable::write(&path, &marker, durable::SHARED).unwrap();
        took += start.elapsed();
        runs.push((key, base));
    }
    let results: Vec<String> = runs.iter().map(|(key, base)| place.hand_in(key, base)).collect();
    let start = Instant::now();
    git(&project, ["ls-remote", "--refs", &exchange, "refs/ccl/*"]);
    for ((key, base), result) in runs.iter().zip(&results) {
        request(&url, "GET", &format!("/api/jobs/ccl-{key}"), "");
        let (run, base_ref) = (format!("refs/ccl/{key}/run"), format!("refs/ccl/{key}/base"));
        git(&project, ["fetch", "-q", "--no-tags", "--no-write-fetch-head", &exchange, &run]);
        for what in [result.clone(), format!("{result}^1")] {
            git(&project, ["cat-file", "commit", &what]);
        }
        for what in ["output", "errors"] {
            git(&project, ["cat-file", "blob", &format!("{result}:{what}")]);
        }
        git(&project, ["rev-parse", "--git-common-dir"]);
        git(&project, ["for-each-ref", "refs/heads/ccl"]);
        git(&project, ["rev-parse", "HEAD"]);
        git(&project, ["rev-parse", &format!("{base}^")]);
        let branch = format!("refs/heads/ccl/{key}");
        git(&project, ["update-ref", &branch, &format!("{result}^2")]);
        for _ in 0..2 {
            git(&project, ["rev-parse", &branch]);
        }
        git(&project, ["rev-list", "--count", &format!("HEAD..{branch}")]);
        git(&project, ["diff", "--numstat", &format!("HEAD...{branch}")]);
        durable::create(&project.join(format!("{key}.md")), TASK.as_bytes(), durable::SHARED)
            .unwrap();
        git(&project, ["push", "-q", &exchange, &format!(":{base_ref}")]);
        git(&project, ["push", "-q", &exchange, &format!(":{run}")]);
    }
    took + start.elapsed()
}

/// One request, and its answer to the end.
fn request(url: &str, method: &str, path: &str, body: &str) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}
