//! `ccl status --watch` on a real terminal.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{Sandbox, TmuxServer};

struct Watched {
    sandbox: Sandbox,
    terminal: TmuxServer,
    pane: String,
}

impl Watched {
    fn new() -> Self {
        Self::under("")
    }

    /// Words stand before `ccl` that run it.
    fn under(wrapper: &str) -> Self {
        Self::of(Sandbox::new(), wrapper)
    }

    fn of(mut sandbox: Sandbox, wrapper: &str) -> Self {
        sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
        sandbox.project("web");
        let terminal = TmuxServer::start();
        let pane = terminal.new_session("look", &[]);
        let watched = Self { sandbox, terminal, pane };
        watched.start(wrapper);
        watched
    }

    fn start(&self, wrapper: &str) {
        let line = format!(
            "clear; env HOME={} {wrapper} {} --config {} status --watch; echo en''d $?",
            self.sandbox.home().display(),
            env!("CARGO_BIN_EXE_ccl"),
            self.sandbox.config_file().display()
        );
        self.terminal.type_line(&self.pane, &line);
        self.terminal.wait_for_text(&self.pane, "q ends");
    }

    /// What the terminal takes for this special character.
    fn key_of(&self, name: &str) -> String {
        let tty = self.terminal.format(&self.pane, "#{pane_tty}");
        let out = std::process::Command::new("stty").args(["-a", "-F", &tty]).output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        let keys = said.split(['\n', ';']).filter_map(|part| part.trim().split_once(" = "));
        keys.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect()
    }

    /// Waits until the terminal is the shell's again. Its keys come last: what is typed before is thrown away.
    fn wait_for_shell(&self) {
        self.terminal.wait_until("the shell has its screen", || {
            self.mode() == "0 1" && self.key_of("susp") == "^Z"
        });
    }

    fn mode(&self) -> String {
        self.terminal.format(&self.pane, "#{alternate_on} #{cursor_flag}")
    }
}

#[test]
fn it_draws_again_by_itself_and_leaves_the_terminal_as_it_was() {
    let watched = Watched::new();
    let Watched { sandbox, terminal, pane } = &watched;
    assert_eq!(watched.mode(), "1 0");
    // What would go to standard error stands below.
    terminal.wait_for_text(pane, "there is no program `/nonexistent/tmux`");
    let inbox = sandbox.projects_dir().join("web/.agent-queue/inbox");
    fs::write(inbox.join("new-one.md"), "Do it.\n").unwrap();
    terminal.wait_for_text(pane, "new-one.md");
    terminal.run(&["send-keys", "-t", pane, "q"]);
    terminal.wait_for_text(pane, "end 0");
    assert_eq!(watched.mode(), "0 1");
    // Typing is shown again.
    terminal.type_line(pane, "echo ty''ped");
    terminal.wait_for_text(pane, "echo ty''ped");

    watched.start("");
    terminal.run(&["send-keys", "-t", pane, "C-c"]);
    terminal.wait_for_text(pane, "end 0");
    assert_eq!(watched.mode(), "0 1");
}

/// How the agents stand decides where a waiting task goes, and that changes while somebody watches.
#[test]
fn a_hold_that_ends_meanwhile_changes_where_a_task_goes() {
    let mut sandbox = Sandbox::new();
    sandbox.config("failover", json!(["claude", "secutools"]));
    let now = Timestamp::now();
    let until = now + SignedDuration::from_hours(9);
    let hold = json!({"version": 1, "host": "h", "at": now, "until": until, "model": null, "cause": "limit",
                      "reason": "the limit", "since": now, "tries": 1, "has_reset": false});
    let agents = sandbox.state_dir().join("agents");
    fs::create_dir_all(&agents).unwrap();
    fs::write(agents.join("claude.hold"), hold.to_string()).unwrap();
    let fields = "allow_delegation: true\npreferred_ai: claude-code\ncomplexity_hint: medium";
    sandbox.project("web").drop_task("t.md", format!("---\n{fields}\n---\nDo it.\n"));
    let key = "SECUTOOLS_URL=http://127.0.0.1:9 SECUTOOLS_API_KEY=key";
    let watched = Watched::of(sandbox, key);
    let Watched { terminal, pane, .. } = &watched;
    terminal.wait_for_text(pane, "gemini");
    fs::remove_file(agents.join("claude.hold")).unwrap();
    terminal.wait_until("it goes to the agent here", || {
        let shown = terminal.capture(pane);
        shown.contains("t.md") && !shown.contains("gemini")
    });
}

