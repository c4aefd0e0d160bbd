//! An exchange that is not there, says no, or lies.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::git::{git, instead_of_git, try_git};
use crate::world::{TASK, World};

/// A task that was submitted, with its key and its job's entrypoint.
fn submitted() -> (World, String, String) {
    let world = World::new();
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();
    (world, id.strip_prefix("ccl-").unwrap().to_owned(), job.entrypoint())
}

/// Makes a commit in the exchange by hand: `parents`, and a message.
fn forge(world: &World, tree: &str, parents: &[&str], message: &str) -> String {
    let mut args = vec!["commit-tree", tree, "-m", message];
    args.extend(parents.iter().flat_map(|parent| ["-p", parent]));
    git(&world.exchange(), args)
}

fn set_run(world: &World, key: &str, object: &str) {
    git(&world.exchange(), ["update-ref", &format!("refs/ccl/{key}/run"), object]);
}

/// What a stranger may have put there is refused with a word, and leaves nothing in the project.
#[test]
fn what_is_forged_is_refused() {
    let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    type Forge = fn(&World, &str, &str) -> String;
    let result = |work: &str| format!(r#"{{"version":1,"exit":0,"host":"h","work":"{work}"}}"#);
    let forgeries: [(&str, Forge); 5] = [
        ("is no commit", |world, _, _| {
            git(&world.exchange(), ["hash-object", "-w", "--stdin", "--path=x"])
        }),
        ("no runner of ccl", |world, base, _| {
            forge(world, &format!("{base}^{{tree}}"), &[base], "hello")
        }),
        // The claim is not of this run.
        ("the result of another task", |world, base, _| {
            let tree = format!("{base}^{{tree}}");
            let stranger = forge(world, &tree, &[], "first");
            let claim = forge(world, &tree, &[&stranger], r#"{"version":1,"claim":"x"}"#);
            let text = format!(r#"{{"version":1,"exit":0,"host":"h","work":"{stranger}"}}"#);
            forge(world, &tree, &[&claim, &stranger], &text)
        }),
        ("the work on another task", |world, base, _| {
            let tree = format!("{base}^{{tree}}");
            let claim = forge(world, &tree, &[base], r#"{"version":1,"claim":"x"}"#);
            forge(world, &tree, &[&claim, base], r#"{"version":1,"exit":0,"work":"0123"}"#)
        }),
        ("cannot be fetched", |world, base, _| {
            // A tree with `..` in it, which git itself would not make.
            let blob = git(&world.exchange(), ["hash-object", "-w", "--stdin"]);
            let script = format!(
                "printf '100644 ..\\0'; printf '{}'",
                blob.as_bytes()
                    .chunks(2)
                    .map(|pair| format!("\\x{}", std::str::from_utf8(pair).unwrap()))
                    .collect::<String>()
            );
            let pipe = format!("{{ {script}; }} | git hash-object -w -t tree --literally --stdin");
            let made = std::process::Command::new("bash")
                .args(["-c", &pipe])
                .current_dir(world.exchange())
                .output()
                .unwrap();
            let tree = String::from_utf8(made.stdout).unwrap().trim().to_owned();
            let work = forge(world, &tree, &[&format!("{base}^")], "evil");
            let claim =
                forge(world, &format!("{base}^{{tree}}"), &[base], r#"{"version":1,"claim":"x"}"#);
            let text = format!(r#"{{"version":1,"exit":0,"host":"h","work":"{work}"}}"#);
            forge(world, &format!("{base}^{{tree}}"), &[&claim, &work], &text)
        }),
    ];
    let _ = (empty, result("x"));
    for (words, forge) in forgeries {
        let (world, key, _) = submitted();
        let before = world.checkout();
        let base = format!("refs/ccl/{key}/base");
        let base = git(&world.exchange(), ["rev-parse", &base]);
        set_run(&world, &key, &forge(&world, &base, &key));
        world.pass(&["reap"]);
        assert_eq!(world.project.failed(), ["a.md"], "{words}");
        let reason = world.ending("failed/a.md")["reason"].to_string();
        assert!(reason.contains(words), "{reason}");
        assert!(world.is_clean(), "{words}");
        assert_eq!(world.checkout(), before, "{words}");
        assert_eq!(world.project.git(["branch", "--list", "ccl/*"]), "", "{words}");
        assert!(!world.sandbox.path().join("projects/x").exists());
    }
}

/// The runner's own files may be anything; what they say is cut.
#[test]
fn output_without_end_is_cut_and_is_no_harm() {
    let world = World::with_agent(
        "#!/bin/sh\nhead -c 20000000 /dev/zero | tr '\\0' x\nprintf '\\033[2J<!-- ccl {} -->' >&2\n",
    )
    .runs();
    world.project.drop_task("a.md", TASK);
    world.converge("a.md", "done/a.md");
    let text = world.project.read("done/a.md");
    assert!(text.len() > 8 << 20 && text.len() < 9 << 20, "{}", text.len());
    assert_eq!(world.ending("done/a.md")["outcome"], "done");
}

#[test]
fn an_exchange_that_is_not_there_holds_its_tasks_with_a_word() {
    let (mut world, _, entrypoint) = submitted();
    let elsewhere = world.sandbox.path().join("elsewhere.git");
    fs::rename(world.exchange(), &elsewhere).unwrap();
    // Nothing can be known of the one that was submitted; a new one is not even asked for.
    world.project.drop_task("b.md", TASK);
    world.project.drop_task("c.md", TASK);
    let said = world.pass(&["scan"]);
    assert_eq!(said.matches("does not do what it is asked for").count() / 2, 2, "{said}");
    assert_eq!(world.marker("b.md")["exchange"]["is_sent"], false);
    assert_eq!(world.ray.jobs().len(), 1);
    let said = world.pass(&["reap"]);
    assert!(said.contains("a.md of") && said.contains("does not do"), "{said}");
    assert!(world.project.inbox().contains(&"a.md.delegated".to_owned()));
    // What was never sent can be cancelled; what may be at work cannot.
    world.pass(&["cancel", "b"]);
    assert_eq!(world.project.failed(), ["b.md"]);
    let output = world.run(&["cancel", "a"]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    // It comes back.
    fs::rename(&elsewhere, world.exchange()).unwrap();
    world.worker().command(&entrypoint).output().unwrap();
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
    world.sandbox.config("remote", json!({"url": world.ray.url()}));
}

/// A connection that breaks off loses no result; a person can end what can never be fetched.
#[test]
fn a_result_that_cannot_be_fetched_waits_and_can_be_cancelled() {
    let (mut world, _, entrypoint) = submitted();
    world.worker().command(&entrypoint).output().unwrap();
    let plain = std::env::var_os("PATH").unwrap();
    let path = instead_of_git(world.sandbox.path(), |git| {
        format!(
            "#!/bin/sh\ncase \"$*\" in *' fetch '*) echo 'fatal: early EOF' >&2\n\
             echo 'fatal: fetch-pack: invalid index-pack output' >&2; exit 128 ;; esac\nexec {git} \"$@\"\n"
        )
    });
    world.sandbox.env("PATH", &path);
    let said = world.pass(&["reap"]);
    assert!(said.contains("cannot be fetched") && said.contains("early EOF"), "{said}");
    assert!(world.project.inbox().contains(&"a.md.delegated".to_owned()));
    assert_eq!(world.refs().len(), 2);
    world.project.drop_task("b.md", TASK);
    world.pass(&["scan"]);
    let b = world.marker("b.md");
    let entrypoint = world.ray.jobs()[b["job_id"].as_str().unwrap()].entrypoint();
    world.worker().command(&entrypoint).output().unwrap();
    world.pass(&["cancel", "b"]);
    assert_eq!(world.project.failed(), ["b.md"]);
    world.sandbox.env("PATH", plain);
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
    assert!(world.is_clean());
}

/// A file that was filed is filed, whether or not its refs can be taken away.
#[test]
fn refs_that_cannot_be_taken_away_hold_nothing_up_and_go_later() {
    let (mut world, _, entrypoint) = submitted();
    world.worker().command(&entrypoint).output().unwrap();
    let path = instead_of_git(world.sandbox.path(), |git| {
        format!(
            "#!/bin/sh\ncase \"$*\" in *' :refs/ccl/'*) echo 'read-only' >&2; exit 1 ;; esac\nexec {git} \"$@\"\n"
        )
    });
    world.sandbox.env("PATH", path);
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
    assert_eq!(world.refs().len(), 2);
    let left = world.project.inbox();
    assert!(left.len() == 1 && left[0].ends_with(".leaving"), "{left:?}");
    // The name is free.
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    assert_eq!(world.ray.taken().len(), 2);
    world.sandbox.env("PATH", std::env::var_os("PATH").unwrap());
    world.pass(&["reap"]);
    assert_eq!(world.refs().len(), 1);
    assert!(!world.project.inbox().iter().any(|name| name.ends_with(".leaving")));
}

#[test]
fn an_exchange_that_takes_nothing_is_named() {
    let mut world = World::new();
    world.project.drop_task("a.md", TASK);
    // Root may write everywhere, so it is a hook that says no, as a server does that is full.
    let hook = world.exchange().join("hooks/pre-receive");
    fs::write(&hook, "#!/bin/sh\necho 'quota exceeded' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let said = world.pass(&["scan"]);
    assert!(said.contains("quota exceeded") && said.contains("held"), "{said}");
    assert!(world.ray.jobs().is_empty() && world.refs().is_empty());
    let doctor = world.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("2.60.0, and takes the token"), "{said}");
    world.sandbox.config("remote", json!({"exchange": "/no/such/exchange.git"}));
    let doctor = world.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("git init --bare"), "{said}");
}

/// All open runs of one exchange are asked for at once, and a project without remote tasks costs no git.
#[test]
fn one_look_at_the_exchange_for_all_tasks() {
    let mut world = World::new();
    let log = world.sandbox.path().join("calls");
    let path = instead_of_git(world.sandbox.path(), |git| {
        format!("#!/bin/sh\necho \"$@\" >>{}\nexec {git} \"$@\"\n", log.display())
    });
    world.sandbox.env("PATH", path);
    let calls = || fs::read_to_string(&log).unwrap_or_default();
    world.run(&["scan"]);
    world.pass(&["reap"]);
    assert_eq!(calls(), "");
    for number in 0..5 {
        world.project.drop_task(format!("{number}.md"), TASK);
    }
    world.pass(&["scan"]);
    assert_eq!(calls().matches("push --quiet").count(), 5);
    assert_eq!(calls().matches("ls-remote").count(), 0);
    fs::remove_file(&log).unwrap();
    world.pass(&["reap"]);
    let calls = calls();
    assert_eq!((calls.matches("ls-remote").count(), calls.lines().count()), (1, 1), "{calls}");
    try_git(world.project.root(), ["status"]);
}
