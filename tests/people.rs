//! What a person does by hand: add, retry, cancel, and how the program explains itself.

// A step of a test that fails ends the test.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::fake::Behaviour;
use support::sandbox::ending_line;
use support::{FakeClaude, Project, Sandbox, TmuxServer, claude_home, wait_until};

/// Standard output, standard error and exit status of one run.
fn run(sandbox: &Sandbox, stdin: &str, args: &[&str]) -> (String, String, i32) {
    let mut command = sandbox.ccl(args);
    let out = command.write_stdin(stdin).output().unwrap();
    (
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
        out.status.code().unwrap(),
    )
}

/// Runs what must succeed, and returns its standard output.
#[track_caller]
fn ok(sandbox: &Sandbox, stdin: &str, args: &[&str]) -> String {
    let (stdout, stderr, exit) = run(sandbox, stdin, args);
    assert_eq!(exit, 0, "{args:?}: {stderr}");
    stdout
}

/// Runs what must fail with `status`, and returns its standard error.
#[track_caller]
fn fails(sandbox: &Sandbox, stdin: &str, args: &[&str], status: i32) -> String {
    let (stdout, stderr, exit) = run(sandbox, stdin, args);
    assert_eq!((exit, stdout.as_str()), (status, ""), "{args:?}: {stderr}");
    stderr
}

fn sandbox() -> (Sandbox, Project) {
    let mut sandbox = Sandbox::new();
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    let project = sandbox.project("web");
    (sandbox, project)
}

#[test]
fn a_task_is_added_and_its_path_printed() {
    let (sandbox, project) = sandbox();
    let path = ok(&sandbox, "Do it.\n", &["add", "--title", "Fix: the Login!"]);
    let expected = project.queue("inbox").join("fix-the-login.md");
    assert_eq!(path, format!("{}\n", expected.display()));
    let text = "---\ntitle: \"Fix: the Login!\"\n---\n\nDo it.\n";
    assert_eq!(fs::read_to_string(expected).unwrap(), text);

    let notes = sandbox.path().join("Some notes.txt");
    fs::write(&notes, "---\npriority: low\nx: 1\n---\nBody.\n").unwrap();
    let args = ["add", "--priority", "high", "--tag", "a b", "--tag", "c"];
    ok(
        &sandbox,
        "",
        &[&args[..], &[notes.to_str().unwrap()]].concat(),
    );
    assert_eq!(
        project.read("inbox/Some notes.md"),
        "---\nx: 1\npriority: high\ntags: [\"a b\",\"c\"]\n---\nBody.\n"
    );

    ok(
        &sandbox,
        "\n# Update the dependencies\nand more\n",
        &["add", "-"],
    );
    let untouched = "\n# Update the dependencies\nand more\n";
    assert_eq!(project.read("inbox/update-the-dependencies.md"), untouched);
    assert_eq!(
        project.inbox().len(),
        3,
        "no temporary file is left: {:?}",
        project.inbox()
    );

    let json: Value = serde_json::from_str(&ok(&sandbox, "x", &["add", "--json"])).unwrap();
    let event = &json["events"][0];
    assert_eq!(event["event"], "added");
    assert_eq!(event["task"], "x.md");
    assert_eq!(event["project"], json!(project.root()));
}

#[test]
fn what_is_added_goes_where_the_options_say() {
    let (mut sandbox, project) = sandbox();
    sandbox.env("SECUTOOLS_API_KEY", "k");
    sandbox.env("SECUTOOLS_URL", "http://127.0.0.1:1");
    let decided = |args: &[&str]| {
        let path = ok(&sandbox, "Review it.\n", &[&["add"], args].concat());
        let decision = sandbox.ccl_json(&["decide", path.trim()]);
        decision["decisions"][0].clone()
    };
    let there = decided(&["--provider", "gemini", "--allow-delegation"]);
    assert_eq!(
        (&there["provider"], &there["delegated"]),
        (&json!("gemini"), &json!(true))
    );
    let auto = decided(&[
        "--preferred-ai",
        "auto",
        "--complexity",
        "low",
        "--allow-delegation",
    ]);
    assert_eq!(auto["provider"], "gpu");
    let here = decided(&["--provider", "claude-code", "--priority", "critical"]);
    assert_eq!(
        (&here["provider"], &here["model"]),
        (&json!("claude-code"), &json!("opus"))
    );
    let (_, stderr, _) = run(&sandbox, "x", &["add", "--provider", "gpu"]);
    assert!(stderr.contains("without --allow-delegation"), "{stderr}");
    let typo = "---\nprioritty: high\n---\nx\n";
    let (_, stderr, exit) = run(&sandbox, typo, &["add", "--title", "t"]);
    assert_eq!(exit, 0);
    assert!(
        stderr.contains("t.md:2:1: ") && stderr.contains("priority"),
        "{stderr}"
    );
    drop(project);
}

