//! Polling: the only place in the tests that sleeps.

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen: far longer than it takes, because the
/// machine may be loaded.
pub const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

/// Polls until `ready` holds; panics with `what` if it does not within `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    wait_for(what, limit, || ready().then_some(()));
}

/// Polls until `find` finds something and returns it; panics with `what` if it does not within
/// `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, find: impl FnMut() -> Option<T>) -> T {
    poll(limit, find).unwrap_or_else(|| panic!("waited {limit:?} in vain: {what}"))
}

/// Polls until `find` finds something; `None` if it does not within `limit`.
pub fn poll<T>(limit: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return Some(found);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(POLL);
    }
}
