//! Which file system a directory lies on, and what that means. Reading the table of mounts is pure.

use std::fs;
use std::path::Path;

use crate::queue::{Folder, Project};
use crate::report::DoctorRow;
use crate::text::path_text;

/// File systems that other machines may have mounted, too.
const SHARED: [&str; 13] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "virtiofs",
    "ceph",
    "fuse.ceph",
    "lustre",
    "gpfs",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
];

/// One finding for each kind of file system that the queues lie on; nothing where the kernel does not say.
pub(super) fn checks(projects: &[Project]) -> Vec<DoctorRow> {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else { return Vec::new() };
    let mut kinds: Vec<(String, Vec<String>)> = Vec::new();
    for project in projects {
        let inbox = project.folder(Folder::Inbox);
        let Ok(inbox) = fs::canonicalize(inbox) else { continue };
        let Some(kind) = kind_of(&table, &inbox) else { continue };
        let path = path_text(project.path());
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, paths)) => paths.push(path),
            None => kinds.push((kind, vec![path])),
        }
    }
    kinds.into_iter().map(|(kind, paths)| row(&kind, &paths)).collect()
}

fn row(kind: &str, paths: &[String]) -> DoctorRow {
    let (count, first) = (paths.len(), paths.first().map_or("", String::as_str));
    if !SHARED.contains(&kind) {
        return DoctorRow::good("disk", format!("{count} queue(s), such as {first}, on {kind}"));
    }
    DoctorRow {
        remedy: Some(
            "write tasks under another name and rename them, as `ccl add` does; NFS has to be version 4, with its locks \
             (no `nolock`)"
                .to_owned(),
        ),
        ..DoctorRow::skipped(
            "disk",
            format!(
                "{count} queue(s), such as {first}, on {kind}: who writes a task on another machine is not seen here, \
                 so that a file counts as whole once it has rested for a second"
            ),
        )
    }
}

/// The kind of the file system at `path`, by proc_pid_mountinfo(5): `… MOUNTPOINT OPTIONS … - KIND SOURCE …`.
fn kind_of(table: &str, path: &Path) -> Option<String> {
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let at = unescape(left.split(' ').nth(4)?);
        path.starts_with(&at).then(|| (at.len(), right.split(' ').next()))
    });
    // Of several mounts at one place the last is on top, and of equals `max_by_key` takes the last.
    let (_, kind) = mounts.max_by_key(|(length, _)| *length)?;
    kind.map(str::to_owned)
}

/// The kernel writes a blank as `\040`, and so on.
fn unescape(text: &str) -> String {
    // The backslash last: what it makes is not to be read as another escape.
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, c)| text.replace(escape, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:1 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /srv rw,relatime shared:1 - nfs4 box:/srv rw,vers=4.2
31 30 0:41 / /srv/a\\040b rw - tmpfs tmpfs rw
32 22 0:42 / /home rw - ext4 /dev/vdb rw
33 32 0:43 / /home rw - fuse.sshfs x rw
";

    #[test]
    fn the_deepest_and_last_mount_counts() {
        for (path, kind) in [
            ("/", "ext4"),
            ("/srvx", "ext4"),
            ("/srv/web", "nfs4"),
            ("/srv/a b/c", "tmpfs"),
            ("/home/me", "fuse.sshfs"),
        ] {
            assert_eq!(kind_of(TABLE, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(kind_of("", Path::new("/")), None);
    }

    #[test]
    fn a_network_file_system_is_named_with_what_it_means() {
        let row = row("nfs4", &["/srv/web".to_owned()]);
        assert!(row.ok.is_none() && row.detail.contains("/srv/web, on nfs4"), "{}", row.detail);
        assert!(row.detail.contains("another machine"), "{}", row.detail);
        assert_eq!(super::row("ext4", &["/srv/web".to_owned()]).ok, Some(true));
    }
}