#[test]
fn a_name_that_is_taken_or_at_work_gets_a_number() {
    let (sandbox, project) = sandbox();
    let inbox = project.queue("inbox");
    fs::write(inbox.join("a.2.md.dispatched"), "at work").unwrap();
    fs::write(inbox.join("a.3.md.delegated"), "{}").unwrap();
    for expected in ["a.md", "a.4.md", "a.5.md"] {
        let path = ok(&sandbox, expected, &["add", "--title", "a"]);
        assert_eq!(path.trim(), inbox.join(expected).to_str().unwrap());
        assert!(
            project
                .read(&format!("inbox/{expected}"))
                .ends_with(expected)
        );
    }
    for odd in [
        "../../up",
        "-rf",
        ".hidden",
        "a/b\0c",
        "\u{1b}[2J",
        "日本 é",
        "…",
        &"x ".repeat(500),
    ] {
        let path = ok(
            &sandbox,
            "x",
            &["add", &format!("--title={}", odd.replace('\0', " "))],
        );
        assert_eq!(
            Path::new(path.trim()).parent(),
            Some(inbox.as_path()),
            "{odd:?}"
        );
    }
    assert_eq!(
        project
            .inbox()
            .iter()
            .filter(|name| name.ends_with(".md"))
            .count(),
        11
    );
}

#[test]
fn what_is_no_task_is_not_added() {
    let (sandbox, project) = sandbox();
    let binary = sandbox.path().join("binary.md");
    fs::write(&binary, b"a\0b").unwrap();
    let stderr = fails(&sandbox, "", &["add", binary.to_str().unwrap()], 1);
    assert!(
        stderr.contains("binary.md") && stderr.contains("not text"),
        "{stderr}"
    );
    assert!(fails(&sandbox, "", &["add"], 1).contains("empty"));
    assert!(fails(&sandbox, " \n\t", &["add", "--title", "t"], 1).contains("empty"));
    let stderr = fails(&sandbox, "", &["add", "/nonexistent/a.md"], 1);
    assert!(stderr.contains("/nonexistent/a.md"), "{stderr}");
    assert!(fails(&sandbox, &"x".repeat(2 << 20), &["add"], 1).contains("larger than 1 MiB"));
    let broken = "---\ntitle: [\n---\nx\n";
    let stderr = fails(&sandbox, broken, &["add", "--priority", "low"], 1);
    assert!(stderr.contains("header"), "{stderr}");
    assert_eq!(project.inbox(), [""; 0]);
    ok(&sandbox, broken, &["add"]);
    assert_eq!(
        project.inbox().len(),
        1,
        "without options it is taken as it is"
    );
}

#[test]
fn the_project_is_the_one_that_is_meant() {
    let (sandbox, web) = sandbox();
    let api = sandbox.project("api");
    let stderr = fails(&sandbox, "x", &["add"], 2);
    for project in [&web, &api] {
        assert!(
            stderr.contains(project.root().to_str().unwrap()),
            "{stderr}"
        );
    }
    let below = api.root().join("src/deep");
    fs::create_dir_all(&below).unwrap();
    let mut here = sandbox.ccl(["add", "--title", "here"]);
    here.current_dir(&below).write_stdin("x").assert().success();
    assert_eq!(api.inbox(), ["here.md"]);
    let mut there = sandbox.ccl(["add", "--title", "there", "--project"]);
    there
        .arg(web.root())
        .current_dir(&below)
        .write_stdin("x")
        .assert()
        .success();
    assert_eq!(web.inbox(), ["there.md"]);
    let stderr = fails(&sandbox, "x", &["add", "--project", "/"], 78);
    assert!(stderr.contains("mkdir -p /.agent-queue/inbox"), "{stderr}");
}

