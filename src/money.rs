//! Amounts of money as decimals, never as floats. Pure.

use serde::{Deserialize, Serialize};

/// What something cost: `{"amount":"0.0123","currency":"USD"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// A decimal number as text.
    pub amount: String,
    /// ISO 4217 code; null where it is not known.
    pub currency: Option<String>,
}
