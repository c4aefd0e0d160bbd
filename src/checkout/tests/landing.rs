use super::*;

fn refused(landing: Landing) -> String {
    match landing {
        Landing::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_branch_is_landed_in_the_persons_checkout() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let head = commit_in(&worktree.path, "work", "done");
    // Their own changes, untouched by what lands.
    world.write("README", "mine");
    world.write("notes", "mine too");
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Landed);
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Landed);
    assert_eq!((world.tip("main"), world.tip("HEAD")), (head.clone(), head));
    assert_eq!(world.git(["status", "--porcelain"]), " M README\n?? notes");
    assert_eq!(fs::read_to_string(world.project.join("work")).unwrap(), "done");
    assert!(!repository.delete_landed(&worktree, "main").unwrap(), "its worktree has it");
    assert_eq!(repository.remove(&worktree).unwrap(), Removal::Removed);
    assert!(repository.delete_landed(&worktree, "main").unwrap());
    assert!(!repository.delete_landed(&worktree, "main").unwrap());
    assert_eq!(world.git(["branch", "--list", "ccl/*"]), "");
}

#[test]
fn what_would_touch_a_persons_changes_is_refused() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    commit_in(&worktree.path, "README", "theirs");
    commit_in(&worktree.path, "new", "theirs");
    let (old, land) = (world.tip("main"), || repository.fast_forward(&worktree, "main").unwrap());
    world.write("README", "mine");
    let why = refused(land());
    assert!(why.contains("would be overwritten by merge: / README"), "{why}");
    world.git(["checkout", "--quiet", "README"]);
    world.write("new", "mine");
    let why = refused(land());
    assert!(why.contains("untracked working tree files would be overwritten"), "{why}");
    assert_eq!(fs::read_to_string(world.project.join("new")).unwrap(), "mine");
    fs::remove_file(world.project.join("new")).unwrap();
    fs::write(world.project.join(".git/index.lock"), "").unwrap();
    let why = refused(land());
    assert!(why.contains(".git/index.lock"), "{why}");
    fs::remove_file(world.project.join(".git/index.lock")).unwrap();
    assert_eq!(world.tip("main"), old);
    assert_eq!(land(), Landing::Landed);
}

#[test]
fn a_base_that_nobody_has_checked_out_is_moved_by_its_name() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let head = commit_in(&worktree.path, "work", "done");
    world.git(["checkout", "--quiet", "-b", "mine"]);
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Landed);
    assert_eq!((world.tip("main"), world.tip("mine")), (head, worktree.base.clone()));
    assert!(!world.project.join("work").exists());
}

#[test]
fn a_base_in_another_worktree_is_merged_there() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let head = commit_in(&worktree.path, "work", "done");
    world.git(["checkout", "--quiet", "-b", "mine"]);
    let other = world.dir.path().join("other\nplace");
    world.git([OsStr::new("worktree"), "add".as_ref(), other.as_ref(), "main".as_ref()]);
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Landed);
    assert_eq!(git_in(&other, ["rev-parse", "HEAD"]), head);
    assert!(other.join("work").exists());
}

#[test]
fn a_base_under_a_persons_rebase_is_left_alone() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    commit_in(&worktree.path, "work", "done");
    world.git(["checkout", "--quiet", "-b", "mine"]);
    world.commit("README", "mine");
    world.git(["checkout", "--quiet", "main"]);
    let base = world.commit("README", "yours");
    let worktree = Worktree { base, ..worktree };
    assert!(matches!(repository.rebase(&worktree, "main").unwrap(), Rebase::Rebased { .. }));
    assert!(!command_in(&world.project, ["rebase", "mine"]).output().unwrap().status.success());
    let why = refused(repository.fast_forward(&worktree, "main").unwrap());
    assert!(why.starts_with("`main` is being rebased in "), "{why}");
    world.git(["rebase", "--abort"]);
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Landed);
}

#[test]
fn a_branch_is_rebased_where_its_base_has_moved() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let onto = world.tip("main");
    assert_eq!(repository.rebase(&worktree, "main").unwrap(), Rebase::UpToDate { onto });
    commit_in(&worktree.path, "work", "1");
    commit_in(&worktree.path, "work", "2");
    let onto = world.commit("theirs", "");
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Moved);
    let rebased = Rebase::Rebased { onto: onto.clone() };
    assert_eq!(repository.rebase(&worktree, "main").unwrap(), rebased);
    assert_eq!(
        repository.rebase(&worktree, "main").unwrap(),
        Rebase::UpToDate { onto: onto.clone() }
    );
    let summary = repository.summary(&Worktree { base: onto, ..worktree.clone() }).unwrap();
    assert_eq!((summary.commits, summary.files), (2, 1));
    assert_eq!(world.git(["log", "-1", "--format=%cn %an", "ccl/T"]), "Ada Ada");
    assert_eq!(repository.fast_forward(&worktree, "main").unwrap(), Landing::Landed);
    assert_eq!(world.git(["log", "--format=%s", "main"]), "work\nwork\ntheirs\nREADME");
}

