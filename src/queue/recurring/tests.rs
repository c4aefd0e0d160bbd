use std::collections::HashSet;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::calendar::Calendar;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// When the file of a test was last changed, unless the test says otherwise.
const CHANGED: &str = "2026-11-26T02:00:00Z";

/// A project with `recurring/r.md`.
fn project(header: &str) -> (tempfile::TempDir, Project) {
    let dir = tempfile::tempdir().unwrap();
    let project = Project::new(dir.path().to_owned());
    for folder in [Folder::Inbox, Folder::Done, Folder::Failed] {
        fs::create_dir_all(project.folder(folder)).unwrap();
    }
    let recurring = project.recurring_folder();
    fs::create_dir(&recurring).unwrap();
    write(&project, header);
    (dir, project)
}

fn write(project: &Project, header: &str) {
    let text = format!("---\ntitle: R\n{header}\n---\nDo it.\n");
    fs::write(project.recurring_folder().join("r.md"), text).unwrap();
}

fn serve(project: &Project, now: Timestamp) -> Option<Served> {
    serve_one(&project.recurring().unwrap()[0], now)
}

fn serve_one(recurring: &Recurring, now: Timestamp) -> Option<Served> {
    serve_changed(recurring, now, at(CHANGED))
}

/// The same of a file that was changed then: nobody can set that time of a real one.
fn serve_changed(recurring: &Recurring, now: Timestamp, changed_at: Timestamp) -> Option<Served> {
    let stamp = Stamp::new("h", now);
    match recurring.read().unwrap() {
        RecurringRead::Read(file) => {
            recurring.serve_file(&RecurringFile { changed_at, ..*file }, &stamp, false).unwrap()
        }
        RecurringRead::Gone | RecurringRead::Held(_) => recurring.serve(&stamp, false).unwrap(),
    }
}

