//! `ccl job`: the job API by hand.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::pool::Binary;
use crate::secutools_server::{Answer, Step};
use crate::support::{PATIENCE, wait_until};
use crate::world::TASK;

/// A task that lies in no inbox, as `T.md`.
fn world() -> Binary {
    let world = Binary::new();
    fs::write(world.sandbox.path().join("T.md"), TASK).unwrap();
    world
}

/// Exit status, standard output and standard error.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

fn job(world: &Binary, args: &[&str]) -> (i32, String, String) {
    told(&world.run(&[&["job"], args].concat()))
}

#[test]
fn submit_prints_the_job() {
    let world = world();
    let (code, stdout, stderr) = job(&world, &["submit", "T.md"]);
    assert_eq!((code, stdout.as_str()), (0, "job-1  queued  gpu\n"), "{stderr}");
    let (_, stdout, _) = job(&world, &["submit", "T.md", "--provider", "gemini", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&stdout).unwrap(),
        json!({"version": 1, "job": {
            "id": "job-2", "status": "queued", "provider": "gemini",
            "output": null, "cost": null, "error": null,
        }})
    );
    let jobs = world.server.jobs();
    let asked: Value = serde_json::from_slice(&jobs[1].body).unwrap();
    assert_eq!(asked["provider"], "gemini");
    assert_eq!(asked["input"], json!({"prompt": "Do it.", "title": "It"}));
    assert_eq!(asked["metadata"]["task"], "T.md");
    assert_ne!(jobs[0].key, jobs[1].key);
}

