//! Landing: one after the other, by rebase and fast-forward, or by a person's decision.

use std::fs;

use serde_json::json;

use super::worktree::{commit, reap, say, worktrees, world};
use super::world::ending;

#[test]
fn branches_land_one_after_the_other_and_their_worktrees_go() {
    let (world, project) = world(4, "land: rebase\ncheck: none\n");
    for name in ["a", "b", "c", "d"] {
        project.drop_task(format!("{name}.md"), commit(&format!("{name}.txt"), name));
    }
    assert_eq!(world.scan().len(), 4);
    let events = reap(&world, 4);
    assert_eq!(events.iter().filter(|event| event.starts_with("done")).count(), 4, "{events:?}");
    assert_eq!(events.iter().filter(|event| event.starts_with("landed")).count(), 4, "{events:?}");
    let mut log: Vec<_> = project.git(["log", "--format=%s"]).lines().map(str::to_owned).collect();
    log.sort();
    assert_eq!(log, ["a.txt", "b.txt", "c.txt", "d.txt", "first"]);
    assert_eq!(project.git(["rev-list", "--merges", "HEAD"]), "");
    // The project's own checkout has them.
    for name in ["a", "b", "c", "d"] {
        assert!(project.root().join(format!("{name}.txt")).exists());
        let git = &ending(&project, &format!("done/{name}.md"))["git"];
        assert_eq!((&git["landed"], &git["commits"]), (&json!(true), &json!(1)), "{git}");
    }
    assert_eq!(project.git(["status", "--porcelain"]), "");
    assert_eq!(project.git(["branch", "--list", "ccl/*"]), "");
    assert_eq!(worktrees(&project), [""; 0]);
}

