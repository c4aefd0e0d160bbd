//! The system refuses: no space, no descriptors, no locks, a dying disk, a file system without
//! `renameat2`. A pass that cannot go on says so in a sentence and ends with 75 or 1; nothing is
//! lost, nothing runs twice, and once the trouble is over ordinary passes bring the task to its end.
#![allow(clippy::expect_used)]

mod support;

use support::faults::{CHANGING, Fault, World, disturb_each, is_long, said, with_own_mounts};
use support::scenes::{Scene, scene};
use support::{PATIENCE, wait_until};

/// What a system says that has no more of something, or does not let us.
const ERRORS: &[&str] = &["ENOSPC", "EIO", "EROFS", "EACCES", "EMFILE", "ENOLCK"];

/// Calls that change something, and the errors that they are known for; with `CCL_TEST_LONG=1` each
/// of them fails in each of [`ERRORS`].
const CHANGES: &[(&str, &[&str])] = &[
    ("ENOSPC", &["write", "fsync", "open", "renameat", "renameat2", "mkdir"]),
    ("EIO", &["unlink", "fsync"]),
    ("EROFS", &["renameat", "unlink", "fchmod"]),
    ("EACCES", &["open", "renameat2"]),
    ("EMFILE", &["pipe2", "pidfd_open"]),
    ("ENOLCK", &["flock"]),
    ("EAGAIN", &["clone3"]),
    // As where a file system does not know the call.
    ("EINVAL", &["renameat2"]),
];

/// Calls that only look, at the queue's, the pool's and the agent's own files.
const LOOKS: &[(&str, &[&str])] = &[
    ("EIO", &["read", "getdents64", "statx", "newfstatat"]),
    ("EACCES", &["openat", "statx"]),
    ("EMFILE", &["openat"]),
];

/// Calls that look at other processes too, and at programs; there are hundreds, one like the other.
const GLANCES: &[(&str, &[&str])] = &[
    ("ENOSPC", &["openat"]),
    ("EIO", &["read", "getdents64", "statx", "newfstatat"]),
    ("EACCES", &["openat", "statx"]),
    ("EMFILE", &["open", "openat", "fcntl"]),
];

/// What a task cannot be moved or noted without: where one of these fails, the pass has to say so.
const ESSENTIAL: &[&str] = &["fsync", "renameat", "renameat2"];

/// Whom an error befalls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// Each of the calls, one after the other.
    All,
    /// Each that is about a file of ours.
    OfOurs,
    /// The first ones, and then ever fewer.
    First,
}

/// One kind of trouble.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Trouble {
    errno: &'static str,
    syscall: &'static str,
    calls: Calls,
}

impl Trouble {
    /// All calls with `CCL_TEST_LONG=1`; else the first ones, and then ever fewer.
    fn next(self, nth: u32) -> u32 {
        match self.calls {
            Calls::First => nth * 3,
            _ if is_long() => nth + 1,
            _ => nth + 1 + nth / 2,
        }
    }
}

fn troubles(list: &[(&'static str, &[&'static str])], calls: Calls) -> Vec<Trouble> {
    let with_errno = |(errno, syscalls): &(&'static str, &[&'static str])| {
        let trouble = |syscall: &&'static str| {
            // All but ours look at other processes, hundreds of times.
            let of_ours = *syscall == "open" && calls == Calls::All;
            let calls = if of_ours { Calls::OfOurs } else { calls };
            Trouble { errno, syscall, calls }
        };
        syscalls.iter().map(trouble).collect::<Vec<_>>()
    };
    list.iter().flat_map(with_errno).collect()
}

/// Everything that can go wrong when something is changed.
fn changes() -> Vec<Trouble> {
    let mut jobs = troubles(CHANGES, Calls::All);
    if is_long() {
        let each: Vec<_> = ERRORS.iter().map(|errno| (*errno, CHANGING)).collect();
        let mut more = troubles(&each, Calls::All);
        more.retain(|trouble| !jobs.contains(trouble));
        jobs.extend(more);
    }
    jobs
}

