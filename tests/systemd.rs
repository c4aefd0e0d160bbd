//! The units of `systemd/` under a real user manager.
#![allow(clippy::unwrap_used)]

#[path = "support/secutools_server/mod.rs"]
mod secutools_server;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use secutools_server::SecutoolsServer;
use serde_json::Value;
use support::user_manager::Process;
use support::{Project, UserManager};

const CCL: &str = env!("CARGO_BIN_EXE_ccl");

const UNITS: [&str; 6] = [
    "ccl.service",
    "ccl.timer",
    "ccl-tmux.service",
    "ccl@.path",
    "ccl-http.socket",
    "ccl-http@.service",
];

/// A manager, a project that its `ccl` knows, and an agent that runs what the task says in `sh`.
struct World {
    manager: UserManager,
    project: Project,
}

impl World {
    fn new() -> Self {
        let manager = UserManager::start();
        // Every character that a unit's name cannot hold as it is.
        let project = Project::make(&manager.path().join("projects/a-b c_ü"));
        let world = Self { manager, project };
        world.configure("tmux");
        // Something has to refer to the service, as the timer does, or systemd forgets how it ended.
        world.manager.systemctl(&["start", "ccl@nowhere.path"]);
        world
    }

    fn configure(&self, tmux: &str) {
        self.configure_with(tmux, "sh", "");
    }

    fn configure_with(&self, tmux: &str, agent: &str, more: &str) {
        let directory = self.manager.home().join(".config/ccl");
        fs::create_dir_all(&directory).unwrap();
        let projects = self.manager.path().join("projects");
        let config = format!(
            "{{dispatcher: {{projects_dir: {projects:?}, message: '{{body}}'}}, pool: {{autonomous: {{max: 2}}}}, \
             agent: {{kind: command, command: [{agent}, -c]}}, tmux: {{command: [{tmux}]}}{more}}}"
        );
        fs::write(directory.join("config.yaml"), config).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.manager.path().join(name)
    }

    /// One pass, to its end.
    #[track_caller]
    fn pass(&self) {
        self.manager.systemctl(&["start", "ccl.service"]);
    }

    #[track_caller]
    fn wait_until_done(&self, task: &str) {
        let is_done = || self.project.done() == [task];
        self.manager.wait_until("the task is done", || {
            self.pass();
            is_done()
        });
    }

