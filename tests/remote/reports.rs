//! Where a task that is at Ray is named, and what it has cost.

use std::fs;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::support::write_program;
use crate::world::{TASK, World};

const AGENT: &str = "#!/bin/sh\ncat >/dev/null\necho '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\
                     \"result\":\"Fixed it.\",\"session_id\":\"s-1\",\"total_cost_usd\":0.5}'\n";

fn printed(world: &World, args: &[&str]) -> String {
    String::from_utf8(world.run(args).stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn status_page_metrics_journal_words_and_report_know_it() {
    let mut world = World::with_agent(AGENT);
    let _tmux = world.sandbox.tmux();
    let heard = world.sandbox.path().join("heard");
    let program = world.sandbox.path().join("hear");
    write_program(&program, &format!("#!/bin/sh\ncat >>{}\n", heard.display()));
    world.sandbox.config("notify", json!([{"on": ["done"], "command": [program]}]));
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();

    let text = printed(&world, &["status"]);
    let mut rows = text.lines().filter(|line| line.contains("a.md"));
    assert!(rows.any(|row| row.contains("remote") && row.contains("submitted")), "{text}");
    let page = printed(&world, &["status", "--format", "html"]);
    assert!(page.contains("At Ray") && page.contains(&id), "{page}");
    assert!(!page.contains("ecutools"), "{page}");
    let metrics = printed(&world, &["status", "--format", "prometheus"]);
    let delegated = metrics.lines().find(|line| line.starts_with("ccl_tasks_delegated{")).unwrap();
    assert!(delegated.ends_with(" 1"), "{delegated}");

    assert!(world.worker().command(&job.entrypoint()).status().unwrap().success());
    world.ray.set(&id, "SUCCEEDED", None);
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
    let day = world.sandbox.ccl_json(&["status"])["last_24h"][0].clone();
    assert_eq!((&day["provider"], &day["done"]), (&json!("remote"), &json!(1)), "{day}");
    let metrics = printed(&world, &["status", "--format", "prometheus"]);
    assert!(metrics.contains("{provider=\"remote\",outcome=\"done\"} 1"), "{metrics}");
    let journal = lines(&world.journal());
    let events: Vec<_> = journal.iter().map(|line| (&line["event"], &line["provider"])).collect();
    assert_eq!(
        events,
        [(&json!("delegated"), &json!("remote")), (&json!("done"), &json!("remote"))]
    );
    assert_eq!(journal[1]["cost"], json!({"amount": "0.5", "currency": "USD"}));
    let words = lines(&fs::read_to_string(&heard).unwrap());
    assert_eq!((&words[0]["event"], &words[0]["task"]), (&json!("done"), &json!("a.md")));
    let report = world.sandbox.ccl_json(&["report"]).to_string();
    assert!(report.contains("a.md") && report.contains("\"0.5\""), "{report}");
    // The same of a job whose agent does not say what it has cost; what is told is that of today, and midnight may come.
    let today = || TimeZone::system().to_datetime(Timestamp::now()).date();
    let began = today();
    write_program(&world.sandbox.path().join("agent"), "#!/bin/sh\necho done\n");
    world.ray.run_jobs(world.worker());
    world.project.drop_task("b.md", TASK);
    world.converge("b.md", "done/b.md");
    let delegated = &world.sandbox.ccl_json(&["status"])["delegated"];
    assert!(delegated["unknown_costs"] == 1 || began != today(), "{delegated}");
    // What a cluster costs is nothing to the budget of secutools.
    let days = fs::read_dir(world.sandbox.state_dir().join("spend")).unwrap();
    let spent = days.flat_map(|day| lines(&fs::read_to_string(day.unwrap().path()).unwrap()));
    let spent: Vec<Value> = spent.map(|line| line["agent"].clone()).collect();
    assert_eq!(spent, ["remote", "remote"]);
}
