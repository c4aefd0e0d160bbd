use super::*;

/// The whole way of one task whose agent changed a file and left another: made, committed, rebased, landed, removed.
fn one_task(world: &World) {
    let repository = world.open();
    let worktree = world.worktree("a task.md");
    let directory = worktree.directory();
    assert!(directory.is_dir(), "{}", directory.display());
    commit_in(&directory, "committed", "");
    write_in(&directory, "left\nover é", "");
    let left = repository.commit_leftovers(&worktree, "a task.md").unwrap();
    assert_eq!(left, Leftovers::Committed);
    let onto = world.commit("a person's", "");
    assert_eq!(
        repository.rebase(&worktree, "main").unwrap(),
        Rebase::Rebased { onto: onto.clone() }
    );
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Landed);
    let summary = repository.summary(&Worktree { base: onto, ..worktree.clone() }).unwrap();
    assert_eq!((summary.commits, summary.files), (2, 2));
    assert_eq!(repository.remove(&worktree).unwrap(), Removal::Removed);
    assert!(repository.delete_landed(&worktree, "main").unwrap());
    assert_eq!(world.git(["status", "--porcelain"]), "");
    assert!(world.project.join("left\nover é").exists());
}

#[test]
fn whatever_the_directory_is_called() {
    for name in ["with space", "日本 é", "new\nline", "*?[a]\\", "-rf", "trailing "] {
        one_task(&World::at(name));
    }
}

#[test]
fn no_hook_runs_and_nothing_is_signed() {
    let world = World::new();
    for hook in [
        "pre-commit",
        "prepare-commit-msg",
        "commit-msg",
        "post-commit",
        "post-checkout",
        "pre-rebase",
        "post-rewrite",
        "pre-merge-commit",
        "post-merge",
        "reference-transaction",
        "fsmonitor-watchman",
    ] {
        world.hook(
            hook,
            &format!("echo {hook} >> '{}'; exit 1", world.dir.path().join("ran").display()),
        );
    }
    // The person's own calls, as they stand in `World`, must work.
    let hooks = world.project.join(".git/hooks");
    world.configure(&[
        ("core.hooksPath", "/dev/null"),
        ("commit.gpgsign", "true"),
        ("gpg.program", "false"),
        ("core.fsmonitor", "true"),
        ("merge.ff", "false"),
        ("merge.verifySignatures", "true"),
        ("branch.main.mergeOptions", "--squash"),
        ("rebase.autoStash", "true"),
        ("rebase.updateRefs", "true"),
        ("rerere.enabled", "true"),
        ("status.showUntrackedFiles", "no"),
        ("status.branch", "false"),
        ("diff.noprefix", "true"),
        ("diff.external", "false"),
        ("color.ui", "always"),
        ("core.pager", "false"),
        ("core.editor", "false"),
        ("core.quotePath", "true"),
        ("alias.status", "!false"),
        ("push.default", "nothing"),
    ]);
    // A person's setting that ours must be stronger than.
    assert!(hooks.join("pre-commit").exists());
    world.git(["config", "core.hooksPath", hooks.to_str().unwrap()]);
    let repository = world.open();
    let worktree = world.worktree("T.md");
    write_in(&worktree.path, "left", "");
    assert_eq!(repository.commit_leftovers(&worktree, "T.md").unwrap(), Leftovers::Committed);
    world.git(["config", "core.hooksPath", "/dev/null"]);
    world.git([
        "-c",
        "core.fsmonitor=false",
        "commit",
        "--quiet",
        "--no-gpg-sign",
        "--allow-empty",
        "-m",
        "x",
    ]);
    world.git(["config", "core.hooksPath", hooks.to_str().unwrap()]);
    assert!(matches!(repository.rebase(&worktree, "main").unwrap(), Rebase::Rebased { .. }));
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Landed);
    assert_eq!(repository.remove(&worktree).unwrap(), Removal::Removed);
    assert!(repository.delete_landed(&worktree, "main").unwrap());
    let ran = world.dir.path().join("ran");
    assert!(!ran.exists(), "{}", fs::read_to_string(&ran).unwrap_or_default());
    assert_eq!(
        world.git(["log", "--format=%s", "main"]),
        "ccl: what T.md left uncommitted\nx\nREADME"
    );
}

