//! The runner by itself: one of many, killed at every moment.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use crate::ray_server::Worker;
use crate::support::faults::is_long;
use crate::support::git::{git, instead_of_git};
use crate::support::{wait_until, write_program};
use crate::world::{AGENT, LONG, Runner, TASK, World, left_in};

fn submitted(world: &World) -> (String, String) {
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();
    (id, job.entrypoint())
}

#[test]
fn twenty_runners_with_one_key_are_one_agent() {
    let world = World::new();
    let (id, entrypoint) = submitted(&world);
    let mut runners: Vec<Runner> = (0..20).map(|_| Runner::start(&world, &entrypoint)).collect();
    let codes: Vec<Option<i32>> = runners.iter_mut().map(Runner::wait).collect();
    assert_eq!(world.agents(), 1);
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(75)).count(), 19, "{codes:?}");
    world.ray.set(&id, "SUCCEEDED", None);
    world.converge("a.md", "done/a.md");
}

/// A shell for the runner's worker: SIGKILL to the whole group before the nth command of the script, of its functions and
/// of what it runs in a subshell.
fn mortal_shell(world: &World, nth: usize) -> Worker {
    let mut worker = world.worker();
    let bin = world.node().join("bin");
    fs::create_dir(&bin).unwrap();
    let count = world.node().join("count");
    fs::write(&count, "0\n").unwrap();
    let trap = format!(
        "read -r ccl_count <{count}; echo $((ccl_count + 1)) >{count}; [ \"$ccl_count\" != {nth} ] || kill -9 0",
        count = count.display()
    );
    let script = format!(
        "#!/bin/sh\nscript=$2\nshift 2\nexec bash --posix -c \"set -T; trap '{}' DEBUG\n$script\" \"$@\"\n",
        trap.replace('$', "\\$").replace('"', "\\\"")
    );
    write_program(&bin.join("sh"), &script);
    let path = std::env::var("PATH").unwrap();
    worker.env.insert("PATH".into(), format!("{}:{path}", bin.display()).into());
    worker
}

/// Killed at every line: the work is done once, or given up, and never twice. With `CCL_TEST_LONG=1` at each command, else
/// at a fair sample of them.
#[test]
fn a_runner_that_is_killed_anywhere_costs_no_second_agent() {
    let (mut kills, mut ends) = (0, BTreeSet::new());
    for nth in (0..).step_by(if is_long() { 1 } else { 4 }) {
        let world = World::new();
        fs::write(world.project.root().join(".agent-queue/project.yaml"), "check: test -e one\n")
            .unwrap();
        let (id, entrypoint) = submitted(&world);
        let status = mortal_shell(&world, nth).command(&entrypoint).status().unwrap();
        let was_killed = status.code().is_none();
        kills += usize::from(was_killed);
        world.ray.set(&id, if was_killed { "FAILED" } else { "SUCCEEDED" }, None);
        // Ray has restarted it, which it never does: it is another one with the same key.
        let again = world.worker().command(&entrypoint).status().unwrap();
        world.pass(&["reap"]);
        let places = world.project.task_places("a.md");
        match places[0].as_str() {
            "done/a.md" => {}
            "failed/a.md" => {
                let reason = world.ending("failed/a.md")["reason"].to_string();
                // The shell of its check is one that is killed, too.
                let of_check = reason.contains("the check") && reason.contains("ended with 137");
                assert!(of_check || reason.contains("has handed nothing in"), "{nth}: {reason}");
            }
            other => panic!("{nth}: {other}"),
        }
        assert!(world.agents() <= 1, "{nth}: {} agents, {again}", world.agents());
        assert!(places[0] != "done/a.md" || world.agents() == 1, "{nth}");
        ends.insert((places[0].clone(), world.agents()));
        // A shell of the check that is killed leaves a runner that ends by itself, with another status.
        if status.success() {
            break;
        }
    }
    assert!(kills >= 12, "only {kills} kills");
    // Before the claim, before the agent, after it, and at the very end.
    let place = |place: &str, agents| (format!("{place}/a.md"), agents);
    assert_eq!(ends, [place("done", 1), place("failed", 0), place("failed", 1)].into());
}

/// A task that was filed between the runner's look at its base and its claim: nobody begins with it, and nothing is left.
#[test]
fn a_runner_that_claims_what_is_over_gives_it_up() {
    let (world, key, entrypoint) = World::submitted();
    let mut worker = world.worker();
    let path = instead_of_git(&world.node(), |git| {
        let exchange = world.exchange();
        let remove =
            format!("{git} --git-dir={} update-ref -d refs/ccl/{key}/base", exchange.display());
        format!("#!/bin/sh\ncase \"$*\" in *' push '*) {remove} ;; esac\nexec {git} \"$@\"\n")
    });
    worker.env.insert("PATH".into(), path);
    let status = worker.command(&entrypoint).status().unwrap();
    assert_eq!((status.code(), world.agents()), (Some(75), 0));
    assert!(world.refs().is_empty(), "{:?}", world.refs());
}