    /// What `ccl doctor` finds wrong, and whether it ends with 0.
    #[track_caller]
    fn diagnose(&self) -> (Vec<String>, bool) {
        let mut doctor = self.manager.command(CCL);
        let output = doctor.args(["doctor", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["version"], 1);
        let checks = report["checks"].as_array().unwrap();
        let bad = checks.iter().filter(|check| check["ok"] == false);
        let detail = |check: &Value| format!("{}: {}", check["check"], check["detail"]);
        (bad.map(detail).collect(), output.status.success())
    }

    /// Drops a task whose agent writes its process id and then waits for the file `go`.
    fn drop_patient_task(&self) -> PathBuf {
        let (pid, go) = (self.file("pid"), self.file("go"));
        let script = format!(
            "echo $$ > {}.new && mv {0}.new {0}; until [ -e {} ]; do sleep 0.05; done\n",
            pid.display(),
            go.display()
        );
        self.project.drop_task("patient.md", script);
        pid
    }
}

fn process_in(file: &Path) -> Process {
    Process(fs::read_to_string(file).unwrap().trim().parse().unwrap())
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let manager = UserManager::start();
    let mut verify = manager.command("systemd-analyze");
    verify.args(["--user", "--man=no", "verify"]);
    verify.args(UNITS.map(|unit| manager.units().join(unit)));
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_timer_makes_up_for_what_was_missed_and_comes_back_within_a_minute() {
    let world = World::new();
    let manager = &world.manager;
    let ran = world.file("ran");
    let script = format!("touch {}\n", ran.display());
    world.project.drop_task("a.md", script);
    // As if the machine had been off since 2001.
    let stamps = manager.home().join(".local/share/systemd/timers");
    fs::create_dir_all(&stamps).unwrap();
    let stamp = Command::new("touch")
        .args(["-d", "@1000000000"])
        .arg(stamps.join("stamp-ccl.timer"))
        .status();
    assert!(stamp.unwrap().success());
    manager.systemctl(&["enable", "--now", "ccl.timer"]);
    manager.wait_until("the task has run, and the pass is over", || {
        ran.exists() && manager.property("ccl.service", "ActiveState") == "inactive"
    });
    let next = manager.systemctl(&["list-timers", "--output=json", "ccl.timer"]);
    let next: serde_json::Value = serde_json::from_str(&next).unwrap();
    let next = next[0]["next"].as_i64().unwrap() - jiff::Timestamp::now().as_microsecond();
    assert!((0..=61_000_000).contains(&next), "{next} µs");
    assert_eq!(manager.property("ccl.timer", "AccuracyUSec"), "1s");
    let enabled = manager.systemctl(&["is-enabled", "ccl-tmux.service"]);
    assert_eq!(enabled, "enabled\n");
}

#[test]
fn a_task_is_served_when_it_is_dropped_however_many_there_are() {
    let world = World::new();
    let manager = &world.manager;
    let mut escape = manager.command("systemd-escape");
    let name = escape.arg("--path").arg(world.project.root());
    let name = String::from_utf8(name.output().unwrap().stdout).unwrap();
    let unit = format!("ccl@{}.path", name.trim_end());
    manager.systemctl(&["enable", "--now", &unit]);
    // The default limit of five starts in ten seconds must not stop the ninth.
    for number in 0..9 {
        let ran = world.file(&format!("ran-{number}"));
        // What is dropped while a pass runs is the timer's.
        manager.wait_until("the inbox is watched", || {
            manager.property(&unit, "SubState") == "waiting"
        });
        let script = format!("touch {}\n", ran.display());
        world.project.drop_task(format!("{number}.md"), script);
        manager.wait_until("the task has run", || ran.exists());
    }
    assert_eq!(manager.property(&unit, "Result"), "success");
}

#[test]
fn agents_and_the_tmux_server_outlive_the_pass() {
    let world = World::new();
    let manager = &world.manager;
    let pid = world.drop_patient_task();
    world.pass();
    manager.wait_until("the agent runs", || pid.exists());
    let agent = process_in(&pid);
    assert_eq!(manager.property("ccl.service", "ActiveState"), "inactive");
    assert_eq!(manager.processes("ccl.service"), []);
    assert!(manager.processes("ccl-tmux.service").contains(&agent));
    world.pass();
    assert!(manager.processes("ccl-tmux.service").contains(&agent));
    fs::write(world.file("go"), "").unwrap();
    world.wait_until_done("patient.md");
}

#[test]
fn a_pass_that_did_something_says_so_in_one_line_and_an_idle_one_says_nothing() {
    let world = World::new();
    let manager = &world.manager;
    world.pass();
    assert_eq!(manager.said(), [""; 0]);
    world.drop_patient_task();
    world.pass();
    let said = manager.said();
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].starts_with("<6>DISPATCHED session=ccl-auto-0 task=patient.md"));
    assert_eq!(said[1], "<6>scan: 1 dispatched (patient.md)");
    world.pass();
    assert_eq!(manager.said(), said);
}

#[test]
fn without_its_tmux_server_a_pass_says_what_to_start_and_that_it_is_temporary() {
    let world = World::new();
    let manager = &world.manager;
    fs::remove_file(manager.units().join("ccl-tmux.service")).unwrap();
    manager.systemctl(&["daemon-reload"]);
    world.project.drop_task("a.md", "true\n");
    world.pass();
    assert_eq!(manager.property("ccl.service", "ExecMainStatus"), "75");
    assert_eq!(manager.property("ccl.service", "Result"), "success");
    let said = manager.said();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with("<3>error: no tmux server is running"));
    assert!(said[0].contains("systemctl --user start ccl-tmux.service"));
    assert_eq!(world.project.inbox(), ["a.md"]);
    let server = manager.command("tmux").arg("list-sessions").status();
    assert!(!server.unwrap().success());
}