/// Everything that can go wrong when something is looked at.
fn looks() -> Vec<Trouble> {
    let mut jobs = troubles(LOOKS, Calls::OfOurs);
    jobs.extend(troubles(GLANCES, Calls::First));
    jobs
}

/// A pass with trouble at one call, or from that call on; false if it makes fewer of them.
fn starve_at(world: &mut World, scene: &Scene, trouble: Trouble, nth: u32, lasts: bool) -> bool {
    let Trouble { errno, syscall, calls } = trouble;
    let fault = Fault { syscall, nth, action: &format!("error={errno}"), from_then_on: lasts };
    let which = match calls {
        Calls::All => "all",
        Calls::OfOurs => "ours",
        Calls::First => "first",
    };
    let task = format!("{errno}-{syscall}-{which}-{nth}.md");
    let when = format!("{}: {task}", scene.name);
    world.begin(&task, scene.body);
    (scene.prepare)(world, &task);
    if calls == Calls::OfOurs {
        world.only_at = world.files_of(&task);
    }
    let output = world.pass_with(scene.pass, fault);
    world.only_at.clear();
    let injected = world.was_injected();
    world.assert_once(&task, &when);
    judge(&output, injected, &fault, &when);
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
        assert!(said.contains("cannot") || said.contains("failed"), "{when}: {said}");
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

fn play(name: &str, jobs: Vec<Trouble>, lasts: bool) {
    let (scene, kinds) = (scene(name), jobs.len());
    let failures = disturb_each(scene.worker, jobs, Trouble::next, |world, trouble, nth| {
        starve_at(world, scene, trouble, nth, lasts)
    });
    assert!(failures > kinds, "{name}: only {failures} failures");
}

#[test]
fn scan_that_launches() {
    play("scan launches", changes(), false);
}

#[test]
fn scan_that_launches_and_cannot_look() {
    play("scan launches", looks(), false);
}

#[test]
fn scan_that_launches_in_lasting_trouble() {
    play("scan launches", changes(), true);
}

#[test]
fn reap_that_files() {
    play("reap files what is done", changes(), false);
}

#[test]
fn reap_that_gives_back_and_cannot_look() {
    play("reap gives back what failed", looks(), false);
}

#[test]
fn scan_after_a_killed_scan() {
    play("scan finds the agent that a killed scan had started", changes(), false);
}

#[test]
fn scan_that_launches_claude() {
    play_claude("scan launches");
}

#[test]
fn reap_that_files_a_finished_turn() {
    play_claude("reap files what is done");
}

#[test]
fn assign_that_files_a_finished_turn_and_launches() {
    play_claude("assign files and launches the next");
}

/// An agent takes longer than a script, and most of what can go wrong is the same.
fn play_claude(name: &str) {
    let mut jobs = changes();
    jobs.extend(looks());
    if !is_long() {
        jobs.retain(|trouble| ["renameat", "openat"].contains(&trouble.syscall));
    }
    play(&format!("Claude: {name}"), jobs, false);
}

#[test]
fn a_full_disk_stops_its_own_project_and_no_other() {
    let world = World::new();
    let full = world.sandbox.project("a-full-one");
    world.project.drop_task("served.md", "go\n");
    let output = with_own_mounts(
        &world.sandbox,
        // Its turn comes once the session has done what waited before it.
        "at=$1; shift; mount -t tmpfs -o size=64k tmpfs $at; mkdir $at/inbox; echo Do it. > $at/inbox/kept.md
         dd if=/dev/zero of=$at/filling bs=1k 2>/dev/null || true
         code=0
         for n in $(seq 200); do [ $code = 0 ] || break; \"$@\" scan || code=$?; done
         ls -A $at/inbox; exit $code",
        full.root().join(".agent-queue").as_path(),
    );
    let said = said(&output);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("cannot write") && said.contains("No space left"), "{said}");
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
        &world.sandbox,
        "at=$1; shift; mount --bind $at $at; mount -o remount,bind,ro $at
         code=0
         for n in $(seq 200); do [ $code = 0 ] || break; \"$@\" scan || code=$?; done
         exit $code",
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