#[test]
fn a_conflict_is_named_and_taken_back() {
    let world = World::at("a repo");
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let first = commit_in(&worktree.path, "a", "");
    let head = commit_in(&worktree.path, "sp ace\né", "ours");
    world.commit("sp ace\né", "theirs");
    let conflict = Rebase::Conflict { files: vec!["sp ace\\né".to_owned()] };
    for _ in 0..2 {
        assert_eq!(repository.rebase(&worktree, "main").unwrap(), conflict);
        assert_eq!(
            git_in(&worktree.path, ["rev-parse", "ccl/T", "HEAD"]),
            format!("{head}\n{head}")
        );
        assert_eq!(git_in(&worktree.path, ["status", "--porcelain"]), "");
    }
    // What a killed pass leaves in progress is taken back as well.
    assert!(!command_in(&worktree.path, ["rebase", "main"]).output().unwrap().status.success());
    assert_eq!(repository.rebase(&worktree, "main").unwrap(), conflict);
    assert_eq!(world.tip("ccl/T^"), first);
    // By whom it was begun says whether what the agent left can be committed.
    assert!(!command_in(&worktree.path, ["rebase", "main"]).output().unwrap().status.success());
    let leftovers = || repository.commit_leftovers(&worktree, "T.md").unwrap();
    assert!(
        matches!(leftovers(), Leftovers::Stuck(why) if why.starts_with("a rebase is under way"))
    );
    fs::write(world.project.join(".git/worktrees/T/ccl-rebases"), "").unwrap();
    assert_eq!(leftovers(), Leftovers::None);
    assert_eq!(git_in(&worktree.path, ["rev-parse", "ccl/T", "HEAD"]), format!("{head}\n{head}"));
    // Killed before it had noted what it was about to do.
    fs::create_dir(world.project.join(".git/worktrees/T/rebase-merge")).unwrap();
    assert_eq!(repository.rebase(&worktree, "main").unwrap(), conflict);
}

#[test]
fn only_the_agents_commits_are_taken_off_a_base_that_was_rewritten() {
    let world = World::new();
    world.commit("secret", "key");
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    commit_in(&worktree.path, "work", "");
    world.git(["reset", "--quiet", "--hard", "HEAD^"]);
    let onto = world.commit("public", "");
    assert_eq!(repository.rebase(&worktree, "main").unwrap(), Rebase::Rebased { onto });
    assert_eq!(world.git(["log", "--format=%s", "ccl/T"]), "work\npublic\nREADME");
}

#[test]
fn a_worktree_that_is_not_clean_is_not_rebased() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    world.commit("theirs", "");
    write_in(&worktree.path, "README", "unsaved");
    match repository.rebase(&worktree, "main").unwrap() {
        Rebase::Stuck(why) => assert!(why.contains("nothing uncommitted"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(worktree.path.join("README")).unwrap(), "unsaved");
}

#[test]
fn what_came_after_a_killed_rebase_is_not_lost_with_it() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let head = commit_in(&worktree.path, "README", "ours");
    world.commit("README", "theirs");
    let mark = world.project.join(".git/worktrees/T/ccl-rebases");
    let edit = |text| fs::write(worktree.path.join("new"), text).unwrap();
    // In the middle of it: kept beside, and out of the way.
    assert!(!command_in(&worktree.path, ["rebase", "main"]).output().unwrap().status.success());
    fs::write(&mark, "").unwrap();
    edit("a person's");
    assert_eq!(repository.commit_leftovers(&worktree, "T.md").unwrap(), Leftovers::None);
    let [saved] = &saved(&world)[..] else { panic!("{:?}", saved(&world)) };
    assert_eq!(world.git(["show", &format!("{saved}:new")]), "a person's");
    assert!(world.git(["show", &format!("{saved}:README")]).contains("theirs"));
    assert!(!worktree.path.join("new").exists() && !mark.exists());
    assert_eq!(world.tip("ccl/T"), head);
    // When it was over already: it is the work of whoever came then.
    fs::write(&mark, "").unwrap();
    edit("an agent's");
    assert_eq!(repository.commit_leftovers(&worktree, "T.md").unwrap(), Leftovers::Committed);
    assert_eq!(world.git(["show", "ccl/T:new"]), "an agent's");
    assert!(!mark.exists());
}

