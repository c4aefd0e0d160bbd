//! Which sessions are free.

use std::fs;

use ccl::config::{Config, Overrides};
use ccl::environment::Environment;
use ccl::log::{Level, Log, Style};
use ccl::session::{Pool, Session};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::support::wait::poll;
use crate::support::{PATIENCE, Sandbox, TmuxServer};
use crate::{SHELLS, agent, tmux_of};

/// How often a session that is not free is looked at: one look may hit a lucky moment.
const LOOKS: usize = 10;

/// A pool of the sessions `s-0`, `s-1` …
struct Sessions {
    sandbox: Sandbox,
    tmux: TmuxServer,
    max: usize,
}

impl Sessions {
    fn new(max: usize) -> Self {
        let mut sandbox = Sandbox::new();
        let tmux = sandbox.tmux();
        let pool = json!({"autonomous": {"prefix": "s-", "max": max, "create": false}});
        sandbox.config("pool", pool);
        Self { sandbox, tmux, max }
    }

    /// A session with a shell that has drawn its prompt; the pane's id.
    fn shell(&self, nth: usize, shell: &str) -> String {
        self.tmux.new_session(&format!("s-{nth}"), &["env", shell])
    }

    /// What one pass finds: the free sessions, and whether each can be locked for a task.
    fn look<T>(&self, ask: impl FnOnce(&Pool<'_>) -> T) -> T {
        let environment = Environment::of([("HOME", self.sandbox.home())], self.sandbox.path());
        let config = Some(self.sandbox.config_file());
        let overrides = Overrides { config, ..Overrides::default() };
        let config = Config::load(&overrides, &environment).unwrap();
        let log = Log::new(Level::Debug, Style::Plain, Box::new(std::io::sink()));
        let pool = Pool::read(&config, &log, Timestamp::now()).unwrap();
        // A shell that has drawn its prompt may still start something for it, between the one look and the other.
        self.tmux.wait_until("both ways find the same", || {
            let free: Vec<_> = pool.free_names().into_iter().map(Result::unwrap).collect();
            (0..self.max).all(|nth| {
                let name = format!("s-{nth}");
                let slot = pool.try_slot(Session::new(&config.state_dir, &name)).unwrap();
                slot.is_some() == free.contains(&name)
            })
        });
        ask(&pool)
    }

    fn free(&self) -> Vec<String> {
        self.look(|pool| pool.free_names().into_iter().map(Result::unwrap).collect())
    }

    /// Waits until these sessions are free: a shell that has drawn its prompt may still start something for it.
    #[track_caller]
    fn wait_for_free(&self, names: &[String], what: &str) {
        if poll(PATIENCE, || (self.free() == names).then_some(())).is_none() {
            panic!("{what}: {names:?} are not free: {}\n{}", self.why(), self.tmux.screens());
        }
    }

    #[track_caller]
    fn assert_all_free(&self, what: &str) {
        let all: Vec<_> = (0..self.max).map(|nth| format!("s-{nth}")).collect();
        self.wait_for_free(&all, what);
    }

    #[track_caller]
    fn assert_none_free(&self, what: &str) {
        for _ in 0..LOOKS {
            assert_eq!(self.free(), [""; 0], "{what}\n{}", self.tmux.screens());
        }
    }

    fn why(&self) -> String {
        self.look(|pool| pool.why_none_is_free())
    }

    /// Waits until another process than the pane's own is in front.
    #[track_caller]
    fn wait_for_front(&self, pane: &str, what: &str) {
        let pid = self.tmux.format(pane, "#{pane_pid}");
        self.tmux.wait_until(what, || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let (_, rest) = stat.rsplit_once(") ").unwrap();
            // The terminal's foreground group, the eighth field.
            rest.split(' ').nth(5).is_some_and(|front| front != pid)
        });
    }
}

#[test]
fn a_shell_that_waits_is_free_whatever_stands_behind_its_prompt() {
    let sessions = Sessions::new(SHELLS.len());
    let panes: Vec<_> =
        SHELLS.iter().enumerate().map(|(nth, shell)| sessions.shell(nth, shell)).collect();
    let all_free = |what: &str| {
        // What a shell runs for its prompt may be in front for a moment.
        sessions.tmux.wait_until(what, || sessions.free().len() == SHELLS.len());
    };
    all_free("at the prompt");
    for pane in &panes {
        sessions.tmux.type_line(pane, "sleep 1000 &");
        sessions.tmux.send_keys(pane, &["rm -rf half"]);
        sessions.tmux.wait_for_text(pane, "half");
    }
    all_free("with half a line, and a program in the background");
    for pane in &panes {
        sessions.tmux.run(&["copy-mode", "-t", pane]);
    }
    all_free("in copy mode");
}

