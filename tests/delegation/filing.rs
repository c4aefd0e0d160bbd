//! Filing: whose file is removed, which name is taken, and what a killed pass leaves.

use std::fs;

use ccl::remote::job_row;
use serde_json::Value;

use crate::secutools_server::Step;
use crate::support::{PATIENCE, wait_until};
use crate::world::{TASK, World, at};

/// A world whose task is job-1, which has succeeded.
fn finished() -> World {
    let world = World::new();
    assert_eq!(world.scan_one(at(0)).0, "delegated");
    world.server.finish("job-1", "Good.", &Value::Null);
    world
}

#[test]
fn an_edited_task_stays_as_a_new_one() {
    let world = finished();
    let edited = format!("{TASK}And this too.\n");
    world.put("T.md", &edited);
    assert_eq!(world.reap_one(at(1)).0, "done");
    assert_eq!(world.files(), ["done/T.md", "inbox/T.md"]);
    assert_eq!(world.read("inbox/T.md"), edited);
    assert!(world.read("done/T.md").starts_with(&format!("{TASK}\n## Result")));
    assert_eq!(world.scan_one(at(60)).0, "delegated");
    assert_eq!(world.server.jobs().len(), 2);
}

#[test]
fn a_deleted_task_is_filed_all_the_same() {
    let world = finished();
    fs::remove_file(world.path("inbox/T.md")).unwrap();
    assert_eq!(world.reap_one(at(1)).0, "done");
    assert_eq!(world.files(), ["done/T.md"]);
    assert!(world.read("done/T.md").starts_with(TASK));
}

#[test]
fn a_link_or_a_directory_in_the_tasks_place_is_not_touched() {
    let world = finished();
    let path = world.path("inbox/T.md");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    assert_eq!(world.reap_one(at(1)).0, "done");
    assert!(path.is_symlink());

    let world = finished();
    let path = world.path("inbox/T.md");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(world.reap_one(at(1)).0, "done");
    assert!(path.is_dir());
}

#[test]
fn a_backup_by_hard_link_does_not_make_the_task_run_again() {
    let world = finished();
    fs::hard_link(world.path("inbox/T.md"), world.root().join("backup.md")).unwrap();
    assert_eq!(world.reap_one(at(1)).0, "done");
    assert_eq!(world.files(), ["done/T.md"]);
}

#[test]
fn a_task_that_somebody_has_open_is_filed_when_it_is_closed() {
    let world = finished();
    let open = fs::OpenOptions::new().append(true).open(world.path("inbox/T.md")).unwrap();
    let (said, reason) = world.reap_one(at(1));
    assert_eq!(said, "held", "{reason}");
    assert!(reason.contains("filed once it is closed"), "{reason}");
    assert_eq!(world.files(), ["inbox/T.md", "inbox/T.md.delegated"]);
    drop(open);
    // A program that another test has just started may have it open for a moment.
    wait_until("it is closed", PATIENCE, || world.reap_one(at(60)).0 == "done");
    assert_eq!(world.files(), ["done/T.md"]);
}

#[test]
fn a_taken_name_is_never_overwritten() {
    let world = finished();
    fs::create_dir(world.path("done")).unwrap();
    fs::write(world.path("done/T.md"), "older").unwrap();
    fs::write(world.path("done/T.2.md"), "old").unwrap();
    assert_eq!(world.reap_one(at(1)).0, "done");
    assert_eq!(world.files(), ["done/T.2.md", "done/T.3.md", "done/T.md"]);
    assert_eq!(world.read("done/T.md"), "older");
    assert!(world.read("done/T.3.md").contains("Good."));
}

#[test]
fn what_others_may_not_read_they_may_not_read_on_its_way_either() {
    use std::os::unix::fs::PermissionsExt;
    for mode in [0o600, 0o640] {
        let world = World::new();
        let mode_of = |file: &str| fs::metadata(world.path(file)).unwrap().permissions().mode();
        fs::set_permissions(world.path("inbox/T.md"), fs::Permissions::from_mode(mode)).unwrap();
        world.server.otherwise(Step::status(503));
        world.scan(at(0));
        assert_eq!(mode_of("inbox/T.md.delegated") & 0o777, mode);
        world.server.otherwise(Step::Behave);
        world.server.auto_finish(1, "secret", Value::Null);
        assert_eq!(world.scan_one(at(120)).0, "delegated");
        assert_eq!(mode_of("inbox/T.md.delegated") & 0o777, mode);
        assert_eq!(world.reap_one(at(130)).0, "done");
        assert_eq!(mode_of("done/T.md") & 0o777, mode);
    }
}

