//! `ccl` is ended with SIGKILL at every changing system call between the end of a turn and the task's filing: a check is
//! started, found to be green or red, the base is checked, the agent gets it back, the task is given up. Ordinary passes
//! then bring it to its end: never done without a green check of this very run, and no red check is given to the agent
//! twice; the check may judge again.
//!
//! With `CCL_TEST_LONG=1` at each call, else at a fair sample of them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use serde_json::json;

use super::kill::{all_calls, assert_nothing_is_left};
use super::support::faults::{Worker, World, disturb_each, is_long, said, was_killed};
use super::support::sandbox::{ending_line, names};
use super::support::scenes::kill;
use super::support::{PATIENCE, wait_until};

/// It notes each run, and what it has found; the words by which it is known are what the agent gets of it.
const CHECK: &str = "check: |\n  [ -e \"good-$CCL_TASK\" ]; found=$?\n  echo \"$CCL_TASK $CCL_RUN $CCL_CHECK $found\" >> ~/judged\n  echo \"judged by $CCL_CHECK\"\n  exit $found\n";

/// It notes which red checks it is given. What it makes is good at once, or when it has been given one, or never.
const AGENT: &str = "name=${1%% *}\n\
    echo \"$name\" >> WORLD/runs\n\
    printf '%s\\n' \"$1\" | sed -n \"s/^judged by /$name /p\" >> ~/given\n\
    case $1 in *'good at once'*|*'good later'*'Make it pass'*) echo x > \"good-$name\";; esac\n";

/// A moment between the end of a turn and the filing.
struct Moment {
    name: &'static str,
    worker: Worker,
    body: &'static str,
    /// How often the agent gets a red check back at the most.
    rounds: u32,
    /// How many runs of the check have ended when the pass comes that is killed.
    judged: usize,
    /// Fewer kills than this would mean that not all was tested.
    at_least: usize,
}

