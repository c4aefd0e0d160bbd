//! The HTTP client against a server that misbehaves in every way.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use ccl::config::ServerUrl;
use ccl::remote::secutools::{Client, request_body};
use ccl::remote::{Certainty, JobId, Limits, NotAccepted, ServerState};
use ccl::task::{self, Provider};

mod connection;
mod get;
mod submit;

#[path = "../support/secutools_server/mod.rs"]
mod secutools_server;

use secutools_server::SecutoolsServer;

const KEY: &str = "sk-test-0123456789";

/// As in production, but without long pauses.
fn limits() -> Limits {
    Limits { backoff: Duration::from_millis(20), ..Limits::default() }
}

/// For servers that say nothing.
fn impatient() -> Limits {
    let moment = Duration::from_millis(300);
    Limits { connect: moment, answer: moment, retrying: moment, ..limits() }
}

fn client_with(url: &str, limits: Limits) -> Client {
    Client::new(ServerUrl::parse(url).unwrap(), KEY, None, limits).unwrap()
}

fn client_for(url: &str) -> Client {
    client_with(url, limits())
}

fn client(server: &SecutoolsServer) -> Client {
    client_for(&server.url())
}

fn body() -> Vec<u8> {
    let task = task::parse("---\ntitle: It\n---\nDo it.\n");
    request_body(&task, "T.md", Path::new("/srv/app"), Provider::Gpu, "box").into_bytes()
}

/// What it means for the task, and for the rest of the pass.
fn meaning(failed: &NotAccepted) -> (Certainty, ServerState) {
    (failed.certainty, failed.error.kind.server_state())
}

fn id(text: &str) -> JobId {
    JobId::try_from(text.to_owned()).unwrap()
}
