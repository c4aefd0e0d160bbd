//! Whatever Ray says, forgets or does not say: the ref decides.

use std::fs;

use serde_json::json;

use crate::ray_server::{Answer, Step, kill_group};
use crate::support::faults::said;
use crate::support::git::git;
use crate::support::wait_until;
use crate::world::{AGENT, LONG, Runner, TASK, World, left_in};

const FULL: Option<&str> = Some("JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE");

/// The agent of the tests, which waits for a word before it goes on.
fn patient() -> String {
    format!("{AGENT}until [ -e \"$HOME/go\" ]; do sleep 0.02; done\n")
}

/// The job's runner, started as Ray would, once its agent is at work.
fn start(world: &World, entrypoint: &str) -> Runner {
    let runner = Runner::start(world, entrypoint);
    wait_until("the agent", LONG, || world.node().join("pwd").exists());
    runner
}

fn go(world: &World) {
    fs::write(world.node().join("go"), "").unwrap();
}

#[test]
fn a_result_is_filed_whatever_ray_says_and_also_when_it_says_nothing() {
    let silence = Step::Say(Answer::new(500, "Traceback"));
    let gone = Step::Say(Answer::new(404, "<h1>no Ray</h1>"));
    let refused = Step::Say(Answer::new(403, "Forbidden"));
    for (answer, exit) in
        [(silence, 0), (gone, 0), (refused, 1), (Step::DropRead { create: false }, 0)]
    {
        let world = World::new();
        world.project.drop_task("a.md", TASK);
        world.pass(&["scan"]);
        let (_, job) = world.ray.only_job();
        assert!(world.worker().command(&job.entrypoint()).output().unwrap().status.success());
        world.ray.otherwise(answer.clone());
        let output = world.run(&["reap"]);
        assert_eq!(output.status.code(), Some(exit), "{answer:?} {output:?}");
        assert_eq!(world.project.done(), ["a.md"], "{answer:?} {output:?}");
        assert!(world.is_clean(), "{answer:?}");
    }
    // Ray has lost everything.
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    world.worker().command(&world.ray.only_job().1.entrypoint()).output().unwrap();
    world.ray.forget_all();
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
}

#[test]
fn a_submission_without_an_answer_is_cleared_up_by_asking() {
    // The job was made, and nobody said so.
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.ray.script([Step::DropRead { create: true }]);
    let said = world.pass(&["scan"]);
    assert!(said.contains("delegated"), "{said}");
    assert_eq!(world.ray.taken().values().collect::<Vec<_>>(), [&1]);

    // It was not, and the same job is asked for again.
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.ray.script([Step::Say(Answer::new(500, "Traceback"))]);
    let said = world.pass(&["scan"]);
    assert!(said.contains("held") && said.contains("Traceback"), "{said}");
    let marker = world.marker("a.md");
    assert_eq!((&marker["phase"], &marker["ambiguous"]), (&json!("submitting"), &json!(false)));
    let mut due = marker.clone();
    due["not_before"] = json!("2020-01-01T00:00:00Z");
    let path = world.project.queue("inbox").join("a.md.delegated");
    fs::write(&path, due.to_string()).unwrap();
    world.pass(&["scan"]);
    let (id, _) = world.ray.only_job();
    assert_eq!(id, format!("ccl-{}", marker["key"].as_str().unwrap()));

    // Nobody knows, and it is asked for again without end; the key is never another one.
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.ray.otherwise(Step::DropRead { create: true });
    world.pass(&["scan"]);
    let marker = world.marker("a.md");
    assert_eq!(marker["ambiguous"], true);
    let mut old = marker.clone();
    old["not_before"] = json!("2020-01-01T00:00:00Z");
    old["started_at"] = json!("2020-01-01T00:00:00Z");
    old["tries"] = json!(99);
    let path = world.project.queue("inbox").join("a.md.delegated");
    fs::write(&path, old.to_string()).unwrap();
    world.pass(&["scan"]);
    assert_eq!(world.marker("a.md")["key"], marker["key"]);
    world.ray.otherwise(Step::Behave);
    fs::write(&path, old.to_string()).unwrap();
    world.pass(&["scan"]);
    assert_eq!(world.ray.taken().values().collect::<Vec<_>>(), [&1]);
    assert_eq!(world.marker("a.md")["phase"], "submitted");
}

