use super::*;

fn sentence(removal: Removal) -> String {
    match removal {
        Removal::Kept(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worktree_is_made_once_and_removed_with_its_empty_branch() {
    let world = World::new();
    let worktree = world.worktree("T.md");
    assert_eq!(fs::read_to_string(worktree.path.join("README")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(git_in(&worktree.path, ["branch", "--show-current"]), "ccl/T");
    let expected = ListedWorktree {
        path: worktree.path.clone(),
        branch: Some("ccl/T".to_owned()),
        locked: Some(format!("ccl {RUN}")),
    };
    assert_eq!(list_worktrees(&world.project).unwrap(), [expected]);
    assert_eq!(world.git(["status", "--porcelain"]), "");
    // The agent's work outlives a second call, fresh or not.
    write_in(&worktree.path, "work", "");
    for fresh in [true, false] {
        world.open().make(&worktree, RUN, fresh).unwrap();
    }
    assert!(worktree.path.join("work").exists());
    let exclude = fs::read_to_string(world.project.join(".git/info/exclude")).unwrap();
    assert_eq!(exclude.matches("/.agent-queue/worktrees/\n").count(), 1);
    assert!(exclude.starts_with("# git ls-files"), "{exclude}");

    let why = sentence(world.open().remove(&worktree).unwrap());
    assert!(why.contains("/worktrees/T stays: `git status` there names 1 uncommitted"), "{why}");
    fs::remove_file(worktree.path.join("work")).unwrap();
    assert_eq!(world.open().remove(&worktree).unwrap(), Removal::Removed);
    assert_eq!(world.open().remove(&worktree).unwrap(), Removal::Gone);
    assert!(!worktree.path.exists());
    assert_eq!(world.git(["branch", "--list", "ccl/*"]), "");
    assert_eq!(world.git(["worktree", "list"]).lines().count(), 1);
    assert_eq!(list_worktrees(&world.project).unwrap(), []);
}

#[test]
fn a_branch_with_commits_outlives_its_worktree_and_is_used_again() {
    let world = World::new();
    let worktree = world.worktree("T.md");
    let head = commit_in(&worktree.path, "work", "");
    assert_eq!(world.open().remove(&worktree).unwrap(), Removal::Removed);
    assert_eq!(world.tip("ccl/T"), head);
    let again = world.open().plan("T.md", None, Some(&worktree)).unwrap();
    assert_eq!(again, worktree);
    world.open().make(&again, RUN, false).unwrap();
    assert!(worktree.path.join("work").exists());
    assert_eq!(world.open().plan("T.md", None, None).unwrap().branch, "ccl/T.2");
    world.git(["worktree", "remove", "-f", "-f", worktree.path.to_str().unwrap()]);
    world.git(["branch", "-D", "ccl/T"]);
    let other = world.open().plan("other.md", None, Some(&worktree)).unwrap();
    assert_eq!(other.branch, "ccl/other");
}

#[test]
fn what_a_killed_git_left_is_made_anew() {
    let world = World::new();
    let repository = world.open();
    let plan = repository.plan("T.md", None, None).unwrap();
    let admin = world.project.join(".git/worktrees/T");
    let lefts: [&dyn Fn(); 7] = [
        // Only its branch.
        &|| drop(world.git(["branch", "ccl/T"])),
        // Only its lock, before it had noted where the worktree is.
        &|| {
            fs::create_dir_all(&admin).unwrap();
            fs::write(admin.join("locked"), format!("ccl {RUN}\n")).unwrap();
        },
        // A directory without `.git`.
        &|| write_in(&plan.path, "README", "o"),
        // Killed in the middle of the files.
        &|| {
            repository.make(&plan, RUN, true).unwrap();
            fs::rename(admin.join("index"), admin.join("index.lock")).unwrap();
            fs::remove_file(plan.path.join("README")).unwrap();
        },
        // Its directory not made yet.
        &|| {
            repository.make(&plan, RUN, true).unwrap();
            fs::remove_dir_all(&plan.path).unwrap();
        },
        // Git's notes of it gone.
        &|| {
            repository.make(&plan, RUN, true).unwrap();
            fs::remove_dir_all(&admin).unwrap();
        },
        &|| {
            repository.make(&plan, RUN, true).unwrap();
            fs::remove_file(plan.path.join(".git")).unwrap();
        },
    ];
    for (nth, leave) in lefts.iter().enumerate() {
        leave();
        repository.make(&plan, RUN, true).unwrap();
        assert_eq!(git_in(&plan.path, ["status", "--porcelain"]), "", "{nth}");
        assert_eq!(git_in(&plan.path, ["branch", "--show-current"]), "ccl/T", "{nth}");
        repository.unmake(&plan).unwrap();
        // Taken away as well as it is made anew.
        leave();
        repository.unmake(&plan).unwrap();
        assert!(!plan.path.exists(), "{nth}");
        assert_eq!(world.git(["branch", "--list", "ccl/*"]), "", "{nth}");
        assert_eq!(fs::read_dir(admin.parent().unwrap()).map_or(0, Iterator::count), 0, "{nth}");
    }
}

#[test]
fn what_an_agent_worked_in_is_never_thrown_away() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let head = commit_in(&worktree.path, "work", "");
    write_in(&worktree.path, "more", "");
    repository.unmake(&worktree).unwrap();
    assert!(worktree.path.join("more").exists());
    fs::remove_file(worktree.path.join(".git")).unwrap();
    let error = repository.make(&worktree, RUN, false).unwrap_err().to_string();
    assert!(error.contains("is no worktree of git any more"), "{error}");
    let why = sentence(repository.remove(&worktree).unwrap());
    assert!(why.contains("is no worktree of git any more"), "{why}");
    // A person removed the directory: the commits come back.
    fs::remove_dir_all(&worktree.path).unwrap();
    repository.make(&worktree, RUN, false).unwrap();
    assert_eq!(git_in(&worktree.path, ["rev-parse", "HEAD"]), head);
}

#[test]
fn a_worktree_that_holds_something_of_its_own_stays() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let kept = || sentence(repository.remove(&worktree).unwrap());
    git_in(&worktree.path, ["checkout", "--quiet", "--detach"]);
    commit_in(&worktree.path, "loose", "");
    assert!(kept().contains("its HEAD is detached at "), "{}", kept());
    git_in(&worktree.path, ["branch", "saved"]);
    git_in(&worktree.path, ["checkout", "--quiet", "ccl/T"]);
    // What is not clean only for git itself.
    write_in(&worktree.path, ".agent-queue/inbox/later.md", "");
    assert!(kept().contains("contains modified or untracked files"), "{}", kept());
    assert!(list_worktrees(&world.project).unwrap()[0].locked.is_some());
    fs::remove_dir_all(worktree.path.join(QUEUE)).unwrap();
    // A branch of the agent's own.
    git_in(&worktree.path, ["checkout", "--quiet", "saved"]);
    assert!(kept().contains("`saved` is checked out in it"), "{}", kept());
    git_in(&worktree.path, ["checkout", "--quiet", "ccl/T"]);
    assert_eq!(repository.remove(&worktree).unwrap(), Removal::Removed);
    assert_eq!(world.git(["branch", "--list", "ccl/*"]), "");
}

#[test]
fn a_branch_that_a_person_looks_at_is_not_deleted() {
    let world = World::new();
    let worktree = world.worktree("T.md");
    git_in(&worktree.path, ["checkout", "--quiet", "--detach"]);
    world.git(["checkout", "--quiet", "ccl/T"]);
    assert_eq!(world.open().remove(&worktree).unwrap(), Removal::Removed);
    assert_eq!(world.tip("HEAD"), worktree.base);
}

#[test]
fn what_the_agent_left_is_committed_by_the_user_or_by_ccl() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let leftovers = || repository.commit_leftovers(&worktree, "T.md").unwrap();
    assert_eq!(leftovers(), Leftovers::None);
    write_in(&worktree.path, "new\nfile", "");
    write_in(&worktree.path, ".agent-queue/inbox/later.md", "");
    write_in(&worktree.path, "README", "changed");
    assert_eq!(leftovers(), Leftovers::Committed);
    assert_eq!(leftovers(), Leftovers::None);
    let log = |format: &str| world.git(["log", "-1", format, "ccl/T"]);
    assert_eq!(
        log("--format=%an %ae %cn %s"),
        "Ada ada@example.org Ada ccl: what T.md left uncommitted"
    );
    let files = world.git(["diff", "--name-only", "-z", "main", "ccl/T"]);
    assert_eq!(files, "README\0new\nfile\0");
    for key in ["user.name", "user.email"] {
        world.git(["config", "--unset", key]);
    }
    fs::remove_file(worktree.path.join("README")).unwrap();
    assert_eq!(leftovers(), Leftovers::Committed);
    assert_eq!(log("--format=%an <%ae> %cn <%ce>"), "ccl <ccl@localhost> ccl <ccl@localhost>");
}

#[test]
fn what_cannot_be_committed_is_named() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let stuck = || match repository.commit_leftovers(&worktree, "T.md").unwrap() {
        Leftovers::Stuck(why) => why,
        other => panic!("{other:?}"),
    };
    let git = |args: &[&str]| drop(git_in(&worktree.path, args));
    git(&["checkout", "--quiet", "-b", "elsewhere"]);
    assert!(stuck().starts_with("`elsewhere` is checked out in "), "{}", stuck());
    git(&["checkout", "--quiet", "--detach"]);
    assert!(stuck().starts_with("no branch is checked out in "), "{}", stuck());
    git(&["checkout", "--quiet", "elsewhere"]);
    commit_in(&worktree.path, "README", "theirs");
    git(&["checkout", "--quiet", "ccl/T"]);
    commit_in(&worktree.path, "README", "ours");
    let conflict = |verb: &str| {
        let merged = command_in(&worktree.path, [verb, "elsewhere"]).output().unwrap();
        assert!(!merged.status.success());
    };
    for (verb, name) in
        [("merge", "a merge"), ("rebase", "a rebase"), ("cherry-pick", "a cherry-pick")]
    {
        conflict(verb);
        assert!(stuck().starts_with(&format!("{name} is under way in ")), "{}", stuck());
        let why = sentence(repository.remove(&worktree).unwrap());
        assert!(why.contains(&format!("{name} is under way in it")), "{why}");
        git(&[verb, "--abort"]);
    }
    // Not merged, and no merge to finish: `git stash pop` leaves that.
    write_in(&worktree.path, "README", "stashed");
    git(&["stash", "--quiet"]);
    git(&["reset", "--quiet", "--hard", "elsewhere"]);
    assert!(!command_in(&worktree.path, ["stash", "pop"]).output().unwrap().status.success());
    assert!(stuck().starts_with("README in "), "{}", stuck());
    git(&["reset", "--quiet", "--hard"]);
    // A repository of its own without a commit, which git cannot add.
    git_in(&worktree.path, ["init", "--quiet", "nested"]);
    assert!(stuck().contains("nested/"), "{}", stuck());
}

#[test]
fn a_lock_is_waited_for_and_then_named() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    write_in(&worktree.path, "work", "");
    let lock = world.project.join(".git/worktrees/T/index.lock");
    fs::write(&lock, "").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            fs::remove_file(&lock).unwrap();
        });
        let left = repository.commit_leftovers(&worktree, "T.md").unwrap();
        assert_eq!(left, Leftovers::Committed);
    });
    write_in(&worktree.path, "more", "");
    fs::write(&lock, "").unwrap();
    match repository.commit_leftovers(&worktree, "T.md").unwrap() {
        Leftovers::Stuck(why) => {
            let expected = format!("waited for the lock {}", lock.display());
            assert!(why.contains(&expected) && why.contains("remove it once"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(lock.exists());
}

/// As `kill -9` of ccl and its git leaves it: the git's process group ends where it checks a file out or in.
fn kill_at(world: &World, filter: &str) {
    world.commit(".gitattributes", "killer filter=killer\n");
    world.commit("killer", "");
    world.git(["config", &format!("filter.killer.{filter}"), "kill -9 0"]);
}

fn spare(world: &World) {
    world.git(["config", "--remove-section", "filter.killer"]);
}

#[test]
fn a_git_killed_among_the_files_is_in_nobodys_way() {
    let world = World::new();
    kill_at(&world, "smudge");
    let repository = world.open();
    let plan = repository.plan("T.md", None, None).unwrap();
    let error = repository.make(&plan, RUN, true).unwrap_err().to_string();
    assert!(error.contains("signal: 9"), "{error}");
    assert!(world.project.join(".git/worktrees/T/index.lock").exists());
    repository.unmake(&plan).unwrap();
    repository.make(&plan, RUN, true).unwrap_err();
    spare(&world);
    repository.make(&plan, RUN, true).unwrap();
    assert_eq!(git_in(&plan.path, ["status", "--porcelain"]), "");
}

#[test]
fn a_removal_that_was_killed_is_finished_and_never_committed() {
    let world = World::new();
    world.commit("sub/file", "");
    let repository = world.open();
    let worktree = world.worktree("T.md");
    let head = commit_in(&worktree.path, "work", "");
    let half_remove = |gone: &[&str]| {
        repository.make(&worktree, RUN, false).unwrap();
        let admin = world.project.join(".git/worktrees/T");
        fs::write(admin.join("ccl-removes-it"), "").unwrap();
        fs::remove_file(admin.join("locked")).unwrap();
        for name in gone {
            fs::remove_file(worktree.path.join(name)).unwrap();
        }
        let left = repository.commit_leftovers(&worktree, "T.md").unwrap();
        assert_eq!(left, Leftovers::None);
    };
    for gone in [&[][..], &["README"], &[".git"], &[".git", "README", "sub/file", "work"]] {
        half_remove(gone);
        assert_eq!(repository.remove(&worktree).unwrap(), Removal::Removed);
        assert!(!worktree.path.exists() && list_worktrees(&world.project).unwrap().is_empty());
        // A further attempt gets all of it back.
        half_remove(gone);
        repository.make(&worktree, RUN, false).unwrap();
        assert_eq!(git_in(&worktree.path, ["status", "--porcelain"]), "");
        assert!(worktree.path.join("work").exists());
        assert_eq!(world.tip("ccl/T"), head);
    }
    half_remove(&["README"]);
    write_in(&worktree.path, "new", "");
    let why = sentence(repository.remove(&worktree).unwrap());
    assert!(why.contains("has 1 new or changed files since"), "{why}");
    assert!(worktree.path.join("new").exists());
}

#[test]
fn a_worktree_without_its_git_file_is_not_taken_for_the_persons_checkout() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    git_in(&worktree.path, ["checkout", "--quiet", "--detach"]);
    world.git(["checkout", "--quiet", "ccl/T"]);
    world.write("README", "mine");
    fs::remove_file(worktree.path.join(".git")).unwrap();
    for why in [
        match repository.commit_leftovers(&worktree, "T.md").unwrap() {
            Leftovers::Stuck(why) => why,
            other => panic!("{other:?}"),
        },
        match repository.rebase(&worktree, "main").unwrap() {
            Rebase::Stuck(why) => why,
            other => panic!("{other:?}"),
        },
        sentence(repository.remove(&worktree).unwrap()),
    ] {
        assert!(why.contains("is no worktree of git any more"), "{why}");
    }
    assert_eq!(world.git(["status", "--porcelain"]), " M README");
}

/// The git of a pass that was killed works on: the next pass waits for it.
#[test]
fn a_git_that_still_works_is_waited_for() {
    let world = World::new();
    world.commit(".gitattributes", "slow filter=slow\n");
    world.commit("slow", "slow\n");
    let go = world.dir.path().join("go");
    let smudge = format!("while [ ! -e '{}' ]; do sleep 0.02; done; cat", go.display());
    world.git(["config", "filter.slow.smudge", &smudge]);
    let repository = world.open();
    let plan = repository.plan("T.md", None, None).unwrap();
    let add = ["worktree", "add", "--quiet", "-b", "ccl/T"].map(OsStr::new);
    let add = add.into_iter().chain([plan.path.as_os_str()]);
    let mut earlier = command_in(&world.project, add);
    let mut earlier = earlier.env("CCL_CHECKOUT", &plan.path).spawn().unwrap();
    let lock = world.project.join(".git/worktrees/T/index.lock");
    while !lock.exists() {
        assert!(earlier.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    std::thread::scope(|scope| {
        let made = scope.spawn(|| repository.make(&plan, RUN, true));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!made.is_finished());
        fs::write(&go, "").unwrap();
        made.join().unwrap().unwrap();
    });
    assert!(earlier.wait().unwrap().success());
    assert_eq!(fs::read_to_string(plan.path.join("slow")).unwrap(), "slow\n");
}

#[test]
fn each_protected_glob_counts_by_itself() {
    let world = World::new();
    let odd = Path::new(OsStr::from_bytes(b"tests/\xff\n"));
    fs::create_dir(world.project.join("tests")).unwrap();
    for path in [odd, Path::new("tests/changed"), Path::new("tests/deleted")] {
        fs::write(world.project.join(path), "base").unwrap();
    }
    world.git(["add", "tests"]);
    world.git(["commit", "--quiet", "-m", "tests"]);
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    fs::write(worktree.path.join(odd), "weaker").unwrap();
    fs::remove_file(worktree.path.join("tests/deleted")).unwrap();
    for file in ["tests/changed", "tests/added", "spec/added"] {
        write_in(&worktree.path, file, "weaker");
    }
    git_in(&worktree.path, ["add", "--all"]);
    let head = commit_in(&worktree.path, "work", "");
    // The base has nothing that the second one matches.
    let protect = ["tests/**", "spec/**"].map(str::to_owned);
    let judged = repository.make_check_worktree(&worktree, &head, &protect).unwrap();
    assert_eq!(git_in(&judged.path, ["diff", "--name-only", &worktree.base]), "work");
    assert_eq!(git_in(&judged.path, ["diff", "--name-only", "--cached", &worktree.base]), "work");
    assert!(!judged.path.join("spec/added").exists());
}

#[test]
fn a_submodule_that_was_added_to_what_is_protected_goes() {
    let (library, world) = (World::new(), World::new());
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
    let more = [library.project.to_str().unwrap(), "tests/lib"];
    git_in(&worktree.path, add.into_iter().chain(more));
    git_in(&worktree.path, ["config", "-f", ".gitmodules", "submodule.tests/lib.ignore", "all"]);
    git_in(&worktree.path, ["add", ".gitmodules"]);
    let head = commit_in(&worktree.path, "work", "");
    let judged = repository.make_check_worktree(&worktree, &head, &["tests/**".to_owned()]);
    let judged = judged.unwrap();
    assert_eq!(git_in(&judged.path, ["ls-files", "--", "tests/lib"]), "");
    assert!(!judged.path.join("tests/lib").exists());
}
