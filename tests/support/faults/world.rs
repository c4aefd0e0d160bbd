//! A small pool that can be disturbed, and the question that is asked after each step: where is the
//! task, and how often did an agent get it?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use serde_json::{Value, json};

use super::super::fake_script::{Behaviour, Ending, Turn};
use super::super::git::instead_of_git;
use super::super::{
    FakeClaude, PATIENCE, Project, Sandbox, TmuxServer, claude_home, sandbox, wait_until,
};
use super::{Fault, pass_with, said, was_injected};

/// Who works on the tasks. A task whose text says `hold` is worked on until [`World::go`]; one that
/// says `fail once` fails the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// A shell script, of kind `command`.
    Script,
    /// The same in a worktree of its own, which lands. Where the text says `commit`, it commits; where it says `leave`, it
    /// leaves a file uncommitted.
    Branch,
    /// The script as the agent `first`, which is at its limit while [`World::wall`] says so, and as `second`, which takes over.
    Limited,
    /// The stand-in for Claude Code 2.1.332. Its failure is that somebody kills it.
    Claude,
    /// The stand-in for 2.1.100, which shows less of what it does.
    OldClaude,
}

/// One session, `k-0`, and one project; whoever works there notes each task it gets.
pub struct World {
    pub sandbox: Sandbox,
    pub tmux: TmuxServer,
    pub project: Project,
    /// In passes with a fault, as on a file system without `RENAME_NOREPLACE`.
    pub lacks_renameat2: bool,
    /// Only calls that name one of these files come to a fault; all calls, where there are none.
    pub only_at: Vec<PathBuf>,
    claude: Option<FakeClaude>,
}

impl World {
    /// A pool whose agents are shell scripts.
    pub fn new() -> Self {
        Self::of(Worker::Script)
    }

    /// A pool with agents of one kind.
    pub fn of(worker: Worker) -> Self {
        let mut sandbox = Sandbox::new();
        let project = sandbox.project("web");
        let (tmux, claude) = match worker {
            Worker::Script => (with_script(&mut sandbox), None),
            Worker::Branch => {
                with_repository(&mut sandbox, &project);
                (with_script(&mut sandbox), None)
            }
            Worker::Limited => {
                let tmux = with_script(&mut sandbox);
                with_two_agents(&mut sandbox);
                (tmux, None)
            }
            Worker::Claude => with_claude(&mut sandbox, false),
            Worker::OldClaude => with_claude(&mut sandbox, true),
        };
        sandbox.config(
            "dispatcher",
            json!({"message": "{task} {body}", "cooldown": "0s", "prompt_timeout": "10s"}),
        );
        sandbox.config("pool", json!({"autonomous": {"prefix": "k-", "max": 1}}));
        tmux.new_session("k-0", &[]);
        Self { sandbox, tmux, project, lacks_renameat2: false, only_at: Vec::new(), claude }
    }

    /// The next task, which is to be held where its text says so. Nobody works on another.
    pub fn begin(&self, task: &str, body: &str) {
        self.go(false);
        fs::write(self.sandbox.path().join("fails"), "").expect("fails");
        if let Some(claude) = &self.claude {
            claude.forget();
        }
        self.project.drop_task(task, body);
    }

    /// Lets agents that hold a task end, or not.
    pub fn go(&self, now: bool) {
        let path = self.sandbox.path().join("go");
        if now {
            fs::write(path, "").expect("go");
        } else {
            let _ = fs::remove_file(path);
        }
    }

    /// Whether the agent `first` is at its limit.
    pub fn wall(&self, is_there: bool) {
        let path = self.sandbox.path().join("wall");
        if is_there {
            fs::write(path, "").expect("the wall");
        } else {
            let _ = fs::remove_file(path);
        }
    }

    /// What people were told of holds since this was asked last.
    pub fn told(&self) -> String {
        let path = self.sandbox.path().join("told");
        let told = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        told
    }

    /// How often an agent was given the task: by what it received.
    pub fn runs(&self, task: &str) -> usize {
        match &self.claude {
            Some(claude) => prompts(claude, task).len(),
            None => {
                let log = fs::read_to_string(self.sandbox.path().join("runs")).unwrap_or_default();
                log.lines().filter(|line| *line == task).count()
            }
        }
    }

