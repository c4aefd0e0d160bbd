//! Whether the work is done: what its agent says, how it ends, how long it takes, and what the check says.

use std::fs;

use serde_json::json;

use crate::world::{TASK, World};

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

/// An agent may clear up its repository, where nothing but the runner knows of the claim.
#[test]
fn an_agent_that_has_git_throw_away_what_it_does_not_refer_to_loses_nothing() {
    let world = World::with_agent("#!/bin/sh\necho done >one\ngit gc --quiet --prune=now\n").runs();
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    assert_eq!(world.project.git(["show", "ccl/a:one"]), "done");
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
        // Statuses that a runner's own tools end with, too.
        ("#!/bin/sh\nexit 124\n", "exit code 124 on", false),
        ("#!/bin/sh\nexit 125\n", "exit code 125 on", false),
        ("#!/bin/sh\nexit 127\n", "exit code 127 on", false),
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

/// It is ended, and what it has made until then comes back. Where nobody says how long it may take, that is six hours.
#[test]
fn an_agent_that_works_for_longer_than_it_may_is_ended() {
    let world = World::with_agent("#!/bin/sh\necho half >one\necho 'at it' >&2\nexec sleep 600\n");
    world.project.drop_task("free.md", TASK);
    world.pass(&["scan"]);
    assert!(world.ray.only_job().1.entrypoint().contains(" 21600s free.md "));
    world.pass(&["cancel", "free"]);

    let world = world.runs();
    fs::write(world.project.root().join(".agent-queue/project.yaml"), "max_duration: 1h\n")
        .unwrap();
    world.project.drop_task("a.md", TASK.replace("remote\n", "remote\nmax_duration: 1s\n"));
    world.converge("a.md", "failed/a.md");
    let ending = world.ending("failed/a.md");
    let reason = ending["reason"].as_str().unwrap();
    assert!(reason.starts_with("it worked for longer than `max_duration`, 1s, on "), "{reason}");
    assert!(reason.ends_with(": at it"), "{reason}");
    assert_eq!(ending["timeout"], "max_duration");
    assert_eq!(world.project.git(["show", "ccl/a:one"]), "half");
}
