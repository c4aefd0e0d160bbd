//! The table of crashes: every state that a killed process can leave, made by hand, and one pass over it.

use std::fs;

use ccl::config::AgentKind;
use ccl::marker::{
    self, AgentPane, ClaimMarker, Dispatched, Phase, Round, Server, Stamp, StartedAgent, Work,
};
use ccl::owner;
use ccl::tmux::{NewPane, NewWindow, Tmux};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::support::Project;
use super::world::{World, ending, kill, lives};

const TEXT: &str = "---\ntitle: T\n---\nDo it.\n";

/// One session with a marker, and the task it points to.
struct Left {
    session: String,
    project: Project,
    run: Uuid,
    claim: ClaimMarker,
}

impl Left {
    /// A session of the pool, its marker, and a claimed task in `phase`.
    fn stage(world: &World, index: usize, phase: Phase) -> Self {
        Self::in_session(world, &format!("ccl-auto-{index}"), phase)
    }

    fn in_session(world: &World, session: &str, phase: Phase) -> Self {
        world.tmux.new_session(session, &[]);
        let project = world.project(&format!("of-{session}"));
        let run = Uuid::new_v4();
        let stamp = Stamp::new("test-host", Timestamp::now());
        let dispatched = Dispatched {
            stamp: stamp.clone(),
            project: project.root().to_owned(),
            task: "a.md".to_owned(),
            run,
            // A pass was killed before it noted the window, if there is one.
            pane: None,
        };
        let claim = ClaimMarker {
            stamp,
            owner: owner::ensure(&world.sandbox.state_dir()).unwrap(),
            session: session.to_owned(),
            run,
            phase,
            attempt: 1,
            started_at: Timestamp::now(),
            agent: StartedAgent {
                name: None,
                claude_dir: None,
                kind: AgentKind::Command,
                model: None,
                session: None,
                transcript_from: 0,
            },
            work: Work::default(),
        };
        let path = world.session_file(session, "dispatched");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        marker::write(&path, &dispatched).unwrap();
        let left = Self { session: session.to_owned(), project, run, claim };
        left.write_claim();
        fs::write(left.inbox("a.md.dispatched"), TEXT).unwrap();
        left
    }

    fn inbox(&self, name: &str) -> std::path::PathBuf {
        self.project.queue("inbox").join(name)
    }

    fn write_claim(&self) {
        marker::write(&self.inbox(".a.md.claim"), &self.claim).unwrap();
    }

    fn file(&self, world: &World, kind: &str, text: &str) {
        fs::write(world.session_file(&self.session, kind), text).unwrap();
    }

    /// Starts what carries the run in a window of the session, as a dispatch does; returns the window's pane.
    fn start_agent(&self, world: &World) -> NewPane {
        let home = world.sandbox.home();
        let script = home.join(format!("{}.sh", self.session));
        fs::write(&script, "CCL_PID=$$ exec sleep 1000\n").unwrap();
        let window = NewWindow {
            session: &self.session,
            name: "a.md",
            run: self.run,
            script: &script,
            shell: "/bin/bash".as_ref(),
            cwd: &home,
        };
        let pane = Tmux::new(world.tmux.command()).new_window(&window).unwrap();
        world.tmux.wait_until("the agent starts", || {
            let name = fs::read_to_string(format!("/proc/{}/comm", pane.pid.as_raw_pid()));
            name.is_ok_and(|name| name == "sleep\n")
        });
        pane
    }

    /// Notes the pane in the session's marker, as a pass does that lives long enough.
    fn note(&self, world: &World, pane: &NewPane) {
        let path = world.session_file(&self.session, "dispatched");
        let mut marker: Dispatched = marker::read(&path).unwrap().unwrap();
        let server = Server { pid: pane.server, socket: pane.socket.clone() };
        marker.pane = Some(AgentPane { id: pane.id.clone(), pid: pane.pid, server: Some(server) });
        marker::write(&path, &marker).unwrap();
    }

