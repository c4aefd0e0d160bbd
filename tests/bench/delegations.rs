//! 1,000 delegations to a loopback server, beside a bare loop of the same requests with two synced
//! marker writes each.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ccl::config::ServerUrl;
use ccl::durable;
use ccl::remote::Limits;
use ccl::remote::secutools::{Client, request_body};
use ccl::task::{self, Provider};
use secutools_server::SecutoolsServer;

use super::shortest;
use super::table::Row;

#[path = "../support/secutools_server/mod.rs"]
pub(super) mod secutools_server;

const TASKS: usize = 1000;
const KEY: &str = "sk-bench";
const TASK: &str = "---\nallow_delegation: true\npreferred_ai: gpu\n---\nDo it.\n";

pub(super) fn rows() -> Vec<Row> {
    let times = shortest(7, [&scan, &bare_loop]);
    let probe = "requests, two synced writes";
    vec![Row::beside("1,000 delegations", probe, times, 1.5)]
}

fn bare_loop() -> Duration {
    let server = SecutoolsServer::start();
    let dir = tempfile::tempdir().unwrap();
    let url = ServerUrl::parse(&server.url()).unwrap();
    let client = Client::new(url, KEY, None, Limits::default()).unwrap();
    let body = request_body(&task::parse(TASK), "T.md", dir.path(), Provider::Gpu, "box");
    let marker = vec![b'x'; 600];
    let start = Instant::now();
    for number in 0..TASKS {
        let path = dir.path().join(format!("T{number:04}.md.delegated"));
        durable::create(&path, &marker, durable::SHARED).unwrap();
        client.submit(body.as_bytes(), uuid::Uuid::new_v4()).unwrap();
        durable::write(&path, &marker, durable::SHARED).unwrap();
    }
    let took = start.elapsed();
    assert_eq!(server.jobs().len(), TASKS);
    took
}

fn scan() -> Duration {
    let server = SecutoolsServer::start();
    let dir = tempfile::tempdir().unwrap();
    let inbox = dir.path().join("web/.agent-queue/inbox");
    fs::create_dir_all(&inbox).unwrap();
    for number in 0..TASKS {
        fs::write(inbox.join(format!("T{number:04}.md")), TASK).unwrap();
    }
    let start = Instant::now();
    // On a machine where it takes longer than a pass may talk, the rest waits for the next one.
    while server.jobs().len() < TASKS {
        let output = ccl(dir.path(), &server.url());
        assert!(output.status.success(), "{output:?}");
    }
    start.elapsed()
}

fn ccl(home: &Path, url: &str) -> std::process::Output {
    // Whatever goes wrong, no session is made on the machine's own tmux server.
    let config = home.join("config.yaml");
    fs::write(&config, "tmux: {command: [/no-tmux]}\n").unwrap();
    Command::new(env!("CARGO_BIN_EXE_ccl"))
        .args(["scan", "--quiet", "--project"])
        .arg(home.join("web"))
        .arg("--config")
        .arg(config)
        .env("HOME", home)
        .env("SECUTOOLS_URL", url)
        .env("SECUTOOLS_API_KEY", KEY)
        .output()
        .unwrap()
}