#[test]
fn a_reap_that_fails_does_not_keep_scan_from_running() {
    let world = World::new();
    let sessions = world.manager.home().join(".local/state/ccl/sessions");
    fs::create_dir_all(&sessions).unwrap();
    fs::write(sessions.join("ccl-auto-9.dispatched"), "{").unwrap();
    world.drop_patient_task();
    world.manager.systemctl_unchecked(&["start", "ccl.service"]);
    let said = world.manager.said();
    assert!(said[0].starts_with("<3>error: "), "{said:#?}");
    assert!(said.contains(&"<6>scan: 1 dispatched (patient.md)".to_owned()), "{said:#?}");
}

#[test]
fn a_pass_that_hangs_is_ended_and_the_next_one_recovers() {
    let world = World::new();
    let manager = &world.manager;
    assert_eq!(manager.property("ccl.service", "TimeoutStartUSec"), "5min");
    manager.drop_in("ccl.service", "[Service]\nTimeoutStartSec=3s\n");
    let stand_in = world.file("tmux");
    fs::write(
        &stand_in,
        "case \" $* \" in *' new-window '*) exec sleep 600 ;; esac\nexec tmux \"$@\"\n",
    )
    .unwrap();
    world.configure(&format!("sh, {:?}", stand_in.display().to_string()));
    let ran = world.file("ran");
    let script = format!("echo run >> {}\n", ran.display());
    world.project.drop_task("a.md", script);
    let ended = manager.systemctl_unchecked(&["start", "ccl.service"]);
    assert!(!ended.status.success());
    assert_eq!(manager.property("ccl.service", "Result"), "timeout");
    assert_eq!(world.project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    assert_eq!(manager.processes("ccl.service"), []);
    world.configure("tmux");
    world.wait_until_done("a.md");
    assert_eq!(fs::read_to_string(ran).unwrap(), "run\n");
}

#[test]
fn a_tmux_server_that_dies_is_started_again_and_answers_when_its_unit_has_started() {
    let manager = UserManager::start();
    let answers = || {
        let mut sessions = manager.command("tmux");
        sessions.arg("list-sessions").status().unwrap().success()
    };
    manager.systemctl(&["start", "ccl-tmux.service"]);
    assert!(answers());
    let server = manager.property("ccl-tmux.service", "MainPID");
    manager.systemctl(&["kill", "--signal=KILL", "ccl-tmux.service"]);
    manager.wait_until("another server runs", || {
        let now = manager.property("ccl-tmux.service", "MainPID");
        now != "0" && now != server && answers()
    });
    assert_eq!(manager.property("ccl-tmux.service", "OOMPolicy"), "continue");
}

#[test]
fn a_tmux_server_that_runs_already_is_used() {
    let world = World::new();
    let mut tmux = world.manager.command("tmux");
    let started = tmux.args(["new-session", "-d", "-s", "mine"]).status();
    assert!(started.unwrap().success());
    let end = EndServer(&world.manager);
    world.drop_patient_task();
    world.pass();
    assert_eq!(world.manager.property("ccl-tmux.service", "ActiveState"), "inactive");
    assert!(world.manager.said().contains(&"<6>scan: 1 dispatched (patient.md)".to_owned()));
    drop(end);
}

#[test]
fn a_tmux_server_of_its_own_takes_one_drop_in_and_one_line_of_configuration() {
    let world = World::new();
    let manager = &world.manager;
    let socket = "[Service]\nEnvironment=CCL_TMUX_SOCKET=ccl\n";
    manager.drop_in("ccl-tmux.service", socket);
    world.configure("tmux, -L, ccl");
    world.project.drop_task("a.md", "true\n");
    world.wait_until_done("a.md");
    let names = support::sandbox::names(&manager.path().join("run/tmux-0"));
    assert_eq!(names, ["ccl"]);
}

/// Ends a server that runs outside of the manager.
struct EndServer<'a>(&'a UserManager);

