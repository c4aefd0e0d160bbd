//! `STATE/paused` and `.agent-queue/paused`: nothing is handed out until `ccl resume`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::marker::{self, Stamp, Unreadable};
use crate::text::{self, local_time};

/// At most this many characters of a person's text are shown.
const MAX_WORDS: usize = 300;

/// Since when nothing is handed out, by whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Pause {
    pub(crate) since: Timestamp,
    pub(crate) who: Option<String>,
    pub(crate) reason: Option<String>,
}

/// What the file holds. Any other file counts as well: one that was made by `touch`, or that a person has written a
/// sentence into.
#[derive(Debug, Serialize, Deserialize)]
struct PauseMarker {
    #[serde(flatten)]
    stamp: Stamp,
    who: Option<String>,
    reason: Option<String>,
}

/// The file that pauses everything that this state directory hands out.
pub(crate) fn of_state(state_dir: &Path) -> PathBuf {
    state_dir.join("paused")
}

/// Pauses; replaces an earlier pause's words.
pub(crate) fn begin(
    path: &Path,
    stamp: Stamp,
    who: Option<String>,
    reason: Option<String>,
) -> Result<()> {
    if let Some(directory) = path.parent() {
        durable::make_dirs(directory)?;
    }
    marker::write(path, &PauseMarker { stamp, who, reason })
}

/// Ends the pause; false if there was none.
pub(crate) fn end(path: &Path) -> Result<bool> {
    durable::remove(path)
}

/// The pause, if there is one. A file that cannot be read pauses, too: nothing is handed out on the strength of it.
pub(crate) fn read(path: &Path) -> Option<Pause> {
    match marker::read::<PauseMarker>(path) {
        Ok(None) => None,
        Ok(Some(PauseMarker { stamp, who, reason })) => {
            Some(Pause { since: stamp.at, who, reason })
        }
        Err(unreadable) => Some(by_hand(path, &unreadable)),
    }
}

/// A file that `ccl` has not written: what stands in it is the reason.
fn by_hand(path: &Path, unreadable: &Unreadable) -> Pause {
    let found = fs::symlink_metadata(path).ok();
    let since = found.and_then(|found| durable::modified(&found)).unwrap_or_default();
    let read = |file| durable::read_at_most(file, 4096);
    let reason = match durable::open_if_there(path).and_then(|file| file.map(read).transpose()) {
        Ok(bytes) => bytes.map(|bytes| text::excerpt(&String::from_utf8_lossy(&bytes), MAX_WORDS)),
        Err(_) => Some(unreadable.to_string()),
    };
    Pause { since, who: None, reason: reason.filter(|reason| !reason.is_empty()) }
}

impl Pause {
    /// `since 14:20, 3 min ago, by me: a release is under way`
    pub(crate) fn sentence(&self, now: Timestamp, zone: &TimeZone) -> String {
        let mut sentence = format!("since {}", local_time(self.since, now, zone));
        if let Some(who) = &self.who {
            sentence.push_str(&format!(", by {}", text::excerpt(who, MAX_WORDS)));
        }
        if let Some(reason) = &self.reason {
            sentence.push_str(&format!(": {}", text::excerpt(reason, MAX_WORDS)));
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_pauses() {
        let dir = tempfile::tempdir().unwrap();
        let path = of_state(&dir.path().join("state"));
        assert_eq!(read(&path), None);
        let now: Timestamp = "2026-03-05T13:16:00Z".parse().unwrap();
        let who = Some("me".to_owned());
        begin(&path, Stamp::new("h", now), who, Some("a\nrelease".to_owned())).unwrap();
        let later = now + std::time::Duration::from_secs(180);
        let sentence = |pause: Pause| pause.sentence(later, &TimeZone::UTC);
        assert_eq!(read(&path).map(sentence).unwrap(), "since 13:16, 3 min ago, by me: a release");
        for (words, reason) in
            [("", None), ("back on Monday\n", Some("back on Monday")), ("{}", Some("{}"))]
        {
            fs::write(&path, words).unwrap();
            let pause = read(&path).unwrap();
            assert_eq!((pause.who, pause.reason.as_deref()), (None, reason), "{words:?}");
        }
        assert!(end(&path).unwrap() && !end(&path).unwrap());
        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        assert!(read(&path).is_some());
    }
}
