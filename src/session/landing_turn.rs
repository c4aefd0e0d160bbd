//! Which branch has the turn to land, among those of one project that land in the same base. A branch that was rebased
//! has the turn until a check has judged it anew, so that no other branch moves the base meanwhile.
//!
//! The claims in the inbox decide that, of whichever pool, under the checkout's lock. A claim that was not written to
//! for a while no longer counts: its branch can land later as safely as before, but its base may have moved on by then.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::{Pool, Session};
use crate::marker::{ClaimMarker, ClaimedCheckout, LandingPlace};
use crate::queue::{Claim, Name, Project};

/// How much longer than its time limit a check may take, to be set up and to be looked at.
const AFTER_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);

/// How long a branch that waits keeps its place without a sign from its pool, and how often the pool gives that sign.
const PLACE_KEPT: SignedDuration = SignedDuration::from_mins(5);
const SIGN_EVERY: SignedDuration = SignedDuration::from_mins(1);

impl Pool<'_> {
    /// The task behind which the claim's branch has to wait; none if it may land. The claim notes the branch's place.
    /// The checkout's lock is held.
    pub(super) fn wait_for_turn(&self, claim: &mut Claim) -> Result<Option<String>> {
        let Some(ahead) = self.find_ahead(claim)? else { return Ok(None) };
        let (now, marker) = (self.now, claim.marker());
        // Written anew now and then: that is the sign which keeps its place.
        let known = marker.lands_behind() == Some(&ahead);
        if !known || age(marker, now) >= SIGN_EVERY {
            let since = marker.landing_place().map_or(now, |place| place.since);
            claim.update(now, |claim| {
                claim.work.landing = Some(LandingPlace { since, behind: Some(ahead.clone()) });
            })?;
        }
        Ok(Some(ahead))
    }

    fn find_ahead(&self, claim: &Claim) -> Result<Option<String>> {
        let mut ahead = Vec::new();
        for file in claim.project().list()?.dispatched {
            let Ok(name) = Name::new(&file) else { continue };
            // A claim that cannot be read is reported where its own task is looked at.
            if let Ok(Some(other)) = claim.project().claimant(&name)
                && is_ahead(&other, claim.marker(), self.now)
                && let Some(place) = other.landing_place()
            {
                // In the order of `min`: the branch that has the turn, then the one that came first.
                ahead.push((place.behind.is_some(), place.since, name.as_str().to_owned()));
            }
        }
        Ok(ahead.into_iter().min().map(|(_, _, task)| task))
    }

    /// The sessions whose branches wait for their turn, in the order in which they came. What cannot be read is reported
    /// elsewhere.
    pub(crate) fn waiting_to_land(&self, sessions: &[Session]) -> Vec<Session> {
        let mut waiting: Vec<(Timestamp, &Session)> = sessions
            .iter()
            .filter_map(|session| {
                let marker = session.dispatched().ok()??;
                let name = Name::from_marker(&marker.task)?;
                let claim = Project::new(marker.project).claimant(&name).ok()??;
                let place = claim.landing_place().filter(|_| claim.run == marker.run)?;
                place.behind.as_ref().map(|_| (place.since, session))
            })
            .collect();
        waiting.sort();
        waiting.into_iter().map(|(_, session)| session.clone()).collect()
    }
}

/// The branch has its turn: others wait until its check is over.
pub(super) fn take_turn(claim: &mut ClaimMarker, now: Timestamp) {
    let since = claim.work.landing.as_ref().map_or(now, |place| place.since);
    claim.work.landing = Some(LandingPlace { since, behind: None });
}

pub(super) fn has_turn(claim: &ClaimMarker) -> bool {
    claim.work.landing.as_ref().is_some_and(|place| place.behind.is_none())
}

/// Whether `own` has to wait for `other`: that one has the turn, or has waited for longer.
fn is_ahead(other: &ClaimMarker, own: &ClaimMarker, now: Timestamp) -> bool {
    let Some(place) = other.landing_place() else { return false };
    if other.run == own.run || base_branch(other) != base_branch(own) {
        return false;
    }
    match place.behind {
        // A turn lapses: no check takes that long, so nobody looks at it any more.
        None => age(other, now) < other.work.rules.check_timeout.saturating_add(AFTER_TIMEOUT),
        Some(_) => {
            let since = own.landing_place().map_or(now, |place| place.since);
            // A branch with the turn waits for none that only waits.
            !has_turn(own)
                && age(other, now) < PLACE_KEPT
                && (place.since, other.run) < (since, own.run)
        }
    }
}

