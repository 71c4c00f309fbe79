//! Numbers and truth.

use std::num::NonZeroU64;

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive, Zero};

use super::{Call, Function, MANY, function, not};
use crate::value::{Kind, Number, Value, bounded, convert};

pub(super) const FUNCTIONS: &[Function] = &[
    function("absolute", 1, 1, |call| Ok(Value::Number(call.number(0)?.abs()))),
    function("add", 2, 2, |call| sized(call.number(0)? + call.number(1)?)),
    function("and", 2, 2, |call| Ok(Value::Bool(call.truth(0)? & call.truth(1)?))),
    function("ceil", 1, 1, |call| Ok(rounded(&call.number(0)?, RoundingMode::Ceiling))),
    function("divide", 2, 2, |call| divide(&call.number(0)?, &call.number(1)?).map(Value::Number)),
    function("equal", 2, 2, |call| Ok(Value::Bool(call.values[0].equals(&call.values[1])))),
    function("floor", 1, 1, |call| Ok(rounded(&call.number(0)?, RoundingMode::Floor))),
    function("greaterthan", 2, 2, |call| Ok(Value::Bool(call.number(0)? > call.number(1)?))),
    function("greaterthanorequalto", 2, 2, |call| Ok(Value::Bool(call.number(0)? >= call.number(1)?))),
    function("int", 1, 1, |call| Ok(rounded(&call.number(0)?, RoundingMode::Down))),
    function("lessthan", 2, 2, |call| Ok(Value::Bool(call.number(0)? < call.number(1)?))),
    function("lessthanorequalto", 2, 2, |call| Ok(Value::Bool(call.number(0)? <= call.number(1)?))),
    function("log", 2, 2, |call| float(float_of(call, 0)?.ln() / float_of(call, 1)?.ln())),
    function("max", 1, MANY, |call| extreme(call, |new, best| new > best)),
    function("min", 1, MANY, |call| extreme(call, |new, best| new < best)),
    function("modulo", 2, 2, |call| {
        let (left, right) = (call.number(0)?, call.number(1)?);
        if right.is_zero() { Err(BY_ZERO.to_owned()) } else { Ok(Value::Number(left % right)) }
    }),
    function("multiply", 2, 2, |call| sized(call.number(0)? * call.number(1)?)),
    function("negate", 1, 1, |call| Ok(Value::Number(-call.number(0)?))),
    function("not", 1, 1, |call| Ok(Value::Bool(!call.truth(0)?))),
    function("notequal", 2, 2, |call| Ok(Value::Bool(!call.values[0].equals(&call.values[1])))),
    function("or", 2, 2, |call| Ok(Value::Bool(call.truth(0)? | call.truth(1)?))),
    function("parseint", 2, 2, parseint),
    function("pow", 2, 2, |call| float(float_of(call, 0)?.powf(float_of(call, 1)?))),
    function("signum", 1, 1, |call| Ok(Value::number(call.whole(0)?.signum()))),
    function("subtract", 2, 2, |call| sized(call.number(0)? - call.number(1)?)),
];

const BY_ZERO: &str = "nothing can be divided by zero";

/// How many digits a quotient has at most: as many as 512 bits have.
const DIGITS: NonZeroU64 = NonZeroU64::new(155).expect("this is not zero");

/// Divides one number by another.
pub(crate) fn divide(left: &Number, right: &Number) -> Result<Number, String> {
    if right.is_zero() {
        return Err(BY_ZERO.to_owned());
    }
    // Of whole numbers, as decimal division of the library ends after a hundred digits.
    let (left, left_scale) = left.as_bigint_and_exponent();
    let (right, right_scale) = right.as_bigint_and_exponent();
    let shift = DIGITS.get() + right.magnitude().to_string().len() as u64;
    let quotient = left * BigInt::from(10).pow(shift as u32) / right;
    let quotient = BigDecimal::new(quotient, left_scale - right_scale + shift as i64);
    Ok(quotient.with_precision_round(DIGITS, RoundingMode::HalfEven).normalized())
}

fn sized(number: Number) -> Result<Value, String> {
    bounded(number).map(Value::Number).ok_or_else(|| "the result has too many digits".to_owned())
}

fn rounded(number: &Number, mode: RoundingMode) -> Value {
    Value::Number(number.with_scale_round(0, mode))
}

fn float_of(call: &Call<'_>, at: usize) -> Result<f64, String> {
    call.number(at)?.to_f64().ok_or_else(|| not(at, "a number of a usual size"))
}

fn float(value: f64) -> Result<Value, String> {
    // By its shortest text, as a number that was written.
    let number = if value.is_finite() { value.to_string().parse().ok() } else { None };
    number.map(Value::Number).ok_or_else(|| "the result is no finite number".to_owned())
}

fn extreme(call: &Call<'_>, better: fn(&Number, &Number) -> bool) -> Result<Value, String> {
    let mut best = call.number(0)?;
    for at in 1..call.values.len() {
        let new = call.number(at)?;
        if better(&new, &best) {
            best = new;
        }
    }
    Ok(Value::Number(best))
}

fn parseint(call: &Call<'_>) -> Result<Value, String> {
    let Value::Text(text) = call.get(0)? else { return Err(not(0, "a text")) };
    let base = call.whole(1)?;
    let base = u32::try_from(base).ok().filter(|base| (2..=62).contains(base));
    let base = base.ok_or_else(|| not(1, "a base between 2 and 62"))?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let wrong = || format!("`{text}` is no whole number of base {base}");
    if digits.is_empty() || digits.len() > 4096 {
        return Err(wrong());
    }
    let mut number = BigInt::zero();
    for digit in digits.chars() {
        let digit = digit_of(digit, base).ok_or_else(wrong)?;
        number = number * base + digit;
    }
    Ok(Value::Number(BigDecimal::from(if negative { -number } else { number })))
}

/// Returns the value of a digit: 0 to 9, a to z, and above base 36 A to Z after them.
fn digit_of(digit: char, base: u32) -> Option<u32> {
    let value = match digit {
        '0'..='9' => u32::from(digit) - u32::from('0'),
        'a'..='z' => u32::from(digit) - u32::from('a') + 10,
        'A'..='Z' if base <= 36 => u32::from(digit) - u32::from('A') + 10,
        'A'..='Z' => u32::from(digit) - u32::from('A') + 36,
        _ => return None,
    };
    (value < base).then_some(value)
}

/// Reads a seconds argument of times: a whole number, also from a text of one.
pub(super) fn seconds(value: &Value) -> Option<i64> {
    let Ok(Value::Number(number)) = convert(value.clone(), &Kind::Number) else { return None };
    crate::value::to_i64(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_have_as_many_digits_as_are_needed_and_no_more_than_fit() {
        let number = BigDecimal::from;
        let told = |left: i64, right: i64| {
            crate::value::written(&divide(&number(left), &number(right)).expect("no zero"))
        };
        assert_eq!(told(10, 4), "2.5");
        assert_eq!(told(1, 3).len(), "0.".len() + 155);
        assert_eq!(divide(&number(1), &number(0)), Err(BY_ZERO.to_owned()));
    }

    #[test]
    fn digits_go_to_sixty_two() {
        assert_eq!(digit_of('Z', 62), Some(61));
        assert_eq!(digit_of('Z', 36), Some(35));
        assert_eq!(digit_of('8', 8), None);
    }
}
