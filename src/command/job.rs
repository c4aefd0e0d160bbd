//! `ccl job`: secutools' job API by hand.

use anyhow::{Result, bail};

use super::{Context, Outcome};

/// To come with delegation.
pub(super) fn run(_context: Context<'_>) -> Result<Outcome> {
    bail!("not built yet")
}
