//! The terminal of a pane, seen from its slave side.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::Pid;
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr};

use super::{Stat, proc_path};

/// What the input side of a terminal tells about who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Input {
    /// The kernel edits lines (`ICANON`).
    pub(super) line_mode: bool,
    /// The kernel echoes what is typed (`ECHO`).
    pub(super) echo: bool,
    /// Bytes that were typed and not yet read.
    pub(super) unread: u64,
}

/// Looks at standard input of a process; none where that is not its controlling terminal.
pub(super) fn input_of(process: &Stat) -> Option<Input> {
    let path = proc_path(process.pid, "fd/0");
    // Looked at before it is opened: opening a pipe would make us one of its readers.
    if !is_device(&path, process.tty_nr) {
        return None;
    }
    let tty = open(&path, false).ok()?;
    let modes = tcgetattr(&tty).ok()?.local_modes;
    Some(Input {
        line_mode: modes.contains(LocalModes::ICANON),
        echo: modes.contains(LocalModes::ECHO),
        unread: rustix::io::ioctl_fionread(&tty).ok()?,
    })
}

/// Whether the path is the character device that `/proc/PID/stat` calls `tty_nr`.
fn is_device(path: &Path, tty_nr: u64) -> bool {
    // The kernel's own packing: minor 0-7, major 8-19, the rest of minor 20-31.
    let major = tty_nr >> 8 & 0xfff;
    let minor = tty_nr & 0xff | tty_nr >> 12 & 0xf_ff00;
    std::fs::metadata(path).is_ok_and(|meta| {
        let device = meta.rdev();
        tty_nr != 0
            && (u64::from(rustix::fs::major(device)), u64::from(rustix::fs::minor(device)))
                == (major, minor)
    })
}

/// Opens a terminal without making it ours and without waiting.
fn open(path: &Path, write: bool) -> io::Result<File> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    OpenOptions::new().read(true).write(write).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Leave the alternate screen, show the cursor, plain text, ordinary keys, no reports of mouse and focus.
const LEAVE_FULL_SCREEN: &[u8] = b"\x1b[?1049l\x1b[?25h\x1b[0m\x1b[?1l\x1b>\x1b[>4m\
    \x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1004l";

/// Puts a pane right that a killed program left in the alternate screen, with mouse reports, or in raw mode.
///
/// Call it once the shell is back. Measured on tmux 3.3a: `send-keys -R` does not leave the alternate screen, and
/// clears what stands there; what is written to the terminal from outside works, and keeps the text. bash, zsh and
/// fish set the line discipline right themselves; dash does not, and would never see the end of a line again.
///
/// # Errors
/// Where the terminal cannot be opened or written.
pub fn reset_terminal(tty: &Path, pane: Pid) -> io::Result<()> {
    let mut open = open(tty, true)?;
    open.write_all(LEAVE_FULL_SCREEN)?;
    if !super::shell::needs_line_mode(pane) {
        return Ok(());
    }
    let mut modes = tcgetattr(&open)?;
    modes.input_modes |= InputModes::ICRNL | InputModes::IXON;
    modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    modes.local_modes |= LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::IEXTEN;
    tcsetattr(&open, OptionalActions::Now, &modes)?;
    Ok(())
}
