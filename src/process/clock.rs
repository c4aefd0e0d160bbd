//! The kernel's clock that stands still while the machine sleeps.

use std::fs;
use std::io;

use jiff::SignedDuration;
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use crate::monotonic::MonotonicTime;

/// The monotonic time now.
pub(crate) fn monotonic_now() -> io::Result<MonotonicTime> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot = Uuid::try_parse(boot.trim()).map_err(io::Error::other)?;
    let now = clock_gettime(ClockId::Monotonic);
    let nanoseconds = i32::try_from(now.tv_nsec).unwrap_or_default();
    Ok(MonotonicTime::new(boot, SignedDuration::new(now.tv_sec, nanoseconds)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_goes_on() {
        let outer = Instant::now();
        let first = monotonic_now().unwrap();
        let inner = Instant::now();
        let at_least = inner.elapsed();
        let passed = monotonic_now().unwrap().since(first).unwrap().unsigned_abs();
        assert!((at_least..=outer.elapsed()).contains(&passed), "{passed:?}");
    }
}