#[test]
fn a_project_below_its_repositorys_top_works_in_the_same_place() {
    let mut world = World::new();
    let top = world.project.clone();
    world.project = top.join("ser vices/*a");
    world.write(".agent-queue/inbox/T.md", "");
    world.commit("here", "");
    let worktree = world.worktree("a.md");
    assert_eq!(worktree.directory(), worktree.path.join("ser vices/*a"));
    assert!(worktree.directory().join("here").exists() && worktree.path.join("README").exists());
    let untracked = git_in(&top, ["status", "--porcelain", "--untracked-files=all"]);
    assert_eq!(untracked, "?? \"ser vices/*a/.agent-queue/inbox/T.md\"");
    assert_eq!(state(&world.project).unwrap().dirty, 0);
    fs::remove_file(world.project.join(".agent-queue/inbox/T.md")).unwrap();
    world.open().unmake(&worktree).unwrap();
    one_task(&world);
}

#[test]
fn a_project_in_a_linked_worktree() {
    let mut world = World::new();
    world.git(["checkout", "--quiet", "--detach"]);
    let linked = world.dir.path().canonicalize().unwrap().join("linked");
    world.git([OsStr::new("worktree"), "add".as_ref(), linked.as_ref(), "main".as_ref()]);
    world.project = linked;
    fs::create_dir(world.project.join(QUEUE)).unwrap();
    one_task(&world);
    // Of a bare repository, too.
    let bare = world.dir.path().join("bare.git");
    world.git(["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    let of_bare = world.dir.path().canonicalize().unwrap().join("of bare");
    git_in(&bare, ["worktree", "add", of_bare.to_str().unwrap(), "main"]);
    git_in(&bare, ["config", "user.name", "Ada"]);
    git_in(&bare, ["config", "user.email", "ada@example.org"]);
    world.project = of_bare;
    fs::create_dir(world.project.join(QUEUE)).unwrap();
    let worktree = world.worktree("T.md");
    assert_eq!(world.open().remove(&worktree).unwrap(), Removal::Removed);
}

#[test]
fn a_separate_git_directory_and_sha256() {
    let elsewhere = tempfile::tempdir().unwrap();
    let git_dir = format!("--separate-git-dir={}", elsewhere.path().join("git").display());
    for init in [git_dir.as_str(), "--object-format=sha256"] {
        let world = World::empty("repo", &[init]);
        world.commit("README", "");
        one_task(&world);
    }
}

#[test]
fn a_shallow_clone() {
    let origin = World::new();
    for nth in 0..3 {
        origin.commit("file", &nth.to_string());
    }
    let mut world = World::empty("unused", &[]);
    let url = format!("file://{}", origin.project.display());
    world.git(["clone", "--quiet", "--depth=1", &url, "../shallow"]);
    world.project = world.project.parent().unwrap().join("shallow");
    fs::create_dir(world.project.join(QUEUE)).unwrap();
    world.configure(&[("user.name", "Ada"), ("user.email", "ada@example.org")]);
    one_task(&world);
}

#[test]
fn submodules_stay_as_git_leaves_them() {
    let library = World::new();
    let world = World::new();
    let url = library.project.to_str().unwrap();
    world.git(["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "lib"]);
    world.git(["commit", "--quiet", "-m", "lib"]);
    one_task(&world);
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    assert_eq!(fs::read_dir(worktree.path.join("lib")).unwrap().count(), 0);
    let update = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init"];
    git_in(&worktree.path, update);
    // What the agent changed inside is not lost, and nothing to commit here.
    write_in(&worktree.path, "lib/README", "changed");
    assert_eq!(repository.commit_leftovers(&worktree, "T.md").unwrap(), Leftovers::None);
    assert!(matches!(repository.remove(&worktree).unwrap(), Removal::Kept(_)));
    git_in(&worktree.path.join("lib"), ["checkout", "--quiet", "."]);
    match repository.remove(&worktree).unwrap() {
        Removal::Kept(why) => assert!(why.contains("containing submodules"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn large_files_stay_pointers_where_nothing_can_fetch_them() {
    let world = World::new();
    world.commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    world.commit("big.bin", pointer);
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    assert_eq!(fs::read_to_string(worktree.path.join("big.bin")).unwrap(), pointer);
    assert_eq!(repository.remove(&worktree).unwrap(), Removal::Removed);
    one_task(&world);
    // Asked for, and not installed: git's own words.
    world.configure(&[("filter.lfs.smudge", "no-such-lfs %f"), ("filter.lfs.required", "true")]);
    let plan = repository.plan("T.md", None, None).unwrap();
    let error = repository.make(&plan, RUN, true).unwrap_err().to_string();
    assert!(error.contains("`git worktree add` failed in ") && error.contains("lfs"), "{error}");
    repository.unmake(&plan).unwrap();
    assert!(!plan.path.exists());
    assert_eq!(world.git(["branch", "--list", "ccl/*"]), "");
}

#[test]
fn an_empty_commit_is_enough() {
    let world = World::empty("repo", &[]);
    world.git(["commit", "--quiet", "--allow-empty", "-m", "empty"]);
    one_task(&world);
}
