//! The system refuses: no space, no descriptors, no locks, a dying disk, a file system without
//! `renameat2`. A pass that cannot go on says so in a sentence and ends with 75 or 1; nothing is
//! lost, nothing runs twice, and once the trouble is over ordinary passes bring the task to its end.
#![allow(clippy::expect_used)]

mod support;

use support::faults::{Fault, World, disturb_each, said};
use support::scenes::{Scene, scene};
use support::{PATIENCE, wait_until};

/// Which calls can fail how.
const TROUBLES: &[(&str, &[&str])] = &[
    (
        "ENOSPC",
        &["write", "fsync", "openat", "renameat", "renameat2", "mkdir"],
    ),
    (
        "EIO",
        &["read", "getdents64", "statx", "newfstatat", "unlink"],
    ),
    ("EROFS", &["renameat", "unlink", "fchmod"]),
    ("EACCES", &["openat", "statx", "renameat2"]),
    (
        "EMFILE",
        &["openat", "open", "pipe2", "pidfd_open", "fcntl"],
    ),
    ("ENOLCK", &["flock"]),
    ("EAGAIN", &["clone3"]),
    // As where a file system does not know the call.
    ("EINVAL", &["renameat2"]),
];

/// What a task cannot be moved or noted without: where one of these fails, the pass has to say so.
const ESSENTIAL: &[&str] = &["fsync", "renameat", "renameat2"];

/// All calls one by one with `CCL_TEST_LONG=1`; else the first ones, and then ever fewer: most look
/// at processes, one like the other.
fn next(nth: u32) -> u32 {
    match std::env::var_os("CCL_TEST_LONG") {
        None if nth >= 6 => nth * 2 - nth / 3,
        _ => nth + 1,
    }
}

/// A pass with trouble at one call, or from that call on; false if it makes fewer of them.
fn starve_at(world: &World, scene: &Scene, fault: &Fault<'_>) -> bool {
    let Fault { syscall, nth, .. } = fault;
    let lasts = if fault.from_then_on { "lasting-" } else { "" };
    let task = format!(
        "{lasts}{}-{syscall}-{nth}.md",
        fault.action.replace("error=", "")
    );
    let when = format!("{}: {task}", scene.name);
    world.begin(&task, scene.body);
    (scene.prepare)(world, &task);
    let output = world.pass_with(scene.pass, *fault);
    let injected = world.was_injected();
    world.assert_once(&task, &when);
    judge(&output, injected, fault, &when);
    world.pass(&["scan"]);
    world.assert_once(&task, &when);
    world.go(true);
    world.converge(&task, &when);
    assert_eq!(world.runs(&task), scene.runs, "{when}\n{}", said(&output));
    assert!(world.project.failed().is_empty(), "{when}");
    injected
}

/// A sentence, and an exit status that tells whether it may work later.
fn judge(output: &std::process::Output, injected: bool, fault: &Fault<'_>, when: &str) {
    let (code, said) = (output.status.code(), said(output));
    if code == Some(127) {
        assert!(said.contains("error while loading"), "{when}: {said}");
        return;
    }
    assert!(matches!(code, Some(0 | 1 | 75 | 78)), "{when}: {said}");
    assert!(!said.contains("panicked"), "{when}: {said}");
    if code != Some(0) && fault.syscall != "write" {
        assert!(
            said.contains("cannot") || said.contains("failed"),
            "{when}: {said}"
        );
    }
    if injected && ESSENTIAL.contains(&fault.syscall) {
        let expected = match fault.action {
            "error=EACCES" => Some(1),
            // Then a link does what the rename would have done.
            "error=EINVAL" => Some(0),
            _ => Some(75),
        };
        assert_eq!(code, expected, "{when}: {said}");
    }
}

fn play(name: &str, lasting: bool) {
    let scene = scene(name);
    let jobs = TROUBLES
        .iter()
        .flat_map(|(errno, calls)| calls.iter().map(|call| (*errno, *call)))
        .collect();
    let failures = disturb_each(scene.worker, jobs, next, |world, (errno, syscall), nth| {
        let fault = Fault {
            syscall,
            nth,
            action: &format!("error={errno}"),
            from_then_on: lasting,
        };
        starve_at(world, scene, &fault)
    });
    assert!(failures > 50, "{name}: only {failures} failures");
}

#[test]
fn scan_that_launches() {
    play("scan launches", false);
}

#[test]
fn scan_that_launches_in_lasting_trouble() {
    play("scan launches", true);
}

#[test]
fn reap_that_files() {
    play("reap files what is done", false);
}

#[test]
fn reap_that_gives_back() {
    play("reap gives back what failed", false);
}

#[test]
fn scan_after_a_killed_scan() {
    play("scan finds the agent that a killed scan had started", false);
}

/// Runs `script` with file systems of its own; `$1` is a directory to mount on, the rest is ccl's
/// command line.
fn with_own_mounts(world: &World, script: &str, at: &std::path::Path) -> std::process::Output {
    let ccl = world.sandbox.std_ccl();
    let mut command = std::process::Command::new("unshare");
    let mapped = !rustix::process::geteuid().is_root();
    command.args(mapped.then_some("--map-root-user"));
    command.args(["--mount", "sh", "-ec", script, "sh"]).arg(at);
    command.arg(ccl.get_program()).arg("--config");
    command.arg(world.sandbox.config_file());
    command.env_clear();
    command.envs(
        ccl.get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    command.output().expect("unshare runs")
}

#[test]
fn a_full_disk_stops_its_own_project_and_no_other() {
    let world = World::new();
    let full = world.sandbox.project("a-full-one");
    world.project.drop_task("served.md", "go\n");
    let output = with_own_mounts(
        &world,
        "at=$1; shift; mount -t tmpfs -o size=64k tmpfs $at; mkdir $at/inbox; echo Do it. > $at/inbox/kept.md
         dd if=/dev/zero of=$at/filling bs=1k 2>/dev/null || true
         code=0; \"$@\" scan || code=$?; \"$@\" scan || code=$?
         ls -A $at/inbox; exit $code",
        full.root().join(".agent-queue").as_path(),
    );
    let said = said(&output);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(
        said.contains("cannot write") && said.contains("No space left"),
        "{said}"
    );
    assert!(said.lines().any(|line| line == "kept.md"), "{said}");
    world.converge("served.md", "beside a full disk");
    assert_eq!(world.runs("served.md"), 1);
    assert_eq!(world.runs("kept.md"), 0);
}

#[test]
fn a_read_only_queue_stops_its_own_project_and_no_other() {
    let world = World::new();
    let fixed = world.sandbox.project("a-fixed-one");
    fixed.drop_task("kept.md", "go\n");
    world.project.drop_task("served.md", "go\n");
    let output = with_own_mounts(
        &world,
        "at=$1; shift; mount --bind $at $at; mount -o remount,bind,ro $at
         code=0; \"$@\" scan || code=$?; \"$@\" scan || code=$?; exit $code",
        fixed.root().join(".agent-queue").as_path(),
    );
    let said = said(&output);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(fixed.inbox(), ["kept.md"]);
    world.converge("served.md", "beside a queue that cannot be written");
    wait_until("the other is done too", PATIENCE, || {
        world.pass(&["scan"]);
        world.pass(&["reap"]);
        fixed.done() == ["kept.md"]
    });
    assert_eq!(world.runs("kept.md"), 1);
}
