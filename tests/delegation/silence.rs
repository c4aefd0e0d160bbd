//! A server that is not there, says nothing, or does not let us in costs one pass one try.

use std::time::{Duration, Instant};

use crate::secutools_server::{Answer, Step};
use crate::world::{MOMENT, Said, TASK, World, at};

const TASKS: usize = 30;

fn many() -> World {
    let world = World::empty();
    for number in 0..TASKS {
        world.put(&format!("T{number:02}.md"), TASK);
    }
    world
}

fn count(said: &[Said], word: &str) -> usize {
    said.iter().filter(|(what, _)| what == word).count()
}

#[test]
fn a_silent_server_costs_one_pass_one_timeout_and_one_task_its_certainty() {
    for fault in [Step::Silence { create: true }, Step::Drip] {
        let world = many();
        world.break_server(&fault);
        let start = Instant::now();
        let said = world.scan(at(0));
        assert!(start.elapsed() < 10 * MOMENT);
        assert_eq!(count(&said, "held"), 1);
        assert_eq!(count(&said, "local"), TASKS - 1);
        assert_eq!(world.server.requests().len(), 1);
        assert_eq!(world.log().matches("nothing more is asked").count(), 1);
    }
}

#[test]
fn a_server_that_is_not_there_leaves_every_task_to_the_sessions() {
    let world = many().without_server();
    let start = Instant::now();
    let said = world.scan(at(0));
    assert!(start.elapsed() < Duration::from_secs(15));
    assert_eq!(count(&said, "local"), TASKS);
    assert!(said[0].1.contains("could not be reached"), "{said:?}");
    assert_eq!(world.files().len(), TASKS, "no marker is left");
}

#[test]
fn a_refused_key_ends_the_talk_and_fails_the_pass() {
    for status in [401, 403] {
        let world = many();
        world.server.otherwise(Step::Say(Answer::problem(status, "Go away", "")));
        world.pass(at(0), |delegation| {
            assert!(!delegation.is_unauthorized());
            let said = world.scan_with(delegation);
            assert!(delegation.is_unauthorized());
            assert_eq!(count(&said, "local"), TASKS);
        });
        assert_eq!(world.server.requests().len(), 1);
        let log = world.log();
        assert_eq!(log.matches("error: ").count(), 1, "{log}");
        assert!(log.contains("check the secutools API key"), "{log}");
        assert_eq!(world.files().len(), TASKS, "no marker is left");
    }
}

#[test]
fn a_server_that_falls_silent_costs_the_polls_one_timeout() {
    let world = many();
    assert_eq!(count(&world.scan(at(0)), "delegated"), TASKS);
    let before = world.server.requests().len();
    world.break_server(&Step::Silence { create: false });
    let start = Instant::now();
    assert_eq!(count(&world.reap(at(60)), "nothing"), TASKS);
    assert!(start.elapsed() < 10 * MOMENT);
    assert_eq!(world.server.requests().len() - before, 1);
    // And nothing is lost.
    world.mend_server();
    world.server.auto_finish(1, "ok", "0.1".into());
    assert_eq!(count(&world.reap(at(120)), "done"), TASKS);
    assert_eq!(world.server.jobs().len(), TASKS);
}

#[test]
fn a_key_that_is_refused_at_the_polls_fails_the_pass_and_loses_nothing() {
    let world = many();
    world.scan(at(0));
    world.server.expect_key("another");
    world.pass(at(60), |delegation| {
        let outcomes = delegation.poll(world.delegated());
        assert_eq!(outcomes.len(), TASKS);
        assert!(delegation.is_unauthorized());
    });
    assert_eq!(world.files().len(), 2 * TASKS);
}

#[test]
fn requests_go_out_together_over_few_connections() {
    let world = many();
    assert_eq!(count(&world.scan(at(0)), "delegated"), TASKS);
    assert_eq!(world.server.jobs().len(), TASKS);
    assert!(world.server.connections() <= 16, "{}", world.server.connections());
}
