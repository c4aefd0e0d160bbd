//! Whether the disk does what the steps of a pass rely on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::Access;

use crate::durable::{self, PRIVATE};
use crate::lock;
use crate::queue::{Folder, Project, QUEUE};
use crate::report::DoctorRow;

/// The directory of `ccl`'s own state. Scripts in it are run in sessions, so nobody else may write there.
pub(super) fn state(directory: &Path) -> DoctorRow {
    let shown = directory.display();
    if !directory.exists() {
        let above = directory.ancestors().find(|above| above.exists());
        return match above.map_or(Ok(()), may_change) {
            Ok(()) => DoctorRow::good("state", format!("{shown} will be made by the first pass")),
            Err(error) => DoctorRow::bad(
                "state",
                format!("{shown} cannot be made: {error:#}"),
                "make it, or set state_dir to another directory",
            ),
        };
    }
    match is_ours(directory).and_then(|()| try_out(directory)) {
        Ok(()) => DoctorRow::good("state", format!("{shown}: locks, renames and syncs work")),
        Err(error) => DoctorRow::bad(
            "state",
            format!("{shown}: {error:#}"),
            format!(
                "run `chown -R $USER {shown} && chmod -R go-w {shown}`, or set state_dir to a local file system"
            ),
        ),
    }
}

/// The queues of all projects: one finding where all is well, else one for each that is not.
pub(super) fn queues(projects: &[Project]) -> Vec<DoctorRow> {
    let faults: Vec<DoctorRow> = projects.iter().filter_map(|it| queue(it).err()).collect();
    if faults.is_empty() {
        let detail = format!("locks, renames and syncs work in {} project(s)", projects.len());
        return vec![DoctorRow::good("queue", detail)];
    }
    faults
}

fn queue(project: &Project) -> Result<(), DoctorRow> {
    let queue = project.path().join(QUEUE);
    let [inbox, done, failed] =
        [Folder::Inbox, Folder::Done, Folder::Failed].map(|folder| project.folder(folder));
    if !inbox.is_dir() {
        let inbox = inbox.display();
        let remedy = format!("run `mkdir {inbox}`");
        return Err(DoctorRow::bad("queue", format!("{inbox} is no directory"), remedy));
    }
    let mut existing = [inbox, done, failed].into_iter().filter(|folder| folder.exists());
    existing
        .try_for_each(|folder| may_change(&folder))
        .and_then(|()| lock::is_held(&queue.join(".lock")).map(drop))
        .and_then(|()| try_out(&queue))
        .map_err(|error| {
            let queue = queue.display();
            let remedy = format!(
                "make {queue} writable for you, on a file system with flock(2) and rename(2)"
            );
            DoctorRow::bad("queue", format!("{error:#}"), remedy)
        })
}

fn may_change(directory: &Path) -> Result<()> {
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(directory, access)
        .with_context(|| format!("you may not change {}", directory.display()))
}

fn is_ours(directory: &Path) -> Result<()> {
    let metadata = fs::metadata(directory).context("cannot look at it")?;
    let mode = metadata.mode() & 0o7777;
    ensure!(metadata.uid() == rustix::process::geteuid().as_raw(), "it belongs to another user");
    ensure!(mode & 0o022 == 0, "others may write to it (mode {mode:04o})");
    Ok(())
}

/// Does what a claim does, locks, writes, syncs and renames, with temporary files that are removed.
fn try_out(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let temporary = || {
        durable::temporary(directory, PRIVATE).with_context(|| format!("cannot write in {shown}"))
    };
    let (mut one, other) = (temporary()?, temporary()?);
    one.write_all(b"one")
        .and_then(|()| one.as_file().sync_all())
        .with_context(|| format!("cannot sync a file in {shown}"))?;
    durable::sync_dir(directory)?;

    // Opened a second time, since flock(2) locks an opening and not a process.
    let again = File::open(one.path()).with_context(|| format!("cannot read in {shown}"))?;
    let lock = |file| lock::lock(file).with_context(|| format!("cannot lock in {shown}"));
    ensure!(
        lock(one.as_file())? && !lock(&again)?,
        "locks in {shown} do not keep others out: two passes would take one task"
    );
    match durable::rename_noreplace(one.path(), other.path()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot rename in {shown}")),
        Ok(()) => bail!("a rename in {shown} overwrites what stands there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn trying_out_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        try_out(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_system_that_takes_no_files_is_named() {
        // Not even root may create files in /proc.
        let error = format!("{:#}", try_out(Path::new("/proc")).unwrap_err());
        assert!(error.starts_with("cannot write in /proc: "), "{error}");
        assert_eq!(state(Path::new("/proc")).ok, Some(false));
    }

    #[test]
    fn a_state_directory_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        assert_eq!(state(&state_dir).ok, Some(true));
        assert!(!state_dir.exists());
        fs::create_dir(&state_dir).unwrap();
        fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o775)).unwrap();
        let check = state(&state_dir);
        assert_eq!(check.ok, Some(false));
        assert!(check.detail.contains("mode 0775"), "{}", check.detail);
        fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(state(&state_dir).ok, Some(true));
    }

    #[test]
    fn a_queue_without_an_inbox_is_named_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let projects = ["a", "b"].map(|name| Project::new(dir.path().join(name)));
        for project in &projects {
            fs::create_dir_all(project.folder(Folder::Inbox)).unwrap();
        }
        assert_eq!(queues(&projects)[0].ok, Some(true));
        fs::remove_dir(projects[1].folder(Folder::Inbox)).unwrap();
        let checks = queues(&projects);
        assert_eq!(checks.len(), 1);
        let remedy = checks[0].remedy.as_deref().unwrap();
        assert!(remedy.ends_with("/b/.agent-queue/inbox`"), "{remedy}");
    }
}
