//! The real Claude Code, headless, in a job: its answer, cost and session come back, and an API error is no success.

use serde_json::json;

use crate::support::real_claude::CURRENT;
use crate::support::{Consent, MessagesApi, RealClaude, Reply};
use crate::world::{TASK, World};

fn with_claude(api: &MessagesApi) -> World {
    let mut world = World::new();
    let claude = RealClaude::install(CURRENT);
    let mut worker = world.worker();
    let consent = Consent { key: true, ..Consent::default() };
    worker.env.extend(claude.env(api, consent));
    world.ray.run_jobs(worker);
    let agent = ["claude", "-p", "--output-format", "json", "--dangerously-skip-permissions"];
    world.sandbox.config("remote", json!({"agent": agent}));
    world
}

#[test]
fn its_answer_cost_and_session_come_back() {
    let api = MessagesApi::start();
    api.script([Reply::bash("echo by-claude > made"), Reply::text("Made it.")]);
    let world = with_claude(&api);
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    let ending = world.ending("done/a.md");
    assert_eq!(world.project.git(["show", "ccl/a:made"]), "by-claude");
    assert!(world.project.read("done/a.md").contains("## Result\n\nMade it.\n"));
    assert_eq!(ending["cost"]["currency"], "USD", "{ending:?}");
    assert_eq!(ending["agent_session"].as_str().unwrap().len(), 36, "{ending:?}");
    let prompts = api.requests();
    let turn = prompts.iter().find(|request| request.is_turn()).unwrap();
    assert!(turn.prompt().contains("[a.md] Do it: $HOME `x` 'ö'."), "{}", turn.prompt());
}

#[test]
fn an_api_error_is_no_success() {
    let api = MessagesApi::start();
    api.otherwise(Reply::no_credit());
    let world = with_claude(&api);
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "failed/a.md");
    let reason = world.ending("failed/a.md")["reason"].to_string();
    assert!(reason.contains("Credit balance") || reason.contains("credit balance"), "{reason}");
}