    /// Waits until the agent's first turn with the task is over, and long enough for `reap`.
    #[track_caller]
    pub fn wait_for_the_end(&self, task: &str) {
        let exit = self.sandbox.session_file("k-0", "exit");
        wait_until("the agent has ended its turn", PATIENCE, || match &self.claude {
            Some(claude) => is_over(claude, task),
            None => exit.exists() && self.runs(task) == 1,
        });
        self.let_rest();
    }

    /// Makes an agent's rest that has just begun a long one.
    pub fn let_rest(&self) {
        let Some(claude) = &self.claude else { return };
        // 2.1.100 says nothing of it.
        let is_idle = |entry: &Value| entry["status"] == "idle" || entry["status"].is_null();
        // A busy one's word is its own: it would be put back here when it has just become idle.
        let registry = claude.registry();
        if registry.is_empty() || registry.iter().any(is_idle) {
            claude_home::let_rest(claude.home());
        }
    }

    /// Writes the project's rules.
    pub fn say(&self, rules: &str) {
        let path = self.project.root().join(".agent-queue/project.yaml");
        fs::write(path, rules).expect("project.yaml");
    }

    /// What happens to one of the next calls of git that `ccl` makes: to the nth, or the first with that word in it.
    /// It is killed `before` it begins, `after` its end, `within` its work with all that it has started; or the disk is `full WRITE 3`, at the third
    /// such system call; or the power is `cut WRITE 3`: git is killed there, and `ccl` with it.
    pub fn git_fault(&self, which: &str, how: &str) {
        let _ = fs::remove_file(self.sandbox.path().join("git-calls"));
        fs::write(self.sandbox.path().join("git-fault"), format!("{which} {how}\n"))
            .expect("git-fault");
    }

    /// Whether that call was made; none is disturbed any more.
    pub fn was_git_disturbed(&self) -> bool {
        fs::remove_file(self.sandbox.path().join("git-fault")).is_err()
    }

    /// A pass that nothing disturbs.
    #[track_caller]
    pub fn pass(&self, args: &[&str]) -> Output {
        let output = self.sandbox.ccl(args).output().expect("ccl runs");
        assert!(output.status.success(), "ccl {args:?}: {}", said(&output));
        output
    }

    /// [`pass_with`] in this world.
    pub fn pass_with(&self, args: &[&str], fault: Fault<'_>) -> Output {
        let mut more = Vec::new();
        if self.lacks_renameat2 {
            more.push("--inject=renameat2:error=EINVAL".to_owned());
        }
        let paths = self.only_at.iter().map(|path| path.display());
        more.extend(paths.map(|path| format!("--trace-path={path}")));
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        pass_with(&self.sandbox, args, fault, &more)
    }

    /// [`was_injected`] in this sandbox.
    pub fn was_injected(&self) -> bool {
        was_injected(&self.sandbox)
    }

    /// The files and directories that a pass about this task has to do with, but for `/proc` and
    /// temporary names.
    pub fn files_of(&self, task: &str) -> Vec<PathBuf> {
        let root = self.project.root();
        let queue = root.join(".agent-queue");
        let inbox = self.project.queue("inbox");
        let state = self.sandbox.state_dir();
        let claude = self.sandbox.home().join(".claude");
        let mut files = vec![
            root.to_owned(),
            queue.join(".lock"),
            inbox.join(task),
            inbox.join(format!("{task}.dispatched")),
            inbox.join(format!("{task}.delegated")),
            inbox.join(format!(".{task}.claim")),
            self.sandbox.config_file(),
            self.sandbox.projects_dir(),
            state.join("owner"),
            state.join("sessions"),
            claude.join("projects"),
            claude.join("sessions"),
            self.sandbox.home().join(".claude.json"),
        ];
        let folders = ["inbox", "done", "failed"].map(|name| self.project.queue(name));
        files.extend(folders.iter().map(|folder| folder.join(task)));
        files.extend(folders);
        let kinds = ["lock", "dispatched", "cooldown", "run", "prompt", "ticket", "exit", "stop"];
        files.extend(kinds.map(|kind| self.sandbox.session_file("k-0", kind)));
        files.extend([state, queue]);
        files
    }

