//! The real Ray: submit, run, result, cancel; twenty runners with one key; a head that is killed and forgets.

use std::fs;

use serde_json::{Value, json};

use crate::support::real_ray::{RealRay, URL};
use crate::support::wait::poll;
use crate::support::wait_until;
use crate::world::{AGENT, LONG, TASK, TOKEN, World};

const RESOURCES: &str = r#"{"ccl": 30}"#;
const LATER: &str = r#"{"ccl": 30, "late": 30}"#;

/// The agent of the tests; where the task says so, it waits for a word before it goes on.
fn patient() -> String {
    format!(
        "{AGENT}grep -q 'wait for it' \"$HOME/prompt\" || exit 0\nuntil [ -e \"$HOME/go\" ]; do sleep 0.05; done\n"
    )
}

fn waiting_task() -> String {
    TASK.replace("Do it", "Do it, and wait for it")
}

/// A world whose Ray is a real one; its token is as long as Ray wants it.
fn real() -> (World, RealRay) {
    let mut world = World::with_agent(&patient());
    let token = TOKEN.repeat(3);
    fs::write(world.sandbox.path().join("token"), &token).unwrap();
    let ray = RealRay::new(&world.node(), &token);
    ray.take_in(&mut world.sandbox);
    world.sandbox.config("remote", json!({"url": URL}));
    (world, ray)
}

/// A field of what `ccl` says of a job; empty where there is none.
fn field_of(world: &World, id: &str, name: &str) -> String {
    let output = world.sandbox.ccl(["job", "get", id, "--json"]).output().unwrap();
    let job: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    job["job"][name].as_str().unwrap_or_default().to_owned()
}

fn status_of(world: &World, id: &str) -> String {
    field_of(world, id, "status")
}

/// The id of the task's job, which has to be submitted: a head that was just started may still say no.
fn submitted(world: &World, task: &str) -> String {
    let is_there = || {
        let marker = world.project.queue("inbox").join(format!("{task}.delegated"));
        let marker: Value = serde_json::from_slice(&fs::read(marker).ok()?).ok()?;
        marker["job_id"].as_str().map(str::to_owned)
    };
    wait_until(&format!("the job of {task}"), LONG, || {
        world.run(&["scan"]);
        // The pause before the next try is not what this is about.
        let path = world.project.queue("inbox").join(format!("{task}.delegated"));
        if let (None, Ok(text)) = (is_there(), fs::read_to_string(&path)) {
            let mut marker: Value = serde_json::from_str(&text).unwrap();
            marker["not_before"] = Value::Null;
            fs::write(&path, marker.to_string()).unwrap();
        }
        is_there().is_some()
    });
    is_there().unwrap()
}

