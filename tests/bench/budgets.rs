//! The budgets of the README, each beside its bare probe in the same run: `cargo bench`.
//!
//! Prints a table. Times are the shortest of several, taken in turns with the probe's, for the rest
//! is noise; what can be counted is counted. Ends with 1 if a budget does not hold. A word on the
//! command line picks the groups that contain it: `cargo bench -- dispatch`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

mod checkouts;
mod delegations;
mod order;
mod remote;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use support::{Project, Sandbox, TmuxServer};
use table::Row;

/// A name to choose it by, and what measures its rows.
type Group = (&'static str, fn() -> Vec<Row>);

fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let groups: &[Group] = &[
        ("empty inbox", empty_inbox),
        ("empty projects", empty_projects),
        ("waiting", many_waiting),
        ("finished", many_finished),
        ("dispatch", dispatch),
        ("not_before", order::not_before),
        ("depends_on", order::depends_on),
        ("journal", order::journal),
        ("checkouts", checkouts::rows),
        ("delegations", delegations::rows),
        ("remote", remote::rows),
    ];
    table::print_head();
    let mut all_hold = true;
    for (name, measure) in groups {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted)) {
            for row in measure() {
                row.print();
                all_hold &= row.holds();
            }
        }
    }
    ExitCode::from(u8::from(!all_hold))
}

