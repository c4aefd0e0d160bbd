//! Programs that tests write, and run.

use std::path::Path;
use std::process::Command;

/// Writes an executable file. Another process does: a test that had it open for writing while another thread of its program
/// starts something would hand that down, and the kernel runs no file that anybody may still write (ETXTBSY).
#[track_caller]
pub fn write_program(path: &Path, text: &str) {
    let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let status = Command::new("sh").arg("-c").arg(write).arg(path).arg(text).status();
    assert!(status.expect("sh runs").success(), "{} is not written", path.display());
}