const RUN: &str = "00000000-0000-4000-8000-000000000001";

fn file(project: &Project, path: &str, above: &str, outcome: &str) {
    let line = format!(
        "<!-- ccl {{\"run\":\"{RUN}\",\"outcome\":\"{outcome}\",\"attempt\":3,\"provider\":\"gemini\",\"reason\":\"r\"}} -->"
    );
    let path = project.root().join(".agent-queue").join(path);
    fs::write(path, format!("{above}\n{line}\n")).unwrap();
}

#[test]
fn a_failed_task_goes_back_and_starts_afresh() {
    let (sandbox, project) = sandbox();
    let text = "---\ntitle: T\n---\nDo it.\n";
    file(&project, "failed/a.md", text, "failed");
    file(
        &project,
        "failed/b.md",
        &format!("{text}\n*gemini · 3s · job x*\n"),
        "failed",
    );
    fs::write(project.queue("failed").join("a.md.reason"), "r").unwrap();
    assert!(ok(&sandbox, "", &["retry", "a"]).starts_with("released    a.md"));
    let path = project.queue("failed").join("b.md");
    ok(&sandbox, "", &["retry", path.to_str().unwrap()]);
    assert_eq!(project.failed(), [""; 0]);
    assert_eq!(project.inbox(), ["a.md", "b.md"]);
    assert_eq!(project.read("inbox/b.md"), "---\ntitle: T\n---\nDo it.");
    let json = sandbox.ccl(["status", "--json"]).output().unwrap().stdout;
    let json: Value = serde_json::from_slice(&json).unwrap();
    for task in json["tasks"].as_array().unwrap() {
        assert_eq!(
            task["attempt"],
            Value::Null,
            "no attempt counts any more: {task}"
        );
    }
}

#[test]
fn a_done_task_is_done_again_from_a_copy_without_its_result() {
    let (sandbox, project) = sandbox();
    let done = "---\ntitle: T\n---\nDo it.\n\n## Result\n\nIt is done.\n\n*claude-code · 3s*\n";
    file(&project, "done/a.md", done, "done");
    project.drop_task("a.md", "a new one\n");
    let before = project.read("done/a.md");
    let json: Value =
        serde_json::from_str(&ok(&sandbox, "", &["retry", "a.md", "--json"])).unwrap();
    assert_eq!(json["events"][0]["event"], "released");
    assert_eq!(json["events"][0]["task"], "a.2.md");
    assert_eq!(project.read("inbox/a.2.md"), "---\ntitle: T\n---\nDo it.");
    assert_eq!(project.read("inbox/a.md"), "a new one\n");
    assert_eq!(project.read("done/a.md"), before, "the record stays");
}

#[test]
fn which_task_is_meant_is_never_guessed() {
    let (sandbox, web) = sandbox();
    let api = sandbox.project("api");
    for project in [&web, &api] {
        file(project, "failed/a.md", "x", "failed");
    }
    file(&web, "done/a.md", "x", "done");
    let stderr = fails(&sandbox, "", &["retry", "a"], 1);
    for project in [&web, &api] {
        let path = project.queue("failed").join("a.md");
        assert!(stderr.contains(path.to_str().unwrap()), "{stderr}");
    }
    assert!(fails(&sandbox, "", &["retry", "nix"], 1).contains("no task nix in failed/ or done/"));
    let elsewhere = sandbox.path().join("a.md");
    fs::write(&elsewhere, "x").unwrap();
    let stderr = fails(&sandbox, "", &["retry", elsewhere.to_str().unwrap()], 1);
    assert!(
        stderr.contains("is no task in failed/ or done/ of a project"),
        "{stderr}"
    );
    let gone = web.queue("failed").join("gone.md");
    let stderr = fails(&sandbox, "", &["retry", gone.to_str().unwrap()], 1);
    assert!(
        stderr.contains("there is no ") && stderr.contains("gone.md"),
        "{stderr}"
    );
    let binary = web.queue("failed").join("binary.md");
    fs::write(&binary, b"a\0").unwrap();
    let stderr = fails(&sandbox, "", &["retry", "binary"], 1);
    assert!(stderr.contains("save it as UTF-8"), "{stderr}");
    symlink("/etc/passwd", web.queue("failed").join("link.md")).unwrap();
    fails(&sandbox, "", &["retry", "link"], 1);
    assert_eq!((web.inbox().len(), api.inbox().len()), (0, 0));

    let project = web.root().to_str().unwrap();
    ok(&sandbox, "", &["retry", "a", "--project", project]);
    assert_eq!(web.inbox(), ["a.md"]);
    assert_eq!(web.done(), ["a.md"], "what failed goes first");
}

