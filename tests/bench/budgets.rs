//! The budgets of DESIGN section 11, each beside its bare probe in the same run: `cargo bench`.
//!
//! Times are the best of several runs, for the rest is noise; what can be counted is counted. Ends
//! with 1 if a budget does not hold. A word on the command line picks the rows that contain it.

#![allow(clippy::print_stdout, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use support::{Project, Sandbox, TmuxServer};

/// One budget: what was measured, what it may be, and both in words.
struct Row {
    name: &'static str,
    measured: f64,
    budget: f64,
    words: String,
}

impl Row {
    fn holds(&self) -> bool {
        self.measured <= self.budget
    }
}

/// A name to choose it by, and what measures its rows.
type Group = (&'static str, fn() -> Vec<Row>);

fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let groups: &[Group] = &[
        ("empty inbox", empty_inbox),
        ("empty projects", empty_projects),
        ("waiting", many_waiting),
        ("dispatch", dispatch),
    ];
    let mut all_hold = true;
    for (name, measure) in groups {
        if wanted
            .as_ref()
            .is_some_and(|wanted| !name.contains(wanted.as_str()))
        {
            continue;
        }
        for row in measure() {
            let mark = if row.holds() { "holds" } else { "FAILS" };
            println!(
                "{mark}  {:<46} {:>8.2} of {:>7.2}  {}",
                row.name, row.measured, row.budget, row.words
            );
            all_hold &= row.holds();
        }
    }
    ExitCode::from(u8::from(!all_hold))
}

/// The shortest of `runs` runs.
fn best(runs: u32, mut run: impl FnMut()) -> Duration {
    let mut times = (0..runs).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    let first = times.next().expect("a run");
    times.fold(first, Duration::min)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn quietly(command: &mut Command) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().expect("the program starts");
}

fn ccl(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = sandbox.std_ccl();
    command
        .arg("--config")
        .arg(sandbox.config_file())
        .args(args);
    command
}

/// The system calls of a run, as strace prints them, one a line; of its children only how they start.
fn calls(sandbox: &Sandbox, args: &[&str]) -> Vec<String> {
    let trace = sandbox.path().join("trace");
    let run = ccl(sandbox, args);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-b", "execve", "-o"]).arg(&trace);
    strace
        .arg(run.get_program())
        .args(run.get_args())
        .env_clear();
    strace.envs(
        run.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    quietly(strace.current_dir(sandbox.path()));
    let text = fs::read(&trace).expect("a trace");
    let lines = String::from_utf8_lossy(&text);
    let is_call = |line: &&str| line.contains('(') && !line.contains("resumed>");
    lines.lines().filter(is_call).map(str::to_owned).collect()
}

/// A program that does nothing, built as `ccl` is.
fn empty_program(sandbox: &Sandbox) -> PathBuf {
    let (source, program) = (
        sandbox.path().join("empty.rs"),
        sandbox.path().join("empty"),
    );
    fs::write(&source, "fn main() {}\n").expect("a source");
    let mut rustc = Command::new("rustc");
    rustc.args(["-O", "-Cpanic=abort", "-Cstrip=symbols", "-o"]);
    let built = rustc.arg(&program).arg(&source).status();
    assert!(built.expect("rustc starts").success());
    program
}

fn empty_inbox() -> Vec<Row> {
    let sandbox = Sandbox::new();
    sandbox.project("web");
    let program = empty_program(&sandbox);
    let bare = best(100, || quietly(&mut Command::new(&program)));
    let scan = best(100, || quietly(&mut ccl(&sandbox, &["scan"])));
    let started = calls(&sandbox, &["scan"])
        .iter()
        .filter(|call| call.contains("execve(") || call.contains("clone"))
        .count();
    vec![
        Row {
            name: "empty inbox: scan / an empty program",
            measured: ms(scan) / ms(bare),
            budget: 2.0,
            words: format!("{:.2} ms / {:.2} ms", ms(scan), ms(bare)),
        },
        Row {
            name: "empty inbox: processes started",
            measured: started as f64 - 1.0,
            budget: 0.0,
            words: String::new(),
        },
    ]
}

fn empty_projects() -> Vec<Row> {
    let sandbox = Sandbox::new();
    sandbox.project("p0");
    let one = calls(&sandbox, &["scan"]).len();
    for number in 1..=100 {
        sandbox.project(&format!("p{number}"));
    }
    let many = calls(&sandbox, &["scan"]).len();
    vec![Row {
        name: "100 empty projects: system calls for each",
        measured: (many - one) as f64 / 100.0,
        budget: 8.0,
        words: format!("{many} - {one} calls"),
    }]
}

const WAITING: usize = 100_000;

/// A pool of one session in front of 100,000 tasks.
fn crowded(project: &mut Option<Project>) -> (Sandbox, TmuxServer) {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("agent", json!({"kind": "command", "command": ["true"]}));
    sandbox.config(
        "pool",
        json!({"autonomous": {"prefix": "k-", "max": 1, "create": false}}),
    );
    let filled = sandbox.project("web");
    let inbox = filled.queue("inbox");
    for number in 0..WAITING {
        let priority = ["high", "default", "low"][number % 3];
        let text = format!("---\ntitle: Task {number}\npriority: {priority}\n---\nDo it.\n");
        fs::write(inbox.join(format!("task-{number:06}.md")), text).expect("a task");
    }
    *project = Some(filled);
    (sandbox, tmux)
}

/// What reading the first bytes of every file costs at least, on one thread.
fn bare_read(inbox: &Path) {
    let mut buffer = [0; 4096];
    for entry in fs::read_dir(inbox).expect("the inbox") {
        let mut file = fs::File::open(entry.expect("an entry").path()).expect("a task");
        let _ = file.read(&mut buffer).expect("its bytes");
    }
}

/// The most memory that the run had, in MiB, as often as it could be looked at.
fn peak(command: &mut Command) -> f64 {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("ccl starts");
    let mut most = 0.0_f64;
    while child.try_wait().expect("its status").is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        let kib = status.unwrap_or_default().lines().find_map(|line| {
            let value = line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?;
            value.trim().parse::<f64>().ok()
        });
        most = most.max(kib.unwrap_or_default() / 1024.0);
        std::thread::sleep(Duration::from_micros(200));
    }
    most
}