    fn end_with(&self, outcome: &str, attempt: u32) {
        let line =
            json!({"run": self.run, "outcome": outcome, "attempt": attempt, "reason": "noted"});
        let text = format!("{TEXT}\n<!-- ccl {line} -->\n");
        fs::write(self.inbox("a.md.dispatched"), text).unwrap();
    }

    fn has_marker(&self, world: &World) -> bool {
        world.session_file(&self.session, "dispatched").exists()
    }
}

#[test]
fn every_row_of_the_table_is_set_right_by_one_pass() {
    let world = World::commands(17);
    let stage = |index, phase| Left::stage(&world, index, phase);

    let no_claim = stage(0, Phase::Working);
    fs::remove_file(no_claim.inbox(".a.md.claim")).unwrap();
    let orphan = no_claim.start_agent(&world);
    no_claim.note(&world, &orphan);
    let orphan = orphan.pid.as_raw_pid();

    let mut another_run = stage(1, Phase::Working);
    another_run.claim.run = Uuid::new_v4();
    another_run.write_claim();

    let claimed = stage(2, Phase::Claimed);
    let released_before = json!({"run": Uuid::new_v4(), "outcome": "released", "attempt": 1});
    let with_attempt = format!("{TEXT}\n<!-- ccl {released_before} -->\n");
    fs::write(claimed.inbox("a.md.dispatched"), &with_attempt).unwrap();

    let not_started = stage(3, Phase::Launching);
    for kind in ["ticket", "run", "prompt"] {
        not_started.file(&world, kind, "");
    }

    let started = stage(4, Phase::Launching);
    let agent = started.start_agent(&world);
    started.note(&world, &agent);
    let agent = agent.pid.as_raw_pid();

    // Killed between the opening of the window and the note of its pane: with an agent, and with one that has ended.
    let unnoted = stage(15, Phase::Launching);
    let unnoted_agent = unnoted.start_agent(&world).pid.as_raw_pid();
    let unnoted_end = stage(16, Phase::Launching);
    kill("-KILL", unnoted_end.start_agent(&world).pid.as_raw_pid());
    world.wait_for_end("ccl-auto-16");

    let ended = stage(5, Phase::Launching);
    ended.file(&world, "exit", &format!("{} 0\n", ended.run));

    let vanished = stage(6, Phase::Launching);

    let noted: Vec<Left> = ["done", "failed", "released"]
        .iter()
        .enumerate()
        .map(|(index, outcome)| {
            let left = stage(7 + index, Phase::Working);
            left.end_with(outcome, 2);
            left
        })
        .collect();

    let no_task = stage(10, Phase::Working);
    fs::remove_file(no_task.inbox("a.md.dispatched")).unwrap();

    // Killed between the claim and the rename.
    let waits = stage(11, Phase::Claimed);
    fs::rename(waits.inbox("a.md.dispatched"), waits.inbox("a.md")).unwrap();

    // Killed between filing the task and removing the session's marker.
    let filed = stage(12, Phase::Working);
    fs::rename(filed.inbox("a.md.dispatched"), filed.project.queue("done").join("a.md")).unwrap();
    fs::remove_file(filed.inbox(".a.md.claim")).unwrap();

    // Killed between filing the task and removing its claim.
    let half_filed = stage(13, Phase::Working);
    let done = half_filed.project.queue("done").join("a.md");
    fs::rename(half_filed.inbox("a.md.dispatched"), done).unwrap();

    let mut stranger = stage(14, Phase::Working);
    stranger.claim.owner = Uuid::new_v4();
    stranger.write_claim();

    let shrunk = Left::in_session(&world, "retired-7", Phase::Working);
    shrunk.file(&world, "exit", &format!("{} 0\n", shrunk.run));

    let mut dry_run = world.pass(&["reap", "--dry-run"]);
    dry_run.sort();
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.code, 0, "{pass:#?}");
    let mut events = pass.short();
    events.sort();
    assert_eq!(dry_run, events);
    assert_eq!(
        events,
        [
            "done a.md ccl-auto-5",
            "done a.md ccl-auto-7",
            "done a.md retired-7",
            "failed a.md ccl-auto-8",
            "released a.md ccl-auto-16",
            "released a.md ccl-auto-2",
            "released a.md ccl-auto-3",
            "released a.md ccl-auto-6",
            "released a.md ccl-auto-9",
        ],
        "{pass:#?}"
    );
    for left in [
        &no_claim,
        &another_run,
        &claimed,
        &not_started,
        &ended,
        &vanished,
        &unnoted_end,
        &noted[0],
        &noted[1],
        &noted[2],
        &no_task,
        &waits,
        &filed,
        &half_filed,
        &stranger,
        &shrunk,
    ] {
        assert!(!left.has_marker(&world), "{}", left.session);
        world.assert_nothing_is_left(&left.session);
    }
    assert!(!lives(orphan));
    assert_eq!(no_claim.project.inbox(), ["a.md.dispatched"]);
    assert_eq!(another_run.project.inbox(), [".a.md.claim", "a.md.dispatched"]);
    assert_eq!(stranger.project.inbox(), [".a.md.claim", "a.md.dispatched"]);
    assert_eq!(claimed.project.read("inbox/a.md"), with_attempt);
    assert_eq!(not_started.project.read("inbox/a.md"), TEXT);
    assert!(lives(agent) && started.has_marker(&world));
    assert!(lives(unnoted_agent) && unnoted.has_marker(&world));
    for left in [&started, &unnoted] {
        assert_eq!(left.project.marker("inbox/.a.md.claim")["phase"], "working");
    }
    assert_eq!(ended.project.task_places("a.md"), ["done/a.md"]);
    let interrupted = ending(&vanished.project, "inbox/a.md");
    assert_eq!((&interrupted["outcome"], &interrupted["attempt"]), (&json!("released"), &json!(1)));
    for (left, place) in noted.iter().zip(["done", "failed", "inbox"]) {
        assert_eq!(left.project.task_places("a.md"), [format!("{place}/a.md")]);
        assert_eq!(ending(&left.project, &format!("{place}/a.md"))["reason"], "noted");
        assert_eq!(left.project.read(&format!("{place}/a.md")).matches("<!-- ccl").count(), 1);
    }
    assert_eq!(no_task.project.inbox(), [""; 0]);
    assert_eq!(waits.project.inbox(), ["a.md"]);
    assert_eq!(waits.project.read("inbox/a.md"), TEXT);
    for filed in [&filed, &half_filed] {
        assert_eq!(filed.project.task_places("a.md"), ["done/a.md"]);
        assert_eq!(filed.project.inbox(), [""; 0]);
        assert_eq!(filed.project.read("done/a.md"), TEXT);
    }
    // Nothing more happens, and a session that is not the pool's any more gets no task.
    world.project("web").drop_task("b.md", "x");
    let retired = Left::in_session(&world, "retired-8", Phase::Claimed);
    assert_eq!(world.assign("retired-8"), ["released a.md retired-8"]);
    assert!(!retired.has_marker(&world));
    assert_eq!(world.tmux.capture("=retired-8:").trim(), "$");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
}