/// Its exchange is away when it has something to hand in.
#[test]
fn a_runner_waits_for_its_exchange_and_loses_nothing() {
    let world =
        World::with_agent(&format!("{AGENT}until [ -e \"$HOME/go\" ]; do sleep 0.02; done\n"));
    let (id, entrypoint) = submitted(&world);
    let mut runner = Runner::start(&world, &entrypoint);
    wait_until("the agent", LONG, || world.node().join("pwd").exists());
    let elsewhere = world.sandbox.path().join("elsewhere.git");
    fs::rename(world.exchange(), &elsewhere).unwrap();
    // A tool that says when the first attempt was made is git itself, which has gone by then: its pause follows.
    fs::write(world.node().join("go"), "").unwrap();
    wait_until("a pause of the runner", LONG, || is_asleep(runner.group()));
    fs::rename(&elsewhere, world.exchange()).unwrap();
    assert_eq!(runner.wait(), Some(0));
    world.ray.set(&id, "SUCCEEDED", None);
    world.converge("a.md", "done/a.md");
    git(world.project.root(), ["rev-parse", "ccl/a"]);
}

/// It does not come back in time: the work stays where it was done, and the runner says where, and what to do.
#[test]
fn what_cannot_be_handed_in_stays_and_can_be_handed_in_by_hand() {
    let world =
        World::with_agent(&format!("{AGENT}mv \"$HOME/../exchange.git\" \"$HOME/../away.git\"\n"));
    let (id, entrypoint) = submitted(&world);
    let mut worker = world.worker();
    let bin = world.node().join("bin");
    fs::create_dir(&bin).unwrap();
    write_program(&bin.join("sleep"), "#!/bin/sh\nexit 0\n");
    let path = std::env::var("PATH").unwrap();
    worker.env.insert("PATH".into(), format!("{}:{path}", bin.display()).into());
    let output = worker.command(&entrypoint).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), world.agents()), (Some(74), 1), "{said}");
    let lies = left_in(&world.node(), "ccl-");
    let tree = world.node().join(&lies[0]).join("tree");
    assert!(said.contains(&format!("in {}, commit ", tree.display())), "{said}");
    assert_eq!(fs::read_to_string(tree.join("two")).unwrap(), "uncommitted\n");
    fs::rename(world.sandbox.path().join("away.git"), world.exchange()).unwrap();
    let (_, by_hand) = said.split_once("hands it in: ").unwrap();
    let output = world.worker().command(by_hand.trim()).output().unwrap();
    assert!(output.status.success(), "{by_hand} {output:?}");
    world.ray.set(&id, "FAILED", None);
    world.converge("a.md", "done/a.md");
}

/// A git that hangs is ended, and what it was to do is done again.
#[test]
fn a_git_of_the_worker_that_hangs_is_ended() {
    let world = World::with_agent(&format!("{AGENT}: >\"$HOME/hang\"\n"));
    let (_, entrypoint) = submitted(&world);
    let mut worker = world.worker();
    let path = instead_of_git(&world.node(), |git| {
        format!(
            "#!/bin/sh\ncase \"$*\" in *' push '*) rm \"$HOME/hang\" 2>/dev/null && exec sleep 9999 ;; esac\nexec {git} \"$@\"\n"
        )
    });
    let timeout = "#!/bin/sh\nPATH=${PATH#*:}\ncase \"$4 $*\" in git*' push '*) [ ! -e \"$HOME/hang\" ] || { shift 3; set -- -k 1 1 \"$HOME/bin/$@\"; } ;; esac\nexport PATH=\"$HOME/bin:$PATH\"\nexec /usr/bin/timeout \"$@\"\n";
    write_program(&world.node().join("bin/timeout"), timeout);
    worker.env.insert("PATH".into(), path);
    let output = worker.command(&entrypoint).output().unwrap();
    assert_eq!((output.status.code(), world.agents()), (Some(0), 1), "{output:?}");
    assert!(!world.node().join("hang").exists());
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
}

/// Whether a process of the group is `sleep 2` or a longer one.
fn is_asleep(group: i32) -> bool {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().into_string().ok());
    let mut processes = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    processes.any(|pid| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let of_group =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2).map(str::to_owned));
        let words = read("cmdline");
        of_group == Some(group.to_string())
            && words.starts_with(b"sleep\0")
            && !words.ends_with(b"\x000\0")
    })
}

