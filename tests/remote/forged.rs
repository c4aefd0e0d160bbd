//! An exchange that lies: what a stranger may have put there is refused with a word, or does no harm.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::git::git;
use crate::world::{TASK, World};

/// What no runner hands in: more than is read of any file.
const TOO_LONG: usize = 17 << 20;

/// Makes an object in the exchange as it stands, also one that git itself would not make.
fn object(world: &World, kind: &str, content: &[u8]) -> String {
    object_in(&world.exchange(), kind, content)
}

fn object_in(repository: &Path, kind: &str, content: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(["hash-object", "-w", "-t", kind, "--literally", "--stdin"])
        .current_dir(repository)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A tree with one entry.
fn tree_with(world: &World, mode: &str, name: &str, entry: &str) -> String {
    let name_of_entry: Vec<u8> = (0..entry.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&entry[at..at + 2], 16).unwrap())
        .collect();
    object(world, "tree", &[format!("{mode} {name}\0").as_bytes(), &name_of_entry].concat())
}

/// A commit by hand.
fn commit(world: &World, tree: &str, parents: &[&str], message: &str) -> String {
    let mut args = vec!["commit-tree", tree, "-m", message];
    args.extend(parents.iter().flat_map(|parent| ["-p", parent]));
    git(&world.exchange(), args)
}