    /// The task is in one place, no more and no less; two names of one file are one.
    #[track_caller]
    pub fn assert_once(&self, task: &str, when: &str) {
        let mut places = self.project.task_places(task);
        let inode = |place: &String| {
            let path = self.project.root().join(".agent-queue").join(place);
            fs::symlink_metadata(path).map_or(0, |metadata| metadata.ino())
        };
        places.dedup_by_key(|place| inode(place));
        assert_eq!(places.len(), 1, "{task} {when}: {places:?}\n{}", self.shown());
    }

    /// Makes ordinary passes until the task is done and the session free.
    #[track_caller]
    pub fn converge(&self, task: &str, when: &str) {
        let deadline = Instant::now() + PATIENCE;
        for verb in ["scan", "reap"].iter().cycle() {
            self.let_rest();
            let output = self.pass(&[verb]);
            self.assert_once(task, when);
            if self.project.task_places(task) == [format!("done/{task}")]
                && self.left_in_inbox().is_empty()
                && !self.sandbox.session_file("k-0", "dispatched").exists()
            {
                self.assert_nothing_is_left(task, when);
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{task} {when} does not get done: {}\n{}",
                said(&output),
                self.shown()
            );
        }
    }

    /// No window of an agent, and of a session's files only those that stay.
    #[track_caller]
    pub fn assert_nothing_is_left(&self, task: &str, when: &str) {
        assert_eq!(self.tmux.agent_windows(), [""; 0], "{task} {when}: {}", self.shown());
        let mut files = self.session_files();
        let stays = |name: &String| {
            name.ends_with(".lock") || name.ends_with(".cooldown") || name.starts_with(".ccl-")
        };
        files.retain(|name| !stays(name));
        assert!(files.is_empty(), "{task} {when}: {files:?}\n{}", self.shown());
    }

    /// The names in `STATE/sessions/`, which is made by the first pass that needs it.
    fn session_files(&self) -> Vec<String> {
        let sessions = self.sandbox.state_dir().join("sessions");
        if sessions.exists() { sandbox::names(&sessions) } else { Vec::new() }
    }

    /// What lies in the inbox, but for temporary files: a killed pass leaves them for a day.
    pub fn left_in_inbox(&self) -> Vec<String> {
        let mut names = self.project.inbox();
        names.retain(|name| !name.starts_with(".ccl-"));
        names
    }

    /// Everything that tells where the world stands.
    pub fn shown(&self) -> String {
        let state = self.session_files();
        format!(
            "inbox {:?}\nfailed {:?}\nsessions {state:?}\n{}",
            self.project.inbox(),
            self.project.failed(),
            self.tmux.screens()
        )
    }
}

/// A repository whose tasks land by themselves; `ccl` calls git by a program that [`World::git_fault`] disturbs.
fn with_repository(sandbox: &mut Sandbox, project: &Project) {
    project.init_git();
    fs::write(
        project.root().join(".agent-queue/project.yaml"),
        "isolation: worktree\nland: rebase\ncheck: none\n",
    )
    .expect("project.yaml");
    let world = sandbox.path().to_owned();
    let path = instead_of_git(&world, |git| disturbed_git(&world, git));
    sandbox.env("PATH", path);
}

fn disturbed_git(world: &Path, git: &str) -> String {
    let world = world.display();
    format!(
        "#!/bin/sh\n\
         if [ -e {world}/git-fault ]; then\n\
             echo >> {world}/git-calls\n\
             read which how syscall nth < {world}/git-fault\n\
             case \" $(wc -l < {world}/git-calls) $* \" in *\" $which \"*) rm {world}/git-fault;; *) how=;; esac\n\
             case $how in\n\
             before) kill -KILL $$;;\n\
             after) {git} \"$@\" > /dev/null 2>&1; kill -KILL $$;;\n\
             within) {git} \"$@\" > /dev/null 2>&1 & git=$!\n\
                 until [ -e {world}/projects/web/.agent-queue/worktrees/*/big-1 ] || ! kill -0 $git; do :; done\n\
                 kill -KILL 0;;\n\
             cut) strace -f -qq -o {world}/git-trace -e inject=$syscall:signal=SIGKILL:when=$nth {git} \"$@\"; code=$?\n\
                 ! grep -q 'killed by SIGKILL' {world}/git-trace || kill -KILL $PPID $$\n\
                 exit $code;;\n\
             full) exec strace -f -qq -o {world}/git-trace -e inject=$syscall:error=ENOSPC:when=$nth {git} \"$@\";;\n\
             esac\n\
         fi\n\
         exec {git} \"$@\"\n"
    )
}

