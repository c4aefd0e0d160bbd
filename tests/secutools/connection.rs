//! Connections, proxies, redirects, and the API key.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use ccl::config::ServerUrl;
use ccl::remote::secutools::Client;
use ccl::remote::{Certainty, ErrorKind, JobStatus, ServerState};
use uuid::Uuid;

use crate::secutools_server::{Answer, SecutoolsServer, Step};
use crate::{KEY, body, client, client_for, client_with, id, impatient, limits, meaning};

/// A port on which nothing listens, and which no other test can be given.
const DEAD_URL: &str = "http://127.0.0.1:1";

#[test]
fn a_connection_dropped_before_the_request_was_read_is_ambiguous() {
    // From here it looks the same as one dropped behind it.
    let server = SecutoolsServer::start();
    server.otherwise(Step::DropUnread);
    let error = client(&server).submit(&body(), Uuid::new_v4()).unwrap_err();
    assert_eq!(meaning(&error), (Certainty::Ambiguous, ServerState::Answering));
    assert_eq!(server.connections(), 3);
}

#[test]
fn a_server_that_is_not_there_was_never_reached() {
    // The second is no host: a label cannot be as long, so no name server is asked.
    for url in [DEAD_URL.to_owned(), format!("https://{}.invalid", "x".repeat(70))] {
        let error = client_for(&url).submit(&body(), Uuid::new_v4()).unwrap_err();
        assert_eq!(meaning(&error), (Certainty::NeverReached, ServerState::Silent), "{error:?}");
        assert!(error.error.text.contains("could not be reached"), "{error:?}");
        let error = client_for(&url).get(&id("job-1")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Silent, "{error:?}");
        assert_eq!(error.kind.server_state(), ServerState::Silent);
    }
}

#[test]
fn a_tls_handshake_that_fails_means_that_nothing_was_sent() {
    let plain = SecutoolsServer::start();
    let client = client_for(&plain.url().replace("http:", "https:"));
    let error = client.submit(&body(), Uuid::new_v4()).unwrap_err();
    assert_eq!(meaning(&error), (Certainty::NeverReached, ServerState::Silent), "{error:?}");
    assert!(error.error.text.contains("could not be reached"), "{error:?}");
    assert!(client.get(&id("job-1")).is_err());
    assert_eq!(plain.requests().len(), 0);
}

#[test]
fn a_tls_handshake_that_hangs_was_never_reached() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let start = Instant::now();
    let error = client_with(&url, impatient()).submit(&body(), Uuid::new_v4()).unwrap_err();
    assert_eq!(meaning(&error), (Certainty::NeverReached, ServerState::Silent), "{error:?}");
    assert!(error.error.text.contains("no connection within 300ms"), "{error:?}");
    // The system itself would wait for minutes.
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_refused_key_is_reported_and_hidden() {
    for status in [401, 403] {
        let server = SecutoolsServer::start();
        server.otherwise(Step::Echo(status));
        let client = client_for(&server.url());
        let error = client.submit(&body(), Uuid::new_v4()).unwrap_err();
        assert_eq!(meaning(&error), (Certainty::Refused, ServerState::Unauthorized));
        assert_eq!(error.error.kind, ErrorKind::Unauthorized);
        assert!(error.error.text.contains(&format!("answered {status}")), "{error}");
        assert!(error.error.text.contains("Bearer [API key]"), "{error}");
        let get = client.get(&id("job-1")).unwrap_err();
        assert_eq!(get.kind, ErrorKind::Unauthorized, "{get:?}");
        assert_eq!(get.kind.server_state(), ServerState::Unauthorized);
        for text in [format!("{error:?} {error}"), format!("{get:?} {get}"), format!("{client:?}")]
        {
            assert!(!text.contains(KEY), "{text}");
        }
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn the_key_goes_into_the_authorization_header_and_nowhere_else() {
    let server = SecutoolsServer::start();
    server.script([Step::status(503)]);
    let client = client(&server);
    client.submit(&body(), Uuid::new_v4()).unwrap();
    client.get(&id("job-1")).unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        let places: Vec<&str> = request
            .headers
            .iter()
            .filter(|(_, value)| value.contains(KEY))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(places, ["authorization"]);
        assert!(!request.path.contains(KEY));
        assert!(!String::from_utf8(request.body).unwrap().contains(KEY));
    }
}

#[test]
fn redirects_are_not_followed() {
    let other = SecutoolsServer::start();
    for status in [301, 302, 303, 307, 308] {
        let server = SecutoolsServer::start();
        let target = format!("{}/v1/jobs", other.url());
        server.otherwise(Step::Say(Answer::new(status, "go").header("Location", &target)));
        let error = client(&server).submit(&body(), Uuid::new_v4()).unwrap_err();
        assert_eq!((error.certainty, error.error.kind), (Certainty::Refused, ErrorKind::Refused));
        assert!(error.error.text.contains(&format!("answered {status}")), "{error}");
        let error = client(&server).get(&id("job-1")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{error:?}");
        assert_eq!(server.requests().len(), 2);
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_hundred_questions_take_one_connection() {
    let server = SecutoolsServer::start();
    let client = client(&server);
    client.submit(&body(), Uuid::new_v4()).unwrap();
    for _ in 0..100 {
        assert_eq!(client.get(&id("job-1")).unwrap().status, JobStatus::Queued);
    }
    assert_eq!((server.requests().len(), server.connections()), (101, 1));
}

#[test]
fn threads_share_the_connections() {
    let server = SecutoolsServer::start();
    let client = client(&server);
    client.submit(&body(), Uuid::new_v4()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    client.get(&id("job-1")).unwrap();
                }
            });
        }
    });
    assert_eq!(server.requests().len(), 201);
    assert!(server.connections() <= 8, "{} connections", server.connections());
}

