//! Numbers: decimal, of any size, so that what is written is what is meant.

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive};

/// A number.
pub(crate) type Number = BigDecimal;

/// No number has more digits than this before or after its point; a power could make more than memory holds.
const DIGITS: i64 = 10_000;

/// Reads a number as a text holds it: digits, a point, an exponent.
pub(crate) fn parse_number(text: &str) -> Option<Number> {
    let plain = !text.is_empty()
        && !text.starts_with('+')
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let number: Number = plain.then(|| text.parse().ok()).flatten()?;
    bounded(number)
}

/// Returns the number unless it is far too long.
pub(crate) fn bounded(number: Number) -> Option<Number> {
    let digits = i64::try_from(number.digits()).unwrap_or(i64::MAX);
    let scale = number.fractional_digit_count();
    (scale.abs() <= DIGITS && digits <= DIGITS).then_some(number)
}

/// Returns how a number is written: no exponent, no zeros at the end of a fraction.
pub(crate) fn written(number: &Number) -> String {
    let number = number.normalized();
    if number.is_integer() {
        number.with_scale_round(0, RoundingMode::Down).as_bigint_and_exponent().0.to_string()
    } else {
        number.to_plain_string()
    }
}

/// Returns a number as a whole one, if it is one.
pub(crate) fn whole(number: &Number) -> Option<BigInt> {
    number.is_integer().then(|| number.with_scale_round(0, RoundingMode::Down).into_bigint_and_exponent().0)
}

/// Returns a number as an index or an amount, if it is whole and fits.
pub(crate) fn to_i64(number: &Number) -> Option<i64> {
    whole(number)?.to_i64()
}
