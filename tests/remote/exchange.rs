//! An exchange that is not there, or says no.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::faults::traced;
use crate::support::git::{git, instead_of_git, try_git};
use crate::world::{TASK, World};

#[test]
fn an_exchange_that_is_not_there_holds_its_tasks_with_a_word() {
    let (world, _, entrypoint) = World::submitted();
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
}

/// A connection that breaks off loses no result; a person can end what can never be fetched.
#[test]
fn a_result_that_cannot_be_fetched_waits_and_can_be_cancelled() {
    let (mut world, _, entrypoint) = World::submitted();
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

/// What a run starts from belongs to nobody in the project, and the exchange has it still.
#[test]
fn what_git_has_thrown_away_here_is_fetched_where_it_is_needed() {
    let (world, key, _) = World::submitted();
    let base = git(&world.exchange(), ["rev-parse", &format!("refs/ccl/{key}/base")]);
    world.project.git(["prune", "--expire=now"]);
    let is_here =
        |world: &World| try_git(world.project.root(), ["cat-file", "-e", &base]).status.success();
    assert!(!is_here(&world));
    world.pass(&["cancel", "a"]);
    assert_eq!(world.project.failed(), ["a.md"]);
    assert!(world.is_clean());
}

/// A file that was filed is filed, whether or not its refs can be taken away.
#[test]
fn refs_that_cannot_be_taken_away_hold_nothing_up_and_go_later() {
    let (mut world, _, entrypoint) = World::submitted();
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
    assert!(said.contains("quota exceeded") && !said.contains("can be read and written"), "{said}");
    fs::remove_file(&hook).unwrap();
    let said = String::from_utf8_lossy(&world.run(&["doctor"]).stdout).into_owned();
    assert!(said.contains("can be read and written, 0 run(s) in it"), "{said}");
    assert!(world.refs().is_empty(), "{:?}", world.refs());
    world.sandbox.config("remote", json!({"exchange": "/no/such/exchange.git"}));
    let doctor = world.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("git init --bare"), "{said}");
}

/// What the exchange does not take of one task keeps no other from going.
#[test]
fn a_push_that_is_refused_silences_the_exchange_for_nobody_else() {
    let world = World::new();
    // In whatever order they are sent, some come behind one that is refused.
    for number in 0..20 {
        world.project.drop_task(format!("heavy{number}.md"), format!("{TASK}It is too heavy.\n"));
        world.project.drop_task(format!("light{number}.md"), TASK);
    }
    let hook = world.exchange().join("hooks/pre-receive");
    let refuses = "#!/bin/sh\nwhile read -r _ new _; do git cat-file commit \"$new\" | grep -q heavy && exit 1; done; exit 0\n";
    fs::write(&hook, refuses).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    world.pass(&["scan"]);
    for number in 0..20 {
        assert_eq!(world.marker(&format!("heavy{number}.md"))["phase"], "submitting");
        assert_eq!(world.marker(&format!("light{number}.md"))["phase"], "submitted");
    }
}

/// The exchange's copy goes once git has been asked to sync what it has brought, and the branch of it.
#[test]
fn what_is_deleted_there_was_synced_here() {
    let (mut world, _, entrypoint) = World::submitted();
    world.worker().command(&entrypoint).output().unwrap();
    let log = world.sandbox.path().join("calls");
    let path = instead_of_git(world.sandbox.path(), |git| {
        format!("#!/bin/sh\necho \"$*\" >>{}\nexec {git} \"$@\"\n", log.display())
    });
    world.sandbox.env("PATH", path);
    world.pass(&["reap"]);
    assert_eq!(world.project.done(), ["a.md"]);
    let calls = fs::read_to_string(&log).unwrap();
    let at = |word: &str| calls.lines().position(|call| call.contains(word)).unwrap();
    let (fetched, made, deleted) = (at(" fetch "), at(" update-ref "), at(" :refs/ccl/"));
    assert!(fetched < made && made < deleted, "{calls}");
    for call in [fetched, made] {
        assert!(calls.lines().nth(call).unwrap().contains("-c core.fsync=all "), "{calls}");
    }
}

/// After a crash of the machine a filed task must not be back with a marker whose refs are gone: it would run again.
#[test]
fn a_marker_that_is_put_away_is_synced_before_its_refs_go() {
    let (world, key, entrypoint) = World::submitted();
    world.worker().command(&entrypoint).output().unwrap();
    let trace = traced(&world.sandbox, &["reap"], &["rename", "openat", "fsync", "clone3"]);
    assert_eq!(world.project.done(), ["a.md"]);
    let leaving = format!(".{key}.leaving\") = 0");
    let mut after = trace.lines().skip_while(|line| !line.contains(&leaving)).skip(1);
    let opened = after.next().unwrap();
    assert!(opened.contains("/.agent-queue/inbox\""), "{trace}");
    let descriptor = opened.rsplit("= ").next().unwrap();
    let synced = after.next().unwrap();
    assert!(synced.contains(&format!("fsync({descriptor}) ")), "{trace}");
    assert!(after.any(|line| line.contains("clone3(")), "{trace}");
}

/// What keeps a task from being made ready names it.
#[test]
fn a_task_that_cannot_be_composed_is_named() {
    let mut world = World::new();
    world.sandbox.config("remote", json!({"agent": ["agent", "x".repeat(130 << 10)]}));
    world.project.drop_task("a.md", TASK);
    let output = world.run(&["scan"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("a.md of ") && said.contains("is not submitted"), "{said}");
    assert!(said.contains("put them into scripts"), "{said}");
}

/// The projects say where the exchange is, and so where the result of a job lies.
#[test]
fn a_result_is_printed_where_origin_is_the_exchange() {
    let mut world = World::new();
    world.project.git(["remote", "add", "origin", world.exchange().to_str().unwrap()]);
    world.sandbox.config("remote", json!({"exchange": "origin"}));
    world.project.drop_task("a.md", TASK);
    world.pass(&["scan"]);
    let (id, job) = world.ray.only_job();
    world.worker().command(&job.entrypoint()).output().unwrap();
    world.ray.set(&id, "SUCCEEDED", None);
    let output = world.run(&["job", "result", &id]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "All is done.");
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
}
