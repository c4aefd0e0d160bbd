//! What runs in a window is ended for its own run only.

use std::fs;
use std::time::{Duration, Instant};

use ccl::process::{self, Ended, stat, terminate, terminate_all};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::support::{PATIENCE, TmuxServer};
use crate::{SHELLS, agent, open, tmux_of, with_startup_file};

/// Long enough to be told from no grace, short enough for a test.
const GRACE: Duration = Duration::from_millis(300);

fn lives(pid: Pid) -> bool {
    stat(pid).unwrap().is_some_and(|process| process.is_alive())
}

/// A server with a person's session `s`, and the process in it.
fn server() -> (TmuxServer, Pid) {
    let server = TmuxServer::start();
    let pane = server.new_session_unready("s", &["sleep", "1000"]);
    let pid = server.format(&pane, "#{pane_pid}").parse().unwrap();
    (server, Pid::from_raw(pid).unwrap())
}

/// The processes that a script has noted in `NAME` in HOME, a line each.
fn noted(server: &TmuxServer, name: &str, count: usize) -> Vec<Pid> {
    server.wait_for(name, || {
        let text = fs::read_to_string(server.home().join(name)).ok()?;
        let lines: Vec<_> = text.lines().collect();
        let pid = |line: &&str| line.parse().ok().and_then(Pid::from_raw);
        (lines.len() == count).then(|| lines.iter().filter_map(pid).collect())
    })
}

#[test]
fn an_agent_is_ended_only_for_its_own_run() {
    let (server, persons) = server();
    let (run, other) = (Uuid::new_v4(), Uuid::new_v4());
    let body = "echo up; while :; do sleep 1000; done";
    let pane = agent(&server, "s", run, body);
    let others = agent(&server, "s", other, body);
    let unknown = Uuid::new_v4();
    for leader in [None, Some(pane.pid), Some(persons)] {
        assert_eq!(terminate(unknown, leader, PATIENCE).unwrap(), Ended::NotThere);
    }
    assert!([pane.pid, others.pid, persons].map(lives) == [true; 3]);

    assert_eq!(terminate(run, Some(pane.pid), PATIENCE).unwrap(), Ended::Terminated);
    assert!([pane.pid, others.pid, persons].map(lives) == [false, true, true]);
    assert_eq!(terminate(run, Some(pane.pid), PATIENCE).unwrap(), Ended::NotThere);
    // Its window keeps the screen until it is closed.
    let screen = tmux_of(&server).capture_last(&pane.id).unwrap();
    assert!(screen.contains("up\n"), "{screen}");

    // Its number may be another process's by now, or not be known at all: it is found wherever it is.
    assert_eq!(terminate(other, Some(persons), PATIENCE).unwrap(), Ended::Terminated);
    assert!([others.pid, persons].map(lives) == [false, true]);
    let lost = agent(&server, "s", run, body);
    assert_eq!(terminate(run, None, PATIENCE).unwrap(), Ended::Terminated);
    assert!([lost.pid, persons].map(lives) == [false, true]);
}

#[test]
fn an_agent_whose_window_was_closed_is_found_and_ended() {
    let (server, _) = server();
    let run = Uuid::new_v4();
    let pane = agent(&server, "s", run, "trap '' HUP; echo up; while :; do sleep 1; done");
    tmux_of(&server).close_pane(&pane.id, run).unwrap();
    assert!(lives(pane.pid));
    assert_eq!(terminate(run, Some(pane.pid), PATIENCE).unwrap(), Ended::Terminated);
    assert!(!lives(pane.pid));
}

#[test]
fn an_agent_that_ignores_sigterm_is_killed_after_its_grace() {
    let (server, persons) = server();
    for body in [
        "trap '' TERM; echo up; while :; do sleep 1000; done",
        // Its whole group, wherever in it the deaf one is.
        "sh -c 'trap \"\" HUP TERM; echo up; while :; do sleep 1000; done'; :",
    ] {
        let run = Uuid::new_v4();
        let pane = agent(&server, "s", run, body);
        let start = Instant::now();
        assert_eq!(terminate(run, Some(pane.pid), GRACE).unwrap(), Ended::Killed, "{body}");
        assert!(start.elapsed() >= GRACE, "{body}");
        assert!(!lives(pane.pid) && lives(persons), "{body}");
        assert!(!process::carries_run(pane.pid, run).unwrap(), "{body}");
    }
}