fn made(served: Option<Served>) -> Option<String> {
    match served {
        Some(Served::Made { task, .. }) => Some(task),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn move_to(project: &Project, folder: Folder, task: &str) {
    fs::rename(project.folder(Folder::Inbox).join(task), project.folder(folder).join(task))
        .unwrap();
}

#[test]
fn a_slot_makes_one_task_without_the_keys_that_count_for_slots() {
    let (_dir, project) = project("at: 02:00\nzone: Europe/Berlin\noverlap: queue");
    assert_eq!(made(serve(&project, at("2026-11-26T12:00:00Z"))), None);
    assert_eq!(made(serve(&project, at("2026-11-27T00:59:59Z"))), None);
    let task = made(serve(&project, at("2026-11-27T01:00:30Z"))).unwrap();
    assert_eq!(task, "r.20261127T0100Z.md");
    let path = project.folder(Folder::Inbox).join(&task);
    assert_eq!(fs::read_to_string(&path).unwrap(), "---\ntitle: R\n---\nDo it.\n");
    // Not again: neither now, nor once it was taken away, nor when the clock is set back.
    fs::remove_file(&path).unwrap();
    for now in ["2026-11-27T01:00:31Z", "2026-11-26T23:00:00Z", "2026-11-27T01:00:30Z"] {
        assert_eq!(made(serve(&project, at(now))), None, "{now}");
    }
    assert_eq!(made(serve(&project, at("2026-11-28T01:00:00Z"))).unwrap(), "r.20261128T0100Z.md");
    let left = fs::read_dir(project.recurring_folder()).unwrap();
    let mut names: Vec<_> = left.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [".r.md.last", "r.md"]);
}

#[test]
fn what_was_missed_is_caught_up_once_or_not_at_all() {
    for (header, expected) in [
        ("at: 02:00\nzone: UTC", Some("r.20261130T0200Z.md")),
        ("at: 02:00\nzone: UTC\ncatch_up: skip", None),
        ("every: 1d", Some("r.20261130T0200Z.md")),
        ("every: 1d\ncatch_up: skip", None),
    ] {
        let (_dir, project) = project(header);
        let first = serve(&project, at("2026-11-26T02:00:00Z"));
        assert_eq!(first.is_some(), header.starts_with("every"), "{header}");
        project.list().unwrap().waiting.iter().for_each(|task| {
            move_to(&project, Folder::Done, task.to_str().unwrap());
        });
        let late = at("2026-11-30T02:10:01Z");
        assert_eq!(made(serve(&project, late)).as_deref(), expected, "{header}");
        assert_eq!(made(serve(&project, late)), None, "{header}");
        // The next one is on time again.
        let next = made(serve(&project, at("2026-12-01T02:10:00Z")));
        let is_behind = expected.is_some();
        assert_eq!(next.is_some(), !is_behind, "{header}: it waits for the one before");
    }
}

/// `.last` is of 23:00 on the 25th. Then the file gets another header, or is only saved, or put back.
#[test]
fn slots_before_the_last_change_of_the_file_were_not_missed() {
    for (header, changed, now, expected) in [
        // Another time, which has passed today.
        ("at: 05:00", "2026-11-26T06:37:00Z", "2026-11-26T06:37:30Z", None),
        ("at: 05:00", "2026-11-26T06:37:00Z", "2026-11-27T05:00:30Z", Some("r.20261127T0500Z.md")),
        ("at: 06:36", "2026-11-26T06:37:00Z", "2026-11-26T06:37:30Z", None),
        ("every: 1h", "2026-11-26T06:37:00Z", "2026-11-26T06:37:30Z", None),
        ("every: 1h", "2026-11-26T06:37:00Z", "2026-11-26T07:00:30Z", Some("r.20261126T0700Z.md")),
        // Put back after months, with another time and with the one that it has had.
        ("at: 22:00", "2027-03-01T06:37:00Z", "2027-03-01T06:37:30Z", None),
        ("at: 22:00", "2027-03-01T06:37:00Z", "2027-03-01T22:00:30Z", Some("r.20270301T2200Z.md")),
        ("at: 23:00", "2027-03-01T06:37:00Z", "2027-03-01T06:37:30Z", Some("r.20270228T2300Z.md")),
        // Saved just before a slot, with the time that it has had, and with another one.
        ("at: 23:00", "2026-11-26T22:59:59Z", "2026-11-26T23:00:30Z", Some("r.20261126T2300Z.md")),
        ("at: 22:30", "2026-11-26T22:29:59Z", "2026-11-26T22:30:30Z", Some("r.20261126T2230Z.md")),
        // Saved between a slot and the pass that comes next.
        ("at: 23:00", "2026-11-26T23:00:05Z", "2026-11-26T23:00:30Z", Some("r.20261126T2300Z.md")),
        ("at: 23:00", "2026-11-26T23:20:00Z", "2026-11-26T23:20:30Z", Some("r.20261126T2300Z.md")),
        ("at: 22:45", "2026-11-26T23:20:00Z", "2026-11-26T23:20:30Z", None),
        // Saved, and then the machine slept.
        ("at: 05:00", "2026-11-26T04:00:00Z", "2026-11-30T12:00:00Z", Some("r.20261130T0500Z.md")),
        // Saved while the clock was wrong.
        ("at: 05:00", "2027-11-26T04:00:00Z", "2026-11-30T05:01:00Z", Some("r.20261130T0500Z.md")),
    ] {
        let (_dir, project) = project("at: 23:00\nzone: UTC\noverlap: queue");
        let first = &project.recurring().unwrap()[0];
        assert_eq!(
            made(serve_changed(first, at("2026-11-25T12:00:00Z"), at("2026-11-25T12:00:00Z"))),
            None
        );
        let slot = serve_changed(first, at("2026-11-25T23:00:10Z"), at("2026-11-25T12:00:00Z"));
        assert_eq!(made(slot).unwrap(), "r.20261125T2300Z.md");
        write(&project, &format!("{header}\nzone: UTC\noverlap: queue"));
        let found = made(serve_changed(first, at(now), at(changed)));
        assert_eq!(found.as_deref(), expected, "{header}, changed {changed}, pass {now}");
    }
}

#[test]
fn a_date_that_was_served_is_over_and_one_that_never_comes_is_held() {
    let (_dir, project) = project("at: 2026-11-27 06:30\nzone: UTC");
    let recurring = &project.recurring().unwrap()[0];
    let outlook = || recurring.outlook(at("2026-11-28T00:00:00Z")).unwrap().unwrap();
    assert_eq!(made(serve(&project, at("2026-11-26T12:00:00Z"))), None);
    assert!(made(serve(&project, at("2026-11-27T06:30:10Z"))).is_some());
    assert_eq!((outlook().next, outlook().held, outlook().is_over), (None, None, true));
    // Another date, which had passed before anybody saw it.
    write(&project, "at: 2026-11-27 05:30\nzone: UTC");
    assert_eq!(made(serve(&project, at("2026-11-27T06:31:00Z"))), None);
    assert!(outlook().held.unwrap().contains("no slot of it ever comes") && !outlook().is_over);
    let (_dir, project) = self::project("at: 2026-11-20 06:30\nzone: UTC");
    assert_eq!(made(serve(&project, at("2026-11-26T12:00:00Z"))), None);
    let recurring = &project.recurring().unwrap()[0];
    let never = recurring.outlook(at("2026-11-28T00:00:00Z")).unwrap().unwrap();
    assert!(never.held.unwrap().contains("no slot of it ever comes") && !never.is_over);
}

#[test]
fn a_slot_passes_while_an_earlier_one_is_at_work() {
    for (header, may_overlap) in [("every: 1h", false), ("every: 1h\noverlap: queue", true)] {
        let (_dir, project) = project(header);
        let first = made(serve(&project, at("2026-11-26T02:00:00Z"))).unwrap();
        let inbox = project.folder(Folder::Inbox);
        fs::rename(inbox.join(&first), inbox.join(format!("{first}.dispatched"))).unwrap();
        let second = made(serve(&project, at("2026-11-26T03:00:00Z")));
        assert_eq!(second.is_some(), may_overlap);
        fs::remove_file(inbox.join(format!("{first}.dispatched"))).unwrap();
        // It is not caught up.
        assert_eq!(made(serve(&project, at("2026-11-26T03:30:00Z"))), None);
    }
}

#[test]
fn after_three_failures_it_is_held_until_a_person_says_so() {
    let (_dir, project) = project("every: 1h");
    let hour = |hour: i64| at("2026-11-26T02:00:00Z") + SignedDuration::from_hours(hour);
    for number in 0..3 {
        let task = made(serve(&project, hour(number))).unwrap();
        move_to(&project, Folder::Failed, &task);
    }
    let soon = hour(2) + SignedDuration::from_mins(1);
    let Some(Served::OnHold { since, reason, is_new: true }) = serve(&project, soon) else {
        panic!()
    };
    assert!(reason.contains("ccl resume --project /"), "{reason}");
    let again = Served::OnHold { since, reason, is_new: false };
    assert_eq!(serve(&project, hour(3)), Some(again));
    assert_eq!(project.lift_recurring_holds().unwrap(), ["r.md"]);
    assert_eq!(project.lift_recurring_holds().unwrap(), [""; 0]);
    assert!(made(serve(&project, hour(3))).is_some());
    assert_eq!(made(serve(&project, hour(3))), None);
}

#[test]
fn what_cannot_be_read_is_held_with_its_place() {
    for (header, why) in [
        ("at: noon", "recurring/r.md:3:5: `at` has `noon`"),
        ("at: daily\nzone: Mars/Olympus", "recurring/r.md:4:7: `zone` is `Mars/Olympus`"),
    ] {
        let (_dir, project) = project(header);
        match serve(&project, at("2026-11-26T02:00:00Z")) {
            Some(Served::Held(held)) => assert!(held.contains(why), "{held}"),
            other => panic!("{other:?}"),
        }
    }
    let (_dir, project) = project("every: 1h");
    fs::write(project.recurring_folder().join(".r.md.last"), "nonsense").unwrap();
    let recurring = &project.recurring().unwrap()[0];
    let stamp = Stamp::new("h", at("2026-11-26T02:00:00Z"));
    assert!(format!("{:#}", recurring.serve(&stamp, false).unwrap_err()).contains("is left alone"));
}

#[test]
fn what_is_no_regular_file_is_held_and_what_is_gone_is_nothing() {
    let (_dir, project) = project("every: 1h");
    let (recurring, now) = (&project.recurring().unwrap()[0], at("2026-11-26T02:00:00Z"));
    let path = project.recurring_folder().join("r.md");
    fs::rename(&path, project.recurring_folder().join("elsewhere")).unwrap();
    assert_eq!(recurring.outlook(now).unwrap(), None);
    assert_eq!(serve_one(recurring, now), None);
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    let held = recurring.outlook(now).unwrap().unwrap().held.unwrap();
    assert!(held.contains("it is not a regular file"), "{held}");
    assert_eq!(serve_one(recurring, now), Some(Served::Held(held)));
}

#[test]
fn a_slot_of_a_clock_that_was_wrong_is_said_in_local_time() {
    let (_dir, project) = project("every: 1h");
    made(serve(&project, at("2027-01-10T02:00:00Z"))).unwrap();
    let now = at("2026-11-26T02:00:00Z");
    let held = project.recurring().unwrap()[0].outlook(now).unwrap().unwrap().held.unwrap();
    assert!(held.starts_with("its last slot (2027-01-"), "{held}");
    assert!(held.contains(", in 45 days) has not come yet"), "{held}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let (_dir, project) = project("every: 1h");
    let recurring = &project.recurring().unwrap()[0];
    let stamp = Stamp::new("h", at("2026-11-26T02:00:00Z"));
    for _ in 0..2 {
        assert!(made(recurring.serve(&stamp, true).unwrap()).is_some());
    }
    assert_eq!(fs::read_dir(project.recurring_folder()).unwrap().count(), 1);
    assert!(project.list().unwrap().waiting.is_empty());
}

/// What a person, time, and the clock do between two passes, in seconds.
#[derive(Debug, Clone)]
enum Step {
    Sleep(i64),
    SetBack(i64),
    /// The tasks that wait leave: done, failed, deleted.
    Leave(usize),
    /// The file is saved, with one of the schedules.
    Edit(usize),
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5000_i64).prop_map(Step::Sleep),
        1 => (1..400_000_i64).prop_map(Step::Sleep),
        1 => (1..20_000_i64).prop_map(Step::SetBack),
        2 => (0..3_usize).prop_map(Step::Leave),
        1 => (0..3_usize).prop_map(Step::Edit),
        5 => Just(Step::Pass),
    ]
}

