//! A task goes to Ray, and comes back as a branch.

use std::fs;

use serde_json::{Value, json};

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
    let env = fs::read_to_string(world.node().join("env")).unwrap();
    assert!(!env.contains("RAY_AUTH_TOKEN") && !env.contains("GIT_TERMINAL"), "{env}");
    assert_eq!(left_in(&world.node(), "ccl-"), [""; 0]);
    assert_eq!(world.checkout(), before);
    assert!(world.sandbox.ccl(["land", "fix login"]).output().unwrap().status.success());
    assert_eq!(fs::read_to_string(world.project.root().join("two")).unwrap(), "uncommitted\n");
}

#[test]
fn without_the_section_and_with_needs_claude_code_it_stays_here() {
    let mut world = World::new();
    let decide = |world: &World| {
        let file = world.project.queue("inbox").join("a.md");
        world.sandbox.ccl_json(&["decide", file.to_str().unwrap()])["decisions"][0].clone()
    };
    world.project.drop_task("a.md", TASK.replace("remote\n", "remote\nneeds_claude_code: true\n"));
    assert_eq!(decide(&world)["provider"], "claude-code");
    world.project.drop_task("a.md", TASK);
    let decision = decide(&world);
    assert_eq!((&decision["provider"], &decision["delegated"]), (&json!("remote"), &json!(true)));
    let hint = "---\nallow_delegation: true\ncomplexity_hint: medium\n---\nDo it.\n";
    world.sandbox.config("routing", json!({"auto": {"medium": "remote"}}));
    world.project.drop_task("a.md", hint);
    let decision = decide(&world);
    assert_eq!((&decision["provider"], &decision["rule"]), (&json!("remote"), &json!("auto")));

    world.sandbox.config("remote", Value::Null);
    let decision = decide(&world);
    assert_eq!(decision["delegated"], json!(false));
    assert!(decision["warnings"].to_string().contains("there is no `remote:`"), "{decision}");
    // It waits for a session; there is no tmux here.
    world.run(&["scan"]);
    assert_eq!(world.project.inbox(), ["a.md"]);
    assert!(world.ray.requests().is_empty() && world.refs().is_empty());
}

