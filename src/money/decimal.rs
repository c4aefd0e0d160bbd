//! A decimal number of any length that is not negative.

use std::fmt;

/// No amount of money has more digits than this on either side of its point; a number that claims
/// to is refused, so that `1e999999999` cannot fill the memory.
const MOST_DIGITS: usize = 60;

/// `digits` x 10^-`scale`. Canonical: no leading zeros, and no trailing ones behind the point, so
/// that equal numbers are equal values. Zero has no digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decimal {
    /// 0 to 9 each, the most significant first.
    digits: Vec<u8>,
    scale: usize,
}

impl Decimal {
    /// Reads `12`, `12.50`, `.5`, `1.25e-3`. `None`: less than zero, no digits, anything that is
    /// not a number, or more than 60 digits on one side of the point.
    pub(super) fn parse(text: &str) -> Option<Decimal> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Option<Vec<u8>> = whole
            .bytes()
            .chain(fraction.bytes())
            .map(|byte| byte.is_ascii_digit().then(|| byte - b'0'))
            .collect();
        let digits = digits.filter(|digits| (1..=2 * MOST_DIGITS).contains(&digits.len()))?;
        let number = Decimal::canonical(digits, fraction.len() as i64 - i64::from(exponent));
        let short = number.scale <= MOST_DIGITS
            && number.digits.len().saturating_sub(number.scale) <= MOST_DIGITS;
        let sound = short && (!negative || number.digits.is_empty());
        sound.then_some(number)
    }

    /// The canonical form of `digits` x 10^-`scale`.
    fn canonical(mut digits: Vec<u8>, mut scale: i64) -> Decimal {
        let leading = digits.iter().take_while(|&&digit| digit == 0).count();
        digits.drain(..leading);
        if digits.is_empty() {
            return Decimal::default();
        }
        while scale > 0 && digits.last() == Some(&0) {
            digits.pop();
            scale -= 1;
        }
        while scale < 0 {
            digits.push(0);
            scale += 1;
        }
        let scale = scale as usize;
        Decimal { digits, scale }
    }

    /// The exact sum.
    pub(super) fn plus(&self, other: &Decimal) -> Decimal {
        let scale = self.scale.max(other.scale);
        let (left, right) = (self.reversed(scale), other.reversed(scale));
        let places = left.len().max(right.len());
        let mut digits = Vec::with_capacity(places + 1);
        let mut carry = 0;
        for place in 0..places {
            let sum = left.get(place).unwrap_or(&0) + right.get(place).unwrap_or(&0) + carry;
            digits.push(sum % 10);
            carry = sum / 10;
        }
        digits.push(carry);
        digits.reverse();
        Decimal::canonical(digits, scale as i64)
    }

    /// The digits with `scale` places behind the point, the least significant first.
    fn reversed(&self, scale: usize) -> Vec<u8> {
        let mut digits = vec![0; scale - self.scale];
        digits.extend(self.digits.iter().rev());
        digits
    }
}

/// `12.5`, `0.001`, `0`: without an exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.digits.len().max(self.scale + 1);
        let mut text: String = "0".repeat(width - self.digits.len());
        text.extend(self.digits.iter().map(|digit| char::from(b'0' + digit)));
        if self.scale > 0 {
            text.insert(width - self.scale, '.');
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> Option<String> {
        Decimal::parse(text).map(|number| number.to_string())
    }

    #[test]
    fn equal_numbers_have_one_form() {
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
        ] {
            assert_eq!(canonical(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_or_too_long_is_refused() {
        let long = "1".repeat(61);
        let small = format!("0.{}1", "0".repeat(60));
        for text in [
            "", ".", "-", "-1", "+1", "1.2.3", "0x1", "1e", "1e99999", "1e60", "1e-61", "NaN",
            "inf", "1_000", "١", &long, &small,
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
        assert!(canonical(&long[1..]).is_some());
    }

    proptest! {
        #[test]
        fn sums_agree_with_integers(
            a in 0..u64::MAX, b in 0..u64::MAX, scale_a in 0_u32..9, scale_b in 0_u32..9,
        ) {
            let left = Decimal::parse(&format!("{a}e-{scale_a}")).unwrap();
            let right = Decimal::parse(&format!("{b}e-{scale_b}")).unwrap();
            let total = u128::from(a) * 10_u128.pow(9 - scale_a) + u128::from(b) * 10_u128.pow(9 - scale_b);
            prop_assert_eq!(left.plus(&right), Decimal::parse(&format!("{total}e-9")).unwrap());
        }

        #[test]
        fn the_printed_form_reads_back(text in "[0-9]{0,20}(\\.[0-9]{0,20})?(e-?[0-9]{1,2})?") {
            if let Some(number) = Decimal::parse(&text) {
                prop_assert_eq!(Decimal::parse(&number.to_string()), Some(number));
            }
        }
    }
}
