//! Programs that tests write, and run.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes an executable file.
#[track_caller]
pub fn write_program(path: &Path, text: &str) {
    write_apart(path, text.as_bytes());
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a program's mode");
}

/// Writes a file that nobody has open for writing afterwards. Another process does it: what a test has open while another
/// thread of its program starts something is handed down until that has begun, which takes long on a busy machine. The
/// kernel runs no file that anybody may still write (ETXTBSY), and `ccl` takes no task that is still being written.
#[track_caller]
pub fn write_apart(path: &Path, bytes: &[u8]) {
    let cat =
        Command::new("sh").arg("-c").arg("cat > \"$0\"").arg(path).stdin(Stdio::piped()).spawn();
    let mut cat = cat.expect("sh runs");
    let written = cat.stdin.take().expect("its standard input").write_all(bytes);
    let status = cat.wait().expect("sh ends");
    assert!(written.is_ok() && status.success(), "{} is not written", path.display());
}
