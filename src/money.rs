//! Amounts of money as decimals, never as floats. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

mod decimal;

use decimal::Decimal;

/// What something cost: `{"amount":"0.0123","currency":"USD"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// A decimal number as text.
    pub amount: String,
    /// ISO 4217 code; null where it is not known.
    pub currency: Option<String>,
}

impl Cost {
    /// Reads a cost as secutools may write it: `{"amount": "0.0123", "currency": "USD"}` (the
    /// amount as text or number), `0.0123`, `"0.0123"` or `"0.0123 USD"`. The result's amount is
    /// in canonical form (no exponent, no needless zeros).
    ///
    /// Anything else, a negative amount, two different currencies or an absurd number of digits is
    /// `None`: the cost is then unknown, which is not zero.
    pub fn from_json(raw: &RawValue) -> Option<Cost> {
        let text = raw.get();
        if !text.starts_with('{') {
            return Cost::from_scalar(text);
        }
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
        let mut cost = Cost::from_scalar(fields.get("amount")?.get())?;
        let named = fields
            .get("currency")
            .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
            .and_then(|word| currency_code(&word));
        if cost.currency.is_some() && named.is_some() && cost.currency != named {
            return None;
        }
        cost.currency = cost.currency.or(named);
        Some(cost)
    }

    /// A cost whose currency is known beforehand; `amount` is a decimal number.
    pub fn of(amount: &str, currency: &str) -> Option<Cost> {
        Some(Cost {
            amount: Decimal::parse(amount)?.to_string(),
            currency: Some(currency.to_owned()),
        })
    }

    /// Reads a JSON number or string. The number's own text is taken: it never becomes a float.
    fn from_scalar(json: &str) -> Option<Cost> {
        if json.starts_with('"') {
            Cost::from_text(&serde_json::from_str::<String>(json).ok()?)
        } else {
            Cost::from_text(json)
        }
    }

    /// Reads `0.0123` or `0.0123 USD`.
    fn from_text(text: &str) -> Option<Cost> {
        let mut words = text.split_whitespace();
        let amount = Decimal::parse(words.next()?)?.to_string();
        let currency = match words.next() {
            Some(word) => Some(currency_code(word)?),
            None => None,
        };
        match words.next() {
            Some(_) => None,
            None => Some(Cost { amount, currency }),
        }
    }
}

/// `0.0123 USD`; where the currency is not known, `0.0123 (currency unknown)`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.currency {
            Some(currency) => write!(f, "{} {currency}", self.amount),
            None => write!(f, "{} (currency unknown)", self.amount),
        }
    }
}

/// A currency's code in capitals, if `word` can be one.
fn currency_code(word: &str) -> Option<String> {
    let word = word.trim();
    let plausible = (1..=16).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphabetic());
    plausible.then(|| word.to_ascii_uppercase())
}

/// Exact sums, one for each currency; amounts whose currency is not known have a sum of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    sums: BTreeMap<Option<String>, Decimal>,
}

impl Totals {
    /// Adds one cost. `false`: its amount is not a decimal number (a marker edited by hand), and
    /// nothing was added.
    pub fn add(&mut self, cost: &Cost) -> bool {
        let Some(amount) = Decimal::parse(&cost.amount) else {
            return false;
        };
        let sum = self.sums.entry(cost.currency.clone()).or_default();
        *sum = sum.plus(&amount);
        true
    }

    /// The sums, by currency; empty when no cost was known.
    pub fn costs(&self) -> Vec<Cost> {
        let known = self.sums.iter().filter(|(currency, _)| currency.is_some());
        let unknown = self.sums.iter().filter(|(currency, _)| currency.is_none());
        known
            .chain(unknown)
            .map(|(currency, sum)| Cost { amount: sum.to_string(), currency: currency.clone() })
            .collect()
    }
}

/// `1.5 EUR + 0.0123 USD`, or `unknown` when no cost was known.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sums.is_empty() {
            return f.write_str("unknown");
        }
        let sums: Vec<String> = self.costs().iter().map(Cost::to_string).collect();
        f.write_str(&sums.join(" + "))
    }
}

/// A list of costs, as in [`Totals::costs`].
impl Serialize for Totals {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.costs().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<String> {
        let raw: &RawValue = serde_json::from_str(json).expect("the test's JSON is valid");
        Cost::from_json(raw).map(|cost| cost.to_string())
    }

    #[test]
    fn every_form_the_server_may_use_is_read_without_rounding() {
        for (json, want) in [
            (r#"{"amount":"0.0123","currency":"USD"}"#, "0.0123 USD"),
            (r#"{"amount":0.0123,"currency":"usd"}"#, "0.0123 USD"),
            (r#"{ "currency":" eur ", "amount": 12 , "x":[1]}"#, "12 EUR"),
            (r#"{"amount":"0.5 USD"}"#, "0.5 USD"),
            (r#"{"amount":"0.5 USD","currency":"usd"}"#, "0.5 USD"),
            (r#"{"amount":"0.5","currency":null}"#, "0.5 (currency unknown)"),
            (r#"{"amount":"0.5","currency":"$"}"#, "0.5 (currency unknown)"),
            ("0.0123", "0.0123 (currency unknown)"),
            ("0.30000000000000004", "0.30000000000000004 (currency unknown)"),
            ("123456789012345678901.5", "123456789012345678901.5 (currency unknown)"),
            ("1e-3", "0.001 (currency unknown)"),
            (r#""1.50""#, "1.5 (currency unknown)"),
            (r#"" 1.50  gbp ""#, "1.5 GBP"),
            ("0", "0 (currency unknown)"),
        ] {
            assert_eq!(read(json).as_deref(), Some(want), "{json}");
        }
    }

    #[test]
    fn what_is_not_an_amount_is_unknown_and_not_zero() {
        for json in [
            "null",
            "true",
            "[]",
            "[1]",
            "{}",
            r#""""#,
            r#""free""#,
            r#""USD""#,
            r#""$1""#,
            "-1",
            r#""1,5""#,
            r#""1 2""#,
            r#""1 USD EUR""#,
            r#"{"amount":null,"currency":"USD"}"#,
            r#"{"amount":{"amount":1}}"#,
            r#"{"amount":"1 USD","currency":"EUR"}"#,
            "1e400",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn sums_are_exact_and_currencies_stay_apart() {
        let mut totals = Totals::default();
        assert_eq!(totals.to_string(), "unknown");
        for _ in 0..10 {
            for json in ["\"0.1 USD\"", "0.7", "\"0.000000000000000000001 EUR\""] {
                let raw: &RawValue = serde_json::from_str(json).unwrap();
                assert!(totals.add(&Cost::from_json(raw).unwrap()));
            }
        }
        let bad = Cost { amount: "much".into(), currency: None };
        assert!(!totals.add(&bad));
        assert_eq!(totals.to_string(), "0.00000000000000000001 EUR + 1 USD + 7 (currency unknown)");
        assert_eq!(
            serde_json::to_string(&totals).unwrap(),
            r#"[{"amount":"0.00000000000000000001","currency":"EUR"},{"amount":"1","currency":"USD"},{"amount":"7","currency":null}]"#
        );
    }

    #[test]
    fn a_known_zero_is_printed_as_zero() {
        let mut totals = Totals::default();
        totals.add(&Cost { amount: "0.00".into(), currency: Some("USD".into()) });
        assert_eq!(totals.to_string(), "0 USD");
    }
}