#[test]
fn submit_run_result_cancel_and_twenty_runners_with_one_key() {
    let (world, ray) = real();
    ray.start(RESOURCES);
    world.project.drop_task("a.md", TASK);
    let id = submitted(&world, "a.md");
    world.converge("a.md", "done/a.md");
    assert_eq!(world.agents(), 1);
    assert_eq!(world.ending("done/a.md")["job_id"], id.as_str());
    assert_eq!(world.project.git(["show", "ccl/a:two"]), "uncommitted");
    let prompt = fs::read_to_string(world.node().join("prompt")).unwrap();
    assert!(prompt.starts_with("[a.md] Do it: $HOME `x` 'ö'.\n"), "{prompt}");
    let env = fs::read_to_string(world.node().join("env")).unwrap();
    assert!(env.contains("RAY_ADDRESS=") && !env.contains(&TOKEN.repeat(3)), "{env}");
    let doctor = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("Ray 2."), "{doctor}");

    // Twenty more jobs under other ids, with the very same entrypoint.
    world.project.drop_task("b.md", waiting_task());
    let id = submitted(&world, "b.md");
    let request: Value = {
        let marker = world.marker("b.md");
        serde_json::from_str(marker["exchange"]["request"].as_str().unwrap()).unwrap()
    };
    let twins_of = (0..20).map(|number| {
        let mut body = request.clone();
        body["submission_id"] = json!(twin_id(number));
        body.to_string()
    });
    ray.post(&twins_of.collect::<Vec<_>>());
    // One of the twenty-one has the run, and has not ended. It may be a twin, though the task's own job came first. Ray
    // starts a Python for each of them, which takes minutes where dozens of other processes want the same cores.
    let mut statuses = Vec::new();
    let has_ended = poll(LONG * 3, || {
        statuses = twins(&ray);
        let at_work = statuses.iter().filter(|status| *status == "RUNNING").count();
        let are_there = statuses.len() == 20 && !statuses.iter().any(|status| status == "PENDING");
        (are_there && at_work <= 1).then_some(())
    });
    assert!(has_ended.is_some(), "more than one is at work: {statuses:?}");
    fs::write(world.node().join("go"), "").unwrap();
    // No pass looks before all have ended: a claim whose job has ended is given up, and that job may be one of the losers.
    wait_until("the end of the last one", LONG, || {
        statuses = twins(&ray);
        statuses.push(status_of(&world, &id).to_uppercase());
        let is_over = |status: &String| ["SUCCEEDED", "FAILED"].contains(&status.as_str());
        statuses.len() == 21 && statuses.iter().all(is_over)
    });
    assert_eq!(statuses.iter().filter(|status| *status == "SUCCEEDED").count(), 1);
    world.converge("b.md", "done/b.md");
    assert_eq!(world.agents(), 2, "one for each task");
    // One that came too late says so, and does not hide it behind the end of its script.
    let mut whys = (0..20).map(|number| field_of(&world, &twin_id(number), "error"));
    let why = whys.find(|why| why.contains("exit code 75")).unwrap();
    assert!(why.contains("failed to push") && !why.contains("keep"), "{why}");

    // Cancelled while it runs.
    fs::remove_file(world.node().join("go")).unwrap();
    world.project.drop_task("c.md", waiting_task());
    let id = submitted(&world, "c.md");
    wait_until("the agent", LONG, || world.agents() == 3);
    world.pass(&["cancel", "c"]);
    assert_eq!(world.project.failed(), ["c.md"]);
    wait_until("the end of the job", LONG, || status_of(&world, &id) == "cancelled");
    assert!(world.refs().is_empty(), "{:?}", world.refs());
}

/// The start of the ids of jobs that run a task's entrypoint beside the task's own.
const TWIN: &str = "ccl-00000000";

/// An id such as `ccl` itself gives.
fn twin_id(number: u32) -> String {
    format!("{TWIN}-0000-4000-8000-{number:012}")
}

/// What Ray says of the twins.
fn twins(ray: &RealRay) -> Vec<String> {
    let jobs: Value = serde_json::from_str(&ray.get("/api/jobs/")).unwrap_or_default();
    let jobs = jobs.as_array().into_iter().flatten();
    let is_twin =
        |job: &&Value| job["submission_id"].as_str().is_some_and(|id| id.starts_with(TWIN));
    jobs.filter(is_twin).map(|job| job["status"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_head_that_is_killed_in_each_phase_costs_no_second_agent_and_no_result() {
    let (mut world, ray) = real();
    // Nobody can begin: the node has no such resource.
    ray.start(RESOURCES);
    world.sandbox.config("remote", json!({"resources": {"late": 1}}));
    world.project.drop_task("a.md", TASK);
    let first = submitted(&world, "a.md");
    ray.kill_head();
    let output = world.run(&["reap"]);
    assert!(output.status.success(), "{output:?}");
    ray.start(LATER);
    world.converge("a.md", "done/a.md");
    assert_eq!(
        (world.agents(), world.ending("done/a.md")["job_id"].as_str()),
        (1, Some(first.as_str()))
    );

    // An agent is at work.
    world.project.drop_task("b.md", waiting_task());
    submitted(&world, "b.md");
    wait_until("the agent", LONG, || world.agents() == 2);
    ray.kill_head();
    ray.start(LATER);
    wait_until("the end of b.md", LONG, || {
        world.run(&["reap"]);
        world.project.failed() == ["b.md"]
    });
    // Its runner comes back late, if the kill has not taken it.
    fs::write(world.node().join("go"), "").unwrap();
    wait_until("the end of the runner", LONG, || {
        !String::from_utf8_lossy(&ray.run(["ps", "-ef"]).stdout).contains("refs/ccl/")
    });
    assert!(world.refs().is_empty(), "{:?}", world.refs());
    assert_eq!(world.agents(), 2);

    // The result is in, and nobody has filed it yet.
    world.project.drop_task("c.md", TASK);
    let id = submitted(&world, "c.md");
    wait_until("its result", LONG, || status_of(&world, &id) == "succeeded");
    ray.kill_head();
    world.run(&["reap"]);
    assert_eq!(world.project.done(), ["a.md", "c.md"]);
    assert_eq!(world.agents(), 3);
}
