//! Many processes at once on the same queues, and two pools on one: every task runs once and is
//! filed once, and no pool touches what the other has. An account at its limit is asked by each session once, and by one
//! probe after another.
//!
//! `CCL_TEST_LONG=1` makes it 50 processes, 10 projects and 1,000 tasks.
#![allow(clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::faults::{CHANGING, pass_with, said, was_killed};
use support::git::instead_of_git;
use support::sandbox::ending_line;
use support::scenes::kill;
use support::wait::poll;
use support::{Project, Sandbox, TmuxServer, wait_until};

struct Size {
    processes: usize,
    projects: usize,
    tasks: usize,
    sessions: u32,
    limit: Duration,
}

fn size() -> Size {
    match std::env::var_os("CCL_TEST_LONG") {
        Some(_) => Size {
            processes: 50,
            projects: 10,
            tasks: 1000,
            sessions: 8,
            limit: Duration::from_secs(3600),
        },
        None => Size {
            processes: 16,
            projects: 4,
            tasks: 60,
            sessions: 4,
            limit: Duration::from_secs(300),
        },
    }
}

/// A pool: a state directory, a tmux server, sessions `k-0` …
struct Pool {
    sandbox: Sandbox,
    tmux: TmuxServer,
    sessions: u32,
}

impl Pool {
    fn is_free(&self) -> bool {
        let files = support::sandbox::names(&self.sandbox.state_dir().join("sessions"));
        !files.iter().any(|name| name.ends_with(".dispatched"))
    }

    /// The windows of agents in which something runs.
    fn living_agents(&self) -> Vec<String> {
        let format = "#{pane_dead} #{pane_start_command}";
        let panes = self.tmux.try_run(&["list-panes", "-a", "-F", format]).stdout;
        let panes = String::from_utf8_lossy(&panes).into_owned();
        let lives = |pane: &&str| pane.starts_with("0 ") && pane.contains("CCL_SCRIPT");
        panes.lines().filter(lives).map(str::to_owned).collect()
    }

    /// Lets the time of the hold come, where it is not over. False: there is none, or it has come.
    fn let_hold_end(&self) -> bool {
        let agents = self.sandbox.state_dir().join("agents");
        let Ok(lock) = fs::File::open(agents.join("command.lock")) else { return false };
        fs2::FileExt::lock_exclusive(&lock).expect("the lock on the hold");
        let file = agents.join("command.hold");
        let Ok(bytes) = fs::read(&file) else { return false };
        let mut hold: Value = serde_json::from_slice(&bytes).expect("a hold");
        let until: Timestamp = hold["until"].as_str().expect("a time").parse().expect("a time");
        if until <= Timestamp::now() {
            return false;
        }
        hold["until"] = json!(Timestamp::now() - SignedDuration::from_secs(1));
        let aside = agents.join(".ended");
        fs::write(&aside, hold.to_string()).expect("a hold");
        fs::rename(&aside, &file).expect("the hold is replaced");
        true
    }
}

/// The queues that all pools serve, and the log of what ran.
struct Queues {
    sandbox: Sandbox,
    projects: Vec<Project>,
}

impl Queues {
    fn new(projects: usize) -> Self {
        let sandbox = Sandbox::new();
        let projects = (0..projects).map(|number| sandbox.project(&format!("p{number}"))).collect();
        Self { sandbox, projects }
    }

    fn pool(&self, sessions: u32, host: &str) -> Pool {
        self.pool_whose_agent_begins(sessions, host, "")
    }