fn many_waiting() -> Vec<Row> {
    let mut project = None;
    let (sandbox, tmux) = crowded(&mut project);
    let inbox = project.expect("a project").queue("inbox");
    let scan = || quietly(&mut ccl(&sandbox, &["scan", "--dry-run"]));
    // No session of the pool exists, and none may be created.
    let blind = best(7, scan);
    let list = best(7, || quietly(Command::new("ls").arg("-f").arg(&inbox)));
    let opened = calls(&sandbox, &["scan", "--dry-run"])
        .iter()
        .filter(|call| call.contains("open") && call.contains(".md\""))
        .count();
    tmux.new_session("k-0", &[]);
    let seeing = best(7, scan);
    let bare = best(7, || bare_read(&inbox));
    let count = calls(&sandbox, &["scan", "--dry-run"]).len();
    let memory = peak(&mut ccl(&sandbox, &["scan", "--dry-run"]));
    vec![
        Row {
            name: "100,000 waiting, none free: files opened",
            measured: opened as f64,
            budget: 0.0,
            words: String::new(),
        },
        Row {
            name: "100,000 waiting, none free: scan / ls -f",
            measured: ms(blind) / ms(list),
            budget: 1.5,
            words: format!("{:.0} ms / {:.0} ms", ms(blind), ms(list)),
        },
        Row {
            name: "100,000 waiting, one free: calls for each",
            measured: count as f64 / WAITING as f64,
            budget: 3.2,
            words: String::new(),
        },
        Row {
            name: "100,000 waiting, one free: scan / bare loop",
            measured: ms(seeing) / ms(bare),
            budget: 1.3,
            words: format!("{:.0} ms / {:.0} ms", ms(seeing), ms(bare)),
        },
        Row {
            name: "100,000 waiting: memory in MiB",
            measured: memory,
            budget: 64.0,
            words: String::new(),
        },
    ]
}

/// The time of one scan that launches as many tasks as there are sessions.
fn launch(sessions: usize) -> (Duration, usize) {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("agent", json!({"kind": "command", "command": ["true"]}));
    let pool = json!({"autonomous": {"prefix": "k-", "max": sessions, "create": false}});
    sandbox.config("pool", pool);
    let project = sandbox.project("web");
    for session in 0..sessions {
        tmux.new_session(&format!("k-{session}"), &[]);
    }
    let drop_tasks = || {
        for task in 0..sessions {
            project.drop_task(format!("t{task}.md"), "Do it.\n");
        }
    };
    let settle = || {
        support::wait_until("all is done", support::PATIENCE, || {
            quietly(&mut ccl(&sandbox, &["reap"]));
            project.inbox().is_empty()
        });
    };
    let mut times = Vec::new();
    for _ in 0..5 {
        drop_tasks();
        times.push(best(1, || quietly(&mut ccl(&sandbox, &["scan"]))));
        settle();
    }
    drop_tasks();
    let tmux_calls = calls(&sandbox, &["scan"])
        .iter()
        .filter(|call| call.contains("CLONE_VFORK"))
        .count();
    settle();
    (times.into_iter().min().expect("a run"), tmux_calls)
}

fn dispatch() -> Vec<Row> {
    let ((one, calls_of_one), (many, calls_of_many)) = (launch(1), launch(16));
    vec![
        Row {
            name: "dispatch: calls of tmux for one",
            measured: calls_of_one as f64,
            budget: 7.0,
            words: "one list-panes, at most 6 for the dispatch".to_owned(),
        },
        Row {
            name: "dispatch: calls of tmux for each of 16",
            measured: (calls_of_many as f64 - 1.0) / 16.0,
            budget: 6.0,
            words: String::new(),
        },
        Row {
            name: "dispatch: ms beyond the agent's own start",
            measured: ms(one),
            budget: 150.0,
            words: "the agent is `true`".to_owned(),
        },
        Row {
            name: "dispatch: 16 launches, ms",
            measured: ms(many),
            budget: (ms(one) * 1.3).max(ms(one) + 150.0),
            words: format!("one takes {:.0} ms", ms(one)),
        },
    ]
}