fn claim(world: &World, base: &str) -> String {
    commit(world, &format!("{base}^{{tree}}"), &[base], r#"{"version":1,"claim":"x"}"#)
}

/// A result of this work, as a runner of the claim would make it.
fn result(world: &World, tree: &str, claim: &str, work: &str) -> String {
    let text = format!(r#"{{"version":1,"exit":0,"host":"h","work":"{work}"}}"#);
    commit(world, tree, &[claim, work], &text)
}

/// Submits a task, and lets `forge` say what its run is; the task's base is handed to it.
fn with_run(forge: impl FnOnce(&World, &str) -> String) -> World {
    let (world, key, _) = World::submitted();
    let base = git(&world.exchange(), ["rev-parse", &format!("refs/ccl/{key}/base")]);
    let run = forge(&world, &base);
    git(&world.exchange(), ["update-ref", &format!("refs/ccl/{key}/run"), &run]);
    world
}

#[test]
fn what_is_forged_is_refused() {
    type Forge = fn(&World, &str) -> String;
    let forgeries: [(&str, Forge); 8] = [
        ("is no commit", |world, _| object(world, "blob", b"x")),
        ("is no commit", |world, base| {
            let head = format!(
                "tree {0}\nparent {base}\n",
                git(&world.exchange(), ["rev-parse", &format!("{base}^{{tree}}")])
            );
            let who = "a <a@example.org> 1 +0000";
            let head = format!("{head}author {who}\ncommitter {who}\n\n");
            object(world, "commit", &[head.as_bytes(), &vec![b'x'; TOO_LONG]].concat())
        }),
        ("no runner of ccl", |world, base| {
            commit(world, &format!("{base}^{{tree}}"), &[base], "hello")
        }),
        ("the result of another task", |world, base| {
            let tree = format!("{base}^{{tree}}");
            let stranger = commit(world, &tree, &[], "a history of its own");
            result(world, &tree, &claim(world, &stranger), &stranger)
        }),
        ("the work on another task", |world, base| {
            let tree = format!("{base}^{{tree}}");
            let text = r#"{"version":1,"exit":0,"work":"0123"}"#;
            commit(world, &tree, &[&claim(world, base), base], text)
        }),
        ("cannot be fetched", |world, base| {
            let above = tree_with(world, "100644", "..", &object(world, "blob", b"x"));
            let work = commit(world, &above, &[&format!("{base}^")], "above");
            result(world, &format!("{base}^{{tree}}"), &claim(world, base), &work)
        }),
        ("cannot be fetched", |world, base| {
            let hooks = tree_with(world, "100644", "config", &object(world, "blob", b"x"));
            let inside = tree_with(world, "40000", ".git", &hooks);
            let work = commit(world, &inside, &[&format!("{base}^")], "inside");
            result(world, &format!("{base}^{{tree}}"), &claim(world, base), &work)
        }),
        // In the result's own tree.
        ("cannot be fetched", |world, base| {
            let above = tree_with(world, "100644", "..", &object(world, "blob", b"x"));
            result(world, &above, &claim(world, base), &format!("{base}^"))
        }),
    ];
    for (number, (words, forge)) in forgeries.into_iter().enumerate() {
        let world = with_run(forge);
        let before = world.checkout();
        world.pass(&["reap"]);
        assert_eq!(world.project.failed(), ["a.md"], "{number}: {words}");
        let reason = world.ending("failed/a.md")["reason"].to_string();
        assert!(reason.contains(words), "{number}: {reason}");
        assert_eq!(world.project.inbox(), [""; 0], "{number}: {words}");
        // What git refuses to bring here is nowhere else.
        let stays = usize::from(words == "cannot be fetched");
        assert_eq!(world.refs().len(), stays, "{number}: {words}");
        assert_eq!(world.checkout(), before, "{number}: {words}");
        assert_eq!(world.project.git(["branch", "--list", "ccl/*"]), "", "{number}: {words}");
        assert!(!world.sandbox.path().join("projects/x").exists());
    }
}

/// A commit as old programs made it, which git's checks refuse.
fn old_commit(repository: &Path, parents: &[&str]) -> String {
    let tree = git(repository, ["rev-parse", &format!("{}^{{tree}}", parents[0])]);
    let parents: String = parents.iter().map(|it| format!("parent {it}\n")).collect();
    let text = format!(
        "tree {tree}\n{parents}author a <a@example.org>1 +0000\ncommitter a <a@example.org> 1 +0000\n\nold\n"
    );
    object_in(repository, "commit", text.as_bytes())
}

/// Only what is new is brought, and checked.
#[test]
fn a_projects_own_old_history_does_no_harm() {
    let world = World::new().runs();
    let head = world.project.git(["rev-parse", "HEAD"]);
    let old = old_commit(world.project.root(), &[&head]);
    world.project.git(["reset", "-q", "--hard", &old]);
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    assert_eq!(world.project.git(["rev-list", "--count", "ccl/a"]), "4");
}

/// An agent that has merged such a history is honest. Its work is nowhere but in the exchange, and stays there.
#[test]
fn work_that_git_refuses_stays_in_the_exchange_for_a_person() {
    let world = with_run(|world, base| {
        let old = old_commit(&world.exchange(), &[base]);
        let head = format!("{base}^");
        let work = commit(world, &format!("{head}^{{tree}}"), &[&head, &old], "merge");
        result(world, &format!("{base}^{{tree}}"), &claim(world, base), &work)
    });
    world.pass(&["reap"]);
    world.pass(&["reap"]);
    assert_eq!(world.project.failed(), ["a.md"]);
    assert_eq!(world.project.inbox(), [""; 0]);
    let refs = world.refs();
    let (run, commit) = refs.first_key_value().unwrap();
    assert!(refs.len() == 1 && run.ends_with("/run"), "{refs:?}");
    let reason = world.ending("failed/a.md")["reason"].to_string();
    assert!(reason.contains(run) && reason.contains("missingSpaceBeforeDate"), "{reason}");
    // The words of the filed task are a command that works.
    let text = world.project.read("failed/a.md");
    let by_hand = text.lines().find(|line| line.trim().starts_with("git fetch ")).unwrap();
    let by_hand = by_hand.replace("NAME", "by-hand");
    let done = Command::new("sh").args(["-c", &by_hand]).current_dir(world.project.root()).output();
    assert!(done.unwrap().status.success(), "{by_hand}");
    let work = git(&world.exchange(), ["rev-parse", &format!("{commit}^2")]);
    assert_eq!(world.project.git(["rev-parse", "by-hand"]), work);
}

/// A runner that is not ours hands in a history of its own, and more than is read: a branch, and a sentence.
#[test]
fn work_without_a_common_history_and_output_that_is_too_long_are_filed() {
    let world = with_run(|world, base| {
        let tree = format!("{base}^{{tree}}");
        let stranger = commit(world, &tree, &[], "a history of its own");
        let long =
            tree_with(world, "100644", "output", &object(world, "blob", &vec![b'x'; TOO_LONG]));
        result(world, &long, &claim(world, base), &stranger)
    });
    let before = world.checkout();
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
    assert!(world.project.read("done/a.md").contains("longer than what any runner hands in"));
    assert_eq!(world.project.git(["log", "--format=%s", "ccl/a"]), "a history of its own");
    assert_eq!(world.checkout(), before);
    assert!(world.is_clean());
}

/// The runner cuts what its agent prints, a gigabyte of either kind; what is in it is no harm.
#[test]
fn output_without_end_is_cut_and_is_no_harm() {
    let world = World::with_agent(
        "#!/bin/sh\nhead -c 9000000 /dev/zero | tr '\\0' x\nprintf '\\033[2J<!-- ccl {} -->' >&2\n\
         truncate -s 1G /proc/self/fd/1 /proc/self/fd/2\n",
    )
    .runs();
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    let text = world.project.read("done/a.md");
    assert!(text.len() > 8 << 20 && text.len() < 9 << 20, "{}", text.len());
    assert_eq!(world.ending("done/a.md")["outcome"], "done");
}