    /// `begin` is a part of a shell script, with the prompt as `$1`.
    fn pool_whose_agent_begins(&self, sessions: u32, host: &str, begin: &str) -> Pool {
        let mut sandbox = Sandbox::new();
        let tmux = sandbox.tmux();
        let here = self.sandbox.path().display();
        let script = format!(
            "{begin}\
             echo \"${{1%% *}}\" >> {here}/runs\n\
             case $1 in *commit*)\n\
                 echo x > \"${{1%% *}}.txt\" && git add . &&\n\
                 git -c user.name=A -c user.email=a@b commit -qm \"${{1%% *}}\";;\n\
             esac\n\
             case $1 in *hold*) until [ -e {here}/go ]; do sleep 0.02; done;; esac\n"
        );
        let agent = sandbox.path().join("agent.sh");
        fs::write(&agent, script).expect("the agent");
        let agent = json!({"kind": "command", "command": ["sh", agent]});
        sandbox.config("agent", agent);
        sandbox.config(
            "dispatcher",
            json!({"message": "{task} {body}", "cooldown": "0s", "projects_dir": self.sandbox.projects_dir()}),
        );
        sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": sessions}}));
        sandbox.config("host", json!(host));
        Pool { sandbox, tmux, sessions }
    }

    /// Drops `count` tasks, each of a name of its own, over all projects; returns their names.
    fn drop_tasks(&self, count: usize, text: &str) -> Vec<String> {
        let mut names = Vec::new();
        for number in 0..count {
            let name = format!("t{number}.md");
            self.projects[number % self.projects.len()].drop_task(&name, text);
            names.push(name);
        }
        names
    }

    fn all(&self, list: impl Fn(&Project) -> Vec<String>) -> Vec<String> {
        let mut names: Vec<String> = self.projects.iter().flat_map(list).collect();
        names.retain(|name| !name.starts_with(".ccl-"));
        names.sort();
        names
    }

    fn runs(&self) -> BTreeMap<String, usize> {
        let log = fs::read_to_string(self.sandbox.path().join("runs")).unwrap_or_default();
        let mut runs = BTreeMap::new();
        for name in log.lines() {
            *runs.entry(name.to_owned()).or_default() += 1;
        }
        runs
    }

    /// Calls `scan`, `reap` and `assign` of all pools from many processes until all is done.
    #[track_caller]
    fn serve(&self, pools: &[&Pool], processes: usize, names: Vec<String>, limit: Duration) {
        self.serve_by(pools, processes, names, limit, |pool, args| {
            let output = pool.sandbox.ccl(args).output().expect("ccl runs");
            if is_served(&output) { Ok(()) } else { Err(said(&output)) }
        });
        for pool in pools {
            assert_eq!(pool.tmux.agent_windows(), [""; 0], "{}", pool.tmux.screens());
        }
    }

    /// The same where `call` makes the passes; its error is why one went wrong. A window of a pass that was killed may be left:
    /// tmux has opened it after another pass had cleared the run. Nothing starts in it, and the next task of its session closes it.
    #[track_caller]
    fn serve_by(
        &self,
        pools: &[&Pool],
        processes: usize,
        mut names: Vec<String>,
        limit: Duration,
        call: impl Fn(&Pool, &[&str]) -> Result<(), String> + Sync,
    ) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in 0..processes {
                let (is_over, call) = (&is_over, &call);
                scope.spawn(move || {
                    let pool = pools[worker % pools.len()];
                    let mut turn = worker;
                    while !is_over.load(Ordering::SeqCst) {
                        turn += 1;
                        let session = format!("k-{}", turn as u32 % pool.sessions);
                        let args = match turn % 3 {
                            0 => vec!["scan"],
                            1 => vec!["reap"],
                            _ => vec!["assign", &session],
                        };
                        if let Err(why) = call(pool, &args) {
                            is_over.store(true, Ordering::SeqCst);
                            panic!("{args:?}: {why}");
                        }
                    }
                });
            }
            let is_done = || {
                self.all(Project::done).len() == names.len()
                    && self.all(Project::inbox).is_empty()
                    // A pass that was killed may have left what it had filed to the next one.
                    && pools.iter().all(|pool| pool.is_free())
            };
            // In vain, if a pass failed or time is up: what is missing is told below.
            poll(limit, || (is_done() || is_over.load(Ordering::SeqCst)).then_some(()));
            is_over.store(true, Ordering::SeqCst);
        });
        names.sort();
        let screens: Vec<_> = pools.iter().map(|pool| pool.tmux.screens()).collect();
        assert_eq!(self.all(Project::done), names, "{}", screens.join("\n"));
        assert_eq!(self.all(Project::inbox), [""; 0]);
        assert_eq!(self.all(Project::failed), [""; 0]);
        for pool in pools {
            let is_quiet =
                poll(support::PATIENCE, || pool.living_agents().is_empty().then_some(()));
            assert!(is_quiet.is_some(), "{}", pool.tmux.screens());
        }
        let once: BTreeMap<_, _> = names.into_iter().map(|name| (name, 1)).collect();
        assert_eq!(self.runs(), once);
    }
}