#[test]
fn a_task_that_waits_is_withdrawn() {
    let (sandbox, project) = sandbox();
    project.drop_task("a.md", "Do it.\n");
    assert!(ok(&sandbox, "", &["cancel", "a"]).contains("cancelled"));
    assert_eq!(project.task_places("a.md"), ["failed/a.md"]);
    let ending = ending_line(&project.read("failed/a.md")).unwrap();
    assert_eq!(ending["outcome"], "failed");
    assert_eq!(ending["reason"], "cancelled");
    let stderr = fails(&sandbox, "", &["cancel", "a"], 1);
    assert!(stderr.contains("no task a in inbox/ of"), "{stderr}");
    ok(&sandbox, "", &["retry", "a"]);
    assert_eq!(project.task_places("a.md"), ["inbox/a.md"]);
}

#[test]
fn what_is_not_ours_is_not_cancelled() {
    let (sandbox, project) = sandbox();
    let inbox = project.queue("inbox");
    let claim = json!({"version": 1, "host": "far", "at": "2026-01-01T00:00:00Z",
        "owner": "00000000-0000-4000-8000-000000000001", "session": "theirs-0", "run": RUN,
        "phase": "working", "attempt": 1, "started_at": "2026-01-01T00:00:00Z",
        "agent": {"kind": "command", "model": null, "session": null, "transcript_from": 0}});
    fs::write(inbox.join("theirs.md.dispatched"), "x").unwrap();
    fs::write(inbox.join(".theirs.md.claim"), claim.to_string()).unwrap();
    fs::write(inbox.join("nobody.md.dispatched"), "x").unwrap();
    fs::write(inbox.join("broken.md.dispatched"), "x").unwrap();
    fs::write(inbox.join(".broken.md.claim"), "{").unwrap();
    project.drop_task("job.md", "x");
    let job = json!({"version": 1, "host": "h", "at": "2026-01-01T00:00:00Z", "key": RUN, "text": "x",
        "sha256": "0", "provider": "gpu", "rule": "preferred-ai", "started_at": "2026-01-01T00:00:00Z",
        "phase": "submitted", "job_id": "job_1", "submitted_at": "2026-01-01T00:00:00Z", "unknown_since": null});
    fs::write(inbox.join("job.md.delegated"), job.to_string()).unwrap();
    let before = project.inbox();
    for (task, why) in [
        ("theirs", "session theirs-0 on far"),
        ("nobody", "nobody has claimed it"),
        ("broken", "is left alone"),
        ("job", "secutools has it as job job_1"),
    ] {
        let stderr = fails(&sandbox, "", &["cancel", task], 1);
        assert!(stderr.contains(why), "{task}: {stderr}");
    }
    let mut after = project.inbox();
    after.retain(|name| name != ".lock");
    assert_eq!(after, before);
    project.drop_task("nobody.md", "a second one");
    let stderr = fails(&sandbox, "", &["cancel", "nobody"], 1);
    assert!(
        stderr.contains("nobody.md or ") && stderr.contains("nobody.md.dispatched"),
        "{stderr}"
    );
}