#[test]
fn a_result_that_is_too_long_for_a_pass_is_printed_to_a_person() {
    let world = world();
    job(&world, &["submit", "T.md"]);
    let output = "x".repeat(9 << 20);
    world.server.finish("job-1", &output, &Value::Null);
    let (code, stdout, stderr) = job(&world, &["result", "job-1"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.trim_end() == output, "{} bytes", stdout.len());
}

#[test]
fn submit_takes_a_pipe() {
    let world = world();
    let mut ccl = world.sandbox.ccl(["job", "submit", "/dev/stdin", "--provider", "gpu"]);
    ccl.write_stdin("Just do it.").assert().success();
    let asked: Value = serde_json::from_slice(&world.server.jobs()[0].body).unwrap();
    assert_eq!(asked["input"]["prompt"], "Just do it.");
}

#[test]
fn submit_refuses_what_scan_would_take_too() {
    let world = world();
    let task = world.project.drop_task("T.md", TASK);
    let link = world.sandbox.path().join("link.md");
    std::os::unix::fs::symlink(&task, &link).unwrap();
    for path in [&task, &link] {
        let (code, stdout, stderr) = job(&world, &["submit", path.to_str().unwrap()]);
        assert_eq!((code, stdout.as_str()), (1, ""));
        assert!(stderr.contains("lies in an inbox"), "{stderr}");
    }
    assert!(world.server.requests().is_empty());
}

#[test]
fn submit_refuses_a_file_that_names_no_provider() {
    let world = world();
    for (text, reason) in [
        ("Do it.", "names no provider"),
        ("---\npreferred_ai: auto\ncomplexity_hint: low\n---\nx", "names no provider"),
        ("---\npreferred_ai: claude-code\n---\nx", "names no provider"),
        ("---\npreferred_ai: gpu\npreferred_ai: gemini\n---\nx", "names no provider"),
        ("---\npreferred_ai: gpu\n  : [\n---\nx", "names no provider"),
        (" \n", "the file is empty"),
        ("a\0b", "the file is not text"),
    ] {
        let path = world.sandbox.path().join("odd.md");
        fs::write(&path, text).unwrap();
        let (code, _, stderr) = job(&world, &["submit", "odd.md"]);
        assert_eq!(code, 1, "{text:?}");
        assert!(stderr.contains(reason), "{text:?}: {stderr}");
    }
    let (code, _, stderr) = job(&world, &["submit", "none.md"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("none.md"), "{stderr}");
    assert!(world.server.requests().is_empty());
}

/// A script may try again after 75, so that is said only where there is no job for certain.
#[test]
fn submit_ends_with_75_only_where_trying_again_is_safe() {
    for (fault, code, word) in [
        (Step::later(503, "99"), 75, "503"),
        (Step::later(429, "99"), 75, "429"),
        (Step::status(422), 1, "422"),
        (Step::status(401), 1, "401"),
        (Step::DropRead { create: true }, 1, "look at secutools before"),
        (Step::CreateAndSay(Answer::new(500, "")), 1, "look at secutools before"),
        (Step::status(409), 1, "look at secutools before"),
    ] {
        let world = world();
        world.server.otherwise(fault.clone());
        let (got, stdout, stderr) = job(&world, &["submit", "T.md"]);
        assert_eq!((got, stdout.as_str()), (code, ""), "{fault:?}: {stderr}");
        assert!(stderr.contains(word), "{fault:?}: {stderr}");
    }
    let world = world();
    let mut ccl = world.sandbox.ccl(["job", "submit", "T.md"]);
    let output = ccl.env("SECUTOOLS_URL", "http://127.0.0.1:1").output().unwrap();
    let (code, _, stderr) = told(&output);
    assert_eq!(code, 75);
    assert!(stderr.contains("could not be reached"), "{stderr}");
}

#[test]
fn get_prints_what_the_server_says_harmlessly() {
    let world = world();
    job(&world, &["submit", "T.md"]);
    world.server.merge(
        "job-1",
        &json!({"status": "odd\u{1b}[2J", "provider": "gpu\n7", "error": {"title": "\u{7}"}}),
    );
    let (code, stdout, _) = job(&world, &["get", "job-1"]);
    assert_eq!(code, 0);
    assert_eq!(stdout, "job-1  odd\\u{1b}[2J  gpu\\n7\nerror: \\u{7}\n");
    let cost = json!({"amount": 0.10, "currency": "usd"});
    world.server.finish("job-1", "out\u{1b}[2J", &cost);
    let (_, stdout, _) = job(&world, &["get", "job-1", "--json"]);
    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(told["job"]["output"], "out\u{1b}[2J");
    assert_eq!(told["job"]["cost"], json!({"amount": "0.1", "currency": "USD"}));
}

#[test]
fn get_has_an_exit_status_for_every_failure() {
    let world = world();
    let (code, _, stderr) = job(&world, &["get", "job-9"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("404"), "{stderr}");
    assert_eq!(job(&world, &["get", "../secret"]).0, 2);
    for (status, expected) in [(401, 1), (503, 75), (500, 75), (429, 75)] {
        world.server.otherwise(Step::status(status));
        let (code, stdout, _) = job(&world, &["get", "job-1"]);
        assert_eq!((code, stdout.as_str()), (expected, ""), "{status}");
    }
}

#[test]
fn result_prints_the_output_as_it_is_and_tells_how_the_job_ended() {
    let world = world();
    job(&world, &["submit", "T.md"]);
    let (code, stdout, stderr) = job(&world, &["result", "job-1"]);
    assert_eq!((code, stdout.as_str()), (75, ""));
    assert!(stderr.contains("job-1 has not ended, it is queued"), "{stderr}");
    world.server.finish("job-1", "\u{1b}[1mgood\u{1b}[0m", &Value::Null);
    let (code, stdout, stderr) = job(&world, &["result", "job-1"]);
    assert_eq!((code, stdout.as_str()), (0, "\u{1b}[1mgood\u{1b}[0m\n"), "{stderr}");
    world.server.fail("job-1", "No", "memory\u{1b}[2J");
    let (code, stdout, stderr) = job(&world, &["result", "job-1", "--json"]);
    assert_eq!(code, 1);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["job"]["status"], "failed");
    assert!(stderr.contains("has ended as failed: No: memory\\u{1b}[2J"), "{stderr}");
}

#[test]
fn result_waits_through_whatever_passes() {
    let world = world();
    job(&world, &["submit", "T.md"]);
    world.server.auto_finish(3, "good", Value::Null);
    world.server.script([
        Step::Behave,
        Step::later(503, "1"),
        Step::DropRead { create: false },
        Step::DropRead { create: false },
        Step::status(500),
    ]);
    let (code, stdout, stderr) = job(&world, &["result", "job-1", "--wait"]);
    assert_eq!((code, stdout.as_str()), (0, "good\n"), "{stderr}");
    assert!(!stderr.contains('\r'), "progress is for terminals: {stderr:?}");
    let (code, _, stderr) = job(&world, &["result", "job-9", "--wait"]);
    assert_eq!(code, 1, "{stderr}");
}

#[test]
fn a_waiting_result_can_be_interrupted() {
    let mut world = world();
    job(&world, &["submit", "T.md"]);
    // A shell's script starts the tests with SIGINT ignored, where it does so in the background.
    world.sandbox.wrap(["env", "--default-signal=INT"]);
    let mut ccl = world.sandbox.std_ccl();
    let mut ccl = ccl.args(["job", "result", "job-1", "--wait"]).spawn().unwrap();
    wait_until("it has asked", PATIENCE, || world.server.requests().len() > 1);
    let pid = Pid::from_raw(ccl.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(ccl.wait().unwrap().signal(), Some(2));
}

#[test]
fn without_a_key_or_an_address_every_call_says_so() {
    let world = world();
    for (name, word) in
        [("SECUTOOLS_API_KEY", "there is no API key"), ("SECUTOOLS_URL", "no address")]
    {
        for args in [["submit", "T.md"], ["get", "job-1"], ["result", "job-1"]] {
            let mut ccl = world.sandbox.ccl([&["job"], &args[..]].concat());
            let (code, _, stderr) = told(&ccl.env_remove(name).output().unwrap());
            assert_eq!(code, 78, "{stderr}");
            assert!(stderr.contains(word), "{stderr}");
        }
    }
}

#[test]
fn a_scan_without_the_key_says_that_results_are_not_fetched() {
    let world = Binary::new();
    world.project.drop_task("T.md", TASK);
    world.pass(&["scan"]);
    let mut scan = world.sandbox.ccl(["scan"]);
    let output = scan.env_remove("SECUTOOLS_API_KEY").output().unwrap();
    let (code, _, stderr) = told(&output);
    assert_eq!(code, 0, "{stderr}");
    let expected = "the results of 1 task(s) at secutools, such as T.md of ";
    assert!(stderr.contains(expected), "{stderr}");
    assert!(stderr.contains("there is no API key"), "{stderr}");
    assert_eq!(world.project.inbox(), ["T.md", "T.md.delegated"]);
}

#[test]
fn a_proxy_of_the_wrong_kind_is_a_clear_error_and_stops_no_session() {
    let mut world = Binary::new();
    world.sandbox.env("SECUTOOLS_URL", "https://secutools.invalid");
    world.sandbox.env("ALL_PROXY", "socks5://me:s3cr3t@127.0.0.1:1");
    world.project.drop_task("T.md", TASK);
    for args in [&["scan"][..], &["reap"], &["job", "get", "job-1"]] {
        let (code, _, stderr) = told(&world.run(args));
        assert_eq!(code, 78, "{args:?}: {stderr}");
        assert!(stderr.contains("the proxy in https_proxy or all_proxy"), "{stderr}");
        assert!(!stderr.contains("s3cr3t"), "{stderr}");
        // No tmux server is there; that it was looked for is what counts.
        assert_eq!(stderr.contains("tmux"), args == ["scan"], "{args:?}: {stderr}");
    }
    assert_eq!(world.project.inbox(), ["T.md"]);
}
