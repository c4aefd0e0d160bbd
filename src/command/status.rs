//! `ccl status`: sessions, queues, jobs. Changes nothing.

use anyhow::Result;

use super::{Context, Outcome};
use crate::report::{Report, Status};

/// The whole picture.
pub(super) fn run(_context: Context<'_>) -> Result<Outcome> {
    Ok(Report::Status(Status::default()).into())
}