/// All slots behind `after` up to `until`, one by one.
fn slots(schedule: &Schedule, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut slots = Vec::new();
    let mut last = after;
    loop {
        let next = match schedule {
            Schedule::At(calendar) => calendar.next_after(last, &TimeZone::UTC).unwrap(),
            Schedule::Every(every) => last + *every,
        };
        if next > until {
            return slots;
        }
        slots.push(next);
        last = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_slot_comes_twice_and_none_is_lost(
        which in 0..3_usize,
        catch_up in any::<bool>(),
        overlap in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let schedules = [
            ("at: '*:0/20'", Schedule::At(Calendar::parse("*:0/20").unwrap())),
            ("at: 6,18:30", Schedule::At(Calendar::parse("6,18:30").unwrap())),
            ("every: 90m", Schedule::Every(SignedDuration::from_mins(90))),
        ];
        let words = [("catch_up: once", "catch_up: skip"), ("overlap: skip", "overlap: queue")];
        let catch_up_word = if catch_up { words[0].0 } else { words[0].1 };
        let overlap_word = if overlap { words[1].1 } else { words[1].0 };
        let text = |which: usize| format!("{}\nzone: UTC\n{catch_up_word}\n{overlap_word}", schedules[which].0);
        let (_dir, project) = project(&text(which));
        let recurring = project.recurring().unwrap().remove(0);
        let mut now = at(CHANGED);
        let (mut which, mut changed) = (which, now);
        // By which schedule it was served last.
        let mut said = which;
        let mut ever: HashSet<String> = HashSet::new();
        // Up to where slots were served or have passed.
        let mut covered: Option<Timestamp> = None;
        for step in steps {
            match step {
                Step::Sleep(seconds) => now += SignedDuration::from_secs(seconds),
                Step::SetBack(seconds) => now -= SignedDuration::from_secs(seconds),
                Step::Leave(way) => for task in project.list().unwrap().waiting {
                    let task = task.to_str().unwrap();
                    match way {
                        0 => move_to(&project, Folder::Done, task),
                        1 => fs::remove_file(project.folder(Folder::Inbox).join(task)).unwrap(),
                        // Never three in a row: that is another test.
                        _ => fs::write(project.folder(Folder::Done).join(task), "").and_then(|()| {
                            fs::remove_file(project.folder(Folder::Inbox).join(task))
                        }).unwrap(),
                    }
                },
                Step::Edit(other) => {
                    write(&project, &text(other));
                    (which, changed) = (other, now);
                }
                Step::Pass => {
                    let schedule = &schedules[which].1;
                    let waits = !project.list().unwrap().waiting.is_empty();
                    let found = made(serve_changed(&recurring, now, changed));
                    let Some(last) = covered else {
                        // First sight: `every` begins at once.
                        covered = Some(found.as_deref().map_or(changed.clamp(now - PUNCTUAL, now), |task| {
                            recurring.slot_of(task).unwrap()
                        }));
                        said = which;
                        ever.extend(found);
                        continue;
                    };
                    let is_missed = |slot: Timestamp| {
                        let next = slots(schedule, slot, slot + SignedDuration::from_hours(13))[0];
                        now.duration_since(slot) > PUNCTUAL.min(next.duration_since(slot) / 2)
                    };
                    // What came before a change counts only where it was named before, too.
                    let counts = |slot: &Timestamp| {
                        *slot > changed || said == which || changed > now && !is_missed(*slot)
                    };
                    let passed: Vec<_> = slots(schedule, last, now).into_iter().filter(counts).collect();
                    let expected = passed.last().filter(|latest| {
                        (catch_up || !is_missed(**latest)) && (overlap || !waits)
                    });
                    prop_assert_eq!(&found, &expected.map(|slot| format!("r.{}.md", slot_text(*slot))), "{} {}", last, now);
                    if let Some(task) = found {
                        prop_assert!(ever.insert(task.clone()), "{task} twice");
                        prop_assert!(project.folder(Folder::Inbox).join(&task).exists());
                    }
                    if let Some(latest) = passed.last() {
                        covered = Some(*latest);
                        said = which;
                    }
                }
            }
        }
    }
}