#[test]
fn what_nothing_has_checked_waits_for_a_persons_decision() {
    let (world, project) = world(1, "land: rebase\n");
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    let git = ending(&project, "done/a.md")["git"].clone();
    assert_eq!(git["landed"], false);
    assert!(git["reason"].as_str().unwrap().contains("nothing has checked it"));
    let status = world.sandbox.ccl_json(&["status"]);
    let row = &status["projects"][0]["to_land"][0];
    assert_eq!((&row["task"], &row["branch"]), (&json!("a.md"), &json!("ccl/a")), "{status:#}");
    let text = world.sandbox.ccl(["status"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("TO LAND") && text.contains("1 branch is to land"), "{text}");

    let pass = world.ccl(&["land", "a"]);
    assert_eq!((pass.code, pass.short()), (0, vec!["landed a.md -".to_owned()]), "{pass:#?}");
    assert!(project.root().join("a.txt").exists());
    let end = ending(&project, "done/a.md");
    assert_eq!((&end["git"]["landed"], &end["git"]["reason"]), (&json!(true), &json!(null)));
    assert_eq!(end["outcome"], "done");
    assert_eq!(world.sandbox.ccl_json(&["status"])["projects"][0]["to_land"], json!([]));
    assert_eq!(project.git(["branch", "--list", "ccl/*"]), "");
    assert_eq!(worktrees(&project), [""; 0]);
    // A second time there is nothing to land.
    let again = world.ccl(&["land", "a"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("the branch ccl/a is gone"), "{}", again.stderr);
}

#[test]
fn a_conflict_goes_to_the_agent_once_and_then_to_a_person() {
    let (world, project) = world(1, "land: rebase\ncheck: none\n");
    // In its second round the agent solves it, if the task says so.
    let text = |solve: &str| {
        format!(
            "DO: case \"$1\" in *'has mov''ed on'*) {solve};; *) echo agent > README; git -c user.name=A -c user.email=a@b commit -qam agent;; esac\n"
        )
    };
    let solves = "git -c user.name=A -c user.email=a@b rebase main || { echo both > README; git add README; GIT_EDITOR=true git -c user.name=A -c user.email=a@b rebase --continue; }";
    for (name, solve, lands) in [("a.md", solves, true), ("b.md", "true", false)] {
        project.drop_task(name, text(solve));
        world.scan();
        world.wait_for_exit("ccl-auto-0");
        fs::write(project.root().join("README"), format!("{name}: a person's\n")).unwrap();
        project.git(["commit", "-qam", "a person's"]);
        // It is given back: a second window, and not an event.
        assert_eq!(world.pass(&["reap"]), [""; 0], "{name}");
        assert_eq!(project.task_places(name), [format!("inbox/{name}.dispatched")]);
        let events = reap(&world, 1);
        let prompts = world.got(name);
        assert_eq!(prompts.len(), 1, "the same run: {prompts:?}");
        assert!(prompts[0].contains("Rebase your branch onto main"), "{}", prompts[0]);
        assert!(prompts[0].contains("conflicts in README"), "{}", prompts[0]);
        assert!(events.contains(&format!("done {name} ccl-auto-0")), "{events:?}");
        let end = ending(&project, &format!("done/{name}"));
        assert_eq!(end["git"]["landed"], lands, "{end}");
        assert_eq!(end["attempt"], 1);
        if lands {
            assert_eq!(fs::read_to_string(project.root().join("README")).unwrap(), "both\n");
        } else {
            assert!(end["git"]["reason"].as_str().unwrap().contains("conflict in README"), "{end}");
            let out = world.ccl(&["land", "b"]);
            assert_eq!(out.code, 1);
            assert!(out.stderr.contains("ccl/b conflicts with main in README"), "{}", out.stderr);
        }
    }
}

#[test]
fn a_persons_changes_in_the_way_are_not_touched() {
    let (world, project) = world(1, "land: rebase\ncheck: none\n");
    project.drop_task("a.md", "DO: echo agent > README\n");
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    fs::write(project.root().join("README"), "a person's\n").unwrap();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    assert_eq!(fs::read_to_string(project.root().join("README")).unwrap(), "a person's\n");
    let git = ending(&project, "done/a.md")["git"].clone();
    assert_eq!(git["landed"], false);
    assert!(git["reason"].as_str().unwrap().contains("README"), "{git}");
    project.git(["checkout", "-q", "README"]);
    assert_eq!(world.pass(&["land", "a"]), ["landed a.md -"]);
    assert_eq!(fs::read_to_string(project.root().join("README")).unwrap(), "agent\n");
}

#[test]
fn a_base_that_is_checked_out_nowhere_is_moved_and_one_that_is_no_branch_is_not() {
    let (world, project) = world(1, "land: rebase\ncheck: none\nbase: release\n");
    project.git(["branch", "release"]);
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    assert!(reap(&world, 1).contains(&"landed a.md ccl-auto-0".to_owned()));
    assert_eq!(project.git(["show", "release:a.txt"]), "one");
    assert!(!project.root().join("a.txt").exists());
    project.git(["tag", "v1"]);
    say(&project, "isolation: worktree\nland: rebase\ncheck: none\nbase: v1\n");
    project.drop_task("b.md", commit("b.txt", "two"));
    world.scan();
    assert_eq!(reap(&world, 1), ["done b.md ccl-auto-0"]);
    let git = ending(&project, "done/b.md")["git"].clone();
    assert!(git["reason"].as_str().unwrap().contains("did not start from a branch"), "{git}");
}

/// Tasks that are done, each with a check that was green, and whose branches a person lands.
#[test]
fn a_branch_that_is_another_than_was_checked_is_checked_again_before_it_lands_by_hand() {
    let (world, project) = world(
        1,
        "check: echo $CCL_TASK >> ~/noted; date > report; [ ! -e bad ] || { echo it is bad; exit 3; }\n",
    );
    let noted = || fs::read_to_string(world.sandbox.home().join("noted")).unwrap();
    for name in ["a", "b", "c"] {
        project.drop_task(format!("{name}.md"), commit(&format!("{name}.txt"), name));
        world.scan();
        world.tmux.wait_until("it is done", || {
            world.pass(&["reap"]);
            project.task_places(&format!("{name}.md")) == [format!("done/{name}.md")]
        });
    }
    assert_eq!(noted(), "a.md\nb.md\nc.md\n");
    // Its base has not moved: it is what was checked.
    assert_eq!(world.pass(&["land", "a"]), ["landed a.md -"]);
    assert_eq!(noted(), "a.md\nb.md\nc.md\n");

    assert_eq!(world.pass(&["land", "b"]), ["landed b.md -"]);
    assert_eq!(noted(), "a.md\nb.md\nc.md\nb.md\n");
    let end = ending(&project, "done/b.md");
    assert_eq!((&end["git"]["landed"], &end["check"]["exit"]), (&json!(true), &json!(0)));
    assert_eq!(end["check"]["tree"], project.git(["rev-parse", "main^{tree}"]));
    assert_eq!(project.git(["ls-tree", "--name-only", "main"]), "README\na.txt\nb.txt");
    assert_eq!(worktrees(&project), [""; 0]);

    fs::write(project.root().join("bad"), "").unwrap();
    project.git(["add", "bad"]);
    project.git(["commit", "-qm", "bad"]);
    let pass = world.ccl(&["land", "c"]);
    assert_eq!((pass.code, pass.short()), (1, vec![]), "{pass:#?}");
    for part in
        ["ccl/c stays to land", "ended with 3", "it is bad", "worktrees/c", "run `ccl land c"]
    {
        assert!(pass.stderr.contains(part), "{part}: {}", pass.stderr);
    }
    assert_eq!(worktrees(&project), ["c"]);
    assert_eq!(project.git(["ls-tree", "--name-only", "main"]), "README\na.txt\nb.txt\nbad");
    assert_eq!(project.git(["show", "ccl/c:c.txt"]), "c");
    // Rebased it is already, but still nothing has found it to be green.
    assert_eq!(world.ccl(&["land", "c"]).code, 1);

    let worktree = project.root().join(".agent-queue/worktrees/c");
    fs::remove_file(worktree.join("bad")).unwrap();
    assert_eq!(world.pass(&["land", "c"]), ["landed c.md -"]);
    assert_eq!(project.git(["ls-tree", "--name-only", "main"]), "README\na.txt\nb.txt\nc.txt");
    assert_eq!(worktrees(&project), [""; 0]);
}

/// As a check that a pass runs, see `NOT_WHAT_WAS_GREEN`.
#[test]
fn a_check_by_hand_that_commits_each_time_comes_to_an_end() {
    let commits = "git -c user.name=A -c user.email=a@b commit -q --allow-empty -m again";
    let (world, project) =
        world(1, &format!("check: echo $CCL_TASK >> ~/noted; [ ! -e ~/commits ] || {commits}\n"));
    let home = world.sandbox.home();
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    world.tmux.wait_until("it is done", || {
        world.pass(&["reap"]);
        project.done() == ["a.md"]
    });
    fs::write(project.root().join("README"), "two\n").unwrap();
    project.git(["commit", "-qam", "a person's"]);
    fs::write(home.join("commits"), "").unwrap();
    let pass = world.ccl(&["land", "a"]);
    assert_eq!((pass.code, pass.short()), (1, vec![]), "{pass:#?}");
    for part in ["ccl/a stays to land", "changes the branch each time"] {
        assert!(pass.stderr.contains(part), "{part}: {}", pass.stderr);
    }
    let noted = || fs::read_to_string(home.join("noted")).unwrap().lines().count();
    assert_eq!(noted(), 1 + 4);
    fs::remove_file(home.join("commits")).unwrap();
    assert_eq!(world.pass(&["land", "a"]), ["landed a.md -"]);
    assert_eq!(noted(), 1 + 4 + 1);
}

#[test]
fn a_check_by_hand_has_its_time_limit_its_setup_and_its_protected_files() {
    let (world, project) = world(
        1,
        "check: cat setup && grep -q one README && { [ ! -e ~/slow ] || { trap '' TERM; echo slow; sleep 600; }; }\nsetup: echo ready > setup\nprotect: [README]\ncheck_timeout: 2s\n",
    );
    fs::write(project.root().join(".git/info/exclude"), "/.agent-queue/\n/setup\n").unwrap();
    project.drop_task("a.md", "DO: echo two > README\n".to_owned() + &commit("a.txt", "one"));
    world.scan();
    world.tmux.wait_until("it is done", || {
        world.pass(&["reap"]);
        project.done() == ["a.md"]
    });
    project.git(["commit", "-q", "--allow-empty", "-m", "a person's"]);
    fs::write(world.sandbox.home().join("slow"), "").unwrap();
    let pass = world.ccl(&["land", "a"]);
    assert_eq!(pass.code, 1, "{pass:#?}");
    assert!(pass.stderr.contains("ran out of time after 2s"), "{}", pass.stderr);
    assert!(pass.stderr.contains("ready\n") && pass.stderr.contains("slow\n"), "{}", pass.stderr);
    assert_eq!(worktrees(&project), ["a"]);
    fs::remove_file(world.sandbox.home().join("slow")).unwrap();
    assert_eq!(world.pass(&["land", "a"]), ["landed a.md -"]);
    assert_eq!(project.git(["show", "main:README"]), "two");
    assert_eq!(worktrees(&project), [""; 0]);
}

/// As in a merge queue: while one is checked again after its rebase, nothing else lands, and what waits is not checked.
#[test]
fn branches_wait_for_their_turn_while_one_is_checked_again() {
    let (world, project) = world(
        3,
        "land: rebase\ncheck: echo $CCL_TASK >> ~/noted; until [ ! -e ~/hold ]; do sleep 0.05; done\n",
    );
    let home = world.sandbox.home();
    let noted = || fs::read_to_string(home.join("noted")).unwrap_or_default().lines().count();
    for name in ["a", "b", "c"] {
        project.drop_task(format!("{name}.md"), commit(&format!("{name}.txt"), name));
    }
    assert_eq!(world.scan().len(), 3);
    assert_eq!(reap(&world, 3), [""; 0]);
    for session in ["ccl-auto-0", "ccl-auto-1", "ccl-auto-2"] {
        let exit = world.session_file(session, "check-exit");
        world.tmux.wait_until("its check has ended", || exit.exists());
    }
    fs::write(home.join("hold"), "").unwrap();
    world.pass(&["reap"]);
    world.tmux.wait_until("one is checked again", || noted() == 4);
    for _ in 0..5 {
        assert_eq!(world.pass(&["reap"]), [""; 0]);
    }
    assert_eq!((project.done().len(), noted()), (1, 4));
    let status = world.sandbox.ccl_json(&["status"]);
    let rows = status["sessions"].as_array().unwrap();
    let checked = rows.iter().find(|row| row["state"] == "checking").unwrap();
    let waits = format!(
        "its branch waits for its turn to land, behind {}",
        checked["task"].as_str().unwrap()
    );
    assert_eq!(rows.iter().filter(|row| row["reason"] == *waits).count(), 1, "{status:#}");
    let rows = status["tasks"].as_array().unwrap();
    let waits = format!("its turn to land, behind {}", checked["task"].as_str().unwrap());
    assert_eq!(rows.iter().filter(|row| row["waits"] == *waits).count(), 1, "{status:#}");
    // What somebody does in its worktree meanwhile is work like the agent's.
    let waiting = rows.iter().find(|row| row["waits"] == *waits).unwrap();
    let waiting = waiting["name"].as_str().unwrap();
    let worktree =
        project.root().join(".agent-queue/worktrees").join(waiting.trim_end_matches(".md"));
    fs::write(worktree.join("person.txt"), "theirs").unwrap();
    // It ends by itself, so nobody is called for it.
    let said = String::from_utf8(world.sandbox.ccl(["status"]).output().unwrap().stdout).unwrap();
    assert!(!said.contains("NEEDS YOU"), "{said}");
    // One that can come to no end gives its turn up: its task has left the inbox.
    let task = checked["task"].as_str().unwrap();
    assert_eq!(world.pass(&["cancel", task.trim_end_matches(".md")]).len(), 1);
    fs::remove_file(home.join("hold")).unwrap();
    world.tmux.wait_until("the other one has landed", || {
        world.pass(&["reap"]);
        project.done().len() == 2
    });
    assert_eq!(project.git(["show", "main:person.txt"]), "theirs");
    // Once for that, and once for the rebase.
    assert_eq!((project.failed().len(), noted()), (1, 6));
    assert_eq!(project.git(["rev-list", "--count", "main"]), "4");
    assert_eq!(project.git(["rev-list", "--merges", "main"]), "");
}
