use std::process::{Child, Stdio};

use serde_json::json;

use crate::support::Sandbox;
use crate::{journal, sandbox, told};

fn start(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut command = sandbox.std_ccl();
    command.arg("--config").arg(sandbox.config_file()).args(args);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Twenty passes at once, in which each task is cancelled once.
#[test]
fn twenty_passes_write_one_journal() {
    let (sandbox, project) = sandbox();
    for number in 0..20 {
        project.drop_task(format!("t{number}.md"), "Do it.\n");
    }
    let passes: Vec<Child> =
        (0..20).map(|number| start(&sandbox, &["cancel", &format!("t{number}")])).collect();
    for mut pass in passes {
        assert!(pass.wait().unwrap().success());
    }
    let mut told = told(&sandbox);
    told.sort();
    let mut expected: Vec<String> = (0..20)
        .flat_map(|number| [format!("failed t{number}.md"), format!("cancelled t{number}.md")])
        .collect();
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn a_task_s_whole_life_stands_in_it() {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": 1}}));
    sandbox.config("dispatcher", json!({"cooldown": "0s", "message": "{body}"}));
    let agent = json!({"kind": "command", "command": ["sh", "-c", "eval \"$1\"", "sh"]});
    sandbox.config("agent", agent);
    let project = sandbox.project("web");
    let failed = sandbox.path().join("failed");
    let once = format!("test -e {0} || {{ touch {0}; exit 3; }}", failed.display());
    let out = sandbox.ccl(["add", "-t", "t", "-p"]).arg(project.root()).write_stdin(once).output();
    assert!(out.unwrap().status.success());
    let exit = sandbox.session_file("k-0", "exit");
    for _ in 0..2 {
        sandbox.ccl(["scan"]).assert().success();
        tmux.wait_until("the agent ends", || exit.exists());
        sandbox.ccl(["reap"]).assert().success();
    }
    assert_eq!(project.done(), ["t.md"]);
    sandbox.ccl(["retry", "t"]).assert().success();
    assert_eq!(
        told(&sandbox),
        [
            "added t.md",
            "dispatched t.md",
            "released t.md",
            "dispatched t.md",
            "done t.md",
            "retried t.md"
        ]
    );
    let lines = journal(&sandbox);
    let runs: Vec<_> = lines.iter().map(|line| line["run"].as_str()).collect();
    assert!(runs[0].is_none() && runs[1].is_some() && runs[1] == runs[2], "{runs:?}");
    assert!(runs[3].is_some() && runs[3] == runs[4] && runs[3] != runs[1], "{runs:?}");
    assert_eq!(lines[2]["attempt"], 1);
    assert!(lines[2]["reason"].as_str().unwrap().contains('3'), "{}", lines[2]);
    assert_eq!((&lines[4]["attempt"], &lines[4]["agent"]), (&json!(2), &json!("command")));
    assert!(lines[1]["waited"].is_u64());
    drop(tmux);
}

/// The journal is no state: without it all goes on.
#[test]
fn a_journal_that_cannot_be_written_stops_nothing() {
    let (sandbox, project) = sandbox();
    std::fs::create_dir_all(sandbox.state_dir().join("journal.jsonl")).unwrap();
    project.drop_task("a.md", "Do it.\n");
    let out = sandbox.ccl(["cancel", "a"]).output().unwrap();
    assert!(out.status.success());
    assert_eq!(project.failed(), ["a.md"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("warning: cannot write") && said.contains("journal.jsonl"), "{said}");
}