/// Killed after the ticket was written with which its agent was to go on, before that took it: nothing is released.
#[test]
fn a_round_that_never_began_is_taken_back() {
    for (round, phase) in [(Round::Red, "checking"), (Round::Conflict, "landing")] {
        let world = World::commands(1);
        let mut left = Left::stage(&world, 0, Phase::Launching);
        left.claim.work.rounds.last = Some(round);
        left.claim.work.rounds.red = 1;
        left.claim.work.rounds.conflicts = 1;
        left.write_claim();
        left.file(&world, "ticket", "");
        for pass in [&["reap", "--dry-run"][..], &["reap"]] {
            assert_eq!(world.pass(pass), [""; 0], "{pass:?}");
        }
        let claim = left.project.marker("inbox/.a.md.claim");
        assert_eq!(claim["phase"], phase);
        let rounds = &claim["rounds"];
        let taken = if round == Round::Red { &rounds["red"] } else { &rounds["conflicts"] };
        assert_eq!((taken, &rounds["last"]), (&json!(0), &json!(null)), "{rounds}");
    }
}

#[test]
fn scan_and_assign_set_right_what_was_left_and_use_the_session_at_once() {
    let world = World::commands(1);
    let left = Left::stage(&world, 0, Phase::Launching);
    left.file(&world, "ticket", "");
    assert_eq!(world.scan(), ["released a.md ccl-auto-0", "dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.assign("ccl-auto-0"), ["done a.md ccl-auto-0"]);
    assert_eq!(world.order(), ["a.md"]);
    assert_eq!(left.project.task_places("a.md"), ["done/a.md"]);

    let again = world.project("again");
    fs::write(
        again.queue("inbox").join(".b.md.claim"),
        fs::read_to_string(&{
            // A claim beside a waiting task is void, whoever's it is.
            left.write_claim();
            left.inbox(".a.md.claim")
        })
        .unwrap(),
    )
    .unwrap();
    again.drop_task("b.md", "x");
    assert_eq!(world.scan(), ["dispatched b.md ccl-auto-0"]);
}

#[test]
fn what_cannot_be_understood_is_left_alone_and_reported() {
    let world = World::commands(3);
    let unreadable = Left::stage(&world, 0, Phase::Working);
    let agent = unreadable.start_agent(&world).pid.as_raw_pid();
    fs::write(unreadable.inbox(".a.md.claim"), "{\"version\":9}").unwrap();

    let away = Left::stage(&world, 1, Phase::Working);
    away.file(&world, "exit", &format!("{} 0\n", away.run));
    let (home, moved) = (away.project.root().to_owned(), world.sandbox.path().join("moved"));
    fs::rename(&home, &moved).unwrap();

    let elsewhere = Left::stage(&world, 2, Phase::Working);
    let path = world.session_file("ccl-auto-2", "dispatched");
    let mut marker: Dispatched = marker::read(&path).unwrap().unwrap();
    marker.stamp.host = "another-machine".to_owned();
    marker::write(&path, &marker).unwrap();

    world.project("web").drop_task("b.md", "x");
    for verb in ["reap", "scan"] {
        let pass = world.ccl(&[verb]);
        assert_eq!((pass.code, pass.short()), (1, vec![]), "{pass:#?}");
        for sentence in [
            ".a.md.claim is left alone: it is of version 9",
            "of-ccl-auto-1 is not there, and with it the task a.md: put it back",
            "at work on the machine another-machine",
        ] {
            assert!(pass.stderr.contains(sentence), "{sentence}: {}", pass.stderr);
        }
    }
    assert!(lives(agent));
    for left in [&unreadable, &away, &elsewhere] {
        assert!(left.has_marker(&world));
    }
    assert_eq!(elsewhere.project.inbox(), [".a.md.claim", "a.md.dispatched"]);

    fs::rename(&moved, &home).unwrap();
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.short(), ["done a.md ccl-auto-1"]);
}

/// What the version before this one left: an agent that was typed into a shell of the session, which is the marker's pane.
#[test]
fn an_agent_that_an_older_version_typed_into_a_shell_is_judged_and_ended_and_the_shell_stays() {
    let world = World::commands(3);
    let lefts = [0, 1, 2].map(|index| Left::stage(&world, index, Phase::Working));
    let pids = lefts.each_ref().map(|left| {
        let Left { run, session, .. } = left;
        let script = world.session_file(session, "run");
        let exit = world.session_file(session, "exit");
        let text = format!(
            "if [ \"${{CCL_PID-}} ${{CCL_RUN-}}\" != \"$$ {run}\" ]; then CCL_RUN={run} CCL_PID=$$ exec sh {script}; fi\n\
             echo $$ > {script}.pid\nsh -c 'while [ ! -e ~/go ]; do sleep 0.05; done'\necho \"{run} $?\" > {exit}\n",
            script = script.display(),
            exit = exit.display(),
        );
        fs::write(&script, text).unwrap();
        let target = format!("={session}:");
        world.tmux.type_line(&target, &format!("sh {}", script.display()));
        let pid = world.tmux.wait_for("the agent starts", || {
            fs::read_to_string(script.with_extension("run.pid")).ok()?.trim().parse::<i32>().ok()
        });
        let [id, shell, tty, server, socket] =
            ["pane_id", "pane_pid", "pane_tty", "pid", "socket_path"]
                .map(|field| world.tmux.format(&target, &format!("#{{{field}}}")));
        let path = world.session_file(session, "dispatched");
        let mut marker: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let number = |text: &str| text.parse::<i32>().unwrap();
        marker["pane"] = json!({"id": id, "pid": number(&shell), "tty": tty,
            "server": {"pid": number(&server), "socket": socket}});
        fs::write(&path, marker.to_string()).unwrap();
        pid
    });
    let shells = [0, 1, 2].map(|index| world.tmux.windows(&format!("ccl-auto-{index}")));
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    kill("-KILL", pids[0]);
    world.tmux.wait_until("it is gone", || !lives(pids[0]));
    assert_eq!(world.pass(&["reap"]), ["released a.md ccl-auto-0"]);
    let task = lefts[1].inbox("a.md.dispatched");
    assert_eq!(world.pass(&["cancel", task.to_str().unwrap()]), ["failed a.md ccl-auto-1"]);
    assert!(!lives(pids[1]));
    world.let_go();
    world.wait_for_exit("ccl-auto-2");
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-2"]);
    for (index, panes) in shells.iter().enumerate() {
        let session = format!("ccl-auto-{index}");
        assert_eq!(world.tmux.windows(&session), *panes);
        world.tmux.type_line(&format!("={session}:"), "echo still he''re");
        world.tmux.wait_for_text(&format!("={session}:"), "still here");
    }
}

/// A pass was killed once it had taken the ticket from an agent that had not started: nobody worked, no attempt counts.
#[test]
fn a_ticket_that_a_killed_pass_has_taken_is_no_attempt() {
    let world = World::commands(1);
    let left = Left::stage(&world, 0, Phase::Launching);
    for kind in ["taken", "run", "prompt"] {
        left.file(&world, kind, "");
    }
    assert_eq!(world.pass(&["reap"]), ["released a.md ccl-auto-0"]);
    assert_eq!(fs::read_to_string(left.inbox("a.md")).unwrap(), TEXT);
    world.assert_nothing_is_left("ccl-auto-0");
    // What is left of it does not keep the next one from starting.
    left.file(&world, "taken", "");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["done a.md ccl-auto-0"]);
    assert_eq!(ending(&left.project, "done/a.md")["attempt"], 1);
}

/// Claude Code did not know the conversation to resume, its window was closed, and the pass was killed before it noted
/// the next one.
#[test]
fn the_second_window_of_a_run_is_closed_though_the_first_is_noted() {
    let world = World::commands(1);
    let left = Left::stage(&world, 0, Phase::Launching);
    let first = left.start_agent(&world);
    left.note(&world, &first);
    world.tmux.run(&["kill-pane", "-t", first.id.as_str()]);
    let second = left.start_agent(&world).pid.as_raw_pid();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    fs::remove_file(left.inbox(".a.md.claim")).unwrap();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    assert!(!lives(second));
    world.assert_nothing_is_left("ccl-auto-0");
}