/// The refs of what was kept when a rebase was taken back.
fn saved(world: &World) -> Vec<String> {
    let refs = world.git(["for-each-ref", "--format=%(refname)", "refs/ccl-saved/ccl/T.*"]);
    refs.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn what_was_committed_on_the_way_is_kept_too() {
    let world = World::new();
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let head = commit_in(&worktree.path, "README", "ours");
    world.commit("README", "theirs");
    for text in ["a person's", "another's"] {
        assert!(!command_in(&worktree.path, ["rebase", "main"]).output().unwrap().status.success());
        fs::write(world.project.join(".git/worktrees/T/ccl-rebases"), "").unwrap();
        commit_in(&worktree.path, "README", text);
        assert_eq!(repository.commit_leftovers(&worktree, "T.md").unwrap(), Leftovers::None);
        assert_eq!(world.tip("ccl/T"), head);
    }
    let mut texts: Vec<_> =
        saved(&world).iter().map(|saved| world.git(["show", &format!("{saved}:README")])).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["a person's", "another's"]);
}

/// A pass that is killed, or meets a full disk, while it takes a rebase back. What its branch was.
fn half_taken_back() -> (World, Worktree, Repository, String) {
    let world = World::new();
    world.commit(".gitattributes", "README filter=broken\n");
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    commit_in(&worktree.path, "first", "ours");
    let head = commit_in(&worktree.path, "README", "ours");
    world.commit("README", "theirs");
    assert!(!command_in(&worktree.path, ["rebase", "main"]).output().unwrap().status.success());
    fs::write(world.project.join(".git/worktrees/T/ccl-rebases"), "").unwrap();
    // Git cannot write the last of the files.
    world.git(["config", "filter.broken.required", "true"]);
    world.git(["config", "filter.broken.clean", "cat"]);
    world.git(["config", "filter.broken.smudge", "false"]);
    assert!(matches!(
        repository.commit_leftovers(&worktree, "T.md"),
        Ok(Leftovers::Stuck(_)) | Err(_)
    ));
    assert_eq!(git_in(&worktree.path, ["symbolic-ref", "HEAD"]), "refs/heads/ccl/T");
    assert!(!git_in(&worktree.path, ["status", "--porcelain"]).is_empty());
    world.git(["config", "filter.broken.smudge", "cat"]);
    (world, worktree, repository, head)
}

#[test]
fn a_rebase_that_was_half_taken_back_is_taken_back_to_the_end() {
    let (_world, worktree, repository, head) = half_taken_back();
    assert_eq!(repository.commit_leftovers(&worktree, "T.md").unwrap(), Leftovers::None);
    assert_eq!(git_in(&worktree.path, ["rev-parse", "ccl/T", "HEAD"]), format!("{head}\n{head}"));
    assert_eq!(git_in(&worktree.path, ["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(worktree.path.join("README")).unwrap(), "ours");
}

#[test]
fn a_person_who_has_taken_it_back_goes_on() {
    let (world, worktree, repository, _) = half_taken_back();
    git_in(&worktree.path, ["reset", "--quiet", "--hard"]);
    fs::write(worktree.path.join("fix"), "a person's").unwrap();
    assert_eq!(repository.commit_leftovers(&worktree, "T.md").unwrap(), Leftovers::Committed);
    assert_eq!(world.git(["show", "ccl/T:fix"]), "a person's");
}

/// `kill -9` of a pass and its git in the middle of a rebase.
#[test]
fn a_rebase_that_was_killed_is_taken_back_and_made_again() {
    let world = World::new();
    world.commit(".gitattributes", "killer filter=killer\n");
    let (worktree, repository) = (world.worktree("T.md"), world.open());
    let first = commit_in(&worktree.path, "a", "");
    let head = commit_in(&worktree.path, "killer", "");
    let onto = world.commit("theirs", "");
    // Of the second commit's file.
    let once = format!("mkdir '{}' && kill -9 0; cat", world.dir.path().join("killed").display());
    world.git(["config", "filter.killer.smudge", &once]);
    assert!(matches!(repository.rebase(&worktree, "main"), Ok(Rebase::Stuck(_)) | Err(_)));
    assert!(world.dir.path().join("killed").exists());
    let admin = world.project.join(".git/worktrees/T");
    for lock in ["index.lock", "HEAD.lock"] {
        // A person's part.
        let _none = fs::remove_file(admin.join(lock));
    }
    assert_eq!(repository.commit_leftovers(&worktree, "T.md").unwrap(), Leftovers::None);
    assert_eq!(world.tip("ccl/T"), head);
    assert_eq!(
        repository.rebase(&worktree, "main").unwrap(),
        Rebase::Rebased { onto: onto.clone() }
    );
    assert_ne!(world.tip("ccl/T^"), first);
    assert_eq!(world.tip("ccl/T~2"), onto);
    assert_eq!(git_in(&worktree.path, ["status", "--porcelain"]), "");
}
