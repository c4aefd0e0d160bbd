//! What settling a session would bring about. Changes nothing.

use anyhow::Result;

use super::told::{event_of, released, rests};
use super::{Pool, Session, Word};
use crate::agent::{Doing, Failure};
use crate::event::Event;
use crate::marker::Phase;
use crate::queue::{Claim, Found};
use crate::task::Outcome;

impl Pool<'_> {
    /// What [`Pool::settle`] would file; changes nothing.
    pub fn would_settle(&self, session: &Session) -> Result<Vec<Event>> {
        let Some(marker) = session.dispatched()? else {
            return Ok(Vec::new());
        };
        self.check_server_of(&marker)?;
        if session.is_locked()? || self.is_watched(session, marker.run)? {
            return Ok(Vec::new());
        }
        Ok(match self.find(&marker)? {
            Found::Nothing | Found::TaskGone(_) => Vec::new(),
            Found::AtWork(claim, Some(outcome)) => vec![event_of(&claim, outcome, None)],
            Found::AtWork(claim, None) => match claim.marker().phase {
                Phase::Claimed => vec![released(&claim)],
                Phase::Launching if session.files().ticket.exists() => vec![released(&claim)],
                Phase::Launching | Phase::Working => self.would_finish(session, &claim)?,
            },
        })
    }

    fn would_finish(&self, session: &Session, claim: &Claim) -> Result<Vec<Event>> {
        let ends = |failure: &Failure| {
            let outcome = self.outcome(claim, failure);
            event_of(claim, outcome, Some(failure.reason.clone()))
        };
        Ok(match self.doing(session, claim, Word::Pass)? {
            Doing::Finished(_) => vec![event_of(claim, Outcome::Done, None)],
            Doing::Failed(failure) => vec![ends(&failure), rests(session, &failure)],
            Doing::Interrupted(reason) => vec![ends(&Failure::of_task(reason))],
            Doing::Working | Doing::NeedsPerson(_) => Vec::new(),
        })
    }
}