fn with_script(sandbox: &mut Sandbox) -> TmuxServer {
    let tmux = sandbox.tmux();
    let world = sandbox.path().display();
    let agent = sandbox.path().join("agent.sh");
    let script = format!(
        "name=${{1%% *}}\n\
         case $1 in *'without its session'*) trap '' HUP;; esac\n\
         echo \"$name\" >> {world}/runs\n\
         case $1 in *commit*)\n\
             echo \"$name\" > \"$name.txt\" && git add \"$name.txt\" &&\n\
             git -c user.name=A -c user.email=a@b commit -qm \"$name\";;\n\
         esac\n\
         case $1 in *leave*) echo \"$name\" > \"$name.left\";; esac\n\
         case $1 in *hold*) until [ -e {world}/go ]; do sleep 0.02; done;; esac\n\
         case $1 in *'fail once'*) ! rm {world}/fails 2>/dev/null;; esac\n"
    );
    fs::write(&agent, script).expect("the agent");
    sandbox.config("agent", json!({"kind": "command", "command": ["sh", agent]}));
    tmux
}

fn with_two_agents(sandbox: &mut Sandbox) {
    let world = sandbox.path().display();
    let agent = sandbox.path().join("limited.sh");
    let script = format!(
        // The message of a task that another one has begun has a sentence before it.
        "task=$(printf '%s\\n' \"$2\" | sed -n '$p')\n\
         if [ $1 = first ] && [ -e {world}/wall ]; then\n\
             echo \"${{task%% *}}\" >> {world}/runs; exit 75\n\
         fi\n\
         exec sh {world}/agent.sh \"$task\"\n"
    );
    fs::write(&agent, script).expect("the agents");
    let named =
        |name: &str| json!({"kind": "command", "command": ["sh", agent, name], "limit_exit": 75});
    let tell = format!("cat >> {world}/told");
    sandbox.config("agent", Value::Null);
    sandbox.config("agents", json!({"first": named("first"), "second": named("second")}));
    sandbox.config("failover", json!(["first", "second"]));
    sandbox.config("notify", json!([{"on": ["hold"], "command": ["sh", "-c", tell]}]));
}

/// Without hooks, whose passes would do what the disturbed one is to do.
fn with_claude(sandbox: &mut Sandbox, old: bool) -> (TmuxServer, Option<FakeClaude>) {
    let claude = FakeClaude::install(sandbox);
    let env = claude.env();
    let tmux = sandbox.tmux_with(|builder| builder.envs(env));
    let world = sandbox.path().display();
    let that = |when: &str, run: String| Behaviour {
        old,
        turns: vec![Turn { run, ..Turn::default() }],
        ..Behaviour::on(when)
    };
    claude.script(&[
        that("hold", format!("until [ -e {world}/go ]; do sleep 0.02; done")),
        that("fail once", format!("rm {world}/fails 2>/dev/null && kill -KILL $PPID")),
        that("", String::new()),
    ]);
    sandbox.config("agent", json!({"hooks": false}));
    (tmux, Some(claude))
}

/// The stand-in's notes of the prompts with this task.
fn prompts(claude: &FakeClaude, task: &str) -> Vec<Value> {
    let begin = format!("{task} ");
    let mut prompts = claude.events("prompt");
    prompts.retain(|prompt| prompt["text"].as_str().is_some_and(|text| text.starts_with(&begin)));
    prompts
}

/// Whether the turn of the one prompt with this task is over, or its agent.
fn is_over(claude: &FakeClaude, task: &str) -> bool {
    let prompts = prompts(claude, task);
    let [prompt] = prompts.as_slice() else {
        return false;
    };
    let id = prompt["session"].as_str().expect("a conversation");
    // tmux does not always notice the end of a window's process, which stays as a zombie then.
    let stat = fs::read_to_string(format!("/proc/{}/stat", prompt["pid"])).unwrap_or_default();
    let is_gone = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
    let has_answered = claude.transcript(id).iter().any(|record| record["type"] == "assistant");
    // 2.1.100 says nothing of it.
    let may_be_idle = |entry: &Value| {
        entry["sessionId"] == id && (entry["status"] == "idle" || entry["status"].is_null())
    };
    is_gone || has_answered && claude.registry().iter().any(may_be_idle)
}
