//! A task goes to Ray, and comes back as a branch.

use std::fs;

use serde_json::json;

use crate::support::git::git;
use crate::support::write_program;
use crate::world::{TASK, TOKEN, World, left_in};

#[test]
fn a_task_goes_there_and_comes_back_as_a_branch() {
    let mut world = World::new();
    let _tmux = world.sandbox.tmux();
    world.project.drop_task("fix login.md", TASK);
    let before = world.checkout();
    let said = world.pass(&["scan"]);
    assert!(said.contains("→ remote (ccl-"), "{said}");
    let (id, job) = world.ray.only_job();
    let key = id.strip_prefix("ccl-").unwrap().to_owned();
    assert_eq!(job.body["entrypoint_resources"], json!({"ccl": 1.0}));
    assert_eq!(
        job.body["metadata"],
        json!({"task": "fix login.md", "project": "web", "host": "test-host"})
    );
    assert!(!job.body.to_string().contains(TOKEN));
    assert_eq!(world.refs().keys().collect::<Vec<_>>(), [&format!("refs/ccl/{key}/base")]);
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["tasks"][0]["state"], "delegated_to_remote");
    assert_eq!(status["tasks"][0]["job_id"], id.as_str());
    assert_eq!(status["delegated"]["jobs"][0]["phase"], "submitted");

    let output = world.worker().command(&job.entrypoint()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    world.ray.set(&id, "SUCCEEDED", None);
    world.converge("fix login.md", "done/fix login.md");

    let ending = world.ending("done/fix login.md");
    let git_ending = &ending["git"];
    assert_eq!(ending["provider"], "remote");
    assert_eq!(ending["job_id"], id.as_str());
    assert_eq!(ending["run"], key.as_str());
    assert_eq!(git_ending["branch"], "ccl/fix-login");
    assert_eq!(git_ending["base_branch"], "main");
    assert_eq!(git_ending["commits"], 2);
    assert_eq!(git_ending["files"], 2);
    assert_eq!(git_ending["head"], world.project.git(["rev-parse", "ccl/fix-login"]));
    let text = world.project.read("done/fix login.md");
    assert!(text.contains("## Result\n\nAll is done.\n"), "{text}");
    let log = world.project.git(["log", "--format=%an: %s", "main..ccl/fix-login"]);
    let left = "ccl: ccl: what fix login.md left uncommitted";
    assert_eq!(log.lines().collect::<Vec<_>>(), [left, "Agent: by the agent"]);
    // What the agent got, and what was left of it.
    let prompt = fs::read_to_string(world.node().join("prompt")).unwrap();
    assert!(prompt.starts_with("[fix login.md] Do it: $HOME `x` 'ö'.\n\nIMPORTANT:"), "{prompt}");
    let args = fs::read_to_string(world.node().join("args")).unwrap();
    assert_eq!(args, "1\nit's an argument\n");
    let env = fs::read_to_string(world.node().join("env")).unwrap();
    assert!(
        !env.contains("RAY_AUTH_TOKEN")
            && !env.contains("GIT_TERMINAL")
            && !env.contains("GIT_AUTHOR"),
        "{env}"
    );
    assert_eq!(left_in(&world.node(), "ccl-"), [""; 0]);
    assert_eq!(world.checkout(), before);
    assert!(world.sandbox.ccl(["land", "fix login"]).output().unwrap().status.success());
    assert_eq!(fs::read_to_string(world.project.root().join("two")).unwrap(), "uncommitted\n");
}

#[test]
fn a_branch_of_that_name_is_never_moved_and_land_rebase_waits_for_a_person() {
    let mut world = World::new().runs();
    let _tmux = world.sandbox.tmux();
    world.project.git(["branch", "ccl/a"]);
    fs::write(world.project.root().join(".agent-queue/project.yaml"), "land: rebase\n").unwrap();
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    assert_eq!(world.project.git(["rev-parse", "ccl/a"]), world.project.git(["rev-parse", "main"]));
    let ending = world.ending("done/a.md");
    assert_eq!(ending["git"]["branch"], "ccl/a.2");
    assert_eq!(ending["git"]["landed"], false);
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["projects"][0]["to_land"][0]["branch"], "ccl/a.2");
}

#[test]
fn a_job_can_be_looked_at_by_hand() {
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();
    let get = world.sandbox.ccl_json(&["job", "get", &id]);
    assert_eq!((&get["job"]["id"], &get["job"]["status"]), (&json!(id), &json!("queued")));
    assert_eq!(world.run(&["job", "result", &id]).status.code(), Some(75));
    world.worker().command(&job.entrypoint()).output().unwrap();
    world.ray.set(&id, "SUCCEEDED", None);
    let result = world.run(&["job", "result", &id]);
    assert_eq!(String::from_utf8_lossy(&result.stdout), "All is done.\n");
    let submitted = world.run(&["job", "submit", "x.md", "--provider", "remote"]);
    assert_eq!(submitted.status.code(), Some(2), "{submitted:?}");
}

/// No hook runs on the way out and back, and no git gets secutools' key.
#[test]
fn no_hook_runs_and_no_git_has_a_key() {
    let mut world = World::new();
    let path = crate::support::git::instead_of_git(world.sandbox.path(), |git| {
        let log = world.sandbox.path().join("calls");
        format!(
            "#!/bin/sh\n{{ echo \"$@\"; env | grep -c s3cr3t; }} >>{}\nexec {git} \"$@\"\n",
            log.display()
        )
    });
    world.sandbox.env("PATH", path);
    world.sandbox.env("SECUTOOLS_API_KEY", "s3cr3t");
    for hook in ["pre-push", "reference-transaction", "post-checkout", "post-update", "update"] {
        for directory in [world.project.root().join(".git"), world.exchange()] {
            let trap = format!(
                "#!/bin/sh\necho {hook} >>{}\n",
                world.sandbox.path().join("hooks").display()
            );
            // The exchange's own are its owner's.
            if directory != world.exchange() {
                write_program(&directory.join("hooks").join(hook), &trap);
            }
        }
    }
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();
    world.worker().command(&job.entrypoint()).output().unwrap();
    world.ray.set(&id, "SUCCEEDED", None);
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
    assert!(!world.sandbox.path().join("hooks").exists());
    let calls = fs::read_to_string(world.sandbox.path().join("calls")).unwrap();
    assert!(calls.contains("push --quiet") && !calls.lines().any(|line| line == "1"), "{calls}");
    git(world.sandbox.path(), ["--version"]);
}