impl Drop for EndServer<'_> {
    fn drop(&mut self) {
        let mut kill = self.0.command("tmux");
        let ended = kill.arg("kill-server").status();
        assert!(ended.unwrap().success());
    }
}

#[test]
fn doctor_is_content_with_what_the_readme_sets_up_and_names_what_is_missing() {
    let world = World::new();
    let manager = &world.manager;
    manager.systemctl(&["enable", "--now", "ccl.timer"]);
    world.pass();
    let (bad, well) = world.diagnose();
    assert!(bad.len() == 1 && bad[0].contains("linger"), "{bad:#?}");
    assert!(!well);
    let mut linger = manager.command("touch");
    let lingers = linger.arg("/var/lib/systemd/linger/root").status();
    assert!(lingers.unwrap().success());
    assert_eq!(world.diagnose(), (vec![], true));

    manager.systemctl(&["stop", "ccl.timer"]);
    fs::remove_dir(world.project.queue("inbox")).unwrap();
    world.configure_with("tmux", "no-such-agent", "");
    let (bad, _) = world.diagnose();
    assert_eq!(bad.len(), 3, "{bad:#?}");
    assert!(bad[0].contains("no-such-agent is not on the PATH of the login shell /bin/bash"));
    assert!(bad[1].contains("/inbox is no directory"));
    assert!(bad[2].contains("ccl.timer is enabled and inactive"));
}

#[test]
fn the_api_key_reaches_ccl_and_nothing_else() {
    const KEY: &str = "sk-only-for-ccl";
    let server = SecutoolsServer::start();
    server.expect_key(KEY);
    let world = World::new();
    let manager = &world.manager;
    world.configure_with("tmux", "sh", &format!(", secutools: {{url: '{}'}}", server.url()));
    let key = manager.home().join(".config/ccl/secutools_api_key");
    fs::write(&key, KEY).unwrap();
    let drop_ins = manager.units().join("ccl.service.d");
    fs::create_dir(&drop_ins).unwrap();
    let example = "systemd/ccl.service.d/api-key.conf.example";
    fs::copy(example, drop_ins.join("api-key.conf")).unwrap();
    manager.systemctl(&["daemon-reload"]);

    let environment = world.file("environment");
    let script = format!("env > {}\n", environment.display());
    world.project.drop_task("a.md", script);
    let header = "---\npreferred_ai: gpu\nallow_delegation: true\n---\n";
    let remote = format!("{header}Far away.\n");
    world.project.drop_task("remote.md", remote);
    world.pass();
    assert_eq!(server.jobs().len(), 1, "{:#?}", manager.said());
    let (bad, _) = world.diagnose();
    assert!(!bad.iter().any(|check| check.contains("key")), "{bad:#?}");
    manager.wait_until("the agent has written its environment", || environment.exists());
    world.wait_until_done("a.md");
    let agent = fs::read_to_string(environment).unwrap();
    assert!(agent.contains("CCL_RUN="), "{agent}");
    let others = manager.processes("ccl-tmux.service");
    assert!(!others.is_empty());
    let everything = others.into_iter().flat_map(Process::environment);
    let everything: Vec<String> = everything.chain([agent]).chain(manager.said()).collect();
    for word in [KEY, "CREDENTIALS_DIRECTORY"] {
        assert!(!everything.iter().any(|text| text.contains(word)), "{everything:#?}");
    }
    // Everything that lies about in HOME, but the file itself.
    let mut grep = Command::new("grep");
    let found = grep.args(["-rl", KEY]).arg(manager.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout).trim(), key.display().to_string());
}

/// `ccl-http.socket`, on a port of its own.
struct Http<'a> {
    manager: &'a UserManager,
    port: u16,
}

impl<'a> Http<'a> {
    fn start(manager: &'a UserManager) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n");
        manager.drop_in("ccl-http.socket", &listen);
        manager.systemctl(&["enable", "--now", "ccl-http.socket"]);
        Self { manager, port }
    }