/// A pass ended after it had filed the result and before it had put the marker away, and Ray's answer never came.
#[test]
fn what_is_done_is_done_also_where_its_submission_had_no_answer() {
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.ray.otherwise(Step::DropRead { create: true });
    world.pass(&["scan"]);
    world.worker().command(&world.ray.only_job().1.entrypoint()).output().unwrap();
    let mut due = world.marker("a.md");
    due["not_before"] = json!("2020-01-01T00:00:00Z");
    let inbox = world.project.queue("inbox");
    fs::write(inbox.join("a.md.delegated"), due.to_string()).unwrap();
    // The marker cannot get its new name.
    let leaving = inbox.join(format!(".{}.leaving", due["key"].as_str().unwrap()));
    fs::create_dir(&leaving).unwrap();
    let output = world.run(&["reap"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(world.project.done(), ["a.md"]);
    assert_eq!(world.marker("a.md")["phase"], "submitting");
    fs::remove_dir(&leaving).unwrap();
    world.ray.otherwise(Step::Behave);
    // The result is there: `scan` does not submit it again, and leaves it to `reap`.
    world.pass(&["scan"]);
    assert_eq!(world.marker("a.md")["phase"], "submitting");
    let told = world.pass(&["reap"]);
    assert!(told.contains("\ndone ") && told.contains("DONE task=a.md"), "{told}");
    assert!(!told.to_lowercase().contains("failed"), "{told}");
    let journal = world.journal();
    let of_run = journal.lines().filter(|line| line.contains(due["key"].as_str().unwrap()));
    assert_eq!(of_run.filter(|line| line.contains(r#""event":"done""#)).count(), 1, "{journal}");
    assert!(!journal.contains("failed"), "{journal}");
    world.converge("a.md", "done/a.md");
    assert_eq!((world.agents(), world.ray.taken().len()), (1, 1));
}

/// What nobody has begun when its run was taken back does not begin any more, and the task runs here.
#[test]
fn what_ray_does_not_take_for_an_hour_runs_here_and_nowhere_else() {
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.ray.otherwise(Step::DropRead { create: true });
    world.pass(&["scan"]);
    let (_, job) = world.ray.only_job();
    world.ray.forget_all();
    let mut old = world.marker("a.md");
    old["not_before"] = json!("2020-01-01T00:00:00Z");
    old["started_at"] = json!("2020-01-01T00:00:00Z");
    old["ambiguous"] = json!(false);
    let path = world.project.queue("inbox").join("a.md.delegated");
    fs::write(&path, old.to_string()).unwrap();
    world.ray.script([Step::Say(Answer::new(503, "busy"))]);
    world.ray.otherwise(Step::Behave);
    // It ends with 75: there is no tmux for the session that is to have it.
    let output = world.run(&["scan"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("runs in a session"), "{said}");
    assert_eq!(world.project.inbox(), ["a.md"]);
    assert!(world.refs().is_empty());
    let late = world.worker().command(&job.entrypoint()).output().unwrap();
    assert_eq!((late.status.code(), world.agents()), (Some(75), 0));
}

#[test]
fn a_job_that_ray_has_forgotten_before_anybody_began_is_asked_for_again() {
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, _) = world.ray.only_job();
    world.ray.forget_all();
    world.pass(&["reap"]);
    world.pass(&["scan"]);
    assert_eq!(world.ray.taken(), [(id.clone(), 2)].into());
    world.worker().command(&world.ray.only_job().1.entrypoint()).output().unwrap();
    world.ray.set(&id, "SUCCEEDED", None);
    world.converge("a.md", "done/a.md");
    assert_eq!(world.agents(), 1);
}

/// The head was started again without its memory, and the runner lives on: it is given up, and comes too late.
#[test]
fn a_claimed_run_that_ray_has_forgotten_or_ended_is_given_up_and_its_runner_is_refused() {
    for forgotten in [true, false] {
        let mut world = World::with_agent(&patient());
        let _tmux = world.sandbox.tmux();
        world.project.drop_task("a.md", TASK);
        world.pass(&["scan"]);
        let (id, job) = world.ray.only_job();
        let mut runner = start(&world, &job.entrypoint());
        world.ray.set(&id, "RUNNING", None);
        world.pass(&["reap"]);
        let status = world.sandbox.ccl_json(&["status"]);
        assert_eq!(status["delegated"]["jobs"][0]["phase"], "running");
        match forgotten {
            true => world.ray.forget_all(),
            false => world.ray.set(&id, "FAILED", None),
        }
        world.pass(&["reap"]);
        assert_eq!(world.project.failed(), ["a.md"]);
        let reason = world.ending("failed/a.md")["reason"].to_string();
        assert!(reason.contains("has handed nothing in"), "{reason}");
        let lies = left_in(&world.node(), "ccl-");
        let lies = format!("its work may lie in {} there", world.node().join(&lies[0]).display());
        assert!(reason.contains("a runner on ") && reason.contains(&lies), "{reason}");
        assert!(world.is_clean());
        go(&world);
        assert_eq!(runner.wait(), Some(76));
        // What the task's reason speaks of is still there.
        let lies = left_in(&world.node(), "ccl-");
        assert!(world.node().join(&lies[0]).join("tree/two").exists());
        assert!(world.refs().is_empty(), "{:?}", world.refs());
        assert_eq!(world.project.git(["branch", "--list", "ccl/*"]), "");
        // The same job again finds nothing to work on.
        let again = world.worker().command(&job.entrypoint()).output().unwrap();
        assert_eq!((again.status.code(), world.agents()), (Some(75), 1));
    }
}

#[test]
fn a_job_for_which_there_never_was_room_goes_again_under_new_keys_and_then_no_more() {
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    for round in 1..=4 {
        world.pass(&["scan"]);
        assert_eq!(world.ray.taken().len(), round);
        let jobs = world.ray.jobs();
        let waiting = jobs.iter().find(|(_, job)| job.status == "PENDING").unwrap().0;
        world.ray.set(waiting, "FAILED", FULL);
        world.pass(&["reap"]);
    }
    assert_eq!(world.project.failed(), ["a.md"]);
    let reason = world.ending("failed/a.md")["reason"].to_string();
    assert!(reason.contains("no runner had begun; so it was 4 times"), "{reason}");
    world.pass(&["reap"]);
    assert!(world.is_clean(), "{:?} {:?}", world.project.inbox(), world.refs());
    for job in world.ray.jobs().values() {
        let late = world.worker().command(&job.entrypoint()).output().unwrap();
        assert_eq!(late.status.code(), Some(75));
    }
    assert_eq!(world.agents(), 0);
}

#[test]
fn one_that_begins_under_its_second_key_is_done() {
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    world.ray.set(&world.ray.only_job().0, "FAILED", FULL);
    world.ray.run_jobs(world.worker());
    world.converge("a.md", "done/a.md");
    assert_eq!((world.agents(), world.ray.taken().len()), (1, 2));
}

#[test]
fn a_person_cancels_what_waits_runs_or_is_done() {
    // It waits.
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();
    world.pass(&["cancel", "a"]);
    assert_eq!(world.project.failed(), ["a.md"]);
    assert_eq!(world.ending("failed/a.md")["reason"], "cancelled");
    assert_eq!(world.ray.jobs()[&id].status, "STOPPED");
    assert!(world.is_clean());
    let late = world.worker().command(&job.entrypoint()).output().unwrap();
    assert_eq!((late.status.code(), world.agents()), (Some(75), 0));

    // It runs, and Ray does not answer: the ref is enough.
    let world = World::with_agent(&patient());
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let mut runner = start(&world, &world.ray.only_job().1.entrypoint());
    world.ray.otherwise(Step::DropRead { create: false });
    world.pass(&["cancel", "a"]);
    assert_eq!(world.project.failed(), ["a.md"]);
    go(&world);
    assert_eq!(runner.wait(), Some(76));
    assert!(world.is_clean());

    // Its result is there already.
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    world.worker().command(&world.ray.only_job().1.entrypoint()).output().unwrap();
    world.pass(&["cancel", "a"]);
    assert_eq!(world.project.done(), ["a.md"]);
}

/// Nothing says that a task is cancelled which is neither filed nor taken back in the exchange: the next scan submits it.
#[test]
fn what_is_open_for_writing_is_not_cancelled_before_it_was_taken_back() {
    let never_sent = {
        let mut world = World::new();
        world.sandbox.config("remote", json!({"url": "http://127.0.0.1:1"}));
        world.project.drop_task("a.md", TASK);
        world.pass(&["scan"]);
        assert_eq!(world.marker("a.md")["exchange"]["is_sent"], false);
        world
    };
    let to_run_here = {
        let (world, key, _) = World::submitted();
        let message = r#"{"version":1,"tombstone":"withdrawn","reason":"busy"}"#;
        let tombstone = world.commit_there(&format!("refs/ccl/{key}/base"), message);
        git(&world.exchange(), ["update-ref", &format!("refs/ccl/{key}/run"), &tombstone]);
        world
    };
    for world in [never_sent, to_run_here] {
        let path = world.project.queue("inbox").join("a.md");
        let open = fs::OpenOptions::new().append(true).open(path).unwrap();
        let output = world.run(&["cancel", "a"]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(output.stdout.is_empty(), "{said}");
        assert!(said.contains("close it, then cancel it again"), "{said}");
        assert_eq!(world.journal().matches("cancelled").count(), 0);
        drop(open);
        // A program that another test has just started may have it open for a moment.
        wait_until("it is closed", LONG, || world.run(&["cancel", "a"]).status.code() != Some(75));
        assert_eq!(world.ending("failed/a.md")["reason"], "cancelled");
        assert!(world.is_clean());
    }
}

/// Whoever removes a run from the exchange does not have it done twice.
#[test]
fn a_run_that_was_removed_is_given_up_and_not_begun_anew() {
    for was_seen in [true, false] {
        let world = World::with_agent(&patient());
        world.project.drop_task("a.md", TASK);
        world.pass(&["scan"]);
        let (id, job) = world.ray.only_job();
        let mut runner = start(&world, &job.entrypoint());
        if was_seen {
            world.pass(&["reap"]);
        } else {
            go(&world);
            assert_eq!(runner.wait(), Some(0));
        }
        let run = format!("refs/ccl/{}/run", id.strip_prefix("ccl-").unwrap());
        git(&world.exchange(), ["update-ref", "-d", &run]);
        world.ray.set(&id, if was_seen { "FAILED" } else { "SUCCEEDED" }, None);
        world.pass(&["reap"]);
        assert_eq!(world.project.failed(), ["a.md"], "{was_seen}");
        let reason = world.ending("failed/a.md")["reason"].to_string();
        assert!(reason.contains("has been removed"), "{reason}");
        assert_eq!((world.agents(), world.ray.taken().len()), (1, 1));
    }
}

#[test]
fn one_that_was_stopped_at_ray_is_cancelled() {
    let world = World::with_agent(&patient());
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();
    let mut runner = start(&world, &job.entrypoint());
    kill_group(runner.group());
    runner.wait();
    world.ray.set(&id, "STOPPED", None);
    world.pass(&["reap"]);
    let reason = world.ending("failed/a.md")["reason"].to_string();
    assert!(reason.contains("Ray: job cancelled"), "{reason}");
    assert!(world.is_clean());
}

#[test]
fn a_ray_that_cannot_be_reached_holds_its_tasks_and_says_so_once() {
    let mut world = World::new();
    world.sandbox.config("remote", json!({"url": "http://127.0.0.1:1"}));
    for name in ["a.md", "b.md", "c.md"] {
        world.project.drop_task(name, TASK);
    }
    let said = world.pass(&["scan"]);
    assert_eq!(said.matches("nothing more is asked of the server").count(), 1, "{said}");
    assert_eq!(said.matches("\nheld").count(), 3, "{said}");
    assert_eq!(world.project.task_places("b.md"), ["inbox/b.md"]);
    let doctor = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("check remote.url"), "{doctor}");
    // A wrong token is a fault of the pass.
    let mut world = World::new();
    world.ray.expect_token("another");
    world.project.drop_task("a.md", TASK);
    let output = world.run(&["scan"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("check the token in remote.token_file"), "{said}");
    let doctor = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("put the token of this Ray into remote.token_file"), "{doctor}");
    world.sandbox.config("remote", serde_json::Value::Null);
    let said = world.pass(&["reap"]);
    assert_eq!(said.matches("remote").count(), 0, "{said}");
}

/// A job that ran for long and was forgotten has as long as a new one to get there again: it does not come here at once.
#[test]
fn what_is_asked_for_again_has_its_hour_from_then_on() {
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let mut old = world.marker("a.md");
    old["started_at"] = json!("2020-01-01T00:00:00Z");
    let path = world.project.queue("inbox").join("a.md.delegated");
    fs::write(&path, old.to_string()).unwrap();
    world.ray.forget_all();
    world.pass(&["reap"]);
    assert_eq!(world.marker("a.md")["phase"], "submitting");
    world.ray.script([Step::Say(Answer::new(503, "busy"))]);
    let said = world.pass(&["scan"]);
    assert!(said.contains("it is submitted again in"), "{said}");
    assert_eq!(world.marker("a.md")["phase"], "submitting");
    assert_eq!(world.refs().len(), 1);
}

/// Jobs of both engines lie in one inbox; each pass talks with both.
#[test]
fn two_engines_at_once() {
    use crate::secutools_server::SecutoolsServer;
    let mut world = World::new().runs();
    let server = SecutoolsServer::start();
    server.auto_finish(1, "from there", serde_json::Value::Null);
    world.sandbox.env("SECUTOOLS_URL", server.url());
    world.sandbox.env("SECUTOOLS_API_KEY", "sk-1");
    world.project.drop_task("a.md", TASK);
    world.project.drop_task("b.md", TASK.replace("remote", "gpu"));
    world.pass(&["scan"]);
    assert_eq!((server.jobs().len(), world.ray.jobs().len()), (1, 1));
    world.wait_for_ray();
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md", "b.md"]);
    assert_eq!(world.ending("done/b.md")["provider"], "gpu");
    git(world.project.root(), ["rev-parse", "ccl/a"]);
}
