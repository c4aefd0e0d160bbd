//! `ccl doctor` without systemd; under it, see `systemd.rs`.
#![allow(clippy::unwrap_used)]

#[path = "support/secutools_server/mod.rs"]
mod secutools_server;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use secutools_server::SecutoolsServer;
use serde_json::{Value, json};
use support::claude_home::{Consent, prepare_home};
use support::faults::traced;
use support::write_program;
use support::{Project, Sandbox, TmuxServer};

/// A sandbox in which all is well: one trusted project, an agent in `HOME/tools`, which only an interactive login shell
/// has on its PATH.
struct Patient {
    sandbox: Sandbox,
    project: Project,
    _tmux: TmuxServer,
}

impl Patient {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        let project = sandbox.project("web");
        prepare_home(&sandbox.home(), &[project.root()], Consent::default());
        let tools = sandbox.home().join("tools");
        fs::create_dir(&tools).unwrap();
        let agent = tools.join("my-claude");
        write_program(&agent, "#!/bin/sh\n");
        let start_up = "echo Welcome.\nexport IS_SANDBOX=1\n\
                        case $- in *i*) PATH=$HOME/tools:$PATH ;; esac\n";
        fs::write(sandbox.home().join(".bash_profile"), start_up).unwrap();
        let command = ["my-claude", "--dangerously-skip-permissions"];
        sandbox.config("agent", json!({"command": command}));
        let tmux = sandbox.tmux();
        Self { sandbox, project, _tmux: tmux }
    }

    /// Every finding, `ok` and in words, and whether the exit status is 0.
    #[track_caller]
    fn examine(&self) -> (Vec<(String, Option<bool>, String)>, bool) {
        let output = self.sandbox.ccl(["doctor", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let checks = report["checks"].as_array().unwrap().iter().map(|check| {
            let words = format!("{} → {}", text(check, "detail"), text(check, "remedy"));
            (text(check, "check"), check["ok"].as_bool(), words)
        });
        (checks.collect(), output.status.success())
    }

    /// The one thing that is wrong.
    #[track_caller]
    fn fault(&self) -> String {
        let (checks, well) = self.examine();
        assert!(!well, "{checks:#?}");
        let mut bad = checks.iter().filter(|(_, ok, _)| *ok == Some(false));
        let (check, _, words) = bad.next().unwrap();
        assert_eq!(bad.next(), None, "{checks:#?}");
        format!("{check}: {words}")
    }
}

#[test]
fn all_is_well_where_the_login_shell_finds_the_agent_and_the_project_is_trusted() {
    let patient = Patient::new();
    let (checks, well) = patient.examine();
    assert!(well, "{checks:#?}");
    let is_ok = |name: &str| checks.iter().find(|(check, ..)| check == name).unwrap().1;
    for name in ["tmux", "server", "agent", "state", "queue", "trust"] {
        assert_eq!(is_ok(name), Some(true), "{name}: {checks:#?}");
    }
    for name in ["secutools", "units"] {
        assert_eq!(is_ok(name), None, "{name}: {checks:#?}");
    }
    // It changed nothing.
    assert!(!patient.sandbox.state_dir().exists());
    assert_eq!(patient.project.inbox(), [""; 0]);
    let doctor = patient.sandbox.ccl(["doctor"]).assert().success();
    let printed = String::from_utf8_lossy(&doctor.get_output().stdout);
    assert!(printed.ends_with("all is well\n"), "{printed}");
}

#[test]
fn an_agent_that_the_login_shell_does_not_find_is_named() {
    let patient = Patient::new();
    fs::remove_file(patient.sandbox.home().join("tools/my-claude")).unwrap();
    let fault = patient.fault();
    assert!(
        fault.starts_with("agent: my-claude is not on the PATH of the login shell /bin/bash"),
        "{fault}"
    );
}

#[test]
fn each_agent_s_program_key_and_directory_are_looked_at() {
    let mut patient = Patient::new();
    let agent = patient.sandbox.home().join("tools/my-claude");
    let key = patient.sandbox.path().join("key");
    fs::write(&key, "sk-made-up\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    patient.sandbox.config("agent", Value::Null);
    patient.sandbox.config(
        "agents",
        json!({
            "claude": {"command": [agent]},
            "key": {"command": [agent], "api_key_file": key},
        }),
    );
    let fault = patient.fault();
    assert!(fault.starts_with("key: key: "), "{fault}");
    assert!(fault.contains("other users may read it (mode 0644)"), "{fault}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    patient.sandbox.config("agents", json!({"key": {"config_dir": "~/nowhere"}}));
    let fault = patient.fault();
    assert!(fault.starts_with("config_dir: key: ") && fault.contains("is no directory"), "{fault}");
    patient.sandbox.config("agents", Value::Null);
    let codex = json!({"kind": "command", "command": ["no-such-agent"]});
    patient.sandbox.config("agents", json!({"claude": {"command": [agent]}, "codex": codex}));
    let fault = patient.fault();
    assert!(fault.starts_with("agent: codex: no-such-agent is not on the PATH"), "{fault}");
}

#[test]
fn claude_code_before_2_1_100_is_named_as_not_supported() {
    let patient = Patient::new();
    let agent = patient.sandbox.home().join("tools/my-claude");
    let print = |version: &str| {
        let script =
            format!("#!/bin/sh\n[ \"$1\" = --version ] && echo '{version} (Claude Code)'\n");
        fs::write(&agent, script).unwrap();
    };
    print("2.1.99");
    let fault = patient.fault();
    assert!(fault.starts_with("agent: "), "{fault}");
    assert!(fault.contains("my-claude is Claude Code 2.1.99: older than 2.1.100"), "{fault}");
    assert!(fault.contains(" → run `claude update`"), "{fault}");
    print("2.1.100");
    let (checks, well) = patient.examine();
    assert!(well, "{checks:#?}");
    assert!(
        checks.iter().any(|(_, _, words)| words.contains("Claude Code 2.1.100")),
        "{checks:#?}"
    );
}

#[test]
fn start_up_files_that_hang_are_named_and_not_waited_for() {
    let patient = Patient::new();
    let profile = patient.sandbox.home().join(".bash_profile");
    fs::write(profile, "exec sleep 600\n").unwrap();
    let fault = patient.fault();
    assert!(fault.contains("`/bin/bash` gave no answer within 10 s"), "{fault}");
    assert!(fault.contains("see why `/bin/bash -l -i -c true`"), "{fault}");
}

#[test]
fn a_project_that_claude_code_does_not_trust_is_named() {
    let patient = Patient::new();
    let other = patient.sandbox.project("other");
    let fault = patient.fault();
    let root = other.root().canonicalize().unwrap();
    let remedy = format!("run `claude` once in {} and accept", root.display());
    assert!(fault.starts_with("trust: "), "{fault}");
    assert!(fault.ends_with(&remedy), "{fault}");
}

#[test]
fn a_repository_below_what_is_trusted_is_named_and_is_no_fault() {
    let patient = Patient::new();
    prepare_home(&patient.sandbox.home(), &[&patient.sandbox.projects_dir()], Consent::default());
    let notes = || {
        let (checks, well) = patient.examine();
        assert!(well, "{checks:#?}");
        let notes = checks.into_iter().filter(|(check, ok, _)| check == "trust" && ok.is_none());
        notes.map(|(.., words)| words).collect::<Vec<_>>()
    };
    assert_eq!(notes(), [""; 0]);
    patient.project.init_git();
    let root = patient.project.root().canonicalize().unwrap();
    let [note] = &notes()[..] else { panic!("one") };
    let remedy = format!(" → run `claude` once in {} and accept", root.display());
    assert!(note.ends_with(&remedy), "{note}");
}

#[test]
fn the_server_is_asked_whether_it_takes_the_key() {
    let mut patient = Patient::new();
    let server = SecutoolsServer::start();
    server.expect_key("right");
    let url = server.url();
    patient.sandbox.env("SECUTOOLS_URL", &url);
    let fault = patient.fault();
    assert!(fault.starts_with("key: nothing can be delegated → there is no API key"));

    patient.sandbox.env("SECUTOOLS_API_KEY", "right");
    let (checks, well) = patient.examine();
    assert!(well, "{checks:#?}");
    let answers = format!("{url} answers and takes the key → ");
    assert!(checks.iter().any(|(_, _, words)| *words == answers));
    assert!(server.jobs().is_empty());

    patient.sandbox.env("SECUTOOLS_API_KEY", "wrong-one");
    let fault = patient.fault();
    assert!(fault.contains("answered 401"), "{fault}");
    assert!(fault.ends_with("get a new API key, and put it there"));
    assert!(!fault.contains("wrong-one"), "{fault}");

    drop(server);
    let fault = patient.fault();
    assert!(fault.contains("could not be reached"), "{fault}");
}

#[test]
fn a_tmux_that_is_too_old_or_missing_is_named() {
    let mut patient = Patient::new();
    let old = patient.sandbox.path().join("old-tmux");
    write_program(&old, "#!/bin/sh\necho tmux 3.1c\n");
    patient.sandbox.config("tmux", json!({"command": [old]}));
    let (checks, well) = patient.examine();
    assert!(!well);
    assert_eq!(
        checks[0].2,
        "tmux 3.1c is too old → install tmux 3.2 or later, or set tmux.command"
    );
    patient.sandbox.config("tmux", json!({"command": ["no-such-tmux"]}));
    let (checks, _) = patient.examine();
    assert!(checks[0].2.starts_with("there is no program `no-such-tmux`"));
}

#[test]
fn git_is_looked_at_where_tasks_have_worktrees() {
    let mut patient = Patient::new();
    let of_git = |patient: &Patient| {
        let (checks, _) = patient.examine();
        let of_git = checks.into_iter().filter(|(check, ..)| check == "git");
        of_git.map(|(_, ok, words)| (ok, words)).collect::<Vec<_>>()
    };
    assert_eq!(of_git(&patient), []);
    let rules = patient.project.root().join(".agent-queue/project.yaml");
    fs::write(&rules, "isolation: worktree\n").unwrap();
    let root = patient.project.root().canonicalize().unwrap();
    let fault = patient.fault();
    let (what, remedy) = fault.split_once(" → ").unwrap();
    assert_eq!(what, format!("git: no task in {} can have a worktree", root.display()));
    assert!(remedy.contains("is not in a git repository: run `git init`"), "{remedy}");
    patient.project.git(["init", "-q", "-b", "main"]);
    assert!(patient.fault().contains("has no commit yet"), "{}", patient.fault());
    patient.project.init_git();
    let well = of_git(&patient);
    let [(Some(true), words)] = &well[..] else { panic!("{well:?}") };
    assert!(words.starts_with("git version 2."), "{words}");
    assert!(words.contains(", for worktrees in 1 project(s)"), "{words}");
    fs::write(&rules, "isolation: worktree\nbase: v9\n").unwrap();
    assert!(patient.fault().contains("`v9` names no commit in"), "{}", patient.fault());

    fs::write(&rules, "isolation: worktre\n").unwrap();
    let fault = patient.fault();
    assert!(fault.starts_with("project: ") && fault.contains("project.yaml:1:12"), "{fault}");

    // What `defaults:` says holds for every project.
    fs::remove_file(&rules).unwrap();
    patient.sandbox.config("defaults", json!({"isolation": "worktree"}));
    assert!(of_git(&patient)[0].1.contains("1 project(s)"));
    // As on a machine without git.
    let tools = patient.sandbox.path().join("no-git");
    fs::create_dir(&tools).unwrap();
    for program in ["tmux", "sh", "setsid"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|dir| dir.join(program))
            .find(|file| file.exists());
        std::os::unix::fs::symlink(found.unwrap(), tools.join(program)).unwrap();
    }
    patient.sandbox.env("PATH", tools);
    let fault = patient.fault();
    assert!(
        fault.starts_with("git: no task can have a worktree → there is no program `git`"),
        "{fault}"
    );
}

/// NFS locks only descriptors that are open for writing, and a queue on NFS is a good one.
#[test]
fn the_lock_of_a_queue_is_tried_on_a_descriptor_that_is_open_for_writing() {
    let patient = Patient::new();
    fs::write(patient.project.root().join(".agent-queue/.lock"), "").unwrap();
    let trace = traced(&patient.sandbox, &["doctor"], &["openat", "open"]);
    let mut opened = trace.lines().filter(|line| line.contains("/.agent-queue/.lock\""));
    assert!(opened.next().is_some_and(|line| line.contains("O_RDWR")), "{trace}");
    assert_eq!(opened.next(), None);
}

/// Whoever has mended the agent does not have to wait for the end of the cooldown that it was the cause of.
#[test]
fn a_cooldown_ends_where_its_cause_is_found_mended() {
    let mut patient = Patient::new();
    patient.sandbox.config("agent", json!({"command": ["no-such-claude"]}));
    patient.project.drop_task("a.md", "Do it.\n");
    let scan = patient.sandbox.ccl(["scan"]).output().unwrap();
    assert_eq!(scan.status.code(), Some(1), "{scan:?}");
    let program = patient.sandbox.session_file("ccl-auto-0", "cooldown");
    assert!(program.exists());
    // That of a limit is not the program's.
    let limit = patient.sandbox.session_file("ccl-auto-1", "cooldown");
    let marker = fs::read_to_string(&program).unwrap();
    fs::write(&limit, marker.replace("\"of_program\":true", "\"of_program\":false")).unwrap();
    patient.fault();
    assert!(program.exists() && limit.exists());

    let command = ["my-claude", "--dangerously-skip-permissions"];
    patient.sandbox.config("agent", json!({"command": command}));
    let (checks, well) = patient.examine();
    assert!(well, "{checks:#?}");
    let ended = checks.iter().find(|(check, ..)| check == "cooldown").unwrap();
    assert!(ended.2.contains("the cooldown of ccl-auto-0 is over"), "{ended:?}");
    assert!(!program.exists() && limit.exists());
}

/// Which one of several agents was missing is what counts.
#[test]
fn a_cooldown_ends_where_the_program_of_its_own_agent_is_found() {
    let mut patient = Patient::new();
    let good = json!(["my-claude", "--dangerously-skip-permissions"]);
    let missing = |name: &str| json!({"kind": "command", "command": [name]});
    patient.sandbox.config("agent", Value::Null);
    patient
        .sandbox
        .config("agents", json!({"claude": {"command": good}, "codex": missing("no-such-codex")}));
    patient.project.drop_task("a.md", "---\nagent: codex\n---\nDo it.\n");
    let scan = patient.sandbox.ccl(["scan"]).output().unwrap();
    assert_eq!(scan.status.code(), Some(1), "{scan:?}");
    let cooldown = patient.sandbox.session_file("ccl-auto-0", "cooldown");
    assert!(cooldown.exists());
    patient.fault();
    assert!(cooldown.exists(), "codex is still missing");

    // Now the first agent is missing, and the second one is there.
    patient.sandbox.config(
        "agents",
        json!({"claude": {"command": ["no-such-claude"]}, "codex": missing("my-claude")}),
    );
    let fault = patient.fault();
    assert!(fault.contains("no-such-claude"), "{fault}");
    assert!(!cooldown.exists(), "codex is there");
}
