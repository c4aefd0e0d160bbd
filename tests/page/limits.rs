//! Slow clients, half requests, many at once, and a death at any moment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::Scene;
use crate::served::Served;
use crate::support::Sandbox;

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.project("web");
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    sandbox
}

fn answer(client: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // Whoever is turned away may be told so in the midst of it.
    let _ = client.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn who_sends_a_byte_now_and_then_has_five_seconds_in_all() {
    let sandbox = sandbox();
    let served = Served::start(&sandbox);
    let mut client = served.connect();
    let mut writer = client.try_clone().unwrap();
    let drip = thread::spawn(move || {
        // Until the other side has closed: nothing but its end ends this.
        while writer.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(300));
        }
    });
    let text = answer(&mut client);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    // The client is still there, and still sends.
    drip.join().unwrap();
    assert_eq!(served.exits(), [Some(0)]);
    drop(client);
}

#[test]
fn who_does_not_take_the_answer_or_leaves_is_no_failure() {
    let scene = Scene::new();
    let served = Served::start(&scene.sandbox);
    let ask = |head: &str| {
        let mut client = served.connect();
        client.write_all(head.as_bytes()).unwrap();
        client
    };
    let whole = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Never reads; says nothing at all; leaves at once; leaves in the middle; closes its half.
    let mute = ask(whole);
    let silent = served.connect();
    drop(ask(whole));
    drop(ask("GET / HT"));
    let mut half = ask("GET / HT");
    half.shutdown(Shutdown::Write).unwrap();
    assert!(answer(&mut half).starts_with("HTTP/1.1 400 "));
    assert_eq!(served.exits(), [Some(0); 5]);
    drop((mute, silent));
}

#[test]
fn a_refusal_arrives_although_the_client_still_sends() {
    let sandbox = sandbox();
    let served = Served::start(&sandbox);
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(300_000)), "414"),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n{}",
                "x".repeat(300_000)
            ),
            "413",
        ),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(50_000)), "431"),
    ] {
        let mut client = served.connect();
        client.write_all(request.as_bytes()).unwrap();
        let text = answer(&mut client);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {text}");
        assert!(text.ends_with("}\n"), "{text}");
    }
}

#[test]
fn two_hundred_at_once_are_all_answered_and_a_pass_goes_on_beside_them() {
    let sandbox = sandbox();
    sandbox.ccl(["scan"]).assert().success();
    let served = Served::start(&sandbox);
    let answers: Vec<String> = thread::scope(|scope| {
        let ask = |number: usize| {
            let served = &served;
            move || {
                let path = ["/", "/api/status", "/metrics", "/nothing"][number % 4];
                let mut client = served.connect();
                write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                answer(&mut client)
            }
        };
        let asking: Vec<_> = (0..200).map(|number| scope.spawn(ask(number))).collect();
        sandbox.ccl(["scan"]).assert().success();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (number, text) in answers.iter().enumerate() {
        let status = if number % 4 == 3 { "404" } else { "200" };
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{number}: {text}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{number}: {head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{number}: {head}");
    }
    assert_eq!(served.exits(), [Some(0); 200]);
}

#[test]
fn it_writes_nothing() {
    let scene = Scene::new();
    let listing = || {
        // The log of the stand-in for systemd lies in tmp.
        let mut find = Command::new("find");
        find.args([".", "-path", "./tmp", "-prune", "-o", "-printf", "%p %s %T@ %i\\n"]);
        let out = find.current_dir(scene.sandbox.path()).output().unwrap();
        assert!(out.status.success());
        let text = String::from_utf8(out.stdout).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = listing();
    let served = Served::start(&scene.sandbox);
    for path in ["/", "/api/status", "/api/report", "/healthz", "/metrics", "/watchdog/status"] {
        let mut client = served.connect();
        write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(answer(&mut client).starts_with("HTTP/1.1 200 "), "{path}");
    }
    assert_eq!(listing(), before);
}
