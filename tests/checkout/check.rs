//! Done means checked: a command outside of the agent judges, a red one goes back to the agent, and what stays red is not
//! done.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::support::git::git;
use super::support::{PATIENCE, Project, wait_until};
use super::worktree::{commit, say, worktrees, world};
use super::world::{HOLDS, World, ending};

/// A pool of command agents and a project without worktrees that says this.
fn plain(rules: &str) -> (World, Project) {
    let world = World::commands(1).with("agent", json!({"hooks": false}));
    let project = world.project("web");
    say(&project, rules);
    (world, project)
}

/// Makes passes until the task is where it is to be; their events.
#[track_caller]
fn until(world: &World, project: &Project, place: &str) -> Vec<String> {
    let mut events = Vec::new();
    let name = place.rsplit('/').next().unwrap();
    world.tmux.wait_until(place, || {
        events.extend(world.pass(&["reap"]));
        project.task_places(name) == [place]
    });
    events
}

/// The lines that the checks of this world have noted.
fn noted(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.sandbox.home().join("noted")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn green_is_done_and_the_ending_says_what_judged() {
    let (world, project) = plain(
        "check: pwd >> ~/noted; env | grep ^CCL_ | sort >> ~/noted; cat; grep -q yes answer\n",
    );
    project.drop_task("a.md", "DO: echo yes > answer\n");
    world.scan();
    let claim = project.marker("inbox/.a.md.claim");
    assert_eq!(
        until(&world, &project, "done/a.md"),
        ["checked a.md ccl-auto-0", "done a.md ccl-auto-0"]
    );
    let check = ending(&project, "done/a.md")["check"].clone();
    let command = "pwd >> ~/noted; env | grep ^CCL_ | sort >> ~/noted; cat; grep -q yes answer";
    assert_eq!(
        (&check["command"], &check["exit"], &check["rounds"]),
        (&json!(command), &json!(0), &json!(0))
    );
    assert!(check["seconds"].as_u64().unwrap() < 60, "{check}");
    assert!(project.read("done/a.md").contains("check passed, "), "{}", project.read("done/a.md"));
    let noted = noted(&world);
    assert_eq!(Path::new(&noted[0]), project.root().canonicalize().unwrap());
    assert!(noted.contains(&"CCL_TASK=a.md".to_owned()), "{noted:?}");
    assert!(noted.contains(&format!("CCL_RUN={}", claim["run"].as_str().unwrap())), "{noted:?}");
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn red_goes_back_to_the_agent_with_its_output_and_green_ends_it() {
    let (world, project) = world(
        1,
        "check: |\n  echo \"checking $CCL_TASK\"; [ -e good ] || { printf 'no \\033[31mgood\\033[0m here\\n'; exit 3; }\n",
    );
    let text = "DO: case \"$1\" in *'no ''good here'*) touch good;; *) echo x > work;; esac\n";
    project.drop_task("a.md", text);
    world.scan();
    let events = until(&world, &project, "done/a.md");
    assert_eq!(
        events,
        ["checked a.md ccl-auto-0", "checked a.md ccl-auto-0", "done a.md ccl-auto-0"]
    );
    let prompts = world.got("a.md");
    assert_eq!(prompts.len(), 1, "one run: {prompts:?}");
    let prompt = &prompts[0];
    assert!(prompt.contains(text.trim_end()), "the prompt again: {prompt}");
    assert!(
        prompt.contains(
            "ended with 3. The last of its output:\n\n```\nchecking a.md\nno good here\n```\n"
        ),
        "{prompt}"
    );
    // What the base says is found out once.
    assert!(prompt.contains("It was red before you began, too"), "{prompt}");
    let end = ending(&project, "done/a.md");
    let check = &end["check"];
    assert_eq!(
        (&check["exit"], &check["rounds"], &check["red_before"]),
        (&json!(0), &json!(1), &json!(true))
    );
    assert_eq!(end["attempt"], 1);
    let tree = project.git(["rev-parse", "ccl/a^{tree}"]);
    assert_eq!(check["tree"], tree);
    assert_eq!(worktrees(&project), [""; 0]);
}

#[test]
fn what_stays_red_is_given_up_after_its_rounds_and_not_done() {
    let (world, project) = plain("check: echo still red; exit 1\ncheck_rounds: 1\n");
    project.drop_task("a.md", "DO: echo x >> work\n");
    world.scan();
    let events = until(&world, &project, "failed/a.md");
    assert_eq!(
        events,
        ["checked a.md ccl-auto-0", "checked a.md ccl-auto-0", "failed a.md ccl-auto-0"]
    );
    let text = project.read("failed/a.md");
    assert!(text.contains("\n## Check\n\n```\nstill red\n```\n"), "{text}");
    let end = ending(&project, "failed/a.md");
    assert_eq!(end["reason"], "the check `echo still red; exit 1` ended with 1");
    assert_eq!((&end["check"]["exit"], &end["check"]["rounds"]), (&json!(1), &json!(1)));
    assert_eq!(fs::read_to_string(project.root().join("work")).unwrap(), "x\nx\n");
    world.assert_nothing_is_left("ccl-auto-0");
    // A person who retries it does not give the agent the old output as a part of the task.
    world.ccl(&["retry", "a"]);
    assert!(!project.read("inbox/a.md").contains("still red"), "{}", project.read("inbox/a.md"));
}

#[test]
fn what_is_given_up_at_once_has_the_tree_of_the_work() {
    let (world, project) = world(1, "check: '[ -e good ]'\ncheck_rounds: 0\n");
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    until(&world, &project, "failed/a.md");
    let check = ending(&project, "failed/a.md")["check"].clone();
    assert_eq!((&check["exit"], &check["red_before"]), (&json!(1), &json!(true)));
    assert_eq!(check["tree"], project.git(["rev-parse", "ccl/a^{tree}"]));
}

#[test]
fn a_check_that_could_not_run_is_nobodys_fault_and_a_person_has_it_run_again() {
    let (world, project) = plain("check: echo run >> ~/noted; ~/the-check\n");
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    world.tmux.wait_until("a person is needed", || {
        world.pass(&["reap"]);
        let status = world.sandbox.ccl_json(&["status"]);
        status["sessions"][0]["state"] == "needs-attention"
    });
    assert_eq!(noted(&world), ["run", "run", "run"]);
    let status = world.sandbox.ccl_json(&["status"]);
    let reason = status["sessions"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("could not be run (status 127)"), "{reason}");
    assert_eq!(status["tasks"][0]["state"], "checking");
    super::support::write_program(&world.sandbox.home().join("the-check"), "#!/bin/sh\nexit 0\n");
    world.ccl(&["assign", "ccl-auto-0"]);
    until(&world, &project, "done/a.md");
    assert_eq!(ending(&project, "done/a.md")["attempt"], 1);
}

#[test]
fn a_check_whose_directory_the_agent_has_renamed_says_so() {
    let world =
        World::commands(1).with("defaults", Value::Null).with("agent", json!({"hooks": false}));
    let repository = world.project("repo");
    repository.init_git();
    let world = world.with("dispatcher", json!({"projects_dir": repository.root()}));
    let project = world.project("repo/app");
    say(&project, "isolation: worktree\ncheck: 'true'\n");
    fs::write(project.root().join("code"), "").unwrap();
    repository.git(["add", "app/code"]);
    repository.git(["commit", "-qm", "app"]);
    project.drop_task("a.md", "DO: cd .. && git mv app other\n");
    world.scan();
    let reason = world.tmux.wait_for("a person is needed", || {
        world.pass(&["reap"]);
        let session = &world.sandbox.ccl_json(&["status"])["sessions"][0];
        (session["state"] == "needs-attention").then(|| session["reason"].clone())
    });
    let reason = reason.as_str().unwrap();
    assert!(reason.contains("could not be run (its directory or its set-up)"), "{reason}");
}

#[test]
fn a_window_that_a_person_closes_has_the_check_run_again() {
    let (world, project) =
        plain("check: echo run >> ~/noted; until [ -e ~/go ]; do sleep 0.05; done\n");
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    world.pass(&["reap"]);
    world.tmux.wait_until("it runs", || noted(&world).len() == 1);
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["sessions"][0]["state"], "checking", "{status:#}");
    // It holds the checkout: nobody works beside it.
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let pid = world.agent_pid("ccl-auto-0");
    world.tmux.run(&["kill-window", "-t", "=ccl-auto-0:"]);
    world.tmux.wait_until("it has gone", || !super::world::lives(pid));
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    world.tmux.wait_until("it runs again", || noted(&world).len() == 2);
    world.let_go();
    until(&world, &project, "done/a.md");
}

#[test]
fn a_check_has_a_time_limit_and_leaves_nothing_running() {
    let (world, project) = plain(
        "check: trap '' TERM; sleep 600 & echo $! > ~/noted; echo begun; wait\ncheck_timeout: 1s\ncheck_rounds: 0\n",
    );
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    until(&world, &project, "failed/a.md");
    let reason = ending(&project, "failed/a.md")["reason"].clone();
    assert!(reason.as_str().unwrap().ends_with("ran out of time after 1s"), "{reason}");
    assert!(project.read("failed/a.md").contains("begun"));
    let left = noted(&world)[0].parse().unwrap();
    world.tmux.wait_until("what it started has ended", || !super::world::lives(left));
}

#[test]
fn any_output_is_shown_as_its_last_lines_of_plain_text() {
    let (world, project) = plain(
        "check: head -c 3000000 /dev/urandom | tr -d '\\033\\200-\\237'; echo; seq 3000; printf 'the \\033]0;title\\007end\\n```\\n'; exit 1\ncheck_rounds: 0\n",
    );
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    until(&world, &project, "failed/a.md");
    let text = project.read("failed/a.md");
    let section = text.split("\n## Check\n").nth(1).unwrap();
    assert!(section.len() < 6000, "{}", section.len());
    assert!(section.contains("\n2999\n3000\nthe end\n```\n````\n"), "{section}");
    assert!(!section.contains('\u{1b}'));
}

#[test]
fn an_agent_that_weakens_a_protected_test_does_not_get_a_green_light() {
    let (world, project) =
        world(1, "check: sh tests/run.sh\nprotect: ['tests/**']\ncheck_rounds: 1\n");
    let tests = project.root().join("tests");
    fs::create_dir(&tests).unwrap();
    fs::write(tests.join("run.sh"), "[ ! -e tests/skip ] && grep -q real code\n").unwrap();
    project.git(["add", "tests"]);
    project.git(["commit", "-qm", "tests"]);
    let cheats = "echo 'exit 0' > tests/run.sh; touch tests/skip; echo fake > code";
    let text =
        format!("DO: case \"$1\" in *'Make it ''pass'*) echo real > code;; *) {cheats};; esac\n");
    project.drop_task("a.md", text);
    world.scan();
    until(&world, &project, "done/a.md");
    let end = ending(&project, "done/a.md");
    assert_eq!((&end["check"]["rounds"], &end["check"]["exit"]), (&json!(1), &json!(0)));
    // What it has made stays as it is; what was judged is another tree.
    assert_eq!(project.git(["show", "ccl/a:tests/run.sh"]), "exit 0");
    assert_ne!(end["check"]["tree"], project.git(["rev-parse", "ccl/a^{tree}"]));
    assert_eq!(worktrees(&project), [""; 0]);
    // A task whose job the tests are says so.
    project.drop_task("b.md", format!("---\nprotect: []\n---\nDO: {cheats}\n"));
    world.scan();
    until(&world, &project, "done/b.md");
    assert_eq!(ending(&project, "done/b.md")["check"]["rounds"], 0);
}

/// From the agent's end to the check nobody is needed but a pass; from there on the check calls for its verdict itself.
#[test]
fn with_hooks_the_chain_needs_no_timer() {
    let (world, project) = plain("check: '[ -e good ]'\n");
    let world = world.with("agent", json!({"hooks": true}));
    project
        .drop_task("a.md", "DO: case \"$1\" in *'Make it ''pass'*) touch good;; *) true;; esac\n");
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    // The check's end gives it back; the agent of kind `command` has no hook of its own.
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    world.tmux.wait_until("it was given back", || {
        world.got("a.md").iter().any(|prompt| prompt.contains("Make it pass"))
    });
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    world.tmux.wait_until("its end files it", || project.done() == ["a.md"]);
}

#[test]
fn protected_paths_need_a_worktree() {
    let (world, project) = plain("check: true\nprotect: [tests]\n");
    project.drop_task("a.md", "DO: true\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["held - -"]);
    assert!(pass.reason_of_held().contains("`protect` needs a worktree"), "{pass:#?}");
}

#[test]
fn only_what_is_green_lands_and_what_was_rebased_is_checked_again() {
    let (world, project) = world(
        2,
        "land: rebase\ncheck: ls *.txt >> ~/noted; echo . >> ~/noted; [ ! -e bad.txt ]\ncheck_rounds: 0\n",
    );
    project.drop_task("a.md", commit("a.txt", "one"));
    project.drop_task("b.md", commit("b.txt", "two"));
    world.scan();
    world.tmux.wait_until("both have landed", || {
        world.pass(&["reap"]);
        project.done().len() == 2
    });
    let mut log: Vec<_> = project.git(["log", "--format=%s"]).lines().map(str::to_owned).collect();
    log.sort();
    assert_eq!(log, ["a.txt", "b.txt", "first"]);
    // The second was judged together with the first.
    let both = noted(&world).join(" ");
    assert!(both.contains("a.txt b.txt ."), "{both}");
    project.drop_task("c.md", commit("bad.txt", "three"));
    world.scan();
    until(&world, &project, "failed/c.md");
    assert_eq!(project.git(["log", "--format=%s", "-1", "--", "bad.txt"]), "");
    assert_eq!(project.git(["show", "ccl/c:bad.txt"]), "three");
}

#[test]
fn a_task_may_say_that_nothing_judges_it() {
    let (world, project) = plain("check: false\n");
    project.drop_task("a.md", "---\ncheck: none\n---\nDO: true\n");
    world.scan();
    assert_eq!(until(&world, &project, "done/a.md"), ["done a.md ccl-auto-0"]);
    assert_eq!(ending(&project, "done/a.md").get("check"), None);
    // What holds for a run is frozen when it is claimed.
    project.drop_task("b.md", HOLDS);
    world.scan();
    say(&project, "check: none\n");
    world.let_go();
    until(&world, &project, "failed/b.md");
}

#[test]
fn a_task_that_is_cancelled_while_it_is_checked_leaves_nothing() {
    let (world, project) = world(1, "check: echo $$ > ~/noted; sleep 600\nprotect: [README]\n");
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    world.pass(&["reap"]);
    world.tmux.wait_until("it runs", || noted(&world).len() == 1);
    assert_eq!(worktrees(&project), [".a.check", "a"]);
    assert_eq!(world.pass(&["cancel", "a"]), ["failed a.md ccl-auto-0"]);
    assert_eq!(worktrees(&project), ["a"]);
    assert!(!super::world::lives(noted(&world)[0].parse().unwrap()));
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn decide_says_what_would_judge_and_where_nothing_would() {
    let world = World::commands(1);
    let project = world.project("web");
    say(&project, "check: make test\n");
    let task =
        project.drop_task("a.md", "---\npreferred_ai: gpu\nallow_delegation: true\n---\nDo it.\n");
    let decide = |world: &World| {
        world.sandbox.ccl_json(&["decide", task.to_str().unwrap()])["decisions"][0].clone()
    };
    assert_eq!(decide(&world)["check"], "make test");
    let key = world.sandbox.path().join("key");
    fs::write(&key, "a-made-up-key-of-the-tests\n").unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let world = world.with("secutools", json!({"url": "http://127.0.0.1:9", "api_key_file": key}));
    let row = decide(&world);
    assert_eq!((&row["delegated"], &row["check"]), (&json!(true), &Value::Null));
    let warnings = row["warnings"].to_string();
    assert!(warnings.contains("the check `make test` does not judge it there"), "{warnings}");
}

#[test]
fn what_a_check_leaves_running_ends_with_it() {
    let (world, project) = plain(
        "check: |\n  setsid sh -c \"trap '' TERM HUP; echo \\$\\$ > ~/noted; sleep 600\" &\n  until [ -s ~/noted ]; do sleep 0.05; done\n",
    );
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    until(&world, &project, "done/a.md");
    let left = noted(&world)[0].parse().unwrap();
    assert!(!super::world::lives(left));
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn a_check_that_closes_its_own_window_is_run_again_and_then_a_person_is_needed() {
    let (world, project) =
        plain("check: echo run >> ~/noted; [ -e ~/good ] || { tmux kill-window; sleep 600; }\n");
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    world.tmux.wait_until("a person is needed", || {
        world.pass(&["reap"]);
        let status = world.sandbox.ccl_json(&["status"]);
        status["sessions"][0]["state"] == "needs-attention"
    });
    assert_eq!(noted(&world), ["run", "run", "run"]);
    let status = world.sandbox.ccl_json(&["status"]);
    let reason = status["sessions"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("ended without a status: its window was closed"), "{reason}");
    assert_eq!(project.task_places("a.md"), ["inbox/a.md.dispatched"]);
    fs::write(world.sandbox.home().join("good"), "").unwrap();
    world.ccl(&["assign", "ccl-auto-0"]);
    until(&world, &project, "done/a.md");
    assert_eq!(noted(&world).len(), 4);
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn a_hundred_megabytes_end_with_their_last_lines() {
    let (world, project) = plain(
        "check: yes 'a line of a hundred megabytes' | head -c 100000000; echo; echo the end; exit 1\ncheck_rounds: 0\n",
    );
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    wait_until("it is judged", 6 * PATIENCE, || {
        world.pass(&["reap"]);
        project.failed() == ["a.md"]
    });
    let text = project.read("failed/a.md");
    let section = text.split("\n## Check\n").nth(1).unwrap();
    assert!(section.contains("\na line of a hundred megabytes\n"), "{section}");
    assert!(section.contains("\nthe end\n```\n"), "{section}");
    assert!(section.len() < 6000, "{}", section.len());
    assert_eq!(ending(&project, "failed/a.md")["check"]["exit"], 1);
}

/// Where the disk is full, nobody can note how the check has ended: it goes on trying.
#[test]
fn a_check_that_fills_the_disk_is_judged_once_there_is_room_again() {
    let world = World::commands(1).with("agent", json!({"hooks": false}));
    let project = world.project("web");
    let status = world.session_file("ccl-auto-0", "check-exit.new");
    let full = format!("ln -s /dev/full '{}'; echo . >> ~/noted", status.display());
    say(&project, &format!("check: {full}\n"));
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    world.tmux.wait_until("the disk is full", || status.is_symlink() && noted(&world).len() == 1);
    for _ in 0..3 {
        assert_eq!(world.pass(&["reap"]), [""; 0]);
    }
    assert_eq!(world.sandbox.ccl_json(&["status"])["sessions"][0]["state"], "checking");
    fs::remove_file(&status).unwrap();
    until(&world, &project, "done/a.md");
    assert_eq!(noted(&world), ["."]);
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn a_task_that_is_moved_away_while_it_is_checked_leaves_nothing() {
    let (world, project) = world(1, "check: echo $$ > ~/noted; sleep 600\nprotect: [README]\n");
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    world.pass(&["reap"]);
    world.tmux.wait_until("it runs", || noted(&world).len() == 1);
    let inbox = project.queue("inbox");
    fs::rename(inbox.join("a.md.dispatched"), world.sandbox.home().join("a.md")).unwrap();
    world.pass(&["reap"]);
    let pid = noted(&world)[0].parse().unwrap();
    world.tmux.wait_until("the check has ended", || !super::world::lives(pid));
    assert!(!worktrees(&project).contains(&".a.check".to_owned()), "{:?}", worktrees(&project));
    world.assert_nothing_is_left("ccl-auto-0");
    assert_eq!(project.git(["show", "ccl/a:a.txt"]), "one");
}

#[test]
fn what_a_check_leaves_in_the_worktree_is_no_part_of_the_work() {
    let (world, project) = world(
        1,
        "land: rebase\ncheck: date +%N > report.xml; mkdir -p out/deep; echo x > out/deep/log; echo changed > README; [ -e a.txt ]\n",
    );
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    assert_eq!(
        until(&world, &project, "done/a.md"),
        ["checked a.md ccl-auto-0", "done a.md ccl-auto-0", "landed a.md ccl-auto-0"]
    );
    assert_eq!(project.git(["ls-tree", "-r", "--name-only", "main"]), "README\na.txt");
    assert_eq!(project.git(["show", "main:README"]), "one");
    let end = ending(&project, "done/a.md");
    assert_eq!(end["check"]["tree"], project.git(["rev-parse", "main^{tree}"]));
    assert_eq!(worktrees(&project), [""; 0]);
}

#[test]
fn what_a_check_leaves_and_git_cannot_remove_does_not_land() {
    let (world, project) = world(
        1,
        "land: rebase\ncheck: echo x > left; touch \"$(git rev-parse --git-dir)/index.lock\"\n",
    );
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    until(&world, &project, "done/a.md");
    let end = ending(&project, "done/a.md");
    assert_eq!(end["git"]["landed"], false);
    assert!(end["git"]["reason"].as_str().unwrap().contains("index.lock"), "{end:?}");
    assert_eq!(project.git(["ls-tree", "--name-only", "main"]), "README");
    assert_eq!(project.git(["ls-tree", "--name-only", "ccl/a"]), "README\na.txt");
}

/// What an agent has left running may go on, but nothing of it is done before a check has seen it.
#[test]
fn what_changes_after_its_check_is_checked_again() {
    // Its agent ends once this has a session of its own, and does not end with its window.
    let late = "setsid sh -c 'touch ~/begun; until [ -e ~/late ]; do sleep 0.05; done; echo late > late.txt; until git add late.txt && git -c user.name=A -c user.email=a@b commit -qm late; do sleep 0.1; done; exec sleep 600' & until [ -e ~/begun ]; do sleep 0.05; done";
    for protect in ["", "protect: [README]\n"] {
        let (world, project) = world(
            1,
            &format!(
                "land: rebase\n{protect}check: ls >> ~/noted; touch ~/late; until git log --format=%s ccl/a | grep -q late; do sleep 0.05; done\n"
            ),
        );
        project.drop_task("a.md", commit("a.txt", "one") + "DO: " + late + "\n");
        world.scan();
        let events = until(&world, &project, "done/a.md");
        let checked = events.iter().filter(|event| event.starts_with("checked"));
        assert_eq!(checked.count(), 2, "{events:?}");
        assert_eq!(noted(&world), ["README", "a.txt", "README", "a.txt", "late.txt"]);
        let end = ending(&project, "done/a.md");
        assert_eq!(end["check"]["tree"], project.git(["rev-parse", "main^{tree}"]));
        assert_eq!(end["git"]["landed"], true);
        assert_eq!(project.git(["show", "main:late.txt"]), "late");
    }
}

#[test]
fn a_check_that_changes_what_it_judges_comes_to_an_end() {
    let (world, project) = world(
        1,
        "land: rebase\ncheck: date +%N > stamp; git add stamp; git -c user.name=A -c user.email=a@b commit -qm stamp\n",
    );
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    let events = until(&world, &project, "done/a.md");
    let checked = events.iter().filter(|event| event.starts_with("checked"));
    assert_eq!(checked.count(), 4, "{events:?}");
    let end = ending(&project, "done/a.md");
    assert_eq!(end["git"]["landed"], false);
    let why = end["git"]["reason"].as_str().unwrap();
    assert!(why.contains("changes the branch each time"), "{why}");
    assert_eq!(project.git(["ls-tree", "--name-only", "main"]), "README");
}

/// What could not be committed when its check began, and can be later, was seen by no check.
#[test]
fn what_no_check_could_see_is_checked_before_it_lands() {
    let (world, project) = world(
        1,
        "land: rebase\ncheck: cat a.txt >> ~/noted; until [ -e ~/go ]; do sleep 0.05; done\n",
    );
    project.drop_task("a.md", commit("a.txt", "one") + "DO: git checkout -q --detach\n");
    world.scan();
    world.tmux.wait_until("it is checked", || {
        world.pass(&["reap"]);
        noted(&world) == ["one"]
    });
    let worktree = project.root().join(".agent-queue/worktrees/a");
    git(&worktree, ["checkout", "-q", "ccl/a"]);
    fs::write(worktree.join("a.txt"), "two\n").unwrap();
    fs::write(world.sandbox.home().join("go"), "").unwrap();
    until(&world, &project, "done/a.md");
    assert_eq!(noted(&world), ["one", "two"]);
    let end = ending(&project, "done/a.md");
    assert_eq!(end["check"]["tree"], project.git(["rev-parse", "main^{tree}"]));
    assert_eq!(project.git(["show", "main:a.txt"]), "two");
}

/// A pass may have looked at tmux before the check's window was there, and come to the session when that has ended.
#[test]
fn a_pass_that_has_looked_before_the_check_began_gives_back_what_it_printed() {
    let (world, project) = plain("check: echo the words; [ -e good ]\n");
    let home = world.sandbox.home();
    let (slow, go) = (home.join("slow"), home.join("go"));
    let tmux = world.sandbox.path().join("slow-tmux");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' list-panes '*) if rm {slow} 2>/dev/null; then {tmux} \"$@\"; status=$?; until [ -e {go} ]; do sleep 0.02; done; exit $status; fi;; esac\nexec {tmux} \"$@\"\n",
        slow = slow.display(),
        go = go.display(),
        tmux = world.tmux.command().join(" "),
    );
    super::support::write_program(&tmux, &script);
    let world = world.with("tmux", json!({"command": [tmux]}));
    project
        .drop_task("a.md", "DO: case \"$1\" in *'Make it ''pass'*) touch good;; *) true;; esac\n");
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    fs::write(&slow, "").unwrap();
    let mut early = world.sandbox.std_ccl();
    early.arg("--config").arg(world.sandbox.config_file()).arg("reap");
    let mut early = early.spawn().unwrap();
    world.tmux.wait_until("it has looked", || !slow.exists());
    // What it has seen is the agent's window.
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    let exit = world.session_file("ccl-auto-0", "check-exit");
    world.tmux.wait_until("the check has ended", || exit.exists());
    fs::write(&go, "").unwrap();
    assert!(early.wait().unwrap().success());
    world.tmux.wait_until("its agent has it again", || {
        world.got("a.md").iter().any(|prompt| prompt.contains("Make it pass"))
    });
    let prompts = world.got("a.md");
    assert!(prompts[0].contains("```\nthe words\n```"), "{}", prompts[0]);
    until(&world, &project, "done/a.md");
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn a_check_gets_what_it_is_about_and_nobodys_key() {
    let (world, project) =
        world(1, "check: env | cut -d= -f1 >> ~/noted; echo \"base $CCL_BASE\" >> ~/noted\n");
    let keys = [
        "SECUTOOLS_API_KEY",
        "CREDENTIALS_DIRECTORY",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "OPENAI_API_KEY",
        "CODEX_API_KEY",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "OPENROUTER_API_KEY",
    ];
    // As a person has them in their shell.
    for name in keys.into_iter().chain(["NO_KEY"]) {
        world.tmux.run(&["set-environment", "-g", name, "made-up"]);
    }
    let base = project.git(["rev-parse", "main"]);
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    until(&world, &project, "done/a.md");
    let noted = noted(&world);
    assert!(noted.contains(&format!("base {base}")), "{noted:?}");
    for name in ["NO_KEY", "CCL_TASK", "CCL_RUN", "CCL_BASE"] {
        assert!(noted.contains(&name.to_owned()), "{name}: {noted:?}");
    }
    for name in keys {
        assert!(!noted.contains(&name.to_owned()), "{name}: {noted:?}");
    }
}
