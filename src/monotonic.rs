//! Monotonic time, by which an agent's work is measured: it stands still while the machine sleeps, and nobody can set
//! it. Pure.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A moment: for how long the machine had been awake since it was started. The time of day is no measure of work: with
/// it, a machine that slept over night would end every agent when it wakes, and so would a clock that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MonotonicTime {
    /// Which start of the machine: the kernel's `boot_id`.
    boot: Uuid,
    /// `CLOCK_MONOTONIC` of that start.
    awake: SignedDuration,
}

impl MonotonicTime {
    pub(crate) fn new(boot: Uuid, awake: SignedDuration) -> Self {
        Self { boot, awake }
    }

    /// How long the machine was awake between `earlier` and this; `None` where it was started again in between.
    pub(crate) fn since(self, earlier: Self) -> Option<SignedDuration> {
        (self.boot == earlier.boot).then(|| self.awake.saturating_sub(earlier.awake))
    }
}

/// How long the agent of one attempt has worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkTime {
    /// Since when it is at work; `None` while a check runs, and while it waits for a person that it may ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<MonotonicTime>,
    /// How long it had worked by then.
    before: SignedDuration,
}

impl WorkTime {
    /// The agent is given its task, or its work back.
    pub(crate) fn begin(&mut self, now: MonotonicTime) {
        self.since = Some(now);
    }

    /// Its turn is over.
    pub(crate) fn end(&mut self, now: MonotonicTime) {
        *self = Self { since: None, before: self.so_far(now) };
    }

    /// How long it has worked by `now`. No agent outlives the machine: after a restart none has worked since.
    pub(crate) fn so_far(&self, now: MonotonicTime) -> SignedDuration {
        let since = self.since.and_then(|since| now.since(since));
        self.before.saturating_add(since.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_has_worked_adds_up_over_its_rounds() {
        let boot = Uuid::from_u128(1);
        let at = |seconds| MonotonicTime::new(boot, SignedDuration::from_secs(seconds));
        let seconds = SignedDuration::from_secs;
        let mut worked = WorkTime::default();
        assert_eq!(worked.so_far(at(100)), seconds(0));
        worked.begin(at(100));
        assert_eq!(worked.so_far(at(130)), seconds(30));
        worked.end(at(130));
        // Meanwhile its check runs.
        assert_eq!(worked.so_far(at(900)), seconds(30));
        worked.begin(at(900));
        assert_eq!(worked.so_far(at(910)), seconds(40));
        let text = serde_json::to_string(&worked).unwrap();
        assert_eq!(serde_json::from_str::<WorkTime>(&text).unwrap(), worked);
        let restarted = MonotonicTime::new(Uuid::from_u128(2), seconds(9999));
        assert_eq!(worked.so_far(restarted), seconds(30));
    }
}
