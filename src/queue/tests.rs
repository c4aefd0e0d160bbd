use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use jiff::Timestamp;
use tempfile::TempDir;
use uuid::Uuid;

use super::{Claim, ClaimLookup, Folder, Held, Name, Project, Skip};
use crate::config::AgentKind;
use crate::marker::{self, Phase, Stamp, StartedAgent};
use crate::process::Writers;
use crate::task::{self, Ending, Outcome};

const OWNER: Uuid = Uuid::from_u128(7);
const RUN: Uuid = Uuid::from_u128(1);

/// A project with an empty inbox.
fn project() -> (TempDir, Project) {
    let dir = tempfile::tempdir().unwrap();
    let project = Project::new(dir.path().to_owned());
    fs::create_dir_all(project.folder(Folder::Inbox)).unwrap();
    (dir, project)
}

fn name() -> Name {
    Name::new("T.md".as_ref()).unwrap()
}

fn marker_of(run: Uuid) -> marker::ClaimMarker {
    marker::ClaimMarker {
        work: marker::Work::default(),
        stamp: Stamp::new("host", Timestamp::UNIX_EPOCH),
        owner: OWNER,
        session: "s".to_owned(),
        run,
        phase: Phase::Claimed,
        attempt: 1,
        started_at: Timestamp::UNIX_EPOCH,
        agent: StartedAgent {
            name: None,
            claude_dir: None,
            kind: AgentKind::Command,
            model: None,
            session: None,
            transcript_from: 0,
        },
    }
}

fn ending(outcome: Outcome) -> Ending {
    Ending { reason: Some("because".to_owned()), ..Ending::new(RUN, outcome, 1) }
}

fn drop_task(project: &Project, text: &str) -> PathBuf {
    let path = project.waiting_path(&name());
    fs::write(&path, text).unwrap();
    path
}

fn claim(project: &Project) -> Result<Claim, Skip> {
    let seen = project.read(&name())?.seen;
    project.claim(&name(), &seen, None, marker_of(RUN), &Writers::default())
}