/// What the agent has made and no commit of its branch holds is not thrown away, and the task is not done.
#[test]
fn what_cannot_come_back_stays_where_it_is_and_the_task_has_failed() {
    for (agent, stays, words) in [
        ("git init -q sub; echo mine >sub/mine\n", "sub/mine", "?? sub/"),
        (
            "git init -q sub; echo mine >sub/mine; cd sub; git add mine; git -c user.name=A -c user.email=a@b commit -qm x\n",
            "sub/mine",
            "a repository within the repository",
        ),
        (
            "git checkout -qb fix; echo mine >mine; git add mine; git -c user.name=A -c user.email=a@b commit -qm x; git checkout -q work; echo note >note\n",
            ".git/refs/heads/fix",
            "on other branches only",
        ),
        (
            "echo mine >mine; git add mine; git -c user.name=A -c user.email=a@b stash -q\n",
            ".git/refs/stash",
            "on other branches only",
        ),
        (
            "git worktree add -q ../fix; echo mine >../fix/mine\n",
            "../fix/mine",
            "beside the project's directory",
        ),
        (
            "for n in 1 2; do echo $n >mine; git add mine; git -c user.name=A -c user.email=a@b commit -qm $n; done; git -c user.name=A -c user.email=a@b -c sequence.editor='sed -i s/^pick/edit/' rebase -qi HEAD~1\n",
            ".git/rebase-merge",
            "an unfinished merge or rebase",
        ),
        // As git lfs does: git gets the name of what it is, which only a push by git lfs takes elsewhere.
        (
            "mkdir -p .git/lfs/objects; git config filter.lfs.clean 'cat >.git/lfs/objects/1; printf \"version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 5\\n\" 1'; echo '*.bin filter=lfs -text' >.gitattributes; echo mine >a.bin\n",
            ".git/lfs/objects/1",
            "kept with git lfs",
        ),
    ] {
        let world = World::with_agent(&format!("#!/bin/sh\necho run >>\"$HOME/runs\"\n{agent}"));
        let (id, entrypoint) = submitted(&world);
        let output = world.worker().command(&entrypoint).output().unwrap();
        assert_eq!((output.status.code(), world.agents()), (Some(74), 1), "{output:?}");
        let lies = left_in(&world.node(), "ccl-");
        assert!(world.node().join(&lies[0]).join("tree").join(stays).exists(), "{words}");
        world.ray.set(&id, "FAILED", None);
        world.converge("a.md", "failed/a.md");
        let reason = world.ending("failed/a.md")["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(&lies[0]) && reason.contains(words), "{reason}");
    }
}

/// One file that git cannot take leaves the others; locks of a git that was killed are nobody's.
#[test]
fn what_an_agent_leaves_locked_comes_back() {
    let world = World::with_agent(&format!(
        "{AGENT}for name in HEAD index packed-refs; do : >.git/$name.lock; done\n"
    ));
    let (id, entrypoint) = submitted(&world);
    let output = world.worker().command(&entrypoint).output().unwrap();
    assert_eq!((output.status.code(), world.agents()), (Some(0), 1), "{output:?}");
    world.ray.set(&id, "SUCCEEDED", None);
    world.converge("a.md", "done/a.md");
    assert_eq!(git(world.project.root(), ["show", "ccl/a:two"]).trim(), "uncommitted");
    assert_eq!(left_in(&world.node(), "ccl-"), [""; 0]);
}

/// A file that git is not to look at has come about by the agent's hand all the same.
#[test]
fn what_an_agent_hides_from_its_git_comes_back() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let world =
            World::with_agent(&format!("{AGENT}git update-index {flag} one; echo changed >one\n"));
        let (id, entrypoint) = submitted(&world);
        let output = world.worker().command(&entrypoint).output().unwrap();
        assert_eq!((output.status.code(), world.agents()), (Some(0), 1), "{output:?}");
        world.ray.set(&id, "SUCCEEDED", None);
        world.converge("a.md", "done/a.md");
        assert_eq!(git(world.project.root(), ["show", "ccl/a:one"]).trim(), "changed", "{flag}");
    }
}

/// Ray ends it while the work is judged: the work stays where it is.
#[test]
fn a_runner_that_is_ended_while_it_checks_keeps_the_work() {
    let world = World::new();
    let rules = "check: touch \"$HOME/checking\"; until [ -e \"$HOME/go\" ]; do sleep 0.02; done\n";
    fs::write(world.project.root().join(".agent-queue/project.yaml"), rules).unwrap();
    let (id, entrypoint) = submitted(&world);
    let runner = world.worker().command(&entrypoint).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the check", LONG, || world.node().join("checking").exists());
    let group = rustix::process::Pid::from_child(&runner);
    rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
    // A shell looks at its signals when the check has ended, which is in a process group of its own.
    fs::write(world.node().join("go"), "").unwrap();
    let output = runner.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("it lies on"), "{output:?}");
    let lies = left_in(&world.node(), "ccl-");
    assert!(world.node().join(&lies[0]).join("tree/two").exists());
    world.ray.set(&id, "FAILED", None);
    world.converge("a.md", "failed/a.md");
    let reason = world.ending("failed/a.md")["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains(&format!("its work may lie in {}", world.node().join(&lies[0]).display())),
        "{reason}"
    );
}