    fn connect(&self) -> Option<TcpStream> {
        TcpStream::connect(("127.0.0.1", self.port)).ok()
    }

    /// What comes back; empty where it was turned away.
    fn send(&self, request: &str) -> String {
        let mut text = Vec::new();
        if let Some(mut client) = self.connect() {
            let _ = client.write_all(request.as_bytes());
            let _ = client.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Units of single requests that the manager still knows.
    fn instances(&self) -> String {
        let listed = ["list-units", "--all", "--no-legend", "--plain", "ccl-http@*"];
        self.manager.systemctl(&listed)
    }

    /// No request is under way, and none has left anything behind.
    #[track_caller]
    fn assert_rests(&self) {
        self.manager.wait_until("every request has ended", || self.instances().trim().is_empty());
        assert_eq!(self.manager.property("ccl-http.socket", "ActiveState"), "active");
        assert_eq!(self.manager.property("ccl-http.socket", "NConnections"), "0");
    }
}

#[test]
fn the_socket_serves_the_page_and_nothing_stays_behind() {
    let world = World::new();
    let manager = &world.manager;
    assert_eq!(
        manager.property("ccl-http.socket", "Listen"),
        "127.0.0.1:7433 (Stream)",
        "on this machine only"
    );
    let http = Http::start(manager);
    let health = http.get("/healthz");
    assert!(health.starts_with("HTTP/1.1 503 ") && health.contains("no scan"), "{health}");
    world.drop_patient_task();
    world.pass();
    assert!(http.get("/healthz").ends_with("\r\n\r\nok\n"), "{}", http.get("/healthz"));
    let page = http.get("/");
    assert!(page.contains("patient.md") && page.contains("ccl-auto-0"), "{page}");
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
    ] {
        let answer = http.send(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    http.assert_rests();
    // What it says goes to the journal, and it has nothing to say.
    let said = manager.said();
    assert!(said.iter().all(|line| !line.contains("error")), "{said:#?}");
    let (bad, _) = world.diagnose();
    assert!(!bad.iter().any(|check| check.contains("http")), "{bad:#?}");
    manager.systemctl(&["stop", "ccl-http.socket"]);
    let (bad, _) = world.diagnose();
    assert!(
        bad.iter().any(|check| check.contains("ccl-http.socket is enabled and inactive")),
        "{bad:#?}"
    );
    fs::write(world.file("go"), "").unwrap();
    world.wait_until_done("patient.md");
}

#[test]
fn two_hundred_requests_at_once_slow_and_half_ones_end_neither_the_socket_nor_the_passes() {
    let world = World::new();
    let manager = &world.manager;
    let http = Http::start(manager);
    let ran = world.file("ran");
    world.project.drop_task("a.md", format!("touch {}\n", ran.display()));
    let answers: Vec<String> = thread::scope(|scope| {
        let ask = |number: usize| {
            let http = &http;
            move || match number % 10 {
                // They leave, or say nothing more.
                0 => {
                    let client = http.connect();
                    drop(client.map(|mut client| client.write_all(b"GET / HT")));
                    String::new()
                }
                1 => http.send("GET / HTTP/1.1\r\nHost: localhost\r\n"),
                _ => http.get("/api/status"),
            }
        };
        let asking: Vec<_> = (0..200).map(|number| scope.spawn(ask(number))).collect();
        world.pass();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for text in answers.iter().filter(|text| !text.is_empty()) {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let is_known = ["200", "408"].iter().any(|it| head.starts_with(&format!("HTTP/1.1 {it} ")));
        assert!(is_known, "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    }
    let whole = answers.iter().filter(|text| text.starts_with("HTTP/1.1 200 ")).count();
    assert!(whole > 0, "some were answered");
    http.assert_rests();
    manager.wait_until("it answers as before", || http.get("/metrics").contains("ccl_sessions"));
    world.wait_until_done("a.md");
    assert!(ran.exists());
    http.assert_rests();
}