/// tmux lets the process of a window go on that was stopped; what that has started stays stopped.
#[test]
fn what_is_stopped_is_ended() {
    let (server, _) = server();
    for (trap, ended) in [("", Ended::Terminated), ("trap '' HUP TERM; ", Ended::Killed)] {
        let run = Uuid::new_v4();
        let body = format!(
            "{trap}sh -c 'echo $$ > stopped; kill -STOP $$; while :; do sleep 1; done' & echo up; wait; wait"
        );
        let pane = agent(&server, "s", run, &body);
        let child = noted(&server, "stopped", 1)[0];
        server.wait_until("it is stopped", || {
            stat(child).unwrap().is_some_and(|process| process.state == 'T')
        });
        assert_eq!(terminate(run, Some(pane.pid), GRACE).unwrap(), ended, "{trap}");
        assert!([pane.pid, child].map(lives) == [false; 2], "{trap}");
        fs::remove_file(server.home().join("stopped")).unwrap();
    }
}

/// tmux names a window's process before that has become the window's shell, and any process is between two programs
/// for a moment: it must not be taken for one that has ended.
#[test]
fn a_window_whose_process_is_not_yet_what_it_is_to_be_lives() {
    let (server, _) = server();
    let run = Uuid::new_v4();
    // A bash that has forked stands in for tmux.
    let body = "(while :; do read -t 1000 x < <(sleep 1000); done) & echo $! >> children\n\
        env -i sleep 1000 & echo $! >> children\n\
        sleep 1000 & echo $! >> children\n\
        CCL_RUN=$1 sleep 1000 & echo $! >> children\n\
        wait";
    let body = format!("exec env -u CCL_RUN bash -c '{}' bash {run}", body.replace('\'', "\""));
    let parent = open(&server, "s", "bash", Uuid::new_v4(), &body).pid;
    let children = noted(&server, "children", 4);
    // A program's name is there before its environment is.
    let environ = |pid: Pid| fs::read(format!("/proc/{}/environ", pid.as_raw_pid())).unwrap();
    let runs = |pid: Pid, program: &str| {
        let exe = fs::read_link(format!("/proc/{}/exe", pid.as_raw_pid()));
        exe.is_ok_and(|exe| exe.ends_with(program))
    };
    server.wait_until("all are what they are to be", || {
        let names = ["bash", "sleep", "sleep", "sleep"];
        children.iter().zip(names).all(|(pid, name)| runs(*pid, name))
            && environ(children[1]).is_empty()
            && !environ(children[2]).is_empty()
            && process::process_carries(children[3], run).unwrap()
    });
    let lives_of = |server| {
        let lives = |pid: &Pid| process::window_lives(*pid, server, run).unwrap();
        children.iter().map(lives).collect::<Vec<_>>()
    };
    assert_eq!(lives_of(Some(parent)), [true, false, false, true]);
    // Of another server, or of one that nobody knows, only what carries the run.
    let of_run = [false, false, false, true];
    assert_eq!((lives_of(None), lives_of(Some(children[2]))), (of_run.to_vec(), of_run.to_vec()));
    kill_process(parent, Signal::KILL).unwrap();
    for pid in &children {
        kill_process(*pid, Signal::KILL).unwrap();
    }
    server.wait_until("all are gone", || !children.iter().any(|pid| lives(*pid)));
    assert_eq!(lives_of(Some(parent)), [false; 4]);
}

/// An interactive shell ignores SIGTERM; the end of its terminal it does not ignore.
#[test]
fn a_shell_that_reads_its_startup_files_is_gone_once_its_window_is_closed() {
    for shell in SHELLS {
        for hangs in ["sleep 1000", "read answer"] {
            let server = with_startup_file(shell, &format!("echo reading\n{hangs}\n"));
            server.new_session_unready("s", &["sleep", "1000"]);
            let run = Uuid::new_v4();
            let pane = open(&server, "s", shell, run, "echo the agent >> ran");
            server.wait_for_text(pane.id.as_str(), "reading");
            assert!(process::process_carries(pane.pid, run).unwrap());
            tmux_of(&server).close_pane(&pane.id, run).unwrap();
            server
                .wait_until(&format!("{shell}, {hangs}: the shell has gone"), || !lives(pane.pid));
            // What it waits for may outlive it: a zsh hands no SIGHUP on to what it is just starting.
            terminate_all(run, Some(pane.pid), GRACE).unwrap();
            assert!(!server.processes().iter().any(|pid| process::is_of_run(*pid, run)));
            assert!(!server.home().join("ran").exists(), "{shell}, {hangs}");
        }
    }
}