/// How long ago the claim was last written. A time in the future counts as just as long ago.
fn age(claim: &ClaimMarker, now: Timestamp) -> SignedDuration {
    now.duration_since(claim.stamp.at).abs()
}

fn base_branch(claim: &ClaimMarker) -> Option<&str> {
    match &claim.work.checkout {
        Some(ClaimedCheckout::Own { worktree, .. }) => worktree.base_branch.as_deref(),
        Some(ClaimedCheckout::Shared { .. }) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{AgentKind, Phase, Stamp, StartedAgent, Work, Worktree};
    use uuid::Uuid;

    fn claim(run: u128, phase: Phase, landing: Option<(i64, bool)>, at: i64) -> ClaimMarker {
        let time = |second| Timestamp::from_second(second).unwrap();
        let worktree = Worktree {
            path: "/web/.agent-queue/worktrees/a".into(),
            branch: "ccl/a".to_owned(),
            base: "1".to_owned(),
            base_branch: Some("main".to_owned()),
            subdirectory: "".into(),
        };
        let landing = landing.map(|(since, waits)| LandingPlace {
            since: time(since),
            behind: waits.then(|| "b.md".to_owned()),
        });
        ClaimMarker {
            stamp: Stamp::new("here", time(at)),
            owner: Uuid::nil(),
            session: "k-0".to_owned(),
            run: Uuid::from_u128(run),
            phase,
            attempt: 1,
            started_at: time(0),
            agent: StartedAgent {
                name: None,
                kind: AgentKind::Command,
                claude_dir: None,
                model: None,
                session: None,
                transcript_from: 0,
            },
            work: Work {
                checkout: Some(ClaimedCheckout::Own { worktree, fresh: false }),
                landing,
                ..Work::default()
            },
        }
    }

    #[test]
    fn the_one_that_has_the_turn_goes_first_then_who_came_first() {
        use Phase::{Checking, Landing, Working};
        const NOW: i64 = 100_000;
        const TURN: Option<(i64, bool)> = Some((NOW - 50, false));
        const WAITS: Option<(i64, bool)> = Some((NOW - 50, true));
        let now = Timestamp::from_second(NOW).unwrap();
        // The other one, when it was written to last, our own place, and whether that has to wait.
        for (what, phase, other, at, own, waits) in [
            ("nobody lands", Working, None, NOW, None, false),
            ("it is checked before it lands", Checking, None, NOW, None, false),
            ("it has the turn", Checking, TURN, NOW, None, true),
            ("its check is green", Landing, TURN, NOW, WAITS, true),
            ("it was given back", Working, TURN, NOW, None, false),
            ("its check runs", Checking, TURN, NOW - 1199, None, true),
            ("its check is over, and nobody looks", Checking, TURN, NOW - 1200, None, false),
            ("it has the turn, and ours has lapsed", Checking, TURN, NOW, TURN, true),
            ("it came before", Landing, WAITS, NOW, None, true),
            ("it came before, too", Landing, WAITS, NOW, Some((NOW - 49, true)), true),
            ("it came later", Landing, WAITS, NOW, Some((NOW - 51, true)), false),
            ("at the same time", Landing, WAITS, NOW, Some((NOW - 50, true)), true),
            ("it waits, and it is our turn", Landing, WAITS, NOW, TURN, false),
            ("it is checked again", Checking, WAITS, NOW, None, false),
            ("nobody looks at it", Landing, WAITS, NOW - 300, None, false),
            ("by a clock that was wrong", Landing, WAITS, NOW + 300, None, false),
        ] {
            let (other, own) = (claim(1, phase, other, at), claim(2, Landing, own, NOW));
            assert_eq!(is_ahead(&other, &own, now), waits, "{what}");
            assert!(!is_ahead(&own, &own, now), "{what}");
            let mut elsewhere = other.clone();
            if let Some(ClaimedCheckout::Own { worktree, .. }) = &mut elsewhere.work.checkout {
                worktree.base_branch = Some("release".to_owned());
            }
            assert!(!is_ahead(&elsewhere, &own, now), "{what}, in another base");
            let mut over = other;
            over.work.git = Some(crate::task::GitEnding::Checkout(crate::task::CheckoutEnding {
                head_before: None,
                head_after: None,
                dirty: [0, 0],
            }));
            assert!(!is_ahead(&over, &own, now), "{what}, and it is over");
        }
    }
}