#[test]
fn an_agent_at_work_is_ended_and_its_session_free_again() {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("pool", json!({"autonomous": {"max": 1}}));
    let script =
        "echo $$ > agent.pid; trap 'echo ended > ended; exit 1' TERM; while :; do sleep 0.1; done";
    let command = json!(["sh", "-c", script, "sh"]);
    sandbox.config("agent", json!({"kind": "command", "command": command}));
    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    ok(&sandbox, "", &["scan"]);
    assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    let pid_file = project.root().join("agent.pid");
    wait_until("the agent works", support::PATIENCE, || pid_file.exists());

    assert!(ok(&sandbox, "", &["cancel", "a"]).starts_with("failed      a.md"));
    assert_eq!(project.task_places("a.md"), ["failed/a.md"]);
    let ending = ending_line(&project.read("failed/a.md")).unwrap();
    assert_eq!(
        (&ending["reason"], &ending["session"]),
        (&json!("cancelled"), &json!("ccl-auto-0"))
    );
    assert!(
        project.root().join("ended").exists(),
        "the agent was asked to end"
    );
    let pid = fs::read_to_string(pid_file).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    assert!(!sandbox.session_file("ccl-auto-0", "dispatched").exists());
    let status = sandbox.ccl_json(&["status"]);
    assert_eq!(
        status["sessions"][0]["state"],
        "free",
        "no cooldown: {}",
        tmux.screens()
    );

    project.drop_task("b.md", "Next.\n");
    ok(&sandbox, "", &["scan"]);
    assert_eq!(project.task_places("b.md"), ["inbox/b.md.dispatched"]);
}

#[test]
fn a_scan_that_does_nothing_says_why() {
    let (mut sandbox, project) = sandbox();
    let (stdout, stderr, exit) = run(&sandbox, "", &["scan"]);
    assert_eq!((stdout.as_str(), exit), ("", 0));
    let inbox = project.queue("inbox");
    assert_eq!(
        stderr,
        format!("nothing to do: no task waits in {}\n", inbox.display())
    );
    assert_eq!(run(&sandbox, "", &["scan", "-q"]).1, "");
    symlink("/etc/passwd", inbox.join("l.md")).unwrap();
    let (stdout, stderr, _) = run(&sandbox, "", &["scan"]);
    assert!(stdout.starts_with("held        l.md"), "{stdout}");
    assert!(
        stderr.starts_with("nothing to do: the only task is held"),
        "{stderr}"
    );

    let tmux = sandbox.tmux();
    sandbox.config("pool", json!({"autonomous": {"max": 1}}));
    let agent = json!({"kind": "command", "command": ["sh", "-c", "sleep 1000", "sh"]});
    sandbox.config("agent", agent);
    project.drop_task("a.md", "x");
    ok(&sandbox, "", &["scan"]);
    project.drop_task("b.md", "x");
    let (_, stderr, _) = run(&sandbox, "", &["scan"]);
    assert_eq!(stderr, "no free session: ccl-auto-0 works on a.md\n");
    drop(tmux);
}

#[test]
fn waiting_is_visible_on_a_terminal_and_gone_when_done() {
    let mut sandbox = Sandbox::new();
    let fake = FakeClaude::install(&sandbox);
    let tmux = sandbox.tmux_with(|builder| builder.envs(fake.env()));
    sandbox.config("pool", json!({"autonomous": {"max": 1}}));
    fake.script(&[Behaviour {
        start_delay_ms: 3000,
        ..Behaviour::default()
    }]);
    let project = sandbox.project("web");
    claude_home::prepare_home(&sandbox.home(), &[project.root()], Default::default());
    project.drop_task("slow.md", "Do it.\n");
    let terminal = TmuxServer::start();
    let pane = terminal.new_session("look", &[]);
    let line = format!(
        "env HOME={} {} --config {} scan; echo en''d",
        sandbox.home().display(),
        env!("CARGO_BIN_EXE_ccl"),
        sandbox.config_file().display()
    );
    terminal.type_line(&pane, &line);
    terminal.wait_for_text(&pane, "slow.md → ccl-auto-0: 1s");
    let after = terminal.wait_for_text(&pane, "\nend");
    assert!(!after.contains("ccl-auto-0: "), "{after}");
    let told = after.lines().filter(|line| line.contains("slow.md"));
    assert!(
        told.clone().any(|line| line.starts_with("dispatched")),
        "{after}"
    );
    assert!(
        told.clone().any(|line| line.starts_with("DISPATCHED")),
        "{after}"
    );
    drop(tmux);
}

