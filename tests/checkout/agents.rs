//! Agents and people that do what nobody expects of them: each task is filed all the same, its session is free, what was
//! made is still there, and a sentence says what to do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::git::git;
use super::support::{PATIENCE, Project, wait_until};
use super::worktree::{commit, reap, worktrees, world};
use super::world::{HOLDS, World, ending};

const LANDS: &str = "land: rebase\ncheck: none\n";
/// An agent's git.
const GIT: &str = "git -c user.name=A -c user.email=a@b";

/// What one such task came to.
struct Case {
    world: World,
    project: Project,
    /// `git` of the ending line.
    git: Value,
    stderr: String,
}

/// One task whose agent runs these lines in its worktree.
#[track_caller]
fn case(rules: &str, lines: &str) -> Case {
    let (world, project) = world(1, rules);
    project.drop_task("a.md", lines);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.code, 0, "{pass:#?}");
    assert!(pass.short().contains(&"done a.md ccl-auto-0".to_owned()), "{pass:#?}");
    assert_eq!(project.inbox(), [""; 0]);
    world.assert_nothing_is_left("ccl-auto-0");
    let git = ending(&project, "done/a.md")["git"].clone();
    Case { world, project, git, stderr: pass.stderr }
}

impl Case {
    #[track_caller]
    fn assert_to_land(&self, words: &str) {
        let reason = self.git["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(words), "{reason:?} has no {words:?}");
        assert_eq!(self.git["landed"], false);
        let status = self.world.sandbox.ccl_json(&["status"]);
        assert_eq!(status["projects"][0]["to_land"][0]["reason"], reason, "{status:#}");
    }

    fn worktree(&self) -> PathBuf {
        self.project.root().join(".agent-queue/worktrees/a")
    }

    /// After a person has done what the sentence says.
    #[track_caller]
    fn land(&self) {
        assert_eq!(self.world.pass(&["land", "a"]), ["landed a.md -"]);
        assert_eq!(self.project.git(["branch", "--list", "ccl/*"]), "");
        assert_eq!(worktrees(&self.project), [""; 0]);
        assert_eq!(self.world.sandbox.ccl_json(&["status"])["projects"][0]["to_land"], json!([]));
    }
}

#[test]
fn an_agent_that_works_on_a_branch_of_its_own() {
    let case = case(LANDS, &format!("DO: git checkout -qb mine\n{}", commit("a.txt", "one")));
    case.assert_to_land("`mine` is checked out in");
    // As the sentence says.
    git(&case.worktree(), ["checkout", "-q", "ccl/a"]);
    git(&case.worktree(), ["merge", "-q", "--ff-only", "mine"]);
    case.land();
    assert_eq!(case.project.git(["show", "main:a.txt"]), "one");
}

#[test]
fn an_agent_that_deletes_its_branch() {
    let lines = commit("a.txt", "one") + "DO: git checkout -q --detach; git branch -qD ccl/a\n";
    let case = case(LANDS, &lines);
    case.assert_to_land("there is no branch `ccl/a` in");
    // Its commit is there.
    assert_eq!(git(&case.worktree(), ["show", "HEAD:a.txt"]), "one");
    git(&case.worktree(), ["checkout", "-qb", "ccl/a"]);
    case.land();
    assert_eq!(case.project.git(["show", "main:a.txt"]), "one");
}

#[test]
fn an_agent_that_removes_its_worktree() {
    let removals = [
        "git worktree remove -f -f \"$PWD\"",
        "rm -rf \"$PWD\"",
        "git worktree unlock \"$PWD\"; rm -rf \"$PWD\"; cd ..; git worktree prune",
    ];
    for removal in removals {
        let case = case(LANDS, &format!("{}DO: {removal}\n", commit("a.txt", "one")));
        assert_eq!(case.git["landed"], true, "{removal}: {}\n{}", case.git, case.stderr);
        assert_eq!(case.project.git(["show", "main:a.txt"]), "one", "{removal}");
        assert_eq!(case.project.git(["worktree", "list"]).lines().count(), 1, "{removal}");
        assert_eq!(case.project.git(["branch", "--list", "ccl/*"]), "", "{removal}");
    }
}

#[test]
fn an_agent_that_goes_back_to_main() {
    let lines = commit("a.txt", "one") + "DO: git reset -q --hard main; git worktree prune\n";
    let case = case(LANDS, &lines);
    assert_eq!((&case.git["commits"], &case.git["landed"]), (&json!(0), &Value::Null));
    assert_eq!(case.project.git(["branch", "--format=%(refname:short)"]), "main");
    assert_eq!(worktrees(&case.project), [""; 0]);
}

#[test]
fn an_agent_that_commits_on_main_itself() {
    let onto_main = format!("echo m > m.txt; git add m.txt; {GIT} commit -qm m");
    let lines = format!("{}DO: cd ../../..; {onto_main}\n", commit("a.txt", "one"));
    let case = case(LANDS, &lines);
    assert_eq!(case.git["landed"], true, "{}", case.git);
    assert_eq!(case.project.git(["log", "--format=%s", "main"]), "a.txt\nm\nfirst");
    assert_eq!(case.project.git(["status", "--porcelain"]), "");
}

#[test]
fn an_agent_that_has_main_checked_out_twice() {
    let lines =
        format!("DO: git checkout -q --ignore-other-worktrees main\n{}", commit("a.txt", "one"));
    let case = case(LANDS, &lines);
    case.assert_to_land("`main` is checked out in");
    assert_eq!(git(&case.worktree(), ["show", "main:a.txt"]), "one");
}

#[test]
fn an_agent_that_removes_the_repository() {
    for rules in [LANDS, "land: rebase\ncheck: \"true\"\n", ""] {
        let (world, project) = world(1, rules);
        // What nothing can judge is not done.
        let is_checked = rules.contains("true");
        let folder = if is_checked { "failed" } else { "done" };
        project.drop_task("a.md", commit("a.txt", "one") + "DO: rm -rf ../../../.git\n");
        world.scan();
        world.wait_for_exit("ccl-auto-0");
        let mut said = String::new();
        world.tmux.wait_until("it is filed", || {
            let pass = world.ccl(&["reap"]);
            assert_eq!(pass.code, 0, "{pass:#?}");
            said += &pass.stderr;
            project.task_places("a.md") == [format!("{folder}/a.md")]
        });
        assert!(said.contains("stays as it is"), "{said}");
        world.assert_nothing_is_left("ccl-auto-0");
        let end = ending(&project, &format!("{folder}/a.md"));
        let reason = end["git"]["reason"].as_str().unwrap();
        assert!(reason.contains("is not in a git repository: run `git init`"), "{reason}");
        let why = end["reason"].as_str().unwrap_or_default();
        assert_eq!(why.starts_with("its check cannot judge it: "), is_checked, "{end}");
        // What it has made is there, and nothing else goes on here.
        let made = project.root().join(".agent-queue/worktrees/a/a.txt");
        assert_eq!(fs::read_to_string(made).unwrap(), "one\n");
        project.drop_task("b.md", "DO: true\n");
        assert!(world.ccl(&["scan"]).reason_of_held().contains("run `git init`"));
    }
}

#[test]
fn an_agent_that_moves_its_task() {
    for (work, branches, left) in [("true", "", false), ("echo x > left.txt", "  ccl/a", true)] {
        let (world, project) = world(1, LANDS);
        let text = format!("DO: {work}; mv ../../inbox/a.md.dispatched ../../done/a.md\n");
        let branch = if left { commit("a.txt", "one") } else { String::new() };
        project.drop_task("a.md", branch + &text);
        world.scan();
        world.wait_for_exit("ccl-auto-0");
        assert_eq!(world.pass(&["reap"]), [""; 0]);
        assert_eq!(project.inbox(), [""; 0]);
        world.assert_nothing_is_left("ccl-auto-0");
        let listed = project.git(["branch", "--list", "ccl/*"]);
        assert_eq!(listed.replace('+', " "), branches);
        // What nobody has committed stays, and status names it.
        assert_eq!(worktrees(&project).len(), usize::from(left));
        let status = world.sandbox.ccl_json(&["status"]);
        let standing = status["projects"][0]["worktrees"].as_array().unwrap().len();
        assert_eq!(standing, usize::from(left), "{status:#}");
    }
}

#[test]
fn rules_that_are_changed_at_work_hold_for_the_next_task() {
    let (world, project) = world(1, LANDS);
    let edit = "DO: echo 'isolation: none' > ../../project.yaml\n";
    project.drop_task("a.md", commit("a.txt", "one") + edit);
    world.scan();
    let events = reap(&world, 1);
    assert!(events.contains(&"landed a.md ccl-auto-0".to_owned()), "{events:?}");
    project.drop_task("b.md", "DO: pwd > where\n");
    world.scan();
    assert_eq!(reap(&world, 1), ["done b.md ccl-auto-0"]);
    assert!(project.root().join("where").exists());
}

#[test]
fn a_person_who_looks_at_the_branch_keeps_it() {
    let (world, project) = world(1, "");
    project.drop_task("a.md", commit("a.txt", "one"));
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    project.git(["checkout", "-q", "ccl/a"]);
    let pass = world.ccl(&["land", "a"]);
    assert_eq!(pass.code, 1);
    assert!(pass.stderr.contains("`ccl/a` is checked out in"), "{}", pass.stderr);
    project.git(["checkout", "-q", "main"]);
    assert_eq!(world.pass(&["land", "a"]), ["landed a.md -"]);
    assert_eq!(project.git(["show", "main:a.txt"]), "one");
}

#[test]
fn a_repository_that_was_moved_says_how_its_worktrees_are_mended() {
    let (world, project) = world(1, "");
    let world = world.with("dispatcher", json!({"cooldown": "0s", "max_attempts": 1}));
    project.drop_task("a.md", "DO: echo x >> log; [ $(wc -l < log) = 2 ]\n");
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"])[0], "failed a.md ccl-auto-0");
    let moved = project.root().with_file_name("moved");
    fs::rename(project.root(), &moved).unwrap();
    let project = Project::make(&moved);
    world.ccl(&["retry", "a"]);
    let pass = world.ccl(&["scan"]);
    let path = moved.canonicalize().unwrap().join(".agent-queue/worktrees/a");
    let mend = format!("git worktree repair {}", path.display());
    assert!(pass.reason_of_held().contains(&mend), "{pass:#?}");
    assert_eq!(project.inbox(), ["a.md"]);
    project.git(["worktree", "repair", path.to_str().unwrap()]);
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    assert_eq!(project.git(["show", "ccl/a:log"]), "x\nx");
}

#[test]
fn a_queue_that_is_a_link_elsewhere() {
    let (world, project) = world(1, LANDS);
    let (queue, elsewhere) =
        (project.root().join(".agent-queue"), world.sandbox.path().join("elsewhere"));
    fs::rename(&queue, &elsewhere).unwrap();
    symlink(&elsewhere, &queue).unwrap();
    // Git takes a link for a file.
    fs::write(project.root().join(".git/info/exclude"), "/.agent-queue\n").unwrap();
    project.drop_task("a.md", commit("a.txt", "one") + "DO: pwd > where\n");
    world.scan();
    let events = reap(&world, 1);
    assert!(events.contains(&"landed a.md ccl-auto-0".to_owned()), "{events:?}");
    let place = elsewhere.canonicalize().unwrap().join("worktrees/a");
    assert_eq!(project.git(["show", "main:where"]), place.to_str().unwrap());
    assert_eq!(worktrees(&project), [""; 0]);
    assert_eq!(project.git(["status", "--porcelain"]), "");
}

#[test]
fn a_task_that_a_person_takes_back_leaves_what_was_made() {
    let (world, project) = world(1, LANDS);
    project.drop_task("a.md", commit("a.txt", "one") + HOLDS);
    world.scan();
    let branch = || !project.git(["log", "--format=%s", "main..ccl/a"]).is_empty();
    world.tmux.wait_until("it has committed", branch);
    let inbox = project.queue("inbox");
    fs::rename(inbox.join("a.md.dispatched"), inbox.join("a.md")).unwrap();
    world.let_go();
    assert_eq!(world.pass(&["reap"]), [""; 0]);
    // The next attempt knows nothing of it.
    world.scan();
    let events = reap(&world, 1);
    assert!(events.contains(&"landed a.md ccl-auto-0".to_owned()), "{events:?}");
    assert_eq!(project.git(["show", "ccl/a:a.txt"]), "one");
    assert_eq!(worktrees(&project), [""; 0]);
}

/// A pass that was killed may have put the task back, and not removed its claim: then the next run has a worktree of the
/// same name.
#[test]
fn the_worktree_of_the_next_run_stays_while_the_last_one_is_cleared() {
    let (world, project) = world(1, LANDS);
    project.drop_task("a.md", HOLDS);
    world.scan();
    let inbox = project.queue("inbox");
    let (waiting, dispatched) = (inbox.join("a.md"), inbox.join("a.md.dispatched"));
    fs::rename(&dispatched, &waiting).unwrap();
    let lock_path = project.queue(".checkout.lock");
    let lock = fs::File::options().read(true).write(true).open(&lock_path).unwrap();
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    let mut reap = world.sandbox.std_ccl();
    let mut reap =
        reap.arg("--config").arg(world.sandbox.config_file()).arg("reap").spawn().unwrap();
    let files = format!("/proc/{}/fd", reap.id());
    wait_until("it waits for the checkout", PATIENCE, || {
        let mut files = fs::read_dir(&files).unwrap().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|path| path == lock_path))
    });
    let claim = inbox.join(".a.md.claim");
    let mut next: Value = serde_json::from_slice(&fs::read(&claim).unwrap()).unwrap();
    next["run"] = json!(uuid::Uuid::new_v4());
    fs::write(&claim, next.to_string()).unwrap();
    fs::rename(&waiting, &dispatched).unwrap();
    fs2::FileExt::unlock(&lock).unwrap();
    assert!(reap.wait().unwrap().success());
    assert_eq!(worktrees(&project), ["a"]);
    assert_eq!(fs::read_to_string(&claim).unwrap(), next.to_string());
    assert!(dispatched.exists());
}