#[test]
fn a_shell_that_outlives_its_window_is_ended_too() {
    for shell in SHELLS {
        let deaf = match shell {
            "fish" => "function deaf --on-signal HUP --on-signal TERM; end\n",
            _ => "trap '' HUP TERM\n",
        };
        let hangs = "echo reading\nwhile true\nsleep 0.1\n";
        let done = if shell == "fish" { "end\n" } else { "done\n" };
        let hangs =
            if shell == "fish" { hangs.to_owned() } else { hangs.replace("true", "true; do") };
        let server = with_startup_file(shell, &format!("{deaf}{hangs}{done}"));
        server.new_session_unready("s", &["sleep", "1000"]);
        let run = Uuid::new_v4();
        let pane = open(&server, "s", shell, run, "echo the agent >> ran");
        server.wait_for_text(pane.id.as_str(), "reading");
        tmux_of(&server).close_pane(&pane.id, run).unwrap();
        // With its ticket gone, the script would start nothing.
        terminate(run, Some(pane.pid), GRACE).unwrap();
        assert!(!lives(pane.pid), "{shell}");
    }
}

/// Notes its number in `tools`, and does what `what` says for ever.
fn tool(what: &str) -> String {
    format!("sh -c '{what}echo $$ >> tools; while :; do echo x >> written; sleep 0.05; done'")
}

#[test]
fn what_a_failed_attempt_has_started_is_ended_wherever_it_is() {
    let (server, persons) = server();
    let (run, other) = (Uuid::new_v4(), Uuid::new_v4());
    let others = agent(&server, "s", other, "setsid sleep 1000 & echo $! > other; echo up; wait");
    let others = [noted(&server, "other", 1)[0], others.pid];
    let kinds = [
        format!("{} &", tool("")),
        format!("setsid {} &", tool("")),
        // Its parent has gone.
        format!("(setsid {} &)", tool("")),
        format!("setsid {} &", tool("trap \"\" HUP TERM; ")),
        // It goes on only where somebody lets it.
        format!(
            "setsid sh -c {} &",
            shlex::try_quote("echo $$ >> tools; kill -STOP $$; sleep 1000").unwrap()
        ),
        // In the environment of its own.
        format!("setsid env -i CCL_RUN=$CCL_RUN PATH=$PATH {} &", tool("")),
    ];
    let body = format!("{}\necho up\nwait\n", kinds.join("\n"));
    let pane = agent(&server, "s", run, &body);
    let tools = noted(&server, "tools", kinds.len());
    server.wait_until("one is stopped", || {
        tools.iter().any(|pid| stat(*pid).unwrap().is_some_and(|process| process.state == 'T'))
    });
    terminate_all(run, Some(pane.pid), GRACE).unwrap();
    assert!(!lives(pane.pid));
    let left: Vec<_> = tools.iter().filter(|pid| lives(**pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!server.processes().iter().any(|pid| process::is_of_run(*pid, run)));
    assert!(others.map(lives) == [true; 2] && lives(persons));
    // Nobody writes any more.
    let written = fs::read(server.home().join("written")).unwrap();
    assert!(!written.is_empty());

    // The agent itself may have gone long before.
    fs::remove_file(server.home().join("tools")).unwrap();
    let body = format!("setsid {} & until [ -s tools ]; do sleep 0.02; done; echo up", tool(""));
    let pane = agent(&server, "s", run, &body);
    server.wait_until("the agent has gone", || !lives(pane.pid));
    let tools = noted(&server, "tools", 1);
    assert!(lives(tools[0]));
    terminate_all(run, Some(pane.pid), GRACE).unwrap();
    assert!(!lives(tools[0]));
    terminate_all(run, Some(pane.pid), GRACE).unwrap();
}