/// Every command, with its words: `job submit`.
fn commands(sandbox: &Sandbox) -> Vec<Vec<String>> {
    let list = |words: &[String]| -> Vec<String> {
        let out = sandbox.bare_ccl().args(words).arg("-h").output().unwrap();
        let help = String::from_utf8(out.stdout).unwrap();
        let rows = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        rows.take_while(|line| line.starts_with("  "))
            .filter(|line| !line.starts_with("   "))
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .filter(|word| word != "help")
            .collect()
    };
    let mut all = Vec::new();
    for word in list(&[]) {
        let words = vec![word];
        let below = list(&words);
        all.extend(
            below
                .iter()
                .map(|it| [words.clone(), vec![it.clone()]].concat()),
        );
        all.push(words);
    }
    all
}

#[test]
fn every_command_has_help_with_examples_and_a_manual_page() {
    let sandbox = Sandbox::new();
    let commands = commands(&sandbox);
    for word in [
        "scan", "assign", "reap", "decide", "status", "add", "retry", "cancel", "job", "man",
    ] {
        assert!(
            commands.iter().any(|words| words[..] == [word]),
            "{commands:?}"
        );
    }
    assert!(commands.contains(&vec!["job".to_owned(), "submit".to_owned()]));
    for words in commands.iter().chain([&vec![]]) {
        let out = sandbox
            .bare_ccl()
            .args(words)
            .arg("--help")
            .output()
            .unwrap();
        let help = String::from_utf8(out.stdout).unwrap();
        if words[..] != ["job"] {
            assert!(help.contains("Examples:\n  "), "{words:?}\n{help}");
        }
        let page = sandbox.bare_ccl().arg("man").args(words).output().unwrap();
        assert!(page.status.success());
        let page = String::from_utf8(page.stdout).unwrap();
        let title = [&["ccl".to_owned()], &words[..]].concat().join("-");
        assert!(page.contains(&format!(".TH {title} 1")), "{page}");
        let file = sandbox.path().join("page.1");
        fs::write(&file, page).unwrap();
        let groff = Command::new("groff")
            .args(["-man", "-ww", "-Tutf8", "-z"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&groff.stderr);
        assert!(groff.status.success() && said.is_empty(), "{title}: {said}");
    }
    let stderr = fails(&sandbox, "", &["man", "skan"], 2);
    assert!(stderr.contains("no command skan"), "{stderr}");
}

#[test]
fn completions_work_in_their_shells() {
    let program = Path::new(env!("CARGO_BIN_EXE_ccl")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let tmux = TmuxServer::builder().env("PATH", path).start();
    for (shell, argv, load) in [
        (
            "bash",
            &["bash", "--norc"][..],
            "source <(ccl completions bash)",
        ),
        (
            "zsh",
            &["zsh"],
            "autoload -U compinit; compinit -D; source <(ccl completions zsh)",
        ),
        (
            "fish",
            &["fish", "--no-config"],
            "ccl completions fish | source",
        ),
    ] {
        let pane = tmux.new_session(shell, argv);
        tmux.type_line(&pane, &format!("{load}; echo load''ed"));
        tmux.wait_for_text(&pane, "\nloaded");
        for (typed, completed) in [
            ("ccl ret", "ccl retry"),
            ("ccl add --prio", "ccl add --priority"),
            ("ccl status --format prom", "ccl status --format prometheus"),
            ("ccl job sub", "ccl job submit"),
        ] {
            tmux.run(&["send-keys", "-t", &pane, "-l", typed]);
            tmux.wait_for_text(&pane, typed);
            tmux.send_keys(&pane, &["Tab"]);
            tmux.wait_for_text(&pane, completed);
            // A line of its own: what clears this one may come while it is being drawn.
            tmux.send_keys(&pane, &["C-c"]);
            tmux.wait_until("a new line is there", || {
                let screen = tmux.capture(&pane);
                !screen
                    .trim_end()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .contains("ccl ")
            });
        }
    }
}