#[test]
fn a_connection_that_died_while_idle_costs_nothing() {
    for gone in [Step::BehaveAndClose, Step::BehaveAndVanish] {
        let server = SecutoolsServer::start();
        let client = client(&server);
        server.script([gone.clone(), gone.clone(), gone]);
        client.submit(&body(), Uuid::new_v4()).unwrap();
        assert!(client.submit(&body(), Uuid::new_v4()).is_ok());
        client.get(&id("job-1")).unwrap();
        client.get(&id("job-2")).unwrap();
        assert_eq!(server.jobs().len(), 2);
    }
}

#[test]
fn a_proxy_never_stands_before_this_machine() {
    let proxy = SecutoolsServer::start();
    let server = SecutoolsServer::start();
    server.expect_key(KEY);
    let url = ServerUrl::parse(&server.url()).unwrap();
    let client = Client::new(url, KEY, Some(&proxy.url()), limits()).unwrap();
    client.submit(&body(), Uuid::new_v4()).unwrap();
    assert_eq!((server.requests().len(), proxy.connections()), (1, 0));
}

#[test]
fn a_real_host_is_reached_through_the_proxy_only() {
    let proxy = SecutoolsServer::start();
    proxy.otherwise(Step::status(407));
    let url = ServerUrl::parse("https://secutools.invalid").unwrap();
    let client = Client::new(url, KEY, Some(&proxy.url()), limits()).unwrap();
    let error = client.submit(&body(), Uuid::new_v4()).unwrap_err();
    assert_eq!(error.certainty, Certainty::NeverReached, "{error:?}");
    let requests = proxy.requests();
    assert_eq!(requests[0].method, "CONNECT");
    assert_eq!(requests[0].path, "secutools.invalid:443");
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn what_cannot_work_is_refused_at_once_without_repeating_a_secret() {
    let url = || ServerUrl::parse("https://secutools.invalid").unwrap();
    for key in ["", "two words", "line\nbreak", "nön-ascii"] {
        let error = Client::new(url(), key, None, limits()).unwrap_err();
        assert!(key.is_empty() || !format!("{error:?}").contains(key), "{error:?}");
    }
    for proxy in ["socks5://me:hunter2@p:1", "ftp://me:hunter2@p", "http://me:hunter2@"] {
        let error = Client::new(url(), KEY, Some(proxy), limits()).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert!(error.to_string().contains("http://HOST:PORT"), "{error:?}");
    }
}
