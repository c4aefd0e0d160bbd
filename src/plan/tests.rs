use super::*;
use Priority::{Critical, Default as Normal, High, Low};

fn queue(running: usize, waiting: &[(Priority, &str)]) -> Queue {
    Queue::new(running, waiting.iter().map(|&(priority, name)| (priority, name.into())).collect())
}

/// Everything in the order in which it goes, as `project/name`.
fn order(queues: &mut [Queue], mut since: impl FnMut(usize, &str) -> i64) -> Vec<String> {
    let mut order = Vec::new();
    while let Some((project, name)) =
        next(queues, |project, name| since(project, name.to_str().unwrap()))
    {
        order.push(format!("{project}/{}", name.to_str().unwrap()));
    }
    order
}

fn never_asked(project: usize, name: &str) -> i64 {
    panic!("asked since when {project}/{name} waits")
}

#[test]
fn nothing_waits() {
    assert_eq!(next(&mut [], |_, _| 0), None);
    assert_eq!(next(&mut [queue(0, &[]), queue(3, &[])], |_, _| 0), None);
}

#[test]
fn within_a_project_priority_then_name() {
    let mut one = [queue(
        5,
        &[
            (Low, "a"),
            (Normal, "c"),
            (Normal, "B"),
            (Critical, "z"),
            (High, "y"),
            (Normal, "b.2"),
            (Normal, "b"),
        ],
    )];
    let expected = ["0/z", "0/y", "0/B", "0/b", "0/b.2", "0/c", "0/a"];
    assert_eq!(order(&mut one, never_asked), expected);
    assert_eq!(one[0].running, 12);
    assert_eq!(one[0].waiting.len(), 0);
}

#[test]
fn priority_comes_before_fairness() {
    let mut queues =
        [queue(9, &[(Critical, "a"), (Normal, "b")]), queue(0, &[(High, "a"), (Low, "b")])];
    assert_eq!(order(&mut queues, never_asked), ["0/a", "1/a", "0/b", "1/b"]);
}

#[test]
fn a_flood_in_one_project_does_not_starve_the_others() {
    let mut queues = [
        queue(0, &[(Normal, "a"), (Normal, "b"), (Normal, "c"), (Normal, "d")]),
        queue(2, &[(Normal, "a"), (Normal, "b")]),
        queue(1, &[(Normal, "a")]),
    ];
    let order = order(&mut queues, |project, _| i64::try_from(project).unwrap());
    assert_eq!(order, ["0/a", "0/b", "2/a", "0/c", "1/a", "0/d", "1/b"]);
}

#[test]
fn between_equals_the_longest_wait_goes_first_and_then_the_first_project() {
    let waits = [50, 20, 20, 90];
    let mut queues: Vec<Queue> = waits.iter().map(|_| queue(1, &[(High, "t")])).collect();
    assert_eq!(order(&mut queues, |project, _| waits[project]), ["1/t", "2/t", "0/t", "3/t"]);
}

#[test]
fn the_wait_is_asked_only_of_equals_and_once() {
    let mut asked = Vec::new();
    let mut queues = [
        queue(0, &[(High, "a"), (High, "b")]),
        queue(0, &[(High, "a")]),
        queue(0, &[(Low, "a")]),
        queue(7, &[(High, "a")]),
    ];
    let order = order(&mut queues, |project, name| {
        asked.push(format!("{project}/{name}"));
        if project == 0 { 2 } else { 1 }
    });
    assert_eq!(order, ["1/a", "0/a", "0/b", "3/a", "2/a"]);
    assert_eq!(asked, ["0/a", "1/a"]);
}

#[test]
fn what_did_not_start_does_not_count_as_running() {
    let mut queues = [queue(0, &[(Normal, "a"), (Normal, "b")]), queue(1, &[(Normal, "a")])];
    assert_eq!(next(&mut queues, |_, _| 0), Some((0, "a".into())));
    queues[0].not_started();
    assert_eq!(queues[0].running, 0);
    assert_eq!(next(&mut queues, |_, _| panic!("no tie")), Some((0, "b".into())));
    let mut none = queue(0, &[]);
    none.not_started();
    assert_eq!(none.running, 0);
}

#[test]
fn each_task_has_a_wait_of_its_own() {
    let two = [(Normal, "a"), (Normal, "b")];
    let mut queues = [queue(0, &two), queue(0, &two)];
    let waits = |project, name: &str| match (project, name) {
        (0, "a") => 1,
        (1, "a") => 2,
        (1, "b") => 3,
        _ => 9,
    };
    assert_eq!(order(&mut queues, waits), ["0/a", "1/a", "1/b", "0/b"]);
}
