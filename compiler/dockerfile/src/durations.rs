//! Times as Go writes them: `1h30m`, `1.5s`, `-20ms`.
//!
//! Source: Go's time.ParseDuration.

/// Returns the nanoseconds that a text stands for, or `None` if it is no time or a longer one than 64 bits hold.
pub(crate) fn parse_duration(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    if unsigned == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    let mut rest = unsigned;
    loop {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|character: char| character.is_ascii_digit() || character == '.');
        let (unit, next) = behind.split_at(end.unwrap_or(behind.len()));
        total = total.checked_add(scaled(number, nanoseconds(unit)?)?)?;
        if next.is_empty() {
            return i64::try_from(total * sign).ok().map(i128::from);
        }
        rest = next;
    }
}

fn nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

/// Returns a decimal number times a unit, without what is smaller than a nanosecond.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i64>().ok() };
    // More digits than these are less than a nanosecond of an hour.
    let fraction = fraction.get(..fraction.len().min(15))?;
    let part = i128::from(parse(fraction)?) * unit / 10_i128.pow(fraction.len() as u32);
    Some(i128::from(parse(whole)?) * unit + part)
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn times_are_those_of_go() {
        for (text, nanoseconds) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5ms", Some(500_000)),
            ("-20ms", Some(-20_000_000)),
            ("1µs", Some(1_000)),
            ("3000000h", None),
            ("5", None),
            ("", None),
            ("s", None),
            ("1.2.3s", None),
            ("1d", None),
        ] {
            assert_eq!(parse_duration(text), nanoseconds, "{text}");
        }
    }
}
