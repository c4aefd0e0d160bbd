//! Amounts of money as decimals, never as floats. Pure.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An amount has fewer than 29 digits, trailing zeros aside. rust_decimal holds all of those, and
/// would round some longer ones.
const LIMIT: i128 = 10_i128.pow(28);

/// What something cost: `{"amount":"0.0123","currency":"USD"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// A decimal number as text: no exponent, no needless zeros.
    pub amount: String,
    /// ISO 4217 code; null where it is not known.
    pub currency: Option<String>,
}

impl Cost {
    /// Reads a cost as the contract has it: an object with an amount (a string or a number) and a
    /// currency, a number, or a string, which may name the currency after the amount.
    ///
    /// Anything else, a negative amount, or one of more than 28 digits is `None`: the cost is then
    /// unknown, which is not zero.
    pub fn from_json(raw: &RawValue) -> Option<Cost> {
        let text = raw.get();
        if text.starts_with('{') {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let currency = fields.get("currency").and_then(|raw| string(raw));
            return Some(Cost {
                amount: canonical(&scalar(fields.get("amount")?)?)?,
                currency: currency.and_then(|word| currency_code(&word)),
            });
        }
        let text = scalar(raw)?;
        let (amount, currency) = match text.trim().split_once(' ') {
            Some((amount, currency)) => (amount, Some(currency_code(currency)?)),
            None => (text.trim(), None),
        };
        Some(Cost { amount: canonical(amount)?, currency })
    }

    /// Reads an amount as a configuration has it, `10 USD`.
    pub(crate) fn parse(text: &str) -> Option<Cost> {
        let (amount, currency) = text.trim().split_once(' ')?;
        Some(Cost { amount: canonical(amount)?, currency: Some(currency_code(currency)?) })
    }

    /// By how much it exceeds `before`, an earlier count of the same costs; zero where it is less, all of it where
    /// `before` has another currency.
    pub(crate) fn beyond(&self, before: Option<&Cost>) -> Cost {
        let before = before.filter(|before| before.currency == self.currency);
        let difference = before.and_then(|before| {
            let more = amount(&self.amount)?.checked_sub(amount(&before.amount)?)?;
            Some(more.max(Decimal::ZERO).normalize().to_string())
        });
        Cost { amount: difference.unwrap_or_else(|| self.amount.clone()), ..self.clone() }
    }

    /// A cost whose currency is known beforehand; `amount` is a decimal number.
    pub(crate) fn of(amount: &str, currency: &str) -> Option<Cost> {
        Some(Cost { amount: canonical(amount)?, currency: Some(currency.to_owned()) })
    }
}

/// The text of a JSON number, so that it never becomes a float, or the contents of a JSON string.
fn scalar(raw: &RawValue) -> Option<String> {
    if raw.get().starts_with('"') { string(raw) } else { Some(raw.get().to_owned()) }
}

fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The amount in the one form in which it is written.
fn canonical(text: &str) -> Option<String> {
    amount(text).map(|amount| amount.to_string())
}

/// Reads `12`, `12.50`, `.5` or `1.25e-3` without rounding. `None`: it is less than zero, has too
/// many digits, or is no number.
fn amount(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    // rust_decimal would take a plus and underscores, too.
    if !mantissa.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte)) {
        return None;
    }
    let mut amount = Decimal::from_str_exact(mantissa).ok()?.normalize();
    if amount.is_zero() {
        return Some(amount);
    }
    let scale = i64::from(amount.scale()) - i64::from(exponent);
    amount.set_scale(u32::try_from(scale.max(0)).ok()?).ok()?;
    // Any amount but zero overflows after some 28 rounds, however large the exponent.
    for _ in scale..0 {
        amount = amount.checked_mul(Decimal::TEN)?;
    }
    let amount = amount.normalize();
    (0..LIMIT).contains(&amount.mantissa()).then_some(amount)
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
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// `None`: the sum has too many digits, so it is unknown.
    sums: BTreeMap<Option<String>, Option<Decimal>>,
}

impl Totals {
    /// Adds one cost. An amount that is no decimal number (in a line that a person edited) is
    /// unknown, and adds nothing.
    pub fn add(&mut self, cost: &Cost) {
        if let Some(amount) = amount(&cost.amount) {
            let sum = self.sums.entry(cost.currency.clone()).or_insert(Some(Decimal::ZERO));
            *sum = sum.and_then(|sum| exact_sum(sum, amount));
        }
    }

    /// Whether the sum in the limit's currency has reached the limit, or is too high to be held.
    pub(crate) fn reaches(&self, limit: &Cost) -> bool {
        let sum = self.sums.get(&limit.currency);
        sum.is_some_and(|sum| {
            sum.zip(amount(&limit.amount)).is_none_or(|(sum, limit)| sum >= limit)
        })
    }