#[test]
fn a_program_in_front_makes_a_session_busy_in_every_shell() {
    let programs = [
        "sleep 1000",
        "cat",
        "sh -c 'stty raw -echo; exec cat'",
        "sh -c 'read x'",
        "bash -c 'read -n1 x; :'",
        "bash --norc",
        "vi",
    ];
    let sessions = Sessions::new(SHELLS.len() * programs.len());
    for (row, shell) in SHELLS.iter().enumerate() {
        for (column, program) in programs.iter().enumerate() {
            let pane = sessions.shell(row * programs.len() + column, shell);
            sessions.tmux.type_line(&pane, program);
            sessions.wait_for_front(&pane, &format!("{shell}: {program}"));
        }
    }
    sessions.assert_none_free("a program in front");
    let why = sessions.why();
    for (session, program) in [(0, "sleep"), (1, "cat"), (5, "bash"), (6, "vi")] {
        assert!(why.contains(&format!("s-{session} is busy: `{program}")), "{why}");
    }
}

#[test]
fn a_suspended_program_does_not_keep_its_session() {
    let sessions = Sessions::new(1);
    let pane = sessions.shell(0, "bash");
    sessions.tmux.type_line(&pane, "cat");
    sessions.wait_for_front(&pane, "cat");
    sessions.assert_none_free("cat in front");
    sessions.tmux.send_keys(&pane, &["C-z"]);
    sessions.tmux.wait_until("the shell is back", || sessions.free() == ["s-0"]);
    sessions.tmux.type_line(&pane, "fg");
    sessions.wait_for_front(&pane, "cat again");
    sessions.assert_none_free("cat in front again");
}

#[test]
fn every_window_and_every_pane_of_a_session_counts() {
    let sessions = Sessions::new(1);
    let tmux = &sessions.tmux;
    sessions.shell(0, "bash");
    for (open, what) in [("new-window", "a second window"), ("split-window", "a second pane")] {
        let args = [open, "-d", "-t", "=s-0:", "-P", "-F", "#{pane_id}", "--", "env", "bash"];
        let pane = tmux.run(&args).trim().to_owned();
        tmux.wait_for_text(&pane, "$");
        sessions.assert_all_free(&format!("a shell in {what}"));
        tmux.type_line(&pane, "cat");
        sessions.wait_for_front(&pane, what);
        sessions.assert_none_free(&format!("a program in {what}"));
        assert!(sessions.why().contains(&pane), "{}", sessions.why());
        tmux.send_keys(&pane, &["C-c"]);
        tmux.wait_until("the shell is back", || sessions.free() == ["s-0"]);
    }
    // What another session links into it is in it, too.
    let other = tmux.new_session("other", &["env", "bash"]);
    tmux.run(&["link-window", "-d", "-s", &other, "-t", "=s-0:"]);
    sessions.assert_all_free("a linked window");
    tmux.type_line(&other, "cat");
    sessions.wait_for_front(&other, "a linked window");
    sessions.assert_none_free("a program in a linked window");
}

#[test]
fn a_dead_pane_does_not_make_a_session_busy() {
    let sessions = Sessions::new(1);
    let tmux = &sessions.tmux;
    sessions.shell(0, "bash");
    tmux.run(&["set-option", "-g", "remain-on-exit", "on"]);
    tmux.run(&["new-window", "-t", "=s-0:", "--", "env", "false"]);
    tmux.wait_until("it is dead", || tmux.format("=s-0:", "#{pane_dead}") == "1");
    sessions.assert_all_free("a person's dead pane");
    let pane = agent(tmux, "s-0", Uuid::new_v4(), "echo up");
    let is_dead = || tmux.format(pane.id.as_str(), "#{pane_dead}") == "1";
    tmux.wait_until("the agent has ended", is_dead);
    sessions.assert_all_free("the dead pane of an agent that nobody knows");
    // That one is closed: its run is over. The person's stays.
    let panes = tmux.run(&["list-panes", "-s", "-t", "=s-0:", "-F", "#{pane_id}"]);
    assert_eq!(panes.lines().count(), 2, "{panes}");
    assert!(!panes.lines().any(|id| id == pane.id.as_str()), "{panes}");
}

#[test]
fn the_window_of_an_unknown_run_makes_a_session_busy() {
    let sessions = Sessions::new(2);
    sessions.shell(0, "bash");
    sessions.shell(1, "bash");
    let run = Uuid::new_v4();
    let pane = agent(&sessions.tmux, "s-0", run, "echo up; while read line; do :; done");
    sessions.wait_for_free(&["s-1".to_owned()], "beside the unknown run");
    let why = sessions.why();
    assert!(why.contains(&format!("unknown run {run}")), "{why}");
    let tmux = sessions.tmux.command().join(" ");
    let command = format!("`{tmux} kill-pane -t {}`", pane.id);
    assert!(why.contains(&command), "{why}");
    // Whoever does as it says has it free.
    tmux_of(&sessions.tmux).close_pane(&pane.id, run).unwrap();
    sessions.assert_all_free("once it is closed");
}

#[test]
fn a_session_that_is_not_there_is_free_only_where_it_may_be_made() {
    let mut sessions = Sessions::new(2);
    // Their names begin alike.
    sessions.tmux.new_session("s-10", &[]);
    sessions.shell(0, "bash");
    sessions.wait_for_free(&["s-0".to_owned()], "where no session is made");
    sessions.sandbox.config("pool", json!({"autonomous": {"create": true}}));
    sessions.assert_all_free("where sessions may be made");
    assert_eq!(sessions.tmux.sessions(), ["s-0", "s-10"]);
}
