//! One project, an exchange, a stand-in for Ray, and a worker with an agent that the test writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::ray_server::{RayServer, Worker, kill_group, worker};
use crate::support::faults::said;
use crate::support::git::{git, try_git};
use crate::support::sandbox::ending_line;
use crate::support::wait::poll;
use crate::support::{Project, Sandbox, wait_until, write_program};

/// How long something may take that needs dozens of processes, on a machine that has much else to do.
pub(crate) const LONG: Duration = Duration::from_secs(240);

pub(crate) const TOKEN: &str = "t0ken-of-ray";

/// A task that goes to the remote engine.
pub(crate) const TASK: &str =
    "---\nallow_delegation: true\npreferred_ai: remote\n---\nDo it: $HOME `x` 'ö'.\n";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) project: Project,
    pub(crate) ray: RayServer,
}

/// What the agent of the tests does, unless they say otherwise: notes that it ran, what it was asked, and what it was
/// given; commits one file and leaves another one uncommitted.
pub(crate) const AGENT: &str = "#!/bin/sh
echo run >>\"$HOME/runs\"
printf '%s\\n' \"$#\" \"$@\" >\"$HOME/args\"
cat >\"$HOME/prompt\"
env >\"$HOME/env\"
pwd >\"$HOME/pwd\"
echo committed >one
git add one
git -c user.name=Agent -c user.email=agent@example.org commit -qm 'by the agent'
echo uncommitted >two
echo 'All is done.'
";

impl World {
    /// A project with a commit, its exchange, and a Ray at which nothing runs before the test says so.
    pub(crate) fn new() -> World {
        World::with_agent(AGENT)
    }