#[test]
fn after_ctrl_z_the_shell_has_its_terminal_and_fg_watches_on() {
    let watched = Watched::new();
    let Watched { terminal, pane, .. } = &watched;
    for _ in 0..2 {
        // As a signal it would stop what `ccl` is just starting, and with that `ccl`, where no shell sees it.
        terminal.wait_until("C-z is a key", || watched.key_of("susp") == "<undef>");
        terminal.run(&["send-keys", "-t", pane, "C-z"]);
        watched.wait_for_shell();
        // It echoes what is typed, and reads whole lines.
        terminal.type_line(pane, "jobs; echo sh''ell");
        terminal.wait_for_text(pane, "shell");
        terminal.wait_for_text(pane, "Stopped");
        terminal.wait_for_text(pane, "echo sh''ell");
        terminal.type_line(pane, "clear; fg");
        terminal.wait_until("it watches again", || watched.mode() == "1 0");
        terminal.wait_for_text(pane, "q ends");
    }
    // One key, without Enter.
    terminal.run(&["send-keys", "-t", pane, "q"]);
    terminal.wait_until("it has ended", || watched.mode() == "0 1");
    terminal.type_line(pane, "jobs; echo af''ter");
    let shown = terminal.wait_for_text(pane, "after");
    assert!(shown.contains("echo af''ter"), "what is typed is shown: {shown}");
}

#[test]
fn c_z_while_a_program_is_being_started_does_not_stop_that_alone() {
    // What `ccl` starts, a tmux that is not there, stands for a while just before it leaves the group of `ccl`.
    let slow =
        "strace -DD -f -qq -o /dev/null -e trace=setpgid -e inject=setpgid:delay_enter=1000000";
    let watched = Watched::under(slow);
    let Watched { terminal, pane, .. } = &watched;
    terminal.run(&["send-keys", "-t", pane, "C-z"]);
    watched.wait_for_shell();
    terminal.type_line(pane, "fg");
    // Then it draws at once, and before that it looks for a tmux.
    terminal.wait_until("it watches again", || watched.mode() == "1 0");
    terminal.run(&["send-keys", "-t", pane, "C-z"]);
    watched.wait_for_shell();
}

#[test]
fn a_script_that_runs_it_stops_with_it() {
    let watched = Watched::under(r#"sh -c '"$@"; true' sh"#);
    let Watched { terminal, pane, .. } = &watched;
    for _ in 0..2 {
        terminal.run(&["send-keys", "-t", pane, "C-z"]);
        watched.wait_for_shell();
        terminal.type_line(pane, "clear; jobs; echo sh''ell");
        let shown = terminal.wait_for_text(pane, "shell");
        assert!(shown.contains("Stopped"), "{shown}");
        terminal.type_line(pane, "fg");
        terminal.wait_until("it watches again", || watched.mode() == "1 0");
        terminal.wait_for_text(pane, "q ends");
    }
}

#[test]
fn one_that_stands_still_is_ended_by_its_shell() {
    for before in ["", "bg; "] {
        let watched = Watched::new();
        let Watched { terminal, pane, .. } = &watched;
        terminal.run(&["send-keys", "-t", pane, "C-z"]);
        watched.wait_for_shell();
        let end = "kill %1; while kill -0 $p 2>/dev/null; do sleep .02; done; echo go''ne";
        terminal.type_line(pane, &format!("p=$(jobs -p); {before}{end}"));
        terminal.wait_for_text(pane, "gone");
        assert_eq!(watched.mode(), "0 1");
    }
}

#[test]
fn on_a_narrow_terminal_no_line_wraps() {
    let watched = Watched::new();
    let Watched { terminal, pane, .. } = &watched;
    for (columns, rows) in [("30", "12"), ("20", "5"), ("10", "2"), ("200", "50"), ("36", "6")] {
        terminal.run(&["resize-window", "-t", pane, "-x", columns, "-y", rows]);
        terminal.wait_until("it is drawn in this size", || {
            let shown = terminal.capture(pane);
            let lines: Vec<&str> = shown.trim_end().lines().collect();
            // The heading is the first line, and `q ends` the last one.
            let first = lines
                .first()
                .is_some_and(|line| line.starts_with("NEEDS") || line.starts_with("SESSION"));
            first && lines.last().is_some_and(|line| line.starts_with("q ends"))
        });
    }
}

#[test]
fn what_does_not_fit_is_counted() {
    let watched = Watched::new();
    let Watched { sandbox, terminal, pane } = &watched;
    let inbox = sandbox.projects_dir().join("web/.agent-queue/inbox");
    for number in 0..19 {
        fs::write(inbox.join(format!("t{number}.md")), "Do it.\n").unwrap();
    }
    terminal.run(&["resize-window", "-t", pane, "-x", "80", "-y", "12"]);
    terminal.wait_for_text(pane, "q ends; ");
    terminal.run(&["send-keys", "-t", pane, "q"]);
    terminal.wait_for_text(pane, "end 0");
}

#[test]
fn without_a_terminal_and_with_another_form_it_is_wrong_usage() {
    let sandbox = Sandbox::new();
    for args in [&["status", "--watch"][..], &["status", "--watch", "--json"]] {
        let out = sandbox.ccl(args).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains("--watch"), "{said}");
    }
}