/// Each is held with the sentence that mends it, which `decide` says beforehand.
#[test]
fn what_does_not_travel_holds_the_task() {
    type Spoil = fn(&World);
    let spoil: [(&str, Spoil); 5] = [
        ("not committed", |world| {
            fs::write(world.project.root().join("README"), "changed\n").unwrap();
        }),
        ("submodules: true", |world| {
            fs::write(world.project.root().join(".gitmodules"), "").unwrap();
            world.project.git(["add", "."]);
            world.project.git(["commit", "-qm", "modules"]);
        }),
        ("lfs: true", |world| {
            fs::write(world.project.root().join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
            world.project.git(["add", "."]);
            world.project.git(["commit", "-qm", "pointers"]);
        }),
        ("--unshallow", |world| {
            world.project.git(["commit", "-q", "--allow-empty", "-m", "second"]);
            let head = world.project.git(["rev-parse", "HEAD"]);
            fs::write(world.project.root().join(".git/shallow"), head + "\n").unwrap();
        }),
        ("git init", |world| fs::remove_dir_all(world.project.root().join(".git")).unwrap()),
    ];
    for (words, spoil) in spoil {
        let world = World::new();
        world.project.drop_task("a.md", TASK);
        spoil(&world);
        let file = world.project.queue("inbox").join("a.md");
        let decided = world.pass(&["decide", file.to_str().unwrap()]);
        assert!(decided.contains("would be held") && decided.contains(words), "{decided}");
        let said = world.pass(&["scan"]);
        assert!(said.contains("held") && said.contains(words), "{said}");
        assert_eq!(world.project.inbox(), ["a.md"], "{words}");
        assert!(world.ray.requests().is_empty() && world.refs().is_empty(), "{words}");
    }
}

#[test]
fn an_untracked_queue_is_not_dirt_and_dirt_may_be_left_behind() {
    let mut world = World::new().runs();
    fs::write(world.project.root().join(".git/info/exclude"), "").unwrap();
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    world.sandbox.config("remote", json!({"dirty": "ignore"}));
    fs::write(world.project.root().join("README"), "changed\n").unwrap();
    world.project.drop_task("b.md", TASK);
    world.converge("b.md", "done/b.md");
    assert_eq!(world.project.git(["show", "ccl/b:README"]), "one");
    assert_eq!(fs::read_to_string(world.project.root().join("README")).unwrap(), "changed\n");
}

#[test]
fn a_project_below_its_repositorys_top_is_worked_on_there_and_origin_may_be_the_exchange() {
    let mut world = World::new().runs();
    let sub = world.project.root().join("services/it's");
    let inner = crate::support::Project::make(&sub);
    fs::write(sub.join("file"), "x").unwrap();
    world.project.git(["add", "services"]);
    world.project.git(["commit", "-qm", "second"]);
    let exchange = world.exchange();
    world.project.git(["remote", "add", "origin", exchange.to_str().unwrap()]);
    world.sandbox.config("remote", json!({"exchange": "origin"}));
    let dedicated = json!([{"session": "main", "project": sub}]);
    world.sandbox.config("pool", json!({"dedicated": dedicated}));
    inner.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    world.wait_for_ray();
    world.pass(&["reap"]);
    assert_eq!(inner.done(), ["a.md"]);
    let pwd = fs::read_to_string(world.node().join("pwd")).unwrap();
    assert!(pwd.trim_end().ends_with("/tree/services/it's"), "{pwd}");
    assert_eq!(world.project.git(["show", "ccl/a:services/it's/one"]), "committed");
    assert!(world.refs().is_empty());
}

/// What failed is filed with its reason and its work.
#[test]
fn an_agent_that_fails_is_no_success() {
    for (agent, words, has_branch) in [
        ("#!/bin/sh\necho half >one\necho 'no memory' >&2\nexit 3\n", "exit code 3 on", true),
        ("#!/bin/sh\necho 'no memory' >&2\nexit 3\n", "no memory", false),
        (
            "#!/bin/sh\necho '{\"type\":\"result\",\"is_error\":true,\"result\":\"API Error: 500\",\"total_cost_usd\":0.5}'\n",
            "API Error: 500",
            false,
        ),
        ("#!/no/such/interpreter\n", "no such program", false),
    ] {
        let world = World::with_agent(agent).runs();
        world.project.drop_task("a.md", TASK);
        world.converge("a.md", "failed/a.md");
        let ending = world.ending("failed/a.md");
        let reason = ending["reason"].as_str().unwrap();
        assert!(reason.contains(words), "{reason}");
        assert_eq!(ending.contains_key("git"), has_branch, "{ending:?}");
        let branches = world.project.git(["branch", "--list", "ccl/*"]);
        assert_eq!(!branches.is_empty(), has_branch, "{branches}");
    }
}

#[test]
fn what_claude_code_says_of_its_work_is_read() {
    let agent = "#!/bin/sh\ncat >/dev/null\necho '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\
                 \"result\":\"Fixed it.\",\"session_id\":\"s-1\",\"total_cost_usd\":0.0120}'\n";
    let world = World::with_agent(agent).runs();
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    let ending = world.ending("done/a.md");
    assert_eq!(ending["cost"], json!({"amount": "0.012", "currency": "USD"}));
    assert_eq!(ending["agent_session"], "s-1");
    let text = world.project.read("done/a.md");
    assert!(text.contains("## Result\n\nFixed it.\n") && text.contains("0.012 USD"), "{text}");
}

#[test]
fn the_check_judges_the_commit_and_what_it_protects_is_as_it_was() {
    let agent = "#!/bin/sh\necho weak >tests/t\necho more >tests/new\necho done >one\n";
    for (check, is_done) in [
        (
            "grep -q strong tests/t && test ! -e tests/new && test -e one && test \"$CCL_TASK\" = a.md",
            true,
        ),
        ("echo 'the ``` fence' && grep weak tests/t", false),
        ("sleep 60", false),
    ] {
        let world = World::with_agent(agent).runs();
        fs::create_dir(world.project.root().join("tests")).unwrap();
        fs::write(world.project.root().join("tests/t"), "strong\n").unwrap();
        world.project.git(["add", "."]);
        world.project.git(["commit", "-qm", "tests"]);
        let rules = json!({"check": check, "check_timeout": "2s", "protect": ["tests/**"]});
        fs::write(world.project.root().join(".agent-queue/project.yaml"), rules.to_string())
            .unwrap();
        world.project.drop_task("a.md", TASK);
        let place = if is_done { "done/a.md" } else { "failed/a.md" };
        world.converge("a.md", place);
        let ending = world.ending(place);
        assert_eq!(ending["check"]["exit"] == 0, is_done, "{ending:?}");
        assert_eq!(ending["check"]["command"], check);
        assert_eq!(world.project.git(["show", "ccl/a:tests/t"]), "weak");
        let text = world.project.read(place);
        assert_eq!(text.contains("## Check\n\n```"), !is_done, "{text}");
        if !is_done {
            assert!(ending["reason"].as_str().unwrap().starts_with("the check `"), "{ending:?}");
            world.pass(&["retry", "a"]);
            assert_eq!(world.project.read("inbox/a.md").matches("##").count(), 0);
        }
    }
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