/// Whether a pass did what it could. With so many at work on so few processors one may not get a lock
/// in time; it says so, and another does its work.
fn is_served(output: &Output) -> bool {
    let waited_in_vain = ["has been locked by another process", "another pass changes branches in"];
    output.status.success()
        || output.status.code() == Some(75)
            && waited_in_vain.iter().any(|words| said(output).contains(words))
}

#[test]
fn many_processes_serve_one_pool() {
    let size = size();
    let queues = Queues::new(size.projects);
    let pool = queues.pool(size.sessions, "one");
    let names = queues.drop_tasks(size.tasks, "go\n");
    queues.serve(&[&pool], size.processes, names, size.limit);
}

fn two_pools_share_one_queue(hosts: [&str; 2]) {
    let size = size();
    let queues = Queues::new(size.projects);
    let pools = hosts.map(|host| queues.pool(size.sessions / 2, host));
    let names = queues.drop_tasks(size.tasks, "go\n");
    queues.serve(&[&pools[0], &pools[1]], size.processes, names, size.limit);
    for pool in &pools {
        let left = support::sandbox::names(&pool.sandbox.state_dir().join("sessions"));
        assert!(
            left.iter().all(|name| name.ends_with(".lock") || name.starts_with(".ccl-")),
            "{left:?}"
        );
    }
}

#[test]
fn two_pools_of_two_hosts_share_one_queue() {
    two_pools_share_one_queue(["one", "two"]);
}

#[test]
fn two_pools_of_one_host_share_one_queue() {
    two_pools_share_one_queue(["one", "one"]);
}

/// A pass; every other one is killed as it enters some system call, if it comes to that. Whether it was.
fn pass_or_kill(pool: &Pool, args: &[&str]) -> Result<bool, String> {
    let [dice, call, nth, few, ..] = *uuid::Uuid::new_v4().as_bytes();
    let output = if dice % 2 == 0 {
        let syscall = CHANGING[usize::from(call) % CHANGING.len()];
        // Only passes that launch make many calls of one kind.
        let nth = u32::from(nth % 24) >> (few % 5);
        pass_with(&pool.sandbox, args, kill(syscall, nth + 1), &[])
    } else {
        pool.sandbox.ccl(args).output().expect("ccl runs")
    };
    let was_killed = was_killed(output.status);
    if was_killed || is_served(&output) { Ok(was_killed) } else { Err(said(&output)) }
}