    /// The sums, by currency; empty when no cost was known.
    pub fn costs(&self) -> Vec<Cost> {
        let cost = |(currency, sum): (&Option<String>, &Option<Decimal>)| {
            Some(Cost { amount: (*sum)?.to_string(), currency: currency.clone() })
        };
        let mut costs: Vec<Cost> = self.sums.iter().filter_map(cost).collect();
        costs.sort_by_key(|cost| cost.currency.is_none());
        costs
    }
}

/// The sum; `None` where it could only be held rounded.
fn exact_sum(one: Decimal, other: Decimal) -> Option<Decimal> {
    let sum = one.checked_add(other)?;
    let is_exact = sum.scale() == one.scale().max(other.scale()) && sum.mantissa() < LIMIT;
    is_exact.then(|| sum.normalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            (r#"{"amount":"0.5","currency":null}"#, "0.5 (currency unknown)"),
            (r#"{"amount":"0.5","currency":"$"}"#, "0.5 (currency unknown)"),
            ("0.0123", "0.0123 (currency unknown)"),
            ("0.30000000000000004", "0.30000000000000004 (currency unknown)"),
            ("123456789012345678901.5", "123456789012345678901.5 (currency unknown)"),
            ("1e-3", "0.001 (currency unknown)"),
            (r#""1.50""#, "1.5 (currency unknown)"),
            (r#"" 1.50  gbp ""#, "1.5 GBP"),
            (r#""0.0123 USD""#, "0.0123 USD"),
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
            r#"{"amount":"0.5 USD"}"#,
            "1e400",
            "1e28",
            "12345678901234567890123456789",
            "0.12345678901234567890123456789",
            "0.00000000000000000000000000001",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    fn sums(totals: &Totals) -> String {
        totals.costs().iter().map(Cost::to_string).collect::<Vec<_>>().join(" + ")
    }

    #[test]
    fn sums_are_exact_and_currencies_stay_apart() {
        let mut totals = Totals::default();
        assert_eq!(totals.costs(), []);
        for _ in 0..10 {
            for json in ["\"0.1 USD\"", "0.7", "\"0.000000000000000000001 EUR\""] {
                let raw: &RawValue = serde_json::from_str(json).unwrap();
                totals.add(&Cost::from_json(raw).unwrap());
            }
        }
        totals.add(&Cost { amount: "much".into(), currency: None });
        assert_eq!(sums(&totals), "0.00000000000000000001 EUR + 1 USD + 7 (currency unknown)");
    }

    #[test]
    fn a_sum_that_would_be_rounded_is_unknown() {
        let mut totals = Totals::default();
        let large = "1234567890123456789012345678";
        for (amount, currency) in [(large, "USD"), ("0.1", "USD"), ("1", "USD"), ("1", "EUR")] {
            totals.add(&Cost::of(amount, currency).unwrap());
        }
        assert_eq!(sums(&totals), "1 EUR");
        totals.add(&Cost::of("9999999999999999999999999999", "EUR").unwrap());
        assert_eq!(totals.costs(), []);
    }

    #[test]
    fn a_known_zero_is_printed_as_zero() {
        let mut totals = Totals::default();
        totals.add(&Cost { amount: "0.00".into(), currency: Some("USD".into()) });
        assert_eq!(sums(&totals), "0 USD");
    }

    #[test]
    fn equal_amounts_have_one_form() {
        for (text, want) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("00012.500", "12.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e-3", "0.001"),
            ("1.25E+2", "125"),
            ("120e-1", "12"),
            ("0e9999", "0"),
            ("100", "100"),
            ("1.0000000000000000000000000000", "1"),
            ("9999999999999999999999999999", "9999999999999999999999999999"),
            ("1e27", "1000000000000000000000000000"),
            ("1e-28", "0.0000000000000000000000000001"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_or_too_long_is_refused() {
        for text in [
            "",
            ".",
            "-",
            "-1",
            "-1e-3",
            "+1",
            "1.2.3",
            "0x1",
            "1e",
            "1e99999",
            "1e-99999",
            "1e28",
            "1e-29",
            "NaN",
            "inf",
            "1_000",
            "١",
            "1-",
            "1e2147483648",
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn sums_agree_with_integers(
            a in 0..u64::MAX, b in 0..u64::MAX, scale_a in 0_u32..8, scale_b in 0_u32..8,
        ) {
            let mut totals = Totals::default();
            totals.add(&Cost::of(&format!("{a}e-{scale_a}"), "USD").unwrap());
            totals.add(&Cost::of(&format!("{b}e-{scale_b}"), "USD").unwrap());
            let total = u128::from(a) * 10_u128.pow(8 - scale_a) + u128::from(b) * 10_u128.pow(8 - scale_b);
            prop_assert_eq!(totals.costs(), vec![Cost::of(&format!("{total}e-8"), "USD").unwrap()]);
        }

        #[test]
        fn the_printed_form_reads_back(text in "[0-9]{0,20}(\\.[0-9]{0,20})?(e-?[0-9]{1,2})?") {
            if let Some(printed) = canonical(&text) {
                prop_assert_eq!(canonical(&printed), Some(printed));
            }
        }
    }
}
