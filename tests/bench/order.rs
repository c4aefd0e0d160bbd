//! Tasks that wait for a time or for others, and the journal.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::support::{Sandbox, TmuxServer};
use super::table::Row;
use super::{WAITING, bare_read, calls, ccl, peak, quietly, shortest, timed};

/// A free session in front of a project without tasks.
fn pool(sandbox: &mut Sandbox) -> TmuxServer {
    let tmux = sandbox.tmux();
    sandbox.config("agent", json!({"kind": "command", "command": ["true"]}));
    sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": 1, "create": false}}));
    tmux.new_session("k-0", &[]);
    tmux
}

/// 100,000 tasks of which none may go yet.
pub(super) fn not_before() -> Vec<Row> {
    let mut sandbox = Sandbox::new();
    let _tmux = pool(&mut sandbox);
    let inbox = sandbox.project("web").queue("inbox");
    for number in 0..WAITING {
        let text =
            format!("---\ntitle: Task {number}\nnot_before: 2999-01-01 02:00\n---\nDo it.\n");
        fs::write(inbox.join(format!("task-{number:06}.md")), text).expect("a task");
    }
    let dry_run = &["scan", "--dry-run"];
    let scan = || timed(|| quietly(&mut ccl(&sandbox, dry_run)));
    let times = shortest(7, [&scan, &|| timed(|| bare_read(&inbox))]);
    let each = calls(&sandbox, dry_run).len() as f64 / WAITING as f64;
    let memory = peak(&mut ccl(&sandbox, dry_run));
    vec![
        Row::beside("100,000 with `not_before`: `scan`", "a bare loop that reads them", times, 1.3),
        Row::at_most("the same: system calls for each", each, "", 3.2),
        Row::at_most("the same: memory", memory, " MiB", 64.0),
    ]
}

/// 1,000 chains of ten, each behind a task that failed.
pub(super) fn depends_on() -> Vec<Row> {
    const CHAINS: usize = 1000;
    const LINKS: usize = 10;
    let mut sandbox = Sandbox::new();
    let _tmux = pool(&mut sandbox);
    let inbox = sandbox.project("web").queue("inbox");
    for chain in 0..CHAINS {
        for link in 0..LINKS {
            let before =
                if link == 0 { "broken".to_owned() } else { format!("c{chain}-{}", link - 1) };
            let text = format!("---\ndepends_on: [{before}.md]\n---\nDo it.\n");
            fs::write(inbox.join(format!("c{chain}-{link}.md")), text).expect("a task");
        }
    }
    let scan = || timed(|| quietly(&mut ccl(&sandbox, &["scan", "--dry-run"])));
    let times = shortest(7, [&scan, &|| timed(|| bare_read(&inbox))]);
    let each = calls(&sandbox, &["scan", "--dry-run"]).len() as f64 / (CHAINS * LINKS) as f64;
    let status = || timed(|| quietly(&mut ccl(&sandbox, &["status"])));
    let [status] = shortest(5, [&status]);
    vec![
        Row::beside(
            "1,000 chains of 10 `depends_on`: `scan`",
            "a bare loop that reads them",
            times,
            // Beside its own file, each task has two looked for of the one that it waits for.
            4.0,
        ),
        Row::at_most("the same: system calls for each", each, "", 8.0),
        Row::at_most("the same: `status`", status, " ms", 500.0),
    ]
}

/// A journal of 100,000 lines, all of the last day.
pub(super) fn journal() -> Vec<Row> {
    let mut sandbox = Sandbox::new();
    let _tmux = pool(&mut sandbox);
    sandbox.project("web");
    let now = jiff::Timestamp::now();
    let mut lines = String::new();
    for number in 0..100_000_u32 {
        let event = ["dispatched", "done"][number as usize % 2];
        let line = json!({"event": event, "project": "/home/someone/projects/web", "task": format!("task-{number:06}.md"),
            "run": format!("00000000-0000-4000-8000-{:012}", number / 2), "agent": "claude", "provider": "claude-code",
            "attempt": 1, "cost": {"amount": "0.0123", "currency": "USD"}});
        lines.push_str(&format!("{{\"time\":\"{now}\",{}\n", &line.to_string()[1..]));
    }
    fs::create_dir_all(sandbox.state_dir()).expect("the state directory");
    let journal = sandbox.state_dir().join("journal.jsonl");
    fs::write(&journal, lines).expect("the journal");
    let report = || timed(|| quietly(&mut ccl(&sandbox, &["report"])));
    let [report, _] =
        shortest(7, [&report, &|| timed(|| quietly(Command::new("wc").arg(&journal)))]);
    vec![Row::at_most("100,000 lines of journal: `report`", report, " ms", 500.0)]
}