/// Pools with so many sessions share one account. From its eleventh task on it is at its limit, until each pool has sent
/// two probes in vain.
fn a_limit_in_the_middle(sessions: &[u32]) {
    const TASKS: usize = 40;
    const IN_VAIN: usize = 2;
    let queues = Queues::new(4);
    let here = queues.sandbox.path();
    let walls = |pool: usize| here.join(format!("walls-{pool}"));
    let pools: Vec<Pool> = sessions
        .iter()
        .enumerate()
        .map(|(number, sessions)| {
            let (here, walls) = (here.display(), walls(number));
            let begin = format!(
                "echo >> {here}/starts\n\
                 if [ $(wc -l < {here}/starts) -gt 10 ] && [ ! -e {here}/reset ]; then\n\
                     echo \"${{1%% *}}\" >> {}; exit 75\n\
                 fi\n",
                walls.display()
            );
            let mut pool = queues.pool_whose_agent_begins(*sessions, "one", &begin);
            pool.sandbox.config("agent", json!({"limit_exit": 75}));
            // What counted as an attempt would be in failed/.
            pool.sandbox.config("dispatcher", json!({"max_attempts": 1}));
            pool
        })
        .collect();
    let names = queues.drop_tasks(TASKS, "go\n");
    let probes: Vec<_> = pools.iter().map(|_| Mutex::new(0)).collect();
    let killed = AtomicUsize::new(0);
    let all: Vec<&Pool> = pools.iter().collect();
    queues.serve_by(&all, 8, names, size().limit, |pool, args| {
        for (pool, probes) in pools.iter().zip(&probes) {
            let mut probes = probes.lock().expect("the probes");
            *probes += usize::from(pool.let_hold_end());
        }
        if probes.iter().all(|probes| *probes.lock().expect("the probes") > IN_VAIN) {
            fs::write(here.join("reset"), "").expect("the reset");
        }
        if pass_or_kill(pool, args)? {
            killed.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let killed = killed.into_inner();
    assert!(killed >= 10, "only {killed} passes were killed");
    for (number, (pool, probes)) in pools.iter().zip(probes).enumerate() {
        let met = fs::read_to_string(walls(number)).expect("the wall was met").lines().count();
        let (sessions, probes) = (pool.sessions as usize, probes.into_inner().expect("the probes"));
        assert!(met > IN_VAIN, "pool {number} has met it {met} times");
        assert!(
            met <= sessions + probes,
            "pool {number} has met it {met} times, with {sessions} sessions and {probes} probes"
        );
    }
    for project in &queues.projects {
        for name in project.done() {
            let ending = ending_line(&project.read(&format!("done/{name}"))).expect("its ending");
            assert_eq!(ending["attempt"], 1, "{name}: {ending:?}");
        }
    }
}

/// The first agent is at its limit from its eleventh task on, and the next one goes on with all others, whichever passes are
/// killed.
#[test]
fn the_next_agent_goes_on_with_what_the_first_cannot_and_nothing_runs_twice() {
    const TASKS: usize = 40;
    let queues = Queues::new(4);
    let here = queues.sandbox.path();
    let begin = format!(
        "echo >> {0}/starts\n\
         if [ $(wc -l < {0}/starts) -gt 10 ]; then echo \"${{1%% *}}\" >> {0}/walls; exit 75; fi\n",
        here.display()
    );
    let mut pool = queues.pool_whose_agent_begins(4, "one", &begin);
    // The same without the beginning; a colleague's task has a sentence of its own before the prompt.
    let next = pool.sandbox.path().join("next.sh");
    let log = format!(
        "name=$(printf '%s' \"$1\" | grep -o 't[0-9]*\\.md' | head -n 1)\n\
         echo \"$name\" >> {0}/runs\necho \"$name\" >> {0}/next-runs\n",
        here.display()
    );
    fs::write(&next, log).expect("the next agent");
    let first = pool.sandbox.path().join("agent.sh");
    pool.sandbox.config("agent", Value::Null);
    let agents = json!({
        "command": {"kind": "command", "command": ["sh", first], "limit_exit": 75},
        "next": {"kind": "command", "command": ["sh", next]},
    });
    pool.sandbox.config("agents", agents);
    pool.sandbox.config("failover", json!(["command", "next"]));
    // What counted as an attempt would be in failed/.
    pool.sandbox.config("dispatcher", json!({"max_attempts": 1}));
    let names = queues.drop_tasks(TASKS, "go\n");
    let killed = AtomicUsize::new(0);
    queues.serve_by(&[&pool], 8, names, size().limit, |pool, args| {
        if pass_or_kill(pool, args)? {
            killed.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    assert!(killed.into_inner() > 0, "no pass was killed");
    let lines = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(here.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let (walls, next) = (lines("walls"), lines("next-runs"));
    // Each session may have been on its way to the wall; a probe comes when five minutes are over, if at all. Passes that are
    // killed add nothing: a session that has met the wall has its marker until the hold is written, and a pass looks for
    // holds only once it has locked a session without one.
    assert!((1..=4 + 1).contains(&walls.len()), "{walls:?}");
    // Two that start at the same moment may both see that the eleventh has.
    assert!((TASKS - 10..TASKS).contains(&next.len()), "{next:?}");
    for project in &queues.projects {
        for name in project.done() {
            let ending = ending_line(&project.read(&format!("done/{name}"))).expect("its ending");
            let agent = if next.contains(&name) { "next" } else { "command" };
            assert_eq!(
                (&ending["attempt"], &ending["agent"]),
                (&json!(1), &json!(agent)),
                "{name}"
            );
        }
    }
    let journal = fs::read_to_string(pool.sandbox.state_dir().join("journal.jsonl")).expect("it");
    let switched = journal.lines().filter(|line| line.contains("command → next")).count();
    assert!(switched <= walls.len(), "{switched} switches\n{journal}");
}

#[test]
fn a_limit_is_met_by_each_session_once_and_by_each_probe() {
    a_limit_in_the_middle(&[4]);
}

#[test]
fn two_pools_meet_one_limit_by_each_session_once_and_by_each_probe() {
    a_limit_in_the_middle(&[2, 2]);
}

/// A git that notes where two of them change main, or a branch that is to land, at the same moment.
fn watched_git(here: &Path, git: &str) -> String {
    let here = here.display();
    format!(
        "#!/bin/sh\n\
         case \" $* \" in *' rebase '*|*' merge '*)\n\
             mkdir {here}/landing || echo \"$*\" >> {here}/together\n\
             {git} \"$@\"; code=$?; rmdir {here}/landing; exit $code;;\n\
         esac\n\
         exec {git} \"$@\"\n"
    )
}

/// The names of the tasks that the pools say have landed, in the order in which they did.
fn landed(pools: &[Pool]) -> Vec<String> {
    let mut entries: Vec<(Timestamp, String)> = Vec::new();
    for pool in pools {
        let journal = pool.sandbox.state_dir().join("journal.jsonl");
        for line in fs::read_to_string(journal).expect("a journal").lines() {
            let entry: Value = serde_json::from_str(line).expect("a line of the journal");
            if entry["event"] == "landed" {
                let text = |key: &str| entry[key].as_str().expect("a text").to_owned();
                entries.push((text("time").parse().expect("a time"), text("task")));
            }
        }
    }
    entries.sort();
    entries.into_iter().map(|(_, task)| task).collect()
}

/// Two pools land twenty tasks in one repository, each checked as it is to lie there; `serve` makes the passes. With
/// `kills` a pass may have landed a branch, and been killed before it could say so.
fn land_in_one_repository(kills: bool, serve: impl Fn(&Queues, &[&Pool], Vec<String>)) {
    const TASKS: usize = 20;
    let queues = Queues::new(1);
    let project = &queues.projects[0];
    project.init_git();
    let here = queues.sandbox.path();
    // It reads all that has landed, and takes its time.
    let rules = format!(
        "isolation: worktree\nland: rebase\ncheck: for it in *.txt; do grep -qx x \"$it\" || exit 1; done; test -s README && sleep 0.2 && git rev-parse 'HEAD^{{tree}}' >> {}/trees\n",
        here.display()
    );
    fs::write(project.root().join(".agent-queue/project.yaml"), rules).expect("its rules");
    let path = instead_of_git(here, |git| watched_git(here, git));
    let mut pools = ["one", "two"].map(|host| queues.pool(3, host));
    for pool in &mut pools {
        pool.sandbox.env("PATH", path.clone());
    }
    let names = queues.drop_tasks(TASKS, "commit\n");
    serve(&queues, &[&pools[0], &pools[1]], names.clone());
    // All of them, each commit once, in a line, and their files in the project's own checkout.
    let commits = project.git(["log", "--first-parent", "--reverse", "--format=%s %T", "main"]);
    let commits: Vec<(&str, &str)> =
        commits.lines().map(|line| line.split_once(' ').expect("two words")).collect();
    let order: Vec<&str> = commits.iter().skip(1).map(|(name, _)| *name).collect();
    let mut sorted: Vec<String> = order.iter().map(|name| (*name).to_owned()).collect();
    sorted.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(sorted, expected);
    assert_eq!(project.git(["rev-list", "--merges", "main"]), "");
    assert!(names.iter().all(|name| project.root().join(format!("{name}.txt")).exists()));
    // A check has seen each tree that main has had since.
    let checked = fs::read_to_string(here.join("trees")).expect("what was checked");
    for (name, tree) in &commits[1..] {
        assert!(checked.lines().any(|seen| seen == *tree), "{name}: {tree} not in {checked}");
    }
    for name in &names {
        let ending = ending_line(&project.read(&format!("done/{name}"))).expect("its ending");
        assert_eq!(ending["git"]["landed"], true, "{name}: {ending:?}");
    }
    let mut landed = landed(&pools);
    if kills {
        // A pass that was killed before the task was filed has noted it already, perhaps before others landed.
        let mut noted = BTreeSet::new();
        landed.retain(|task| noted.insert(task.clone()));
        let of_main = order.iter().filter(|name| landed.iter().any(|it| it == *name));
        assert!(of_main.eq(&landed), "{order:?}\n{landed:?}");
    } else {
        assert_eq!(landed, order);
    }
    // Main has moved once for each, and nothing is left over.
    assert_eq!(project.git(["reflog", "show", "main"]).lines().count(), TASKS + 1);
    assert_eq!(project.git(["status", "--porcelain"]), "");
    assert_eq!(project.git(["branch", "--format=%(refname:short)"]), "main");
    assert_eq!(project.git(["worktree", "list"]).lines().count(), 1);
    let queue = project.root().join(".agent-queue");
    assert_eq!(support::sandbox::names(&queue.join("worktrees")), [""; 0]);
    // Once one has been noted as to land and lands all the same, the directory stays, empty.
    let to_land = queue.join("to-land");
    assert!(!to_land.exists() || support::sandbox::names(&to_land).is_empty());
    let together = fs::read_to_string(queues.sandbox.path().join("together"));
    assert!(together.is_err(), "two at once: {together:?}");
}

#[test]
fn two_pools_land_in_one_repository_one_after_the_other() {
    land_in_one_repository(false, |queues, pools, names| {
        queues.serve(pools, 10, names, size().limit);
    });
}

#[test]
fn whichever_passes_are_killed_all_that_is_green_lands_once_and_in_order() {
    let killed = AtomicUsize::new(0);
    land_in_one_repository(true, |queues, pools, names| {
        queues.serve_by(pools, 8, names, size().limit, |pool, args| {
            if pass_or_kill(pool, args)? {
                killed.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
    });
    let killed = killed.into_inner();
    assert!(killed >= 10, "only {killed} passes were killed");
}

/// Every name in the inbox with its contents and times.
fn snapshot(inbox: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let mut files = BTreeMap::new();
    for name in support::sandbox::names(inbox) {
        let path = inbox.join(&name);
        let modified = fs::metadata(&path).expect("metadata").modified();
        let bytes = fs::read(&path).expect("a file");
        files.insert(name, (bytes, modified.expect("a time")));
    }
    files
}

#[test]
fn a_pool_leaves_alone_what_another_one_has() {
    let queues = Queues::new(1);
    let (one, other) = (queues.pool(1, "same"), queues.pool(1, "same"));
    let names = queues.drop_tasks(1, "hold\n");
    one.sandbox.ccl(["scan"]).assert().success();
    let inbox = queues.projects[0].queue("inbox");
    let before = snapshot(&inbox);
    assert_eq!(before.len(), 2, "{:?}", before.keys());
    for args in [&["scan"][..], &["reap"], &["assign", "k-0"], &["scan"]] {
        other.sandbox.ccl(args).assert().success();
        assert_eq!(snapshot(&inbox), before, "{args:?}");
    }
    wait_until("the agent runs", support::PATIENCE, || queues.runs().len() == 1);
    fs::write(queues.sandbox.path().join("go"), "").expect("go");
    queues.serve(&[&one, &other], 2, names, Duration::from_secs(60));
}
