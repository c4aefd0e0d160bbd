//! The end of a demo: its processes first, then its directory.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Every process of a demo has this variable, with the demo's directory as its value.
pub(crate) const MARK: &str = "CCL_DEMO";

/// An agent that was told to end still writes for a moment, and one that ignores it for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until the processes of the demo in `directory` are gone, kills those that stay, and removes
/// the directory: what still wrote into it would keep it from going.
pub(crate) fn clear(directory: &Path) -> Result<()> {
    if !have_gone(directory) {
        for pid in processes(directory) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        have_gone(directory);
    }
    remove(directory).with_context(|| format!("cannot remove {}", directory.display()))
}

fn have_gone(directory: &Path) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !processes(directory).is_empty() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// The processes that carry the mark; the environment of one that has ended reads empty.
fn processes(directory: &Path) -> Vec<Pid> {
    let mark = [MARK.as_bytes(), b"=", directory.as_os_str().as_bytes()].concat();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let carries_it = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    };
    pids.filter(carries_it).filter_map(Pid::from_raw).collect()
}

/// A process that hides its environment may still write: then the directory is not empty again.
fn remove(directory: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound && !directory.exists() => {
                return Ok(());
            }
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}