const fn moment(
    name: &'static str,
    worker: Worker,
    (body, rounds): (&'static str, u32),
    judged: usize,
    at_least: usize,
) -> Moment {
    Moment { name, worker, body, rounds, judged, at_least }
}

const AT_ONCE: (&str, u32) = ("good at once\n", 1);
const LATER: (&str, u32) = ("good later\n", 1);
const NEVER: (&str, u32) = ("never\n", 0);

impl Moment {
    fn rules(&self) -> String {
        let isolation = match self.worker {
            Worker::Branch => "isolation: worktree\nland: rebase\n",
            _ => "",
        };
        format!("{CHECK}check_rounds: {}\n{isolation}", self.rounds)
    }

    /// How often the agent is given the task, or something back of it, in the end.
    fn runs(&self) -> usize {
        if self.body == LATER.0 { 2 } else { 1 }
    }

    fn place(&self, task: &str) -> String {
        let folder = if self.body == NEVER.0 { "failed" } else { "done" };
        format!("{folder}/{task}")
    }
}

/// The words behind the task's name in a file of the sandbox's HOME.
fn lines(world: &World, file: &str, task: &str) -> Vec<String> {
    let text = fs::read_to_string(world.sandbox.home().join(file)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix(task)?.strip_prefix(' '));
    lines.map(str::to_owned).collect()
}

/// Brings the task to where so many runs of the check have ended.
fn prepare(world: &World, moment: &Moment, task: &str) {
    world.pass(&["scan"]);
    world.wait_for_the_end(task);
    let ended = world.sandbox.session_file("k-0", "check-exit");
    for judged in 1..=moment.judged {
        world.pass(&["reap"]);
        wait_until("it is judged", PATIENCE, || {
            lines(world, "judged", task).len() == judged && ended.exists()
        });
    }
}

/// Wherever the task is: what is done was found to be green in this run.
fn assert_honest(world: &World, task: &str, when: &str) {
    world.assert_once(task, when);
    if world.project.done().contains(&task.to_owned()) {
        let end = ending_line(&world.project.read(&format!("done/{task}"))).unwrap();
        let run = end["run"].as_str().unwrap();
        let judged = lines(world, "judged", task);
        let is_green = |line: &String| line.starts_with(run) && line.ends_with(" 0");
        assert!(judged.iter().any(is_green), "{when}: {judged:?}");
        assert_eq!(end["check"]["exit"], 0, "{when}");
    }
    let given = lines(world, "given", task);
    let once: BTreeSet<_> = given.iter().collect();
    assert_eq!(once.len(), given.len(), "{when}: given twice: {given:?}");
}

/// Kills at one call; false if the pass makes fewer of them.
fn kill_at(world: &mut World, moment: &Moment, syscall: &str, nth: u32) -> bool {
    let task = format!("{syscall}-{nth}.md");
    let when = format!("{}, killed at {syscall} {nth}", moment.name);
    let agent = AGENT.replace("WORLD", world.sandbox.path().to_str().unwrap());
    fs::write(world.sandbox.path().join("agent.sh"), agent).unwrap();
    // The pass that the check's end calls would do what the killed one is to do.
    world.sandbox.config("agent", json!({"hooks": false}));
    world.say(&moment.rules());
    world.begin(&task, moment.body);
    prepare(world, moment, &task);
    let output = world.pass_with(&["reap"], kill(syscall, nth));
    let deadline = Instant::now() + PATIENCE;
    for verb in ["scan", "reap"].iter().cycle() {
        assert_honest(world, &task, &when);
        let is_at_rest = world.project.task_places(&task) == [moment.place(&task)]
            && world.left_in_inbox().is_empty()
            && !world.sandbox.session_file("k-0", "dispatched").exists();
        if is_at_rest {
            break;
        }
        let said = said(&world.pass(&[verb]));
        assert!(Instant::now() < deadline, "{when} does not rest: {said}\n{}", world.shown());
    }
    world.assert_nothing_is_left(&task, &when);
    assert_eq!(world.runs(&task), moment.runs(), "{when}");
    assert_eq!(lines(world, "given", &task).len(), moment.runs() - 1, "{when}");
    match (moment.worker, moment.body == NEVER.0) {
        (Worker::Branch, true) => {
            // Its branch and its worktree stay, for a person to look at.
            let left = names(&world.project.queue("worktrees"));
            assert!(!left.iter().any(|name| name.starts_with('.')), "{when}: {left:?}");
        }
        (Worker::Branch, false) => assert_nothing_is_left(world, &when),
        _ => {}
    }
    was_killed(output.status)
}

fn play(moment: &Moment) {
    let next = |nth| if is_long() { nth + 1 } else { nth * 5 + 1 };
    let kills = disturb_each(
        moment.worker,
        all_calls(),
        |_, nth| next(nth),
        |world, syscall, nth| kill_at(world, moment, syscall, nth),
    );
    let at_least = if is_long() { moment.at_least } else { 4 };
    assert!(kills >= at_least, "{}: only {kills} kills", moment.name);
}

#[test]
fn the_check_is_started() {
    play(&moment("the check is started", Worker::Script, AT_ONCE, 0, 30));
}

#[test]
fn a_green_check_is_accepted() {
    play(&moment("a green check is accepted", Worker::Script, AT_ONCE, 1, 40));
}

#[test]
fn a_red_check_is_given_back() {
    play(&moment("a red check is given back", Worker::Script, LATER, 1, 25));
}

#[test]
fn a_red_check_is_given_up() {
    play(&moment("a red check is given up", Worker::Script, NEVER, 1, 25));
}

#[test]
fn the_check_is_started_in_a_worktree() {
    play(&moment("the check is started in a worktree", Worker::Branch, AT_ONCE, 0, 25));
}

#[test]
fn a_green_check_is_accepted_in_a_worktree() {
    play(&moment("a green check is accepted in a worktree", Worker::Branch, AT_ONCE, 1, 25));
}

#[test]
fn the_base_is_checked_after_a_red_check() {
    play(&moment("the base is checked", Worker::Branch, LATER, 1, 25));
}

#[test]
fn a_red_check_is_given_back_in_a_worktree() {
    play(&moment("a red check is given back in a worktree", Worker::Branch, LATER, 2, 25));
}

#[test]
fn a_red_check_is_given_up_in_a_worktree() {
    play(&moment("a red check is given up in a worktree", Worker::Branch, NEVER, 2, 25));
}