/// All names in a folder that are not the lock's.
fn names(project: &Project, folder: Folder) -> Vec<String> {
    let entries = fs::read_dir(project.folder(folder)).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_claim_is_a_rename_and_released_as_it_was() {
    let (_dir, project) = project();
    drop_task(&project, "Do it.\n");
    let claim = claim(&project).unwrap();
    assert_eq!(names(&project, Folder::Inbox), [".T.md.claim", "T.md.dispatched"]);
    let back = claim.release().unwrap().unwrap();
    assert_eq!(back, project.waiting_path(&name()));
    assert_eq!(names(&project, Folder::Inbox), ["T.md"]);
    assert_eq!(fs::read_to_string(back).unwrap(), "Do it.\n");
}

#[test]
fn only_the_file_that_was_seen_is_claimed() {
    let (_dir, project) = project();
    let path = drop_task(&project, "one");
    let seen = project.read(&name()).unwrap().seen;
    let claim = || project.claim(&name(), &seen, None, marker_of(RUN), &Writers::default());
    fs::write(&path, "other").unwrap();
    assert!(matches!(claim(), Err(Skip::Gone)));
    fs::remove_file(&path).unwrap();
    assert!(matches!(claim(), Err(Skip::Gone)));
    assert_eq!(names(&project, Folder::Inbox), [""; 0]);
}

#[test]
fn a_name_that_is_at_work_is_not_claimed() {
    for suffix in ["dispatched", "delegated"] {
        let (_dir, project) = project();
        let path = drop_task(&project, "new");
        fs::write(format!("{}.{suffix}", path.display()), "old").unwrap();
        assert!(matches!(claim(&project), Err(Skip::Held(Held::NameActive))));
        assert_eq!(names(&project, Folder::Inbox), ["T.md".to_owned(), format!("T.md.{suffix}")]);
    }
}

#[test]
fn of_many_who_claim_one_wins() {
    let (_dir, project) = project();
    drop_task(&project, "Do it.\n");
    let seen = project.read(&name()).unwrap().seen;
    let claims: Vec<_> = std::thread::scope(|scope| {
        let project = &project;
        let claimants: Vec<_> = (1..9)
            .map(|run| {
                scope.spawn(move || {
                    let marker = marker_of(Uuid::from_u128(run));
                    project.claim(&name(), &seen, None, marker, &Writers::default())
                })
            })
            .collect();
        claimants.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let lost = |claim: &_| matches!(claim, Err(Skip::Gone | Skip::Held(_)));
    assert_eq!(claims.iter().filter(|claim| lost(claim)).count(), 7, "{claims:?}");
    let winners: Vec<_> = claims.iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    let on_disk: marker::ClaimMarker = marker::read(&project.claim_path(&name())).unwrap().unwrap();
    assert_eq!(on_disk.run, winners[0].marker().run);
}

#[test]
fn what_somebody_still_writes_to_is_put_back() {
    let (_dir, project) = project();
    let path = drop_task(&project, "half");
    let seen = project.read(&name()).unwrap().seen;
    let _writer = OpenOptions::new().append(true).open(&path).unwrap();
    let claim = project.claim(&name(), &seen, None, marker_of(RUN), &Writers::default());
    assert!(matches!(claim, Err(Skip::Held(Held::BeingWritten))));
    assert_eq!(names(&project, Folder::Inbox), ["T.md"]);
}

#[test]
fn a_finished_task_has_its_outcome_and_takes_a_free_name() {
    for (outcome, folder) in [
        (Outcome::Done, Folder::Done),
        (Outcome::Failed, Folder::Failed),
        (Outcome::Released, Folder::Inbox),
    ] {
        let (_dir, project) = project();
        drop_task(&project, "Do it.\n");
        let claim = claim(&project).unwrap();
        fs::create_dir_all(project.folder(folder)).unwrap();
        for taken in ["T.md", "T.2.md"] {
            fs::write(project.folder(folder).join(taken), "older").unwrap();
        }
        let placed = claim.finish(&ending(outcome), Some("42"), None).unwrap().unwrap();
        assert_eq!(placed, project.folder(folder).join("T.3.md"));
        assert_eq!(names(&project, folder), ["T.2.md", "T.3.md", "T.md"]);
        let text = fs::read_to_string(placed).unwrap();
        assert!(text.starts_with("Do it.\n\n## Result\n\n42\n"), "{text}");
        assert_eq!(task::split(&text).read_ending().unwrap(), ending(outcome));
        assert!(!project.claim_path(&name()).exists());
        assert_eq!(fs::read_to_string(project.folder(folder).join("T.md")).unwrap(), "older");
    }
}

#[test]
fn what_the_agent_wrote_into_its_task_stays() {
    let (_dir, project) = project();
    drop_task(&project, "Do it.\n");
    let claim = claim(&project).unwrap();
    let path = project.dispatched_path(&name());
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"A finding.\n").unwrap();
    drop(file);
    let placed = claim.finish(&ending(Outcome::Done), None, None).unwrap().unwrap();
    assert!(fs::read_to_string(placed).unwrap().starts_with("Do it.\nA finding.\n"));
}

#[test]
fn a_task_that_became_something_else_gets_its_outcome_beside_it() {
    let (_dir, project) = project();
    drop_task(&project, "Do it.\n");
    let claim = claim(&project).unwrap();
    fs::write(project.dispatched_path(&name()), b"\xff\0").unwrap();
    let placed = claim.finish(&ending(Outcome::Done), Some("42"), None).unwrap().unwrap();
    assert_eq!(fs::read(placed).unwrap(), b"\xff\0");
    assert_eq!(names(&project, Folder::Done), ["T.md", "T.md.reason"]);
    let beside = fs::read_to_string(project.folder(Folder::Done).join("T.md.reason")).unwrap();
    assert!(beside.contains("## Result\n\n42") && beside.contains("because"), "{beside}");
}

#[test]
fn a_task_that_is_gone_leaves_no_claim() {
    let (_dir, project) = project();
    drop_task(&project, "Do it.\n");
    let claim = claim(&project).unwrap();
    fs::remove_file(project.dispatched_path(&name())).unwrap();
    assert_eq!(claim.finish(&ending(Outcome::Done), None, None).unwrap(), None);
    assert_eq!(names(&project, Folder::Inbox), [""; 0]);
    assert_eq!(names(&project, Folder::Done), [""; 0]);
}

#[test]
fn a_claim_is_found_by_its_run_and_its_owner() {
    let (_dir, project) = project();
    let find = |run, owner| project.find_claim(&name(), run, owner).unwrap();
    assert!(matches!(find(RUN, OWNER), ClaimLookup::Void));
    drop_task(&project, "Do it.\n");
    let claim = claim(&project).unwrap();
    assert!(matches!(find(RUN, OWNER), ClaimLookup::Active(_, None)));
    assert!(matches!(find(Uuid::from_u128(2), OWNER), ClaimLookup::Void));
    assert!(matches!(find(RUN, Uuid::from_u128(2)), ClaimLookup::Void));

    // Another run's ending line, which the last attempt left, says nothing of this one.
    let path = project.dispatched_path(&name());
    let older = Ending { run: Uuid::from_u128(2), ..ending(Outcome::Done) };
    fs::write(&path, task::with_ending("Do it.\n", &older, None, None)).unwrap();
    assert!(matches!(find(RUN, OWNER), ClaimLookup::Active(_, None)));
    let noted = task::with_ending("Do it.\n", &ending(Outcome::Failed), None, None);
    fs::write(&path, noted).unwrap();
    assert!(matches!(find(RUN, OWNER), ClaimLookup::Active(_, Some(Outcome::Failed))));
    assert!(claim.place(Outcome::Failed).unwrap().is_some());
    assert!(matches!(find(RUN, OWNER), ClaimLookup::Void));
    assert_eq!(names(&project, Folder::Failed), ["T.md"]);
}

#[test]
fn a_claim_that_says_nonsense_is_an_error_and_stays() {
    let (_dir, project) = project();
    fs::write(project.claim_path(&name()), "{").unwrap();
    fs::write(project.dispatched_path(&name()), "Do it.\n").unwrap();
    let error = project.find_claim(&name(), RUN, OWNER).unwrap_err();
    assert!(error.to_string().contains(".T.md.claim"), "{error}");
    assert_eq!(names(&project, Folder::Inbox).len(), 2);
}

#[test]
fn a_rejected_file_keeps_its_bytes() {
    let (_dir, project) = project();
    let path = drop_task(&project, "");
    fs::write(&path, b"caf\xe9").unwrap();
    let unfit = || match project.read(&name()) {
        Err(Skip::Unfit(seen, _)) => seen,
        other => panic!("{other:?}"),
    };
    let older = unfit();
    let reject = |seen| project.reject(&name(), seen, &ending(Outcome::Failed)).unwrap();
    fs::write(&path, b"caf\xe9 au lait").unwrap();
    assert_eq!(reject(&older), None, "it is another file by now");
    let seen = unfit();
    let placed = reject(&seen).unwrap();
    assert_eq!(fs::read(placed).unwrap(), b"caf\xe9 au lait");
    assert_eq!(names(&project, Folder::Failed), ["T.md", "T.md.reason"]);
    assert_eq!(names(&project, Folder::Inbox), [""; 0]);
}

/// So that a kill in between leaves no filed task without its outcome.
fn assert_is_noted_first(
    project: &Project,
    folder: Folder,
    file: impl Fn() -> anyhow::Result<Option<PathBuf>>,
) {
    let (directory, inbox) = (project.folder(folder), names(project, Folder::Inbox));
    let in_the_way = directory.join("T.2.md.reason");
    fs::create_dir_all(&in_the_way).unwrap();
    fs::write(directory.join("T.md"), "older").unwrap();
    file().unwrap_err();
    assert_eq!(names(project, Folder::Inbox), inbox);
    fs::remove_dir(in_the_way).unwrap();
    assert_eq!(file().unwrap(), Some(directory.join("T.2.md")));
    assert_eq!(names(project, folder), ["T.2.md", "T.2.md.reason", "T.md"]);
    assert_eq!(names(project, Folder::Inbox), [""; 0]);
}

#[test]
fn the_outcome_beside_a_task_is_there_before_the_task() {
    let (_dir, rejecting) = project();
    fs::write(rejecting.waiting_path(&name()), b"\xff").unwrap();
    let Err(Skip::Unfit(seen, _)) = rejecting.read(&name()) else { panic!("it is text") };
    assert_is_noted_first(&rejecting, Folder::Failed, || {
        rejecting.reject(&name(), &seen, &ending(Outcome::Failed))
    });
    let (_dir, finishing) = project();
    drop_task(&finishing, "Do it.\n");
    let claim = claim(&finishing).unwrap();
    fs::write(finishing.dispatched_path(&name()), b"\xff").unwrap();
    assert_is_noted_first(&finishing, Folder::Done, || {
        claim.finish(&ending(Outcome::Done), None, None)
    });
}

#[test]
fn an_inbox_that_cannot_be_opened_is_no_empty_one() {
    let (_dir, project) = project();
    let names = ["t.md".into()];
    assert_eq!(project.turns(&names).unwrap().len(), 1);
    fs::remove_dir(project.folder(Folder::Inbox)).unwrap();
    for error in [project.turns(&names).unwrap_err(), project.headers(&names).unwrap_err()] {
        assert!(format!("{error:#}").contains("inbox: No such file"), "{error:#}");
    }
    assert_eq!(project.turns(&[]).unwrap(), []);
}

#[test]
fn a_numbered_name_is_as_good_as_any_however_long_it_was() {
    for stem in ["x".repeat(197), format!("{}xx", "é".repeat(97)), "x".to_owned()] {
        let name = Name::new(format!("{stem}.md").as_ref()).unwrap();
        let mut seen = vec![name.clone()];
        for number in [2, 10, u32::MAX] {
            let numbered = name.numbered(number);
            assert!(numbered.ends_with(&format!(".{number}.md")), "{numbered}");
            let numbered = Name::new(numbered.as_ref()).unwrap();
            assert!(!seen.contains(&numbered));
            seen.push(numbered);
        }
    }
}