#[test]
fn a_pass_that_was_killed_between_two_steps_of_filing_leaves_one_copy() {
    for gone in [vec![], vec!["inbox/T.md"]] {
        let world = finished();
        fs::create_dir(world.path("done")).unwrap();
        fs::write(world.path("done/T.md"), "older").unwrap();
        let marker = world.read("inbox/T.md.delegated");
        world.reap(at(1));
        let filed = world.read("done/T.2.md");
        // As it was after the copy was written, and after the task was removed.
        fs::write(world.path("inbox/T.md.delegated"), marker).unwrap();
        world.put("T.md", TASK);
        for file in gone {
            fs::remove_file(world.path(file)).unwrap();
        }
        assert_eq!(world.scan_one(at(2)).0, "nothing");
        assert_eq!(world.reap_one(at(60)).0, "done");
        assert_eq!(world.files(), ["done/T.2.md", "done/T.md"]);
        assert_eq!(world.read("done/T.2.md"), filed);
        assert_eq!(world.server.jobs().len(), 1);
    }
}

#[test]
fn a_copy_filed_by_a_killed_pass_counts_also_when_the_job_has_gone_since() {
    let world = finished();
    let marker = world.read("inbox/T.md.delegated");
    world.reap(at(1));
    fs::write(world.path("inbox/T.md.delegated"), marker).unwrap();
    world.put("T.md", TASK);
    world.server.forget("job-1");
    world.reap(at(60));
    world.reap(at(121));
    assert_eq!(world.files(), ["done/T.md"]);
}

#[test]
fn a_task_with_an_older_ending_gets_the_new_one_instead() {
    let world = World::empty();
    let old = r#"<!-- ccl {"run":"00000000-0000-0000-0000-000000000000","outcome":"released","attempt":2} -->"#;
    world.put("T.md", &format!("{TASK}\n{old}\n"));
    world.scan(at(0));
    world.server.finish("job-1", "Good.", &Value::Null);
    world.reap(at(1));
    let done = world.read("done/T.md");
    assert!(!done.contains(old), "{done}");
    assert_eq!(world.ending("done/T.md").attempt, 3);
    assert_eq!(world.files(), ["done/T.md"]);
    let body: Value = serde_json::from_slice(&world.server.jobs()[0].body).unwrap();
    assert_eq!(body["input"]["prompt"], "Do it.");
}

#[test]
fn status_tells_from_the_markers_alone_how_far_each_job_is() {
    let world = World::empty();
    for name in ["a.md", "b.md", "c.md", "d.md"] {
        world.put(name, TASK);
    }
    // One at a time, so that the jobs have the tasks' order.
    for (name, _) in [("a", 1), ("b", 2), ("c", 3)] {
        let first = world.submissions().into_iter().take(1).collect();
        let outcomes = world.pass(at(0), |delegation| delegation.submit(first));
        assert_eq!(crate::world::said(&outcomes)[0].0, "delegated", "{name}");
    }
    world.server.otherwise(Step::status(503));
    world.scan(at(0));
    world.server.otherwise(Step::Behave);
    for job in ["job-1", "job-2"] {
        world.server.finish(job, "ok", &Value::Null);
    }
    world.reap(at(5));
    let requests = world.server.requests().len();

    let rows = world.delegated().into_iter().map(|task| job_row(&task));
    let rows: Vec<_> = rows.map(|row| row.unwrap().unwrap()).collect();
    let [c, d] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((c.task.as_str(), c.phase.as_str()), ("c.md", "submitted"));
    assert_eq!((c.job_id.as_deref(), &c.reason), (Some("job-3"), &None));
    assert_eq!((d.task.as_str(), d.phase.as_str()), ("d.md", "submitting"));
    assert!(d.reason.as_deref().unwrap().contains("503"), "{d:?}");
    assert_eq!(world.server.requests().len(), requests);
}
