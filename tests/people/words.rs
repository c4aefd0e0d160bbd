//! How the program explains itself: why nothing happened, what it waits for, help, manual, completions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::fake::Behaviour;
use crate::support::{FakeClaude, Sandbox, TmuxServer, claude_home};
use crate::{fails, ok, run, sandbox};

#[test]
fn a_scan_that_does_nothing_says_why() {
    let (mut sandbox, project) = sandbox();
    let (stdout, stderr, exit) = run(&sandbox, "", &["scan"]);
    assert_eq!((stdout.as_str(), exit), ("", 0));
    let inbox = project.queue("inbox");
    assert_eq!(stderr, format!("nothing to do: no task waits in {}\n", inbox.display()));
    assert_eq!(run(&sandbox, "", &["scan", "-q"]).1, "");
    symlink("/etc/passwd", inbox.join("l.md")).unwrap();
    let (stdout, stderr, _) = run(&sandbox, "", &["scan"]);
    assert!(stdout.starts_with("held        l.md"), "{stdout}");
    assert!(stderr.starts_with("nothing to do: the only task is held"), "{stderr}");

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
fn a_scan_says_in_local_time_until_when_a_session_cools_down() {
    let (mut sandbox, project) = sandbox();
    let _tmux = sandbox.tmux();
    sandbox.config("pool", json!({"autonomous": {"max": 1}}));
    project.drop_task("a.md", "x");
    sandbox.env("TZ", "JST-9");
    let cooldown = json!({"version": 1, "host": "h", "at": "2026-01-01T00:00:00Z", "reason": "no claude",
                          "until": "2999-01-01T00:00:00.123456789Z", "needs_person": false});
    let file = sandbox.session_file("ccl-auto-0", "cooldown");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, cooldown.to_string()).unwrap();
    let (_, stderr, _) = run(&sandbox, "", &["scan"]);
    assert!(stderr.contains("ccl-auto-0 cools down until 2999-01-01 09:00, in "), "{stderr}");
    assert!(stderr.ends_with(" days: no claude\n"), "{stderr}");
}

#[test]
fn waiting_is_visible_on_a_terminal_and_gone_when_done() {
    let mut sandbox = Sandbox::new();
    let fake = FakeClaude::install(&sandbox);
    let tmux = sandbox.tmux_with(|builder| builder.envs(fake.env()));
    sandbox.config("pool", json!({"autonomous": {"max": 1}}));
    fake.script(&[Behaviour { start_delay_ms: 3000, ..Behaviour::default() }]);
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
    let lines: Vec<&str> = after.lines().filter(|line| line.contains("slow.md")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("dispatched  slow.md"), "once: {after}");
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
        all.extend(below.iter().map(|it| [words.clone(), vec![it.clone()]].concat()));
        all.push(words);
    }
    all
}

#[test]
fn every_command_has_help_with_examples_and_a_manual_page() {
    let sandbox = Sandbox::new();
    let commands = commands(&sandbox);
    for word in
        ["scan", "assign", "reap", "decide", "status", "add", "retry", "cancel", "job", "man"]
    {
        assert!(commands.iter().any(|words| words[..] == [word]), "{commands:?}");
    }
    assert!(commands.contains(&vec!["job".to_owned(), "submit".to_owned()]));
    for words in commands.iter().chain([&vec![]]) {
        let out = sandbox.bare_ccl().args(words).arg("--help").output().unwrap();
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
        ("bash", &["bash", "--norc"][..], "source <(ccl completions bash)"),
        ("zsh", &["zsh"], "autoload -U compinit; compinit -D; source <(ccl completions zsh)"),
        ("fish", &["fish", "--no-config"], "ccl completions fish | source"),
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
            // Not C-c: what is typed before the next prompt is there, the shell does not see as its own.
            tmux.send_keys(&pane, &["C-u"]);
            tmux.wait_until("the line is empty", || !tmux.capture(&pane).contains(completed));
        }
    }
}