    pub(crate) fn with_agent(agent: &str) -> World {
        let mut sandbox = Sandbox::new();
        let ray = RayServer::start();
        ray.expect_token(TOKEN);
        let project = sandbox.project("web");
        project.init_git();
        let exchange = sandbox.path().join("exchange.git");
        git(sandbox.path(), ["init", "-q", "--bare", exchange.to_str().unwrap()]);
        let node = sandbox.path().join("node");
        fs::create_dir(&node).unwrap();
        let program = sandbox.path().join("agent");
        write_program(&program, agent);
        let token = sandbox.path().join("token");
        fs::write(&token, TOKEN).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&token, mode).unwrap();
        sandbox.config(
            "remote",
            json!({"kind": "ray", "url": ray.url(), "token_file": token, "exchange": exchange,
                   "agent": [program, "it's an argument"]}),
        );
        // Whatever goes wrong, no session is made on the machine's own tmux server.
        sandbox.config("tmux", json!({"command": [sandbox.path().join("no-tmux")]}));
        sandbox.config("agent", json!({"hooks": false}));
        World { sandbox, project, ray }
    }

    /// A world in which `a.md` was submitted; with the task's key, and its job's entrypoint.
    pub(crate) fn submitted() -> (World, String, String) {
        let world = World::new();
        world.project.drop_task("a.md", TASK);
        world.pass(&["scan"]);
        let (id, job) = world.ray.only_job();
        (world, id.strip_prefix("ccl-").unwrap().to_owned(), job.entrypoint())
    }

    /// From now on Ray runs what it is given.
    pub(crate) fn runs(self) -> World {
        self.ray.run_jobs(self.worker());
        self
    }

    pub(crate) fn worker(&self) -> Worker {
        worker(&self.node())
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.sandbox.path().join("node")
    }

    pub(crate) fn exchange(&self) -> PathBuf {
        self.sandbox.path().join("exchange.git")
    }

    /// How often an agent was started.
    pub(crate) fn agents(&self) -> usize {
        fs::read_to_string(self.node().join("runs")).map_or(0, |text| text.lines().count())
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.sandbox.ccl(args).output().unwrap()
    }

    /// A pass that nothing disturbs; what it said.
    #[track_caller]
    pub(crate) fn pass(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "ccl {args:?}: {}", said(&output));
        said(&output)
    }

    /// Waits until what Ray runs has ended.
    #[track_caller]
    pub(crate) fn wait_for_ray(&self) {
        wait_until("the end of Ray's jobs", LONG, || !self.ray.is_running());
    }

    /// Makes passes until the task is in this place, with nothing left in the inbox and the exchange.
    #[track_caller]
    pub(crate) fn converge(&self, task: &str, place: &str) {
        let mut last = String::new();
        let converged = poll(LONG, || {
            for verb in ["scan", "reap"] {
                let output = self.run(&[verb]);
                last = said(&output);
                assert!(output.status.success(), "{last}");
            }
            (self.project.task_places(task) == [place] && self.is_clean()).then_some(())
        });
        let found = || (self.project.task_places(task), self.project.inbox(), self.refs());
        assert!(converged.is_some(), "{task} does not get to {place}: {:?}\n{last}", found());
    }

    /// Whether neither the inbox nor the exchange holds anything of tasks that were filed.
    pub(crate) fn is_clean(&self) -> bool {
        // What a killed pass was writing stays for a day.
        self.project.inbox().iter().all(|name| name.starts_with(".ccl-")) && self.refs().is_empty()
    }

    /// The refs in the exchange, with what they name.
    pub(crate) fn refs(&self) -> BTreeMap<String, String> {
        let out = try_git(&self.exchange(), ["for-each-ref", "--format=%(refname) %(objectname)"]);
        let text = String::from_utf8(out.stdout).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(name, object)| (name.to_owned(), object.to_owned())).collect()
    }

    /// Makes a commit in the exchange, as a runner or a pass of `ccl` would for the run that starts from `base`; its name.
    pub(crate) fn commit_there(&self, base: &str, message: &str) -> String {
        let tree = format!("{base}^{{tree}}");
        git(&self.exchange(), ["commit-tree", &tree, "-p", base, "-m", message])
    }

    /// The JSON of the last line of a filed task.
    #[track_caller]
    pub(crate) fn ending(&self, place: &str) -> Map<String, Value> {
        ending_line(&self.project.read(place)).unwrap()
    }

    /// What passes have noted of tasks.
    pub(crate) fn journal(&self) -> String {
        fs::read_to_string(self.sandbox.state_dir().join("journal.jsonl")).unwrap_or_default()
    }

    /// The marker of a delegated task.
    #[track_caller]
    pub(crate) fn marker(&self, task: &str) -> Value {
        self.project.marker(&format!("inbox/{task}.delegated"))
    }

    /// HEAD, index, working tree and branches of the project, but for those that are `ccl`'s.
    pub(crate) fn checkout(&self) -> Vec<String> {
        let refs = self.project.git(["for-each-ref", "--format=%(refname) %(objectname)"]);
        let refs = refs.lines().filter(|line| !line.starts_with("refs/heads/ccl/"));
        let mut state: Vec<String> = refs.map(str::to_owned).collect();
        state.push(self.project.git(["symbolic-ref", "HEAD"]));
        state.push(self.project.git(["status", "--porcelain=v2", "--branch"]));
        state.push(self.project.git(["ls-files", "--stage"]));
        let has = |name: &str| self.project.root().join(".git").join(name).exists();
        state.push(format!("FETCH_HEAD: {}", has("FETCH_HEAD")));
        state
    }
}

/// A job's entrypoint, run as Ray would; what is left of it ends with the test.
pub(crate) struct Runner(Child);

impl Runner {
    pub(crate) fn start(world: &World, entrypoint: &str) -> Runner {
        Runner(world.worker().command(entrypoint).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Its process group.
    pub(crate) fn group(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Its exit status.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        kill_group(self.group());
        let _ = self.0.wait();
    }
}

/// The names of a directory's entries that begin so.
pub(crate) fn left_in(directory: &Path, prefix: &str) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}
