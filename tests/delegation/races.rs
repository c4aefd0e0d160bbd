//! Several passes at once: each task is one job, and is filed once.

use std::thread;

use serde_json::Value;

use crate::secutools_server::Step;
use crate::world::{Said, TASK, World, at};

const TASKS: usize = 40;
const PASSES: usize = 4;

fn together(act: impl Fn() -> Vec<Said> + Sync) -> Vec<Said> {
    thread::scope(|scope| {
        let passes: Vec<_> = (0..PASSES).map(|_| scope.spawn(&act)).collect();
        passes.into_iter().flat_map(|pass| pass.join().unwrap()).collect()
    })
}

fn count(said: &[Said], word: &str) -> usize {
    said.iter().filter(|(what, _)| what == word).count()
}

fn many() -> World {
    let world = World::empty();
    for number in 0..TASKS {
        world.put(&format!("T{number:02}.md"), TASK);
    }
    world
}

#[test]
fn passes_at_the_same_time_make_one_job_of_each_task() {
    let world = many();
    let submissions: Vec<_> = (0..PASSES).map(|_| world.submissions()).collect();
    let submissions = std::sync::Mutex::new(submissions);
    let said = together(|| {
        let mine = submissions.lock().unwrap().pop().unwrap();
        world.pass(at(0), |delegation| crate::world::said(&delegation.submit(mine)))
    });
    assert_eq!(count(&said, "error"), 0, "{said:?}");
    assert_eq!(count(&said, "delegated"), TASKS);
    assert_eq!(world.server.jobs().len(), TASKS);
}

#[test]
fn passes_at_the_same_time_resume_each_submission_once() {
    let world = many();
    world.server.otherwise(Step::status(500));
    world.scan(at(0));
    world.server.otherwise(Step::Behave);
    let before = world.server.requests().len();
    let said = together(|| {
        world.pass(at(120), |delegation| crate::world::said(&delegation.resume(world.delegated())))
    });
    assert_eq!(count(&said, "error"), 0, "{said:?}");
    assert_eq!(count(&said, "delegated"), TASKS);
    assert_eq!(world.server.requests().len() - before, TASKS);
    assert_eq!(world.server.jobs().len(), TASKS);
}

#[test]
fn passes_at_the_same_time_file_each_job_once() {
    let world = many();
    world.scan(at(0));
    world.server.auto_finish(1, "ok", Value::Null);
    let said = together(|| world.reap(at(60)));
    assert_eq!(count(&said, "error"), 0, "{said:?}");
    assert_eq!(count(&said, "done"), TASKS);
    assert_eq!(world.files().len(), TASKS);
    assert!(world.files().iter().all(|file| file.starts_with("done/T")));
}

#[test]
fn a_submission_that_is_under_way_is_left_to_who_makes_it() {
    let world = World::new();
    world.break_server(&Step::Silence { create: true });
    thread::scope(|scope| {
        let first = scope.spawn(|| world.scan_one(at(0)));
        while world.server.requests().is_empty() {
            assert!(!first.is_finished(), "no request was made");
            thread::yield_now();
        }
        assert_eq!(world.scan_one(at(1)).0, "nothing");
        assert_eq!(world.server.requests().len(), 1);
        assert_eq!(first.join().unwrap().0, "held");
    });
}