/// How long it takes.
fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// The shortest time of each in milliseconds; in turns, so that they meet the same noise.
fn shortest<const N: usize>(rounds: u32, runs: [&dyn Fn() -> Duration; N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..rounds {
        for (best, run) in best.iter_mut().zip(runs) {
            *best = best.min(run().as_secs_f64() * 1000.0);
        }
    }
    best
}

fn quietly(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the program starts");
}

/// A program as it is installed: copied. The linker writes here and there, which leaves the file in
/// small pieces in the page cache; it then starts slower by a quarter.
fn installed(program: &Path, sandbox: &Sandbox) -> PathBuf {
    let copy = sandbox.path().join("installed").join(program.file_name().unwrap());
    if !copy.exists() {
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(program, &copy).unwrap();
    }
    copy
}

fn ccl(sandbox: &Sandbox, args: &[&str]) -> Command {
    let built = sandbox.std_ccl();
    let mut command = Command::new(installed(built.get_program().as_ref(), sandbox));
    command.current_dir(sandbox.path()).env_clear();
    command.envs(built.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.arg("--config").arg(sandbox.config_file()).args(args);
    command
}

/// The system calls of a run, as strace prints them, one a line; of its children only how they start.
fn calls(sandbox: &Sandbox, args: &[&str]) -> Vec<String> {
    let trace = sandbox.path().join("trace");
    let run = ccl(sandbox, args);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-b", "execve", "-o"]).arg(&trace);
    strace.arg(run.get_program()).args(run.get_args()).env_clear();
    strace.envs(run.get_envs().filter_map(|(key, value)| Some((key, value?))));
    quietly(strace.current_dir(sandbox.path()));
    let text = fs::read(&trace).expect("a trace");
    let lines = String::from_utf8_lossy(&text);
    let is_call = |line: &&str| line.contains('(') && !line.contains("resumed>");
    lines.lines().filter(is_call).map(str::to_owned).collect()
}

/// A program that does nothing, built as `ccl` is.
fn empty_program(sandbox: &Sandbox) -> PathBuf {
    let (source, program) = (sandbox.path().join("empty.rs"), sandbox.path().join("empty"));
    fs::write(&source, "fn main() {}\n").expect("a source");
    let mut rustc = Command::new("rustc");
    rustc.args(["-O", "-Cpanic=abort", "-Cstrip=symbols", "-o"]);
    let built = rustc.arg(&program).arg(&source).status();
    assert!(built.expect("rustc starts").success());
    installed(&program, sandbox)
}

fn empty_inbox() -> Vec<Row> {
    let sandbox = Sandbox::new();
    sandbox.project("web");
    let program = empty_program(&sandbox);
    let times = shortest(
        300,
        [&|| timed(|| quietly(&mut ccl(&sandbox, &["scan"]))), &|| {
            timed(|| quietly(&mut Command::new(&program)))
        }],
    );
    let is_start = |call: &&String| call.contains("execve(") || call.contains("clone");
    let started = calls(&sandbox, &["scan"]).iter().filter(is_start).count();
    vec![
        Row::beside("`scan`, empty inbox", "an empty program", times, 2.0),
        Row::at_most("the same: processes started", started as f64 - 1.0, "", 0.0),
    ]
}

fn empty_projects() -> Vec<Row> {
    let sandbox = Sandbox::new();
    sandbox.project("p0");
    let one = calls(&sandbox, &["scan"]).len();
    for number in 1..=100 {
        sandbox.project(&format!("p{number}"));
    }
    let each = (calls(&sandbox, &["scan"]).len() - one) as f64 / 100.0;
    vec![Row::at_most("100 empty projects: system calls for each", each, "", 8.0)]
}

const WAITING: usize = 100_000;

/// A pool of one session in front of 100,000 tasks.
fn crowded(project: &mut Option<Project>) -> (Sandbox, TmuxServer) {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux();
    sandbox.config("agent", json!({"kind": "command", "command": ["true"]}));
    sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": 1, "create": false}}));
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
    let dry_run = &["scan", "--dry-run"];
    let scan = || timed(|| quietly(&mut ccl(&sandbox, dry_run)));
    let list = || timed(|| quietly(Command::new("ls").arg("-f").arg(&inbox)));
    let read = || timed(|| bare_read(&inbox));
    // No session of the pool exists, and none may be created.
    let blind = shortest(7, [&scan, &list]);
    let is_read = |call: &&String| call.contains("open") && call.contains(".md\"");
    let opened = calls(&sandbox, dry_run).iter().filter(is_read).count();
    tmux.new_session("k-0", &[]);
    let seeing = shortest(7, [&scan, &read]);
    let each = calls(&sandbox, dry_run).len() as f64 / WAITING as f64;
    let memory = peak(&mut ccl(&sandbox, dry_run));
    vec![
        Row::at_most("100,000 waiting, no free session: files opened", opened as f64, "", 0.0),
        Row::beside("the same: `scan`", "`ls -f`", blind, 1.5),
        Row::at_most("100,000 waiting, one free session: system calls for each", each, "", 3.2),
        Row::beside("the same: `scan --dry-run`", "a bare loop that reads them", seeing, 1.3),
        Row::at_most("the same: memory", memory, " MiB", 64.0),
    ]
}

/// 100,000 finished tasks, two days old.
fn many_finished() -> Vec<Row> {
    const FINISHED: usize = 100_000;
    let (none, sandbox) = (Sandbox::new(), Sandbox::new());
    none.project("web");
    let done = sandbox.project("web").queue("done");
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    for number in 0..FINISHED {
        let mut file = fs::File::create(done.join(format!("task-{number:06}.md"))).expect("a task");
        file.write_all(b"Do it.\n").expect("its text");
        file.set_modified(two_days_ago).expect("its time");
    }
    let reap = |sandbox: &Sandbox| timed(|| quietly(&mut ccl(sandbox, &["reap"])));
    let reaps = shortest(50, [&|| reap(&sandbox), &|| reap(&none)]);
    let bare_look = || {
        for entry in fs::read_dir(&done).expect("done/") {
            entry.expect("an entry").metadata().expect("its times");
        }
    };
    let status = || timed(|| quietly(&mut ccl(&sandbox, &["status"])));
    let looks = shortest(7, [&status, &|| timed(bare_look)]);
    vec![
        // The same but for noise.
        Row::beside("100,000 in done/: `reap`", "`reap` with none", reaps, 1.2),
        Row::beside("the same: `status`", "a bare loop of readdir and stat", looks, 1.5),
    ]
}

/// A pool of sessions, and a project; its agent ends at once, and its login shell is a quick one.
struct Stage {
    sandbox: Sandbox,
    project: Project,
    sessions: usize,
    tmux: TmuxServer,
}

/// The quickest login shell that every machine has.
const SHELL: &str = "/bin/dash";

impl Stage {
    fn new(sessions: usize) -> Self {
        let mut sandbox = Sandbox::new();
        let tmux = sandbox.tmux();
        let agent = json!({"kind": "command", "command": ["true"], "shell": SHELL});
        sandbox.config("agent", agent);
        let pool = json!({"autonomous": {"prefix": "k-", "max": sessions, "create": false}});
        sandbox.config("pool", pool);
        for session in 0..sessions {
            tmux.new_session(&format!("k-{session}"), &[]);
        }
        Self { project: sandbox.project("web"), sandbox, sessions, tmux }
    }

    /// Waits until all is done that `run` launches: a task for each session.
    fn launch<T>(&self, run: impl FnOnce() -> T) -> T {
        for task in 0..self.sessions {
            self.project.drop_task(format!("t{task}.md"), "Do it.\n");
        }
        let ran = run();
        support::wait_until("all is done", support::PATIENCE, || {
            quietly(&mut ccl(&self.sandbox, &["reap"]));
            self.project.inbox().is_empty()
        });
        ran
    }

    fn time(&self) -> Duration {
        self.launch(|| timed(|| quietly(&mut ccl(&self.sandbox, &["scan"]))))
    }

    /// What the window's login shell and the agent need by themselves.
    fn time_of_the_agent_alone(&self) -> Duration {
        let mut shell = Command::new(SHELL);
        shell.args(["-l", "-i", "-c", "exec sh -c true"]).current_dir(self.sandbox.home());
        shell.env_clear().envs(self.tmux.env());
        timed(|| quietly(&mut shell))
    }

    /// How often a scan that launches calls tmux, the one `list-panes` for the whole pool left out.
    fn tmux_calls(&self) -> f64 {
        let calls = self.launch(|| calls(&self.sandbox, &["scan"]));
        let is_start = |call: &&String| call.contains("CLONE_VFORK");
        calls.iter().filter(is_start).count() as f64 - 1.0
    }
}

fn dispatch() -> Vec<Row> {
    const MANY: usize = 16;
    let (lone, crowd) = (Stage::new(1), Stage::new(MANY));
    let alone = || lone.time_of_the_agent_alone();
    let [one, many, agent] = shortest(9, [&|| lone.time(), &|| crowd.time(), &alone]);
    let further = (many - one) / (MANY - 1) as f64;
    vec![
        Row::at_most(
            "a dispatch: calls of tmux beside one `list-panes`",
            lone.tmux_calls(),
            "",
            2.0,
        ),
        Row::at_most(
            "16 dispatches in one pass: the same for each",
            crowd.tmux_calls() / MANY as f64,
            "",
            2.0,
        ),
        Row::at_most(
            "a dispatch, beyond the shell's and the agent's own start",
            one - agent,
            " ms",
            30.0,
        ),
        Row::at_most("16 dispatches in one pass: each further one", further, " ms", 8.0),
    ]
}
